"""Log lines: JSON, one for each record, short, without control characters and without what a library says."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from canaries import CANARIES, Watch

from cds_service.logs import LONGEST_LINE, JsonLines, request_id

HOSTILE = ["line\nbreak", "\x00\x1b[31m", "\u202eabc", "x" * 100_000, '"},{"level":"error"', "\ud800", "é×😀"]


def line(name: str = "jaki_cds", message: object = "answered", *args: object, **more: Any) -> str:
    record = logging.LogRecord(name, logging.INFO, "x.py", 1, message, args, more.pop("exc_info", None))
    if "fields" in more:
        record.fields = more["fields"]
    return JsonLines().format(record)


def test_a_line_holds_what_is_listed() -> None:
    token = request_id.set("r-1")
    try:
        found = json.loads(line(fields={"endpoint": "healthz", "status": 200, "ms": 1.5}))
    finally:
        request_id.reset(token)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "info", "event": "answered", "request": "r-1", "endpoint": "healthz", "status": 200, "ms": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_log_2_hostile_text_stays_in_one_short_line(text: str) -> None:
    written = line("jaki_cds", text, fields={f"f{number}": text for number in range(50)})
    assert len(written.encode()) <= LONGEST_LINE and "\n" not in written
    assert not any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in written)
    assert json.loads(written)["level"] == "info"


def test_log_3_the_text_of_an_exception_is_never_written() -> None:
    try:
        raise ValueError("Avery Testcase 2016-05-14")
    except ValueError:
        written = line(exc_info=sys.exc_info())
    found = json.loads(written)
    assert (found["exception"], found["at"][0].split(":")[0]) == ("ValueError", "test_logs.py")
    assert "Avery" not in written


def test_log_3_lines_of_the_web_server_are_their_fixed_text_only() -> None:
    found = json.loads(line("gunicorn.error", "Error handling request %s %s", "GET", "/Patient/avery?name=x"))
    assert (found["logger"], found["event"]) == ("gunicorn.error", "Error handling request %s %s")
    assert "avery" not in json.dumps(found)


@pytest.mark.parametrize("word", ["Avery", *CANARIES.values()])
def test_log_1_the_watch_over_all_tests_notices_a_canary(word: str) -> None:
    watch = Watch()
    for text, fields in (("said", {"who": f"x {word}"}), (f"{word}!", {}), ("nothing", {"why": "expired"})):
        record = logging.LogRecord("jaki_cds", logging.INFO, "x.py", 1, text, (), None)
        record.fields = fields
        watch.emit(record)
    assert len(watch.found) == 2
