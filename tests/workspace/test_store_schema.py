"""Opening, migrating and refusing: what a user meets when a workspace is not as it should be."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from backflip.errors import WorkspaceError
from backflip.records import Prompt
from backflip.workspace import Workspace
from backflip.workspace.database import migrations, schema
from backflip.workspace.database.addresses import postgresql_url


def differences(workspace: Workspace, metadata: sa.MetaData) -> list[object]:
    with workspace.database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, metadata)


def test_migrations_from_nothing_lead_to_the_tables(
    tmp_path: Path, database_address: str | None
) -> None:
    with Workspace.create(tmp_path / "workspace", database_address) as workspace:
        assert differences(workspace, schema.metadata) == []
        assert workspace.database.revision() == schema.HEAD == migrations.revisions()[-1]


def test_a_forgotten_migration_is_seen(workspace: Workspace) -> None:
    """The comparison above is not blind: it sees a column, its type and its nullability."""
    for column in (
        sa.Column("extra", sa.Text),
        sa.Column("split", sa.Integer, nullable=False),
        sa.Column("split", sa.Text, nullable=True),
    ):
        assert differences(workspace, with_column(column)), column


def with_column(column: sa.Column[object]) -> sa.MetaData:
    """The tables as if somebody had changed `prompts`."""
    changed = sa.MetaData(naming_convention=schema.metadata.naming_convention)
    for table in schema.metadata.tables.values():
        table.to_metadata(changed)
    changed.tables["prompts"].append_column(column, replace_existing=True)
    return changed


def test_a_newer_schema_is_refused_and_left_alone(workspace: Workspace) -> None:
    workspace.prompts.add([Prompt.from_text("a")])
    with workspace.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(WorkspaceError, match="newer Backflip: its schema is 9999") as caught:
        Workspace.open(workspace.root)
    assert "Install the newer Backflip" in str(caught.value)
    assert workspace.database.revision() == "9999"
    assert len(workspace.prompts.all()) == 1


def test_a_newer_marker_is_refused(workspace: Workspace) -> None:
    marker = workspace.root / "workspace.json"
    marker.write_text(json.dumps({"format": 2, "database": None}))
    with pytest.raises(WorkspaceError, match="newer Backflip: its format is 2"):
        Workspace.open(workspace.root)
    marker.write_text("[]")
    with pytest.raises(WorkspaceError, match=r"workspace\.json: cannot be read"):
        Workspace.open(workspace.root)


def test_what_was_written_is_there_when_opened_again(workspace: Workspace) -> None:
    prompt = Prompt.from_text("a")
    workspace.prompts.add([prompt])
    workspace.close()
    with Workspace.open(workspace.root) as again:
        assert again.prompts.all() == [prompt]
        assert again.root == workspace.root
        assert again.artifacts.is_dir()
        assert again.database.is_sqlite == workspace.database.is_sqlite


def test_no_workspace_there(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no workspace here"):
        Workspace.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    Workspace.open(tmp_path / "new", create=True).close()
    Workspace.open(tmp_path / "new").close()
    with pytest.raises(WorkspaceError, match="is a workspace already"):
        Workspace.create(tmp_path / "new")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot be made"):
        Workspace.create(tmp_path / "file" / "workspace")


def test_a_lost_or_broken_database_is_named(tmp_path: Path) -> None:
    Workspace.create(tmp_path / "workspace").close()
    database = tmp_path / "workspace" / "backflip.db"
    database.write_bytes(b"not a database at all" * 100)
    with pytest.raises(WorkspaceError, match=r"backflip\.db: .*not a database"):
        Workspace.open(tmp_path / "workspace")
    database.write_bytes(b"")
    with pytest.raises(WorkspaceError, match="damaged: it is empty") as caught:
        Workspace.open(tmp_path / "workspace")
    assert "backflip doctor" in str(caught.value)
    assert database.read_bytes() == b"", "nothing is made in its place"
    database.unlink()
    with pytest.raises(WorkspaceError, match=r"backflip\.db is missing"):
        Workspace.open(tmp_path / "workspace")


def test_a_workspace_knows_its_own_database(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        Workspace.create(tmp_path / name).close()
    shutil.copytree(tmp_path / "mine", tmp_path / "copy")
    Workspace.open(tmp_path / "copy").close()
    shutil.copy(tmp_path / "other" / "backflip.db", tmp_path / "mine")
    with pytest.raises(WorkspaceError, match="rows of another workspace"):
        Workspace.open(tmp_path / "mine")
    marker = tmp_path / "mine" / "workspace.json"
    told = json.loads(marker.read_text())
    del told["id"]  # as it was before ids were kept
    marker.write_text(json.dumps(told))
    Workspace.open(tmp_path / "mine").close()


def test_a_database_that_lost_a_table_is_called_damaged(workspace: Workspace) -> None:
    with workspace.database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE secrets"))
    with pytest.raises(WorkspaceError, match=r"the database is damaged: .*secrets"):
        Workspace.open(workspace.root)
    with workspace.database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
    with pytest.raises(WorkspaceError, match="the database is damaged: it holds no tables"):
        Workspace.open(workspace.root)


@pytest.mark.parametrize("address", ["mysql://host/db", "sqlite:///x.db", "::", ""])
def test_other_databases_are_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(WorkspaceError, match="database") as caught:
        Workspace.create(tmp_path / "workspace", address)
    assert "postgresql://" in str(caught.value)
    assert not (tmp_path / "workspace" / "workspace.json").exists()


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    address = f"postgresql://mia:secret@/db?host={tmp_path}"
    with pytest.raises(WorkspaceError, match="cannot be used") as caught:
        Workspace.create(tmp_path / "workspace", address)
    assert "mia" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "workspace" / "workspace.json").exists()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_address_is_kept_for_the_owner_only(workspace: Workspace) -> None:
    marker = workspace.root / "workspace.json"
    address = json.loads(marker.read_text())["database"]
    others = 0o666 & ~current_umask() & 0o077 if address is None else 0
    assert marker.stat().st_mode & 0o077 == others
    assert (address is None) == workspace.database.is_sqlite
    if address is not None:
        assert postgresql_url(address) == workspace.database.engine.url


def test_a_database_that_stays_locked_is_said_so(workspace: Workspace) -> None:
    with (
        Workspace.open(workspace.root, timeout=0.05) as other,
        workspace.database.write("prompts"),
        pytest.raises(WorkspaceError, match="stayed locked by another process"),
    ):
        other.prompts.add([Prompt.from_text("a")])
    assert workspace.prompts.add([Prompt.from_text("a")]) == 1


def test_readers_do_not_wait_for_a_writer(workspace: Workspace) -> None:
    with Workspace.open(workspace.root, timeout=0.05) as other, workspace.database.write("prompts"):
        assert other.prompts.all() == []


def test_several_make_a_workspace_at_once(tmp_path: Path, database_address: str | None) -> None:
    """Only one of them makes the tables, and all find the same workspace."""
    folder = tmp_path / "workspace"
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def make_it(number: int) -> None:
        try:
            start.wait()
            try:
                made = Workspace.create(folder, database_address)
            except WorkspaceError as error:
                assert error.what == "is a workspace already"
                made = Workspace.open(folder)
            with made as workspace:
                workspace.prompts.add([Prompt.from_text(str(number))])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make_it, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Workspace.open(folder) as workspace:
        assert sorted(p.text for p in workspace.prompts.all()) == ["0", "1", "2", "3"]
        assert differences(workspace, schema.metadata) == []


def test_a_folder_with_odd_characters(tmp_path: Path) -> None:
    folder = tmp_path / "100% {odd} ?x=1#y é"
    with Workspace.create(folder) as workspace:
        workspace.prompts.add([Prompt.from_text("a")])
    assert os.listdir(folder)  # noqa: PTH208
    with Workspace.open(folder) as workspace:
        assert len(workspace.prompts.all()) == 1
