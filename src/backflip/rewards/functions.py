"""Rewards that are written rather than learned: a Python function of one sample."""

import math
import queue
import threading
import weakref
from collections.abc import Callable, Sequence

from backflip.errors import TrainingError
from backflip.records import Sample

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
            TrainingError: the function raised, ran out of time, or returned no finite number; it
                names the function and the sample.
        """
        return [self._score_one(sample) for sample in samples]

    def _score_one(self, sample: Sample) -> float | None:
        where = f"reward {self.name!r}, {sample.id}"
        try:
            value = self._call(sample)
        except _TimeOutError:
            raise TrainingError(
                f"no answer within {self._timeout:g} s",
                where=where,
                hint="Raise the time-out, or make the function faster on such a sample.",
            ) from None
        except Exception as error:
            raise TrainingError(
                f"the function raised {type(error).__name__}: {error}", where=where
            ) from error
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise TrainingError(f"the function returned {value!r}, no finite number", where=where)
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


class _TimeOutError(Exception):
    """A call took longer than it may."""


class _Worker:
    """One daemon thread that calls a function; unlike a pool's, it never holds up the exit."""

    def __init__(self, function: Function):
        self._function = function
        self._asked: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[tuple[float | None, Exception | None]]
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
            raise error
        return value

    def stop(self) -> None:
        """Let the thread end, once its call does."""
        self._asked.put(None)

    def _run(self) -> None:
        while (sample := self._asked.get()) is not None:
            try:
                self._answered.put((self._function(sample), None))
            except Exception as error:
                self._answered.put((None, error))
