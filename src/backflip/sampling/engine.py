"""Backflip's own engine for sampling text: many replies at once, each as if drawn alone.

Every prompt is read once and what is known of it is copied to the K rows that answer it. Rows whose
reply is finished leave at once and others take their place (continuous batching), so no step is
spent on padding. What a row does depends on its own prompt, seed and index and on nothing else:
its logits come from a `Decoder` for which that holds, and it draws from a random stream of its own.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from backflip.config import ChatSettings, SamplingSettings
from backflip.data.chat import Chat
from backflip.data.lengths import named
from backflip.errors import BackflipError, ModelError, SettingsError
from backflip.models.limits import vocabulary_size
from backflip.models.vocabulary import ids_without_text
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.door import whole_text
from backflip.records.samples import IntArray
from backflip.sampling.base import Advance
from backflip.sampling.batch import DecodeBatch, PromptReader, Reply
from backflip.sampling.draw import uniforms
from backflip.sampling.probe import pick_decoder
from backflip.sampling.weights import copy_weights


class TextSampler:
    """Draws completions from a causal language model of transformers.

    The model is the sampler's own: `load` writes into its weights. It is put in evaluation mode,
    and its attention replaced where that can be done, only while it samples. One thread at a time.

    Attributes:
        decoder: how the model is run; its `note` says why it is slow where it is.

    Args:
        model: any causal language model.
        tokenizer: the model's; it renders the prompts' chat template.
        model_id: id of the model in the workspace, written on every sample.
        chat: which chat template, and what it is given.

    Raises:
        ModelError: the model's own forward pass fails, or the chat template is not there or
            refuses a user's turn.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_id: str | None = None,
        chat: ChatSettings | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.model_id = model_id
        self.version = 0
        self.chat = Chat(
            tokenizer, chat, end_tokens=model_end_tokens(model), rows=vocabulary_size(model)
        )
        self.end_tokens = self.chat.end_tokens
        self._never: dict[int, Tensor | None] = {}
        self.decoder = pick_decoder(model, _opening(tokenizer, chat))

    def load(self, weights: Mapping[str, Tensor], *, version: int) -> None:
        """Act with these weights, a plain state dict of the model, and call them `version`.

        Raises:
            ModelError: names or shapes that are not the model's; nothing is changed then.
        """
        copy_weights(self.model, weights)
        self.version = version

    def sample(
        self,
        prompts: Sequence[Prompt],
        settings: SamplingSettings,
        *,
        num_samples: int = 1,
        seed: int,
        advance: Advance | None = None,
    ) -> list[Sample]:
        """Draw K = `num_samples` replies to each prompt, prompt by prompt, K in a row.

        Log-probabilities are those of the distribution that was drawn from, after temperature and
        filters; at temperature 0 that is a point mass, and they are 0.

        Raises:
            SettingsError: a prompt is too long, or with its reply longer than the model's
                positions.
            ModelError: the model's logits are not finite.
        """
        encoded = [self.encode(prompt, settings) for prompt in prompts]
        # What is read together stands together, and short ones come first: rows beside each other
        # then need about the same room.
        order = sorted(
            range(len(prompts)), key=lambda i: (self.decoder.shape(encoded[i]), len(encoded[i]))
        )
        waiting = (
            Reply(
                number=i * num_samples + k,
                prompt=i,
                index=k,
                last=k == num_samples - 1,
                uniforms=uniforms(seed, prompts[i].id, k, settings.max_tokens),
            )
            for i in order
            for k in range(num_samples)
        )
        reader = PromptReader(self.decoder)
        for i in order:
            reader.expect(i, encoded[i])
        total = len(prompts) * num_samples
        batch = DecodeBatch(self, settings, reader, rows=min(settings.batch_size, total))
        done: list[Reply | None] = [None] * total
        with self.decoder.active():
            while (finished := batch.step(waiting)) is not None:
                for reply in finished:
                    done[reply.number] = reply
                if advance is not None and finished:
                    advance(len(finished))
        return [
            self.as_sample(reply, prompts[reply.prompt], encoded[reply.prompt], settings, seed)
            for reply in done
            if reply is not None
        ]

    def encode(self, prompt: Prompt, settings: SamplingSettings) -> IntArray:
        """(P,) tokens of a prompt; a `SettingsError` where it is too long."""
        try:
            tokens = self.chat.encode_prompt(prompt)
        except BackflipError as error:
            raise named(error, prompt) from None
        if len(tokens) > settings.max_prompt_tokens:
            raise SettingsError(
                f"the prompt has {len(tokens)} tokens, max_prompt_tokens is "
                f"{settings.max_prompt_tokens}",
                where=prompt.place,
                hint=f"raise sampling.max_prompt_tokens or shorten it: {prompt.text[:80]!r}",
            )
        positions = self.decoder.num_positions
        if positions is not None and len(tokens) + settings.max_tokens > positions:
            raise SettingsError(
                f"the prompt's {len(tokens)} tokens and a reply of {settings.max_tokens} exceed "
                f"the model's {positions} positions",
                where=prompt.place,
                hint="lower sampling.max_tokens or shorten the prompt",
            )
        return tokens

    def stop_tokens(self, settings: SamplingSettings) -> frozenset[int]:
        """Ids of the stop strings that are special tokens, which no text shows.

        Raises:
            SettingsError: a stop string has a special token within it, and would never be seen.
        """
        special = {str(t): i for i, t in self.tokenizer.added_tokens_decoder.items() if t.special}
        for stop in settings.stop:
            inside = [name for name in special if name in stop]
            if inside and stop not in special:
                raise SettingsError(
                    f"{stop!r} holds the special token {inside[0]!r}, which is not part of a "
                    "reply's text",
                    where="sampling.stop",
                    hint="Name the special token alone, or the text beside it.",
                )
        return frozenset(special[stop] for stop in settings.stop if stop in special)

    def never_drawn(self, size: int) -> Tensor | None:
        """(M,) ids among the `size` that the model knows that stand for no text; None if all do."""
        if size not in self._never:
            found = ids_without_text(self.tokenizer, size)
            self._never[size] = None if found is None else found.to(self.model.device)
        return self._never[size]

    def as_sample(
        self,
        reply: Reply,
        prompt: Prompt,
        prompt_tokens: IntArray,
        settings: SamplingSettings,
        seed: int,
    ) -> Sample:
        """A reply that has ended, as a sample."""
        text = reply.text
        content = Completion(
            # A model may draw a NUL, which no database keeps; the tokens hold what it drew.
            text=whole_text(self.text_of(reply.tokens) if text is None else text),
            prompt_tokens=prompt_tokens,
            tokens=np.array(reply.tokens, np.int32),
            logprobs=np.array(reply.logprobs, np.float32),
            finish="stop" if reply.finish == "stop" else "length",
        )
        return Sample.of(
            prompt,
            content,
            model=self.model_id,
            weights_version=self.version,
            seed=seed,
            index=reply.index,
            settings=settings.model_dump(mode="json", exclude={"batch_size"}),
        )

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of a reply's tokens, without the end token."""
        ended = bool(tokens) and tokens[-1] in self.end_tokens
        return self.chat.decode_reply(tokens[:-1] if ended else tokens, ended=ended)


def _opening(tokenizer: PreTrainedTokenizerBase, chat: ChatSettings | None) -> IntArray:
    """The tokens that every prompt of one user turn begins with, by the chat template."""
    # Read without regard to what the model has embeddings of: nobody wrote these words.
    reader = Chat(tokenizer, chat)
    turns = [Message(role="user", content=content) for content in ("a", "1")]
    pair = [reader.encode_prompt(Dialogue(messages=(turn,))) for turn in turns]
    length = min(len(tokens) for tokens in pair)
    same = pair[0][:length] == pair[1][:length]
    return pair[0][: int(np.argmin(same)) if not same.all() else length]


def model_end_tokens(model: PreTrainedModel) -> list[int]:
    """Tokens that end a reply by the model's generation settings."""
    value = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    tokens = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(token, int) for token in tokens):
        raise ModelError(
            f"eos_token_id is {value!r}, not a token's number or several",
            where="generation_config.json",
            hint="Write the numbers there that the tokenizer gives these tokens.",
        )
    return list(tokens)
