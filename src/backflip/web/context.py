"""What every request may use: the workspace and the few things that are made once."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import HTTPConnection

from backflip.config import ServerSettings
from backflip.feedback.store import Workspace
from backflip.web.security import Door, Passwords, Signer

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Context:
    """Made once for a server.

    Attributes:
        workspace: that is served.
        settings: of the server.
        passwords, signer, door: of signing in.
        pages: the templates.
    """

    workspace: Workspace
    settings: ServerSettings
    passwords: Passwords
    signer: Signer
    door: Door
    pages: Environment

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
            door=Door(workspace, passwords, settings.login_attempts, 60 * settings.login_minutes),
            pages=pages,
        )

    @property
    def secure(self) -> bool:
        """Whether people reach the server by https."""
        return (self.settings.public_url or "").startswith("https://")


def context_of(connection: HTTPConnection) -> Context:
    """The context of the server that a request came to."""
    return connection.app.state.context
