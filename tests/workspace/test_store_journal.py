"""The journal keeps every entry, counts each once, and takes back without forgetting."""

from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.records import Sample
from backflip.records import feedback as kinds
from backflip.records.feedback import KINDS, Comparison, FeedbackBase, GoodBad, Rating
from backflip.workspace import Workspace
from backflip.workspace.material import snapshots

IDS = [completion_sample(n, prompt=n // 4).id for n in range(8)]
GROUP = IDS[:4]
"""Replies to one prompt."""
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1)
common = st.fixed_dictionaries(
    {
        "annotator": names,
        "axis": st.sampled_from(["overall", "helpful", "safe"]),
        "origin": st.sampled_from(["people", "teachers", "judge", "import:a.jsonl"]),
        "reason": st.none() | words,
        "seconds": st.none() | st.floats(0, 1e6),
        "key": words,
    }
)
one = st.sampled_from(GROUP)
two = st.permutations(GROUP).map(lambda ids: ids[:2])
levels = st.integers(2, 10).flatmap(
    lambda n: st.fixed_dictionaries({"num_levels": st.just(n), "level": st.integers(1, n)})
)
SPECIFIC = {
    "comparison": st.builds(dict, samples=two, choice=st.sampled_from(["a", "b"])).flatmap(
        lambda d: st.integers(0, 3).map(lambda s: {**d, "strength": s, "shown": (1, 0)})
    ),
    "ranking": st.integers(2, 4).flatmap(
        lambda k: st.fixed_dictionaries(
            {
                "samples": st.permutations(GROUP).map(lambda ids: ids[:k]),
                "ranks": st.lists(st.integers(1, k), min_size=k, max_size=k),
                "num_acceptable": st.none() | st.integers(0, k),
            }
        )
    ),
    "rating": st.builds(lambda s, d: {"sample": s, **d}, one, levels),
    "good_bad": st.builds(dict, sample=one, good=st.booleans()),
    "correction": two.map(lambda ids: {"sample": ids[0], "corrected": ids[1]}),
    "demonstration": st.permutations(GROUP).flatmap(
        lambda ids: st.integers(1, 4).map(lambda k: {"sample": ids[0], "over": ids[1:k]})
    ),
    "critique": st.builds(
        lambda s, t, d: {"sample": s, "text": t, **d}, one, words.filter(len), levels
    ),
    "safety_flag": st.builds(dict, sample=one, safe=st.booleans(), category=st.none() | words),
    "implicit": st.builds(
        lambda ids, signal, alone: {
            "sample": ids[0],
            "signal": signal,
            "over": None if alone else ids[1],
        },
        two,
        st.sampled_from(["kept", "abandoned"]),
        st.booleans(),
    ),
}


def vote(annotator: str = "mia", choice: str = "a", **fields: object) -> Comparison:
    return Comparison(annotator=annotator, samples=(IDS[0], IDS[1]), choice=choice, **fields)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_kind_comes_back_as_it_was_said(
    workspace: Workspace, samples: list[Sample], kind: str, data: st.DataObject
) -> None:
    fields = data.draw(common) | data.draw(SPECIFIC[kind])
    entry = kinds.parse_feedback({"kind": kind, **fields})
    workspace.journal.add([entry])
    found = workspace.journal.get([entry.id])[entry.id]
    assert found == entry
    assert type(found) is KINDS[kind]
    assert found.id == entry.id
    assert entry in workspace.journal.active(kinds=kind, annotator=entry.annotator)


def test_an_entry_counts_once(workspace: Workspace, samples: list[Sample]) -> None:
    first, second = vote(), vote(choice="b")
    assert workspace.journal.add([first, second, first]) == [first.id, second.id]
    third = vote(key="again")
    assert workspace.journal.add([second, third]) == [third.id]
    assert workspace.journal.active() == [first, second, third]
    assert workspace.journal.count() == 3


def test_an_entry_about_an_unknown_sample_leaves_nothing(
    workspace: Workspace, samples: list[Sample]
) -> None:
    stray = Comparison(annotator="mia", samples=(IDS[0], "sample-none"), choice="a")
    with pytest.raises(WorkspaceError, match="no such sample: sample-none"):
        workspace.journal.add([vote(), stray])
    assert workspace.journal.count() == 0
    assert workspace.annotators.all() == []


def test_filters(workspace: Workspace, samples: list[Sample]) -> None:
    a = vote()
    b = vote("teacher-1", origin="teachers")
    c = Rating(annotator="mia", sample=IDS[0], level=2, axis="helpful")
    d = GoodBad(annotator="ann", sample=IDS[0], good=True, origin="import:x.jsonl")
    workspace.journal.add([a, b], round=0, run="run-1")
    workspace.journal.add([c], round=1, run="run-1")
    workspace.journal.add([d])
    active = workspace.journal.active
    assert active() == [a, b, c, d]
    assert active(kinds="comparison") == [a, b]
    assert active(kinds={"comparison", "good_bad"}) == [a, b, d]
    assert active(axis="helpful") == [c]
    assert active(origin="teachers") == [b]
    assert active(origin=("people", "import:x.jsonl")) == [a, c, d]
    assert active(annotator="mia") == [a, c]
    assert active(annotator="mia", axis="overall") == [a]
    assert active(rounds=0) == [a, b]
    assert active(rounds=[0, 1]) == [a, b, c]
    assert active(run="run-2") == []
    assert active(kinds=[]) == []
    assert {x.name: x.group for x in workspace.annotators.all()} == {
        "mia": "people",
        "teacher-1": "teachers",
        "ann": "import",
    }


def test_a_retracted_entry_is_kept_and_stays_out(
    workspace: Workspace, samples: list[Sample]
) -> None:
    first, second = vote(), vote(choice="b")
    workspace.journal.add([first, second], round=4, run="run-1")
    assert workspace.journal.retract(first.id, "slipped \x07", by="mia")
    assert not workspace.journal.retract(first.id, "again", by="boss")
    assert workspace.journal.active() == [second]
    assert workspace.journal.count() == 1
    said, taken_back = workspace.journal.history(first.id)
    assert (said.kind, said.entry, said.annotator) == ("comparison", first, "mia")
    assert (said.reason, said.retracts) == (None, None)
    assert (taken_back.kind, taken_back.entry) == ("retraction", None)
    assert taken_back.retracts == first.id
    assert (taken_back.annotator, taken_back.reason) == ("mia", "slipped \x07")
    assert (taken_back.run, taken_back.round) == ("run-1", 4)
    assert said.number < taken_back.number
    # Importing the file again does not bring back what was revoked.
    assert workspace.journal.add([first]) == []
    assert workspace.journal.active() == [second]
    assert workspace.journal.get([first.id]) == {first.id: first}


def test_unknown_entries_cannot_be_retracted(workspace: Workspace, samples: list[Sample]) -> None:
    workspace.journal.add([vote()])
    for name in ("feedback-none", _retraction_id(workspace)):
        with pytest.raises(WorkspaceError, match="no entry"):
            workspace.journal.retract(name, "", by="mia")
    with pytest.raises(WorkspaceError, match="no entry"):
        workspace.journal.history("feedback-none")
    with pytest.raises(WorkspaceError, match="no annotator 'eve'"):
        workspace.journal.retract_annotator("eve", "", by="mia")


def _retraction_id(workspace: Workspace) -> str:
    entry = vote(key="retracted")
    workspace.journal.add([entry])
    workspace.journal.retract(entry.id, "", by="mia")
    return workspace.journal.history(entry.id)[1].id


def test_all_of_an_annotator_is_taken_back(workspace: Workspace, samples: list[Sample]) -> None:
    of_mia = [vote(key=str(n)) for n in range(5)]
    of_ann = vote("ann")
    workspace.journal.add([*of_mia, of_ann])
    workspace.journal.retract(of_mia[2].id, "slipped", by="mia")
    gone = workspace.journal.retract_annotator("mia", "was a bot", by="boss")
    assert gone == [of_mia[n].id for n in (0, 1, 3, 4)]
    assert workspace.journal.active() == [of_ann]
    assert workspace.journal.retract_annotator("mia", "was a bot", by="boss") == []
    assert [workspace.journal.history(e.id)[1].reason for e in of_mia].count("was a bot") == 4
    later = vote(key="later")
    workspace.journal.add([later])
    assert workspace.journal.active(annotator="mia") == [later]


def test_stats_count_what_is_active(workspace: Workspace, samples: list[Sample]) -> None:
    entries: list[FeedbackBase] = [
        vote(),
        vote("ann", origin="teachers"),
        vote("ann", "b", origin="teachers"),
        Rating(annotator="ann", sample=IDS[0], level=2, axis="helpful"),
    ]
    workspace.journal.add(entries)
    workspace.journal.retract(entries[1].id, "", by="boss")
    stats = workspace.journal.stats()
    kept = [entries[0], entries[2], entries[3]]
    assert (stats.active, stats.retracted) == (3, 1)
    assert stats.by_kind == {"comparison": 2, "rating": 1}
    assert stats.by_annotator == Counter(e.annotator for e in kept)
    assert stats.by_origin == Counter(e.origin for e in kept)
    assert stats.by_axis == Counter(e.axis for e in kept)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET body = '{}'",
        "UPDATE journal SET round = NULL",
        "DELETE FROM journal",
        "DELETE FROM journal WHERE number = 1",
        "UPDATE snapshot_entries SET place = place + 10",
        "DELETE FROM snapshot_entries",
        "DELETE FROM snapshots",
        "UPDATE snapshots SET id = 'x'",
    ],
)
def test_the_database_itself_refuses_to_change_the_journal(
    workspace: Workspace, samples: list[Sample], statement: str
) -> None:
    entry = vote()
    workspace.journal.add([entry], round=2)
    snapshot = workspace.snapshots.take([entry.id])
    with (
        pytest.raises(sa.exc.DBAPIError, match="is append-only"),
        workspace.database.engine.begin() as connection,
    ):
        connection.execute(sa.text(statement))
    assert workspace.journal.active(rounds=2) == [entry]
    assert workspace.snapshots.rows(snapshot.id) == [entry]


def test_no_way_around_the_guard(workspace: Workspace, samples: list[Sample]) -> None:
    """SQLite's REPLACE deletes without a trigger of DELETE; PostgreSQL's TRUNCATE likewise."""
    entry = vote()
    workspace.journal.add([entry])
    if workspace.database.is_sqlite:
        replace = sa.text(
            "INSERT OR REPLACE INTO journal (number, id, kind, annotator, body, created) "
            "VALUES (:number, :id, 'rating', 'mia', '{}', '')"
        )
        for number, name in ((1, "feedback-other"), (99, entry.id)):
            with workspace.database.engine.begin() as connection:
                connection.execute(replace, {"number": number, "id": name})
    else:
        with (
            pytest.raises(sa.exc.DBAPIError, match="is append-only"),
            workspace.database.engine.begin() as connection,
        ):
            connection.execute(sa.text("TRUNCATE journal CASCADE"))
    assert workspace.journal.active() == [entry]
    assert workspace.journal.count() == 1


def test_a_snapshot_is_named_by_its_rows(workspace: Workspace, samples: list[Sample]) -> None:
    entries = [vote(key=str(n)) for n in range(4)]
    workspace.journal.add(entries)
    ids = [e.id for e in entries]
    snapshot = workspace.snapshots.take(ids)
    assert snapshot.entry_ids == tuple(ids)
    assert workspace.snapshots.take(ids) == snapshot
    assert workspace.snapshots.get(snapshot.id) == snapshot
    assert workspace.snapshots.take(ids[::-1]).id != snapshot.id
    assert workspace.snapshots.take(ids[:3]).id != snapshot.id
    workspace.journal.retract(ids[1], "slipped", by="mia")
    assert workspace.snapshots.rows(snapshot.id) == entries
    empty = workspace.snapshots.take([])
    assert workspace.snapshots.rows(empty.id) == []


def test_people_answer_while_a_snapshot_is_read(
    workspace: Workspace, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = (GoodBad(annotator="mia", sample=s.id, good=True) for s in samples[:2])
    workspace.journal.add([first])
    real = snapshots.select_rows

    def slowly(*given: Any) -> Any:
        rows = real(*given)
        with Workspace.open(workspace.root, timeout=0.05) as other:
            other.journal.add([late])
        return rows

    monkeypatch.setattr(snapshots, "select_rows", slowly)
    taken = workspace.snapshots.take([first.id])
    monkeypatch.undo()
    assert workspace.snapshots.rows(taken.id) == [first]
    assert workspace.journal.active() == [first, late]


def test_a_snapshot_of_what_is_not_there_is_refused(
    workspace: Workspace, samples: list[Sample]
) -> None:
    entry = vote()
    workspace.journal.add([entry])
    with pytest.raises(WorkspaceError, match="no entry 'feedback-none'"):
        workspace.snapshots.take([entry.id, "feedback-none"])
    with pytest.raises(WorkspaceError, match="twice"):
        workspace.snapshots.take([entry.id, entry.id])
    for read in (workspace.snapshots.rows, workspace.snapshots.get):
        with pytest.raises(WorkspaceError, match="no snapshot 'snapshot-none'"):
            read("snapshot-none")


def test_a_snapshot_notices_a_changed_row(workspace: Workspace, samples: list[Sample]) -> None:
    entry = vote()
    workspace.journal.add([entry])
    snapshot = workspace.snapshots.take([entry.id])
    with workspace.database.engine.begin() as connection:
        if workspace.database.is_sqlite:
            connection.execute(sa.text("DROP TRIGGER journal_no_update"))
        else:
            connection.execute(sa.text("ALTER TABLE journal DISABLE TRIGGER USER"))
        connection.execute(sa.text("UPDATE journal SET body = replace(body, '\"a\"', '\"b\"')"))
    with pytest.raises(WorkspaceError, match="not those it was taken of"):
        workspace.snapshots.rows(snapshot.id)
