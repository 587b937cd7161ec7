"""Figures in the results of stages: shares with their intervals, and how good a reward is."""

from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, Strict

from backflip.records.base import Record

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(False)]
"""A list of JSON."""
Some = Annotated[Many[T], Field(min_length=1)]
"""A list of JSON that is not empty."""


class Part(Record):
    """An object within a result. Types are held to, and keys that are not known are kept."""

    model_config = ConfigDict(extra="allow", strict=True)


class KeptInterval(Part):
    """A measured value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class KeptShare(KeptInterval):
    """A share from 0 to 1 of `count` answers; an answer may count in part."""

    count: float


class KeptChance(KeptShare):
    """A share of which who knows nothing has one half.

    Attributes:
        of: what is counted: "pairs", or "prompts rated apart".
    """

    of: str


class KeptAccuracy(Part):
    """How often a reward model agrees with the answers: with all, and with parts of them by name.

    See `backflip.evaluation.Accuracy`.
    """

    overall: KeptShare
    by_strength: dict[str, KeptShare]
    by_length: dict[str, KeptShare]
    by_annotator: dict[str, KeptShare]
    by_kind: dict[str, KeptShare]


class KeptBin(Part):
    """Answers of which a model was about equally sure.

    Attributes:
        low, high: bounds of how sure, from 0.5 to 1.
        predicted: the mean of how sure.
        observed: how often it was right.
    """

    low: float
    high: float
    predicted: float
    observed: KeptShare


class KeptCalibration(Part):
    """Whether a model is as often right as it is sure; see `backflip.evaluation.Calibration`.

    Attributes:
        error: expected calibration error, from 0 to 1.
        brier: mean squared distance of the probability of the answer given from 1.
        nll: mean negative log-probability of the answer given, in nats.
        table: bins of confidence that hold answers.
    """

    error: float
    brier: float
    nll: float
    table: Many[KeptBin]


class AgainstGold(Part):
    """What the gold measure says of the answers and of the scores; None where not defined.

    Attributes:
        accuracy: how often gold itself agrees with the answers.
        correlation: Spearman's, of scores and gold over the samples.
    """

    accuracy: KeptShare | None
    correlation: float | None


class RewardFigures(Part):
    """How good the reward models of an axis are on feedback that they were not trained on.

    Attributes:
        accuracy, calibration: None where no answer decides a pair.
        chance: what is held against one half; None where nothing can be, and in earlier versions.
        reliabilities: beta that was learned of each annotator.
        gold: None where there is no gold measure.
    """

    accuracy: KeptAccuracy | None
    calibration: KeptCalibration | None
    chance: KeptChance | None = None
    reliabilities: dict[str, float]
    gold: AgainstGold | None = None


class RewardReport(RewardFigures):
    """The figures of a round's reward models.

    Attributes:
        trained_on: number of entries.
        heldout: number of entries that the figures are of.
    """

    trained_on: int
    heldout: int


class BenchReport(RewardFigures):
    """The figures of reward models on a file of human judgements.

    Attributes:
        entries: number of those that the figures are of.
        subsets: how often they agree with the rows of each subset that the file names.
        rejected_rows: number of rows that cannot be read.
        reasons: why not, of the first of them.
    """

    entries: int
    subsets: dict[str, KeptShare]
    rejected_rows: int
    reasons: Many[str]
