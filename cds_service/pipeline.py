"""Request -> facts -> findings -> cards -> response: the whole flow of a hook call on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cards.build import RANKS, Occasion, OrderToCard, cards_for, not_checked_card, noted_card, treatment_cards
from cards.model import Card
from cds_service.case import (
    Answer,
    Case,
    Concern,
    Steps,
    concern_of,
    drafts_of,
    new_request,
    read_case,
    visible_failure,
)
from cds_service.envelope import HookCall
from cds_service.runtime import Runtime
from cds_service.uuids import new_uuid
from fhir_mappings.dosage import write_dosage
from fhir_mappings.drafts import DraftedOrder, fhir_version, read_draft, running_drafts
from fhir_mappings.lists import only_draft, read_flags
from fhir_mappings.site_codes import as_it_came
from guideline.assess import assess, assess_beyond, assess_ending, watch
from guideline.findings import Finding, OrderAssessment, Verdict
from guideline.record import Draft
from guideline.values import Cause, Reason


def respond(call: HookCall, runtime: Runtime) -> Answer:
    """The answer to ``call``. Raises ``CannotAnswer`` (412) only where nothing at all can be said."""
    as_of = call.as_of or runtime.today()
    occasion = Occasion(as_of, new_uuid=new_uuid, notes=runtime.policy.show_notes)
    steps = Steps()
    cards = (_view if drafts_of(call) is None else _orders)(call, runtime, occasion, steps)
    cards.sort(key=lambda card: RANKS[card.indicator])  # most severe first, over all orders
    return Answer({"cards": [card.as_json() for card in cards]}, steps)


def _orders(call: HookCall, runtime: Runtime, occasion: Occasion, steps: Steps) -> list[Card]:
    """The order hooks. Nothing drafted that concerns this guideline: no card."""
    cards: list[Card] = []
    with visible_failure(None, cards, occasion):
        concern = concern_of(call, runtime)
        if not concern.orders and not concern.others:
            return cards
        case = read_case(call, runtime, concern, occasion.as_of, steps)
        for order in concern.orders:
            with visible_failure(order.reference, cards, occasion):
                cards += _order_cards(call, order, concern, case, runtime, occasion)
        for other in concern.others:
            with visible_failure(other, cards, occasion):
                cards += _other_cards(other, case, runtime, occasion)
    return cards


def _view(call: HookCall, runtime: Runtime, occasion: Occasion, steps: Steps) -> list[Card]:
    """patient-view: every JAK inhibitor that the child is taking. None taken: no card."""
    cards: list[Card] = []
    told: dict[str, frozenset[str]] = {}
    with visible_failure(None, cards, occasion):
        case = read_case(call, runtime, concern_of(call, runtime), occasion.as_of, steps)
        for draft in _running(case, None, runtime, cards, occasion):
            with visible_failure(draft.reference, cards, occasion):
                assessed = steps.keep(watch(case.record, draft, runtime.tables, runtime.policy))
                assessed = replace(assessed, findings=_not_yet_told(assessed.findings, told))
                cards += treatment_cards(assessed, new_request(call), occasion)
                told[draft.reference] = frozenset(finding.id for finding in assessed.findings)
    return cards


def _not_yet_told(findings: tuple[Finding, ...], told: Mapping[str, frozenset[str]]) -> tuple[Finding, ...]:
    """Without what was said of the other drug already, as that there are two: such a finding rests on its order alone.

    ``told``: the ids that were said of each running order so far.
    """
    return tuple(
        finding
        for finding in findings
        if not finding.evidence
        or not all(finding.id in told.get(e.source or "", ()) for e in finding.evidence)
    )


def _order_cards(
    call: HookCall, order: DraftedOrder, concern: Concern, case: Case, runtime: Runtime, occasion: Occasion
) -> list[Card]:
    """One drafted JAK inhibitor."""
    if order.medicine.jak_inhibitor is None or order.of_another_patient or order.modified:
        if order.medicine.is_topical and not order.of_another_patient and not order.modified:
            return [noted_card("topical", order.reference, "ruxolitinib", occasion)]
        return [not_checked_card(_why_not(order), order.reference, _UNREAD_DRUG, occasion)]
    draft = read_draft(order, case.pool, case.lists)
    if draft.ending:
        return _ending_cards(order, draft, case, runtime, occasion)
    same = [o for o in concern.orders if o.medicine.jak_inhibitor == draft.drug and not o.ending]
    if len(same) > 1:
        draft = replace(draft, notes=(*draft.notes, _SEVERAL))
    assessed = case.steps.keep(assess(case.record, draft, runtime.tables, runtime.policy))
    requests = new_request(call) if fhir_version(order.resource) == "R4" else None
    # Each suggestion sets a whole day's dose: with several drafts of one drug, accepting all would multiply it.
    dosage = _dosage(assessed, order) if len(same) == 1 and order.resource.get("id") else None
    # Only a site with codes of its own has codings added that must not go back.
    resource = as_it_came(order.resource) if runtime.site_codes.targets else order.resource
    to_card = OrderToCard(assessed, resource, dosage, requests, one_of_several=len(same) > 1)
    return cards_for(to_card, occasion)


def _ending_cards(
    order: DraftedOrder, draft: Draft, case: Case, runtime: Runtime, occasion: Occasion
) -> list[Card]:
    """A draft that stops or pauses the drug, or says that it must not be given (ruling 17)."""
    running = running_drafts(case.pool, case.lists, occasion.as_of, runtime.policy.restart_gap)
    taken = case.record.orders_gap or any(found.drug == draft.drug for found in running)
    if order.not_to_be_given and not taken:
        return [noted_card("not-to-be-given", draft.reference, draft.drug, occasion)]
    assessed = case.steps.keep(assess_ending(case.record, draft, runtime.tables, runtime.policy))
    cards = treatment_cards(assessed, None, occasion)
    return cards or [noted_card("ending", draft.reference, draft.drug, occasion)]


_UNREAD_DRUG = (Cause("drug", Reason.UNREADABLE),)


_SEVERAL = (
    "**Several drafts of this drug stand in this request.** Each was judged alone; add up what they give in a day. "
    "No dose is offered for acceptance."
)


def _why_not(order: DraftedOrder) -> str:
    if order.of_another_patient:
        return "another-patient"
    if order.modified:
        return "order-modified"
    if order.medicine.contradictory:
        return "drug-contradictory"
    return "drug-unresolved" if order.medicine.unresolved else "drug-not-covered"


def _other_cards(other: str, case: Case, runtime: Runtime, occasion: Occasion) -> list[Card]:
    """A drafted vaccine, contraceptive, biologic ... for a child on a JAK inhibitor."""
    cards: list[Card] = []
    record = replace(case.record, flags=read_flags(only_draft(case.lists, other)))
    for draft in _running(case, other, runtime, cards, occasion):
        beyond = assess_beyond(record, replace(draft, reference=other), runtime.tables, runtime.policy)
        cards += treatment_cards(case.steps.keep(beyond), None, occasion)
    return cards


def _running(
    case: Case, order: str | None, runtime: Runtime, cards: list[Card], occasion: Occasion
) -> list[Draft]:
    """The JAK inhibitors being taken; where that cannot be known, a card says so."""
    running = running_drafts(
        case.pool, case.lists, occasion.as_of, runtime.policy.restart_gap, perhaps=order is not None
    )
    if order is None:  # a drug that was stopped is not watched; what was drafted may still meet it
        running = [draft for draft in running if not draft.stopped]
    if not running and case.record.orders_gap:
        cards.append(not_checked_card("treatment-unknown", order, case.record.orders_gap, occasion))
    return running


def _dosage(assessed: OrderAssessment, order: DraftedOrder) -> list[dict[str, Any]] | None:
    """The dosage that a suggestion would set; none where no dose is given or the draft has it already."""
    if assessed.dose is None or assessed.dose.verdict is Verdict.MATCH:
        return None
    return write_dosage(assessed.dose.regimen, fhir_version(order.resource))
