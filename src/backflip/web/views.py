"""A task as its page shows it: texts as safe HTML, and nothing that an annotator must not know.

No model, no score, no other's answer, no right answer and no id of a sample leaves the server: a
page speaks of samples by place.
"""

import re
from typing import Any

from backflip.feedback.store import Task, Workspace
from backflip.records import Clip, Prompt, Sample
from backflip.web.rendering import plain, render

_SENTENCE = re.compile(r"[^\n.!?]*(?:[.!?]+|\n+|$)\s*")


def task_view(workspace: Workspace, task: Task) -> dict[str, Any]:
    """What the labelling page gets of a task."""
    samples = samples_of(workspace, task)
    shown = [samples[name] for name in task.shown_ids]
    return {
        "id": task.id,
        "kind": task.kind,
        "axis": None if task.axis in ("overall", "safe", "attention") else task.axis,
        "prompt": prompt_view(shown[0].prompt),
        "samples": [sample_view(sample) for sample in shown],
        # Which of the two a question about one against the other is about.
        "subject": task.shown_ids.index(task.sample_ids[0]) if task.kind == "implicit" else None,
        "guideline": task.guideline,
        "draft": task.draft,
        "expires": task.expires,
    }


def samples_of(workspace: Workspace, task: Task) -> dict[str, Sample]:
    """The samples of a task by id."""
    return workspace.samples.get(task.sample_ids)


def prompt_view(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns of a dialogue, or where an agent starts."""
    if prompt.content.type == "situation":
        return [{"role": "situation", **text_view(prompt.text)}]
    return [{"role": turn.role, **text_view(turn.content)} for turn in prompt.messages]


def sample_view(sample: Sample) -> dict[str, Any]:
    """What the policy did."""
    content = sample.content
    if isinstance(content, Clip):
        end = "ended by itself" if content.terminated else "cut off"
        return text_view(f"{content.num_steps} steps in {content.environment}, {end}.")
    return {
        **text_view(content.text),
        "text": _wellformed(content.text),
        "truncated": content.truncated,
        "sentences": sentences(content.text),
    }


def text_view(text: str) -> dict[str, Any]:
    """A text as safe HTML, as it is, and what to warn of."""
    rendered = render(text)
    return {"html": rendered.html, "source": plain(text), "notes": rendered.notes}


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end, in characters: what can be marked with a key."""
    found = [match.span() for match in _SENTENCE.finditer(text) if match.group().strip()]
    return found[:500]


def _wellformed(text: str) -> str:
    """The text for a form field, where half a character cannot be sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
