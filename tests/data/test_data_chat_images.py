"""A model is given words alone: a dialogue with an image is refused before anything is done."""

import pytest

from backflip.data import Chat
from backflip.data.lengths import Limit, fit_prompts
from backflip.errors import ModelError
from backflip.records import Dialogue, Message, Prompt, TextPart
from pictures import png, shows

SEEN = shows(png(), text="the sun").model_copy(update={"source": "rows.jsonl:7"})
READ = Prompt.from_text("the sun")


def test_a_dialogue_with_an_image_is_refused_wherever_it_is_encoded(chat_tokenizer):
    chat = Chat(chat_tokenizer)
    for _ in range(2):  # not only the first time
        with pytest.raises(ModelError, match="holds an image, and models are given words alone"):
            chat.encode_prompt(SEEN)
        with pytest.raises(ModelError, match="holds an image"):
            chat.encode_reply("it rains", prompt=SEEN)
    assert any("holds an image" in problem for problem in chat.problems([SEEN.content]))
    # A text of the same words goes first: what is known of its shape says nothing of an image.
    ((prompt, error),) = chat.unanswerable([READ, SEEN])
    assert (prompt, "holds an image" in error.what) == (SEEN, True)


def test_the_row_is_named(chat_tokenizer):
    fitted = fit_prompts([READ, SEEN], [Limit(Chat(chat_tokenizer), 99, "", str)], "error")
    assert fitted.kept == [READ]
    with pytest.raises(ModelError, match=r"rows\.jsonl:7: holds an image"):
        fitted.require()


def test_parts_that_are_words_are_encoded_as_one_text(chat_tokenizer):
    chat = Chat(chat_tokenizer)
    parts = (TextPart(text="the "), TextPart(text="sun"))
    said = Dialogue(messages=(Message(role="user", content=parts),))
    assert chat.encode_prompt(said).tolist() == chat.encode_prompt(READ).tolist()
