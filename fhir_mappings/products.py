"""The product an order names: its form and strength, and the amounts of medicine that are written about it.

A dose is often drafted in tablets or millilitres; only the product says how many milligrams that is. It is
told by its code (``concepts.product_of``), by the Medication resource, or by the words of the order. Where
two of them disagree nothing is chosen: the strength is ``None`` and ``note`` says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

from fhir_mappings import concepts, systems
from guideline.doses import Form

_ORDERABLE_DRUG_FORM = frozenset(
    {
        "http://terminology.hl7.org/CodeSystem/v3-orderableDrugForm",
        "http://hl7.org/fhir/v3/orderableDrugForm",
    }
)

_FOREIGN = "a code system that is not ours"

# A number beyond these powers of ten is no amount of a medicine, and could overflow the arithmetic.
_GREATEST_POWER = 9
_LEAST_POWER = -9


class Unreadable(ValueError):
    """A part of an order is there but cannot be understood. The message never holds text of the request."""


class Kind(StrEnum):
    """What an amount of medicine counts."""

    MILLIGRAM = "mg"
    MILLILITRE = "mL"
    TABLET = "tablet"


@dataclass(frozen=True, slots=True)
class Amount:
    """So many milligrams, millilitres or tablets."""

    value: Decimal
    kind: Kind


@dataclass(frozen=True, slots=True)
class Product:
    """What an order says of its product.

    ``strength_mg`` is milligrams in one tablet where ``per_ml`` is ``None``, else milligrams in ``per_ml``
    millilitres (5 mg/5 mL: 5 and 5). ``None`` means not known, or contradictory. ``source`` tells where the
    strength was read (``product-code``, ``medication-ingredient``, ``words``, ``nothing``; ``guideline`` where it is
    taken from there); ``note`` says, in
    our own words, what contradicts.
    """

    form: Form
    strength_mg: Decimal | None
    per_ml: Decimal | None
    source: str
    modified_release: bool = False
    note: str | None = None

    @property
    def tablet_mg(self) -> Decimal | None:
        """Milligrams in one tablet, where the product is counted in such and says so."""
        return self.strength_mg if self.per_ml is None else None

    @property
    def mg_per_ml(self) -> Decimal | None:
        """Milligrams in a millilitre, where the product is a liquid and says so."""
        return self.strength_mg / self.per_ml if self.strength_mg is not None and self.per_ml else None


@dataclass(frozen=True, slots=True)
class _Strength:
    mg: Decimal
    per_ml: Decimal | None

    @property
    def key(self) -> tuple[bool, Fraction]:
        """Equal for equal strengths: 5 mg/5 mL is 1 mg/mL, 1 mg per tablet is not."""
        return self.per_ml is None, Fraction(self.mg) / Fraction(self.per_ml or 1)


# --- amounts: a FHIR Quantity of medicine ---------------------------------------------------------

_UNITS_BY_KIND: Mapping[tuple[Kind, Decimal], tuple[str, ...]] = {
    (Kind.MILLIGRAM, Decimal(1)): ("mg", "mgs", "milligram", "milligrams", "milligram(s)"),
    (Kind.MILLIGRAM, Decimal(1000)): ("g", "gram", "grams", "gram(s)"),
    (Kind.MILLIGRAM, Decimal("0.001")): ("ug", "mcg", "microgram", "micrograms", "microgram(s)"),
    (Kind.MILLILITRE, Decimal(1)): (
        "ml", "mls", "millilitre", "millilitres", "millilitre(s)",
        "milliliter", "milliliters", "milliliter(s)",
    ),
    (Kind.TABLET, Decimal(1)): (
        "{pill}", "{tablet}", "{tbl}", "{tab}", "tablet", "tablets", "tablet(s)", "tab", "tabs", "tab(s)",
        "pill", "pills", "pill(s)", "film-coated tablet", "film-coated tablets",
    ),
}  # fmt: skip
_UNIT_WORDS = {word: unit for unit, words in _UNITS_BY_KIND.items() for word in words}

_UNIT_CODES: Mapping[str, tuple[Kind, Decimal]] = {
    "258684004": (Kind.MILLIGRAM, Decimal(1)),
    "258682000": (Kind.MILLIGRAM, Decimal(1000)),
    "258685003": (Kind.MILLIGRAM, Decimal("0.001")),
    "258773002": (Kind.MILLILITRE, Decimal(1)),
    "428673006": (Kind.TABLET, Decimal(1)),
    "732936001": (Kind.TABLET, Decimal(1)),  # Tablet (unit of presentation)
}


def listed(value: object) -> list[object]:
    """What FHIR may repeat, as a list: an object alone, as some systems send it, is a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def number(value: object) -> Decimal | None:
    """The JSON number, exactly, or ``None`` for anything else (a string, ``true``, NaN, an absurd size).

    Call with Decimals: parse the request with ``parse_float=Decimal``. A float is read by its shortest
    spelling, so that 3.2 stays 3.2.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not found.is_finite() or not (found == 0 or _LEAST_POWER <= found.adjusted() <= _GREATEST_POWER):
        return None
    return found


def read_amount(quantity: Mapping[str, Any]) -> Amount | None:
    """The amount of medicine in a FHIR Quantity: milligrams, millilitres or tablets; ``None`` without value.

    The code is read first, then the words of ``unit`` (some senders have only these). Raises ``Unreadable``
    for a number without a unit, a unit that is not an amount of medicine (mg/kg), a code and a unit that
    contradict each other, a comparator and a value that is no number.
    """
    if quantity.get("value") is None:
        return None
    value = number(quantity["value"])
    if value is None:
        raise Unreadable("an amount is not given as a plain number")
    if quantity.get("comparator") is not None:
        raise Unreadable("an amount is given with a comparator, not as one value")
    kind, factor = _unit_of(quantity)
    return Amount(value * factor, kind)


def _unit_of(quantity: Mapping[str, Any]) -> tuple[Kind, Decimal]:
    code, word = quantity.get("code"), quantity.get("unit")
    system = _system(quantity)
    by_code = _by_code(system, code)
    by_word = _UNIT_WORDS.get(_folded(word))
    if by_code and by_word and by_code != by_word:
        raise Unreadable("the code and the words of a unit contradict each other")
    # A system of its own may name anything; but a code of a known system that is not in our table (mg/kg) is
    # a unit that must not be replaced by the words beside it.
    if code is not None and by_code is None and system != _FOREIGN:
        raise Unreadable("the unit of an amount is not mg, g, microgram, mL or tablet")
    if any(_is_rate(part) for part in (code, word)):
        raise Unreadable("an amount is given as a rate (for example per kg or per day), not as one dose")
    unit = by_code or by_word
    if unit is None:
        if code is None and not _folded(word):
            raise Unreadable("an amount has no unit")
        raise Unreadable("the unit of an amount is not mg, g, microgram, mL or tablet")
    return unit


def _system(coded: Mapping[str, Any]) -> str | None:
    """The canonical code system of a Quantity or Coding; ``None`` where it names none."""
    system = coded.get("system")
    if system is None:
        return None
    if not isinstance(system, str):
        return _FOREIGN
    if system in _ORDERABLE_DRUG_FORM:
        return systems.UCUM
    return systems.canonical(system) or _FOREIGN


def _by_code(system: str | None, code: object) -> tuple[Kind, Decimal] | None:
    if not isinstance(code, str):
        return None
    if code == "1" and system == systems.UCUM:  # "1" counts things only where UCUM says that it is a unit
        return Kind.TABLET, Decimal(1)
    if system in (None, systems.SNOMED) and code.strip() in _UNIT_CODES:
        return _UNIT_CODES[code.strip()]
    return _UNIT_WORDS.get(_folded(code)) if system in (None, systems.UCUM) else None


def _is_rate(unit: object) -> bool:
    return isinstance(unit, str) and ("/" in unit or re.search(r"\bper\b", unit.lower()) is not None)


def _folded(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return " ".join(text.lower().replace("µ", "u").replace("μ", "u").split())


# --- strength and form in words -------------------------------------------------------------------

# Not after a digit, a comma or a hyphen between numbers (2,5 mg; 5-10 mg), nor as the lower half of a ratio.
_STRENGTH = re.compile(
    r"(?<![\w.,/])(?<!\d[-\u2013])(?P<amount>\d{1,6}(?:\.\d{1,6})?)\s*-?"
    r"(?P<unit>mg|milligrams?|mcg|ug|micrograms?|g|grams?)(?![\w-])"
    r"(?P<over>\s*(?:/|per\b)\s*(?:(?P<volume>\d{1,6}(?:\.\d{1,6})?)\s*)?(?P<of>[a-z{}]*))?"
)
_MODIFIED_RELEASE = re.compile(
    r"\b(?:extended|modified|prolonged|sustained|controlled)[ -]release\b|\b(?:xr|mr|sr|er|24 hr)\b"
)
_OTHER_FORM = re.compile(
    r"\b(?:capsules?|caps?|creams?|ointments?|gels?|lotions?|foams?|sprays?|patch(?:es)?|injections?|injectable"
    r"|infusions?|intravenous|subcutaneous|pre-?filled|vials?|ampoules?|suspensions?|syrups?|powders?|granules?"
    r"|suppositor(?:y|ies)|drops?|inhalers?|nebuli[sz]er|topical|cutaneous|lozenges?)\b"
)
_SOLUTION = re.compile(r"\b(?:solutions?|soln|oral liquid|liquid)\b")
_TABLET = re.compile(r"\b(?:tablets?|tabs?)\b")

_FORMS = {form.value: form for form in Form}
_FORM_CODES: Mapping[str, tuple[Form, bool]] = {
    "385055001": (Form.TABLET, False),
    "385057009": (Form.TABLET, False),  # film-coated tablet
    "385061003": (Form.TABLET, True),  # modified-release tablet
    "385023001": (Form.ORAL_SOLUTION, False),
    "385049006": (Form.OTHER, False),  # capsule
}


def _strengths_in(text: str) -> Iterator[_Strength]:
    for found in {found[0]: found for found in _STRENGTH.finditer(_folded(text))}.values():
        mg = Decimal(found["amount"]) * _UNIT_WORDS[found["unit"]][1]
        if mg <= 0:
            continue
        if found["over"] is None:
            yield _Strength(mg, None)
            continue
        per = _UNIT_WORDS.get(found["of"])
        volume = Decimal(found["volume"] or 1)
        # "5 mg/kg" and "5 mg per day" are doses, not strengths: they say nothing of the product.
        if per is None or volume <= 0:
            continue
        if per[0] is Kind.MILLILITRE:
            yield _Strength(mg, volume)
        elif per[0] is Kind.TABLET and volume == 1:
            yield _Strength(mg, None)


def _until_they_differ(strengths: Iterable[_Strength]) -> list[_Strength]:
    """Enough of them to tell whether they agree: the first, and the first that differs. A text may name a million."""
    found: list[_Strength] = []
    seen: set[_Strength] = set()
    for strength in strengths:
        if strength not in seen:
            seen.add(strength)
            found.append(strength)
            if strength.key != found[0].key:
                break
    return found


def _form_in(text: str) -> Form:
    words = _folded(text)
    solution, tablet = _SOLUTION.search(words), _TABLET.search(words)
    if _OTHER_FORM.search(words):  # "solution for injection" is an injection
        return Form.OTHER
    if solution and tablet:
        return Form.UNKNOWN
    if solution:
        return Form.ORAL_SOLUTION
    return Form.TABLET if tablet else Form.UNKNOWN


# --- the product ----------------------------------------------------------------------------------


def read_product(
    concept_codings: Sequence[Mapping[str, Any]], texts: Sequence[str], medication: Mapping[str, Any] | None
) -> Product:
    """Form and strength of the product of an order; never raises.

    ``concept_codings`` and ``texts`` are those of the order's medication concept, ``medication`` the
    Medication resource where the order refers to one (DSTU2 to R5). Every statement about strength must
    agree, and every statement about form; one that is contradicted is not known, and ``note`` says so.
    """
    resource: Mapping[str, Any] = medication if isinstance(medication, dict) else {}
    parts = [resource, *_mappings(resource.get("product"))]  # DSTU2 keeps form and ingredient under "product"
    codings = [*_mappings(list(concept_codings)), *_codings(resource.get("code"))]
    forms = [form for part in parts for key in ("form", "doseForm") for form in listed(part.get(key))]
    words = [text for text in [*texts, *_words(resource.get("code"), codings)] if isinstance(text, str)]

    rows = [row for coding in codings if (row := _row_of(coding)) is not None]
    strengths: dict[str, list[_Strength]] = {
        "product-code": [_Strength(row.strength_mg, row.per_ml) for row in rows],
        "medication-ingredient": [],
        "words": _until_they_differ(strength for text in words for strength in _strengths_in(text)),
    }
    note = None
    try:
        strengths["medication-ingredient"] = list(_ingredient_strength(parts))
    except Unreadable as fault:
        note = str(fault)

    told = [(source, strength) for source, found in strengths.items() for strength in found]
    source, strength = told[0] if told else ("nothing", None)
    if len({found.key for _, found in told}) > 1:
        strength = None
        note = (
            "the words name more than one strength"
            if all(origin == "words" for origin, _ in told)
            else "the product code, the Medication resource and the words do not agree on the strength"
        )

    form, modified, clash = _form([_FORMS.get(row.form, Form.UNKNOWN) for row in rows], forms, words)
    return Product(
        form=form,
        strength_mg=strength.mg if strength else None,
        per_ml=strength.per_ml if strength else None,
        source=source if strength else "nothing",
        modified_release=modified,
        note="; ".join(part for part in (note, clash) if part) or None,
    )


def _form(
    coded: Iterable[Form], named: Iterable[object], texts: Sequence[str]
) -> tuple[Form, bool, str | None]:
    """The one form that is told, whether it is of modified release, and what contradicts."""
    told = set(coded) | {_form_in(text) for text in texts}
    modified = any(_MODIFIED_RELEASE.search(_folded(text)) for text in texts)
    for concept in named:
        codings = _codings(concept)
        for coding in codings:
            found = _FORM_CODES.get(_text(coding.get("code"))) if _system(coding) == systems.SNOMED else None
            if found:
                told.add(found[0])
                modified = modified or found[1]
        for text in _words(concept, codings):
            told.add(_form_in(text))
            modified = modified or _MODIFIED_RELEASE.search(_folded(text)) is not None
    told.discard(Form.UNKNOWN)
    if len(told) > 1:
        return Form.UNKNOWN, modified, "more than one form is named"
    return (told.pop() if told else Form.UNKNOWN), modified, None


def _ingredient_strength(parts: Iterable[Mapping[str, Any]]) -> Iterator[_Strength]:
    """The strength of the one active ingredient (R4 ``strength``, R5 ``strengthRatio``, STU3 ``amount``)."""
    every = [item for part in parts for item in _mappings(part.get("ingredient"))]
    ingredients = [item for item in every if item.get("isActive") is not False]
    if len(ingredients) > 1:
        raise Unreadable("the Medication resource has more than one active ingredient")
    if any(item.get("modifierExtension") for item in ingredients):
        raise Unreadable("the Medication resource carries a modifier that this service does not know")
    for item in ingredients:
        for key in ("strength", "strengthRatio", "amount"):
            for ratio in _mappings(item.get(key)):
                yield from _ratio(ratio)
        for quantity in _mappings(item.get("strengthQuantity")):
            amount = read_amount(quantity)
            if amount and amount.kind is Kind.MILLIGRAM and amount.value > 0:
                yield _Strength(amount.value, None)


def _ratio(ratio: Mapping[str, Any]) -> Iterator[_Strength]:
    upper, lower = _mappings(ratio.get("numerator")), _mappings(ratio.get("denominator"))
    if len(upper) != 1 or len(lower) != 1:
        return
    mg, per = read_amount(upper[0]), read_amount(lower[0])
    if mg is None or per is None or mg.kind is not Kind.MILLIGRAM or mg.value <= 0 or per.value <= 0:
        return
    if per.kind is Kind.MILLILITRE:
        yield _Strength(mg.value, per.value)
    elif per.kind is Kind.TABLET:
        yield _Strength(mg.value / per.value, None)


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in listed(value) if isinstance(item, dict)]


def _codings(concept: object) -> list[Mapping[str, Any]]:
    return [coding for item in _mappings(concept) for coding in _mappings(item.get("coding"))]


def _words(concept: object, codings: Iterable[Mapping[str, Any]]) -> list[str]:
    texts = [item.get("text") for item in _mappings(concept)] + [coding.get("display") for coding in codings]
    return [text for text in texts if isinstance(text, str)]


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _row_of(coding: Mapping[str, Any]) -> concepts.Product | None:
    return concepts.product_of(_text(coding.get("system")), _text(coding.get("code")))
