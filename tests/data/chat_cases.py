"""Tokenizers of every kind that language models come with, and the templates of known families.

Each kind is trained on the spot and gets the control tokens of each template; `<s>`, `</s>` and
`<unk>` are pieces of the vocabulary, as in SentencePiece models, the others are added.
"""

import json
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "user assistant system model It rains and the sun shines, why? Clouds are water 2",
    "Be brief. the quick brown fox says: yes\n\nno\n\n  twice  and <think> again",
    "aa ab ba bb abab  baba\nthe the sun sun's it's we'll 1 22 333 -- ... «é» 雨 ünï",
]
BASE = ["<unk>", "<s>", "</s>", "<pad>"]
UNKNOWN = {"unk_token": "<unk>"}
ROLES = {**UNKNOWN, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}"
)
CLOSE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last and '</think>' not in m.content %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m.role | capitalize }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
UNOPENED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)

_CHATML_NAMES = ["<|im_start|>", "<|im_end|>"]
_ROLES = ["<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATES: dict[str, tuple[str | None, list[str]]] = {
    "chatml": (CHATML, _CHATML_NAMES),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"]),
    "llama2": (LLAMA2, []),
    "llama3": (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
    "mistral": (MISTRAL, ["[INST]", "[/INST]"]),
    "zephyr": (ZEPHYR, _ROLES),
    "close": (CLOSE, [*_ROLES, "<|end|>"]),
    "thinking": (THINKING, _CHATML_NAMES),
    "unopened": (UNOPENED, _CHATML_NAMES),
    "plain": (PLAIN, []),
    "none": (None, []),
}
"""Name: the source, and the control tokens that it needs beside `BASE`."""

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bpe(fallback: bool, alphabet: list[str]) -> tuple[models.BPE, trainers.BpeTrainer]:
    byte_pieces = [f"<0x{i:02X}>" for i in range(256)] if fallback else []
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[*BASE, *byte_pieces],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    return models.BPE(byte_fallback=fallback, unk_token="<unk>" if fallback else None), trainer


def _byte_level(pre_tokenizer, split=None):
    model, trainer = _bpe(False, pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizer
    core.decoder = decoders.ByteLevel()
    return core, trainer


def _gpt2():
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def _llama3():
    return _byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )


def _metaspace(scheme):
    model, trainer = _bpe(True, [])
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(prepend_scheme=scheme, split=False),
            decoders.Fuse(),
        ]
    )
    return core, trainer


def _prepended():
    """Llama 2 as it was first converted: the space is put before the text by a normaliser."""
    model, trainer = _bpe(True, [])
    core = Tokenizer(model)
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return core, trainer


def _replaced():
    """Gemma: spaces are letters, nothing is put before a text."""
    model, trainer = _bpe(True, [])
    core = Tokenizer(model)
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return core, trainer


def _unigram():
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=BASE, show_progress=False, **UNKNOWN
    )
    return core, trainer


def _wordpiece():
    core = Tokenizer(models.WordPiece(**UNKNOWN))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(cleanup=False)
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=BASE, show_progress=False)
    return core, trainer


KINDS = {
    "gpt2": _gpt2,
    "llama3": _llama3,
    "always": lambda: _metaspace("always"),
    "first": lambda: _metaspace("first"),
    "never": lambda: _metaspace("never"),
    "prepended": _prepended,
    "replaced": _replaced,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
FLAGS = {
    "plain": {},
    "rstrip": {"rstrip": True},
    "lstrip": {"lstrip": True},
    "normalized": {"normalized": True},
}
SPACED = ("always", "first", "never", "prepended", "replaced")
"""Kinds in which a space is a letter of the vocabulary."""
LOSSY = ("unigram", "wordpiece")
"""Kinds that do not give every text back."""


@cache
def _trained(kind: str) -> str:
    core, trainer = KINDS[kind]()
    used = core.pre_tokenizer, core.normalizer
    if kind in SPACED:
        # No piece goes from one word into the next, as SentencePiece learns them.
        core.normalizer = None
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex("\n+"), "isolated"),
                pre_tokenizers.Metaspace(prepend_scheme="never"),
            ]
        )
    core.train_from_iterator(TEXTS * 3, trainer)
    if kind in SPACED:
        core.pre_tokenizer, core.normalizer = used
    trained = json.loads(core.to_str())
    # Pieces for single bytes are in the vocabulary and are no control tokens.
    trained["added_tokens"] = [t for t in trained["added_tokens"] if t["content"] in BASE]
    return json.dumps(trained)


@cache
def make_case(kind: str, template: str, flags: str = "plain", *, writes_bos: bool = True):
    """A tokenizer of a kind with a template and its control tokens, flagged in one of `FLAGS`.

    Its post-processor writes `<s>` before every text, as Llama's does, where `writes_bos`.
    """
    core = Tokenizer.from_str(_trained(kind))
    source, names = TEMPLATES[template]
    core.add_special_tokens([AddedToken(n, special=True, **FLAGS[flags]) for n in names])
    core.add_tokens([AddedToken(n, normalized=False) for n in ("<think>", "</think>")])
    if writes_bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, **ROLES
    )
    tokenizer.chat_template = source
    return tokenizer
