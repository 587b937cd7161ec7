"""Backups that anybody may have made: told in words, in little memory, and nothing is left."""

import gzip
import io
import json
import random
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Members, files_in, forge, live, named, pack, put, seal, unpack
from fuzz_helpers import flip

from backflip.errors import WorkspaceError
from backflip.workspace import Workspace
from backflip.workspace.doctor.diagnosis import diagnose
from backflip.workspace.transfer import backup
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.bounds import BOUNDS, read_json
from backflip.workspace.transfer.reading import check_backup
from backflip.workspace.transfer.restore import restore_backup
from fuzzing import seeds

MEGABYTE = 1 << 20
TIGHT = BOUNDS.model_copy(
    update={"spare": MEGABYTE, "line": 2 * MEGABYTE, "members": 500, "names": MEGABYTE // 8}
)
NAMES = (
    *("artifacts/../x", "/artifacts/x", "artifacts/" + "a" * 300, "artifacts/" + "d/" * 40 + "x"),
    *("artifacts/" + "d/" * 2000 + "x", "artifacts/\x7f\n", "artifacts//x", "artifacts/./x", ""),
    *("tables/journal/000001.jsonl", "backup.json", "manifest.json", "workspace.json", "artifacts"),
    *("artifacts/models", "artifacts/e\u0301", "artifacts/\u202e", "artifacts/x\\..\\..\\y", ".."),
)
KINDS = (*tarfile.SUPPORTED_TYPES, b"Z", b"L", b"K", b"x", b"g", b"V")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small project."""
    folder = tmp_path_factory.mktemp("kept")
    with Workspace.create(folder / "workspace") as workspace:
        live(workspace)
        put(workspace.artifacts / "reports" / "run.html")
        write_backup(workspace, folder / "all.tar")
    return folder / "all.tar"


def mutate(kept: Path, target: Path, draw: random.Random) -> Path:
    """A backup that is changed at random, and in part says that all is well."""

    def behind(change: Callable[[Members, random.Random], Members]) -> Callable[[Members], Members]:
        """The change of all but the heading, which the manifest repeats."""
        return lambda members: [members[0], *change(members[1:], draw)]

    changes: list[Callable[[], Path]] = [
        lambda: _raw(target, flip(kept.read_bytes(), draw)),
        lambda: _raw(target, kept.read_bytes()[: draw.randrange(kept.stat().st_size)]),
        lambda: _raw(target, flip(gzip.compress(kept.read_bytes(), 1), draw)),
        lambda: _raw(target, draw.randbytes(draw.choice((3, 511, 512, 5000)))),
        lambda: forge(_raw(target, kept.read_bytes()), behind(_members)),
        lambda: pack(target, _sized(_members(unpack(kept), draw))),
        lambda: pack(target, _sized(_in_json(unpack(kept), draw))),
        lambda: forge(_raw(target, kept.read_bytes()), behind(_in_json)),
    ]
    return draw.choice(changes)()


def _raw(target: Path, data: bytes) -> Path:
    target.write_bytes(data)
    return target


def _sized(members: Members) -> Members:
    for entry, data in members:
        entry.size = len(data)
    return members


def _members(members: Members, draw: random.Random) -> Members:
    """One more, one less, one twice, others in their place, or of another kind."""
    place = draw.randrange(len(members))
    entry, data = members[place]
    odd = named(draw.choice(NAMES), draw.choice((b"", b"x", bytes(3000))))
    odd[0].type = draw.choice((tarfile.REGTYPE, draw.choice(KINDS)))
    odd[0].linkname = draw.choice(("", "/etc/passwd", "../../x", "artifacts/models"))
    return draw.choice(
        [
            [*members[:place], odd, *members[place:]],
            [*members[:place], *members[place + 1 :]],
            [*members[:place], (entry, data), *members[place:]],
            draw.sample(members, len(members)),
            [*members[:place], (entry, b""), *members[place + 1 :]],
        ]
    )


def _in_json(members: Members, draw: random.Random) -> Members:
    """Another value somewhere in the JSON of a member."""
    spoken = [n for n, (entry, _) in enumerate(members) if "artifacts/" not in entry.name]
    place = draw.choice(spoken)
    entry, data = members[place]
    lines = data.splitlines() or [b"{}"]
    number = draw.randrange(len(lines))
    if entry.name.startswith("tables/"):
        value = json.loads(lines[number])
        value[draw.choice(sorted(value))] = draw.choice(
            [None, 7, -1.5, True, "odd", [], {}, 2**70, "9" * 5000, [[[]]], "\x00", "\ud800"]
        )
        lines[number] = json.dumps(value).encode()
    else:
        lines[number] = draw.choice([b"", b"{", b"[" * 3000, b"null", b'"x"', lines[number] * 2])
    changed = b"\n".join(lines) + b"\n"
    entry.size = len(changed)
    return [*members[:place], (entry, changed), *members[place + 1 :]]


def test_any_backup_is_restored_or_refused_in_words(kept: Path, tmp_path: Path) -> None:
    """By the seed: only the new workspace is made, or nothing at all."""
    refused = 0
    for seed in seeds(40):
        file = mutate(kept, tmp_path / "try.tar", random.Random(seed))
        before = files_in(tmp_path)
        try:
            restore_backup(file, tmp_path / "far" / "away" / "new", bounds=TIGHT)
        except WorkspaceError as error:
            refused += 1
            assert str(error).startswith(str(tmp_path)), seed
            assert files_in(tmp_path) == before, seed
            assert not (tmp_path / "far").exists(), seed
        else:
            Workspace.open(tmp_path / "far" / "away" / "new").close()
            made = set(files_in(tmp_path)) - set(before)
            assert {name for name in made if not name.startswith("far/away/new/")} == set(), seed

            shutil.rmtree(tmp_path / "far")
        for left in tmp_path.glob("*.tar"):
            left.unlink()
    assert refused > 20


def zeros(members: Members, place: int, size: int) -> Members:
    """A member of so many zeros in front of another."""
    return [*members[:place], named("artifacts/zeros", bytes(size)), *members[place:]]


def packed(file: Path) -> Path:
    target = file.with_suffix(".tar.gz")
    target.write_bytes(gzip.compress(file.read_bytes(), 1))
    return target


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Of a member that says it is so large."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.USTAR_FORMAT)


SIZE = 24 * MEGABYTE
BOMBS: dict[str, tuple[Callable[[Members], bytes], str]] = {
    "a heading": (lambda _: header("backup.json", SIZE) + bytes(SIZE), "damaged at backup.json"),
    "a row": (
        lambda m: _tar(m[:1]) + header("tables/journal/000001.jsonl", SIZE) + bytes(SIZE),
        "a row that does not end",
    ),
    "a manifest": (
        lambda m: _tar(m[:3]) + header("manifest.json", SIZE) + bytes(SIZE),
        "damaged at manifest.json",
    ),
    "a name": (
        lambda m: _tar(m[:1]) + header("x", SIZE, tarfile.XHDTYPE) + bytes(SIZE),
        "damaged after backup.json",
    ),
    "a name of another kind": (
        lambda m: _tar(m[:1]) + header("x", SIZE, tarfile.GNUTYPE_LONGNAME) + bytes(SIZE),
        "no place in a backup",
    ),
    "a first name": (
        lambda _: header("x", SIZE, tarfile.XHDTYPE) + bytes(SIZE),
        "is not a backup",
    ),
    "headers before headers": (
        lambda m: _tar(m[:1]) + header("x", 0, tarfile.XHDTYPE) * 2_000,
        "damaged after backup.json",
    ),
    "holes": (
        lambda m: _tar(m[:1]) + header("artifacts/x", SIZE, tarfile.GNUTYPE_SPARSE) + bytes(SIZE),
        "no place in a backup",
    ),
    "members": (
        lambda m: (
            _tar(m[:1]) + b"".join(header(f"artifacts/{n}", 0) for n in range(TIGHT.members + 1))
        ),
        "holds more than 500 files",
    ),
    "an artifact": (
        lambda m: _tar(m[:1]) + header("artifacts/x", SIZE) + bytes(SIZE),
        "unpacks to more than",
    ),
}


def _tar(members: Members) -> bytes:
    """Members without what closes a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, data in members:
            tar.addfile(entry, io.BytesIO(data))
        end = made.tell()
    return made.getvalue()[:end]


@pytest.mark.parametrize("name", BOMBS)
def test_little_that_claims_much_takes_little_memory(kept: Path, tmp_path: Path, name: str) -> None:
    make, words = BOMBS[name]
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(make(unpack(kept)), 1))
    tracemalloc.start()
    try:
        with pytest.raises(WorkspaceError, match=words):
            restore_backup(tmp_path / "bomb.tar.gz", tmp_path / "new", bounds=TIGHT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * MEGABYTE
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.tar.gz"]


def many_values(table: str, row: bytes) -> Callable[[Members], Members]:
    """A first row of a table, which is a megabyte, instead of its rows."""

    def change(members: Members) -> Members:
        place = next(n for n, (m, _) in enumerate(members) if m.name.startswith(f"tables/{table}/"))
        return [*members[:place], (members[place][0], row + b"\n"), *members[place + 1 :]]

    return change


def long_names(members: Members) -> Members:
    return [*members, *(named("artifacts/" + "/".join([f"{n:0200}"] * 4)) for n in range(400))]


DICTS = b"{}," * (MEGABYTE // 3)
SEALED: dict[str, tuple[Callable[[Members], Members], str]] = {
    "a row of lists": (many_values("prompts", b"[" + DICTS + b"{}]"), "too many values"),
    "a row of texts": (many_values("prompts", b"[" + b'"",' * 300_000 + b"0]"), "too many values"),
    "a row of UTF-16": (
        many_values("runs", ("[" + "{}," * 150_000 + "{}]").encode("utf-16-le")),
        "no ASCII",
    ),
    "a workspace's name": (
        many_values("secrets", b'{"name":"workspace","value":"[' + DICTS + b'{}]"}'),
        "calls the workspace is no name",
    ),
    "names": (long_names, "names of more than"),
}


@pytest.mark.parametrize("name", SEALED)
def test_a_sealed_backup_of_many_values_takes_little_memory(
    kept: Path, tmp_path: Path, name: str
) -> None:
    """Its manifest says that all is well, so that only the values themselves can be refused."""
    change, words = SEALED[name]
    file = packed(forge(_raw(tmp_path / "a.tar", kept.read_bytes()), change))
    tracemalloc.start()
    try:
        with pytest.raises(WorkspaceError, match=words):
            restore_backup(file, tmp_path / "new", bounds=TIGHT.trusting())
        if name != "names":
            with suppress(WorkspaceError):  # it may be called another workspace's
                diagnose(kept.parent / "workspace", file, bounds=TIGHT.trusting())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * MEGABYTE


def test_a_manifest_is_as_long_as_its_members_make_it(kept: Path, tmp_path: Path) -> None:
    """One that is padded would be read all the same, at many times its size."""
    many = [named(f"artifacts/{n:0200}") for n in range(300)]
    file = forge(_raw(tmp_path / "a.tar", kept.read_bytes()), lambda members: [*members, *many])
    check_backup(file, bounds=TIGHT)
    *members, (_, manifest) = unpack(file)
    for padded in (manifest + b" " * 200_000, seal([{}] * 100_000)):
        with pytest.raises(WorkspaceError, match=r"damaged at manifest\.json"):
            check_backup(pack(file, [*members, named("manifest.json", padded)]), bounds=TIGHT)


def drawn(draw: random.Random, depth: int) -> tuple[Any, int]:
    """A value, and how many signs stand between the strings of its JSON."""
    if depth == 0 or draw.random() < 0.3:
        text = "".join(draw.choices('\\",:[{}]aé\n\x00🙂', k=draw.randrange(8)))
        return draw.choice([text, text + "\\", 1.5, None, True, -3]), 0
    made = [drawn(draw, depth - 1) for _ in range(draw.randrange(4))]
    values, signs = [value for value, _ in made], sum(number for _, number in made)
    if draw.random() < 0.5:
        return values, signs + max(1, len(values))
    keys = [f"{n}{draw.choice(['', chr(92), chr(34), ':,[{'])}" for n in range(len(values))]
    return dict(zip(keys, values, strict=True)), signs + max(1, 2 * len(values))


def test_values_are_counted_before_they_are_read() -> None:
    """Whatever stands in their texts: JSON of so many signs is read, and of one more is not."""
    for seed in range(300):
        value, signs = drawn(random.Random(seed), 4)
        data = json.dumps(value).encode()
        assert read_json(data, signs) == value, seed
        if signs:
            with pytest.raises(ValueError, match="too many values"):
                read_json(data, signs - 1)
    for odd in (b'"\xe9"', "[]".encode("utf-16"), "[]".encode("utf-32-le"), b"[" * 3, b'"', b""):
        with pytest.raises(ValueError, match=r"."):
            read_json(odd, 10)


def test_a_backup_of_ones_own_may_be_trusted(kept: Path, tmp_path: Path) -> None:
    """Files of zeros pack as well as no others: the bound can be lifted, and is named."""
    file = packed(forge(_raw(tmp_path / "a.tar", kept.read_bytes()), lambda m: zeros(m, -1, SIZE)))
    with pytest.raises(WorkspaceError, match="unpacks to more than") as caught:
        check_backup(file, bounds=TIGHT)
    assert "--trust" in str(caught.value)
    restore_backup(file, tmp_path / "new", bounds=TIGHT.trusting())
    assert (tmp_path / "new" / "artifacts" / "zeros").stat().st_size == SIZE


def test_so_much_of_the_disk_stays_free(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_: Any) -> Any:
        return type("usage", (), {"free": BOUNDS.free + 100})

    monkeypatch.setattr("shutil.disk_usage", usage)
    with pytest.raises(WorkspaceError, match=r"must stay so") as caught:
        restore_backup(kept, tmp_path / "new")
    assert "free space" in str(caught.value)
    assert not list(tmp_path.iterdir())
    check_backup(kept)


def test_a_backup_that_could_not_be_restored_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.create(tmp_path / "work") as workspace:
        monkeypatch.setattr(backup, "BOUNDS", BOUNDS.model_copy(update={"names": 40}))
        with pytest.raises(WorkspaceError, match="names of more than"):
            write_backup(workspace, tmp_path / "b.tar")
        monkeypatch.undo()
        put(workspace.artifacts / "reports" / "/".join("d" * 40) / "x")
        with pytest.raises(WorkspaceError, match="too long, or lies too deep"):
            write_backup(workspace, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_nothing_stays_in_a_database_whose_workspace_was_not_made(
    kept: Path, tmp_path: Path, database_address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows were written before the files could not be put in their place."""
    from backflip.workspace.transfer import restore

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(restore, "_put_in_place", refuse)
        with pytest.raises(WorkspaceError, match="the disk is full"):
            restore_backup(kept, tmp_path / "new", database_address)
    assert not (tmp_path / "new").exists()
    restore_backup(kept, tmp_path / "new", database_address)
