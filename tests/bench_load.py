"""The client of the benchmark: posts one body over a few connections and keeps how long each answer took."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench_servers import Running

TIMEOUT = 60.0
WARMING = 4
_PIECE = 256 * 1024


class WrongAnswer(Exception):
    """An answer that is not what the benchmark measures."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one span of calls came to. Times in seconds; ``cpu`` is what the server's processes used."""

    calls: int
    seconds: float
    cpu: float
    times: list[float]

    @property
    def cpu_ms(self) -> float:
        return self.cpu / self.calls * 1000

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


def head_of(path: str, length: int, token: str | None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    if token:
        lines.append(f"Authorization: {token}")
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


class Connection:
    """A kept-alive connection; opened again where the server closed it between two calls."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def post(self, head: bytes, body: bytes) -> bytes:
        """The body of a 200 answer."""
        for attempt in (1, 2):
            fresh = self._socket is None
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket.sendall(head + body if len(body) < _PIECE else head)
                if len(body) >= _PIECE:
                    self._socket.sendall(body)
                return self._read(self._socket)
            except (ConnectionError, EOFError):
                self.close()
                if fresh or attempt == 2:
                    raise
        raise AssertionError

    def _read(self, connection: socket.socket) -> bytes:
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = connection.recv(_PIECE)
            if not piece:
                raise EOFError
            raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(_PIECE)
        if b"connection: close" in lines:
            self.close()
        if not lines[0].startswith(b"http/1.1 200"):
            raise WrongAnswer(f"{lines[0].decode()}: {body[:300].decode(errors='replace')}")
        return body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def post_once(server: Running, path: str, body: bytes) -> bytes:
    """One answer on a connection of its own."""
    connection = Connection(server.port)
    try:
        return connection.post(head_of(path, len(body), token_for(server, path)), body)
    finally:
        connection.close()


def token_for(server: Running, path: str) -> str | None:
    return server.sign(path) if server.sign else None


def measure(
    server: Running,
    path: str,
    bodies: Sequence[bytes],
    seconds: float,
    connections: int = 2,
    at_least: int = 8,
) -> Load:
    """Posts the bodies in turn for some seconds, and in any case ``at_least`` calls.

    Where calls need tokens these are signed before the clock starts; the span ends when they are used up.
    """
    one = Connection(server.port)
    start = time.perf_counter()
    for number in range(WARMING):
        body = bodies[number % len(bodies)]
        one.post(head_of(path, len(body), token_for(server, path)), body)
    each = (time.perf_counter() - start) / WARMING
    one.close()
    calls: Iterator[tuple[bytes, bytes]]
    if server.sign:
        wanted = max(at_least, int(seconds / each * 1.6 * connections))
        turns = itertools.islice(itertools.cycle(bodies), wanted)
        calls = iter([(head_of(path, len(body), token_for(server, path)), body) for body in turns])
    else:
        calls = itertools.cycle([(head_of(path, len(body), None), body) for body in bodies])

    taken: list[list[float]] = [[] for _ in range(connections)]
    faults: list[BaseException] = []
    gate = threading.Barrier(connections + 1)
    turn = threading.Lock()
    end = 0.0

    def post_on(times: list[float]) -> None:
        connection = Connection(server.port)
        try:
            gate.wait()
            while time.perf_counter() < end or len(times) * connections < at_least:
                with turn:
                    head, body = next(calls, (b"", b""))
                if not head:
                    return
                begun = time.perf_counter()
                connection.post(head, body)
                times.append(time.perf_counter() - begun)
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=post_on, args=(times,)) for times in taken]
    for thread in threads:
        thread.start()
    before = server.cpu()
    begun = time.perf_counter()
    end = begun + seconds
    gate.wait()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    if faults:
        raise faults[0]
    times = [one_time for each_thread in taken for one_time in each_thread]
    return Load(len(times), took, server.cpu() - before, times)
