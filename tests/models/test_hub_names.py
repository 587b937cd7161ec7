"""Names that may be paths or on the hub: each is told at once, or within a few seconds."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub import constants

from backflip import hub
from backflip.config import ModelSettings
from backflip.data import read_demonstrations, read_rows
from backflip.errors import BackflipError, FormatError, ModelError
from backflip.models import (
    TextPolicy,
    TextScorer,
    find_model,
    load_causal_lm,
    load_tokenizer,
    save_model,
)

PATHS = [
    "./models/mine",
    "models/mine",
    "models/deep/mine",
    "../x",
    "../models",
    "~/mine",
    "/models/mine",
    "C:\\models\\mine",
    "models\\mine",
    ".hidden/mine",
    "a-file/mine",
    "a-link/mine",
    "nowhere/at/all",
]
LOADERS = {
    "config and network": load_causal_lm,
    "tokenizer": load_tokenizer,
    "policy": lambda name: TextPolicy.load(ModelSettings(name=name), trainable=False),
    "scorer": lambda name: TextScorer.load(ModelSettings(name=name), trainable=False),
}


@pytest.fixture(autouse=True)
def _never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_asked", None)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(hub, "SECONDS", 0.2)
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "a-file").write_text("x")
    (tmp_path / "a-link").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PATHS)
def test_what_looks_like_a_path_is_never_looked_for_elsewhere(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(hub, "_ask", lambda _: asked.append(1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.append(2))
    for load in (find_model, *LOADERS.values()):
        with pytest.raises(ModelError, match="there is no such folder") as caught:
            load(name)
        assert repr(name) in str(caught.value)
    for read in (lambda: list(read_rows(name)), lambda: list(read_demonstrations([name]))):
        with pytest.raises(FormatError, match="no such file"):
            read()
    assert not asked


def test_names_of_the_hub_are_still_its_own(here: Path) -> None:
    for name in ("HuggingFaceTB/SmolLM2-135M", "a/b", "owner/a.b-c_d"):
        assert find_model(name) == name


@pytest.mark.parametrize("how", LOADERS)
def test_a_hub_that_is_silent_is_told_soon(here: Path, silent: None, how: str) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match="the hub cannot be asked") as caught:
        LOADERS[how]("owner/name")
    assert time.monotonic() - start < 5
    assert caught.value.where == "owner/name"
    assert "Check the network" in str(caught.value.hint)


def test_a_hub_that_answers_of_itself_alone_is_told_soon(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives its front page and falls silent when it is asked for a model."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        called: list[bytes] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    call = server.accept()[0]
                    called.append(call.recv(4096))
                    if called[-1].startswith(b"HEAD / "):
                        call.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(hub, "SECONDS", 0.3)
        start = time.monotonic()
        with pytest.raises(ModelError, match="the hub cannot be asked"):
            load_tokenizer("owner/name")
        assert time.monotonic() - start < 5
        assert called[0].startswith(b"HEAD /api/models/owner/name ")


def test_no_request_of_the_client_waits_for_ever() -> None:
    client = httpx.Client(timeout=None)  # noqa: S113
    for _ in range(2):
        hub._limit_silence(client)
    assert client.event_hooks["request"] == [hub._end_in_time]
    request = client.build_request("GET", "http://a.b", timeout=httpx.Timeout(3.0, read=None))
    hub._end_in_time(request)
    limits = {"connect": 3.0, "read": hub.SILENCE, "write": 3.0, "pool": 3.0}
    assert request.extensions["timeout"] == limits


def test_so_is_it_for_rows_and_no_second_call_waits_again(here: Path, silent: None) -> None:
    pytest.importorskip("datasets")
    found: list[BackflipError] = []
    for _ in range(2):
        with pytest.raises(FormatError, match="the hub cannot be asked") as caught:
            read_rows("owner/name:test")
        found.append(caught.value)
    start = time.monotonic()
    with pytest.raises(ModelError):
        load_tokenizer("owner/name")
    assert time.monotonic() - start < 0.2
    assert found[0].where == "owner/name:test"


def test_what_was_fetched_before_is_used_without_the_hub(
    here: Path, silent: None, monkeypatch: pytest.MonkeyPatch, build: Any, tokenizer: Any
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    kept = here / "cache" / "models--owner--name"
    save_model(build("llama"), tokenizer, here / "made")
    shutil.copytree(here / "made", kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    start = time.monotonic()
    model, own = load_causal_lm("owner/name")
    assert time.monotonic() - start < 10
    assert own.get_vocab() == tokenizer.get_vocab()
    ids = torch.tensor([[5, 40, 3]])
    assert torch.allclose(model(ids).logits, build("llama")(ids).logits, atol=1e-5)


def test_a_hub_that_answers_is_asked_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_ask", lambda _: None)
    given: list[dict[str, Any]] = []

    class Auto:
        @staticmethod
        def from_pretrained(source: str, **options: Any) -> None:
            given.append(options)
            raise OSError("404 Not Found")

    from backflip.models.load import from_files

    with pytest.raises(ModelError, match="404 Not Found"):
        from_files(Auto, "owner/name")
    assert given == [{"trust_remote_code": False}]
