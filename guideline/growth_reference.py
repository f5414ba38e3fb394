"""Limits of weight and height by age and sex: beyond 4 SD a measurement is implausible (ruling 5, A-56).

The tables ``growth/weight.csv`` and ``growth/height.csv`` (completed months 0 to 239) and ``growth/bmi.csv``
(months 24 to 239, ruling 21) are generated from WHO and CDC reference data by ``growth/generate.py``. A table
that is absent or faulty raises ``GrowthTableError`` when it is first read: it never reads as "no limit".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

Measure = Literal["weight", "height"]
MEASURES: Final[tuple[Measure, ...]] = ("weight", "height")
Range = tuple[Decimal, Decimal]
Table = Mapping[tuple[str, int], Range]

DIRECTORY: Final = Path(__file__).parent / "growth"
SEXES: Final = ("male", "female")
FIRST_MONTH: Final = 0
FIRST_BMI_MONTH: Final = 24
LAST_MONTH: Final = 239

_MONTHS_PER_YEAR: Final = 12
_LIMIT_COLUMNS: Final = ("sex", "month", "low", "high")
_BMI_COLUMNS: Final = ("sex", "month", "centile98")


class GrowthTableError(ValueError):
    """A growth table that must not be used; the message names file and line, the fault and the cure."""


def completed_months(born: date, on: date) -> int:
    """Completed calendar months from birth to a day. Raises ``ValueError`` for a day before birth."""
    if on < born:
        raise ValueError("the day lies before birth; compare the dates before asking for an age")
    return (on.year - born.year) * _MONTHS_PER_YEAR + on.month - born.month - (on.day < born.day)


def load(path: Path, first_month: int) -> Table:
    """A table by sex and completed month; a BMI centile is a range of one value.

    Every month from ``first_month`` to 239 must be there once for each sex. Raises ``GrowthTableError`` where
    the file is not there and at the first fault in it.
    """
    if not path.is_file():
        raise GrowthTableError(f"{path.name} is not in guideline/growth; make it with generate.py there.")
    table: dict[tuple[str, int], Range] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        header = tuple(next(reader, ()))
        if header not in (_LIMIT_COLUMNS, _BMI_COLUMNS):
            raise GrowthTableError(f"{path.name}, line 1: unknown header; make the file with generate.py.")
        for row in reader:
            place = f"{path.name}, line {reader.line_num}"
            try:
                sex, month, low, high = row[0], int(row[1]), Decimal(row[2]), Decimal(row[len(header) - 1])
            except (IndexError, ValueError, InvalidOperation):
                raise GrowthTableError(f"{place}: not a number; make the file with generate.py.") from None
            if sex not in SEXES or not first_month <= month <= LAST_MONTH or (sex, month) in table:
                raise GrowthTableError(f"{place}: sex or month unknown or twice; make the file anew.")
            if not (low.is_finite() and high.is_finite() and 0 < low <= high):
                raise GrowthTableError(f"{place}: the limits do not rise from above 0; make the file anew.")
            table[(sex, month)] = (low, high)
    if len(table) != len(SEXES) * (LAST_MONTH - first_month + 1):
        raise GrowthTableError(f"{path.name}: months are lacking; make the file with generate.py.")
    return MappingProxyType(table)


@cache
def _table(name: str) -> Table:
    return load(DIRECTORY / f"{name}.csv", FIRST_BMI_MONTH if name == "bmi" else FIRST_MONTH)


def _range(name: str, sex: str | None, months: int) -> Range | None:
    if months < 0:
        raise ValueError("an age is not below zero; give completed months since birth")
    if months > LAST_MONTH:
        return None
    table = _table(name)
    if sex in SEXES:
        return table[(sex, months)]
    found = [table[(each, months)] for each in SEXES]
    return min(low for low, _ in found), max(high for _, high in found)


def limits(measure: Measure, sex: str | None, months: int) -> Range | None:
    """Lowest and highest plausible weight (kg) or height (cm) at an age in completed months.

    ``sex`` is FHIR's administrative gender; unknown or other gives the union of both sexes. ``None`` only
    beyond 239 months, where no limit by age exists.
    """
    return _range(measure, sex, months)


def bmi_centile98(sex: str | None, months: int) -> Range | None:
    """The 98th centile of BMI (kg/m2): twice the same value, or lowest and highest where the sex is unknown.

    ``None`` below 24 and beyond 239 months.
    """
    return None if 0 <= months < FIRST_BMI_MONTH else _range("bmi", sex, months)
