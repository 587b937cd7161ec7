"""Only the open Internet is reached: by whatever address, name, second answer or redirect."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from backflip.errors import BackflipError
from backflip.network import InsideError, PublicTransport, is_public, look_up

# From the registries of IANA, by their names there.
NOT_PUBLIC = {
    "this host on this network": "0.0.0.0/8",
    "private use 10": "10.0.0.0/8",
    "shared address space": "100.64.0.0/10",
    "loopback": "127.0.0.0/8",
    "link local": "169.254.0.0/16",
    "private use 172": "172.16.0.0/12",
    "IETF protocol assignments": "192.0.0.0/24",
    "TEST-NET-1": "192.0.2.0/24",
    "deprecated 6to4 relay anycast": "192.88.99.0/24",
    "private use 192": "192.168.0.0/16",
    "benchmarking": "198.18.0.0/15",
    "TEST-NET-2": "198.51.100.0/24",
    "TEST-NET-3": "203.0.113.0/24",
    "multicast 4": "224.0.0.0/4",
    "reserved": "240.0.0.0/4",
    "limited broadcast": "255.255.255.255/32",
    "loopback 6": "::1/128",
    "unspecified": "::/128",
    "IPv4-compatible": "::/96",
    "IPv4-mapped": "::ffff:0:0/96",
    "IPv4-translated": "::ffff:0:0:0/96",
    "NAT64": "64:ff9b::/96",
    "local NAT64": "64:ff9b:1::/48",
    "discard only": "100::/64",
    "Teredo": "2001::/32",
    "benchmarking 6": "2001:2::/48",
    "ORCHID": "2001:10::/28",
    "ORCHIDv2": "2001:20::/28",
    "documentation": "2001:db8::/32",
    "6to4": "2002::/16",
    "documentation 3fff": "3fff::/20",
    "segment routing": "5f00::/16",
    "unique local": "fc00::/7",
    "link local 6": "fe80::/10",
    "site local": "fec0::/10",
    "multicast 6": "ff00::/8",
}
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "9.255.255.255", "11.0.0.0", "100.63.255.255"),
    *("100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "198.20.0.0", "223.255.255.255"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "2400:cb00::", "2003::1"),
]
EMBEDDINGS = {
    "mapped": lambda four: int(ipaddress.IPv6Address("::ffff:0:0")) | four,
    "compatible": lambda four: four,
    "NAT64": lambda four: int(ipaddress.IPv6Address("64:ff9b::")) | four,
    "local NAT64": lambda four: int(ipaddress.IPv6Address("64:ff9b:1::")) | four,
    "6to4": lambda four: 0x2002 << 112 | four << 80,
    "Teredo server": lambda four: 0x20010000 << 96 | four << 64,
    "Teredo client": lambda four: 0x20010000 << 96 | (four ^ 0xFFFFFFFF),
}


def within(network: str) -> st.SearchStrategy[str]:
    found = ipaddress.ip_network(network)
    first, last = int(found.network_address), int(found.broadcast_address)
    make = ipaddress.IPv4Address if found.version == 4 else ipaddress.IPv6Address
    return st.integers(first, last).map(lambda number: str(make(number)))


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_no_address_of_a_special_range_is_public(name: str) -> None:
    network = ipaddress.ip_network(NOT_PUBLIC[name])
    assert not is_public(str(network.network_address))
    assert not is_public(str(network.broadcast_address))

    @given(within(NOT_PUBLIC[name]))
    def check(address: str) -> None:
        assert not is_public(address)
        assert not is_public(f"{address}%eth0")

    check()


@pytest.mark.parametrize("name", EMBEDDINGS)
@given(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0x7F000001, 0x0A000001, 0xA9FEA9FE])))
def test_no_address_that_carries_another_is_public(name: str, four: int) -> None:
    """Not even a public one: where it is taken from there, nobody here knows."""
    assert not is_public(str(ipaddress.IPv6Address(EMBEDDINGS[name](four))))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_taken(address: str) -> None:
    assert is_public(address)


@given(st.one_of(st.ip_addresses(), within("2000::/3")))
def test_whatever_is_public_is_so_by_the_standard_library_too(address: Any) -> None:
    """Another reading of the registries: all that is taken is global, and no group's."""
    if is_public(str(address)):
        found = ipaddress.ip_address(str(address))
        assert found.is_global
        assert not any((found.is_multicast, found.is_reserved, found.is_private))


class Ear:
    """An HTTP server on this machine that notes who connected and what host was asked for."""

    def __init__(self, context: ssl.SSLContext | None = None, location: str = ""):
        self.hosts: list[str] = []
        self.connections = 0
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                ear.connections += 1
                super().setup()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                ear.hosts.append(self.headers["host"])
                self.send_response(307 if location else 204)
                self.send_header("location", location)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def ears() -> Iterator[Any]:
    made: list[Ear] = []

    def make(*arguments: Any) -> Ear:
        made.append(Ear(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.end()


class Internet:
    """Names with the answers that they give, one after the other; hosts that are played here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.played: dict[str, int] = {}
        self.connected: list[str] = []
        self._resolve, self._connect = socket.getaddrinfo, socket.create_connection
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)
        monkeypatch.setattr(socket, "create_connection", self.create_connection)

    def getaddrinfo(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self.answers:
            return self._resolve(host, port, *arguments, **options)
        self.asked.append(name)
        answers = self.answers[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [r for each in found for r in self._resolve(each, port, type=socket.SOCK_STREAM)]

    def create_connection(self, address: Any, *arguments: Any, **options: Any) -> Any:
        self.connected.append(address[0])
        if address[0] in self.played:
            return self._connect(("127.0.0.1", self.played[address[0]]), *arguments, **options)
        if is_public(address[0]):
            raise ConnectionRefusedError
        return self._connect(address, *arguments, **options)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    return Internet(monkeypatch)


def post(url: str, *, verify: Any = True, follow: bool = True) -> httpx.Response:
    with httpx.Client(transport=PublicTransport(verify), follow_redirects=follow) as client:
        return client.post(url, content=b"{}")


def test_the_connection_goes_to_the_address_that_was_checked(internet: Internet, ears: Any) -> None:
    """A name that is public when it is checked, and this machine when it is asked again."""
    inside, outside = ears(), ears()
    url = f"http://rebind.example:{inside.port}/hook"
    internet.answers["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    with pytest.raises(httpx.ConnectError):
        post(url)
    assert internet.asked == ["rebind.example"]
    with pytest.raises(InsideError):
        post(url)
    assert internet.connected == ["8.8.8.8"]
    internet.answers["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    internet.played["8.8.8.8"] = outside.port
    assert post(url).status_code == 204
    assert outside.hosts == [f"rebind.example:{inside.port}"]
    assert inside.connections == 0


def test_one_answer_that_is_inside_rules_out_all(internet: Internet, ears: Any) -> None:
    ear = ears()
    for answers in (
        ["8.8.8.8", "127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["::ffff:127.0.0.1"],
        ["10.0.0.1"],
    ):
        internet.answers["mixed.example"] = [answers]
        with pytest.raises(InsideError, match=r"mixed\.example is inside"):
            post(f"http://mixed.example:{ear.port}/")
    assert internet.connected == []
    assert ear.connections == 0


def test_the_next_address_is_tried_but_not_more_than_three(internet: Internet, ears: Any) -> None:
    ear = ears()
    many = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4"]
    internet.answers["many.example"] = [many]
    internet.played = {"8.8.8.2": ear.port}
    assert post("http://many.example/").status_code == 204
    assert internet.connected == many[:2]
    internet.played = {"8.8.8.4": ear.port}
    with pytest.raises(httpx.ConnectError):
        post("http://many.example/")
    assert internet.connected[2:] == many[:3]


@pytest.mark.parametrize(
    "where", ["http://127.0.0.1:{}/", "http://inner.example:{}/", "//[::1]:{}/"]
)
def test_a_redirect_that_leads_inside_is_refused(internet: Internet, ears: Any, where: str) -> None:
    inside = ears()
    outside = ears(None, where.format(inside.port))
    internet.answers = {"outer.example": [["8.8.8.8"]], "inner.example": [["127.0.0.1"]]}
    internet.played["8.8.8.8"] = outside.port
    with pytest.raises(InsideError):
        post("http://outer.example/")
    assert (outside.connections, inside.connections) == (1, 0)
    assert post("http://outer.example/", follow=False).status_code == 307


def certificate(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows for a name, and what a client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(private + public)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=public.decode())


def test_certificate_and_host_are_the_name_s(internet: Internet, ears: Any, tmp_path: Path) -> None:
    server, trusted = certificate("hook.example", tmp_path)
    names: list[Any] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    ear = ears(server)
    internet.played["8.8.8.8"] = ear.port
    internet.answers = {"hook.example": [["8.8.8.8"]], "other.example": [["8.8.8.8"]]}
    assert post("https://hook.example/", verify=trusted).status_code == 204
    assert (names, ear.hosts) == (["hook.example"], ["hook.example"])
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        post("https://other.example/", verify=trusted)
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        post("https://8.8.8.8/", verify=trusted)
    assert ear.hosts == ["hook.example"]


def test_a_proxy_of_the_environment_is_not_asked(
    internet: Internet, ears: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look the name up again, and may stand inside."""
    proxy, ear = ears(), ears()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    internet.answers["hook.example"] = [["8.8.8.8"]]
    internet.played["8.8.8.8"] = ear.port
    assert post("http://hook.example/").status_code == 204
    assert (proxy.connections, ear.connections) == (0, 1)


def test_a_host_that_is_not_known_is_told(internet: Internet) -> None:
    internet.answers["none.example"] = [[]]
    with pytest.raises(InsideError):
        look_up("none.example", 80)
    for host in ("nowhere.invalid", "x" * 64 + ".example", "\ud800"):
        with pytest.raises(BackflipError, match="not known"):
            look_up(host, 80)
