"""Reading and writing JSON: strict about what comes in, exact about what goes out.

The reader refuses what lenient parsers let through and what has stopped servers before: several
encodings, duplicate members, NaN, numbers that take minutes to convert, nesting that exhausts the
stack, floods of tiny nodes (RFC 8259; limits after docs/settings.md). Decimals stay exact in both
directions: ``0.70`` is read and written as ``0.70``.

Nearly all bodies are harmless, and to prove that is cheap: msgspec decodes the body, and the value written
again has as many strings as the body had, so nothing was named twice. Whatever that does not prove - a fault,
a huge number, an exponent - is read again by the standard library with a hook at each step, which accepts
or refuses it with the reason.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import NoReturn

import msgspec

MAX_DEPTH = 64
MAX_NODES = 400_000
MAX_NUMBER_CHARACTERS = 40
MAX_EXPONENT = 30

_BOM = b"\xef\xbb\xbf"
_STRUCTURE = b'"[]{},'
_NOT_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_COMPLETE_STRING = re.compile(rb'"[^"]*"')
_INNERMOST = re.compile(rb"(?:\{\}|\[\])+")
_TOO_DEEP = re.compile(rb"[\[{]{%d}" % (MAX_DEPTH + 1))
_USUAL_DEPTH = 12
"""Resources in a Bundle in a prefetch are seldom nested deeper."""
_STEP = [1 if byte in b"[{" else -1 for byte in range(256)]
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_DIGITS_ALIKE = bytes(ord("1") if byte in b"0123456789" else ord(" ") for byte in range(256))
_SAMPLE = 4
"""Of any 40 digits in a row, each fourth byte of the body shows ten in a row."""
_LONG_NUMBER = b"1" * (MAX_NUMBER_CHARACTERS // _SAMPLE)

_encoder = msgspec.json.Encoder(decimal_format="number")


class UnreadableBody(Exception):
    """The bytes are not JSON that this service accepts.

    ``reason`` is made of fixed text and numbers of our own (a line, a limit): it never quotes input,
    so it may be sent and logged.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_json(raw: bytes) -> object:
    """The JSON value in ``raw``: dict, list, str, int, Decimal, bool or None.

    Integers stay ``int``; every number with a fraction or exponent becomes a ``Decimal``.

    Raises:
        UnreadableBody: anything that is not strict UTF-8 JSON within the limits of this module.
    """
    try:
        return _read_quickly(raw)
    except (_Unproven, ValueError, RecursionError):  # msgspec's faults and undecodable text are ValueErrors
        return _read_carefully(raw)


class _Unproven(Exception):
    """The body may be good, but not in the way in which most are."""


def _read_quickly(raw: bytes) -> object:
    """The value of a body that is proven to keep every rule here; else ``_Unproven`` or what msgspec raises."""
    if _LONG_NUMBER in raw[::_SAMPLE].translate(_DIGITS_ALIKE):
        raise _Unproven
    if b"\\" in raw and _SUSPECT_ESCAPE.search(raw):
        raise _Unproven
    bare, strings = _structure(raw)
    if _nodes(bare) > MAX_NODES or not _is_surely_shallow(bare):
        raise _Unproven
    value: object = _decoder.decode(raw)
    written = _encoder.encode(value)
    # Written anew, nothing grows: where the length is the same, nothing is lacking either.
    if len(written) != len(raw) and _structure(written)[1] != strings:
        raise _Unproven
    return value


@lru_cache(maxsize=8192)
def _plain_decimal(literal: str) -> Decimal:
    """A number with a fraction. Most are written again and again (4.2, 132.5), and nothing of a child is in one.

    To look one up is cheaper than to build it, and a cached function costs msgspec less to call than another.
    """
    # Without an exponent, what has so few characters keeps the limits of digits and of size.
    if len(literal) > MAX_EXPONENT or "e" in literal or "E" in literal:
        raise _Unproven
    return Decimal(literal)


_decoder = msgspec.json.Decoder(float_hook=_plain_decimal)


def _structure(raw: bytes) -> tuple[bytes, int]:
    """The brackets and commas of a text, with what strings hold of them still in quotes, and its number of quotes.

    A string without either leaves two quotes side by side. To take out such a pair leaves everything else
    inside or outside of a string as it was, whichever two quotes they are.
    """
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = raw.translate(None, _NOT_STRUCTURE)
    bare = marks.replace(b'""', b"")
    return bare, len(marks) - len(bare) + bare.count(b'"')


def _nodes(bare: bytes) -> int:
    return bare.count(b",") + bare.count(b"{") + bare.count(b"[")


def _is_surely_shallow(bare: bytes) -> bool:
    """Whether removing innermost brackets ends soon enough; each round takes at most two levels."""
    if b'"' in bare:
        bare = _COMPLETE_STRING.sub(b"", bare)
    brackets = bare.translate(None, b",")
    for _ in range(MAX_DEPTH // 2):
        if not brackets:
            return True
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return False


def _read_carefully(raw: bytes) -> object:
    """The value, or the refusal with its reason, of any body."""
    if not raw.strip():
        raise UnreadableBody("The body is empty; send a JSON object.")
    if raw.startswith(_BOM):
        raise UnreadableBody("The body begins with a byte-order mark; send plain UTF-8 without one.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"The body is not valid UTF-8 (byte {error.start}); encode it as UTF-8."
        raise UnreadableBody(reason) from None
    _check_structure(raw)
    try:
        value: object = json.loads(
            text,
            parse_int=_integer,
            parse_float=_decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        # error.msg is one of the standard library's fixed texts; error.doc, the input, is left alone.
        reason = f"The body is not valid JSON: {error.msg}, line {error.lineno} column {error.colno}."
        raise UnreadableBody(reason) from None
    if _SUSPECT_ESCAPE.search(raw):
        _check_strings(value)
    return value


def write_json(value: object) -> bytes:
    """``value`` as JSON in UTF-8; a Decimal is written as a number with all its digits."""
    return _encoder.encode(value)


def _check_structure(raw: bytes) -> None:
    """Refuses floods and deep nesting before the parser builds anything.

    Strings are taken out first, then innermost pairs of brackets are removed as often as nesting is
    allowed: what is left then is nested too deep. Each step is one pass in C over what remains, and
    whatever the parser reads before a fault of the text is a part of what was counted here.
    """
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    bare = _COMPLETE_STRING.sub(b"", bare)
    nodes = bare.count(b",") + bare.count(b"{") + bare.count(b"[")
    if nodes > MAX_NODES:
        raise UnreadableBody(f"The body has more than {MAX_NODES} values; send fewer resources.")
    brackets = bare.translate(None, b'",')
    too_deep = _TOO_DEEP.search(brackets) is not None
    for level in range(0 if too_deep else MAX_DEPTH):
        if not brackets:
            return
        if level == _USUAL_DEPTH and not _is_shallow_and_balanced(brackets):
            break  # no need for as many passes as are allowed
        before, brackets = brackets, _without_innermost(brackets)
        if len(brackets) == len(before):
            break  # crossed brackets
    if brackets:
        raise UnreadableBody(
            f"The body is nested deeper than {MAX_DEPTH} levels, or its brackets are not balanced."
        )


def _is_shallow_and_balanced(brackets: bytes) -> bool:
    """One slow pass; what it does not see (crossed brackets) is seen by the quick ones."""
    depths = list(accumulate(map(_STEP.__getitem__, brackets)))
    return depths[-1] == 0 and min(depths) >= 0 and max(depths) <= MAX_DEPTH - _USUAL_DEPTH


def _without_innermost(brackets: bytes) -> bytes:
    """One level of nesting less: ``[{}{}]`` becomes ``[]``, and that in turn nothing."""
    return _INNERMOST.sub(b"", brackets)


def _integer(literal: str) -> int:
    if len(literal) > MAX_NUMBER_CHARACTERS:
        raise UnreadableBody(_number_fault())
    return int(literal)


def _decimal(literal: str) -> Decimal:
    if len(literal) > MAX_NUMBER_CHARACTERS:
        raise UnreadableBody(_number_fault())
    exponent = literal.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise UnreadableBody(_number_fault())
    value = Decimal(literal)
    # As it would be written: what is read can be written and read again.
    if abs(value.adjusted()) > MAX_EXPONENT or len(str(value)) > MAX_NUMBER_CHARACTERS:
        raise UnreadableBody(_number_fault())
    return value


def _number_fault() -> str:
    return (
        f"The body has a number of more than {MAX_NUMBER_CHARACTERS} characters or with an exponent "
        f"beyond {MAX_EXPONENT}; no measurement needs one."
    )


def _refuse_constant(_literal: str) -> NoReturn:
    raise UnreadableBody("The body has NaN or Infinity, which are not JSON numbers; leave the member out.")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UnreadableBody("An object of the body names one member twice; send each member once.")
    return members


def _check_strings(value: object) -> None:
    """Refuses NUL and lone surrogates, which only escapes can bring in."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if "\0" in item or any("\ud800" <= character <= "\udfff" for character in item):
                raise UnreadableBody("A string of the body holds NUL or half a surrogate pair; remove it.")
        elif isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
