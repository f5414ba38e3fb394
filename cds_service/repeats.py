"""At signing, a site may not want a warning again that was overridden with a reason (``repeat_overridden_after``).

The one exception to "same body, same advice". Only a card that would say word for word the same of the same order and
child is left out, and a card says that it was. Critical cards, and what could not be checked, are always shown.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from cards.build import NotRepeated, Occasion, not_repeated_card
from cards.text import day
from cds_service.case import Answer, drafts_of
from cds_service.envelope import EXTENSION, HookCall
from cds_service.json_reader import write_json
from cds_service.store.recording import moment
from cds_service.store.store import Override, Store
from cds_service.uuids import new_uuid
from fhir_mappings.drafts import resources_of
from fhir_mappings.elements import Resource, reference
from guideline.findings import Outcome, Severity

HOOK = "order-sign"
NOT_OF_THE_ORDER = frozenset({"id", "meta", "text", "identifier", "groupIdentifier", "authoredOn"})
"""Members of a draft that change from one attempt to sign it to the next, while what is ordered stays the same."""

Json = dict[str, Any]

_log = logging.getLogger("jaki_cds")


def without_overridden(answer: Answer, call: HookCall, client: str, days: int, store: Store | None) -> Answer:
    """The answer without the warnings that ``client`` overrode in the last ``days``, and a card that says so."""
    if not days or store is None or call.hook != HOOK:
        return answer
    try:
        return _without(answer, call, client, days, store)
    except Exception as fault:
        # A fault of ours must not cost the prescriber a warning: everything is shown.
        _log.error("overridden cards not looked for", extra={"fields": {"fault": type(fault).__name__}})
        return answer


def _without(answer: Answer, call: HookCall, client: str, days: int, store: Store) -> Answer:
    cards = cast("list[Json]", answer.body["cards"])
    marks = _marks(cards, call, client, store)
    if not marks:
        return answer
    now = datetime.now(UTC)
    overridden = store.overridden(client, marks.values(), moment(now - timedelta(days=days)))
    left_out = {uuid: overridden[mark] for uuid, mark in marks.items() if mark in overridden}
    if not left_out:
        return replace(answer, marks=marks)
    told = [_told(card, left_out[card["uuid"]]) for card in cards if card["uuid"] in left_out]
    as_of = date.fromisoformat(cards[0]["extension"][EXTENSION]["asOf"])
    note = not_repeated_card(told, days, Occasion(as_of, new_uuid=new_uuid)).as_json()
    withheld = tuple(_record(card, left_out[card["uuid"]]) for card in cards if card["uuid"] in left_out)
    note["extension"][EXTENSION]["withheld"] = list(withheld)
    kept = [card for card in cards if card["uuid"] not in left_out]
    return replace(answer, body={**answer.body, "cards": [*kept, note]}, marks=marks, withheld=withheld)


def _marks(cards: list[Json], call: HookCall, client: str, store: Store) -> dict[str, str]:
    """The marks of the cards that may be left out. Two alike in one answer are two orders, and both are shown."""
    drafts: dict[str, list[Resource]] = {}
    for draft in resources_of(drafts_of(call)):
        drafts.setdefault(reference(draft), []).append(draft)
    marks = {}
    for card in cards:
        findings = card["extension"][EXTENSION]["findings"]
        orders = {finding.get("order") for finding in findings}
        named = drafts.get(orders.pop(), []) if len(orders) == 1 else []
        if len(named) == 1 and _may_be_left_out(card["indicator"], findings):
            marks[card["uuid"]] = store.keys.fingerprint(_content(card, named[0], call, client))
    times = Counter(marks.values())
    return {uuid: mark for uuid, mark in marks.items() if times[mark] == 1}


def _may_be_left_out(indicator: str, findings: list[Json]) -> bool:
    could_be_checked = all(finding["outcome"] != Outcome.CANNOT_ASSESS for finding in findings)
    return indicator == Severity.WARNING and could_be_checked


def _content(card: Json, draft: Resource, call: HookCall, client: str) -> bytes:
    """What must be the same: client, child, order, and all that the card says but its date and the order's id."""
    ours = card["extension"][EXTENSION]
    as_of = date.fromisoformat(ours["asOf"])
    order = {name: value for name, value in draft.items() if name not in NOT_OF_THE_ORDER}
    said = {"findings": ours["findings"], "dose": ours.get("dose"), "version": ours["knowledgeVersion"]}
    words = [card["summary"], card["detail"].replace(day(as_of), "")]
    content = write_json([client, call.patient_id, order, said, words])
    return content.replace(write_json(reference(draft)), b'"order"')


def _told(card: Json, override: Override) -> NotRepeated:
    findings = card["extension"][EXTENSION]["findings"]
    return NotRepeated(
        summary=card["summary"],
        statements=_statements(card),
        order=findings[0]["order"],
        drug=findings[0]["drug"],
        reason=override.reason,
        on=date.fromisoformat(override.at[:10]),
    )


def _record(card: Json, override: Override) -> Json:
    """What was left out, for machines and for the record: ``card`` is the one that was shown and overridden."""
    return {
        "card": override.card,
        "findings": list(_statements(card)),
        "reason": override.reason,
        "overridden": override.at,
    }


def _statements(card: Json) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f["id"] for f in card["extension"][EXTENSION]["findings"]))
