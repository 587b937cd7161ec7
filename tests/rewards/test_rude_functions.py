"""A function that is a reward may do anything: what it does is told as its fault, by sample."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from backflip.errors import TrainingError
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import FunctionReward

SAMPLE = Sample.of(Prompt.from_text("p"), Completion(text="x"), index=0)


def raising(error: BaseException) -> Callable[[Sample], float]:
    def function(_: Sample) -> float:
        raise error

    return function


class Rude:
    """A value that fails at whatever is asked of it, with an error of the worst kind."""

    def __init__(self, error: type[BaseException]):
        self.error = error

    def __float__(self) -> float:
        raise self.error("no number")

    def __repr__(self) -> str:
        raise self.error("no text")


class Text(str):
    """A text that fails at whatever is asked of it."""

    def __len__(self) -> int:
        raise SystemExit

    def __getitem__(self, _: Any) -> str:
        raise SystemExit

    def __format__(self, _: str) -> str:
        raise SystemExit


class Named(Rude):
    def __repr__(self) -> str:
        return Text("xxx")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class EndingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


RAISED = {
    "SystemExit": SystemExit(3),
    "CancelledError": asyncio.CancelledError(),
    "GeneratorExit": GeneratorExit(),
    "MemoryError": MemoryError(),
    "MuteError": MuteError(),
    "EndingError": EndingError(),
    "StopIteration": StopIteration(1),
    "ValueError": ValueError("long " * 10_000),
}
RETURNED = {
    "1000000000": 10**400,
    "something of type int": 10**5000,
    "-inf": -math.inf,
    "tensor": torch.zeros(2),
    "something of type Rude (writing it raised RuntimeError)": Rude(RuntimeError),
    "something of type Rude (writing it raised SystemExit)": Rude(SystemExit),
    "something of type Rude (writing it raised GeneratorExit)": Rude(GeneratorExit),
    "something of type Rude (writing it raised CancelledError)": Rude(asyncio.CancelledError),
    "xxx": Named(SystemExit),
    "'xxx": "x" * 10**6,
}


def fault(function: Any, timeout: float | None) -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        FunctionReward(function, name="mine", timeout=timeout).score([SAMPLE])
    assert caught.value.where == f"reward 'mine', {SAMPLE.id}"
    assert len(str(caught.value)) < 600
    return caught.value


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("name", RAISED)
def test_whatever_it_raises_is_its_fault(name: str, timeout: float | None) -> None:
    told = fault(raising(RAISED[name]), timeout)
    assert told.what.startswith(f"the function raised {name}: ")
    assert ("ends a program" in (told.hint or "")) is (not isinstance(RAISED[name], Exception))


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("start", RETURNED)
def test_whatever_it_returns_is_told_in_short(start: str, timeout: float | None) -> None:
    told = fault(lambda _: RETURNED[start], timeout)
    assert told.what.startswith(f"the function returned {start}")
    assert "no finite number" in told.what


def test_a_ctrl_c_is_the_persons_and_in_a_thread_the_functions() -> None:
    with pytest.raises(KeyboardInterrupt):
        FunctionReward(raising(KeyboardInterrupt())).score([SAMPLE])
    assert "KeyboardInterrupt" in fault(raising(KeyboardInterrupt()), 30).what


def test_a_function_that_was_rude_is_asked_again() -> None:
    answers = [raising(SystemExit()), lambda _: 2.0]
    reward = FunctionReward(lambda sample: answers.pop(0)(sample), timeout=30)
    with pytest.raises(TrainingError):
        reward.score([SAMPLE])
    assert reward.score([SAMPLE]) == [2.0]
