"""Images in rows: read where their bytes stand in them, and refused in words where they do not."""

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backflip.config import PromptSettings
from backflip.data import load_prompts
from backflip.errors import FormatError
from backflip.formats import FORMATS, Labelled, Rejected, read, write
from backflip.records import Completion, Message, Sample, TextPart
from backflip.records.feedback import Comparison, Demonstration, GoodBad
from pictures import dialogues, gif, images, png, shows

DATA = "data:image/png;base64," + base64.b64encode(png()).decode()
PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
TEXT = {"type": "text", "text": "What is this?"}


def demonstrated(prompt):
    sample = Sample.of(prompt, Completion(text="A cat."))
    return Labelled((sample,), (Demonstration(annotator="mia", sample=sample.id),))


def row_of(tmp_path, *parts):
    messages = [
        {"role": "user", "content": list(parts)},
        {"role": "assistant", "content": "A cat."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": messages}))
    (found,) = read(path, "trl-prompt-completion")
    return found


@given(prompt=dialogues())
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_our_own_rows_hold_all_of_any_dialogue(tmp_path_factory, ending, prompt):
    name = "backflip-parquet" if ending == ".parquet" else "backflip-jsonl"
    path, given_row = tmp_path_factory.mktemp("any") / f"rows{ending}", demonstrated(prompt)
    assert write(path, name, [given_row]).left_out == {}
    (back,) = read(path)
    (sample,) = back.samples
    assert (sample.id, sample.prompt) == (given_row.samples[0].id, prompt)
    assert [i.data for i in sample.prompt.images] == [i.data for i in prompt.images]


@given(said=st.lists(st.builds(TextPart, text=st.just("Look")) | images, min_size=1, max_size=4))
def test_rows_of_others_hold_any_turn_with_an_image(tmp_path_factory, said):
    prompt = shows(png(9, 9))
    messages = (Message(role="user", content=(*said, *prompt.messages[0].content)),)
    prompt = prompt.model_copy(
        update={"content": prompt.content.model_copy(update={"messages": messages})}
    )
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    assert write(path, "trl-prompt-completion", [demonstrated(prompt)]).left_out == {}
    (back,) = read(path)
    assert back.samples[0].prompt.messages == messages
    assert [i.data for i in back.samples[0].prompt.images] == [
        i.data for message in messages for i in message.images
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}},
        {"type": "image_url", "image_url": DATA},
        {"type": "input_image", "image_url": DATA},
        {"type": "image", "image": DATA},
        {"type": "image", "url": DATA.replace("image/png", "image/jpeg")},  # its bytes tell
        {"type": "image", "base64": DATA.partition(",")[2]},
        {"type": "image", "source": {"type": "base64", "data": DATA.partition(",")[2]}},
    ],
)
def test_an_image_is_read_however_its_bytes_are_given(tmp_path, part):
    labelled = row_of(tmp_path, TEXT, part)
    (image,) = labelled.samples[0].prompt.images
    assert (image.data, image.media_type, image.alt) == (png(), "image/png", None)
    assert labelled.samples[0].prompt.messages[0].words == "What is this?"


def test_the_turn_on_the_page_of_formats_is_read(tmp_path):
    (block,) = re.findall(r'```json\n(.*"image_url".*)\n', PAGE.read_text(encoding="utf-8"))
    labelled = row_of(tmp_path, *json.loads(block)["content"])
    (image,) = labelled.samples[0].prompt.images
    assert (image.media_type, image.width, image.height) == ("image/gif", 1, 1)
    assert image.alt == "A black dot"


def test_parts_that_are_all_words_are_one_text(tmp_path):
    labelled = row_of(tmp_path, TEXT, {"type": "input_text", "text": " Say."})
    assert labelled.samples[0].prompt.messages[0].content == "What is this? Say."


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}, "which is not fetched"),
        ({"type": "image", "source": {"type": "url", "url": "http://a"}}, "which is not fetched"),
        ({"type": "image", "image": "/etc/passwd"}, "a path, which is not opened"),
        ({"type": "image", "url": "file:///etc/passwd"}, "a path, which is not opened"),
        ({"type": "image", "image": {"path": "cat.png"}}, "a path, which is not opened"),
        ({"type": "image"}, "the image is not there"),
        ({"type": "image", "image": "data:image/png,abc"}, "that is not base64"),
        ({"type": "image", "image": "data:image/png;base64,%%%"}, "is not base64"),
        ({"type": "image", "image": "data:image/svg+xml;base64,PHN2Zy8+"}, "is no PNG"),
        ({"type": "image", "image": DATA, "alt": 7}, "an alt that is not a text"),
        ({"type": "image", "image": DATA, "alt": "x" * 2001}, "more than 2000 characters"),
        ({"type": "video", "video": "data:"}, "neither text nor an image"),
        ({"type": "text"}, "neither text nor an image"),
        ("What?", "neither text nor an image"),
    ],
)
def test_what_is_no_image_in_the_row_is_refused_with_the_reason(tmp_path, part, why):
    rejected = row_of(tmp_path, TEXT, part)
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith("part 2 of turn 1 of 'messages'")
    assert why in rejected.reason


def test_a_reply_is_a_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    reply = {"role": "assistant", "content": [{"type": "image", "image": DATA}]}
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Draw."}, reply]}))
    (rejected,) = read(path)
    assert "holds an image, and a reply is a text" in rejected.reason


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"backflip-jsonl", "backflip-parquet"}))
@pytest.mark.parametrize("plain", [True, False])
def test_a_format_holds_an_image_or_says_why_not(tmp_path, name, plain):
    prompt = shows(png(), gif())
    samples = [Sample.of(prompt, Completion(text=text)) for text in ("Yes.", "No.")]
    ids = (samples[0].id, samples[1].id)
    entries = [
        Comparison(annotator="mia", samples=ids, choice="a"),
        Demonstration(annotator="mia", sample=ids[0]),
        GoodBad(annotator="mia", sample=ids[0], good=True),
    ]
    path = tmp_path / "rows.json"
    given_rows = [Labelled(tuple(samples), (entry,)) for entry in entries]
    written = write(path, name, given_rows, plain=plain)
    for back in read(path, name) if written.rows else ():
        assert back.samples[0].prompt.images == prompt.images
    assert written.rows + sum(written.left_out.values()) == 3
    if not written.rows:
        assert any("has no place for images" in reason for reason in written.left_out)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda row: row.pop("images"), "which is not in the row"),
        (lambda row: row.update(images={}), "which is not in the row"),
        (lambda row: row.update(images=[7]), "no image by its hash"),
        (lambda row: row.update(images="x"), "no images by their hashes"),
        (lambda row: _swap(row, base64.b64encode(gif()).decode()), "another hash than its bytes"),
        (lambda row: _swap(row, "%"), "is not base64"),
        (lambda row: row["images"].update(spare=""), "which no prompt shows"),
    ],
)
def test_an_image_in_our_rows_is_held_to_its_hash(tmp_path, change, why):
    path = tmp_path / "rows.jsonl"
    write(path, "backflip-jsonl", [demonstrated(shows(png()))])
    row = json.loads(path.read_text())
    change(row)
    path.write_text(json.dumps(row))
    (rejected,) = read(path)
    assert isinstance(rejected, Rejected)
    assert why in rejected.reason


def test_prompts_of_a_run_may_be_read_with_images(tmp_path):
    path = tmp_path / "prompts.jsonl"
    asked = {"prompt": [{"role": "user", "content": [TEXT, {"type": "image", "image": DATA}]}]}
    path.write_text(json.dumps(asked) + "\n" + json.dumps({"prompt": "Hi"}))
    found = load_prompts(PromptSettings(source=str(path), heldout=1), seed=0)
    assert [len(prompt.images) for prompt in found] == [1, 0]
    asked["prompt"][0]["content"][1]["image"] = "http://example.org/cat.png"
    path.write_text(json.dumps(asked))
    with pytest.raises(FormatError, match="which is not fetched"):
        load_prompts(PromptSettings(source=str(path), heldout=1), seed=0)


def _swap(row, data):
    row["images"] = dict.fromkeys(row["images"], data)
