"""A checkpoint is whole or not there, whenever the disk or the process gives up."""

import errno
import os
from pathlib import Path

import pytest
import torch

from backflip.errors import TrainingError
from backflip.training import Checkpoints, State
from backflip.training import checkpoints as module


def make_state(number: int) -> State:
    generator = torch.Generator().manual_seed(number)
    tensors = {
        "policy.a": torch.randn(3, 5, generator=generator),
        "policy.narrow": torch.randn(7, generator=generator).bfloat16(),
        "optimizer.updates": torch.tensor(number),
        "turned": torch.randn(4, 2, generator=generator, dtype=torch.float64).T,
        "empty": torch.zeros(0),
    }
    return State(tensors, {"algorithm": {"kl_beta": 0.1 + 1e-17 + number / 3}, "list": [1, None]})


def same(one: State, other: State) -> bool:
    return (
        dict(one.values) == dict(other.values)
        and one.tensors.keys() == other.tensors.keys()
        and all(
            torch.equal(one.tensors[n], other.tensors[n])
            and one.tensors[n].dtype == other.tensors[n].dtype
            for n in one.tensors
        )
    )


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "stage")
    assert checkpoints.latest() is None
    checkpoints.save(12, make_state(12))
    step, state = checkpoints.latest()
    assert step == 12
    assert same(state, make_state(12))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_stay(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in (5, 10, 15, 100_000_000):
        checkpoints.save(step, make_state(step))
    assert len(list(tmp_path.iterdir())) == keep
    assert checkpoints.latest()[0] == 100_000_000


def test_the_same_step_again_takes_the_place_of_the_first(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, make_state(1))
    checkpoints.save(3, make_state(2))
    assert same(checkpoints.latest()[1], make_state(2))


def test_the_disk_never_holds_more_than_two_by_default(tmp_path, monkeypatch):
    checkpoints, most = Checkpoints(tmp_path), []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        most.append(sorted(p.name for p in tmp_path.iterdir()))
        return rename(path, target)

    monkeypatch.setattr(module.Path, "rename", watched)
    for step in (2, 4, 6):
        checkpoints.save(step, make_state(step))
    assert most[-1] == ["step-00000004", "step-00000006.unfinished"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004", "step-00000006"]


def test_checkpoints_of_later_steps_go_when_an_earlier_one_is_written(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (2, 4):
        checkpoints.save(step, make_state(step))
    (tmp_path / "step-00000004" / module.TENSORS).unlink()
    checkpoints.save(3, make_state(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert same(checkpoints.latest()[1], make_state(3))


@pytest.mark.parametrize(
    "values", [{}, {"kl": 1.0}, {"kl_beta": "x"}, {"kl_beta": float("inf")}, [], 7]
)
def test_numbers_that_are_not_those_asked_for_are_refused(values):
    kept = State({}, {"algorithm": {"kl_beta": 0.5}})
    assert kept.numbers("algorithm", {"kl_beta": 0.1}) == {"kl_beta": 0.5}
    with pytest.raises(TrainingError, match="which is of kl_beta"):
        State({}, {"algorithm": values}).numbers("algorithm", {"kl_beta": 0.1})


def test_clear_removes_all(tmp_path):
    checkpoints = Checkpoints(tmp_path / "stage", keep=3)
    checkpoints.save(1, make_state(1))
    checkpoints.clear()
    assert checkpoints.latest() is None
    checkpoints.clear()


class Killed(BaseException):
    """Stands for a process that ends where it is: no handler may tidy up after it."""


def watched_calls(monkeypatch: pytest.MonkeyPatch, stop_at: int, error: BaseException) -> list[str]:
    """Raise at the n-th call of the operating system that a save makes."""
    calls: list[str] = []

    def watch(name: str, function):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == stop_at:
                raise error
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", watch("fsync", os.fsync))
    monkeypatch.setattr(module.Path, "mkdir", watch("mkdir", Path.mkdir))
    monkeypatch.setattr(module.Path, "rename", watch("rename", Path.rename))
    monkeypatch.setattr(module.Path, "open", watch("open", Path.open))
    return calls


def calls_of_a_save(tmp_path: Path) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        calls = watched_calls(patch, -1, Killed())
        Checkpoints(tmp_path / "count").save(1, make_state(1))
    return calls


def test_a_process_killed_at_any_call_leaves_the_last_checkpoint(tmp_path):
    calls = calls_of_a_save(tmp_path)
    assert calls.count("fsync") == 5
    assert "rename" in calls
    for number in range(1, len(calls) + 1):
        folder = tmp_path / f"killed-{number}"
        checkpoints = Checkpoints(folder)
        checkpoints.save(1, make_state(1))
        with pytest.MonkeyPatch.context() as patch:
            watched_calls(patch, number, Killed())
            patch.setattr(module.shutil, "rmtree", lambda *args, **kwargs: None)
            with pytest.raises(Killed):
                checkpoints.save(2, make_state(2))
        step, state = checkpoints.latest()
        renamed = "rename" in calls[: number - 1]
        assert step == (2 if renamed else 1), calls[number - 1]
        assert same(state, make_state(step))
        checkpoints.save(3, make_state(3))
        assert same(checkpoints.latest()[1], make_state(3))


def test_a_half_written_folder_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1))
    half = tmp_path / "step-00000002.unfinished"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"\x08\0\0")
    assert checkpoints.latest()[0] == 1
    checkpoints.save(2, make_state(2))
    assert checkpoints.latest()[0] == 2
    assert not half.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full: No space left on device"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
def test_a_failing_disk_is_told_and_leaves_the_last_checkpoint(tmp_path, code, words):
    calls = calls_of_a_save(tmp_path)
    for number in range(1, len(calls)):  # the last call flushes the name of a whole checkpoint
        folder = tmp_path / f"failed-{number}"
        checkpoints = Checkpoints(folder)
        checkpoints.save(1, make_state(1))
        with pytest.MonkeyPatch.context() as patch:
            watched_calls(patch, number, OSError(code, os.strerror(code)))
            with pytest.raises(TrainingError, match=f"{words}; the last checkpoint") as caught:
                checkpoints.save(2, make_state(2))
        assert caught.value.where == str(folder)
        assert "run the same command again" in caught.value.hint
        assert checkpoints.latest()[0] == 1
        assert [path.name for path in folder.iterdir()] == ["step-00000001"]


def test_a_truly_full_disk_is_told(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1))
    monkeypatch.setattr(module.Path, "open", lambda path, mode: open("/dev/full", mode))  # noqa: PTH123
    with pytest.raises(TrainingError, match="the disk is full"):
        checkpoints.save(2, make_state(2))
    monkeypatch.undo()
    assert same(checkpoints.latest()[1], make_state(1))
