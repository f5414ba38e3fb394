"""The facts behind screening, contraindications, thresholds and monitoring, for one drug and one course."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from itertools import pairwise

from guideline import history as h
from guideline.derive import NO, YES, Course
from guideline.facts import vocabulary
from guideline.policy import Policy
from guideline.record import Draft, Record
from guideline.schedule import NOT_DUE, schedule_facts
from guideline.tables import Tables
from guideline.values import Cause, Doubtful, Fact, Interval, Known, Missing, Reason

Facts = dict[str, Fact]
_BASELINE = ("haemoglobin", "neutrophils", "lymphocytes", "alt", "ast", "bilirubin", "creatinine")


def watch_facts(
    record: Record, facts: Facts, draft: Draft, course: Course, policy: Policy, tables: Tables
) -> Facts:
    """Every derived fact that needs no dose row."""
    at_start = not h.is_no(facts["starting"])
    window = policy.freshness.bloods_at_start if at_start else policy.freshness.bloods_on_treatment
    found: Facts = {}
    found |= _answers(record, policy)
    found |= _multiples(record, window, policy)
    found |= _blood_histories(record, course, window, policy, tables)
    found["ending"] = h.flag(draft.ending)
    found["temperature"] = _recent(facts["temperature"], record, policy)
    both = {**facts, **found}
    found |= _conditions(record, both, policy)
    found |= _vaccinations(record, {**both, **found})
    found |= _medicines(record, {**both, **found}, draft)
    found["biologicUse"] = h.biologic_use(facts["biologic"], record, policy)
    found["antibiotic"] = h.without(facts["antibiotic"], facts["prophylaxis"])
    found["vzvDisease"] = _vzv_disease(facts)
    found["fever"] = _fever(both, policy)
    found["childBearing"] = _child_bearing(facts, policy)
    found["overweight"] = h.overweight(
        facts["overweightOnRecord"], facts["weight"], facts["height"], facts["bmi"], record
    )
    found["baselineMissing"] = h.lacking(facts, _BASELINE)
    found["egfrMissing"] = h.lacking(facts, ("creatinine", "height"))
    escalates = draft.drug == "baricitinib" and facts["indication"] != Known("jia")
    clock = clock_of(record, draft.drug, course, escalates=escalates)
    found |= schedule_facts(record, draft.drug, course, clock, policy)
    return found


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
            else h.flag(indication.value == "interferonopathy"),
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
    own = sorted(
        (o for o in record.orders if o.drug == drug and o.start is not None and o.start <= record.on),
        key=lambda o: o.start or date.min,
    )
    clock = course.start
    for before, after in pairwise(own):
        if before.dose.regimen is None or after.dose.regimen is None or after.start is None:
            continue
        if after.dose.regimen.mg_per_day > before.dose.regimen.mg_per_day:
            clock = max(clock, after.start)
    return clock


def _answers(record: Record, policy: Policy) -> Facts:
    windows = {
        "tbTest": "screening.tb",
        "chestXray": "screening.tb",
        "pregnancyTest": "screening.pregnancy_test",
    }
    names = [name for name, kind in vocabulary().items() if kind.read_from == ("answers",)]
    return {
        name: h.answer(record, name, policy.days(windows[name]) if name in windows else None)
        for name in names
    }


def _multiples(record: Record, window: int, policy: Policy) -> Facts:
    found = {
        f"{name}TimesUpper": h.times_upper(name, record, window, policy)
        for name in ("alt", "ast", "bilirubin", "ck")
    }
    for beside in ("alt", "ast"):
        found[f"bilirubinBeside{beside.capitalize()}"] = h.times_upper_beside(
            "bilirubin", beside, record, window, policy.days("monitoring.set_within"), policy
        )
    found["resultOutOfRange"] = h.outside_range(("whiteCells", "platelets", "alt", "ast"), record, policy)
    found["cholesterolRaised"] = h.raised("cholesterol", record, policy)
    found["triglyceridesRaised"] = h.raised("triglycerides", record, policy)
    return found


def _blood_histories(record: Record, course: Course, window: int, policy: Policy, tables: Tables) -> Facts:
    found: Facts = {}
    for name, table in (("lymphocytes", "TOFA-ALC"), ("neutrophils", "TOFA-ANC")):
        limits = tables.limits_in(table, name)
        found[f"{name}Persist"] = h.persists(name, record, limits)
        found[f"{name}RepeatLate"] = h.repeat_late(name, record, policy)
    found["haemoglobinFall"] = h.haemoglobin_fall(record, course, window, policy)
    found["haemoglobinFallFromLast"] = h.haemoglobin_fall_from_last(record)
    found |= h.renal_facts(record, course, policy)
    return found


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
        measured = h.flag(hot, temperature.evidence if hot else ())
    return h.any_of((facts["feverOnRecord"], measured))


def _female(facts: Facts) -> bool:
    sex = facts["sex"]
    return not (isinstance(sex, Known) and sex.value == "male")


def _conditions(record: Record, facts: Facts, policy: Policy) -> Facts:
    found: Facts = {}
    culture = h.says(facts["tbCulture"], "positive")
    found["tbActive"] = h.any_of((facts["tbDisease"], culture, h.tb_regimen(record, policy)))
    # A positive test that is older than the screening window still tells of latent tuberculosis (ruling 7).
    ever = h.answer(record, "tbTest")
    infections = (facts["otherInfection"], facts["recognisedInfection"], facts["feverOnRecord"])
    by_vein = h.treated_by_vein(infections, record)
    found["seriousInfection"] = h.any_of((facts["seriousInfection"], by_vein))
    serious = h.any_of((found["seriousInfection"], found["tbActive"]))
    # Unknown conditions leave INF-01 open, and do not silence what fever and neutrophils say by themselves.
    found["infectionUnsaid"] = (
        Doubtful(YES, serious.causes) if isinstance(serious, Missing) else h.flag(h.is_no(serious))
    )
    latent = h.any_of((facts["tbLatentOnRecord"], h.says(ever, "positive")))
    found["tbLatentUntreated"] = _unless(latent, (facts["tbTreatmentCompleted"], found["tbActive"]))
    screened = h.within(facts["tbScreeningDone"], record.on, policy.days("screening.tb"))
    found["tbScreen"] = h.any_of((_settled(facts["tbTest"]), _given(facts["chestXray"]), screened))
    nobody: Fact = Known(NO)
    female = _female(facts)
    found["pregnant"] = _superseded(facts["pregnancyOnRecord"], facts["pregnancyTest"]) if female else nobody
    found["lactating"] = (
        h.any_of((facts["lactationOnRecord"], h.says(facts["lactationStatus"], "positive")))
        if female
        else nobody
    )
    found["smoker"] = h.any_of((facts["smokerOnRecord"], h.says(facts["smokingStatus"], "positive")))
    found["hsvDocumented"] = h.any_of((facts["herpesSimplexEver"], _given(facts["hsvIgg"])))
    urine = (h.says(facts["urineBlood"], "positive"), h.says(facts["urineProtein"], "positive"))
    signs = h.any_of((facts["renalSigns"], facts["renalDeterioration"], *urine))
    # Unknown signs leave the graver row open, and do not silence the milder one, which asks for none.
    found["bkSigns"] = Doubtful(NO, signs.causes) if isinstance(signs, Missing) else signs
    found["jcPositive"] = h.any_of(
        (h.says(facts["jcTest"], "positive"), _found(facts["jcLoad"]), _found(facts["jcUrineLoad"]))
    )
    return found


def _superseded(on_record: Fact, test: Fact) -> Fact:
    """Pregnancy from the conditions, or from the newest test or status; a test alone never takes it back."""
    return h.any_of((on_record, h.says(test, "positive")))


def _given(fact: Fact) -> Fact:
    """Whether a test has been done at all, whatever it showed."""
    if isinstance(fact, Missing):
        return fact
    return h.flag(fact.value != "none", fact.evidence)


def _settled(fact: Fact) -> Fact:
    """Whether a test has been done with a result: one that is neither positive nor negative has to be repeated."""
    if isinstance(fact, Missing):
        return fact
    return h.flag(fact.value not in ("none", "unclear"), fact.evidence)


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


def _vaccinations(record: Record, facts: Facts) -> Facts:
    doses = h.varicella_doses(record)
    return {
        "vaccinationHistory": h.vaccination_history(record),
        "varicellaDoses": doses,
        "vzvNeed": h.vzv_need(facts["vzvIgg"], facts["varicellaEver"], doses),
        "daysSinceLiveVaccine": h.days_since_live(record),
    }


def _medicines(record: Record, facts: Facts, draft: Draft) -> Facts:
    return {
        "contraceptive": _contraceptive(facts),
        "otherJakInhibitor": _other_jak(record, facts["jakBackground"], draft),
    }


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
    return h.flag(bool(others), others)


def _child_bearing(facts: Facts, policy: Policy) -> Fact:
    if not _female(facts):
        return Known(NO)
    age = facts["age"]
    if isinstance(age, Missing):
        return age
    assert isinstance(age.value, Interval)
    limit = Decimal(policy.number("child_bearing_age"))
    oldest = age.value.high
    old_enough = oldest is not None and oldest >= limit
    return h.flag(old_enough, (*facts["sex"].evidence, *age.evidence) if old_enough else ())
