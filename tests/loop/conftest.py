"""A workspace with two tiny models, for whoever is asked for their replies; and a judge."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from judge_helpers import Judging, judge_served
from worker_helpers import Ask, enter

from backflip.config import ScratchSettings
from backflip.models import make_model, save_model, train_tokenizer
from backflip.workspace import Workspace


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models from nothing, `one` and `two`."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(["The river is calm and bright. Hello, how are you?"] * 4, 300)
    scratch = ScratchSettings(width=32, layers=2, heads=2, max_positions=256, vocabulary=300)
    for seed, name in enumerate(("one", "two")):
        save_model(make_model(scratch, tokenizer, seed), tokenizer, folder / name)
    return folder


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace on SQLite."""
    shutil.copytree(sqlite_template, tmp_path / "desk")
    with Workspace.open(tmp_path / "desk") as opened:
        yield opened


@pytest.fixture
def ask(desk: Workspace, models: Path) -> Ask:
    return enter(desk, models)


@pytest.fixture
def judge() -> Iterator[type[Judging]]:
    with judge_served() as served:
        yield served
