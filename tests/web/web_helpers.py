"""What the server's tests share: samples of one model, questions about them, and a browser."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi.testclient import TestClient

from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.workspace import Task, User

TEXTS = [f"Reply {n}. It has **two** sentences." for n in range(6)]
PROMPTS = [
    Prompt(
        content=Dialogue(
            messages=(
                Message(role="user", content=f"Question {n}"),
                Message(role="assistant", content="Which one?"),
                Message(role="user", content="The second."),
            )
        ),
        source="test",
    )
    for n in range(4)
]
SAMPLES = [
    Sample.of(prompt, Completion(text=text, finish="stop"), model="model-secret", seed=k, index=i)
    for k, prompt in enumerate(PROMPTS)
    for i, text in enumerate(TEXTS)
]


def ids(prompt: int, *places: int) -> tuple[str, ...]:
    """Samples of a prompt by number."""
    return tuple(SAMPLES[prompt * len(TEXTS) + place].id for place in places)


PAIR = Task(kind="comparison", sample_ids=ids(0, 0, 1))
TASKS = {
    "comparison": PAIR,
    "ranking": Task(kind="ranking", sample_ids=ids(0, 0, 1, 2, 3)),
    "rating": Task(kind="rating", sample_ids=ids(0, 0)),
    "good_bad": Task(kind="good_bad", sample_ids=ids(0, 1)),
    "correction": Task(kind="correction", sample_ids=ids(0, 2)),
    "demonstration": Task(kind="demonstration", sample_ids=ids(0, 3, 4)),
    "critique": Task(kind="critique", sample_ids=ids(0, 4)),
    "safety_flag": Task(kind="safety_flag", sample_ids=ids(0, 5), axis="safe"),
    "implicit": Task(kind="implicit", sample_ids=ids(0, 0, 5)),
}


PASSWORD = "a few plain words"  # noqa: S105


@dataclass
class Browser:
    """Somebody at a browser: keeps cookies, and sends the token of the page with every change."""

    client: TestClient
    user: User | None = None
    csrf: str = ""

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, follow_redirects=False, **options)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        headers = {"x-csrf-token": self.csrf} | options.pop("headers", {})
        return self.client.request(
            method, path, json=body, headers=headers, follow_redirects=False, **options
        )

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.send("POST", path, {} if body is None else body, **options)

    def submit(self, path: str, **fields: Any) -> Any:
        """Send a form of the page that is open."""
        fields = {"csrf": self.csrf} | fields
        return self.client.post(path, data=fields, follow_redirects=False)

    def open(self, path: str) -> str:
        """Open a page and take up its token."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        self.csrf = token_of(response.text)
        return response.text


def token_of(html: str) -> str:
    found = re.search(r'<meta name="csrf" content="([^"]*)">', html)
    assert found is not None
    return found[1]


SignIn = Callable[..., Browser]
