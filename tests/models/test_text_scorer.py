import math

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from backflip.config import LoraSettings, ModelSettings
from backflip.errors import ModelError
from backflip.models import TextInputs, TextPolicy, TextScorer, save_model
from unsealed import unsealed


@pytest.fixture
def folder(build, architecture, tokenizer, tmp_path):
    """A language model on disk."""
    save_model(build(architecture), tokenizer, tmp_path / "language")
    return tmp_path / "language"


def settings(folder, **fields):
    return ModelSettings(name=str(folder), **{"precision": "float32", **fields})


def slow_states(folder, prompt, reply):
    """States of one row alone, from the language model that the scorer was made of."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[*prompt.tolist(), *reply.tolist()]])
    with torch.no_grad():
        return model.base_model(ids).last_hidden_state[0].double()


def test_scores_and_values_are_the_head_on_the_right_states(folder, rows, inputs):
    scorer = TextScorer.load(settings(folder), seed=3)
    head = scorer.model.score.weight[0].double()
    scores, values = scorer.scores(inputs), scorer.values(inputs)
    assert scores.dtype == values.dtype == torch.float32
    for row, (prompt, reply) in enumerate(zip(*rows, strict=True)):
        along = slow_states(folder, prompt, reply) @ head
        assert torch.allclose(scores[row].double(), along[-1], atol=2e-5)
        steps = len(reply)
        before = along[len(prompt) - 1 : -1]
        assert torch.allclose(values[row, :steps].double(), before, atol=2e-5)
        assert values[row, steps:].eq(0).all()


def test_values_and_logprobs_stand_on_the_same_states(folder, inputs):
    """A head that copies a row of the output layer must give that token's logit."""
    policy, scorer = (cls.load(settings(folder)) for cls in (TextPolicy, TextScorer))
    token = 17
    with torch.no_grad():
        scorer.model.score.weight.copy_(policy.model.get_output_embeddings().weight[token])
        logits = policy.model(inputs.input_ids_BL).logits[..., token]
    expected = logits.gather(1, inputs.predicting_BT)[inputs.mask_BT]
    assert torch.allclose(scorer.values(inputs)[inputs.mask_BT], expected, atol=2e-5)


def test_what_stands_in_the_padding_changes_nothing(folder, rows):
    scorer = TextScorer.load(settings(folder))
    some, other = (TextInputs.of(*rows, pad_id=pad) for pad in (3, 200))
    assert torch.equal(scorer.scores(some), scorer.scores(other))
    assert torch.equal(scorer.values(some), scorer.values(other))


def test_values_without_replies_are_empty(folder):
    scorer = TextScorer.load(settings(folder))
    assert scorer.values(TextInputs.of([[5], [6, 7]], [[], []], pad_id=0)).shape == (2, 0)


@pytest.mark.parametrize("padding", ["own", "end"])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_saved_scorers_score_alike_as_a_plain_classifier(
    folder, tokenizer, rows, tmp_path, lora, padding
):
    if padding == "end":  # as in many models: the padding is the token that ends every reply
        other = AutoTokenizer.from_pretrained(folder)
        other.pad_token = other.eos_token
        other.save_pretrained(unsealed(folder))
    scorer = TextScorer.load(settings(folder, lora=lora), seed=3)
    generator = torch.Generator().manual_seed(1)
    for tensor in scorer.trainable_state().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.2)
    scorer.save(tmp_path / "scorer", {"kind": "reward", "center": 0.5})

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "scorer")
    inputs = TextInputs.of(*rows, pad_id=plain.config.pad_token_id)
    in_row = torch.arange(inputs.input_ids_BL.shape[1]) < inputs.row_lengths[:, None]
    with torch.no_grad():
        logits = plain(inputs.input_ids_BL, attention_mask=in_row).logits
    inputs = TextInputs.of(*rows, pad_id=scorer.pad_id)
    mine = scorer.scores(inputs).detach()
    assert torch.allclose(logits[:, 0], mine, atol=1e-4)
    saved_with = AutoTokenizer.from_pretrained(tmp_path / "scorer")
    assert saved_with.pad_token_id == plain.config.pad_token_id != tokenizer.eos_token_id

    again = TextScorer.load(settings(tmp_path / "scorer"), trainable=False, seed=99)
    assert torch.allclose(again.scores(inputs), mine, atol=1e-4)
    if lora is None:
        assert torch.equal(again.scores(inputs), mine)
    assert again.record == {"kind": "reward", "center": 0.5}
    assert not again.trainable_state()


def test_the_head_stays_float32_over_a_bfloat16_base(folder, inputs, tmp_path):
    lora = LoraSettings(rank=4)
    scorer = TextScorer.load(settings(folder, lora=lora, precision="bfloat16"), seed=3)
    kinds = {n: p.dtype for n, p in scorer.model.named_parameters()}
    assert kinds.pop("score.weight") == torch.float32
    assert {d for n, d in kinds.items() if ".lora_" not in n} == {torch.bfloat16}
    assert "score.weight" in scorer.trainable_state()
    assert all(".lora_" in n or n == "score.weight" for n in scorer.trainable_state())
    with torch.no_grad():
        scorer.model.score.weight.mul_(1.001)  # values that bfloat16 cannot hold
    scores = scorer.scores(inputs)
    scores.sum().backward()
    assert scorer.model.score.weight.grad.abs().max() > 0
    scorer.save(tmp_path / "scorer", {})
    again = TextScorer.load(settings(tmp_path / "scorer", precision="bfloat16"), trainable=False)
    assert torch.equal(again.model.score.weight, scorer.model.score.weight)
    # Adapters were zero, so the base is the same to the bit, and so are the scores.
    assert torch.equal(again.scores(inputs), scores)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "scorer")
    assert torch.equal(plain.score.weight, scorer.model.score.weight)


def test_a_head_is_drawn_from_its_seed_with_its_width(tokenizer, tmp_path):
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=1024,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    save_model(model, tokenizer, tmp_path / "wide")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    heads = []
    for seed in (1, 1, 2):
        scorer = TextScorer.load(settings(tmp_path / "wide"), seed=seed)
        heads.append(scorer.model.score.weight.detach()[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    # 1024 draws: the standard error of the mean is 1/32 of std, of the std 1/45.
    expected = 1 / math.sqrt(1025)
    assert abs(float(heads[0].std()) / expected - 1) < 4 / 45
    assert abs(float(heads[0].mean())) < 4 * expected / 32


def test_a_classifier_of_several_labels_is_refused(tokenizer, tmp_path):
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=3,
    )
    save_model(LlamaForSequenceClassification(config), tokenizer, tmp_path / "three")
    with pytest.raises(ModelError, match="gives 3 scores, not one"):
        TextScorer.load(settings(tmp_path / "three"))


def test_reference_of_a_scorer_leaves_the_trained_head_on(build, tokenizer, inputs, tmp_path):
    save_model(build("llama"), tokenizer, tmp_path / "language")
    scorer = TextScorer.load(settings(tmp_path / "language", lora=LoraSettings(rank=4)))
    start = scorer.scores(inputs)
    for name, tensor in scorer.trainable_state().items():
        if ".lora_B" in name:
            tensor.fill_(0.1)
    assert not torch.allclose(scorer.scores(inputs), start, atol=1e-3)
    with scorer.reference():
        assert torch.equal(scorer.scores(inputs), start)
