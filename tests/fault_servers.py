"""Small servers on 127.0.0.1 that answer well or badly, for the tests of the FHIR client.

A `Server` reads the head of each request and hands the connection to a behaviour: a function of the
connection, the request head and the server. Behaviours that wait do so on ``server.stopped``, so that
no thread outlives its test.
"""

from __future__ import annotations

import gc
import gzip
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

FHIR_JSON = "application/fhir+json"


class Server:
    """Listens on a free port; ``heads`` are the request heads, ``received`` all bytes that came in."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour, self.tls = behaviour, tls
        self.stopped = threading.Event()
        self.heads: list[str] = []
        self.connections = 0
        self.received = 0
        self._threads: list[threading.Thread] = []
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.port: int = self._listener.getsockname()[1]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    def __enter__(self) -> Server:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(2)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections += 1
                self._lines.append(line)
                self._start(self._serve, line)

    def _serve(self, line: socket.socket) -> None:
        with suppress(OSError):
            if self.tls is not None:
                line = self.tls.wrap_socket(line, server_side=True)
            with line:
                while head := self._head(line):
                    self.heads.append(head)
                    self.behaviour(line, head, self)
        line.close()

    def _head(self, line: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (chunk := line.recv(65536)):
                return ""
            self.received += len(chunk)
            data += chunk
        return data.decode("latin-1")


Behaviour = Callable[[socket.socket, str, Server], None]


def message(status: int, body: bytes, **headers: str) -> bytes:
    """A whole HTTP answer; ``Content_Type`` and the like become header names."""
    lines = {"Content-Type": FHIR_JSON, "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body


def answer(status: int, body: object = "", **headers: str) -> Behaviour:
    """Always the same answer; a ``dict`` is sent as JSON."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else str(body).encode()
    return lambda line, _head, _server: line.sendall(message(status, raw, **headers))


def resources(by_path: dict[str, Any], delay_s: float = 0.0) -> Behaviour:
    """A FHIR server: the JSON under the request's path and query, else 404."""

    def behave(line: socket.socket, head: str, server: Server) -> None:
        server.stopped.wait(delay_s)
        path = head.split(" ")[1]
        body = by_path.get(path)
        line.sendall(message(404, b"") if body is None else message(200, json.dumps(body).encode()))

    return behave


def hang(_line: socket.socket, _head: str, server: Server) -> None:
    server.stopped.wait()


def drip_body(line: socket.socket, _head: str, server: Server) -> None:
    """A byte each 20 ms, without end."""
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 9999\r\n\r\n")
    while not server.stopped.wait(0.02):
        line.sendall(b" ")


def drip_head(line: socket.socket, _head: str, server: Server) -> None:
    """A header line that never ends: no read of it ever times out."""
    line.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not server.stopped.wait(0.02):
        line.sendall(b"a")


def drip_gzip(line: socket.socket, _head: str, server: Server) -> None:
    """Compressed bytes that never come to anything."""
    line.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 9999\r\n\r\n"
    )
    stream = gzip.compress(b"", mtime=0)[:10]
    for byte in stream + bytes(9000):
        if server.stopped.wait(0.02):
            return
        line.sendall(bytes([byte]))


def reset(line: socket.socket, _head: str, _server: Server) -> None:
    """A TCP reset instead of an answer."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def reset_midway(line: socket.socket, head: str, server: Server) -> None:
    line.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 99\r\n\r\n{"a"')
    server.stopped.wait(0.05)
    reset(line, head, server)


def truncate(line: socket.socket, _head: str, _server: Server) -> None:
    """Valid JSON, but shorter than announced."""
    line.sendall(
        message(200, b'{"resourceType": "Bundle", "type": "searchset"}').replace(
            b"Length: 47", b"Length: 947"
        )
    )
    line.shutdown(socket.SHUT_RDWR)


def truncate_chunked(line: socket.socket, _head: str, _server: Server) -> None:
    line.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'1a\r\n{"resourceType": "Bundle"}\r\n'
    )
    line.shutdown(socket.SHUT_RDWR)


def gzip_bomb(megabytes: int) -> Behaviour:
    """Blanks, a thousandfold smaller when compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blank = b" " * 2**20
    raw = b"".join([packer.compress(blank) for _ in range(megabytes)] + [packer.flush()])
    return lambda line, _head, _server: line.sendall(message(200, raw, Content_Encoding="gzip"))


def endless(line: socket.socket, _head: str, server: Server) -> None:
    """A body without a length and without an end, as fast as it is read."""
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nConnection: close\r\n\r\n")
    while not server.stopped.is_set():
        line.sendall(b" " * 65536)


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path] | None:
    """A server context for ``localhost`` with its certificate file; ``None`` without the openssl command."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *options.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def holders(word: str, *, but: FrameType) -> list[str]:
    """The types of all objects that still hold text or bytes with ``word`` in it, but for one frame and its locals."""
    gc.collect()
    inside, own = word.encode(), {id(but.f_locals), *map(id, but.f_locals.values())}
    found = []
    for thing in gc.get_objects():
        if thing is but or id(thing) in own or isinstance(thing, FrameType):
            continue
        for held in gc.get_referents(thing):
            if (type(held) is str and word in held) or (type(held) in (bytes, bytearray) and inside in held):
                found.append(type(thing).__name__)
    return found
