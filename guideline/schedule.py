"""The monitoring schedule: which visit is next, and whether it is due or overdue (ruling 8, sections 5.4 and 6.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from guideline.derive import NO, YES, Course, inside_range, newest, of_one_day, seen
from guideline.facts import vocabulary
from guideline.policy import Policy
from guideline.record import Reading, Record, Unusable
from guideline.values import Cause, Doubtful, Evidence, Fact, Known, Missing, Reason
from guideline.yaml_text import read_yaml

INTERVAL, NONE = "interval", "none"
DUE, OVERDUE, NOT_DUE = "due", "overdue", "not-due"


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of one drug: days after the start per visit, and the results that make a complete set.

    ``not_normal``: the days after which a result outside its range is due again, in place of the long interval.
    """

    visits: Mapping[str, int]
    needed: tuple[str, ...]
    not_normal: int
    lipids_from: int
    lipids_due: int
    lipids_by: int
    lipids_repeat: bool
    viruses_by: int | None
    viruses: tuple[str, ...]


@cache
def plan_of(drug: str) -> Plan | None:
    """The plan of a drug; ruxolitinib has none in this guideline."""
    entry = read_yaml(Path(__file__).with_name("schedule.yaml")).get(drug)
    if entry is None:
        return None
    lipids, viruses = entry["lipids"], entry.get("viruses", {})
    return Plan(
        visits={name: _days(weeks) for name, weeks in entry["visits"].items()},
        needed=tuple(entry["set"]),
        not_normal=_days(entry["not_normal"]),
        lipids_from=_days(lipids["from"]),
        lipids_due=_days(lipids.get("due", lipids["from"])),
        lipids_by=_days(lipids["by"]),
        lipids_repeat=lipids.get("repeat") == "true",
        viruses_by=_days(viruses["by"]) if viruses else None,
        viruses=tuple(viruses.get("set", ())),
    )


def _days(weeks: Any) -> int:
    return int(timedelta(weeks=int(weeks)).days)


def due_dates(drug: str, start: date, policy: Policy) -> dict[str, date]:
    """Every visit of a course that begins on ``start``, with the first check of the interval phase."""
    plan = plan_of(drug)
    if plan is None:
        return {}
    found = {name: start + timedelta(days=days) for name, days in plan.visits.items()}
    last = max(found.values())
    found[INTERVAL] = last + timedelta(days=policy.days("monitoring.interval"))
    found["lipids"] = start + timedelta(days=plan.lipids_due)
    if plan.viruses_by is not None:
        found["viruses"] = start + timedelta(days=plan.viruses_by)
    return found


def schedule_facts(
    record: Record, drug: str, course: Course, clock: date | None, policy: Policy
) -> dict[str, Fact]:
    """``visit``, ``visitState``, ``lipidVisit``, ``lipidState`` and ``bkState``.

    ``clock`` is the day that the visits count from; virus screening counts from the start of the course (A-27).
    """
    plan = plan_of(drug)
    if plan is None or course.running is None:
        idle: Fact = Known(NOT_DUE)
        none: Fact = Known(NONE)
        return {
            "visit": none,
            "visitState": idle,
            "lipidVisit": none,
            "lipidState": idle,
            "bkState": idle,
        }
    visit, state = _visits(record, plan, plan.needed, clock, policy)
    lipid_visit: Fact = Known(NONE)
    if plan.lipids_repeat:
        lipid_visit, lipid_state = _visits(record, plan, _LIPIDS, clock, policy)
    else:
        lipid_state = _lipids(record, plan, clock, policy)
    return {
        "visit": visit,
        "visitState": state,
        "lipidVisit": lipid_visit,
        "lipidState": lipid_state,
        "bkState": _viruses(record, plan, course.start, policy),
    }


_LIPIDS = ("cholesterol", "triglycerides")


def _unknown_start() -> tuple[Cause, ...]:
    return (Cause("courseStart", Reason.ABSENT, "the start of the course is not on record"),)


def _dates(record: Record, fact: str, since: date | None, *, of_any_unit: bool = False) -> list[date]:
    """The days of usable results of one analyte, newest first, back to the start of the course.

    ``of_any_unit``: those too whose unit cannot be converted, since the test has been done.
    """
    found = []
    for reading in record.series.get(fact) or ():
        done = of_any_unit and isinstance(reading, Unusable) and reading.reason is Reason.UNUSABLE_UNIT
        if reading.on is not None and (done or isinstance(reading, Reading)):
            if since is not None and reading.on < since:
                break
            found.append(reading.on)
    return found


def _gaps(record: Record, facts: Iterable[str]) -> tuple[Cause, ...]:
    found = []
    for fact in facts:
        series = record.series.get(fact)
        gap = Reason.NOT_SUPPLIED if series is None else series.gap
        if gap is not None:
            found.append(Cause(fact, gap))
    return tuple(found)


def newest_set(dates: Mapping[str, list[date]], within: int) -> date | None:
    """The newest day on which every analyte has a result on it or in the days before it."""
    span = timedelta(days=within)
    days = sorted({day for each in dates.values() for day in each}, reverse=True)
    for day in days:
        if all(any(day - span <= other <= day for other in each) for each in dates.values()):
            return day
    return None


def _visits(
    record: Record, plan: Plan, needed: tuple[str, ...], clock: date | None, policy: Policy
) -> tuple[Fact, Fact]:
    """The first visit whose set of the ``needed`` results is lacking, else the interval phase; and its state."""
    dates = {fact: _dates(record, fact, clock) for fact in needed}
    last = newest_set(dates, policy.days("monitoring.set_within"))
    gaps = _gaps(record, [fact for fact in needed if not dates[fact]])
    if last is None and gaps:
        return Missing(gaps), Missing(gaps)
    seen = (Evidence("monitoring", "last complete set", on=last),) if last is not None else ()
    if clock is None:
        state = OVERDUE if last is None else _interval_state(record.on, last, policy)
        causes = _unknown_start()
        return Doubtful(INTERVAL, causes, seen), Doubtful(state, causes, seen)
    early, late = timedelta(days=policy.days("monitoring.early_by")), policy.days("monitoring.late_after")
    for name, days in plan.visits.items():
        due = clock + timedelta(days=days)
        if last is None or last < due - early:
            evidence = (Evidence("monitoring", f"{name.replace('-', ' ')} due", on=due), *seen)
            if record.on < due:
                return Known(name, evidence), Known(NOT_DUE, evidence)
            overdue = (record.on - due).days > late
            return Known(name, evidence), Known(OVERDUE if overdue else DUE, evidence)
    assert last is not None
    state = _interval_state(record.on, last, policy)
    return Known(INTERVAL, seen), Known(state, seen)


def _interval_state(on: date, last: date, policy: Policy) -> str:
    days = (on - last).days
    if days > policy.days("monitoring.interval_late_after"):
        return OVERDUE
    return DUE if days >= policy.days("monitoring.interval") else NOT_DUE


def repeat_due(record: Record, drug: str, course: Course, policy: Policy) -> Fact:
    """Whether a result that lies outside its range has not been repeated within the shorter interval (A-26).

    The results are those of ruling 13, since CRP and ESR tell of the disease. One without a range is not called
    abnormal: what it misses is said by the statements on its limits.
    """
    plan = plan_of(drug)
    if plan is None or course.running is None:
        return Known(NO)
    asked = [fact for fact in vocabulary()["baselineBloodsNormal"].uses if fact in plan.needed]
    found: list[Evidence] = []
    gaps: list[Cause] = []
    for fact in asked:
        reading, missing, passed = newest(fact, record)
        if reading is None:
            gaps += (
                [c for c in missing.causes if c.reason is not Reason.ABSENT] if missing is not None else []
            )
        elif (record.on - reading.on).days >= plan.not_normal:
            outside = [r for r in of_one_day(fact, record, reading) if inside_range(fact, r, policy) is False]
            found += [seen(fact, r, "outside its reference range") for r in outside[:1]]
            gaps += passed
    if found:
        return Doubtful(YES, tuple(gaps), tuple(found)) if gaps else Known(YES, tuple(found))
    return Missing(tuple(gaps)) if gaps else Known(NO)


def _lipids(record: Record, plan: Plan, clock: date | None, policy: Policy) -> Fact:
    """Whether the one lipid profile of the first weeks is lacking."""
    dates = {fact: _dates(record, fact, clock) for fact in _LIPIDS}
    gaps = _gaps(record, [fact for fact in _LIPIDS if not dates[fact]])
    if gaps:
        return Missing(gaps)
    if clock is None:
        return Doubtful(NOT_DUE, _unknown_start())
    first = clock + timedelta(days=plan.lipids_from) - timedelta(days=policy.days("monitoring.early_by"))
    if all(any(day >= first for day in each) for each in dates.values()):
        return Known(NOT_DUE)
    days = (record.on - clock).days
    due = Evidence("monitoring", "lipids due", on=clock + timedelta(days=plan.lipids_due))
    if days > plan.lipids_by:
        return Known(OVERDUE, (due,))
    return Known(DUE if days >= plan.lipids_due else NOT_DUE, (due,))


def _viruses(record: Record, plan: Plan, clock: date | None, policy: Policy) -> Fact:
    if plan.viruses_by is None:
        return Known(NOT_DUE)
    dates = {fact: _dates(record, fact, clock, of_any_unit=True) for fact in plan.viruses}
    gaps = _gaps(record, [fact for fact in plan.viruses if not dates[fact]])
    if gaps:
        return Missing(gaps)
    oldest = min((max(each) for each in dates.values() if each), default=None)
    if all(dates.values()) and oldest is not None:
        seen = (Evidence("monitoring", "last BK and JC set", on=oldest),)
        return Known(_interval_state(record.on, oldest, policy), seen)
    if clock is None:
        return Doubtful(OVERDUE, _unknown_start())
    days = (record.on - clock).days
    seen = (Evidence("monitoring", "first BK and JC set due", on=clock + timedelta(days=plan.viruses_by)),)
    if days > policy.days("monitoring.interval_late_after"):
        return Known(OVERDUE, seen)
    return Known(DUE if days >= plan.viruses_by else NOT_DUE, seen)
