"""Settings of the stages of a run."""

from typing import Literal

from pydantic import Field, model_validator

from backflip.config.base import Settings
from backflip.config.bounds import (
    Count,
    Finite,
    Name,
    NotNegative,
    Number,
    Place,
    Places,
    Positive,
    Seconds,
    Share,
    Text,
    Url,
    Variable,
)
from backflip.config.identity import ADDED, knob
from backflip.config.models import ModelSettings, OptimizerSettings, ScratchSettings

TooLong = Literal["refuse", "drop", "cut"]


class PromptSettings(Settings):
    """What the policy is asked."""

    source: Place = Field(
        default="builtin:everyday",
        description="builtin:NAME, a text, JSONL or Parquet file, or env:ID for an environment",
    )
    heldout: Count = Field(default=64, description="prompts kept for evaluation only")
    limit: Count | None = Field(
        default=None,
        ge=2,
        description="use only so many prompts, held-out ones included; none: all",
    )
    too_long: TooLong = Field(
        default="refuse",
        description="what becomes of prompts above a limit. refuse: the run does not start, and "
        "all are listed; drop: they are left out; cut: their oldest turns are",
        json_schema_extra=ADDED,
    )


class PretrainSettings(Settings):
    """Next-token prediction over packed text, from scratch or continued."""

    text: Places = Field(default=(), description="text, JSONL or Parquet files")
    scratch: ScratchSettings | None = Field(
        default=None, description="start from random weights and a new tokenizer"
    )
    sequence_length: Count = Field(default=256, ge=8, description="tokens a row")
    batch_size: Count = Field(default=16, description="rows a step")
    steps: Count = Field(default=200, description="optimiser steps")
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=3e-4)


class SftSettings(Settings):
    """Supervised fine-tuning on demonstrations: the loss is on the replies only."""

    data: Places = Field(
        default=(),
        description="files of demonstrations; none: the workspace's demonstrations and corrections",
    )
    sequence_length: Count = Field(
        default=512,
        ge=8,
        description="tokens a row, and the most that a dialogue may have",
        json_schema_extra=knob("sft.too_long"),
    )
    too_long: TooLong = Field(
        default="refuse",
        description="what becomes of longer dialogues. refuse: the run does not start, and all "
        "are listed; drop: they are left out; cut: their oldest turns are",
        json_schema_extra=ADDED,
    )
    packing: bool = Field(
        default=True,
        description="several dialogues a row, none sees another; one a row where a model cannot",
    )
    batch_size: Count = Field(default=16, description="dialogues a step")
    epochs: Count = Field(default=1, description="passes over the dialogues")
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=2e-5)


class TeacherSettings(Settings):
    """A group of simulated annotators with B-Pref's faults (Lee et al. 2021) and two biases."""

    name: Name = Field(default="teacher", description="they are called name-1, name-2 and so on")
    count: Count = Field(default=1, le=10_000, description="annotators in the group")
    beta: NotNegative = Field(
        default=10.0,
        description="rationality: inverse temperature of the gold measure; 0: they guess",
    )
    mistakes: Share = Field(default=0.0, description="share of answers turned round")
    skips: Share = Field(
        default=0.0, description="skips when both samples' gold is in this low share"
    )
    equals: NotNegative = Field(
        default=0.0, description="a gold difference below this is a tie; 0: never"
    )
    position_bias: Finite = Field(
        default=0.0, description="added to the gold of the first shown; below 0, against it"
    )
    length_bias: Finite = Field(
        default=0.0, description="added to the gold for every 100 words; below 0, taken off"
    )


class JudgeSettings(Settings):
    """A language model behind an OpenAI-compatible address: compares replies, reads critiques."""

    url: Url = Field(
        default="http://127.0.0.1:8000/v1", description="address above /chat/completions"
    )
    model: Text = Field(default="default", description="name that the address knows it by")
    criterion: Text = Field(
        default="Which reply is more helpful, honest and pleasant to read?",
        description="what the judge is asked of two replies",
    )
    both_orders: bool = Field(
        default=True, description="compare A-B and B-A; disagreement is a tie"
    )
    timeout: Seconds = Field(
        default=60.0, description="seconds for one answer", json_schema_extra=knob()
    )
    retries: Number = Field(
        default=2, le=1_000, description="repeats of a failed request", json_schema_extra=knob()
    )
    parallel: Count = Field(
        default=4, le=1_000, description="requests under way at once", json_schema_extra=knob()
    )
    api_key_variable: Variable = Field(
        default="OPENAI_API_KEY",
        description="name of the environment variable with the key",
        json_schema_extra=knob(),
    )


def _default_crowd() -> tuple[TeacherSettings, ...]:
    return (
        TeacherSettings(name="careful", count=4, beta=20.0, mistakes=0.02),
        TeacherSettings(name="hasty", count=4, beta=4.0, mistakes=0.1, position_bias=0.1),
        TeacherSettings(name="guessing", count=2, beta=0.5, mistakes=0.3),
    )


class SelectionSettings(Settings):
    """Which samples people are asked about: all that are drawn, or those that tell most."""

    strategy: Literal["random", "disagreement", "margin", "diverse"] = Field(
        default="random",
        description="random: by lot; the others pick from a pool. disagreement: where the last "
        "round's reward models part (BALD); margin: where their mean is nearest to a tie; "
        "diverse: no sample far from one that is asked about (k-centre)",
    )
    pool: Count = Field(
        default=4,
        ge=2,
        le=1_000,
        description="times as many samples are drawn as are asked about; not with random",
    )
    random_share: Share = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share of the questions drawn by lot all the same: only these are ever held "
        "out; not with random",
    )

    @model_validator(mode="after")
    def _check(self) -> "SelectionSettings":
        for name in ("pool", "random_share"):
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.strategy == "random":
                raise ValueError(f"{name} belongs to a strategy other than random")
        return self


class FeedbackSettings(Settings):
    """Who says what they think, of how many samples, in which kinds."""

    source: Literal["teachers", "people", "judge"] = Field(
        default="teachers",
        description="simulated annotators; people, for whose answers the run waits; or a judge",
    )
    kinds: tuple[Name, ...] = Field(
        default=("comparison",),
        min_length=1,
        max_length=100,
        description="kinds of feedback that are asked for: comparison, ranking, rating, good_bad, "
        "correction, demonstration, critique, safety_flag, implicit, and those of extensions",
    )
    prompts: Count = Field(default=128, description="prompts put up each round")
    samples_per_prompt: Count = Field(
        default=2, le=8, description="samples that the policy gives to each of them"
    )
    selection: SelectionSettings = Field(
        default=SelectionSettings(), description="which of the samples people are asked about"
    )
    overlap: Count = Field(
        default=1, description="annotators asked about each item; as many must be there"
    )
    gold: Literal["sentiment", "environment"] = Field(
        default="sentiment", description="what simulated annotators judge by, and the gold measure"
    )
    teachers: tuple[TeacherSettings, ...] = Field(
        default_factory=_default_crowd,
        max_length=1_000,
        description="groups of simulated annotators",
    )
    judge: JudgeSettings | None = Field(
        default=None,
        description="compares, where source = judge; where this section is there, also says on "
        "held-out prompts which policy is better, if there is no gold measure, and reads critiques "
        "without a level",
    )
    project: Name = Field(
        default="Main",
        description="project that questions to people belong to; made where it is missing",
    )
    target: Share = Field(
        default=1.0,
        gt=0,
        description="share of people's answers after which training goes on; what comes later "
        "counts from the next round on",
    )
    poll_seconds: Seconds = Field(
        default=2.0,
        description="seconds between two looks for people's answers",
        json_schema_extra=knob(),
    )
    anchors: Number = Field(
        default=0,
        description="questions of the first round that people are asked again in every later one, "
        "to see whether they still answer alike",
    )
    retrain_every: Number = Field(
        default=0,
        description="answers of people after which a reward model is trained on what is there and "
        "measured, while the round goes on; 0: not before its end",
    )
    use: Literal["run", "project", "workspace"] = Field(
        default="run",
        description="learn from this run's rounds; from all that was said in the project, its "
        "playground and chats too; or from all the workspace holds",
    )

    @model_validator(mode="after")
    def _check(self) -> "FeedbackSettings":
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds names a kind twice")
        strategy = self.selection.strategy
        if strategy in ("disagreement", "margin") and self.samples_per_prompt < 2:
            raise ValueError(
                f'selection.strategy = "{strategy}" compares the samples of a prompt and needs '
                "samples_per_prompt of at least 2"
            )
        return self

    @property
    def the_judge(self) -> JudgeSettings | None:
        """The judge, where there is one: its section is there, or it is the source."""
        return JudgeSettings() if self.judge is None and self.source == "judge" else self.judge


class MixtureSettings(Settings):
    """How the rewards of several axes become one."""

    mode: Literal["weighted", "gated"] = Field(
        default="weighted",
        description="weighted: a sum; gated: safety decides below the threshold, helpfulness "
        "above (Llama 2)",
    )
    weights: dict[Name, Finite] = Field(
        default_factory=dict[str, float],
        max_length=100,
        description="of each axis; 1 where none is given",
    )
    helpful: Name = Field(default="overall", description="gated: the axis above the threshold")
    safe: Name = Field(default="safe", description="gated: the axis that gates")
    threshold: Finite = Field(
        default=-1.73, description="gated: in units of the safety score; -1.73 is P(safe) = 0.15"
    )


class RewardSettings(Settings):
    """The reward model: one for each axis, an ensemble of `ensemble` members."""

    model: ModelSettings = Field(
        default=ModelSettings(), description="what the reward network grows from"
    )
    axes: tuple[Name, ...] = Field(
        default=("overall",),
        min_length=1,
        description="what is judged: each is asked about, and has its own model",
        max_length=100,
    )
    mixture: MixtureSettings = Field(
        default=MixtureSettings(), description="how several axes become one reward"
    )
    ensemble: Count = Field(default=1, le=1_000, description="members for each axis")
    combine: Literal["mean", "worst", "uncertain"] = Field(
        default="mean", description="of the members (Coste et al. 2023)"
    )
    uncertainty_penalty: NotNegative = Field(
        default=0.1, description="weight of the members' variance; combine = uncertain"
    )
    epochs: Count = Field(default=1, description="passes over the feedback")
    batch_size: Count = Field(default=16, description="feedback entries a step")
    head_scale: Positive = Field(
        default=1.0,
        description="multiplies the new head's first weights; below 1 for little feedback",
    )
    max_tokens: Count = Field(
        default=512,
        ge=8,
        description="the most tokens that a sample may have, prompt included",
        json_schema_extra=knob("prompts.too_long", "reward.too_long"),
    )
    too_long: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="what becomes of feedback on samples that are longer, or longer than what is "
        "trained reads. refuse: it stops the run, as do prompts that with a reply might be; drop: "
        "it is left out",
        json_schema_extra=ADDED,
    )
    heldout: Share = Field(
        default=0.15, gt=0, lt=1, description="share of prompts whose feedback is never trained on"
    )
    margin: tuple[Finite, Finite, Finite, Finite] = Field(
        default=(0.0, 0.0, 0.0, 0.0),
        description="margin of the comparison loss at strength 0 to 3 (Llama 2, eq. 2)",
    )
    ties: Literal["davidson", "rao_kupper"] = Field(
        default="davidson", description="how ties of comparisons are read"
    )
    reliability: bool = Field(default=True, description="learn a beta for every annotator")
    reliability_prior: Positive = Field(
        default=0.5, description="standard deviation of log beta over annotators"
    )
    annotator_learning_rate: Positive = Field(
        default=0.05, description="of reliabilities, cut points and thresholds, in logits"
    )
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-4)

    @model_validator(mode="after")
    def _check(self) -> "RewardSettings":
        if len(set(self.axes)) != len(self.axes):
            raise ValueError("axes names an axis twice")
        if self.combine == "uncertain" and self.ensemble < 2:
            raise ValueError('combine = "uncertain" needs an ensemble of at least 2')
        unused = self.uncertainty_penalty != type(self).model_fields["uncertainty_penalty"].default
        if unused and self.combine != "uncertain":
            raise ValueError('uncertainty_penalty belongs to combine = "uncertain"')
        named = set(self.mixture.weights)
        if self.mixture.mode == "gated":
            named |= {self.mixture.helpful, self.mixture.safe}
        if strange := sorted(named - set(self.axes)):
            raise ValueError(f"mixture names {strange[0]!r}, which is not among the axes")
        return self


class EvaluationSettings(Settings):
    """How a policy is measured against the starting model."""

    prompts: Count = Field(
        default=64,
        ge=2,
        description="held-out prompts answered by both; a judge is asked about as many pairs for "
        "each sample",
    )
    samples_per_prompt: Count = Field(
        default=1, description="samples of both models to each of them"
    )
    examples: Number = Field(default=10, description="before/after replies in the report")
    confidence: Share = Field(
        default=0.95, gt=0, lt=1, description="of the intervals that are reported"
    )
