"""What people said, as a lead reads it: each entry in words beside what it is about."""

from collections.abc import Mapping
from typing import Any

from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import (
    FeedbackBase,
)
from backflip.web.forms import form_of
from backflip.web.rendering import render
from backflip.web.views import prompt_view, sample_view
from backflip.workspace import JournalRow

EXCERPT = 80
"""Characters of a prompt by which an answer is told from others."""


def answer_view(row: JournalRow, samples: Mapping[str, Sample], project: str) -> dict[str, Any]:
    """An entry for the page: what was said, and the samples as they were shown.

    Args:
        row: of the journal, with an entry; one whose entry is damaged is shown as such.
        samples: every sample that the entry speaks of.
        project: below whose address the page asks for images.
    """
    entry = row.entry
    if entry is None:
        who = {"annotator": row.annotator, "created": row.created.isoformat()}
        return {"id": row.id, "damaged": True, **who}
    ids = entry.sample_ids
    given, form = entry.written, form_of(entry.kind_name())
    # Entries from before the door may name an order that is none.
    whole = entry.shown is not None and sorted(entry.shown) == list(range(len(ids)))
    shown = [ids[i] for i in entry.shown or ()] if whole else list(ids)
    shown.sort(key=lambda name: name == given)  # what the person gave stands last
    letters = {name: chr(65 + place) for place, name in enumerate(shown)}
    return {
        "id": row.id,
        "damaged": False,
        "kind": entry.kind_name(),
        "edited": form is not None and form.edits,
        "axis": entry.axis,
        "annotator": entry.annotator,
        "origin": entry.origin,
        "created": row.created.isoformat(),
        "seconds": entry.seconds,
        "said": said(entry, letters, samples),
        "words": words_of(entry),
        "tags": entry.tags,
        "marks": [_mark(s, letters, samples) for s in entry.spans if s.sample in letters],
        "asked": _excerpt(samples[shown[0]].prompt),
        "prompt": prompt_view(samples[shown[0]].prompt, images_of(project, shown[0])),
        "replies": [
            {
                "letter": letters[name],
                "own": name == given and _is_typed(samples[name]),
                **sample_view(samples[name]),
            }
            for name in shown
        ],
    }


def images_of(project: str, sample: str) -> str:
    """The address below which a lead's page asks for the images that a sample's prompt shows."""
    return f"/api/projects/{project}/samples/{sample}/images"


def _is_typed(sample: Sample) -> bool:
    """Whether a person wrote it: a clip nobody writes, and a file may name a model's reply."""
    return isinstance(sample.content, Completion) and sample.content.finish == "human"


def said(
    entry: FeedbackBase, letters: Mapping[str, str], samples: Mapping[str, Sample]
) -> dict[str, Any]:
    """What an entry says of the samples, as the form of its kind tells it; see `Answer.said`.

    Args:
        entry: any.
        letters: names of the samples on the page.
        samples: those samples.
    """
    form = form_of(entry.kind_name())
    if form is None:
        return {"code": "words", "words": entry.question.title}
    if entry.written is not None and not _is_typed(sample := samples[entry.written]):
        better = "better_" if form.edits else ""
        return {"code": f"{better}{sample.content.type}"}
    return form.said(entry, letters)


def words_of(entry: FeedbackBase) -> list[dict[str, Any]]:
    """Free texts of an entry as safe HTML."""
    texts = [getattr(entry, name) for name in entry.words]
    return [{"html": render(each).html} for each in texts if each]


def _excerpt(prompt: Prompt) -> str:
    """How what was asked last begins, without signs that nobody sees."""
    text = prompt.text if prompt.content.type == "situation" else prompt.messages[-1].text
    line = "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
    return line if len(line) <= EXCERPT else f"{line[:EXCERPT]}\N{HORIZONTAL ELLIPSIS}"


def _mark(span: Any, letters: Mapping[str, str], samples: Mapping[str, Sample]) -> dict[str, Any]:
    sample = samples[span.sample]
    quote = sample.text[span.start : span.end] if sample.content.type == "completion" else ""
    return {"letter": letters[span.sample], "tag": span.tag, "html": render(quote).html}
