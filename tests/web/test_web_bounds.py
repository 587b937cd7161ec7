"""Every number that a request may hold is one that a database can hold, and queries are short."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from asgi_helpers import House, run
from pydantic import TypeAdapter
from test_web_access import all_routes

LARGEST = 2**63 - 1


def faults_of(schema: Any, *, text: bool) -> Iterator[str]:
    """What is unbounded anywhere in a JSON schema: integers, and text where that is asked."""
    if isinstance(schema, list):
        for each in schema:
            yield from faults_of(each, text=text)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "integer" and "enum" not in schema:
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        most = schema.get("maximum", schema.get("exclusiveMaximum", LARGEST + 2) - 1)
        if least is None or least < -LARGEST or most > LARGEST:
            yield f"an integer from {least} to {most}"
    if text and schema.get("type") == "string" and not {"maxLength", "enum"} & set(schema):
        yield "text of any length"
    for each in schema.values():
        yield from faults_of(each, text=text)


def test_every_number_and_every_query_has_bounds(house: House) -> None:
    faults: list[str] = []
    for name, route in all_routes(house.app).items():
        parts = [(each, False) for each in route.dependant.path_params]
        parts += [(each, True) for each in route.dependant.query_params]
        if route.body_field is not None:
            parts.append((route.body_field, False))
        for part, text in parts:
            kind = Annotated[part.field_info.annotation, part.field_info]
            schema = TypeAdapter(kind).json_schema()
            faults += [f"{name}: {part.name}: {each}" for each in faults_of(schema, text=text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "schema", [{}, {"minimum": 0}, {"maximum": 5}, {"minimum": 0, "maximum": 2**63}]
)
def test_what_is_unbounded_is_seen(schema: dict[str, int]) -> None:
    assert list(faults_of({"anyOf": [{"type": "integer", **schema}]}, text=False))


@pytest.mark.parametrize("id", ["x" * 1001, "a\x00b", "\u202e", "\ufffe"])
def test_a_path_that_names_nothing_is_not_found(house: House, id: str) -> None:  # noqa: A002
    for path in (f"/api/projects/{id}", f"/projects/{id}/data", f"/join/{id}"):
        call = house.call("lead", "GET", path)
        run(call.send())
        assert call.status == 404


def test_a_number_that_no_row_has_is_refused(house: House) -> None:
    for number in (0, -1, 2**63, 2**64, 10**30):
        rules = f"/projects/{house.project}/rules/versions/{number}"
        for method, path in (("POST", f"/account/tokens/{number}/drop"), ("GET", rules)):
            call = house.call("lead", method, path, "form")
            run(call.send())
            assert call.status == 422, path
