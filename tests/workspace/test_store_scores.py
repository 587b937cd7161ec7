"""Scores of reward models: those of the newest, by run and axis."""

import pytest
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.workspace import Workspace
from backflip.workspace.runs.scores import Score


def test_the_newest_scores_count(workspace: Workspace) -> None:
    samples = [completion_sample(n) for n in range(3)]
    first, second, third = (sample.id for sample in samples)
    workspace.samples.add(samples)
    for run in ("run-1", "run-2"):
        workspace.runs.start(run, run, {}, "1.0")
    workspace.scores.keep("run-1", "overall", {first: 0.5, second: -1.0}, [second])
    workspace.scores.keep("run-1", "overall", {second: 2.0, third: 3.0}, [third])
    workspace.scores.keep("run-1", "safe", {first: 9.0}, [])
    workspace.scores.keep("run-2", "overall", {first: 7.0}, [first])
    assert workspace.scores.of_run("run-1") == {
        "overall": {
            second: Score(2.0, heldout=False),
            third: Score(3.0, heldout=True),
        },
        "safe": {first: Score(9.0, heldout=False)},
    }
    assert workspace.scores.of_run("run-2") == {"overall": {first: Score(7.0, heldout=True)}}
    assert workspace.scores.of_run("run-3") == {}


def test_scores_need_a_run_and_samples(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="no run 'run-1'"):
        workspace.scores.keep("run-1", "overall", {}, [])
    workspace.runs.start("run-1", "run-1", {}, "1.0")
    with pytest.raises(WorkspaceError):
        workspace.scores.keep("run-1", "overall", {"sample-none": 1.0}, [])
    assert workspace.scores.of_run("run-1") == {}
