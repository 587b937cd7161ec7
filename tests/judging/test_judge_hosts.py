"""Hosts that the environment lists are the only ones where a judge is asked."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_server import KIND, RUDE, likes_kindness, serving

from backflip.config import JudgeSettings
from backflip.errors import JudgeError, SettingsError
from backflip.judging.address import HOSTS
from backflip.judging.pairwise import Judge
from backflip.network import Allowed

LISTED = {
    "judge.example": ("http://judge.example/v1", "https://JUDGE.example.:8443/v1"),
    " Judge.Example , other.example": ("http://judge.example/v1", "http://other.example/v1"),
    "*.judge.example": ("http://a.judge.example/v1", "http://a.b.judge.example/v1"),
    "10.1.0.0/16, ::1": ("http://10.1.2.3/v1", "http://[::1]:8000/v1"),
    "127.0.0.1": ("http://127.0.0.1:8000/v1",),
}
NOT_LISTED = {
    "judge.example": ("http://a.judge.example/v1", "http://judge.example.com/v1", "http://1.2.3.4"),
    "*.judge.example": ("http://judge.example/v1", "http://badjudge.example/v1"),
    "10.1.0.0/16": ("http://10.2.0.1/v1", "http://localhost/v1", "http://[::ffff:10.1.2.3]/v1"),
    "": ("http://127.0.0.1:8000/v1", "http://judge.example/v1"),
}


@pytest.mark.parametrize("hosts", LISTED)
def test_what_is_listed_is_taken(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, hosts)
    for url in LISTED[hosts]:
        Judge(JudgeSettings(url=url)).close()


@pytest.mark.parametrize("hosts", NOT_LISTED)
def test_what_is_not_listed_is_refused_when_a_judge_is_made(
    hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in NOT_LISTED[hosts]:
        monkeypatch.delenv(HOSTS, raising=False)
        Judge(JudgeSettings(url=url)).close()
        monkeypatch.setenv(HOSTS, hosts)
        with pytest.raises(SettingsError, match=f"not among the hosts .* {HOSTS} lists") as caught:
            Judge(JudgeSettings(url=url))
        assert caught.value.where == "judge.url"


@pytest.mark.parametrize("hosts", ["http://judge.example", "a b", "10.0.0.1/8", "a..b", "*"])
def test_a_list_that_cannot_be_read_is_told(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, f"judge.example,{hosts}")
    with pytest.raises(SettingsError, match="neither a host nor a network") as caught:
        Judge(JudgeSettings(url="http://judge.example/v1"))
    assert HOSTS in caught.value.where


@given(st.ip_addresses(), st.ip_addresses())
def test_an_address_is_listed_by_itself_alone(one: Any, other: Any) -> None:
    assert Allowed.parse(str(one)).lists(str(one))
    assert Allowed.parse(str(one)).lists(str(other)) == (one == other)


def play(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let `judge.example` lead to these addresses, one after the other."""
    left, resolve = list(answers), socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        found = left.pop(0) if name == "judge.example" else host
        return resolve(found, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_listed_name_may_lead_to_the_open_internet_or_a_listed_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(likes_kindness) as server:
        url = server.url.replace("127.0.0.1", "judge.example")
        settings = JudgeSettings(url=url, retries=1, both_orders=False)
        monkeypatch.setenv(HOSTS, "judge.example, 127.0.0.0/8")
        play(monkeypatch, "127.0.0.1")
        with Judge(settings) as judge:
            assert judge.compare(KIND, RUDE).choice == "a"
        monkeypatch.setenv(HOSTS, "judge.example")
        play(monkeypatch, "127.0.0.1")
        with Judge(settings) as judge, pytest.raises(JudgeError, match=r"1 try: .* is inside"):
            judge.compare(KIND, RUDE)
        assert len(server.requests) == 1


def test_neither_a_proxy_nor_a_redirect_leads_around_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(likes_kindness) as other:
        aside = {"Location": f"{other.url}/chat/completions"}
        with serving(lambda _: (307, aside, b"")) as server:
            monkeypatch.setenv(HOSTS, "127.0.0.1")
            for name in ("http_proxy", "all_proxy"):
                monkeypatch.setenv(name, other.url)
            with (
                Judge(JudgeSettings(url=server.url, retries=0)) as judge,
                pytest.raises(JudgeError, match="said 307"),
            ):
                judge.compare(KIND, RUDE)
            assert len(server.requests) == 1
        assert not other.requests
