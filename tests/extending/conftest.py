"""A kind from outside, as long as a test lasts; and the helpers of other folders."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backflip.algorithms import ALGORITHMS
from backflip.config import load_extensions
from backflip.feedback.teachers.teacher import ANSWERS
from backflip.formats import FORMATS
from backflip.records.feedback import KINDS, WRITTEN_KINDS, FeedbackBase, base
from backflip.rewards.learning import likelihood
from backflip.terminal.forms import FORMS as TERMINAL_FORMS
from backflip.web.forms import FORMS as WEB_FORMS
from backflip.web.routes import ROUTERS
from backflip.workspace import Workspace

HERE = Path(__file__).parent
for folder in ("loop", "terminal", "web", "web/browser"):
    sys.path.append(str(HERE.parent / folder))
REGISTRIES = (
    ALGORITHMS,
    FORMATS,
    KINDS,
    ANSWERS,
    likelihood.LIKELIHOODS,
    likelihood._ALIKE,
    TERMINAL_FORMS,
    WEB_FORMS,
)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Whatever a test registers is gone after it."""
    before, written, modules = [dict(r) for r in REGISTRIES], [*WRITTEN_KINDS], set(sys.modules)
    routers = [*ROUTERS]
    yield
    ROUTERS[:] = routers
    for registry, kept in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(kept)
    WRITTEN_KINDS[:] = written
    base._adapter.cache_clear()
    for name in set(sys.modules) - modules:
        if name.startswith("backflip_extension_"):
            del sys.modules[name]


@pytest.fixture
def funnier(untouched: None) -> type[FeedbackBase]:
    load_extensions([str(HERE / "funnier.py")])
    return KINDS["funnier"]


@pytest.fixture
def ws(sqlite_template: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(sqlite_template, tmp_path / "ws")
    with Workspace.open(tmp_path / "ws") as opened:
        yield opened
