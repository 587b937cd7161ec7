"""What a model was made from is entered with it, whichever way the feedback came in.

Who withdraws their feedback must be told of every model that it reached: the policies of a run
that fine-tuned on their demonstrations, and runs that started from a model that they shaped.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import agent_recipe, make_run, remains, text_recipe, weights_of

from backflip.errors import TrainingError
from backflip.loop import Run
from backflip.loop.stage import Stage
from backflip.loop.stages import sft, start
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Demonstration
from backflip.workspace import Workspace, lineage, touched
from stored_results import stored


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def show(workspace: Workspace, annotator: str, number: int) -> list[str]:
    """Demonstrations by somebody, as an import or a form leaves them."""
    samples = [
        Sample.of(Prompt.from_text(f"How is {i}?"), Completion(text=f"Lovely, says {annotator}."))
        for i in range(number)
    ]
    workspace.samples.add(samples)
    return workspace.journal.add([Demonstration(annotator=annotator, sample=s.id) for s in samples])


def results(workspace: Workspace, run: Run) -> dict[str, Any]:
    return stored(workspace, run.id)


def shown_recipe(folder: Path, **change: Any) -> dict[str, Any]:
    """Fine-tuned on the workspace's demonstrations."""
    recipe = text_recipe(folder, **change)
    recipe["sft"]["data"] = []
    return recipe


def test_demonstrations_of_the_workspace_stand_behind_all_that_learned_from_them(tmp_path: Path):
    with Workspace.create(tmp_path / "w") as workspace:
        mine, other = show(workspace, "mia", 5), show(workspace, "ann", 4)
        workspace.journal.retract_annotator("ann", "withdrew before", by="ann")
        run, _ = make_run(workspace, shown_recipe(tmp_path))
        run.go()
        found = results(workspace, run)
        tuned = workspace.models.get(found["sft"]["model"])
        assert tuned.snapshot == found["sft/shown"]["snapshot"]
        assert [e.id for e in workspace.snapshots.rows(str(tuned.snapshot))] == mine
        assert lineage(workspace, tuned).annotators == {"mia": 5}
        hit = touched(workspace, [mine[3]])
        later = [m.id for m in workspace.models.all() if m.stage not in ("base", "pretrain")]
        assert [m.id for m in hit.models] == later
        assert [m.stage for m in hit.models] == ["sft", "reward", "policy"]
        assert touched(workspace, other).models == ()


def test_fine_tuning_that_is_cut_off_goes_on_with_what_it_began_with(tmp_path: Path):
    left = []
    for name in ("straight", "stopped"):
        with Workspace.create(tmp_path / name) as workspace:
            show(workspace, "mia", 9)
            run, _ = make_run(workspace, shown_recipe(tmp_path))
            if name == "stopped":
                stop_after_a_step(workspace, run)
                show(workspace, "ann", 8)
                workspace.journal.retract_annotator("ann", "again", by="ann")
                show(workspace, "zoe", 8)
                run, _ = make_run(workspace, shown_recipe(tmp_path))
            sft_of(run)
            left.append(weights_of(workspace))
    assert left[0] == left[1]


def sft_of(run: Run) -> dict[str, Any]:
    """Only the stages up to fine-tuning."""
    from backflip.loop.stages import pretrain

    run.begin()
    return run.stage("sft", sft, run.stage("pretrain", pretrain, run.stage("start", start)))


def stop_after_a_step(workspace: Workspace, run: Run) -> None:
    class Stop(BaseException):
        pass

    log = workspace.metrics.log

    def stop(run_id: str, stage: str, step: int, values: dict[str, float]) -> None:
        log(run_id, stage, step, values)
        if stage == "sft" and step == 3:
            raise Stop

    workspace.metrics.log = stop
    with pytest.raises(Stop):
        sft_of(run)
    workspace.metrics.log = log


def test_no_demonstrations_are_no_beginning(tmp_path: Path):
    """The error leaves nothing behind that would keep later demonstrations out."""
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, shown_recipe(tmp_path))
        with pytest.raises(TrainingError, match="no demonstrations to learn from") as caught:
            sft_of(run)
        assert "import them" in str(caught.value.hint)
        ids = show(workspace, "mia", 3)
        result = sft_of(run)
        assert [e.id for e in lineage(workspace, result.model).all_entries] == ids


@pytest.mark.parametrize("by", ["id", "name", "folder"])
def test_a_run_that_starts_from_a_trained_model_is_its_child(tmp_path: Path, by: str):
    with Workspace.create(tmp_path / "w") as workspace:
        first, _ = make_run(workspace, text_recipe(tmp_path))
        first.go()
        trained = next(m for m in workspace.models.all() if m.stage == "policy")
        folder = str(workspace.models.folder(trained))
        named = {"id": trained.id, "name": trained.name, "folder": folder}[by]
        later = text_recipe(tmp_path, name="later", pretrain=None, sft=None)
        later["model"]["name"] = named
        second, _ = make_run(workspace, later)
        second.go()
        found = results(workspace, second)
        base = workspace.models.get(found["start"]["model"])
        assert (base.name, base.parents, base.path) == ("later/start", (trained.id,), trained.path)
        last = found["round-1/policy"]["model"]
        early = workspace.journal.active(run=first.id)[0]
        assert last in {m.id for m in touched(workspace, [early.id]).policies}
        assert early.id in {e.id for e in lineage(workspace, last).all_entries}
        late = workspace.journal.active(run=second.id)[0]
        assert trained.id not in {m.id for m in touched(workspace, [late.id]).models}


def test_a_reward_model_that_grows_from_another_runs_is_its_child(tmp_path: Path):
    with Workspace.create(tmp_path / "w") as workspace:
        first, _ = make_run(workspace, text_recipe(tmp_path))
        first.go()
        old = next(m for m in workspace.models.all() if m.stage == "reward")
        later = text_recipe(tmp_path, name="later")
        later["reward"]["model"]["name"] = old.name
        second, _ = make_run(workspace, later)
        second.go()
        found = results(workspace, second)
        (grown,) = found["round-1/reward"]["rewards"]["overall"]
        assert workspace.models.get(grown).parents == (found["sft"]["model"], old.id)
        entry = workspace.journal.active(run=first.id)[0]
        hit = {m.id for m in touched(workspace, [entry.id]).models}
        assert {grown, found["round-1/policy"]["model"]} <= hit


def test_a_start_that_was_cut_off_at_its_end_is_made_again(workspace: Workspace):
    """The model is entered and the stage is not: the model is not taken for its own parent."""
    data = agent_recipe()
    run, _ = make_run(workspace, data)
    run.begin()
    first = start(Stage(run, "start"))
    again, _ = make_run(workspace, data)
    assert again.stage("start", start) == first
    (base,) = workspace.models.all()
    assert (base.name, base.parents) == ("point/start", ())
    assert remains(workspace, run)["models"]


@pytest.mark.parametrize("algorithm", ["ppo", "dpo"])
def test_each_round_reaches_those_after_it(workspace: Workspace, algorithm: str):
    data = agent_recipe()
    if algorithm == "dpo":
        data["algorithm"] = {"type": "dpo", "batch_size": 7}
    run, _ = make_run(workspace, data)
    run.go()
    found = results(workspace, run)

    def made(number: int) -> set[str]:
        rewards = found.get(f"round-{number}/reward", {}).get("rewards", {"overall": []})
        return {found[f"round-{number}/policy"]["model"], *rewards["overall"]}

    for number, reached in ((1, made(1) | made(2)), (2, made(2))):
        for entry in workspace.journal.active(rounds=number):
            assert {m.id for m in touched(workspace, [entry.id]).models} == reached
