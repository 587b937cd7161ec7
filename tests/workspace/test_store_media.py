"""Images of a workspace: there before a prompt speaks of them, whole, and gone with its words."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from words_helpers import typed

from backflip.errors import DamageError, NotFoundError, WorkspaceError
from backflip.formats import export_file, import_file
from backflip.records import Completion, ImagePart, Message, Prompt, Sample
from backflip.records.feedback import Demonstration
from backflip.workspace import ModelRecord, Workspace, erase, forget_user
from backflip.workspace.database import schema
from backflip.workspace.doctor.diagnosis import diagnose
from backflip.workspace.transfer.backup import write_backup
from backflip.workspace.transfer.restore import restore_backup
from pictures import TYPES, dialogues, gif, png, shows

CAT, DOG = png(shade=1), gif(shade=2)


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_of(workspace: Workspace, data: bytes) -> Path:
    return workspace.media.path(name_of(data))


def told(workspace: Workspace, backup: Path | None = None) -> list[tuple[str, str]]:
    found = diagnose(workspace.root, backup).findings
    return [(finding.state, Path(finding.where).name) for finding in found]


@settings(
    max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(prompt=dialogues())
def test_a_prompt_comes_back_with_its_images(workspace: Workspace, prompt: Prompt) -> None:
    reply = Sample.of(prompt, Completion(text="Yes."))
    workspace.samples.add([reply])
    found = workspace.samples.get([reply.id])[reply.id]
    assert (found.prompt, found.prompt_id, found.id) == (prompt, prompt.id, reply.id)
    carried = workspace.media.carried(found.prompt)
    assert [image.data for image in carried.images] == [image.data for image in prompt.images]
    assert workspace.samples.add([found]) == 0  # its images are here already
    assert not list(workspace.media.folder.rglob("*.draft"))


def test_an_image_is_kept_once_under_its_hash(workspace: Workspace) -> None:
    for make in TYPES:
        name = workspace.media.add(make())
        assert name == name_of(make())
        before = file_of(workspace, make()).stat().st_ino
        assert workspace.media.add(make()) == name
        assert file_of(workspace, make()).stat().st_ino == before
        assert workspace.media.read(name) == make()


def test_what_is_no_image_is_refused_in_words(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="cannot be kept: it is no PNG"):
        workspace.media.add(b"<svg/>")
    for name in ("../../backflip.db", "0" * 63, "", "A" * 64):
        with pytest.raises(NotFoundError, match="no image"):
            workspace.media.read(name)
    assert not workspace.media.folder.exists()


def test_an_image_that_is_not_here_is_not_spoken_of(workspace: Workspace) -> None:
    prompt = shows(CAT)
    bare = Prompt.model_validate(prompt.model_dump())
    for add in (workspace.prompts.add, lambda p: workspace.samples.add([_reply(p[0])])):
        with pytest.raises(WorkspaceError, match="which is not in the workspace"):
            add([bare])
    assert workspace.prompts.all() == []
    workspace.prompts.add([prompt])
    assert workspace.samples.add([_reply(bare)]) == 1


def test_what_a_prompt_says_of_an_image_is_so(workspace: Workspace) -> None:
    """Pages and models believe the size; a record may have been changed since it was made."""
    workspace.media.add(CAT)
    for lie in ({"width": 9}, {"media_type": "image/gif"}):
        _refuses(workspace, lie)


def _refuses(workspace: Workspace, lie: dict[str, Any]) -> None:
    told_so = shows(CAT).model_dump(mode="json")
    told_so["content"]["messages"][0]["content"][1] |= lie
    with pytest.raises(WorkspaceError, match="of another type or size than it says"):
        workspace.prompts.add([Prompt.model_validate(told_so)])


def test_a_file_by_its_hash_need_be_no_image(workspace: Workspace, tmp_path: Path) -> None:
    """As in a backup that somebody made to have a page of theirs sent by this server."""
    page = b"<html><script>alert(1)</script></html>"
    prompt = shows(CAT)
    workspace.prompts.add([prompt])
    path = file_of(workspace, page)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(page)
    with workspace.database.write() as connection:
        content = json.loads(prompt.content.model_dump_json().replace(name_of(CAT), name_of(page)))
        connection.execute(sa.update(schema.prompts).values(content=content))
    with pytest.raises(DamageError, match="the image is no PNG"):
        workspace.media.read(name_of(page))
    assert ("damaged", name_of(page)) in told(workspace)


def test_a_prompt_that_cannot_be_kept_leaves_no_image(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="NUL"):
        workspace.prompts.add([shows(CAT, text="\0")])
    assert not workspace.media.folder.exists()


def test_a_disk_that_refuses_leaves_nothing_behind(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    for add in (workspace.prompts.add, lambda p: workspace.samples.add([_reply(p[0])])):
        with pytest.raises(WorkspaceError, match="No space left"):
            add([shows(CAT)])
    assert workspace.prompts.all() == []
    assert not [path for path in workspace.media.folder.rglob("*") if path.is_file()]


def test_damage_is_told_and_the_same_image_mends_it(workspace: Workspace, tmp_path: Path) -> None:
    workspace.samples.add([_reply(shows(CAT, DOG))])
    write_backup(workspace, tmp_path / "whole.tar")
    assert told(workspace, tmp_path / "whole.tar") == []
    file_of(workspace, CAT).write_bytes(CAT + b"\0")
    file_of(workspace, DOG).unlink()
    stray = workspace.media.add(png(9, 9))
    (workspace.media.folder / "notes.txt").write_text("mine")
    with pytest.raises(DamageError, match="is not what was written"):
        workspace.media.read(name_of(CAT))
    with pytest.raises(DamageError, match="the image is gone"):
        workspace.media.read(name_of(DOG))
    with pytest.raises(DamageError):
        workspace.media.carried(workspace.prompts.all()[0])
    expected = [
        ("damaged", name_of(CAT)),
        ("lost", name_of(DOG)),
        ("note", stray),
        ("note", "notes.txt"),
    ]
    assert sorted(told(workspace)) == sorted(expected)
    assert sorted(told(workspace, tmp_path / "whole.tar")) == sorted(expected)
    workspace.prompts.add([shows(CAT, DOG)])  # imported once more
    assert [state for state, _ in told(workspace)] == ["note", "note"]


def test_a_backup_carries_images(workspace: Workspace, target: str | None, tmp_path: Path) -> None:
    reply = _reply(shows(CAT, DOG, alt="A cat and a dog"))
    workspace.samples.add([reply])
    write_backup(workspace, tmp_path / "all.tar.gz")
    restore_backup(tmp_path / "all.tar.gz", tmp_path / "new", target)
    with Workspace.open(tmp_path / "new") as restored:
        found = restored.samples.get([reply.id])[reply.id].prompt
        assert [i.data for i in restored.media.carried(found).images] == [CAT, DOG]
        assert told(restored) == []


@pytest.mark.parametrize("way", ["erase", "forget", "killed"])
def test_images_go_with_the_words_that_showed_them(workspace: Workspace, way: str) -> None:
    """No page lets a person say an image yet; whoever writes one some day is forgotten too."""
    user = workspace.people.add("mia")
    workspace.models.register(ModelRecord(id="base", name="base", stage="base", path="base"))
    reply = typed(workspace, user.id, "Look!")
    other = Prompt.from_text("What is that?").model_copy(
        update={"content": shows(DOG).content, "source": "import"}
    )
    workspace.prompts.add([other])
    workspace.media.keep([shows(CAT, DOG)])
    prompts = schema.prompts
    with workspace.database.write() as connection:
        said = shows(CAT, DOG).content.model_dump(mode="json")
        this = sa.update(prompts).where(prompts.c.id == reply.prompt_id)
        connection.execute(this.values(content=said))
    if way == "forget":
        forget_user(workspace, user.id, "erase", by="boss")
    else:
        if way == "killed":  # between the rows and the files
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(workspace.media, "sweep", _die)
                with pytest.raises(KeyboardInterrupt):
                    erase(workspace, user.annotator, by="boss")
            assert ("note", name_of(CAT)) in told(workspace)
        erase(workspace, user.annotator, by="boss")
    assert not file_of(workspace, CAT).exists()
    assert workspace.media.read(name_of(DOG)) == DOG  # another prompt shows it
    workspace.prompts.add([shows(CAT)])
    assert workspace.media.read(name_of(CAT)) == CAT


def test_no_prompt_loses_an_image_that_is_swept_while_it_is_added(workspace: Workspace) -> None:
    keep = workspace.media.keep

    def swept(prompts: list[Prompt]) -> None:
        keep(prompts)
        assert workspace.media.sweep() == 1

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workspace.media, "keep", swept)
        workspace.prompts.add([shows(CAT)])
    assert workspace.media.read(name_of(CAT)) == CAT


def test_no_model_is_asked_about_an_image(workspace: Workspace) -> None:
    user = workspace.people.add("mia")
    with pytest.raises(WorkspaceError, match="holds an image"):
        workspace.generations.ask(user.id, "chat", "base", shows(CAT), {}, seed=1)


@pytest.mark.parametrize("name", ["backflip-jsonl", "backflip-parquet", "trl-prompt-completion"])
def test_a_file_carries_images_to_another_workspace(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    reply = _reply(shows(CAT, DOG, alt="A cat, \N{ZERO WIDTH SPACE}and a dog"))
    workspace.samples.add([reply])
    workspace.journal.add([Demonstration(annotator="mia", sample=reply.id)])
    path = tmp_path / ("out.parquet" if name.endswith("parquet") else "out.jsonl")
    assert export_file(workspace, path, name).left_out == {}
    with Workspace.create(tmp_path / "other") as other:
        report = import_file(other, path)
        assert (report.format, report.new, report.rejected) == (name, 1, ())
        assert report.ignored == {}
        (found,) = other.prompts.all()
        assert found.id == reply.prompt_id
        assert [image.data for image in other.media.carried(found).images] == [CAT, DOG]
    file_of(workspace, CAT).unlink()
    with pytest.raises(DamageError, match="the image is gone"):
        export_file(workspace, path, name)


def _reply(prompt: Prompt) -> Sample:
    return Sample.of(prompt, Completion(text="A cat."))


def _die() -> None:
    raise KeyboardInterrupt


def test_a_turn_shows_what_it_carries() -> None:
    part = ImagePart.of(CAT)
    message = Message(role="user", content=(part,))
    bare = Message.model_validate(message.model_dump())
    assert bare.carrying(lambda image: image.carrying(CAT)).images[0].data == CAT
