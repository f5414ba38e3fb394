"""The rows of an entry tried once more on the facts that it holds: does the record account for what was said?

``differences`` asks row by row, ``unaccounted`` for the findings and the doses of the cards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from cds_service.store.recording import as_order
from guideline.assess import conclude
from guideline.evaluate import ask_applies, ask_row
from guideline.findings import DoseAdvice, Finding, Kind, Outcome, Severity
from guideline.tables import Row, Table, Tables
from guideline.values import Cause, Doubtful, Fact, Interval, Known, Missing, Reason, Value

Json = dict[str, Any]
Said = tuple[str, str, str]

OWN_WORDS = ("META-02", "META-05")
"""Statements under which this service speaks of itself, without a row behind it."""


def differences(order: Json, tables: Tables) -> Iterator[str]:
    """Rows of an order (as ``recording.as_order`` gives it) whose outcome the tables at hand do not give again.

    A row on its own cannot tell whether a neighbour spoke for it or a bound of its dose was passed. So what is
    asked is: a hit holds, a row that does not apply is not known to hold, one not assessed is not known either way.
    Of several rows of one statement in one table, one must fit.
    """
    facts = {name: _fact(fact) for name, fact in order["facts"].items()}
    rows: dict[tuple[str, str], list[tuple[Table, Row]]] = {}
    for table in tables.all:
        for row in table.rows:
            rows.setdefault((table.name, row.id), []).append((table, row))
    for told in order["rows"]:
        known = rows.get((told["table"], told["row"]), [])
        if not known:
            yield f"{told['table']} / {told['row']} is not in these tables."
        elif not any(_fits(told["outcome"], _holds(table, row, facts)) for table, row in known):
            yield f"{told['table']} / {told['row']} was {told['outcome']}; these tables say otherwise."


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
        names = frozenset(row["table"] for row in order["rows"])
        facts = {name: _fact(fact) for name, fact in order["facts"].items()}
        findings, dose = conclude(facts, order["drug"], _only(tables, names))
        found[order["order"]] += findings
        given = _dose(dose)
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


def _only(tables: Tables, names: frozenset[str]) -> Tables:
    chosen = tuple(table for table in tables.all if table.name in names)
    return tables.kept(("only", names), lambda: Tables(chosen))


def _holds(table: Table, row: Row, facts: Mapping[str, Fact]) -> bool | None:
    concerns = ask_applies(table, row, facts).holds
    if concerns is False:
        return False
    holds = ask_row(row, facts, table.stale).holds
    return False if holds is False else (True if concerns and holds else None)


def _fits(outcome: str, holds: bool | None) -> bool:
    match Outcome(outcome):
        case Outcome.HIT:
            return holds is True
        case Outcome.CLEAR:
            return holds is not True
        case Outcome.CANNOT_ASSESS:
            return holds is None
        case Outcome.OUTSIDE_GUIDELINE:
            return holds is not False


def _fact(fact: Json) -> Fact:
    causes = tuple(Cause(c["fact"], Reason(c["reason"]), c.get("why")) for c in fact.get("causes", ()))
    if fact["state"] == "missing":
        return Missing(causes)
    value = _value(fact["value"])
    return Known(value) if fact["state"] == "known" else Doubtful(value, causes, (), "expired" in fact)


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return frozenset(value)
    if isinstance(value, dict):
        low, high = (None if end is None else Decimal(end) for end in (value["low"], value["high"]))
        return Interval(low, high, "lowOpen" in value, "highOpen" in value)
    return Interval.exactly(Decimal(value))
