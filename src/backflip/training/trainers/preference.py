"""Training a policy on pairs already judged: the offline family."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from backflip.algorithms import OfflineAlgorithm, OfflineSettings, PairBatch, ReferencePairBatch
from backflip.errors import BackflipError, TrainingError
from backflip.records import Order, Sample, derive_seed, pick
from backflip.records.feedback import FeedbackBase
from backflip.rewards import preferred_pairs, undecided_as
from backflip.training.checkpoints import State
from backflip.training.learner import Learner, LossPart
from backflip.training.trainers.on_policy import Collate

Pair = tuple[Sample, Sample]
"""(chosen, rejected), two samples of one prompt."""


class PreferenceTrainer:
    """Trains algorithms that consume pairs: one step is one update on `batch_size` of them.

    Every epoch has each pair once; the last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        *,
        algorithm: OfflineAlgorithm[Any, Any],
        learner: Learner,
        pairs: Sequence[Pair],
        collate: Collate,
        seed: int,
    ):
        if not pairs:
            raise ValueError("there is no pair to learn from")
        self.algorithm = algorithm
        self.settings: OfflineSettings = algorithm.settings
        self.learner = learner
        self.pairs = pairs
        self.collate = collate
        self.order = Order(len(pairs), derive_seed(seed, "pairs"))
        self.num_steps = offline_steps(len(pairs), self.settings)

    def step(self, step: int) -> dict[str, float]:
        size = self.settings.batch_size
        per_epoch = self.num_steps // self.settings.epochs
        epoch, index = divmod(step, per_epoch)
        start = epoch * len(self.pairs) + index * size
        number = min(size, len(self.pairs) - index * size)
        pairs = pick(self.pairs, self.order.take(start, number))
        batch = self._read([sample for pair in pairs for sample in pair])
        part = LossPart(batch, self.algorithm.loss, needs=self.algorithm.needs)
        metrics = self.learner.update(part)
        lengths = batch.mask_BT.sum(1).float().view(-1, 2)
        metrics["chosen_length"], metrics["rejected_length"] = lengths.mean(0).tolist()
        metrics["num_pairs"] = float(number)
        return metrics

    def _read(self, samples: Sequence[Sample]) -> PairBatch:
        """Pairs as a batch, with what the algorithm needs to know of them.

        Raises:
            TrainingError: a sample has no action to learn from.
            BackflipError: one cannot be read. Either names the sample.
        """
        try:
            return self._read_together(samples)
        except BackflipError:
            for sample in samples:
                try:
                    self._read_together([sample])
                except BackflipError as error:
                    raise type(error)(error.what, where=sample.place, hint=error.hint) from None
            raise

    def _read_together(self, samples: Sequence[Sample]) -> PairBatch:
        inputs = self.collate(samples)
        if not bool(inputs.mask_BT.any(1).all()):
            raise TrainingError("nothing was written or done in it that could be learned from")
        if "reference" not in self.algorithm.needs:
            return PairBatch(inputs=inputs)
        return ReferencePairBatch(inputs=inputs, ref_logprobs_BT=self.learner.ref_logprobs(inputs))

    def state(self) -> State:
        return State(self.learner.state_dict(), {"algorithm": self.algorithm.state()})

    def load_state(self, state: State) -> None:
        controllers = state.numbers("algorithm", self.algorithm.state())
        self.learner.load_state_dict(state.tensors)
        self.algorithm.load_state(controllers)


def offline_steps(num_pairs: int, settings: OfflineSettings) -> int:
    """Updates in all epochs."""
    return settings.epochs * -(-num_pairs // settings.batch_size)


def decided_pairs(
    entries: Sequence[FeedbackBase], samples: Mapping[str, Sample], *, skipped: int = 0
) -> list[Pair]:
    """Every pair of samples that an entry decides, in the order of the entries.

    Args:
        entries: what people said.
        samples: by id; every sample that the entries speak of.
        skipped: questions that nobody would answer, for the message alone.

    Raises:
        TrainingError: no entry decides a pair; it counts what the entries are instead.
    """
    pairs = [
        (samples[better], samples[worse])
        for entry in entries
        for better, worse in preferred_pairs(entry)
    ]
    if not pairs:
        told = Counter(map(undecided_as, entries)) + Counter({"skip": skipped})
        counts = ", ".join(_counted(name, number) for name, number in told.most_common())
        raise TrainingError(
            "there is no pair to learn from: "
            + (f"no entry prefers one sample over another: {counts}" if counts else "no entry"),
            where=", ".join(sorted({entry.origin for entry in entries})) or None,
            hint="Collect comparisons, rankings or corrections that prefer one side, or use an "
            "algorithm with a reward model, which learns from single samples too.",
        )
    return pairs


def _counted(name: str, number: int) -> str:
    return f"{number} {name}" if number == 1 or name == "both bad" else f"{number} {name}s"
