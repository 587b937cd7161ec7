"""Files that are damaged at random, as disks, hands and other programs damage them."""

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DAMAGES = (
    "a flipped bit",
    "cut off",
    "emptied",
    "removed",
    "another file",
    "a folder",
    "text",
    "other shapes",
)


def damage(kind: str, path: Path, others: list[Path], rng: random.Random) -> None:
    """Damage a file; `others` are what may come in its place. The content may stay the same."""
    data = path.read_bytes()
    other = rng.choice(others).read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
        (path / "file").write_bytes(data)
    elif kind == "other shapes":
        path.write_bytes(data)
        _reshape(path, rng)
    elif kind != "removed":
        path.write_bytes(
            {
                "a flipped bit": _flipped(data, rng),
                "cut off": data[: rng.randrange(max(len(data), 1))],
                "emptied": b"",
                "another file": other,
                "text": b"It was a dark and stormy night.\n",
            }[kind]
        )


def _flipped(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    # In half of the tries near the beginning, where the headers are.
    place = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 400))
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _reshape(path: Path, rng: random.Random) -> None:
    """Make it a valid file of its format with something else in it."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        name = rng.choice(sorted(tensors))
        tensor = tensors[name]
        tensors[name] = rng.choice(
            [
                torch.cat([tensor.flatten(), tensor.flatten()]),
                tensor.flatten()[:1].clone(),
                tensor.double() if tensor.is_floating_point() else tensor.float(),
                tensor.flatten().unsqueeze(0).clone(),
            ]
        )
        save_file(tensors, path, metadata={"format": "pt"})
    else:
        path.write_text(json.dumps(rng.choice([{}, [], {"content": {}}, 7, None])))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def change_letter(database: Path, tables: Sequence[str], rng: random.Random) -> str:
    """Flip a bit of a letter of a text in one of these tables; returns where, and what it was."""
    with closing(sqlite3.connect(database)) as connection, connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        guarding = guards.fetchall()
        for name, _ in guarding:
            connection.execute(f'DROP TRIGGER "{name}"')
        found: list[tuple[int, str, str]] = []
        table = rng.choice(tables)
        rows = connection.execute(f"SELECT rowid, * FROM {table}")  # noqa: S608
        names = [column[0] for column in rows.description]
        for number, *values in rows:
            texts = zip(names[1:], values, strict=True)
            found += [
                (number, name, text) for name, text in texts if isinstance(text, str) and text
            ]
        number, column, text = rng.choice(found)
        at = rng.randrange(len(text))
        other = text[:at] + chr(ord(text[at]) ^ 1 << rng.randrange(5)) + text[at + 1 :]
        change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"  # noqa: S608
        connection.execute(change, (other, number))
        for _, guard in guarding:
            connection.execute(guard)
    return f"{table} {number} {column} at {at}: {text[:200]}"
