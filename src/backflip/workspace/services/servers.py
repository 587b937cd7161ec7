"""Which servers of the workspace are up, so that who waits for people can say where to answer."""

import time

import sqlalchemy as sa

from backflip.workspace.database import schema
from backflip.workspace.database.engine import Database, insert

ALIVE_SECONDS = 30.0
_servers = schema.servers


class Servers:
    """Addresses of servers, each with the time it was last seen.

    Args:
        database: of the workspace.
        alive_seconds: after which a server that says nothing counts as gone.
    """

    def __init__(self, database: Database, alive_seconds: float = ALIVE_SECONDS):
        self._database = database
        self.alive_seconds = alive_seconds
        self.clock = time.time

    def note(self, address: str) -> None:
        """Say that a server is up; to be said again and again."""
        row = {"address": address, "beat": self.clock()}
        with self._database.write("people") as connection:
            statement = insert(connection, _servers).on_conflict_do_update(
                index_elements=["address"], set_={"beat": row["beat"]}
            )
            connection.execute(statement, row)

    def end(self, address: str) -> None:
        """Say that a server has ended."""
        with self._database.write("people") as connection:
            connection.execute(sa.delete(_servers).where(_servers.c.address == address))

    def alive(self) -> list[str]:
        """Addresses of the servers that are up."""
        query = sa.select(_servers.c.address).order_by(_servers.c.address)
        since = self.clock() - self.alive_seconds
        with self._database.read() as connection:
            return list(connection.execute(query.where(_servers.c.beat > since)).scalars())
