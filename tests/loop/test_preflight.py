"""What cannot work is said before anything is done, all of it, by file and row."""

import json
from pathlib import Path
from typing import Any

import pytest
from loop_helpers import agent_recipe, make_run
from transformers import AutoTokenizer

from backflip.config import PromptSettings
from backflip.data import load_prompts
from backflip.errors import SettingsError, TrainingError
from backflip.loop import Run
from backflip.loop.stages.preflight import preflight
from backflip.loop.stages.training_data import learned_from
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison
from backflip.records.problems import Findings
from backflip.workspace import Workspace

SHORT = [f"How is the {subject}?" for subject in ("river", "sea", "rain", "day", "sky", "sun")]
LONG = "Hello, how are you? " * 6
TURNS = [
    {"role": "system", "content": "Be calm."},
    {"role": "user", "content": LONG},
    {"role": "assistant", "content": "The river is calm."},
    {"role": "user", "content": "And you?"},
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def prompts(*more: Any) -> list[Any]:
    return [{"prompt": prompt} for prompt in (*SHORT, *more)]


def recipe_of(folder: Path, models: Path, rows: list[Any], **change: Any) -> dict[str, Any]:
    """A recipe of a tiny model that is there; sections of `change` are laid over it."""
    recipe: dict[str, Any] = {
        "name": "checked",
        "model": {"name": str(models / "one"), "precision": "float32"},
        "prompts": {"source": write(folder / "asked.jsonl", rows), "heldout": 2},
        "sampling": {"max_tokens": 8},
        "feedback": {"prompts": 4},
        "reward": {"model": {"precision": "float32"}, "max_tokens": 200},
        "algorithm": {"type": "ppo", "steps": 1, "prompts_per_step": 2, "minibatches": 1},
        "evaluation": {"prompts": 2},
        "loop": {"rounds": 1},
    }
    for section, settings in change.items():
        recipe[section] = {**recipe.get(section, {}), **settings}
    return recipe


@pytest.fixture
def texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part is made, which takes a while."""
    monkeypatch.setattr("backflip.loop.stages.preflight._Parts.make", lambda *_: None)


def found_in(workspace: Workspace, recipe: dict[str, Any], folder: Path) -> tuple[Findings, Run]:
    run, _ = make_run(workspace, recipe)
    number = len(list(folder.iterdir()))
    return preflight(run, folder / f"made-{number}"), run


def told(found: Findings) -> list[str]:
    return [str(problem) for problem in found.fatal]


def tokens_of(models: Path, turns: Any) -> int:
    """As the tokenizer itself counts them."""
    tokenizer = AutoTokenizer.from_pretrained(models / "one")
    turns = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return len(tokenizer.encode(text, add_special_tokens=False))


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_done(
    desk: Workspace, tmp_path: Path, models: Path
):
    shown = write(
        tmp_path / "shown.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "only"}]
    )
    mixed = write(tmp_path / "mixed.jsonl", [{"text": "The river."}, {"text": 7}])
    recipe = recipe_of(
        tmp_path,
        models,
        [*prompts(LONG), {"prompt": 3}, {"other": "x"}],
        prompts={"heldout": 1},
        sampling={"max_prompt_tokens": 40},
        sft={"data": [shown]},
        evaluation={"prompts": 1 + 1},
        reward={"model": {"name": "nothing-of-this-name"}},
        algorithm={"type": "ppo", "ptx_coefficient": 0.1, "ptx_text": [mixed, "gone.txt"]},
        feedback={"judge": {"url": "http://no,where"}},
    )
    run, _ = make_run(desk, recipe)
    before = [model.id for model in desk.models.all()]
    with pytest.raises(SettingsError) as caught:
        run.go()
    said = str(caught.value)
    for place in (
        "asked.jsonl:8: field 'prompt'",
        "asked.jsonl:9: has no prompt",
        "asked.jsonl",
        "sampling.max_prompt_tokens allows 40",
        "shown.jsonl:2: is no demonstration",
        "algorithm.ptx_text: no such file: gone.txt",
        "no model named 'nothing-of-this-name'",
        "prompts.heldout: of 1 held-out reply",
        "'http://no,where' has a host that cannot be one",
    ):
        assert place in said, place
    assert [model.id for model in desk.models.all()] == before
    assert desk.journal.stats().active == 0
    assert not [s for s in desk.stages.all(run.id) if s.is_done]
    assert not run.place("start").exists()


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("sampling.max_prompt_tokens", lambda longest, reply: longest),
        ("reward.max_tokens", lambda longest, reply: longest + reply),
    ],
)
@pytest.mark.usefixtures("texts_alone")
def test_a_limit_lets_in_what_fits_to_the_token(
    desk: Workspace, tmp_path: Path, models: Path, key: str, most: Any
):
    section, name = key.split(".")
    limit = most(tokens_of(models, LONG), 8)
    fits = recipe_of(tmp_path, models, prompts(LONG), **{section: {name: limit}})
    assert told(found_in(desk, fits, tmp_path)[0]) == []
    fits[section][name] = limit - 1
    (problem,) = found_in(desk, fits, tmp_path)[0].fatal
    assert problem.where is not None
    assert problem.where.startswith("asked.jsonl")
    assert key in problem.what
    assert f"et {key} to {limit} or more" in str(problem.hint)


@pytest.mark.usefixtures("texts_alone")
def test_a_prompt_and_its_reply_fit_into_the_positions(
    desk: Workspace, tmp_path: Path, models: Path
):
    room = 256 - tokens_of(models, LONG)
    change = {"reward": {"max_tokens": 999}, "sampling": {"max_tokens": room}}
    fits = recipe_of(tmp_path, models, prompts(LONG), **change)
    assert told(found_in(desk, fits, tmp_path)[0]) == []
    fits["sampling"]["max_tokens"] = room + 1
    (problem,) = found_in(desk, fits, tmp_path)[0].fatal
    assert "the 256 that the model reads" in problem.what
    assert f"et sampling.max_tokens to {room} or less" in str(problem.hint)


@pytest.mark.usefixtures("texts_alone")
def test_demonstrations_are_held_to_their_rows(desk: Workspace, tmp_path: Path, models: Path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": LONG, "completion": "Hello."}]
    data = [write(tmp_path / "shown.jsonl", rows)]
    recipe = recipe_of(tmp_path, models, prompts(), sft={"data": data, "sequence_length": 40})
    (problem,) = found_in(desk, recipe, tmp_path)[0].fatal
    assert "sft.sequence_length allows 40" in problem.what
    assert str(problem.where).startswith("shown.jsonl")
    recipe["sft"]["too_long"] = "drop"
    found, _ = found_in(desk, recipe, tmp_path)
    assert told(found) == []
    assert found.facts["demonstrations"]["number"] == 1
    assert found.facts["demonstrations"]["dropped"] == 1


@pytest.mark.parametrize("too_long", ["drop", "cut"])
@pytest.mark.usefixtures("texts_alone")
def test_demonstrations_on_held_out_prompts_are_left_out_and_counted(
    desk: Workspace, tmp_path: Path, models: Path, too_long: str
):
    own = [*prompts(), {"messages": TURNS}, {"messages": [*TURNS[1:3], *TURNS[1:]]}]
    change = {"prompts": {"heldout": 5, "too_long": too_long}}
    shown = tmp_path / "shown.jsonl"
    recipe = recipe_of(tmp_path, models, own, sft={"data": [str(shown)]}, **change)
    recipe["sampling"]["max_prompt_tokens"] = 90
    settings = PromptSettings(**recipe["prompts"])
    held = [own[i] for i, p in enumerate(load_prompts(settings, 0)) if p.split == "heldout"]
    answer = {"role": "assistant", "content": "Hello."}
    rows = [{"messages": [*(row.get("messages") or user(row["prompt"])), answer]} for row in own]
    write(shown, [*rows, {"prompt": "Another?", "completion": "Hello."}])
    found, _ = found_in(desk, recipe, tmp_path)
    assert told(found) == []
    said = "sft.data: of demonstrations on prompts that are held out, 5 are left out"
    assert said in map(str, found.warnings)
    assert found.facts["demonstrations"]["number"] == 4
    write(shown, [row for row, prompt in zip(rows, own, strict=True) if prompt in held])
    (problem,) = told(found_in(desk, recipe, tmp_path)[0])
    assert problem.endswith("to learn from: all 5 are on prompts that are held out")


@pytest.mark.usefixtures("texts_alone")
def test_without_demonstrations_nothing_is_trained_first(
    desk: Workspace, tmp_path: Path, models: Path
):
    recipe = recipe_of(tmp_path, models, prompts(), sft={})
    assert told(found_in(desk, recipe, tmp_path)[0]) == [
        "sft.data: there are no demonstrations to learn from"
    ]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.usefixtures("texts_alone")
def test_one_reply_gives_no_unit(desk: Workspace, tmp_path: Path, models: Path, samples: int):
    change = {"prompts": {"heldout": 1}, "evaluation": {"samples_per_prompt": samples}}
    found, _ = found_in(desk, recipe_of(tmp_path, models, prompts(), **change), tmp_path)
    assert [p.where for p in found.fatal] == ["prompts.heldout"] * (samples < 2)
    dpo = recipe_of(tmp_path, models, prompts(), **change)
    dpo["algorithm"] = {"type": "dpo"}
    assert told(found_in(desk, dpo, tmp_path)[0]) == []


@pytest.mark.usefixtures("texts_alone")
def test_what_is_too_long_is_left_out_or_cut_as_asked(
    desk: Workspace, tmp_path: Path, models: Path
):
    rows = prompts(LONG, TURNS)
    short = [TURNS[0], TURNS[-1]]
    limit = {
        "max_prompt_tokens": max(tokens_of(models, short), *map(tokens_of_short(models), SHORT))
    }
    assert limit["max_prompt_tokens"] < tokens_of(models, LONG)
    recipe = recipe_of(tmp_path, models, rows, sampling=limit)
    plain, run = found_in(desk, recipe, tmp_path)
    assert len(plain.fatal) == 2
    sides = {prompt.text: prompt.split for prompt in run.domain.prompts()}

    recipe["prompts"]["too_long"] = "drop"
    found, run = found_in(desk, recipe, tmp_path)
    assert told(found) == []
    assert found.facts["prompts"]["dropped"] == 2
    kept = {prompt.text: prompt.split for prompt in run.domain.prompts()}
    assert kept == {text: side for text, side in sides.items() if text in SHORT}

    recipe["prompts"]["too_long"] = "cut"
    found, run = found_in(desk, recipe, tmp_path)
    assert len(told(found)) == 1, told(found)  # one long turn cannot be cut
    (problem,) = found.fatal
    assert 'prompts.too_long = "drop"' in str(problem.hint)
    recipe["prompts"]["source"] = write(tmp_path / "cut.jsonl", prompts(TURNS))
    found, run = found_in(desk, recipe, tmp_path)
    assert told(found) == []
    assert found.facts["prompts"]["cut"] == 1
    last = run.domain.prompts()[-1]
    assert [(m.role, m.content) for m in last.messages] == [
        (turn["role"], turn["content"]) for turn in short
    ]
    assert any("are cut" in str(warning) for warning in found.warnings)


def tokens_of_short(models: Path) -> Any:
    return lambda text: tokens_of(models, text)


def test_an_environment_is_made_and_its_spaces_are_known(desk: Workspace, tmp_path: Path):
    assert told(found_in(desk, agent_recipe(), tmp_path)[0]) == []
    (problem,) = found_in(desk, agent_recipe("backflip/Nothing-v0"), tmp_path)[0].fatal
    assert "cannot be made" in problem.what


def test_a_check_is_made_once(desk: Workspace, tmp_path: Path, models: Path, monkeypatch: Any):
    run, _ = make_run(desk, recipe_of(tmp_path, models, prompts()))
    run.begin()
    run.start()
    monkeypatch.setattr("backflip.loop.stages.preparing.preflight", None)
    again, _ = make_run(desk, recipe_of(tmp_path, models, prompts()))
    assert again.start() == run.start()


def say(desk: Workspace, prompt: Prompt, *replies: str) -> str:
    """One reply is better than the other; both are known from a file. Returns the entry's id."""
    samples = [Sample.of(prompt, Completion(text=reply)) for reply in replies]
    desk.samples.add(samples)
    entry = Comparison(annotator="mia", samples=(samples[0].id, samples[1].id), choice="a")
    desk.annotators.add("mia")
    desk.journal.add([entry])
    return entry.id


@pytest.mark.usefixtures("texts_alone")
@pytest.mark.parametrize("algorithm", ["ppo", "dpo"])
def test_feedback_on_long_samples_is_refused_or_left_out(
    desk: Workspace, tmp_path: Path, models: Path, algorithm: str
):
    # A reward model is held to reward.max_tokens, a policy to its 256 positions alone.
    text = LONG * (1 if algorithm == "ppo" else 12)
    short = say(desk, Prompt.from_text("A?", source="told.jsonl:1"), "Yes.", "No.")
    long = say(desk, Prompt.from_text(text, source="told.jsonl:2"), "Yes.", "No.")
    recipe = recipe_of(
        tmp_path,
        models,
        prompts(),
        reward={"max_tokens": 50},
        feedback={"use": "workspace"},
        algorithm={"type": algorithm},
    )
    if algorithm == "dpo":
        recipe["algorithm"] = {"type": "dpo"}
    found, run = found_in(desk, recipe, tmp_path)
    assert [problem.where for problem in found.fatal] == ["told.jsonl:2"] * 2
    assert 'reward.too_long = "drop"' in str(found.fatal[0].hint)
    assert "reward.max_tokens" in found.fatal[0].what or algorithm == "dpo"
    snapshot = desk.snapshots.take([short, long]).id
    assert len(learned_from(run, snapshot)[0]) == 2

    recipe["reward"]["too_long"] = "drop"
    found, run = found_in(desk, recipe, tmp_path)
    assert told(found) == []
    assert found.facts["feedback"]["dropped"] == 2
    assert [entry.id for entry in learned_from(run, snapshot)[0]] == [short]
    only_long = desk.snapshots.take([long]).id
    with pytest.raises(TrainingError, match="too long"):
        learned_from(run, only_long)


BAD = "has no prompt; its fields are other"
NO_ROOM = "reward.max_tokens: 8 tokens leave no room for a prompt beside a reply of"


@pytest.mark.parametrize("change", ["nothing", "reply", "files", "source", "scratch", "name"])
@pytest.mark.usefixtures("texts_alone")
def test_no_fault_hides_another(desk: Workspace, tmp_path: Path, models: Path, change: str):
    """Of settings, of files that are not there, of the model: rows of the other files are told."""
    shown = [{"prompt": "a", "completion": "b"}, {"prompt": "only"}]
    texts = [{"text": "The river is calm."}, {"text": 7}]
    named = {
        name: write(tmp_path / f"{name}.jsonl", rows)
        for name, rows in (("shown", shown), ("texts", texts), ("mixed", texts))
    }
    recipe = recipe_of(
        tmp_path,
        models,
        [*prompts(), {"other": "x"}],
        reward={"max_tokens": 8},
        pretrain={"text": [named["texts"]]},
        sft={"data": [named["shown"]]},
        algorithm={"type": "ppo", "ptx_coefficient": 0.1, "ptx_text": [named["mixed"]]},
    )
    expected = {f"asked.jsonl:{len(SHORT) + 1}: {BAD}", "shown.jsonl:2: is no demonstration"}
    expected |= {f"{name}.jsonl:2: field 'text' is not a text" for name in ("texts", "mixed")}
    expected |= {NO_ROOM}
    gone = "gone.jsonl"
    if change == "reply":
        recipe["sampling"]["max_tokens"] = 5000
        expected |= {"sampling.max_tokens: 5000 tokens and a prompt do not fit in the 256"}
    if change == "files":
        files = {
            "pretrain.text": recipe["pretrain"]["text"],
            "sft.data": recipe["sft"]["data"],
            "algorithm.ptx_text": recipe["algorithm"]["ptx_text"],
        }
        for key, there in files.items():
            there.append(gone)
            expected |= {f"{key}: no such file: {gone}"}
    if change == "source":
        recipe["prompts"]["source"] = gone
        expected = {part for part in expected if not part.startswith("asked")}
        expected |= {f"prompts.source: no such file: {gone}"}
    if change == "scratch":
        recipe["pretrain"]["scratch"] = {"width": 32, "layers": 1, "heads": 2, "vocabulary": 300}
        recipe["pretrain"]["text"].append(gone)
        recipe["model"] = {"precision": "float32"}
        expected |= {f"pretrain.text: no such file: {gone}"}
    if change == "name":
        recipe["model"]["name"] = "nothing-of-this-name"
        expected |= {"no model named 'nothing-of-this-name'"}
    said = told(found_in(desk, recipe, tmp_path)[0])
    for part in expected:
        assert any(part in problem for problem in said), part
    assert len(said) == len(expected), said
