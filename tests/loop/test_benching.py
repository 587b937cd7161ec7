"""What a benchmark's file says of a reward model: whole, by subset, and what was left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from loop_helpers import agent_recipe, make_run

from backflip.errors import FormatError
from backflip.loop.stage import Stage
from backflip.loop.stages import benchmarks as benching
from backflip.records.results import RewardModels
from backflip.workspace import Workspace


class Longest:
    """Scores a reply by its length."""

    def score(self, samples: Any) -> list[float]:
        return [float(len(sample.text)) for sample in samples]


MODELS = RewardModels(rewards={"overall": ("model-1",)})


@pytest.fixture
def stage(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(benching, "load_reward", lambda *_: Longest())
    return Stage(make_run(workspace, agent_recipe())[0], "bench")


def row(number: int, subset: str, right: bool) -> dict[str, Any]:
    replies = ("longer", "short") if right else ("short", "longer")
    names = {"chosen": replies[0], "rejected": replies[1]}
    return {"id": number, "subset": subset, "prompt": f"What is {number}?", **names}


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "bench.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_accuracy_is_told_by_subset(stage: Stage, tmp_path: Path):
    rights = [("chat", True), ("chat", False), ("chat", True), ("code", False), ("maths", True)]
    rows = [row(i, *given) for i, given in enumerate(rights)]
    found = benching.score_file(stage, MODELS, write(tmp_path, rows))
    told = {name: (s.value, s.count) for name, s in found.subsets.items()}
    assert told == {"chat": (pytest.approx(2 / 3), 3.0), "code": (0.0, 1.0), "maths": (1.0, 1.0)}
    assert found.accuracy.overall.value == pytest.approx(3 / 5)
    assert (found.rejected_rows, found.reasons) == (0, ())


def test_files_without_subsets_have_none(stage: Stage, tmp_path: Path):
    rows = [{"prompt": "Well?", "chosen": "Longer.", "rejected": "No."}]
    assert benching.score_file(stage, MODELS, write(tmp_path, rows)).subsets == {}


def test_rows_that_cannot_be_read_are_counted_and_the_first_explained(stage: Stage, tmp_path: Path):
    good = row(0, "chat", True)
    bad = [good | {"id": "x"}, *(good | {"rejected": good["chosen"]} for _ in range(7))]
    found = benching.score_file(stage, MODELS, write(tmp_path, [good, *bad]))
    assert found.rejected_rows == 8
    assert len(found.reasons) == 5
    assert (
        found.reasons[0] == "bench.jsonl:2: field 'id' is missing or not a whole number of 64 bits"
    )
    assert found.reasons[1] == "bench.jsonl:3: chosen and rejected are the same reply"
    with pytest.raises(FormatError, match=r"no row that can be scored: bench\.jsonl:1: field 'id'"):
        benching.score_file(stage, MODELS, write(tmp_path, bad))
