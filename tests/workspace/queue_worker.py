"""Answers a queue to its end: `queue_worker.py FOLDER ANNOTATOR`; prints what it was told."""

import sys

from store_helpers import tell

from backflip.errors import WorkspaceError
from backflip.records.feedback import Comparison
from backflip.workspace import Workspace


def main(folder: str, annotator: str) -> None:
    with Workspace.open(folder) as workspace:
        tell("ready")
        sys.stdin.readline()
        number = 0
        while (task := workspace.queue.next(annotator)) is not None:
            number += 1
            vote = Comparison(
                annotator=annotator, samples=task.sample_ids, choice="a", seconds=number
            )
            try:
                entry_id = workspace.queue.answer(task.id, annotator, vote)
            except WorkspaceError as error:
                if "already answered" not in str(error):
                    raise
                continue  # another window of this person was quicker, with another answer
            tell([task.id, entry_id])


if __name__ == "__main__":
    main(*sys.argv[1:])
