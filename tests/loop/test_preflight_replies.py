"""A prompt after which no reply can be encoded is told before people write any."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from loop_helpers import make_run

from backflip.loop.stages.preflight import preflight
from backflip.records.problems import Problem
from backflip.workspace import Workspace
from unsealed import unsealed

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LATE = (
    "{% set said = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{{ said if m.role == 'user' and loop.last }}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Writes a system turn into a user's turn that is the last one, as Mistral's does."""
SYSTEM, FIRST = {"role": "system", "content": "Be calm."}, {"role": "user", "content": "How is it?"}
SAID = {"role": "assistant", "content": "Calm."}
WRONG = (
    "replies to it cannot be encoded: a dialogue with its reply does not begin as the prompt does"
)


@pytest.fixture
def asked(tmp_path: Path) -> str:
    """Prompts: of one turn, with a system turn from row 7, with that and two turns from row 13."""
    plain = [{"role": "user", "content": f"How is the {noun}?"} for noun in "abcdef"]
    rows = [[turn] for turn in plain]
    rows += [[SYSTEM, turn] for turn in plain]
    rows += [[SYSTEM, FIRST, SAID, turn] for turn in plain]
    file = tmp_path / "asked.jsonl"
    file.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    return str(file)


def check(
    desk: Workspace, models: Path, asked: str, *, template: str = LATE, **sections: Any
) -> list[Problem]:
    folder = Path(asked).parent
    if not (folder / "model").exists():
        unsealed(shutil.copytree(models / "one", folder / "model"))
    (folder / "model" / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "late.jinja").write_text(LATE, encoding="utf-8")
    recipe: dict[str, Any] = {
        "name": "checked",
        "model": {"name": str(folder / "model"), "precision": "float32"},
        "prompts": {"source": asked, "heldout": 2},
        "sampling": {"max_tokens": 8},
        "feedback": {"prompts": 4},
        "reward": {"model": {"precision": "float32"}, "max_tokens": 400},
        "algorithm": {"type": "ppo", "steps": 1, "prompts_per_step": 2, "minibatches": 1},
        "evaluation": {"prompts": 2},
        "loop": {"rounds": 1},
    }
    for section, settings in sections.items():
        recipe[section] = {**recipe[section], **settings}
    run, _ = make_run(desk, recipe)
    found = preflight(run, folder / "made")
    return [problem for problem in found.problems if WRONG in problem.what]


@pytest.fixture(autouse=True)
def texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is made, which takes a while."""
    monkeypatch.setattr("backflip.loop.stages.preflight._Parts.make", lambda *_: None)


@pytest.mark.parametrize(
    ("feedback", "fatal"),
    [
        ({"kinds": ["correction"]}, True),
        ({"kinds": ["comparison", "demonstration"]}, True),
        ({"kinds": ["comparison"], "source": "people"}, True),  # they may add a correction
        ({"kinds": ["comparison", "rating"]}, False),
    ],
)
def test_it_keeps_a_run_from_working_only_where_somebody_may_write(
    feedback: dict[str, Any], fatal: bool, desk: Workspace, models: Path, asked: str
):
    problems = check(desk, models, asked, feedback=feedback)
    assert [problem.where for problem in problems] == ["asked.jsonl:7", "asked.jsonl:13"]
    for problem in problems:
        assert problem.fatal == fatal
        assert 'model.chat.system = "first_user"' in str(problem.hint)
        assert ("drawn" in str(problem.hint)) != fatal
    chat = {"system": "first_user"}
    folder = Path(asked).parent / "model"
    model = {"name": str(folder), "precision": "float32", "chat": chat}
    assert check(desk, models, asked, feedback=feedback, model=model) == []


def test_a_reward_model_that_reads_otherwise_encodes_what_is_drawn(
    desk: Workspace, models: Path, asked: str
):
    chat = {"template": str(Path(asked).parent / "late.jinja")}
    reward = {"model": {"precision": "float32", "chat": chat}, "max_tokens": 400}
    problems = check(desk, models, asked, template=CHATML, reward=reward)
    assert [(problem.where, problem.fatal) for problem in problems] == [
        ("asked.jsonl:7", True),
        ("asked.jsonl:13", True),
    ]
    for problem in problems:
        assert 'reward.model.chat.system = "first_user"' in str(problem.hint)
