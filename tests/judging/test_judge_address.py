"""An address, a key or a proxy that carries no request is told when a judge is made."""

import random
import sys

import pytest
from judge_server import KIND, RUDE, likes_kindness, serving
from pydantic import ValidationError

from backflip.config import JudgeSettings
from backflip.errors import JudgeError, SettingsError
from backflip.judging.pairwise import Judge

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file")
KEY = "OPENAI_API_KEY"
UNUSABLE = {
    "is not an http address": [
        "ftp://host/v1",
        "localhost:8000",
        "",
        "http://",
        "http://[::1/v1",
        "http://::1]/v1",
        "http://[v1.x]/v1",
        "http://host:x/v1",
        "http://1.2.3.999/v1",
        "http://ex\u200bample.com/v1",
        "http://host/\ud800",
        "http://host\x00/v1",
    ],
    "port that is not from 1 to 65535": ["http://host:0/v1", "https://host:65536/v1"],
    "host that cannot be one": [
        "http://exa_mple..com/v1",
        "http://.com/v1",
        f"http://{'a' * 64}.com/v1",
        f"http://{'a.' * 127}com/v1",
        "http://a%20b/v1",
        "http://a,b/v1",
    ],
    "has blanks": ["http://a b/v1", " http://host/v1", "http://host/v1\n", "http://host/v 1"],
    "goes on with": ["http://host/v1?key=1", "http://host/v1#x"],
    "ends with /chat/completions": [
        "http://host/v1/chat/completions",
        "https://host/chat/completions//",
    ],
}
USABLE = (
    "http://127.0.0.1:8000/v1",
    "http://[::1]:8000/v1/",
    "https://user:word@api.example.com/v1",
    "HTTPS://judge_one.internal./a/v1",
    "http://b\u00fccher.example/v1",
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def unchecked(url: str, **settings: object) -> JudgeSettings:
    """What nobody has looked at: settings refuse some of it themselves."""
    return JudgeSettings().model_copy(update={"url": url, **settings})


@pytest.mark.parametrize("told", UNUSABLE)
def test_an_address_that_carries_nothing_is_refused_with_the_reason(told: str) -> None:
    for url in UNUSABLE[told]:
        with pytest.raises(SettingsError, match=told) as caught:
            Judge(unchecked(url))
        assert caught.value.where == "judge.url"
    if "/chat/completions" in told:
        assert "Leave /chat/completions out" in caught.value.hint


def test_addresses_of_every_usable_shape_are_taken() -> None:
    for url in USABLE:
        Judge(JudgeSettings(url=url)).close()


def test_no_error_tells_a_password_of_an_address() -> None:
    with pytest.raises(SettingsError) as caught:
        Judge(unchecked("http://me:s3cret@host:0/v1"))
    assert "s3cret" not in str(caught.value)


def test_settings_tell_no_password_of_an_address_either() -> None:
    given = {"url": "http://me:s3cret@host:0/v1"}
    for make in (lambda: JudgeSettings(**given), lambda: JudgeSettings.parse(given)):
        with pytest.raises((SettingsError, ValidationError)) as caught:
            make()
        assert "s3cret" not in str(caught.value)


def test_whatever_the_address_only_a_backflip_error_is_raised() -> None:
    """Pieces of addresses in any order. One that is taken leads to this machine alone and fails."""
    rng = random.Random(3)
    pieces = ("http", "https", ":", "//", "/", "[", "]", "::1", "127.0.0.1", "@", "%", "%zz", ".")
    pieces += (":0", ":1", ":99999", "..", "a" * 70, "_", "-", " ", "\t", "\u00fc", "\u0660")
    pieces += ("\u200b", "\udc80", "\x00", "?", "#", "\\", "xn--", "\ufb03", "1.2.3", "v1", ",")
    refused = failed = 0
    for _ in range(1500):
        tail = "".join(rng.choices(pieces, k=rng.randrange(6)))
        url = rng.choice(("http://", "http://127.0.0.1:1", "http://[::1]:1", "")) + tail
        try:
            judge = Judge(unchecked(url, retries=0, timeout=0.5, both_orders=False))
        except SettingsError:
            refused += 1
            continue
        with judge:
            if url.startswith(("http://127.0.0.1:1/", "http://[::1]:1/")):
                with pytest.raises(JudgeError):
                    judge.compare(KIND, RUDE)
                failed += 1
    assert refused > 300
    assert failed > 15


@pytest.mark.parametrize(
    "key", ["s3cr\u00e9t", "s3cret\n", " s3cret", "s3 cret", "s3\x7fcret", " "]
)
def test_a_key_that_no_header_takes_is_refused_by_its_variable(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(SettingsError, match=KEY) as caught:
        Judge(JudgeSettings())
    told = str(caught.value) + repr(caught.value.hint)
    assert "s3" not in told
    assert "cret" not in told
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "ftp://me:s3cret@proxy:1"),
        ("HTTP_PROXY", "http://[::1"),
        ("http_proxy", "proxy:x"),
        ("HTTP_PROXY", "http://exa_mple..com"),
        ("all_proxy", "http://proxy:99999"),
        ("NO_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/no/such/file"),
    ],
)
def test_a_way_of_the_environment_that_cannot_be_used_is_told(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable.upper()) as caught:
        Judge(JudgeSettings(url="http://judge.example/v1"))
    assert "s3cret" not in str(caught.value)
    Judge(JudgeSettings(url="http://127.0.0.1:1/v1")).close()


def test_a_socks_proxy_without_its_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(SettingsError, match="ALL_PROXY") as caught:
        Judge(JudgeSettings(url="http://judge.example/v1"))
    assert "httpx[socks]" in caught.value.hint


def test_a_proxy_of_another_scheme_or_around_the_host_is_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://a..b")
    Judge(JudgeSettings(url="http://judge.example/v1")).close()
    monkeypatch.setenv("http_proxy", "http://a..b")
    monkeypatch.setenv("no_proxy", "judge.example")
    Judge(JudgeSettings(url="http://judge.example/v1")).close()


def test_a_request_that_cannot_be_written_is_an_error_of_the_judge() -> None:
    with (
        serving(likes_kindness) as server,
        Judge(
            JudgeSettings().model_copy(update={"url": server.url, "model": "half \ud800"})
        ) as judge,
        pytest.raises(JudgeError, match="1 try: the request cannot be written"),
    ):
        judge.compare(KIND, RUDE)
