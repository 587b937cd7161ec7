"""A sampler that does not have the learner's policy is told, whatever the difference is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bandit import SHAPE, Rewarded, policy, situations
from training_networks import ConstantValue

from backflip.agents import AgentPolicy, AgentSampler, ClipInputs, ClipValue
from backflip.algorithms import PPO, PPOSettings
from backflip.config import OptimizerSettings, SamplingSettings
from backflip.data import encode_reply, encode_sample
from backflip.errors import TrainingError
from backflip.models import TextInputs, TextPolicy
from backflip.records import Completion, Prompt, Sample
from backflip.sampling import TextSampler
from backflip.training import Learner, OnPolicyTrainer
from backflip.training.agreement import EXACT, NARROW, require_agreement, tolerance

PROMPTS = [
    Prompt.from_text(text, source=f"mine.jsonl:{line}")
    for line, text in enumerate(("Rain?", "The kettle", "Why so tall?", "Sing."), 1)
]
COMPLETION = Completion(text="abc", tokens=np.array([1, 2, 3], np.int32), finish="length")


class Longest:
    def score(self, samples):
        return [float(len(sample.text)) for sample in samples]


class Through:
    """A sampler whose samples are changed, or which is not given the weights."""

    def __init__(self, inner, change=lambda sample: sample, *, loads=True):
        self.inner, self.change, self.loads = inner, change, loads

    def load(self, weights, *, version):
        if self.loads:
            self.inner.load(weights, version=version)

    def sample(self, *args, **kwargs):
        return [self.change(sample) for sample in self.inner.sample(*args, **kwargs)]


def told(sample: Sample, **fields) -> Sample:
    return replace(sample, content=replace(sample.content, **fields))


def shifted(sample: Sample) -> Sample:
    return told(sample, logprobs=np.roll(sample.content.logprobs, 1))


def one_wrong(sample: Sample) -> Sample:
    logprobs = sample.content.logprobs.copy()
    logprobs[-1] -= 4
    return told(sample, logprobs=logprobs)


def unknown(sample: Sample) -> Sample:
    return told(sample, logprobs=np.full_like(sample.content.logprobs, np.nan))


@pytest.fixture
def train(build_model, tokenizer):
    """Makes a training of a tiny language model around a sampler."""

    def make(dtype, through=Through, collate=None):
        settings = PPOSettings(
            steps=2,
            prompts_per_step=4,
            samples_per_prompt=4,
            kl_beta=0.0,
            optimizer=OptimizerSettings(learning_rate=1e-3),
        )

        def usual(samples):
            pairs = [encode_sample(tokenizer, sample) for sample in samples]
            return TextInputs.of([p for p, _ in pairs], [r for _, r in pairs], pad_id=0)

        actor = TextPolicy.from_model(build_model(1), tokenizer, precision=dtype)
        return OnPolicyTrainer(
            algorithm=PPO(settings),
            learner=Learner(
                actor,
                settings.optimizer,
                total_updates=100,
                reference=actor.frozen_copy(),
                value=ConstantValue(),
            ),
            sampler=through(TextSampler(build_model(2).to(dtype), tokenizer)),
            reward=Longest(),
            prompts=PROMPTS,
            sampling=SamplingSettings(max_tokens=24),
            collate=collate or usual,
            seed=0,
            precision=dtype,
            spell=lambda sample, place: tokenizer.decode([sample.completion.tokens[place]]),
        )

    return make


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_policys_own_samples_are_learned_from(train, dtype):
    training = train(dtype)
    gaps = [training.step(step)["sampler_gap"] for step in range(2)]
    assert max(gaps) < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "change", [shifted, one_wrong, unknown], ids=lambda change: change.__name__
)
def test_other_log_probabilities_are_told(train, dtype, change):
    training = train(dtype, lambda sampler: Through(sampler, change))
    with pytest.raises(TrainingError, match="more than rounding") as caught:
        training.step(0)
    assert "mine.jsonl:" in caught.value.where
    assert caught.value.where.startswith("sample-")
    assert "temperatures" in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_sampler_with_other_weights_is_told(train, dtype):
    training = train(dtype, lambda sampler: Through(sampler, loads=False))
    with pytest.raises(TrainingError, match="more than rounding"):
        training.step(0)


def test_weights_of_the_step_before_are_told(train):
    training = train(torch.float32)
    training.step(0)
    training.sampler.loads = False
    with pytest.raises(TrainingError, match="more than rounding"):
        training.step(1)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_another_temperature_is_told(train, temperature):
    class Other(Through):
        def sample(self, prompts, settings, **options):
            other = settings.model_copy(update={"temperature": temperature})
            return super().sample(prompts, other, **options)

    with pytest.raises(TrainingError, match="more than rounding"):
        train(torch.float32, Other).step(0)


def test_tokens_that_were_written_anew_are_told(train, tokenizer):
    """Text that is encoded again has other tokens: more or fewer, or as many and others."""

    def anew(samples):
        replies = [encode_reply(tokenizer, sample.text, end=False) for sample in samples]
        prompts = [sample.completion.prompt_tokens for sample in samples]
        return TextInputs.of(prompts, replies, pad_id=0)

    with pytest.raises(TrainingError, match=r"\d+ actions were drawn, the learner reads \d+"):
        train(torch.float32, collate=anew).step(0)

    def others(samples):
        prompts = [sample.completion.prompt_tokens for sample in samples]
        replies = [sample.completion.tokens[::-1].copy() for sample in samples]
        return TextInputs.of(prompts, replies, pad_id=0)

    with pytest.raises(TrainingError, match="more than rounding"):
        train(torch.float32, collate=others).step(0)


def test_agents_too():
    settings = PPOSettings(steps=1, prompts_per_step=8, kl_beta=0.0)
    algorithm = PPO(settings)
    make = {
        "algorithm": algorithm,
        "reward": Rewarded(),
        "prompts": situations(),
        "sampling": SamplingSettings(max_tokens=3),
        "collate": lambda samples: ClipInputs.of([sample.clip for sample in samples]),
        "seed": 0,
        "precision": torch.float32,
        "spell": lambda sample, place: f"move {sample.clip.actions[place]}",
    }
    lying = AgentPolicy(SHAPE, seed=4)
    with torch.no_grad():
        for number, weight in enumerate(lying.parameters()):
            weight.normal_(generator=torch.Generator().manual_seed(number))
    training = OnPolicyTrainer(
        learner=Learner(
            policy(),
            settings.optimizer,
            total_updates=1,
            reference=policy(),
            value=ClipValue(SHAPE, seed=1),
        ),
        sampler=Through(AgentSampler(lying), loads=False),
        **make,
    )
    with pytest.raises(TrainingError, match=r"action 1 of 1, move [012], was drawn"):
        training.step(0)


def test_the_message_has_all_that_is_known():
    sample = replace(
        Sample.of(PROMPTS[1], replace(COMPLETION, logprobs=np.array([-1, -2, -3], np.float32))),
        id="sample-7",
    )
    learned = torch.tensor([[-1.0, -4.5, -3.0, 0.0]])
    mask = torch.tensor([[True, True, True, False]])
    require_agreement([sample], torch.tensor([[-1.0, -2.01, -3.0, 9.0]]), mask, EXACT, str)
    with pytest.raises(TrainingError) as caught:
        require_agreement([sample], learned, mask, EXACT, lambda s, place: f"'word {place}'")
    assert caught.value.where == "sample-7 (mine.jsonl:2)"
    assert caught.value.what.startswith(
        "action 2 of 3, 'word 1', was drawn with log-probability -2, the learner gives it -4.5"
    )
    assert "0.833 nats an action" in caught.value.what


@pytest.mark.parametrize("allowed", [EXACT, NARROW])
def test_one_outlier_is_borne_and_many_are_not(allowed):
    mask = torch.ones(1, 40, dtype=torch.bool)
    sample = Sample.of(
        PROMPTS[0],
        replace(COMPLETION, tokens=np.zeros(40, np.int32), logprobs=np.full(40, -5, np.float32)),
    )

    def check(gaps):
        require_agreement([sample], torch.tensor([gaps]) - 5, mask, allowed, lambda s, i: "")

    check([0.0] * 39 + [0.9 * allowed.one])
    check([0.9 * allowed.mean] * 39 + [-0.9 * allowed.one])
    for gaps in ([0.0] * 39 + [1.1 * allowed.one], [allowed.mean * 4] * 40):
        with pytest.raises(TrainingError):
            check(gaps)


def test_wide_precisions_are_held_to_more():
    assert tolerance(torch.float32) == tolerance(torch.float64) == EXACT
    assert tolerance(torch.bfloat16) == tolerance(torch.float16) == NARROW
