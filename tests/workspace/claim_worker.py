"""Takes what waits until nothing does: `claim_worker.py FOLDER NAME`; prints what it was given."""

import sys

from store_helpers import tell

from backflip.workspace import Workspace


def main(folder: str, name: str) -> None:
    with Workspace.open(folder) as workspace:
        tell("ready")
        sys.stdin.readline()
        while taken := workspace.generations.take(name, 3):
            for each in taken:
                tell(each.id)
                assert workspace.generations.fail(name, each.id, "why")


if __name__ == "__main__":
    main(*sys.argv[1:])
