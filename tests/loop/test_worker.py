"""The worker: the replies that `sample` gives, shown as they grow, whatever happens on the way."""

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from worker_helpers import (
    CHAT,
    FLOAT32,
    HELLO,
    HOT,
    PLAIN,
    Ask,
    check,
    enter,
    long_seed,
    work,
)

from backflip.errors import BusyError
from backflip.records import Prompt
from backflip.reporter import Silent
from backflip.sampling.fast import FastDecoder
from backflip.serving import worker
from backflip.serving.worker import Worker
from backflip.workspace import ModelRecord, Workspace
from unsealed import unsealed

pytestmark = pytest.mark.usefixtures("one_thread")


def test_replies_are_those_of_sample(workspace: Workspace, models: Path) -> None:
    ask = enter(workspace, models)
    names = [
        ask(model, prompt, settings=settings, seed=seed, index=index)
        for seed, index in ((3, 0), (2**62, 2))
        for settings in (HOT, PLAIN)
        for prompt in (HELLO, CHAT)
        for model in ("model-one", "model-two")
    ]
    again = ask("model-two", CHAT, settings=PLAIN, seed=2**62, index=2)
    counts, reporter = work(workspace, rows=3)
    assert counts == {"done": 17, "failed": 0, "cancelled": 0}
    assert reporter.warnings == []
    for name in names:
        check(workspace, models, name)
    texts = {
        each.id: each.text for each in workspace.generations.get_many([*names, again]).values()
    }
    assert texts[again] == texts[names[-1]]
    assert len(set(texts.values())) == 16
    assert not workspace.generations.worker_alive()


def seen_by_a_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] = id
) -> dict[str, list[str]]:
    """The texts that a page finds after each time that the worker has written, by reply."""
    seen: dict[str, list[str]] = {}
    write = workspace.generations.write
    number = 0

    def watched(name: str, texts: dict[str, str]) -> set[str]:
        nonlocal number
        wanted = write(name, texts)
        assert workspace.generations.worker_alive()
        for each in workspace.generations.get_many(texts).values():
            seen.setdefault(each.id, []).append(each.text)
        number += 1
        then(number)
        return wanted

    monkeypatch.setattr(workspace.generations, "write", watched)
    # Each step is looked at, however long it takes to look.
    monkeypatch.setattr(worker, "LOOK_SHARE", float("inf"))
    return seen


def test_text_grows_by_whole_characters(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [ask(seed=seed, settings=HOT) for seed in (long_seed(models, HOT), 0, 1)]
    seen = seen_by_a_page(desk, monkeypatch)
    work(desk)
    assert len(set(seen[names[0]])) > 9
    for name in names:
        check(desk, models, name)
        text = desk.generations.get(name).text
        for before, after in zip(seen[name], [*seen[name][1:], text], strict=True):
            assert after.startswith(before)
            assert not before.endswith("\ufffd")
        asked = desk.generations.get(name)
        (sample,) = desk.samples.get([asked.sample_id or ""]).values()
        assert len(seen[name]) == len(sample.completion.tokens) - 1


def count_streams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of rows whenever the worker begins with a new group of replies."""
    begun: list[int] = []
    real = worker.streaming

    def spy(*given: Any, rows: int) -> Any:
        begun.append(rows)
        return real(*given, rows=rows)

    monkeypatch.setattr(worker, "streaming", spy)
    return begun


def test_a_request_joins_those_under_way_unless_another_waits_longer(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    order: list[str] = []
    first = ask(settings=HOT, seed=long_seed(models, HOT))

    def more(number: int) -> None:
        if number == 2:
            names.append(ask(settings=HOT, seed=1))
        if number == 4:
            names.append(ask(settings=HOT, model="model-two"))
            names.append(ask(settings=HOT, seed=2))

    seen_by_a_page(desk, monkeypatch, more)
    finish = desk.generations.finish
    monkeypatch.setattr(
        desk.generations, "finish", lambda *given: order.extend(given[1]) or finish(*given)
    )
    begun = count_streams(monkeypatch)
    assert work(desk)[0]["done"] == 4
    for name in (first, *names):
        check(desk, models, name)
    joined, other, late = names
    assert len(begun) == 3
    assert set(order[:2]) == {first, joined}
    assert order[2:] == [other, late]


def test_a_cancelled_reply_costs_no_more(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = long_seed(models, HOT)
    kept, unwanted = ask(settings=HOT, seed=seed), ask(settings=HOT, seed=seed, prompt=CHAT)

    def cancel(number: int) -> None:
        if number == 3:
            assert desk.generations.cancel(unwanted)

    widths: list[int] = []
    real = FastDecoder.step
    monkeypatch.setattr(
        FastDecoder, "step", lambda *given: widths.append(len(given[1])) or real(*given)
    )
    seen = seen_by_a_page(desk, monkeypatch, cancel)
    counts, _ = work(desk)
    assert counts == {"done": 1, "failed": 0, "cancelled": 1}
    # It was cancelled after the third token, and the worker heard of it after the fourth.
    assert len(seen[unwanted]) == 4
    assert widths[-20:] == [2] * 4 + [1] * 16
    check(desk, models, kept)
    found = desk.generations.get(unwanted)
    assert (found.state, found.sample_id, found.text) == ("cancelled", None, seen[unwanted][-1])
    assert [s.prompt for s in desk.samples.of_model("model-one")] == [HELLO]


def test_a_reply_that_nobody_waits_for_leaves_nothing(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cancelled before its last token, too late for the worker to hear of it in time."""
    unwanted = ask(settings=HOT, seed=long_seed(models, HOT))

    def cancel(number: int) -> None:
        if number == 19:
            assert desk.generations.cancel(unwanted)

    seen = seen_by_a_page(desk, monkeypatch, cancel)
    assert work(desk)[0] == {"done": 0, "failed": 0, "cancelled": 1}
    assert len(seen[unwanted]) == 19
    assert desk.samples.of_model("model-one") == []
    assert desk.prompts.all() == []


def broken(models: Path, workspace: Workspace, name: str, stage: Any = "sft") -> Path:
    folder = workspace.artifacts / "models" / name
    unsealed(shutil.copytree(models / "one", folder))
    workspace.models.register(
        ModelRecord(id=f"model-{name}", name=name, stage=stage, path=f"models/{name}")
    )
    return folder


def test_what_cannot_be_answered_fails_and_the_rest_goes_on(
    desk: Workspace, models: Path, ask: Ask
) -> None:
    shutil.rmtree(broken(models, desk, "gone"))
    (broken(models, desk, "garbled") / "config.json").write_text("{")
    broken(models, desk, "judge", "reward")
    (broken(models, desk, "agent", "policy") / "tokenizer.json").unlink()
    (broken(models, desk, "unlike") / "model.safetensors").unlink()
    diverged = broken(models, desk, "diverged") / "model.safetensors"
    weights = {name: torch.full_like(w, np.nan) for name, w in load_file(diverged).items()}
    save_file(weights, diverged, metadata={"format": "pt"})
    template = broken(models, desk, "strict") / "chat_template.jinja"
    template.write_text("{{ raise_exception('no such turns') }}")

    long = Prompt.from_text("word " * 45)
    faults = {
        ask("model-gone"): ["files of model gone are missing", "Restore"],
        ask("model-garbled"): ["cannot be loaded"],
        ask("model-judge"): ["judge is a reward model", "does not talk"],
        ask("model-agent"): ["agent acts in an environment"],
        ask("model-unlike"): ["cannot be loaded"],
        ask("model-diverged"): ["logits are not finite", "training has diverged"],
        ask("model-strict"): ["chat template refuses"],
        ask(prompt=long): ["exceed the model's 256 positions", "shorten the prompt"],
        ask(settings={"max_prompt_tokens": 5}): ["max_prompt_tokens is 5"],
    }
    good = [ask(seed=seed) for seed in range(2)]
    counts, reporter = work(desk)
    assert counts == {"done": 2, "failed": 9, "cancelled": 0}
    for name, words in faults.items():
        found = desk.generations.get(name)
        assert found.state == "failed"
        assert found.error is not None
        assert all(word in found.error for word in words), found.error
        (told,) = [line for line in reporter.warnings if name in line]
        assert all(word in told for word in words)
    # Where things lie is for whoever runs the worker, not for whoever asks.
    gone = next(iter(faults))
    assert str(desk.root) not in (desk.generations.get(gone).error or "")
    assert any(gone in line and str(desk.root) in line for line in reporter.warnings)
    for name in good:
        check(desk, models, name)


def test_a_fault_of_the_machine_fails_only_what_it_met(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, other = [ask(settings=HOT), ask(settings=HOT, seed=1)], ask()
    real = FastDecoder.step
    left = [9]

    def step(*given: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise RuntimeError("out of memory")
        return real(*given)

    monkeypatch.setattr(FastDecoder, "step", step)
    counts, reporter = work(desk)
    assert counts == {"done": 1, "failed": 2, "cancelled": 0}
    for name in met:
        assert desk.generations.get(name).error == ("the model failed: RuntimeError: out of memory")
    assert "Traceback" in reporter.warnings[0]
    check(desk, models, other)


def test_a_database_that_is_busy_for_a_while_costs_no_reply(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [ask(seed=seed) for seed in range(3)]
    write = desk.generations.write
    faults = [False, True, False, False, True]

    def flaky(*given: Any) -> set[str]:
        if faults and faults.pop(0):
            raise BusyError("the database stayed locked by another process for 30 s")
        return write(*given)

    monkeypatch.setattr(desk.generations, "write", flaky)
    monkeypatch.setattr(worker, "LOOK_SHARE", float("inf"))
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.0)
    with pytest.raises(BusyError):
        work(desk)
    assert {each.state for each in desk.generations.get_many(names).values()} == {"waiting"}
    reporter = Silent()

    def ended() -> bool:
        return all(each.ended for each in desk.generations.get_many(names).values())

    made = Worker(desk, settings=FLOAT32, look_seconds=0.0, reporter=reporter)
    assert made.run(stopped=ended) == {"done": 3, "failed": 0, "cancelled": 0}
    assert reporter.warnings == ["the database stayed locked by another process for 30 s"]
    for name in names:
        check(desk, models, name)


def test_the_model_least_recently_used_makes_room(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(models, desk, "three")
    loaded: list[str] = []
    alive: list[Any] = []
    real = worker.load_causal_lm

    def spy(folder: str, **values: Any) -> Any:
        gc.collect()
        held = sum(each() is not None for each in alive)
        made = real(folder, **values)
        loaded.append(f"{Path(folder).name} beside {held}")
        alive.append(weakref.ref(made[0]))
        return made

    monkeypatch.setattr(worker, "load_causal_lm", spy)
    turns = ["one", "two", "one", "three", "one", "two"]

    def serve(most: int) -> list[str]:
        loaded.clear()
        alive.clear()
        settings = [
            {"max_tokens": 2, "top_k": n + 2} for n in range(len(turns))
        ]  # no two go together
        for name, each in zip(turns, settings, strict=True):
            ask(f"model-{name}", settings=each)
        assert work(desk, models_in_memory=most)[0]["done"] == len(turns)
        return list(loaded)

    assert serve(1) == [
        *("one beside 0", "two beside 0", "one beside 0"),
        *("three beside 0", "one beside 0", "two beside 0"),
    ]
    assert serve(2) == ["one beside 0", "two beside 1", "three beside 1", "two beside 1"]
    assert serve(3) == ["one beside 0", "two beside 1", "three beside 2"]


def test_a_worker_is_alive_while_it_loads(
    desk: Workspace, models: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[str] = []
    enough = threading.Event()
    note, real = desk.generations.note_worker, worker.load_causal_lm

    def noted(name: str) -> None:
        note(name)
        beats.append(name)
        if len(beats) == 4:
            enough.set()

    def load(*given: Any, **values: Any) -> Any:
        assert enough.wait(60), "no beat while a model is loaded"
        return real(*given, **values)

    monkeypatch.setattr(desk.generations, "note_worker", noted)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(worker, "load_causal_lm", load)
    name = ask()
    others = threading.active_count()  # of what ran in this process before
    work(desk)
    check(desk, models, name)
    assert len(set(beats)) == 1
    before = len(beats)
    assert before >= 4
    assert threading.active_count() == others
