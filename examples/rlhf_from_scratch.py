"""RLHF from top to bottom: a language model from nothing learns what a crowd prefers.

Pre-training on a few sentences, fine-tuning on demonstrations, comparisons by simulated people who
err, a reward model, PPO near the fine-tuned model, and the share of replies on which the trained
model is better by the measure that those people went by. Half a minute on one core.
"""

import itertools
import json
import random
import tempfile
from pathlib import Path

import torch

from backflip import config as c
from backflip import models as m
from backflip.algorithms import PPO, PPOSettings
from backflip.data import Chat
from backflip.evaluation import win_rate
from backflip.feedback import ask_crowd, make_crowd, make_items
from backflip.records import Completion, Prompt, Sample
from backflip.rewards import AnnotatorModel, RewardFit, TextReward, split_by_prompt
from backflip.sampling import TextSampler
from backflip.training import Learner, OnPolicyTrainer, RewardTrainer, Trainer
from backflip.training.trainers.language import finetuning, pretraining

GOOD, BAD = ("lovely", "calm", "bright", "warm"), ("awful", "sad", "cold", "dull")
THINGS = ("river", "kettle", "garden", "letter", "window", "morning", "train", "street", "song")
PLACES = ("here", "there", "at home", "in town")
FAST, SLOW = c.OptimizerSettings(learning_rate=3e-3), c.OptimizerSettings(learning_rate=5e-4)
DRAWN = c.SamplingSettings(max_tokens=24)


def kindness(sample: Sample) -> float:
    """What people go by, and nobody tells the policy: kind words less unkind ones."""
    words = sample.text.replace(".", " ").split()
    return float(sum(word in GOOD for word in words) - sum(word in BAD for word in words))


def train(trainer: Trainer, name: str, shown: str = "loss") -> None:
    for step in range(trainer.num_steps):
        measured = trainer.step(step)
        if (step + 1) % max(1, trainer.num_steps // 4) == 0:
            print(f"{name}: step {step + 1}, {shown} {measured[shown]:.2f}")


def model_of(folder: Path) -> c.ModelSettings:
    return c.ModelSettings(name=str(folder), precision="float32")


def sampler_of(folder: Path) -> TextSampler:
    model, tokenizer = m.load_causal_lm(str(folder), dtype=torch.float32)
    return TextSampler(model, tokenizer, model_id=folder.name)


def start(folder: Path, prompts: list[Prompt]) -> None:
    """A small model of random weights reads sentences, and then how questions are answered."""
    adjectives = list(itertools.product(GOOD + BAD, repeat=2))
    said = [f"The {a} is {b} and {d}." for a in THINGS for b, d in adjectives]
    texts = folder / "texts.jsonl"
    texts.write_text("\n".join(json.dumps({"text": text}) for text in said))
    tokenizer = m.train_tokenizer([*said, *(f"User: {p.text}\n\nAssistant:" for p in prompts)], 400)
    scratch = c.ScratchSettings(width=64, layers=2, heads=4, max_positions=128, vocabulary=400)
    m.save_model(m.make_model(scratch, tokenizer, 0), tokenizer, folder / "new")
    policy = m.TextPolicy.load(model_of(folder / "new"), seed=0)
    reading = {"sequence_length": 64, "batch_size": 16, "optimizer": FAST}
    settings = c.PretrainSettings(text=(str(texts),), steps=80, **reading)
    train(pretraining(policy, settings, seed=0), "pre-training")
    draw = random.Random(0)
    shown = [
        Sample.of(prompt, Completion(text=f"The {prompt.text.split()[3]} is {b} and {d}."))
        for prompt in prompts
        for b, d in draw.sample(adjectives, 16)
    ]
    train(finetuning(policy, shown, c.SftSettings(epochs=3, **reading), seed=0), "fine-tuning")
    policy.save(folder / "start", {})


def learn_reward(folder: Path, samples: list[Sample]) -> TextReward:
    """A reward model from what six people who sometimes err say of pairs of replies."""
    crowd = make_crowd([c.TeacherSettings(name="person", count=6, beta=3.0)], kindness, seed=0)
    answers = ask_crowd(crowd, make_items(samples, ["comparison"]), seed=0)
    known = {sample.id: sample for sample in samples}
    settings = c.RewardSettings(epochs=8, batch_size=16, optimizer=SLOW)
    kept, heldout = split_by_prompt(answers.entries, known, share=0.25, seed=0)
    reward = TextReward(m.TextScorer.load(model_of(folder), seed=0, head_scale=1.0))
    fit = RewardFit(reward, AnnotatorModel.of(kept, settings), kept, known, settings, 0)
    train(RewardTrainer(fit, settings), "reward model")
    reward.normalise(samples)
    print(f"it foresees {fit.evaluate(heldout).accuracy:.0%} of {len(heldout)} other answers")
    return reward


def train_policy(folder: Path, reward: TextReward, prompts: list[Prompt]) -> m.TextPolicy:
    """PPO on the learned reward, near the model that it starts from."""
    ppo = PPO(PPOSettings(steps=40, prompts_per_step=32, optimizer=SLOW))
    policy = m.TextPolicy.load(model_of(folder), seed=0)
    chat = Chat(policy.tokenizer)

    def collate(samples: list[Sample]) -> m.TextInputs:
        asked, replied = zip(*map(chat.encode_sample, samples), strict=True)
        return m.TextInputs.of(asked, replied, pad_id=0)

    learner = Learner(
        policy,
        SLOW,
        total_updates=ppo.settings.steps * ppo.settings.epochs,
        reference=m.TextPolicy.load(model_of(folder), trainable=False),
        value=m.TextScorer.load(model_of(folder), seed=0, head_scale=1.0),
    )
    trainer = OnPolicyTrainer(
        algorithm=ppo,
        learner=learner,
        sampler=sampler_of(folder),
        reward=reward,
        prompts=prompts,
        sampling=DRAWN,
        collate=collate,
        seed=0,
        precision=torch.float32,
        spell=lambda sample, place: str(sample.completion.tokens[place]),
    )
    train(trainer, "PPO", "reward")
    return policy


def main(folder: Path) -> float:
    """All of it; returns the share of replies on which the trained model is the kinder one."""
    torch.set_num_threads(1)
    asked = itertools.product(THINGS, PLACES)
    prompts = [Prompt.from_text(f"How is the {thing} {place}?") for thing, place in asked]
    start(folder, prompts)
    before = sampler_of(folder / "start")
    samples = before.sample(prompts, DRAWN, num_samples=8, seed=1)
    reward = learn_reward(folder / "start", samples)
    train_policy(folder / "start", reward, prompts).save(folder / "preferred", {})
    after = sampler_of(folder / "preferred")
    drawn = [each.sample(prompts, DRAWN, num_samples=4, seed=2) for each in (after, before)]
    share = win_rate(*([kindness(sample) for sample in side] for side in drawn), len(prompts))
    for old, new in zip(drawn[1][:12:4], drawn[0][:12:4], strict=True):
        print(f"{old.prompt.text}  before: {old.text!r}  after: {new.text!r}")
    print(f"kinder than before: {share.value:.0%} [{share.low:.0%}, {share.high:.0%}]")
    return share.value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
