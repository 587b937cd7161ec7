"""Addresses of databases: any is used or refused in words, and no password is told."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from backflip.errors import WorkspaceError, without_passwords
from backflip.workspace import Workspace
from backflip.workspace.database.addresses import postgresql_url
from backflip.workspace.doctor.diagnosis import diagnose
from fuzzing import seeds

WHOLE = "postgresql://me:QZ@h:5432/db?host=h&port=1&connect_timeout=1"
BAD = (
    *("postgresql://h:54x2/db", "postgresql://[::1/db", "postgresql://h:/db", "postgresql://a:b:c"),
    *("postgresql://h:1,i:2/db", "postgresql://h/db?port=x", "postgresql://h/db?host=a:x&host=b"),
    *("postgresql://me:top@QZ@h/db", "postgresql://me:QZ@QZ@h:x/db", "postgresql://h/\ud800", "//"),
    *(
        "postgresql://h/db?QZ=1",
        "postgresql://h/db?prepare_threshold=x",
        "postgresql://h/db?a%00=b",
    ),
)


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg reads what it is given as ever, and looks for no server."""
    psycopg = pytest.importorskip("psycopg")

    def connect(told: str = "", *, context: Any, **options: Any) -> None:
        psycopg.conninfo.make_conninfo(told, **options)
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.setattr(psycopg.Connection, "connect", connect)


def refused(folder: Path, address: str) -> str:
    with pytest.raises(WorkspaceError) as caught:
        Workspace.create(folder, address)
    return str(caught.value)


@pytest.mark.parametrize("address", BAD)
def test_an_address_that_is_none_is_refused_wherever_it_stands(
    tmp_path: Path, address: str
) -> None:
    told = refused(tmp_path / "new", address)
    assert "the database address cannot be read" in told
    assert "QZ" not in told
    Workspace.create(tmp_path / "old").close()
    marker = tmp_path / "old" / "workspace.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"database": address}))
    with pytest.raises(WorkspaceError, match="the database address cannot be read"):
        Workspace.open(tmp_path / "old")
    found = diagnose(tmp_path / "old").findings[0]
    assert found.where == str(marker)
    assert found.what.startswith("the database address cannot be read")


def test_any_address_is_used_or_refused_in_words(tmp_path: Path) -> None:
    for seed in seeds(300):
        draw = random.Random(seed)
        letters = list(WHOLE)
        for _ in range(draw.randrange(1, 4)):
            place = draw.randrange(len("postgresql://me:"), len(letters))
            change = draw.choice([lambda sign: [], lambda sign: [sign], lambda sign: [sign, "@"]])
            letters[place : place + 1] = change(draw.choice("@:/?&=[]%#,x9 \ud800\x00\n\u0663"))
        address = "".join(letters)
        told = refused(tmp_path / "new", address)
        assert "QZ" not in told, (seed, address, told)


def test_a_password_among_the_options_is_not_told(tmp_path: Path) -> None:
    told = refused(tmp_path / "new", "postgresql://me@h/db?password=QZ")
    assert "me@h/db: the database cannot be used" in told
    assert "QZ" not in told


def test_a_password_with_its_signs_written_out_is_taken() -> None:
    url = postgresql_url("postgresql://me@org:a%40b%2Fc@[::1]:5/db")
    assert (url.username, url.password, url.host, url.port) == ("me@org", "a@b/c", "::1", 5)


@pytest.mark.parametrize(
    "secret", ["QZ", "QZ@QZ", "QZ/QZ", "Q Z", "QZ'QZ", 'QZ"', "QZ:QZ", "@QZ/@"]
)
def test_no_part_of_a_password_is_told(secret: str) -> None:
    for address in (f"postgresql://me:{secret}@h:5/db", f"https://{secret}@h/v1", f"//{secret}@h"):
        told = without_passwords(f"trouble with '{address}', it says\nmore")
        assert "Q" not in told
        assert "trouble with '" in told
        assert "@h" in told
        assert told.endswith("it says\nmore")
    for address in ("postgresql://h/db?x=1&password=QZ", "https://h/v1?API_key=QZ&more"):
        assert "QZ" not in without_passwords(address)
    assert without_passwords("https://h/v1?a=b 3 // 4") == "https://h/v1?a=b 3 // 4"
