"""What the pictures of the workbench are drawn from. Every limit comes from the tables and the schedule.

A band is shown where its row could apply to this child now: other conditions of the row that are known not to hold
take it out of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from cds_service.case import Case
from cds_service.explain import Assessments
from cds_service.runtime import Runtime
from guideline.cells import Span
from guideline.derive import course_of, egfr_sum
from guideline.evaluate import ask_applies, ask_cell
from guideline.facts import vocabulary
from guideline.findings import OrderAssessment
from guideline.history import is_no, usable
from guideline.policy import Policy
from guideline.record import Reading, Record
from guideline.schedule import due_dates, newest_set, plan_of
from guideline.tables import Box, Row, Table, Tables
from guideline.values import Fact, Interval, Missing
from guideline.watching import clock_of
from guideline.words import box_in_words, regimen, unit_words

Json = dict[str, Any]
UPPER = "TimesUpper"
"""Facts of this ending are multiples of the result's own upper limit of normal."""


def cited(found: Json, tables: Tables) -> None:
    """Adds to each row that was tried its words, its citation, its section and how grave it is."""
    rows = {(t.name, row.id, row.rule): row for t in tables.all for row in t.rows}
    by_id = {(t.name, row.id): row for t in tables.all for row in t.rows}
    titles = {t.name: t.title for t in tables.all}
    for order in found["orders"]:
        for tried in order.get("rows", ()):
            key = (tried["table"], tried["row"])
            row = rows.get((*key, tried["rule"])) or by_id.get(key)
            tried["title"] = titles.get(tried["table"], tried["table"])
            if row is not None:
                tried |= {"say": row.say, "cite": row.cite, "section": row.section}
                tried |= {"severity": row.severity.value, "kind": row.kind.value}
        for name, fact in order.get("facts", {}).items():
            kind = vocabulary().get(name)
            if kind is not None:
                fact |= {"title": kind.title, "unit": unit_words(kind.unit)}


def pictures(case: Case | None, runtime: Runtime, orders: Assessments) -> list[Json]:
    """One set of pictures for each order that was assessed."""
    if case is None:
        return []
    return [
        _order(reference, assessed, case.record, runtime)
        for reference, assessed in orders
        if assessed is not None
    ]


def _order(reference: str, a: OrderAssessment, record: Record, runtime: Runtime) -> Json:
    policy = runtime.policy
    course = course_of(a.drug, record.orders, record.on, policy.restart_gap)
    escalation = a.facts.get("schedule")
    clock = clock_of(record, a.drug, course, escalates=escalation is not None and not is_no(escalation))
    return {
        "order": reference,
        "drug": a.drug,
        "asOf": record.on.isoformat(),
        "start": course.start.isoformat() if course.start else None,
        "results": list(_results(a, record, runtime)),
        "doses": list(_doses(a, runtime.tables)),
        "plan": _plan(a.drug, clock, record, policy),
        "egfr": _egfr(a, runtime.tables),
    }


# --- results over time ----------------------------------------------------------------------------


def _results(a: OrderAssessment, record: Record, runtime: Runtime) -> Iterator[Json]:
    for name in record.series:
        readings = list(usable(record, name))
        if not readings:
            continue
        bands = list(_bands(name, readings[0], a, runtime))
        kind = vocabulary()[name]
        yield {
            "fact": name,
            "title": kind.title,
            "unit": unit_words(kind.unit),
            "points": [_point(reading) for reading in reversed(readings)],
            "bands": bands,
        }


def _point(reading: Reading) -> Json:
    value = reading.value
    return {
        "date": reading.on.isoformat(),
        "low": value.low,
        "high": value.high,
        "source": reading.source,
    }


def _bands(name: str, newest: Reading, a: OrderAssessment, runtime: Runtime) -> Iterator[Json]:
    own_range = runtime.policy.reference_ranges.get(name)
    upper = newest.high if newest.high is not None else own_range.high if own_range else None
    for table in runtime.tables.of(a.drug):
        if table.is_dose_table:
            continue
        for row in table.rows:
            for box in row.boxes:
                for fact, scale in ((name, Decimal(1)), (name + UPPER, upper)):
                    cell = box.get(fact)
                    if scale is None or not isinstance(cell, Span) or not _could(table, row, box, fact, a):
                        continue
                    yield {
                        "low": None if cell.low is None else cell.low * scale,
                        "high": None if cell.high is None else cell.high * scale,
                        "words": _words(fact, cell),
                        "severity": "none" if row.reassures else row.severity.value,
                        "row": row.id,
                        "say": row.say,
                        "cite": row.cite,
                    }


def _could(table: Table, row: Row, box: Box, without: str, a: OrderAssessment) -> bool:
    """Whether nothing but the fact in the picture speaks against the row."""
    if ask_applies(table, row, a.facts).holds is False:
        return False
    return all(
        ask_cell(name, cell, a.facts, None).holds is not False
        for name, cell in box.items()
        if name != without
    )


# --- doses ----------------------------------------------------------------------------------------


def _doses(a: OrderAssessment, tables: Tables) -> Iterator[Json]:
    """The dose tables that concern this child, one picture for each number that chooses a row."""
    for table in tables.of(a.drug):
        if not table.is_dose_table:
            continue
        for column in table.columns:
            if vocabulary()[column].kind != "number":
                continue
            bands = [
                {
                    "low": cell.low,
                    "high": cell.high,
                    "words": _words(column, cell),
                    "own": _holds(cell, a.facts.get(column)),
                    "row": row.id,
                    "dose": regimen(row.dose) if row.dose else None,
                    "mgPerDay": row.dose.mg_per_day if row.dose else None,
                    "say": row.say,
                    "cite": row.cite,
                }
                for row in table.rows
                for box in row.boxes
                if isinstance(cell := box.get(column), Span) and _could(table, row, box, column, a)
            ]
            if len(bands) > 1:
                kind = vocabulary()[column]
                drafted = a.drafted.regimen
                yield {
                    "table": table.name,
                    "title": table.title,
                    "axis": kind.title,
                    "unit": "" if kind.title.endswith(unit_words(kind.unit)) else unit_words(kind.unit),
                    "bands": bands,
                    "value": _exact(a.facts.get(column)),
                    "draftedMgPerDay": drafted.mg_per_day if drafted else None,
                    "state": _dose_state(a),
                }


def _words(fact: str, cell: Span) -> str:
    """The span with its fact and unit, as the rules say it."""
    return box_in_words({fact: cell})


def _holds(cell: Span, fact: Fact | None) -> bool:
    """Whether the child's own value lies in the band."""
    return fact is not None and not isinstance(fact, Missing) and cell.test(fact.value) is True


def _dose_state(a: OrderAssessment) -> str:
    """One sentence that stands below every dose picture, so that no band is taken for a dose that is withheld."""
    if a.dose is not None:
        provisional = ", provisionally" if a.dose.provisional else ""
        return f"The guideline's dose now{provisional}: {regimen(a.dose.regimen)} ({a.dose.row})."
    if a.withheld_by:
        return f"No dose is suggested for this child now; withheld by {', '.join(a.withheld_by)}."
    return "No dose is suggested for this child now."


def _exact(fact: Fact | None) -> Decimal | None:
    if fact is None or isinstance(fact, Missing) or not isinstance(fact.value, Interval):
        return None
    return fact.value.exact


# --- monitoring -----------------------------------------------------------------------------------


def _plan(drug: str, clock: date | None, record: Record, policy: Policy) -> Json | None:
    """The visits of the running course, each done, due, overdue or to come; ``None`` without a dated course."""
    plan = plan_of(drug)
    if plan is None or clock is None:
        return None
    days = {f: [r.on for r in usable(record, f) if r.on >= clock] for f in plan.needed}
    last = newest_set(days, policy.days("monitoring.set_within"))
    early, late = timedelta(days=policy.days("monitoring.early_by")), policy.days("monitoring.late_after")
    due = due_dates(drug, clock, policy)
    items = []
    for name, on in ((name, due[name]) for name in plan.visits):
        if last is not None and last >= on - early:
            state = "done"
        elif record.on < on:
            state = "to come"
        else:
            state = "overdue" if (record.on - on).days > late else "due"
        items.append({"name": name.replace("-", " "), "date": on.isoformat(), "state": state})
    if last is not None and items and items[-1]["state"] == "done":
        following = last + timedelta(days=policy.days("monitoring.interval"))
        gone = (record.on - last).days
        state = "to come" if record.on < following else "due"
        if gone > policy.days("monitoring.interval_late_after"):
            state = "overdue"
        items.append({"name": "next regular check", "date": following.isoformat(), "state": state})
    return {
        "start": clock.isoformat(),
        "lastSet": last.isoformat() if last else None,
        "needed": [vocabulary()[fact].title for fact in plan.needed],
        "visits": items,
    }


# --- eGFR -----------------------------------------------------------------------------------------


def _egfr(a: OrderAssessment, tables: Tables) -> Json | None:
    fact = a.facts.get("egfr")
    total = None if fact is None else egfr_sum(fact)
    if total is None:
        return None
    return {
        "constant": total.constant,
        "height": total.height_cm,
        "creatinine": total.creatinine_umol_l,
        "value": total.egfr,
        "unit": unit_words(vocabulary()["egfr"].unit),
        "limits": list(Tables(tables.of(a.drug)).limits_of("egfr", "egfrLowest")),
    }
