"""Facts that look back or put several sources together: persistence, falls, multiples of a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import takewhile

import msgspec

from guideline.derive import (
    DIFFER,
    NO,
    YES,
    Course,
    flag,
    inside_range,
    is_abnormal,
    newest,
    note_on,
    of_one_day,
    seen,
    worst_first,
)
from guideline.facts import vocabulary
from guideline.growth_reference import bmi_centile98, completed_months
from guideline.policy import Policy
from guideline.record import INTRAVENOUS, Event, Reading, Record
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

# --- yes from any source --------------------------------------------------------------------------


def any_of(facts: Iterable[Fact]) -> Fact:
    """Yes if one says yes; no only when all say no; else unknown with every cause."""
    yes: list[Known] = []
    open_: list[Doubtful | Missing] = []
    for fact in facts:
        if not isinstance(fact, Known):
            open_.append(fact)
        elif fact.value == YES:
            yes.append(fact)
    if yes:
        return Known(YES, tuple(dict.fromkeys(e for f in yes for e in f.evidence)))
    if not open_:
        return Known(NO)
    doubtful_yes = [f for f in open_ if isinstance(f, Doubtful) and f.value == YES]
    if doubtful_yes:
        return doubtful_yes[0]
    return Missing(tuple(dict.fromkeys(c for f in open_ for c in f.causes)))


def is_yes(fact: Fact) -> bool:
    return not isinstance(fact, Missing) and fact.value == YES


def is_no(fact: Fact) -> bool:
    return isinstance(fact, Known) and fact.value == NO


# --- tests that answer in words -------------------------------------------------------------------


def answer(record: Record, fact: str, window: int | None = None) -> Fact:
    """The newest answer as positive, negative or unclear; ``none`` where the search found nothing."""
    kind = vocabulary()[fact]
    found = record.answers.get(fact)
    if found is None:
        return Missing.of(kind.named, Reason.NOT_SUPPLIED)
    for item in found.answers:
        if window is None or (record.on - item.on).days <= window:
            evidence = (Evidence(kind.named, item.meaning, on=item.on, source=item.source),)
            if found.gap is not None:  # a newer answer may lie in what was not delivered (ruling 18)
                return Doubtful(item.meaning, (Cause(kind.named, found.gap),), evidence)
            return Known(item.meaning, evidence)
        break
    return Missing.of(kind.named, found.gap) if found.gap is not None else Known("none")


def says(fact: Fact, meaning: str) -> Fact:
    """Whether an answer has a certain meaning, as a yes/no fact; an answer not understood is never a no."""
    if isinstance(fact, Missing):
        return fact
    if fact.value == "unclear":
        named = fact.evidence[0].fact
        return Missing.of(named, Reason.UNREADABLE, "the newest result is neither positive nor negative")
    if isinstance(fact, Doubtful) and fact.value != meaning:
        return Missing(fact.causes, fact.evidence)
    return flag(fact.value == meaning, fact.evidence if fact.value == meaning else ())


def within(fact: Fact, on: date, window: int) -> Fact:
    """A yes from a list, but no where every entry behind it is undated or older than its window."""
    if not is_yes(fact) or isinstance(fact, Missing) or not fact.evidence:
        return fact
    recent = tuple(e for e in fact.evidence if e.on is not None and (on - e.on).days <= window)
    return flag(bool(recent), recent)


def without(fact: Fact, other: Fact) -> Fact:
    """A yes from a list, but no where the same entries say yes to the other fact."""
    if not is_yes(fact) or isinstance(fact, Missing) or isinstance(other, Missing) or not is_yes(other):
        return fact
    taken = {e.source for e in other.evidence}
    own = tuple(e for e in fact.evidence if e.source not in taken)
    return flag(bool(own), own) if fact.evidence else fact


# --- multiples of the laboratory's upper limit ----------------------------------------------------


def times_upper(fact: str, record: Record, window: int, policy: Policy) -> Fact:
    """The newest result divided by its own upper limit of normal; never by an adult default (ruling 14).

    Of results that contradict each other the greatest multiple counts.
    """
    reading, missing, passed = newest(fact, record)
    if reading is None:
        assert missing is not None
        return missing
    found = []
    for each in of_one_day(fact, record, reading):
        upper = each.high
        if upper is None and (own := policy.reference_ranges.get(fact)) is not None:
            upper = own.high
        if upper is None or upper <= 0:
            detail = "the result came without its upper limit of normal"
            return Missing((Cause(fact, Reason.UNREADABLE, detail),), (seen(fact, each),))
        value = Interval(
            None if each.value.low is None else each.value.low / upper,
            None if each.value.high is None else each.value.high / upper,
            each.value.low_open,
            each.value.high_open,
        )
        found.append((value, seen(fact, each, f"upper limit {upper}")))
    if len(found) > 1:
        found = [
            (value, msgspec.structs.replace(datum, note=f"{datum.note}; {DIFFER}")) for value, datum in found
        ]
    greatest = max(found, key=lambda pair: pair[0].low or Decimal(0))[0]
    return _aged(fact, reading, greatest, tuple(datum for _, datum in found), record.on, window, passed)


def _aged(
    fact: str,
    reading: Reading,
    value: Interval,
    evidence: tuple[Evidence, ...],
    on: date,
    window: int,
    passed: tuple[Cause, ...],
) -> Fact:
    days = (on - reading.on).days
    causes = passed[:1]
    if days > window:
        causes += (Cause(fact, Reason.STALE, f"{days} days old; the window is {window} days"),)
    return Doubtful(value, causes, evidence) if causes else Known(value, evidence)


def times_upper_beside(
    fact: str, beside: str, record: Record, window: int, within_days: int, policy: Policy
) -> Fact:
    """``times_upper`` of a result that only counts together with another analyte of the same days (A-43).

    Where the two are further apart the value still warns, but clears nothing.
    """
    found = times_upper(fact, record, window, policy)
    first, second = newest(fact, record)[0], newest(beside, record)[0]
    if isinstance(found, Missing) or first is None or second is None:
        return found
    apart = abs((first.on - second.on).days)
    if apart <= within_days:
        return found
    detail = f"{apart} days from the {vocabulary()[beside].title}; they are read together within {within_days} days"
    causes = (Cause(fact, Reason.STALE, detail), *(found.causes if isinstance(found, Doubtful) else ()))
    return Doubtful(found.value, causes, found.evidence)


def outside_range(facts: Iterable[str], record: Record, policy: Policy) -> Fact:
    """Whether the newest result of any of the analytes lies outside its own reference range, to the side of harm."""
    return any_of(_outside(fact, record, policy) for fact in facts)


def _outside(fact: str, record: Record, policy: Policy) -> Fact:
    reading, missing, _ = newest(fact, record)
    if reading is None:
        assert missing is not None
        return missing
    of_day = of_one_day(fact, record, reading)
    abnormal = [is_abnormal(fact, each, policy) for each in of_day]
    if None in abnormal:
        return Missing.of(fact, Reason.UNREADABLE, "no reference range came with the result")
    return flag(any(abnormal), tuple(seen(fact, each, "outside its reference range") for each in of_day[:1]))


def raised(fact: str, record: Record, policy: Policy) -> Fact:
    """Whether the newest result lies above its own upper limit; of several that differ, the highest."""
    readings, missing, _ = worst_first(fact, record, highest=True)
    if missing is not None:
        return missing
    reading = readings[0]
    inside = inside_range(fact, reading, policy)
    if inside is None:
        return Missing.of(fact, Reason.UNREADABLE, "no reference range came with the result")
    above = (
        not inside
        and reading.high is not None
        and reading.value.low is not None
        and reading.value.low > reading.high
    )
    return flag(above, (seen(fact, reading, note_on(readings)),))


# --- persistence ----------------------------------------------------------------------------------


def usable(record: Record, fact: str) -> Iterable[Reading]:
    return (r for r in record.series.get(fact) or () if isinstance(r, Reading))


def persists(fact: str, record: Record, limits: tuple[Decimal, ...]) -> Fact:
    """Whether the result before the newest one (another day) lay in or below the same row too (A-19)."""
    readings = usable(record, fact)
    lowest = worst_first(fact, record, highest=False)[0]
    first = lowest[0] if lowest else next(iter(readings), None)
    if first is None or first.value.high is None:
        return Known(NO)
    limit = min((each for each in limits if first.value.high <= each), default=None)
    if limit is None:
        return Known(NO)
    before = next((r for r in readings if r.on != first.on), None)
    gap = record.series[fact].gap
    if before is None and gap is not None:
        detail = "whether an earlier result was low too is not known"
        return Doubtful(NO, (Cause(fact, gap, detail),), (seen(fact, first),))
    if before is None or before.value.high is None or before.value.high > limit:
        return Known(NO)
    return Known(YES, (seen(fact, first), seen(fact, before)))


def repeat_late(fact: str, record: Record, policy: Policy) -> Fact:
    """Whether a week and a day have gone by since the newest result."""
    first = next(iter(usable(record, fact)), None)
    if first is None:
        return Known(NO)
    return flag((record.on - first.on).days >= policy.days("persistence.repeat_by"), (seen(fact, first),))


# --- against the time before treatment ------------------------------------------------------------


def baseline(fact: str, record: Record, course: Course, policy: Policy, *, highest: bool) -> Reading | None:
    """The value before treatment, else the best one of the last months on treatment (ruling 15)."""
    window = timedelta(days=policy.days("baseline.before_start"))
    since = record.on - timedelta(days=policy.days("baseline.on_treatment"))
    # Reading costs: what is older than any that may count is not read. (Order is by the moment, days by the zone.)
    oldest = (since if course.start is None else course.start - window) - timedelta(days=1)
    readings = list(takewhile(lambda r: r.on >= oldest, usable(record, fact)))
    if course.start is not None:
        before = [r for r in readings if timedelta(0) <= course.start - r.on <= window]
        if before:
            return before[0]
    # What was taken longer before the start than the window allows is no value on treatment either.
    if course.start is not None:
        since = max(since, course.start)
    recent = [r for r in readings if r.on >= since and r.value.exact is not None]
    if not recent:
        return None
    ordered = sorted(recent, key=lambda r: r.value.exact or Decimal(0))
    return ordered[-1] if highest else ordered[0]


def haemoglobin_fall(record: Record, course: Course, window: int, policy: Policy) -> Fact:
    """The fall of haemoglobin from before treatment, in g/dL; negative where it has risen."""
    fact = "haemoglobin"
    readings, missing, passed = worst_first(fact, record, highest=False)
    if missing is not None:
        return missing
    reading = readings[0]
    before = baseline(fact, record, course, policy, highest=True)
    if before is None or before.value.exact is None or reading.value.exact is None:
        return Missing.of(fact, Reason.ABSENT, "no value from before treatment to compare with")
    fall = Interval.exactly(before.value.exact - reading.value.exact)
    on_treatment = course.start is None or before.on > course.start
    note = "highest of the last months on treatment" if on_treatment else "before treatment"
    return _aged(
        fact,
        reading,
        fall,
        (seen(fact, reading, note_on(readings)), seen(fact, before, note)),
        record.on,
        window,
        passed,
    )


def haemoglobin_fall_from_last(record: Record) -> Fact:
    readings = usable(record, "haemoglobin")
    lowest = worst_first("haemoglobin", record, highest=False)[0]
    first = lowest[0] if lowest else next(iter(readings), None)
    second = next((r for r in readings if first is not None and r.on != first.on), None)
    if first is None or second is None or first.value.exact is None or second.value.exact is None:
        return Known(Interval.exactly(Decimal(0)))
    fall = second.value.exact - first.value.exact
    return Known(Interval.exactly(fall), (seen("haemoglobin", first), seen("haemoglobin", second)))


def renal_facts(record: Record, course: Course, policy: Policy) -> dict[str, Fact]:
    """``creatinineRising``: creatinine up to 1.5 times its baseline (A-53). ``renalDeterioration``: that, or eGFR down
    by a quarter (A-29). Figures by site policy.
    """
    names = ("creatinineRising", "renalDeterioration")
    readings, missing, _ = worst_first("creatinine", record, highest=True)
    if missing is not None:
        return dict.fromkeys(names, missing)
    reading = readings[0]
    before = baseline("creatinine", record, course, policy, highest=False)
    if (
        before is None
        or before.value.exact is None
        or reading.value.exact is None
        or before.source == reading.source
    ):
        return dict.fromkeys(names, Known(NO))
    rise = reading.value.exact / before.value.exact
    # With the height as good as unchanged, eGFR falls as creatinine rises: both limits are asked of the ratio.
    fall = 1 - 1 / rise
    rising = rise >= policy.number("baseline.creatinine_rise")
    worse = rising or fall >= policy.number("baseline.egfr_fall")
    evidence = (seen("creatinine", reading), seen("creatinine", before, "baseline"))
    return {
        name: flag(value, evidence if value else ())
        for name, value in zip(names, (rising, worse), strict=True)
    }


# --- vaccinations, regimens, overweight -----------------------------------------------------------


def _matching(events: Iterable[Event], concepts: frozenset[str]) -> list[Event]:
    return [event for event in events if event.concepts & concepts]


def vaccination_history(record: Record) -> Fact:
    if record.vaccinations:
        return Known(YES)
    return Missing(record.vaccinations_gap) if record.vaccinations_gap else Known(NO)


def varicella_doses(record: Record) -> Fact:
    found = _matching(record.vaccinations, frozenset({"varicella-vaccine"}))
    days = {event.on for event in found}
    if record.vaccinations_gap and Decimal(len(days)) not in _FULL_COURSE:
        return Missing(record.vaccinations_gap)  # the dose that is lacking may be in what did not come
    return Known(Interval.exactly(Decimal(len(days))))


_FULL_COURSE = frozenset(map(Decimal, range(2, 10)))
"""Doses that make a course of varicella vaccine: two or more (SCR-05)."""


def vzv_need(igg: Fact, history: Fact, doses: Fact) -> Fact:
    """What VZV immunity asks for (A-38): serology beats recall; two documented doses settle it."""
    if isinstance(igg, Known) and igg.value == "positive":
        return Known("none", igg.evidence)
    vaccinated = isinstance(doses, Known) and _exact(doses) in _FULL_COURSE
    if isinstance(igg, Known) and igg.value == "negative":
        if isinstance(doses, Missing):
            return Missing(doses.causes, igg.evidence)
        return Known("none" if vaccinated else "vaccine", igg.evidence)
    if vaccinated or is_yes(history):
        return Known("none", history.evidence)
    if isinstance(igg, Known) and is_no(history) and isinstance(doses, Known):
        return Known("test", igg.evidence)
    return Missing(
        tuple(dict.fromkeys(c for f in (igg, history, doses) if not isinstance(f, Known) for c in f.causes))
    )


def days_since_live(record: Record) -> Fact:
    """Days since the last live vaccine; a child without one has an endless count."""
    live = frozenset(vocabulary()["liveVaccineDrafted"].concepts)
    given = _matching(record.vaccinations, live)
    dated = [event for event in given if event.on is not None and event.on <= record.on]
    undated = tuple(
        Cause("liveVaccine", Reason.UNREADABLE, "a live vaccine is on record without its date")
        for event in given
        if event.on is None
    )[:1]
    if dated:
        last = max(dated, key=lambda event: event.on or date.min)
        assert last.on is not None
        days = Interval.exactly(Decimal((record.on - last.on).days))
        evidence = (Evidence("liveVaccine", "live vaccine", on=last.on, source=last.source),)
        # A later one may be undated, or in the part of the list that did not come.
        doubts = (*undated, *record.vaccinations_gap)
        return Doubtful(days, doubts, evidence) if doubts else Known(days, evidence)
    if undated:
        return Missing(undated)
    if record.vaccinations_gap:
        return Missing(record.vaccinations_gap)
    return Known(Interval.exactly(Decimal((record.on - date.min).days)))


_COMBINATION = (
    "a combination product counts as treatment of active tuberculosis; not so where it treats latent TB"
)


def tb_regimen(record: Record, policy: Policy) -> Fact:
    """Whether the current medicines are an anti-TB regimen: at least three of its medicines, or a combination."""
    medicines = ("rifampicin", "isoniazid", "pyrazinamide", "ethambutol")
    taken = {name: event for event in record.taken for name in medicines if name in event.concepts}
    combined = [event for event in record.taken if "tb-combination-therapy" in event.concepts]
    if combined or len(taken) >= policy.number("tb_regimen_medicines"):
        sources = combined or list(taken.values())
        note = _COMBINATION if combined else None
        found = tuple(Evidence("medications", "anti-TB regimen", source=e.source, note=note) for e in sources)
        return Known(YES, found)
    return Missing(record.orders_gap) if record.orders_gap else Known(NO)


def treated_by_vein(infections: Iterable[Fact], record: Record) -> Fact:
    """Whether an infection of any kind, or fever, is treated with an intravenous antibiotic (A-35: it is serious)."""
    infection = any_of(infections)
    if is_no(infection):
        return infection
    given = tuple(
        Evidence("medications", "intravenous antibiotic", on=event.on, source=event.source)
        for event in record.taken
        if INTRAVENOUS in event.concepts
    )
    if not given:
        return Missing(record.orders_gap) if record.orders_gap else Known(NO)
    return infection if isinstance(infection, Missing) else Known(YES, (*infection.evidence, *given))


def biologic_use(biologic: Fact, record: Record, policy: Policy) -> Fact:
    """Combined with the drug, or a switch: every biologic has ended of late or is to end soon (A-45)."""
    soon = record.on + timedelta(days=policy.days("switch.ends_within"))
    ended = {event.source: event for event in record.ends if event.on is not None and event.on <= soon}
    if isinstance(biologic, Missing):
        return biologic
    if is_yes(biologic):
        lasting = tuple(e for e in biologic.evidence if e.source not in ended)
        if lasting or not biologic.evidence:
            return Known("combined", lasting)
    known = frozenset(vocabulary()["biologic"].concepts)
    current = {e.source for e in biologic.evidence}
    recent = tuple(
        Evidence(
            "medications",
            ", ".join(sorted(event.concepts & known)),
            on=event.on,
            source=event.source,
            note="end",
        )
        for event in ended.values()
        if event.concepts & known and (event.source in current or _still_acts(event, record.on, policy))
    )
    return Known("switching", recent) if recent else Known("none")


def _still_acts(event: Event, on: date, policy: Policy) -> bool:
    """Whether a biologic that has ended lies within its washout; of several names the longest counts."""
    assert event.on is not None
    names = [f"washout.{concept}" for concept in event.concepts]
    days = max((policy.days(name) for name in names if name in policy.numbers), default=None)
    return (on - event.on).days <= (policy.days("washout.other") if days is None else days)


def overweight(on_record: Fact, weight: Fact, height: Fact, bmi: Fact, record: Record) -> Fact:
    """Coded, or BMI above the 98th centile for age and sex (from 18 years: 30; ruling 21)."""
    if is_yes(on_record):
        return on_record
    value = _bmi(weight, height, bmi)
    birth = record.birth
    if isinstance(birth, Cause):
        return Missing((birth,))
    if value is None:
        causes = tuple(c for f in (weight, height) if not isinstance(f, Known) for c in f.causes)
        return Missing(causes) if causes else on_record
    sex = record.sex.value if isinstance(record.sex, Known) and isinstance(record.sex.value, str) else None
    limit = bmi_centile98(sex, completed_months(birth.latest, record.on))
    if limit is None:
        return on_record
    if value <= limit[1]:
        # An old weight or height clears nothing (ruling 7).
        doubts = tuple(c for f in (weight, height) if isinstance(f, Doubtful) for c in f.causes)
        return Missing(doubts) if doubts and is_no(on_record) else on_record
    return Known(YES, (Evidence("bmi", value, "kg/m2", record.on),))


_CM_PER_M = Decimal(100)


def _bmi(weight: Fact, height: Fact, bmi: Fact) -> Decimal | None:
    kg, cm = _exact(weight), _exact(height)
    if kg is not None and cm:
        return kg / (cm / _CM_PER_M) ** 2
    return _exact(bmi)


def _exact(fact: Fact) -> Decimal | None:
    if isinstance(fact, Missing) or not isinstance(fact.value, Interval):
        return None
    return fact.value.exact


# --- what is lacking at baseline ------------------------------------------------------------------


def _causes(fact: Fact) -> tuple[Cause, ...]:
    return () if isinstance(fact, Known) else fact.causes


def lacking(facts: Mapping[str, Fact], names: Iterable[str]) -> Fact:
    """Yes where one of the results is absent or too old; a list that was not delivered stays unknown."""
    missing = [c for name in names for c in _causes(facts[name])]
    if not missing:
        return Known(NO)
    undelivered = [
        c for c in missing if c.reason in (Reason.NOT_SUPPLIED, Reason.FAILED, Reason.PARTIAL_PAGE)
    ]
    if len(undelivered) == len(missing):
        return Missing(tuple(dict.fromkeys(undelivered)))
    return Doubtful(YES, tuple(dict.fromkeys(missing)))
