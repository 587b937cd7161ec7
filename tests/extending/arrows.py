"""A format from outside of the package: a question and two replies, the better one before `>`."""

from collections.abc import Mapping
from typing import Any

from backflip.data.fields import Fields
from backflip.formats import Format, Labelled, register
from backflip.formats.base import Origin, RenderOptions, text_of
from backflip.records import Completion, Prompt, Sample
from backflip.records.feedback import Comparison, FeedbackBase


def _parse(row: Fields, origin: Origin) -> Labelled:
    prompt = Prompt.from_text(row["question"], source=origin.place)
    texts = row["arrow"].split(" > ")
    if len(texts) != 2:
        raise ValueError("arrow is not two replies with ' > ' between them")
    samples = tuple(Sample.of(prompt, Completion(text=text)) for text in texts)
    pair = (samples[0].id, samples[1].id)
    return Labelled(samples, (Comparison(samples=pair, choice="a", **origin.fields()),))


def _render(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    pairs = entry.preferred_pairs()
    if len(pairs) != 1:
        raise ValueError("it does not prefer one reply over one other")
    better, worse = (samples[name] for name in pairs[0])
    return {"question": better.prompt.text, "arrow": f"{text_of(better)} > {text_of(worse)}"}


ARROWS = register(
    Format(
        name="arrows",
        summary="a question, and two replies with an arrow between them",
        suits=lambda data: "arrow" in data,
        parse=_parse,
        render=_render,
        files=(".jsonl",),
    )
)
