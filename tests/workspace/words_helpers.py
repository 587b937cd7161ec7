"""What the tests of erasing share: people who say much in words, and what is left of it."""

from typing import Any

from backup_helpers import everything
from store_helpers import completion_sample

from backflip.records import Completion, Dialogue, Message, Prompt, Sample
from backflip.records.feedback import Span, parse_feedback
from backflip.workspace import Workspace

IDS = [completion_sample(n, prompt=n // 4).id for n in range(8)]
MIA = "what mia wrote"
SPECIFIC: dict[str, dict[str, Any]] = {
    "comparison": {"samples": (IDS[0], IDS[1]), "choice": "a"},
    "ranking": {"samples": (IDS[0], IDS[1], IDS[2]), "ranks": (1, 2, 3)},
    "rating": {"sample": IDS[0], "level": 2},
    "good_bad": {"sample": IDS[0], "good": True},
    "correction": {"sample": IDS[0]},
    "demonstration": {"over": (IDS[0],)},
    "critique": {"sample": IDS[0], "text": f"Too long, says {MIA}.", "level": 2},
    "safety_flag": {"sample": IDS[0], "safe": False, "category": f"category, {MIA}"},
    "implicit": {"sample": IDS[0], "signal": "kept"},
}
"""What each kind needs; a correction and a demonstration also need a sample that was written."""


def write(workspace: Workspace, text: str) -> Sample:
    made = Sample.of(completion_sample(0).prompt, Completion(text=text))
    workspace.samples.add([made])
    return made


def said(workspace: Workspace, annotator: str, words: str, kind: str, **fields: Any) -> Any:
    """An entry with words wherever there may be some."""
    if kind == "correction":
        fields["corrected"] = write(workspace, f"corrected: {words}").id
    elif kind == "demonstration":
        fields["sample"] = write(workspace, f"demonstrated: {words}").id
    span = Span(sample=IDS[0], start=0, end=3, tag=f"tag: {words}")
    common = {"reason": f"reason: {words}", "tags": (words, "kind"), "spans": (span,)}
    return parse_feedback({"annotator": annotator, "kind": kind, **common, **fields})


def texts_with(workspace: Workspace, words: str) -> list[str]:
    """Tables with rows that hold these words."""
    found = everything(workspace.database).items()
    return [name for name, rows in found if any(words in value for row in rows for value in row)]


def header(workspace: Workspace, sample: Sample) -> dict[str, Any]:
    return workspace.samples.get([sample.id])[sample.id].content.header()


def typed(
    workspace: Workspace, user: str, *turns: str, state: str = "done", project: str | None = None
) -> Sample:
    """What somebody said to a model, and its reply; drawn by a worker unless it still waits."""
    roles = ("user", "assistant") * len(turns)
    messages = [Message(role=role, content=text) for role, text in zip(roles, turns, strict=False)]
    prompt = Prompt(content=Dialogue(messages=tuple(messages)), source="chat")
    ask = workspace.generations.ask
    name = ask(user, "chat", "base", prompt, {}, seed=1, project=project)
    reply = Sample.of(prompt, Completion(text="A reply.", finish="stop"), model="base", seed=1)
    if state == "done":
        workspace.generations.take("worker", 1)
        assert workspace.generations.finish("worker", {name: reply}) == {name}
    return reply
