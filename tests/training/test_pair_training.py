"""The offline trainee on pairs whose better side is known."""

import copy
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bandit import clip_of, policy, situations
from torch import Tensor

from backflip.agents import ClipInputs
from backflip.algorithms import DPO, DPOSettings
from backflip.config import OptimizerSettings
from backflip.data import encode_sample
from backflip.errors import ModelError, TrainingError
from backflip.models import TextInputs, TextPolicy
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    GoodBad,
    Implicit,
    Ranking,
    Rating,
    SafetyFlag,
)
from backflip.training import Learner, PreferenceTrainer, decided_pairs, offline_steps

START = torch.tensor([1.0, 0.5])
DOCS = Path(__file__).parents[2] / "docs" / "algorithms"
WORD = re.compile(r"`(\w+)`")
RATES = OptimizerSettings(learning_rate=0.02)


def pairs(number: int = 10) -> list[tuple[Sample, Sample]]:
    """Action 2 over 0, and now and then over 1."""
    prompt = situations()[0]
    return [
        (clip_of(2, prompt, i), clip_of(1 if i % 3 == 0 else 0, prompt, i)) for i in range(number)
    ]


def make(number: int = 10, seed: int = 0, **change) -> PreferenceTrainer:
    settings = DPOSettings(**{"epochs": 6, "batch_size": 4, "optimizer": RATES, **change})
    learner = Learner(
        policy(),
        settings.optimizer,
        total_updates=offline_steps(number, settings),
        reference=policy().frozen_copy(),
    )
    return PreferenceTrainer(
        algorithm=DPO(settings),
        learner=learner,
        pairs=pairs(number),
        collate=lambda samples: ClipInputs.of([sample.clip for sample in samples]),
        seed=seed,
    )


def run(training: PreferenceTrainer, steps: range | None = None) -> list[dict[str, float]]:
    return [training.step(i) for i in steps or range(training.num_steps)]


def log_chances(training: PreferenceTrainer) -> Tensor:
    return training.learner.policy.distribution(START).logits.detach()


def test_the_preferred_action_is_learned_and_the_accuracy_rises():
    training = make()
    metrics = run(training)
    assert metrics[0]["accuracy"] == 0.5  # an untrained policy is its own reference
    assert metrics[0]["loss"] == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-6)
    assert metrics[-1]["accuracy"] == pytest.approx(1)
    assert metrics[-1]["margin"] > metrics[1]["margin"] > 0
    assert log_chances(training).argmax() == 2


def test_accuracy_is_that_of_the_policy_against_its_reference():
    training = make(batch_size=10)
    run(training, range(2))
    reference = policy().distribution(START).logits.detach()
    gained = 0.1 * (log_chances(training) - reference)
    rewards = torch.tensor(
        [[gained[2], gained[int(worse.clip.actions[0])]] for _, worse in pairs()]
    )
    metrics = training.step(2)
    margins = rewards[:, 0] - rewards[:, 1]
    assert metrics["accuracy"] == pytest.approx(float((margins > 0).float().mean()))
    assert metrics["margin"] == pytest.approx(float(margins.mean()), abs=1e-6)
    assert metrics["chosen_reward"] == pytest.approx(float(rewards[:, 0].mean()), abs=1e-6)
    assert metrics["rejected_reward"] == pytest.approx(float(rewards[:, 1].mean()), abs=1e-6)
    expected = -torch.nn.functional.logsigmoid(margins).mean()
    assert metrics["loss"] == pytest.approx(float(expected), abs=1e-6)


def test_every_figure_on_the_page_is_reported():
    page = (DOCS / "dpo.md").read_text().split("## What the figures are")[1]
    named = {name for row in re.findall(r"^\|(.*?)\|", page, re.M) for name in WORD.findall(row)}
    assert len(named) >= 6
    assert named <= make().step(0).keys()


def test_every_epoch_has_each_pair_once(monkeypatch):
    training = make(epochs=3)
    assert training.num_steps == 9
    shown: list[str] = []
    collate = training.collate

    def watch(samples):
        shown.extend(sample.id for sample in samples)
        return collate(samples)

    training.collate = watch
    sizes = [m["num_pairs"] for m in run(training)]
    assert sizes == [4, 4, 2] * 3
    for epoch in range(3):
        held = Counter(shown[20 * epoch : 20 * epoch + 20])
        assert held == Counter(s.id for pair in pairs() for s in pair)
    assert shown[:20] != shown[20:40]


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.5},
        {"variant": "ipo"},
        {"label_smoothing": 0.2},
        {"epochs": 3},
        {"batch_size": 10},
        {"optimizer": OptimizerSettings(learning_rate=0.005)},
    ],
    ids=str,
)
def test_every_setting_changes_what_is_learned(change):
    usual, other = make(), make(**change)
    run(usual)
    run(other)
    assert float((log_chances(usual) - log_chances(other)).abs().max()) > 1e-2


def test_length_normalisation_changes_ipo(build_model, tokenizer):
    plain, a_token = (
        text_training(build_model(), tokenizer, variant="ipo", length_normalised=flag)
        for flag in (False, True)
    )
    assert plain.step(0)["loss"] == pytest.approx(a_token.step(0)["loss"])  # still the reference
    assert plain.step(1)["loss"] != pytest.approx(a_token.step(1)["loss"], rel=1e-3)


def test_smoothed_labels_are_trusted_less():
    sure, unsure = make(epochs=40), make(epochs=40, label_smoothing=0.3)
    assert run(unsure)[-1]["margin"] < 0.7 * run(sure)[-1]["margin"]


MIA: dict[str, Any] = {"annotator": "mia", "origin": "import:votes.jsonl"}
UNDECIDED = {
    "tie": Comparison(**MIA, samples=("a", "b"), choice="tie"),
    "both bad": Comparison(**MIA, samples=("a", "b"), choice="both_bad"),
    "tied ranking": Ranking(**MIA, samples=("a", "b"), ranks=(1, 1)),
    "rating": Rating(**MIA, sample="a", level=2),
    "good or bad answer": GoodBad(**MIA, sample="a", good=True),
    "demonstration": Demonstration(**MIA, sample="a"),
    "critique": Critique(**MIA, sample="a", text="dull", level=2),
    "safety flag": SafetyFlag(**MIA, sample="a", safe=True),
    "implicit sign": Implicit(**MIA, sample="a", signal="kept"),
}
DECIDED = [
    (Comparison(**MIA, samples=("a", "b"), choice="b"), ["ba"]),
    (Ranking(**MIA, samples=("a", "b", "c"), ranks=(2, 1, 2)), ["ba", "bc"]),
    (Correction(**MIA, sample="a", corrected="b"), ["ba"]),
    (Demonstration(**MIA, sample="c", over=("a", "b")), ["ca", "cb"]),
    (Implicit(**MIA, sample="a", signal="regenerated", over="b"), ["ba"]),
]
NAMED = {name: clip_of(i, situations()[0]) for i, name in enumerate("abc")}


def test_pairs_are_what_entries_decide():
    entries = [entry for entry, _ in DECIDED] + list(UNDECIDED.values())
    expected = [(NAMED[p[0]], NAMED[p[1]]) for _, told in DECIDED for p in told]
    assert decided_pairs(entries, NAMED) == expected
    assert {type(entry) for entry in entries} == set(KINDS.values())


@pytest.mark.parametrize("name", UNDECIDED)
def test_feedback_without_a_pair_is_an_error_that_counts_what_there_is(name: str):
    with pytest.raises(TrainingError) as caught:
        decided_pairs([UNDECIDED[name]] * 2, NAMED, skipped=1)
    plural = name if name == "both bad" else f"{name}s"
    assert caught.value.what.endswith(
        f"no entry prefers one sample over another: 2 {plural}, 1 skip"
    )
    assert caught.value.where == "import:votes.jsonl"
    assert "comparisons" in caught.value.hint


def test_all_that_decides_nothing_is_counted_together():
    entries = [UNDECIDED["tie"]] * 12 + [UNDECIDED["both bad"]] * 3
    with pytest.raises(TrainingError, match="another: 12 ties, 5 skips, 3 both bad"):
        decided_pairs(entries, NAMED, skipped=5)
    with pytest.raises(TrainingError, match=r"no pair to learn from: no entry\n"):
        decided_pairs([], {})


@pytest.mark.parametrize("stop", [1, 7])
def test_it_goes_on_bit_for_bit(stop):
    straight, broken, again = make(), make(), make()
    metrics = run(straight)
    seen = run(broken, range(stop))
    again.load_state(broken.state())
    seen += run(again, range(stop, again.num_steps))
    assert seen == metrics
    ends = [one.state().tensors for one in (straight, again)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_another_seed_is_another_order():
    one, other = make(seed=0), make(seed=1)
    assert run(one) != run(other)


TEXTS = [
    ("What sings?", "The kettle sang.", "Nothing, nothing at all, it is quiet."),
    ("Who is tall?", "The lighthouse is.", "I do not know."),
    ("Rain?", "Rivers on the window.", "No."),
]


def text_training(model, tokenizer, micro_tokens: int = 4096, **change) -> PreferenceTrainer:
    rates = OptimizerSettings(learning_rate=3e-3, micro_batch_tokens=micro_tokens)
    settings = DPOSettings(**{"epochs": 8, "batch_size": 3, "optimizer": rates, **change})
    network = TextPolicy.from_model(model, tokenizer)
    reference = network.frozen_copy()
    learner = Learner(network, settings.optimizer, total_updates=24, reference=reference)
    prompts = [Prompt.from_text(text) for text, _, _ in TEXTS]
    sides = [
        tuple(Sample.of(p, Completion(text=text)) for text in texts[1:])
        for p, texts in zip(prompts, TEXTS, strict=True)
    ]

    def collate(samples):
        encoded = [encode_sample(tokenizer, sample) for sample in samples]
        return TextInputs.of([p for p, _ in encoded], [r for _, r in encoded], pad_id=0)

    return PreferenceTrainer(
        algorithm=DPO(settings), learner=learner, pairs=sides, collate=collate, seed=0
    )


@pytest.mark.parametrize("micro_tokens", [1, 4096])
def test_text_is_learned_alike_and_measured(build_model, tokenizer, micro_tokens):
    training = text_training(build_model(), tokenizer, micro_tokens)
    metrics = run(training)
    lengths = [[len(encode_sample(tokenizer, s)[1]) for s in pair] for pair in training.pairs]
    assert metrics[0]["chosen_length"] == pytest.approx(sum(a for a, _ in lengths) / 3)
    assert metrics[0]["rejected_length"] == pytest.approx(sum(b for _, b in lengths) / 3)
    # Read in other company a row rounds otherwise, so that a margin is only nearly 0.
    assert metrics[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert metrics[-1]["accuracy"] == pytest.approx(1)
    assert metrics[-1]["loss"] < 0.5


SOURCE = "mine.jsonl:12"


def faulty(tokenizer, fault: str) -> Sample:
    """A reply that a tiny model cannot learn from, for a reason of its own."""
    if fault == "length":
        content = Completion(text="A lighthouse. " * 200)
    elif fault == "nothing":
        content = Completion(text="", finish="length")
    else:
        content = Completion(text="Well.")
    prompt = Prompt.from_text("Rain?", source=SOURCE)
    if fault == "template":
        turns = (Message(role="system", content="Be brief."), *prompt.messages)
        prompt = Prompt(content=Dialogue(messages=turns), source=SOURCE)
        tokenizer.chat_template = (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{% for turn in messages %}{{ turn.content }}{% endfor %}"
        )
    return Sample.of(prompt, content)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("length", ModelError, "the model reads at most"),
        ("nothing", TrainingError, "nothing was written"),
        ("template", ModelError, "the chat template refuses"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_an_error_names_the_sample_and_where_it_came_from(
    build_model, tokenizer, fault, error, message, side
):
    training = text_training(build_model(), copy.deepcopy(tokenizer), beta=0.2)
    spoilt = faulty(training.learner.policy.tokenizer, fault)
    pair = list(training.pairs[1])
    pair[side] = spoilt
    training.pairs = [training.pairs[0], tuple(pair), training.pairs[2]]
    with pytest.raises(error, match=message) as caught:
        training.step(0)
    assert caught.value.where == SOURCE


def test_a_clip_of_another_environment_is_named():
    training = make(batch_size=10)
    better, worse = training.pairs[3]
    spoilt = replace(worse, content=replace(worse.clip, observations=np.zeros((2, 7), np.float32)))
    spoilt = replace(spoilt, id="sample-of-elsewhere")
    training.pairs = [*training.pairs[:3], (better, spoilt), *training.pairs[4:]]
    with pytest.raises(ModelError, match="not of that form") as caught:
        training.step(0)
    assert caught.value.where == "sample-of-elsewhere"


def test_updates_are_counted_over_all_epochs():
    assert offline_steps(10, DPOSettings(epochs=3, batch_size=4)) == 9
    assert offline_steps(1, DPOSettings(epochs=1, batch_size=4)) == 1
