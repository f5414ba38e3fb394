"""Codes that nobody here knows: how many came, and which entries could have been what a check lacks.

Only closed words (resource type, code system) and references leave this module: a code is text of the record, it
could name a patient, and as a label it would have no bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fhir_mappings import systems
from fhir_mappings.diagnoses import diagnosis_in_words
from fhir_mappings.elements import (
    Resource,
    codings,
    concepts_in,
    has_known_system,
    is_negation,
    is_of_patient,
    reference,
    status_of,
    texts,
)
from fhir_mappings.lists import is_never_true
from fhir_mappings.medicines import is_spoken_of, medicine_of, pointer_of
from fhir_mappings.panels import own_results
from fhir_mappings.prefetch import Pool

OTHER: Final = "other"
SYSTEMS: Final[Mapping[str, str]] = {
    systems.LOINC: "loinc",
    systems.SNOMED: "snomed-ct",
    systems.RXNORM: "rxnorm",
    systems.ICD10: "icd-10",
    systems.ATC: "atc",
    systems.CVX: "cvx",
    systems.READ_V2: "read-v2",
}
SYSTEM_NAMES: Final = (*SYSTEMS.values(), OTHER)
_MEDICATION: Final = ("medicationCodeableConcept", "medication")
_WHAT: Final[Mapping[str, tuple[str, ...]]] = {
    "Observation": ("code",),
    "Condition": ("code",),
    "Procedure": ("code",),
    "ServiceRequest": ("code", "category"),
    "AllergyIntolerance": ("code", "substance"),
    "Immunization": ("vaccineCode",),
    "Medication": ("code",),
    "MedicationRequest": _MEDICATION,
    "MedicationOrder": _MEDICATION,
    "MedicationStatement": _MEDICATION,
}
RESOURCE_TYPES: Final = tuple(_WHAT)
_LISTED: Final = tuple(kind for kind in _WHAT if kind not in ("Observation", "Medication", "ServiceRequest"))
IN_MEDICATION: Final = ("MedicationRequest", "MedicationOrder", "MedicationStatement")
_NEVER: Final = ("entered-in-error", "cancelled", "not-done", "draft")
_MOST_NAMED: Final = 5


def count_unknown(pool: Pool) -> Mapping[tuple[str, str], int]:
    """(resource type, code system) -> how many resources came whose codes are in none of our tables.

    A code of something that no rule asks about counts as well: the number tells of a change, not of a fault.
    """
    found: Counter[tuple[str, str]] = Counter()
    for kind in RESOURCE_TYPES:
        # Of thousands of results only those without a concept need a second look.
        suspects = (
            (result.resource for result in own_results(pool) if not result.concepts)
            if kind == "Observation"
            else pool.of(kind)
        )
        for resource in suspects:
            if is_unknown(resource):
                system = next(iter(_codings(resource)))[0]
                found[kind, SYSTEMS.get(systems.canonical(system[:256]) or "", OTHER)] += 1
    return found


def unknown_entries(pool: Pool, patient_id: str) -> str | None:
    """The note for the card: entries of the lists that only a code of an unknown system names, or words alone.

    A code of a system that we know is taken at its word (asthma is not dialysis); a local code could be anything.
    """
    coded: list[str] = []
    spoken: list[str] = []
    for resource in (resource for kind in _LISTED for resource in pool.of(kind)):
        holder, worded = resource, False
        if resource["resourceType"] in IN_MEDICATION:
            medication = pool.resolve(pointer_of(resource), resource)
            holder = resource if medication is None else medication
            worded = medication is None and is_spoken_of(resource) and not any(_codings(resource))
        if (
            (worded or _is_unread(holder))
            and _counts(resource, patient_id)
            and not _is_known_by_name(resource, pool)
        ):
            (coded if any(_codings(holder)) else spoken).append(reference(resource))
    told = []
    if coded:
        told.append(
            f"{named(coded)}: in codes that this service does not know, so no check has seen what they mean. "
            "A code map of the site can make them known."
        )
    if spoken:
        told.append(f"{named(spoken)}: in words alone, without a code, so no check has seen what they mean.")
    return " ".join(told) or None


def is_local(resource: Resource, patient_id: str) -> bool:
    """Whether an entry of this child that counts is named by nothing that anybody here knows."""
    return _is_unread(resource) and _counts(resource, patient_id)


def _is_unread(holder: Resource) -> bool:
    """Whether local codes alone, or words alone, say what it is."""
    named = [holder.get(name) for name in _names(holder)]
    if any(has_known_system(concept) for concept in named):
        return False
    return is_unknown(holder) if any(_codings(holder)) else is_in_words_alone(holder)


def _counts(resource: Resource, patient_id: str) -> bool:
    withdrawn = status_of(resource) in _NEVER or is_never_true(resource)
    return not withdrawn and is_of_patient(resource, patient_id)


def _is_known_by_name(resource: Resource, pool: Pool) -> bool:
    if resource["resourceType"] == "Condition":
        return bool(diagnosis_in_words(resource.get("code")))
    return resource["resourceType"] in IN_MEDICATION and medicine_of(resource, pool).is_known


def unknown_results(candidates: Mapping[str, Iterable[str]]) -> str | None:
    """The note for the card: results in unknown codes, each with the missing facts that its unit would fit."""
    if not candidates:
        return None
    facts = dict.fromkeys(title for titles in candidates.values() for title in titles)
    return (
        f"{named(list(candidates))}: in no code that this service knows; by its unit it may be what is "
        f"missing ({', '.join(facts)}). A code map of the site can make it known."
    )


def named(references: list[str]) -> str:
    """The first few of the references, and how many more there are."""
    more = len(references) - _MOST_NAMED
    return ", ".join(references[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _names(resource: Resource) -> tuple[str, ...]:
    return _WHAT.get(str(resource.get("resourceType")), ())


def _codings(resource: Resource) -> Iterator[tuple[str, str]]:
    for name in _names(resource):
        yield from codings(resource.get(name))


def is_in_words_alone(resource: Resource) -> bool:
    """Whether words say what it is, and no code."""
    spoken = (word for name in _names(resource) for word in texts(resource.get(name)))
    return not any(_codings(resource)) and any(word.strip() for word in spoken)


def is_unknown(resource: Resource) -> bool:
    """Whether codes say what it is, and none of them is in our tables."""
    return any(_codings(resource)) and not any(
        concepts_in(resource.get(name)) or is_negation(resource.get(name)) for name in _names(resource)
    )
