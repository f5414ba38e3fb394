"""Hook requests out of files: a request, a capture of a request with its answer, NDJSON of either, or a HAR.

A capture is a JSON object with ``request`` (the hook request itself, or an object whose ``body`` is it, as JSON or
as text) and, where there was one, ``response`` likewise. Of a HAR the posts of hook requests count; preflights,
discovery and feedback are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cds_service.json_reader import UnreadableBody, read_json, write_json

Json = dict[str, Any]
LINES = (".ndjson", ".jsonl")


@dataclass(frozen=True, slots=True)
class Capture:
    """One request of a file, the bytes to send, and the answer that was captured with it.

    ``place`` is where in the file it stands (``:17`` for a line), nothing where it is the only one.
    """

    place: str
    request: Json
    body: bytes
    answer: Json | None


def has_lines(path: Path) -> bool:
    """Whether the file holds one request or capture on each line, by its ending."""
    return path.suffix.lower() in LINES


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each line of NDJSON that holds something, one at a time. Raises ``OSError``."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def read_captures(path: Path) -> list[Capture]:
    """Every request of a file that is no NDJSON. Raises ``OSError``, and ``UnreadableBody`` with the fault."""
    raw = path.read_bytes()
    value = read_json(raw)
    if isinstance(value, dict) and isinstance(value.get("log"), dict):
        return _of_har(value["log"])
    return [_capture("", value, raw)]


def read_line(number: int, line: bytes) -> Capture:
    """The request of one line of NDJSON. Raises ``UnreadableBody`` with the line and what is wrong."""
    try:
        return _capture(f":{number}", read_json(line), line)
    except UnreadableBody as fault:
        raise UnreadableBody(f"line {number}: {fault.reason}") from None


def _capture(place: str, value: object, raw: bytes) -> Capture:
    if not isinstance(value, dict):
        raise UnreadableBody("is no hook request; it must be one JSON object.")
    if "hook" in value or "request" not in value:
        return Capture(place, value, raw, None)
    request, body = _body(value["request"], "hook")
    if request is None:
        raise UnreadableBody("request holds no hook request; put it there, or under request.body.")
    answer = None
    if value.get("response") is not None:
        answer, _ = _body(value["response"], "cards")
        if answer is None or not isinstance(answer["cards"], list):
            raise UnreadableBody("response holds no answer with cards; leave it out where there was none.")
    return Capture(place, request, body, answer)


def _body(value: object, member: str) -> tuple[Json | None, bytes]:
    """The JSON object with ``member`` in ``value``: itself, or its ``body`` as JSON or as text."""
    if isinstance(value, dict) and member not in value:
        value = value.get("body")
    if isinstance(value, str):
        raw = value.encode()
        value = read_json(raw)
    elif isinstance(value, dict):
        raw = write_json(value)
    if not isinstance(value, dict) or member not in value:
        return None, b""
    return value, raw


def _of_har(log: Json) -> list[Capture]:
    """HAR 1.2: ``log.entries[].request.postData.text`` and ``.response.content.text``."""
    found = []
    entries = log.get("entries")
    for number, entry in enumerate(entries if isinstance(entries, list) else ()):
        posted = _text_in(entry, "request", "postData")
        try:
            request, body = _body(posted, "hook")
        except UnreadableBody:
            continue
        if request is None:
            continue
        try:
            answer, _ = _body(_text_in(entry, "response", "content"), "cards")
        except UnreadableBody:
            answer = None
        if answer is not None and not isinstance(answer["cards"], list):
            answer = None
        found.append(Capture(f"#{number}", request, body, answer))
    if not found:
        raise UnreadableBody("is a HAR without a hook request; record a call of /cds-services/<id>.")
    return found


def _text_in(entry: object, side: str, part: str) -> str | None:
    inner = entry.get(side) if isinstance(entry, dict) else None
    inner = inner.get(part) if isinstance(inner, dict) else None
    text = inner.get("text") if isinstance(inner, dict) else None
    return text if isinstance(text, str) else None
