"""The rows of an entry tried once more on the facts that it holds: does the record account for what was said?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from guideline.evaluate import ask_applies, ask_row
from guideline.findings import Outcome
from guideline.tables import Row, Table, Tables
from guideline.values import Cause, Doubtful, Fact, Interval, Known, Missing, Reason, Value

Json = dict[str, Any]


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
