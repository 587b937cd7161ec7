"""The benchmarks run, on the tiniest sizes, and what they print can be read by a program."""

import argparse
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"batch": 2, "prompt_tokens": 24, "reply_tokens": 4, "repeat": 2, "threads": 1}
RECIPE = """
name = "tiny"
[pretrain]
text = ["{text}"]
[pretrain.scratch]
width = 32
layers = 1
heads = 2
vocabulary = 320
[model]
precision = "float32"
[reward]
heldout = 0.5
batch_size = 1
max_tokens = 64
[reward.model]
precision = "float32"
"""


def call(script: str, *words: str) -> tuple[list[dict], str]:
    """The JSON lines that a benchmark prints, with nothing between them, and its progress."""
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def check(row: dict, stage: str) -> None:
    assert row["stage"] == stage
    assert 0 < row["lowest"] <= row["tokens_per_second"] <= row["highest"]
    assert row["peak_memory_mib"] > 50
    assert {name: row[name] for name in SIZES} == SIZES


def test_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Every stage here, where nothing need be imported again, and one as a user calls it."""
    speed = runpy.run_path(str(BENCHMARKS / "speed.py"))
    tiny = speed["make_tiny"](tmp_path / "tiny")
    options = argparse.Namespace(**SIZES, model=tiny, precision="float32", micro_batch_tokens=4096)
    assert set(speed["STAGES"]) == set(speed["PREPARED"])
    for stage in speed["STAGES"]:
        speed["measure"](stage, options)
        check(json.loads(capsys.readouterr().out), stage)
    given = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    (row,), _ = call("speed.py", "sft", "--model", str(tiny), *given)
    check(row, "sft")


def test_human_comparisons(tmp_path: Path):
    """Twelve comparisons of which one is too long, as the package itself would import them."""
    words = ("river", "kettle", "garden", "letter", "window", "train")
    texts = [f"The {word} is {mood}." for word in words for mood in ("calm", "sad")]
    (tmp_path / "text.txt").write_text("\n\n".join(texts))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(text=tmp_path / "text.txt"))
    rows = [
        {"prompt": f"How is it, {i}?", "chosen": text, "rejected": f"No {text}"}
        for i, text in enumerate(texts)
    ]
    rows[3]["chosen"] = "long " * 200
    file = tmp_path / "comparisons.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    recipe = str(tmp_path / "recipe.toml")
    (row,), told = call("human_comparisons.py", str(file), "--recipe", recipe)
    assert row["benchmark"] == "human_comparisons"
    assert row["file"] == "comparisons.jsonl"
    assert row["left_out"] == 1
    assert row["trained_on"] + row["heldout"] == 11
    assert row["accuracy"]["count"] == row["heldout"] > 0
    assert ("step 10/" in told) == (row["trained_on"] >= 10)
