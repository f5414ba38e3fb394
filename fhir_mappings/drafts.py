"""The drafted orders of a request: which of them are JAK inhibitors, and what each says. Reading is liberal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache

from fhir_mappings.dosage import FhirVersion, read_dose
from fhir_mappings.elements import Resource, is_modified, is_of_patient, reference, status_of
from fhir_mappings.indications import indication_of
from fhir_mappings.lists import MEDICATION_TYPES, Lists, counts_as_taken, draft_concepts, is_withdrawn
from fhir_mappings.medicines import JAK_INHIBITORS, Medicine, medicine_of, pointer_of
from fhir_mappings.prefetch import Pool, is_at, relative_reference
from fhir_mappings.products import listed
from guideline.derive import course_of, last_order_of
from guideline.doses import DoseState, Form, OrderedDose
from guideline.facts import closure, vocabulary
from guideline.record import Draft, RecordedOrder
from guideline.tables import load_tables
from guideline.words import day

_ORDER_TYPES = ("MedicationRequest", "MedicationOrder")
_MODIFIED = "the order carries a modifier that this service does not know"
_ENDING = ("stopped", "cancelled", "on-hold", "completed", "entered-in-error")


@dataclass(frozen=True, slots=True)
class DraftedOrder:
    """One drafted medication order with the medicine it names."""

    resource: Resource
    reference: str
    medicine: Medicine
    of_another_patient: bool

    @property
    def modified(self) -> bool:
        """Whether a modifier extension changes what the order means: FHIR forbids to act on it then."""
        return is_modified(self.resource)

    @property
    def not_to_be_given(self) -> bool:
        """Whether it is an order not to give the drug."""
        return self.resource.get("doNotPerform") is True

    @property
    def ending(self) -> bool:
        """Whether it stops or pauses the drug, or says that it must not be given (ruling 17)."""
        return self.not_to_be_given or status_of(self.resource) in _ENDING


def resources_of(bundle: object) -> Iterator[Resource]:
    """The resources of a drafts Bundle; a missing type, ``entry`` or ``fullUrl`` is no fault."""
    return (resource for resource, _ in _entries(bundle))


def named_resources(bundle: object) -> dict[str, Resource]:
    """The resources of a drafts Bundle by their ``fullUrl``."""
    return {url: resource for resource, url in _entries(bundle) if isinstance(url, str) and url}


def _entries(bundle: object) -> Iterator[tuple[Resource, object]]:
    """Each resource of a Bundle with its ``fullUrl``."""
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    for entry in listed(entries):
        if isinstance(entry, dict) and isinstance(resource := entry.get("resource"), dict):
            yield resource, entry.get("fullUrl")


def drafted_orders(
    bundle: object, selections: tuple[str, ...] | None, pool: Pool, patient_id: str
) -> list[DraftedOrder]:
    """The medication orders among the drafts that are selected (all, where nothing is said of selection)."""
    found = []
    for resource in _selected_drafts(bundle, selections):
        if resource.get("resourceType") in _ORDER_TYPES:
            medicine = medicine_of(resource, pool)
            of_another = not is_of_patient(resource, patient_id)
            found.append(DraftedOrder(resource, reference(resource), medicine, of_another))
    return found


def _selected_drafts(bundle: object, selections: tuple[str, ...] | None) -> Iterator[Resource]:
    named = [(resource, _names(resource, full_url)) for resource, full_url in _entries(bundle)]
    selected = None if selections is None else {_selected(selection) for selection in selections}
    # A selection that no named draft answers to may mean one that has neither id nor fullUrl.
    loose = selected is not None and bool(selected.difference(*(names for _, names in named)))
    for resource, names in named:
        if selected is None or names & selected or (loose and not names):
            yield resource


@cache
def _watched_concepts() -> frozenset[str]:
    """What a draft of something else may be to concern a child on a JAK inhibitor (live vaccine, biologic, ...)."""
    return frozenset(
        concept
        for kind in vocabulary().values()
        if "drafts" in kind.read_from and kind.name in closure(load_tables().facts_beyond())
        for concept in (*kind.concepts, *kind.perhaps)
    )


def other_drafts(
    bundle: object, selections: tuple[str, ...] | None, pool: Pool, patient_id: str
) -> list[str]:
    """References of the selected drafts that are no JAK inhibitor of ours but concern a child on one."""
    found = []
    for resource in _selected_drafts(bundle, selections):
        if is_withdrawn(resource):
            continue
        concerned = draft_concepts(resource, pool) & _watched_concepts() - frozenset(JAK_INHIBITORS)
        if concerned and is_of_patient(resource, patient_id):
            found.append(reference(resource))
    return found


def _names(resource: Resource, full_url: object) -> frozenset[str]:
    """What a selection may call a draft: type and id, id, ``fullUrl``. Any id will do, also one FHIR forbids."""
    id_ = resource.get("id")
    found = {f"{resource.get('resourceType')}/{id_}", id_} if isinstance(id_, str) and id_ else set()
    return frozenset(found | ({_selected(full_url)} if isinstance(full_url, str) and full_url else set()))


def _selected(selection: str) -> str:
    return selection if selection.startswith("urn:") else relative_reference(selection)


def read_draft(order: DraftedOrder, pool: Pool, lists: Lists) -> Draft:
    """A drafted JAK inhibitor as the engine takes it."""
    medicine = order.medicine
    drug, product = medicine.jak_inhibitor, medicine.product
    assert drug is not None and product is not None
    indication = indication_of(order.resource, pool, lists)
    notes = list(indication.notes)
    if product.note is not None:
        notes.append(f"The product of the draft: {product.note}.")
    dose = read_dose(order.resource, product)
    if is_modified(order.resource):
        dose = OrderedDose(DoseState.UNREADABLE, None, _MODIFIED)
        notes.append(f"The draft cannot be compared with the guideline: {_MODIFIED}.")
    if product.form is Form.UNKNOWN:
        notes.append("The draft does not say which form (tablet or oral solution) it is for.")
    return Draft(
        reference=order.reference,
        drug=drug,
        matched_by_name=medicine.by_name,
        form=product.form,
        modified_release=product.modified_release,
        dose=dose,
        indication=indication.indication,
        jia_category=indication.jia_category,
        on_record=indication.on_record,
        ending=order.ending,
        notes=tuple(notes),
        tablet_mg=product.tablet_mg,
        mg_per_ml=product.mg_per_ml,
    )


def running_drafts(
    pool: Pool, lists: Lists, on: date, gap_days: int, *, perhaps: bool = False
) -> list[Draft]:
    """The JAK inhibitors that the child is taking, each as a draft of its running order, with the dose of that.

    ``perhaps``: those too whose last order has ended on a day that is not on record, which may have been yesterday.
    """
    found = []
    drafted_again = any(item.concepts & frozenset(JAK_INHIBITORS) for item in lists.drafts.items)
    for drug in JAK_INHIBITORS:
        running = course_of(drug, lists.orders, on, gap_days).running
        if running is None and perhaps:
            last = last_order_of(drug, lists.orders)
            running = last if last is not None and last.end is None else None
        if running is None:
            continue
        resource = next((r for r in pool.of(*MEDICATION_TYPES) if reference(r) == running.source), {})
        indication = indication_of(resource, pool, lists)
        found.append(
            Draft(
                reference=running.source,
                drug=drug,
                matched_by_name=medicine_of(resource, pool).by_name,
                form=Form.UNKNOWN,
                modified_release=False,
                # The dose of free text is no news to anybody who looks at the child: nothing is said of it.
                dose=running.dose if running.dose.regimen is not None else OrderedDose(DoseState.ABSENT),
                indication=indication.indication,
                jia_category=indication.jia_category,
                on_record=indication.on_record,
                finished=not running.active and not drafted_again,
                stopped=status_of(resource) == "stopped"
                and not drafted_again
                and (running.end is None or running.end < on),
                notes=(*indication.notes, *_has_ended(running, gap_days)),
            )
        )
    return found


def _has_ended(running: RecordedOrder, gap_days: int) -> tuple[str, ...]:
    """That the order behind a course is over, for whoever reads what is said of the drug."""
    if running.active or running.end is None:
        return ()
    return (
        f"The last order of {running.drug} on record ended on {day(running.end)}; the drug counts as taken for "
        f"{gap_days} days after it (site policy), as a prescription may be renewed late.",
    )


def fhir_version(order: Resource) -> FhirVersion:
    """The FHIR version that a draft is written in, by its name and shape (there is no announcement)."""
    if order.get("resourceType") == "MedicationOrder":
        return "DSTU2"
    for dosage in listed(order.get("dosageInstruction")):
        if isinstance(dosage, dict) and "doseAndRate" in dosage:
            return "R4"
        if isinstance(dosage, dict) and any(name in dosage for name in ("doseQuantity", "doseRange")):
            return "STU3"
    requester = order.get("requester")
    if "context" in order or (isinstance(requester, dict) and "agent" in requester):
        return "STU3"
    return "R4"


def unresolved_references(orders: Iterable[DraftedOrder], server: str | None) -> tuple[str, ...]:
    """The Medications of ``server`` that drafts refer to and that are not among the supplied resources."""
    wanted = (_medication_at(o.resource, server) for o in orders if o.medicine.unresolved)
    return tuple(dict.fromkeys(filter(None, wanted)))


def unresolved_medications(pool: Pool, patient_id: str, server: str | None) -> tuple[str, ...]:
    """The Medications of ``server`` without which nobody knows what the child takes: at most `_MOST_FETCHED`.

    Many records name every medicine by reference only, and a search leaves out what it refers to.
    """
    wanted = (
        _medication_at(resource, server)
        for resource in pool.of(*MEDICATION_TYPES)
        if is_of_patient(resource, patient_id)
        and pointer_of(resource) is not None
        and counts_as_taken(resource)
        and medicine_of(resource, pool).unresolved
    )
    return tuple(dict.fromkeys(filter(None, wanted)))[:_MOST_FETCHED]


def _medication_at(order: Resource, server: str | None) -> str | None:
    """The Medication of ``server`` that an order refers to, as ``Medication/id``."""
    pointer = pointer_of(order)
    text = pointer.get("reference") if isinstance(pointer, dict) else None
    if not isinstance(text, str) or not is_at(text, server):
        return None
    wanted = relative_reference(text)
    return wanted if _MEDICATION.fullmatch(wanted) else None


_MOST_FETCHED = 40
"""Medications; each is a read of its own. What is not read leaves the list of medicines incomplete, and says so."""
_MEDICATION = re.compile(r"Medication/[A-Za-z0-9.-]{1,64}")
