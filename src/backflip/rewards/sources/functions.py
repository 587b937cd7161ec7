"""Rewards that are written rather than learned: a Python function of one sample."""

import math
import queue
import threading
import weakref
from collections.abc import Callable, Sequence

from backflip.errors import TrainingError
from backflip.records import Sample

_SHOWN = 200
"""Characters of what a function raised or returned."""
Function = Callable[[Sample], float | None]


class FunctionReward:
    """A Python function of one sample as a reward.

        polite = FunctionReward(lambda sample: float("please" in sample.text), name="polite")

    Args:
        function: returns a finite number, or None where it does not apply.
        name: for errors.
        timeout: seconds for one sample; None waits for ever. A function that runs over is left
            behind in a daemon thread, for Python cannot stop it, and ends with the program: the
            time-out keeps a run from hanging, it is no sandbox.
    """

    def __init__(
        self, function: Function, *, name: str | None = None, timeout: float | None = None
    ):
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout of {timeout} s leaves no time")
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._timeout = timeout
        self._worker: _Worker | None = None

    def score(self, samples: Sequence[Sample]) -> list[float | None]:
        """One reward a sample; None where the function returns None.

        Raises:
            TrainingError: the function raised, tried to end the program, ran out of time, or
                returned no finite number; it names the function and the sample.
        """
        return [self._score_one(sample) for sample in samples]

    def _score_one(self, sample: Sample) -> float | None:
        where = f"reward {self.name!r}, {sample.place}"
        try:
            value = self._call(sample)
        except _TimeOutError:
            raise TrainingError(
                f"no answer within {self._timeout:g} s",
                where=where,
                hint="Raise the time-out, or make the function faster on such a sample.",
            ) from None
        except _RaisedError as raised:
            raise _fault_of(raised.error, where) from raised.error
        except KeyboardInterrupt:  # of whoever waits for it
            raise
        except BaseException as error:
            raise _fault_of(error, where) from error
        if value is None:
            return None
        try:
            number = float(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever was returned says how it becomes a number
            number = math.nan
        if not math.isfinite(number):
            raise TrainingError(
                f"the function returned {_written(value, repr)}, no finite number", where=where
            )
        return number

    def _call(self, sample: Sample) -> float | None:
        if self._timeout is None:
            return self._function(sample)
        if self._worker is None:
            self._worker = _Worker(self._function)
            weakref.finalize(self, self._worker.stop)
        try:
            return self._worker.call(sample, self._timeout)
        except _TimeOutError:
            self._worker = None  # it is still busy; a later sample gets a new one
            raise


def _fault_of(error: BaseException, where: str) -> TrainingError:
    """What a function raised, as its own fault: also what would end the program, or a thread."""
    name = type(error).__name__
    ends = not isinstance(error, Exception)
    return TrainingError(
        f"the function raised {name}: {_written(error, str)}",
        where=where,
        hint=f"{name} ends a program: let the function raise another error, or return None."
        if ends
        else None,
    )


def _written(value: object, write: Callable[[object], str]) -> str:
    """A value in a few words, though it may be of any length, or fail to be written."""
    try:
        text = "".join([write(value)])  # a plain one, of no type with manners of its own
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return (
            f"something of type {type(value).__name__} (writing it raised {type(error).__name__})"
        )
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


class _TimeOutError(Exception):
    """A call took longer than it may."""


class _RaisedError(Exception):
    """What a function raised in a thread of its own, where no Ctrl-C comes but what it made up."""

    def __init__(self, error: BaseException):
        self.error = error
        super().__init__()


class _Worker:
    """One daemon thread that calls a function; unlike a pool's, it never holds up the exit."""

    def __init__(self, function: Function):
        self._function = function
        self._asked: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[float | None, BaseException | None]]
        self._answered = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="reward-function").start()

    def call(self, sample: Sample, timeout: float) -> float | None:
        self._asked.put(sample)
        try:
            value, error = self._answered.get(timeout=timeout)
        except queue.Empty:
            self.stop()
            raise _TimeOutError from None
        if error is not None:
            raise _RaisedError(error)
        return value

    def stop(self) -> None:
        """Let the thread end, once its call does."""
        self._asked.put(None)

    def _run(self) -> None:
        while (sample := self._asked.get()) is not None:
            try:
                self._answered.put((self._function(sample), None))
            except BaseException as error:
                self._answered.put((None, error))
