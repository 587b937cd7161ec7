"""Settings of the loop itself."""

from pydantic import Field

from backflip.config.base import Settings
from backflip.config.bounds import Count, Positive
from backflip.config.identity import knob


class LoopSettings(Settings):
    """Rounds of the loop and what is kept on the way."""

    rounds: Count = Field(default=2, description="times round the loop")
    checkpoint_every: Count = Field(
        default=5,
        description="steps between two checkpoints, from which a run goes on",
        json_schema_extra=knob(),
    )
    warn_kl: Positive = Field(
        default=30.0,
        description="KL from the reference, in nats a sample, above which training is flagged",
        json_schema_extra=knob(),
    )
    warn_length: Positive = Field(
        default=2.0,
        gt=1,
        description="growth of the mean length beside the starting model's, as a factor, above "
        "which training is flagged",
        json_schema_extra=knob(),
    )
