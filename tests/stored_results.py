"""Results of stages as the database holds them: in JSON, whoever wrote it."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from backflip.workspace import Workspace
from backflip.workspace.database import columns, schema


def stored(workspace: Workspace, run: str) -> dict[str, Any]:
    """What a run's stages left behind, by key, in the order in which they were begun."""
    table = schema.stages
    query = sa.select(table.c.key, table.c.result).where(table.c.run == run)
    with workspace.database.read() as connection:
        rows = connection.execute(query.order_by(table.c.number)).all()
    return {row.key: row.result for row in rows}


def store(workspace: Workspace, run: str, key: str, result: Any) -> None:
    """Put something in the place of a stage's result: as another version wrote it, or damaged."""
    workspace.stages.begin(run, key)
    table = schema.stages
    values = {"result": result, "finished": columns.now()}
    with workspace.database.write("runs") as connection:
        this = sa.and_(table.c.run == run, table.c.key == key)
        connection.execute(sa.update(table).where(this).values(values))


SHARE = {"value": 0.75, "low": 0.5, "high": 0.9, "count": 8.0}
KL = {"value": 4.5, "low": 4.0, "high": 5.0}
REPORT = {
    "accuracy": {
        "overall": SHARE,
        "by_strength": {"2": SHARE},
        "by_length": {"longer": SHARE},
        "by_annotator": {"mia": SHARE},
        "by_kind": {"comparison": SHARE},
    },
    "calibration": {
        "error": 0.125,
        "brier": 0.1,
        "nll": 0.5,
        "table": [{"low": 0.5, "high": 0.6, "predicted": 0.55, "observed": SHARE}],
    },
    "chance": {**SHARE, "of": "pairs"},
    "reliabilities": {"mia": 1.5},
    "gold": {"accuracy": SHARE, "correlation": 0.5},
    "trained_on": 40,
    "heldout": 8,
}
OUTCOMES = ("policy", "start", "tie", "both_bad", "turned", "same", "unanswered")
COUNTS = {"pairs": 1, "prompts": 1, **dict.fromkeys(OUTCOMES, 0)}
WHOLE: dict[str, dict[str, Any]] = {
    "check": {"facts": {"prompts": {"train": 20}}, "warnings": ["prompts.heldout: too few"]},
    "start": {"model": "base"},
    "pretrain": {"model": "pretrained"},
    "sft": {"model": "tuned"},
    "sft/shown": {"snapshot": "shot"},
    "baseline": {"model": "base", "samples": ["s1", "s2"]},
    "sample": {"model": "base", "samples": ["s1", "s2"]},
    "feedback": {
        "snapshot": "shot",
        "entries": 48,
        "new_entries": 48,
        "skipped": 2,
        "annotators": ["mia"],
        "holds": {"comparison": {"decides": 48}},
        "order": {"decided": 8, "first": 4},
    },
    "feedback/selection": {
        "strategy": "diverse",
        "candidates": 9,
        "asked": [{"samples": ["s1", "s2"], "by_lot": True}],
    },
    "reward": {"rewards": {"overall": ["r1"]}, "snapshot": "shot", "reports": {"overall": REPORT}},
    "policy": {"model": "policy", "trained": "runs/run-1/round-1/policy/trained/weights"},
    "evaluate": {
        "model": "policy",
        "against": "base",
        "prompts": 1,
        "judged_by": "judge",
        "means": {"length": {"before": 3.0, "after": 4.0}},
        "kl": KL,
        "examples": [
            {
                "prompt": "How is it?",
                "before": {"sample": "s1", "length": 3.0},
                "after": {"sample": "s2", "length": 4.0},
                "judge": {"outcome": "policy", "reason": "Kinder."},
            }
        ],
        "reward_prefers": KL,
        "win_rate": KL,
        "judge": {"name": "judge:m", **COUNTS},
    },
    "evaluate/judge/pair": {"outcome": "tie", "reason": None},
}
"""A result of every stage that there is, by its name."""
BY_NAME = ("facts", "means", "rewards", "reports", "reliabilities", "holds", "holds.comparison")
"""Places whose keys are names and no keys that each result has; so are those of `by_...`."""
LATER = ("holds", "order", "chance", "gold", "reward_prefers", "reason", "before.length")
"""Ends of places that a result may lack: of an earlier version, or where it does not apply."""


def damages(name: str) -> Iterator[tuple[str, Any]]:
    """Every damage to a result of a stage of this name: the place of it, and what is left."""
    yield "", ["not", "an", "object"]
    for place in _places(WHOLE[name]):
        dotted = ".".join(map(str, place))
        if dotted == "facts.prompts.train":  # figures that only a reader reads
            continue
        strange: Any = 7 if isinstance(_at(WHOLE[name], place), str) else "text"
        if not dotted.endswith("reason"):
            yield dotted, _changed(WHOLE[name], place, strange)
        above = ".".join(map(str, place[:-1]))
        named = above in BY_NAME or above.rpartition(".")[2].startswith(("by_", "reliabilities"))
        kept = dotted.endswith(LATER) or dotted in ("examples.0.judge", "examples.0.after.length")
        if isinstance(place[-1], str) and not named and not kept:
            yield dotted, _changed(WHOLE[name], place, None, gone=True)


def _places(value: Any) -> Iterator[tuple[str | int, ...]]:
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (key,)
        if isinstance(inner, dict | list):
            yield from ((key, *rest) for rest in _places(inner))


def _at(value: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _changed(value: Any, place: tuple[str | int, ...], new: Any, *, gone: bool = False) -> Any:
    changed = json.loads(json.dumps(value))
    inside = _at(changed, place[:-1])
    if gone:
        del inside[place[-1]]
    else:
        inside[place[-1]] = new
    return changed
