"""Backflip's own rows: every field of an entry and of its samples, tokens and clips included.

One row is one entry with the samples it speaks of, so that any part of a file can be read alone:

    {"backflip": 1, "entry": {"kind": "comparison", ...}, "samples": [{"id": ..., ...}, ...]}

The arrays of a sample are one safetensors blob: base64 in JSON, bytes in Parquet.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from backflip.data.fields import Fields, without_nulls
from backflip.data.rows import parse_json
from backflip.feedback.formats.base import TEXT_FILES, Format, Labelled, Origin, RenderOptions
from backflip.feedback.kinds import FeedbackBase, parse_feedback
from backflip.records import Clip, Completion, Prompt, Sample, content_from

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
_SAMPLE_FIELDS = frozenset(("id", "prompt", "header", "arrays", "origin"))


def _parse(data: Fields, origin: Origin) -> Labelled:
    if data.get("backflip") != VERSION:
        raise ValueError(
            f"field 'backflip' is {data.get('backflip')!r}, and this reads version {VERSION}"
        )
    rows = data.get("samples")
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise ValueError("field 'samples' is not a list of samples")
    samples = tuple(_sample(row, f"sample {i} of 'samples'") for i, row in enumerate(rows, 1))
    try:
        entry = parse_feedback(_given(data.get("entry"), "field 'entry'"))
    except ValidationError as error:
        raise ValueError(f"field 'entry' is no feedback: {_first(error)}") from None
    for name in ("annotator", "axis", "origin"):
        value = getattr(entry, name)
        if not value or not value.isprintable():
            raise ValueError(f"the entry's {name} is empty or holds control characters")
    known = {sample.id for sample in samples}
    if missing := [id_ for id_ in entry.sample_ids if id_ not in known]:
        raise ValueError(f"the entry speaks of {missing[0]!r}, which the row does not hold")
    return Labelled(samples, (entry,))


def _sample(value: Any, what: str) -> Sample:
    try:
        return _parse_sample(_given(value, "it"))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _parse_sample(row: dict[str, Any]) -> Sample:
    if unknown := set(row) - _SAMPLE_FIELDS:
        raise ValueError(f"unknown field {min(unknown)!r}")
    try:
        prompt = Prompt.model_validate(_prompt(_given(row.get("prompt"), "its prompt")))
    except ValidationError as error:
        raise ValueError(f"its prompt: {_first(error)}") from None
    content = _parse_content(_given(row.get("header"), "its header"), row.get("arrays"))
    sample = Sample.of(prompt, content, **_parse_origin(_given(row.get("origin"), "its origin")))
    # The check keeps a file from putting words under another sample's id.
    if sample.id != row.get("id"):
        raise ValueError(f"its id is {row.get('id')!r}, which is not that of what it holds")
    return sample


def _prompt(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt without its nulls, but for those that calls and descriptions of tools hold."""
    content = row.get("content")
    if not isinstance(content, dict):
        return row
    content = without_nulls(content)
    if isinstance(turns := content.get("messages"), list):
        content["messages"] = [_turn(turn) if isinstance(turn, dict) else turn for turn in turns]
    return row | {"content": content}


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    turn = without_nulls(turn)
    if isinstance(calls := turn.get("tool_calls"), list):
        turn["tool_calls"] = [without_nulls(c) if isinstance(c, dict) else c for c in calls]
    return turn


def _parse_origin(origin: dict[str, Any]) -> dict[str, Any]:
    origin = {"model": None, **origin}
    if set(origin) != {"model", "weights_version", "seed", "index", "settings"}:
        raise ValueError(f"its origin has the fields {', '.join(origin)}")
    for name in ("weights_version", "seed", "index"):
        if not isinstance(origin[name], int) or isinstance(origin[name], bool):
            raise ValueError(f"its {name} is not a whole number")
    if not (origin["model"] is None or isinstance(origin["model"], str)):
        raise ValueError("its model is not a text")
    return origin | {"settings": _object(origin["settings"], "its settings")}


def _parse_content(header: dict[str, Any], blob: Any) -> Completion | Clip:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not isinstance(blob, str | bytes):
        raise ValueError("its arrays are missing or not bytes")
    try:
        raw = base64.b64decode(blob, validate=True) if isinstance(blob, str) else blob
        content = content_from(header, load(raw))
    except (SafetensorError, binascii.Error, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its content cannot be rebuilt: {error}") from None
    if isinstance(content, Completion):
        _check_completion(content)
    else:
        _check_clip(content)
    return content


def _check_completion(content: Completion) -> None:
    integers = (content.prompt_tokens, content.tokens)
    if any(a.dtype != np.int32 or a.ndim != 1 for a in integers):
        raise ValueError("a completion's tokens are not a row of 32-bit integers")
    if content.logprobs.dtype != np.float32 or content.logprobs.shape != content.tokens.shape:
        raise ValueError("a completion has not one 32-bit log-probability a token")
    if not isinstance(content.text, str) or content.finish not in ("stop", "length", "human"):
        raise ValueError("a completion's text or finish is not what it should be")


def _check_clip(content: Clip) -> None:
    steps = content.num_steps
    floats = (content.observations, content.logprobs, content.rewards)
    if any(a.dtype != np.float32 for a in floats):
        raise ValueError("a clip's observations, logprobs or rewards are not 32-bit floats")
    if len(content.observations) != steps + 1:
        raise ValueError(f"a clip of {steps} steps has {len(content.observations)} observations")
    if content.logprobs.shape != (steps,) or content.rewards.shape != (steps,):
        raise ValueError("a clip has not one logprob and one reward a step")
    flags = (content.terminated, content.truncated)
    if not isinstance(content.environment, str) or not all(isinstance(f, bool) for f in flags):
        raise ValueError("a clip's header is not what it should be")


def _object(value: Any, what: str) -> dict[str, Any]:
    """An object; in Parquet, whose columns want one shape, it stands as JSON text."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise ValueError(f"{what} is {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is missing or not an object")
    return value


def _given(value: Any, what: str) -> dict[str, Any]:
    return without_nulls(_object(value, what))


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    place = ".".join(map(str, fault["loc"]))
    said = " ".join(fault["msg"].split())  # it may quote what stands in the file
    return f"{place}: {said}" if place else said


def _render_text(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    rows = [
        {
            "id": sample.id,
            "prompt": sample.prompt.model_dump(mode="json"),
            "header": sample.content.header(),
            "arrays": base64.b64encode(_blob(sample)).decode("ascii"),
            "origin": {
                "model": sample.model,
                "weights_version": sample.weights_version,
                "seed": sample.seed,
                "index": sample.index,
                "settings": sample.settings,
            },
        }
        for sample in (samples[id_] for id_ in entry.sample_ids)
    ]
    return {"backflip": VERSION, "entry": entry.model_dump(mode="json"), "samples": rows}


def _render_parquet(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    row = _render_text(entry, samples, options)
    for part in row["samples"]:
        part["arrays"] = _blob(samples[part["id"]])
        for name in ("prompt", "header", "origin"):
            part[name] = json.dumps(part[name], ensure_ascii=False)
    return row | {"entry": json.dumps(row["entry"], ensure_ascii=False)}


def _blob(sample: Sample) -> bytes:
    from safetensors.numpy import save

    arrays = sample.content.arrays().items()
    return save({name: np.ascontiguousarray(array) for name, array in arrays})


def _schema(options: RenderOptions) -> "pa.Schema":
    import pyarrow as pa

    sample = pa.struct(
        {
            "id": pa.string(),
            "prompt": pa.string(),
            "header": pa.string(),
            "arrays": pa.binary(),
            "origin": pa.string(),
        }
    )
    return pa.schema({"backflip": pa.int32(), "entry": pa.string(), "samples": pa.list_(sample)})


def _suits(data: Mapping[str, Any]) -> bool:
    return "backflip" in data and "entry" in data


JSONL = Format(
    name="backflip-jsonl",
    summary="everything Backflip knows, one entry with its samples a line",
    suits=lambda data: _suits(data) and isinstance(data["entry"], dict),
    parse=_parse,
    render=_render_text,
    schema=_schema,
    files=TEXT_FILES,
    exact=True,
)
PARQUET = Format(
    name="backflip-parquet",
    summary="the same in columns, for large files and clips",
    suits=lambda data: _suits(data) and isinstance(data["entry"], str),
    parse=_parse,
    render=_render_parquet,
    schema=_schema,
    files=(".parquet",),
    exact=True,
)
