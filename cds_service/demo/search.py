"""Read and type-level search over the invented children (FHIR R4, "Search"), without HTTP.

Only what clients of CDS Hooks use: reference, token, date and string parameters, ``_id``, ``_sort``, ``_count``
and pages. A parameter that is not known is left out, as the standard has servers do unless the client asks for
strict handling; the ``self`` link shows which counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

Resource = dict[str, Any]
Parameters = Sequence[tuple[str, str]]

PAGE = 50
"""Matches on a page where the client names no ``_count``."""
LARGEST_PAGE = 500
_OFFSET = "_offset"
_COMPARED = {
    "eq": lambda found, asked: found.startswith(asked),
    "ge": lambda found, asked: found[: len(asked)] >= asked,
    "gt": lambda found, asked: found[: len(asked)] > asked,
    "le": lambda found, asked: found[: len(asked)] <= asked,
    "lt": lambda found, asked: found[: len(asked)] < asked,
}
_DATE = re.compile(r"(?P<how>[a-z]{2})?(?P<day>[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?)(?:T.*)?")
_COMMA = re.compile(r"(?<!\\),")


class BadSearch(ValueError):
    """A search that cannot be carried out; the text names the parameter and the cure, never the value."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be searched in one resource type: parameter -> (type of the parameter, element)."""

    parameters: Mapping[str, tuple[str, str]]


def _kind(
    code: str | None, date: str | None, more: dict[str, tuple[str, str]], patient: str = "subject"
) -> Kind:
    parameters = {"patient": ("reference", patient), **more}
    if patient == "subject":
        parameters["subject"] = ("reference", patient)
    if code is not None:
        parameters["code"] = ("token", code)
    if date is not None:
        parameters["date"] = ("date", date)
    return Kind(parameters)


_STATUS = ("token", "status")
_CATEGORY = ("token", "category")
KINDS: dict[str, Kind] = {
    "Patient": Kind(
        {"name": ("string", "name"), "gender": ("token", "gender"), "birthdate": ("date", "birthDate")}
    ),
    "Practitioner": Kind({"name": ("string", "name")}),
    "Condition": _kind(
        "code",
        "recordedDate",
        {
            "category": _CATEGORY,
            "clinical-status": ("token", "clinicalStatus"),
            "recorded-date": ("date", "recordedDate"),
        },
    ),
    "Observation": _kind("code", "effectiveDateTime", {"category": _CATEGORY, "status": _STATUS}),
    "Procedure": _kind("code", "performedDateTime", {"status": _STATUS}),
    "MedicationRequest": _kind(
        "medicationCodeableConcept",
        "authoredOn",
        {
            "status": _STATUS,
            "category": _CATEGORY,
            "intent": ("token", "intent"),
            "authoredon": ("date", "authoredOn"),
        },
    ),
    "MedicationStatement": _kind(
        "medicationCodeableConcept",
        None,
        {"status": _STATUS, "category": _CATEGORY, "effective": ("date", "effectiveDateTime")},
    ),
    "AllergyIntolerance": _kind("code", "recordedDate", {"category": _CATEGORY}, "patient"),
    "Immunization": _kind(
        None,
        "occurrenceDateTime",
        {"status": _STATUS, "vaccine-code": ("token", "vaccineCode")},
        "patient",
    ),
    "ServiceRequest": _kind(
        "code",
        "authoredOn",
        {
            "status": _STATUS,
            "category": _CATEGORY,
            "intent": ("token", "intent"),
            "occurrence": ("date", "occurrenceDateTime"),
        },
    ),
}


def search(
    resources: Iterable[Resource], kind: str, parameters: Parameters, base: str, *, page: int = PAGE
) -> Resource:
    """The first (or the asked for) page of the matches as a searchset Bundle.

    Raises:
        BadSearch: a ``_count``, page or date that cannot be read, or an order that is not offered.
    """
    known = {"_id": ("token", "id"), **KINDS[kind].parameters}
    used: list[tuple[str, str]] = []
    tests: list[Callable[[Resource], bool]] = []
    order, count, offset = "", page, 0
    for name, value in parameters:
        if name == "_count":
            count = min(_number(name, value), LARGEST_PAGE)
        elif name == _OFFSET:
            offset = _number(name, value)
            continue
        elif name == "_sort":
            order = value
        elif name in known:
            tests.append(_test(name, *known[name], value))
        else:
            continue
        used.append((name, value))
    found = list(resources)
    for (
        test
    ) in tests:  # one after the other: the patient, who comes first, leaves few for the long code lists
        found = [resource for resource in found if test(resource)]
    return _bundle(kind, _sorted(found, order, known), used, (offset, count), base)


def _bundle(
    kind: str, found: list[Resource], used: Parameters, window: tuple[int, int], base: str
) -> Resource:
    offset, count = window
    here = f"{base}/{kind}"
    links = [{"relation": "self", "url": _address(here, used, offset)}]
    if 0 < count < len(found) - offset:
        links.append({"relation": "next", "url": _address(here, used, offset + count)})
    bundle: Resource = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links}
    shown = found[offset : offset + count]
    if shown:
        bundle["entry"] = [
            {"fullUrl": f"{here}/{resource['id']}", "resource": resource, "search": {"mode": "match"}}
            for resource in shown
        ]
    return bundle


def _address(here: str, used: Parameters, offset: int) -> str:
    query = urlencode([*used, *([(_OFFSET, str(offset))] if offset else [])])
    return f"{here}?{query}" if query else here


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value):
        raise BadSearch(f"{name} is not a whole number; write one from 0, or leave it out.")
    return int(value)


# --- matching -------------------------------------------------------------------------------------


def _test(name: str, how: str, element: str, value: str) -> Callable[[Resource], bool]:
    """One parameter as a test; a comma means "or"."""
    wanted = [part.replace("\\,", ",").strip() for part in _COMMA.split(value) if part.strip()]
    if how == "date":
        return _date_test(name, element, wanted)
    matches = {"reference": _refers, "token": _has_token, "string": _says}[how](wanted)
    return lambda resource: matches(resource.get(element))


def _date_test(name: str, element: str, wanted: Sequence[str]) -> Callable[[Resource], bool]:
    read = [_DATE.fullmatch(one) for one in wanted]
    tests = [(_COMPARED.get(one["how"] or "eq"), one["day"]) for one in read if one is not None]
    if len(tests) < len(wanted) or any(compare is None for compare, _ in tests):
        raise BadSearch(f"{name} is not a date; write it as ge2026-01-31 (eq, ge, gt, le or lt before it).")

    def test(resource: Resource) -> bool:
        on = resource.get(element)
        return isinstance(on, str) and any(compare(on, day) for compare, day in tests if compare is not None)

    return test


def _refers(wanted: Sequence[str]) -> Callable[[object], bool]:
    """``id``, ``Type/id`` and an absolute address all name the resource with that id."""
    asked = {"/".join(one.rsplit("/", 2)[-2:]) for one in wanted}

    def matches(element: object) -> bool:
        reference = element.get("reference") if isinstance(element, dict) else None
        return isinstance(reference, str) and (reference in asked or reference.rpartition("/")[2] in asked)

    return matches


def _has_token(wanted: Sequence[str]) -> Callable[[object], bool]:
    """``code``, ``system|code``, ``|code`` (no system) and ``system|`` (any code of it)."""
    bare = {one for one in wanted if "|" not in one}
    pairs = {tuple(one.rsplit("|", 1)) for one in wanted if "|" in one}

    def matches(element: object) -> bool:
        return any(
            code in bare or (system, code) in pairs or (system, "") in pairs
            for system, code in _tokens(element)
        )

    return matches


def _tokens(element: object) -> Iterator[tuple[str, str]]:
    """(system, code) of every coding; a plain code has no system."""
    if isinstance(element, str):
        yield "", element
    elif isinstance(element, list):
        for one in element:
            yield from _tokens(one)
    elif isinstance(element, dict):
        for coding in element.get("coding", ()):
            yield coding.get("system", ""), coding.get("code", "")


def _says(wanted: Sequence[str]) -> Callable[[object], bool]:
    """Whether some part of a name begins so."""
    starts = tuple(one.casefold() for one in wanted)
    return lambda element: any(part.casefold().startswith(starts) for part in _words(element))


def _words(element: object) -> Iterator[str]:
    if isinstance(element, str):
        yield element
    elif isinstance(element, list | dict):
        for one in element.values() if isinstance(element, dict) else element:
            yield from _words(one)


def _sorted(found: list[Resource], order: str, known: Mapping[str, tuple[str, str]]) -> list[Resource]:
    """By the named parameters, the last first, so that the first one rules. Without one: as stored."""
    for name in reversed([part.strip() for part in order.split(",") if part.strip()]):
        bare = name.removeprefix("-")
        how, element = known.get(bare, ("", ""))
        if bare in ("_lastUpdated",):
            how, element = next((k for k in known.values() if k[0] == "date"), ("token", "id"))
        if not how:
            raise BadSearch(
                "_sort names a parameter that cannot be sorted by; see metadata for those there are."
            )

        def key(resource: Resource, element: str = element) -> str:
            value = resource.get(element)
            return value if isinstance(value, str) else next((c for _, c in _tokens(value)), "")

        found = sorted(found, key=key, reverse=name.startswith("-"))
    return found
