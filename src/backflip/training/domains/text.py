"""Language models as a domain: where their parts come from."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from backflip.config import (
    ModelSettings,
)
from backflip.data import Chat, heldout_ids, load_prompts, read_texts
from backflip.data.lengths import encode_samples
from backflip.errors import SettingsError
from backflip.feedback.gold import Gold, find_gold
from backflip.files.manifest import require_whole
from backflip.models import (
    TextInputs,
    TextPolicy,
    TextScorer,
    find_model,
    load_causal_lm,
    make_model,
    pick_device,
    pick_precision,
    position_limit,
    save_model,
    train_tokenizer,
)
from backflip.models.limits import vocabulary_size
from backflip.models.padding import same_tokens
from backflip.records import Sample, pick
from backflip.records.problems import Findings
from backflip.records.samples import IntArray
from backflip.rewards.sources.text import TextReward
from backflip.sampling import TextSampler, model_end_tokens
from backflip.training.domains.domain import Given, Save
from backflip.training.domains.text_checks import TextCheck
from backflip.training.domains.text_readers import TextReaders
from backflip.training.fit import Trainer
from backflip.training.trainers.auxiliary import TextRows
from backflip.training.trainers.language import (
    encode_texts,
    finetuning,
    pretraining,
    read_demonstrations,
)


class _TokenRows:
    """Rows of tokens; see `TextRows`."""

    def __init__(self, rows: Sequence[IntArray]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def inputs(self, places: Sequence[int]) -> TextInputs:
        chosen = pick(self._rows, places)
        return TextInputs.of([row[:1] for row in chosen], [row[1:] for row in chosen], pad_id=0)


class TextDomain(TextReaders):
    """Makes policies, reward networks and samplers from folders of language models."""

    _chat: Chat | None = None
    _positions: int | None = None

    @property
    def precision(self) -> torch.dtype:
        return pick_precision(self.model.precision, pick_device(self.model.device))

    def check(
        self, folder: Path, given: Given, *, seed: int, model: Path | None = None
    ) -> tuple[Findings, Path | None]:
        checking = TextCheck(self, given)
        ready = checking.sources()
        if model is None and ready:
            with checking.found.noting():
                model = self.start(folder, seed=seed)
        if model is None:
            checking.rows()
        else:
            self.read_with(model)
            checking.lengths()
        return checking.found, model

    def start(self, folder: Path, *, seed: int) -> Path:
        """The model named in the settings; one of random weights where `pretrain.scratch` asks."""
        scratch = self.pretrain.scratch if self.pretrain else None
        if scratch is None or self.pretrain is None:
            found = find_model(self.model.name)
            if not isinstance(found, Path):
                target = folder / "model"
                if not target.exists():
                    save_model(*load_causal_lm(found), target)
                require_whole(target)
                found = target
            return found
        target = folder / "scratch"
        if not target.exists():
            if not self.pretrain.text:
                raise SettingsError(
                    "names no text to learn a tokenizer from", where="pretrain.text"
                )
            texts = read_texts([Path(file) for file in self.pretrain.text])
            tokenizer = train_tokenizer(texts, scratch.vocabulary)
            save_model(make_model(scratch, tokenizer, seed), tokenizer, target)
        require_whole(target)
        return target

    def pretraining(self, folder: Path, *, seed: int) -> tuple[Trainer, Save]:
        if self.pretrain is None:
            raise SettingsError("the recipe has no [pretrain]", where="pretrain")
        policy = self.policy(folder, seed=seed)
        return pretraining(policy, self.pretrain, seed=seed), policy.save

    def finetuning(
        self, folder: Path, *, seed: int, shown: Sequence[Sample] = ()
    ) -> tuple[Trainer, Save]:
        if self.sft is None:
            raise SettingsError("the recipe has no [sft]", where="sft")
        policy = self.policy(folder, seed=seed)
        replies, num_heldout = list(shown), 0
        if self.sft.data:
            # A prompt that is held out stays so where it is cut, or left out for its length.
            own = [*load_prompts(self.prompt_settings, self.seed), *self.prompts()]
            replies, num_heldout = read_demonstrations(self.sft, heldout_ids(own))
        trainee = finetuning(
            policy,
            replies,
            self.sft,
            seed=seed,
            chat=self.model.chat,
            num_heldout=num_heldout,
        )
        return trainee, policy.save

    def sampler(self, folder: Path, *, model_id: str) -> TextSampler:
        device = pick_device(self.model.device)
        model, tokenizer = load_causal_lm(str(folder), dtype=self.precision, device=device)
        return TextSampler(model, tokenizer, model_id=model_id, chat=self.model.chat)

    def policy(self, folder: Path, *, seed: int) -> TextPolicy:
        settings = self.model.model_copy(update={"name": str(folder)})
        return self._read_by(TextPolicy.load(settings, seed=seed))

    def reference(self, folder: Path) -> TextPolicy | None:
        return None if self.model.lora is not None else self.frozen(folder)

    def frozen(self, folder: Path) -> TextPolicy:
        settings = _frozen(folder, self.model)
        return self._read_by(TextPolicy.load(settings, trainable=False))

    def scorer(self, folder: Path, *, seed: int) -> TextReward:
        own = self.reward_settings.model
        settings = own.model_copy(update={"name": self.reward_start(folder)})
        scale = self.reward_settings.head_scale
        return TextReward(
            TextScorer.load(settings, seed=seed, head_scale=scale), chat=settings.chat
        )

    def value(self, folder: Path, *, seed: int) -> TextScorer:
        settings = self.reward_settings.model.model_copy(update={"name": str(folder)})
        value = TextScorer.load(settings, seed=seed)
        if not same_tokens(value.tokenizer, self._tokens()):
            raise SettingsError(
                "the value model starts from the reward model, which reads other tokens than the "
                "policy writes",
                where="reward.model.name",
                hint="Leave it out, name a model of the same family, or use an algorithm without "
                "values.",
            )
        return value

    def reward(self, folder: Path) -> TextReward:
        settings = _frozen(folder, self.reward_settings.model)
        return TextReward(
            TextScorer.load(settings, trainable=False), chat=self.reward_settings.model.chat
        )

    def collate(self, samples: Sequence[Sample]) -> TextInputs:
        encoded = encode_samples(self._the_chat(), samples, self._positions)
        return TextInputs.of([p for p, _ in encoded], [r for _, r in encoded], pad_id=0)

    def spell(self, sample: Sample, place: int) -> str:
        token = int(sample.completion.tokens[place])
        return f"token {token} {self._tokens().decode([token])!r}"

    def gold(self, sample: Sample) -> float | None:
        return self._gold(sample) if self._gold else None

    @cached_property
    def _gold(self) -> Gold | None:
        return find_gold(self.gold_name) if self.gold_name else None

    def text_rows(self, files: Sequence[str]) -> TextRows:
        """Texts as rows of at most `max_tokens` next tokens, for a policy that was loaded."""
        length = self.sampling.max_tokens
        texts = encode_texts(
            self._tokens(), files, rows=self._the_chat().rows, named="algorithm.ptx_text"
        )
        return _TokenRows(
            [
                text[start : start + length + 1]
                for text in texts
                for start in range(0, len(text) - 1, length)
            ]
        )

    def _read_by(self, policy: TextPolicy) -> TextPolicy:
        ends = model_end_tokens(policy.model)
        self._chat = Chat(
            policy.tokenizer,
            self.model.chat,
            end_tokens=ends,
            rows=vocabulary_size(policy.model),
        )
        self._positions = position_limit(policy.model.config)
        return policy

    def _the_chat(self) -> Chat:
        if self._chat is None:
            raise ValueError("load a policy first: it brings the tokenizer")
        return self._chat

    def _tokens(self) -> Any:
        return self._the_chat().tokenizer


def _frozen(folder: Path, like: ModelSettings) -> ModelSettings:
    """The model in a folder, computed as another is and without adapters."""
    return ModelSettings(name=str(folder), precision=like.precision, device=like.device)
