"""A loss that becomes NaN ends the run, and takes nothing of what was kept with it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, make_run, weights_of

from backflip.algorithms import PPO, LossTerm
from backflip.errors import TrainingError
from backflip.loop.stage import Stage
from backflip.records.plan import POLICY
from backflip.training.checkpoints import Checkpoints
from backflip.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def recipe() -> dict[str, Any]:
    """Four steps of two updates each, with a checkpoint after every second."""
    rates = {"learning_rate": 3e-3}
    algorithm = {"type": "ppo", "steps": 4, "prompts_per_step": 6, "epochs": 2, "optimizer": rates}
    return agent_recipe(algorithm=algorithm, loop={"rounds": 1, "checkpoint_every": 2})


def test_a_loss_that_becomes_nan_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Workspace.create(tmp_path / "straight") as workspace:
        make_run(workspace, recipe())[0].go()
        straight = weights_of(workspace)
    loss, calls = PPO.loss, []

    def broken(self: PPO, *given: Any) -> list[LossTerm]:
        """NaN in the second update of the third step: the first one was made."""
        calls.append(1)
        terms = loss(self, *given)
        if len(calls) < 6:
            return terms
        return [LossTerm(t.name, t.sum * float("nan"), t.unit, t.weight) for t in terms]

    with Workspace.create(tmp_path / "broken") as workspace:
        run, _ = make_run(workspace, recipe())
        with monkeypatch.context() as patch:
            patch.setattr(PPO, "loss", broken)
            with pytest.raises(TrainingError, match="the loss is not finite") as caught:
                run.go()
        assert len(calls) == 6
        assert "algorithm.optimizer" in str(caught.value.hint)
        assert "learning_rate" in str(caught.value.hint)
        assert workspace.stages.result(run.id, "round-1/policy", POLICY) is None
        assert {m.stage for m in workspace.models.all()} == {"base", "reward"}
        found = Checkpoints(Stage(run, "round-1/policy").folder).latest()
        assert found is not None
        step, state = found
        assert step == 2
        floats = [t for t in state.tensors.values() if t.is_floating_point()]
        assert floats
        assert all(bool(torch.isfinite(tensor).all()) for tensor in floats)
        # It loads, and what comes after it is what would have come.
        make_run(workspace, recipe())[0].go()
        assert weights_of(workspace) == straight
