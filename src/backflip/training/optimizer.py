"""AdamW with its schedule, and a state that is kept bit for bit."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from backflip.config import OptimizerSettings
from backflip.errors import TrainingError
from backflip.models.matching import require_same_tensors

CALMER = (
    "The same recipe would come to the same end. Lower the learning_rate of this stage's optimizer "
    "(pretrain.optimizer, sft.optimizer, reward.optimizer or algorithm.optimizer), or the "
    "max_grad_norm beside it: that makes a run of its own."
)
"""What to do about a loss or a gradient that is not finite."""


class Optimizer:
    """AdamW over named groups of parameters, with warm-up, schedule and gradient clipping.

    Args:
        groups: parameters by group ("policy", "value") and name.
        total_updates: length of the schedule.
        learning_rates: for groups that do not use `settings.learning_rate`.
        undecayed: groups whose parameters have a meaning at other values than 0.
    """

    def __init__(
        self,
        groups: Mapping[str, Mapping[str, nn.Parameter]],
        settings: OptimizerSettings,
        *,
        total_updates: int,
        learning_rates: Mapping[str, float] | None = None,
        undecayed: Collection[str] = (),
    ):
        rates = learning_rates or {}
        self._settings = settings
        self._total = max(total_updates, 1)
        self._rates = {name: rates.get(name, settings.learning_rate) for name in groups}
        self._named = {f"{g}.{n}": p for g, named in groups.items() for n, p in named.items()}
        if not self._named:
            raise ValueError("there are no parameters to train")
        self._adam = torch.optim.AdamW(
            [
                {
                    "params": list(named.values()),
                    "lr": self._rates[g],
                    "weight_decay": 0.0 if g in undecayed else settings.weight_decay,
                    "name": g,
                }
                for g, named in groups.items()
            ],
            betas=(settings.beta1, settings.beta2),
            eps=settings.epsilon,
        )
        self.updates = 0

    def zero_grad(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> float:
        """Clip and apply the gradients.

        Returns:
            the norm of the gradient before clipping.

        Raises:
            TrainingError: the norm is not finite; no parameter was changed.
        """
        parameters = [p for p in self._named.values() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            raise TrainingError(
                "a gradient is not finite: training stops, and the last checkpoint is as it was",
                hint=CALMER,
            )
        if self._settings.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self._settings.max_grad_norm, norm)
        factor = self.schedule(self.updates)
        for group in self._adam.param_groups:
            group["lr"] = self._rates[group["name"]] * factor
        self._adam.step()
        self.updates += 1
        return float(norm)

    def schedule(self, update: int) -> float:
        """Factor of the learning rate at an update, counted from 0."""
        config = self._settings
        if update < config.warmup_steps:
            return (update + 1) / config.warmup_steps
        if config.schedule == "constant":
            return 1.0
        left = max(self._total - config.warmup_steps, 1)
        progress = min((update - config.warmup_steps) / left, 1.0)
        if config.schedule == "linear":
            return 1.0 - progress
        return 0.5 * (1.0 + math.cos(math.pi * progress))

    def state_dict(self) -> dict[str, Tensor]:
        """Moments by parameter name, and the number of updates; parameters are kept elsewhere."""
        state = {"updates": torch.tensor(self.updates)}
        for name, parameter in self._named.items():
            for key, value in self._adam.state.get(parameter, {}).items():
                state[f"{name}:{key}"] = value
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave.

        Raises:
            ModelError: it is of other parameters; nothing is changed.
        """
        self._require_own(state)
        self.updates = int(state["updates"])
        self._adam.state.clear()
        for full_name, value in state.items():
            if full_name == "updates":
                continue
            name, key = full_name.rsplit(":", 1)
            parameter = self._named[name]
            place = value.device if key == "step" else parameter.device
            self._adam.state[parameter][key] = value.to(place, copy=True)

    def _require_own(self, state: Mapping[str, Tensor]) -> None:
        """A parameter has a state since its first gradient: none of it, or all."""
        named = {name.rpartition(":")[0] for name in state} & self._named.keys()
        own = {"updates": torch.tensor(self.updates)}
        for name in named:
            parameter = self._named[name].detach()
            own |= {
                f"{name}:step": torch.tensor(0.0),
                f"{name}:exp_avg": parameter,
                f"{name}:exp_avg_sq": parameter,
            }
        require_same_tensors(own, state, what="the optimiser's state")
