"""What is held out, and what is of another kind, is learned from by nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, make_run, text_recipe

from backflip.cli.stage_inputs import snapshot_of
from backflip.errors import TrainingError, WorkspaceError
from backflip.loop import Run
from backflip.loop.stage import Stage
from backflip.loop.stages import baseline, learning, preparing, start
from backflip.loop.stages.training_data import learnable
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, Correction, Demonstration
from backflip.records.plan import FEEDBACK
from backflip.records.results import ModelResult, SnapshotResult
from backflip.training.trainers.language import finetuning
from backflip.workspace import Workspace, lineage


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def compare(workspace: Workspace, prompt: Prompt) -> str:
    """The id of an entry that prefers one reply to another."""
    pair = [Sample.of(prompt, Completion(text=text)) for text in ("Lovely.", "Awful, it is.")]
    workspace.samples.add(pair)
    entry = Comparison(annotator="mia", samples=(pair[0].id, pair[1].id), choice="a")
    return workspace.journal.add([entry])[0]


def demonstrate(workspace: Workspace, prompt: Prompt) -> str:
    sample = Sample.of(prompt, Completion(text="A lovely day."))
    workspace.samples.add([sample])
    return workspace.journal.add([Demonstration(annotator="mia", sample=sample.id)])[0]


def correct(workspace: Workspace, prompt: Prompt) -> tuple[str, str]:
    """The id of an entry, and that of the text it brings."""
    old, new = (Sample.of(prompt, Completion(text=t)) for t in ("Bad day.", "A good day."))
    workspace.samples.add([old, new])
    entry = Correction(annotator="mia", sample=old.id, corrected=new.id)
    return workspace.journal.add([entry])[0], new.id


def train_prompts(number: int) -> list[Prompt]:
    return [Prompt.from_text(f"Trained on {i}?") for i in range(number)]


def heldout_prompts(number: int) -> list[Prompt]:
    return [
        Prompt.from_text(f"Measured by {i}?", source="reward-bench/x", split="heldout")
        for i in range(number)
    ]


def own_heldout(run: Run) -> list[Prompt]:
    return [p for p in run.domain.prompts() if p.split == "heldout"]


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """Starts from random weights and trains nothing before the feedback."""
    data = text_recipe(tmp_path, sft=None)
    data["pretrain"]["steps"] = 1
    return data


def snapshot(workspace: Workspace, ids: list[str]) -> SnapshotResult:
    return SnapshotResult(snapshot=workspace.snapshots.take(ids).id)


def begun(run: Run) -> ModelResult:
    run.begin()
    return run.stage("start", start)


def test_a_reward_model_is_not_fitted_to_what_is_held_out(
    tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe)
        first = begun(run)
        mine = [compare(workspace, p) for p in train_prompts(6)]
        others = [compare(workspace, p) for p in [*heldout_prompts(5), *own_heldout(run)]]
        fitted: set[str] = set()
        kept = learning.split_by_prompt

        def split(entries: Any, *args: Any, **fields: Any) -> Any:
            fitted.update(entry.id for entry in entries)
            return kept(entries, *args, **fields)

        monkeypatch.setattr(learning, "split_by_prompt", split)
        told = snapshot(workspace, [*others, *mine])
        said = run.stage("baseline", baseline, first)
        result = learning.reward(Stage(run, "reward"), first, told, said)
        assert fitted == set(mine)
        report = result.reports["overall"]
        assert report.trained_on + report.heldout == 6
        alone = snapshot(workspace, others)
        with pytest.raises(TrainingError, match="every entry is on prompts that are held out"):
            learning.reward(Stage(run, "reward-2"), first, alone, said)


def test_pairs_are_not_made_of_what_is_held_out(tmp_path: Path, recipe: dict[str, Any]):
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe | {"algorithm": {"type": "dpo", "batch_size": 64}})
        first = begun(run)
        mine = [compare(workspace, p) for p in train_prompts(3)]
        others = [compare(workspace, p) for p in [*heldout_prompts(5), *own_heldout(run)]]
        told = snapshot(workspace, [*mine, *others])
        learning.policy(Stage(run, "round-1/policy"), first, first, told, None)
        (series,) = workspace.metrics.series(run.id, "round-1/policy", ["num_pairs"])
        assert series.values == (3.0,)


def test_fine_tuning_takes_demonstrations_and_corrections_but_none_held_out(tmp_path: Path):
    data = text_recipe(tmp_path)
    data["sft"]["data"] = []
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, data)
        first = begun(run)
        shown = [demonstrate(workspace, p) for p in train_prompts(2)]
        mended, text = correct(workspace, train_prompts(1)[0])
        compare(workspace, train_prompts(1)[0])
        for prompt in [*heldout_prompts(2), *own_heldout(run)]:
            demonstrate(workspace, prompt)
            correct(workspace, prompt)
        learned: list[str] = []
        finetuning = run.domain.finetuning

        def watch(folder: Path, *, seed: int, shown: Any = ()) -> Any:
            learned.extend(sample.id for sample in shown)
            return finetuning(folder, seed=seed, shown=shown)

        run.domain.finetuning = watch
        result = run.stage("sft", preparing.sft, first)
        behind = [e.id for e in lineage(workspace, result.model).all_entries]
        assert sorted(behind) == sorted([*shown, mended])
        assert len(learned) == 3
        assert text in learned  # the corrected reply, not the one that it mends


@pytest.mark.parametrize("too_long", ["refuse", "cut", "drop"])
def test_fine_tuning_on_files_takes_none_held_out(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_long: str
):
    """Nor where the prompt that is held out is cut, or left out, for its length."""
    data = text_recipe(tmp_path)
    data["prompts"] |= {"too_long": too_long}
    data["sft"]["epochs"] = 1
    taken: list[Sample] = []

    def watch(policy: Any, demonstrations: list[Sample], *args: Any, **kwargs: Any) -> Any:
        taken.extend(demonstrations)
        return finetuning(policy, demonstrations, *args, **kwargs)

    monkeypatch.setattr("backflip.training.domains.text.finetuning", watch)
    run, reporter = make_run(workspace, data)
    first = begun(run)
    run.domain.read_with(run.model_folder(first.model))
    every = [prompt for prompt in run.domain.prompts() if prompt.text.startswith("How")]
    held = [prompt.id for prompt in every if prompt.split == "heldout"]
    if too_long != "refuse":  # no prompt of the recipe is left as it was
        monkeypatch.setattr("backflip.training.domains.text.TextDomain.prompts", lambda _: [])
    run.stage("sft", preparing.sft, first)
    assert sorted({s.prompt_id for s in taken}) == sorted({p.id for p in every} - set(held))
    told = f"sft: of demonstrations on prompts that are held out, {2 * len(held)} are left out."
    assert held
    assert told in reporter.warnings


def test_demonstrations_that_are_all_held_out_are_none(workspace: Workspace, tmp_path: Path):
    data = text_recipe(tmp_path)
    data["sft"]["data"] = []
    run, _ = make_run(workspace, data)
    first = begun(run)
    demonstrate(workspace, heldout_prompts(1)[0])
    with pytest.raises(TrainingError, match="no demonstrations to learn from") as caught:
        run.stage("sft", preparing.sft, first)
    assert "held out do not count" in str(caught.value.hint)


def test_single_stages_learn_from_nothing_held_out_or_of_another_kind(
    tmp_path: Path, recipe: dict[str, Any]
):
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, recipe)
        run.begin()
        with pytest.raises(WorkspaceError) as caught:
            snapshot_of(run, None)
        assert caught.value.what == "there is no feedback to learn from"
        agent, _ = make_run(workspace, agent_recipe(loop={"rounds": 1}))
        agent.go()
        compare(workspace, heldout_prompts(1)[0])
        with pytest.raises(WorkspaceError, match="held out or of another kind"):
            snapshot_of(run, None)
        mine = compare(workspace, train_prompts(1)[0])
        assert [e.id for e in workspace.snapshots.rows(snapshot_of(run, None))] == [mine]
        clips = workspace.snapshots.rows(snapshot_of(agent, None))
        assert {e.id for e in clips} == {e.id for e in workspace.journal.active(run=agent.id)}


def test_the_whole_workspace_is_that_of_the_runs_own_kind(tmp_path: Path, recipe: dict[str, Any]):
    """Feedback on clips and on what is held out lies beside it, and the run goes through."""
    recipe["feedback"] = {"prompts": 8, "use": "workspace"}
    with Workspace.create(tmp_path / "w") as workspace:
        agent, _ = make_run(workspace, agent_recipe(loop={"rounds": 1}))
        agent.go()
        mine = [compare(workspace, p) for p in train_prompts(2)]
        other = compare(workspace, heldout_prompts(1)[0])
        run, _ = make_run(workspace, recipe)
        run.go()
        told = workspace.stages.result(run.id, "round-1/feedback", FEEDBACK)
        learned = {e.id for e in workspace.snapshots.rows(told.snapshot)}
        own = {e.id for e in workspace.journal.active(run=run.id)}
        assert own
        assert learned == own | set(mine)
        assert other not in learned


def test_a_recipes_own_prompts_are_on_the_side_that_it_puts_them_on(
    workspace: Workspace, recipe: dict[str, Any]
):
    """Another run of the workspace held some of them out: this one may ask and learn."""
    first, _ = make_run(workspace, recipe)
    workspace.prompts.add(first.domain.prompts())
    second, _ = make_run(workspace, recipe | {"seed": 1})
    sides = {p.id: p.split for p in second.domain.prompts()}
    changed = [p for p in own_heldout(first) if sides[p.id] == "train"]
    entry = compare(workspace, changed[0])
    assert [e.id for e in learnable(second, workspace.journal.active())] == [entry]
    assert learnable(first, workspace.journal.active()) == []
