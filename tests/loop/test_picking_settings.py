"""Settings of query selection: each changes what is asked, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loop_helpers import make_run
from picking_helpers import NUMBER, Result, picking, pool_in, results, sets_of

from backflip.errors import SettingsError
from backflip.loop import Recipe, stages
from backflip.loop.stages.query_selection import pool_of
from backflip.records import Completion, Prompt, Sample
from backflip.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def asked_in(folder: Path, data: dict[str, Any], rounds: int = 2) -> tuple[Result, list[Sample]]:
    """The choice of the last round and its pool, in a workspace of its own.

    No policy is trained, so that every recipe has the same one.
    """
    with Workspace.create(folder) as workspace:
        run, _ = make_run(workspace, data)
        run.begin()
        start = run.stage("start", stages.start)
        baseline = run.stage("baseline", stages.baseline, start)
        reward = None
        for number in range(1, rounds + 1):
            asked = run.stage(f"round-{number}/sample", stages.sample, start, reward)
            told = run.stage(f"round-{number}/feedback", stages.feedback, asked, reward)
            if number < rounds:
                reward = run.stage("round-1/reward", stages.reward, start, told, baseline)
        kept = results(workspace, run)
        return kept[f"round-{rounds}/feedback/selection"], pool_in(workspace, kept, rounds)


def test_each_setting_changes_what_is_asked(tmp_path: Path):
    asked: dict[str, Result] = {}
    pools: dict[str, list[Sample]] = {}
    for name, strategy, change in (
        ("plain", "disagreement", {}),
        ("strategy", "margin", {}),
        ("pool", "disagreement", {"pool": 6}),
        ("share", "disagreement", {"random_share": 0.7}),
    ):
        asked[name], pools[name] = asked_in(tmp_path / name, picking(strategy, change))

    def sets(name: str, by_lot: bool) -> set[tuple[int, ...]]:
        """As places in the pool: ids of samples name the run's own model."""
        places = {s.id: place for place, s in enumerate(pools[name])}
        return {tuple(places[i] for i in ids) for ids in sets_of(asked[name], by_lot)}

    def clips(name: str) -> list[bytes]:
        return [s.clip.observations.tobytes() for s in pools[name]]

    assert clips("strategy") == clips("share") == clips("plain") == clips("pool")[:112]
    assert sets("strategy", by_lot=True) == sets("plain", by_lot=True)
    assert sets("strategy", by_lot=False) != sets("plain", by_lot=False)
    assert (len(pools["pool"]), asked["pool"]["candidates"]) == (6 * 28, 6 * 14)
    assert max(max(ids) for ids in sets("pool", by_lot=False)) >= 112
    assert len(sets("share", by_lot=True)) == 10  # 0.7 of 14, rounded up
    assert [len(found["asked"]) for found in asked.values()] == [NUMBER] * 4


def test_diverse_needs_no_reward_model(tmp_path: Path):
    """Pairs are learned from without one; features are those of a network still to be trained."""
    data = picking("diverse", algorithm={"type": "dpo", "batch_size": 4}, loop={"rounds": 1})
    chosen, pool = asked_in(tmp_path / "w", data, rounds=1)
    assert (len(pool), len(chosen["asked"])) == (112, NUMBER)
    assert len(sets_of(chosen, by_lot=False)) == 8


def replies(prompt: str, *texts: str) -> list[Sample]:
    question = Prompt.from_text(prompt)
    return [Sample.of(question, Completion(text=t), index=i) for i, t in enumerate(texts)]


def test_the_sets_of_a_pool_show_no_text_twice():
    samples = [*replies("One?", "a", "b", "a", "c", "d", "d", "e"), *replies("Two?", "x", "x")]
    one = samples[0].prompt_id
    sets = [(c.prompt, c.places) for c in pool_of(samples, 2)]
    assert sets == [(one, (0, 1)), (one, (3, 4))]  # "e" alone is no pair, and nor is "x"
    assert [c.places for c in pool_of(samples, 3)] == [(0, 1, 3), (4, 6)]
    assert [c.places for c in pool_of(samples, 1)] == [(0,), (1,), (3,), (4,), (6,), (7,)]


def refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Recipe.parse(data)


def test_what_a_strategy_cannot_go_by_is_told_at_once():
    key = r"feedback\.selection\.strategy: "
    one = picking("disagreement")
    one["reward"]["ensemble"] = 1
    refused(one, key + r"one reward model cannot disagree; set reward\.ensemble")
    single = picking("margin")
    single["reward"]["ensemble"] = 1
    assert Recipe.parse(single)
    for strategy in ("disagreement", "margin"):
        refused(
            picking(strategy, algorithm={"type": "dpo"}),
            key + f"{strategy} goes by reward models, and dpo trains none",
        )
        refused(picking(strategy, loop={"rounds": 1}), key + f"{strategy} .*loop.rounds is 1")
        assert Recipe.parse(picking(strategy))
    assert Recipe.parse(picking("diverse", algorithm={"type": "dpo"}, loop={"rounds": 1}))
    assert Recipe.parse(picking("random", algorithm={"type": "dpo"}, loop={"rounds": 1}))


@pytest.mark.parametrize("strategy", ["disagreement", "margin", "diverse"])
def test_enough_is_drawn_to_be_held_out(strategy: str):
    few = picking(strategy, {"random_share": 0.2})
    refused(few, r"feedback\.selection\.random_share: 0\.2 .*too few to hold out 0\.25")
    assert Recipe.parse(picking(strategy, {"random_share": 0.25}))
