"""Conditions and units in a clinician's words, for cards and the generated page."""

from __future__ import annotations

from collections.abc import Mapping

from guideline.cells import Cell
from guideline.facts import vocabulary

_UNITS: Mapping[str, str] = {
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "10*9/L": "×10⁹/L",
    "umol/L": "µmol/L",
    "a": "years",
    "mo": "months",
    "mg/d": "mg per day",
}


def unit_words(unit: str | None) -> str:
    """A UCUM unit as a clinician writes it."""
    return _UNITS.get(unit or "", unit or "")


def box_in_words(box: Mapping[str, Cell]) -> str:
    parts = []
    for name, cell in box.items():
        kind = vocabulary()[name]
        words = cell.in_words()
        if kind.kind == "choice" and words == "yes":
            parts.append(kind.title)
        elif kind.kind == "choice" and words == "no":
            parts.append(f"not: {kind.title}")
        else:
            unit = f" {unit_words(kind.unit)}" if kind.unit and name != "age" else ""
            parts.append(f"{kind.title} {words}{unit}")
    return " and ".join(parts)


def boxes_in_words(boxes: tuple[Mapping[str, Cell], ...]) -> str:
    """The alternatives of a row as one sentence part."""
    return ", or ".join(box_in_words(box) for box in boxes) if boxes else "always"
