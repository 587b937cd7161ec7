"""The loop of every stage: it goes on where it stopped, whenever that was."""

import random
import shutil

import pytest
import torch

from backflip.errors import TrainingError
from backflip.files.manifest import MANIFEST
from backflip.training import Checkpoints, State, fit
from backflip.training.checkpoints import TENSORS, VALUES
from damage import DAMAGES, damage
from fuzzing import copied
from unsealed import unsealed


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


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(tmp_path, kind, sealed):
    straight = Walk(9)
    run(straight, tmp_path / "straight", 2)
    run(Walk(9, 7), tmp_path / "cut", 2)
    for seed, name in enumerate(sorted(p.name for p in (tmp_path / "cut/step-00000006").iterdir())):
        folder = copied(tmp_path / "cut", tmp_path / "copy")
        newest, before = folder / "step-00000006", folder / "step-00000004"
        if not sealed:
            if name == MANIFEST or kind in ("a flipped bit", "another file", "other shapes"):
                continue  # seen by the hash alone, or where the state is loaded
            unsealed(newest)
            unsealed(before)
        damage(kind, newest / name, [before / TENSORS, before / VALUES], random.Random(seed))
        needless = name == MANIFEST and kind == "removed"
        again = Walk(9)
        told: list[str] = []
        fit(again, folder, checkpoint_every=2, record=lambda step, metrics: None, warn=told.append)
        said = f"a checkpoint is damaged, so it goes on from step 4: {newest}: {name} "
        assert [line[: len(said)] for line in told] == ([] if needless else [said])
        assert torch.equal(again.place, straight.place)
        assert again.done == list(range(6 if needless else 4, 9))


def test_where_every_checkpoint_is_damaged_it_begins_again(tmp_path):
    straight = Walk(9)
    run(straight, tmp_path / "straight", 2)
    run(Walk(9, 7), tmp_path / "cut", 2)
    for step in (4, 6):
        (tmp_path / "cut" / f"step-0000000{step}" / TENSORS).write_bytes(b"")
    again = Walk(9)
    with pytest.warns(UserWarning, match="begins again") as caught:
        run(again, tmp_path / "cut", 2)
    assert len(caught) == 2
    assert again.done == list(range(9))
    assert torch.equal(again.place, straight.place)


def test_a_checkpoint_of_another_step_is_not_taken_for_this_one(tmp_path):
    run(Walk(9, 7), tmp_path, 2)
    shutil.rmtree(tmp_path / "step-00000006")
    shutil.copytree(tmp_path / "step-00000004", tmp_path / "step-00000006")
    again = Walk(9)
    with pytest.warns(UserWarning, match="is the checkpoint of step 4"):
        run(again, tmp_path, 2)
    assert again.done[0] == 4


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
