"""Log lines: one JSON object each, on standard error, never with data of a patient.

What may stand in a line is listed here and nowhere else: the time, the level, our own fixed message,
the request's id, and the members that a call passes as ``fields``.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from cds_service.json_reader import write_json

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_MAX_FRAMES = 5


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; an exception by its type and place, without its text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request"] = current
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = _place(record.exc_info[2])
        return write_json(line).decode("utf-8")


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
    logger = logging.getLogger("jaki_cds")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
