"""Conditions, doses, dates and units in a clinician's words, for cards and the generated page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from guideline.cells import Cell
from guideline.doses import Administration, Regimen, When
from guideline.facts import vocabulary

_UNITS: Mapping[str, str] = {
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "10*9/L": "×10⁹/L",
    "umol/L": "µmol/L",
    "a": "years",
    "mo": "months",
    "d": "days",
    "mg/d": "mg per day",
    "Cel": "°C",
    "{Log_copies}/mL": "log₁₀ copies/mL",
    "1": "",
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_HUNDREDTH = Decimal("0.01")
_TIMES = {1: "once daily", 2: "twice daily", 3: "three times daily", 4: "four times daily"}
_HOLDS = {"yes": "holds", "no": "does not hold"}
_OPEN_END = re.compile(r"(\S+) (or (?:less|more))")
_ABBREVIATIONS = {"jia": "JIA", "jdm": "JDM", "gvhd": "GvHD"}
_WHEN = {When.MORN: "morning", When.AFT: "afternoon", When.EVE: "evening"}


def unit_words(unit: str | None) -> str:
    """A UCUM unit as a clinician writes it."""
    return _UNITS.get(unit or "", unit or "")


def day(value: date) -> str:
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def partial_day(year: int, month: int | None = None, of_month: int | None = None) -> str:
    """A date as far as it is known: ``7 May 2014``, ``May 2014``, ``2014``."""
    known = (str(of_month) if of_month else "", _MONTHS[month - 1] if month else "", str(year))
    return " ".join(part for part in known if part)


def plain(number: Decimal) -> str:
    """A number without exponent or idle zeros."""
    text = format(number.normalize(), "f")
    return text if "." in text or text == "0" else format(number.to_integral_value(), "f")


def regimen(value: Regimen) -> str:
    """A day's doses: ``4 mg twice daily``, ``4 mg morning + 2 mg evening``."""
    return " + ".join(_administration(each) for each in value.administrations)


def _administration(each: Administration) -> str:
    if each.when is not None:
        return f"{plain(each.mg)} mg {_WHEN[each.when]}"
    times = each.times_per_day if each.times_per_day is not None else Decimal(1)
    whole = int(times) if times == times.to_integral_value() else None
    often = (
        _TIMES.get(whole, f"{whole} times daily")
        if whole is not None
        else f"{plain(times.quantize(_HUNDREDTH))} times a day"
    )
    return f"{plain(each.mg)} mg {often}"


def box_in_words(box: Mapping[str, Cell], *, spoken: bool = False) -> str:
    """The conditions of a box: short, as a card has them, or ``spoken``, as a sentence read aloud has them."""
    parts = []
    for name, cell in box.items():
        kind = vocabulary()[name]
        words = cell.in_words()
        if spoken and words in _HOLDS:
            parts.append(f"“{kind.title}” {_HOLDS[words]}")
        elif kind.kind == "choice" and words == "yes":
            parts.append(kind.title)
        elif kind.kind == "choice" and words == "no":
            parts.append(f"not: {kind.title}")
        else:
            unit = f" {unit_words(kind.unit)}" if unit_words(kind.unit) and name != "age" else ""
            parts.append(f"{kind.title} {'is ' if spoken else ''}{_measure(words, unit)}")
    return " and ".join(parts)


def _measure(words: str, unit: str) -> str:
    """``1.2 g/dL or less`` instead of ``1.2 or less g/dL``; abbreviations in capitals."""
    if found := _OPEN_END.fullmatch(words):
        return f"{found[1]}{unit} {found[2]}"
    return " ".join(_ABBREVIATIONS.get(word, word) for word in words.split()) + unit


def boxes_in_words(boxes: tuple[Mapping[str, Cell], ...], *, spoken: bool = False) -> str:
    """The alternatives of a row as one sentence part."""
    return ", or ".join(box_in_words(box, spoken=spoken) for box in boxes) if boxes else "always"
