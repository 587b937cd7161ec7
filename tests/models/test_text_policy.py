import copy

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from backflip.config import LoraSettings
from backflip.errors import ModelError
from backflip.models import TextInputs, TextPolicy

LORA = LoraSettings(rank=4, alpha=6.0)


def slow_logprobs(model, prompt, reply, temperature=1.0):
    """One row alone, all logits, float64 softmax: log-probabilities and entropies of a reply."""
    ids = torch.tensor([[*prompt.tolist(), *reply.tolist()]])
    logits = model(ids, use_cache=False).logits[0].double() / temperature
    table = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    entropy = -(table.exp() * table).sum(-1)
    return table.gather(1, torch.tensor(reply).long()[:, None])[:, 0], entropy


def disturb(policy, seed=3, scale=0.3):
    """Move everything that is trained, as an optimiser would."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in policy.trainable_state().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * scale)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_and_entropy_are_those_of_each_row_alone(
    build, architecture, tokenizer, rows, inputs, temperature
):
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    output = policy.evaluate(inputs, entropy=True, temperature=temperature)
    assert output.logprobs_BT.dtype == torch.float32
    for row, (prompt, reply) in enumerate(zip(*rows, strict=True)):
        logprobs, entropy = slow_logprobs(build(architecture), prompt, reply, temperature)
        steps = len(reply)
        assert torch.allclose(output.logprobs_BT[row, :steps].double(), logprobs, atol=2e-5)
        assert torch.allclose(output.entropy_BT[row, :steps].double(), entropy, atol=2e-5)
        assert output.logprobs_BT[row, steps:].eq(0).all()
        assert output.entropy_BT[row, steps:].eq(0).all()


def test_what_stands_in_the_padding_changes_nothing(build, architecture, tokenizer, rows):
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    some, other = (policy.evaluate(TextInputs.of(*rows, pad_id=p)).logprobs_BT for p in (3, 200))
    assert torch.equal(some, other)


def test_gradients_are_those_of_the_plain_computation(build, architecture, tokenizer, rows, inputs):
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    weight_BT = torch.randn(inputs.mask_BT.shape, generator=torch.Generator().manual_seed(0))
    (policy.evaluate(inputs).logprobs_BT * weight_BT).sum().backward()

    twin = build(architecture)
    for module in twin.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    total = torch.zeros((), dtype=torch.float64)
    for row, (prompt, reply) in enumerate(zip(*rows, strict=True)):
        logprobs, _ = slow_logprobs(twin, prompt, reply)
        total = total + (logprobs * weight_BT[row, : len(reply)]).sum()
    total.backward()
    theirs = dict(twin.named_parameters())
    for name, parameter in policy.model.named_parameters():
        expected = theirs[name].grad
        assert torch.allclose(parameter.grad, expected, atol=1e-4, rtol=1e-3), name


def test_the_padding_token_learns_where_it_is_read(build, tokenizer):
    model = build("llama")
    pad = model.config.pad_token_id
    assert model.get_input_embeddings().padding_idx == pad
    policy = TextPolicy.from_model(model, tokenizer)
    # Untied, so that the gradient comes from reading the token and not from predicting it.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    inputs = TextInputs.of([[pad, 7]], [[8]], pad_id=0)
    policy.evaluate(inputs).logprobs_BT.sum().backward()
    assert model.get_input_embeddings().weight.grad[pad].abs().max() > 1e-4


def test_dropout_is_off_whatever_is_said(build, tokenizer, inputs):
    policy = TextPolicy.from_model(build("gpt2", dropout=0.5), tokenizer)
    plain = TextPolicy.from_model(build("gpt2", dropout=0.0), tokenizer)
    policy.train()
    assert torch.equal(policy.evaluate(inputs).logprobs_BT, plain.evaluate(inputs).logprobs_BT)


def test_replies_without_tokens_give_no_logprobs(build, tokenizer):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    one = policy.evaluate(TextInputs.of([[5, 6], [7]], [[8], []], pad_id=0)).logprobs_BT
    assert one[1].tolist() == [0.0]
    none = policy.evaluate(TextInputs.of([[5, 6], [7]], [[], []], pad_id=0), entropy=True)
    assert none.logprobs_BT.shape == none.entropy_BT.shape == (2, 0)


def test_packed_documents_are_as_if_each_had_its_row(build, architecture, tokenizer, rows):
    policy = TextPolicy.from_model(build(architecture), tokenizer)
    documents = [[*p.tolist(), *r.tolist()] for p, r in zip(*rows, strict=True)]
    packed = torch.tensor([[t for d in documents[:3] for t in d] + [3] * 5])
    positions = torch.tensor([[i for d in documents[:3] for i in range(len(d))] + [0] * 5])
    mask = positions > 0
    logprobs = policy.evaluate_rows(packed, mask, positions)[0]
    start = 0
    for document in documents[:3]:
        ids = torch.tensor([document])
        table = torch.log_softmax(build(architecture)(ids).logits[0].double(), -1)
        expected = table[:-1].gather(1, ids[0, 1:, None])[:, 0]
        mine = logprobs[start : start + len(document)]
        assert mine[0] == 0
        assert torch.allclose(mine[1:].double(), expected, atol=2e-5)
        start += len(document)
    assert logprobs[start:].eq(0).all()


def test_rows_without_positions_are_one_document_each(build, tokenizer, rows, inputs):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    places_L = torch.arange(inputs.input_ids_BL.shape[1])
    in_row = places_L < inputs.row_lengths[:, None]
    mask = in_row & (places_L >= inputs.prompt_lengths_B[:, None])
    logprobs = policy.evaluate_rows(inputs.input_ids_BL, mask)
    assert torch.equal(logprobs[mask], policy.evaluate(inputs).logprobs_BT[inputs.mask_BT])
    assert logprobs[~mask].eq(0).all()


def test_the_first_token_of_a_document_cannot_be_predicted(build, tokenizer):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    tokens, everything = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(ModelError, match="first token"):
        policy.evaluate_rows(tokens, everything)
    with pytest.raises(ModelError, match="first token"):
        policy.evaluate_rows(
            tokens, torch.tensor([[False, True, True, False]]), torch.tensor([[0, 1, 0, 1]])
        )


def test_adapters_start_at_the_model_and_come_off_again(build, architecture, tokenizer, inputs):
    start = TextPolicy.from_model(build(architecture), tokenizer).evaluate(inputs).logprobs_BT
    policy = TextPolicy.from_model(build(architecture), tokenizer, lora=LORA)
    assert torch.equal(policy.evaluate(inputs).logprobs_BT, start)
    disturb(policy)
    moved = policy.evaluate(inputs).logprobs_BT
    assert (moved - start).abs().max() > 0.1
    with policy.reference():
        referred = policy.evaluate(inputs).logprobs_BT
        assert not referred.requires_grad
    assert torch.equal(referred, start)
    again = policy.evaluate(inputs).logprobs_BT
    assert torch.equal(again, moved)
    assert again.requires_grad


def test_adapters_are_w_plus_alpha_over_rank_b_a(build, architecture, tokenizer, inputs):
    policy = TextPolicy.from_model(build(architecture), tokenizer, lora=LORA)
    disturb(policy)
    state = policy.trainable_state()
    plain = build(architecture)
    touched = 0
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            stem = name.removesuffix(".weight")
            a, b = (state.get(f"{stem}.lora_{part}.default.weight") for part in "AB")
            if a is None:
                continue
            touched += 1
            product = 6.0 / 4 * torch.einsum("or,ri->oi", b, a)
            parameter += product.T if architecture == "gpt2" else product
    # Every linear layer of both blocks: q, k, v, o, gate, up, down; or attention and MLP, 2 each.
    assert touched == 2 * (7 if architecture == "llama" else 4)
    assert len(state) == 2 * touched
    expected = TextPolicy.from_model(plain, tokenizer).evaluate(inputs).logprobs_BT
    assert torch.allclose(policy.evaluate(inputs).logprobs_BT, expected, atol=1e-4)
    served = build(architecture)
    served.load_state_dict(policy.weights(), strict=True)
    for name, parameter in served.named_parameters():
        assert torch.allclose(parameter, plain.get_parameter(name), atol=1e-6), name


def test_only_the_last_layers_are_adapted_and_those_below_leave_no_graph(
    build, architecture, tokenizer, inputs
):
    lora = LoraSettings(rank=2, last_layers=1)
    policy = TextPolicy.from_model(build(architecture, layers=3), tokenizer, lora=lora)
    blocks = (
        policy.model.base_model.layers if architecture == "llama" else policy.model.base_model.h
    )
    assert {n.split(".")[2] for n in policy.trainable_state()} == {"2"}
    graphs = []
    for block in blocks:
        block.register_forward_hook(lambda _m, _i, out: graphs.append(out))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(len(graphs)) or t, id):
        policy.evaluate(inputs)
    outputs = [out[0] if isinstance(out, tuple) else out for out in graphs]
    assert [out.requires_grad for out in outputs] == [False, False, True]
    assert min(saved) >= 2  # nothing was kept for backward before the adapted block began


def test_frozen_weights_get_no_gradient(build, tokenizer, inputs):
    policy = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA)
    disturb(policy)
    policy.evaluate(inputs).logprobs_BT.sum().backward()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad is not None) == (".lora_" in name), name


def test_adapters_are_drawn_from_their_seed_alone(build, tokenizer):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA, seed=4).trainable_state()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    second = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA, seed=4).trainable_state()
    other = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA, seed=5).trainable_state()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name])
        if ".lora_A." in name:
            assert not torch.equal(tensor, other[name])
            bound = tensor.shape[1] ** -0.5
            assert 0.8 * bound < tensor.abs().max() <= bound
        else:
            assert tensor.eq(0).all()


def test_too_many_last_layers_are_refused(build, tokenizer):
    with pytest.raises(ModelError, match="last_layers is 3, but the model has 2"):
        TextPolicy.from_model(build("llama"), tokenizer, lora=LoraSettings(last_layers=3))


def test_a_model_trained_whole_needs_a_frozen_copy(build, tokenizer, inputs):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    with pytest.raises(ModelError, match="frozen_copy"), policy.reference():
        pass
    start = policy.evaluate(inputs).logprobs_BT.detach()
    copy_ = policy.frozen_copy()
    disturb(policy)
    kept = copy_.evaluate(inputs).logprobs_BT
    assert torch.equal(kept, start)
    assert not kept.requires_grad
    assert not copy_.trainable_state()
    assert not torch.equal(policy.evaluate(inputs).logprobs_BT, start)


def test_a_frozen_copy_with_adapters_stays_frozen_after_reference(build, tokenizer, inputs):
    policy = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA)
    disturb(policy)
    twin = policy.frozen_copy()
    with twin.reference():
        pass
    assert not twin.trainable_state()
    assert torch.equal(twin.evaluate(inputs).logprobs_BT, policy.evaluate(inputs).logprobs_BT)


def test_bfloat16_trains_float32_masters_by_autocast(build, tokenizer, inputs):
    exact = TextPolicy.from_model(build("llama"), tokenizer).evaluate(inputs).logprobs_BT
    policy = TextPolicy.from_model(build("llama"), tokenizer, precision=torch.bfloat16)
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    rounded = policy.evaluate(inputs).logprobs_BT
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.15
    rounded.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in policy.parameters())
    served = policy.weights()
    assert {t.dtype for t in served.values()} == {torch.bfloat16}
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(served[name], tensor.bfloat16())


def test_bfloat16_adapters_are_float32_over_a_bfloat16_base(build, tokenizer, inputs):
    policy = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA, precision=torch.bfloat16)
    for name, parameter in policy.model.named_parameters():
        assert parameter.dtype == (torch.float32 if ".lora_" in name else torch.bfloat16), name
    disturb(policy, scale=0.1)
    mine = policy.evaluate(inputs).logprobs_BT
    mine.sum().backward()
    state = policy.trainable_state()
    assert {t.dtype for t in state.values()} == {torch.float32}
    served = build("llama").bfloat16()
    served.load_state_dict(policy.weights(), strict=True)
    theirs = TextPolicy.from_model(served, tokenizer, trainable=False).evaluate(inputs).logprobs_BT
    assert (mine - theirs).abs().max() < 0.25
    assert not theirs.requires_grad


def test_weights_share_what_needs_no_change_and_tied_weights_stay_one(build, tokenizer):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    weights = policy.weights()
    own = policy.model.state_dict()
    assert weights.keys() == own.keys()
    assert all(weights[name].data_ptr() == own[name].data_ptr() for name in own)
    narrow = TextPolicy.from_model(build("llama"), tokenizer, precision=torch.bfloat16).weights()
    tied = narrow["lm_head.weight"].data_ptr(), narrow["model.embed_tokens.weight"].data_ptr()
    assert tied[0] == tied[1]


@pytest.mark.parametrize("lora", [None, LORA])
def test_trained_state_comes_back_bit_for_bit(build, tokenizer, inputs, lora):
    policy = TextPolicy.from_model(build("llama"), tokenizer, lora=lora)
    disturb(policy)
    state = {name: tensor.clone() for name, tensor in policy.trainable_state().items()}
    fresh = TextPolicy.from_model(build("llama"), tokenizer, lora=lora, seed=9)
    fresh.load_trainable_state(state)
    for name, tensor in fresh.trainable_state().items():
        assert torch.equal(tensor, state[name])
    assert torch.equal(fresh.evaluate(inputs).logprobs_BT, policy.evaluate(inputs).logprobs_BT)


def test_a_state_of_another_model_is_refused_and_changes_nothing(build, tokenizer):
    policy = TextPolicy.from_model(build("llama"), tokenizer, lora=LORA)
    before = copy.deepcopy(policy.trainable_state())
    whole = TextPolicy.from_model(build("llama", seed=2), tokenizer).trainable_state()
    wider = TextPolicy.from_model(build("llama"), tokenizer, lora=LoraSettings(rank=8))
    halved = {name: tensor.bfloat16() for name, tensor in before.items()}
    partial = dict(list(before.items())[:-1])
    for state, message in (
        (whole, "lacks"),
        (partial, "lacks 1 tensor: model"),
        ({**before, "extra": torch.zeros(1)}, "has what the network does not: 1 tensor: extra"),
        (wider.trainable_state(), "shapes"),
        (halved, "types"),
    ):
        with pytest.raises(ModelError, match=message):
            policy.load_trainable_state(state)
    for name, tensor in policy.trainable_state().items():
        assert torch.equal(tensor, before[name])


def test_rows_that_do_not_fit_the_model_are_refused(build, tokenizer):
    policy = TextPolicy.from_model(build("llama"), tokenizer)
    with pytest.raises(ModelError, match="a row has 65 tokens; the model reads at most 64"):
        policy.evaluate(TextInputs.of([[5] * 60], [[6] * 5], pad_id=0))
    policy.evaluate(TextInputs.of([[5] * 60], [[6] * 4], pad_id=0))
    with pytest.raises(ModelError, match="outside the model's vocabulary"):
        policy.evaluate(TextInputs.of([[5]], [[len(tokenizer)]], pad_id=0))


def test_a_network_that_sees_ahead_is_refused(tokenizer):
    config = BertConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="not causal"):
        TextPolicy.from_model(BertLMHeadModel(config).eval(), tokenizer)
