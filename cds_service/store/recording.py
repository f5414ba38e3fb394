"""What the entry of a call holds, and what it must not: direct identifiers of patients and users.

Kept are: what was read, by reference and keyed hash; the facts with their evidence; the outcome of every row; the
cards by uuid and finding; versions and time taken. Not kept are: resources, names, birth dates, tokens, addresses of
servers, the texts of cards, drafts, and comments. Patient and user stand as pseudonyms.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from cards.text import wording
from cds_service.case import Answer, Steps, drafts_of
from cds_service.envelope import HookCall
from cds_service.explain import fact_json, order_head
from cds_service.json_reader import write_json
from cds_service.services import SERVICES
from cds_service.store.keys import Keys
from cds_service.store.store import CardRow, Entry, FeedbackRow, Store
from fhir_mappings.drafts import resources_of
from guideline.findings import OrderAssessment
from guideline.sources import the_source
from guideline.values import Cause, Evidence, Fact, Known, Missing, Reason

Json = dict[str, Any]

_log = logging.getLogger("jaki_cds")

VERSION = 2
CALL, FEEDBACK = "call", "feedback"
OTHER_REASON = "other"
NOT_KEPT = "not kept"
ABSENT = "?"
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_KEY_NAME = re.compile(r"[A-Za-z]{1,40}")
_REFERENCE = re.compile(r"[A-Za-z]{1,40}/[A-Za-z0-9.\-]{1,64}")
_IN_IDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"
_LONGEST_ID = 64
_PERSONS = ("Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person")


@dataclass(slots=True)
class Exchange:
    """What became of one request so far; filled in by the routes, written down when the answer is made."""

    id: str
    service: str
    kind: str
    client: str = ""
    raw: bytes = b""
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
    evidence = _Evidence(keys)
    if exchange.call is not None:
        body |= _call(exchange.call, exchange.client, exchange.answer, keys, now, evidence)
    if exchange.answer is not None:
        found = exchange.answer.body["cards"]
        sent = found if isinstance(found, list) else []
        marks = exchange.answer.marks
        body["cards"] = [
            _card(card, keys, evidence) | ({"mark": marks.get(card["uuid"], "")} if marks else {})
            for card in sent
        ]
        cards = [_card_row(card, exchange, marks) for card in sent]
        if exchange.answer.withheld:
            body["withheld"] = exchange.answer.withheld
    if exchange.kind == FEEDBACK:
        reports = [_report(item, exchange, keys) for item in exchange.feedback]
        body["feedback"] = [
            {
                "id": report.id,
                "card": report.card,
                "outcome": report.outcome,
                "reason": report.reason,
                "at": report.outcome_at,
            }
            for report in reports
        ]
    if evidence.kept:
        body["evidence"] = evidence.kept
    if exchange.raw:
        body["request"] = {"bytes": len(exchange.raw), "hash": keys.fingerprint(exchange.raw)}
    if exchange.call is not None:
        body["used"] = _used(exchange.call, exchange.answer, evidence, keys)
    text = _without_persons(write_json(body), exchange.client, keys).decode()
    return Entry(exchange.id, moment(now), exchange.kind, text, cards, reports)


def moment(when: datetime) -> str:
    """UTC to the millisecond, so that text order is time order."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _call(
    call: HookCall, client: str, answer: Answer | None, keys: Keys, now: datetime, evidence: _Evidence
) -> Json:
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
        "read": _read(call, client, steps, keys),
        "orders": [_assessed(a, running, evidence, keys) for a in steps.assessed],
    }


def _read(call: HookCall, client: str, steps: Steps, keys: Keys) -> list[Json]:
    """The drafts under ``context``, and of a call that concerns the guideline every key with its gap and its resources.

    What came with the request is in the hash of the whole; a key that was fetched has a hash of its own.
    """
    found = []
    for name, supply in steps.supplies.items():
        key: Json = {"key": name if _KEY_NAME.fullmatch(name) else keys.pseudonym("key", "", name)}
        if supply.gap is not None:
            key["gap"] = supply.gap.value
        if supply.resources:
            key["resources"] = _names(supply.resources, client, keys)
            if len(supply.resources) > _came(call.prefetch.get(name)):
                key["hash"] = keys.fingerprint(write_json(supply.resources))
        found.append(key)
    drafts = list(resources_of(drafts_of(call)))
    return [*found, {"key": "context", **({"resources": _names(drafts, client, keys)} if drafts else {})}]


def _came(prefetched: object) -> int:
    """How many resources a prefetch value holds at most."""
    if not isinstance(prefetched, dict):
        return 0
    entries = prefetched.get("entry")
    return len(entries) if isinstance(entries, list) else 1


def _names(resources: Sequence[Mapping[str, Any]], client: str, keys: Keys) -> dict[str, str]:
    """The ids by resource type, as one text each: there may be thousands."""
    ids: dict[str, list[Any]] = {}
    kinds = [resource.get("resourceType") for resource in resources]
    if kinds and kinds.count(kinds[0]) == len(kinds):
        ids[str(kinds[0])] = [resource.get("id") for resource in resources]
    else:
        for kind, resource in zip(kinds, resources, strict=True):
            ids.setdefault(str(kind), []).append(resource.get("id"))
    found: dict[str, list[str]] = {}
    for kind, named in ids.items():
        if kind not in _PERSONS and _KEY_NAME.fullmatch(kind) and _are_ids(named):
            found.setdefault(kind, []).extend(named)
            continue
        for id in named:
            reference = _reference(f"{kind}/{id}", keys)
            known, _, value = reference.partition("/")
            if known in _PERSONS:
                value = keys.pseudonym(known, client, value)
            found.setdefault(known, []).append(value)
    return {kind: " ".join(texts) for kind, texts in found.items()}


def _are_ids(named: Sequence[Any]) -> bool:
    """Whether all have the form that FHIR allows."""
    try:
        lengths = set(map(len, named))
        characters = "".join(named).encode("ascii")
    except (TypeError, UnicodeEncodeError):
        return False
    return 0 not in lengths and max(lengths) <= _LONGEST_ID and not characters.translate(None, _IN_IDS)


def _used(call: HookCall, answer: Answer | None, evidence: _Evidence, keys: Keys) -> Json:
    """A keyed hash of each draft and of each resource that a fact or a card rests on, by its reference."""
    steps = answer.steps if answer is not None else Steps()
    sources = {datum["source"] for datum in evidence.kept if "source" in datum}
    ids = {source.partition("/")[2] for source in sources}
    found = {}
    for supply in steps.supplies.values():
        for resource in supply.resources:
            id = resource.get("id")
            if type(id) is str and id in ids:
                reference = f"{resource.get('resourceType')}/{id}"
                if reference in sources:
                    found[reference] = keys.fingerprint(write_json(resource))
    for draft in resources_of(drafts_of(call)):
        reference = _reference(f"{draft.get('resourceType')}/{draft.get('id')}", keys)
        found[reference] = keys.fingerprint(write_json(draft))
    return found


def _reference(text: str, keys: Keys) -> str:
    """As it is where it has the form that FHIR allows; else it may hold anything, and only its hash is kept."""
    return text if _REFERENCE.fullmatch(text) else f"unknown/{keys.fingerprint(text.encode())}"


def _assessed(a: OrderAssessment, running: bool, evidence: _Evidence, keys: Keys) -> Json:
    """An order as short as it can be without losing anything; ``as_order`` writes it out again.

    Rows stand as ``table|row|outcome|facts that decided``, without their sentence: the version of the tables tells it.
    Facts that are one word without a source, most of them, stand by that word, and those absent by ``ABSENT``.
    """
    rows = "\n".join(["|".join((t.table, t.row, t.outcome, ",".join(t.decided_by))) for t in a.traces])
    facts: Json = {}
    plain: dict[str, list[str]] = defaultdict(list)
    for name, fact in a.used_facts().items():  # after the rows, which ask for more
        word = None if fact.evidence else _plain_word(name, fact)
        if word is None:
            facts[name] = fact_json(fact, evidence.place)
        else:
            plain[word].append(name)
    return {
        **order_head(a, running=running),
        "order": _reference(a.order, keys),
        "rows": rows,
        "facts": facts,
        "plain": {word: " ".join(names) for word, names in plain.items()},
        "notes": len(a.notes),
    }


def _plain_word(name: str, fact: Fact) -> str | None:
    """The one word that says all of a fact without evidence; ``None`` where there is more to keep."""
    if type(fact) is Known:
        return fact.value if type(fact.value) is str and not fact.each else None
    return ABSENT if fact == Missing((Cause(name, Reason.ABSENT),)) else None


def as_order(kept: Json, evidence: Sequence[Json], rules: Mapping[str, str]) -> Json:
    """An order of an entry as ``jaki-cds explain`` has it.

    ``evidence`` is the entry's list of data, ``rules`` are the sentences of the rows.
    """
    rows = [line.split("|") for line in kept["rows"].splitlines()]
    facts: Json = {
        name: fact | ({"evidence": written_out(fact["evidence"], evidence)} if "evidence" in fact else {})
        for name, fact in kept["facts"].items()
    }
    for word, names in kept["plain"].items():
        for name in names.split():
            absent = {"state": "missing", "causes": [{"fact": name, "reason": Reason.ABSENT.value}]}
            facts[name] = absent if word == ABSENT else {"state": "known", "value": word}
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
        "phase": facts.get("phase"),
        "notes": [],
    }


def written_out(places: Iterable[int], evidence: Sequence[Json]) -> list[Json]:
    """The data that stand at these places of an entry's list."""
    return [evidence[place] for place in places]


def _card(card: Json, keys: Keys, evidence: _Evidence) -> Json:
    ours = card["extension"]["org.jaki-cds"]
    return {
        "uuid": card["uuid"],
        "indicator": card["indicator"],
        "sha256": keys.fingerprint(write_json(card)),
        "findings": [_finding(finding, keys, evidence) for finding in ours["findings"]],
        **({"dose": ours["dose"]} if "dose" in ours else {}),
        "suggestions": [s["uuid"] for s in card.get("suggestions", ())],
    }


def _finding(finding: Json, keys: Keys, evidence: _Evidence) -> Json:
    order = {"order": _reference(finding["order"], keys)} if "order" in finding else {}
    return {
        "id": finding["id"],
        "outcome": finding["outcome"],
        "severity": finding["severity"],
        **order,
        "evidence": [evidence.add(datum) for datum in finding["evidence"]],
        "missing": finding["missing"],
    }


def _card_row(card: Json, exchange: Exchange, marks: Mapping[str, str]) -> CardRow:
    findings = [[f["id"], f["outcome"], f["severity"]] for f in card["extension"]["org.jaki-cds"]["findings"]]
    suggestions = [s["uuid"] for s in card.get("suggestions", ())]
    return CardRow(
        card["uuid"],
        exchange.client,
        exchange.service,
        card["indicator"],
        findings,
        suggestions,
        marks.get(card["uuid"]),
    )


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


@dataclass(slots=True)
class _Evidence:
    """The data that facts and cards of one entry rest on, each kept once; who rests on one names its place."""

    keys: Keys
    kept: list[Json] = field(default_factory=list)
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _of_facts: dict[int, int] = field(default_factory=dict)

    def place(self, datum: Evidence) -> int:
        """The place of a datum that a fact rests on. Facts share data, and these live as long as the entry is made."""
        place = self._of_facts.get(id(datum))
        if place is None:
            on = None if datum.on is None else datum.on.isoformat()
            place = self._place((datum.fact, datum.value, datum.unit, on, datum.source))
            self._of_facts[id(datum)] = place
        return place

    def add(self, datum: Json) -> int:
        """The place of a datum as a card shows it."""
        get = datum.get
        return self._place((get("fact"), get("value"), get("unit"), get("date"), get("source")))

    def _place(self, values: tuple[Any, ...]) -> int:
        place = self._places.get(values)
        if place is None:
            place = self._places[values] = len(self.kept)
            self.kept.append(self._clean(*values))
        return place

    def _clean(self, fact: str, value: Any, unit: str | None, on: str | None, source: str | None) -> Json:
        """Without what is not there and, of a birth date, the date itself."""
        if fact == "birthDate":
            value, on = NOT_KEPT, None
        datum = {"fact": fact}
        if value is not None:
            datum["value"] = value
        if unit is not None:
            datum["unit"] = unit
        if on is not None:
            datum["date"] = on
        if source is not None:
            datum["source"] = _reference(source, self.keys)
        return datum


_PERSON = re.compile(rb'"(%b)/([^"\\]*(?:\\.[^"\\]*)*)"' % "|".join(_PERSONS).encode())


def _without_persons(body: bytes, client: str, keys: Keys) -> bytes:
    """An entry in JSON with a pseudonym in each reference to a person, wherever it stands."""

    def pseudonym(found: re.Match[bytes]) -> bytes:
        value = msgspec.json.decode(b'"%b"' % found[2], type=str)
        return b'"%b/%b"' % (found[1], keys.pseudonym(found[1].decode(), client, value).encode())

    return _PERSON.sub(pseudonym, body)
