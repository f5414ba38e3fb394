"""What the JSON reader accepts, what it refuses, and that it does both quickly."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.json_reader import MAX_DEPTH, MAX_NODES, UnreadableBody, read_json, write_json

ACCEPTED: list[tuple[str, bytes, object]] = [
    ("an integer stays an integer", b"10", 10),
    ("a fraction is exact", b"0.1", Decimal("0.1")),
    ("an exponent at the limit", b"1e30", Decimal("1e30")),
    ("40 characters of number", b"1" * 40, int("1" * 40)),
    ("an escaped quote does not end a string", rb'["\"[[[", "\\"]', ['"[[[', "\\"]),
    ("brackets in strings are no nesting", b'"' + b"[" * 500 + b'"', "[" * 500),
    ("nesting at the limit", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
    ("mixed nesting at the limit", b'{"a":[' * 32 + b"]}" * 32, None),
    ("a whole surrogate pair", rb'"\ud83d\ude00"', "\U0001f600"),
    ("blanks around", b' \n{"a": null}\r\n', {"a": None}),
    ("equal names in different objects", b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
]


@pytest.mark.parametrize(
    ("raw", "value"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED]
)
def test_accepts(raw: bytes, value: object) -> None:
    result = read_json(raw)
    if value is not None:
        assert result == value
        assert type(result) is type(value)


REFUSED: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "empty"),
    ("blanks only", b" \n", "empty"),
    ("a byte-order mark", b"\xef\xbb\xbf{}", "byte-order mark"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), "UTF-8"),
    ("UTF-16 without mark", '{"a": 1}'.encode("utf-16-le"), "not valid JSON"),
    ("Latin-1", '{"a": "é"}'.encode("latin-1"), "UTF-8"),
    ("an encoded surrogate", b'"\xed\xa0\x80"', "UTF-8"),
    ("half an object", b"{", "brackets"),
    ("a comma too many", b"[1,]", "line 1"),
    ("text after the value", b"{} x", "Extra data"),
    ("a comment", b"{} // note", "Extra data"),
    ("a NUL byte", b'"a\x00b"', "not valid JSON"),
    ("an escaped NUL", rb'"a\u0000b"', "NUL"),
    ("an escaped NUL in a name", rb'{"a\u0000b": 1}', "NUL"),
    ("half a surrogate pair", rb'[{"a": ["\ud83d"]}]', "surrogate"),
    ("NaN", b'{"a": NaN}', "NaN"),
    ("Infinity", b"[Infinity]", "NaN or Infinity"),
    ("minus Infinity", b"[-Infinity]", "NaN or Infinity"),
    ("an exponent beyond the limit", b"1e31", "exponent"),
    ("a negative exponent beyond the limit", b"1E-31", "exponent"),
    ("the number that hung a worker", b'{"a": 1e2000000}', "exponent"),
    ("a number of the order of 1e31", b"30e30", "exponent"),
    ("a number of the order of 1e-38", b"0." + b"0" * 37 + b"1", "exponent"),
    ("another of them", b'{"a": [0.' + b"0" * 33 + b"1]}", "exponent"),
    ("41 digits", b"1" * 41, "40 characters"),
    ("41 characters with a fraction", b"0." + b"1" * 39, "40 characters"),
    ("100,000 digits", b"1" * 100_000, "40 characters"),
    ("a name twice", b'{"a": 1, "a": 2}', "twice"),
    ("a name twice, once escaped", rb'{"a": 1, "\u0061": 2}', "twice"),
    ("65 levels of arrays", b"[" * 65 + b"]" * 65, "nested"),
    ("65 levels, mixed", b'{"a":[' * 32 + b"[]" + b"]}" * 32, "nested"),
    ("100,000 levels", b"[" * 100_000 + b"]" * 100_000, "nested"),
    ("100,000 unclosed", b"[" * 100_000, "nested"),
    ("100,000 unclosed objects", b'{"a":' * 100_000, "nested"),
    ("crossed brackets", b"[{]}", "not balanced"),
    ("a flood of objects", b"[" + b"{}," * MAX_NODES + b"{}]", "values"),
    ("a flood of numbers", b"[" + b"1," * MAX_NODES + b"1]", "values"),
]


@pytest.mark.parametrize(("raw", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_http_2_the_reader_refuses(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableBody) as refusal:
        read_json(raw)
    assert reason in refusal.value.reason


def test_a_refusal_never_quotes_input() -> None:
    for raw in (b'{"Testcase": Testcase}', b'{"Testcase": 1, "Testcase": 2}', b'["Testcase", NaN]'):
        with pytest.raises(UnreadableBody) as refusal:
            read_json(raw)
        assert "Testcase" not in refusal.value.reason


@pytest.mark.slow
def test_the_costliest_nesting_within_the_limits_is_quick() -> None:
    """As many nodes as are allowed, all of them nested as deep as is allowed."""
    nest = b"[" * 62 + b"]" * 62
    raw = b"[" + b",".join([nest] * (MAX_NODES // 64)) + b"]"
    start = time.process_time()
    read_json(raw)
    assert time.process_time() - start < 2.0


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.text().filter(lambda text: "\0" not in text),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda text: "\0" not in text), inner),
    max_leaves=20,
)


@given(JSON_VALUES, st.booleans())
def test_reads_what_the_standard_library_writes(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(JSON_VALUES)
def test_reads_what_it_writes(value: Any) -> None:
    assert read_json(write_json(value)) == value


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_whatever_number_is_read_is_read_again_when_written(literal: str) -> None:
    try:
        value = read_json(literal.encode())
    except UnreadableBody:
        return
    assert read_json(write_json(value)) == value


@given(st.binary())
def test_http_3_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        read_json(raw)
    except UnreadableBody as refusal:
        assert refusal.reason


@pytest.mark.parametrize("text", ["0.70", "1.1", "-0.05", "3.20", "120.000"])
def test_a_decimal_keeps_its_digits(text: str) -> None:
    assert write_json(read_json(text.encode())) == text.encode()
