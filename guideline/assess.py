"""Facts x tables -> findings, and the dose that may be suggested. The engine's one public function is ``assess``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache

import msgspec

from guideline import derive, dosing, watching
from guideline.cells import Span
from guideline.derive import NO, YES, GivenFacts, OrderFacts, Rule, course_of, egfr_sum
from guideline.doses import DoseState, Form, OrderedDose
from guideline.dosing import (
    ESCALATED,
    Selection,
    check_facts,
    dose_tables,
    initial_row,
    per_kg,
    reference_doses,
    running_total,
    select,
    verdict_of,
)
from guideline.evaluate import (
    Answer,
    Facts,
    Tried,
    ask_applies,
    ask_at_once,
    ask_known,
    ask_row,
    trials,
    unique,
)
from guideline.findings import (
    Conclusion,
    DoseAdvice,
    Finding,
    Kind,
    OrderAssessment,
    Origin,
    Outcome,
    ReferenceDose,
    Severity,
    Trace,
    Verdict,
)
from guideline.policy import Policy
from guideline.record import Draft, Record
from guideline.schedule import due_dates
from guideline.sign_off import signed
from guideline.tables import Row, Table, Tables
from guideline.values import Doubtful, Fact, Interval, Known, Missing, Reason

# A member looked up in its enumeration costs ten times what a name of the module does; these are asked at each row.
_HIT, _CLEAR, _CANNOT_ASSESS = Outcome.HIT, Outcome.CLEAR, Outcome.CANNOT_ASSESS
_OUTSIDE = Outcome.OUTSIDE_GUIDELINE
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO


def assess(record: Record, draft: Draft, tables: Tables, policy: Policy) -> OrderAssessment:
    """Everything that the guideline says of one drafted order of a JAK inhibitor."""
    facts = OrderFacts(record, draft, tables, policy, rules())
    selection = select(tables, draft.drug, facts)
    tried = _try_tables(tables, draft.drug, facts, "first") + _dose_table_rows(selection)
    told = _not_clear(tried)
    hits = [t.row for t in told if t.outcome is _HIT]
    no_row = any(row.withholds == "row" for row in hits)
    reduced = any(_asks_for_less(row) for row in hits)
    facts |= check_facts(facts, selection, no_row=no_row, reduced=reduced)
    after = _try_tables(tables, draft.drug, facts, "after dose")
    told += _not_clear(after)
    facts["interruption"] = _interruption(told, draft, running_total(facts.course))
    last = _try_tables(tables, draft.drug, facts, "after last")
    told += _not_clear(last)
    tried += after + last
    dates = due_dates(draft.drug, record.on, policy)
    findings = _joined([_finding(t, draft, dates) for t in told])
    withheld = _withheld_by(told, findings, facts)
    dose, dose_finding = _dose(draft, facts, selection, told, withheld)
    if dose_finding is not None:
        findings = _joined([*findings, dose_finding])
    crossed = _is(facts["egfrCrossed"], YES)
    references = reference_doses(facts, selection, crossed)
    if (
        dose is not None
        and dose.phase == ESCALATED
        and dose.verdict is Verdict.UNDER
        and _lowers(draft, running_total(facts.course))
    ):
        # Going up again would be an escalation that nobody asked for; the initial row is one option.
        dose = replace(dose, lowered=True)
        references += initial_row(facts)
    return _assessment(record, draft, tables, facts, tried, findings, dose, references, withheld)


def _not_clear(tried: list[Tried]) -> list[Tried]:
    """What is told: most rows do not apply, and stand in the trace only."""
    return [t for t in tried if t.outcome is not _CLEAR]


@cache
def rules() -> Mapping[str, Rule]:
    """How every fact is made that does not depend on the dose row or on other rows."""
    return {**derive.rules(), **dosing.rules(), **watching.rules()}


def conclude(given: Facts, drug: str, tables: Tables) -> Conclusion:
    """What follows from all facts of an assessment, without the record they were read from.

    So that years later the facts alone account for what was said. ``tables`` are those that were tried then. Not
    known here are the drafted dose beyond its facts (``verdict`` says ``absent``) and the days when checks are due.
    """
    facts = GivenFacts(given)
    draft = Draft("", drug, False, Form.ANY, False, _UNKNOWN_DOSE, facts["indication"], facts["jiaCategory"])
    selection = select(tables, drug, facts)
    tried = _try_tables(tables, drug, facts, "first") + _dose_table_rows(selection)
    for stage in ("after dose", "after view", "after last"):
        tried += _try_tables(tables, drug, facts, stage)
    findings = _joined([_finding(t, draft, {}) for t in _not_clear(tried)])
    dose, finding = _dose(draft, facts, selection, tried, _withheld_by(tried, findings, facts))
    findings = findings if finding is None else _joined([*findings, finding])
    return Conclusion(findings, dose, _traces(tried, tables, drug, facts))


_UNKNOWN_DOSE = OrderedDose(DoseState.ABSENT, None)


def _lowers(draft: Draft, running: Decimal | None) -> bool:
    """Whether the draft gives less in a day than the ``running`` total."""
    drafted = draft.dose.regimen
    return running is not None and drafted is not None and drafted.mg_per_day < running


def _asks_for_less(row: Row) -> bool:
    """Whether less than the row's dose may be right: then only a draft above the row is faulted."""
    return row.reduces or row.interrupts or row.withholds == "dose"


def watch(record: Record, draft: Draft, tables: Tables, policy: Policy) -> OrderAssessment:
    """What the guideline says of a running treatment (no order is being drafted, so no dose is given).

    ``draft`` stands for the running order, with its dose; only the tables that watch a treatment are tried, and of
    what they say only what a clinician should act on or know is unchecked. Where the running dose is not that of the
    row, the row of today's age, weight and eGFR is given as text.
    """
    chosen = tables.only("view", lambda table: table.view)
    return _partly(record, draft, tables, chosen, policy, running=True)


def _row_of_today(facts: Facts, selection: Selection) -> tuple[ReferenceDose, ...]:
    found = [] if selection.outside else [(selection.row, selection.regimen)]
    return tuple(
        ReferenceDose(row.id, "The guideline's row today", regimen, per_kg(regimen, facts["weight"]))
        for row, regimen in found
        if row is not None and regimen is not None
    )


def assess_beyond(record: Record, draft: Draft, tables: Tables, policy: Policy) -> OrderAssessment:
    """A drafted order of something else - a vaccine, a contraceptive, a biologic - for a child on a JAK inhibitor."""
    # A course that was stopped, or ended on an unknown day, concerns only what asks how long ago it was.
    running = course_of(draft.drug, record.orders, record.on, policy.restart_gap).running
    known = running is not None and not draft.stopped
    chosen = tables.only(
        ("beyond", known), lambda table: table.beyond and (known or "daysSinceLastDose" in set(table.facts()))
    )
    return _partly(record, draft, tables, chosen, policy)


def assess_ending(record: Record, draft: Draft, tables: Tables, policy: Policy) -> OrderAssessment:
    """A draft that stops or pauses the drug: what the guideline says of withdrawal, and nothing of starting."""
    chosen = tables.only("ending", lambda table: table.stage == "after last")
    return _partly(record, draft, tables, chosen, policy, every=True)


def _partly(
    record: Record,
    draft: Draft,
    tables: Tables,
    chosen: Tables,
    policy: Policy,
    *,
    every: bool = False,
    running: bool = False,
) -> OrderAssessment:
    """The ``chosen`` of the tables alone; those about the dose of a treatment only where it is ``running``."""
    facts = OrderFacts(record, draft, tables, policy, rules())
    tried = _try_tables(chosen, draft.drug, facts, "first")
    references: tuple[ReferenceDose, ...] = ()
    if running:
        row = select(tables, draft.drug, facts)
        no_row = any(t.outcome is _HIT for t in _rows_that_bar(tables, draft.drug, facts))
        reduced = any(t.outcome is _HIT and _asks_for_less(t.row) for t in tried)
        facts |= check_facts(facts, row, no_row=no_row, reduced=reduced)
        if isinstance(facts["verdict"], Known) and row.answer is not None:
            # No dose card shows what chose the row, so that the finding has to.
            facts["verdict"] = msgspec.structs.replace(facts["verdict"], evidence=row.answer.evidence)
        compared = _try_tables(chosen, draft.drug, facts, "after view")
        tried += compared
        if any(t.outcome is _HIT for t in compared):
            references = _row_of_today(facts, row)
    facts["interruption"] = _interruption(tried, draft, running_total(facts.course))
    tried += _try_tables(chosen, draft.drug, facts, "after last")
    findings = _joined([_finding(t, draft, {}) for t in _not_clear(tried)])
    worth = tuple(f for f in findings if every or _matters(f))
    return _assessment(record, draft, chosen, facts, tried, worth, None, references, ())


def _matters(finding: Finding) -> bool:
    """Whether a finding is worth a card where no JAK inhibitor is drafted: not a mere note, and not a gap behind one
    where all that it lacks was never measured, or not lately. What came and could not be read, or did not come, may
    hide a finding. A note on what is being drafted is worth one (a progestogen-only pill, PREG-04).
    """
    if finding.severity is not _INFO:
        return True
    if finding.outcome is _CANNOT_ASSESS:
        return any(cause.reason not in (Reason.ABSENT, Reason.STALE) for cause in finding.missing)
    return finding.kind is not Kind.NOTE or any(e.fact == "drafts" for e in finding.evidence)


def _assessment(
    record: Record,
    draft: Draft,
    tables: Tables,
    facts: OrderFacts,
    tried: list[Tried],
    findings: tuple[Finding, ...],
    dose: DoseAdvice | None,
    references: tuple[ReferenceDose, ...],
    withheld: tuple[str, ...],
) -> OrderAssessment:
    return OrderAssessment(
        order=draft.reference,
        drug=draft.drug,
        drafted=draft.dose,
        matched_by_name=draft.matched_by_name,
        findings=findings,
        dose=dose,
        reference_doses=references,
        withheld_by=withheld,
        egfr=egfr_sum(facts["egfr"]) if draft.drug == "baricitinib" else None,
        notes=(*record.notes, *draft.notes, *_not_on_record(tables, draft.drug, facts, findings)),
        all_facts=facts.complete,
        used_facts=facts.used,
        trace=lambda: _traces(tried, tables, draft.drug, facts),
    )


def _not_on_record(tables: Tables, drug: str, facts: Facts, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The note on results that nobody has to have: what is not there was not looked at, nor taken for normal."""
    told = {cause.fact for finding in findings for cause in finding.missing}
    lacking = [
        kind.title
        for kind in tables.optional_facts(drug)
        if isinstance(facts[kind.name], Missing) and kind.named not in told
    ]
    return (f"Not on record, or not lately, and so not looked at: {', '.join(lacking)}.",) if lacking else ()


def _interruption(tried: list[Tried], draft: Draft, running: Decimal | None) -> Fact:
    """Whether a finding interrupts, reduces or stops the drug, or the order itself does (A-13, ruling 17)."""
    hits = [t for t in tried if t.outcome is _HIT and t.row.interrupts]
    return Known(
        YES if hits or draft.ending or _lowers(draft, running) else NO,
        unique(e for t in hits for e in t.answer.evidence),
    )


def _is(fact: Fact, value: str) -> bool:
    return not isinstance(fact, Missing) and fact.value == value


# --- trying the rows ------------------------------------------------------------------------------


def _try_tables(tables: Tables, drug: str, facts: Facts, stage: str) -> list[Tried]:
    found: list[Tried] = []
    for trial in trials(tables, drug, stage):
        of_table = ask_known(trial.conditions, facts)
        if of_table:
            found += trial.cleared[of_table]
            continue
        table, unknown = trial.table, False
        begin = len(found)
        for row in trial.rows:
            tried = ask_at_once(row, facts, of_table)
            if tried is None:
                tried = _try_row(table, row.row, facts)
                unknown = unknown or tried.outcome is _CANNOT_ASSESS
            found.append(tried)
        if unknown and table.speaks_when_unknown is not None:
            found[begin:] = _told_once(table, found[begin:])
    return found


def _told_once(table: Table, tried: list[Tried]) -> list[Tried]:
    """One row speaks for a table that could not be decided, so that one gap is told once."""
    unknown = [t for t in tried if t.outcome is _CANNOT_ASSESS]
    own = [t for t in unknown if t.row.id == table.speaks_when_unknown] or unknown
    spokesman = min(own, key=lambda t: t.row.severity.rank)
    causes = unique(c for t in unknown for c in t.answer.causes)
    bars = any(_could_bar(t) for t in unknown)
    answer = spokesman.answer
    told = Tried(
        table,
        spokesman.row,
        _CANNOT_ASSESS,
        Answer(None, causes, answer.evidence, answer.doubts, answer.decided_by),
        bars,
    )
    return [
        told
        if t.row is spokesman.row
        else Tried(t.table, t.row, _CLEAR, t.answer, t.bars)
        if t.outcome is _CANNOT_ASSESS
        else t
        for t in tried
    ]


def _try_row(table: Table, row: Row, facts: Facts) -> Tried:
    concerns = ask_applies(table, row, facts)
    if concerns.holds is False:
        return Tried(table, row, _CLEAR, concerns)
    answer = ask_row(row, facts, table.stale)
    if answer.holds is False:
        return Tried(table, row, _CLEAR, answer)
    if concerns.holds and answer.holds:
        if concerns.doubts or len(answer.doubts) > 1:
            doubts = unique((*answer.doubts, *concerns.doubts))
            answer = Answer(True, answer.causes, answer.evidence, doubts, answer.decided_by)
        return Tried(table, row, _HIT, answer, on_limit=row.on_limit is not None and _on_limit(row, facts))
    causes = unique((*concerns.causes, *answer.causes))
    decided = unique((*(concerns.decided_by if concerns.holds is None else ()), *answer.decided_by))
    if (
        "indication" in decided
        and isinstance(facts["indication"], Missing)
        and table.speaks_for != "indication"
        and not _is(facts["ending"], YES)
    ):
        # An unknown indication is told once, by the table that speaks for it (ruling 12); of an order that ends
        # the drug that table is not asked.
        return Tried(table, row, _CLEAR, Answer(False, decided_by=("indication",)))
    if table.speaks_for == "indication":
        causes = tuple(c for c in causes if c.fact == "indication") or causes
    return Tried(table, row, _CANNOT_ASSESS, Answer(None, causes, answer.evidence, (), decided))


def _on_limit(row: Row, facts: Facts) -> bool:
    """Whether a value stands exactly on a limit that the row includes (A-06, A-07)."""
    asked = ((facts[name], cell) for box in row.boxes for name, cell in box.items() if isinstance(cell, Span))
    return any(
        not isinstance(fact, Missing)
        and isinstance(fact.value, Interval)
        and fact.value.exact in cell.limits
        and cell.test(fact.value) is True
        for fact, cell in asked
    )


def _rows_that_bar(tables: Tables, drug: str, facts: Facts) -> list[Tried]:
    """The rows by which no dose row counts at all (``withholds: row``), as they stand for these facts."""
    return [
        _try_row(table, row, facts)
        for table in tables.of(drug)
        if table.stage == "first" and not table.is_dose_table
        for row in table.rows
        if row.withholds == "row"
    ]


def _dose_table_rows(selection: Selection) -> list[Tried]:
    """Dose-table rows that are no dose to give: rows still possible, rows without a dose, a row out of bounds."""
    found = [Tried(t, r, _HIT, a) for t, r, a in selection.others]
    found += [Tried(t, r, _CANNOT_ASSESS, a) for t, r, a in selection.possible]
    if selection.outside and selection.table is not None and selection.row is not None:
        assert selection.answer is not None
        found.append(Tried(selection.table, selection.row, _OUTSIDE, selection.answer))
    return found


def _other_dose_rows(tables: Tables, drug: str, facts: Facts, tried: list[Tried]) -> list[Tried]:
    """The dose rows that ``_dose_table_rows`` leaves out, for the trace: the chosen one and those that do not apply."""
    told = {(t.table.name, t.row.id) for t in tried}
    rows = ((table, row) for table in dose_tables(tables, drug) for row in table.rows)
    return [_try_row(table, row, facts) for table, row in rows if (table.name, row.id) not in told]


# --- findings -------------------------------------------------------------------------------------


def _severity(tried: Tried) -> Severity:
    row = tried.row
    withholds = row.withholds is not None or row.dose is not None
    if tried.outcome is _HIT:
        return row.severity
    if tried.outcome is _OUTSIDE:
        return _WARNING
    grave = row.severity is not _INFO or withholds or tried.bars
    return _WARNING if grave else _INFO


def _finding(tried: Tried, draft: Draft, dates: Mapping[str, date]) -> Finding:
    table, row, answer = tried.table, tried.row, tried.answer
    hit, outside = tried.outcome is _HIT, tried.outcome is _OUTSIDE
    say = (
        f"{row.say} Outside the ages and weights that the row covers; no dose is suggested. "
        "Tertiary advice; for an adult, adult guidance."
        if outside
        else f"{row.say} {row.on_limit}"
        if tried.on_limit
        else row.say
    )
    return Finding(
        id=row.id,
        outcome=tried.outcome,
        severity=_severity(tried),
        kind=row.kind,
        origin=row.origin if not outside else Origin.DEFAULT,
        section=row.section,
        drug=draft.drug,
        order=draft.reference,
        say=say,
        rule=row.rule,
        cite=f"{row.cite}; {table.within_cite}" if outside and table.within_cite else row.cite,
        title=table.title,
        evidence=answer.evidence,
        missing=answer.causes if tried.outcome is _CANNOT_ASSESS else answer.doubts,
        about_dose=table.stage == "after dose" or table.about_dose or row.dose is not None,
        due=dates.get(row.visit) if row.visit is not None and hit else None,
        orders=row.orders if hit else (),
        reviewed=signed(table),
    )


_RANK = {_HIT: 0, _OUTSIDE: 1, _CANNOT_ASSESS: 2}


def _joined(findings: list[Finding]) -> tuple[Finding, ...]:
    """One finding per statement: a hit before a cannot-assess, the most severe before the milder."""
    by_id: dict[str, Finding] = {}
    for finding in findings:
        held = by_id.get(finding.id)
        if held is None:
            by_id[finding.id] = finding
            continue
        first, second = sorted((held, finding), key=lambda f: (_RANK[f.outcome], f.severity.rank))
        if first.outcome is second.outcome:
            first = msgspec.structs.replace(
                first,
                evidence=unique((*first.evidence, *second.evidence)),
                missing=unique((*first.missing, *second.missing)),
                reviewed=first.reviewed and second.reviewed,
            )
        by_id[finding.id] = first
    return tuple(by_id.values())


# --- the dose -------------------------------------------------------------------------------------


def _withheld_by(tried: list[Tried], findings: tuple[Finding, ...], facts: Facts) -> tuple[str, ...]:
    by_row = [t.row.id for t in tried if t.outcome is _HIT and t.row.withholds is not None]
    critical = [f.id for f in findings if f.outcome is _HIT and f.severity is _CRITICAL]
    outside = [t.row.id for t in tried if t.outcome is _OUTSIDE]
    indication = facts["indication"]
    where = ("true", indication.value if isinstance(indication, Known) else "")
    needed = [t.row.id for t in tried if t.outcome is _CANNOT_ASSESS and t.row.unknown_withholds in where]
    return unique((*by_row, *critical, *outside, *needed))


def _could_bar(tried: Tried) -> bool:
    """Whether a row that could not be assessed would have barred the dose (ruling 3)."""
    row = tried.row
    # What judges the draft itself does not bar the dose that would replace it.
    if tried.outcome is not _CANNOT_ASSESS or row.unknown_bars is False or tried.table.stage == "after dose":
        return False
    if isinstance(row.unknown_bars, str) and set(tried.answer.decided_by) != {row.unknown_bars}:
        return False
    return tried.bars or row.withholds is not None or row.severity is _CRITICAL


def _asks_first(tried: Tried) -> bool:
    """Whether something has to be obtained before the dose is more than provisional (SCR-01, ruling 3)."""
    return tried.row.makes_provisional and tried.outcome in (_HIT, _CANNOT_ASSESS)


def _dose(
    draft: Draft, facts: Facts, selection: Selection, tried: list[Tried], withheld: tuple[str, ...]
) -> tuple[DoseAdvice | None, Finding | None]:
    row, table, answer = selection.row, selection.table, selection.answer
    if row is None or table is None or answer is None or row.dose is None or selection.outside:
        return None, None
    if withheld:
        return None, None
    told_elsewhere = table.stale.get("weight") == "provisional" and all(
        c.reason is Reason.STALE for c in answer.doubts
    )
    disagrees = _is(facts["licensedBandDisagrees"], YES) and row.disagrees is not None
    licence = facts["licensedBandDisagrees"]
    unchecked = licence.causes if isinstance(licence, Missing | Doubtful) else ()
    finding = Finding(
        id=row.id,
        outcome=_HIT if not answer.doubts or told_elsewhere else _CANNOT_ASSESS,
        severity=_WARNING if disagrees or (answer.doubts and not told_elsewhere) else _INFO,
        kind=Kind.DOSE,
        origin=row.origin,
        section=row.section,
        drug=draft.drug,
        order=draft.reference,
        say=f"{row.say} {row.disagrees}" if disagrees else row.say,
        rule=row.rule,
        cite=row.cite,
        title=table.title,
        evidence=unique(
            (*answer.evidence, *(licence.evidence if disagrees and isinstance(licence, Known) else ()))
        ),
        missing=unique((*answer.doubts, *unchecked)),
        about_dose=True,
        reviewed=signed(table),
    )
    schedule = facts["schedule"]
    phase = table.gives.get("phase") or (schedule.value if isinstance(schedule, Known) else "")
    advice = DoseAdvice(
        row=row.id,
        drug=draft.drug,
        indication=table.gives["indication"],
        phase=str(phase),
        regimen=row.dose,
        form=row.form,
        provisional=bool(answer.doubts) or any(_could_bar(t) or _asks_first(t) for t in tried),
        verdict=verdict_of(draft.dose, row.dose),
        mg_per_kg_day=per_kg(row.dose, facts["weight"]),
        other_product=any(t.outcome is _HIT and t.row.other_product for t in tried),
    )
    return advice, finding


def _traces(tried: list[Tried], tables: Tables, drug: str, facts: Facts) -> tuple[Trace, ...]:
    everything = (*tried, *_other_dose_rows(tables, drug, facts, tried))
    return tuple(
        [Trace(t.table.name, t.row.id, t.outcome, t.row.rule, t.answer.decided_by) for t in everything]
    )
