"""Entries, and rows as Argilla and Label Studio have them, for the tests of both."""

import copy
import json
import uuid

from backflip.formats import Labelled
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.feedback import (
    Comparison,
    Correction,
    Critique,
    Demonstration,
    GoodBad,
    Ranking,
    Rating,
    SafetyFlag,
)

TOOLS = ["argilla", "label-studio"]
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which colour?\n<b>$prompt</b>"},
]
ASKED = Prompt(
    content=Dialogue(messages=tuple(Message.model_validate(turn) for turn in TURNS)),
    source="test",
    split="heldout",
)
BLUE, GREEN, RED = "Blue.", "Green\n\n{{ 7 * 7 }}", " r\u00e9d \u2028<script>alert(1)</script>"
NAMES = [f"response_{letter}" for letter in "abcdefgh"]
MIA = uuid.uuid5(uuid.NAMESPACE_URL, "urn:backflip:annotator:mia")
LEA = uuid.uuid5(uuid.NAMESPACE_URL, "urn:backflip:annotator:lea")


def reply(text, prompt=ASKED, **fields):
    return Sample.of(prompt, Completion(text=text, finish="stop"), model="model-1", **fields)


SAMPLES = {name: reply(text) for name, text in zip("abc", (BLUE, GREEN, RED), strict=True)}
A, B, C = (sample.id for sample in SAMPLES.values())
WHO = {"annotator": "mia", "axis": "helpful"}
ENTRIES = [
    Comparison(samples=(A, B), choice="a", **WHO),
    Comparison(samples=(A, B), choice="b", strength=3, reason="why\nnot", shown=(1, 0), **WHO),
    Comparison(samples=(B, A), choice="tie", tags=("rude", "wrong"), **WHO),
    Comparison(samples=(B, A), choice="both_bad", seconds=2.5, **WHO),
    Ranking(samples=(A, B, C), ranks=(3, 1, 2), **WHO),
    Ranking(samples=(C, B, A), ranks=(1, 3, 1), num_acceptable=0, **WHO),
    Rating(sample=A, level=7, num_levels=7, **WHO),
    Rating(sample=B, level=1, annotator="Mia O'Neil, \U0001f3b2"),
    GoodBad(sample=A, good=True, **WHO),
    GoodBad(sample=A, good=False, **WHO),
    Correction(sample=A, corrected=B, **WHO),
    Demonstration(sample=C, over=(B, A), **WHO),
    Demonstration(sample=C, **WHO),
    Critique(sample=A, text="  Too long.\n", level=2, num_levels=3, **WHO),
    Critique(sample=A, text="Too long.", **WHO),
    SafetyFlag(sample=B, safe=False, category="rude", annotator="mia"),
    SafetyFlag(sample=B, safe=True, **WHO),
]


def labelled(entry, samples=None):
    by_id = {sample.id: sample for sample in samples or SAMPLES.values()}
    return Labelled(tuple(by_id[id_] for id_ in entry.sample_ids), (entry,))


def said(row, entry=None):
    """An entry with the texts in the places of the samples' names."""
    body = (entry or row.entries[0]).model_dump()
    texts = {sample.id: sample.text for sample in row.samples}
    for name in {"sample", "samples", "corrected", "over"} & set(body):
        ids = body[name]
        body[name] = texts[ids] if isinstance(ids, str) else [texts[id_] for id_ in ids]
    prompts = {(s.prompt.messages, s.prompt.split) for s in row.samples}
    return body | {"prompts": prompts}


def kept(row, name, file):
    """What of a row comes back from a file."""
    lost = {"origin": f"import:{file}", "shown": None, "key": ""}
    return said(row) | lost | ({"seconds": None} if name == "argilla" else {})


def put(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(responses, user=MIA, replies=(BLUE,), **metadata):
    return {
        "id": "1",
        "fields": {"prompt": TURNS, **dict(zip(NAMES, replies, strict=False))},
        "metadata": metadata,
        "suggestions": {},
        "responses": {
            name: [{"value": value, "user_id": str(user)}] for name, value in responses.items()
        },
        "vectors": {},
        "_server_id": None,
    }


def result(name, type_, value, to_name="prompt"):
    return {"from_name": name, "to_name": to_name, "type": type_, "value": value}


def task(*results, replies=(BLUE,), **data):
    return {
        "id": 1,
        "data": {"prompt": TURNS, **dict(zip(NAMES, replies, strict=False)), **data},
        "annotations": [{"id": 1, "result": list(results), "completed_by": 7}],
        "predictions": [{"result": [result("rating", "rating", {"rating": 1})]}],
    }


def listed(*texts, ids="xyz"):
    return [{"id": id_, "title": "?", "body": t} for id_, t in zip(ids, texts, strict=False)]


def changed(row, *path, to):
    row = copy.deepcopy(row)
    target = row
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = to
    return row
