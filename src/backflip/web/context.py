"""What every request may use: the workspace and the few things that are made once."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from authlib.integrations.starlette_client import OAuth
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import HTTPConnection

from backflip.config import ServerSettings
from backflip.errors import SettingsError
from backflip.web.security import Authenticator, Passwords, Signer
from backflip.workspace import Workspace

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Context:
    """Made once for a server.

    Attributes:
        workspace: that is served.
        settings: of the server.
        passwords, signer, authenticator: of signing in.
        pages: the templates.
        oidc: the provider of single sign-on; None for none.
        uploads: files under way by the id of the user who sends them.
    """

    workspace: Workspace
    settings: ServerSettings
    passwords: Passwords
    signer: Signer
    authenticator: Authenticator
    pages: Environment
    oidc: Any
    uploads: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, workspace: Workspace, settings: ServerSettings) -> "Context":
        passwords = Passwords()
        pages = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return cls(
            workspace=workspace,
            settings=settings,
            passwords=passwords,
            signer=Signer(workspace.people.secret("cookies")),
            authenticator=Authenticator(
                workspace, passwords, settings.login_attempts, 60 * settings.login_minutes
            ),
            pages=pages,
            oidc=_provider(settings),
        )

    @property
    def secure(self) -> bool:
        """Whether people reach the server by https."""
        return (self.settings.public_url or "").startswith("https://")


def _provider(settings: ServerSettings) -> Any:
    """A client of the OpenID Connect provider; it is asked only when somebody signs in by it.

    Raises:
        SettingsError: the client's secret is not in the environment.
    """
    chosen = settings.oidc
    if chosen is None:
        return None
    secret = os.environ.get(chosen.client_secret_variable)
    if not secret:
        raise SettingsError(
            f"the environment variable {chosen.client_secret_variable} is not set",
            where="oidc.client_secret_variable",
            hint="It holds the secret that the provider gave for this server.",
        )
    oauth = OAuth()
    return oauth.register(
        "provider",
        client_id=chosen.client_id,
        client_secret=secret,
        server_metadata_url=f"{chosen.issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )


def context_of(connection: HTTPConnection) -> Context:
    """The context of the server that a request came to."""
    return connection.app.state.context
