"""How dialogues become text is settled once: whatever reads them in a run does so alike."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_helpers import make_run, text_recipe
from transformers import AutoTokenizer
from worker_helpers import PLAIN, work

from backflip.loop import Recipe
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.workspace import ModelRecord, Workspace
from unsealed import unsealed

pytestmark = pytest.mark.usefixtures("one_thread")

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('knows no system turn') }}{% endif %}"
    "<|im_start|>{{ m.role }} {{ mood or 'plain' }} {{ strftime_now('%Y') }}\n"
    "{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}"
    "<|im_start|>assistant {{ mood or 'plain' }} {{ strftime_now('%Y') }}\n{% endif %}"
)
USER = Message(role="user", content="How is it?")
SYSTEM = Message(role="system", content="Be brief.")
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "<|im_start|>user plain 2024\nHow is it?<|endoftext|>\n"),
    "kwargs": (
        {"kwargs": {"mood": "bright"}},
        "<|im_start|>user bright 2024\nHow is it?<|endoftext|>\n",
    ),
    "today": (
        {"today": "2031-05-06"},
        "<|im_start|>user plain 2031\nHow is it?<|endoftext|>\n",
    ),
    "system": (
        {"system": "first_user"},
        "<|im_start|>user plain 2024\nBe brief.\n\nHow is it?<|endoftext|>\n",
    ),
    "template": ({"template": "short.jinja"}, "<|im_start|>user How is it?<|endoftext|>"),
}
SHORT = "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|endoftext|>{% endfor %}"


@pytest.fixture
def model(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose template ends a turn with another token than its texts end with."""
    folder = unsealed(shutil.copytree(models / "one", tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (tmp_path / "short.jinja").write_text(SHORT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_reads_a_dialogue_by_the_settings(
    change: str, model: Path, desk: Workspace, tmp_path: Path
):
    settings, text = CHANGES[change]
    turns = (SYSTEM, USER) if change == "system" else (USER,)
    prompt = Prompt(content=Dialogue(messages=turns))
    tokenizer = AutoTokenizer.from_pretrained(model)
    head = text[: text.index("How")].replace("user", "assistant").removesuffix("Be brief.\n\n")
    opening = head if change != "template" else "<|im_start|>assistant"
    before = "" if change != "template" else " "
    expected = tokenizer.encode(text + opening)
    said = tokenizer.encode(text + opening + before + "It is calm.<|endoftext|>")[len(expected) :]

    recipe = text_recipe(tmp_path, model={"name": str(model), "chat": settings})
    recipe["model"] |= {"precision": "float32"}
    recipe["sft"] |= {"data": [], "epochs": 1}
    del recipe["pretrain"]
    run, _ = make_run(desk, recipe)
    domain = run.domain
    sample = Sample.of(prompt, Completion("It is calm."))

    sampler = domain.sampler(model, model_id="m")
    (drawn,) = sampler.sample([prompt], run.recipe.sampling, seed=0)
    assert drawn.completion.prompt_tokens.tolist() == expected
    assert said[-1] in sampler.end_tokens
    assert tokenizer.eos_token_id in sampler.end_tokens

    domain.policy(model, seed=0)
    reward = domain.scorer(model, seed=0)
    for inputs in (domain.collate([sample]), reward.collate([sample])):
        length = len(expected) + len(said)
        assert inputs.input_ids_BL[0, :length].tolist() == [*expected, *said]
        assert int(inputs.mask_BT.sum()) == len(said)

    trainee, _ = domain.finetuning(model, seed=0, shown=[sample])
    packed = trainee.batch(0)
    targets = packed.tokens[packed.mask].tolist()
    assert packed.tokens[0][: len(expected)].tolist() == expected
    assert targets == said

    desk.models.register(
        ModelRecord(
            id="m", name="m", stage="sft", path=str(model),
            recipe=run.recipe.model_dump(mode="json"),
        )
    )  # fmt: skip
    user = desk.people.add("mia").id
    asked = desk.generations.ask(user, "playground", "m", prompt, PLAIN, seed=0)
    assert work(desk)[0]["done"] == 1
    made = desk.generations.get(asked).sample_id
    assert made is not None
    (kept,) = desk.samples.get([made]).values()
    np.testing.assert_array_equal(kept.completion.prompt_tokens, expected)


def test_a_reward_model_reads_as_the_policy_does_unless_it_is_another_or_told_otherwise():
    chat = {"system": "first_user"}
    model = {"name": "mine", "chat": chat}

    def of_reward(**reward: Any) -> str:
        data = {"model": model, "reward": {"model": reward}}
        return Recipe.parse(data).reward.model.chat.system

    assert of_reward() == "first_user"
    assert of_reward(name="mine", precision="float32") == "first_user"
    assert of_reward(name="other") == "as_is"
    assert of_reward(chat={"system": "as_is"}) == "as_is"
    again = Recipe.parse(Recipe.parse({"model": model}).model_dump(mode="json"))
    assert again.reward.model.chat.system == "first_user"
