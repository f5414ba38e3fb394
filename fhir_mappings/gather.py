"""The one public function of this package: a pool of FHIR resources -> the record that the guideline reads."""

from __future__ import annotations

from datetime import date

from fhir_mappings.answers import read_answers
from fhir_mappings.lists import Lists, events_of, gap_of, read_flags
from fhir_mappings.observations import read_results
from fhir_mappings.patient import read_birth, read_sex
from fhir_mappings.prefetch import Pool, Resource
from fhir_mappings.unknown_codes import unknown_entries, unknown_results
from guideline.facts import vocabulary
from guideline.record import Event, Record


def gather(patient: Resource, pool: Pool, lists: Lists, on: date) -> Record:
    """The record of one child as of one day. Nothing is validated before a rule asks for it."""
    patient_id = str(patient.get("id"))
    results = read_results(pool, patient_id, on)
    foreign = results.of_another_patient + sum(
        found.of_another_patient
        for found in (
            lists.conditions,
            lists.procedures,
            lists.medications,
            lists.allergies,
            lists.immunizations,
        )
    )
    notes = []
    if foreign:
        notes.append(f"{foreign} resource(s) of another patient came with the request and were not used.")
    if not lists.allergies.items and lists.allergies.gap is None:
        notes.append("No allergy is on record (the list was answered and is empty); ask.")
    if results.not_final:
        names = ", ".join(vocabulary()[fact].title for fact in results.not_final)
        notes.append(f"Not yet final and therefore not used: {names}.")
    titled = {
        source: [vocabulary()[fact].title for fact in facts] for source, facts in results.unknown.items()
    }
    notes += filter(None, (unknown_results(titled), unknown_entries(pool, patient_id)))
    return Record(
        on=on,
        birth=read_birth(patient, on),
        sex=read_sex(patient),
        series=results.series,
        flags=read_flags(lists),
        answers=read_answers(pool, patient_id, on),
        vaccinations=events_of(lists.immunizations),
        vaccinations_gap=gap_of("immunizations", lists.immunizations),
        operations=events_of(lists.operations),
        taken=tuple(Event(i.concepts, i.on, i.source) for i in lists.medications.items if i.current),
        ends=tuple(
            Event(i.concepts, i.until, i.source) for i in lists.medications.items if i.until is not None
        ),
        orders=lists.orders,
        orders_gap=gap_of("medications", lists.medications),
        notes=tuple(notes),
    )
