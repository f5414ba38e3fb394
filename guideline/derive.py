"""Facts made from facts: age, eGFR, freshness, the phase of an order. Pure functions of the record and the day.

Every rule here that is not plain arithmetic names its ruling or ambiguity; every number comes from site policy
or the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from functools import cache, partial

import msgspec

from guideline.doses import DoseState, Form, OrderedDose
from guideline.facts import vocabulary
from guideline.findings import EgfrSum
from guideline.growth_reference import Measure, completed_months, limits
from guideline.policy import Policy
from guideline.record import Draft, Newest, Reading, Record, RecordedOrder, Series
from guideline.sources import egfr_constant, solution_mg_per_ml, tablet_mg, the_source
from guideline.tables import Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

YES, NO = "yes", "no"


def flag(value: bool, evidence: tuple[Evidence, ...] = ()) -> Fact:
    return Known(YES if value else NO, evidence)


def completed_years(born: date, on: date) -> int:
    """Completed calendar years; a child has its birthday on the day itself (29 February: on 1 March)."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def age(record: Record, on: date | None = None) -> Fact:
    """Age in completed years, today or ``on`` a day; a partial birth date gives the ages that it allows."""
    on = on or record.on
    birth = record.birth
    if isinstance(birth, Cause):
        return Missing((birth,))
    oldest = completed_years(birth.earliest, on)
    youngest = completed_years(birth.latest, on)
    seen = Evidence("birthDate", birth.written, source=birth.source)
    return Known(Interval(Decimal(youngest), Decimal(oldest)), (seen,))


def is_young(record: Record, policy: Policy) -> bool:
    """Whether the tighter windows for small children apply; where the age is open, they do."""
    if isinstance(record.birth, Cause):
        return False
    return completed_years(record.birth.latest, record.on) < policy.freshness.young_child_below_years


# --- results --------------------------------------------------------------------------------------


def seen(fact: str, reading: Reading, note: str | None = None) -> Evidence:
    """The evidence that a reading gives; a bounded value keeps its comparator."""
    kind = vocabulary()[fact]
    exact = reading.value.exact
    value: Decimal | str = exact if exact is not None else bound_text(reading.value)
    return Evidence(kind.named, value, kind.unit, reading.on, reading.source, note)


def bound_text(value: Interval) -> str:
    """``<0.5``, ``>=90`` or ``2 to 3`` for a value that is known by its bounds only."""
    if value.low is None and value.high is not None:
        return f"{'<' if value.high_open else '<='}{value.high}"
    if value.high is None and value.low is not None:
        return f"{'>' if value.low_open else '>='}{value.low}"
    return f"{value.low} to {value.high}"


_MAY_HIDE_A_NEWER = (Reason.FAILED, Reason.PARTIAL_PAGE, Reason.UNREADABLE)
"""Gaps of a search that was asked and did not answer in full: what it did give may not be the newest (ruling 18)."""


def newest(fact: str, record: Record) -> Newest:
    """The newest usable reading, or why there is none, and what was passed over on the way to it.

    An implausible newest value is never replaced by an older one in silence: it ends the search (A-56, A-52).
    """
    found = record.newest.get(fact)
    if found is None:
        found = record.newest[fact] = _newest(fact, record)
    return found


def _newest(fact: str, record: Record) -> Newest:
    series = record.series.get(fact)
    if series is None:
        return None, Missing.of(fact, Reason.NOT_SUPPLIED), ()
    passed: list[Cause] = []
    for reading in series:
        if isinstance(reading, Reading):
            if series.gap in _MAY_HIDE_A_NEWER:
                passed.append(Cause(fact, series.gap))
            return reading, None, tuple(passed)
        passed.append(Cause(fact, reading.reason, reading.detail))
        if reading.reason is Reason.IMPLAUSIBLE:
            break
    if passed:
        return None, Missing(tuple(passed[:1])), ()
    return None, Missing.of(fact, series.gap or Reason.ABSENT), ()


def of_one_day(fact: str, record: Record, reading: Reading) -> tuple[Reading, ...]:
    """The reading and every other of its day that says something else, where none of them is known to be the newest.

    Of results with a time of day the latest counts (a day alone is its beginning); of results of one moment, or of a
    day alone, nothing tells which is right, so that none is chosen.
    """
    if reading.alone or reading.value.exact is None:
        return (reading,)
    found = [reading]
    for other in record.series.get(fact) or ():
        if other.on is not None and other.on < reading.on:
            break  # newest first: the rest of a long history is not read
        if not isinstance(other, Reading) or other.value.exact in (None, *(r.value.exact for r in found)):
            continue
        if other.moment == reading.moment:
            found.append(other)
    return tuple(found)


DIFFER = "the results of this day differ"


def joined(readings: Sequence[Reading]) -> Interval:
    """The span of results that contradict each other: a row holds only where it holds for each of them."""
    values = [r.value.exact for r in readings if r.value.exact is not None]
    return Interval(min(values), max(values)) if len(readings) > 1 else readings[0].value


def worst_first(
    fact: str, record: Record, *, highest: bool
) -> tuple[tuple[Reading, ...], Missing | None, tuple[Cause, ...]]:
    """As ``newest``, with every result that contradicts it, the highest or the lowest one first."""
    reading, missing, passed = newest(fact, record)
    if reading is None:
        return (), missing, passed
    of_day = of_one_day(fact, record, reading)
    return tuple(sorted(of_day, key=lambda r: r.value.exact or Decimal(0), reverse=highest)), None, passed


def note_on(readings: Sequence[Reading]) -> str | None:
    """What to say of results that contradict each other; nothing of one alone."""
    return DIFFER if len(readings) > 1 else None


def fresh_result(fact: str, record: Record, window: int, expires: int | None = None) -> Fact:
    """The newest usable reading as a fact: known inside its window, doubtful beyond it."""
    reading, missing, passed = newest(fact, record)
    if reading is None:
        assert missing is not None
        return missing
    of_day = of_one_day(fact, record, reading)
    found = _aged(fact, of_day, record.on, window, passed, expires)
    if len(of_day) == 1 or fact in _OF_A_DOSE or isinstance(found, Missing):
        return found
    return msgspec.structs.replace(found, each=tuple(r.value for r in of_day))


_OF_A_DOSE = ("creatinine",)
"""Results that choose a dose row by way of eGFR: of two that differ none is chosen, as with weight and height."""


def lower_of_each(fact: Fact) -> Fact:
    """Of results that contradict each other the lower one."""
    lows = (
        [] if isinstance(fact, Missing) else [v.low for v in fact.each if isinstance(v, Interval) and v.low]
    )
    if not lows or isinstance(fact, Missing):
        return fact
    return msgspec.structs.replace(fact, value=Interval.exactly(min(lows)), each=())


def _aged(
    fact: str,
    of_day: tuple[Reading, ...],
    on: date,
    window: int,
    passed: tuple[Cause, ...],
    expires: int | None = None,
) -> Fact:
    value = joined(of_day)
    days = (on - of_day[0].on).days
    evidence = tuple(seen(fact, each, DIFFER if len(of_day) > 1 else None) for each in of_day)
    if days <= window and not passed:
        return Known(value, evidence)
    causes = passed[:1]
    if days > window:
        causes += (Cause(fact, Reason.STALE, f"{days} days old; the window is {window} days"),)
    return Doubtful(value, causes, evidence, expired=expires is not None and days > expires)


def measurement(fact: str, record: Record, policy: Policy) -> Fact:
    """Weight or height: newest first, plausible for age and sex, inside its window (rulings 5 and 7)."""
    young = is_young(record, policy)
    fresh = policy.freshness
    if fact == "weight":
        window, expires = (
            (fresh.weight_young_child if young else fresh.weight),
            fresh.weight_provisional_until,
        )
    else:
        window, expires = (fresh.height_young_child if young else fresh.height), None
    reading, missing, passed = newest(fact, record)
    if reading is None:
        assert missing is not None
        return missing
    of_day = of_one_day(fact, record, reading)
    unlikely = next((each for each in of_day if not plausible_for_age(fact, each, record)), None)
    if unlikely is not None:
        reading = unlikely
        confirming = _confirming(record.series[fact], reading, policy)
        if confirming is None:
            detail = "more than 4 SD from the median for age and sex, and no second measurement agrees"
            return Missing((Cause(fact, Reason.IMPLAUSIBLE, detail),), (seen(fact, reading),))
        note = "unusual for age and sex; confirmed by a second measurement"
        aged = _aged(fact, of_day, record.on, window, passed, expires)
        assert not isinstance(aged, Missing)
        evidence = (seen(fact, reading, note), seen(fact, confirming))
        if isinstance(aged, Known):
            return Known(aged.value, evidence)
        return Doubtful(aged.value, aged.causes, evidence, aged.expired)
    return _aged(fact, of_day, record.on, window, passed, expires)


def plausible_for_age(fact: str, reading: Reading, record: Record) -> bool:
    """Whether a weight or height lies within 4 SD for age and sex on the day it was taken."""
    if isinstance(record.birth, Cause) or reading.on < record.birth.earliest:
        return True
    sex = record.sex.value if isinstance(record.sex, Known) and isinstance(record.sex.value, str) else None
    measure: Measure = "weight" if fact == "weight" else "height"
    found = [
        span
        for born in {record.birth.earliest, record.birth.latest}  # one day where the whole date is known
        if born <= reading.on
        and (span := limits(measure, sex, completed_months(born, reading.on))) is not None
    ]
    if not found:
        return True
    # Of a value that is only a bound, the bound itself is judged: "<20 kg" may be plausible, "<2 kg" is not.
    low, high = reading.value.low, reading.value.high
    return (high is None or high >= min(least for least, _ in found)) and (
        low is None or low <= max(most for _, most in found)
    )


def _confirming(series: Series, first: Reading, policy: Policy) -> Reading | None:
    value = first.value.exact
    if value is None:
        return None
    for other in series:
        if not isinstance(other, Reading) or other.source == first.source:
            continue
        if (first.on - other.on).days > policy.growth.confirm_within:
            return None
        second = other.value.exact
        if second is not None and abs(second - value) <= policy.growth.confirm_tolerance * value:
            return other
    return None


# --- eGFR -----------------------------------------------------------------------------------------


def egfr_interval(height: Interval, creatinine: Interval) -> Interval | None:
    """36 x height / creatinine with its printed constant; ``None`` where a bound makes it unbounded both ways."""
    constant = egfr_constant()
    low = high = None
    if height.low is not None and creatinine.high is not None and creatinine.high > 0:
        low = constant * height.low / creatinine.high
    if height.high is not None and creatinine.low is not None and creatinine.low > 0:
        high = constant * height.high / creatinine.low
    if low is None and high is None:
        return None
    return Interval(
        low,
        high,
        low_open=creatinine.high_open or height.low_open,
        high_open=creatinine.low_open or height.high_open,
    )


def egfr(height: Fact, creatinine: Fact) -> Fact:
    """The eGFR of section 6.2b iii, unrounded, from a height in cm and a creatinine in umol/L."""
    if isinstance(height, Missing) or isinstance(creatinine, Missing):
        gaps = tuple(c for f in (creatinine, height) if isinstance(f, Missing | Doubtful) for c in f.causes)
        evidence = tuple(e for f in (creatinine, height) if not isinstance(f, Missing) for e in f.evidence)
        return Missing((*gaps, Cause("egfr", gaps[0].reason)), evidence)
    assert isinstance(height.value, Interval) and isinstance(creatinine.value, Interval)
    value = egfr_interval(height.value, creatinine.value)
    sources = (*creatinine.evidence, *height.evidence)
    if value is None:
        return Missing((Cause("creatinine", Reason.COMPARATOR), Cause("egfr", Reason.COMPARATOR)), sources)
    first = creatinine.evidence[0]
    shown = value.exact if value.exact is not None else bound_text(value)
    own = Evidence("egfr", shown, vocabulary()["egfr"].unit, first.on, first.source)
    causes = tuple(c for f in (creatinine, height) if isinstance(f, Doubtful) for c in f.causes)
    if causes:
        return Doubtful(value, (*causes, Cause("egfr", causes[0].reason)), (own, *sources))
    return Known(value, (own, *sources))


def egfr_sum(fact: Fact) -> EgfrSum | None:
    """The calculation for the card, where both inputs are exact."""
    if isinstance(fact, Missing) or not isinstance(fact.value, Interval) or fact.value.exact is None:
        return None
    by_name = {e.fact: e.value for e in fact.evidence}
    height, creatinine = by_name.get("height"), by_name.get("creatinine")
    if not isinstance(height, Decimal) or not isinstance(creatinine, Decimal):
        return None
    return EgfrSum(egfr_constant(), height, creatinine, fact.value.exact)


def egfr_lowest(calculated: Fact, laboratory: Fact) -> Fact:
    """The lower of the calculated and the laboratory's eGFR, for warnings only (A-51).

    Without a calculated value the laboratory's counts for caution only: it may warn, it clears nothing.
    """
    if not isinstance(laboratory, Known) or not isinstance(laboratory.value, Interval):
        return calculated
    if isinstance(calculated, Missing):
        return Doubtful(laboratory.value, calculated.causes, laboratory.evidence)
    assert isinstance(calculated.value, Interval)
    upper, lower = laboratory.value.high, calculated.value.low
    if upper is None or lower is None or upper >= lower:
        return calculated
    if isinstance(calculated, Doubtful):
        return Doubtful(laboratory.value, calculated.causes, (*laboratory.evidence, *calculated.evidence))
    return Known(laboratory.value, (*laboratory.evidence, *calculated.evidence))


def egfr_below_floor(lowest: Fact, limits_of_table: tuple[Decimal, ...]) -> Fact:
    """Whether a mere bound proves an eGFR below the highest limit of the renal table (A-52: the bound decides)."""
    if isinstance(lowest, Missing):
        return Missing(lowest.causes)
    value = lowest.value
    assert isinstance(value, Interval)
    floor = max(limits_of_table)
    high = value.high
    below = value.exact is None and high is not None and (high < floor or (high == floor and value.high_open))
    return Known(YES if below else NO, lowest.evidence if below else ())


def egfr_disagrees(calculated: Fact, laboratory: Fact, at: tuple[Decimal, ...]) -> Fact:
    """Whether the two eGFRs lie on different sides of a limit of the tables (A-51)."""
    if isinstance(calculated, Missing):
        return Missing(calculated.causes)
    if not isinstance(laboratory, Known) or not isinstance(calculated.value, Interval):
        return Known(NO)
    assert isinstance(laboratory.value, Interval)
    one, other = calculated.value.exact, laboratory.value.exact
    if one is None or other is None:
        return Known(NO)
    differs = any((one <= limit) != (other <= limit) for limit in at)
    return Known(YES if differs else NO, laboratory.evidence if differs else ())


# --- baseline bloods ------------------------------------------------------------------------------


def normal_bloods(record: Record, policy: Policy) -> Fact:
    """Whether every result of ruling 13 is recent and inside its range; an unknown one counts as not met."""
    window = policy.freshness.normal_bloods
    gaps: list[Cause] = []
    abnormal: list[Evidence] = []
    normal: list[Evidence] = []
    for fact in vocabulary()["baselineBloodsNormal"].uses:
        reading, missing, passed = newest(fact, record)
        if reading is None:
            assert missing is not None
            gaps.extend(missing.causes)
            continue
        of_day = of_one_day(fact, record, reading)
        inside = inside_range(fact, reading, policy)
        outside = [r for r in of_day if inside_range(fact, r, policy) is False]
        if outside:
            abnormal.extend(seen(fact, r, "outside its reference range") for r in outside)
        elif (record.on - reading.on).days > window:
            gaps.append(Cause(fact, Reason.STALE, f"older than {window} days"))
        elif passed:
            gaps.append(passed[0])
        elif inside is None:
            gaps.append(Cause(fact, Reason.UNREADABLE, "no reference range came with the result"))
        else:
            normal.append(seen(fact, reading))
    if abnormal or gaps:
        return Doubtful(NO, tuple(gaps), tuple(abnormal)) if gaps else Known(NO, tuple(abnormal))
    return Known(YES, tuple(normal))


def inside_range(fact: str, reading: Reading, policy: Policy) -> bool | None:
    """Inside the laboratory's own range, else by its interpretation, else by site policy (ruling 13)."""
    low, high = reading.low, reading.high
    if low is None and high is None:
        if reading.normal is not None:
            return reading.normal
        own = policy.reference_ranges.get(fact)
        if own is None:
            return None
        low, high = own.low, own.high
    value = reading.value
    if low is not None and (value.low is None or value.low < low):
        return None if value.exact is None and (value.high is None or value.high >= low) else False
    if high is not None and (value.high is None or value.high > high):
        return None if value.exact is None and (value.low is None or value.low <= high) else False
    return True


_HARM_IS_HIGH = frozenset({"alt", "ast", "bilirubin", "creatinine"})


def is_abnormal(fact: str, reading: Reading, policy: Policy) -> bool | None:
    """Outside its range, and not merely below it where a low value tells of nothing (liver enzymes, creatinine).

    Ruling 13 is stricter for an escalation: there every result has to be inside its range.
    """
    inside, below = inside_range(fact, reading, policy), reading.value.high
    if fact in _HARM_IS_HIGH and reading.low is not None and below is not None and below <= reading.low:
        return False
    return None if inside is None else not inside


# --- the course of treatment ----------------------------------------------------------------------


class Course(msgspec.Struct, frozen=True):
    """The running course of one drug, from the recorded orders (rulings 1 and 16)."""

    running: RecordedOrder | None
    start: date | None
    starting: bool


def course_of(drug: str, orders: tuple[RecordedOrder, ...], on: date, gap_days: int) -> Course:
    """Whether the drug is being taken, since when, and which order is the running one.

    An ended order whose end is not recorded is taken to have lasted until the next order of the same drug began;
    where none followed, its end is unknown and the new order counts as a start (the stricter rules).
    """
    gap = timedelta(days=gap_days)
    own = sorted((o for o in orders if o.drug == drug), key=lambda o: (o.start or date.min, o.active))
    spans = list(_spans(own, on))
    current = [(order, start, end) for order, start, end in spans if end is not None and end + gap >= on]
    if not current:
        return Course(None, None, starting=True)
    active = [item for item in current if item[0].active] or current
    running = max(active, key=lambda item: item[1] or date.min)[0]
    others = [o for o in orders if o.drug != drug and o.active and o.start is not None]
    if not running.active and any(o.start >= (running.end or on) for o in others if o.start):
        return Course(None, None, starting=True)  # back from another JAK inhibitor: a switch
    return Course(running, _start_of_run(spans, current, gap), starting=False)


def _spans(own: list[RecordedOrder], on: date) -> Iterator[tuple[RecordedOrder, date | None, date | None]]:
    for index, order in enumerate(own):
        end = order.end
        if order.active and (end is None or end > on):
            end = on
        elif end is None:
            # Without a recorded end: until the next order; a last one lasted at least the day it was written.
            end = next((later.start for later in own[index + 1 :] if later.start), order.start)
        if order.start is None or order.start <= on:
            yield order, order.start, end


def _start_of_run(
    spans: Sequence[tuple[RecordedOrder, date | None, date | None]],
    current: Sequence[tuple[RecordedOrder, date | None, date | None]],
    gap: timedelta,
) -> date | None:
    if any(start is None for _, start, _ in current):
        return None
    begin = min(start for _, start, _ in current if start is not None)
    for _, start, end in reversed(spans):
        if start is not None and start < begin and end is not None and end + gap >= begin:
            begin = start
    return begin


# --- all of them ----------------------------------------------------------------------------------


class GivenFacts(dict[str, Fact]):
    """Facts that were worked out before: what is not among them was not supplied."""

    __slots__ = ()

    def __missing__(self, name: str) -> Fact:
        return _not_supplied(name)


def _not_supplied(name: str) -> Missing:
    """A fact that nobody supplied. Raises ``KeyError`` for a name that is no fact at all, which no gap may hide."""
    return Missing.of(vocabulary()[name].named, Reason.NOT_SUPPLIED)


class OrderFacts(dict[str, Fact]):
    """The facts of one order for one child, each worked out by its rule when it is first asked for.

    Most are never asked for, since one fact settles most rows. Only ``facts[name]`` works a fact out; whoever wants
    all of them takes ``complete``. Beside them stands what the rules look at: ``listed`` is what the lists of the
    record say, ``window`` for how many days blood results count (ruling 7).
    """

    __slots__ = ("course", "draft", "listed", "policy", "record", "rules", "tables", "window")

    def __init__(
        self, record: Record, draft: Draft, tables: Tables, policy: Policy, rules: Mapping[str, Rule]
    ) -> None:
        self.record, self.draft, self.tables, self.policy, self.rules = record, draft, tables, policy, rules
        self.listed = {**_lists_not_supplied(), **record.flags}
        super().__init__(self.listed)
        for name in _MORE_THAN_LISTED:
            del self[name]
        self.course: Course = course_of(draft.drug, record.orders, record.on, policy.restart_gap)
        starting = self["starting"] = _starting(self.course, medication_gap(record))
        running, fresh = isinstance(starting, Known) and starting.value == NO, policy.freshness
        self.window = fresh.bloods_on_treatment if running else fresh.bloods_at_start

    def __missing__(self, name: str) -> Fact:
        rule = self.rules.get(name)
        if rule is None:
            return _not_supplied(name)
        found = self[name] = rule(self)
        return found

    def complete(self) -> GivenFacts:
        """Every fact that has a rule or was put in, in the order of the vocabulary."""
        return GivenFacts({name: self[name] for name in vocabulary() if name in self or name in self.rules})

    def used(self) -> dict[str, Fact]:
        """Every fact but results and derived ones that nobody asked for, in the order of the vocabulary."""
        return {
            name: self[name]
            for name, kind in vocabulary().items()
            if name in self or (name in self.rules and kind.read_from not in _WORKED_OUT)
        }

    def egfr_at_running_start(self) -> Fact | None:
        """The eGFR when the running order began, where one runs and it can be calculated (A-15)."""
        return _egfr_at(self.course, self.record, self.policy)


_WORKED_OUT = (("series",), ("derived",))
_MORE_THAN_LISTED = ("seriousInfection", "antibiotic")
"""Facts of which what the lists say is only a part: their rules look at ``listed``."""

Rule = Callable[[OrderFacts], Fact]


class Supposed(dict[str, Fact]):
    """Facts of which some are supposed to be others; what was made from those stays as it is."""

    __slots__ = ("really",)

    def __init__(self, really: Mapping[str, Fact], **supposed: Fact) -> None:
        super().__init__(supposed)
        self.really = really

    def __missing__(self, name: str) -> Fact:
        return self.really[name]


def together(made: Callable[[OrderFacts], Mapping[str, Fact]], *names: str) -> dict[str, Rule]:
    """The rules of facts that are worked out all at once."""

    def rule(name: str) -> Rule:
        def one(c: OrderFacts) -> Fact:
            c.update(made(c))
            return c[name]

        return one

    return {name: rule(name) for name in names}


def medication_gap(record: Record) -> Missing | None:
    return Missing(record.orders_gap) if record.orders_gap else None


def rules() -> dict[str, Rule]:
    """How each fact is made that needs neither a dose row nor a look back over the course."""
    series = [name for name, kind in vocabulary().items() if kind.read_from == ("series",)]
    return {**{name: partial(_result, name) for name in series}, **_RULES}


def _result(name: str, c: OrderFacts) -> Fact:
    return fresh_result(name, c.record, c.window)


def _egfr_disagrees(c: OrderFacts) -> Fact:
    return egfr_disagrees(c["egfr"], c["egfrLaboratory"], c.tables.limits_of("egfr", "egfrLowest"))


def _egfr_below_floor(c: OrderFacts) -> Fact:
    return egfr_below_floor(c["egfrLowest"], c.tables.limits_in("REN-BARI", "egfrLowest"))


_RULES: Mapping[str, Rule] = {
    "age": lambda c: age(c.record),
    "sex": lambda c: c.record.sex,
    "weight": lambda c: measurement("weight", c.record, c.policy),
    "height": lambda c: measurement("height", c.record, c.policy),
    "egfr": lambda c: egfr(c["height"], c["creatinine"]),
    "egfrCalculated": lambda c: flag(not isinstance(c["egfr"], Missing)),
    "egfrLaboratory": lambda c: lower_of_each(_result("egfrLaboratory", c)),
    "egfrLowest": lambda c: egfr_lowest(c["egfr"], c["egfrLaboratory"]),
    "egfrDisagrees": _egfr_disagrees,
    "egfrBelowFloor": _egfr_below_floor,
    "baselineBloodsNormal": lambda c: normal_bloods(c.record, c.policy),
    "weightIsOld": lambda c: _weight_is_old(c["weight"]),
    "drug": lambda c: Known(c.draft.drug),
    "indication": lambda c: c.draft.indication,
    "jiaCategory": lambda c: c.draft.jia_category,
    "form": lambda c: Known(c.draft.form.value),
    "modifiedRelease": lambda c: flag(c.draft.modified_release),
    "strength": lambda c: _strength(c.draft),
    "draftMgPerDay": lambda c: _draft_total(c.draft.dose),
    "ending": lambda c: flag(c.draft.ending),
    "monthsOnDrug": lambda c: _months_on_drug(c.course, medication_gap(c.record), c.record.on),
    "guidelinePastReview": lambda c: flag(c.record.on >= the_source().review_by),
    "barJdmTrialOpen": lambda c: flag(c.policy.bar_jdm_trial_open),
    **together(lambda c: _since_last_dose(c.draft, c.record), "afterLastDose", "daysSinceLastDose"),
}


@cache
def _lists_not_supplied() -> Mapping[str, Fact]:
    """Every yes/no fact of a list, as it stands for a list that nobody supplied."""
    return {
        name: _not_supplied(name)
        for name, kind in vocabulary().items()
        if kind.kind == "choice" and kind.concepts and kind.read_from != ("answers",)
    }


def _starting(course: Course, gap: Missing | None) -> Fact:
    if course.running is not None:
        return Known(NO, (_running_evidence(course.running),))
    if gap is not None:
        return Doubtful(YES, gap.causes)
    return Known(YES)


def _running_evidence(running: RecordedOrder) -> Evidence:
    return Evidence("medications", running.drug, on=running.start, source=running.source)


def last_order_of(drug: str, orders: tuple[RecordedOrder, ...]) -> RecordedOrder | None:
    """The order of a drug that ended last; one whose end is not on record goes before every other."""
    own = [order for order in orders if order.drug == drug]
    return max(own, key=lambda order: (order.end or date.max, order.start or date.min), default=None)


def _since_last_dose(draft: Draft, record: Record) -> dict[str, Fact]:
    """Whether the draft stands for a course whose last order has ended, and for how many days (A-39)."""
    if not draft.finished:
        return {"afterLastDose": Known(NO), "daysSinceLastDose": Known(Interval.exactly(Decimal(0)))}
    last = last_order_of(draft.drug, record.orders)
    if last is None or last.end is None:
        gap = Missing.of("courseStart", Reason.ABSENT, "when the drug was last taken is not on record")
        return {"afterLastDose": Known(YES), "daysSinceLastDose": gap}
    evidence = (Evidence("medications", draft.drug, on=last.end, source=last.source, note="ended"),)
    days = Known(Interval.exactly(Decimal((record.on - last.end).days)), evidence)
    return {"afterLastDose": Known(YES, evidence), "daysSinceLastDose": days}


def _weight_is_old(weight: Fact) -> Fact:
    if isinstance(weight, Missing):
        return Missing(weight.causes)
    if isinstance(weight, Known) or all(c.reason is not Reason.STALE for c in weight.causes):
        return Known(NO)
    return Known(YES, weight.evidence)


def _strength(draft: Draft) -> Fact:
    """Whether the drafted tofacitinib has the strength that section 5.3 names; an order need not say one.

    Milligrams beside the name are the strength of tablets only where the order says that it is for tablets: "4 mg"
    may be the dose.
    """
    if draft.mg_per_ml is not None:
        return Known("printed" if draft.mg_per_ml == solution_mg_per_ml() else "other")
    if draft.tablet_mg is not None and draft.form is Form.TABLET:
        return Known("printed" if draft.tablet_mg == tablet_mg() else "other")
    return Known("unsaid")


def _draft_total(dose: OrderedDose) -> Fact:
    if dose.state is DoseState.UNREADABLE:
        return Missing.of("doseDrafted", Reason.UNREADABLE, dose.why)
    # A draft that has no dose yet orders 0 mg a day; the verdict says "absent".
    total = dose.regimen.mg_per_day if dose.regimen is not None else Decimal(0)
    evidence = (Evidence("doseDrafted", total, "mg/d"),) if dose.regimen is not None else ()
    return Known(Interval.exactly(total), evidence)


def _months_on_drug(course: Course, gap: Missing | None, on: date) -> Fact:
    if course.running is None:
        return Known(Interval.exactly(Decimal(0)))
    if course.start is None:
        # An unknown start is taken for a recent one where that is the more cautious reading, and for nothing else.
        cause = Cause("courseStart", Reason.ABSENT, "the start of the course is not on record")
        return Doubtful(Interval.exactly(Decimal(0)), (cause,))
    months = Interval.exactly(Decimal(completed_months(course.start, on)))
    evidence = (
        Evidence("courseStart", course.start.isoformat(), on=course.start, source=course.running.source),
    )
    if gap is not None:
        return Doubtful(months, gap.causes, evidence)
    return Known(months, evidence)


def _egfr_at(course: Course, record: Record, policy: Policy) -> Fact | None:
    """The eGFR when the running order began, where height and creatinine of that time are known (A-15).

    A creatinine counts that was taken by then; of the heights the last by then, else the first one after: the rate
    of growth makes little difference inside its window, and an eGFR that is not looked at makes a great one.
    """
    if course.running is None or course.running.start is None:
        return None
    start = course.running.start
    found: dict[str, Fact] = {}
    windows = {"creatinine": policy.freshness.bloods_on_treatment, "height": policy.freshness.height}
    for fact, window in windows.items():
        series = record.series.get(fact)
        reading = next(
            (
                r
                for r in series or ()
                if isinstance(r, Reading) and timedelta(0) <= start - r.on <= timedelta(days=window)
            ),
            None,
        )
        if reading is None and fact == "height":
            later = [
                r
                for r in series or ()
                if isinstance(r, Reading) and timedelta(0) < r.on - start <= timedelta(days=window)
            ]
            reading = min(later, key=lambda r: r.on, default=None)
        if reading is None:
            return None
        found[fact] = Known(reading.value, (seen(fact, reading),))
    return egfr(found["height"], found["creatinine"])
