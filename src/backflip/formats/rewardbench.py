"""RewardBench (Lambert et al. 2024): one-turn prompts, and the models that answered."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backflip.data.dialogues import make_sample, prompt_beside
from backflip.data.fields import Fields, text_field
from backflip.formats.base import Format, Labelled, Origin, RenderOptions, text_of
from backflip.formats.foreign import columns, plain_prompt, preferred
from backflip.records import Message, Sample
from backflip.records.door import INTEGERS
from backflip.records.feedback import Comparison, FeedbackBase

if TYPE_CHECKING:
    import pyarrow as pa

_BENCH_PREFIX = "reward-bench/"
_AT = " at "


def bench_subset(source: str) -> str | None:
    """The subset of a benchmark that a prompt's source names; None for prompts of no benchmark.

    Such a source is `reward-bench/SUBSET at FILE:LINE`.
    """
    if not source.startswith(_BENCH_PREFIX):
        return None
    named = source.removeprefix(_BENCH_PREFIX)
    subset, at, _ = named.rpartition(_AT)
    return subset if at else named


_WRITER = "written_by"


def _suits_rewardbench(data: Mapping[str, Any]) -> bool:
    return {"prompt", "chosen", "rejected", "subset"} <= set(data)


def _parse_rewardbench(data: Fields, origin: Origin) -> Labelled:
    subset = text_field(data, "subset")
    number = data.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or number not in INTEGERS:
        raise ValueError("field 'id' is missing or not a whole number of 64 bits")
    question = (Message(role="user", content=text_field(data, "prompt")),)
    source = f"{_BENCH_PREFIX}{subset}{_AT}{origin.place}"
    # A benchmark is for measuring: what is held out is never trained on.
    prompt = prompt_beside(data, question, source=source, split="heldout")
    replies = text_field(data, "chosen"), text_field(data, "rejected")
    if replies[0] == replies[1]:
        raise ValueError("chosen and rejected are the same reply")
    samples = [
        make_sample(prompt, reply, settings={_WRITER: _model_name(data, f"{name}_model")})
        for name, reply in zip(("chosen", "rejected"), replies, strict=True)
    ]
    vote = Comparison(
        samples=(samples[0].id, samples[1].id),
        choice="a",
        key=f"{subset}/{number}",
        **origin.fields(),
    )
    return Labelled(tuple(samples), (vote,))


def _model_name(data: Fields, name: str) -> str:
    value = data.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"field {name!r} is not a text")
    return value


def _render_rewardbench(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    chosen, rejected = preferred(entry, samples)
    subset, slash, number = entry.key.rpartition("/")
    if not (slash and subset and _is_id(number)):
        # Not from RewardBench: number it by its content, which is the same in every export.
        source = chosen.prompt.source
        subset = bench_subset(source) or _without_line(source)
        number = str(int(entry.id.rpartition("-")[2][:15], 16))
    row = {"prompt": plain_prompt(chosen.prompt)}
    for name, sample in (("chosen", chosen), ("rejected", rejected)):
        row[name] = text_of(sample)
        row[f"{name}_model"] = str(sample.settings.get(_WRITER) or sample.model or "human")
    return {**row, "subset": subset, "id": int(number)}


def _is_id(text: str) -> bool:
    """Whether a text is a number as `_parse_rewardbench` wrote it."""
    short = text.isascii() and text.isdecimal() and len(text) < 20
    return short and str(int(text)) == text and int(text) in INTEGERS


def _without_line(source: str) -> str:
    file, colon, line = source.rpartition(":")
    return file if colon and line.isdecimal() else source


def _rewardbench_schema(options: RenderOptions) -> "pa.Schema":
    texts = ("prompt", "chosen", "chosen_model", "rejected", "rejected_model", "subset")
    return columns(RenderOptions(plain=True), texts, id="int64")


REWARDBENCH = Format(
    name="rewardbench",
    summary="RewardBench: one-turn prompt, chosen and rejected with their models, subset and id",
    suits=_suits_rewardbench,
    parse=_parse_rewardbench,
    render=_render_rewardbench,
    schema=_rewardbench_schema,
)
