"""What of a request was not used, and why: for ``jaki-cds explain``, so that nobody has to guess.

The words are ours; of a resource only its reference is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fhir_mappings.elements import (
    Resource,
    is_modified,
    is_of_other_focus,
    is_of_patient,
    reference,
    status_of,
)
from fhir_mappings.lists import is_active_condition, is_never_true
from fhir_mappings.panels import results_of
from fhir_mappings.prefetch import Pool
from fhir_mappings.unknown_codes import IN_MEDICATION, RESOURCE_TYPES, is_in_words_alone, is_unknown
from guideline.record import Record, Unusable

_WITHDRAWN = ("entered-in-error", "cancelled", "not-done", "not-taken", "nullified")
_FINAL = ("final", "amended", "corrected")


@dataclass(frozen=True, slots=True)
class Rejected:
    """One resource that was not used; ``fact`` is what it would have given, where it got as far as that."""

    source: str
    why: str
    fact: str | None = None


def rejected(pool: Pool, record: Record, patient_id: str) -> tuple[Rejected, ...]:
    """Every resource of the pool that gave no fact although it came, in the order of type and reference."""
    found = [
        Rejected(source, why)
        for resource, source in _every(pool, patient_id)
        if (why := _why(resource, patient_id)) is not None
    ]
    found += [
        Rejected(reference(patient), "it is another patient")
        for patient in pool.of("Patient")
        if patient.get("id") != patient_id
    ]
    for fact, series in record.series.items():
        found += [
            Rejected(item.source, f"{item.reason.value}: {item.detail}", fact)
            for item in series
            if isinstance(item, Unusable)
        ]
    return tuple(sorted(dict.fromkeys(found), key=lambda r: (r.source, r.fact or "", r.why)))


def _every(pool: Pool, patient_id: str) -> Iterator[tuple[Resource, str]]:
    for result in results_of(pool, patient_id):
        yield result.resource, result.source
    for kind in (*RESOURCE_TYPES, "DiagnosticReport"):
        if kind not in ("Observation", "Medication"):
            yield from ((resource, reference(resource)) for resource in pool.of(kind))


def _why(resource: Resource, patient_id: str) -> str | None:
    if not is_of_patient(resource, patient_id):
        return "it is of another patient"
    if is_modified(resource):
        return "it carries a modifier that this service does not know"
    kind, status = resource.get("resourceType"), status_of(resource)
    if status in _WITHDRAWN or is_never_true(resource):
        return "its status says that it never happened or was withdrawn"
    if kind not in IN_MEDICATION and is_in_words_alone(resource):
        return "it is named in words alone, without a code"
    if kind == "Observation":
        if is_unknown(resource):
            return "its code is in no table of this service"
        if status not in _FINAL:
            return "it is not final"
        if is_of_other_focus(resource, patient_id):
            return "it is about something else than the child"
        return None
    if kind == "Condition" and not is_active_condition(resource):
        return "it is past; it counts as history only"
    return "its code is in no table of this service" if is_unknown(resource) else None
