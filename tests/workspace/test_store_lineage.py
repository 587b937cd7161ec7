"""From a checkpoint back to the people behind it, and from an answer to all that it touched."""

import pytest
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.records import Sample
from backflip.records.feedback import Comparison, Demonstration
from backflip.workspace import ModelRecord, Workspace, lineage, outline, touched

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


def test_an_outline_is_what_the_entries_tell(
    workspace: Workspace, two_rounds: dict[str, Comparison]
) -> None:
    for model in workspace.models.all():
        whole, found = lineage(workspace, model), outline(workspace, model)
        assert list(found.models) == whole.all_models[1:]
        assert list(found.snapshots) == whole.all_snapshots
        assert found.annotators == whole.annotators
    assert outline(workspace, workspace.models.get("policy-2")).annotators == {"mia": 2, "ann": 1}
    assert outline(workspace, workspace.models.get("stray")).annotators == {}


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


@pytest.fixture
def two_runs(workspace: Workspace, samples: list[Sample]) -> dict[str, str]:
    """Two runs, the second from the first one's policy, and where each entry went:

    shown -> sft -> policy-1 (by reward-1 of `first`), policy-2 (by reward-2 of `second`)
                 -> dpo (of `first` itself)
    policy-1 -> base-2 -> late (by own, that grew from reward-1 and learned from `other`)
    """
    shown = Demonstration(annotator="ann", sample=IDS[2])
    entries = {name: vote("mia", name) for name in ("first", "second", "other")} | {"shown": shown}
    workspace.journal.add(entries.values())
    taken = {
        name: workspace.snapshots.take([entries[n].id for n in names]).id
        for name, names in {
            "shown": ["shown"],
            "first": ["first"],
            "second": ["first", "second"],
            "other": ["other"],
        }.items()
    }
    register(workspace, "base", "base")
    register(workspace, "sft", "sft", "base", snapshot=taken["shown"])
    register(workspace, "reward-1", "reward", "sft", snapshot=taken["first"])
    register(workspace, "policy-1", "policy", "sft", "reward-1", snapshot=taken["first"])
    register(workspace, "reward-2", "reward", "sft", snapshot=taken["second"])
    register(workspace, "policy-2", "policy", "policy-1", "reward-2", snapshot=taken["second"])
    register(workspace, "dpo", "policy", "sft", snapshot=taken["first"])
    register(workspace, "base-2", "base", "policy-1")
    register(workspace, "own", "reward", "base", "reward-1", snapshot=taken["other"])
    register(workspace, "late", "policy", "base-2", "own", snapshot=taken["other"])
    return {name: entry.id for name, entry in entries.items()}


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("second", "reward-2 policy-2"),
        ("other", "own late"),
        ("first", "reward-1 policy-1 reward-2 policy-2 dpo base-2 own late"),
        ("shown", "sft reward-1 policy-1 reward-2 policy-2 dpo base-2 own late"),
    ],
)
def test_a_revocation_reaches_through_rounds_runs_and_algorithms(
    workspace: Workspace, two_runs: dict[str, str], name: str, reached: str
) -> None:
    """Policies through their reward models and by pairs, later rounds, runs that start from them,
    reward models that grew from others, and models that were shown what to say.
    """
    hit = touched(workspace, [two_runs[name]])
    assert [model.id for model in hit.models] == reached.split()
    assert {m.id for m in hit.reward_models} == {"reward-1", "reward-2", "own"} & set(
        reached.split()
    )
    workspace.journal.retract(two_runs[name], "withdrew", by="ann")
    assert touched(workspace, [two_runs[name]]) == hit, "taken back or not"


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
