"""Images of questions: shown to whom the question is, and to nobody else; never a page."""

import hashlib
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_helpers import PAIR, Browser, SignIn

from backflip.records import Completion, Dialogue, Message, Prompt, Sample, TextPart
from backflip.web.pictures import picture_html
from backflip.web.views import prompt_view
from backflip.workspace import Project, Task, Workspace
from pictures import TYPES, gif, images, png, shows

CAT, DOG = png(640, 480), gif()
HOSTILE = "\"'><script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}<img onerror=x>"


def ask(workspace: Workspace, project: Project, prompt: Prompt) -> Sample:
    replies = [Sample.of(prompt, Completion(text=text)) for text in ("A cat.", "A dog.")]
    workspace.samples.add(replies)
    ids = (replies[0].id, replies[1].id)
    tasks = [Task(kind="comparison", sample_ids=ids)]
    workspace.queue.put("run-pictures", 0, tasks, project=project.id)
    return replies[0]


def handed(browser: Browser, project: Project) -> dict[str, Any]:
    return browser.post(f"/api/projects/{project.id}/next").json()["task"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)


def _tags(html: str) -> list[str]:
    parser = _Tags()
    parser.feed(html)
    parser.close()
    return parser.found


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_who_is_asked_sees_the_image_and_nobody_else(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    sample = ask(workspace, project, shows(CAT, alt="A cat"))
    workspace.prompts.add([shows(DOG)])  # of somebody else
    mia, bob = (sign_in(name, "annotator", project) for name in ("mia", "bob"))
    lea = sign_in("lea", "lead", project)
    task = handed(mia, project)
    address = f"/api/tasks/{task['id']}/images/{name_of(CAT)}"
    (turn,) = task["prompt"]
    assert f'<img src="{address}" alt="A cat" width="640" height="480"' in turn["html"]
    assert "[image 640x480: A cat]" in turn["source"]
    sent = mia.get(address)
    assert (sent.status_code, sent.content) == (200, CAT)
    assert sent.headers["content-type"] == "image/png"
    assert sent.headers["x-content-type-options"] == "nosniff"
    assert sent.headers["cache-control"] == "private, max-age=86400, immutable"
    assert "default-src 'none'" in sent.headers["content-security-policy"]
    # Not handed to them, though they are of the project and may even lead it.
    for other in (bob, lea):
        assert other.get(address).status_code == 404
    assert mia.get(address.replace(name_of(CAT), name_of(DOG))).status_code == 404
    assert mia.get(address.replace(name_of(CAT), "..%2f..%2fbackflip.db")).status_code == 404
    # The lead sees it by the answers; so does the address that the page names.
    mia.post(f"/api/tasks/{task['id']}/answer", {"answer": {"kind": "comparison", "choice": "a"}})
    page = lea.open(f"/projects/{project.id}/answers")
    below = f"/api/projects/{project.id}/samples/"
    ids = [s.id for s in workspace.samples.of_prompt(sample.prompt_id)]
    (shown,) = [f"{below}{i}/images/{name_of(CAT)}" for i in ids if f"{below}{i}/" in page]
    assert lea.get(shown).content == CAT
    assert lea.get(shown.replace(name_of(CAT), name_of(DOG))).status_code == 404
    assert mia.get(shown).status_code == 403
    workspace.projects.set_role(project.id, str(mia.user and mia.user.id), None)
    assert mia.get(address).status_code == 404  # a member no more


def test_a_lead_sees_no_image_of_another_project(
    workspace: Workspace, project: Project, sign_in: SignIn
) -> None:
    other = workspace.projects.create("Elsewhere")
    workspace.queue.put("run-1", 0, [PAIR], project=other.id)
    sample = ask(workspace, project, shows(CAT))
    lea, max_ = sign_in("lea", "lead", project), sign_in("max", "lead", other)
    path = f"/api/projects/{{}}/samples/{sample.id}/images/{name_of(CAT)}"
    assert lea.get(path.format(project.id)).status_code == 200
    assert max_.get(path.format(project.id)).status_code == 404
    assert max_.get(path.format(other.id)).status_code == 404
    assert lea.get(path.format(project.id).replace(sample.id, "%25")).status_code == 404


@pytest.mark.parametrize("make", TYPES)
def test_the_type_is_what_the_bytes_say(
    workspace: Workspace, project: Project, sign_in: SignIn, make: Any
) -> None:
    polyglot = make() + b"<html><script>alert(1)</script>"
    ask(workspace, project, shows(polyglot))
    mia = sign_in("mia", "annotator", project)
    task = handed(mia, project)
    address = f"/api/tasks/{task['id']}/images/{name_of(polyglot)}"
    sent = mia.get(address)
    assert (sent.status_code, sent.headers["content-type"]) == (200, TYPES[make])
    # Whatever takes its place on the disk is not sent.
    workspace.media.path(name_of(polyglot)).write_bytes(b"<svg onload='alert(1)'/>")
    refused = mia.get(address)
    assert refused.status_code == 500
    assert "svg" not in refused.text
    assert handed(mia, project)["prompt"][0]["html"]  # the page shows what it can


@given(part=images)
def test_what_is_said_of_an_image_is_text(part: Any) -> None:
    for alt in (part.alt, HOSTILE):
        html = picture_html(part.model_copy(update={"alt": alt}), "/api/x")
        assert _tags(html) == ["p", "img"]
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html
    assert 'alt="image without description"' in picture_html(
        part.model_copy(update={"alt": None}), "/api/x"
    )


@given(
    texts=st.lists(st.sampled_from(["**A**", HOSTILE, "", "$x$", "\n"]), max_size=4), part=images
)
def test_parts_are_shown_in_their_order(texts: list[str], part: Any) -> None:
    content = (*(TextPart(text=text) for text in texts), part, TextPart(text="last"))
    prompt = Prompt(content=Dialogue(messages=(Message(role="user", content=content),)))
    (turn,) = prompt_view(prompt, "/api/x")
    assert "<script" not in turn["html"]
    assert turn["html"].index("<img ") < turn["html"].index("last")
    assert turn["html"].count("<img ") == 1
    if HOSTILE in texts:
        assert turn["notes"] == ["bidi"]


def test_no_text_makes_an_image(workspace: Workspace) -> None:
    text = "![x](https://a.b/c.png) <img src=/api/x> [image 1x1: x]"
    (turn,) = prompt_view(Prompt.from_text(text), "/api/x")
    assert "<img" not in turn["html"]
