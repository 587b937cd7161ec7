"""The open Internet and nothing else: where a program may be sent by who is not its operator.

A name is looked up once, all that it leads to is checked, and the connection goes to what was
checked: a name that leads elsewhere the next time it is asked (DNS rebinding) gains nothing. What
is not global unicast is refused, and so is what carries an IPv4 address within it, whichever:
where a translator or a tunnel takes it is its own affair. An operator may name hosts, and then
nothing else is reached, and networks, which are then reached beside the open Internet.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any, Self

import httpx

from backflip.errors import BackflipError

MAX_TRIED = 3
"""Addresses of one name that are tried."""

# The registries of special-purpose addresses (RFC 6890), those that are called globally reachable
# there but lead to no single host, and what is reserved.
_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by a provider's customers
            "127.0.0.0/8",
            "169.254.0.0/16",  # link-local; the metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved; broadcast
        ),
    )
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out as global unicast. Outside lie loopback, IPv4-mapped and -compatible
addresses, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local, link-local, site-local, multicast."""
_NOT_PUBLIC_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)


_NAME = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class InsideError(BackflipError):
    """An address inside the server's own network, or none of the open Internet."""


@dataclass(frozen=True)
class Allowed:
    """The only hosts that may be reached.

    Attributes:
        names: of hosts, in lower case; `*.example.org` is every name that ends so.
        networks: whose addresses may be reached, by number or by a name that leads there.
    """

    names: tuple[str, ...]
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read names, addresses and networks, like `judge.example.org, 10.1.0.0/16, ::1`.

        Raises:
            ValueError: a word that is none of these; in words.
        """
        names: list[str] = []
        networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for word in filter(None, map(str.strip, text.lower().split(","))):
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError:
                if not _NAME.fullmatch(word):
                    raise ValueError(f"{word!r} is neither a host nor a network") from None
                names.append(word)
        return cls(tuple(names), tuple(networks))

    def lists(self, host: str) -> bool:
        """Whether a host, a name or an address, may be asked for."""
        try:
            return self.holds(host)
        except ValueError:
            name = host.lower().removesuffix(".")
            return any(
                name == each or (each.startswith("*.") and name.endswith(each[1:]))
                for each in self.names
            )

    def holds(self, address: str) -> bool:
        """Whether an IP address is in one of the networks."""
        found = ipaddress.ip_address(address.partition("%")[0])
        return any(found in network for network in self.networks)


def is_public(address: str) -> bool:
    """Whether an IP address, as `getaddrinfo` writes it, is a host's on the open Internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _NOT_PUBLIC_4)
    return found in _GLOBAL_6 and not any(found in network for network in _NOT_PUBLIC_6)


def look_up(host: str, port: int, allowed: Allowed | None = None) -> list[str]:
    """The IP addresses of a host, all of them public or of the networks that are allowed.

    Raises:
        InsideError: one of them is not, or the host is not among those allowed.
        BackflipError: the host is not known.
    """
    if allowed is not None and not allowed.lists(host):
        raise InsideError(f"{host} is not among the hosts that are allowed")
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise BackflipError(f"the host {host!r} is not known") from None
    found = list(dict.fromkeys(str(where[0]) for *_, where in answers))
    if not found or not all(
        is_public(each) or (allowed is not None and allowed.holds(each)) for each in found
    ):
        raise InsideError(
            f"{host} is inside the server's own network, or not on the open Internet",
            hint="An administrator allows it with the setting webhooks_inside = true."
            if allowed is None
            else "Whoever runs this program may name its network beside the host.",
        )
    return found


class PublicTransport(httpx.HTTPTransport):
    """Sends requests, and follows redirects, to the open Internet only; never by a proxy.

    Args:
        verify: as httpx has it, for certificates. They must be for the host's name, as ever.
        allowed: the only hosts to be reached; None for all.

    A request raises `InsideError` or `BackflipError` as `look_up` does.
    """

    def __init__(self, verify: Any = True, *, allowed: Allowed | None = None):
        self._allowed = allowed
        # A connection that is kept is known by its address, and would serve another name's request.
        limits = httpx.Limits(max_keepalive_connections=0)
        super().__init__(verify=verify, trust_env=False, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if url.scheme == "https" else 80)
        fault: httpx.TransportError = httpx.ConnectError("no address", request=request)
        # The header Host was written from the name before, and stays.
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in look_up(host, port, self._allowed)[:MAX_TRIED]:
            request.url = url.copy_with(host=address)
            try:
                return super().handle_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                fault = error
            finally:
                request.url = url
        raise fault
