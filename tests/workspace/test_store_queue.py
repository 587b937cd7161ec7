"""The queue asks the right people, each once, and keeps what they say."""

import pytest
from store_helpers import completion_sample

from backflip.errors import WorkspaceError
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, Correction, Demonstration, FeedbackBase, Ranking
from backflip.workspace import Task, Workspace
from backflip.workspace.labelling.queue import shown_order

IDS = [completion_sample(n, prompt=n // 4).id for n in range(8)]
PAIRS = [Task(kind="comparison", sample_ids=(IDS[0], IDS[n])) for n in range(1, 4)]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        self.time += 0.001
        return self.time


@pytest.fixture
def clock(workspace: Workspace, samples: list[Sample]) -> Clock:
    workspace.queue.clock = Clock()
    workspace.queue.lease_seconds = 60
    return workspace.queue.clock


def vote(task: Task, **fields: object) -> Comparison:
    known = {"annotator": task.annotator, "samples": task.sample_ids, "choice": "a"}
    return Comparison.model_validate(known | fields)


def say(workspace: Workspace, annotator: str) -> Task | None:
    task = workspace.queue.next(annotator)
    if task is not None:
        workspace.queue.answer(task.id, annotator, vote(task))
    return task


def test_an_answer_lands_in_the_journal(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    assert queue.put("run-1", 3, PAIRS[:1], overlap=1) == 1
    task = queue.next("mia")
    assert task is not None
    assert (task.kind, task.sample_ids, task.axis) == ("comparison", PAIRS[0].sample_ids, "overall")
    assert (task.run, task.round, task.annotator) == ("run-1", 3, "mia")
    entry_id = queue.answer(task.id, "mia", vote(task, choice="b", strength=2, seconds=4.5))
    (entry,) = workspace.journal.active(rounds=3, run="run-1")
    assert isinstance(entry, Comparison)
    assert entry.id == entry_id
    assert (entry.choice, entry.strength, entry.seconds) == ("b", 2, 4.5)
    assert entry.shown == task.shown
    assert queue.next("mia") is None
    assert queue.next("ann") is None
    progress = queue.progress("run-1", 3)
    assert (progress.items, progress.wanted, progress.done) == (1, 1, 1)
    assert progress.by_annotator == {"mia": 1}
    assert progress.finished


def test_what_was_written_is_kept_with_the_answer_or_not_at_all(
    workspace: Workspace, clock: Clock, samples: list[Sample]
) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, [Task(kind="correction", sample_ids=(IDS[0],))])
    task = queue.next("mia")
    assert task is not None
    made = Sample.of(samples[0].prompt, Completion(text="better words"))
    wrong = Correction(annotator="mia", sample=IDS[1], corrected=made.id)
    with pytest.raises(WorkspaceError, match="about other samples"):
        queue.answer(task.id, "mia", wrong, written=[made])
    right = Correction(annotator="mia", sample=IDS[0], corrected=made.id)
    aside = Correction(annotator="mia", sample=IDS[1], corrected=IDS[2])
    with pytest.raises(WorkspaceError, match="is about other samples"):
        queue.answer(task.id, "mia", right, [aside], written=[made])
    assert workspace.samples.get([made.id]) == {}
    for _ in range(2):  # sent again, it counts once
        queue.answer(task.id, "mia", right, written=[made])
    assert workspace.samples.get([made.id])[made.id].text == "better words"
    (entry,) = workspace.journal.active()
    assert entry.sample_ids == (made.id, IDS[0])


def test_what_was_asked_is_not_asked_again(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    assert queue.put("run-1", 0, [*PAIRS, PAIRS[0]]) == 3
    assert queue.put("run-1", 0, PAIRS) == 0
    assert queue.put("run-1", 1, PAIRS) == 3
    assert queue.put("run-2", 0, [PAIRS[0].model_copy(update={"axis": "helpful"})]) == 1
    assert queue.progress("run-1", 0).items == 3
    assert queue.progress("run-9", 0).finished


def test_overlap_and_never_twice_to_one_person(workspace: Workspace, clock: Clock) -> None:
    workspace.queue.put("run-1", 0, PAIRS, overlap=2)
    asked: dict[str, list[str]] = {}
    while True:
        round_of = {name: say(workspace, name) for name in ("mia", "ann", "eve")}
        if not any(round_of.values()):
            break
        for name, task in round_of.items():
            if task is not None:
                asked.setdefault(name, []).append(task.id)
    everything = [task_id for tasks in asked.values() for task_id in tasks]
    assert sorted(everything) == sorted(2 * list(dict.fromkeys(everything)))
    assert len(set(everything)) == 3
    for tasks in asked.values():
        assert len(tasks) == len(set(tasks))
    assert workspace.queue.progress("run-1", 0).finished


def test_one_person_cannot_fill_two_places(workspace: Workspace, clock: Clock) -> None:
    workspace.queue.put("run-1", 0, PAIRS[:1], overlap=2)
    assert say(workspace, "mia")
    assert say(workspace, "mia") is None
    progress = workspace.queue.progress("run-1", 0)
    assert (progress.done, progress.open, progress.finished) == (1, 1, False)


def test_a_held_task_comes_back_as_it_was(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS)
    first = queue.next("mia")
    clock.time += 30
    again = queue.next("mia")
    assert first is not None
    assert again is not None
    assert again.model_copy(update={"expires": first.expires}) == first
    assert again.expires == pytest.approx(first.expires + 30, abs=0.1)
    other = queue.next("ann")
    assert other is not None
    assert other.id != first.id
    assert queue.progress("run-1", 0).leased == 2


def test_a_lease_that_ran_out_goes_to_another(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:1])
    task = queue.next("mia")
    assert task is not None
    assert queue.next("ann") is None
    clock.time += 61
    assert queue.progress("run-1", 0).open == 1
    handed_on = queue.next("ann")
    assert handed_on is not None
    assert handed_on.id == task.id
    with pytest.raises(WorkspaceError, match="ran out and others have been asked"):
        queue.answer(task.id, "mia", vote(task))
    assert queue.next("mia") is None
    queue.answer(task.id, "ann", vote(handed_on))
    assert [e.annotator for e in workspace.journal.active()] == ["ann"]


def test_a_late_answer_counts_while_its_place_is_free(workspace: Workspace, clock: Clock) -> None:
    workspace.queue.put("run-1", 0, PAIRS[:1])
    task = workspace.queue.next("mia")
    assert task is not None
    clock.time += 1000
    workspace.queue.answer(task.id, "mia", vote(task))
    assert workspace.queue.progress("run-1", 0).finished
    assert workspace.queue.next("ann") is None


def test_the_same_answer_sent_twice_counts_once(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:1])
    task = queue.next("mia")
    assert task is not None
    first = queue.answer(task.id, "mia", vote(task))
    assert queue.answer(task.id, "mia", vote(task)) == first
    with pytest.raises(WorkspaceError, match="mia has already answered"):
        queue.answer(task.id, "mia", vote(task, choice="b"))
    with pytest.raises(WorkspaceError, match="mia has already answered"):
        queue.skip(task.id, "mia")
    assert workspace.journal.count() == 1


def test_a_skip_uses_the_place_up(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:1], overlap=2)
    task = queue.next("mia")
    assert task is not None
    queue.skip(task.id, "mia", "cannot tell \x07")
    queue.skip(task.id, "mia", "cannot tell \x07")
    assert queue.next("mia") is None
    assert say(workspace, "ann")
    progress = queue.progress("run-1", 0)
    assert (progress.done, progress.skipped, progress.finished) == (1, 1, True)
    assert say(workspace, "eve") is None
    assert workspace.journal.count() == 1


def test_undo_takes_back_and_asks_again(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:2])
    assert queue.undo("mia") is None
    first, second = say(workspace, "mia"), say(workspace, "mia")
    assert first is not None
    assert second is not None
    before = workspace.journal.active()
    again = queue.undo("mia")
    assert again is not None
    assert (again.id, again.shown) == (second.id, second.shown)
    assert workspace.journal.active() == before[:1]
    assert workspace.journal.history(before[1].id)[1].reason == "undone"
    assert not queue.progress("run-1", 0).finished
    assert queue.next("ann") is None  # the place is still mia's
    # The very same answer again is a new entry, not the one that was taken back.
    entry_id = queue.answer(again.id, "mia", vote(again))
    assert entry_id != before[1].id
    assert [e.id for e in workspace.journal.active()] == [before[0].id, entry_id]
    queue.undo("mia")
    earlier = queue.undo("mia")
    assert earlier is not None
    assert earlier.id == first.id
    assert queue.undo("mia") is None
    assert workspace.journal.active() == []


def test_undo_of_a_skip(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:1])
    task = queue.next("mia")
    assert task is not None
    queue.skip(task.id, "mia", "unsure")
    again = queue.undo("mia")
    assert again is not None
    assert again.id == task.id
    queue.answer(again.id, "mia", vote(again))
    progress = queue.progress("run-1", 0)
    assert (progress.done, progress.skipped) == (1, 0)


def test_undo_is_of_ones_own(workspace: Workspace, clock: Clock) -> None:
    workspace.queue.put("run-1", 0, PAIRS)
    say(workspace, "mia")
    assert workspace.queue.undo("ann") is None
    assert workspace.journal.count() == 1


def test_only_of_this_run_or_these_kinds(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    rating = Task(kind="rating", sample_ids=(IDS[0],))
    queue.put("run-1", 0, PAIRS[:1])
    queue.put("run-2", 0, [rating])
    assert queue.next("mia", run="run-3") is None
    assert queue.next("mia", kinds=["ranking"]) is None
    task = queue.next("mia", run="run-2")
    assert task is not None
    assert task.kind == "rating"
    held = queue.next("mia", kinds=["comparison"])
    assert held is not None
    assert held.kind == "comparison"


def test_shown_is_in_terms_of_the_answer(workspace: Workspace, clock: Clock) -> None:
    """A form may name the samples as shown or as asked: what was on the left is the same."""
    queue = workspace.queue
    ids = tuple(IDS[:4])
    queue.put("run-1", 0, [Task(kind="ranking", sample_ids=ids)], overlap=2)
    for annotator, named in (("mia", ids), ("ann", ids[::-1])):
        task = queue.next(annotator)
        assert task is not None
        assert sorted(task.shown_ids) == sorted(ids)
        entry = Ranking(annotator=annotator, samples=named, ranks=(1, 2, 3, 4))
        queue.answer(task.id, annotator, entry)
        (kept,) = workspace.journal.active(annotator=annotator)
        assert kept.shown is not None
        assert tuple(named[i] for i in kept.shown) == task.shown_ids


def test_the_order_shown_is_fair_and_repeatable() -> None:
    orders = [shown_order(f"task-{n}", "mia", 2) for n in range(2000)]
    assert orders == [shown_order(f"task-{n}", "mia", 2) for n in range(2000)]
    swapped = sum(order == (1, 0) for order in orders)
    assert abs(swapped - 1000) < 3 * (2000 * 0.25) ** 0.5
    by_person = {shown_order("task-1", f"person-{n}", 3) for n in range(100)}
    assert len(by_person) == 6


def test_a_correction_and_a_demonstration(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    tasks = [
        Task(kind="correction", sample_ids=(IDS[0],)),
        Task(kind="demonstration", sample_ids=(IDS[1], IDS[2])),
    ]
    queue.put("run-1", 0, tasks)
    edit = Sample.of(Prompt.from_text("question 0"), Completion("better"))
    workspace.samples.add([edit])
    answers: list[FeedbackBase] = [
        Correction(annotator="mia", sample=IDS[0], corrected=edit.id),
        Demonstration(annotator="mia", sample=edit.id),
    ]
    for answer in answers:
        task = queue.next("mia")
        assert task is not None
        queue.answer(task.id, "mia", answer)
    assert [e.sample_ids for e in workspace.journal.active()] == [(edit.id, IDS[0]), (edit.id,)]


def wrong_answers(task: Task) -> dict[str, FeedbackBase]:
    return {
        "is by ann, not mia": vote(task, annotator="ann"),
        "is on the axis 'safe', not 'overall'": vote(task, axis="safe"),
        "is about other samples": vote(task, samples=(IDS[0], IDS[7])),
        "is a ranking, not a comparison": Ranking(
            annotator="mia", samples=task.sample_ids, ranks=(1, 2)
        ),
    }


def test_an_answer_to_another_question_is_refused(workspace: Workspace, clock: Clock) -> None:
    queue = workspace.queue
    queue.put("run-1", 0, PAIRS[:1])
    task = queue.next("mia")
    assert task is not None
    for message, entry in wrong_answers(task).items():
        with pytest.raises(WorkspaceError, match=message):
            queue.answer(task.id, "mia", entry)
    with pytest.raises(WorkspaceError, match="was not handed to 'ann'"):
        queue.answer(task.id, "ann", vote(task, annotator="ann"))
    with pytest.raises(WorkspaceError, match="'task-none' was not handed"):
        queue.skip("task-none", "mia")
    assert workspace.journal.count() == 0
    assert queue.progress("run-1", 0).leased == 1


@pytest.mark.parametrize(
    ("task", "overlap", "message"),
    [
        (Task(kind="haiku", sample_ids=(IDS[0],)), 1, "no kind of feedback 'haiku'"),
        (Task(kind="rating", sample_ids=("sample-none",)), 1, "no such sample: sample-none"),
        (Task(kind="comparison", sample_ids=(IDS[0], IDS[0])), 1, "same sample twice"),
        (PAIRS[0], 0, "overlap is 0"),
    ],
)
def test_a_bad_question_is_refused_and_none_is_kept(
    workspace: Workspace, clock: Clock, task: Task, overlap: int, message: str
) -> None:
    with pytest.raises(WorkspaceError, match=message):
        workspace.queue.put("run-1", 0, [PAIRS[1], task], overlap=overlap)
    assert workspace.queue.progress("run-1", 0).items == 0


def test_how_far_a_person_is(workspace: Workspace, clock: Clock) -> None:
    """Counted by hand: answers given, and questions that `next` would still hand out."""
    queue = workspace.queue

    def standing(name: str, run: str | None = None) -> tuple[int, int]:
        found = queue.standing(name, run=run)
        return found.given, found.open

    assert standing("mia") == (0, 0)
    queue.put("run-1", 1, PAIRS, overlap=1)
    queue.put("run-2", 1, PAIRS[:2], overlap=2)
    assert (standing("mia"), standing("mia", "run-1")) == ((0, 5), (0, 3))
    say(workspace, "mia")
    assert (standing("mia"), standing("ann")) == ((1, 4), (0, 4))
    held = queue.next("mia")
    assert held is not None
    assert standing("mia") == (1, 4), "what is held counts as open"
    assert standing("ann") == (0, 3), "and is not open to others"
    clock.time += 61
    assert (standing("mia"), standing("ann")) == ((1, 4), (0, 4)), "the lease ran out"
    queue.skip(held.id, "mia", "cannot tell")
    assert standing("mia") == (1, 3), "a skip is no answer"
    while say(workspace, "mia"):
        pass
    assert (standing("mia"), standing("mia", "run-2")) == ((4, 0), (2, 0))
    assert standing("ann") == (0, 2), "places that others left"
    queue.undo("mia")
    assert standing("mia") == (3, 1)
