"""One door for samples: numbers that no policy and no world gives are refused on every way in."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from web_helpers import Browser

from backflip.errors import BackflipError, WorkspaceError
from backflip.formats import Labelled, import_file, write
from backflip.records import Clip, Completion, Prompt, Sample, Situation
from backflip.records.feedback import Demonstration, GoodBad
from backflip.web import create_app
from backflip.workspace import MAIN, ModelRecord, Task, Workspace
from backflip.workspace.doctor.diagnosis import diagnose
from backflip.workspace.material import samples as store_samples

ASKED = Prompt.from_text("How high is the tower?")
START = Prompt(content=Situation(environment="E-v0", seed=1))
INTEGER, FLOAT = np.int32, np.float32
REPLY = Completion(
    text="High.",
    prompt_tokens=np.arange(2, dtype=INTEGER),
    tokens=np.arange(3, dtype=INTEGER),
    logprobs=np.array([-1e9, -0.5, 0], FLOAT),
    finish="stop",
)
CLIP = Clip(
    environment="E-v0",
    observations=np.zeros((4, 2), FLOAT),
    actions=np.zeros((3, 2), FLOAT),
    logprobs=np.array([-9, 0, 1e3], FLOAT),  # densities
    rewards=np.array([-1, 0, 1], FLOAT),
    terminated=True,
    truncated=False,
)
NEVER = (np.nan, np.inf, -np.inf)
BAD = {
    "completion prompt_tokens": (-1, -(2**31)),
    "completion tokens": (-1, -(2**31)),
    "completion logprobs": (*NEVER, 1e-3, 1e30),
    "clip observations": NEVER,
    "clip actions": NEVER,
    "clip logprobs": NEVER,
    "clip rewards": NEVER,
}


def of(content: Completion | Clip) -> Sample:
    return Sample.of(ASKED if isinstance(content, Completion) else START, content, model="m")


def impossible() -> Iterator[tuple[str, Sample]]:
    """Every array with every value in it that cannot be, and the array's name."""
    for content in (REPLY, CLIP):
        for name, array in content.arrays().items():
            for place, value in enumerate(BAD[f"{content.type} {name}"]):
                odd = array.copy()
                odd.flat[place % array.size] = value
                yield name, of(replace(content, **{name: odd}))


def by_store(workspace: Workspace, browser: Browser, sample: Sample, folder: Path) -> None:
    workspace.samples.add([sample])


def by_worker(workspace: Workspace, browser: Browser, sample: Sample, folder: Path) -> None:
    assert browser.user is not None
    name = workspace.generations.ask(browser.user.id, "playground", "model-1", ASKED, {}, seed=0)
    workspace.generations.take("worker", 1)
    try:
        workspace.generations.finish("worker", {name: sample})
    finally:
        workspace.generations.fail("worker", name, "refused")


def by_answer(workspace: Workspace, browser: Browser, sample: Sample, folder: Path) -> None:
    """What somebody wrote for a question, as a program may send it."""
    task = workspace.queue.next(sample.id)
    assert task is not None
    entry = Demonstration(annotator=sample.id, sample=sample.id, over=task.sample_ids)
    workspace.queue.answer(task.id, sample.id, entry, written=[sample])


def file_of(sample: Sample, path: Path) -> Path:
    name = {".jsonl": "backflip-jsonl", ".parquet": "backflip-parquet"}[path.suffix]
    entry = GoodBad(annotator="mia", sample=sample.id, good=True)
    write(path, name, [Labelled((sample,), (entry,))])
    return path


def by_file(ending: str) -> Callable[[Workspace, Browser, Sample, Path], None]:
    def imported(workspace: Workspace, browser: Browser, sample: Sample, folder: Path) -> None:
        report = import_file(workspace, file_of(sample, folder / f"votes{ending}"))
        if report.num_rejected:
            raise WorkspaceError(report.rejected[0].reason)

    return imported


def by_upload(workspace: Workspace, browser: Browser, sample: Sample, folder: Path) -> None:
    path = file_of(sample, folder / "upload.parquet")
    told = browser.client.post(
        f"/api/projects/{MAIN}/import",
        files={"file": (path.name, path.read_bytes())},
        headers={"x-csrf-token": browser.csrf},
    ).json()
    if told["rejected"]:
        raise WorkspaceError(told["faults"][0])


DOORS: dict[str, Callable[[Workspace, Browser, Sample, Path], None]] = {
    "store": by_store,
    "worker": by_worker,
    "answer": by_answer,
    "jsonl": by_file(".jsonl"),
    "parquet": by_file(".parquet"),
    "upload": by_upload,
}
TEXTS_ONLY = ("worker", "answer")


@pytest.fixture(scope="module")
def browser(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("samples") / "workspace"
    shutil.copytree(sqlite_template, folder)
    with Workspace.open(folder) as workspace:
        workspace.models.register(ModelRecord(id="model-1", name="m", stage="sft", path="models/m"))
        other = of(Completion(text="Low."))
        workspace.samples.add([other])
        task = Task(kind="demonstration", sample_ids=(other.id,))
        workspace.queue.put("run-1", 0, [task], overlap=1000)
        app = create_app(workspace)
        browser = Browser(TestClient(app, base_url="http://127.0.0.1:8000"))
        browser.user = workspace.people.add("boss", admin=True)
        key, session = workspace.people.start_session(browser.user.id, 3600)
        browser.client.cookies.set("backflip", app.state.context.signer.sign(key))
        browser.csrf = session.csrf
        yield browser


@pytest.fixture(scope="module")
def workspace(browser: Browser) -> Any:
    return browser.client.app.state.context.workspace  # pyright: ignore


@pytest.mark.parametrize("door", DOORS)
def test_what_cannot_be_is_refused_at_every_door(
    workspace: Workspace, browser: Browser, tmp_path: Path, door: str
) -> None:
    come = DOORS[door]
    for name, sample in impossible():
        if door in TEXTS_ONLY and sample.content.type != "completion":
            continue
        with pytest.raises(BackflipError, match=f"'s {name} hold "):
            come(workspace, browser, sample, tmp_path)
        assert not workspace.samples.get([sample.id])
    good = [replace(REPLY, text=door), Completion(text=f"By {door}, a person's."), CLIP]
    for content in good[: 2 if door in TEXTS_ONLY else 3]:
        sample = of(content)
        come(workspace, browser, sample, tmp_path)
        assert workspace.samples.get([sample.id])


def test_what_was_kept_before_is_read_and_told(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace keeps its samples, whatever an older version let in."""
    shutil.copytree(sqlite_template, tmp_path / "work")
    old = {sample.id: name for name, sample in impossible()}
    with Workspace.open(tmp_path / "work") as workspace:
        with monkeypatch.context() as patched:
            patched.setattr(store_samples, "check_sample", lambda sample: None)
            workspace.samples.add([*(sample for _, sample in impossible()), of(REPLY), of(CLIP)])
        assert set(workspace.samples.get(old)) == set(old)
        found = diagnose(workspace.root)
    assert found.state == "whole"
    assert {f.where for f in found.findings} == {f"samples {name}" for name in old}
    for finding in found.findings:
        assert finding.state == "note"
        assert f"'s {old[finding.where.removeprefix('samples ')]} hold " in finding.what
