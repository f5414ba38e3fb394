"""Text of the cards: numbers, dates and doses as a clinician writes them, and the escaping of everything else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path
from typing import Any

from guideline.doses import Form, OrderedDose, Regimen
from guideline.facts import vocabulary
from guideline.sources import solution_mg_per_ml
from guideline.values import Cause, Evidence
from guideline.words import day as day
from guideline.words import partial_day, unit_words
from guideline.words import plain as plain
from guideline.words import regimen as regimen
from guideline.yaml_text import read_yaml

LONGEST_SUMMARY = 139
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_DATE = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(?:-(\d\d))?")
_UNSEEN = re.compile(r"[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@cache
def wording() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = read_yaml(Path(__file__).with_name("wording.yaml"))
    return loaded


def escaped(text: str) -> str:
    """Text that is not our own, fit for GFM: no Markdown, no HTML, no control or bidirectional characters.

    ``@`` becomes a word: cmark-gfm makes a link of an e-mail address even where its signs are escaped.
    """
    return _PUNCTUATION.sub(r"\\\1", " ".join(_UNSEEN.sub(" ", text).replace("@", " at ").split()))


def rounded(number: Decimal, places: int = 1) -> str:
    """A calculated number for reading; never so rounded that it seems to sit on a limit where it does not."""
    if number == number.to_integral_value():
        return plain(number)
    for digits in range(places, 8):
        shown = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)
        if shown == number or shown != shown.to_integral_value():
            return plain(shown) if shown != shown.to_integral_value() else str(shown)
    return plain(number)


def amount(value: Decimal | str, unit: str | None) -> str:
    shown = _measured(value) if isinstance(value, Decimal) else _bound(value)
    words = unit_words(unit)
    return f"{shown} {words}" if words and words != "years" else shown


def _measured(value: Decimal) -> str:
    """As it was measured; 0.75 is not shown as 0.8, which lies on the other side of a limit. Long tails are rounded."""
    exponent = value.normalize().as_tuple().exponent
    return plain(value) if isinstance(exponent, int) and exponent >= -_MEASURED_PLACES else rounded(value)


_MEASURED_PLACES = 3
"""Decimals that results come with; more of them stem from a conversion or a calculation."""


def _bound(text: str) -> str:
    """``<0.5`` as words, so that no angle bracket stands in a card; a date, or the part known of it, as others."""
    if dated := _DATE.fullmatch(text):
        return partial_day(*(int(part) for part in dated.groups() if part))
    for sign, words in (("<=", "at most "), (">=", "at least "), ("<", "below "), (">", "above ")):
        if text.startswith(sign):
            return words + text.removeprefix(sign)
    return text


def name_of(fact: str) -> str:
    kind = vocabulary().get(fact)
    names: Mapping[str, str] = wording()["names"]
    return names.get(fact) or (kind.title if kind is not None else fact)


# --- doses ----------------------------------------------------------------------------------------


def regimen_in_full(value: Regimen, form: Form) -> str:
    """The dose with its daily total, and its volume where it is the oral solution."""
    total = f"{plain(value.mg_per_day)} mg per day"
    if form is Form.ORAL_SOLUTION and len(value.administrations) == 1:
        strength = solution_mg_per_ml()
        volume = value.administrations[0].mg / strength
        solution = f"{plain(volume)} mL of the {plain(strength)} mg/mL oral solution each time"
        return f"{regimen(value)} = {solution} ({total})"
    return f"{regimen(value)} ({total})"


def drafted(dose: OrderedDose) -> str:
    """The drafted dose for a summary."""
    return regimen(dose.regimen) if dose.regimen is not None else ""


# --- evidence and gaps ----------------------------------------------------------------------------


def datum(item: Evidence) -> str:
    """One datum with its unit, date and note."""
    value = amount(item.value, item.unit)
    coded = item.fact in _CODED and isinstance(item.value, str)
    value = f": {_concepts(str(item.value))}" if coded else f" {value}"
    when = f", {day(item.on)}" if item.on is not None and not value.endswith(day(item.on)) else ""
    note = f" ({item.note})" if item.note else ""
    return f"{name_of(item.fact)}{value}{when}{note}"


_CODED = frozenset(
    {
        *("conditions", "medications", "drafts", "operations", "procedures", "allergies", "immunizations"),
        *("liveVaccine", "indication", "jiaCategory", "monitoring"),
    }
)
"""Facts whose values are names of our code lists, or words of ours."""
_ABBREVIATION = re.compile(r"\b(?:tb|rf|jia|jdm|sle|savi|praas|bk|jc|vzv|mmr|bcg|gi)\b")
_KIND_OF_INFECTION = re.compile(r"\binfection-(serious|minor)-")


def _concepts(value: str) -> str:
    """``infection-serious-sepsis`` as ``sepsis``, ``tb-active`` as ``TB active``."""
    words = re.sub(r"(?<!\bco)-", " ", _KIND_OF_INFECTION.sub("", value))
    return _ABBREVIATION.sub(lambda found: found[0].upper(), words).replace("gvhd", "GvHD")


def gap(cause: Cause) -> str:
    """One missing datum and why."""
    reasons: Mapping[str, str] = wording()["reasons"]
    told = reasons[cause.reason]
    detail = cause.detail if cause.detail != told else None
    return f"{name_of(cause.fact)}: {told}" + (f" ({detail})" if detail else "")


def override_reason(code: str) -> str:
    """The words of one of our override reasons; a site may have sent another."""
    reasons: Iterable[Mapping[str, str]] = wording()["override_reasons"]
    return next((reason["display"] for reason in reasons if reason["code"] == code), "another reason")


def joined(parts: Iterable[str]) -> str:
    """``a, b and c``."""
    items = list(parts)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def summary(text: str, beside: str = "") -> str:
    """One line of at most 139 characters, cut at a word; fewer by what is to stand ``beside`` it."""
    line, most = " ".join(text.split()), LONGEST_SUMMARY - len(beside)
    if len(line) <= most:
        return line
    return line[: most - 1].rsplit(" ", 1)[0].rstrip(" ,;:-") + "…"


def capital(text: str) -> str:
    """A sentence begins with a capital, but for a name like eGFR."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]
