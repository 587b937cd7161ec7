"""Uploads: how large, how long, how many at once, what room stays free, and by what name."""

import asyncio
import errno
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import starlette.formparsers
from asgi_helpers import BOUNDARY, Call, House, file_part, run

from backflip.config import ServerSettings
from backflip.web import uploads
from backflip.web.uploads import file_name

PIECE = b"x" * 2**16
GOOD = b'{"prompt": "Hello?", "chosen": "Hello!", "rejected": "No."}'


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(upload_megabytes=1, upload_free_megabytes=1)


def test_an_upload_is_counted_and_leaves_nothing(
    house: House, temporary: Path, spooled: list[Any]
) -> None:
    pieces = itertools.chain(file_part(b"")[:1], itertools.repeat(PIECE))
    call = house.upload(pieces=pieces)
    run(call.send())
    assert call.status == 413
    assert 2**20 < call.read <= 2**20 + 2 * 2**16
    assert [each.closed for each in spooled] == [True]
    assert list(temporary.iterdir()) == []
    good = house.upload(pieces=file_part(GOOD))
    run(good.send())
    assert good.status == 200, good.body
    assert all(each.closed for each in spooled)
    assert list(temporary.iterdir()) == []


def test_a_form_without_its_file_is_refused(house: House) -> None:
    for part in ("file", "other"):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"\r\n\r\nx'
        call = house.upload(pieces=[head.encode(), file_part(b"")[2]])
        run(call.send())
        assert call.status == 422


@pytest.mark.parametrize("settings", [ServerSettings(upload_minutes=0.005)])
def test_an_upload_that_is_slow_ends(house: House, temporary: Path) -> None:
    pieces = itertools.chain(file_part(b"")[:1], itertools.repeat(b"x"))
    call = house.upload(pieces=pieces, pause=0.02)
    run(call.send())
    assert call.status == 408
    assert "0.3 seconds" in call.body.decode()
    assert 0 < call.read < 300
    assert list(temporary.iterdir()) == []
    assert house.app.state.context.uploads.total() == 0


@pytest.mark.parametrize("settings", [ServerSettings(uploads_at_once=2)])
def test_a_user_sends_only_so_many_at_once(house: House) -> None:
    """The third is refused unread while two are under way; another user's is not; then it may."""

    async def together() -> tuple[list[Call], Call, Call, Call]:
        gate = asyncio.Event()

        class Waiting(Call):
            async def _messages(self) -> Any:
                async for message in super()._messages():
                    yield message
                    if not message["body"].endswith(b"--\r\n"):
                        await gate.wait()

        held = [house.upload(pieces=file_part(GOOD)) for _ in range(2)]
        held = [Waiting(house.app, c.method, c.path, c.headers, c.pieces) for c in held]
        tasks = [asyncio.create_task(each.send()) for each in held]
        while house.app.state.context.uploads.total() < 2:
            await asyncio.sleep(0.01)
        third = await house.upload(pieces=file_part(GOOD)).send()
        other = await house.upload("second", pieces=file_part(GOOD)).send()
        gate.set()
        await asyncio.gather(*tasks)
        return held, third, other, await house.upload(pieces=file_part(GOOD)).send()

    user = house.workspace.people.add("second")
    house.workspace.projects.set_role(house.project, user.id, "lead")
    key, session = house.workspace.people.start_session(user.id, 60)
    cookie = f"backflip={house.signer.sign(key)}"
    house.headers["second"] = {"cookie": cookie, "x-csrf-token": session.csrf}
    held, third, other, after = run(together())
    assert [each.status for each in held] == [200, 200]
    assert (third.status, third.read) == (429, 0)
    assert (other.status, after.status) == (200, 200)
    assert house.app.state.context.uploads.total() == 0


@pytest.mark.parametrize("settings", [ServerSettings(upload_free_megabytes=100)])
def test_room_that_must_stay_free_stays(
    house: House, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {str(temporary): 200 * 2**20, str(house.workspace.root): 2**40}
    asked: list[str] = []

    def usage(folder: Any) -> Any:
        asked.append(str(folder))
        return SimpleNamespace(free=free[str(folder)])

    monkeypatch.setattr(uploads.shutil, "disk_usage", usage)
    call = house.upload(pieces=itertools.repeat(PIECE))
    call.headers["content-length"] = str(51 * 2**20)  # it would lie there twice
    run(call.send())
    assert (call.status, call.read) == (507, 0)
    free[str(house.workspace.root)] = 99 * 2**20
    call = house.upload(pieces=file_part(GOOD))
    run(call.send())
    assert (call.status, call.read) == (507, 0)
    free[str(house.workspace.root)] = 2**40

    def shrinking() -> Iterator[bytes]:
        yield file_part(b"")[0]
        for _ in range(100):
            free[str(temporary)] -= 10 * 2**20
            yield b"x" * 2**16

    call = house.upload(pieces=shrinking())
    run(call.send())
    assert call.status == 507
    assert call.read < 13 * 2**16
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("where", ["write", "open"])
def test_a_full_disk_is_told(
    house: House, temporary: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "kein Platz")

    if where == "open":
        monkeypatch.setattr(Path, "open", full)
    else:
        monkeypatch.setattr(starlette.formparsers.UploadFile, "write", full)
    call = house.upload(pieces=file_part(GOOD))
    run(call.send())
    assert call.status == 507
    assert "no room" in call.body.decode()
    assert list(temporary.iterdir()) == []


def test_whoever_leaves_in_the_middle_leaves_nothing(house: House, temporary: Path) -> None:
    class Leaving(Call):
        async def _messages(self) -> Any:
            yield {"type": "http.request", "body": file_part(b"")[0], "more_body": True}
            yield {"type": "http.disconnect"}

    call = house.upload()
    call = Leaving(house.app, call.method, call.path, call.headers)
    run(call.send())
    assert call.status == 400
    assert list(temporary.iterdir()) == []
    assert house.app.state.context.uploads.total() == 0


@pytest.mark.parametrize(
    ("sent_name", "kept"),
    [
        ("votes.jsonl", "votes.jsonl"),
        ("../../votes.jsonl", "votes.jsonl"),
        ("語" * 150 + ".jsonl", "語" * 64 + ".jsonl"),
        ("🙂" * 150 + ".jsonl", "🙂" * 48 + ".jsonl"),
        ("", "upload.jsonl"),
        (".", "upload.jsonl"),
        ("..", "upload.jsonl"),
        ("a/", "a"),
        ("a\x00\u202eb.json", "ab.json"),
        ("\ud800.json", ".json"),
        ("x" * 1000 + ".parquet", "x" * 192 + ".parquet"),
    ],
)
def test_a_file_gets_a_name_that_it_can_have(tmp_path: Path, sent_name: str, kept: str) -> None:
    assert file_name(sent_name) == kept
    (tmp_path / file_name(sent_name)).write_bytes(b"")


@pytest.mark.parametrize("name", ["語" * 150 + ".jsonl", "..", "\x00" * 10])
def test_an_upload_by_any_name_is_taken(house: House, name: str) -> None:
    call = house.upload(pieces=file_part(GOOD, name))
    run(call.send())
    assert call.status == 200, call.body
