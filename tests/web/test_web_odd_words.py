"""Odd words in every field of every body are refused in words or kept; all pages stay there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_helpers import busy_server, faults, next_task
from web_helpers import Browser

from backflip.workspace import MAIN, Workspace

DEEP: Any = "x"
for _ in range(300):
    DEEP = {"a": DEEP}
ODD = ("half \ud800", "nul \0", 10**30, DEEP, "x" * 1_000_000, [float("inf")])
LEFT_OUT = ("/events", "/withdraw", "/forget")


@pytest.fixture(scope="module")
def busy(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Workspace, Browser]]:
    with busy_server(sqlite_template, tmp_path_factory.mktemp("words") / "w") as made:
        yield made


def example(schema: dict[str, Any], parts: dict[str, Any]) -> Any:
    """A value as a schema wants it, with all of its fields."""
    if "$ref" in schema:
        return example(parts[schema["$ref"].rpartition("/")[2]], parts)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return example(schema[several][0], parts)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: example(inner, parts) for name, inner in fields.items()}
        case "array":
            return [example(schema.get("items", {}), parts)]
        case "string":
            return "word"
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return {"a": "word"}


def slots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something may be put into a body."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, each in value.items() if isinstance(value, dict) else ():
        yield (*path, name)
        yield from slots(each, (*path, name))


def with_odd(body: Any, path: tuple[Any, ...], odd: Any) -> str:
    body = json.loads(json.dumps(body))
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = odd
    return json.dumps(body)


def test_odd_words_are_refused_or_kept_and_lock_nobody_out(busy: Any) -> None:
    _, boss = busy
    api = boss.get("/api/openapi.json").json()
    parts = api["components"]["schemas"]
    headers = {"x-csrf-token": boss.csrf, "content-type": "application/json"}
    told: dict[str, Any] = {}
    calls = 0
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content or path.endswith(LEFT_OUT):
                continue
            body = example(content["application/json"]["schema"], parts)
            task = next_task(boss)
            address = path.replace("{project}", MAIN).replace("{task}", task["id"] if task else "x")
            for number, slot in enumerate(slots(body)):
                odd = ODD[(calls + number) % len(ODD)]
                sent = with_odd(body, slot, odd)
                got = boss.client.request(method.upper(), address, content=sent, headers=headers)
                if got.status_code >= 500:
                    told[f"{method} {path} {slot} {str(odd)[:9]!r}"] = got.status_code
            calls += 1
            told |= {f"{method} {path}, then {page}": code for page, code in faults(boss).items()}
    assert told == {}
    assert calls > 20


@pytest.mark.parametrize("odd", ODD, ids=["half", "nul", "number", "deep", "long", "endless"])
def test_a_draft_locks_nobody_out(busy: Any, odd: Any) -> None:
    _, boss = busy
    task = next_task(boss)
    sent = json.dumps({"draft": {"form": odd}})
    headers = {"x-csrf-token": boss.csrf, "content-type": "application/json"}
    got = boss.client.put(f"/api/tasks/{task['id']}/draft", content=sent, headers=headers)
    assert got.status_code in (400, 413, 422)
    assert got.json()["error"]["what"]
    assert next_task(boss)["id"] == task["id"]
    assert faults(boss) == {}
