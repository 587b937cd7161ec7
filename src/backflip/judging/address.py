"""The way to a judge: its address, its key and the proxies between, checked before any is used.

Whatever of these can carry no request is told as a fault of the settings. Neither a key nor the
password of an address or of a proxy is ever told.

A recipe says where its judge is, and may be somebody else's. Whoever runs it can have it reach the
hosts that `BACKFLIP_JUDGE_HOSTS` names and no others (see `backflip.network`).
"""

import ipaddress
import os
import re
from urllib.request import getproxies, proxy_bypass

import httpx

from backflip.config import JudgeSettings
from backflip.errors import SettingsError, without_passwords
from backflip.network import Allowed, PublicTransport

PATH = "/chat/completions"
HOSTS = "BACKFLIP_JUDGE_HOSTS"
"""Environment variable: the only hosts where a judge may be, as `Allowed.parse` reads them."""
_LOCAL = ("127.0.0.1", "::1", "localhost")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_MAX_HOST = 253  # RFC 1035, section 2.3.4, without the length and the root
_FROM_ENVIRONMENT = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def address_of(url: str) -> httpx.URL:
    """The address that requests go to, of a judge's address up to /v1.

    Raises:
        SettingsError: no request can go there.
    """
    told = repr(without_passwords(url))
    hint = "Give the address up to /v1, like http://127.0.0.1:8000/v1."
    bare = url.rstrip("/")
    try:
        fault = _fault_of(bare)
    except (httpx.InvalidURL, ValueError):  # ValueError: also of what cannot be encoded
        fault = "is not an http address"
    if fault is None and bare.endswith(PATH):
        fault, hint = f"ends with {PATH}", f"Leave {PATH} out: it is added to the address."
    if fault is not None:
        raise SettingsError(f"{told} {fault}", where="judge.url", hint=hint)
    return httpx.URL(bare + PATH)


def connect(settings: JudgeSettings) -> httpx.Client:
    """A client with the key and the proxies of the environment; to be closed after use.

    Where hosts are listed, it goes to these alone, and by no proxy.

    Raises:
        SettingsError: the address, the key or a proxy is of no use, or the host is not listed.
    """
    address = address_of(settings.url)
    allowed = _allowed(address)
    # A proxy from the environment cannot reach this machine's own addresses.
    trusted = address.host not in _LOCAL and allowed is None
    headers = _headers(settings.api_key_variable)
    try:
        if trusted:
            _check_proxies(address)
        return httpx.Client(
            headers=headers,
            timeout=settings.timeout,
            trust_env=trusted,
            transport=None if allowed is None else PublicTransport(allowed=allowed),
            limits=httpx.Limits(max_connections=settings.parallel),
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        names = [n for n in _FROM_ENVIRONMENT if os.environ.get(n) or os.environ.get(n.lower())]
        missing = isinstance(error, ImportError)
        raise SettingsError(
            f"the way to the judge that the environment names in {', '.join(names) or 'nothing'} "
            "cannot be used",
            where="judge.url",
            hint="A socks proxy needs the package httpx[socks]: install it, or unset the variable."
            if missing
            else "Correct these environment variables, or unset them.",
        ) from None


def _allowed(address: httpx.URL) -> Allowed | None:
    """The hosts that are listed, the address's among them; None where there is no list."""
    listed = os.environ.get(HOSTS)
    if listed is None:
        return None
    try:
        allowed = Allowed.parse(listed)
    except ValueError as error:
        raise SettingsError(str(error), where=f"the environment variable {HOSTS}") from None
    host = address.raw_host.decode("ascii")
    if not allowed.lists(host):
        raise SettingsError(
            f"{host} is not among the hosts that the environment variable {HOSTS} lists",
            where="judge.url",
            hint="Name a judge that is, or have whoever runs this program list its host.",
        )
    return allowed


def _fault_of(url: str) -> str | None:
    """What makes an address unusable, in words.

    Raises:
        ValueError, httpx.InvalidURL: it cannot even be read.
    """
    if re.search(r"\s", url):
        return "has blanks in it"
    address = httpx.URL(url + PATH)
    if address.scheme not in ("http", "https") or not address.host:
        return "is not an http address"
    if re.search(r"[?#]", url):
        return "goes on with ? or # where the path ends"
    return fault_of_host(address)


def fault_of_host(address: httpx.URL) -> str | None:
    """What is wrong with the host or the port of an address, in words; None for nothing."""
    if address.port is not None and not 0 < address.port < 65536:
        return "has a port that is not from 1 to 65535"
    host = address.raw_host.decode("ascii")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) > _MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
            return "has a host that cannot be one"
    return None


def _check_proxies(address: httpx.URL) -> None:
    """Raises ValueError or httpx.InvalidURL where the proxy to an address can be none."""
    if proxy_bypass(address.host):
        return
    for scheme, proxy in getproxies().items():
        if scheme in (address.scheme, "all") and proxy:
            place = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
            if not place.host or fault_of_host(place):
                raise ValueError("no proxy can be there")


def _headers(variable: str) -> dict[str, str]:
    """What carries the key that an environment variable holds; nothing where it holds none."""
    key = os.environ.get(variable)
    if not key:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise SettingsError(
            f"the key in the environment variable {variable} has blanks, line ends or other "
            "characters that cannot be sent",
            where="judge.api_key_variable",
            hint=f"Set {variable} to the key alone, without a line end.",
        )
    return {"Authorization": f"Bearer {key}"}
