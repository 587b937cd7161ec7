"""A chat template whose opening merges with replies is told, for any vocabulary, or it does not."""

import random

import pytest
from chat_cases import BASE, ROLES, TEXTS, UNKNOWN
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from backflip.data import Chat
from backflip.records import Prompt

TRAINED_ON = [
    *TEXTS,
    "User: why?\nAssistant: the sun\n\nAssistant:\nthe rain (yes) 'no' : the: a:b answer:the\n",
]
OPENINGS = (
    *("Assistant: ", "Assistant:", "Assistant:\n", "Assistant:\n\n", "answer", "> ", "A:\t"),
    *("助手\uff1a", "it's", "", "<s>", "<s> ", "<s>\n"),
)
SIZES = (60, 150, 400)
OTHERS = {"show_progress": False, "special_tokens": BASE}


def in_bytes(size, *, use_regex=True):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return core, trainers.BpeTrainer(vocab_size=size + 256, initial_alphabet=alphabet, **OTHERS)


def spaced(size, model, *, split=True, scheme="never"):
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    core.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    if isinstance(model, models.BPE):
        return core, trainers.BpeTrainer(vocab_size=size, **OTHERS)
    return core, trainers.UnigramTrainer(vocab_size=size, **UNKNOWN, **OTHERS)


def wordpiece(size, cut):
    core = Tokenizer(models.WordPiece(**UNKNOWN))
    core.pre_tokenizer = cut
    core.decoder = decoders.WordPiece(cleanup=False)
    if isinstance(cut, pre_tokenizers.BertPreTokenizer):
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
    return core, trainers.WordPieceTrainer(vocab_size=size, **OTHERS)


KINDS = {
    "bytes": in_bytes,
    "bytes across words": lambda size: in_bytes(size, use_regex=False),
    "spaces": lambda size: spaced(size, models.BPE(**UNKNOWN)),
    "spaces across words": lambda size: spaced(size, models.BPE(**UNKNOWN), split=False),
    "spaces, one first": lambda size: spaced(size, models.BPE(**UNKNOWN), scheme="first"),
    "unigram": lambda size: spaced(size, models.Unigram()),
    "unigram across words": lambda size: spaced(size, models.Unigram(), split=False),
    "wordpiece": lambda size: wordpiece(size, pre_tokenizers.BertPreTokenizer()),
    "wordpiece of words": lambda size: wordpiece(size, pre_tokenizers.WhitespaceSplit()),
}


def tokenizers_of(kind):
    """One of each size with each opening."""
    for size in SIZES:
        core, trainer = KINDS[kind](size)
        core.train_from_iterator(TRAINED_ON * 3, trainer)
        for opening in OPENINGS:
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=core, clean_up_tokenization_spaces=False, **ROLES
            )
            tokenizer.chat_template = (
                "{% for m in messages %}{% if m.role == 'assistant' %}"
                f"{opening}{{{{ m.content }}}}</s>"
                "{% else %}User: {{ m.content }}\n{% endif %}{% endfor %}"
                f"{{% if add_generation_prompt %}}{opening}{{% endif %}}"
            )
            yield f"{size} {opening!r}", tokenizer


def replies(seed, number=25):
    """Words and letters of the training text, and characters that it does not have."""
    source = random.Random(seed)
    letters = " ".join(TRAINED_ON)
    words, others = letters.split(), " \nЖ☃😀\t"
    for _ in range(number):
        parts = [
            source.choice((source.choice(words), source.choice(letters), source.choice(others)))
            for _ in range(source.randint(1, 7))
        ]
        yield "".join(parts).lstrip() or "a"


@pytest.mark.parametrize("kind", KINDS)
def test_an_opening_that_merges_with_any_reply_is_told(kind):
    prompt = Prompt.from_text("Why?")
    told, kept = [], []
    for case, tokenizer in tokenizers_of(kind):
        chat = Chat(tokenizer)
        if problems := chat.problems():
            assert ["merges with replies" in problem for problem in problems] == [True], case
            told.append(case)
            continue
        kept.append(case)
        asked = chat.encode_prompt(prompt).tolist()
        for reply in replies(case):
            whole = tokenizer.apply_chat_template(
                [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": reply}],
                tokenize=False,
            )
            ours = [*asked, *chat.encode_reply(reply, prompt=prompt).tolist()]
            assert ours == tokenizer.encode(whole, add_special_tokens=False), (case, reply)
    assert len(kept) > len(OPENINGS) // 2, kept
    assert any(case.endswith("'Assistant: '") for case in told) or "wordpiece" in kind


@pytest.mark.parametrize("opening", ["Assistant:", "assistant\n"])
def test_what_no_reply_of_a_big_vocabulary_merges_with_is_kept(opening):
    """Nor are spaces and accents tried, with which nobody begins a reply."""
    core, trainer = in_bytes(600)
    core.train_from_iterator([*TRAINED_ON * 3, "a:\n\n  b:\n\n\n" * 9, ":\u0301 " * 9], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **ROLES)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
        f"{{% if add_generation_prompt %}}<s>{opening}{{% endif %}}"
    ).replace("<s>{{ m.role }}\n", f"<s>{opening}")
    assert Chat(tokenizer).problems() == []
