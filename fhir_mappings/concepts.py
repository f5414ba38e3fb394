"""What a code means to this service: the tables of ``codes/*.csv`` as one index, loaded and checked once.

A code may mean several concepts (uveitis of extended oligoarticular JIA is both). The row with the longest
code that fits wins, so a class or category row speaks only for codes that have no row of their own: ATC
``L04AF`` gives ``jak-inhibitor-class``, ``L04AF01`` gives ``tofacitinib`` alone; ICD-10-CM ``M08.20`` gives
what ``M08.2`` gives. Rows of use ``exclude`` (look-alikes and negations) are never a positive.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from fhir_mappings import systems

CODES: Final = Path(__file__).parent / "codes"
PRODUCTS_FILE: Final = "products.csv"

_COLUMNS: Final = ("concept", "system", "code", "label", "use", "source")
_PRODUCT_COLUMNS: Final = ("system", "code", "concept", "strength_mg", "per_ml", "form")
_SLUG: Final = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
K = TypeVar("K")

_LOINC_SHAPE: Final = re.compile(r"^\d{1,7}-\d$")
_SNOMED_SHAPE: Final = re.compile(r"^[1-9]\d{5,17}$")
_ICD_SHAPE: Final = re.compile(r"^[A-Z](\d{2}(\.[0-9A-Z]{1,4})?)?$")
_ICD_DAGGER: Final = re.compile(r"[\s†*+!-]+$")
_ICD_CATEGORY_LENGTH: Final = 3

_VERHOEFF_D: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)  # fmt: skip
_VERHOEFF_P: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7), (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)  # fmt: skip


class CodeTableError(ValueError):
    """A code table that must not be used; the message names file and line, the fault and the cure."""


class Use(StrEnum):
    """How a row is matched: its code alone, its code and all longer ones, or never as a positive."""

    MATCH = "match"
    PREFIX = "prefix"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a code table. ``system`` is as written (dm+d stays dm+d); ``label`` is our own wording."""

    concept: str
    system: str
    code: str
    label: str
    use: Use
    source: str


@dataclass(frozen=True, slots=True)
class Product:
    """A product code whose strength is known: milligrams per tablet, or per ``per_ml`` millilitres."""

    concept: str
    strength_mg: Decimal
    per_ml: Decimal | None
    form: str


@dataclass(frozen=True, slots=True)
class Index:
    """All code tables, by canonical system and normalised code."""

    exact: Mapping[tuple[str, str], tuple[Row, ...]]
    prefixes: Mapping[tuple[str, str], tuple[Row, ...]]
    concepts: Mapping[str, tuple[Row, ...]]


def loinc_check_digit_ok(code: str) -> bool:
    """Whether the digit behind the hyphen is the mod-10 check digit of a LOINC code."""
    if not _LOINC_SHAPE.match(code):
        return False
    number, check = code.split("-")
    digits = "".join(str(int(d) * (2 if i % 2 == 0 else 1)) for i, d in enumerate(reversed(number)))
    return (-sum(map(int, digits))) % 10 == int(check)


def snomed_check_digit_ok(code: str) -> bool:
    """Whether the last digit is the Verhoeff check digit of a SNOMED CT (or dm+d) id."""
    if not _SNOMED_SHAPE.match(code):
        return False
    total = 0
    for i, digit in enumerate(reversed(code)):
        total = _VERHOEFF_D[total][_VERHOEFF_P[i % 8][int(digit)]]
    return total == 0


def normalise(system: str, code: str) -> str:
    """A code as the index spells it; only ICD-10, ATC and the check on blanks need work.

    ICD-10 arrives without its dot (``M082``), in lower case, or with the dagger or asterisk of a pair.
    """
    text = code.strip()
    if system == systems.ICD10:
        text = _ICD_DAGGER.sub("", text.upper())
        if len(text) > _ICD_CATEGORY_LENGTH and text[_ICD_CATEGORY_LENGTH] != ".":
            text = f"{text[:_ICD_CATEGORY_LENGTH]}.{text[_ICD_CATEGORY_LENGTH:]}"
    elif system == systems.ATC:
        text = text.upper()
    return text


def _read(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        if tuple(reader.fieldnames or ()) != columns:
            raise CodeTableError(
                f"{path.name}, line 1: the columns must be {','.join(columns)}; write that header."
            )
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise CodeTableError(
                    f"{path.name}, line {reader.line_num}: the row has not {len(columns)} fields; "
                    "quote a field that holds a comma, and leave none out."
                )
            rows.append((reader.line_num, row))
    return rows


def _checked(path: Path, line: int, raw: dict[str, str]) -> tuple[str, Row]:
    """The row and its canonical system, or an error that names the place, the fault and the cure."""

    def fault(what: str, cure: str) -> CodeTableError:
        return CodeTableError(f"{path.name}, line {line}: {what}; {cure}.")

    if not _SLUG.match(raw["concept"]):
        raise fault(
            "the concept is not a kebab-case name", "use lower-case letters, digits and single hyphens"
        )
    system = systems.canonical(raw["system"])
    if system is None:
        raise fault("the code system is unknown", "correct it, or add it to fhir_mappings/systems.py")
    if raw["use"] not in set(Use):
        raise fault("the use is unknown", f"write one of {', '.join(Use)}")
    code = raw["code"]
    if code != normalise(system, code) or not code:
        raise fault(
            "the code is empty or not in its normal spelling", "write it without blanks, ICD-10 with its dot"
        )
    if system == systems.LOINC and not loinc_check_digit_ok(code):
        raise fault(f"{code} has no valid LOINC check digit", "copy the code again from its source")
    if system == systems.SNOMED and not snomed_check_digit_ok(code):
        raise fault(f"{code} has no valid SNOMED CT check digit", "copy the code again from its source")
    if system == systems.ICD10 and not _ICD_SHAPE.match(code):
        raise fault(f"{code} is not shaped like ICD-10", "write letter, two digits, dot and subdivision")
    if not raw["label"].strip() or not raw["source"].strip():
        raise fault(
            "the label or the source is empty", "say what the code is in our own words, and where it was seen"
        )
    return system, Row(raw["concept"], raw["system"], code, raw["label"], Use(raw["use"]), raw["source"])


def load(paths: Iterable[Path]) -> Index:
    """The index of these code tables; raises ``CodeTableError`` at the first fault."""
    exact: dict[tuple[str, str], list[Row]] = {}
    prefixes: dict[tuple[str, str], list[Row]] = {}
    concepts: dict[str, list[Row]] = {}
    seen: dict[tuple[str, str, str], str] = {}
    for path in paths:
        for line, raw in _read(path, _COLUMNS):
            system, row = _checked(path, line, raw)
            key = (row.concept, system, row.code)
            if key in seen:
                raise CodeTableError(
                    f"{path.name}, line {line}: {row.code} for {row.concept} stands already at {seen[key]}; "
                    "delete one of the two rows."
                )
            seen[key] = f"{path.name}, line {line}"
            exact.setdefault((system, row.code), []).append(row)
            if row.use is Use.PREFIX:
                prefixes.setdefault((system, row.code), []).append(row)
            concepts.setdefault(row.concept, []).append(row)
    return Index(_frozen(exact), _frozen(prefixes), _frozen(concepts))


def _frozen(rows: dict[K, list[Row]]) -> Mapping[K, tuple[Row, ...]]:
    return MappingProxyType({key: tuple(value) for key, value in rows.items()})


@cache
def index() -> Index:
    """The index of the tables that ship with the package."""
    return load(sorted(path for path in CODES.glob("*.csv") if path.name != PRODUCTS_FILE))


def _rows_of(system: str, code: str) -> tuple[Row, ...]:
    known = systems.canonical(system)
    if known is None:
        return ()
    text = normalise(known, code)
    if rows := index().exact.get((known, text)):
        return rows
    for length in range(len(text) - 1, 0, -1):
        if rows := index().prefixes.get((known, text[:length].rstrip("."))):
            return rows
    return ()


def concepts_of(system: str, code: str) -> frozenset[str]:
    """The concepts that a code stands for; empty for an unknown system or code and for an exclusion.

    An excluded code is never a positive, not even through a shorter prefix.
    """
    return frozenset(row.concept for row in _rows_of(system, code) if row.use is not Use.EXCLUDE)


def exclusions_of(system: str, code: str) -> frozenset[str]:
    """The look-alikes and negations that a code stands for (``not-pregnant``), so that they can be shown."""
    return frozenset(row.concept for row in _rows_of(system, code) if row.use is Use.EXCLUDE)


@cache
def codes_of(concept: str) -> tuple[tuple[str, str], ...]:
    """Every (system, code) of a concept, as written and in file order, for prefetch templates.

    Excluded rows are left out. A prefix row gives its own code only: a FHIR search knows no prefixes.
    Raises ``KeyError`` for a concept that no table has, so that a misspelt name fails in the first test.
    """
    rows = index().concepts.get(concept)
    if rows is None:
        raise KeyError(
            f"no code table has the concept {concept!r}; see fhir_mappings/codes/*.csv for the names"
        )
    return tuple((row.system, row.code) for row in rows if row.use is not Use.EXCLUDE)


@cache
def products() -> Mapping[tuple[str, str], Product]:
    """The product codes of known strength, by canonical system and code."""
    path = CODES / PRODUCTS_FILE
    found: dict[tuple[str, str], Product] = {}
    for line, raw in _read(path, _PRODUCT_COLUMNS):
        system = systems.canonical(raw["system"])
        place = f"{path.name}, line {line}"
        if system is None or raw["concept"] not in concepts_of(raw["system"], raw["code"]):
            raise CodeTableError(
                f"{place}: no code table gives this code that concept; add it to medicines.csv."
            )
        if (system, raw["code"]) in found:
            raise CodeTableError(f"{place}: the product stands twice; delete one row.")
        try:
            strength = Decimal(raw["strength_mg"])
            per_ml = Decimal(raw["per_ml"]) if raw["per_ml"] else None
        except InvalidOperation:
            raise CodeTableError(
                f"{place}: a strength is not a number; write milligrams, with a point."
            ) from None
        if strength <= 0 or (per_ml is not None and per_ml <= 0):
            raise CodeTableError(f"{place}: a strength is not above zero; copy it again from its source.")
        found[(system, raw["code"])] = Product(raw["concept"], strength, per_ml, raw["form"])
    return MappingProxyType(found)


def product_of(system: str, code: str) -> Product | None:
    """The product that a code stands for, or ``None`` where the code is no product of known strength."""
    known = systems.canonical(system)
    return None if known is None else products().get((known, normalise(known, code)))
