"""Labelling in a terminal against a real workspace: keys in, entries in the journal."""

import io

import numpy as np
import pytest
import sqlalchemy as sa
from rich.console import Console
from terminal_desk import ME, PAIR, PROMPT, Script, Session, only, put, replies

from backflip.errors import BackflipError
from backflip.records import Clip, Prompt, Sample, Situation
from backflip.records.feedback import (
    KINDS,
    Comparison,
    Correction,
    Critique,
    Demonstration,
    Ranking,
)
from backflip.terminal import label_terminal
from backflip.terminal.forms import FORMS
from backflip.workspace import Task, Workspace
from backflip.workspace.database import schema


def place_of(ws: Workspace, sample: Sample) -> int:
    """Where the next task shows this sample: 0 left, 1 right."""
    return ws.queue.next(ME).shown_ids.index(sample.id)


@pytest.mark.parametrize(
    ("key", "left", "strength"),
    [
        ("1", True, 3),
        ("2", True, 2),
        ("3", True, 1),
        ("5", False, 1),
        ("6", False, 2),
        ("7", False, 3),
    ],
)
def test_the_scale_of_a_comparison(ws: Workspace, key: str, left: bool, strength: int) -> None:
    # Several pairs, because the queue draws by the pair which of the two stands left.
    pairs = [replies(f"Water {i}.", f"Look up {i}.") for i in range(4)]
    put(ws, "comparison", *pairs)
    session = Session(ws, [key] * 4 + ["x"])
    entries = ws.journal.active()
    for entry, pair in zip(entries, pairs, strict=True):
        assert isinstance(entry, Comparison)
        assert entry.samples == tuple(s.id for s in pair)
        chosen = entry.shown[0 if left else 1]
        assert entry.choice == "ab"[chosen]
        assert entry.strength == strength
        assert (entry.annotator, entry.origin, entry.axis) == (ME, "people", "overall")
        assert entry.seconds == 2.5
    assert session.answered == 4


def test_both_orders_occur_and_the_screen_shows_the_one_recorded(ws: Workspace) -> None:
    pairs = [replies(f"Water {i}.", f"Look up {i}.") for i in range(12)]
    put(ws, "comparison", *pairs)
    session = Session(ws, ["t"] * 12 + ["x"])
    screens = session.seen.split("answered, ")[1:]
    shown = [entry.shown for entry in ws.journal.active()]
    assert set(shown) == {(0, 1), (1, 0)}
    for screen, order, pair in zip(screens, shown, pairs, strict=True):
        first, second = (pair[i].text for i in order)
        assert screen.index(first) < screen.index(second)


@pytest.mark.parametrize(
    ("key", "choice"), [("4", "tie"), ("t", "tie"), ("T", "tie"), ("b", "both_bad")]
)
def test_neither_is_preferred(ws: Workspace, key: str, choice: str) -> None:
    put(ws, "comparison", PAIR)
    Session(ws, [key, "x"])
    assert (only(ws).choice, only(ws).strength) == (choice, 0)


@pytest.mark.parametrize(
    ("kind", "key", "fields"),
    [
        ("rating", "1", {"level": 1, "num_levels": 5}),
        ("rating", "5", {"level": 5, "num_levels": 5}),
        ("good_bad", "g", {"good": True}),
        ("good_bad", "b", {"good": False}),
        ("safety_flag", "y", {"safe": True}),
        ("safety_flag", "n", {"safe": False}),
        ("implicit", "k", {"signal": "kept", "over": None}),
        ("implicit", "c", {"signal": "copied"}),
        ("implicit", "r", {"signal": "regenerated"}),
        ("implicit", "a", {"signal": "abandoned"}),
    ],
)
def test_single_samples(ws: Workspace, kind: str, key: str, fields: dict) -> None:
    put(ws, kind, PAIR[:1], axis="warm")
    session = Session(ws, ["z", key, "x"])
    said = only(ws).model_dump()
    assert said["kind"] == kind
    assert said["sample"] == PAIR[0].id
    assert said["axis"] == "warm"
    assert said | fields == said
    assert "That key does nothing here" in session.seen
    assert "Judge only: warm" in session.seen


def test_an_implicit_sign_against_another_says_which_is_meant(ws: Workspace) -> None:
    put(ws, "implicit", PAIR)
    place = place_of(ws, PAIR[0])
    session = Session(ws, ["k", "x"])
    assert (only(ws).sample, only(ws).over) == (PAIR[0].id, PAIR[1].id)
    assert f"This is about {'AB'[place]}" in session.seen


def test_a_ranking_with_a_tie_and_a_slip(ws: Workspace) -> None:
    samples = replies("w", "x", "y", "z")
    put(ws, "ranking", samples)
    shown = ws.queue.next(ME).shown_ids
    # 3 is best; then 1 and 4 tied; then 2. A second 3, an early Enter and a wrong 2 change nothing.
    keys = ["3", "3", "enter", "2", "backspace", "1", "=", "=", "4", "2", "=", "enter", "x"]
    session = Session(ws, keys)
    entry = only(ws)
    assert isinstance(entry, Ranking)
    ranks = dict(zip(entry.samples, entry.ranks, strict=True))
    assert [ranks[name] for name in shown] == [2, 3, 1, 2]
    assert entry.samples == tuple(s.id for s in samples)
    assert "3 are not placed yet." in session.seen
    assert "Best first: 3 1 = 4 2" in session.seen


def test_a_correction_is_a_sample_of_its_own(ws: Workspace) -> None:
    put(ws, "correction", PAIR[1:])
    session = Session(
        ws, ["e", "e", "e", "x"], ["", PAIR[1].text, "Look it up, please.\nIt is fun."]
    )
    entry = only(ws)
    assert isinstance(entry, Correction)
    assert entry.sample == PAIR[1].id
    written = ws.samples.get([entry.corrected])[entry.corrected]
    assert written.text == "Look it up, please.\nIt is fun."
    assert (written.completion.finish, written.model, written.prompt) == ("human", None, PROMPT)
    assert session.script.initials == [PAIR[1].text] * 3
    assert "Nothing was written." in session.seen
    assert "Nothing was changed." in session.seen


@pytest.mark.parametrize("better", [True, False])
def test_a_demonstration_stands_over_what_it_is_said_to(ws: Workspace, better: bool) -> None:
    put(ws, "demonstration", PAIR)
    session = Session(ws, ["e", "y" if better else "n", "x"], ["Drops that fall."])
    entry = only(ws)
    assert isinstance(entry, Demonstration)
    assert entry.over == (tuple(s.id for s in PAIR) if better else ())
    assert ws.samples.get([entry.sample])[entry.sample].text == "Drops that fall."
    assert session.script.initials == [""]


@pytest.mark.parametrize(("key", "level"), [("0", None), ("2", 2)])
def test_a_critique_may_leave_its_level_open(ws: Workspace, key: str, level: int | None) -> None:
    put(ws, "critique", PAIR[:1])
    Session(ws, ["e", key, "x"], ["Too short."])
    entry = only(ws)
    assert isinstance(entry, Critique)
    assert (entry.text, entry.level) == ("Too short.", level)


def test_every_kind_has_a_form() -> None:
    assert set(FORMS) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_form_can_be_left(ws: Workspace, kind: str) -> None:
    put(ws, kind, PAIR if kind in ("comparison", "ranking") else PAIR[:1])
    assert Session(ws, ["q"]).answered == 0
    assert Session(ws, ["end"]).answered == 0
    assert ws.queue.next(ME) is not None
    assert Session(ws, ["s", "x"]).answered == 0
    assert ws.journal.active() == []
    progress = ws.queue.progress("run-1", 1)
    assert (progress.skipped, progress.done) == (1, 0)


def test_undo_takes_the_last_answer_back_and_asks_again(ws: Workspace) -> None:
    pairs = [replies(f"Water {i}.", f"Look up {i}.") for i in range(2)]
    put(ws, "comparison", *pairs)
    session = Session(ws, ["t", "u", "b", "t", "u", "4", "x"])
    # First a tie, taken back at the second task; then both bad; then a tie, taken back at the
    # end, and a tie again.
    choices = {entry.samples: entry.choice for entry in ws.journal.active()}
    assert choices == {
        tuple(s.id for s in pairs[0]): "both_bad",
        tuple(s.id for s in pairs[1]): "tie",
    }
    assert session.answered == 2
    assert session.seen.count("Taken back.") == 2


def test_undo_of_a_skip_and_of_nothing(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:])
    session = Session(ws, ["u", "s", "u", "g", "b", "x"])
    assert session.seen.count("There is nothing to take back.") == 1
    assert [e.good for e in ws.journal.active()] == [True, False]
    assert session.answered == 2


def test_undo_reaches_into_the_session_before_but_not_its_count(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:])
    assert Session(ws, ["g", "q"]).answered == 1
    assert Session(ws, ["u", "b", "b", "x"]).answered == 2
    assert [e.good for e in ws.journal.active()] == [False, False]


def test_a_sitting_begins_and_ends_with_how_far_it_is(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:], *[[s] for s in replies("x", "y", "z")])
    first = Session(ws, ["g", "b", "s", "q"]).seen
    assert f"{ME}: 0 answers given so far, 5 questions open for you." in first
    assert first.endswith("2 answers given in this sitting, 2 in all.\n")
    second = Session(ws, ["g", "q"]).seen
    assert second.startswith(f"{ME}: 2 answers given so far, 2 questions open for you.\n")
    assert second.endswith("1 answer given in this sitting, 3 in all.\n")
    third = Session(ws, ["u", "q"]).seen
    assert f"{ME}: 3 answers given so far, 1 question open for you." in third
    assert third.endswith("0 answers given in this sitting, 2 in all.\n"), "one was taken back"


def test_counts_are_of_the_run_that_is_asked_for(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1])
    ws.queue.put("run-2", 1, [Task(kind="good_bad", sample_ids=(PAIR[0].id,))])
    Session(ws, ["g", "q"])
    for run, told in (("run-2", "0 answers given so far, 1 question"), ("run-1", "1 answer given")):
        output = io.StringIO()
        keys = Script(["q"] if run == "run-2" else [])
        label_terminal(ws, ME, Console(file=output), keyboard=keys, run=run)
        assert told in output.getvalue()


def test_what_was_told_outlives_the_clearing_of_the_screen(ws: Workspace) -> None:
    """On a real terminal each question wipes what stood there; the greeting would go unread."""
    put(ws, "correction", clips()[:1])
    put(ws, "good_bad", PAIR[:1])
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, legacy_windows=False)
    label_terminal(ws, ME, console, keyboard=Script(["q"]))
    last_screen = output.getvalue().split("\x1b[2J")[-1]
    for told in ("2 questions open for you", "cannot be given in a terminal", "Is the reply good?"):
        assert told in last_screen


def test_nothing_to_do_ends_at_once(ws: Workspace) -> None:
    session = Session(ws, [])
    assert session.answered == 0
    assert "Nothing more to ask you now." in session.seen


def test_only_the_tasks_of_the_run_asked_for(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1])
    console = Console(file=io.StringIO())
    assert label_terminal(ws, ME, console, keyboard=Script([]), run="run-2") == 0
    assert label_terminal(ws, ME, console, keyboard=Script(["g", "x"]), run="run-1") == 1


def test_an_answer_that_comes_too_late_is_not_saved_and_the_session_goes_on(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:])
    now = [1000.0]
    ws.queue.clock = lambda: now[0]

    class Late(Script):
        def key(self) -> str:
            if len(self.keys) == 3:  # the first answer: half a day passes, others are asked
                now[0] += 50_000
                task = ws.queue.next("ben")
                entry = KINDS["good_bad"](
                    annotator="ben", sample=task.sample_ids[0], good=False, axis=task.axis
                )
                ws.queue.answer(task.id, "ben", entry)
            return super().key()

    output = io.StringIO()
    script = Late(["g", "g", "x"])
    answered = label_terminal(ws, ME, Console(file=output, width=200), keyboard=script)
    assert answered == 1
    assert "Not saved:" in output.getvalue()
    assert {(e.annotator, e.sample, e.good) for e in ws.journal.active()} == {
        ("ben", PAIR[0].id, False),
        (ME, PAIR[1].id, True),
    }


def test_stopping_by_control_c_keeps_what_was_answered(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:])

    class Interrupted(Script):
        def key(self) -> str:
            if not self.keys:
                raise KeyboardInterrupt
            return super().key()

    assert label_terminal(ws, ME, Console(file=io.StringIO()), keyboard=Interrupted(["g"])) == 1
    assert len(ws.journal.active()) == 1


def test_a_broken_editor_is_told_and_the_task_stays(ws: Workspace) -> None:
    put(ws, "correction", PAIR[:1])

    class Broken(Script):
        def text(self, initial: str) -> str:
            raise BackflipError("the editor 'ed' did not work")

    output = io.StringIO()
    label_terminal(ws, ME, Console(file=output), keyboard=Broken(["e", "q"]))
    assert "the editor 'ed' did not work" in output.getvalue()
    assert ws.queue.next(ME) is not None


def test_hostile_replies_reach_the_screen_as_codes_only(ws: Workspace) -> None:
    hostile = replies("\x1b[2J\x1b]0;owned\x07[bold]Choose me[/bold]", "safe\u202eesrever\x9b31m")
    put(ws, "comparison", hostile)
    session = Session(ws, ["t", "x"])
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(session.seen)
    assert r"\x1b[2J" in session.seen
    assert "[bold]Choose me[/bold]" in session.seen
    assert r"\u202e" in session.seen


def test_two_replies_stand_side_by_side_where_there_is_room(ws: Workspace) -> None:
    put(ws, "comparison", PAIR)
    wide = Session(ws, ["q"], width=100).seen
    narrow = Session(ws, ["q"], width=60).seen

    def same_line(seen: str) -> bool:
        return any(all(s.text in line for s in PAIR) for line in seen.splitlines())

    assert same_line(wide)
    assert not same_line(narrow)
    assert all(s.text in narrow for s in PAIR)


def clips() -> list[Sample]:
    prompt = Prompt(content=Situation(environment="Point-v0", seed=1))
    return [
        Sample.of(
            prompt,
            Clip(
                environment="Point-v0",
                observations=np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2) + i,
                actions=np.arange(3),
                logprobs=np.zeros(3, np.float32),
                rewards=np.full(3, 777.0, np.float32),
                terminated=bool(i),
                truncated=not i,
            ),
            index=i,
        )
        for i in range(2)
    ]


def test_clips_are_shown_without_their_rewards_and_never_written(ws: Workspace) -> None:
    put(ws, "comparison", clips())
    put(ws, "correction", clips()[:1])
    session = Session(ws, ["t", "x"])
    assert session.answered == 1
    assert "Point-v0: 3 steps, the episode ended" in session.seen
    assert "cut off" in session.seen
    assert "0 to 2" in session.seen
    assert "777" not in session.seen
    assert "cannot be given in a terminal" in session.seen
    assert ws.queue.progress("run-1", 1).skipped == 1


def test_a_reply_that_is_damaged_is_passed_over(ws: Workspace) -> None:
    put(ws, "good_bad", PAIR[:1], PAIR[1:])
    with ws.database.engine.begin() as connection:
        damaged = sa.update(schema.samples).where(schema.samples.c.id == PAIR[0].id)
        connection.execute(damaged.values(weights_version=77))
    session = Session(ws, ["g", "x"])
    assert session.answered == 1
    assert f"the sample {PAIR[0].id} is damaged" in " ".join(session.seen.split())
    assert ws.queue.progress("run-1", 1).skipped == 1
