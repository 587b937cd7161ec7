"""From a checkpoint back to the people behind it, and from an answer to all that it touched."""

import pytest
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.feedback.kinds import Comparison
from backflip.feedback.store import ModelRecord, Workspace, lineage, touched
from backflip.records import Sample

IDS = [completion_sample(n, prompt=n // 4).id for n in range(8)]


def vote(annotator: str, key: str) -> Comparison:
    return Comparison(annotator=annotator, samples=(IDS[0], IDS[1]), choice="a", key=key)


def register(workspace: Workspace, name: str, stage: str, *parents: str, **fields: object) -> None:
    workspace.models.register(
        ModelRecord.model_validate(
            {"id": name, "name": name, "stage": stage, "path": name, "parents": parents, **fields}
        )
    )


@pytest.fixture
def two_rounds(workspace: Workspace, samples: list[Sample]) -> dict[str, Comparison]:
    """base -> policy-1 (by reward-1 of snapshot 1) -> policy-2 (by reward-2 of both rounds)."""
    first = [vote("mia", "1"), vote("ann", "2")]
    second = [vote("mia", "3")]
    workspace.journal.add([*first, *second])
    one = workspace.snapshots.take([e.id for e in first]).id
    two = workspace.snapshots.take([e.id for e in [*first, *second]]).id
    register(workspace, "base", "base")
    register(workspace, "other", "base")
    register(workspace, "reward-1", "reward", "base", snapshot=one)
    register(workspace, "policy-1", "policy", "base", "reward-1")
    register(workspace, "reward-2", "reward", "base", snapshot=two)
    register(workspace, "policy-2", "policy", "policy-1", "reward-2")
    register(workspace, "stray", "reward", "other")
    return {e.key: e for e in [*first, *second]}


def test_everything_behind_a_model(workspace: Workspace, two_rounds: dict[str, Comparison]) -> None:
    tree = lineage(workspace, "policy-2")
    assert [m.id for m in tree.all_models] == [
        *("policy-2", "policy-1", "reward-2"),
        *("base", "reward-1"),
    ]
    assert [node.model.id for node in tree.parents] == ["policy-1", "reward-2"]
    assert tree.parents[0].parents[0] is tree.parents[1].parents[0]
    assert [e.key for e in tree.parents[1].entries] == ["1", "2", "3"]
    assert sorted(e.key for e in tree.all_entries) == ["1", "2", "3"]
    assert tree.annotators == {"mia": 2, "ann": 1}
    assert len(tree.all_snapshots) == 2
    earlier = lineage(workspace, workspace.models.get("policy-1"))
    assert [m.id for m in earlier.all_models] == ["policy-1", "base", "reward-1"]
    assert earlier.annotators == {"mia": 1, "ann": 1}
    assert lineage(workspace, "base").annotators == {}


def test_a_retracted_entry_still_stands_behind_what_it_shaped(
    workspace: Workspace, two_rounds: dict[str, Comparison]
) -> None:
    workspace.journal.retract_annotator("ann", "withdrew", by="ann")
    assert lineage(workspace, "policy-1").annotators == {"mia": 1, "ann": 1}


def test_what_a_revocation_touches(workspace: Workspace, two_rounds: dict[str, Comparison]) -> None:
    late = touched(workspace, [two_rounds["3"].id])
    assert len(late.snapshots) == 1
    assert [m.id for m in late.models] == ["reward-2", "policy-2"]
    early = touched(workspace, [two_rounds["2"].id, two_rounds["3"].id])
    assert len(early.snapshots) == 2
    assert [m.id for m in early.reward_models] == ["reward-1", "reward-2"]
    assert [m.id for m in early.policies] == ["policy-1", "policy-2"]
    unused = vote("eve", "9")
    workspace.journal.add([unused])
    nothing = touched(workspace, [unused.id])
    assert (nothing.snapshots, nothing.models) == ((), ())
    assert touched(workspace, []).models == ()


def test_the_unknown_is_named(workspace: Workspace, two_rounds: dict[str, Comparison]) -> None:
    with pytest.raises(WorkspaceError, match="no entry 'feedback-none'"):
        touched(workspace, [two_rounds["1"].id, "feedback-none"])
    with pytest.raises(WorkspaceError, match="no model 'policy-9'"):
        lineage(workspace, "policy-9")


def test_many_rounds_do_not_grow_exponentially(workspace: Workspace, samples: list[Sample]) -> None:
    """Each policy has two ways back to the one before: 2**60 paths, 121 models."""
    register(workspace, "policy-0", "base")
    for n in range(60):
        register(workspace, f"reward-{n}", "reward", f"policy-{n}")
        register(workspace, f"policy-{n + 1}", "policy", f"policy-{n}", f"reward-{n}")
    assert len(lineage(workspace, "policy-60").all_models) == 121
