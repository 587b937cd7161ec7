"""The same seed gives the same text at any batch size, in the number format of the demo."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backflip.config import SamplingSettings
from backflip.models import load_causal_lm
from backflip.records import Prompt
from backflip.sampling import TextSampler

BUILTIN = "smollm2-135m-instruct"
PROMPTS = [
    Prompt.from_text(text)
    for text in (
        "Say something about rivers.",
        "Why?",
        "Write one sentence about a lighthouse that wished to be a little less tall than it was.",
        "What is the day like today, and what will it be like tomorrow?",
    )
]


@pytest.mark.slow
def test_in_bfloat16_a_reply_is_the_same_in_any_company(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    cache = request.config.cache
    assert cache is not None
    monkeypatch.setenv("BACKFLIP_CACHE", str(Path(cache.mkdir("backflip-models"))))
    model, tokenizer = load_causal_lm(BUILTIN, dtype=torch.bfloat16)
    assert next(model.parameters()).dtype is torch.bfloat16
    sampler = TextSampler(model, tokenizer)
    replies = {}
    for batch_size in (1, 3, 16):
        settings = SamplingSettings(max_tokens=16, batch_size=batch_size)
        drawn = sampler.sample(PROMPTS, settings, num_samples=4, seed=11)
        assert len(drawn) == 16
        replies[batch_size] = {(s.prompt_id, s.index): s.completion for s in drawn}
    alone = replies.pop(1)
    assert len({reply.text for reply in alone.values()}) > 8
    for together in replies.values():
        assert together.keys() == alone.keys()
        for place, reply in together.items():
            assert reply.text == alone[place].text
            np.testing.assert_array_equal(reply.tokens, alone[place].tokens)
            np.testing.assert_allclose(reply.logprobs, alone[place].logprobs, atol=1e-2)
