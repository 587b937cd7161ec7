"""A disk without room is told in words by everything that writes, and leaves nothing half-written.

The refusals are real: a process of its own may write files of a few bytes only.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_finding_models import write_gguf

from backflip.config import ScratchSettings
from backflip.errors import ModelError
from backflip.files.folders import new_folder
from backflip.models import make_model

WRITES = ("policy", "policy again", "scratch", "agent", "gguf", "report")


@pytest.fixture(scope="module")
def attempts(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("full")
    model = make_model(ScratchSettings(width=32, layers=1, heads=4), tokenizer, 1)
    write_gguf(folder / "tiny.gguf", model, tokenizer)
    (folder / "root").mkdir()
    worker = Path(__file__).with_name("full_disk_worker.py")
    done = subprocess.run(
        [sys.executable, worker, folder / "root", folder / "tiny.gguf"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", WRITES)
def test_a_full_disk_is_told_and_leaves_all_as_it_was(attempts, name):
    assert len(attempts[name]) == 4
    for attempt in attempts[name]:
        assert attempt["told"] is not None, attempt
        kind, what, where, hint = attempt["told"]
        assert kind == ("WorkspaceError" if name == "report" else "ModelError"), attempt
        assert what == "cannot be written: File too large"
        assert "free space" in hint
        assert where
        assert not attempt["left"], attempt


def test_a_disk_without_room_is_called_full(tmp_path, monkeypatch):
    def no_room(_descriptor):
        raise OSError(28, "No space left on device")

    with new_folder(tmp_path / "old", replace=True) as draft:
        (draft / "file").write_text("what was there")
    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(ModelError) as told, new_folder(tmp_path / "old", replace=True) as draft:
        (draft / "file").write_text("new")
    assert told.value.what == "cannot be written, the disk is full: No space left on device"
    assert told.value.where == str(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "file").read_text() == "what was there"


@pytest.mark.parametrize("fault", [RuntimeError("IoError { kind: StorageFull }"), ValueError("?")])
def test_a_full_disk_is_told_whatever_a_writer_makes_of_it(tmp_path, monkeypatch, fault):
    """The disk itself is asked: libraries change how they spell what the system told them."""

    def no_room(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(ModelError) as told, new_folder(tmp_path / "new", replace=True):
        raise fault
    assert told.value.what == "cannot be written, the disk is full: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [ValueError("x (os error 28)"), Exception("not of the system")])
def test_another_fault_is_not_called_the_disks(tmp_path, fault):
    with pytest.raises(type(fault)) as told, new_folder(tmp_path / "new", replace=True):
        raise fault
    assert told.value is fault
    assert list(tmp_path.iterdir()) == []


def test_names_are_on_the_disk_before_the_old_folder_goes(tmp_path, monkeypatch):
    """A power cut after the old weights are gone must find the new ones under their name."""
    folders: dict[int, str] = {}
    order: list[str] = []
    opened, flushed, removed = os.open, os.fsync, shutil.rmtree

    def open_(path, *rest, **more):
        descriptor = opened(path, *rest, **more)
        folders[descriptor] = str(path)
        return descriptor

    def fsync(descriptor):
        order.append(f"flush {folders.get(descriptor, 'file')}")
        flushed(descriptor)

    def rmtree(path, **options):
        order.append(f"remove {path}")
        removed(path, **options)

    with new_folder(tmp_path / "model", replace=True) as draft:
        (draft / "weights").write_text("old")
    with new_folder(tmp_path / "model", replace=True) as draft:
        (draft / "weights").write_text("new")
        monkeypatch.setattr("os.open", open_)
        monkeypatch.setattr("os.fsync", fsync)
        monkeypatch.setattr("shutil.rmtree", rmtree)
    monkeypatch.undo()
    assert order[:2] == ["flush file", "flush file"]  # and the manifest
    assert order[2] == f"flush {draft}"
    assert order[3] == f"flush {tmp_path}"
    assert order[4].startswith(f"remove {tmp_path}/.model-")
    assert (tmp_path / "model" / "weights").read_text() == "new"
