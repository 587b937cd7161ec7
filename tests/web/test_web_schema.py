"""schemathesis over the whole API: whatever is sent, the server has no fault and says the truth."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from web_helpers import SAMPLES, TASKS

from backflip.config import ServerSettings
from backflip.web import create_app
from backflip.workspace import MAIN, Workspace

EXAMPLES = 20


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The API of a workspace with questions, called with an administrator's token."""
    address = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        address = server.new_database(server.template)
    with Workspace.create(tmp_path_factory.mktemp("api") / "workspace", address) as workspace:
        workspace.samples.add(SAMPLES)
        workspace.queue.put("run-1", 1, TASKS.values(), overlap=50)
        user = workspace.people.add("bot", admin=True)
        key = workspace.people.add_token(user.id, "schema")
        app = create_app(workspace, ServerSettings(webhooks_inside=True))
        schema = schemathesis.openapi.from_asgi(
            "/api/openapi.json", app, headers={"authorization": f"Bearer {key}"}
        )
        schema.config.headers = {"authorization": f"Bearer {key}"}
        schema.config.parameters = {"path.project": MAIN}
        yield schema


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_has_no_fault(api: Any, mode: GenerationMode) -> None:
    """Both what the schema allows and what it forbids, for every operation."""
    faults = []
    for found in api.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events"):
            continue  # it goes on until the page is left

        @settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        try:
            call()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing can be wrong with no parameters
        except FailureGroup as group:
            faults += [f"{operation.label}: {error}" for error in group.exceptions]
    assert not faults, "\n\n".join(faults)


def test_the_schema_is_the_one_that_is_served(api: Any, tmp_path: Path) -> None:
    paths = set(api.raw_schema["paths"])
    assert "/api/tasks/{task}/answer" in paths
    assert all(path.startswith("/api/") or path in ("/healthz", "/metrics") for path in paths)
