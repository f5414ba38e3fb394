"""Patient -> birth date and sex. A partial birth date is kept as what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

from fhir_mappings.elements import Resource, is_modified, read_span, reference
from fhir_mappings.prefetch import Pool, Supply
from fhir_mappings.products import listed
from guideline.record import Birth
from guideline.values import Cause, Evidence, Fact, Known, Missing, Reason

_OLDEST = 130
_SEXES = ("male", "female", "other", "unknown")


def read_birth(patients: Sequence[Resource], on: date) -> Birth | Cause:
    """The birth date, or why it cannot be used (ruling 23). The Patient may have come more than once."""
    first, *others = dict.fromkeys(_birth_of(patient, on) for patient in patients)
    if others:
        return Cause("birthDate", Reason.UNREADABLE, "the Patient came twice, with two birth dates")
    return first


def _birth_of(patient: Resource, on: date) -> Birth | Cause:
    if is_modified(patient):
        return Cause(
            "birthDate", Reason.UNREADABLE, "the Patient carries a modifier that this service does not know"
        )
    written = patient.get("birthDate")
    if written is None or written == "":
        return Cause("birthDate", Reason.ABSENT)
    span = read_span(written)
    if span is None or not isinstance(written, str):
        return Cause("birthDate", Reason.UNREADABLE, "it is not a date")
    earliest, latest = span
    if earliest > on:
        return Cause("birthDate", Reason.IMPLAUSIBLE, "it lies in the future")
    if on.year - latest.year > _OLDEST:
        return Cause("birthDate", Reason.IMPLAUSIBLE, "it lies too far in the past")
    return Birth(earliest, min(latest, on), reference(patient), _shown(span, written.strip()))


def _shown(span: tuple[date, date], written: str) -> str:
    """The birth date as precise as it was given, and nothing else that may stand in the element."""
    day = span[0].isoformat()
    return day[: min(len(written), len(day))]


def read_sex(patients: Sequence[Resource]) -> Fact:
    """The sex on record; unreadable where the Patient came more than once and they differ."""
    first, *others = dict.fromkeys(map(_sex_of, patients))
    return Missing.of("sex", Reason.UNREADABLE) if others else first


def _sex_of(patient: Resource) -> Fact:
    gender = patient.get("gender")
    if isinstance(gender, str) and gender in _SEXES:
        return Known(gender, (Evidence("sex", gender, source=reference(patient)),))
    return Missing.of("sex", Reason.ABSENT if gender is None else Reason.UNREADABLE)


def find_patient(pool: Pool, patient_id: str) -> tuple[Resource, ...]:
    """The Patient of the request, each time that it came differently; another patient is never taken for it."""
    return tuple(patient for patient in pool.of("Patient") if patient.get("id") == patient_id)


# --- resources that name their patient by a number only ------------------------------------------------

_SOMEBODY_ELSE = {"reference": "Person/of-another-number"}


def with_owners(supplies: Mapping[str, Supply], patient_id: str) -> Mapping[str, Supply]:
    """The supplies with a reference on every resource that names its patient by an identifier alone.

    Where the Patient has a number of the same system, another number is another patient. Where it has none, nothing
    contradicts the search that found the resource.
    """
    numbers: dict[object, set[object]] = {}
    for patient in [r for s in supplies.values() for r in s.resources if r["resourceType"] == "Patient"]:
        for number in listed(patient.get("identifier")) if patient.get("id") == patient_id else ():
            if isinstance(number, dict) and isinstance(system := number.get("system"), str):
                numbers.setdefault(system, set()).add(str(number.get("value")))
    if not numbers:
        return supplies
    return {
        name: msgspec.structs.replace(
            supply, resources=tuple(_owned(resource, numbers) for resource in supply.resources)
        )
        for name, supply in supplies.items()
    }


def _owned(resource: Resource, numbers: Mapping[object, set[object]]) -> Resource:
    for name in ("subject", "patient"):
        subject = resource.get(name)
        if not isinstance(subject, dict) or isinstance(subject.get("reference"), str):
            continue
        number = subject.get("identifier")
        if not isinstance(number, dict) or not isinstance(system := number.get("system"), str):
            continue
        if system in numbers and str(number.get("value")) not in numbers[system]:
            return {**resource, name: _SOMEBODY_ELSE}
    return resource
