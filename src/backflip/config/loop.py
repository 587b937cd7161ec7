"""Settings of the loop itself."""

from pydantic import Field

from backflip.config.base import Settings
from backflip.config.identity import knob


class LoopSettings(Settings):
    """Rounds of the loop and what is kept on the way."""

    rounds: int = Field(default=2, ge=1, description="times round the loop")
    checkpoint_every: int = Field(
        default=5,
        ge=1,
        description="steps between two checkpoints, from which a run goes on",
        json_schema_extra=knob(),
    )
    warn_kl: float = Field(
        default=30.0,
        gt=0,
        description="KL from the reference, in nats a sample, above which training is flagged",
        json_schema_extra=knob(),
    )
    warn_length: float = Field(
        default=2.0,
        gt=1,
        description="growth of the mean length beside the starting model's, as a factor, above "
        "which training is flagged",
        json_schema_extra=knob(),
    )
