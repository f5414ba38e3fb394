"""One connection to one permitted peer, and a session that takes nothing from the environment.

Guards that only hold on the wire live here: the address that is checked is the one that is connected, no redirect is
known, no line of urllib3 about our calls is logged, and the access token has no text form.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from fhir_mappings.client.addresses import Peers, Place


class AddressRefusedError(Exception):
    """Each address of the host is forbidden. Not an `OSError`, so that nobody retries it."""


class Line:
    """The connection of one errand: dials only permitted peers and can be cut from another thread."""

    def __init__(self, peers: Peers) -> None:
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
            raise AddressRefusedError
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
    def __init__(self, *args: Any, line: Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self._line = line

    def _new_conn(self) -> socket.socket:
        return self._line.dial(self)

    def connect(self) -> None:
        super().connect()
        self._line.carry(self.sock)


class _GuardedHTTPS(HTTPSConnection):
    def __init__(self, *args: Any, line: Line, **options: Any) -> None:
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


class Secret:
    """The access token; its text form is a constant so that no log, trace or message can show it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def header(self) -> str:
        return f"Bearer {self._value}"

    def __repr__(self) -> str:
        return "<access token>"


class Session(requests.Session):
    """A session that takes nothing from the environment and knows no redirects."""

    def __init__(self, root: Place, line: Line, tls: ssl.SSLContext | None, token: Secret | None) -> None:
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


def tls_context(ca_file: str | None) -> ssl.SSLContext:
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


_thread = threading.local()


class _NotOurs(logging.Filter):
    """Drops what urllib3 logs about our calls: its lines hold the URL, and so the patient's id."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_thread, "fetching", False)


for _name in ("connection", "connectionpool", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_NotOurs())


@contextmanager
def unlogged() -> Iterator[None]:
    _thread.fetching = True
    try:
        yield
    finally:
        _thread.fetching = False
