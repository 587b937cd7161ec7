"""What a run's newest reward models say of the samples that people judged."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database, check_name, chunks
from backflip.workspace.material.samples import about_samples
from backflip.workspace.runs.runs import require_run

_scores = schema.reward_scores


@dataclass(frozen=True)
class Score:
    """What reward models say of a sample.

    Attributes:
        value: log odds, as their likelihoods read it: of two samples, one is better than the other
            with probability 1 / (1 + exp(-difference)).
        heldout: whether no feedback on the sample was trained on.
    """

    value: float
    heldout: bool


class Scores:
    """Scores by run, axis and sample, of the run's newest models: older ones have another scale."""

    def __init__(self, database: Database):
        self._database = database

    def keep(
        self, run: str, axis: str, scores: Mapping[str, float], heldout: Collection[str]
    ) -> None:
        """Keep scores of samples in place of all that the run had on the axis.

        Args:
            run: whose reward models gave them.
            axis: on which they judge.
            scores: log odds by sample id.
            heldout: ids of those on which no feedback was trained on.

        Raises:
            WorkspaceError: no such run, or a sample that is not in the workspace.
        """
        check_name(axis, "the axis")
        kept_out = frozenset(heldout)
        rows = [
            {
                "run": run,
                "axis": axis,
                "sample_id": name,
                "score": float(score),
                "heldout": name in kept_out,
            }
            for name, score in scores.items()
        ]
        with self._database.write("runs") as connection:
            require_run(connection, run)
            about_samples(connection, scores)
            old = _scores.c.run == run, _scores.c.axis == axis
            connection.execute(sa.delete(_scores).where(*old))
            for chunk in chunks(rows):
                connection.execute(sa.insert(_scores), chunk)

    def of_run(self, run: str) -> dict[str, dict[str, Score]]:
        """The scores of a run's samples, by axis and sample id."""
        query = sa.select(_scores).where(_scores.c.run == run)
        found: dict[str, dict[str, Score]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.axis, {})[row.sample_id] = Score(row.score, row.heldout)
        return found
