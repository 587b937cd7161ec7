"""Whatever happens to a file of a run, it ends with the same bits or says which file it is.

Runs are cut off while they train, one of their files is damaged, and they go on. What has no hash,
as in workspaces of older versions, is damaged too, wherever the damage can be seen.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, compare, left_by, make_run, text_recipe

from backflip.errors import BackflipError
from backflip.files.manifest import MANIFEST
from backflip.training import Checkpoints, State
from backflip.workspace import Workspace
from damage import DAMAGES, change_letter, damage, files_below
from fuzzing import copied, seeds


class Killed(BaseException):
    """Stands for a process that ends where it is."""


@dataclass(frozen=True)
class CutOff:
    """A run that was killed behind the second checkpoint of a stage, and what it leaves at its end.

    Attributes:
        recipe: of the run.
        folder: its workspace, to be copied.
        expected: what it leaves where nobody damages it.
    """

    recipe: dict[str, Any]
    folder: Path
    expected: dict[str, Any]


def cut_off(folder: Path, recipe: dict[str, Any], stage: str) -> CutOff:
    torch.set_num_threads(1)
    save, saved = Checkpoints.save, []

    def save_and_die(checkpoints: Checkpoints, step: int, state: State) -> None:
        save(checkpoints, step, state)
        saved.append(checkpoints.folder)
        if stage in str(checkpoints.folder) and saved.count(checkpoints.folder) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, Workspace.create(folder / "killed") as workspace:
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            make_run(workspace, recipe)[0].go()
    assert len(list((folder / "killed").glob(f"artifacts/runs/*/{stage}/**/step-*"))) == 2
    with Workspace.open(copied(folder / "killed", folder / "whole")) as workspace:
        make_run(workspace, recipe)[0].go()
    return CutOff(recipe, folder / "killed", left_by(folder / "whole", recipe))


def agent(folder: Path) -> CutOff:
    """In the second round: there is a model of every kind, and what the first one trained."""
    return cut_off(folder, small_agent(2, steps=3, kl_target=0.01), "round-2/policy")


def reward(folder: Path) -> CutOff:
    return cut_off(folder, small_agent(1, steps=1), "round-1/reward")


def small_agent(rounds: int, **algorithm: Any) -> dict[str, Any]:
    ppo = {"type": "ppo", "prompts_per_step": 4, "epochs": 1, "missing_eos_penalty": 0.0}
    return agent_recipe(
        prompts={"source": "env:backflip/Point-v0", "heldout": 3, "limit": 9},
        feedback={"gold": "environment", "prompts": 6},
        reward={"epochs": 2, "batch_size": 2, "heldout": 0.25},
        algorithm=ppo | algorithm,
        evaluation={"prompts": 3},
        loop={"rounds": rounds, "checkpoint_every": 1},
    )


def text(folder: Path) -> CutOff:
    """With adapters, after a model was made from nothing and pre-trained."""
    recipe = text_recipe(
        folder,
        model={"precision": "float32", "lora": {"rank": 2}},
        sft=None,
        loop={"rounds": 1, "checkpoint_every": 1},
        algorithm={"type": "dpo", "batch_size": 4, "epochs": 1},
        evaluation={"prompts": 2},
    )
    return cut_off(folder, recipe, "round-1/policy")


RUNS: dict[str, tuple[Callable[[Path], CutOff], int]] = {
    "agents, the second policy": (agent, 24),
    "agents, the reward": (reward, 8),
    "text with adapters": (text, 6),
}
"""How each is made, and how often it is damaged."""


TABLES = ("journal", "samples", "prompts", "snapshots", "snapshot_entries", "models", "stages")
"""Of which a run reads rows that it wrote before."""


@pytest.fixture(scope="module", params=RUNS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CutOff, int]:
    make, number = RUNS[request.param]
    return make(tmp_path_factory.mktemp("run")), number


def go_on(made: CutOff, folder: Path) -> tuple[BackflipError | None, list[str]]:
    """Let a copy of the run go on; returns the error that it ends with, and its warnings."""
    with Workspace.open(folder) as workspace:
        going, reporter = make_run(workspace, made.recipe)
        try:
            going.go()
        except BackflipError as error:
            return error, reporter.warnings
    return None, reporter.warnings


def try_once(made: CutOff, folder: Path, path: Path, kind: str, rng: random.Random) -> str:
    """Damage a file, go on, and see that it ends well or names the file; returns how it ended."""
    before = path.read_bytes()
    damage(kind, path, files_below(folder / "artifacts"), rng)
    error, warnings = go_on(made, folder)
    told = str(error) if error is not None else "; ".join(warnings)
    about = f"{path.relative_to(folder)} {kind}: {told}"
    # What is whole and fits no network is told of the checkpoint: either file may be the wrong one.
    unfit = "of another training, or damaged" in told
    named = str(path.parent) in told and (path.name in told or unfit)
    if error is not None:
        assert named, about
        assert error.hint, about
        return "named in an error"
    if path.is_relative_to(folder / "artifacts" / "models"):
        # A model that nothing reads any more stays as it is. Whether any other was read is seen.
        shutil.rmtree(path, ignore_errors=True)
        path.write_bytes(before)
    compare(left_by(folder, made.recipe), made.expected)
    return "named in a warning" if named else "read by nobody, or the same"


def test_a_damaged_file_is_named_or_changes_nothing(run, tmp_path: Path, capsys):
    made, number = run
    ends: Counter[str] = Counter()
    for seed in seeds(number):
        rng = random.Random(seed)
        folder = copied(made.folder, tmp_path / "copy")
        path = rng.choice(files_below(folder / "artifacts"))
        # What is valid but for its hash is the hardest to see, so it comes every other time.
        kind = "a flipped bit" if seed % 2 else DAMAGES[seed // 2 % len(DAMAGES)]
        ends[try_once(made, folder, path, kind, rng)] += 1
    report(capsys, "with a damaged file", ends)


def test_what_has_no_hash_is_named_too_where_it_cannot_be_read(run, tmp_path: Path, capsys):
    """As in a workspace of an older version. A flipped bit of a number is nowhere seen there."""
    made, number = run
    seen = [kind for kind in DAMAGES if kind not in ("a flipped bit", "another file")]
    ends: Counter[str] = Counter()
    for seed in seeds(number // 2):
        rng = random.Random(seed)
        folder = copied(made.folder, tmp_path / "copy")
        for manifest in folder.rglob(MANIFEST):
            manifest.unlink()
        paths = files_below(folder / "artifacts")
        tensors = [p for p in paths if p.suffix == ".safetensors" or p.name == "values.json"]
        ends[try_once(made, folder, rng.choice(tensors), seen[seed % len(seen)], rng)] += 1
    report(capsys, "with a damaged file and no manifest", ends)


def test_any_letter_of_what_was_kept_may_be_another(run, tmp_path: Path, capsys):
    """The run ends, or in words: that something is damaged, gone, or no longer fits."""
    made, number = run
    ends: Counter[str] = Counter()
    for seed in seeds(number // 2):
        rng = random.Random(seed)
        folder = copied(made.folder, tmp_path / "copy")
        place = change_letter(folder / "backflip.db", TABLES, rng)
        try:
            error, _ = go_on(made, folder)
        except BackflipError as refused:  # before the run began
            error = refused
        except Exception as error:
            raise AssertionError(f"{place}, seed {seed}") from error
        ends["ended" if error is None else "told in words"] += 1
    report(capsys, "with a letter changed in a row", ends)


def report(capsys: pytest.CaptureFixture[str], what: str, ends: Counter[str]) -> None:
    with capsys.disabled():
        told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
        print(f"\n{sum(ends.values())} runs {what}: {told}")
