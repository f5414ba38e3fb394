"""The facts behind screening, contraindications, thresholds and monitoring, for one drug and one course."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from itertools import pairwise

from guideline import history as h
from guideline.derive import NO, YES, Course, OrderFacts, Rule, flag, fresh_result, together
from guideline.facts import vocabulary
from guideline.policy import Policy
from guideline.record import Draft, Record, RecordedOrder
from guideline.schedule import NOT_DUE, repeat_due, schedule_facts
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

Facts = Mapping[str, Fact]
_BASELINE = ("haemoglobin", "neutrophils", "lymphocytes", "alt", "ast", "bilirubin", "creatinine")


def rules() -> dict[str, Rule]:
    """How each derived fact is made that looks back over the course or puts several sources together."""
    answers = [name for name, kind in vocabulary().items() if kind.read_from == ("answers",)]
    return {**{name: partial(_answer, name) for name in answers}, **_RULES}


_WINDOWS = {
    "tbTest": "screening.tb",
    "chestXray": "screening.tb",
    "pregnancyTest": "screening.pregnancy_test",
}
"""Answers that count for some time only, with the site's value that says how long."""


def _answer(name: str, c: OrderFacts) -> Fact:
    window = c.policy.days(_WINDOWS[name]) if name in _WINDOWS else None
    return h.answer(c.record, name, window)


def _schedule(c: OrderFacts) -> dict[str, Fact]:
    clock = clock_of(c.record, c.draft.drug, c.course, escalates=_escalates(c))
    return schedule_facts(c.record, c.draft.drug, c.course, clock, c.policy)


def _escalates(c: OrderFacts) -> bool:
    return c.draft.drug == "baricitinib" and c["indication"] != Known("jia")


def bk_concern(facts: Mapping[str, Fact]) -> Fact:
    """Whether the rows on BK load concern this child (A-03): a load is or may be on record, or is due and lacking.

    A load on record counts in any indication and at a start too, so one that cannot be used, failed or did not come
    is told as such for every child (ruling 18). Where the record answered and has none, only the children who are to
    be screened are asked for one, and not before it is due or there are signs of renal involvement.
    """
    load = facts["bkBloodLoad"]
    if not isinstance(load, Missing) or any(cause.reason is not Reason.ABSENT for cause in load.causes):
        return Known(YES)
    indication = facts["indication"]
    screened = h.any_of(
        (
            facts["highDose"],
            Missing(indication.causes)
            if isinstance(indication, Missing)
            else flag(indication.value == "interferonopathy"),
        )
    )
    state = facts["bkState"]
    due = not (isinstance(state, Known) and state.value == NOT_DUE)
    # Signs of renal involvement ask for a load at any time.
    if h.is_no(screened) or not (due or h.is_yes(facts["bkSigns"])):
        return Known(NO)
    return Known(YES) if h.is_yes(screened) else screened


def clock_of(record: Record, drug: str, course: Course, *, escalates: bool) -> date | None:
    """The day that the visits count from: the start of the course, or its last escalation (A-24).

    ``escalates``: whether a higher dose of this drug in this indication is an escalation at all (ruling 1).
    """
    if course.running is None or course.start is None or not escalates:
        return course.start
    clock = course.start
    for before, after in _changes(record, drug):
        if before.dose.regimen is None or after.dose.regimen is None or after.start is None:
            continue
        if after.dose.regimen.mg_per_day > before.dose.regimen.mg_per_day:
            clock = max(clock, after.start)
    return clock


def _changes(record: Record, drug: str) -> Iterator[tuple[RecordedOrder, RecordedOrder]]:
    """Each order of the drug with the one after it, by their first days."""
    own = (o for o in record.orders if o.drug == drug and o.start is not None and o.start <= record.on)
    return pairwise(sorted(own, key=lambda o: o.start or date.min))


def _counted_from(c: OrderFacts) -> Fact:
    """What the weeks count from, ``start`` or ``escalation``; missing where a dose of the course can't be read."""
    escalates, course = _escalates(c), c.course
    clock = clock_of(c.record, c.draft.drug, course, escalates=escalates)
    if clock is not None and clock != course.start:
        return Known("escalation", (Evidence("monitoring", "weeks counted from the escalation", on=clock),))
    if course.running is not None and escalates:
        pairs = [pair for pair in _changes(c.record, c.draft.drug) if pair[1].start != course.start]
        if any(order.dose.regimen is None for pair in pairs for order in pair):
            return Missing.of("medications", Reason.UNREADABLE, "a dose of the course could not be read")
    return Known("start")


def _multiple(name: str) -> Rule:
    return lambda c: h.times_upper(name, c.record, c.window, c.policy)


def _bilirubin_beside(name: str) -> Rule:
    return lambda c: h.times_upper_beside(
        "bilirubin", name, c.record, c.window, c.policy.days("monitoring.set_within"), c.policy
    )


def _persists(name: str, table: str) -> Rule:
    return lambda c: h.persists(name, c.record, c.tables.limits_in(table, name))


def _repeat_late(name: str) -> Rule:
    return lambda c: h.repeat_late(name, c.record, c.policy)


def _recent(temperature: Fact, record: Record, policy: Policy) -> Fact:
    """A temperature counts for a few days only; an older or absent one is no fever on record."""
    if isinstance(temperature, Missing):
        return temperature
    on = temperature.evidence[0].on
    if on is not None and (record.on - on).days <= policy.days("screening.temperature"):
        return temperature
    return Missing.of("temperature", Reason.STALE)


def _fever(facts: Facts, policy: Policy) -> Fact:
    temperature = facts["temperature"]
    if isinstance(temperature, Missing):
        lost = [c for c in temperature.causes if c.reason not in (Reason.ABSENT, Reason.STALE)]
        measured: Fact = Missing(tuple(lost)) if lost else Known(NO)
    else:
        limit = policy.number("fever_celsius")
        values = temperature.each or (temperature.value,)
        hot = any(isinstance(v, Interval) and v.low is not None and v.low >= limit for v in values)
        measured = flag(hot, temperature.evidence if hot else ())
    return h.any_of((facts["feverOnRecord"], measured))


def _female(facts: Facts) -> bool:
    sex = facts["sex"]
    return not (isinstance(sex, Known) and sex.value == "male")


def _tb_active(c: OrderFacts) -> Fact:
    culture = h.says(c["tbCulture"], "positive")
    return h.any_of((c["tbDisease"], culture, h.tb_regimen(c.record, c.policy)))


def _tb_latent_untreated(c: OrderFacts) -> Fact:
    # A positive test that is older than the screening window still tells of latent tuberculosis (ruling 7).
    ever = h.answer(c.record, "tbTest")
    latent = h.any_of((c["tbLatentOnRecord"], h.says(ever, "positive")))
    return _unless(latent, (c["tbTreatmentCompleted"], c["tbActive"]))


def _tb_screen(c: OrderFacts) -> Fact:
    screened = h.within(c["tbScreeningDone"], c.record.on, c.policy.days("screening.tb"))
    return h.any_of((_settled(c["tbTest"]), _given(c["chestXray"]), screened))


def _serious_infection(c: OrderFacts) -> Fact:
    infections = (c["otherInfection"], c["recognisedInfection"], c["feverOnRecord"])
    return h.any_of((c.listed["seriousInfection"], h.treated_by_vein(infections, c.record)))


def _infection_unsaid(c: OrderFacts) -> Fact:
    serious = h.any_of((c["seriousInfection"], c["tbActive"]))
    # Unknown conditions leave INF-01 open, and do not silence what fever and neutrophils say by themselves.
    return Doubtful(YES, serious.causes) if isinstance(serious, Missing) else flag(h.is_no(serious))


def _pregnant(c: OrderFacts) -> Fact:
    return _whatever_the_sex(c, _superseded(c["pregnancyOnRecord"], c["pregnancyTest"]))


def _lactating(c: OrderFacts) -> Fact:
    found = h.any_of((c["lactationOnRecord"], h.says(c["lactationStatus"], "positive")))
    return _whatever_the_sex(c, found)


def _whatever_the_sex(c: OrderFacts, found: Fact) -> Fact:
    """The fact for a girl; of who is male on record nothing is asked, but a yes counts from child-bearing age on.

    The sex on record is that of the administration, and a pregnancy beside it may be right.
    """
    if _female(c):
        return found
    age = c["age"]
    grown = isinstance(age, Missing) or _old_enough(age, c.policy)
    return found if grown and h.is_yes(found) else Known(NO)


def _bk_signs(c: OrderFacts) -> Fact:
    urine = (h.says(c["urineBlood"], "positive"), h.says(c["urineProtein"], "positive"))
    signs = h.any_of((c["renalSigns"], c["renalDeterioration"], *urine))
    # Unknown signs leave the graver row open, and do not silence the milder one, which asks for none.
    return Doubtful(NO, signs.causes) if isinstance(signs, Missing) else signs


def _jc_positive(c: OrderFacts) -> Fact:
    return h.any_of((h.says(c["jcTest"], "positive"), _found(c["jcLoad"]), _found(c["jcUrineLoad"])))


def _superseded(on_record: Fact, test: Fact) -> Fact:
    """Pregnancy from the conditions, or from the newest test or status; a test alone never takes it back."""
    return h.any_of((on_record, h.says(test, "positive")))


def _given(fact: Fact) -> Fact:
    """Whether a test has been done at all, whatever it showed."""
    if isinstance(fact, Missing):
        return fact
    return flag(fact.value != "none", fact.evidence)


def _settled(fact: Fact) -> Fact:
    """Whether a test has been done with a result: one that is neither positive nor negative has to be repeated."""
    if isinstance(fact, Missing):
        return fact
    return flag(fact.value not in ("none", "unclear"), fact.evidence)


def _found(load: Fact) -> Fact:
    """Whether a virus was found in a load; one that was never measured is no finding."""
    if isinstance(load, Missing):
        lost = [c for c in load.causes if c.reason is not Reason.ABSENT]
        return Missing(tuple(lost)) if lost else Known(NO)
    assert isinstance(load.value, Interval)
    low = load.value.low
    if low is not None and (low > 0 or load.value.low_open):
        return Known(YES, load.evidence)
    # A newer result that could not be read is no negative one; an old negative one stays what it was.
    lost = [c for c in load.causes if c.reason is not Reason.STALE] if isinstance(load, Doubtful) else []
    return Missing(tuple(lost), load.evidence) if lost else Known(NO)


def _unless(fact: Fact, barring: tuple[Fact, ...]) -> Fact:
    """The fact, but no where one of the others says yes."""
    if not h.is_yes(fact):
        return fact
    other = h.any_of(barring)
    if h.is_yes(other):
        return Known(NO)
    if isinstance(other, Missing):
        assert not isinstance(fact, Missing)
        return Doubtful(YES, other.causes, fact.evidence)
    return fact


def _contraceptive(facts: Facts) -> Fact:
    """The kind of contraceptive, the one of most concern first; what hides a graver kind makes it doubtful."""
    kinds = (
        ("combined", "combinedContraceptive"),
        ("unknown", "oestrogenProduct"),
        ("progestogen", "progestogenContraceptive"),
    )
    gaps: list[Cause] = []
    for name, fact_name in kinds:
        fact = facts[fact_name]
        if isinstance(fact, Missing):
            gaps.extend(fact.causes)
        elif h.is_yes(fact):
            causes = tuple(dict.fromkeys(gaps))
            return Doubtful(name, causes, fact.evidence) if causes else Known(name, fact.evidence)
    return Missing(tuple(dict.fromkeys(gaps))) if gaps else Known("none")


def _vzv_disease(facts: Facts) -> Fact:
    """Zoster, else chickenpox; none only where the conditions are known."""
    for name, fact_name in (("zoster", "zoster"), ("chickenpox", "varicella")):
        fact = facts[fact_name]
        if not isinstance(fact, Missing) and h.is_yes(fact):
            return Known(name, fact.evidence)
    lost = h.any_of((facts["zoster"], facts["varicella"]))
    return Missing(lost.causes) if isinstance(lost, Missing) else Known("none")


def _other_jak(record: Record, background: Fact, draft: Draft) -> Fact:
    """Another JAK inhibitor than the order's own, running or drafted."""
    if isinstance(background, Missing):
        return background
    others = tuple(e for e in background.evidence if draft.drug not in str(e.value).split(", "))
    if h.is_yes(background) and not others and record.orders_gap:
        return Missing(record.orders_gap)
    return flag(bool(others), others)


def _child_bearing(facts: Facts, policy: Policy) -> Fact:
    if not _female(facts):
        return Known(NO)
    age = facts["age"]
    if isinstance(age, Missing):
        return age
    old_enough = _old_enough(age, policy)
    return flag(old_enough, (*facts["sex"].evidence, *age.evidence) if old_enough else ())


def _old_enough(age: Known | Doubtful, policy: Policy) -> bool:
    """Whether the child is, or may be, of child-bearing age."""
    assert isinstance(age.value, Interval)
    limit, oldest = Decimal(policy.number("child_bearing_age")), age.value.high
    return oldest is not None and oldest >= limit


_RULES: Mapping[str, Rule] = {
    **{f"{name}TimesUpper": _multiple(name) for name in ("alt", "ast", "bilirubin", "ck")},
    "bilirubinBesideAlt": _bilirubin_beside("alt"),
    "bilirubinBesideAst": _bilirubin_beside("ast"),
    "resultOutOfRange": lambda c: h.outside_range(
        ("whiteCells", "platelets", "alt", "ast"), c.record, c.policy
    ),
    "cholesterolRaised": lambda c: h.raised("cholesterol", c.record, c.policy),
    "triglyceridesRaised": lambda c: h.raised("triglycerides", c.record, c.policy),
    "lymphocytesPersist": _persists("lymphocytes", "TOFA-ALC"),
    "lymphocytesRepeatLate": _repeat_late("lymphocytes"),
    "neutrophilsPersist": _persists("neutrophils", "TOFA-ANC"),
    "neutrophilsRepeatLate": _repeat_late("neutrophils"),
    "haemoglobinFall": lambda c: h.haemoglobin_fall(c.record, c.course, c.window, c.policy),
    "haemoglobinFallFromLast": lambda c: h.haemoglobin_fall_from_last(c.record),
    **together(
        lambda c: h.renal_facts(c.record, c.course, c.policy), "creatinineRising", "renalDeterioration"
    ),
    "temperature": lambda c: _recent(fresh_result("temperature", c.record, c.window), c.record, c.policy),
    "fever": lambda c: _fever(c, c.policy),
    "tbActive": _tb_active,
    "tbLatentUntreated": _tb_latent_untreated,
    "tbScreen": _tb_screen,
    "seriousInfection": _serious_infection,
    "infectionUnsaid": _infection_unsaid,
    "pregnant": _pregnant,
    "lactating": _lactating,
    "smoker": lambda c: h.any_of((c["smokerOnRecord"], h.says(c["smokingStatus"], "positive"))),
    "hsvDocumented": lambda c: h.any_of((c["herpesSimplexEver"], _given(c["hsvIgg"]))),
    "bkSigns": _bk_signs,
    "jcPositive": _jc_positive,
    "vzvDisease": _vzv_disease,
    "vaccinationHistory": lambda c: h.vaccination_history(c.record),
    "varicellaDoses": lambda c: h.varicella_doses(c.record),
    "vzvNeed": lambda c: h.vzv_need(c["vzvIgg"], c["varicellaEver"], c["varicellaDoses"]),
    "daysSinceLiveVaccine": lambda c: h.days_since_live(c.record),
    "contraceptive": _contraceptive,
    "otherJakInhibitor": lambda c: _other_jak(c.record, c["jakBackground"], c.draft),
    "biologicUse": lambda c: h.biologic_use(c["biologic"], c.record, c.policy),
    "antibiotic": lambda c: h.without(c.listed["antibiotic"], c["prophylaxis"]),
    "childBearing": lambda c: _child_bearing(c, c.policy),
    "overweight": lambda c: h.overweight(
        c["overweightOnRecord"], c["weight"], c["height"], c["bmi"], c.record
    ),
    "baselineMissing": lambda c: h.lacking(c, _BASELINE),
    "egfrMissing": lambda c: h.lacking(c, ("creatinine", "height")),
    **together(_schedule, "visit", "visitState", "lipidVisit", "lipidState", "bkState"),
    "countedFrom": _counted_from,
    "repeatDue": lambda c: repeat_due(c.record, c.draft.drug, c.course, c.policy),
    "bkConcern": bk_concern,
}
