"""Reads a whole page and fails where a browser would have to guess what was meant."""

from collections import Counter
from html.parser import HTMLParser

VOID = {"br", "col", "hr", "img", "input", "link", "meta", "source"}
# A paragraph that one of these begins in is ended by it, wherever its end is written.
BLOCKS = {
    "article",
    "details",
    "div",
    "dl",
    "fieldset",
    "form",
    "h1",
    "h2",
    "h3",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "ul",
}
REFERENCES = ("for", "aria-labelledby", "aria-describedby", "aria-controls")


class WholePage(HTMLParser):
    """A page, read to its end.

    Attributes:
        text: what is read, with single spaces.
        forms: attributes of the forms that a script sends.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        assert html.startswith("<!doctype html>")
        self.forms: list[dict[str, str]] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self._ids: Counter[str] = Counter()
        self._named: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"
        assert max(self._ids.values()) == 1, self._ids.most_common(1)
        assert set(self._named) <= set(self._ids), "something is named that is not there"
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"an attribute of {tag} is there twice"
        assert not ("p" in self._open and tag in BLOCKS), f"<{tag}> in a paragraph"
        assert not (tag == "form" and "form" in self._open), "a form in a form"
        if "id" in found:
            self._ids[found["id"]] += 1
        self._named += [id_ for name in REFERENCES for id_ in found.get(name, "").split()]
        if tag == "form" and "data-send" in found:
            self.forms.append(found)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID or "svg" in self._open, f"<{tag}/> is not how HTML closes an element"

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "script" not in self._open:
            self._words.append(data)
