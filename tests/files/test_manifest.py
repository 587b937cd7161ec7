"""Folders are held to their manifests."""

import hashlib
import json
from pathlib import Path

import pytest

from backflip.errors import DamageError
from backflip.files.manifest import MANIFEST, faults, require_whole, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "in" / "b.json").write_text("{}")
    seal(tmp_path, step=4)
    return tmp_path


def test_what_is_written_is_sizes_and_sha256(folder: Path):
    found = json.loads((folder / MANIFEST).read_text())["content"]
    # The test vector of FIPS 180-2, appendix B.1.
    assert found["files"]["a.bin"] == {
        "size": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert list(found["files"]) == ["a.bin", "in/b.json"]
    assert require_whole(folder) == {"step": 4}


def test_a_folder_without_a_manifest_is_held_to_nothing(tmp_path: Path):
    assert require_whole(tmp_path) is None
    assert require_whole(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "a.bin").write_bytes(b"abd"), "a.bin is not what was written"),
        (lambda f: (f / "a.bin").write_bytes(b"abcd"), "a.bin is not what was written"),
        (lambda f: (f / "in" / "b.json").unlink(), "in/b.json is missing"),
        (lambda f: ((f / "a.bin").unlink(), (f / "a.bin").mkdir()), "a.bin is no file"),
        (lambda f: (f / "c.json").touch(), "c.json was not there"),
        (lambda f: (f / MANIFEST).write_text("{}"), f"{MANIFEST} is not what was written"),
        (lambda f: (f / MANIFEST).write_text("[" * 10**5), f"{MANIFEST} is not what was written"),
        (lambda f: (f / MANIFEST).write_bytes(b"\xff"), f"{MANIFEST} is not what was written"),
        (lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), f"{MANIFEST} is no file"),
        (
            lambda f: (f / MANIFEST).write_text(
                (f / MANIFEST).read_text().replace('"step": 4', '"step": 5')
            ),
            f"{MANIFEST} is not what was written",
        ),
    ],
)
def test_a_change_is_seen_and_named_and_so_is_its_end(folder: Path, change, told: str):
    assert require_whole(folder) == {"step": 4}
    change(folder)
    for _ in range(2):
        with pytest.raises(DamageError, match=told) as caught:
            require_whole(folder)
    assert caught.value.where == str(folder)
    assert MANIFEST in str(caught.value.hint)


@pytest.mark.parametrize(
    "content",
    [
        *(None, [], "files", 7, {}, {"files": None, "about": {}}, {"files": [], "about": {}}),
        *({"files": {}}, {"files": {}, "about": None}, {"files": "a.bin", "about": {}}),
        *({"about": {"step": 4}}, {"files": {}, "about": []}),
    ],
)
def test_a_manifest_of_another_shape_is_damaged_whatever_its_hash(folder: Path, content: object):
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"content": content, "sha256": digest}))
    with pytest.raises(DamageError, match=f"{MANIFEST} is not what was written"):
        require_whole(folder)
    assert list(faults(folder)) == [(MANIFEST, "is not what was written")]


@pytest.mark.parametrize("noted", [None, [], 3, "x", {}, {"size": None}])
def test_a_file_of_which_another_thing_is_noted_is_another(folder: Path, noted: object):
    content = {"files": {"a.bin": noted, "../x\0": noted, "": noted}, "about": {}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({"content": content, "sha256": digest}))
    with pytest.raises(DamageError, match=r"a\.bin is not what was written"):
        require_whole(folder)
    assert ("a.bin", "is not what was written") in list(faults(folder))


def test_notes_and_hidden_files_may_be_added(folder: Path):
    (folder / "README.md").touch()
    (folder / ".DS_Store").touch()
    assert require_whole(folder) == {"step": 4}


def test_what_did_not_change_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    require_whole(folder)
    with monkeypatch.context() as patch:
        patch.setattr("backflip.files.manifest._of_file", lambda path: pytest.fail("read again"))
        assert require_whole(folder) == {"step": 4}
    (folder / "a.bin").write_bytes(b"abd")
    with pytest.raises(DamageError):
        require_whole(folder)
