"""The loop of every stage: it goes on where it stopped, whenever that was."""

import pytest
import torch

from backflip.errors import TrainingError
from backflip.training import Checkpoints, State, fit


class Stop(BaseException):
    """Stands for a killed process."""


class Walk:
    """A trainee whose every step depends on all that came before; it stops before `stop_at`."""

    def __init__(self, num_steps: int, stop_at: int | None = None):
        self.num_steps = num_steps
        self.stop_at = stop_at
        self.place = torch.tensor(0.5, dtype=torch.float64)
        self.memory = 0.25
        self.done: list[int] = []

    def step(self, step: int) -> dict[str, float]:
        if step == self.stop_at:
            raise Stop
        self.done.append(step)
        self.memory = (self.memory * 3.7 * (1 - self.memory)) % 1
        self.place = (self.place + self.memory + step).sin()
        return {"place": float(self.place)}

    def state(self) -> State:
        return State({"place": self.place}, {"memory": self.memory})

    def load_state(self, state: State) -> None:
        self.place = state.tensors["place"]
        self.memory = state.values["memory"]


def run(walk: Walk, folder, every: int) -> dict[int, float]:
    seen: dict[int, float] = {}
    try:
        fit(walk, folder, checkpoint_every=every, record=lambda s, m: seen.update({s: m["place"]}))
    except Stop:
        pass
    return seen


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_a_run_stopped_before_every_step_ends_the_same(tmp_path, every):
    straight = Walk(7)
    metrics = run(straight, tmp_path / "straight", every)
    assert list(metrics) == [1, 2, 3, 4, 5, 6, 7]
    for stop_at in range(8):
        folder = tmp_path / f"stopped-{stop_at}"
        seen = run(Walk(7, stop_at), folder, every)
        again = Walk(7)
        resumed = run(again, folder, every)
        assert torch.equal(again.place, straight.place)
        assert again.memory == straight.memory
        assert seen | resumed == metrics
        assert all(seen[step] == resumed[step] for step in seen.keys() & resumed.keys())
        first = stop_at // every * every if stop_at < 7 else 7  # the end is a checkpoint, too
        assert again.done == list(range(first, 7))


def test_stopped_again_and_again_it_still_ends(tmp_path):
    straight = Walk(9)
    run(straight, tmp_path / "straight", 2)
    for stop_at in (1, 3, 2, 4, 5, 5, 8):
        run(Walk(9, stop_at), tmp_path / "broken", 2)
    last = Walk(9)
    run(last, tmp_path / "broken", 2)
    assert torch.equal(last.place, straight.place)


def test_a_run_that_is_done_does_nothing_more(tmp_path):
    run(Walk(5), tmp_path, 2)
    again = Walk(5)
    assert run(again, tmp_path, 2) == {}
    assert again.done == []
    assert float(again.place) != 0.5


def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path, monkeypatch):
    steps: list[int] = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, state: steps.append(step))
    run(Walk(8), tmp_path, 3)
    assert steps == [3, 6, 8]


def test_a_checkpoint_beyond_the_end_is_refused(tmp_path):
    run(Walk(6), tmp_path, 1)
    with pytest.raises(TrainingError, match="at step 6, beyond the 4 asked for"):
        fit(Walk(4), tmp_path, checkpoint_every=1, record=lambda step, metrics: None)
