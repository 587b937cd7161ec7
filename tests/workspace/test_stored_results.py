"""Results of stages: read whatever version wrote them, and told where they are damaged."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backflip.errors import DamageError
from backflip.records.plan import EVALUATE, FEEDBACK, STAGES, StageKind, round_of, stage_of
from backflip.workspace import Workspace
from backflip.workspace.doctor.diagnosis import Finding, diagnose
from stored_results import WHOLE, damages, store, stored

SHOWN = 90
"""Faults of a table that the doctor tells in one go, and a few less."""
KINDS = pytest.mark.parametrize("name", STAGES)


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Iterator[Workspace]:
    """On SQLite: a result is the same JSON on PostgreSQL."""
    with opened(sqlite_template, tmp_path / "desk") as workspace:
        yield workspace


@contextmanager
def opened(template: Path, folder: Path) -> Iterator[Workspace]:
    shutil.copytree(template, folder)
    with Workspace.open(folder) as workspace:
        workspace.runs.start("run-1", "night", {}, "1.2.3")
        yield workspace


def key_of(name: str, number: int) -> str:
    """A key of the stage, one for each number."""
    first, *rest = name.split("/")
    hashed = f"{number:020x}"
    last = rest[-1:] and [f"{rest[-1]}-{hashed}" if name.endswith("/pair") else rest[-1]]
    return "/".join([f"{first}-{hashed}", *rest[:-1], *last])


def findings(workspace: Workspace) -> list[Finding]:
    found = diagnose(workspace.root).findings
    return [finding for finding in found if finding.where.startswith("stages ")]


def test_every_stage_has_a_key_that_says_which_it_is():
    assert set(WHOLE) == set(STAGES)
    for kind in STAGES.values():
        assert stage_of(kind.name) is stage_of(kind.key(12)) is kind
        assert stage_of(key_of(kind.name, 3)) is kind
        assert (round_of(kind.name), round_of(kind.key(12))) == (None, 12)
    for key in ("", "samples", "round-1", "round-1/", "sample/round-1", "x/sample", "sample-1"):
        assert stage_of(key) is None


@KINDS
def test_a_result_is_written_again_as_it_was_kept(desk: Workspace, name: str):
    """With keys that are not known here at any place, and without those that came later."""
    kind: StageKind[Any] = STAGES[name]

    def strange(value: Any) -> Any:
        if isinstance(value, list):
            return [strange(each) for each in value]
        if not isinstance(value, dict) or "decides" in value:
            return value
        return {key: strange(each) for key, each in value.items()}

    added = strange(WHOLE[name]) | {"of_tomorrow": {"a": [1, None, "ü"]}}
    for number, result in enumerate((WHOLE[name], added)):
        key = key_of(name, number)
        store(desk, "run-1", key, result)
        read = desk.stages.result("run-1", key, kind)
        assert read is not None
        assert read.kept() == result
        desk.stages.finish("run-1", key, read)  # the same result, so nothing is wrong
        assert json.dumps(stored(desk, "run-1")[key], sort_keys=True) == json.dumps(
            result, sort_keys=True
        )
    assert findings(desk) == []


def test_results_of_the_first_version_are_read(desk: Workspace):
    told = {
        key: WHOLE["feedback"][key] for key in WHOLE["feedback"] if key not in ("holds", "order")
    }
    store(desk, "run-1", "round-1/feedback", told)
    held = {"judged_by": "reward", "reward_prefers": None, "judge": None}
    old = {key: value for key, value in WHOLE["evaluate"].items() if key not in held}
    store(desk, "run-1", "round-1/evaluate", old | {"judged_by": "reward"})
    feedback = desk.stages.result("run-1", "round-1/feedback", FEEDBACK)
    evaluation = desk.stages.result("run-1", "round-1/evaluate", EVALUATE)
    assert feedback is not None
    assert evaluation is not None
    assert (feedback.holds, feedback.order) == (None, None)
    assert (evaluation.reward_prefers, evaluation.judge) == (None, None)
    assert findings(desk) == []


@KINDS
def test_whatever_a_result_lacks_or_holds_is_told_by_its_place(
    sqlite_template: Path, tmp_path: Path, name: str
):
    """The doctor tells each, and who reads it is told the run, the stage and the key."""
    found = list(damages(name))
    for first in range(0, len(found), SHOWN):
        with opened(sqlite_template, tmp_path / str(first)) as desk:
            see_told(desk, STAGES[name], found[first : first + SHOWN])


def see_told(desk: Workspace, kind: StageKind[Any], damaged: list[tuple[str, Any]]) -> None:
    places: dict[str, str] = {}
    for number, (place, result) in enumerate(damaged):
        key = key_of(kind.name, number)
        places[key] = place
        store(desk, "run-1", key, result)
        with pytest.raises(DamageError) as caught:
            desk.stages.result("run-1", key, kind)
        for named in (place or "is no object", f"stage {key}", "run run-1"):
            assert named in caught.value.what, (place, caught.value.what)
        assert "backflip doctor" in str(caught.value.hint)
    with pytest.raises(DamageError):
        desk.stages.results("run-1", kind)
    told: dict[str, list[str]] = {}
    for finding in findings(desk):
        assert finding.state == "damaged"
        told.setdefault(finding.where.removeprefix("stages run-1 "), []).append(finding.what)
    assert set(told) == set(places), "every one, and nothing else"
    for key, place in places.items():
        assert len(told[key]) == 1, (place, told[key])
        assert (place or "is no object") in told[key][0]


def test_several_faults_of_a_result_are_told_one_by_one(desk: Workspace):
    damaged = WHOLE["feedback"] | {"entries": "many", "annotators": "mia"}
    del damaged["skipped"]
    store(desk, "run-1", "round-2/feedback", damaged)
    assert [(f.where, f.what) for f in findings(desk)] == [
        ("stages run-1 round-2/feedback", "holds in entries what it cannot"),
        ("stages run-1 round-2/feedback", "lacks skipped"),
        ("stages run-1 round-2/feedback", "holds in annotators what it cannot"),
    ]
    with pytest.raises(DamageError, match=r"round-2/feedback of run run-1 .*entries.*2 more"):
        desk.stages.result("run-1", "round-2/feedback", FEEDBACK)
