"""Texts and demonstrations from files of every shape."""

import gzip
import json

import pytest

from backflip.data import read_demonstrations, read_texts
from backflip.data.rows import MAX_ROW_BYTES
from backflip.errors import FormatError


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def demonstration(tmp_path, row):
    (sample,) = read_demonstrations([write_lines(tmp_path / "d.jsonl", [row])])
    return [(m.role, m.content) for m in sample.prompt.messages], sample.text


def test_texts_come_from_files_and_folders_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.txt").write_bytes(b"two\r\nlines\n")
    (folder / "a.md").write_text("# A\n")
    (folder / "skipped.bin").write_bytes(b"\x00")
    with gzip.open(folder / "c.txt.gz", "wt") as stream:
        stream.write("zipped")
    rows = write_lines(tmp_path / "r.jsonl", [{"text": "row 1"}, {"content": "row 2"}])
    assert list(read_texts([rows, folder])) == ["row 1", "row 2", "# A", "two\nlines", "zipped"]


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
def test_a_long_text_comes_in_pieces_that_lose_nothing(tmp_path, separator):
    path = tmp_path / "long.txt"
    text = separator.join(f"line {i} " + "x" * 200 for i in range(20_000))
    path.write_text(text)
    pieces = list(read_texts([path]))
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert all(len(piece) <= MAX_ROW_BYTES for piece in pieces)
    assert all(piece.startswith("line ") for piece in pieces)
    assert all(piece.endswith(separator) for piece in pieces[:-1])


def test_a_bad_row_ends_the_reading_or_is_handed_over(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", [{"text": "a"}, {"text": 3}, [1], {"text": "b"}])
    with pytest.raises(FormatError, match=r"r\.jsonl:2: field 'text' is not a text"):
        list(read_texts([path]))
    faults = []
    assert list(read_texts([path], on_rejected=faults.append)) == ["a", "b"]
    assert [fault.line for fault in faults] == [2, 3]


def test_broken_utf8_in_a_text_is_named_by_its_line(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"good\ncaf\xe9\nfine\n")
    faults = []
    assert list(read_texts([path], on_rejected=faults.append)) == ["good\nfine"]
    assert [str(fault) for fault in faults] == ["t.txt:2: not valid UTF-8 at byte 3"]


def test_missing_and_empty_places_are_errors(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        list(read_texts([tmp_path / "no.txt"]))
    with pytest.raises(FormatError, match="without any text"):
        list(read_texts([tmp_path]))


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
MORE = [*TURNS, {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "See you."}]


@pytest.mark.parametrize(
    ("row", "prompt", "reply"),
    [
        ({"prompt": "The sky is", "completion": " blue."}, [("user", "The sky is")], " blue."),
        ({"prompt": TURNS[:1], "completion": TURNS[1:]}, [("user", "Hi")], "Hello!"),
        (
            {"prompt": "\n\nHuman: Hi\n\nAssistant:", "completion": " Hello!"},
            [("user", "Hi")],
            "Hello!",
        ),
        (
            {"messages": MORE},
            [("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")],
            "See you.",
        ),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
            [("user", "Hi")],
            "Yo",
        ),
        (
            {"instruction": "Add.", "input": "1 + 1", "output": "2"},
            [("user", "Add.\n\n1 + 1")],
            "2",
        ),
        ({"instruction": "Sing.", "input": "", "output": "La"}, [("user", "Sing.")], "La"),
        ({"question": "1 + 1?", "answer": "2"}, [("user", "1 + 1?")], "2"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, TURNS[1]]},
            [("user", "Hi")],
            "Hello!",
        ),
    ],
)
def test_demonstrations_of_every_shape(tmp_path, row, prompt, reply):
    assert demonstration(tmp_path, row) == (prompt, reply)


def test_alpaca_seeds_hold_several_instances(tmp_path):
    instances = [{"input": "a", "output": "b"}, {"input": "", "output": "d"}]
    path = write_lines(tmp_path / "d.jsonl", [{"instruction": "Next.", "instances": instances}])
    samples = list(read_demonstrations([path]))
    assert [(s.prompt.text, s.text) for s in samples] == [("Next.\n\na", "b"), ("Next.", "d")]
    assert {s.completion.finish for s in samples} == {"human"}
    assert {s.prompt.source for s in samples} == {"d.jsonl:1"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q"}, "no demonstration"),
        ({"completion": "a"}, "'prompt' is missing"),
        ({"prompt": "q", "completion": " \n"}, "'completion' is empty"),
        ({"prompt": 3, "completion": "a"}, "not a list of turns"),
        ({"prompt": TURNS, "completion": "a"}, "do not end with the user's"),
        ({"prompt": "q", "completion": TURNS}, "not one turn of the assistant"),
        ({"messages": TURNS[:1]}, "does not end with the assistant's"),
        ({"messages": TURNS[1:]}, "no turn to answer"),
        ({"messages": []}, "no turns"),
        ({"messages": [{"role": "critic", "content": "x"}, TURNS[1]]}, "turn 1 .* no role of"),
        ({"messages": [{"role": "user", "content": ""}, TURNS[1]]}, "turn 1 .* is empty"),
        ({"messages": [{"role": "user"}, TURNS[1]]}, "turn 1 .* has no text"),
        ({"messages": ["hi"]}, "not an object with role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, TURNS[1]]},
            "the image is not there",
        ),
        ({"instruction": "x", "input": 3, "output": "y"}, "'input' is not a text"),
        ({"instruction": "x", "instances": []}, "'instances' is empty"),
        ({"instruction": "x", "instances": 3}, "not a list of objects"),
    ],
)
def test_what_is_no_demonstration_is_refused_with_its_reason(tmp_path, row, reason):
    path = write_lines(tmp_path / "d.jsonl", [row, {"prompt": "q", "completion": "fine"}])
    with pytest.raises(FormatError, match=reason):
        list(read_demonstrations([path]))
    faults = []
    (kept,) = read_demonstrations([path], on_rejected=faults.append)
    assert kept.text == "fine"
    assert [fault.line for fault in faults] == [1]
