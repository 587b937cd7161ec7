"""A good row of every format and shape, rich in fields, and files that hold rows in every way."""

import gzip
import json
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

from backflip.formats import Labelled, write
from backflip.records import Completion, Dialogue, Message, Prompt, Sample, ToolCall
from backflip.records.feedback import Comparison

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it raining?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call-1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"where": "out", "until": null}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call-1", "name": "look", "content": "wet"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look out.",
            "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
        },
    }
]
YES, NO = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}
SHAREGPT = [
    {"from": "human", "value": "Is it raining?"},
    {"from": "function_call", "value": '{"name": "look", "arguments": {"where": "out"}}'},
    {"from": "observation", "value": "wet"},
    {"from": "gpt", "value": "Yes.", "weight": 1},
]
MIA = str(uuid.uuid5(uuid.NAMESPACE_URL, "urn:backflip:annotator:mia"))


def dialogue():
    """`ASKED` with `TOOLS`, as it should be read."""
    call = ToolCall(name="look", arguments={"where": "out", "until": None}, id="call-1")
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="Is it raining?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="wet", tool_call_id="call-1", tool_name="look"),
    )
    return Dialogue(messages=turns, tools=tuple(TOOLS))


def vote(content, source="x"):
    prompt = Prompt(content=content, source=source, split="heldout")
    samples = tuple(Sample.of(prompt, Completion(text=text)) for text in ("Yes.", "No."))
    entry = Comparison(samples=(samples[0].id, samples[1].id), choice="a", annotator="mia")
    return Labelled(samples, (entry,))


def own_row(folder):
    path = folder / "own.jsonl"
    write(path, "backflip-jsonl", [vote(dialogue())])
    return json.loads(path.read_text())


BESIDE = {"system": "Be brief.", "history": [["Hi.", "Hello!"]], "tools": TOOLS, "weight": 1}
_TEXTS = {"prompt": "Is it raining?", "response_a": "Yes.", "response_b": "No."}
SHAPES = {
    "hh": {
        "chosen": "\n\nHuman: Is it raining?\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Is it raining?\n\nAssistant: No.",
        **BESIDE,
    },
    "rewardbench": {
        "prompt": "Is it raining?",
        "chosen": "Yes.",
        "chosen_model": "one",
        "rejected": "No.",
        "rejected_model": "other",
        "subset": "chat",
        "id": 3,
        **BESIDE,
    },
    "trl-preference": {"prompt": ASKED, "chosen": [YES], "rejected": [NO], "tools": TOOLS},
    "trl-preference texts": {"prompt": "Is it raining?", "chosen": "Yes.", "rejected": "No."},
    "trl-preference dialogues": {"chosen": [*ASKED, YES], "rejected": [*ASKED, NO]},
    "trl-unpaired": {"prompt": ASKED, "completion": [YES], "label": True, "tools": TOOLS},
    "trl-prompt-completion": {"prompt": "Is it raining?", "completion": "Yes.", **BESIDE},
    "trl-prompt-completion messages": {"messages": [*ASKED, YES], "tools": json.dumps(TOOLS)},
    "trl-prompt-completion sharegpt": {"conversations": SHAREGPT, "system": "Be brief."},
    "trl-prompt-completion alpaca": {
        "instruction": "Look out.",
        "input": "Is it raining?",
        "output": "Yes.",
        "system": "",
        "history": [],
    },
    "trl-prompt-completion seeds": {
        "instruction": "Look out.",
        "instances": [{"input": "Is it raining?", "output": "Yes."}],
    },
    "argilla": {
        "id": "1",
        "fields": _TEXTS,
        "metadata": {"annotator": "mia", "axis": "helpful", "split": "heldout", "num_levels": 4},
        "responses": {
            "comparison": [{"value": "response_a", "user_id": MIA, "status": "submitted"}],
            "strength": [{"value": 2, "user_id": MIA, "status": "submitted"}],
        },
    },
    "label-studio": {
        "id": 1,
        "data": {**_TEXTS, "axis": "helpful"},
        "annotations": [
            {
                "lead_time": 2.5,
                "was_cancelled": False,
                "completed_by": {"email": "mia@example.org", "id": 7},
                "result": [
                    {
                        "from_name": "comparison",
                        "value": {"selected": "left"},
                        "meta": {"annotator": "mia"},
                    }
                ],
            }
        ],
    },
}


def shapes(folder):
    """Format and row by name; the rows are the caller's to change."""
    rows = {"backflip-jsonl": own_row(folder), **SHAPES}
    return {name: (name.split()[0], json.loads(json.dumps(row))) for name, row in rows.items()}


ENDINGS = [".jsonl", ".ndjson", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".parquet"]


def put(path, rows):
    """A file of rows, not written by Backflip."""
    ending = path.name[path.name.index(".") :]
    if ending == ".parquet":
        columns = dict.fromkeys(name for row in rows for name in row)
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), path)
        return path
    lines = [json.dumps(row) for row in rows]
    array = ending.startswith(".json") and not ending.startswith(".jsonl")
    return put_bytes(path, ("[" + ",\n".join(lines) + "]" if array else "\n".join(lines)).encode())


def put_bytes(path, raw):
    """Bytes in a file, packed as its name says."""
    match path.suffix:
        case ".gz":
            raw = gzip.compress(raw)
        case ".zst":
            raw = pa.Codec("zstd").compress(raw, asbytes=True)
    path.write_bytes(raw)
    return path


def said(row):
    """All that a row was read as, or why it was not."""
    if not isinstance(row, Labelled):
        return row.reason
    about = [(s.id, s.prompt.content, s.prompt.split, s.text, s.settings) for s in row.samples]
    return about, [(entry.id, entry.model_dump()) for entry in row.entries]
