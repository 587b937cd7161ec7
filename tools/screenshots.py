"""Takes the pictures of the labelling page that the documentation shows, anew.

    python tools/screenshots.py

Serves a workspace that is thrown away, looks at it with Chromium (`make browser` finds one) and
writes docs/images/label-*.png.
"""

import runpy
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from backflip.config import ServerSettings
from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.web import create_app
from backflip.workspace import Task, Workspace

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
FINDER = runpy.run_path(str(ROOT / "tools" / "browser.py"))

GUIDELINE = "Prefer the reply that **helps** more. Length is no merit of its own."
SKY = (
    "The sky looks blue because air scatters **short wavelengths** of light more than long ones."
    " This is *Rayleigh scattering*; its strength goes as $\\lambda^{-4}$:\n\n"
    "- blue, about 450 nm, is scattered often\n- red, about 700 nm, only a sixth as often\n\n"
    "So blue light reaches your eyes from every direction of the sky.",
    "It is blue because it reflects the colour of the ocean.\n\nThat is also why the sky looks"
    " grey over land that is far from any sea.",
)
DINNER = (
    "Lentil soup with lemon: 40 minutes, one pot, and it tastes better the next day.",
    "Order a pizza.",
    "A risotto with mushrooms. You stand at the stove for 25 minutes, which is what a rainy"
    " evening is for:\n\n1. Fry rice and onions.\n2. Add broth, a ladle at a time.\n"
    "3. Stir in butter and cheese.",
    "As an assistant I do not eat, but many people enjoy dinner in the evening.",
)
DOG = (
    "A bar of milk chocolate is unlikely to harm a dog of 30 kg. **Dark chocolate is another"
    " matter.** Look at the wrapper, and call a vet now if it says more than 50% cocoa.",
    "Do not worry, dogs love chocolate!",
)
REGEN = (
    "Die Sonne wärmt das Meer, und ein wenig Wasser steigt als unsichtbarer Dampf auf. Oben ist"
    " es kalt: Der Dampf wird zu winzigen Tropfen, das ist eine Wolke. Werden die Tropfen zu"
    " schwer, fallen sie herunter. Dann regnet es.",
    "Regen entsteht durch Kondensation übersättigter Luftmassen an Aerosolpartikeln und"
    " anschließende Koaleszenz.",
)


@dataclass(frozen=True)
class Picture:
    """What is on a picture: a question and its replies, what was pressed, and how it looks."""

    turns: tuple[str, ...]
    replies: tuple[str, ...]
    keys: tuple[str, ...]
    kind: str = "comparison"
    project: str = "Kind answers"
    screen: tuple[int, int] = (1280, 720)
    mobile: bool = False
    preferences: dict[str, str] = field(default_factory=dict)

    def task(self, workspace: Workspace) -> Task:
        roles = ("user", "assistant")
        messages = [Message(role=roles[i % 2], content=text) for i, text in enumerate(self.turns)]
        prompt = Prompt(content=Dialogue(messages=tuple(messages)))
        samples = [Sample.of(prompt, Completion(text=t, finish="stop")) for t in self.replies]
        workspace.samples.add(samples)
        return Task(kind=self.kind, sample_ids=tuple(sample.id for sample in samples))


PICTURES = {
    "pair": Picture(("Why is the sky blue?",), SKY, ("2",)),
    "ranking": Picture(
        ("Suggest a dinner for a rainy evening.",),
        DINNER,
        (*"a1c1b3", "d"),
        kind="ranking",
        screen=(1280, 800),
        preferences={"theme": "dark"},
    ),
    "narrow": Picture(
        ("My dog ate chocolate.", "How much, and how heavy is the dog?", "One bar. 30 kg."),
        DOG,
        ("1",),
        screen=(390, 844),
        mobile=True,
    ),
    "german": Picture(
        ("Wie erkläre ich einem Kind, warum es regnet?",),
        REGEN,
        ("1", "m", "Tab", "Space", "Tab", "Space", "Escape", "x", "ArrowDown", "1"),
        project="Freundlich und genau",
        screen=(1280, 1100),
        preferences={"language": "de"},
    ),
}


def main() -> None:
    with sync_playwright() as playwright:
        program = FINDER["find_chromium"](playwright)
        if program is None:
            raise SystemExit(f"There is no Chromium. {FINDER['ADVICE']}")
        browser = playwright.chromium.launch(executable_path=program)
        for name, picture in PICTURES.items():
            with tempfile.TemporaryDirectory() as folder, Workspace.create(folder) as workspace:
                app = create_app(workspace, ServerSettings())
                with serving(app) as address:
                    cookie, path = prepare(workspace, app, picture)
                    with open_page(browser, picture, cookie | {"url": address}) as page:
                        page.goto(address + path)
                        take(page, picture, IMAGES / f"label-{name}.png")
        browser.close()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application on a free port; gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def prepare(workspace: Workspace, app: Any, picture: Picture) -> tuple[dict[str, str], str]:
    """Put up the question and sign somebody in, who sees the replies in the order given here."""
    project = workspace.projects.create(picture.project)
    workspace.projects.add_guideline(project.id, GUIDELINE, "lead")
    user = workspace.people.add("Mia")
    workspace.people.change(user.id, preferences=picture.preferences)
    workspace.projects.set_role(project.id, user.id, "annotator")
    task = picture.task(workspace)
    for number in range(1000):
        # The order is drawn for a question: ask anew until it is the one wanted.
        workspace.queue.put(f"run-{number}", 1, [task], project=project.id)
        handed = workspace.queue.next(user.annotator, project=project.id)
        if handed is None or handed.shown_ids == task.sample_ids:
            break
        workspace.queue.skip(handed.id, user.annotator)
    key, _ = workspace.people.start_session(user.id, 3600)
    cookie = {"name": "backflip", "value": app.state.context.signer.sign(key)}
    return cookie, f"/projects/{project.id}/label"


@contextmanager
def open_page(browser: Browser, picture: Picture, cookie: Any) -> Iterator[Page]:
    width, height = picture.screen
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale="en-GB",
        reduced_motion="reduce",
        is_mobile=picture.mobile,
        has_touch=picture.mobile,
    )
    context.add_cookies([cookie])
    yield context.new_page()
    context.close()


def take(page: Page, picture: Picture, path: Path) -> None:
    """Close the instructions, press the keys and take the picture."""
    page.locator("#guideline").get_by_role("button").click()
    page.locator("#question").wait_for()
    for key in picture.keys:
        page.keyboard.press(key)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # until the draft is saved
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, animations="disabled")


if __name__ == "__main__":
    main()
