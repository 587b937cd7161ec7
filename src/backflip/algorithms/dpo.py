"""Direct preference optimisation (Rafailov et al. 2023) and two of its relatives.

The implicit reward of a reply is beta * (log pi - log ref), summed over its tokens.

- "sigmoid": -log sigmoid of the difference of implicit rewards (DPO, eq. 7). With
  `label_smoothing` e it becomes cDPO (Mitchell 2023): a share e of the labels is taken as wrong.
- "ipo": squared distance of the log-ratio difference from 1 / (2 beta) (Azar et al. 2023, eq. 17).

Departures: none from the sigmoid form; IPO's choice of length normalisation is a setting.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from backflip.algorithms.base import (
    Need,
    OfflineAlgorithm,
    OfflineSettings,
    Outputs,
    register,
)
from backflip.algorithms.batches import LossTerm, ReferencePairBatch
from backflip.config.bounds import Positive, Share
from backflip.losses import dpo_loss


class DPOSettings(OfflineSettings):
    """Settings of DPO."""

    type: Literal["dpo"] = "dpo"
    beta: Positive = Field(
        default=0.1, description="nearness to the reference; smaller goes further"
    )
    variant: Literal["sigmoid", "ipo"] = Field(
        default="sigmoid", description="which loss of a pair"
    )
    label_smoothing: Share = Field(
        default=0.0, lt=0.5, description="share of labels taken as wrong (cDPO)"
    )
    length_normalised: bool = Field(
        default=False, description="ipo only: log-ratios a token instead of a reply"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.variant == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing belongs to variant sigmoid; ipo has none")
        if self.variant != "ipo" and self.length_normalised:
            raise ValueError("length_normalised belongs to variant ipo")
        return self


@register
class DPO(OfflineAlgorithm[DPOSettings, ReferencePairBatch]):
    """DPO on pairs whose reference log-probabilities are known."""

    settings_type = DPOSettings

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({"reference"})

    def loss(self, outputs: Outputs, batch: ReferencePairBatch) -> list[LossTerm]:
        config, mask = self.settings, batch.mask_BT
        loss_sum, metrics = dpo_loss(
            logprobs_B2=outputs.logprobs_BT.masked_fill(~mask, 0.0).sum(1).view(-1, 2),
            ref_logprobs_B2=batch.ref_logprobs_BT.masked_fill(~mask, 0.0).sum(1).view(-1, 2),
            lengths_B2=mask.sum(1).view(-1, 2) if config.length_normalised else None,
            beta=config.beta,
            variant=config.variant,
            label_smoothing=config.label_smoothing,
        )
        return [
            LossTerm("policy_loss", loss_sum, unit="item", weight=1.0),
            *(LossTerm(name, total, unit="item") for name, total in metrics.items()),
        ]
