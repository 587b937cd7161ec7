"""A task as its page shows it: texts as safe HTML, and nothing that an annotator must not know.

No model, no score, no other's answer, no right answer and no id of a sample leaves the server: a
page speaks of samples by place.
"""

import re
from dataclasses import asdict
from itertools import groupby, islice
from typing import Any

from backflip.records import Clip, ImagePart, Message, Prompt, Sample, TextPart
from backflip.records.feedback import KINDS, Question
from backflip.web.invisible_characters import SIGN
from backflip.web.pictures import picture_html
from backflip.web.rendering import NOTES, plain, render
from backflip.workspace import Task, Workspace

_STOP = r".!?\u3002\uff01\uff1f"  # the last three are written without a space behind them
_CLOSING = r"[\"'\u2019\u201d\xbb)\]*_]*+"
_SENTENCE = re.compile(
    rf"(?:[^\n{_STOP}]++|[.!?]++(?!{_CLOSING}(?:\s|\Z)))*+(?:[{_STOP}]++{_CLOSING})?\n*+"
)
"""Up to a full stop before a space, or the end of the line; every character is looked at once."""
MAX_SENTENCES = 500
MAX_SIGNS = 2000


def task_view(workspace: Workspace, task: Task) -> dict[str, Any]:
    """What the labelling page gets of a task."""
    samples = samples_of(workspace, task)
    question = KINDS[task.kind].question
    shown = [samples[name] for name in task.shown_ids]
    return {
        "id": task.id,
        "kind": task.kind,
        "axis": None if task.axis in ("overall", "safe", "attention") else task.axis,
        "prompt": prompt_view(shown[0].prompt, f"/api/tasks/{task.id}/images"),
        "samples": [sample_view(sample) for sample in shown],
        # Which of the two a question about one against the other is about.
        "subject": task.shown_ids.index(task.sample_ids[0]) if question.has_subject else None,
        "guideline": task.guideline,
        "draft": task.draft,
        "draft_lost": task.draft_lost,
        "seconds_left": (task.expires or 0.0) - workspace.queue.clock(),
        **({"form": _drawn(question)} if question.options else {}),
    }


def _drawn(question: Question) -> dict[str, Any]:
    """What a page draws a form from."""
    return {"asks": question.asks, "options": [asdict(each) for each in question.options]}


def samples_of(workspace: Workspace, task: Task) -> dict[str, Sample]:
    """The samples of a task by id; those that are damaged or gone say so."""
    return workspace.samples.shown(task.sample_ids)


def prompt_view(prompt: Prompt, images: str) -> list[dict[str, Any]]:
    """The turns of a dialogue, or where an agent starts; `images` is the address of its images."""
    if prompt.content.type == "situation":
        return [{"role": "situation", **text_view(prompt.text)}]
    return [{"role": turn.role, **_turn_view(turn, images)} for turn in prompt.messages]


def _turn_view(turn: Message, images: str) -> dict[str, Any]:
    if isinstance(turn.content, str) or not turn.images:
        return text_view(turn.text)
    html, notes = "", set[str]()
    called = TextPart(text=turn.model_copy(update={"content": ""}).text)
    for is_image, parts in groupby((*turn.content, called), lambda p: isinstance(p, ImagePart)):
        if is_image:
            html += "".join(picture_html(p, images) for p in parts if isinstance(p, ImagePart))
        elif text := "".join(part.text for part in parts):
            rendered = render(text)
            html, notes = html + rendered.html, notes | set(rendered.notes)
    told = [note for note in NOTES if note in notes]
    return {"html": html, "source": plain(turn.text), "notes": told}


def sample_view(sample: Sample) -> dict[str, Any]:
    """What the policy did; of a text also what it takes to mark it, of a clip to name it."""
    content = sample.content
    if isinstance(content, Clip):
        end = "ended by itself" if content.terminated else "cut off"
        return {
            **text_view(f"{content.num_steps} steps in {content.environment}, {end}."),
            "clip": {
                "steps": content.num_steps,
                "environment": content.environment,
                "terminated": content.terminated,
            },
        }
    return {
        **text_view(content.text),
        "text": wellformed(content.text),
        "truncated": content.truncated,
        "sentences": sentences(content.text),
        "signs": signs(content.text),
    }


def text_view(text: str) -> dict[str, Any]:
    """A text as safe HTML, as it is, and what to warn of."""
    rendered = render(text)
    return {"html": rendered.html, "source": plain(text), "notes": rendered.notes}


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end, in characters: what can be marked with a key.

    The space around a sentence is none of it. No more than `MAX_SENTENCES`.
    """
    found: list[tuple[int, int]] = []
    for match in _SENTENCE.finditer(text):
        stripped = match[0].strip()
        if stripped:
            start = match.start() + match[0].index(stripped[0])
            found.append((start, start + len(stripped)))
            if len(found) == MAX_SENTENCES:
                break
    return found


def signs(text: str) -> list[tuple[int, str]]:
    """Places and names of the characters of a text that nobody sees, as (3, "U+202E").

    Whoever lays the text out must show these as signs. A line may end in CR LF. No more than
    `MAX_SIGNS`.
    """
    places = (at for match in SIGN.finditer(text) for at in range(*match.span()))
    unseen = (at for at in places if text[at : at + 2] != "\r\n")
    return [(at, f"U+{ord(text[at]):04X}") for at in islice(unseen, MAX_SIGNS)]


def wellformed(text: str) -> str:
    """The text for a form field, where half a character cannot be sent; as many characters."""
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
