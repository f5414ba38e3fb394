"""The Observations of a request, also those that stand inside a panel or a report.

A panel gives its results in three ways: as components (read by whoever asks), as resources of their own that it
only refers to (``hasMember``, ``DiagnosticReport.result``), which come like any other, and as contained ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fhir_mappings.elements import Resource, is_modified, is_of_patient, reference, status_of
from fhir_mappings.prefetch import Pool

WITHDRAWN = ("entered-in-error", "cancelled")
_TIMES = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "effectiveTiming")


@dataclass(frozen=True, slots=True)
class Result:
    """One Observation and the resource that a reader can look up: itself, or the panel that contains it."""

    resource: Resource
    source: str


def results_of(pool: Pool, patient_id: str) -> Iterator[Result]:
    """Every Observation of the pool, and every one contained in an Observation or a DiagnosticReport."""
    for resource in pool.of("Observation"):
        yield Result(resource, reference(resource))
    for holder in pool.of("Observation", "DiagnosticReport"):
        contained = holder.get("contained")
        for member in contained if isinstance(contained, list) else ():
            if isinstance(member, Mapping) and member.get("resourceType") == "Observation":
                yield Result(_inherited(member, holder, patient_id), reference(holder))


def _inherited(member: Resource, holder: Resource, patient_id: str) -> Resource:
    """A contained result with what holds for the whole panel.

    Another patient, a withdrawal and an unknown modifier hold for every member; the time only for one that has
    none of its own (FHIR R4 DiagnosticReport.effective: the time of the observed values).
    """
    found = dict(member)
    if not is_of_patient(holder, patient_id):
        found["subject"] = holder.get("subject") or holder.get("patient")
    if status_of(holder) in WITHDRAWN:
        found["status"] = holder["status"]
    if is_modified(holder):
        found |= {name: holder[name] for name in ("modifierExtension", "implicitRules") if name in holder}
    if not any(name in found for name in _TIMES):
        found |= {name: holder[name] for name in _TIMES if name in holder}
    return found
