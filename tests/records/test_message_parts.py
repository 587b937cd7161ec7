"""What is said in parts: words and images, told apart by their types, named by what they hold."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from backflip.records import Dialogue, ImagePart, Message, Prompt, TextPart
from backflip.records.feedback_checks import first_fault
from backflip.records.images import MAX_IMAGE_BYTES, look
from backflip.records.parts import named_images
from pictures import TYPES, dialogues, gif, jpeg, png, webp, words


@given(prompt=dialogues())
def test_parts_are_the_same_after_json_and_so_is_the_id(prompt):
    told = json.loads(prompt.model_dump_json())
    back = Prompt.model_validate(told)
    assert (back, back.id, hash(back.content.messages)) == (
        prompt,
        prompt.id,
        hash(prompt.content.messages),
    )
    assert named_images(told["content"]) == {image.hash for image in prompt.images}
    assert all(image.data for image in prompt.images)  # where they were read
    assert not any(image.data for image in back.images)  # they are no field


@given(text=words)
def test_a_text_keeps_the_id_that_it_had_before_there_were_parts(text):
    said = [{"role": "user", "content": text}]
    digest = hashlib.blake2b(digest_size=10)
    raw = json.dumps({"messages": said, "type": "dialogue"}, sort_keys=True).encode()
    digest.update(len(raw).to_bytes(8, "big") + raw)
    plain = Prompt.from_text(text)
    assert plain.id == f"prompt-{digest.hexdigest()}"
    alone = Prompt(content=Dialogue(messages=(_said(TextPart(text=text)),)))
    assert alone.id != plain.id
    assert alone.text == plain.text


@given(prompt=dialogues())
def test_a_reader_of_text_reads_every_word_and_of_every_image(prompt):
    for message in prompt.messages:
        assert all(image.text in message.text for image in message.images)
        if message.images:
            texts = [part.text for part in message.content if isinstance(part, TextPart)]
            assert message.words == "".join(texts)
            assert all(text in message.text for text in texts)
        assert "\n" not in "".join(image.text for image in message.images)


def test_an_image_stands_on_a_line_of_its_own():
    image = ImagePart.of(png(640, 480), "A cat\non a mat")
    bare = ImagePart.of(gif(1, 1))
    said = _said(TextPart(text="Look:"), image, bare, TextPart(text="Well?"))
    assert said.text == (
        "Look:\n[image 640x480: A cat on a mat]\n[image 1x1: without description]\nWell?"
    )
    assert _said(image).text == "[image 640x480: A cat on a mat]"


@pytest.mark.parametrize("make", TYPES)
@given(width=st.integers(1, 6000), height=st.integers(1, 6000))
def test_type_and_size_are_those_that_the_bytes_say(make, width, height):
    assert look(make(width, height)) == (TYPES[make], width, height)


@pytest.mark.parametrize("make", TYPES)
def test_an_image_that_is_cut_off_is_refused_in_words(make):
    whole = make(700, 500)
    for end in range(min(len(whole), 40)):
        try:
            assert look(whole[:end]) == (TYPES[make], 700, 500)
        except ValueError as error:
            assert str(error) in (
                "is no PNG, JPEG, GIF or WebP image",
                "is cut off, or has no pixels",
            )


@given(
    start=st.sampled_from([make()[:n] for make in TYPES for n in (0, 3, 12, 16)]), rest=st.binary()
)
def test_no_bytes_make_the_reader_of_images_stumble(start, rest):
    try:
        seen = look(start + rest)
    except ValueError:
        return
    assert seen.width >= 1
    assert seen.height >= 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "is no PNG"),
        (b"<html>", "is no PNG"),
        (png() + bytes(MAX_IMAGE_BYTES), "is larger than 8,000,000 bytes"),
        (png(60_000, 60_000), "has 60000 x 60000 pixels"),
        (jpeg(0, 5), "has no pixels"),
    ],
)
def test_what_is_no_image_to_be_kept_is_refused(data, why):
    with pytest.raises(ValueError, match=why):
        ImagePart.of(data)


def test_a_part_takes_no_other_bytes_than_its_own():
    part = ImagePart.of(png())
    with pytest.raises(ValueError, match="has another hash"):
        part.carrying(png(shade=1))
    with pytest.raises(ValueError, match="of another type or size"):
        part.model_copy(update={"media_type": "image/gif"}).carrying(png())
    with pytest.raises(ValueError, match="of another type or size"):
        part.model_copy(update={"width": 9}).carrying(png())
    with pytest.raises(ValueError, match="more than 2000 characters"):
        ImagePart.of(webp(), "x" * 2001)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "at least 1 item"),
        ([{"type": "video", "hash": "0" * 64}], "'video' .* expected tags: 'text', 'image'"),
        ([{"text": "x"}], "type"),
        ([{"type": "text", "text": "x", "colour": "red"}], "not permitted"),
        ([{"type": "image", "hash": "../../etc/passwd"}], "hash"),
        (["x"], "content"),
        (7, "content"),
        (None, "content"),
    ],
)
def test_what_is_no_part_is_refused_by_name(content, why):
    with pytest.raises(ValidationError) as refused:
        Message.model_validate({"role": "user", "content": content})
    assert first_fault(refused.value).startswith("content")
    assert refused.match(why)


def _said(*content: TextPart | ImagePart) -> Message:
    return Message(role="user", content=content)
