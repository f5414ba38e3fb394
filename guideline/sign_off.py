"""Who has read which table against the guideline (``sign_off.csv``).

A line holds for the content that was read, not for the table's name: ``content`` is the table's fingerprint
(``docs/guideline.md`` prints it beside each table), and an edit of the table, or of a fact that it names, makes
the line void. Until a line holds, the cards say that the content has not been clinically reviewed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType

from guideline.tables import Table

SIGN_OFF = Path(__file__).with_name("sign_off.csv")
_COLUMNS = ["table", "content", "reader", "role", "date"]


class SignOffFault(ValueError):
    """A line of ``sign_off.csv`` that cannot be used; the text names line, fault and cure."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One reader of one table, as it was on that day."""

    reader: str
    role: str
    on: date


def signed(table: Table, path: Path = SIGN_OFF) -> bool:
    """Whether somebody has read this table as it stands now."""
    if path is SIGN_OFF:
        return (table.name, table.fingerprint) in _signed()
    return bool(signatures(table, path))


def signatures(table: Table, path: Path = SIGN_OFF) -> tuple[Signature, ...]:
    """Everybody who has read this table as it stands now."""
    return read_sign_off(path).get((table.name, table.fingerprint), ())


@cache
def _signed() -> frozenset[tuple[str, str]]:
    return frozenset(read_sign_off(SIGN_OFF))


@cache
def read_sign_off(path: Path) -> Mapping[tuple[str, str], tuple[Signature, ...]]:
    """The signatures by table and fingerprint; raises ``SignOffFault`` for a line that is not understood."""
    found: dict[tuple[str, str], tuple[Signature, ...]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        if reader.fieldnames != _COLUMNS:
            raise SignOffFault(f"{path.name}, line 1: the columns must be {','.join(_COLUMNS)}; write them.")
        for line in reader:
            place = f"{path.name}, line {reader.line_num}"
            if None in line or not all(line.values()):
                raise SignOffFault(f"{place}: it has not {len(_COLUMNS)} filled fields; fill all, add none.")
            try:
                on = date.fromisoformat(line["date"])
            except ValueError:
                raise SignOffFault(f"{place}: the date is none; write it as 2026-06-01.") from None
            key = line["table"], line["content"]
            found[key] = (*found.get(key, ()), Signature(line["reader"], line["role"], on))
    return MappingProxyType(found)
