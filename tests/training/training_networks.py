"""Networks small enough to be checked by hand, in float64, and their inputs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backflip.algorithms import Outputs

WIDTH, ACTIONS = 3, 4


@dataclass(frozen=True)
class Steps:
    """Rows of steps: features (B, T, WIDTH) seen and actions (B, T) taken."""

    features: Tensor
    actions: Tensor
    lengths: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    @property
    def row_lengths(self) -> Tensor:
        return self.lengths

    @property
    def mask_BT(self) -> Tensor:
        return torch.arange(self.actions.shape[1]) < self.lengths[:, None]

    def select(self, rows: Tensor) -> "Steps":
        lengths = self.lengths[rows]
        width = int(lengths.max())
        return Steps(self.features[rows, :width], self.actions[rows, :width], lengths)


def make_steps(number: int, *, longest: int = 5, seed: int = 0) -> Steps:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (number,), generator=generator)
    lengths[0] = longest
    return Steps(
        torch.randn(number, longest, WIDTH, generator=generator, dtype=torch.float64),
        torch.randint(0, ACTIONS, (number, longest), generator=generator),
        lengths,
    )


class _Linear(nn.Module):
    def __init__(self, outputs: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(outputs, WIDTH, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(start)
        self.passes = 0

    def forward(self, features: Tensor) -> Tensor:
        self.passes += 1
        return features @ self.weight.T

    def trainable_state(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach()}

    def load_trainable_state(self, state: Any) -> None:
        self.weight.data.copy_(state["weight"])


class LinearPolicy(_Linear):
    """Logits linear in the features; gradients of the loss can be written down."""

    def __init__(self, seed: int = 1):
        super().__init__(ACTIONS, seed)

    def evaluate(
        self, inputs: Steps, *, entropy: bool = False, temperature: float = 1.0
    ) -> Outputs:
        logits = (self(inputs.features) / temperature).log_softmax(-1)
        chosen = logits.gather(-1, inputs.actions[..., None])[..., 0]
        return Outputs(chosen, -(logits.exp() * logits).sum(-1) if entropy else None)

    def reference(self) -> Any:
        raise NotImplementedError

    def shaken(self, seed: int) -> Any:
        raise NotImplementedError

    def weights(self) -> dict[str, Tensor]:
        return self.trainable_state()

    def save(self, folder: Any, record: Any) -> None:
        raise NotImplementedError


class LinearValue(_Linear):
    def __init__(self, seed: int = 2):
        super().__init__(1, seed)

    def values(self, inputs: Steps) -> Tensor:
        return self(inputs.features)[..., 0]


class ConstantValue(nn.Module):
    """A value model of any policy: one number for all states."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def values(self, inputs: Any) -> Tensor:
        return self.number.expand(inputs.mask_BT.shape)

    def trainable_state(self) -> dict[str, Tensor]:
        return dict(self.state_dict())

    def load_trainable_state(self, state: Any) -> None:
        self.load_state_dict(state)
