"""Units: one explicit table per analyte, because a parser would be wrong silently.

``units.csv`` lists the spellings that laboratories really send (UCUM, its look-alikes, NHS free text such as
``X 10-9/l``) with the factor to the one canonical unit of the analyte; ``plausible.csv`` the absolute limits
beyond which a number is an error of unit or of typing. A unit that is not listed is refused, never guessed,
and never inferred from the code of the test. The log of a viral load is an analyte of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fhir_mappings.concepts import codes_of
from guideline.values import Reason

UNITS_FILE: Final = Path(__file__).parent / "units.csv"
PLAUSIBLE_FILE: Final = Path(__file__).parent / "plausible.csv"

_UNIT_COLUMNS: Final = ("analyte", "unit", "factor", "offset", "canonical")
_PLAUSIBLE_COLUMNS: Final = ("analyte", "low", "high", "unit", "why")
_SAME_SIGN: Final = str.maketrans(
    {"\u00b5": "u", "\u03bc": "u", "\u00d7": "x", "\u2212": "-", "\u00b2": "2", "\u00b3": "^3",
     "\u2076": "^6", "\u2079": "^9", "\u00ba": "\u00b0"}
)  # fmt: skip


class UnitTableError(ValueError):
    """A unit table that must not be used; the message names file and line, the fault and the cure."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """canonical = (value + offset) x numerator / denominator; a fraction keeps 5/9 and 1/38.67 exact."""

    numerator: Decimal
    denominator: Decimal
    offset: Decimal

    def apply(self, value: Decimal) -> Decimal:
        return (value + self.offset) * self.numerator / self.denominator


@dataclass(frozen=True, slots=True)
class Limits:
    """Absolute plausibility of an analyte in its canonical unit, both ends included."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Units:
    """The table: conversions by analyte and normalised unit, the canonical unit of each analyte."""

    conversions: Mapping[tuple[str, str], Conversion]
    canonical: Mapping[str, str]
    every_unit: frozenset[str]


def normalise(unit: str) -> str:
    """A unit as the table spells it: lower case, no blanks, one micro sign, superscripts as ``^``.

    >>> normalise(" X 10-9/l")
    'x10-9/l'
    """
    return "".join(unit.translate(_SAME_SIGN).lower().split())


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        if tuple(reader.fieldnames or ()) != columns:
            raise UnitTableError(f"{path.name}, line 1: write the header {','.join(columns)}.")
        rows = []
        for row in reader:
            place = f"{path.name}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UnitTableError(f"{place}: not {len(columns)} fields; quote a field that holds a comma.")
            rows.append((place, row))
    return rows


def _number(place: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise UnitTableError(f"{place}: {text!r} is not a number; write it with a point.") from None
    if not number.is_finite():
        raise UnitTableError(f"{place}: {text!r} is not finite; write a decimal number.")
    return number


def load_units(path: Path) -> Units:
    """The unit table of a file; raises ``UnitTableError`` at the first fault."""
    conversions: dict[tuple[str, str], Conversion] = {}
    canonical: dict[str, str] = {}
    for place, row in _rows(path, _UNIT_COLUMNS):
        analyte, unit = row["analyte"], row["unit"]
        if not unit or unit != normalise(unit):
            raise UnitTableError(
                f"{place}: the unit is not in its normal spelling; write {normalise(unit)!r}."
            )
        if (analyte, unit) in conversions:
            raise UnitTableError(f"{place}: {unit} stands twice for {analyte}; delete one row.")
        if canonical.setdefault(analyte, row["canonical"]) != row["canonical"]:
            raise UnitTableError(f"{place}: {analyte} has two canonical units; choose {canonical[analyte]}.")
        numerator, _, denominator = row["factor"].partition("/")
        over = _number(place, denominator or "1")
        factor = _number(place, numerator)
        if factor <= 0 or over <= 0:
            raise UnitTableError(
                f"{place}: the factor is not above zero; write what one unit is in {row['canonical']}."
            )
        conversions[(analyte, unit)] = Conversion(factor, over, _number(place, row["offset"]))
    for analyte, unit in canonical.items():
        if conversions.get((analyte, normalise(unit))) != Conversion(Decimal(1), Decimal(1), Decimal(0)):
            raise UnitTableError(
                f"{path.name}: {analyte} lacks its own unit; add a row {unit} with factor 1."
            )
    every = frozenset(unit for _, unit in conversions) | {
        normalise(code) for _, code in codes_of("ucum-unit")
    }
    return Units(MappingProxyType(conversions), MappingProxyType(canonical), every)


def load_limits(path: Path, canonical: Mapping[str, str]) -> Mapping[str, Limits]:
    """The plausible range of every analyte of the units; raises ``UnitTableError`` at the first fault."""
    limits: dict[str, Limits] = {}
    for place, row in _rows(path, _PLAUSIBLE_COLUMNS):
        analyte = row["analyte"]
        if canonical.get(analyte) != row["unit"]:
            raise UnitTableError(
                f"{place}: the unit is not that of units.csv; write {canonical.get(analyte)}."
            )
        if analyte in limits:
            raise UnitTableError(f"{place}: {analyte} stands twice; delete one row.")
        low, high = _number(place, row["low"]), _number(place, row["high"])
        if low < 0 or low >= high:
            raise UnitTableError(f"{place}: the limits do not rise from 0 on; write the lower one first.")
        if not row["why"]:
            raise UnitTableError(f"{place}: no reason is given; say why beyond these limits it is an error.")
        limits[analyte] = Limits(low, high)
    if lacking := sorted(set(canonical) - set(limits)):
        raise UnitTableError(f"{path.name}: no limits for {', '.join(lacking)}; add a row for each.")
    return MappingProxyType(limits)


@cache
def _units() -> Units:
    return load_units(UNITS_FILE)


@cache
def _limits() -> Mapping[str, Limits]:
    return load_limits(PLAUSIBLE_FILE, _units().canonical)


def canonical_unit(analyte: str) -> str:
    """The UCUM unit in which ``convert`` answers. Raises ``KeyError`` for an analyte without a table."""
    if analyte not in _units().canonical:
        raise KeyError(f"units.csv has no analyte {analyte!r}; add its rows, or correct the name")
    return _units().canonical[analyte]


def convert(analyte: str, value: Decimal, code: str | None, unit: str | None) -> Decimal | Reason:
    """A measured value in the analyte's canonical unit, unrounded.

    ``code`` is ``Quantity.code`` (read first), ``unit`` the free text of ``Quantity.unit``. No unit, an
    unknown one, or two that contradict each other give ``Reason.UNUSABLE_UNIT``; a value that is not a
    finite number ``Reason.UNREADABLE``. A code that is no unit of ours (a local one) leaves the word to the
    text, but a code that is a unit of something else does not. ``KeyError`` for an analyte without a table.
    """
    if not value.is_finite():
        return Reason.UNREADABLE
    code, unit = code or "", unit or ""
    # What is remembered is bounded in number and in length.
    find = _conversion if len(code) + len(unit) <= _LONGEST_UNITS else _conversion.__wrapped__
    chosen = find(analyte, code, unit)
    return Reason.UNUSABLE_UNIT if chosen is None else chosen.apply(value)


_LONGEST_UNITS = 128


@lru_cache(maxsize=2048)
def _conversion(analyte: str, code: str, unit: str) -> Conversion | None:
    """What turns a value in this unit into the canonical one; ``None`` for no unit that ``convert`` accepts."""
    canonical_unit(analyte)
    table = _units()
    by_code = table.conversions.get((analyte, normalise(code)))
    by_text = table.conversions.get((analyte, normalise(unit)))
    if by_code is None and normalise(code) in table.every_unit:
        return None
    if by_code is not None and by_text is None and normalise(unit) in table.every_unit:
        return None
    if by_code is not None and by_text is not None and by_code != by_text:
        return None
    return by_code or by_text


def plausible_range(analyte: str) -> Limits:
    """The absolute limits of an analyte in its canonical unit. ``KeyError`` where there is no table."""
    canonical_unit(analyte)
    return _limits()[analyte]


def is_plausible(analyte: str, value: Decimal) -> bool:
    """Whether a value in the canonical unit lies inside the absolute limits (not those by age)."""
    limits = plausible_range(analyte)
    return value.is_finite() and limits.low <= value <= limits.high
