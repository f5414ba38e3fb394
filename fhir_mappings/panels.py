"""The Observations of a request, also those that stand inside a panel or a report.

A panel gives its results in three ways: as components (read by whoever asks), as resources of their own that it
only refers to (``hasMember``, ``DiagnosticReport.result``), which come like any other, and as contained ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fhir_mappings.elements import (
    Resource,
    concepts_in,
    is_modified,
    is_of_patient,
    reference,
    status_of,
)
from fhir_mappings.prefetch import Pool

WITHDRAWN = ("entered-in-error", "cancelled")
_TIMES = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "effectiveTiming")


class Result(msgspec.Struct, frozen=True, gc=False):  # there may be thousands; they are in no cycles
    """One Observation, what its code stands for, and the resource that a reader can look up: itself, or its panel."""

    resource: Resource
    concepts: frozenset[str]
    holder: Resource

    @property
    def source(self) -> str:
        return reference(self.holder)


def own_results(pool: Pool) -> list[Result]:
    """The Observations of the pool, each code looked up once in a call."""
    found: list[Result] | None = pool.kept.get("results")
    if found is None:
        found = [Result(o, concepts_in(o.get("code")), o) for o in pool.of("Observation")]
        pool.kept["results"] = found
    return found


def results_of(pool: Pool, patient_id: str) -> list[Result]:
    """Every Observation of the pool, and every one contained in an Observation or a DiagnosticReport."""
    found: list[Result] | None = pool.kept.get(f"results of {patient_id}")
    if found is None:
        found = [*own_results(pool), *contained_results(pool, patient_id)]
        pool.kept[f"results of {patient_id}"] = found
    return found


def contained_results(pool: Pool, patient_id: str) -> Iterator[Result]:
    """The Observations inside another one or a DiagnosticReport."""
    for holder in pool.of("Observation", "DiagnosticReport"):
        contained = holder.get("contained")
        for member in contained if isinstance(contained, list) else ():
            if isinstance(member, dict) and member.get("resourceType") == "Observation":
                result = _inherited(member, holder, patient_id)
                yield Result(result, concepts_in(result.get("code")), holder)


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
