"""The one public function of this package: a pool of FHIR resources -> the record that the guideline reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fhir_mappings.answers import read_answers
from fhir_mappings.elements import is_of_patient
from fhir_mappings.lists import Lists, events_of, gap_of, read_flags
from fhir_mappings.observations import read_results
from fhir_mappings.panels import contained_results
from fhir_mappings.patient import read_birth, read_sex
from fhir_mappings.prefetch import Pool, Resource
from fhir_mappings.unknown_codes import named, unknown_entries, unknown_results
from guideline.facts import vocabulary
from guideline.record import Event, Record


def gather(patients: Sequence[Resource], pool: Pool, lists: Lists, on: date) -> Record:
    """The record of one child as of one day. Nothing is validated before a rule asks for it.

    ``patients``: the child's Patient, each time that it came differently (`find_patient`).
    """
    patient_id = str(patients[0].get("id"))
    results = read_results(pool, patient_id, on)
    answers, answers_not_final = read_answers(pool, patient_id, on)
    notes = []
    if foreign := _of_others(pool, patient_id):
        notes.append(f"{foreign} resource(s) of another patient came with the request and were not used.")
    if not lists.allergies.items and lists.allergies.gap is None:
        notes.append("No allergy is on record (the list was answered and is empty); ask.")
    if not_final := dict.fromkeys((*results.not_final, *answers_not_final)):
        names = ", ".join(vocabulary()[fact].title for fact in not_final)
        notes.append(f"Not yet final and therefore not used: {names}.")
    by_name = [
        item.source for part in (lists.medications, lists.allergies) for item in part.items if item.by_name
    ]
    if by_name:
        notes.append(f"Recognised by the name of the medicine, not by a code: {named(by_name)}.")
    if spoken := [item.source for item in lists.conditions.items if item.by_name]:
        notes.append(f"Recognised by the words of the diagnosis, not by a code: {named(spoken)}.")
    titled = {
        source: [vocabulary()[fact].title for fact in facts] for source, facts in results.unknown.items()
    }
    notes += filter(None, (unknown_results(titled), unknown_entries(pool, patient_id)))
    return Record(
        on=on,
        birth=read_birth(patients, on),
        sex=read_sex(patients),
        series=results.series,
        flags=read_flags(lists),
        answers=answers,
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


def _of_others(pool: Pool, patient_id: str) -> int:
    """How many resources say that they are somebody else's, whatever they hold: one shows that records are mixed."""
    own = f"Patient/{patient_id}"
    found = 0
    for kind, resources in pool.by_type().items():
        if kind == "Patient":
            found += sum(bool(patient.get("id") != patient_id) for patient in resources)
            continue
        # Nearly all say plainly that they are the child's.
        suspects = [
            r
            for r in resources
            if type(subject := r.get("subject")) is not dict or subject.get("reference") != own
        ]
        found += sum(not is_of_patient(resource, patient_id) for resource in suspects)
    contained = contained_results(pool, patient_id)
    return found + sum(not is_of_patient(result.resource, patient_id) for result in contained)
