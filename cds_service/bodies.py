"""Reading a request's body: media type, length and limit first, then the bytes, then strict JSON.

A server may cut a chunked body at a limit and hand on the rest as if it were whole, so only bodies of
a declared length are read, and all of that length or nothing.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from flask import Request, Response

from cds_service.errors import BadRequest, LengthRequired, TooLarge, WrongMediaType
from cds_service.json_reader import UnreadableBody, read_json

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

STALL_SECONDS = 4.0
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 64 * 1024 * 1024
# How far the body got, kept in the request's environment; nothing there: not touched yet.
RAW = "jaki_cds.raw"
"""Where in the request's environment the bytes of a JSON body are, for the record of the call."""
_STATE, _READ, _LOST = "jaki_cds.body", "read", "lost"
_PIECE = 64 * 1024
_JSON = re.compile(r"application/(?:json|[a-z0-9.!#$&^_-]+\+json)")


def read_body(request: Request, max_bytes: int) -> object:
    """The JSON value in the body of ``request``.

    Raises:
        WrongMediaType, LengthRequired, TooLarge, BadRequest: before or after reading, as they apply.
    """
    environ = request.environ
    if environ.get("CONTENT_TYPE") != "application/json" and not _JSON.fullmatch(request.mimetype):
        raise WrongMediaType()
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise WrongMediaType("The body is compressed; send it without Content-Encoding.")
    length = request.content_length
    if "HTTP_TRANSFER_ENCODING" in environ or length is None:
        raise LengthRequired()
    if length > max_bytes:
        raise TooLarge(f"The body is larger than {max_bytes} bytes; send fewer resources.")
    try:
        raw = environ[RAW] = _read(request, length)
        return read_json(raw)
    except UnreadableBody as error:
        raise BadRequest(error.reason) from None


def read_form(request: Request, max_bytes: int) -> list[tuple[str, str]]:
    """The fields of a form-encoded body in their order (a FHIR search by POST); no body means none.

    Raises:
        WrongMediaType, LengthRequired, TooLarge, BadRequest: before or after reading, as they apply.
    """
    length = request.content_length
    if "Transfer-Encoding" in request.headers or length is None:
        raise LengthRequired()
    if length and request.mimetype != "application/x-www-form-urlencoded":
        raise WrongMediaType("The body must be a form: send Content-Type: application/x-www-form-urlencoded.")
    if length > max_bytes:
        raise TooLarge(f"The body is larger than {max_bytes} bytes; search for less.")
    try:
        return parse_qsl(_read(request, length).decode("ascii"), max_num_fields=100, errors="strict")
    except ValueError:
        raise BadRequest(
            "The form cannot be read; send name=value pairs, joined by & and URL-encoded."
        ) from None


def _read(request: Request, length: int) -> bytes:
    stream = request.environ["wsgi.input"]
    try:
        with _timeout(request.environ, STALL_SECONDS):
            raw: bytes = stream.read(length)
    except OSError:
        request.environ[_STATE] = _LOST
        raise BadRequest("The body did not arrive in time; send it without a pause.") from None
    request.environ[_STATE] = _READ if len(raw) == length else _LOST
    if len(raw) != length:
        raise BadRequest("The body is shorter than its Content-Length.")
    return raw


def take_rest(request: Request, response: Response) -> None:
    """Has what is left of an unread body read and thrown away once the answer is sent.

    A client that is still sending when its connection is closed loses the answer with it. Reading on is
    bounded in bytes and time; past that the connection is closed all the same.
    """
    if request.environ.get(_STATE) == _READ or "gunicorn.socket" not in request.environ:
        return
    if request.content_length or "Transfer-Encoding" in request.headers:
        # The request's context is gone by then, so its environment is taken along.
        environ = request.environ
        response.call_on_close(lambda: _drain(environ))


def _drain(environ: WSGIEnvironment) -> None:
    if environ.get(_STATE) == _LOST:
        _close(environ)
        return
    stream = environ["wsgi.input"]
    end = time.monotonic() + DRAIN_SECONDS
    left = DRAIN_BYTES
    # Whatever goes wrong here concerns a body that is refused already: close, and say nothing.
    with contextlib.suppress(Exception), _timeout(environ, STALL_SECONDS):
        while left > 0 and time.monotonic() < end:
            piece = stream.read(_PIECE)
            if not piece:
                return
            left -= len(piece)
    _close(environ)


def _close(environ: WSGIEnvironment) -> None:
    with contextlib.suppress(OSError):
        environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _timeout(environ: WSGIEnvironment, seconds: float) -> Iterator[None]:
    """Bounds each wait for the client where the server lends its socket (gunicorn does)."""
    connection: socket.socket | None = environ.get("gunicorn.socket")
    if connection is None:
        yield
        return
    before = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            connection.settimeout(before)
