"""Next-token training: pre-training on text, and fine-tuning on replies."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from backflip.algorithms import micro_batch_indices
from backflip.config import ChatSettings, OptimizerSettings, PretrainSettings, SftSettings
from backflip.data import (
    Codec,
    Packed,
    Text,
    end_token,
    pack_dialogues,
    pack_texts,
    read_placed_texts,
)
from backflip.data import read_demonstrations as read_files
from backflip.data.lengths import fit_samples
from backflip.data.rows import OnRejected, stop_at_rejected
from backflip.errors import ModelError, SettingsError, TrainingError
from backflip.losses import next_token_loss
from backflip.models import TextPolicy
from backflip.models.limits import vocabulary_size
from backflip.records import Order, Sample, derive_seed, pick
from backflip.records.samples import IntArray
from backflip.training.checkpoints import State
from backflip.training.learner import not_finite, under
from backflip.training.limits import TextReader, dialogue_limits
from backflip.training.optimizer import Optimizer

NO_PACKING = (
    "This model sees across dialogues that share a row, so each has a row of its own: "
    "slower, and the same loss."
)


class LanguageTraining:
    """The trainee of both: `batch(step)` gives the packed rows of a step.

    The loss is the mean over all targets of a step, however they are packed and cut.

    Attributes:
        notes: what whoever reads the run's reports should know of how it is trained.
    """

    def __init__(
        self,
        policy: TextPolicy,
        batch: Callable[[int], Packed],
        *,
        num_steps: int,
        optimizer: OptimizerSettings,
        notes: tuple[str, ...] = (),
    ):
        self.policy = policy
        self.batch = batch
        self.num_steps = num_steps
        self.notes = notes
        self._micro_tokens = optimizer.micro_batch_tokens
        trained = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        self.optimizer = Optimizer({"policy": trained}, optimizer, total_updates=num_steps)

    def step(self, step: int) -> dict[str, float]:
        packed = self.batch(step)
        count = packed.num_targets
        if not count:
            raise TrainingError(f"step {step} has no token to learn from")
        self.optimizer.zero_grad()
        total = 0.0
        lengths = torch.from_numpy((packed.segments > 0).sum(1))
        for rows in micro_batch_indices(lengths, self._micro_tokens):
            part = packed.select(rows.numpy())
            mask_BL = torch.from_numpy(part.mask)
            packs = bool((part.segments > 1).any())  # rows of one text need no mask
            logprobs_BL = self.policy.evaluate_rows(
                torch.from_numpy(part.tokens).long(),
                mask_BL,
                torch.from_numpy(part.positions).long() if packs else None,
            )
            loss_sum, _ = next_token_loss(logprobs_BT=logprobs_BL, mask_BT=mask_BL)
            if loss_sum.requires_grad:
                (loss_sum / count).backward()
            total += float(loss_sum.detach())
        metrics = {"loss": total / count, "tokens": float(count), "rows": float(packed.num_rows)}
        if not np.isfinite(total):
            raise not_finite("the loss", metrics)
        return metrics | {"grad_norm": self.optimizer.step()}

    def state(self) -> State:
        tensors = {f"policy.{k}": v for k, v in self.policy.trainable_state().items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        return State(tensors, {})

    def load_state(self, state: State) -> None:
        self.policy.load_trainable_state(under("policy.", state.tensors))
        self.optimizer.load_state_dict(under("optimizer.", state.tensors))


def pretraining(policy: TextPolicy, settings: PretrainSettings, *, seed: int) -> LanguageTraining:
    """Next-token training over the texts of the settings.

    Raises:
        SettingsError: no text was named, or it has fewer tokens than one row.
    """
    packed = pack_texts(
        encode_texts(policy.tokenizer, settings.text, rows=vocabulary_size(policy.model)),
        length=settings.sequence_length,
        end_token=end_token(policy.tokenizer),
    )
    if not packed.num_targets:
        raise SettingsError("holds no text to learn from", where=", ".join(settings.text))
    order = Order(packed.num_rows, derive_seed(seed, "text"))

    def batch(step: int) -> Packed:
        rows = order.take(step * settings.batch_size, settings.batch_size)
        return packed.select(rows)

    return LanguageTraining(policy, batch, num_steps=settings.steps, optimizer=settings.optimizer)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    files: Sequence[str],
    *,
    rows: int | None = None,
    named: str = "pretrain.text",
    on_failed: Callable[[ModelError], Any] | None = None,
    on_rejected: OnRejected = stop_at_rejected,
) -> Iterator[IntArray]:
    """The tokens of each text in the files that the setting `named` names.

    Args:
        tokenizer: of the model.
        files: texts.
        rows: embeddings of the model; None for as many as there are tokens.
        named: the setting.
        on_failed: called with each error of a text that the model cannot read, which names the
            file and the line; by default the first one ends the reading.
        on_rejected: as in `read_texts`.

    Raises:
        SettingsError: no file is named.
        ModelError: the model has no embedding of a token.
    """
    if not files:
        raise SettingsError("names no text", where=named, hint="Give one file or more.")
    codec = Codec(tokenizer, rows=rows)
    for text in read_placed_texts(map(Path, files), on_rejected=on_rejected):
        try:
            yield codec.encode_text(text.text)
        except ModelError as error:
            for failed in _placed(error, text, codec):
                if on_failed is None:
                    raise failed from None
                on_failed(failed)


def _placed(error: ModelError, text: Text, codec: Codec) -> Iterator[ModelError]:
    """The error of a text, at the lines in which it is."""
    found = False
    for part in text.parts():
        try:
            codec.encode_text(part.text)
        except ModelError as closer:
            found = True
            yield ModelError(closer.what, where=part.place, hint=closer.hint)
    if not found:  # it is in no line alone
        yield ModelError(error.what, where=text.place, hint=error.hint)


def finetuning(
    policy: TextPolicy,
    demonstrations: list[Sample],
    settings: SftSettings,
    *,
    seed: int,
    chat: ChatSettings | None = None,
    num_heldout: int = 0,
) -> LanguageTraining:
    """Supervised fine-tuning: every epoch has each dialogue once.

    The rows of a step are as long as its longest dialogue. Longer ones would hold no more to the
    token, and attention, whose work grows with the square of a row, would spend it on tokens that
    do not see each other. Where the model would have them see each other, a row is one dialogue.

    Those that are longer than a row, or than the policy reads, become what `too_long` says.
    `num_heldout` others were left out before, which is told.

    Raises:
        TrainingError: there are no demonstrations.
        SettingsError: one is too long, and may not be left out; it is named.
    """
    reader = TextReader.of_model(policy, chat)
    limits = dialogue_limits(settings, reader)
    fitted = fit_samples(demonstrations, limits, settings.too_long)
    fitted.require()
    if not fitted.kept:
        raise no_demonstrations(num_long=len(fitted.dropped), num_heldout=num_heldout)
    encoded = [reader.chat.encode_sample(sample) for sample in fitted.kept]
    order = Order(len(encoded), derive_seed(seed, "dialogues"))
    size = settings.batch_size
    per_epoch = -(-len(encoded) // size)
    packing = settings.packing and policy.packs

    def batch(step: int) -> Packed:
        epoch, index = divmod(step, per_epoch)
        number = min(size, len(encoded) - index * size)
        places = order.take(epoch * len(encoded) + index * size, number)
        chosen = pick(encoded, places)
        names = [sample.place for sample in pick(fitted.kept, places)]
        longest = max(len(prompt) + len(reply) for prompt, reply in chosen)
        length = min(longest, settings.sequence_length)
        return pack_dialogues(chosen, length=length, packing=packing, names=names)

    notes = (NO_PACKING,) if settings.packing and not packing else ()
    return LanguageTraining(
        policy,
        batch,
        num_steps=settings.epochs * per_epoch,
        optimizer=settings.optimizer,
        notes=(*notes, f"{told_heldout(num_heldout)}.") if num_heldout else notes,
    )


def without_heldout(
    demonstrations: Iterable[Sample], heldout: Collection[str]
) -> tuple[list[Sample], int]:
    """Those that may be learned from, and how many are on the prompts with the ids `heldout`."""
    given = list(demonstrations)
    kept = [sample for sample in given if sample.prompt_id not in heldout]
    return kept, len(given) - len(kept)


def told_heldout(number: int) -> str:
    """What is said of demonstrations that `without_heldout` leaves out."""
    return f"of demonstrations on prompts that are held out, {number} are left out"


def no_demonstrations(*, num_long: int = 0, num_heldout: int = 0) -> TrainingError:
    """The error where none is left, with how many were left out, and why."""
    numbers = {"too long": num_long, "on prompts that are held out": num_heldout}
    left_out = {why: number for why, number in numbers.items() if number}
    told = " and ".join(f"{number} are {why}" for why, number in left_out.items())
    every = "all " if len(left_out) == 1 else ""
    return TrainingError(
        f"there are no demonstrations to learn from{f': {every}{told}' if told else ''}",
        where="sft.data",
        hint="Name files of demonstrations, or import them into the workspace; those on "
        "prompts that are held out do not count.",
    )


def read_demonstrations(
    settings: SftSettings, heldout: Collection[str]
) -> tuple[list[Sample], int]:
    """The demonstrations in the files of the settings, parted as `without_heldout` does."""
    return without_heldout(read_files([Path(file) for file in settings.data]), heldout)
