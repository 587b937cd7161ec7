"""Feedback in files, counts of it, and what is to be done when it is withdrawn."""

import json
import shutil
from pathlib import Path

import pytest
from cli_desk import Outcome, backflip, done

from backflip.cli.data import FORMAT_NAMES
from backflip.formats import FORMATS
from backflip.records.feedback import ERASED, Critique, GoodBad
from backflip.workspace import Workspace


@pytest.fixture
def copy(text_stages: dict[str, Outcome], tmp_path: Path) -> Path:
    """A copy of the workspace of the text stages, to be changed."""
    shutil.copytree("text", tmp_path / "copy")
    return tmp_path / "copy"


def test_export_and_import_carry_all_over(text_stages: dict[str, Outcome], tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    written = done("feedback", "export", file, "-w", "text", "--json").json
    told = text_stages["label"].json
    assert (written["rows"], written["left_out"]) == (told["entries"], {})
    other = tmp_path / "other"
    for new in (told["entries"], 0):
        read = done("feedback", "import", file, "-w", other, "--json").json
        assert (read["entries"], read["new"], read["rejected"]) == (told["entries"], new, 0)
    with Workspace.open("text") as before, Workspace.open(other) as after:
        assert before.journal.active() == after.journal.active()


def test_export_tells_what_a_format_cannot_hold(
    text_stages: dict[str, Outcome], tmp_path: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    arguments = ("feedback", "export", file, "-w", "text", "--format", "trl-preference")
    written = done(*arguments, "--json").json
    ratings = text_stages["label"].json["entries"] - written["rows"]
    assert sum(written["left_out"].values()) == ratings > 0
    assert all("rating" in reason or "tie" in reason for reason in written["left_out"])
    assert all(f": {reason}" in done(*arguments).out for reason in written["left_out"])
    only = done(*arguments, "--kind", "comparison", "--json").json
    assert only["rows"] == written["rows"]
    assert set(only["left_out"]) <= {r for r in written["left_out"] if "rating" not in r}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert isinstance(rows[0]["chosen"], list)
    done(*arguments, "--plain")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert isinstance(rows[0]["chosen"], str)


@pytest.mark.parametrize("name", ["argilla", "label-studio"])
def test_judgements_move_through_the_formats_of_other_tools(
    text_stages: dict[str, Outcome], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "votes.json"
    written = done("feedback", "export", file, "-w", "text", "--format", name, "--json").json
    told = text_stages["label"].json
    assert written["rows"] + sum(written["left_out"].values()) == told["entries"]
    assert written["rows"] > 0
    assert all("same text" in reason for reason in written["left_out"])
    read = done("feedback", "import", file, "-w", tmp_path / "new", "--json").json
    assert (read["format"], read["entries"], read["rejected"]) == (name, written["rows"], 0)
    with Workspace.open("text") as before, Workspace.open(tmp_path / "new") as after:
        people = {entry.annotator for entry in before.journal.active()}
        assert {entry.annotator for entry in after.journal.active()} == people


def test_import_names_bad_rows(desk: Path, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    good = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
    bad = [{"prompt": "Hi", "chosen": "Same", "rejected": "Same"}] * 22
    file.write_text("\n".join(map(json.dumps, [good, *bad])))
    arguments = ("feedback", "import", file, "-w", tmp_path / "new", "--annotator", "mia")
    arguments += ("--axis", "helpful", "--format", "trl-preference")
    outcome = done(*arguments)
    assert "1 of them new; 22 rows left out" in outcome.out
    assert outcome.out.count("votes.jsonl:") == 20
    assert "and 2 more" in outcome.out
    facts = done(*arguments, "--json").json
    assert facts["new"] == 0
    assert [row["line"] for row in facts["rejections"]] == list(range(2, 24))
    stats = done("feedback", "stats", "-w", tmp_path / "new", "--json").json
    assert stats["annotator"] == {"mia": 1}
    assert stats["axis"] == {"helpful": 1}


def test_an_import_of_no_row_fails_and_says_what_was_wrong(desk: Path, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    row = {"prompt": "Hi", "chosen": "Same", "rejected": "Same"}
    arguments = ("feedback", "import", file, "-w", tmp_path / "new", "--format", "trl-preference")
    for rows, told in (([row] * 3, "3 rows left out"), ([], "0 rows left out")):
        file.write_text("\n".join(map(json.dumps, rows)))
        outcome = backflip(*arguments)
        assert outcome.code == 1
        assert told in outcome.out
        assert outcome.out.count("chosen and rejected are the same reply") == len(rows)
        outcome = backflip(*arguments, "--json")
        assert outcome.code == 1
        assert (outcome.json["entries"], outcome.json["rejected"]) == (0, len(rows))
        assert len(outcome.json["rejections"]) == len(rows)


def test_an_import_tells_the_columns_that_it_did_not_use(desk: Path, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    row = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What."}
    file.write_text("\n".join(map(json.dumps, [row | {"score": 3, "id": 1}, row | {"score": 2}])))
    arguments = ("feedback", "import", file, "-w", tmp_path / "new")
    told = "Columns that were not used, and in how many rows: id (1), score (2)."
    assert told in " ".join(done(*arguments).out.split())
    assert done(*arguments, "--json").json["ignored"] == {"id": 1, "score": 2}
    file.write_text(json.dumps(row))
    assert "Columns" not in done(*arguments).out


def test_a_hostile_row_cannot_command_the_terminal(desk: Path, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    bad = '{"prompt": "Hi", "chosen": "a", "rejected": {"\\u001b[2Jx": 1}}\n'
    file.write_text(bad + '{"prompt": "Hi", "chosen": "a", "rejected": "b", "\\u001b[2Jx": 1}\n')
    outcome = done("feedback", "import", file, "-w", tmp_path / "new", "--format", "trl-preference")
    assert "1 rows left out" in outcome.out
    assert "Columns that were not used" in outcome.out
    assert "\x1b" not in outcome.out + outcome.err


def test_stats_count(text_stages: dict[str, Outcome]) -> None:
    stats = done("feedback", "stats", "-w", "text", "--json").json
    told = text_stages["label"].json
    assert stats["active"] == told["entries"]
    assert stats["retracted"] == 0
    for group in ("kind", "annotator", "origin", "axis"):
        assert sum(stats[group].values()) == told["entries"]
    out = done("feedback", "stats", "-w", "text").out
    assert f"{told['entries']} entries count, 0 were withdrawn." in out
    for name, number in stats["annotator"].items():
        assert [name, str(number)] in [line.split() for line in out.splitlines()]


def test_an_annotator_who_leaves_touches_what_learned_from_them(
    copy: Path, text_stages: dict[str, Outcome]
) -> None:
    with Workspace.open(copy) as workspace:
        entries = workspace.journal.active(annotator="careful-1")
    arguments = ("feedback", "revoke", "--annotator", "careful-1", "--reason", "asked to")
    facts = done(*arguments, "--by", "lea", "-w", copy, "--json").json
    assert sorted(facts["withdrawn"]) == sorted(entry.id for entry in entries)
    assert facts["snapshots"] == [text_stages["label"].json["snapshot"]]
    assert text_stages["reward"].json["rewards"]["overall"][0] in facts["reward_models"]
    policies = {text_stages["ppo"].json["id"], text_stages["dpo"].json["id"]}
    assert policies <= set(facts["policies"])
    with Workspace.open(copy) as workspace:
        assert not workspace.journal.active(annotator="careful-1")
        row = workspace.journal.history(entries[0].id)[-1]
        assert (row.annotator, row.reason) == ("lea", "asked to")


def test_an_entry_is_withdrawn_once(copy: Path) -> None:
    with Workspace.open(copy) as workspace:
        entry = workspace.journal.active()[0].id
    arguments = ("feedback", "revoke", "--entry", entry, "--reason", "a slip", "-w", copy)
    out = done(*arguments).out
    assert "1 entries withdrawn; 1 snapshots hold them." in out
    assert "train again" in out
    again = done(*arguments, "--json").json
    assert (again["withdrawn"], again["withdrawn_before"]) == ([], [entry])
    assert len(again["snapshots"]) == 1, "what holds it is told all the same"


def test_revoking_an_annotator_again_tells_the_same_again(copy: Path) -> None:
    """Who closed the window needs the list once more; what was said since is withdrawn too."""
    with Workspace.open(copy) as workspace:
        entries = [entry.id for entry in workspace.journal.active(annotator="hasty-1")]
        sample = workspace.journal.active()[0].sample_ids[0]
    arguments = ("feedback", "revoke", "--annotator", "hasty-1", "--reason", "asked to", "-w", copy)
    first = done(*arguments, "--json").json
    assert (sorted(first["withdrawn"]), first["withdrawn_before"]) == (sorted(entries), [])
    assert first["reward_models"]
    assert first["policies"]
    again = done(*arguments, "--json").json
    assert (again["withdrawn"], sorted(again["withdrawn_before"])) == ([], sorted(entries))
    for key in ("snapshots", "reward_models", "policies"):
        assert again[key] == first[key]
    out = done(*arguments).out
    assert out.startswith(
        f"Nothing new to withdraw; {len(entries)} had been withdrawn before; 1 snapshots hold them."
    )
    assert all(name in out for name in first["reward_models"] + first["policies"])
    with Workspace.open(copy) as workspace:
        (late,) = workspace.journal.add([GoodBad(annotator="hasty-1", sample=sample, good=True)])
    third = done(*arguments, "--json").json
    assert third["withdrawn"] == [late]
    assert sorted(third["withdrawn_before"]) == sorted(entries)
    assert third["policies"] == first["policies"]


def test_what_an_annotator_wrote_is_erased(copy: Path) -> None:
    with Workspace.open(copy) as workspace:
        sample = workspace.journal.active()[0].sample_ids[0]
        said = [
            Critique(annotator=name, sample=sample, text=f"{name} wrote", reason="a secret")
            for name in ("ann", "bo")
        ]
        workspace.journal.add(said)
    arguments = ("feedback", "revoke", "--annotator", "ann", "--reason", "asked to", "-w", copy)
    assert done(*arguments, "--json").json["withdrawn"] == [said[0].id]
    with Workspace.open(copy) as workspace:
        assert workspace.journal.get([said[0].id]) == {said[0].id: said[0]}
    told = done(*arguments, "--erase").out
    assert told.startswith("Nothing new to withdraw; 1 had been withdrawn before; ")
    assert "what was written is erased" in told
    assert done(*arguments, "--erase", "--json").json["texts_kept"] == 0
    with Workspace.open(copy) as workspace:
        erased, other = workspace.journal.get([entry.id for entry in said]).values()
        assert (erased.text, erased.reason) == (ERASED, ERASED)  # pyright: ignore
        assert other == said[1]


def test_a_single_entry_is_not_erased(copy: Path) -> None:
    arguments = ("feedback", "revoke", "--entry", "x", "--reason", "a slip", "-w", copy)
    outcome = backflip(*arguments, "--erase")
    assert outcome.code == 1
    assert "only all that an --annotator wrote can be erased" in outcome.err


def test_revoke_wants_one_thing(text_stages: dict[str, Outcome]) -> None:
    for both in ([], ["--entry", "x", "--annotator", "y"]):
        outcome = backflip("feedback", "revoke", "--reason", "x", "-w", "text", *both)
        assert outcome.code == 1
        assert "--entry or an --annotator" in outcome.err


def test_help_names_every_format() -> None:
    assert set(FORMAT_NAMES.replace(" or ", " ").replace(",", "").split()) == set(FORMATS)
