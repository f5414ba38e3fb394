"""The one public function of this package: a pool of FHIR resources -> the record that the guideline reads."""

from __future__ import annotations

from datetime import date

from fhir_mappings.lists import Lists, orders_gap, read_flags
from fhir_mappings.observations import read_results
from fhir_mappings.patient import read_birth, read_sex
from fhir_mappings.prefetch import Pool, Resource
from guideline.facts import vocabulary
from guideline.record import Record


def gather(patient: Resource, pool: Pool, lists: Lists, on: date) -> Record:
    """The record of one child as of one day. Nothing is validated before a rule asks for it."""
    patient_id = str(patient.get("id"))
    results = read_results(pool, patient_id, on)
    foreign = results.of_another_patient + sum(
        found.of_another_patient
        for found in (lists.conditions, lists.procedures, lists.medications, lists.allergies)
    )
    notes = []
    if foreign:
        notes.append(f"{foreign} resource(s) of another patient came with the request and were not used.")
    if results.not_final:
        names = ", ".join(vocabulary()[fact].title for fact in results.not_final)
        notes.append(f"Not yet final and therefore not used: {names}.")
    return Record(
        on=on,
        birth=read_birth(patient, on),
        sex=read_sex(patient),
        series=results.series,
        flags=read_flags(lists),
        orders=lists.orders,
        orders_gap=orders_gap(lists),
        notes=tuple(notes),
    )
