"""At which temperature a policy is read: that of the draw for what it drew itself, else 1."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loop_helpers import make_run, text_recipe, write_text
from torch import Tensor
from transformers import AutoModelForCausalLM

from backflip.algorithms import ALGORITHMS, OfflineAlgorithm
from backflip.loop import stages
from backflip.loop.stage import Stage
from backflip.loop.stages import learning, measuring
from backflip.records import Sample
from backflip.records.results import ModelResult
from backflip.training import OnPolicyTrainer, PreferenceTrainer, Trainer
from backflip.workspace import Workspace

COLD, PLAIN = 0.3, 1.0
RATES = {"learning_rate": 1e-2, "max_grad_norm": None}
OFFLINE = [name for name, kind in ALGORITHMS.items() if issubclass(kind, OfflineAlgorithm)]
ONLINE = [name for name in ALGORITHMS if name not in OFFLINE]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[SimpleNamespace]:
    """A run on a tiny language model up to its reward model, which further recipes go on from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("temperature")

    def recipe(temperature: float, **algorithm: Any) -> dict[str, Any]:
        whole = text_recipe(folder)
        del whole["pretrain"]
        whole["model"]["name"] = whole["reward"]["model"]["name"] = str(models / "one")
        whole["sampling"]["temperature"] = temperature
        if algorithm:
            whole["algorithm"] = {"optimizer": RATES, **algorithm}
        return whole

    with Workspace.create(folder / "w") as workspace:
        run, _ = make_run(workspace, recipe(PLAIN))
        run.begin()
        start = run.stage("start", stages.start)
        baseline = run.stage("baseline", stages.baseline, start)
        asked = run.stage("round-1/sample", stages.sample, start)
        feedback = run.stage("round-1/feedback", stages.feedback, asked)
        reward = run.stage("round-1/reward", stages.reward, start, feedback, baseline)
        yield SimpleNamespace(
            workspace=workspace,
            recipe=recipe,
            results=(start, start, feedback, reward),
            samples=list(workspace.samples.get(asked.samples).values()),
            text=str(write_text(folder)),
            folder=models,
        )


def trainee_of(
    told: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, temperature: float, **algorithm: Any
) -> Any:
    """What the policy stage of a recipe would train, caught when it begins."""
    caught: list[Trainer] = []

    def catch(stage: Stage, trainee: Trainer, **rest: Any) -> None:
        caught.append(trainee)
        raise InterruptedError

    monkeypatch.setattr(learning, "train", catch)
    run, _ = make_run(told.workspace, told.recipe(temperature, **algorithm))
    with pytest.raises(InterruptedError):
        stages.policy(Stage(run, "round-1/policy"), *told.results)
    return caught[0]


def gradient(trainee: PreferenceTrainer | OnPolicyTrainer) -> Tensor:
    """What the last update went by."""
    policy: Any = trainee.learner.policy
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


def said(
    told: SimpleNamespace, network: Any, samples: Sequence[Sample], temperature: float
) -> list[Tensor]:
    """Log-probabilities of the replies' own tokens in float64, one reply at a time."""
    found = []
    for sample in samples:
        prompt, reply = sample.completion.prompt_tokens, sample.completion.tokens
        ids = torch.from_numpy(np.concatenate([prompt, reply])).long()
        logits = network(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1].double()
        table = (logits / temperature).log_softmax(-1)
        found.append(table.gather(1, ids[len(prompt) :, None])[:, 0])
    return found


@pytest.mark.parametrize("name", OFFLINE)
def test_pairs_are_learned_from_alike_however_replies_are_drawn(told, monkeypatch, name):
    trainees = [trainee_of(told, monkeypatch, t, type=name) for t in (PLAIN, COLD, 0.0)]
    metrics = [[trainee.step(step) for step in range(2)] for trainee in trainees]
    assert float(gradient(trainees[0]).norm()) > 1e-3
    for trainee, measured in zip(trainees[1:], metrics[1:], strict=True):
        assert measured == metrics[0]
        assert torch.equal(gradient(trainee), gradient(trainees[0]))


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("temperature", [PLAIN, COLD])
def test_rollouts_are_learned_from_at_the_temperature_they_were_drawn_at(
    told, monkeypatch, name, temperature
):
    """The first update is the policy gradient of the tempered distribution."""
    once = {"epochs": 1, "minibatches": 1, "prompts_per_step": 6}
    trainee = trainee_of(told, monkeypatch, temperature, type=name, **once)
    kept: list[Any] = []
    credit = trainee.algorithm.credit

    def keep(rollouts: Any) -> Any:
        batch, metrics = credit(rollouts)
        kept.append((rollouts, batch))
        return batch, metrics

    trainee.algorithm.credit = keep
    metrics = trainee.step(0)
    rollouts, batch = kept[0]
    twin = AutoModelForCausalLM.from_pretrained(told.folder / "one", dtype=torch.float64)
    surrogate = torch.zeros((), dtype=torch.float64)
    replies = said(told, twin, rollouts.samples, temperature)
    for row, logprobs in enumerate(replies):
        number = len(logprobs)
        for found in (rollouts.logprobs_BT, rollouts.ref_logprobs_BT, batch.old_logprobs_BT):
            expected = logprobs.detach().float()
            torch.testing.assert_close(found[row, :number], expected, atol=1e-4, rtol=0)
        surrogate = surrogate - (logprobs * batch.advantages_BT[row, :number]).sum()
    (surrogate / sum(map(len, replies))).backward()
    expected = torch.cat([p.grad.flatten() for p in twin.parameters()])
    torch.testing.assert_close(gradient(trainee).double(), expected, atol=1e-5, rtol=1e-3)
    assert metrics["sampler_gap"] < 1e-4
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-4)


def test_text_that_is_mixed_in_is_read_at_temperature_one(told, monkeypatch):
    mixed = {"type": "ppo", "ptx_coefficient": 0.5, "ptx_text": [told.text]}
    losses, gradients = [], []
    for temperature in (PLAIN, COLD):
        trainee = trainee_of(told, monkeypatch, temperature, **mixed)
        part = trainee.auxiliary(0)
        losses.append(trainee.learner.update(part)["ptx_loss"])
        gradients.append(gradient(trainee))
    twin = AutoModelForCausalLM.from_pretrained(told.folder / "one", dtype=torch.float64)
    ids, lengths = part.batch.inputs.input_ids_BL, part.batch.inputs.row_lengths.tolist()
    with torch.no_grad():
        rows = [row[:n] for row, n in zip(ids, lengths, strict=True)]
        tables = [twin(input_ids=row[None]).logits[0, :-1].log_softmax(-1) for row in rows]
    each = [t.gather(1, r[1:, None]) for t, r in zip(tables, rows, strict=True)]
    expected = -torch.cat(each).mean()
    assert losses == pytest.approx([float(expected)] * 2, abs=1e-4)
    assert torch.equal(*gradients)
    assert float(gradients[0].norm()) > 1e-3


def test_fine_tuning_is_the_same_however_replies_are_drawn(told, tmp_path):
    losses = []
    for temperature in (PLAIN, COLD):
        run, _ = make_run(told.workspace, told.recipe(temperature))
        trainee, _ = run.domain.finetuning(told.folder / "one", seed=0)
        losses.append([trainee.step(step) for step in range(2)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("given", "used"), [(PLAIN, 1.0), (COLD, COLD), (0.0, 1.0)])
def test_distance_is_measured_at_the_temperature_of_the_draw(told, given, used):
    run, _ = make_run(told.workspace, told.recipe(given, type="dpo"))
    stage: Any = SimpleNamespace(
        domain=run.domain, recipe=run.recipe, model_folder=lambda name: told.folder / name
    )
    run.domain.policy(told.folder / "one", seed=0)
    one, two = (ModelResult(model=name) for name in ("one", "two"))
    found = measuring._kl(stage, one, two, told.samples)
    sums = []
    with torch.no_grad():
        for name in ("two", "one"):
            twin = AutoModelForCausalLM.from_pretrained(told.folder / name, dtype=torch.float64)
            sums.append([float(row.sum()) for row in said(told, twin, told.samples, used)])
    expected = np.mean(np.subtract(*sums))
    assert found.value == pytest.approx(expected, abs=1e-3)
    assert abs(expected) > 0.1
