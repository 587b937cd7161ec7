"""A labeller for tests: presses keys, writes texts, and remembers what was on the screen."""

import io
import itertools
from collections.abc import Sequence

from rich.console import Console

from backflip.records import Completion, Prompt, Sample
from backflip.terminal import label_terminal
from backflip.workspace import Task, Workspace

ME = "mia"
PROMPT = Prompt.from_text("What is rain?")


def replies(*texts: str, finish: str = "stop") -> list[Sample]:
    contents = [Completion(text=text, finish=finish) for text in texts]
    return [Sample.of(PROMPT, content, index=i) for i, content in enumerate(contents)]


class Script:
    """A keyboard that presses what it was given; running out of keys is a fault of the test."""

    def __init__(self, keys: Sequence[str], texts: Sequence[str] = ()):
        self.keys = list(keys)
        self.texts = list(texts)
        self.initials: list[str] = []

    def key(self) -> str:
        assert self.keys, "no key left"
        return self.keys.pop(0)

    def text(self, initial: str) -> str:
        self.initials.append(initial)
        return self.texts.pop(0)


def put(ws: Workspace, kind: str, *groups: Sequence[Sample], axis: str = "overall") -> list[Task]:
    ws.samples.add([s for group in groups for s in group])
    tasks = [Task(kind=kind, sample_ids=tuple(s.id for s in g), axis=axis) for g in groups]
    ws.queue.put("run-1", 1, tasks)
    return tasks


class Session:
    """One sitting: what was answered, what was seen."""

    def __init__(self, ws: Workspace, keys: Sequence[str], texts: Sequence[str] = (), width=100):
        self.script = Script(keys, texts)
        output = io.StringIO()
        console = Console(file=output, width=width, legacy_windows=False)
        seconds = itertools.count(0.0, 2.5)
        self.answered = label_terminal(
            ws, ME, console, keyboard=self.script, clock=lambda: next(seconds)
        )
        self.seen = output.getvalue()
        assert not self.script.keys, "keys were left over"


def only(ws: Workspace) -> object:
    (entry,) = ws.journal.active()
    return entry


PAIR = replies("Water from clouds.", "Look it up.")
