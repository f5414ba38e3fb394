"""Log lines: one JSON object each, on standard error, never with data of a patient.

What may stand in a line is listed here and nowhere else: the time, the level, our own fixed message,
the request's id, and the members that a call passes as ``fields``. structlog formats them. Lines of the web
server come out the same way, as their fixed text alone: what it would fill in may hold an address or a header.
"""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict

from cds_service.json_reader import write_json

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

OURS = "jaki_cds"
LONGEST_TEXT = 200
LONGEST_LINE = 4096
_MOST_MEMBERS = 12
_MAX_FRAMES = 5
_UNSEEN = re.compile(
    r"[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class JsonLines(ProcessorFormatter):
    """Formats a record as one line of JSON; an exception by its type and place, without its text."""

    def __init__(self) -> None:
        super().__init__(processors=[_members, JSONRenderer(serializer=_written)])

    def format(self, record: logging.LogRecord) -> str:
        """As structlog would, but for a line of ours without its copies of the record, one for each call."""
        if record.exc_info or record.stack_info or not record.name.startswith(OURS):
            return super().format(record)
        return _written(_members(None, "", {"event": record.getMessage(), "_record": record}))


def _members(_logger: object, _method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    ours = record.name.split(".")[0] == OURS
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": _fit(event["event"] if ours else str(record.msg)),
    }
    if not ours:
        line["logger"] = record.name
    if (current := request_id.get()) is not None:
        line["request"] = current
    fields: dict[str, object] = getattr(record, "fields", {})
    line |= {name: _fit(value) for name, value in list(fields.items())[:_MOST_MEMBERS]}
    exception = event.get("exc_info")
    if exception and exception[0] is not None:
        line["exception"] = exception[0].__name__
        line["at"] = _place(exception[2])
    return line


def _fit(value: object) -> object:
    """A text without control characters and of bounded length; numbers as they are."""
    return _UNSEEN.sub(" ", value)[:LONGEST_TEXT] if isinstance(value, str) else value


def _written(line: EventDict, **_options: object) -> str:
    written = write_json(line)
    if len(written) > LONGEST_LINE:
        written = write_json({name: line[name] for name in ("time", "level", "event")} | {"cut": True})
    return written.decode("utf-8")


def _place(traceback: TracebackType | None) -> list[str]:
    """The innermost frames as file:line; a message could quote the request, a place cannot."""
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{Path(code.co_filename).name}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return places[-_MAX_FRAMES:]


def configure(level: str) -> None:
    """Sends the service's log lines to standard error; called once, by ``serve``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(OURS)
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    # No line says which thread, process or line of code wrote it: then nobody need find that out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as the logging HOWTO says, Optimization
