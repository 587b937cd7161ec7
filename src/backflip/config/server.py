"""Settings of the labelling server."""

from pydantic import Field, field_validator

from backflip.config.base import Settings


class ServerSettings(Settings):
    """How `backflip serve` serves a workspace."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0: on all")
    port: int = Field(default=8000, ge=0, le=65535, description="port; 0: a free one")
    public_url: str | None = Field(
        default=None,
        description="address that people use, where it is not that of host and port, as behind a "
        "proxy; with https the cookies are secure",
    )
    session_hours: float = Field(default=336.0, gt=0, description="after which to sign in again")
    lease_minutes: float = Field(
        default=30.0, gt=0, description="a question is held for one person; a draft renews it"
    )
    login_attempts: int = Field(
        default=10,
        ge=1,
        description="failed attempts of one name, and ten times as many of one address, before "
        "more are refused for a while",
    )
    login_minutes: float = Field(default=15.0, gt=0, description="how long that while is")

    @field_validator("public_url")
    @classmethod
    def _check(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return None if address is None else address.rstrip("/")
