"""The small networks of an agent: policy, value model and reward over clips."""

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from backflip.agents.inputs import OTHER_WORLD, ClipInputs
from backflip.errors import ModelError, SettingsError
from backflip.files.folders import new_folder
from backflip.files.manifest import require_whole
from backflip.models.files import read_record, read_tensors, write_record
from backflip.models.matching import require_same_tensors
from backflip.models.shaking import shaken
from backflip.records import Sample


@dataclass(frozen=True)
class ClipOutput:
    """Log-probability of the actions taken, and entropy of what could have been done, (B, T)."""

    logprobs_BT: Tensor
    entropy_BT: Tensor | None


class Network(nn.Module):
    """What the three share: their shape as JSON beside their weights, and a seeded start."""

    def __init__(self, shape: dict[str, Any], *, seed: int = 0):
        super().__init__()
        self.shape = shape
        self.seed = seed

    def layers(self, outputs: int, *, gain: float) -> nn.Sequential:
        """A two-layer perceptron, orthogonal from a generator of its own (Engstrom et al. 2020)."""
        width, generator = self.shape["width"], torch.Generator().manual_seed(self.seed)
        sizes = [(self.inputs, width), (width, width), (width, outputs)]
        stack: list[nn.Module] = []
        for i, (size_in, size_out) in enumerate(sizes):
            layer = nn.Linear(size_in, size_out)
            scale = gain if i == len(sizes) - 1 else math.sqrt(2)
            nn.init.orthogonal_(layer.weight, scale, generator=generator)
            nn.init.zeros_(layer.bias)
            stack += [layer, nn.Tanh()]
        return nn.Sequential(*stack[:-1])

    @property
    def inputs(self) -> int:
        return self.shape["observation"]

    def require_fit(self, inputs: ClipInputs) -> None:
        """Raise `ModelError` for clips of another environment than the network is for."""
        seen, number = inputs.observations_BSO.shape[-1], self.shape["actions"]
        done = inputs.actions_BTA
        if self.shape["discrete"]:
            fits = done.dtype == torch.int64 and 0 <= int(done.min()) <= int(done.max()) < number
        else:
            fits = done.dtype == torch.float32 and done.shape[2:] == (number,)
        if seen != self.shape["observation"] or not fits:
            kind = f"one of {number} actions" if self.shape["discrete"] else f"{number} numbers"
            raise ModelError(
                f"the network is for observations of {self.shape['observation']} numbers and for "
                f"actions that are {kind}; what was seen or done here is not of that form",
                hint=OTHER_WORLD,
            )

    def weights(self) -> dict[str, Tensor]:
        """A copy of every parameter by name."""
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}

    trainable_state = weights

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `trainable_state` gave.

        Raises:
            ModelError: it is of another network; nothing is changed.
        """
        hint = "It was written for another environment."
        require_same_tensors(self.weights(), state, what="the trained state", hint=hint)
        self.load_state_dict(dict(state))

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Write `network.safetensors` and `backflip.json`; the folder is there whole or not at all.

        Raises:
            ModelError: the folder cannot be written.
        """
        with new_folder(folder, replace=True) as draft:
            (draft / "network.safetensors").write_bytes(save(self.weights()))
            write_record(draft, {"shape": self.shape, **record})

    @classmethod
    def load(cls, folder: Path, *, seed: int = 0) -> Self:
        """Read what `save` wrote; the weights are those of a network of the same class.

        Raises:
            DamageError: a file is missing or is not what was written.
            ModelError: the folder holds no such network.
        """
        require_whole(folder)
        record = read_record(folder)
        try:
            network = cls(record["shape"], seed=seed)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"no {cls.__name__} can be made of its record: {error}", where=str(folder)
            ) from None
        path = folder / "network.safetensors"
        weights = read_tensors(path)
        require_same_tensors(
            network.weights(),
            weights,
            what=f"for {cls.__name__}, the file",
            where=str(path),
            hint="Is it of a network of this kind, of this environment?",
        )
        network.load_state_dict(weights)
        return network


class AgentPolicy(Network):
    """A categorical or diagonal Gaussian policy."""

    def __init__(self, shape: dict[str, Any], *, seed: int = 0):
        super().__init__(shape, seed=seed)
        self.net = self.layers(shape["actions"], gain=0.01)
        if not shape["discrete"]:
            self.log_std = nn.Parameter(torch.zeros(shape["actions"]))

    def distribution(
        self, observations: Tensor, *, temperature: float = 1.0
    ) -> Categorical | Independent:
        """What the policy would do after these observations, (..., O).

        Raises:
            SettingsError: a temperature other than 1, which a Gaussian does not have.
        """
        if temperature != 1.0:
            raise SettingsError("an agent acts at temperature 1", where="sampling.temperature")
        logits = self.net(observations)
        if self.shape["discrete"]:
            return Categorical(logits=logits, validate_args=False)
        spread = self.log_std.exp().expand_as(logits)
        return Independent(Normal(logits, spread, validate_args=False), 1, validate_args=False)

    def evaluate(
        self, inputs: ClipInputs, *, entropy: bool = False, temperature: float = 1.0
    ) -> ClipOutput:
        """(B, T) log-probabilities of the actions taken, in nats, densities where they are real.

        With `entropy`, also the (B, T) entropy of what could have been done. Past the end of a
        clip stand the values of its padding; both carry gradients.

        Raises:
            SettingsError: as `distribution`.
            ModelError: as `require_fit`.
        """
        self.require_fit(inputs)
        chosen = self.distribution(inputs.observations_BSO[:, :-1], temperature=temperature)
        return ClipOutput(
            chosen.log_prob(inputs.actions_BTA), chosen.entropy() if entropy else None
        )

    def reference(self) -> AbstractContextManager[None]:
        """Nothing: the distance is measured from a frozen copy.

        Raises:
            ModelError: always.
        """
        raise ModelError("a network without adapters holds no reference; keep a frozen copy")

    def shaken(self, seed: int) -> AbstractContextManager[None]:
        """A context in which its results differ by what rounding may make of them."""
        return shaken(self.net[0], torch.float32, seed)

    def frozen_copy(self) -> "AgentPolicy":
        """The policy as it is now, to be asked and never trained."""
        return copy.deepcopy(self).requires_grad_(requires_grad=False)


class ClipValue(Network):
    """The value of each state of a clip."""

    def __init__(self, shape: dict[str, Any], *, seed: int = 0):
        super().__init__(shape, seed=seed)
        self.net = self.layers(1, gain=1.0)

    def values(self, inputs: ClipInputs) -> Tensor:
        """(B, T) the value of what was seen before each action, of B clips of T steps at most.

        Past the end of a clip stand the values of its padding.

        Raises:
            ModelError: as `require_fit`.
        """
        self.require_fit(inputs)
        return self.net(inputs.observations_BSO[:, :-1])[..., 0]

    def final_values(self, inputs: ClipInputs) -> Tensor:
        """(B,) the value of what was seen at the end of each clip."""
        self.require_fit(inputs)
        seen = inputs.observations_BSO[torch.arange(inputs.num_rows), inputs.lengths_B]
        return self.net(seen)[..., 0]


class ClipScorer(Network):
    """The reward of a clip: the mean over its steps of a reward of what was seen and done.

    Christiano et al. 2017 sum over the steps; the mean has the same order over clips of equal
    length and keeps the scale when lengths differ.
    """

    def __init__(self, shape: dict[str, Any], *, seed: int = 0):
        super().__init__(shape, seed=seed)
        self.net = self.layers(1, gain=1.0)

    @property
    def inputs(self) -> int:
        return self.shape["observation"] + self.shape["actions"]

    def collate(self, samples: Sequence[Sample]) -> ClipInputs:
        """Clips as padded inputs."""
        return ClipInputs.of([sample.clip for sample in samples])

    def step_rewards(self, inputs: ClipInputs) -> Tensor:
        """(B, T) the learned reward of each step."""
        return self.net(self._steps(inputs))[..., 0]

    def forward(self, inputs: ClipInputs) -> Tensor:
        """(B,) the mean of the step rewards of each clip, padding left out."""
        rewards = self.step_rewards(inputs).masked_fill(~inputs.mask_BT, 0.0)
        return rewards.sum(1) / inputs.lengths_B

    def features(self, inputs: ClipInputs) -> Tensor:
        """(B, D) the last hidden layer's mean over a clip; the reward is linear in it."""
        hidden = self.net[:-1](self._steps(inputs)).masked_fill(~inputs.mask_BT[..., None], 0.0)
        return hidden.sum(1) / inputs.lengths_B[:, None]

    def _steps(self, inputs: ClipInputs) -> Tensor:
        """(B, T, O + A) what was done at each step, and what was seen after it."""
        self.require_fit(inputs)
        actions = inputs.actions_BTA
        if self.shape["discrete"]:
            actions = nn.functional.one_hot(actions, self.shape["actions"]).float()
        return torch.cat([inputs.observations_BSO[:, 1:], actions], -1)
