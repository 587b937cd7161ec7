"""The small networks against closed forms, and their files."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backflip.agents import AgentPolicy, ClipInputs, ClipReward, ClipScorer, ClipValue
from backflip.errors import DamageError, ModelError
from backflip.files.manifest import MANIFEST
from backflip.models import files
from backflip.records import Clip, Prompt, Sample, Situation
from unsealed import unsealed

DISCRETE = {"observation": 3, "actions": 4, "discrete": True, "width": 8}
GAUSSIAN = {"observation": 3, "actions": 2, "discrete": False, "width": 8}
SHAPES = pytest.mark.parametrize("shape", [DISCRETE, GAUSSIAN], ids=["discrete", "gaussian"])


def make_clips(shape: dict, lengths: tuple[int, ...] = (4, 1, 6)) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(
            environment="test",
            observations=rng.normal(size=(steps + 1, 3)).astype(np.float32),
            actions=rng.integers(0, 4, steps)
            if shape["discrete"]
            else rng.normal(size=(steps, 2)).astype(np.float32),
            logprobs=np.zeros(steps, np.float32),
            rewards=np.zeros(steps, np.float32),
            terminated=False,
            truncated=True,
        )
        for steps in lengths
    ]


def roused(network):
    """The network with weights large enough that every one matters."""
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return network


def perceptron(network, x: np.ndarray) -> np.ndarray:
    """The layers written down, in float64."""
    state = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    for i in (0, 2, 4):
        x = x @ state[f"net.{i}.weight"].T + state[f"net.{i}.bias"]
        x = np.tanh(x) if i < 4 else x
    return x


def unlike(shape: dict) -> dict[str, Clip]:
    """Clips that a network of this shape cannot have been asked about."""
    (clip,) = make_clips(shape, (3,))
    (other,) = make_clips(GAUSSIAN if shape["discrete"] else DISCRETE, (3,))
    wide = np.zeros((4, 5), np.float32)
    made = {
        "observations": replace(clip, observations=wide),
        "kind of actions": replace(clip, actions=other.actions),
    }
    if shape["discrete"]:
        made["an action too many"] = replace(clip, actions=np.array([0, 4, 1]))
        made["an action below the first"] = replace(clip, actions=np.array([0, -1, 1]))
    else:
        made["wider actions"] = replace(clip, actions=np.zeros((3, 3), np.float32))
        made["flat actions"] = replace(clip, actions=np.zeros(3, np.float32))
    return made


@SHAPES
@pytest.mark.parametrize("index", range(4))
def test_clips_of_another_environment_are_refused_and_do_not_stand_beside_others(shape, index):
    name, clip = list(unlike(shape).items())[index]
    inputs = ClipInputs.of([clip])
    asked = (AgentPolicy(shape).evaluate, ClipValue(shape).values, ClipScorer(shape))
    for network in (*asked, ClipScorer(shape).features):
        with pytest.raises(ModelError, match="not of that form") as caught:
            network(inputs)
        assert "another environment" in caught.value.hint
        network(ClipInputs.of(make_clips(shape)))
    if not name.startswith("an action"):
        with pytest.raises(ModelError, match="cannot stand together"):
            ClipInputs.of([*make_clips(shape), clip])


@SHAPES
def test_log_probabilities_and_entropies_in_closed_form(shape):
    policy = roused(AgentPolicy(shape, seed=1))
    clips = make_clips(shape)
    output = policy.evaluate(ClipInputs.of(clips), entropy=True)
    for row, clip in enumerate(clips):
        for t in range(clip.num_steps):
            out = perceptron(policy, clip.observations[t].astype(np.float64))
            if shape["discrete"]:
                chances = np.exp(out) / np.exp(out).sum()
                logprob = math.log(chances[clip.actions[t]])
                entropy = -(chances * np.log(chances)).sum()
            else:
                log_std = policy.log_std.detach().double().numpy()
                z = (clip.actions[t] - out) / np.exp(log_std)
                logprob = (-z * z / 2 - log_std - math.log(2 * math.pi) / 2).sum()
                entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
            assert output.logprobs_BT[row, t].item() == pytest.approx(logprob, abs=1e-5)
            assert output.entropy_BT[row, t].item() == pytest.approx(entropy, abs=1e-5)
    assert policy.evaluate(ClipInputs.of(clips)).entropy_BT is None


@SHAPES
def test_values_are_of_the_state_before_each_action(shape):
    value = roused(ClipValue(shape, seed=1))
    clips = make_clips(shape)
    inputs = ClipInputs.of(clips)
    values = value.values(inputs).detach()
    for row, clip in enumerate(clips):
        expected = perceptron(value, clip.observations.astype(np.float64))[:, 0]
        steps = clip.num_steps
        assert values[row, :steps].tolist() == pytest.approx(expected[:steps].tolist(), abs=1e-5)


@SHAPES
def test_a_clips_score_is_the_mean_over_what_was_done_and_seen_next(shape):
    scorer = roused(ClipScorer(shape, seed=1))
    clips = make_clips(shape)
    scores = scorer(ClipInputs.of(clips)).detach()
    for row, clip in enumerate(clips):
        done = np.eye(4)[clip.actions] if shape["discrete"] else clip.actions
        x = np.concatenate([clip.observations[1:], done], 1).astype(np.float64)
        expected = perceptron(scorer, x)[:, 0]
        steps = scorer.step_rewards(ClipInputs.of([clip]))[0].detach()
        assert steps.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        assert scores[row].item() == pytest.approx(expected.mean(), abs=1e-5)


@SHAPES
@pytest.mark.parametrize("network", [AgentPolicy, ClipValue, ClipScorer])
def test_the_start_follows_from_the_seed_alone(network, shape):
    torch.manual_seed(1)
    one = network(shape, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = network(shape, seed=3).state_dict(), network(shape, seed=4).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["net.0.weight"], other["net.0.weight"])


def test_a_new_policy_hardly_prefers_anything():
    chances = AgentPolicy(DISCRETE).distribution(torch.randn(50, 3)).probs.detach()
    assert float((chances - 0.25).abs().max()) < 0.02
    weight = AgentPolicy(DISCRETE).net[2].weight.detach() / math.sqrt(2)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), rtol=0, atol=1e-5)


@SHAPES
@pytest.mark.parametrize("network", [AgentPolicy, ClipValue, ClipScorer])
def test_files_give_the_same_network(network, shape, tmp_path: Path):
    saved = roused(network(shape, seed=1))
    saved.save(tmp_path / "net", {"model": "model-1"})
    loaded = network.load(tmp_path / "net")
    assert loaded.shape == shape
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in saved.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    policy = AgentPolicy(DISCRETE)
    for number in range(1, 4):
        calls = []

        def fail(path: Path, number=number, calls=calls, real=Path.rename):
            calls.append(path)
            if len(calls) == number:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", lambda descriptor: fail(Path()))
            patch.setattr(Path, "rename", lambda path, to: fail(path))
            with pytest.raises(ModelError, match="No space left"):
                policy.save(tmp_path / "net", {})
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "backflip.json").unlink(),
        lambda folder: (folder / "backflip.json").write_text("{"),
        lambda folder: (folder / "backflip.json").write_text("{}"),
        lambda folder: (folder / "network.safetensors").unlink(),
        lambda folder: (folder / "network.safetensors").write_bytes(b"\x08\0\0"),
        lambda folder: ClipValue(DISCRETE).save(folder, {}),
        lambda folder: (
            AgentPolicy({**DISCRETE, "width": 9}).save(folder, {})
            or (folder / "backflip.json").write_text(
                '{"shape": ' + str(DISCRETE).replace("'", '"').replace("True", "true") + "}"
            )
        ),
    ],
    ids=["no record", "broken record", "empty record", "no weights", "cut", "other", "other width"],
)
def test_a_folder_that_is_no_such_network_is_refused(tmp_path: Path, spoil):
    AgentPolicy(DISCRETE).save(tmp_path / "net", {})
    spoil(unsealed(tmp_path / "net"))
    (tmp_path / "net" / MANIFEST).unlink(missing_ok=True)
    with pytest.raises((ModelError, DamageError)) as caught:
        AgentPolicy.load(tmp_path / "net")
    assert str(tmp_path / "net") in str(caught.value.where)


def test_a_frozen_copy_stays_and_weights_are_copies():
    policy = AgentPolicy(DISCRETE)
    frozen, weights = policy.frozen_copy(), policy.weights()
    before = policy.net[0].weight.detach().clone()
    with torch.no_grad():
        policy.net[0].weight += 1
    assert torch.equal(frozen.net[0].weight, before)
    assert torch.equal(weights["net.0.weight"], before)
    assert not any(p.requires_grad for p in frozen.parameters())
    with pytest.raises(ModelError, match="holds no reference"):
        policy.reference()


def samples() -> list[Sample]:
    prompt = Prompt(content=Situation(environment="test", seed=0))
    return [Sample.of(prompt, clip) for clip in make_clips(DISCRETE)]


def test_a_reward_keeps_its_zero_and_unit(tmp_path: Path):
    reward = ClipReward(roused(ClipScorer(DISCRETE, seed=2)))
    reward.normalise(samples())
    raw: Tensor = reward(reward.collate(samples())).detach()
    expected = (raw - raw.mean()) / raw.std()
    assert reward.score(samples()) == pytest.approx(expected.tolist(), abs=1e-5)
    reward.save(tmp_path / "reward", {"axis": "overall"})
    assert ClipReward.load(tmp_path / "reward").score(samples()) == reward.score(samples())
