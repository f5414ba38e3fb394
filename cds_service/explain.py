"""``jaki-cds explain``: how the answer to one request came about.

For every order of interest: the facts as they were read or derived, the phase, every row tried and what decided
it, the dose and what withheld it. As text for people, with ``--json`` for machines. Site policy and local codes are
those of ``JAKI_CDS_SITE``, as in the service.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from cards.text import name_of, rounded
from cds_service.case import Case, Steps, concern_of, drafts_of, read_case
from cds_service.envelope import HookCall, read_call
from cds_service.errors import Refusal
from cds_service.json_reader import UnreadableBody, read_json, write_json
from cds_service.runtime import Runtime, make_runtime
from cds_service.services import SERVICES
from cds_service.settings import Settings, SettingsError, read_settings, site_fault
from fhir_mappings.drafts import DraftedOrder, read_draft, running_drafts
from fhir_mappings.rejected import rejected
from guideline.assess import assess, assess_ending, watch
from guideline.doses import Administration, Regimen
from guideline.facts import vocabulary
from guideline.findings import OrderAssessment, Outcome, Trace
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing
from guideline.words import regimen, unit_words
from guideline.yaml_text import YamlFault

OK, UNUSABLE = 0, 2
LONGEST_NUMBER = 8
"""Characters of a number in the text; a calculated one with more is shown rounded (``--json`` has it all)."""
HEADINGS = {
    Outcome.HIT: "Rows that apply",
    Outcome.OUTSIDE_GUIDELINE: "Rows of which a value lies outside the guideline",
    Outcome.CANNOT_ASSESS: "Rows that could not be assessed",
    Outcome.CLEAR: "Rows that do not apply",
}

Json = dict[str, Any]
Assessments = list[tuple[str, OrderAssessment | None]]


class UnusableInput(Exception):
    """A request that cannot be explained; the text is the one line that the user reads."""


def main(args: list[str]) -> int:
    """Explains and returns the exit status: 0, or 2 for unusable input."""
    parser = argparse.ArgumentParser(
        prog="jaki-cds explain",
        description="The facts read from a request and every row tried on them, with the policy and the codes "
        "of the site file in JAKI_CDS_SITE.",
    )
    parser.add_argument("request", type=Path, metavar="REQUEST.json", help="a whole hook request")
    parser.add_argument("--json", action="store_true", help="as JSON, for machines")
    options = parser.parse_args(args)
    try:
        found = explain(options.request)
    except UnusableInput as fault:
        print(f"jaki-cds explain: {fault}", file=sys.stderr)
        return UNUSABLE
    if options.json:
        sys.stdout.write(write_json(found).decode() + "\n")
    else:
        print("\n".join(as_text(found)))
    return OK


def explain(path: Path) -> Json:
    """The explanation of the request in a file, as JSON. Raises ``UnusableInput``."""
    return explanation(*assessed_file(path))


def assessed_file(path: Path) -> tuple[HookCall, Runtime, Case | None, Assessments]:
    """The request in a file and what its cards are made from, with the site's own policy and codes.

    Raises ``UnusableInput``.
    """
    settings, runtime = _as_configured()
    try:
        body = read_json(path.read_bytes())
        hook = body.get("hook") if isinstance(body, dict) else None
        service = next((s for s in SERVICES.values() if s.hook == hook), None)
        if service is None:
            hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
            raise UnusableInput(f"{path}: hook is none that the service answers; it answers {hooks}.")
        call = read_call(service, body, settings)
        case, orders = assessments(call, runtime)
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be read ({fault.strerror}).") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{path}: {fault.reason}") from None
    except Refusal as refusal:
        raise UnusableInput(f"{path}: {refusal}") from None
    return call, runtime, case, orders


def _as_configured() -> tuple[Settings, Runtime]:
    """The service as the environment configures it (``JAKI_CDS_SITE`` above all), but for this machine's user:
    in demo mode, which asks no client who it is and takes the date of the request."""
    try:
        settings = replace(read_settings(os.environ), demo=True)
        return settings, make_runtime(settings)
    except SettingsError as fault:
        raise UnusableInput(str(fault)) from None
    except (YamlFault, OSError) as fault:
        raise UnusableInput(site_fault(fault)) from None


# --- as data --------------------------------------------------------------------------------------


def explanation(call: HookCall, runtime: Runtime, case: Case | None, orders: Assessments) -> Json:
    """The explanation of the ``assessments`` of a call, as JSON."""
    left_out = () if case is None else rejected(case.pool, case.record, call.patient_id)
    return {
        "hook": call.hook,
        "asOf": (call.as_of or runtime.today()).isoformat(),
        "orders": [
            order_json(reference, assessed, running=SERVICES[call.service_id].drafts_field is None)
            for reference, assessed in orders
        ],
        "rejected": [
            {"resource": r.source, "why": r.why, **({} if r.fact is None else {"fact": r.fact})}
            for r in left_out
        ],
    }


def order_json(reference: str, a: OrderAssessment | None, *, running: bool) -> Json:
    """One order as data; ``None`` where it could not be assessed."""
    if a is None:
        return {"order": reference, "assessed": False}
    return {
        **order_head(a, running=running),
        "phase": fact_json(a.facts["phase"], evidence_json) if "phase" in a.facts else None,
        "facts": {name: fact_json(fact, evidence_json) for name, fact in sorted(a.facts.items())},
        "rows": [_trace(trace) for trace in a.traces],
        "notes": list(a.notes),
    }


def order_head(a: OrderAssessment, *, running: bool) -> Json:
    """An assessed order without its facts, rows and notes, which the record of a call writes in its own way."""
    found: Json = {
        "order": a.order,
        "assessed": True,
        "running": running,
        "drug": a.drug,
        "matchedByName": a.matched_by_name,
        "drafted": {"state": a.drafted.state.value, **_regimen(a.drafted.regimen), **_why(a.drafted.why)},
        "dose": None,
        "withheldBy": list(a.withheld_by),
        "referenceDoses": [
            {"row": r.row, "heading": r.heading, **_regimen(r.regimen)} for r in a.reference_doses
        ],
    }
    if a.dose is not None:
        found["dose"] = {
            "row": a.dose.row,
            "indication": a.dose.indication,
            "phase": a.dose.phase,
            **_regimen(a.dose.regimen),
            "provisional": a.dose.provisional,
            "verdict": a.dose.verdict.value,
        }
    return found


def _why(why: str | None) -> Json:
    return {} if why is None else {"why": why}


def _regimen(value: Regimen | None) -> Json:
    if value is None:
        return {}
    return {
        "dose": regimen(value),
        "mgPerDay": value.mg_per_day,
        "administrations": [_administration(each) for each in value.administrations],
    }


def _administration(each: Administration) -> Json:
    if each.when is not None:
        return {"when": each.when.value, "mg": each.mg}
    return {"timesPerDay": each.times_per_day, "mg": each.mg}


def fact_json(fact: Fact, write: Callable[[Evidence], object]) -> Json:
    """A fact with its state and causes; ``write`` says what stands for each datum of its evidence."""
    found: Json = {"state": _STATES[type(fact)]}
    if not isinstance(fact, Missing):
        found["value"] = _value(fact.value)
    if not isinstance(fact, Known):
        found["causes"] = [_cause(cause) for cause in fact.causes]
    if isinstance(fact, Doubtful) and fact.expired:
        found["expired"] = True
    if fact.evidence:
        found["evidence"] = [write(e) for e in fact.evidence]
    if not isinstance(fact, Missing) and fact.each:
        found["each"] = [_value(value) for value in fact.each]
    return found


_STATES = {Known: "known", Doubtful: "doubtful", Missing: "missing"}


def _value(value: Interval | str | frozenset[str]) -> object:
    if isinstance(value, Interval):
        if value.exact is not None:
            return value.exact
        ends = {"low": value.low, "high": value.high}
        open_ends = {"lowOpen": value.low_open, "highOpen": value.high_open}
        return ends | {name: True for name, is_open in open_ends.items() if is_open}
    return sorted(value) if isinstance(value, frozenset) else value


def evidence_json(e: Evidence) -> Json:
    """One datum: which fact, its value with unit, when and where it was read, and what may mislead."""
    found = {
        "fact": e.fact,
        "value": e.value,
        "unit": e.unit,
        "date": None if e.on is None else e.on.isoformat(),
        "source": e.source,
        "note": e.note,
    }
    return {name: value for name, value in found.items() if value is not None}


def _cause(cause: Cause) -> Json:
    return {"fact": cause.fact, "reason": cause.reason.value, **_why(cause.detail)}


def _trace(trace: Trace) -> Json:
    return {
        "table": trace.table,
        "row": trace.row,
        "outcome": trace.outcome.value,
        "rule": trace.rule,
        "decidedBy": list(trace.decided_by),
    }


# --- as text --------------------------------------------------------------------------------------


def as_text(found: Json) -> Iterator[str]:
    """The explanation for people, line by line."""
    yield f"{found['hook']}, evaluated as of {found['asOf']}"
    if not found["orders"]:
        yield "No JAK inhibitor is drafted or being taken, so no row was tried."
    for order in found["orders"]:
        yield ""
        yield f"== {order['order']} =="
        if not order["assessed"]:
            yield "Not assessed: it names another patient, or its drug is not covered or could not be resolved."
            continue
        yield from _order_text(order)
    rejected_ = found.get("rejected", ())  # the record of a call keeps no list of them
    if rejected_:
        yield ""
        yield "Resources that were not used"
    for one in rejected_:
        fact = f" (for {name_of(one['fact'])})" if "fact" in one else ""
        yield f"  {one['resource']}{fact}: {one['why']}"


def _order_text(order: Json) -> Iterator[str]:
    by_name = " (recognised by its name, not by a code)" if order["matchedByName"] else ""
    drafted = order["drafted"]
    yield f"Drug: {order['drug']}{by_name}"
    if not order["running"]:
        why = f" ({drafted['why']})" if "why" in drafted else ""
        yield f"Drafted: {drafted.get('dose') or drafted['state']}{why}"
    if order["phase"] is not None:
        yield f"Phase: {_fact_text('phase', order['phase'])}"
    yield from _dose_text(order)
    yield ""
    yield "Facts"
    width = max(map(len, order["facts"]), default=0)
    for name, fact in order["facts"].items():
        yield f"  {name:<{width}}  {_fact_text(name, fact)}"
    for outcome, heading in HEADINGS.items():
        rows = [row for row in order["rows"] if row["outcome"] == outcome.value]
        if rows:
            yield ""
            yield heading
        for row in rows:
            decided = f"  (decided by {', '.join(row['decidedBy'])})" if row["decidedBy"] else ""
            yield f"  {row['table']} / {row['row']}: {row['rule']}{decided}"
    for note in order["notes"]:
        yield ""
        yield f"Note: {note}"


def _dose_text(order: Json) -> Iterator[str]:
    dose = order["dose"]
    if order["running"]:
        yield "Dose: none is looked for, since nothing is being ordered"
    elif dose is not None:
        provisional = ", provisional" if dose["provisional"] else ""
        yield f"Dose: {dose['dose']} [{dose['row']}]{provisional}; the draft against it: {dose['verdict']}"
    elif order["withheldBy"]:
        yield f"Dose: none; withheld by {', '.join(order['withheldBy'])}"
    elif any(row["outcome"] == Outcome.CANNOT_ASSESS.value for row in order["rows"]):
        yield "Dose: none; no row could be chosen, see the rows that could not be assessed"
    else:
        yield "Dose: none; no row gives one"
    for reference in order["referenceDoses"]:
        yield f"  {reference['heading']}: {reference['dose']} [{reference['row']}]"


def _fact_text(name: str, fact: Json) -> str:
    if fact["state"] == "missing":
        return "missing: " + _causes_text(fact["causes"])
    told = _value_text(fact["value"], _unit(name))
    sources = list(filter(None, (_evidence_text(e, fact["value"]) for e in fact.get("evidence", []))))
    doubt = f"  doubtful: {_causes_text(fact['causes'])}" if fact["state"] == "doubtful" else ""
    return told + (f"  [{'; '.join(sources)}]" if sources else "") + doubt


def _unit(name: str) -> str:
    kind = vocabulary().get(name)
    return unit_words(kind.unit) if kind is not None else ""


def _evidence_text(e: Json, value: object) -> str:
    """Where a fact was read; the value only where it is not the fact's own."""
    own = "" if e["value"] == value else f"{e['fact']} {_value_text(e['value'], e.get('unit', ''))}"
    return " ".join(filter(None, (own, e.get("date"), e.get("source"), e.get("note"))))


def _value_text(value: object, unit: str) -> str:
    if isinstance(value, Decimal):
        return f"{rounded(value, 2) if len(str(value)) > LONGEST_NUMBER else value} {unit}".rstrip()
    if isinstance(value, dict):
        low, high = ("open" if end is None else str(end) for end in (value["low"], value["high"]))
        return f"{low} to {high} {unit}".rstrip()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _causes_text(causes: Iterable[Json]) -> str:
    told = (f"{name_of(c['fact'])} {c['reason']}" + (f" ({c['why']})" if "why" in c else "") for c in causes)
    return "; ".join(dict.fromkeys(told))


def assessments(call: HookCall, runtime: Runtime) -> tuple[Case | None, Assessments]:
    """What the cards of ``call`` are made from: the child's record, and every order of interest with its assessment.

    No record where nothing is drafted that concerns the guideline. ``None`` stands where an order cannot be
    assessed: another patient's, or its drug unresolved. Raises what ``respond`` raises, and lets a fault of ours
    through.
    """
    on = call.as_of or runtime.today()
    concern = concern_of(call, runtime)
    if drafts_of(call) is not None and not concern.orders:
        return None, []
    case = read_case(call, runtime, concern, on, Steps())
    if drafts_of(call) is None:
        running = running_drafts(case.pool, case.lists, on, runtime.policy.restart_gap)
        return case, [(d.reference, watch(case.record, d, runtime.tables, runtime.policy)) for d in running]
    return case, [(order.reference, _assessed(order, case, runtime)) for order in concern.orders]


def _assessed(order: DraftedOrder, case: Case, runtime: Runtime) -> OrderAssessment | None:
    if order.medicine.jak_inhibitor is None or order.of_another_patient or order.modified:
        return None
    draft = read_draft(order, case.pool, case.lists)
    ask = assess_ending if draft.ending else assess
    return ask(case.record, draft, runtime.tables, runtime.policy)
