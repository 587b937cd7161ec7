"""Writes batches without end, and says when each is kept: `writer_worker.py FOLDER SAMPLE`."""

import itertools
import sys

from store_helpers import tell

from backflip.records.feedback import GoodBad
from backflip.workspace import Workspace

BATCH = 50


def main(folder: str, sample: str) -> None:
    with Workspace.open(folder) as workspace:
        for number in itertools.count():
            workspace.journal.add(
                GoodBad(annotator="mia", sample=sample, good=True, key=f"{number}/{n}")
                for n in range(BATCH)
            )
            tell(number)


if __name__ == "__main__":
    main(*sys.argv[1:])
