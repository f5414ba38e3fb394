"""What the entry of a call holds, and what it must not: direct identifiers of patients and users.

Kept are: what was read, by reference and keyed hash; the facts with their evidence; the outcome of every row; the
cards by uuid and finding; versions and time taken. Not kept are: resources, names, birth dates, tokens, addresses of
servers, the texts of cards, drafts, and comments. Patient and user stand as pseudonyms.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cards.text import wording
from cds_service.case import Answer, Steps, drafts_of
from cds_service.envelope import HookCall
from cds_service.explain import order_json
from cds_service.json_reader import write_json
from cds_service.services import SERVICES
from cds_service.store.keys import Keys
from cds_service.store.store import CardRow, Entry, FeedbackRow, Store
from cds_service.supply import supplies_of
from fhir_mappings.drafts import resources_of
from guideline.sources import the_source

Json = dict[str, Any]

_log = logging.getLogger("jaki_cds")

VERSION = 1
CALL, FEEDBACK = "call", "feedback"
OTHER_REASON = "other"
NOT_KEPT = "not kept"
PLAIN_NO: Json = {"state": "known", "value": "no"}
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(r"[A-Za-z]{1,40}/[A-Za-z0-9.\-]{1,64}")
_REFERENCES = ("order", "source")
_PERSONS = ("Patient/", "Practitioner/", "PractitionerRole/", "RelatedPerson/", "Person/")


@dataclass(slots=True)
class Exchange:
    """What became of one request so far; filled in by the routes, written down when the answer is made."""

    id: str
    service: str
    kind: str
    client: str = ""
    call: HookCall | None = None
    answer: Answer | None = None
    feedback: list[Json] = field(default_factory=list)


def record(exchange: Exchange, status: int, ms: float, store: Store) -> None:
    """Makes the entry of a finished exchange and writes it. Raises ``NotRecorded``."""
    now = datetime.now(UTC)
    try:
        entry = entry_of(exchange, status, ms, now, store.keys)
    except Exception as fault:
        # A fault of ours must not cost the clinician the answer: what is certain is recorded.
        _log.error("entry incomplete", extra={"fields": {"fault": type(fault).__name__}})
        bare = Exchange(exchange.id, exchange.service, exchange.kind, exchange.client)
        entry = entry_of(bare, status, ms, now, store.keys)
    store.write(entry)


def entry_of(exchange: Exchange, status: int, ms: float, now: datetime, keys: Keys) -> Entry:
    """The entry of a finished exchange."""
    body: Json = {
        "v": VERSION,
        "key": keys.current,
        "service": exchange.service,
        "client": exchange.client,
        "status": status,
        "ms": round(ms, 1),
    }
    cards: list[CardRow] = []
    reports: list[FeedbackRow] = []
    if exchange.call is not None:
        body |= _call(exchange.call, exchange.client, exchange.answer, keys, now)
    if exchange.answer is not None:
        found = exchange.answer.body["cards"]
        sent = found if isinstance(found, list) else []
        body["cards"] = [_card(card, keys) for card in sent]
        cards = [_card_row(card, exchange) for card in sent]
    if exchange.kind == FEEDBACK:
        reports = [_report(item, exchange, keys) for item in exchange.feedback]
        body["feedback"] = [
            {"id": report.id, "card": report.card, "outcome": report.outcome, "reason": report.reason}
            for report in reports
        ]
    clean = _Clean(keys, exchange.client).value(body)
    return Entry(exchange.id, moment(now), exchange.kind, write_json(clean).decode(), cards, reports)


def moment(when: datetime) -> str:
    """UTC to the millisecond, so that text order is time order."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _call(call: HookCall, client: str, answer: Answer | None, keys: Keys, now: datetime) -> Json:
    steps = answer.steps if answer is not None else Steps()
    running = SERVICES[call.service_id].drafts_field is None
    source = the_source()
    return {
        "hook": call.hook,
        "instance": call.hook_instance
        if _UUID.fullmatch(call.hook_instance)
        else keys.pseudonym("instance", client, call.hook_instance),
        "asOf": (call.as_of or now.astimezone(UTC).date()).isoformat(),
        "edition": source.id,
        "knowledgeVersion": source.knowledge_version,
        "patient": keys.pseudonym("Patient", client, call.patient_id),
        "user": keys.pseudonym("User", client, call.user_id),
        "read": _read(call, steps, keys),
        "orders": [_assessed(order_json(a.order, a, running=running)) for a in steps.assessed],
    }


def _read(call: HookCall, steps: Steps, keys: Keys) -> list[Json]:
    """Every key with its gap and its resources, and the drafts under ``context``."""
    supplies = steps.supplies or supplies_of(call)
    found = [
        {
            "key": name if re.fullmatch(r"[A-Za-z]{1,40}", name) else keys.pseudonym("key", "", name),
            **({} if supply.gap is None else {"gap": supply.gap.value}),
            "resources": _fingerprints(supply.resources, keys),
        }
        for name, supply in supplies.items()
    ]
    found.append({"key": "context", "resources": _fingerprints(resources_of(drafts_of(call)), keys)})
    return found


def _fingerprints(resources: Iterable[Mapping[str, Any]], keys: Keys) -> list[list[str]]:
    return [
        [_reference(f"{r.get('resourceType')}/{r.get('id')}", keys), keys.fingerprint(write_json(r))]
        for r in resources
    ]


def _reference(text: str, keys: Keys) -> str:
    """As it is where it has the form that FHIR allows; else it may hold anything, and only its hash is kept."""
    return text if _REFERENCE.fullmatch(text) else f"unknown/{keys.fingerprint(text.encode())}"


def _assessed(order: Json) -> Json:
    """Rows as ``table|row|outcome|facts that decided``, without their sentence: the version of the tables tells it.

    Facts are left out that are plainly "no" without a source: they are most, and ``as_order`` brings them back.
    """
    rows = "\n".join(
        f"{row['table']}|{row['row']}|{row['outcome']}|{','.join(row['decidedBy'])}" for row in order["rows"]
    )
    facts = {name: fact for name, fact in order["facts"].items() if fact != PLAIN_NO}
    no = [name for name, fact in order["facts"].items() if fact == PLAIN_NO]
    return {**order, "rows": rows, "facts": facts, "no": " ".join(no), "notes": len(order["notes"])}


def as_order(kept: Json, rules: Mapping[str, str]) -> Json:
    """An order of an entry as ``jaki-cds explain`` has it; ``rules`` are the sentences of the rows."""
    rows = [line.split("|") for line in kept["rows"].splitlines()]
    facts = {**kept["facts"], **dict.fromkeys(kept["no"].split(), PLAIN_NO)}
    return {
        **kept,
        "rows": [
            {
                "table": table,
                "row": row,
                "outcome": outcome,
                "rule": rules.get(row, "?"),
                "decidedBy": decided.split(",") if decided else [],
            }
            for table, row, outcome, decided in rows
        ],
        "facts": dict(sorted(facts.items())),
        "notes": [],
    }


def _card(card: Json, keys: Keys) -> Json:
    ours = card["extension"]["org.jaki-cds"]
    return {
        "uuid": card["uuid"],
        "indicator": card["indicator"],
        "sha256": keys.fingerprint(write_json(card)),
        "findings": [
            {
                name: f[name]
                for name in ("id", "outcome", "severity", "order", "evidence", "missing")
                if name in f
            }
            for f in ours["findings"]
        ],
        **({"dose": ours["dose"]} if "dose" in ours else {}),
        "suggestions": [s["uuid"] for s in card.get("suggestions", ())],
    }


def _card_row(card: Json, exchange: Exchange) -> CardRow:
    findings = [[f["id"], f["outcome"], f["severity"]] for f in card["extension"]["org.jaki-cds"]["findings"]]
    suggestions = [s["uuid"] for s in card.get("suggestions", ())]
    return CardRow(card["uuid"], exchange.client, exchange.service, card["indicator"], findings, suggestions)


def _report(item: Json, exchange: Exchange, keys: Keys) -> FeedbackRow:
    """A feedback item without its comment; a reason or id that is not ours may hold anything, and is not kept."""
    given = item.get("overrideReason") or item.get("overrideReasons")
    given = next(iter(given), None) if isinstance(given, list) else given
    given = given if isinstance(given, dict) else {}
    coding = given.get("reason")
    code = coding.get("code") if isinstance(coding, dict) else None
    ours = {reason["code"] for reason in wording()["override_reasons"]}
    reason = "" if coding is None else code if isinstance(code, str) and code in ours else OTHER_REASON

    def known(text: str) -> str:
        return text.lower() if _UUID.fullmatch(text) else keys.pseudonym("card", exchange.client, text)

    return FeedbackRow(
        client=exchange.client,
        service=exchange.service,
        card=known(item["card"]),
        outcome=item["outcome"],
        outcome_at=moment(datetime.fromisoformat(item["outcomeTimestamp"].upper())),
        reason=reason,
        commented=bool(given.get("userComment")),
        suggestions=[known(s["id"]) for s in item.get("acceptedSuggestions", ())],
    )


@dataclass(frozen=True, slots=True)
class _Clean:
    """Takes out of an entry what would name a person: references to persons, birth dates, malformed references."""

    keys: Keys
    client: str

    def value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._members(value)
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _members(self, members: Json) -> Json:
        if members.get("fact") == "birthDate":
            members = {
                name: v for name, v in members.items() if name in ("fact", "value", "source", "reason")
            }
            members |= {"value": NOT_KEPT} if "value" in members else {}
        return {
            name: self.value(
                _reference(value, self.keys) if name in _REFERENCES and isinstance(value, str) else value
            )
            for name, value in members.items()
            if name != "note"
        }

    def _text(self, text: str) -> str:
        if text.startswith(_PERSONS):
            kind, _, value = text.partition("/")
            return f"{kind}/{self.keys.pseudonym(kind, self.client, value)}"
        return text
