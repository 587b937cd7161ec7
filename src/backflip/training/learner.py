"""The learner: networks and their optimiser, one exact update at a time."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from backflip.algorithms import (
    ActionInputs,
    LossTerm,
    Need,
    Outputs,
    PolicyOutput,
    TrainBatch,
    micro_batch_indices,
)
from backflip.config import OptimizerSettings
from backflip.errors import TrainingError
from backflip.training.optimizer import CALMER, Optimizer

Loss = Callable[[Outputs, Any], list[LossTerm]]


class Policy(Protocol):
    """A network that says how likely actions are; language models and agents look the same."""

    def evaluate(
        self, inputs: Any, *, entropy: bool = False, temperature: float = 1.0
    ) -> PolicyOutput:
        """(B, T) log-probabilities of the actions of `inputs`, in nats, with gradients.

        They are of the policy as it acts at `temperature`. The output's entropy is (B, T) too, or
        None unless asked for. Anything may stand where there is no action.
        """
        ...

    def reference(self) -> Any:
        """A context in which the policy is its own reference, its adapters switched off.

        Raises:
            ModelError: it has no adapters, so that it holds no reference.
        """
        ...

    def shaken(self, seed: int) -> Any:
        """A context in which its results differ by what rounding may make of them, at random."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """What a sampler needs to act as the policy does now, by name.

        They may be the network's own tensors: copy them before the next update.
        """
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes, by name, bit for bit."""
        ...

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `trainable_state` gave."""
        ...

    def save(self, folder: Any, record: dict[str, Any]) -> None:
        """Write the whole model and its record as a new folder.

        Raises:
            ModelError: the folder cannot be written.
        """
        ...


class ValueModel(Protocol):
    """A network that says how much reward is still to come before each action."""

    def values(self, inputs: Any) -> Tensor:
        """(B, T) values of the states before the actions, in units of the reward, with gradients.

        Anything may stand where there is no action.
        """
        ...

    def final_values(self, inputs: Any) -> Tensor:
        """(B,) value of the state after each sample's last action, without gradients."""
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes, by name, bit for bit."""
        ...

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `trainable_state` gave."""
        ...


@dataclass(frozen=True)
class LossPart:
    """A batch and the loss it is for; the parts of one update each keep their own count.

    `needs` says what the loss reads beside log-probabilities. `temperature` is that at which the
    batch's actions were drawn from the policy itself, so that ratios are of the distribution that
    acted. Anything else is read at 1: a text or a pair of samples was drawn by nobody, or nobody
    knows by whom.
    """

    batch: TrainBatch
    loss: Loss
    weight: float = 1.0
    temperature: float = 1.0
    needs: frozenset[Need] = frozenset()


class Learner:
    """Holds policy, value model and reference, and updates the first two.

    The result of `update` does not depend on how the batch is cut into micro-batches: counts are
    taken over the whole batch first, and gradients are sums of shares of them.
    """

    def __init__(
        self,
        policy: Policy,
        settings: OptimizerSettings,
        *,
        total_updates: int,
        reference: Policy | None = None,
        value: ValueModel | None = None,
        value_learning_rate: float | None = None,
    ):
        self.policy = policy
        self.value = value
        self._reference = reference
        self._micro_tokens = settings.micro_batch_tokens
        networks = {"policy": policy, **({"value": value} if value is not None else {})}
        self.optimizer = Optimizer(
            {name: _trainable(network) for name, network in networks.items()},
            settings,
            total_updates=total_updates,
            learning_rates={"value": value_learning_rate} if value_learning_rate else {},
        )

    def logprobs(self, inputs: ActionInputs, *, temperature: float = 1.0) -> Tensor:
        """(B, T) log-probabilities of the actions, without gradients; of drawn ones, as drawn."""
        return self._read(self.policy, inputs, temperature)

    def shaken_logprobs(
        self, inputs: ActionInputs, *, temperature: float = 1.0, seed: int
    ) -> Tensor:
        """The same as they might come out otherwise rounded; see `backflip.models.shaking`."""
        with self.policy.shaken(seed):
            return self.logprobs(inputs, temperature=temperature)

    def ref_logprobs(self, inputs: ActionInputs, *, temperature: float = 1.0) -> Tensor:
        """(B, T) log-probabilities under the reference, at the same temperature."""
        frozen = self._reference
        with nullcontext() if frozen is not None else self.policy.reference():
            return self._read(frozen or self.policy, inputs, temperature)

    def values(self, inputs: ActionInputs) -> Tensor:
        """(B, T) values of the states before the actions."""
        value = self._value_model()
        return self._rowwise(inputs, value.values)

    def final_values(self, inputs: ActionInputs) -> Tensor:
        """(B,) values of the states in which the samples ended, or were cut short."""
        value = self._value_model()
        result = torch.zeros(inputs.num_rows, dtype=torch.float32)
        with torch.no_grad():
            for rows in micro_batch_indices(inputs.row_lengths, self._micro_tokens):
                result[rows] = value.final_values(inputs.select(rows)).to(result.dtype)
        return result

    def update(self, *parts: LossPart) -> dict[str, float]:
        """One optimiser step on the sum of the parts' losses.

        Returns:
            every term of the losses as a mean over its unit, "loss" and "grad_norm".

        Raises:
            TrainingError: the loss or a gradient is not finite; this update changed no weight.
        """
        self.optimizer.zero_grad()
        metrics: dict[str, float] = {}
        loss = 0.0
        for part in parts:
            totals = part.batch.totals()
            for micro in part.batch.micro_batches(self._micro_tokens):
                shares = [
                    (term, term.sum / totals[term.unit])
                    for term in part.loss(self._outputs(micro, part), micro)
                ]
                share = sum(part.weight * term.weight * mean for term, mean in shares)
                if not isinstance(share, Tensor):
                    raise ValueError("a loss without a weighted term trains nothing")
                if share.requires_grad:
                    share.backward()
                loss += float(share.detach())
                for term, mean in shares:
                    metrics[term.name] = metrics.get(term.name, 0.0) + float(mean.detach())
        if not torch.isfinite(torch.tensor(loss)):
            raise not_finite("the loss", metrics)
        metrics["loss"] = loss
        metrics["grad_norm"] = self.optimizer.step()
        return metrics

    def weights(self) -> dict[str, Tensor]:
        """The policy's weights as a sampler takes them."""
        return self.policy.weights()

    def state_dict(self) -> dict[str, Tensor]:
        """All that training changes, bit for bit."""
        state = {f"policy.{k}": v for k, v in self.policy.trainable_state().items()}
        if self.value is not None:
            state |= {f"value.{k}": v for k, v in self.value.trainable_state().items()}
        return state | {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        self.policy.load_trainable_state(under("policy.", state))
        if self.value is not None:
            self.value.load_trainable_state(under("value.", state))
        self.optimizer.load_state_dict(under("optimizer.", state))

    def _value_model(self) -> ValueModel:
        if self.value is None:
            raise ValueError("this learner has no value model")
        return self.value

    def _outputs(self, batch: TrainBatch, part: LossPart) -> Outputs:
        output = self.policy.evaluate(
            batch.inputs, entropy="entropy" in part.needs, temperature=part.temperature
        )
        reads_values = "values" in part.needs
        values = self._value_model().values(batch.inputs) if reads_values else None
        entropy = output.entropy_BT if "entropy" in part.needs else None
        return Outputs(output.logprobs_BT, entropy, values)

    def _read(self, policy: Policy, inputs: ActionInputs, temperature: float) -> Tensor:
        return self._rowwise(
            inputs, lambda part: policy.evaluate(part, temperature=temperature).logprobs_BT
        )

    def _rowwise(self, inputs: ActionInputs, function: Callable[[Any], Tensor]) -> Tensor:
        """Apply a function to micro-batches of rows, and put the rows back in their order."""
        result = torch.zeros(inputs.mask_BT.shape, dtype=torch.float32)
        with torch.no_grad():
            for rows in micro_batch_indices(inputs.row_lengths, self._micro_tokens):
                values = function(inputs.select(rows))
                result[rows, : values.shape[1]] = values.to(result.dtype)
        return result


def not_finite(what: str, metrics: Mapping[str, float]) -> TrainingError:
    """The error for a loss or gradient that is NaN or infinite."""
    seen = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return TrainingError(
        f"{what} is not finite: training stops, and the last checkpoint is as it was",
        where=seen or None,
        hint=CALMER,
    )


def _trainable(network: Any) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state below a prefix, named without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
