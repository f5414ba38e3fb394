"""Addresses: the text of a URL, the resource it asks for, and the peer behind it.

Everything that names an address is hostile until shown otherwise: there is one grammar, one canonical form, and
addresses are compared in no other.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin

LONGEST_BASE: Final = 2048
"""Characters of a base URL; the usual limit of proxies and logs."""
LONGEST_LINK: Final = 8192
"""Characters of a ``next`` link: servers put whole queries into it."""
HIGHEST_PORT: Final = 65535

_SEGMENT = (
    r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]"
    # A coded dot, slash, backslash, percent or control character means one thing to a proxy and
    # another to the server behind it, so none is accepted.
    r"|%(?!2[EeFf5]|5[Cc]|[01]|7[Ff])[0-9A-Fa-f]{2})+"
)
_URL = re.compile(
    r"(?P<scheme>(?i:https?))://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})"
    rf"(?::(?P<port>[1-9][0-9]{{0,4}}))?(?P<path>(?:/{_SEGMENT})*)(?P<rest>/?(?:\?[ -\"$-~]*)?)"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORT: Final = {"http": 80, "https": 443}

_RELATIVE = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})"
    r"(?:/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?)?"
    r"(?P<query>\?[^\x00-\x1f\x7f\ud800-\udfff]*)?"
)
ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Place:
    """A URL without its query in canonical form: the only form in which URLs are compared."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    def holds(self, other: Place) -> bool:
        """Whether ``other`` has the same origin and lies at or below this path, on a segment border."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port) and (
            other.path == self.path or other.path.startswith(self.path + "/")
        )


def read_place(url: str, longest: int) -> tuple[Place, str] | None:
    """Read a URL as canonical place and the rest (query), or ``None`` where it is not plainly one.

    There is one grammar and no second parser: user info, fragments, backslashes, spaces in the path,
    non-ASCII and control characters have no place in it, so no two readers can disagree on the host.
    """
    found = _URL.fullmatch(url) if len(url) <= longest else None
    host = _host(found["host"]) if found else None
    if found is None or host is None:
        return None
    scheme = found["scheme"].lower()
    port = int(found["port"]) if found["port"] else _DEFAULT_PORT[scheme]
    if port > HIGHEST_PORT or {".", ".."} & set(found["path"].split("/")):
        return None
    return Place(scheme, host, port, found["path"]), found["rest"]


def _host(text: str) -> str | None:
    """A host name in lower case, or an IP address in its one usual spelling; ``None`` for the others.

    A name whose last label is a number (``2130706433``, ``0x7f.1``, ``127.1``) is an IPv4 address to
    some resolvers, so it must be a dotted quad without leading zeros.
    """
    host = text.lower()
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        labels = host.split(".")
        if not all(_LABEL.fullmatch(label) for label in labels):
            return None
        return str(ipaddress.IPv4Address(host)) if _NUMBER.fullmatch(labels[-1]) else host
    except ValueError:
        return None


# --- what is asked for ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """One URL to get. ``expects``: the resource type of the answer; ``id``: that of a read, else None."""

    url: str
    expects: str
    id: str | None = None


def read_target(root: Place, query: str) -> Target | None:
    """What to get for a relative read or search, or for an absolute page link below the base."""
    if ABSOLUTE.match(query):
        url = below(root, query)
        return None if url is None else Target(url, "Bundle")
    found = _RELATIVE.fullmatch(query)
    if found is None or len(query) > LONGEST_LINK or {".", ".."} & {found["id"], found["version"]}:
        return None
    if found["id"] is None and found["query"] is None:
        return None
    url = f"{root.url}/{_encoded(query)}"
    return Target(url, found["type"] if found["id"] else "Bundle", found["id"])


def below(root: Place, url: str) -> str | None:
    """An absolute URL, canonical and encoded, where it lies at or below ``root``; else ``None``."""
    found = read_place(url, LONGEST_LINK)
    if found is None or not root.holds(found[0]):
        return None
    return found[0].url + _encoded(found[1])


def joined_url(current: str, link: str) -> str:
    """A link as absolute URL; not usable as one (empty) where it cannot be read."""
    if ABSOLUTE.match(link):
        return link
    try:
        return urljoin(current, link)
    except ValueError:
        return ""


def _encoded(query: str) -> str:
    """A query as given, with what URLs do not allow (``|``, quotes, spaces, non-ASCII) percent-encoded."""
    return quote(_BARE_PERCENT.sub("%25", query), safe="%!$&'()*+,;=:@/?-._~")


# --- peers ----------------------------------------------------------------------------------------

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER: Final = tuple(
    ipaddress.ip_network(cidr)
    for cidr in (
        *("0.0.0.0/8", "192.0.0.0/24", "240.0.0.0/4"),  # this network, protocol assignments, reserved
        *("192.88.99.0/24", "2002::/16", "2001::/32", "64:ff9b:1::/48"),  # 6to4, Teredo, local NAT64
        *("100::/64", "2001:10::/28", "2001:20::/28"),  # discard, ORCHID
        # Metadata services that are not link-local: Alibaba, Azure, Amazon, Google.
        *("100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128"),
    )
)


@dataclass(frozen=True, slots=True)
class Peers:
    """Which IP addresses may be connected to.

    ``is_global`` of the standard library is not enough: on Python 3.11 it says true for NAT64, 6to4,
    its relay and multicast addresses.
    """

    allow_loopback: bool
    networks: tuple[Network, ...]

    def permit(self, address: Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                return self.permit(address.ipv4_mapped)
            if address in _NAT64:
                return self.permit(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
            if int(address) >> 32 == 0 and not address.is_loopback:
                return False
        if address.is_link_local or address.is_unspecified or address.is_multicast:
            return False
        if any(address in network for network in _NEVER):
            return False
        if address.is_loopback:
            return self.allow_loopback
        return address.is_global or any(address in network for network in self.networks)


def read_network(cidr: str) -> Network:
    try:
        return ipaddress.ip_network(cidr)
    except ValueError as fault:
        raise ValueError(f"networks: {cidr!r} is not a network; write a CIDR such as 10.20.0.0/16") from fault
