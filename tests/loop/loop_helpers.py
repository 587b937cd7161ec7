"""Recipes so small that a whole run takes seconds, and what a run leaves behind."""

import json
from pathlib import Path
from typing import Any

from backflip.loop import Recipe, Run, make_domain
from backflip.reporter import Silent
from backflip.workspace import Workspace
from stored_results import stored

SUBJECTS = ("river", "kettle", "lighthouse", "garden", "letter", "window", "morning", "train")
MOODS = ("calm and bright", "sad and slow", "lovely", "awful", "warm", "terrible and cold")


def write_text(folder: Path) -> Path:
    """A text for pre-training, with good words and bad ones."""
    path = folder / "text.txt"
    lines = [
        f"The {subject} is {mood}. I love the {subject} when it is {mood}."
        for subject in SUBJECTS
        for mood in MOODS
    ]
    path.write_text("\n\n".join(lines))
    return path


def write_demonstrations(folder: Path) -> Path:
    path = folder / "shown.jsonl"
    rows = [
        {"prompt": f"How is the {subject}?", "completion": f"The {subject} is {mood}."}
        for subject in SUBJECTS
        for mood in MOODS[:2]
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def write_prompts(folder: Path) -> Path:
    path = folder / "prompts.txt"
    lines = [f"{word} is the {s}?" for s in SUBJECTS for word in ("How", "Where", "Why")]
    path.write_text("\n".join(lines))
    return path


def text_recipe(folder: Path, **change: Any) -> dict[str, Any]:
    """Pre-training from scratch, fine-tuning, reward and PPO with a model of width 32."""
    rates = {"learning_rate": 3e-3}
    return {
        "name": "tiny",
        "model": {"precision": "float32"},
        "prompts": {"source": str(write_prompts(folder)), "heldout": 4},
        "pretrain": {
            "text": [str(write_text(folder))],
            "scratch": {
                "width": 32,
                "layers": 2,
                "heads": 2,
                "max_positions": 128,
                "vocabulary": 320,
            },
            "sequence_length": 48,
            "batch_size": 8,
            "steps": 6,
            "optimizer": rates,
        },
        "sft": {
            "data": [str(write_demonstrations(folder))],
            "sequence_length": 96,
            "batch_size": 8,
            "epochs": 2,
            "optimizer": rates,
        },
        "sampling": {"max_tokens": 12},
        "feedback": {"prompts": 16},
        "reward": {
            "model": {"precision": "float32"},
            "epochs": 2,
            "batch_size": 4,
            "heldout": 0.25,
            "optimizer": rates,
        },
        "algorithm": {
            "type": "ppo",
            "steps": 3,
            "prompts_per_step": 8,
            "epochs": 2,
            "minibatches": 2,
            "optimizer": rates,
        },
        "evaluation": {"prompts": 4, "examples": 2},
        "loop": {"rounds": 1, "checkpoint_every": 2},
        **change,
    }


def agent_recipe(environment: str = "backflip/Point-v0", **change: Any) -> dict[str, Any]:
    """Two rounds of reward and PPO for an agent."""
    rates = {"learning_rate": 3e-3}
    return {
        "name": "point",
        "prompts": {"source": f"env:{environment}", "heldout": 6, "limit": 30},
        "sampling": {"max_tokens": 20},
        "feedback": {"gold": "environment", "prompts": 14},
        "reward": {"epochs": 2, "batch_size": 4, "heldout": 0.25, "optimizer": rates},
        "algorithm": {
            "type": "ppo",
            "steps": 3,
            "prompts_per_step": 6,
            "epochs": 2,
            "minibatches": 2,
            "missing_eos_penalty": 0.0,
            "optimizer": rates,
        },
        "evaluation": {"prompts": 6, "examples": 2},
        "loop": {"rounds": 2, "checkpoint_every": 2},
        **change,
    }


def to_toml(data: dict[str, Any], path: str = "") -> str:
    """Nested settings as TOML; values are spelt alike in JSON."""
    plain = {k: v for k, v in data.items() if not isinstance(v, dict) and v is not None}
    lines = [f"[{path}]"] if path and plain else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    inner = [
        to_toml(value, f"{path}.{key}".strip("."))
        for key, value in data.items()
        if isinstance(value, dict)
    ]
    return "\n".join([*lines, *inner])


def make_run(workspace: Workspace, data: dict[str, Any]) -> tuple[Run, Silent]:
    recipe, reporter = Recipe.parse(data), Silent()
    return Run(workspace, recipe, make_domain(recipe, workspace), reporter), reporter


def warned(reporter: Silent) -> list[str]:
    """All warnings but one: that a reward model of so few answers may know no more than a coin."""
    return [text for text in reporter.warnings if "is not shown to beat chance" not in text]


def weights_of(workspace: Workspace) -> dict[str, dict[str, bytes]]:
    """The bytes of every file of weights of every model, by its id."""
    return {
        model.id: {
            path.name: path.read_bytes()
            for path in sorted(workspace.models.folder(model).glob("*.safetensors"))
        }
        for model in workspace.models.all()
    }


def remains(workspace: Workspace, run: Run) -> dict[str, Any]:
    """All that a run leaves behind but times: models, feedback, samples, metrics, results."""
    journal = workspace.journal.active()
    return {
        "weights": weights_of(workspace),
        "models": [
            m.model_dump(mode="json", exclude={"created", "path"}) for m in workspace.models.all()
        ],
        "feedback": [entry.model_dump(mode="json") for entry in journal],
        "metrics": [
            (s.stage, s.name, s.steps, s.values)
            for s in sorted(workspace.metrics.series(run.id), key=lambda s: (s.stage, s.name))
        ],
        "results": stored(workspace, run.id),
        "annotators": sorted(a.name for a in workspace.annotators.all()),
    }


def left_by(folder: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """All that a finished run of a recipe left in a workspace, which holds nothing half done."""
    with Workspace.open(folder) as workspace:
        run, _ = make_run(workspace, recipe)
        assert workspace.runs.get(run.id).status == "finished"
        leftovers = [p for p in workspace.artifacts.rglob("*") if p.name.startswith((".", "step-"))]
        assert not leftovers
        return remains(workspace, run)


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Two runs left the same, bit for bit."""
    ids = [entry["annotator"] + str(entry) for entry in found["feedback"]]
    assert len(set(ids)) == len(ids), "an entry was doubled"
    for part in expected:
        assert found[part] == expected[part], part
    assert len(expected["weights"]) >= 2
    assert all(files for files in expected["weights"].values())
