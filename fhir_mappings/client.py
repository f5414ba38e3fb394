"""The guarded FHIR client: fetches the data an EHR did not send as prefetch, in time and from it only.

This is the one module of the package with a clock, threads and a network. Everything that comes
from outside is hostile until shown otherwise: the base URL in the hook request, the address its
name resolves to, each byte of an answer, and the ``next`` links of a Bundle. Whatever happens, a
fetch ends by its deadline with one `Fetched` for each key; no exception leaves this module for a fault
of the network, and neither a reason nor a log line holds a URL, a token or a body.

The guards, in the order in which a request meets them:

=====================  ====================================================================
base URL               one grammar, one canonical form, then an exact match with the allow-list
relative URL           only a read or a type-level search (CDS Hooks 2.0, recommended subset)
circuit breaker        a base that failed five times in 30 s is left alone for 15 s
bulkhead               at most eight calls in flight to one base
peer address           looked up here and checked before the socket is connected
answer                 no redirect, size cap after decompression, deadline for each chunk
page links             only below the same base, a bounded number of pages and resources
=====================  ====================================================================
"""

from __future__ import annotations

import ipaddress
import logging
import queue
import random
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.exceptions import DecodeError as ContentDecodeError

LONGEST_BASE: Final = 2048
"""Characters of a base URL; the usual limit of proxies and logs."""
LONGEST_LINK: Final = 8192
"""Characters of a ``next`` link: servers put whole queries into it."""
IN_FLIGHT: Final = 8
"""Calls to one base at any moment, over all hook requests of this process."""
BASES_REMEMBERED: Final = 256
"""Breakers kept; in demo mode a caller may name any number of loopback bases."""
LEAST_FOR_RETRY_S: Final = 0.3
JITTER_S: Final = (0.01, 0.05)
CHUNK: Final = 64 * 1024
HIGHEST_PORT: Final = 65535


class FetchState(StrEnum):
    """How the fetch of one key ended; the reader of prefetch turns it into a reason."""

    OK = "ok"
    """A resource, or a Bundle merged over its pages. An OperationOutcome that only warns or
    informs is handed on as it came, as if the EHR had put it into the prefetch."""
    NOT_FETCHABLE = "not-fetchable"
    """Nothing was said by a FHIR server: refused by policy, no connection, out of time, breaker open."""
    FAILED = "failed"
    """The server answered, with an error or with something that is not the FHIR JSON asked for."""
    NOT_FOUND = "not-found"
    """A read was answered with 404 or 410."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one key came to. ``body`` is set only for `FetchState.OK`.

    ``partial``: more pages (or resources) exist than ``body`` holds. ``why`` says in a few fixed words
    what went wrong or was cut; it never holds a URL, a token or anything a server sent.
    """

    state: FetchState
    body: dict[str, Any] | None = None
    partial: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Where one client may fetch from and what it may spend. Times in milliseconds.

    ``allowed_bases``: FHIR bases of the issuer; a base below one of them is allowed too.
    ``allow_loopback``: peers on this machine are reachable. ``allow_http`` with ``allow_loopback`` is demo
    mode: any ``http://127.0.0.1:*`` or ``http://localhost:*`` base is allowed as well.
    ``networks``: CIDRs of private networks on which a listed base may live.
    ``ca_file``: the only certificate authorities trusted, else those that come with ``requests``.
    """

    allowed_bases: tuple[str, ...] = ()
    allow_loopback: bool = False
    allow_http: bool = False
    networks: tuple[str, ...] = ()
    deadline_ms: int = 2000
    connect_ms: int = 250
    attempt_ms: int = 800
    max_bytes: int = 5 * 1024 * 1024
    max_pages: int = 5
    max_resources: int = 500
    ca_file: str | None = None


# --- Addresses: the text of a URL and the peer behind it ------------------------------------------

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
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1"})

_RELATIVE = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})"
    r"(?:/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history/(?P<version>[A-Za-z0-9.-]{1,64}))?)?"
    r"(?P<query>\?[^\x00-\x1f\x7f\ud800-\udfff]*)?"
)
_ABSOLUTE = re.compile(r"https?://", re.IGNORECASE)
_TOKEN = re.compile(r"[!-~]{1,16384}")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL without its query in canonical form: the only form in which URLs are compared."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    def holds(self, other: _Place) -> bool:
        """Whether ``other`` has the same origin and lies at or below this path, on a segment border."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port) and (
            other.path == self.path or other.path.startswith(self.path + "/")
        )


def _place(url: str, longest: int) -> tuple[_Place, str] | None:
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
    return _Place(scheme, host, port, found["path"]), found["rest"]


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


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
class _Peers:
    """Which IP addresses may be connected to.

    ``is_global`` of the standard library is not enough: on Python 3.11 it says true for NAT64, 6to4,
    its relay and multicast addresses.
    """

    allow_loopback: bool
    networks: tuple[_Network, ...]

    def permit(self, address: _Address) -> bool:
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


# --- Circuit breaker ------------------------------------------------------------------------------


class Breaker:
    """Leaves a sick server alone: opens after ``failures`` in ``window_s``, probes after ``rest_s``.

    One hook call is one trial, however many keys it fetches: the keys of a call share their fate, and
    one short outage must not silence the next call. `admit` gives a ticket or ``None`` (open); each
    ticket goes back once through `record`. A trial that began before the last change of state has no say.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        failures: int = 5,
        window_s: float = 30.0,
        rest_s: float = 15.0,
    ) -> None:
        self._clock, self._failures, self._window_s, self._rest_s = clock, failures, window_s, rest_s
        self._lock = threading.Lock()
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._opened_at: float | None = None
        self._probing = False
        self._era = 0

    def admit(self) -> int | None:
        """A ticket for one trial, or ``None`` while the server rests or another trial probes it."""
        with self._lock:
            if self._opened_at is None:
                return self._era
            if self._probing or self._clock() - self._opened_at < self._rest_s:
                return None
            self._probing = True
            self._era += 1
            return self._era

    def record(self, ticket: int, healthy: bool | None) -> None:
        """Give a ticket back. ``None``: the trial says nothing about the server's health."""
        with self._lock:
            if ticket != self._era:
                return
            now = self._clock()
            if self._opened_at is not None:
                self._probing = False
                if healthy is not None:
                    self._opened_at = None if healthy else now
                    self._failed_at.clear()
                    self._era += 1
            elif healthy is False:
                self._failed_at.append(now)
                if len(self._failed_at) == self._failures and now - self._failed_at[0] <= self._window_s:
                    self._opened_at = now
                    self._era += 1


@dataclass(frozen=True, slots=True)
class _Gate:
    breaker: Breaker
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(IN_FLIGHT))


# --- One connection -------------------------------------------------------------------------------


class _AddressRefusedError(Exception):
    """Each address of the host is forbidden. Not an `OSError`, so that nobody retries it."""


class _Line:
    """The connection of one errand: dials only permitted peers and can be cut from another thread."""

    def __init__(self, peers: _Peers) -> None:
        self._peers = peers
        self._socket: socket.socket | None = None

    def dial(self, connection: HTTPConnection) -> socket.socket:
        """Look the host up and connect to the first permitted address.

        The checked address is the connected address: no second look-up follows that could answer
        differently (DNS rebinding), and nothing is sent to a forbidden peer, not even a handshake.
        """
        budget = connection.timeout if isinstance(connection.timeout, int | float) else 0.0
        end = time.monotonic() + budget
        try:
            found = socket.getaddrinfo(connection.host.strip("[]"), connection.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NewConnectionError(connection, "the name has no address") from None
        encrypted = isinstance(connection, HTTPSConnection)
        permitted = []
        for family, kind, protocol, _, peer in found:
            address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
            # Plain HTTP is for this machine only, whatever its name resolves to.
            if self._peers.permit(address) and (encrypted or address.is_loopback):
                permitted.append((family, kind, protocol, peer))
        if not permitted:
            raise _AddressRefusedError
        refused = False
        for family, kind, protocol, peer in permitted:
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                return self._connect(socket.socket(family, kind, protocol), peer, left)
            except OSError as fault:
                refused = not isinstance(fault, TimeoutError)
        if refused:
            raise NewConnectionError(connection, "the server refused the connection")
        raise ConnectTimeoutError(connection, "no connection in time")

    def _connect(self, line: socket.socket, peer: Any, seconds: float) -> socket.socket:
        try:
            line.settimeout(seconds)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.connect(peer)
        except OSError:
            line.close()
            raise
        return line

    def carry(self, line: socket.socket | None) -> None:
        self._socket = line

    def limit(self, seconds: float) -> None:
        """Let no single read wait longer than this."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.settimeout(seconds)

    def cut(self) -> None:
        """End the connection now: the thread that waits for it wakes up."""
        if self._socket is not None:
            with suppress(OSError, ValueError):
                # The method of the plain socket: that of an SSLSocket also drops its TLS state,
                # which the other thread may be using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _GuardedHTTP(HTTPConnection):
    def __init__(self, *args: Any, line: _Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.dial(self)

    def connect(self) -> None:
        super().connect()
        self._line.carry(self.sock)


class _GuardedHTTPS(HTTPSConnection):
    def __init__(self, *args: Any, line: _Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.dial(self)

    def connect(self) -> None:
        super().connect()
        self._line.carry(self.sock)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


class _Adapter(HTTPAdapter):
    """Sends every request through one pool, that of the checked base, whatever the URL says."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        super().__init__(max_retries=0)
        self._pool = pool

    def get_connection_with_tls_context(self, *_args: Any, **_options: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *_args: Any, **_options: Any) -> None:
        """Nothing to set: the pool's TLS context already demands and checks a certificate."""

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Session(requests.Session):
    """A session that takes nothing from the environment and knows no redirects."""

    def __init__(self, root: _Place, line: _Line, tls: ssl.SSLContext | None, token: _Secret | None) -> None:
        super().__init__()
        self.trust_env = False
        pool = (
            _HTTPSPool(root.host, root.port, maxsize=1, ssl_context=tls, line=line)
            if root.scheme == "https"
            else _HTTPPool(root.host, root.port, maxsize=1, line=line)
        )
        self.adapters.clear()
        self.mount(f"{root.scheme}://", _Adapter(pool))
        self.headers.clear()
        self.headers.update(
            {"Accept": "application/fhir+json", "Accept-Encoding": "gzip", "User-Agent": "jaki-cds"}
        )
        if token is not None:
            self.headers["Authorization"] = token.header()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: to prepare the next request, ``requests`` would read the whole body, without any cap."""


class _Secret:
    """The access token; its text form is a constant so that no log, trace or message can show it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def header(self) -> str:
        return f"Bearer {self._value}"

    def __repr__(self) -> str:
        return "<access token>"


_thread = threading.local()


class _NotOurs(logging.Filter):
    """Drops what urllib3 logs about our calls: its lines hold the URL, and so the patient's id."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_thread, "fetching", False)


for _name in ("connection", "connectionpool", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_NotOurs())


@contextmanager
def _unlogged() -> Iterator[None]:
    _thread.fetching = True
    try:
        yield
    finally:
        _thread.fetching = False


# --- One key --------------------------------------------------------------------------------------

_MEDIA_TYPES: Final = frozenset({"application/fhir+json", "application/json", "application/json+fhir", ""})
_CODINGS: Final = frozenset({"", "identity", "gzip", "deflate"})
_BUSY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})

OUT_OF_TIME: Final = "the time for fetching ran out"


class _FaultError(Exception):
    """Why an attempt gave no resource. ``retry``: a second one may help. ``sick``: the server is unwell."""

    def __init__(self, state: FetchState, why: str, *, retry: bool = False, sick: bool = False) -> None:
        super().__init__(why)
        self.state, self.why, self.retry, self.sick = state, why, retry, sick


def _unfetchable(why: str, *, retry: bool = False, sick: bool = True) -> _FaultError:
    return _FaultError(FetchState.NOT_FETCHABLE, why, retry=retry, sick=sick)


def _failed(why: str, *, retry: bool = False, sick: bool = False) -> _FaultError:
    return _FaultError(FetchState.FAILED, why, retry=retry, sick=sick)


@dataclass(frozen=True, slots=True)
class _Target:
    """One URL to get. ``expects``: the resource type of the answer; ``id``: that of a read, else None."""

    url: str
    expects: str
    id: str | None = None


class _Errand:
    """The fetch of one key over its pages, on a thread of its own; `settle` may be called at any time."""

    media_types = _MEDIA_TYPES

    def __init__(self, client: FhirClient, root: _Place, token: _Secret | None, target: _Target, end: float):
        self._policy, self._read_json = client.policy, client.read_json
        self._root, self._token, self._target, self._end = root, token, target, end
        self._tls = client.tls
        self._line = _Line(client.peers)
        self._bytes_left = client.policy.max_bytes
        self._outcome: Fetched | None = None
        self._so_far: Fetched | None = None
        self._called = False
        self.healthy: bool | None = None
        """Whether the server seems well: None until it showed either way."""

    def run(self) -> None:
        try:
            with _unlogged(), _Session(self._root, self._line, self._tls, self._token) as session:
                self._outcome = self._fetch(session)
        except _FaultError as fault:
            self._outcome = Fetched(fault.state, why=fault.why)
        except Exception:
            # A fault of ours or of a library must not cost the other keys; its text may hold a URL.
            self._outcome = Fetched(FetchState.FAILED, why="the answer could not be handled")

    def refuse(self, why: str) -> None:
        self._outcome = Fetched(FetchState.NOT_FETCHABLE, why=why)

    def settle(self) -> Fetched:
        """The result as of now; what is still under way is cut off and keeps the pages it has."""
        outcome = self._outcome
        if outcome is not None:
            return outcome
        if self._called and self.healthy is None:
            self.healthy = False
        self._line.cut()
        return self._so_far or Fetched(FetchState.NOT_FETCHABLE, why=OUT_OF_TIME)

    def _fetch(self, session: _Session) -> Fetched:
        url = self._target.url
        first = self._get(session, url)
        self._check_kind(first)
        if first["resourceType"] != "Bundle":
            return Fetched(FetchState.OK, first)
        entries, links, seen, page = _entries(first), _links(first), {url}, first
        for pages in range(1, self._policy.max_pages + 1):
            if len(entries) > self._policy.max_resources:
                return _merged(first, entries[: self._policy.max_resources], links, "too many resources")
            if not (following := [link.get("url") for link in links if link.get("relation") == "next"]):
                return _merged(first, entries, links, None)
            link = self._inside(url, following[0])
            if link is None or link in seen:
                return _merged(first, entries, links, "the link to the next page may not be followed")
            if pages == self._policy.max_pages or len(entries) == self._policy.max_resources:
                return _merged(first, entries, links, "too many pages")
            self._so_far = _merged(first, entries, links, OUT_OF_TIME)
            try:
                page = self._get(session, link)
                if page["resourceType"] != "Bundle":
                    raise _failed("a page is not a Bundle")
                more, links = _entries(page), _links(page)
            except _FaultError as fault:
                return _merged(first, entries, links, fault.why)
            entries, url = entries + more, link
            seen.add(link)
        raise AssertionError("max_pages is at least 1, so the loop returns")

    def _inside(self, current: str, link: object) -> str | None:
        """The address of a ``next`` link where it stays below the base, else ``None``."""
        if not isinstance(link, str) or not link or len(link) > LONGEST_LINK:
            return None
        return _below(self._root, _joined(current, link))

    def _check_kind(self, body: dict[str, Any]) -> None:
        kind, expected = body["resourceType"], self._target
        if kind == "OperationOutcome":
            return
        if kind != expected.expects:
            raise _failed("the answer is of another resource type than was asked for")
        if expected.id is not None and body.get("id", expected.id) != expected.id:
            raise _failed("the answer is another resource than was asked for")

    def _get(self, session: _Session, url: str) -> dict[str, Any]:
        """One page or resource, with at most one second attempt.

        Raises:
            _FaultError: with state, reason and whether the server seems unwell.
        """
        for last in (False, True):
            try:
                body = self._attempt(session, url)
                self.healthy = True
                return body
            except _FaultError as fault:
                if not fault.sick:
                    self.healthy = self.healthy if fault.state is FetchState.NOT_FETCHABLE else True
                elif self.healthy is None:
                    self.healthy = False
                pause = random.uniform(*JITTER_S)  # spreads retries, keeps no secret  # nosec B311
                if last or not fault.retry or self._left() - pause < LEAST_FOR_RETRY_S:
                    raise
                time.sleep(pause)
        raise AssertionError("the second attempt returns or raises")

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _attempt(self, session: _Session, url: str) -> dict[str, Any]:
        limit = min(self._policy.attempt_ms / 1000, self._left())
        if limit <= 0:
            raise _unfetchable(OUT_OF_TIME, sick=False)
        end = time.monotonic() + limit
        connect = min(self._policy.connect_ms / 1000, limit)
        self._called = True
        try:
            response = session.get(url, stream=True, allow_redirects=False, timeout=(connect, limit))
        except _AddressRefusedError:
            raise _unfetchable("the server's network address is not permitted", sick=False) from None
        except requests.exceptions.SSLError:
            raise _unfetchable("no trustworthy TLS connection") from None
        except requests.exceptions.ConnectTimeout:
            raise _unfetchable("the server did not accept the connection in time", retry=True) from None
        except requests.exceptions.Timeout:
            raise _unfetchable("the server did not answer in time") from None
        except requests.exceptions.ConnectionError:
            raise _unfetchable("no connection to the server", retry=True) from None
        with closing(response):
            self._check_status(response.status_code)
            raw = self._body(response, end)
        return self._parse(raw)

    def _check_status(self, status: int) -> None:
        if status == HTTPStatus.OK:
            return
        if status in _GONE and self._target.id is not None:
            raise _FaultError(FetchState.NOT_FOUND, "the resource does not exist")
        unwell = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        raise _failed(f"the server answered with HTTP status {status}", retry=status in _BUSY, sick=unwell)

    def _body(self, response: requests.Response, end: float) -> bytes:
        """The decompressed body. Its size is counted while it grows, never taken from a header."""
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        if media_type not in self.media_types or coding not in _CODINGS:
            raise _failed("the answer is not FHIR JSON")
        body = bytearray()
        try:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    raise _unfetchable("the server did not answer in time")
                self._line.limit(left)
                # read1 returns what has arrived; read would wait for the whole chunk, however slow.
                chunk = response.raw.read1(CHUNK, decode_content=True)
                if not chunk:
                    break
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise _failed("the answer is too large")
                body += chunk
        except ReadTimeoutError:
            raise _unfetchable("the server did not answer in time") from None
        except ContentDecodeError:
            raise _failed("the answer is not FHIR JSON") from None
        except (HTTPError, OSError):
            raise _failed("the answer broke off", sick=True) from None
        return bytes(body)

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = self._read_json(raw)
        except Exception:
            raise _failed("the answer is not FHIR JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
            raise _failed("the answer is not FHIR JSON")
        if _is_error(body):
            raise _failed("the server answered with an OperationOutcome")
        return body


class _DocumentErrand(_Errand):
    """The fetch of one JSON object that is no FHIR resource (a client's key set)."""

    media_types = _MEDIA_TYPES | {"application/jwk-set+json", "text/plain"}

    def _fetch(self, session: _Session) -> Fetched:
        session.headers["Accept"] = "application/jwk-set+json, application/json"
        return Fetched(FetchState.OK, self._get(session, self._target.url))

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = self._read_json(raw)
        except Exception:
            raise _failed("the answer is not JSON") from None
        if not isinstance(body, dict):
            raise _failed("the answer is not a JSON object")
        return body


def _is_error(body: dict[str, Any]) -> bool:
    """Whether an OperationOutcome says error or fatal, or something that cannot be understood."""
    if body["resourceType"] != "OperationOutcome":
        return False
    issues = body.get("issue")
    if not isinstance(issues, list):
        return True
    return any(
        not isinstance(issue, dict) or issue.get("severity") not in ("warning", "information")
        for issue in issues
    )


def _entries(bundle: dict[str, Any]) -> list[Any]:
    """The entries of a Bundle, among them no OperationOutcome of severity error or fatal."""
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise _failed("the answer is not FHIR JSON")
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and "resourceType" in resource and _is_error(resource):
            raise _failed("the server answered with an OperationOutcome")
    return entries


def _links(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """The links of a Bundle; unreadable ones are a fault, for they may hide that more pages exist."""
    links = bundle.get("link", [])
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise _failed("the answer is not FHIR JSON")
    return links


def _merged(
    first: dict[str, Any], entries: list[Any], links: list[dict[str, Any]], cut: str | None
) -> Fetched:
    """The pages as one Bundle. Its links are those of the last page: a ``next`` is one not followed."""
    body = {name: value for name, value in first.items() if name not in ("entry", "link")}
    if links:
        body["link"] = links
    if entries:
        body["entry"] = entries
    return Fetched(FetchState.OK, body, partial=cut is not None, why=cut)


def _encoded(query: str) -> str:
    """A query as given, with what URLs do not allow (``|``, quotes, spaces, non-ASCII) percent-encoded."""
    return quote(_BARE_PERCENT.sub("%25", query), safe="%!$&'()*+,;=:@/?-._~")


def _joined(current: str, link: str) -> str:
    """A link as absolute URL; not usable as one (empty) where it cannot be read."""
    if _ABSOLUTE.match(link):
        return link
    try:
        return urljoin(current, link)
    except ValueError:
        return ""


def _below(root: _Place, url: str) -> str | None:
    """An absolute URL, canonical and encoded, where it lies at or below ``root``; else ``None``."""
    found = _place(url, LONGEST_LINK)
    if found is None or not root.holds(found[0]):
        return None
    return found[0].url + _encoded(found[1])


def _target(root: _Place, query: str) -> _Target | None:
    """What to get for a relative read or search, or for an absolute page link below the base."""
    if _ABSOLUTE.match(query):
        url = _below(root, query)
        return None if url is None else _Target(url, "Bundle")
    found = _RELATIVE.fullmatch(query)
    if found is None or len(query) > LONGEST_LINK or {".", ".."} & {found["id"], found["version"]}:
        return None
    if found["id"] is None and found["query"] is None:
        return None
    url = f"{root.url}/{_encoded(query)}"
    return _Target(url, found["type"] if found["id"] else "Bundle", found["id"])


# --- The client -----------------------------------------------------------------------------------


class FhirClient:
    """Fetches FHIR resources for one issuer (or for demo mode) within its policy; safe for threads.

    ``read_json`` is the service's hardened JSON reader: bytes to Python values, any exception where the
    bytes are not acceptable JSON. Breakers and counts of calls live in this object, so there is one
    client per policy and process, not one per request.

    Raises:
        ValueError: a base, network or CA file of the policy cannot be used; says which and what to write.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        read_json: Callable[[bytes], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy, self.read_json = policy, read_json
        self._clock = clock
        self.peers = _Peers(policy.allow_loopback, tuple(_network(cidr) for cidr in policy.networks))
        for name in ("deadline_ms", "connect_ms", "attempt_ms", "max_bytes", "max_pages", "max_resources"):
            if getattr(policy, name) < 1:
                raise ValueError(f"{name}: {getattr(policy, name)} is too small; write a whole number from 1")
        self._bases = tuple(self._listed(base) for base in policy.allowed_bases)
        # Without a listed base only plain HTTP to this machine is possible.
        self.tls = _tls(policy.ca_file) if self._bases else None
        self._gates: OrderedDict[_Place, _Gate] = OrderedDict()
        self._gates_lock = threading.Lock()

    def permits(self, base: str) -> bool:
        """Whether this FHIR base may be called at all; nothing is looked up or sent."""
        return self._admitted(base) is not None

    def fetch_all(
        self, base: str, token: str | None, queries: Mapping[str, str], *, deadline_ms: int | None = None
    ) -> dict[str, Fetched]:
        """Fetch every key in parallel and return by the deadline, whatever the server does.

        ``queries``: for each key a read (``Patient/1``), a type-level search (``Observation?...``) or, to
        read on in a Bundle that came with the prefetch, the absolute ``next`` link. ``deadline_ms`` lowers
        the policy's deadline for this call (what remains of the hook request's budget).
        The result has exactly the keys of ``queries``.
        """
        allowed = self.policy.deadline_ms
        budget_ms = allowed if deadline_ms is None else min(deadline_ms, allowed)
        end = time.monotonic() + budget_ms / 1000
        root = self._admitted(base)
        if root is None:
            return _refused(queries, "the FHIR base is not permitted")
        if token is not None and not _TOKEN.fullmatch(token):
            return _refused(queries, "the access token has an impossible form")
        if budget_ms <= 0:
            return _refused(queries, OUT_OF_TIME)
        secret = None if token is None else _Secret(token)
        targets = {key: _target(root, query) for key, query in queries.items()}
        errands = {
            key: _Errand(self, root, secret, target, end)
            for key, target in targets.items()
            if target is not None
        }
        settled = self._run(self._gate(root), list(errands.values()), end) if errands else []
        results = dict(zip(errands, settled, strict=True))
        outside = Fetched(
            FetchState.NOT_FETCHABLE, why="the query is not a read, a search or a page below the base"
        )
        return {key: results.get(key, outside) for key in queries}

    def follow(
        self, base: str, token: str | None, next_url: str, *, deadline_ms: int | None = None
    ) -> Fetched:
        """The remaining pages of a Bundle from the EHR, merged, starting at its ``next`` link.

        Anything but a complete OK means that the list stays incomplete (a partial page).
        """
        root = self._admitted(base)
        link = next_url if root is None else _joined(f"{root.url}/", next_url)
        if not next_url or not _ABSOLUTE.match(link):
            return Fetched(FetchState.NOT_FETCHABLE, why="the link to the next page cannot be read")
        return self.fetch_all(base, token, {"next": link}, deadline_ms=deadline_ms)["next"]

    def document(self) -> Fetched:
        """The JSON object at the policy's first base itself, with all guards of a FHIR call and no token.

        For what a site configures by its address, such as a client's key set.
        """
        end = time.monotonic() + self.policy.deadline_ms / 1000
        root = self._bases[0]
        errand = _DocumentErrand(self, root, None, _Target(root.url, ""), end)
        return self._run(self._gate(root), [errand], end)[0]

    def _run(self, gate: _Gate, errands: Sequence[_Errand], end: float) -> list[Fetched]:
        ticket = gate.breaker.admit()
        if ticket is None:
            resting = Fetched(FetchState.NOT_FETCHABLE, why="the server failed repeatedly and is left alone")
            return [resting] * len(errands)
        todo: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        for errand in errands:
            todo.put(errand)

        def work() -> None:
            with suppress(queue.Empty):
                while True:
                    errand = todo.get_nowait()
                    if gate.slots.acquire(timeout=max(0.0, end - time.monotonic())):
                        try:
                            errand.run()
                        finally:
                            gate.slots.release()
                    else:
                        errand.refuse("too many calls to this server are under way")
                    done.put(None)

        # Daemon threads and not a ThreadPoolExecutor: the executor joins its threads when the
        # interpreter exits, so a name look-up that hangs would hold up the shutdown.
        for _ in range(min(IN_FLIGHT, len(errands))):
            threading.Thread(target=work, name="fhir-fetch", daemon=True).start()
        with suppress(queue.Empty):
            for _ in errands:
                done.get(timeout=max(0.0, end - time.monotonic()))
        settled = [errand.settle() for errand in errands]
        signs = [errand.healthy for errand in errands]
        # One answer shows that the server lives; only when it gave none at all is it called sick.
        gate.breaker.record(ticket, True if True in signs else False if False in signs else None)
        return settled

    def _gate(self, root: _Place) -> _Gate:
        with self._gates_lock:
            gate = self._gates.pop(root, None) or _Gate(Breaker(self._clock))
            self._gates[root] = gate
            if len(self._gates) > BASES_REMEMBERED:
                self._gates.popitem(last=False)
            return gate

    def _admitted(self, base: str) -> _Place | None:
        place = self._usable(base)
        if place is None:
            return None
        # Plain HTTP has passed `_usable` only in demo mode and for this machine.
        listed = place.scheme == "http" or any(allowed.holds(place) for allowed in self._bases)
        return place if listed else None

    def _usable(self, base: str) -> _Place | None:
        """The canonical base, where its form, its scheme and an address written out in it are acceptable."""
        found = _place(base, LONGEST_BASE)
        if found is None or found[1] not in ("", "/"):
            return None
        place = found[0]
        demo = self.policy.allow_http and self.policy.allow_loopback and place.host in _LOOPBACK_HOSTS
        if place.scheme != "https" and not demo:
            return None
        try:
            address = ipaddress.ip_address(place.host.strip("[]"))
        except ValueError:
            return place
        return place if self.peers.permit(address) else None

    def _listed(self, base: str) -> _Place:
        place = self._usable(base)
        if place is None:
            raise ValueError(
                f"allowed_bases: {base!r} cannot be a FHIR base; write https://host[:port]/path in plain "
                "ASCII, without user, query or fragment; list the network of a private address in networks"
            )
        return place


def _refused(queries: Mapping[str, str], why: str) -> dict[str, Fetched]:
    return {key: Fetched(FetchState.NOT_FETCHABLE, why=why) for key in queries}


def _network(cidr: str) -> _Network:
    try:
        return ipaddress.ip_network(cidr)
    except ValueError as fault:
        raise ValueError(f"networks: {cidr!r} is not a network; write a CIDR such as 10.20.0.0/16") from fault


def _tls(ca_file: str | None) -> ssl.SSLContext:
    """A client context that demands a valid certificate for the host. No environment variable counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_file or DEFAULT_CA_BUNDLE_PATH)
    except OSError as fault:
        raise ValueError(
            f"ca_file: {ca_file!r} cannot be loaded; name a readable file of PEM certificates"
        ) from fault
    return context
