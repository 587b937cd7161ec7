"""The schema's history: one file a revision in `versions/`, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

HERE = Path(__file__).parent


def config() -> Config:
    """Alembic's settings; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    return made


def revisions() -> list[str]:
    """Every revision this program knows, oldest first."""
    script = ScriptDirectory.from_config(config())
    return [entry.revision for entry in script.walk_revisions()][::-1]


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the missing migrations on `connection`, inside its transaction."""
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)
