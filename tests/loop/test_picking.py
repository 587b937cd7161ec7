"""Rounds in which a strategy picks what is asked about: every choice worked out from the store."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_helpers import compare, make_run, remains, text_recipe
from picking_helpers import NUMBER, Result, heldout_prompts, picking, pool_in, results, sets_of

from backflip.agents import ClipReward
from backflip.loop import Run
from backflip.loop.stages import acting
from backflip.loop.stages import query_selection as choosing
from backflip.loop.stages.query_selection import picked_samples
from backflip.records import Sample
from backflip.rewards import split_by_prompt
from backflip.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def listening(run: Run) -> list[str]:
    """What the run says from now on."""
    said: list[str] = []

    def say(text: str) -> None:
        if "answers:" not in text:  # what the round's answers hold
            said.append(text)

    run.reporter.say = say  # pyright: ignore
    return said


@pytest.fixture(scope="module", params=["disagreement", "margin", "diverse"])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The strategy, the workspace of a run of it, the run, and what it said."""
    torch.set_num_threads(1)
    with Workspace.create(tmp_path_factory.mktemp("played") / "w") as workspace:
        run, _ = make_run(workspace, picking(request.param))
        said = listening(run)
        run.go()
        yield request.param, workspace, run, said


def members_of(workspace: Workspace, rewards: Result) -> list[ClipReward]:
    ids = rewards["rewards"]["overall"]
    assert len(ids) == 3
    return [ClipReward.load(workspace.models.folder(workspace.models.get(i))) for i in ids]


def raw(member: ClipReward, samples: list[Sample]) -> list[float]:
    """Scores as the likelihood read them, before they were normalised."""
    with torch.no_grad():
        return member(member.collate(samples)).double().tolist()


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def value_of(strategy: str, scores: list[tuple[float, float]]) -> float:
    """What a pair is worth to a strategy, by the scores that each member gives to the two."""
    gaps = [first - second for first, second in scores]
    if strategy == "margin":
        return -abs(sum(gaps) / 3)
    chances = [1 / (1 + math.exp(-gap)) for gap in gaps]
    return entropy(sum(chances) / 3) - sum(map(entropy, chances)) / 3


def test_a_pool_is_sampled_and_only_what_is_chosen_is_asked(played):
    strategy, workspace, run, said = played
    kept = results(workspace, run)
    first = strategy == "diverse"  # needs no reward model, so it picks from the first round on
    assert [len(pool_in(workspace, kept, n)) for n in (1, 2)] == [112 if first else 28, 112]
    assert ("round-1/feedback/selection" in kept) is first
    if not first:
        assert said[0] == (
            f"round-1/feedback: there is no reward model yet for {strategy!r} to go by, so this "
            "round asks about samples drawn at random."
        )
    for number in (1, 2) if first else (2,):
        chosen = kept[f"round-{number}/feedback/selection"]
        asked = [tuple(a["samples"]) for a in chosen["asked"]]
        assert len(asked) == NUMBER
        assert chosen["strategy"] == strategy
        # Three times round 24 prompts is 72 pairs: 4 times 14 are 56.
        assert chosen["candidates"] == 56
        entries = workspace.journal.active(run=run.id, rounds=number)
        assert {tuple(sorted(e.sample_ids)) for e in entries} <= {tuple(sorted(a)) for a in asked}
        told = kept[f"round-{number}/feedback"]
        assert told["new_entries"] == len(entries) == NUMBER - told["skipped"]
        pool = pool_in(workspace, kept, number)
        assert set(asked) <= {(pool[i].id, pool[i + 1].id) for i in range(0, len(pool), 2)}
        assert len(set(asked)) == len(asked)
        assert len(sets_of(chosen, by_lot=True)) == 6  # 0.4 of 14, rounded up
        assert said[-1 if number == 2 else 0] == (
            f"round-{number}/feedback/selection: of 56 candidates, 8 were picked by {strategy!r} "
            "and 6 drawn at random."
        )


def test_each_time_round_the_prompts_other_samples_are_drawn(played):
    _, workspace, run, _ = played
    pool = pool_in(workspace, results(workspace, run), 2)
    assert len({s.id for s in pool}) == 112
    times = [len([s for s in pool if s.prompt_id == p]) for p in {s.prompt_id for s in pool}]
    assert sorted(set(times)) == [4, 6]  # 24 prompts twice, and 8 of them a third time
    assert len({s.seed for s in pool}) == 3


def test_the_picked_are_those_that_the_strategy_values_most(played):
    """Every pair of the pool valued by hand, from the reward models of the round before."""
    strategy, workspace, run, _ = played
    if strategy == "diverse":
        check_diverse(workspace, run)
        return
    kept = results(workspace, run)
    chosen, pool = kept["round-2/feedback/selection"], pool_in(workspace, kept, 2)
    scores = [raw(m, pool) for m in members_of(workspace, kept["round-1/reward"])]
    values = {
        (pool[i].id, pool[i + 1].id): value_of(strategy, [(row[i], row[i + 1]) for row in scores])
        for i in range(0, len(pool), 2)
    }
    heldout = heldout_prompts(run, pool)
    prompts = {s.id: s.prompt_id for s in pool}
    free = set(values) - set(sets_of(chosen, by_lot=True))
    free = {pair for pair in free if prompts[pair[0]] not in heldout}
    order = sorted(free, key=values.__getitem__, reverse=True)
    assert values[order[7]] > 1.001 * values[order[8]] or strategy == "margin"
    assert set(sets_of(chosen, by_lot=False)) == set(order[:8])


def check_diverse(workspace: Workspace, run: Run) -> None:
    """Each pick is the farthest from all that was asked: by the last hidden layer, read anew."""
    kept = results(workspace, run)
    chosen, pool = kept["round-2/feedback/selection"], pool_in(workspace, kept, 2)
    entries = workspace.journal.active(run=run.id, rounds=1)
    before = list(workspace.samples.get({i for e in entries for i in e.sample_ids}).values())
    network = members_of(workspace, kept["round-1/reward"])[0]
    hidden = []
    for sample in (*pool, *before):
        inputs = network.collate([sample])
        actions = torch.nn.functional.one_hot(inputs.actions_BTA[0], 3).float()
        steps = torch.cat([inputs.observations_BSO[0, 1:], actions], 1)
        with torch.no_grad():
            hidden.append(network.scorer.net[:4](steps).mean(0).double().numpy())
    points = (np.array(hidden) - np.mean(hidden, 0)) / np.std(hidden, 0)
    at = {s.id: point for s, point in zip((*pool, *before), points, strict=True)}

    def middle(ids: tuple[str, ...]) -> np.ndarray:
        return np.mean([at[i] for i in ids], 0)

    heldout = heldout_prompts(run, pool)
    prompts = {s.id: s.prompt_id for s in pool}
    pairs = [(pool[i].id, pool[i + 1].id) for i in range(0, len(pool), 2)]
    drawn = sets_of(chosen, by_lot=True)
    centres = [middle(e.sample_ids) for e in entries] + [middle(pair) for pair in drawn]
    free = [p for p in pairs if p not in drawn and prompts[p[0]] not in heldout]
    picked = []
    for _ in range(8):
        far = [min(math.dist(middle(p), c) for c in centres) for p in free]
        picked.append(free[int(np.argmax(far))])
        centres.append(middle(picked[-1]))
    assert set(sets_of(chosen, by_lot=False)) == set(picked)


def test_what_is_held_out_was_drawn_by_lot_and_none_of_it_is_wasted(played):
    _, workspace, run, _ = played
    kept = results(workspace, run)
    chosen, pool = kept["round-2/feedback/selection"], pool_in(workspace, kept, 2)
    heldout = heldout_prompts(run, pool)
    prompts = {s.id: s.prompt_id for s in pool}
    lots = [prompts[ids[0]] in heldout for ids in sets_of(chosen, by_lot=True)]
    assert sum(lots) == 4  # a quarter of 14, rounded up
    assert not any(prompts[ids[0]] in heldout for ids in sets_of(chosen, by_lot=False))
    entries = workspace.snapshots.rows(kept["round-2/feedback"]["snapshot"])
    samples = workspace.samples.get({i for e in entries for i in e.sample_ids})
    picked = picked_samples(workspace)
    assert picked == {
        name
        for key, result in kept.items()
        if key.endswith("/selection")
        for ids in sets_of(result, by_lot=False)
        for name in ids
    }
    aside = [e for e in entries if samples[e.sample_ids[0]].prompt_id in heldout]
    assert not any(picked & set(e.sample_ids) for e in aside)
    report = kept["round-2/reward"]["reports"]["overall"]
    assert (report["heldout"], report["trained_on"]) == (len(aside), len(entries) - len(aside))
    assert report["heldout"] >= 4


def test_the_reward_stage_holds_out_nothing_that_was_picked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor would it with a larger share, where the prompts of what was picked are held out."""
    given: list[Any] = []
    real = split_by_prompt

    def split(entries: Any, samples: Any, **fields: Any) -> Any:
        given.append((entries, samples, fields))
        return real(entries, samples, **fields)

    monkeypatch.setattr("backflip.loop.stages.learning.split_by_prompt", split)
    with Workspace.create(tmp_path / "w") as workspace:
        make_run(workspace, picking("disagreement"))[0].go()
    (_, _, first), (entries, samples, second) = given
    assert first["picked"] == set()
    picked = second["picked"]
    assert len(picked) == 16
    for share in (0.25, 0.6, 0.9):
        train, heldout = real(entries, samples, **(second | {"share": share}))
        assert heldout
        assert not any(picked & set(e.sample_ids) for e in heldout)
        sides = [{samples[e.sample_ids[0]].prompt_id for e in side} for side in (train, heldout)]
        assert not sides[0] & sides[1]


class Stop(BaseException):
    """Ends a run as a kill would, at a chosen instant."""


@pytest.mark.parametrize("strategy", ["disagreement", "diverse"])
def test_a_round_that_is_cut_off_asks_the_same_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
):
    """Cut off before the choice is kept, then before anybody answers it."""
    data = picking(strategy)
    left: list[dict[str, Any]] = []
    for name in ("straight", "cut off"):
        with Workspace.create(tmp_path / name) as workspace:
            run, _ = make_run(workspace, data)
            if name == "cut off":
                for owner, part in ((choosing, "_told"), (acting, "ask_teachers")):
                    with monkeypatch.context() as patch:
                        patch.setattr(owner, part, stop_in_round_2(getattr(owner, part)))
                        with pytest.raises(Stop):
                            run.go()
                    run, _ = make_run(workspace, data)
                with monkeypatch.context() as patch:
                    patch.setattr(choosing, "select", stop_in_round_2(choosing.select))
                    run.go()  # the choice that is kept is not made again
            else:
                run.go()
            left.append(remains(workspace, run))
    compare(*left)


def stop_in_round_2(real: Any) -> Any:
    """Stops where the function is called for the second round; `select` is told by its pool."""

    def call(*args: Any, **fields: Any) -> Any:
        key = getattr(args[0], "key", "")
        if key.startswith("round-2/") or fields.get("known") is not None or "scores" in fields:
            raise Stop
        return real(*args, **fields)

    return call


def test_replies_are_chosen_among_too(tmp_path: Path):
    """A language model, whose replies to a prompt may read the same; two kinds, two axes."""
    data = text_recipe(tmp_path, loop={"rounds": 2, "checkpoint_every": 5})
    data["feedback"] = {
        "prompts": 10,
        "kinds": ["comparison", "rating"],
        "selection": {"strategy": "disagreement", "random_share": 0.3, "pool": 3},
    }
    data["reward"] |= {"ensemble": 2, "axes": ["overall", "kind"]}
    with Workspace.create(tmp_path / "w") as workspace:
        run, _ = make_run(workspace, data)
        run.go()
        kept = results(workspace, run)
        chosen = kept["round-2/feedback/selection"]
        assert len(kept["round-2/sample"]["samples"]) == 2 * 3 * 10
        assert len(chosen["asked"]) == 10
        entries = workspace.journal.active(run=run.id, rounds=2)
        asked = {name for a in chosen["asked"] for name in a["samples"]}
        assert {i for e in entries for i in e.sample_ids} == asked
        # A pair compared and both rated, on each of two axes.
        assert len(entries) == 10 * 2 * 3 - kept["round-2/feedback"]["skipped"]
        # Both axes weigh alike: against the store's models, valued by hand.
        pool = pool_in(workspace, kept, 2)
        by_id = {s.id: s for s in pool}
        models = {
            axis: [run.domain.reward(workspace.models.folder(workspace.models.get(i))) for i in ids]
            for axis, ids in kept["round-1/reward"]["rewards"].items()
        }

        def value(ids: tuple[str, ...]) -> float:
            parts = []
            for members in models.values():
                gaps = [
                    m.scale * (a - b)
                    for m in members
                    for a, b in [m.score([by_id[i] for i in ids])]
                ]
                chances = [1 / (1 + math.exp(-gap)) for gap in gaps]
                parts.append(entropy(sum(chances) / 2) - sum(map(entropy, chances)) / 2)
            return sum(parts) / len(parts)

        heldout = heldout_prompts(run, pool)
        groups: dict[str, list[Sample]] = {}
        for s in pool:
            group = groups.setdefault(s.prompt_id, [])
            if s.text not in [other.text for other in group]:
                group.append(s)
        pairs = [
            (group[i].id, group[i + 1].id)
            for prompt, group in groups.items()
            if prompt not in heldout
            for i in range(0, len(group) - 1, 2)
        ]
        drawn, picked = (set(sets_of(chosen, by_lot=x)) for x in (True, False))
        left = [value(pair) for pair in pairs if pair not in drawn | picked]
        assert min(map(value, picked)) >= max(left) - 1e-6
