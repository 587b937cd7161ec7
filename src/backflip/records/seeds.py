"""Seeds that travel: every random decision has a seed of its own, derived from the run's."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def derive_seed(seed: int, *path: str | int) -> int:
    """A seed for one purpose: the same seed and path give the same number on every machine.

    >>> derive_seed(0, "rollout", 3) == derive_seed(0, "rollout", 3)
    True
    """
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Order:
    """An endless shuffled order over `items`: every pass has each item once.

    It has no state: the items of a step depend on the seed and the step alone, so a resumed run
    goes on with the items it would have had.
    """

    def __init__(self, count: int, seed: int):
        if count < 1:
            raise ValueError("there is nothing to put in order")
        self.count = count
        self.seed = seed

    def take(self, start: int, number: int) -> list[int]:
        """Indices at places `start` to `start + number - 1` of the order."""
        taken: list[int] = []
        while len(taken) < number:
            epoch, offset = divmod(start + len(taken), self.count)
            missing = number - len(taken)
            taken += self._epoch(epoch)[offset : offset + missing]
        return taken

    def _epoch(self, epoch: int) -> list[int]:
        rng = np.random.Generator(np.random.Philox(derive_seed(self.seed, "order", epoch)))
        return [int(i) for i in rng.permutation(self.count)]


def pick(items: Sequence[Item], indices: Sequence[int]) -> list[Item]:
    """The items at these indices."""
    return [items[i] for i in indices]
