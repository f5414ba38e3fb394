"""The dose row of an order, the phase of the order, and the draft against the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from guideline.cells import Cell
from guideline.derive import NO, YES, Course, OrderFacts, Rule, Supposed, age, together
from guideline.doses import DoseState, OrderedDose, Regimen, When
from guideline.evaluate import Answer, Facts, ask_box, ask_row
from guideline.findings import ReferenceDose, Verdict
from guideline.record import Draft, Reading
from guideline.tables import Row, Table, Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

INITIATION, RENEWAL, ESCALATION = "initiation", "renewal", "escalation"
INITIAL, ESCALATED = "initial", "escalated"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the dose tables say: one row, a row outside its bounds, rows still possible, or nothing.

    ``others`` are rows of the same tables that apply but carry no dose ("below 5 kg").
    """

    table: Table | None = None
    row: Row | None = None
    answer: Answer | None = None
    outside: bool = False
    outside_causes: tuple[Cause, ...] = ()
    possible: tuple[tuple[Table, Row, Answer], ...] = ()
    others: tuple[tuple[Table, Row, Answer], ...] = ()

    @property
    def regimen(self) -> Regimen | None:
        return self.row.dose if self.row is not None else None


def dose_tables(tables: Tables, drug: str) -> tuple[Table, ...]:
    return tables.kept(
        ("dose tables", drug),
        lambda: tuple(t for t in tables.of(drug) if t.is_dose_table and not t.cross_check),
    )


def select(tables: Tables, drug: str, facts: Facts) -> Selection:
    """The dose row for these facts."""
    possible: list[tuple[Table, Row, Answer]] = []
    others: list[tuple[Table, Row, Answer]] = []
    for table in dose_tables(tables, drug):
        if ask_box(table.applies, facts, {}).holds is not True:
            continue
        for row in table.rows:
            answer = ask_row(row, facts, table.stale)
            if answer.holds is None:
                possible.append((table, row, answer))
            elif answer.holds and row.dose is None:
                others.append((table, row, answer))
            elif answer.holds:
                bounds = ask_box(table.within, facts, table.stale, caution=False)
                if bounds.holds is None:
                    possible.append((table, row, bounds))
                    continue
                joined = Answer(True, (), (*answer.evidence, *bounds.evidence), answer.doubts)
                return Selection(table, row, joined, outside=bounds.holds is False)
    return Selection(possible=tuple(possible), others=tuple(others))


# --- phase (ruling 1) -----------------------------------------------------------------------------


def phase_facts(facts: OrderFacts) -> dict[str, Fact]:
    """``phase`` and ``schedule`` of the order; missing where what decides them is."""
    starting = facts["starting"]
    if not (isinstance(starting, Known) and starting.value == NO):
        return _at_start(starting)
    if facts.draft.drug != "baricitinib":
        return {"phase": Known(RENEWAL), "schedule": Known(INITIAL)}
    indication = facts["indication"]
    if not isinstance(indication, Known):
        gap = Missing(indication.causes)
        return {"phase": gap, "schedule": gap}
    if indication.value == "jdm":
        return {"phase": _jdm_phase(facts), "schedule": Known(INITIAL)}
    if indication.value == "interferonopathy":
        return _interferonopathy_phase(facts)
    return {"phase": Known(RENEWAL), "schedule": Known(INITIAL)}


def _at_start(starting: Fact) -> dict[str, Fact]:
    if isinstance(starting, Known):
        return {"phase": Known(INITIATION), "schedule": Known(INITIAL)}
    # The medication history is not known: a start is the more cautious reading for warnings, and no reading at
    # all for choosing between the initial and the escalated table.
    return {"phase": Doubtful(INITIATION, starting.causes), "schedule": Missing(starting.causes)}


def running_total(course: Course) -> Decimal | None:
    """The daily total of the running order, where it is known."""
    dose = course.running.dose if course.running is not None else None
    return dose.regimen.mg_per_day if dose is not None and dose.regimen is not None else None


def _unread_running() -> Missing:
    return Missing.of("medications", Reason.UNREADABLE, "the dose of the running order could not be read")


def _jdm_phase(facts: OrderFacts) -> Fact:
    draft = facts.draft
    if draft.dose.regimen is None:
        return Known(RENEWAL)
    running = running_total(facts.course)
    if running is None:
        return _unread_running()
    drafted = draft.dose.regimen.mg_per_day
    rises = drafted > running and not _explained_by_age(facts, running, drafted)
    return Known(ESCALATION if rises else RENEWAL)


def _explained_by_age(facts: OrderFacts, running: Decimal, drafted: Decimal) -> bool:
    """Whether the rise is that from the row of the age at the running order's start to the row of today (ruling 1)."""
    order = facts.course.running
    if order is None or order.start is None:
        return False
    today = Supposed(facts, schedule=Known(INITIAL))
    then = Supposed(today, age=age(facts.record, order.start))
    rows = [select(facts.tables, facts.draft.drug, each).regimen for each in (then, today)]
    return [row.mg_per_day for row in rows if row is not None] == [running, drafted]


def _interferonopathy_phase(facts: OrderFacts) -> dict[str, Fact]:
    draft = facts.draft
    initial_row = select(facts.tables, draft.drug, Supposed(facts, schedule=Known(INITIAL))).regimen
    running = running_total(facts.course)
    if running is None:
        return {"phase": _unread_running(), "schedule": _unread_running()}
    if initial_row is None:
        gap = _gap_of(facts, ("egfr", "weight"))
        return {"phase": gap, "schedule": gap}
    initial = initial_row.mg_per_day
    drafted = draft.dose.regimen.mg_per_day if draft.dose.regimen is not None else None
    if drafted is not None and drafted > running and drafted > initial and running >= initial:
        return {"phase": Known(ESCALATION), "schedule": Known(ESCALATED)}
    return {"phase": Known(RENEWAL), "schedule": Known(ESCALATED if running > initial else INITIAL)}


def _gap_of(facts: Facts, names: tuple[str, ...]) -> Missing:
    causes = [c for name in names for c in _causes(facts[name])]
    return Missing(tuple(causes)) if causes else Missing.of("weight", Reason.UNREADABLE)


def _causes(fact: Fact) -> tuple[Cause, ...]:
    return () if isinstance(fact, Known) else fact.causes


# --- history of a running order -------------------------------------------------------------------


def egfr_crossed(facts: OrderFacts) -> Fact:
    """Whether today's eGFR and that at the start of the running order choose different schedules (A-15)."""
    today = facts["egfr"]
    if isinstance(today, Missing):
        return Missing(today.causes)
    then = facts.egfr_at_running_start()
    if then is None or isinstance(then, Missing):
        return Known(NO)
    cell = facts.tables.kept("upper schedule", lambda: _upper_schedule(facts.tables))
    sides = cell.test(today.value), cell.test(then.value)
    if None in sides or sides[0] == sides[1]:
        return Known(NO)
    return Known(YES, (*today.evidence[:1], *then.evidence))


def _upper_schedule(tables: Tables) -> Cell:
    """The eGFR of the first row that gives the upper schedule."""
    return next(
        box["egfr"]
        for table in tables.all
        for row in table.rows
        for box in row.boxes
        if row.id == "REN-BARI-03" and "egfr" in box
    )


def band_crossed(facts: OrderFacts) -> Fact:
    """Whether the child's weight stood in another row when the running order began."""
    weight_then = _weight_at_running_start(facts)
    if weight_then is None:
        return Known(NO)
    weight = facts["weight"]
    if isinstance(weight, Missing):
        return Missing(weight.causes)
    now = select(facts.tables, facts.draft.drug, facts)
    then = select(facts.tables, facts.draft.drug, Supposed(facts, weight=weight_then))
    if now.row is None or then.row is None or now.row.id == then.row.id:
        return Known(NO)
    return Known(YES, (*weight.evidence, *weight_then.evidence))


def _weight_at_running_start(facts: OrderFacts) -> Known | None:
    running, series = facts.course.running, facts.record.series.get("weight")
    if running is None or running.start is None or series is None:
        return None
    start = running.start
    reading = next((r for r in series if isinstance(r, Reading) and r.on <= start), None)
    return None if reading is None else Known(reading.value)


def high_dose(facts: OrderFacts) -> Fact:
    """Baricitinib above the initial row of today's weight and eGFR, drafted or running (A-03)."""
    draft = facts.draft
    if draft.drug != "baricitinib":
        return Known(NO)
    totals = [draft.dose.regimen.mg_per_day] if draft.dose.regimen is not None else []
    running = running_total(facts.course)
    if running is not None:
        totals.append(running)
    selection = select(facts.tables, draft.drug, Supposed(facts, schedule=Known(INITIAL)))
    row = selection.regimen
    if totals and row is None and selection.possible:
        return Missing(tuple(dict.fromkeys(c for _, _, answer in selection.possible for c in answer.causes)))
    if row is None or not totals:
        return Known(NO)
    return Known(YES if max(totals) > row.mg_per_day else NO)


def rules() -> dict[str, Rule]:
    """How the facts are made that look at the dose tables, without knowing the row of the order."""
    return {
        **together(phase_facts, "phase", "schedule"),
        "egfrCrossed": egfr_crossed,
        "bandCrossed": band_crossed,
        "highDose": high_dose,
    }


# --- the draft against the row --------------------------------------------------------------------


def compare(draft: Regimen, row: Regimen) -> Verdict:
    """The drafted day against the row's day (ruling 11): total first, then the split."""
    if draft.mg_per_day != row.mg_per_day:
        return Verdict.OVER if draft.mg_per_day > row.mg_per_day else Verdict.UNDER
    return Verdict.MATCH if _same_split(draft, row) else Verdict.SCHEDULE


def _same_split(draft: Regimen, row: Regimen) -> bool:
    if all(a.when is not None for a in row.administrations):
        return _by_time(draft) == _by_time(row)
    return _singles(draft) is not None and _singles(draft) == _singles(row)


def _singles(regimen: Regimen) -> tuple[Decimal, ...] | None:
    """Every single dose of the day, sorted; ``None`` where the doses are not whole per day."""
    doses: list[Decimal] = []
    for a in regimen.administrations:
        times = Decimal(1) if a.times_per_day is None else a.times_per_day
        if times != times.to_integral_value():
            return None
        doses.extend([a.mg] * int(times))
    return tuple(sorted(doses))


_SLOTS: Mapping[Decimal, tuple[When, ...]] = {
    Decimal(2): (When.MORN, When.EVE),
    Decimal(3): (When.MORN, When.AFT, When.EVE),
}
"""Equal doses so many times a day stand for these times of day (ruling 11)."""


def _by_time(regimen: Regimen) -> dict[When, Decimal] | None:
    found: dict[When, Decimal] = {}
    for a in regimen.administrations:
        if a.when is not None:
            slots: tuple[When, ...] = (a.when,)
        elif len(regimen.administrations) == 1 and a.times_per_day is not None and a.times_per_day in _SLOTS:
            slots = _SLOTS[a.times_per_day]
        else:
            return None
        for slot in slots:
            found[slot] = found.get(slot, Decimal(0)) + a.mg
    return found


def verdict_of(dose: OrderedDose, row: Regimen | None) -> Verdict:
    if dose.state is DoseState.ABSENT:
        return Verdict.ABSENT
    if dose.regimen is None:
        return Verdict.UNREADABLE
    return compare(dose.regimen, row) if row is not None else Verdict.ABSENT


def check_facts(facts: OrderFacts, selection: Selection, *, no_row: bool, reduced: bool) -> dict[str, Fact]:
    """The facts that need the dose row: verdict, largest single dose, cross-checks."""
    draft = facts.draft
    row = None if no_row or selection.outside else selection.regimen
    largest = max((a.mg for a in row.administrations), default=Decimal(0)) if row is not None else Decimal(0)
    total = facts["draftMgPerDay"]
    evidence = total.evidence if isinstance(total, Known) else ()
    return {
        "verdict": _verdict_fact(draft, selection, row, no_row, evidence),
        "reducedDoseNeeded": Known(YES if reduced else NO),
        "singleDoseMg": Known(Interval.exactly(largest)),
        "equalsEscalationRow": _equals_escalation_row(draft, facts.tables, evidence),
        "licensedBandDisagrees": _licence(facts, row),
    }


def _verdict_fact(
    draft: Draft, selection: Selection, row: Regimen | None, no_row: bool, evidence: tuple[Evidence, ...]
) -> Fact:
    if draft.dose.state is DoseState.ABSENT or no_row or selection.outside:
        return Known(Verdict.ABSENT.value)
    if draft.dose.regimen is None:
        return Missing.of("doseDrafted", Reason.UNREADABLE, draft.dose.why)
    if row is None:
        causes = tuple(c for _, _, answer in selection.possible for c in answer.causes)
        return Missing(causes) if causes else Known(Verdict.ABSENT.value)
    return Known(compare(draft.dose.regimen, row).value, evidence)


def _equals_escalation_row(draft: Draft, tables: Tables, evidence: tuple[Evidence, ...]) -> Fact:
    if draft.dose.state is DoseState.UNREADABLE:
        return Missing.of("doseDrafted", Reason.UNREADABLE, draft.dose.why)
    if draft.dose.regimen is None:
        return Known(NO)
    rows = (
        row.dose
        for table in dose_tables(tables, draft.drug)
        if table.gives.get("indication") == "interferonopathy"
        for row in table.rows
    )
    same = any(compare(draft.dose.regimen, dose) is Verdict.MATCH for dose in rows if dose is not None)
    return Known(YES if same else NO, evidence)


def _licence(facts: OrderFacts, row: Regimen | None) -> Fact:
    """Whether the licence's weight band gives another dose than the row (A-10)."""
    if row is None:
        return Known(NO)
    for table in facts.tables.of(facts.draft.drug):
        if not table.cross_check or ask_box(table.applies, facts, {}).holds is not True:
            continue
        for other in table.rows:
            # A weight of any age may warn here (ruling 7); the dose itself goes by age.
            answer = ask_box(other.boxes[0], facts, table.stale)
            if answer.holds is None:
                return Missing(answer.causes)
            if answer.holds and other.dose is not None:
                differs = compare(other.dose, row) is not Verdict.MATCH
                return Known(YES if differs else NO, answer.evidence)
    return Known(NO)


def per_kg(regimen: Regimen, weight: Fact) -> Decimal | None:
    """mg per kg per day, for information only (A-12, A-77)."""
    exact = (
        weight.value.exact if not isinstance(weight, Missing) and isinstance(weight.value, Interval) else None
    )
    return regimen.mg_per_day / exact if exact else None


# --- doses as text only ---------------------------------------------------------------------------


def reference_doses(facts: OrderFacts, selection: Selection, crossed: bool) -> tuple[ReferenceDose, ...]:
    """Rows shown as text: no indication settled (ruling 12), a row out of bounds (A-11, A-12), a crossing (A-15)."""
    if not isinstance(facts["indication"], Known):
        return _by_indication(facts)
    if selection.outside and selection.row is not None and selection.row.dose is not None:
        dose = selection.row.dose
        each = per_kg(dose, facts["weight"])
        return (ReferenceDose(selection.row.id, "The row itself", dose, each),)
    then = facts.egfr_at_running_start()
    return _on_both_sides(facts, then) if crossed and then is not None else ()


def _on_both_sides(facts: OrderFacts, then: Fact) -> tuple[ReferenceDose, ...]:
    """Today's row and that of the running order's start, both of the schedule in which the running order stood.

    By today's lower initial row the running order would look like an escalated one, and the row of its start would
    be shown a step too high.
    """
    tables, drug = facts.tables, facts.draft.drug
    initial = select(tables, drug, Supposed(facts, egfr=then, schedule=Known(INITIAL))).regimen
    running = running_total(facts.course)
    above = running is not None and initial is not None and running > initial.mg_per_day
    stood = Known(ESCALATED if above else INITIAL)
    sides = (
        ("At today's eGFR", select(tables, drug, Supposed(facts, schedule=stood)).row),
        (
            "At the eGFR of the running order's start",
            select(tables, drug, Supposed(facts, egfr=then, schedule=stood)).row,
        ),
    )
    return tuple(
        ReferenceDose(row.id, heading, row.dose) for heading, row in sides if row is not None and row.dose
    )


def initial_row(facts: OrderFacts) -> tuple[ReferenceDose, ...]:
    """The initial row of today, as text beside an escalated dose that the draft takes down (A-73)."""
    row = select(facts.tables, facts.draft.drug, Supposed(facts, schedule=Known(INITIAL))).row
    heading = "The initial row, one option where the dose is lowered"
    return (ReferenceDose(row.id, heading, row.dose),) if row is not None and row.dose is not None else ()


_INDICATIONS: Mapping[str, str] = {
    "jia": "In JIA",
    "jdm": "In JDM",
    "interferonopathy": "In monogenic interferonopathy",
}


def _by_indication(facts: OrderFacts) -> tuple[ReferenceDose, ...]:
    asked = facts.draft.on_record or tuple(_INDICATIONS)
    found = []
    for indication in asked:
        supposed = Supposed(facts, indication=Known(indication), schedule=Known(INITIAL))
        selection = select(facts.tables, facts.draft.drug, supposed)
        if selection.regimen is not None and selection.row is not None and not selection.outside:
            found.append(ReferenceDose(selection.row.id, _INDICATIONS[indication], selection.regimen))
    return tuple(found)
