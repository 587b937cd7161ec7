"""Damage at random, each by a seed: the same seed damages the same."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

DAMAGES = ("bit", "cut", "empty", "gone", "other", "text", "folder", "row", "value")


def flip(data: bytes, draw: random.Random) -> bytes:
    """The same with another bit: of a byte that says something, where there is one."""
    places = [n for n, byte in enumerate(data) if byte] or [0]
    place = draw.choice(places)
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def damage(root: Path, draw: random.Random) -> tuple[str, Path]:
    """Damage one file of a workspace, or one row; returns how, and which file."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    file, kind = draw.choice(files), draw.choice(DAMAGES)
    if kind in ("row", "value"):
        file = root / "backflip.db"
        damage_row(file, draw, change=kind == "value")
        return kind, file
    data = file.read_bytes()
    if kind in ("gone", "folder"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
        return kind, file
    made = {
        "bit": lambda: flip(data, draw),
        "cut": lambda: data[: draw.randrange(len(data))],
        "empty": lambda: b"",
        "other": lambda: draw.choice([each for each in files if each != file]).read_bytes(),
        "text": lambda: b"something else\n",
    }
    file.write_bytes(made[kind]())
    return kind, file


def damage_row(database: Path, draw: random.Random, *, change: bool) -> None:
    """Take a row of a table away, or change one of its texts, past all keys and triggers."""
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        rows = sa.column("rowid", sa.Integer)
        held = {
            name: connection.execute(sa.select(rows).select_from(table)).scalars().all()
            for name, table in sorted(found.tables.items())
        }
        guards = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        guarding = connection.exec_driver_sql(guards).all()
        for guard in guarding:
            connection.exec_driver_sql(f'DROP TRIGGER "{guard.name}"')
        table = found.tables[draw.choice([name for name in held if held[name]])]
        this = rows == draw.choice(held[table.name])
        texts = [column for column in table.columns if isinstance(column.type, sa.String)]
        if change and texts:
            connection.execute(sa.update(table).where(this).values({draw.choice(texts): "odd"}))
        else:
            connection.execute(sa.delete(table).where(this))
        for guard in guarding:
            connection.exec_driver_sql(guard.sql)
    engine.dispose()
    for left in database.parent.glob("backflip.db-*"):
        left.unlink()


def state_of(root: Path) -> dict[str, Any]:
    """All that a workspace holds: rows as the database tells them, and files."""
    found: dict[str, Any] = {
        str(path.relative_to(root)): path.read_bytes().strip()  # no file needs its last line end
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("backflip.db")
    }
    try:
        opened = sqlite3.connect(f"file:{root / 'backflip.db'}?mode=ro&immutable=1", uri=True)
        opened.text_factory = bytes
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
        names = [name.decode() for (name,) in opened.execute(tables)]
        for name in names:
            found[name] = opened.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608
        opened.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        found["error"] = str(error)
    return found
