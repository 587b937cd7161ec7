"""Training a policy on pairs already judged: the offline family."""

from collections.abc import Sequence

from backflip.algorithms import Batch, OfflineAlgorithm, OfflineSettings
from backflip.errors import TrainingError
from backflip.records import Order, Sample, derive_seed, pick
from backflip.training.checkpoints import State
from backflip.training.learner import Learner, Part
from backflip.training.rollouts import Collate

Pair = tuple[Sample, Sample]
"""(chosen, rejected), two samples of one prompt."""


class PairTraining:
    """The offline family's trainee: one step is one update on `batch_size` pairs.

    Every epoch has each pair once; the last batch of an epoch may be smaller.
    """

    def __init__(
        self,
        *,
        algorithm: OfflineAlgorithm,
        learner: Learner,
        pairs: Sequence[Pair],
        collate: Collate,
        seed: int,
    ):
        if not pairs:
            raise TrainingError(
                "there is no pair to learn from: no entry prefers one sample over another",
                hint="Collect comparisons, rankings or corrections, or use an online algorithm.",
            )
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
        inputs = self.collate([sample for pair in pairs for sample in pair])
        batch = Batch(
            inputs=inputs,
            rows_per_item=2,
            ref_logprobs_BT=self.learner.ref_logprobs(inputs),
        )
        metrics = self.learner.update(Part(batch, self.algorithm.loss))
        lengths = batch.mask_BT.sum(1).float().view(-1, 2)
        metrics["chosen_length"], metrics["rejected_length"] = lengths.mean(0).tolist()
        metrics["num_pairs"] = float(number)
        return metrics

    def state(self) -> State:
        return State(self.learner.state_dict(), {"algorithm": self.algorithm.state()})

    def load_state(self, state: State) -> None:
        self.learner.load_state_dict(state.tensors)
        self.algorithm.load_state(state.values["algorithm"])


def offline_steps(num_pairs: int, settings: OfflineSettings) -> int:
    """Updates in all epochs."""
    return settings.epochs * -(-num_pairs // settings.batch_size)
