"""Settings of the labelling server."""

from pydantic import Field, field_validator

from backflip.config.base import Settings
from backflip.config.bounds import Count, Name, NotNegative, Number, Positive, Url, Variable


class OidcSettings(Settings):
    """Signing in through an OpenID Connect provider, beside names and passwords."""

    issuer: Url = Field(description="address of the provider, without /.well-known")
    client_id: Name = Field(description="name that the provider knows the server by")
    client_secret_variable: Variable = Field(
        default="BACKFLIP_OIDC_SECRET",
        description="name of the environment variable with the client's secret",
    )
    label: Name = Field(default="single sign-on", description="what the provider is called")
    create_users: bool = Field(
        default=False,
        description="let everybody in whom the provider knows; false: only who was invited",
    )

    @field_validator("issuer")
    @classmethod
    def _check(cls, issuer: str) -> str:
        if not issuer.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            raise ValueError("must begin with https://")
        return issuer.rstrip("/")


class ServerSettings(Settings):
    """How `backflip serve` serves a workspace."""

    host: Name = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0: on all")
    port: Number = Field(default=8000, le=65535, description="port; 0: a free one")
    public_url: Url | None = Field(
        default=None,
        description="address that people use, where it is not that of host and port, as behind a "
        "proxy; with https the cookies are secure",
    )
    session_hours: Positive = Field(
        default=336.0, le=100_000, description="after which to sign in again"
    )
    lease_minutes: Positive = Field(
        default=30.0, le=100_000, description="a question is held for one person; a draft renews it"
    )
    login_attempts: Count = Field(
        default=10,
        le=1_000_000,
        description="failed attempts of one name, and ten times as many of one address, before "
        "more are refused for a while",
    )
    login_minutes: Positive = Field(default=15.0, le=1440, description="how long that while is")

    upload_megabytes: Positive = Field(
        default=512.0, le=1_000_000, description="size of a file that may be imported"
    )
    upload_minutes: Positive = Field(
        default=30.0, le=1440, description="in which a file must have come whole"
    )
    uploads_at_once: Count = Field(
        default=2, le=100, description="files that one user may have on the way to a server"
    )
    upload_free_megabytes: NotNegative = Field(
        default=256.0,
        description="room that an import leaves free, in the folder for temporary files and in "
        "the workspace",
    )
    webhooks_inside: bool = Field(
        default=False,
        description="let webhooks lead into the server's own network, and by its proxies",
    )
    setup_hours: Positive = Field(
        default=24.0,
        le=720,
        description="for which the link to make the first account is good",
    )

    oidc: OidcSettings | None = Field(
        default=None, description="none: people sign in by name and password only"
    )

    @field_validator("public_url")
    @classmethod
    def _check(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return None if address is None else address.rstrip("/")
