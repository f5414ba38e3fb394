"""Small readings shared by all resources: codings, texts, dates, whose resource it is. Any JSON may come in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from fhir_mappings.concepts import concepts_of, exclusions_of
from fhir_mappings.prefetch import relative_reference
from fhir_mappings.systems import canonical

Resource = Mapping[str, Any]
LONGEST_CODE = 64
LONGEST_SYSTEM = 256
_FULL_DATE, _YEAR = 10, 4
FIRST_DAY, LAST_DAY = date(1800, 1, 1), date(2300, 12, 31)
_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})(?:[T ][0-9:.,Z+-]*)?)?)?", re.IGNORECASE
)


_NOTHING: frozenset[str] = frozenset()
_USUAL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.,Z+-]*)?")


@lru_cache(maxsize=8192)
def _concepts(system: str, code: str) -> frozenset[str]:
    return concepts_of(system, code)


def codings(concept: object) -> Iterator[tuple[str, str]]:
    """(system, code) of every coding of a CodeableConcept (or a list of them, or one Coding)."""
    if isinstance(concept, list):
        for item in concept:
            yield from codings(item)
    elif isinstance(concept, dict):
        for coding in _codings_of(_unwrapped(concept)):
            if isinstance(coding, dict):
                system, code = coding.get("system"), coding.get("code")
                if isinstance(code, int) and not isinstance(code, bool):
                    code = str(code)  # SNOMED CT and RxNorm codes that lost their quotation marks
                if isinstance(system, str) and isinstance(code, str) and len(code) <= LONGEST_CODE:
                    yield system, code


def _unwrapped(concept: Mapping[str, Any]) -> Mapping[str, Any]:
    """The concept of a CodeableReference (R5, where R4 has a CodeableConcept); anything else is its own."""
    inner = concept.get("concept")
    return inner if isinstance(inner, dict) and "coding" not in concept else concept


def _codings_of(concept: Mapping[str, Any]) -> list[Any]:
    """The codings of a CodeableConcept; one alone is a list of one, and a bare Coding is its own."""
    listed = concept.get("coding")
    if isinstance(listed, list):
        return listed
    return [listed if isinstance(listed, dict) else concept]


def concepts_in(concept: object) -> frozenset[str]:
    """Every concept that the codings stand for; an excluded look-alike is none."""
    if concept is None:
        return _NOTHING
    # By far the most have one coding, whose concepts are known already. (JSON has no subclasses.)
    listed = concept.get("coding") if type(concept) is dict else None
    if type(listed) is list and len(listed) == 1 and type(coding := listed[0]) is dict:
        system, code = coding.get("system"), coding.get("code")
        if type(system) is str and type(code) is str and len(code) <= LONGEST_CODE:
            return _concepts(system if len(system) <= LONGEST_SYSTEM else system[:LONGEST_SYSTEM], code)
    found = _NOTHING
    for system, code in codings(concept):
        found |= _concepts(system[:LONGEST_SYSTEM], code)
    return found


@lru_cache(maxsize=8192)
def _exclusions(system: str, code: str) -> frozenset[str]:
    return exclusions_of(system, code)


def is_negation(concept: object) -> bool:
    return any(_exclusions(system[:LONGEST_SYSTEM], code) for system, code in codings(concept))


def has_known_system(concept: object) -> bool:
    """Whether any coding is in a code system that this service knows."""
    return any(
        (_canonical if len(system) <= LONGEST_SYSTEM else canonical)(system) is not None
        for system, _ in codings(concept)
    )


@lru_cache(maxsize=1024)
def _canonical(system: str) -> str | None:
    return canonical(system)


def texts(concept: object) -> Iterator[str]:
    """The words of a CodeableConcept: its text and the displays of its codings."""
    if isinstance(concept, list):
        for item in concept:
            yield from texts(item)
    elif isinstance(concept, dict):
        concept = _unwrapped(concept)
        for holder in (concept, *_codings_of(concept)):
            if isinstance(holder, dict):
                for name in ("text", "display"):
                    word = holder.get(name)
                    if isinstance(word, str):
                        yield word


def status_of(resource: Resource) -> str | None:
    status = resource.get("status")
    return status.strip().lower() if isinstance(status, str) else None


def read_date(value: object) -> date | None:
    """The day of a FHIR date, dateTime or instant; a partial date gives its first day (the oldest reading).

    0001-01-01 and 9999-12-31 are how databases write "not known" and "open": no dates, like any so far away.
    """
    if not isinstance(value, str):
        return None
    try:
        if _USUAL_DATE.fullmatch(value):
            day = date.fromisoformat(value[:_FULL_DATE])
        else:
            found = _DATE.fullmatch(value.strip())
            if found is None:
                return None
            day = date(int(found["year"]), int(found["month"] or 1), int(found["day"] or 1))
    except ValueError:
        return None
    return day if FIRST_DAY <= day <= LAST_DAY else None


def read_span(value: object) -> tuple[date, date] | None:
    """First and last day that a (partial) date allows."""
    first = read_date(value)
    if first is None or not isinstance(value, str):
        return None
    length = len(value.strip())
    if length >= _FULL_DATE:
        return first, first
    if length == _YEAR:
        return first, date(first.year, 12, 31)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first, following - timedelta(days=1)


def period(resource: Resource, name: str) -> tuple[date | None, date | None]:
    """Start and end of a Period element."""
    found = resource.get(name)
    if not isinstance(found, dict):
        return None, None
    return read_date(found.get("start")), read_date(found.get("end"))


_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")


def reference(resource: Resource) -> str:
    """``Type/id``; a resource without an id that FHIR allows is named by its type alone.

    References reach the card, so nothing that is not shaped like one is passed on.
    """
    kind, id_ = resource.get("resourceType"), resource.get("id")
    is_type = kind == "Observation" or (isinstance(kind, str) and _TYPE.fullmatch(kind))
    name = str(kind) if is_type else "Resource"
    return f"{name}/{id_}" if isinstance(id_, str) and _ID.fullmatch(id_) else name


def is_of_patient(resource: Resource, patient_id: str) -> bool:
    """Whether the resource is about this child. One that names no subject is taken as found by the search."""
    subject = resource.get("subject") or resource.get("patient")
    text = subject.get("reference") if isinstance(subject, dict) else subject
    if not isinstance(text, str) or text.startswith(("#", "urn:")):
        return True
    own = f"Patient/{patient_id}"
    return text == own or relative_reference(text) in (own, patient_id)


def is_of_other_focus(resource: Resource, patient_id: str) -> bool:
    """Whether an Observation in this child's record is about something else (a donor, a fetus, a device)."""
    focus = resource.get("focus")
    return any(
        not isinstance(item, dict) or not is_of_patient({"subject": item}, patient_id)
        for item in (focus if isinstance(focus, list) else [focus] if focus else [])
    )


def is_modified(resource: Resource) -> bool:
    """Whether a modifierExtension, or rules agreed elsewhere (``implicitRules``), change what the resource (or
    element) means; then it cannot be used."""
    return bool(resource.get("modifierExtension") or resource.get("implicitRules"))
