"""The labelling sitting: takes tasks from the queue, shows them, and hands the answers back."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

from rich.console import Console
from rich.text import Text

from backflip.errors import BackflipError, DamageError, WorkspaceError
from backflip.plain_text import clean_text, counted
from backflip.records import Completion, Sample
from backflip.records.feedback import KINDS, WRITTEN_KINDS
from backflip.terminal.forms import (
    COMMON_KEYS,
    Answered,
    Form,
    Leave,
    TerminalTask,
    form_of,
    labels,
)
from backflip.terminal.keyboard import Keyboard, TerminalKeyboard
from backflip.terminal.views import prompt_view, samples_view
from backflip.workspace import Task, Workspace

Outcome = Literal["answered", "skip", "undo", "quit"]


def label_terminal(
    ws: Workspace,
    annotator: str,
    console: Console | None = None,
    *,
    keyboard: Keyboard | None = None,
    run: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Let a person answer the workspace's open tasks until none is left or the person quits.

    Every answer is in the journal before the next task is shown. Ctrl-C quits; the task on the
    screen is kept for the person until its lease runs out.

    Args:
        ws: the workspace whose queue holds the tasks.
        annotator: name of the person.
        console: where to show them; standard output when None.
        keyboard: where keys come from; this process's terminal when None.
        run: only tasks of this run.
        clock: seconds that run steadily; measures how long an answer takes.

    Returns:
        Number of answers that stand: given in this sitting and not undone.

    Raises:
        BackflipError: no terminal to read keys from.
        WorkspaceError: the workspace cannot be used.
    """
    screen = console if console is not None else Console()
    with ExitStack() as stack:
        if keyboard is None:
            keyboard = stack.enter_context(TerminalKeyboard(screen))
        desk = _Desk(ws, annotator, screen, keyboard, run, clock)
        try:
            desk.greet()
            desk.work()
        except KeyboardInterrupt:
            desk.say("Stopped.")
        desk.part()
        return desk.answered


class _Desk:
    """One person's sitting at a workspace."""

    def __init__(
        self,
        ws: Workspace,
        annotator: str,
        console: Console,
        keyboard: Keyboard,
        run: str | None,
        clock: Callable[[], float],
    ):
        self.ws = ws
        self.annotator = annotator
        self.console = console
        self.keyboard = keyboard
        self.run = run
        self.clock = clock
        self.answered = 0
        self._ended: list[Outcome] = []
        self._keep: list[str] = []

    def say(self, line: str) -> None:
        """Show a line; nothing in it is read as markup."""
        self.console.print(Text(line))

    def keep(self, line: str) -> None:
        """Show a line that the next question must not wipe away."""
        self.say(line)
        self._keep.append(line)

    def greet(self) -> None:
        """Tell how far this person is."""
        now = self.ws.queue.standing(self.annotator, run=self.run)
        self.keep(
            f"{clean_text(self.annotator)}: {counted(now.given, 'answer')} given so far, "
            f"{counted(now.open, 'question')} open for you."
        )

    def part(self) -> None:
        """Tell what this sitting came to, and all of them together."""
        given = self.ws.queue.standing(self.annotator, run=self.run).given
        self.say(f"{counted(self.answered, 'answer')} given in this sitting, {given} in all.")

    def work(self) -> None:
        """Task after task, until there is none or the person quits."""
        while True:
            task = self.ws.queue.next(self.annotator, run=self.run)
            if task is None:
                if self._stays_done():
                    return
                continue
            try:
                outcome = self._do(task)
            except WorkspaceError as error:
                # The task has gone to others meanwhile; the sitting goes on with another one.
                self.keep(f"Not saved: {clean_text(str(error))}")
                continue
            if outcome == "quit":
                return

    def _stays_done(self) -> bool:
        """Nothing to ask now; the last answer may still be taken back."""
        self.say("Nothing more to ask you now.")
        if not self._ended:
            return True
        self.say("u undo the last   any other key quits")
        if self.keyboard.key().lower() != "u":
            return True
        self._undo()
        return False

    def _do(self, task: Task) -> Outcome:
        """Show a task and see it through to one outcome."""
        try:
            found = self.ws.samples.get(task.sample_ids)
        except DamageError as error:  # else it would be handed out again and again
            return self._pass_over(task, f"{error.what}; {error.hint}")
        samples = [found[name] for name in task.shown_ids]
        form = form_of(task.kind)
        if form is None:
            return self._pass_over(task, f"a {task.kind} cannot be given in a terminal")
        cannot = self._cannot_ask(task, samples)
        if cannot:
            return self._pass_over(task, cannot)
        self._show(task, samples, form)
        start = self.clock()
        sheet = TerminalTask(task, samples, self.annotator, self.keyboard, self.say)
        try:
            answer = self._fill(sheet, form)
        except Leave as left:
            return self._leave(task, left)
        seconds = max(0.0, self.clock() - start)
        entry = answer.entry.model_copy(update={"seconds": seconds})
        written = [] if answer.written is None else [answer.written]
        self.ws.queue.answer(task.id, self.annotator, entry, written=written)
        self.answered += 1
        self._ended.append("answered")
        self.say("Saved.")
        return "answered"

    def _pass_over(self, task: Task, cannot: str) -> Outcome:
        self.keep(cannot)
        self.ws.queue.skip(task.id, self.annotator, cannot)
        self._ended.append("skip")
        return "skip"

    def _cannot_ask(self, task: Task, samples: list[Sample]) -> str:
        """Why a terminal cannot ask this; empty when it can."""
        text = all(isinstance(sample.content, Completion) for sample in samples)
        if task.kind in WRITTEN_KINDS and not text:
            return f"a {task.kind} of a clip cannot be given in a terminal"
        return ""

    def _fill(self, sheet: TerminalTask, form: Form) -> Answered:
        """Ask until there is an answer; a fault in a text or an editor starts over."""
        while True:
            try:
                answer = form.fill(sheet)
            except WorkspaceError:
                raise
            except BackflipError as error:
                self.say(str(error))
                continue
            if answer is not None:
                return answer

    def _leave(self, task: Task, left: Leave) -> Outcome:
        if left.action == "skip":
            self.ws.queue.skip(task.id, self.annotator, "skipped by the annotator")
            self._ended.append("skip")
        elif left.action == "undo":
            self._undo()
        return left.action

    def _undo(self) -> None:
        """Take the last answer or skip back; the queue hands its task out again."""
        if self.ws.queue.undo(self.annotator) is None:
            self.say("There is nothing to take back.")
            return
        # The queue remembers earlier sittings' answers too: those do not lower this one's count.
        if self._ended and self._ended.pop() == "answered":
            self.answered -= 1
        self.say("Taken back.")

    def _show(self, task: Task, samples: list[Sample], form: Form) -> None:
        if self.console.is_terminal:
            self.console.clear()
            for line in self._keep:
                self.say(line)
        self._keep.clear()
        progress = self.ws.queue.progress(task.run, task.round)
        mine = progress.by_annotator.get(self.annotator, 0)
        axis = "" if task.axis == "overall" else f" Judge only: {clean_text(task.axis)}."
        self.say(f"{progress.done} of {progress.wanted} answered, {mine} of them by you.")
        self.console.print(prompt_view(samples[0].prompt))
        self.console.print(samples_view(samples, labels(task), self.console.width))
        self.say(KINDS[task.kind].question.asks + axis)
        self.say(form.keys)
        self.say(COMMON_KEYS)
