"""Pre-training and fine-tuning: what counts in the loss, and that it falls."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backflip.config import OptimizerSettings, PretrainSettings, SftSettings
from backflip.data import encode_sample
from backflip.errors import SettingsError, TrainingError
from backflip.models import TextPolicy
from backflip.records import Completion, Prompt, Sample
from backflip.training.fit import fit
from backflip.training.trainers.language import NO_PACKING, finetuning, pretraining
from families import build_family

DIALOGUES = [
    ("What sings?", "The kettle."),
    ("Who is tall?", "The lighthouse, and it was never asked whether it liked the view so much."),
    ("What costs two seconds?", "A kind answer."),
    ("Rain?", "Rivers on the window, all afternoon."),
    ("And an unkind one?", "An afternoon."),
]


def dialogues() -> list[Sample]:
    return [Sample.of(Prompt.from_text(p), Completion(text=r)) for p, r in DIALOGUES]


def rates(**change) -> OptimizerSettings:
    return OptimizerSettings(**{"learning_rate": 1e-2, "max_grad_norm": None, **change})


def sft(policy: TextPolicy, seed: int = 0, **change):
    settings = SftSettings(
        **{"batch_size": 5, "sequence_length": 96, "optimizer": rates(), **change}
    )
    return finetuning(policy, dialogues(), settings, seed=seed)


def gradients(policy: TextPolicy) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}


def step_without_moving(training) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a step measures, and its gradient, parameters left as they were."""
    training.optimizer.step = lambda: 0.0
    return training.step(0), gradients(training.policy)


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    largest = max(float(g.abs().max()) for g in one.values())
    return one.keys() == other.keys() and all(
        torch.allclose(one[n], other[n], rtol=1e-3, atol=1e-5 * largest) for n in one
    )


def alone(policy: TextPolicy, samples: list[Sample]) -> Tensor:
    """Mean negative log-likelihood of the replies' tokens, each dialogue by itself, by the model's
    own logits."""
    total, count = torch.zeros(()), 0
    for sample in samples:
        prompt, reply = encode_sample(policy.tokenizer, sample)
        ids = torch.from_numpy(np.concatenate([prompt, reply])).long()
        logprobs = policy.model(input_ids=ids[None]).logits[0].log_softmax(-1)
        for place in range(len(prompt), len(ids)):
            total = total - logprobs[place - 1, ids[place]]
            count += 1
    return total / count


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("micro_tokens", [1, 100_000])
def test_fine_tuning_is_the_mean_over_reply_tokens_of_dialogues_alone(
    build_model, tokenizer, packing, micro_tokens
):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = sft(policy, packing=packing, optimizer=rates(micro_batch_tokens=micro_tokens))
    metrics, found = step_without_moving(training)
    policy.zero_grad()
    loss = alone(policy, dialogues())
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert close(gradients(policy), found)
    tokens = sum(len(encode_sample(tokenizer, sample)[1]) for sample in dialogues())
    assert metrics["tokens"] == tokens
    assert (metrics["rows"] < 5) == packing


@pytest.mark.parametrize("family", ["llama", "opt", "bloom", "mpt", "falcon", "falcon_alibi"])
def test_dialogues_are_learned_from_alone_by_every_network(family, tokenizer):
    """Those that would see across a packed row have a row for each, and say so once."""

    def built() -> TextPolicy:
        at = {"max_position_embeddings": 128, "max_seq_len": 128}
        return TextPolicy.from_model(build_family(family, vocabulary=320, **at), tokenizer)

    policy = built()
    training = sft(policy)
    packs = family == "llama"
    assert training.notes == (() if packs else (NO_PACKING,))
    assert sft(built(), packing=False).notes == ()
    metrics, found = step_without_moving(training)
    assert (metrics["rows"] < 5) == packs
    policy.zero_grad()
    loss = alone(policy, dialogues())
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert close(gradients(policy), found)


@pytest.mark.parametrize("family", ["llama", "opt", "mpt"])
def test_texts_in_one_row_are_learned_from_alone_by_every_network(family, tokenizer, tmp_path):
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for file, text in zip(files, ("The kettle sang.", "Why?", "Rain."), strict=True):
        file.write_text(text)
    policy = TextPolicy.from_model(build_family(family, vocabulary=320), tokenizer)
    settings = PretrainSettings(
        text=tuple(map(str, files)), sequence_length=24, batch_size=2, optimizer=rates()
    )
    training = pretraining(policy, settings, seed=0)
    packed = training.batch(0)
    assert packed.segments.max() > 1
    total, count = 0.0, 0
    for row in range(packed.num_rows):
        for segment in range(1, packed.segments[row].max() + 1):
            document = packed.tokens[row][packed.segments[row] == segment]
            ids = torch.from_numpy(document).long()[None]
            table = policy.model(input_ids=ids).logits[0].log_softmax(-1)
            total -= table[:-1].gather(1, ids[0, 1:, None]).sum().item()
            count += len(document) - 1
    assert step_without_moving(training)[0]["loss"] == pytest.approx(total / count, abs=1e-5)


def test_a_row_is_as_long_as_the_longest_dialogue(build_model, tokenizer):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    lengths = [sum(map(len, encode_sample(tokenizer, sample))) for sample in dialogues()]
    packed, apart = (sft(policy, packing=packing).batch(0) for packing in (True, False))
    assert packed.tokens.shape == (packed.num_rows, max(lengths))
    assert packed.segments.max() > 1
    assert apart.tokens.shape == (5, max(lengths))


def test_dialogues_longer_than_a_row_are_refused_or_left_out(build_model, tokenizer):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    lengths = sorted(sum(map(len, encode_sample(tokenizer, sample))) for sample in dialogues())
    limit = lengths[2]
    assert limit < lengths[-1]
    with pytest.raises(SettingsError, match=f"sft.sequence_length allows {limit}") as caught:
        sft(policy, sequence_length=limit)
    assert caught.value.where in {sample.place for sample in dialogues()}
    kept = sft(policy, packing=False, sequence_length=limit, too_long="drop").batch(0)
    assert kept.num_rows == sum(length <= limit for length in lengths)
    with pytest.raises(TrainingError, match="all 5 are too long"):
        sft(policy, sequence_length=8, too_long="drop")


def test_nothing_flows_from_where_no_reply_is_predicted(build_model, tokenizer):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = sft(policy)
    seen: list[Tensor] = []

    def keep(module, args, output):
        output.last_hidden_state.retain_grad()
        seen.append(output.last_hidden_state)

    policy.model.base_model.register_forward_hook(keep)
    packed = training.batch(0)
    training.step(0)
    (hidden,) = seen
    flows = (hidden.grad.abs().sum(-1) > 0).numpy()
    shortest_first = np.argsort((packed.segments > 0).sum(1), kind="stable")
    assert np.array_equal(flows, packed.mask[shortest_first, 1 : flows.shape[1] + 1])
    assert flows.any()
    assert not flows.all()


def test_what_a_prompt_says_next_is_not_learned(build_model, tokenizer):
    """After much fine-tuning the replies are likely; the prompts are not made likelier."""
    policy = TextPolicy.from_model(build_model(), tokenizer)
    before = policy.model.state_dict()["model.embed_tokens.weight"].clone()
    training = sft(policy, epochs=30)
    losses = [training.step(step)["loss"] for step in range(training.num_steps)]
    assert losses[0] > 5
    assert losses[-1] < 0.5
    assert float(alone(policy, dialogues()).detach()) < 0.5
    assert not torch.equal(before, policy.model.state_dict()["model.embed_tokens.weight"])
    prompt, _ = encode_sample(tokenizer, dialogues()[1])
    ids = torch.from_numpy(np.array(prompt)).long()
    logprobs = policy.model(input_ids=ids[None]).logits[0].log_softmax(-1).detach()
    said = logprobs[:-1].gather(1, ids[1:, None])
    assert float(said.mean()) < -3


def test_every_epoch_has_each_dialogue_once(build_model, tokenizer):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = sft(policy, batch_size=2, epochs=3)
    assert training.num_steps == 9
    tokens = [encode_sample(tokenizer, s)[1].tolist() for s in dialogues()]
    orders = []
    for epoch in range(3):
        shown = []
        for step in range(3 * epoch, 3 * epoch + 3):
            packed = training.batch(step)
            for row in range(packed.num_rows):
                for segment in range(1, packed.segments[row].max() + 1):
                    place = (packed.segments[row] == segment) & packed.mask[row]
                    shown.append(tokens.index(packed.tokens[row][place].tolist()))
        assert sorted(shown) == [0, 1, 2, 3, 4]
        orders.append(shown)
    assert len({tuple(order) for order in orders}) > 1
    other = sft(policy, seed=1, batch_size=2, epochs=3)
    assert any(
        not np.array_equal(training.batch(i).tokens, other.batch(i).tokens) for i in range(9)
    )


def test_no_demonstrations_are_an_error_with_advice(build_model, tokenizer):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    with pytest.raises(TrainingError, match="no demonstrations") as caught:
        finetuning(policy, [], SftSettings(), seed=0)
    assert caught.value.where == "sft.data"


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    lines = [f"{prompt} {reply}" for prompt, reply in DIALOGUES] * 6
    path.write_text("\n\n".join(lines))
    return str(path)


def pretrain(policy: TextPolicy, text: str, seed: int = 0, **change):
    fields = {"text": (text,), "sequence_length": 32, "batch_size": 4, "steps": 30, **change}
    return pretraining(policy, PretrainSettings(**{"optimizer": rates(), **fields}), seed=seed)


def test_pre_training_brings_the_loss_down(build_model, tokenizer, text):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = pretrain(policy, text, steps=60)
    losses = [training.step(step)["loss"] for step in range(training.num_steps)]
    assert losses[0] > 5
    assert np.mean(losses[-5:]) < 1


def test_pre_training_is_the_mean_over_all_targets(build_model, tokenizer, text):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = pretrain(policy, text)
    packed = training.batch(0)
    total, count = 0.0, 0
    for row in range(packed.num_rows):
        for segment in range(1, packed.segments[row].max() + 1):
            ids = torch.from_numpy(packed.tokens[row][packed.segments[row] == segment]).long()
            logprobs = policy.model(input_ids=ids[None]).logits[0].log_softmax(-1).detach()
            total -= float(logprobs[:-1].gather(1, ids[1:, None]).sum())
            count += len(ids) - 1
    metrics, _ = step_without_moving(training)
    assert metrics["tokens"] == count
    assert metrics["loss"] == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize(
    "change", [{"sequence_length": 24}, {"batch_size": 3}, {"steps": 29}, {"seed": 1}]
)
def test_every_setting_of_pre_training_changes_it(build_model, tokenizer, text, change):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    usual, other = pretrain(policy, text), pretrain(policy, text, **change)
    one = [usual.batch(i).tokens.tolist() for i in range(usual.num_steps)]
    assert one != [other.batch(i).tokens.tolist() for i in range(other.num_steps)]


def test_no_text_is_an_error(build_model, tokenizer, tmp_path):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    with pytest.raises(SettingsError, match="names no text"):
        pretraining(policy, PretrainSettings(), seed=0)
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(SettingsError, match="holds no text"):
        pretrain(policy, str(tmp_path / "empty.txt"))


def test_a_loss_that_is_not_finite_changes_nothing(build_model, tokenizer, text):
    policy = TextPolicy.from_model(build_model(), tokenizer)
    training = pretrain(policy, text)
    training.step(0)
    with torch.no_grad():
        policy.model.model.norm.weight[0] = float("nan")
    before = {n: t.clone() for n, t in training.state().tensors.items()}
    with pytest.raises(TrainingError, match="the loss is not finite: training stops"):
        training.step(1)
    after = training.state().tensors
    assert all(torch.equal(before[n], after[n]) or before[n].isnan().any() for n in before)
    assert int(after["optimizer.updates"]) == 1


def test_it_goes_on_bit_for_bit(build_model, tokenizer, text, tmp_path):
    class Stop(BaseException):
        pass

    def record(step: int, metrics: dict[str, float]) -> None:
        if step == stop:
            raise Stop

    ends = []
    for stops in ([], [3, 5]):
        folder = tmp_path / f"{len(stops)}"
        for stop in [*stops, -1]:
            policy = TextPolicy.from_model(build_model(), tokenizer)
            training = pretrain(policy, text, steps=7)
            try:
                fit(training, folder, checkpoint_every=2, record=record)
            except Stop:
                continue
        ends.append(training.state().tensors)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])
