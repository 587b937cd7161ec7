"""Fixtures for every layer: a workspace on SQLite and on a real PostgreSQL server."""

import importlib.util
import itertools
import os
import runpy
import shutil
import signal
import subprocess
import tempfile
import zlib
from collections.abc import Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from backflip.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A shell that puts pytest in the background has it ignore Ctrl-C, and every program that a test
# starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No stopwatch: a busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

EXTERNAL = "BACKFLIP_TEST_POSTGRESQL"
"""Environment variable: address of a PostgreSQL server to use instead of starting one."""

DATABASES = "BACKFLIP_TEST_DATABASES"
"""Environment variable: "one" for one of the two databases a test, where it is not of the store."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out every other test on one of the databases, by its name, so that it is always it."""
    if os.environ.get(DATABASES, "both") == "both":
        return
    left_out = [item for item in items if _has_twin(item) and not _is_chosen(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Write half characters, which tests try, in words: no process could send them to another."""
    report = yield
    return _in_whole_characters(report)


def _in_whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _in_whole_characters(each) for name, each in value.items()}
    return [*map(_in_whole_characters, value)] if isinstance(value, list | tuple) else value


def _database_of(item: pytest.Item) -> str | None:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("workspace", params.get("database_address"))


def _has_twin(item: pytest.Item) -> bool:
    """Whether a test is there once for each database, and the store itself has tests for both."""
    return _database_of(item) is not None and item.path.parent.name != "workspace"


def _is_chosen(item: pytest.Item) -> bool:
    database = _database_of(item)
    name = item.nodeid.replace(str(database), "")
    return database == ("sqlite", "postgresql")[zlib.crc32(name.encode()) % 2]


class PostgresqlServer:
    """A PostgreSQL server for tests; hands out empty databases."""

    def __init__(self, address: str):
        self._address = address
        self._numbers = itertools.count()

    @cached_property
    def template(self) -> str:
        """Name of a database with the schema in it: a copy is quicker than a migration."""
        address = self.new_database("template0")
        with tempfile.TemporaryDirectory() as folder:
            Workspace.create(folder, address).close()
        return _name(address)

    def new_database(self, template: str) -> str:
        """Make a database, "template0" for an empty one, and return its address."""
        name = f"backflip_{os.getpid()}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        base, _, options = self._address.partition("?")
        return f"{base.rsplit('/', 1)[0]}/{name}?{options}"

    def drop_database(self, address: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._execute(f'DROP DATABASE "{_name(address)}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement)


def _name(address: str) -> str:
    """Name of the database in an address."""
    return address.partition("?")[0].rsplit("/", 1)[1]


def _postgresql_programs() -> Path:
    """Folder of `initdb` and `pg_ctl`: of the package pgserver, else of the system.

    pgserver's own start adds a user and changes permissions on folders above it when run as root,
    so its programs are used and not its Python code.
    """
    found = importlib.util.find_spec("pgserver")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "pginstall" / "bin"
        if (folder / "pg_ctl").exists():
            return folder
    system = shutil.which("pg_ctl")
    if system is None:
        pytest.fail(f"no PostgreSQL server: install pgserver or PostgreSQL, or set {EXTERNAL}")
    return Path(system).resolve().parent


def _as_server(*command: str, folder: Path) -> None:
    """Run a program of PostgreSQL, which refuses to run as root: then as an ordinary user."""
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        user = {"user": folder.owner(), "group": folder.group(), "extra_groups": []}
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if "start" not in command else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if "start" not in command else subprocess.DEVNULL,
        **user,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {(done.stdout or b'').decode()}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL server; its failure to start is a failure and not a skip."""
    if address := os.environ.get(EXTERNAL):
        yield PostgresqlServer(address)
        return
    programs = _postgresql_programs()
    folder = Path(tempfile.mkdtemp(prefix="bf-pg-"))  # short: a socket's path has 107 bytes
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    data = str(folder / "data")
    # Durable against a killed process, which tests do; not against a power cut, which they do not.
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    try:
        _as_server(
            str(programs / "initdb"),
            *("-D", data, "-U", "backflip", "-A", "trust"),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
            folder=folder,
        )
        log = str(folder / "log")
        _as_server(
            str(programs / "pg_ctl"),
            *("-D", data, "-l", log, "-o", options, "-w", "start"),
            folder=folder,
        )
        yield PostgresqlServer(f"postgresql://backflip@/postgres?host={folder}")
        _as_server(
            str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop", folder=folder
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_address(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Address of an empty database: None for SQLite, then one on the PostgreSQL server."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    address = server.new_database("template0")
    yield address
    server.drop_database(address)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty workspace on SQLite, to be copied."""
    folder = tmp_path_factory.mktemp("template") / "workspace"
    Workspace.create(folder).close()
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace, once on each database."""
    folder = tmp_path / "workspace"
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("sqlite_template"), folder)
        with Workspace.open(folder) as made:
            yield made
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    address = server.new_database(server.template)
    with Workspace.create(folder, address) as made:
        yield made
    server.drop_database(address)


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    """One browser a process, for there can be no second one; each test has a profile of its own."""
    from playwright.sync_api import sync_playwright

    finder = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "browser.py"))
    with sync_playwright() as playwright:
        program = finder["find_chromium"](playwright)
        if program is None:
            pytest.fail(f"no Chromium was found. {finder['ADVICE']}")
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()
