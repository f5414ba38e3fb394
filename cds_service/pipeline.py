"""Request -> facts -> findings -> cards -> response: the whole flow of a hook call on one screen."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cards.build import Occasion, OrderToCard, cards_for, not_checked_card, treatment_cards
from cards.model import Card
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
    running_drafts,
    unresolved_references,
)
from fhir_mappings.gather import gather
from fhir_mappings.lists import Lists, read_lists
from fhir_mappings.patient import find_patient
from fhir_mappings.prefetch import Pool, Resource, Supply
from guideline.assess import assess, watch
from guideline.findings import OrderAssessment, Verdict
from guideline.record import Record
from guideline.values import Cause, Reason

_log = logging.getLogger("jaki_cds")


def respond(call: HookCall, runtime: Runtime) -> dict[str, object]:
    """The body of the answer to ``call``. Raises ``CannotAnswer`` (412) only where nothing at all can be said."""
    occasion = Occasion(call.as_of or runtime.today(), new_uuid=lambda: str(uuid4()))
    cards = (
        _order_cards(call, runtime, occasion) if _drafts(call) is not None else _view(call, runtime, occasion)
    )
    return {"cards": [card.as_json() for card in cards]}


def _order_cards(call: HookCall, runtime: Runtime, occasion: Occasion) -> list[Card]:
    """The order hooks: every selected draft of a JAK inhibitor against the guideline."""
    supplies, orders = _orders_of_interest(call, runtime, supplies_of(call))
    if not orders:
        return []
    pool = Pool(complete(call, runtime, supplies), resources_of(_drafts(call)))
    patient = _patient(pool, call)
    cards: list[Card] = []
    with _visible_failure(orders[0].reference, cards, occasion):
        lists = read_lists(pool, call.patient_id, frozenset(order.reference for order in orders))
        record = gather(patient, pool, lists, occasion.as_of)
        for order in orders:
            with _visible_failure(order.reference, cards, occasion):
                cards += _cards_of(order, record, pool, lists, runtime, occasion)
    return cards


def _cards_of(
    order: DraftedOrder, record: Record, pool: Pool, lists: Lists, runtime: Runtime, occasion: Occasion
) -> list[Card]:
    if not _can_be_assessed(order):
        return [not_checked_card(_why_not(order), order.reference, _UNREAD_DRUG, occasion)]
    assessed = assess(record, read_draft(order, pool, lists), runtime.tables, runtime.policy)
    return cards_for(OrderToCard(assessed, order.resource, _new_dosage(assessed, order)), occasion)


def assessments(call: HookCall, runtime: Runtime) -> list[tuple[str, OrderAssessment | None]]:
    """What the cards of ``call`` are made from, for ``explain``: every order of interest with its assessment.

    ``None`` stands where an order cannot be assessed: another patient's, or its drug unresolved. Raises what
    ``respond`` raises, and lets a fault of ours through.
    """
    on = call.as_of or runtime.today()
    drafts = _drafts(call)
    supplies, orders = supplies_of(call), list[DraftedOrder]()
    if drafts is not None:
        supplies, orders = _orders_of_interest(call, runtime, supplies)
        if not orders:
            return []
    pool = Pool(complete(call, runtime, supplies), resources_of(drafts))
    patient = _patient(pool, call)
    lists = read_lists(pool, call.patient_id, frozenset(order.reference for order in orders))
    record = gather(patient, pool, lists, on)
    if drafts is None:
        running = running_drafts(pool, lists, on, runtime.policy.restart_gap)
        return [(d.reference, watch(record, d, runtime.tables, runtime.policy)) for d in running]
    return [
        (
            order.reference,
            assess(record, read_draft(order, pool, lists), runtime.tables, runtime.policy)
            if _can_be_assessed(order)
            else None,
        )
        for order in orders
    ]


_UNREAD_DRUG = (Cause("drug", Reason.UNREADABLE),)


def _why_not(order: DraftedOrder) -> str:
    if order.of_another_patient:
        return "another-patient"
    return "drug-unresolved" if order.medicine.unresolved else "drug-not-covered"


def _can_be_assessed(order: DraftedOrder) -> bool:
    return order.medicine.jak_inhibitor is not None and not order.of_another_patient


def _view(call: HookCall, runtime: Runtime, occasion: Occasion) -> list[Card]:
    """patient-view: every JAK inhibitor that the child is taking. None taken: no card."""
    pool = Pool(complete(call, runtime, supplies_of(call)))
    patient = _patient(pool, call)
    cards: list[Card] = []
    with _visible_failure(None, cards, occasion):
        lists = read_lists(pool, call.patient_id, frozenset())
        record = gather(patient, pool, lists, occasion.as_of)
        running = running_drafts(pool, lists, occasion.as_of, runtime.policy.restart_gap)
        if not running and record.orders_gap:
            cards.append(not_checked_card("treatment-unknown", None, record.orders_gap, occasion))
        for draft in running:
            cards += treatment_cards(watch(record, draft, runtime.tables, runtime.policy), occasion)
    return cards


def _patient(pool: Pool, call: HookCall) -> Resource:
    patient = find_patient(pool, call.patient_id)
    if patient is None:
        raise CannotAnswer(
            "The Patient is neither in the prefetch nor obtainable from fhirServer (key patient)."
        )
    return patient


@contextmanager
def _visible_failure(order: str | None, cards: list[Card], occasion: Occasion) -> Iterator[None]:
    """A fault of ours inside a good request becomes a card: the prescriber must see that nothing was checked."""
    try:
        yield
    except Exception as fault:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        _log.error("order not assessed", extra={"fields": {"fault": type(fault).__name__, "at": place}})
        cards.append(not_checked_card("failure", order, (), occasion))


def _new_dosage(assessed: OrderAssessment, order: DraftedOrder) -> list[dict[str, Any]] | None:
    """The dosage that a suggestion would set; none where no dose is given or the draft has it already."""
    if assessed.dose is None or assessed.dose.verdict is Verdict.MATCH:
        return None
    return write_dosage(assessed.dose.regimen, fhir_version(order.resource))


def _orders_of_interest(
    call: HookCall, runtime: Runtime, supplies: dict[str, Supply]
) -> tuple[dict[str, Supply], list[DraftedOrder]]:
    """The selected drafts that are JAK inhibitors (also those that the guideline does not name), or whose drug only
    a reference names that is not here."""
    drafts = _drafts(call)
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
    return supplies, [o for o in found if o.medicine.unresolved or o.medicine.is_jak_inhibitor]


def _drafts(call: HookCall) -> object:
    field = SERVICES[call.service_id].drafts_field
    return None if field is None else call.context.get(field)
