"""One door: the same odd entry is refused whichever way it comes, and a good one is taken."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_helpers import clip_sample, completion_sample

from backflip.errors import WorkspaceError
from backflip.formats import Labelled, Rejected, import_file, read, write
from backflip.records import Completion, Prompt, Sample, Situation
from backflip.records.feedback import KINDS, Comparison, FeedbackBase, Ranking, Span
from backflip.workspace import MAIN, ModelRecord, Task, VolunteeredIn, Workspace
from backflip.workspace.database import columns, schema

SAMPLES = [completion_sample(n, prompt=n // 4) for n in range(8)]
A, B, OTHER = SAMPLES[0].id, SAMPLES[1].id, SAMPLES[4].id
GOOD: dict[str, Any] = {
    "plain": {},
    "marked": {"spans": (Span(sample=A, start=0, end=7),), "reason": "bell \x07 turns \u202e"},
    "timed": {"seconds": 1e308, "tags": ("clear",)},
}
ODD: dict[str, Any] = {
    "a NUL": {"reason": "nul \0"},
    "half a character": {"reason": "half \ud800"},
    "half a character in a tag": {"tags": ("half \ud800",)},
    "a text without end": {"reason": "x" * 1_000_001},
    "a time without end": {"seconds": math.inf},
    "no time": {"seconds": math.nan},
    "a strength past 64 bits": {"strength": 10**30},
    "a tie that is much better": {"choice": "tie"},
    "a mark beyond the text": {"spans": (Span(sample=A, start=0, end=8),)},
    "a mark past 64 bits": {"spans": (Span(sample=A, start=0, end=10**30),)},
    "a mark in another reply": {"spans": (Span(sample=OTHER, start=0, end=1),)},
}


@pytest.fixture(scope="module")
def workspace(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("door") / "workspace"
    shutil.copytree(sqlite_template, folder)
    with Workspace.open(folder) as made:
        made.samples.add([*SAMPLES, clip_sample(1), clip_sample(2)])
        made.models.register(ModelRecord(id="model-1", name="m", stage="sft", path="models/m"))
        made.people.add("boss", admin=True)
        made.queue.put("run-1", 0, [Task(kind="comparison", sample_ids=(A, B))], overlap=100)
        first = Comparison(annotator="first", samples=(A, B), choice="b")
        made.journal.add([first], run="run-1", round=0)
        yield made


def boss_of(workspace: Workspace) -> str:
    return workspace.people.all()[0].id


def by_journal(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    """Teachers and judges."""
    workspace.journal.add([entry], run="run-1", round=0)


def by_queue(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    """The labelling page and the terminal."""
    task = workspace.queue.next(entry.annotator)
    assert task is not None
    workspace.queue.answer(task.id, entry.annotator, entry)


def beside_an_answer(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    """What is said beside an answer on the page."""
    task = workspace.queue.next(entry.annotator)
    assert task is not None
    plain = Comparison(annotator=entry.annotator, samples=(A, B), choice="a")
    workspace.queue.answer(task.id, entry.annotator, plain, [entry])


def by_replacing(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    """A judge that reads a level."""
    old = Comparison(annotator=entry.annotator, samples=(A, B), choice="tie")
    workspace.journal.add([old])
    workspace.journal.replace(old.id, entry, "read", by="judge")


def by_playground(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    workspace.volunteered.put(
        VolunteeredIn(MAIN, "playground", "Playground"), entry, boss_of(workspace)
    )


def by_chat(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    chat = workspace.chats.start(MAIN, boss_of(workspace), "model-1")
    workspace.chats.note(chat, entry)


def by_ruling(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
    assert isinstance(entry, Comparison)
    workspace.adjudications.rule(MAIN, boss_of(workspace), entry, withdraw=False)


def by_file(ending: str) -> Callable[[Workspace, FeedbackBase, Path], None]:
    def imported(workspace: Workspace, entry: FeedbackBase, folder: Path) -> None:
        name = {".jsonl": "backflip-jsonl", ".parquet": "backflip-parquet"}[ending]
        plain = Comparison(annotator=entry.annotator, samples=(A, B), choice="a")
        path = folder / f"votes{ending}"
        write(path, name, [Labelled(tuple(SAMPLES[:2]), (plain,))])
        if ending == ".jsonl":
            row = json.loads(path.read_text())
            row["entry"] = entry.model_dump(mode="python")
            path.write_text(json.dumps(row))
        else:
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            body = json.dumps(entry.model_dump(mode="python"))
            entries = table.schema.get_field_index("entry")
            pq.write_table(table.set_column(entries, "entry", [[body]]), path)
        if import_file(workspace, path, name).num_rejected:
            (row,) = read(path, name)
            assert isinstance(row, Rejected)
            raise WorkspaceError(row.reason, where=row.place)

    return imported


DOORS: dict[str, Callable[[Workspace, FeedbackBase, Path], None]] = {
    "journal": by_journal,
    "queue": by_queue,
    "beside": beside_an_answer,
    "replace": by_replacing,
    "playground": by_playground,
    "chat": by_chat,
    "ruling": by_ruling,
    "jsonl": by_file(".jsonl"),
    "parquet": by_file(".parquet"),
}


@pytest.mark.parametrize("what", [*GOOD, *ODD])
def test_every_door_says_the_same(workspace: Workspace, tmp_path: Path, what: str) -> None:
    told = {}
    for number, (door, come) in enumerate(DOORS.items()):
        who = f"{door}-{[*GOOD, *ODD].index(what)}-{number}"
        plain = Comparison(annotator=who, samples=(A, B), choice="a", strength=2)
        # As a program may: no validator is asked.
        entry = plain.model_copy(update=(GOOD | ODD)[what])
        before = workspace.journal.count(annotator=who)
        try:
            come(workspace, entry, tmp_path)
        except WorkspaceError as error:
            told[door] = f"refused: {error.what}"
            assert workspace.journal.count(annotator=who) - before <= (door == "replace")
        else:
            told[door] = "kept"
            assert workspace.journal.count(annotator=who) > before
    refused = {door for door, verdict in told.items() if verdict != "kept"}
    assert refused == (set(DOORS) if what in ODD else set()), told


def _numbers(kind: type[FeedbackBase], number: int) -> Iterator[tuple[str, Any]]:
    """Fields of a kind that hold whole numbers, alone or in a row, with this one in them."""
    for name, field in kind.model_fields.items():
        told = str(field.annotation)
        if "int" in told:
            yield name, (1, number) if "tuple" in told else number


@pytest.mark.parametrize("kind", KINDS)
def test_no_number_of_any_kind_is_past_64_bits(workspace: Workspace, kind: str) -> None:
    """Of what is counted with, none is larger than a column or a tensor holds."""
    given: dict[str, dict[str, Any]] = {
        "comparison": {"samples": (A, B), "choice": "a"},
        "ranking": {"samples": (A, B), "ranks": (1, 2)},
        "rating": {"sample": A, "level": 3},
        "good_bad": {"sample": A, "good": True},
        "correction": {"sample": A, "corrected": B},
        "demonstration": {"sample": A},
        "critique": {"sample": A, "text": "Hm.", "level": 2},
        "safety_flag": {"sample": A, "safe": True},
        "implicit": {"sample": A, "signal": "kept"},
    }
    entry = KINDS[kind](annotator=f"counts-{kind}", **given[kind])
    workspace.journal.add([entry])
    for number in (2**63, 2**64 - 1, 10**30):
        for name, value in _numbers(KINDS[kind], number):
            odd = entry.model_copy(update={name: value, "key": f"{name} {number}"})
            with pytest.raises(WorkspaceError, match="cannot be kept"):
                workspace.journal.add([odd])


def test_a_ranking_may_have_gaps(workspace: Workspace) -> None:
    kept = Ranking(annotator="gaps", samples=(A, B), ranks=(9, 2**63 - 1))
    workspace.journal.add([kept])
    assert workspace.journal.active(annotator="gaps") == [kept]


@pytest.mark.parametrize(
    ("shown", "kept"),
    [((7, -3), False), ((0, 0), False), ((0,), False), ((0, 1, 2), False), ((1, 0), True)],
)
def test_an_order_that_is_none_is_refused(
    workspace: Workspace, tmp_path: Path, shown: tuple[int, ...], kept: bool
) -> None:
    for door in ("journal", "replace", "playground", "chat", "ruling", "jsonl", "parquet"):
        who = f"{door}-{shown}"
        entry = Comparison(annotator=who, samples=(A, B), choice="a", shown=shown)
        try:
            DOORS[door](workspace, entry, tmp_path)
        except WorkspaceError as error:
            assert not kept
            assert "shown" in str(error)
        else:
            assert kept


def test_a_sample_is_whole_and_answers_its_prompt(workspace: Workspace) -> None:
    asked, start = Prompt.from_text("Hi"), Prompt(content=Situation(environment="E-v0", seed=1))
    clip = clip_sample(1)
    half = Completion(text="x", tokens=np.zeros(2, np.int32), logprobs=np.zeros(1, np.float32))
    odd = {
        "a completion is no answer to a situation": Sample.of(start, Completion(text="x")),
        "a clip is no answer to a dialogue": Sample.of(asked, clip.content),
        "not of the environment": Sample.of(start, clip.content),
        "not one 32-bit log-probability": Sample.of(asked, half),
        "its weights_version is an integer of more": Sample.of(
            asked, Completion(text="x"), weights_version=2**63
        ),
        "its seed is an integer of more": Sample.of(asked, Completion(text="x"), seed=2**70),
        "NUL": Sample.of(asked, Completion(text="x\0")),
        "its settings field 't' is inf": Sample.of(
            asked, Completion(text="x"), settings={"t": math.inf}
        ),
    }
    for reason, sample in odd.items():
        with pytest.raises(WorkspaceError, match=reason):
            workspace.samples.add([sample])
        assert not workspace.samples.get([sample.id])


def test_what_stands_in_a_column_has_passed_the_door() -> None:
    """A new column of JSON is held to the door, unless it is of our own making."""
    own = {
        ("models", "path"),
        ("models", "parents"),
        ("models", "recipe"),
        ("models", "metrics"),
        ("runs", "recipe"),
        ("stages", "result"),
        ("secrets", "value"),
        ("assignments", "shown"),
        ("generations", "text"),
        ("generations", "error"),
        ("reports", "body"),
        ("deliveries", "body"),
        ("deliveries", "told"),
    }
    loose = {
        (table.name, column.name)
        for table in schema.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, columns.Json) and not isinstance(column.type, columns.Kept)
    }
    assert loose == own
