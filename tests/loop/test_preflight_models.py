"""A folder of a model that is not what it should be, and room that nothing fits in."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_preflight import found_in, prompts, recipe_of, tokens_of, write
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from backflip.config import ModelSettings, SamplingSettings
from backflip.errors import ModelError
from backflip.formats import import_file
from backflip.models import TextPolicy, TextScorer
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import TextReward
from backflip.sampling import TextSampler
from backflip.training.limits import TextReader
from backflip.workspace import Workspace
from unsealed import unsealed

CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def brought(tmp_path: Path, models: Path) -> Path:
    """A folder of the user's with a tiny model."""
    return unsealed(shutil.copytree(models / "one", tmp_path / "brought"))


def check(desk: Workspace, folder: Path, models: Path, brought: Path, **change: Any) -> Any:
    recipe = recipe_of(folder, models, prompts(), model={"name": str(brought)}, **change)
    return found_in(desk, recipe, folder)[0]


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "{}",
        '{"model_type": "nobody-knows"}',
        '{"model_type": "llama", "vocab_size": "x"}',
    ],
)
def test_settings_of_a_model_that_cannot_be_read_are_told(
    desk: Workspace, tmp_path: Path, models: Path, brought: Path, config: str
):
    (brought / "config.json").write_text(config)
    fatal = check(desk, tmp_path, models, brought).fatal
    assert fatal
    assert all("Traceback" not in str(problem) for problem in fatal)
    assert any(str(brought) in str(problem) for problem in fatal)


def test_code_in_the_folder_of_a_model_is_never_run_nor_offered(
    desk: Workspace, tmp_path: Path, models: Path, brought: Path, monkeypatch: pytest.MonkeyPatch
):
    def asked(*_: Any) -> str:
        raise AssertionError("somebody was asked whether code may be run")

    monkeypatch.setattr("builtins.input", asked)
    config = json.loads((brought / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (brought / "config.json").write_text(json.dumps(config))
    (brought / "own.py").write_text(CODE)
    assert check(desk, tmp_path, models, brought).fatal
    assert not (brought / "ran").exists()


def test_what_follows_from_a_fault_is_no_fault_of_its_own(
    desk: Workspace, tmp_path: Path, models: Path
):
    """Nor is a place named that nobody but the check knows."""
    chat = {"template": str(tmp_path / "nowhere.jinja")}
    model = {"name": str(models / "one"), "precision": "float32", "chat": chat}
    found, _ = found_in(desk, recipe_of(tmp_path, models, prompts(), model=model), tmp_path)
    assert found.fatal
    assert not [str(problem) for problem in found.fatal if ".check-" in str(problem)]


def test_prompts_beside_which_no_reply_fits_are_told_where_long_samples_are_left_out(
    desk: Workspace, tmp_path: Path, models: Path
):
    sizes = sorted(tokens_of(models, row["prompt"]) for row in prompts())

    def problems(most: int) -> list[tuple[str, bool]]:
        recipe = recipe_of(
            tmp_path, models, prompts(), reward={"max_tokens": most, "too_long": "drop"}
        )
        found, _ = found_in(desk, recipe, tmp_path)
        return [(p.what, p.fatal) for p in found.problems if p.where == "reward.max_tokens"]

    assert not problems(sizes[-1] + 1)
    ((what, fatal),) = problems(sizes[0])
    assert fatal
    assert "4 of 4 prompts leave no room" in what


def test_written_answers_may_be_longer_than_what_is_read(
    desk: Workspace, tmp_path: Path, models: Path
):
    def warned(**change: Any) -> bool:
        found, _ = found_in(desk, recipe_of(tmp_path, models, prompts(), **change), tmp_path)
        return any(p.where == "reward.too_long" for p in found.warnings)

    written = {"feedback": {"kinds": ["comparison", "correction"]}}
    assert warned(**written)
    assert not warned(**written, reward={"too_long": "drop"})
    assert not warned(feedback={"kinds": ["comparison"]})


ADDED = "<tool_call>"
"""A token that was added to the tokenizer alone."""


@pytest.fixture
def added(brought: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(brought)
    tokenizer.add_tokens([ADDED])
    tokenizer.save_pretrained(brought)
    return brought


def test_a_token_without_an_embedding_is_told_wherever_it_stands(
    desk: Workspace, tmp_path: Path, models: Path, added: Path
):
    """In a prompt, a demonstration, feedback, and texts to learn from: by file and row."""
    rows = prompts(f"Use {ADDED} now.")
    shown = write(tmp_path / "shown.jsonl", [{"prompt": "a", "completion": f"Use {ADDED}."}])
    pairs = write(
        tmp_path / "pairs.jsonl",
        [
            {"prompt": f"Which, {i}?", "chosen": "b", "rejected": word}
            for i, word in enumerate(("c", ADDED))
        ],
    )
    lost = {"text": f"The {ADDED}."}
    texts = write(tmp_path / "texts.jsonl", [{"text": "The river."}, lost, lost])
    plain = tmp_path / "plain.txt"
    plain.write_text(f"The river.\n\nThe {ADDED}.\nCalm.\n{ADDED}\n")
    of_texts = {"texts.jsonl:2", "texts.jsonl:3", "plain.txt:3", "plain.txt:5"}
    import_file(desk, pairs)
    recipe = recipe_of(
        tmp_path,
        models,
        rows,
        model={"name": str(added)},
        pretrain={"text": [texts, str(plain)]},
        sft={"data": [shown]},
        feedback={"use": "workspace"},
        algorithm={"type": "ppo", "ptx_coefficient": 0.1, "ptx_text": [texts, str(plain)]},
    )
    found, _ = found_in(desk, recipe, tmp_path)
    told = {p.where: p for p in found.fatal if repr(ADDED) in p.what}
    assert told.keys() >= {
        f"asked.jsonl:{len(rows)}",
        "shown.jsonl:1",
        "pairs.jsonl:2",
        *of_texts,
    }
    for problem in told.values():
        assert "resize_token_embeddings" in str(problem.hint)
    for part in ("pretrain", "sft"):
        del recipe[part]
    recipe["feedback"]["use"] = "run"
    found, _ = found_in(desk, recipe, tmp_path)
    assert of_texts <= {p.where for p in found.fatal}, "of algorithm.ptx_text"


def test_a_token_without_an_embedding_that_nobody_wrote_keeps_nothing_from_working(
    desk: Workspace, tmp_path: Path, models: Path, added: Path
):
    assert not check(desk, tmp_path, models, added).fatal


def test_whatever_reads_a_text_names_its_token_without_an_embedding(added: Path):
    """Also where nothing was checked before."""
    settings = ModelSettings(name=str(added), precision="float32")
    policy, scorer = TextPolicy.load(settings), TextScorer.load(settings)
    prompt = Prompt.from_text(f"Use {ADDED} now.", source="mine.txt:3")
    asked = Sample.of(prompt, Completion(text="Yes.", finish="stop"))
    drawn = np.array([AutoTokenizer.from_pretrained(added).convert_tokens_to_ids(ADDED)])
    asked_well = Prompt.from_text("How?")
    own = TextSampler(policy.model, policy.tokenizer)
    opening = own.encode(asked_well, SamplingSettings())
    content = Completion(
        text=ADDED, prompt_tokens=opening, tokens=drawn, logprobs=np.zeros(1, np.float32)
    )
    replied = Sample.of(asked_well, content)
    for read in (
        lambda: TextReward(scorer).score([replied]),
        lambda: TextSampler(policy.model, policy.tokenizer).sample(
            [prompt], SamplingSettings(max_tokens=2), seed=1
        ),
        lambda: TextReward(scorer).score([asked]),
        lambda: TextReader.of_model(policy).chat.encode_sample(asked),
    ):
        with pytest.raises(ModelError, match=f"holds '{ADDED}', token"):
            read()


def test_what_a_policy_may_draw_is_read_by_each_model_that_scores_it(
    desk: Workspace, tmp_path: Path, models: Path, added: Path
):
    """By ids where the tokens are the same, by words where they are not."""
    short = added
    tokenizer = AutoTokenizer.from_pretrained(short)
    whole = tmp_path / "whole"
    model = AutoModelForCausalLM.from_pretrained(short)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(whole)
    tokenizer.save_pretrained(whole)
    number = tokenizer.convert_tokens_to_ids(ADDED)

    def told(policy: Path, scorer: Path) -> list[Any]:
        reward = {"model": {"name": str(scorer), "precision": "float32"}}
        recipe = recipe_of(tmp_path, models, prompts(), model={"name": str(policy)}, reward=reward)
        return found_in(desk, recipe, tmp_path)[0].problems

    for policy, scorer in ((whole, whole), (short, short), (short, whole)):
        assert not [str(problem) for problem in told(policy, scorer)], (policy, scorer)
    (problem,) = told(whole, short)
    assert problem.fatal
    assert problem.where == "reward.model.name"
    for part in (str(whole), str(short), "may draw 1 tokens", f"'{ADDED}' ({number})"):
        assert part in problem.what
    assert "resize_token_embeddings" in problem.hint
    assert any("may write 1 tokens" in p.what for p in told(models / "two", short) if not p.fatal)


@pytest.mark.parametrize("word", ["Why", "It", "a", "1"])
def test_words_of_the_checks_own_need_no_embedding(
    desk: Workspace, tmp_path: Path, models: Path, brought: Path, word: str
):
    """What is tried with a template is never read, and nobody wrote it."""
    tokenizer = AutoTokenizer.from_pretrained(brought)
    tokenizer.add_tokens([AddedToken(word, single_word=True)])
    tokenizer.save_pretrained(brought)
    assert not check(desk, tmp_path, models, brought).problems
