"""A policy of every family has the log-probabilities that transformers alone gives."""

import pytest
import torch
from brought import as_inputs, bring, logprobs_alone

from backflip.config import ModelSettings
from backflip.errors import ModelError
from backflip.models import TextInputs, TextPolicy
from backflip.models.limits import position_limit
from backflip.models.probes import is_causal, reads_packed_rows, reads_shared_rows
from backflip.models.readout import ReadOut, Shaping
from families import FAMILIES, POSITIONS, build_family

PACKS = FAMILIES.keys() - {"opt", "bloom", "mpt", "falcon", "falcon_alibi"}
SHARES = PACKS - {"gptj", "gpt_neo", "gemma2", "gemma3_text", "mistral"} | {"opt", "falcon"}
UNLIMITED = {"bloom", "falcon_alibi"}

ROWS = [
    [5, 6, 7, 8, 40, 41, 42, 43, 44, 45, 46, 47],
    [9, 30, 31],
    [5, 6, 7, 8, 50],
    [9, 30, 32, 33, 34, 35, 36, 37, 38, 39],
]


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def load(folder, **fields) -> TextPolicy:
    return TextPolicy.load(ModelSettings(name=str(folder), precision="float32", **fields))


def build(family: str, **options):
    return build_family(family, vocabulary=264, **options)


def test_logprobs_are_those_of_transformers_row_by_row(family, tmp_path):
    """Through replies, through rows, and through replies that share a prompt."""
    bring(tmp_path, family, "none")
    policy, plain = load(tmp_path), build(family)
    read = policy.evaluate(as_inputs(ROWS)).logprobs_BT
    longest = max(map(len, ROWS))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in ROWS])
    mask = torch.arange(longest) < torch.tensor([len(row) for row in ROWS])[:, None]
    mask[:, 0] = False
    whole = policy.evaluate_rows(tokens, mask)
    for row, tokens_, logprobs in zip(ROWS, read, whole, strict=True):
        expected = logprobs_alone(plain, row)
        steps = len(expected)
        torch.testing.assert_close(tokens_[:steps].double(), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(logprobs[1 : steps + 1].double(), expected, rtol=0, atol=1e-4)
        assert logprobs[steps + 1 :].eq(0).all()


def test_packed_documents_are_as_if_each_had_its_row(family, tokenizer):
    """Rows that are full, padded and of one document; a row is longer than the positions."""
    policy, plain = TextPolicy.from_model(build(family), tokenizer), build(family)
    assert policy.packs == (family in PACKS)
    packs = [ROWS, [ROWS[3], ROWS[0]], [ROWS[2]], [*ROWS, ROWS[0], *ROWS]]
    length = max(sum(map(len, pack)) for pack in packs)
    tokens = torch.full((len(packs), length), 3)
    positions, mask = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    expected = torch.zeros(tokens.shape, dtype=torch.float64)
    for number, pack in enumerate(packs):
        start = 0
        for row in pack:
            at = slice(start, start + len(row))
            tokens[number, at] = torch.tensor(row)
            positions[number, at] = torch.arange(len(row))
            mask[number, start + 1 : at.stop] = True
            expected[number, start + 1 : at.stop] = logprobs_alone(plain, row)
            start += len(row)
    assert length > POSITIONS
    read = policy.evaluate_rows(tokens, mask, positions)
    torch.testing.assert_close(read.detach().double(), expected, rtol=0, atol=1e-4)
    read.sum().backward()
    assert all(p.grad is not None for p in policy.model.get_input_embeddings().parameters())


def test_replies_behind_one_prompt_are_as_if_each_had_its_row(family, tokenizer):
    policy, plain = TextPolicy.from_model(build(family), tokenizer), build(family)
    prompt = list(range(5, 15))
    replies = [[20, 21, 22, 23, 24, 25, 26], [30], [31, 32]]
    read = policy.evaluate(TextInputs.of([prompt] * 3, replies, pad_id=0)).logprobs_BT
    for reply, logprobs in zip(replies, read, strict=True):
        expected = logprobs_alone(plain, prompt + reply)[len(prompt) - 1 :]
        torch.testing.assert_close(logprobs[: len(reply)].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("enlarge", [0.01, 1.0, 100.0])
def test_what_is_found_does_not_depend_on_the_size_of_the_weights(family, enlarge):
    model = build(family, enlarge=enlarge)
    assert is_causal(model)
    assert reads_packed_rows(model) == (family in PACKS)
    assert reads_shared_rows(model) == (family in SHARES)
    shaping = {"gemma2": (1.0, 3.0), "cohere": (0.25, None), "granite": (0.25, None)}
    assert ReadOut(model).shaping == Shaping(*shaping.get(family, (1.0, None)))


def test_rows_as_long_as_the_model_reads_are_read_and_longer_ones_refused(family, tokenizer):
    policy = TextPolicy.from_model(build(family), tokenizer)
    limit = position_limit(policy.model.config)
    assert limit == (None if family in UNLIMITED else POSITIONS)
    full = list(range(5, 5 + POSITIONS))
    read = policy.evaluate(as_inputs([full])).logprobs_BT[0]
    expected = logprobs_alone(build(family), full)
    torch.testing.assert_close(read.double(), expected, rtol=0, atol=1e-4)
    if limit is None:
        policy.evaluate(as_inputs([full + full]))
    else:
        with pytest.raises(ModelError, match="a row has 65 tokens; the model reads at most 64"):
            policy.evaluate(as_inputs([[*full, 5]]))
