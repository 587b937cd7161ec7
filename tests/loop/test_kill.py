"""Killed at any instant and started again, a run ends with the same weights, bit for bit.

Every run here is a real process that is ended by SIGKILL: at instants counted inside it (half of a
file written; before a flush, rename, statement, commit, action, optimiser step), or by the clock.
What is left at the end is compared with a run that nobody disturbed: the bytes of every model,
every feedback entry, metric and result.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from loop_helpers import agent_recipe, compare, left_by, make_run, text_recipe, to_toml

from backflip.errors import WorkspaceError
from backflip.records.feedback import Comparison
from backflip.workspace import Workspace

KINDS = ("write", "write", "checkpoint", "commit", "database", "act", "learn")
SPAN = 8
"""A life lasts at most this part of the instants of a whole run, half of that in the mean."""
FOLDER = Path(__file__).parent


class Driver:
    """Starts runs as processes; see `run_driver`."""

    def __init__(self, folder: Path):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "run_driver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        return self.process.stdout.readline().strip()

    @contextmanager
    def start(self, **job: Any) -> Iterator[Callable[[int], None]]:
        """Start a job; the block may send it signals, and `self.code` says how it ended."""
        self.process.stdin.write(json.dumps({**job, "log": str(self.log)}) + "\n")
        self.process.stdin.flush()
        pid = int(self._line().removeprefix("pid "))

        def send(number: int) -> None:
            with suppress(ProcessLookupError):  # it was done before
                os.kill(pid, number)

        yield send
        self.code = int(self._line().removeprefix("end "))

    def run(self, **job: Any) -> int:
        """Do a job; returns the exit code of its process, negative for a signal."""
        with self.start(**job):
            pass
        return self.code

    def check(self, **job: Any) -> None:
        """Do a job that must end well."""
        code = self.run(**job)
        assert code == 0, self.log.read_text()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    made = Driver(tmp_path_factory.mktemp("driver"))
    yield made
    made.close()


RECIPES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "text, all stages and PPO": text_recipe,
    "text, PPO with adapters": lambda folder: text_recipe(
        folder,
        model={"precision": "float32", "lora": {"rank": 2}},
        reward={
            "model": {"precision": "float32", "lora": {"rank": 2}},
            "heldout": 0.25,
            "batch_size": 4,
            "optimizer": {"learning_rate": 3e-3},
        },
        sft=None,
        loop={"rounds": 2, "checkpoint_every": 1},
    ),
    "text, DPO": lambda folder: text_recipe(
        folder, algorithm={"type": "dpo", "batch_size": 4, "epochs": 3}
    ),
    "agents, two rounds of PPO": lambda folder: agent_recipe(),
    "agents, an ensemble and a moving KL coefficient": lambda folder: agent_recipe(
        reward={"ensemble": 2, "batch_size": 4, "heldout": 0.25, "combine": "worst"},
        feedback={
            "gold": "environment",
            "prompts": 14,
            "kinds": ["comparison", "rating"],
            "overlap": 2,
        },
        algorithm={
            "type": "ppo",
            "steps": 5,
            "prompts_per_step": 6,
            "kl_target": 0.01,
            "missing_eos_penalty": 0.0,
        },
        loop={"rounds": 1, "checkpoint_every": 3},
    ),
    "agents, two rounds in which a strategy picks": lambda folder: agent_recipe(
        reward={"ensemble": 2, "batch_size": 4, "heldout": 0.25},
        feedback={
            "gold": "environment",
            "prompts": 8,
            "selection": {"strategy": "disagreement", "pool": 2, "random_share": 0.3},
        },
        algorithm={
            "type": "ppo",
            "steps": 1,
            "prompts_per_step": 6,
            "missing_eos_penalty": 0.0,
        },
    ),
    "agents, DPO": lambda folder: agent_recipe(
        algorithm={"type": "dpo", "batch_size": 4, "epochs": 3}
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_ends_with_the_same_bits(name, driver: Driver, tmp_path: Path, capsys):
    recipe = RECIPES[name](tmp_path)
    for folder in ("straight", "killed"):
        Workspace.create(tmp_path / folder).close()
    counts_file = tmp_path / "counts"
    began = time.monotonic()
    driver.check(recipe=recipe, workspace=str(tmp_path / "straight"), counts=str(counts_file))
    seconds = time.monotonic() - began
    counts = json.loads(counts_file.read_text())
    expected = left_by(tmp_path / "straight", recipe)

    rng = random.Random(name)
    deaths: Counter[str] = Counter()
    job = {"recipe": recipe, "workspace": str(tmp_path / "killed")}
    for attempt in itertools.count():
        if attempt % 5 == 4:  # by the clock, with slow writes, so that it often falls into one
            with driver.start(**job, slow=0.002) as send:
                time.sleep(rng.uniform(0.0, seconds / SPAN))
                send(signal.SIGKILL)
            kind = "clock"
        else:
            kind = rng.choice(KINDS)
            number = rng.randint(1, max(counts[kind] // SPAN, 2))
            driver.run(**job, die=[kind, number])
        if driver.code == 0:
            break
        assert driver.code == -signal.SIGKILL, driver.log.read_text()
        deaths[kind] += 1
        assert sum(deaths.values()) < 200, "it does not get on"
    driver.check(**job)  # once more, when all is done
    compare(left_by(tmp_path / "killed", recipe), expected)
    assert sum(deaths.values()) >= 10
    with capsys.disabled():
        told = ", ".join(f"{number} {kind}" for kind, number in sorted(deaths.items()))
        print(f"\n{name}: {sum(deaths.values())} kills ({told})")


def progress(folder: Path) -> set[str]:
    """What is kept so far: finished stages, checkpoints, models."""
    with Workspace.open(folder) as workspace:
        done = {
            f"{run.id} {stage.key}"
            for run in workspace.runs.all()
            for stage in workspace.stages.all(run.id)
            if stage.is_done
        }
        models = {model.id for model in workspace.models.all()}
        found = workspace.artifacts.rglob("step-*")
        return done | models | {str(path) for path in found if path.suffix != ".unfinished"}


def test_killed_at_every_single_write(driver: Driver, tmp_path: Path, capsys):
    """From each thing that is kept on, one life for every write until the next one is kept."""
    recipe = agent_recipe(
        prompts={"source": "env:backflip/Point-v0", "heldout": 3, "limit": 9},
        feedback={"gold": "environment", "prompts": 6},
        reward={"epochs": 1, "batch_size": 2, "heldout": 0.25},
        algorithm={
            "type": "ppo",
            "steps": 3,
            "prompts_per_step": 4,
            "epochs": 1,
            "kl_target": 0.01,
            "kl_horizon": 10.0,
            "missing_eos_penalty": 0.0,
        },
        loop={"rounds": 1, "checkpoint_every": 1},
        evaluation={"prompts": 3},
    )
    for folder in ("straight", "killed"):
        Workspace.create(tmp_path / folder).close()
    counts_file = tmp_path / "counts"
    driver.check(recipe=recipe, workspace=str(tmp_path / "straight"), counts=str(counts_file))
    job = {"recipe": recipe, "workspace": str(tmp_path / "killed")}
    kept, number, kills = set(), 0, 0
    while True:
        now = progress(tmp_path / "killed")
        number = number + 1 if now == kept else 1
        kept = now
        if driver.run(**job, die=["write", number]) == 0:
            break
        assert driver.code == -signal.SIGKILL, driver.log.read_text()
        kills += 1
    compare(left_by(tmp_path / "killed", recipe), left_by(tmp_path / "straight", recipe))
    writes = json.loads(counts_file.read_text())["write"]
    assert kills >= writes / 2
    with capsys.disabled():
        print(f"\nat every write: {kills} kills over {writes} writes of one run")


def test_a_killed_run_on_postgresql_ends_with_the_same_bits(
    driver: Driver, tmp_path: Path, postgresql, capsys
):
    recipe = agent_recipe(loop={"rounds": 1, "checkpoint_every": 1})
    for folder in ("straight", "killed"):
        Workspace.create(tmp_path / folder, postgresql.new_database("template0")).close()
    driver.check(recipe=recipe, workspace=str(tmp_path / "straight"))
    job = {"recipe": recipe, "workspace": str(tmp_path / "killed")}
    rng, kills = random.Random(7), 0
    # Ever later: what a run does between two things that it keeps may take many statements.
    while driver.run(**job, die=[rng.choice(KINDS[3:5]), rng.randint(3, 60 + 5 * kills)]):
        assert driver.code == -signal.SIGKILL, driver.log.read_text()
        kills += 1
        assert kills < 200, "it does not get on"
    compare(left_by(tmp_path / "killed", recipe), left_by(tmp_path / "straight", recipe))
    assert kills >= 5
    with capsys.disabled():
        print(f"\nPostgreSQL: {kills} kills")


def people_recipe() -> dict[str, Any]:
    return agent_recipe(
        feedback={
            "source": "people",
            "gold": "environment",
            "prompts": 8,
            "overlap": 2,
            "poll_seconds": 0.02,
        },
        loop={"rounds": 1, "checkpoint_every": 2},
    )


def answer(folder: Path, names: tuple[str, ...], number: int) -> int:
    """Answer up to this many questions of a waiting run, always by the sum of rewards."""
    given, patience = 0, time.monotonic() + 60
    with Workspace.open(folder) as workspace:
        while given < number and time.monotonic() < patience:
            tasks = [workspace.queue.next(name) for name in names]
            if not all(tasks):  # not yet put up, or all answered
                if given:
                    break
                time.sleep(0.02)  # SQLite has one writer: who asks without pause shuts others out
                continue
            for task in tasks[: number - given]:
                samples = workspace.samples.get(task.sample_ids)
                first, second = (float(samples[i].clip.rewards.sum()) for i in task.sample_ids)
                entry = Comparison(
                    annotator=task.annotator,
                    samples=task.sample_ids,
                    choice="a" if first > second else "b",
                )
                workspace.queue.answer(task.id, task.annotator, entry)
                given += 1
    return given


def test_killed_while_people_answer_it_loses_and_doubles_nothing(driver: Driver, tmp_path: Path):
    recipe, names = people_recipe(), ("mia", "noah")
    for folder in ("straight", "killed"):
        Workspace.create(tmp_path / folder).close()
    with driver.start(recipe=recipe, workspace=str(tmp_path / "straight")):
        assert answer(tmp_path / "straight", names, 16) == 16
    assert driver.code == 0, driver.log.read_text()
    folder = tmp_path / "killed"
    for number in (2, 4, 2, 6):  # even: the two take turns, so the journal has one order
        with driver.start(recipe=recipe, workspace=str(folder)) as send:
            assert answer(folder, names, number) == number
            send(signal.SIGKILL)
        assert driver.code == -signal.SIGKILL
    with driver.start(recipe=recipe, workspace=str(folder)):
        assert answer(folder, names, 16) == 2
    assert driver.code == 0, driver.log.read_text()
    found, expected = left_by(folder, recipe), left_by(tmp_path / "straight", recipe)
    assert len(found["feedback"]) == 16
    assert Counter(entry["annotator"] for entry in found["feedback"]) == {"mia": 8, "noah": 8}
    compare(found, expected)


def test_stopped_by_the_keyboard_it_says_so_and_goes_on(driver: Driver, tmp_path: Path):
    recipe = agent_recipe(loop={"rounds": 1, "checkpoint_every": 1})
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe))
    Workspace.create(tmp_path / "straight").close()
    driver.check(recipe=recipe, workspace=str(tmp_path / "straight"))
    folder = tmp_path / "stopped"
    Workspace.create(folder).close()
    command = ["run", str(file), "--workspace", str(folder)]
    with driver.start(command=command, slow=0.02) as send:
        wait_for(lambda: any(p.name.startswith("step-") for p in folder.rglob("reward/*/step-*")))
        send(signal.SIGINT)
    assert driver.code == 130
    assert "the same command goes on" in driver.log.read_text()
    with Workspace.open(folder) as workspace:
        (run,) = workspace.runs.all()
        assert run.status == "stopped"
        done = {s.key for s in workspace.stages.all(run.id) if s.is_done}
    assert "round-1/feedback" in done
    assert "round-1/evaluate" not in done
    driver.check(command=command)
    compare(left_by(folder, recipe), left_by(tmp_path / "straight", recipe))


def test_two_processes_cannot_work_on_one_run(driver: Driver, tmp_path: Path):
    recipe, folder = people_recipe(), tmp_path / "shared"
    Workspace.create(folder).close()
    with driver.start(recipe=recipe, workspace=str(folder)) as send:
        wait_for(lambda: "round-1/sample" in str(sorted(progress(folder))))
        with Workspace.open(folder) as workspace:
            run, _ = make_run(workspace, recipe)
            with pytest.raises(WorkspaceError, match="another process is working on run"):
                run.go()
        send(signal.SIGKILL)
    with Workspace.open(folder) as workspace:
        run, _ = make_run(workspace, recipe)
        with run.alone():  # a killed process holds nothing
            pass


def wait_for(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.01)
