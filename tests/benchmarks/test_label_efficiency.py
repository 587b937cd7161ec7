"""The benchmark of query selection runs on the tiniest sizes, and its sums are right."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "label_efficiency.py"
STRATEGIES = ["random", "disagreement", "margin", "diverse"]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("world", ["features", "replies"])
def test_every_strategy_is_reported_at_every_number_of_labels(tmp_path: Path, world: str):
    source = np.random.default_rng(0)
    file = tmp_path / "replies.npz"
    np.savez(file, features=source.normal(size=(240, 4, 3)), gold=source.normal(size=(240, 4)))
    sizes = {"seeds": 2, "rounds": 2, "number": 10, "pool": 2, "members": 2, "steps": 2}
    words = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, str(SCRIPT), "--world", world, "--workers=1", *words]
    done = subprocess.run(
        [*command, "--replies", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all({name: row[name] for name in sizes} == sizes for row in rows)
    curves = [row for row in rows if row["benchmark"] == "label_efficiency"]
    assert [(r["strategy"], r["labels"]) for r in curves] == [
        (strategy, labels) for strategy in STRATEGIES for labels in (10, 20)
    ]
    first = [row for row in curves if row["labels"] == 10]
    for name in ("accuracy", "correlation", "heldout_bias"):
        # All share the first round; random has nothing over itself.
        assert {row[name]["value"] for row in first} == {first[0][name]["value"]}
        assert curves[1][f"{name}_over_random"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    needed = [row for row in rows if row["benchmark"] == "labels_needed"]
    assert [row["strategy"] for row in needed] == STRATEGIES
    assert needed[0]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert len([line for line in done.stderr.splitlines() if " | " in line]) == 5


def test_labels_are_counted_along_the_curve(parts: dict[str, Any]):
    labels = np.array([10, 20, 30])
    curve = np.array([0.5, 0.6, 0.8])
    reached = parts["_reached"]
    assert reached(curve, labels, 0.7) == pytest.approx(25.0)
    assert reached(curve, labels, 0.6) == pytest.approx(20.0)
    assert reached(curve, labels, 0.4) == 10.0
    assert reached(curve, labels, 0.9) == float("inf")


def test_labels_needed_are_a_share_of_randoms_own(parts: dict[str, Any]):
    """Three seeds that are alike: the bootstrap has nothing to draw."""

    def seeds(*curve: float) -> np.ndarray:
        return np.array([[[x, 0.0, 0.0] for x in curve]] * 3)

    curves = {"random": seeds(0.5, 0.6, 0.8), "good": seeds(0.5, 0.9, 0.9), "bad": seeds(0, 0, 0)}
    labels = np.array([10, 20, 30])
    # Good reaches 0.8 at 10 + 10 * 0.3 / 0.4 = 17.5 labels, random at 30.
    found = parts["_needed"](curves, "good", labels)
    assert found["target"] == pytest.approx(0.8)
    assert found["ratio"] == pytest.approx(dict.fromkeys(("value", "low", "high"), 17.5 / 30))
    assert parts["_needed"](curves, "bad", labels)["ratio"] == dict.fromkeys(
        ("value", "low", "high")
    )


def test_intervals_are_students(parts: dict[str, Any]):
    # Mean 2, standard deviation 1 of three: 4.302653 standard errors to either side.
    found = parts["_interval"](np.array([1.0, 2.0, 3.0]))
    assert found["value"] == 2.0
    assert found["high"] - 2.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
