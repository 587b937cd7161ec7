"""An image in a terminal: what is said of it, and no code that the terminal would obey."""

from terminal_desk import Session, put

from backflip.records import Completion, Sample
from backflip.workspace import Workspace
from pictures import png, shows


def test_an_image_is_told_in_words(ws: Workspace) -> None:
    prompt = shows(png(640, 480), alt="A cat\x1b[2J\non a \N{RIGHT-TO-LEFT OVERRIDE}mat")
    put(ws, "good_bad", [Sample.of(prompt, Completion(text="A cat.", finish="stop"))])
    seen = Session(ws, ["g", "x"]).seen
    assert r"[image 640x480: A cat\x1b[2J on a \u202emat]" in seen


def test_one_that_nobody_has_described_says_so(ws: Workspace) -> None:
    prompt = shows(png(640, 480))
    put(ws, "good_bad", [Sample.of(prompt, Completion(text="A cat.", finish="stop"))])
    assert "[image 640x480: without description]" in Session(ws, ["g", "x"]).seen
