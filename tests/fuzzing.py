"""What fuzzers share: how often they try, and on what."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS = float(os.environ.get("BACKFLIP_FUZZ_SECONDS", "0"))
"""For which a fuzzer goes on once it has tried as often as the suite asks."""


def seeds(number: int, seconds: float = SECONDS) -> Iterator[int]:
    """Seeds of so many tries, and of as many more as there are seconds for.

    How many there were is printed, which pytest shows with -s or -rP.
    """
    start = time.monotonic()
    seed = 0
    while seed < number or time.monotonic() - start < seconds:
        yield seed
        seed += 1
    tell(seed, time.monotonic() - start)


def tell(tries: int, seconds: float) -> None:
    print(f"\n{tries} tries in {seconds:.1f} s")


def copied(folder: Path, target: Path) -> Path:
    """A fresh copy in the place of the last one."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(folder, target))
