"""The rows of an entry tried once more on the facts that it holds: does the record account for what was said?

``differences`` asks row by row, ``unaccounted`` for the findings and the doses of the cards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from cds_service.store.recording import as_order
from guideline.assess import conclude
from guideline.findings import Conclusion, DoseAdvice, Finding, Kind, Outcome, Severity
from guideline.tables import Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason, Value

Json = dict[str, Any]
Said = tuple[str, str, str]

OWN_WORDS = ("META-02", "META-05")
"""Statements under which this service speaks of itself, without a row behind it."""


def differences(order: Json, tables: Tables) -> Iterator[str]:
    """Rows of an order (as ``recording.as_order`` gives it) that do not come out as recorded on the tables at hand."""
    told = [(row["table"], row["row"], row["outcome"], tuple(row["decidedBy"])) for row in order["rows"]]
    again = [(t.table, t.row, t.outcome.value, t.decided_by) for t in _conclusion(order, tables).traces]
    for was, now in zip_longest(told, again):
        if was is not None and was != now:
            yield f"{was[0]} / {was[1]} was {was[2]}; these tables say otherwise."
    if len(again) > len(told):
        yield f"{len(again) - len(told)} rows of these tables were not tried."


def unaccounted(body: Json, tables: Tables) -> Iterator[str]:
    """What the cards of an entry say of assessed orders and the facts do not give again, or the other way round.

    Notes, and gaps behind them, may be left out of the cards: a site may not want them, and of a running treatment they
    are not told.
    """
    said: dict[str, set[Said]] = defaultdict(set)
    doses: dict[str, Json] = {}
    kept_back = {id for withheld in body.get("withheld", ()) for id in withheld["findings"]}
    for card in body.get("cards", ()):
        for finding in card["findings"]:
            said[finding.get("order", "")].add((finding["id"], finding["outcome"], finding["severity"]))
            if "dose" in card:
                doses[finding["order"]] = card["dose"]
    found: dict[str, list[Finding]] = defaultdict(list)
    for kept in body.get("orders", ()):
        order = as_order(kept, body.get("evidence", ()), {})
        concluded = _conclusion(order, tables)
        found[order["order"]] += concluded.findings
        given = _dose(concluded.dose)
        told = {name: doses.get(order["order"], {}).get(name) for name in given}
        if given != told and not kept_back:
            yield f"{order['order']}: the dose of the card is not the one that its facts give."
    for reference, follow in found.items():
        again = {(f.id, f.outcome.value, f.severity.value): f for f in follow}
        for id, outcome, severity in sorted(said[reference] - again.keys()):
            if id not in OWN_WORDS:
                yield f"{reference}: {id}, {outcome}, {severity} does not follow from its facts."
        for (id, outcome, severity), finding in sorted(again.items()):
            if (id, outcome, severity) not in said[reference] and id not in kept_back and _is_told(finding):
                yield f"{reference}: {id}, {outcome}, {severity} follows from its facts and is on no card."


def _is_told(finding: Finding) -> bool:
    told_always = finding.kind is not Kind.NOTE and finding.outcome is not Outcome.CANNOT_ASSESS
    return finding.severity is not Severity.INFO or told_always


def _dose(dose: DoseAdvice | None) -> Json:
    """What the card and the facts must agree on."""
    return {
        "id": None if dose is None else dose.row,
        "indication": None if dose is None else dose.indication,
        "phase": None if dose is None else dose.phase,
        "mgPerDay": None if dose is None else dose.regimen.mg_per_day,
        "provisional": True if dose is not None and dose.provisional else None,
    }


def _conclusion(order: Json, tables: Tables) -> Conclusion:
    """What follows from the facts of an order, by the tables that were tried then."""
    names = frozenset(row["table"] for row in order["rows"])
    chosen = tuple(table for table in tables.all if table.name in names)
    facts = {name: _fact(fact) for name, fact in order["facts"].items()}
    return conclude(facts, order["drug"], tables.kept(("only", names), lambda: Tables(chosen)))


def _fact(fact: Json) -> Fact:
    causes = tuple(Cause(c["fact"], Reason(c["reason"]), c.get("why")) for c in fact.get("causes", ()))
    evidence = tuple(map(_datum, fact.get("evidence", ())))
    if fact["state"] == "missing":
        return Missing(causes, evidence)
    value, each = _value(fact["value"]), tuple(map(_value, fact.get("each", ())))
    if fact["state"] == "known":
        return Known(value, evidence, each)
    return Doubtful(value, causes, evidence, "expired" in fact, each)


def _datum(datum: Json) -> Evidence:
    value, on = datum["value"], datum.get("date")
    return Evidence(
        datum["fact"],
        value if isinstance(value, str) else Decimal(value),
        datum.get("unit"),
        None if on is None else date.fromisoformat(on),
        datum.get("source"),
    )


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return frozenset(value)
    if isinstance(value, dict):
        low, high = (None if end is None else Decimal(end) for end in (value["low"], value["high"]))
        return Interval(low, high, "lowOpen" in value, "highOpen" in value)
    return Interval.exactly(Decimal(value))
