"""Whole rounds with a tiny language model, every figure recomputed from what the store keeps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_helpers import make_run, remains, text_recipe, weights_of, write_text
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from backflip.data import encode_prompt, encode_sample
from backflip.errors import SettingsError, WorkspaceError
from backflip.evaluation.reward import wilson
from backflip.feedback.gold import sentiment_gold
from backflip.loop import Run
from backflip.loop.stage import Stage
from backflip.loop.stages.learning import load_reward
from backflip.models import TextScorer
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import KINDS, Demonstration
from backflip.records.results import RewardModels
from backflip.rewards import MixtureReward
from backflip.workspace import Workspace, lineage
from stored_results import stored


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def stages_of(workspace: Workspace, run: Run) -> dict[str, Any]:
    return stored(workspace, run.id)


def folder_of(workspace: Workspace, model: str) -> Path:
    return workspace.models.folder(workspace.models.get(model))


def logprob(workspace: Workspace, model: str, samples: list[Sample]) -> list[float]:
    """Sum of the log-probabilities of each reply, by transformers alone."""
    folder = folder_of(workspace, model)
    network = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    totals = []
    for sample in samples:
        prompt, reply = encode_sample(tokenizer, sample)
        ids = torch.from_numpy(np.concatenate([prompt, reply])).long()
        with torch.no_grad():
            said = network(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        places = torch.arange(len(prompt) - 1, len(ids) - 1)
        totals.append(float(said[places, ids[len(prompt) :]].sum()))
    return totals


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "adapters"])
def test_all_stages_and_what_they_leave(workspace: Workspace, tmp_path: Path, lora: bool):
    adapters = {"precision": "float32", "lora": {"rank": 2}} if lora else {"precision": "float32"}
    recipe = text_recipe(tmp_path, model=adapters)
    recipe["reward"]["model"] = adapters
    run, _ = make_run(workspace, recipe)
    (result,) = run.go()
    stages = stages_of(workspace, run)
    checked, *done = stages
    assert checked.startswith("check-")
    assert done[:4] == ["start", "pretrain", "sft", "baseline"]
    start, policy = stages["sft"]["model"], stages["round-1/policy"]["model"]
    found = {m.stage for m in workspace.models.all()}
    assert found == {"base", "pretrain", "sft", "reward", "policy"}
    final = lineage(workspace, policy)
    assert {m.id for m in final.all_models} == {m.id for m in workspace.models.all()}
    journal = workspace.journal.active()
    assert set(final.annotators) == {e.annotator for e in journal}
    assert {e.id for e in final.all_entries} == {e.id for e in journal}

    heldout = {p.id for p in run.domain.prompts() if p.split == "heldout"}
    sides = [
        {s.prompt_id: s for s in workspace.samples.of_model(m) if s.prompt_id in heldout}
        for m in (start, policy)
    ]
    before, after = ([side[p] for p in sorted(heldout)] for side in sides)
    golds = [[sentiment_gold(s) for s in side] for side in (before, after)]
    means = result.means
    assert means["gold"].before == pytest.approx(np.mean(golds[0]))
    assert means["gold"].after == pytest.approx(np.mean(golds[1]))
    assert means["length"].after == np.mean([len(s.completion.tokens) for s in after])
    assert means["truncated"].after == np.mean([s.completion.finish == "length" for s in after])
    wins = sum((b > a) + 0.5 * (b == a) for a, b in zip(*golds, strict=True))
    assert result.win_rate.value == pytest.approx(wins / 4)
    assert result.win_rate.high == pytest.approx(wilson(wins, 4, 0.95).high)
    gaps = np.subtract(logprob(workspace, policy, after), logprob(workspace, start, after))
    assert result.kl.value == pytest.approx(gaps.mean(), abs=1e-3)
    check_reward(workspace, stages, before, after, means)


def check_reward(workspace, stages, before, after, means) -> None:
    """Scores by `AutoModelForSequenceClassification`'s weights, normalised on the baseline."""
    (model,) = stages["round-1/reward"]["rewards"]["overall"]
    reward = workspace.models.get(model)
    assert reward.parents == (stages["sft"]["model"],)
    folder = folder_of(workspace, model)
    scorer = TextScorer.from_model(*load_scorer(folder), trainable=False)
    from backflip.models import TextInputs

    def raw(samples: list[Sample]) -> np.ndarray:
        rows = [encode_sample(scorer.tokenizer, s) for s in samples]
        inputs = TextInputs.of([p for p, _ in rows], [r for _, r in rows], pad_id=0)
        return scorer.scores(inputs).double().numpy()

    reference = raw(before)
    center, scale = reference.mean(), reference.std(ddof=1)
    assert means["reward"].before == pytest.approx(0, abs=1e-4)
    assert means["reward"].after == pytest.approx(
        ((raw(after) - center) / scale).mean(), rel=1e-3, abs=1e-3
    )


def load_scorer(folder: Path):
    from transformers import AutoModelForSequenceClassification

    return (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )


def test_what_is_done_is_not_done_again_even_where_the_folder_was_moved(tmp_path: Path):
    recipe = text_recipe(tmp_path)
    with Workspace.create(tmp_path / "here") as workspace:
        run, _ = make_run(workspace, recipe)
        done: list[str] = []

        class Stop(Exception):  # noqa: N818
            pass

        real = workspace.stages.finish

        def finish(run_id: str, key: str, result: Any) -> Any:
            kept = real(run_id, key, result)
            done.append(key)
            if key == "round-1/reward":
                raise Stop
            return kept

        workspace.stages.finish = finish
        with pytest.raises(Stop):
            run.go()
    shutil.move(tmp_path / "here", tmp_path / "there")
    with Workspace.open(tmp_path / "there") as workspace:
        again, _ = make_run(workspace, recipe)
        again.go()
        moved = remains(workspace, again)
    with Workspace.create(tmp_path / "straight") as workspace:
        straight, _ = make_run(workspace, recipe)
        straight.go()
        assert remains(workspace, straight) == moved


def test_dpo_on_text_raises_the_preferred_replies(workspace: Workspace, tmp_path: Path):
    algorithm = {
        "type": "dpo",
        "batch_size": 8,
        "epochs": 6,
        "optimizer": {"learning_rate": 3e-3},
    }
    run, _ = make_run(workspace, text_recipe(tmp_path, algorithm=algorithm))
    (result,) = run.go()
    (accuracy,) = workspace.metrics.series(run.id, "round-1/policy", ["accuracy"])
    (loss,) = workspace.metrics.series(run.id, "round-1/policy", ["loss"])
    assert loss.values[0] == pytest.approx(np.log(2), abs=1e-4)
    assert np.mean(accuracy.values[-2:]) > 0.9
    assert set(result.means) == {"gold", "length", "truncated"}
    assert lineage(workspace, result.model).annotators


def test_tokens_that_were_drawn_are_those_that_are_trained_on(workspace: Workspace, tmp_path: Path):
    run, _ = make_run(workspace, text_recipe(tmp_path))
    run.go()
    gaps = workspace.metrics.series(run.id, "round-1/policy", ["sampler_gap"])[0].values
    assert max(gaps) < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(folder_of(workspace, run_model(workspace)))
    for sample in workspace.samples.of_model(run_model(workspace)):
        prompt, reply = encode_sample(tokenizer, sample)
        assert np.array_equal(prompt, encode_prompt(tokenizer, sample.prompt.messages))
        assert np.array_equal(reply, sample.completion.tokens)


def run_model(workspace: Workspace) -> str:
    return next(m.id for m in workspace.models.all() if m.stage == "policy")


def test_pretraining_text_mixed_into_ppo_is_learned(tmp_path: Path):
    text = str(write_text(tmp_path))
    losses = {}
    for coefficient in (0.0, 5.0):
        recipe = text_recipe(tmp_path)
        recipe["algorithm"] |= {
            "ptx_coefficient": coefficient,
            "ptx_text": [text],
            "ptx_batch_size": 4,
            "steps": 6,
        }
        with Workspace.create(tmp_path / f"w{coefficient}") as workspace:
            run, _ = make_run(workspace, recipe)
            run.go()
            found = workspace.metrics.series(run.id, "round-1/policy", ["ptx_loss"])
            losses[coefficient] = found[0].values if found else None
    assert losses[0.0] is None
    assert losses[5.0][-1] < losses[5.0][0] - 0.3


@pytest.mark.parametrize("change", [{"ptx_batch_size": 2}, {"ptx_coefficient": 1.0}])
def test_every_setting_of_the_mix_changes_it(tmp_path: Path, change):
    weights = []
    for number, settings in enumerate(({}, change)):
        recipe = text_recipe(tmp_path, sft=None)
        recipe["algorithm"] |= {
            "ptx_coefficient": 5.0,
            "ptx_text": [str(write_text(tmp_path))],
            "steps": 1,
            **settings,
        }
        with Workspace.create(tmp_path / f"w{number}") as workspace:
            run, _ = make_run(workspace, recipe)
            run.go()
            folder = folder_of(workspace, run_model(workspace))
            weights.append(load_file(folder / "model.safetensors"))
    name = "model.embed_tokens.weight"
    assert not torch.equal(weights[0][name], weights[1][name])


def test_every_kind_of_feedback_on_several_axes_trains_a_mixture(
    workspace: Workspace, tmp_path: Path
):
    recipe = text_recipe(tmp_path)
    kinds = [k for k in KINDS if k in FEEDBACK_KINDS]
    assert len(kinds) == len(FEEDBACK_KINDS)
    recipe["feedback"] |= {"kinds": kinds, "samples_per_prompt": 3}
    recipe["reward"] |= {"axes": ["overall", "safe"], "mixture": {"weights": {"safe": 0.5}}}
    recipe["sft"] = None
    run, _ = make_run(workspace, recipe)
    run.go()
    journal = workspace.journal.active()
    assert {type(e).model_fields["kind"].default for e in journal} == set(kinds)
    stages = stages_of(workspace, run)
    assert set(stages["round-1/reward"]["rewards"]) == {"overall", "safe"}
    rewards = stages["round-1/reward"]["rewards"]
    stage = Stage(run, "round-1/reward")
    samples = list(workspace.samples.get(stages["baseline"]["samples"]).values())
    mixed = load_reward(stage, RewardModels(rewards=rewards))
    assert isinstance(mixed, MixtureReward)
    own = {axis: run.domain.reward(folder_of(workspace, ids[0])) for axis, ids in rewards.items()}
    expected = np.array(own["overall"].score(samples)) + 0.5 * np.array(own["safe"].score(samples))
    assert mixed.score(samples) == pytest.approx(expected.tolist())


FEEDBACK_KINDS = (
    "comparison",
    "ranking",
    "rating",
    "good_bad",
    "correction",
    "demonstration",
    "critique",
    "safety_flag",
    "implicit",
)


def test_safety_gates_helpfulness(tmp_path: Path):
    recipe = text_recipe(tmp_path, sft=None)
    recipe["feedback"] |= {"kinds": ["comparison", "safety_flag"]}
    recipe["reward"] |= {"axes": ["overall", "safe"], "mixture": {"mode": "gated"}}
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe)
        run.go()
        stages = stages_of(workspace, run)
        rewards = stages["round-1/reward"]["rewards"]
        samples = list(workspace.samples.get(stages["round-1/sample"]["samples"]).values())
        own = {
            axis: np.array(run.domain.reward(folder_of(workspace, ids[0])).score(samples))
            for axis, ids in rewards.items()
        }
        threshold = float(np.median(own["safe"]))
        recipe["reward"]["mixture"]["threshold"] = threshold
        later, _ = make_run(workspace, recipe)
        gated = load_reward(Stage(later, "round-1/policy"), RewardModels(rewards=rewards))
        expected = np.where(own["safe"] < threshold, own["safe"], own["overall"])
        assert set(expected.tolist()) & set(own["safe"].tolist())
        assert set(expected.tolist()) & set(own["overall"].tolist())
        assert gated.score(samples) == pytest.approx(expected.tolist())


def test_demonstrations_of_the_workspace_are_learned_where_no_file_is_named(tmp_path: Path):
    recipe = text_recipe(tmp_path)
    recipe["sft"]["data"] = []
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe)
        with pytest.raises(Exception, match="no demonstrations to learn from"):
            run.go()
        shown = [
            Sample.of(Prompt.from_text(f"How is {i}?"), Completion(text="Lovely."))
            for i in range(9)
        ]
        workspace.samples.add(shown)
        workspace.journal.add([Demonstration(annotator="mia", sample=s.id) for s in shown])
        run, _ = make_run(workspace, recipe)
        run.go()
        assert len(workspace.metrics.series(run.id, "sft", ["loss"])[0].steps) == 4


def test_a_run_may_start_from_a_model_of_the_workspace(tmp_path: Path):
    recipe = text_recipe(tmp_path)
    with Workspace.create(tmp_path / "w") as workspace:
        first, _ = make_run(workspace, recipe)
        (result,) = first.go()
        later = text_recipe(tmp_path, name="later", pretrain=None, sft=None)
        later["model"]["name"] = result.model
        second, _ = make_run(workspace, later)
        second.go()
        stages = stages_of(workspace, second)
        before = weights_of(workspace)
        start = workspace.models.get(stages["start"]["model"])
        assert before[start.id] == before[result.model]
        assert second.recipe.reward.model.name == result.model


def test_model_files_that_are_gone_are_an_error_that_says_where(tmp_path: Path):
    recipe = text_recipe(tmp_path)
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe)
        run.go()
        longer = text_recipe(tmp_path)
        longer["loop"] = {"rounds": 1, "checkpoint_every": 2}
        with workspace.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM stages WHERE key = 'round-1/evaluate'")
        reward = next(m for m in workspace.models.all() if m.stage == "reward")
        shutil.rmtree(workspace.models.folder(reward))
        again, _ = make_run(workspace, recipe)
        with pytest.raises(
            WorkspaceError, match=f"files of model {reward.id} are missing"
        ) as caught:
            again.go()
        assert caught.value.where == str(workspace.models.folder(reward))
        assert caught.value.hint


def test_a_reward_model_that_reads_other_tokens_cannot_start_the_values(tmp_path: Path):
    recipe = text_recipe(tmp_path)
    with Workspace.create(tmp_path / "w") as workspace:
        first, _ = make_run(workspace, recipe)
        (result,) = first.go()
        other = text_recipe(tmp_path)
        other["pretrain"]["scratch"]["vocabulary"] = 300
        other["reward"]["model"]["name"] = result.model
        second, _ = make_run(workspace, other)
        with pytest.raises(SettingsError, match="reads other tokens than the policy"):
            second.go()
