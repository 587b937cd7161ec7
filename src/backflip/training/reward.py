"""Training a reward model: the fit's gradients, the optimiser's steps, the annotators beside it."""

from backflip.config import RewardSettings
from backflip.rewards import RewardFit
from backflip.training.checkpoints import State
from backflip.training.optimizer import Optimizer


class RewardTraining:
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
        for name, parameters in self.fit.parameters().items():
            tensors |= {f"{name}.{k}": p.detach() for k, p in parameters.items()}
        return State(tensors, {})

    def load_state(self, state: State) -> None:
        for group, parameters in self.fit.parameters().items():
            for name, parameter in parameters.items():
                parameter.data.copy_(state.tensors[f"{group}.{name}"])
        prefix = "optimizer."
        self.optimizer.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
        )
