"""An algorithm from outside of the package: REINFORCE with the batch's mean as its baseline.

Williams 1992, "Simple statistical gradient-following algorithms": every action of a sample is
credited with the sample's whole reward, less the mean. It needs nothing but what it did.
"""

from typing import Literal

from pydantic import Field

from backflip.algorithms import (
    LossTerm,
    OnlineAlgorithm,
    OnlineSettings,
    Outputs,
    PolicyBatch,
    Rollouts,
    register,
)


class ReinforceSettings(OnlineSettings):
    """Settings of REINFORCE."""

    type: Literal["reinforce"] = "reinforce"
    strength: float = Field(default=1.0, gt=0, description="what advantages are multiplied by")


@register
class Reinforce(OnlineAlgorithm[ReinforceSettings, PolicyBatch]):
    """REINFORCE."""

    settings_type = ReinforceSettings

    def credit(self, rollouts: Rollouts) -> tuple[PolicyBatch, dict[str, float]]:
        above_B = rollouts.scores_B - rollouts.scores_B.mean()
        batch = PolicyBatch(
            inputs=rollouts.inputs,
            old_logprobs_BT=rollouts.logprobs_BT,
            advantages_BT=self.settings.strength * above_B[:, None] * rollouts.mask_BT,
        )
        return batch, {"baseline": float(rollouts.scores_B.mean())}

    def loss(self, outputs: Outputs, batch: PolicyBatch) -> list[LossTerm]:
        gain_BT = outputs.logprobs_BT.masked_fill(~batch.mask_BT, 0.0) * batch.advantages_BT
        return [LossTerm("policy_loss", -gain_BT.sum(), weight=1.0)]
