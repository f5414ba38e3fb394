"""Request -> facts -> findings -> cards -> response: the whole flow of a hook call on one screen."""

from __future__ import annotations

from uuid import uuid4

from cards.build import Occasion, OrderToCard, cards_for, unnamed_drug_card
from cds_service.envelope import HookCall
from cds_service.errors import CannotAnswer
from cds_service.runtime import Runtime
from cds_service.services import SERVICES
from cds_service.supply import complete, fetch_references, supplies_of
from fhir_mappings.dosage import write_dosage
from fhir_mappings.drafts import (
    DraftedOrder,
    drafted_orders,
    fhir_version,
    read_draft,
    resources_of,
    unresolved_references,
)
from fhir_mappings.gather import gather
from fhir_mappings.lists import read_lists
from fhir_mappings.patient import find_patient
from fhir_mappings.prefetch import Pool, Supply
from guideline.assess import assess
from guideline.findings import Verdict


def respond(call: HookCall, runtime: Runtime) -> dict[str, object]:
    """The body of the answer to ``call``. Raises ``CannotAnswer`` (412) only where nothing at all can be said."""
    supplies = supplies_of(call)
    supplies, orders = _orders_of_interest(call, runtime, supplies)
    if not orders:
        return {"cards": []}
    pool = Pool(complete(call, runtime, supplies), resources_of(_drafts(call)))
    patient = find_patient(pool, call.patient_id)
    if patient is None:
        raise CannotAnswer(
            "The Patient is neither in the prefetch nor obtainable from fhirServer (key patient)."
        )
    on = call.as_of or runtime.today()
    occasion = Occasion(on, new_uuid=lambda: str(uuid4()))
    lists = read_lists(pool, call.patient_id, frozenset(order.reference for order in orders))
    record = gather(patient, pool, lists, on)
    cards = []
    for order in orders:
        if order.medicine.jak_inhibitor is None or order.of_another_patient:
            cards.append(unnamed_drug_card(order.reference, order.of_another_patient, occasion))
            continue
        assessed = assess(record, read_draft(order, pool, lists), runtime.tables, runtime.policy)
        wanted = assessed.dose is not None and assessed.dose.verdict is not Verdict.MATCH
        dosage = (
            write_dosage(assessed.dose.regimen, fhir_version(order.resource))
            if wanted and assessed.dose
            else None
        )
        cards += cards_for(OrderToCard(assessed, order.resource, dosage), occasion)
    return {"cards": [card.as_json() for card in cards]}


def _orders_of_interest(
    call: HookCall, runtime: Runtime, supplies: dict[str, Supply]
) -> tuple[dict[str, Supply], list[DraftedOrder]]:
    """The selected drafts that are JAK inhibitors, or whose drug only a reference names that is not here."""
    drafts = _drafts(call)
    if drafts is None:
        return supplies, []
    found = drafted_orders(drafts, call.selections, Pool(supplies, resources_of(drafts)), call.patient_id)
    lacking = unresolved_references(found)
    if lacking:
        supplies = {**supplies, **fetch_references(call, runtime, lacking)}
        found = drafted_orders(drafts, call.selections, Pool(supplies, resources_of(drafts)), call.patient_id)
    unresolved = [order for order in found if order.medicine.unresolved]
    if unresolved and len(unresolved) == len(found):
        raise CannotAnswer(
            "Every drafted order names its drug only by a reference, and none could be resolved."
        )
    return supplies, [o for o in found if o.medicine.unresolved or o.medicine.jak_inhibitor is not None]


def _drafts(call: HookCall) -> object:
    field = SERVICES[call.service_id].drafts_field
    return None if field is None else call.context.get(field)
