"""Single sign-on against a real provider of our own: discovery, PKCE, nonce, signed tokens."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import RSAKey
from web_helpers import Browser

from backflip.config import OidcSettings, ServerSettings
from backflip.errors import SettingsError
from backflip.web import create_app
from backflip.workspace import Project, Workspace

SECRET = "the client's secret"  # noqa: S105


class Provider:
    """An OpenID Connect provider that lets in whoever it is told to."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.sign_with = self.key
        self.claims: dict[str, Any] = {"sub": "42", "preferred_username": "mia"}
        self.asked: dict[str, str] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = {
                    "/.well-known/openid-configuration": provider.discovery,
                    "/keys": lambda: {"keys": [provider.key.as_dict(private=False)]},
                }
                self.tell(known[urlsplit(self.path).path]())

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {k: v[0] for k, v in parse_qs(raw).items()}
                self.tell(provider.token(form, self.headers["authorization"]))

            def tell(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200 if "error" not in value else 400)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def authorize(self, address: str) -> str:
        """What the person's browser is sent back to after signing in at the provider."""
        self.asked = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        query = urlencode({"code": "the-code", "state": self.asked["state"]})
        return f"{urlsplit(self.asked['redirect_uri']).path}?{query}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        client = base64.b64decode(authorization.partition(" ")[2]).decode()
        assert challenge == self.asked["code_challenge"]
        assert SECRET.split("'")[0] in client.replace("%20", " ").replace("+", " ")
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "backflip",
            "iat": now,
            "exp": now + 60,
            "nonce": self.asked["nonce"],
            **self.claims,
        }
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.sign_with)
        return {"access_token": "x", "token_type": "Bearer", "id_token": signed}


@pytest.fixture(scope="module")
def provider_server() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def provider(provider_server: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setenv("BACKFLIP_OIDC_SECRET", SECRET)
    provider_server.claims = {"sub": "42", "preferred_username": "mia"}
    provider_server.sign_with = provider_server.key
    return provider_server


@pytest.fixture
def settings(provider: Provider) -> ServerSettings:
    chosen = OidcSettings(issuer=provider.issuer, client_id="backflip", label="Example")
    return ServerSettings(oidc=chosen)


def sign_in(browser: Browser, provider: Provider, query: str = "") -> Any:
    leave = browser.get(f"/oidc/login{query}")
    assert leave.status_code == 302, leave.text
    assert leave.headers["location"].startswith(f"{provider.issuer}/authorize?")
    return browser.get(provider.authorize(leave.headers["location"]))


def test_who_is_not_invited_stays_out(
    workspace: Workspace, server: Callable[[], TestClient], provider: Provider
) -> None:
    browser = Browser(server())
    assert "Sign in by Example" in browser.open("/login")
    response = sign_in(browser, provider)
    assert response.status_code == 403
    assert "Ask for an invitation" in response.text
    assert workspace.people.all() == []


def test_an_invitation_is_taken_by_single_sign_on(
    workspace: Workspace, project: Project, server: Callable[[], TestClient], provider: Provider
) -> None:
    key = workspace.people.invite(project.id, "annotator")
    taken = workspace.people.add("mia")  # a name that is taken is not taken over
    response = sign_in(Browser(server()), provider, f"?invite={key}&next=/account")
    assert response.headers["location"] == "/account"
    user = workspace.people.known_as(f"{provider.issuer} 42")
    assert user is not None
    assert user.id != taken.id
    assert user.name == "mia (42)"
    assert workspace.projects.roles(project=project.id) == {user.id: "annotator"}
    # The same person again, with no invitation and under another name there.
    provider.claims["preferred_username"] = "renamed"
    browser = Browser(server())
    assert sign_in(browser, provider, "?next=//evil.test").headers["location"] == "/"
    assert browser.get("/account").status_code == 200
    workspace.people.add("boss", admin=True)
    workspace.people.change(user.id, active=False)
    assert sign_in(Browser(server()), provider).status_code == 403


@pytest.mark.parametrize(
    "forged",
    [
        {"aud": "somebody else"},
        {"iss": "https://evil.test"},
        {"exp": 1000},
        {"nonce": "made up"},
    ],
)
def test_forged_tokens_are_refused(
    workspace: Workspace,
    server: Callable[[], TestClient],
    provider: Provider,
    forged: dict[str, Any],
) -> None:
    workspace.people.add("mia", subject=f"{provider.issuer} 42")
    assert sign_in(Browser(server()), provider).status_code == 303
    provider.claims |= forged
    assert sign_in(Browser(server()), provider).status_code == 403


def test_a_token_by_another_key_and_a_state_of_another_browser_are_refused(
    workspace: Workspace, server: Callable[[], TestClient], provider: Provider
) -> None:
    workspace.people.add("mia", subject=f"{provider.issuer} 42")
    provider.sign_with = RSAKey.generate_key(2048, {"kid": "one"})
    assert sign_in(Browser(server()), provider).status_code == 403
    provider.sign_with = provider.key
    leave = Browser(server()).get("/oidc/login")
    back = provider.authorize(leave.headers["location"])
    assert Browser(server()).get(back).status_code == 403


def test_everybody_may_come_where_that_is_set(workspace: Workspace, provider: Provider) -> None:
    chosen = OidcSettings(issuer=provider.issuer, client_id="backflip", create_users=True)
    app = create_app(workspace, ServerSettings(oidc=chosen))
    browser = Browser(TestClient(app, base_url="http://127.0.0.1:8000"))
    assert sign_in(browser, provider).status_code == 303
    assert [user.name for user in workspace.people.all()] == ["mia"]
    assert not workspace.people.all()[0].admin


def test_settings_that_cannot_work_are_told(
    workspace: Workspace, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BACKFLIP_OIDC_SECRET")
    chosen = {"issuer": provider.issuer, "client_id": "backflip"}
    with pytest.raises(SettingsError, match="BACKFLIP_OIDC_SECRET is not set"):
        create_app(workspace, ServerSettings.parse({"oidc": chosen}))
    monkeypatch.setenv("OTHER", SECRET)
    other = {**chosen, "client_secret_variable": "OTHER"}
    create_app(workspace, ServerSettings.parse({"oidc": other}))
    with pytest.raises(SettingsError, match="https"):
        ServerSettings.parse({"oidc": {**chosen, "issuer": "http://example.org"}})


def test_there_is_none_by_default(workspace: Workspace) -> None:
    client = TestClient(create_app(workspace), base_url="http://127.0.0.1:8000")
    assert client.get("/oidc/login").status_code == 404
    assert client.get("/oidc/callback").status_code == 404
    assert "oidc" not in client.get("/login").text
