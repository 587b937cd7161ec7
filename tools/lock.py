"""Write the requirement locks: every package that is needed, at the version installed here.

`make lock` resolves pyproject.toml anew in a virtual environment of its own and calls this file
there. The locks are plain pip requirement files, without hashes and without local version tags
("2.13.0", not "2.13.0+cpu"), so that an index with another build of the same release serves too.

    requirements.lock       what Backflip runs with, all extras included
    requirements-dev.lock   that, and what its tests and its own editable build need
    requirements-docs.lock  what builds the documentation
"""

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# Packages without a file for some of the Python versions that Backflip runs on.
MARKERS = {"pgserver": 'python_version < "3.13"'}
# What an editable build asks for on top of [build-system], since it is built without isolation.
EDITABLE = ("editables",)
# What only some builds of torch need: torch, which goes in first, brings it where it does.
WITH_TORCH = ("cuda-", "nvidia-", "triton")
HEADER = "# Written by tools/lock.py (make lock) for Python 3.11 to 3.13; torch goes in first.\n"


def closure(roots: Iterable[str]) -> dict[str, str]:
    """Installed versions of `roots` and of all they need, by normalised name.

    Raises:
        importlib.metadata.PackageNotFoundError: a needed package is not installed.
    """
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(Requirement(root), "") for root in roots]
    while pending:
        requirement, parent_extra = pending.pop()
        environment = {**default_environment(), "extra": parent_extra}
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        if name.startswith(WITH_TORCH):
            continue
        distribution = metadata.distribution(name)
        versions[name] = Version(distribution.version).public
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                pending += [(Requirement(line), extra) for line in distribution.requires or ()]
    return versions


def render(versions: dict[str, str], *, include: str | None = None) -> str:
    """The text of a lock; torch stands first, since it is installed in a step before the rest."""
    names = sorted(versions, key=lambda name: (name != "torch", name))
    marked = {name: f"; {MARKERS[name]}" if name in MARKERS else "" for name in names}
    lines = [f"-r {include}"] if include else []
    lines += [f"{name}=={versions[name]}{marked[name]}" for name in names]
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"]
    runtime = closure([*project["project"]["dependencies"], *(r for e in extras for r in e)])
    dev = closure([*groups["dev"], *project["build-system"]["requires"], *EDITABLE])
    added = {name: version for name, version in dev.items() if name not in runtime}
    for name, text in {
        "requirements.lock": render(runtime),
        "requirements-dev.lock": render(added, include="requirements.lock"),
        "requirements-docs.lock": render(closure(groups["docs"])),
    }.items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
