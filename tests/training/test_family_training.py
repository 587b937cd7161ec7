"""Every family goes the whole road: fine-tuned, preferred over pairs, scored, and trained by PPO.

What is compared is known without the code: fine-tuning packed and unpacked is the same update, DPO
of a policy that is still its reference loses log 2 a pair, and the first update of PPO is on the
distribution that was sampled from.
"""

import math
from pathlib import Path

import pytest
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from backflip.algorithms import DPO, PPO, DPOSettings, PPOSettings
from backflip.config import (
    ModelSettings,
    OptimizerSettings,
    PromptSettings,
    RewardSettings,
    SamplingSettings,
    SftSettings,
)
from backflip.models import load_causal_lm, save_model
from backflip.records import Completion, Prompt, Sample
from backflip.training import Learner, OnPolicyTrainer, PreferenceTrainer
from backflip.training.domains.text import TextDomain
from families import FAMILIES, build_family
from unsealed import unsealed

WORDS = ("rain", "a kettle", "the window", "tea")
WITHOUT_SCORERS = ("cohere", "granite")
"""Families for which transformers has no class with a head for scores."""
RATE = OptimizerSettings(learning_rate=1e-3)


def demonstrations() -> list[Sample]:
    """Dialogues of different lengths, so that packing lays several in a row."""
    return [
        Sample.of(Prompt.from_text(word), Completion(text="It is so." * n))
        for word, n in (("rain", 1), ("a window", 4), ("tea", 1), ("it", 1))
    ]


@pytest.fixture(params=FAMILIES)
def domain(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> TextDomain:
    family = request.param
    scored = "llama" if family in WITHOUT_SCORERS else family
    for name, folder in ((family, "model"), (scored, "scored")):
        model = build_family(name, vocabulary=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
        save_model(model, tokenizer, tmp_path / folder)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"What of {word}?" for word in WORDS))
    settings = ModelSettings(name=str(tmp_path / "model"), precision="float32")
    return TextDomain(
        model=settings,
        prompts=PromptSettings(source=str(prompts), heldout=1),
        sampling=SamplingSettings(max_tokens=8, batch_size=8),
        reward=RewardSettings(model=settings.model_copy(update={"name": str(tmp_path / "scored")})),
        sft=SftSettings(data=(), sequence_length=64, batch_size=4, optimizer=RATE),
    )


def folder(domain: TextDomain) -> Path:
    return Path(domain.model.name)


def finetuned(domain: TextDomain, *, packing: bool) -> tuple[dict[str, float], dict[str, Tensor]]:
    assert domain.sft is not None
    domain.sft = domain.sft.model_copy(update={"packing": packing})
    trainee, _ = domain.finetuning(folder(domain), seed=0, shown=demonstrations())
    metrics = trainee.step(0)
    gradients = {name: p.grad for name, p in trainee.policy.named_parameters()}
    return metrics, {name: grad.clone() for name, grad in gradients.items() if grad is not None}


def test_fine_tuning_is_the_same_packed_and_unpacked(domain: TextDomain):
    metrics, packed = finetuned(domain, packing=True)
    expected, unpacked = finetuned(domain, packing=False)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert metrics["tokens"] == expected["tokens"]
    assert packed.keys() == unpacked.keys()
    for name, gradient in packed.items():
        apart = float((gradient - unpacked[name]).norm())
        assert apart < 1e-5 * expected["grad_norm"], name


def test_dpo_begins_at_log_2_and_moves(domain: TextDomain):
    pairs = [
        (
            Sample.of(Prompt.from_text(f"What of {word}?"), Completion(text=f"It is {word}.")),
            Sample.of(Prompt.from_text(f"What of {word}?"), Completion(text="No.")),
        )
        for word in WORDS
    ]
    algorithm = DPO(DPOSettings(batch_size=4, epochs=4, optimizer=RATE))
    learner = Learner(
        domain.policy(folder(domain), seed=0),
        RATE,
        total_updates=4,
        reference=domain.frozen(folder(domain)),
    )
    training = PreferenceTrainer(
        algorithm=algorithm, learner=learner, pairs=pairs, collate=domain.collate, seed=0
    )
    losses = [training.step(step)["policy_loss"] for step in range(4)]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < losses[0] - 0.01


def test_ppo_trains_on_what_was_drawn(domain: TextDomain):
    # Without padding of its own, as GPT-2, Llama and Mistral come: the scorer gets one, and reads
    # the same tokens.
    for name in {domain.model.name, domain.reward_settings.model.name}:
        _, tokenizer = load_causal_lm(name)
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(unsealed(Path(name)))
    start = folder(domain)
    reward = domain.scorer(start, seed=0)
    reward.save(start.parent / "reward", {})
    algorithm = PPO(
        PPOSettings(steps=2, prompts_per_step=3, samples_per_prompt=2, epochs=1, optimizer=RATE)
    )
    learner = Learner(
        domain.policy(start, seed=0),
        RATE,
        total_updates=2,
        reference=domain.frozen(start),
        value=domain.value(start.parent / "reward", seed=0),
    )
    training = OnPolicyTrainer(
        algorithm=algorithm,
        learner=learner,
        sampler=domain.sampler(start, model_id="model-1"),
        reward=domain.reward(start.parent / "reward"),
        prompts=domain.prompts(),
        sampling=domain.sampling,
        collate=domain.collate,
        precision=domain.precision,
        spell=domain.spell,
        seed=0,
    )
    first, second = training.step(0), training.step(1)
    assert first["kl"] == pytest.approx(0.0, abs=1e-4)
    assert first["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert first["clip_fraction"] == 0.0
    assert second["kl"] != pytest.approx(0.0, abs=1e-6)
    for metrics in (first, second):
        assert metrics["sampler_gap"] < 1e-4
