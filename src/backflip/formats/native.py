"""Backflip's own rows: every field of an entry and of its samples, tokens and clips included.

One row is one entry with the samples it speaks of, so that any part of a file can be read alone:

    {"backflip": 1, "entry": {"kind": "comparison", ...}, "samples": [{"id": ..., ...}, ...]}

The arrays of a sample are one safetensors blob: base64 in JSON, bytes in Parquet. So are the images
that prompts show, in the field "images" by their hashes.
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
from backflip.formats.base import TEXT_FILES, Format, Labelled, Origin, RenderOptions
from backflip.records import Clip, Completion, ImagePart, Prompt, Sample, content_from
from backflip.records.checks import check_content, check_prompt
from backflip.records.door import check_integer
from backflip.records.feedback import FeedbackBase, parse_feedback
from backflip.records.feedback_checks import first_fault

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
    images = _images(data.get("images"))
    samples = tuple(
        _sample(row, images, f"sample {i} of 'samples'") for i, row in enumerate(rows, 1)
    )
    if spare := images.keys() - {i.hash for sample in samples for i in sample.prompt.images}:
        raise ValueError(f"field 'images' holds {min(spare)[:12]}, which no prompt shows")
    try:
        entry = parse_feedback(_given(data.get("entry"), "field 'entry'"))
    except ValidationError as error:
        raise ValueError(f"field 'entry' is no feedback: {first_fault(error)}") from None
    return Labelled(samples, (entry,))


def _images(value: Any) -> dict[str, bytes]:
    """The images of a row by their hashes: an object in JSON, a list of pairs in Parquet."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        value = [{"hash": name, "data": data} for name, data in value.items()]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError("field 'images' holds no images by their hashes")
    found: dict[str, bytes] = {}
    for each in value:
        fields = each if isinstance(each, Mapping) else {}
        name, data = fields.get("hash"), fields.get("data")
        if not isinstance(name, str) or not isinstance(data, str | bytes):
            raise ValueError("field 'images' holds something that is no image by its hash")
        try:
            found[name] = base64.b64decode(data, validate=True) if isinstance(data, str) else data
        except binascii.Error:
            raise ValueError(f"the image {name[:12]!r} is not base64") from None
    return found


def _sample(value: Any, images: Mapping[str, bytes], what: str) -> Sample:
    try:
        return _parse_sample(_given(value, "it"), images)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _parse_sample(row: dict[str, Any], images: Mapping[str, bytes]) -> Sample:
    if unknown := set(row) - _SAMPLE_FIELDS:
        raise ValueError(f"unknown field {min(unknown)!r}")
    try:
        prompt = Prompt.model_validate(_prompt(_given(row.get("prompt"), "its prompt")))
    except ValidationError as error:
        raise ValueError(f"its prompt: {first_fault(error)}") from None
    check_prompt(prompt)  # before its id is made of it
    prompt = prompt.carrying(lambda part: part.carrying(_image(part, images)))
    content = _parse_content(_given(row.get("header"), "its header"), row.get("arrays"))
    sample = Sample.of(prompt, content, **_parse_origin(_given(row.get("origin"), "its origin")))
    # The check keeps a file from putting words under another sample's id.
    if sample.id != row.get("id"):
        raise ValueError(f"its id is {row.get('id')!r}, which is not that of what it holds")
    return sample


def _image(part: ImagePart, images: Mapping[str, bytes]) -> bytes:
    if part.hash not in images:
        raise ValueError(f"its prompt shows the image {part.hash[:12]}, which is not in the row")
    return images[part.hash]


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
        try:
            check_integer(origin[name])
        except ValueError as error:
            raise ValueError(f"its {name} {error}") from None
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
    check_content(content)
    return content


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


def _render_text(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    row, shown = _row(entry, samples), _shown(entry, samples)
    images = {name: base64.b64encode(data).decode("ascii") for name, data in shown.items()}
    return row | {"images": images} if images else row


def _row(entry: FeedbackBase, samples: Mapping[str, Sample]) -> dict[str, Any]:
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


def _shown(entry: FeedbackBase, samples: Mapping[str, Sample]) -> dict[str, bytes]:
    """The images that the prompts show, which they must carry, by their hashes."""
    found: dict[str, bytes] = {}
    for image in (i for name in entry.sample_ids for i in samples[name].prompt.images):
        if image.data is None:
            raise ValueError("the bytes of an image are not at hand")
        found[image.hash] = image.data
    return found


def _render_parquet(
    entry: FeedbackBase, samples: Mapping[str, Sample], options: RenderOptions
) -> dict[str, Any]:
    row = _row(entry, samples)
    for part in row["samples"]:
        part["arrays"] = _blob(samples[part["id"]])
        for name in ("prompt", "header", "origin"):
            part[name] = json.dumps(part[name], ensure_ascii=False)
    shown = [{"hash": name, "data": data} for name, data in _shown(entry, samples).items()]
    told = {"entry": json.dumps(row["entry"], ensure_ascii=False)}
    return row | told | {"images": shown or None}


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
    image = pa.struct({"hash": pa.string(), "data": pa.binary()})
    return pa.schema(
        {
            "backflip": pa.int32(),
            "entry": pa.string(),
            "samples": pa.list_(sample),
            "images": pa.list_(image),
        }
    )


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
