"""Training a reward model: the fit's gradients, the optimiser's steps, the annotators beside it."""

from torch import Tensor

from backflip.config import RewardSettings
from backflip.models.matching import require_same_tensors
from backflip.rewards import RewardFit
from backflip.training.checkpoints import State
from backflip.training.learner import under
from backflip.training.optimizer import Optimizer


class RewardTrainer:
    """The trainee of one reward model: one step is one batch of feedback of every kind."""

    def __init__(self, fit: RewardFit, settings: RewardSettings):
        self.fit = fit
        self.num_steps = fit.num_steps
        self.optimizer = Optimizer(
            fit.parameters(),
            settings.optimizer,
            total_updates=fit.num_steps,
            learning_rates={"annotators": settings.annotator_learning_rate},
            undecayed={"annotators"},
        )

    def step(self, step: int) -> dict[str, float]:
        self.optimizer.zero_grad()
        metrics = self.fit.backward(self.fit.batch(step))
        metrics["grad_norm"] = self.optimizer.step()
        return metrics

    def state(self) -> State:
        tensors = {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        return State(tensors | self._trained(), {})

    def load_state(self, state: State) -> None:
        own = self._trained()
        optimizer = under("optimizer.", state.tensors)
        given = {k: v for k, v in state.tensors.items() if not k.startswith("optimizer.")}
        require_same_tensors(own, given, what="the trained state")
        self.optimizer.load_state_dict(optimizer)
        for name, parameter in own.items():
            parameter.copy_(given[name])

    def _trained(self) -> dict[str, Tensor]:
        groups = self.fit.parameters()
        return {f"{g}.{n}": p.detach() for g, named in groups.items() for n, p in named.items()}
