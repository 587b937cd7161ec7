"""The command line, with every token of a model taking a while: `worker_process.py SECONDS ...`."""

import sys
import time
from typing import Any

from backflip.cli import main
from backflip.sampling.fast import FastDecoder

STEP = FastDecoder.step


def slowly(seconds: float) -> None:
    def step(*given: Any) -> Any:
        time.sleep(seconds)
        return STEP(*given)

    FastDecoder.step = step


if __name__ == "__main__":
    slowly(float(sys.argv[1]))
    main(sys.argv[2:])
