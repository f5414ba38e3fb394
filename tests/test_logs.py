"""Log lines: JSON, one for each record, short, without control characters and without what a library says."""

from __future__ import annotations

import ast
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
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


ROOT = Path(__file__).parent.parent
SOURCES = [
    path for package in ("cds_service", "fhir_mappings") for path in sorted((ROOT / package).rglob("*.py"))
]
OWN = {
    node.name
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.ClassDef)
}


def logged(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if (isinstance(owner, ast.Name) and owner.id == "_log") or (
                isinstance(owner, ast.Attribute) and owner.attr == "log"
            ):
                yield node


def faults_of(source: str) -> list[str]:
    """Log lines whose text is not fixed, or that would tell what an exception of a library says."""
    tree, found = ast.parse(source), []
    for call in logged(tree):
        gunicorns = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Attribute)
        if not isinstance(call.args[0], ast.Constant) or (call.args[1:] and not gunicorns):
            found.append(f"line {call.lineno}: the text is not fixed")
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None:
            continue
        if isinstance(handler.type, ast.Name) and handler.type.id in OWN:
            continue  # its text is our own
        for call in logged(handler):
            harmless = {
                id(name)
                for node in ast.walk(call)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"
                for name in ast.walk(node)
            } | {id(word.value) for word in call.keywords if word.arg == "exc_info"}
            told = [n for n in ast.walk(call) if isinstance(n, ast.Name) and n.id == handler.name]
            if any(id(name) not in harmless for name in told):
                found.append(f"line {call.lineno}: the exception itself")
    return found


def test_log_3_no_line_of_the_source_tells_what_a_library_says() -> None:
    assert sum(len(list(logged(ast.parse(path.read_text("utf-8"))))) for path in SOURCES) > 10
    assert {path.name: faults for path in SOURCES if (faults := faults_of(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "_log.error(str(fault))",
        "_log.error(f'failed: {fault}')",
        "_log.error('failed %s', fault)",
        "_log.error('failed', extra={'fields': {'why': str(fault)}})",
        "_log.error('failed', extra={'fields': {'why': fault.args}})",
    ],
)
def test_log_3_the_rule_would_notice(line: str) -> None:
    assert faults_of(f"try:\n    pass\nexcept ValueError as fault:\n    {line}\n")
    assert not faults_of(
        "try:\n    pass\nexcept ValueError as fault:\n"
        "    _log.error('failed', exc_info=fault, extra={'fields': {'why': type(fault).__name__}})\n"
    )
