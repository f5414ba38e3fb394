"""Facts that look back: any source, answers in words, multiples of a limit, persistence, baselines, falls."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import msgspec
import pytest

from guideline import history
from guideline.derive import Course
from guideline.examples import Results, ordered_dose
from guideline.policy import ReferenceRange, load_policy
from guideline.record import Answer, Answers, Birth, Event, Reading, Record, RecordedOrder, Unusable
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

TODAY = date(2026, 3, 2)
POLICY = load_policy()
D = Decimal
YES, NO = Known("yes"), Known("no")
UNKNOWN = Missing.of("conditions", Reason.FAILED)
DOUBTED = Doubtful("yes", (Cause("conditions", Reason.STALE),))
LIMITS = (D("0.75"), D("0.5"))


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def reading(number: str, days: int = 0, **more: object) -> Reading:
    value = Interval.exactly(D(number))
    return Reading(value, ago(days), f"Observation/{number}-{days}", **more)  # type: ignore[arg-type]


def below(number: str, days: int = 0) -> Reading:
    return Reading(Interval(None, D(number), high_open=True), ago(days), f"Observation/below-{days}")


def above(number: str, days: int = 0) -> Reading:
    return Reading(Interval(D(number), None, low_open=True), ago(days), f"Observation/above-{days}")


def results(*readings: Reading | Unusable, gap: Reason | None = None) -> Results:
    return Results(readings, gap)


def record(**series: Results) -> Record:
    born = date(2017, 1, 1)
    return Record(
        TODAY, Birth(born, born, "Patient/child", "2017-01-01"), Known("female"), series, {}, (), ()
    )


def course(days: int | None) -> Course:
    start = None if days is None else ago(days)
    order = RecordedOrder(
        "tofacitinib", True, start, None, ordered_dose("4 mg twice daily"), "MedicationRequest/1"
    )
    return Course(order, start, starting=False)


# --- yes from any source ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ((NO, YES, UNKNOWN), YES),
        ((NO, DOUBTED, UNKNOWN), DOUBTED),
        ((NO, UNKNOWN), Missing(UNKNOWN.causes)),
        ((NO, Doubtful("no", DOUBTED.causes)), Missing(DOUBTED.causes)),
        ((NO, NO), NO),
        ((), NO),
    ],
    ids=["one yes", "a doubtful yes", "an unknown one", "a doubtful no", "all no", "none at all"],
)
def test_yes_from_any_source(facts: tuple[Fact, ...], found: Fact) -> None:
    assert history.any_of(facts) == found


# --- tests that answer in words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "window", "found"),
    [
        (None, None, Missing.of("tbScreen", Reason.NOT_SUPPLIED)),
        (Answers((), None), None, Known("none")),
        (Answers((), Reason.FAILED), None, Missing.of("tbScreen", Reason.FAILED)),
        (Answers((Answer("negative", ago(366), "Observation/1"),), None), 365, Known("none")),
    ],
    ids=["not supplied", "searched, nothing found", "search failed", "older than its window"],
)
def test_an_answer_that_is_not_there(answers: Answers | None, window: int | None, found: Fact) -> None:
    asked = replace(record(), answers={} if answers is None else {"tbTest": answers})
    assert history.answer(asked, "tbTest", window) == found


def test_the_newest_answer_counts() -> None:
    newer, older = Answer("positive", ago(1), "Observation/2"), Answer("negative", ago(9), "Observation/1")
    found = history.answer(
        replace(record(), answers={"tbTest": Answers((newer, older), None)}), "tbTest", 365
    )
    assert found == Known("positive", (Evidence("tbScreen", "positive", on=ago(1), source="Observation/2"),))


def test_a_newer_answer_may_lie_in_what_did_not_come() -> None:
    """So the one that came says yes with a doubt, and never no (ruling 18)."""
    answers = {"tbTest": Answers((Answer("positive", ago(3), "Observation/igra"),), Reason.PARTIAL_PAGE)}
    found = history.answer(replace(record(), answers=answers), "tbTest")
    cause = Cause("tbScreen", Reason.PARTIAL_PAGE)
    assert isinstance(found, Doubtful)
    assert (found.value, found.causes) == ("positive", (cause,))
    assert history.says(found, "positive") == Known("yes", found.evidence)
    assert history.says(found, "negative") == Missing((cause,), found.evidence)


def test_a_biologic_whose_end_is_near_is_a_switch() -> None:
    taken = Known("yes", (Evidence("medications", "adalimumab", source="MedicationRequest/1"),))
    ends = (Event(frozenset({"adalimumab"}), ago(-10), "MedicationRequest/1"),)
    found = history.biologic_use(taken, replace(record(), ends=ends), POLICY)
    assert isinstance(found, Known)
    assert found.value == "switching"
    assert history.biologic_use(taken, record(), POLICY) == Known("combined", taken.evidence)


def test_a_result_of_another_time_of_the_day_contradicts_nothing() -> None:
    later, earlier = reading("12", moment="2026-03-02T17:00:00"), reading("9", moment="2026-03-02T08:00:00")
    child = record(haemoglobin=results(later, earlier))
    assert history.of_one_day("haemoglobin", child, later) == (later,)
    assert history.worst_first("haemoglobin", child, highest=False)[0] == (later,)


def test_of_results_of_one_moment_the_worst_stands_first() -> None:
    one, other = reading("12"), reading("9")
    child = record(haemoglobin=results(one, other))
    assert history.worst_first("haemoglobin", child, highest=False)[0] == (other, one)
    assert history.worst_first("haemoglobin", child, highest=True)[0] == (one, other)


# --- lists -------------------------------------------------------------------------------------------------

SCREENED = Known("yes", (Evidence("procedures", "chest X-ray", on=ago(365), source="Procedure/1"),))


@pytest.mark.parametrize(
    ("fact", "window", "value"),
    [(SCREENED, 365, "yes"), (SCREENED, 364, "no"), (YES, 1, "yes"), (NO, 1, "no")],
)
def test_an_entry_counts_within_its_window(fact: Known, window: int, value: str) -> None:
    found = history.within(fact, TODAY, window)
    assert isinstance(found, Known)
    assert found.value == value


def test_a_medicine_that_is_another_kind_too_does_not_count_twice() -> None:
    one = Known("yes", (Evidence("medications", "isoniazid", source="MedicationRequest/1"),))
    two = Known("yes", (*one.evidence, Evidence("medications", "amoxicillin", source="MedicationRequest/2")))
    assert history.without(one, one) == NO
    assert history.without(two, one) == Known("yes", two.evidence[1:])
    assert history.without(YES, one) == YES
    assert history.without(one, NO) == one


# --- multiples of the upper limit ---------------------------------------------------------------------------


def test_the_laboratorys_own_limit_comes_before_site_policy() -> None:
    policy = replace(POLICY, reference_ranges={"alt": ReferenceRange(None, D(20))})
    own = record(alt=results(reading("60", high=D(40))))
    bare = record(alt=results(reading("60")))
    assert _value(history.times_upper("alt", own, 98, policy)) == Interval.exactly(D("1.5"))
    assert _value(history.times_upper("alt", bare, 98, policy)) == Interval.exactly(D(3))


def test_without_any_upper_limit_there_is_no_multiple() -> None:
    found = history.times_upper("alt", record(alt=results(reading("60"))), 98, POLICY)
    assert isinstance(found, Missing)
    assert [cause.reason for cause in found.causes] == [Reason.UNREADABLE]
    assert isinstance(
        history.times_upper("alt", record(alt=results(reading("60", high=D(0)))), 98, POLICY), Missing
    )


def test_a_bound_gives_a_bounded_multiple() -> None:
    limit = D(40)
    low = msgspec.structs.replace(below("20"), high=limit)
    high = msgspec.structs.replace(above("200"), high=limit)
    assert _value(history.times_upper("alt", record(alt=results(low)), 98, POLICY)).high == D("0.5")
    assert _value(history.times_upper("alt", record(alt=results(high)), 98, POLICY)).low == D(5)


def test_a_multiple_grows_old() -> None:
    old = record(alt=results(reading("60", 99, high=D(40))))
    assert isinstance(history.times_upper("alt", old, 99, POLICY), Known)
    assert isinstance(history.times_upper("alt", old, 98, POLICY), Doubtful)


@pytest.mark.parametrize(("days", "kind"), [(7, Known), (8, Doubtful)])
def test_bilirubin_is_read_with_alt_of_the_same_week(days: int, kind: type) -> None:
    asked = record(
        alt=results(reading("121", high=D(40))), bilirubin=results(reading("41", days, high=D(20)))
    )
    found = history.times_upper_beside("bilirubin", "alt", asked, 98, 7, POLICY)
    assert isinstance(found, kind)
    assert _value(found) == Interval.exactly(D("2.05"))


def test_bilirubin_without_alt_stands_for_itself() -> None:
    asked = record(alt=results(), bilirubin=results(reading("41", high=D(20))))
    assert isinstance(history.times_upper_beside("bilirubin", "alt", asked, 98, 7, POLICY), Known)


def test_an_old_bilirubin_far_from_alt_has_both_reasons() -> None:
    asked = record(alt=results(reading("121", high=D(40))), bilirubin=results(reading("41", 99, high=D(20))))
    found = history.times_upper_beside("bilirubin", "alt", asked, 98, 7, POLICY)
    assert isinstance(found, Doubtful)
    assert [cause.reason for cause in found.causes] == [Reason.STALE, Reason.STALE]


@pytest.mark.parametrize(
    ("reading_", "found"),
    [
        (reading("6", high=D(5)), "yes"),
        (reading("5", high=D(5)), "no"),
        (reading("2", low=D(3), high=D(5)), "no"),
        (reading("2", normal=False), "no"),
        (reading("6"), None),
    ],
    ids=["above", "on the limit", "below the range", "abnormal without a limit", "no range"],
)
def test_raised(reading_: Reading, found: str | None) -> None:
    said = history.raised("cholesterol", record(cholesterol=results(reading_)), POLICY)
    assert (None if isinstance(said, Missing) else said.value) == found


def test_what_was_not_measured_is_not_raised_nor_normal() -> None:
    assert history.raised("cholesterol", record(), POLICY) == Missing.of("cholesterol", Reason.NOT_SUPPLIED)


def _value(fact: Fact) -> Interval:
    assert not isinstance(fact, Missing)
    assert isinstance(fact.value, Interval)
    return fact.value


# --- persistence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ((), "no"),
        ((reading("0.75"),), "no"),
        ((reading("0.75"), reading("0.75", 1)), "yes"),
        ((reading("0.7"), reading("0.7")), "no"),
        ((reading("0.7"), reading("1.5"), reading("0.7", 1)), "yes"),
        ((reading("0.7"), reading("0.76", 1), reading("0.7", 2)), "no"),
        ((reading("0.5"), reading("0.6", 1)), "no"),
        ((reading("0.6"), reading("0.4", 1)), "yes"),
        ((reading("0.8"), reading("0.4", 1)), "no"),
        ((below("0.5"), below("0.5", 7)), "yes"),
        ((above("0.4"), reading("0.4", 7)), "no"),
        ((reading("0.4"), above("0.4", 7)), "no"),
    ],
    ids=[
        "nothing on record",
        "one result",
        "two results on different days",
        "two results of one day",
        "a normal one of the same day does not count",
        "a normal one between",
        "very low for the first time",
        "very low before counts for the row above",
        "normal now",
        "two bounds",
        "no upper bound now",
        "no upper bound before",
    ],
)
def test_persistence(readings: tuple[Reading, ...], found: str) -> None:
    asked = record(lymphocytes=results(*readings))
    said = history.persists("lymphocytes", asked, LIMITS)
    assert isinstance(said, Known)
    assert said.value == found


def test_persistence_is_open_where_earlier_results_may_be_lacking() -> None:
    asked = record(lymphocytes=results(reading("0.7"), gap=Reason.PARTIAL_PAGE))
    found = history.persists("lymphocytes", asked, LIMITS)
    assert isinstance(found, Doubtful)
    assert found.value == "no"
    assert found.causes[0].reason is Reason.PARTIAL_PAGE


@pytest.mark.parametrize(("days", "value"), [(7, "no"), (8, "yes")])
def test_the_repeat_is_overdue_on_the_eighth_day(days: int, value: str) -> None:
    found = history.repeat_late("lymphocytes", record(lymphocytes=results(reading("0.4", days))), POLICY)
    assert isinstance(found, Known)
    assert found.value == value
    assert history.repeat_late("lymphocytes", record(), POLICY) == NO


# --- against the time before treatment -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "baseline"),
    [(60, "13"), (61, "13"), (150, "13"), (151, "12"), (59, "13"), (183, "12")],
    ids=["day of the start", "day before", "90 days before", "91 days before", "on treatment", "long before"],
)
def test_baseline_of_a_course_of_sixty_days(days: int, baseline: str) -> None:
    asked = record(haemoglobin=results(reading("11"), reading("12", 20), reading("13", days)))
    found = history.baseline("haemoglobin", asked, course(60), POLICY, highest=True)
    assert found is not None
    assert found.value.exact == D(baseline)


@pytest.mark.parametrize(("days", "baseline"), [(183, "13"), (184, "12")])
def test_without_a_start_the_last_half_year_counts(days: int, baseline: str) -> None:
    asked = record(haemoglobin=results(reading("11"), reading("12", 20), reading("13", days)))
    found = history.baseline("haemoglobin", asked, course(None), POLICY, highest=True)
    assert found is not None
    assert found.value.exact == D(baseline)


def test_of_creatinine_the_lowest_counts() -> None:
    asked = record(creatinine=results(reading("60"), reading("40", 20), reading("50", 40)))
    found = history.baseline("creatinine", asked, course(None), POLICY, highest=False)
    assert found is not None
    assert found.value.exact == D(40)


def test_a_fall_needs_two_exact_values() -> None:
    only_bound = record(haemoglobin=results(below("9")))
    assert isinstance(history.haemoglobin_fall(only_bound, course(60), 98, POLICY), Missing)
    bound_now = record(haemoglobin=results(below("9"), reading("13", 70)))
    assert isinstance(history.haemoglobin_fall(bound_now, course(60), 98, POLICY), Missing)
    bound_before = record(haemoglobin=results(reading("9"), above("13", 70)))
    assert isinstance(history.haemoglobin_fall(bound_before, course(60), 98, POLICY), Missing)
    assert history.haemoglobin_fall(record(), course(60), 98, POLICY) == Missing.of(
        "haemoglobin", Reason.NOT_SUPPLIED
    )


@pytest.mark.parametrize(
    ("days", "note"),
    [(61, "before treatment"), (60, "before treatment"), (30, "highest of the last months on treatment")],
)
def test_the_card_says_which_baseline_it_was(days: int, note: str) -> None:
    asked = record(haemoglobin=results(reading("11"), reading("13", days)))
    found = history.haemoglobin_fall(asked, course(60), 98, POLICY)
    assert isinstance(found, Known)
    assert found.value == Interval.exactly(D(2))
    assert found.evidence[1].note == note


@pytest.mark.parametrize(
    ("readings", "fall"),
    [
        ((), "0"),
        ((reading("11"),), "0"),
        ((reading("11"), reading("13")), "0"),
        ((reading("11"), reading("13", 1)), "2"),
        ((reading("11"), above("13", 1)), "0"),
        ((below("11"), reading("13", 1)), "0"),
    ],
    ids=["none", "one", "same day", "two days", "a bound before", "a bound now"],
)
def test_fall_from_the_previous_result(readings: tuple[Reading, ...], fall: str) -> None:
    found = history.haemoglobin_fall_from_last(record(haemoglobin=results(*readings)))
    assert _value(found) == Interval.exactly(D(fall))


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ((reading("60"), reading("40", 70)), "yes"),
        ((reading("53.34"), reading("40", 70)), "yes"),
        ((reading("53.33"), reading("40", 70)), "no"),
        ((reading("60"),), "no"),
        ((above("60"), reading("40", 70)), "no"),
        ((reading("60"), below("40", 70)), "no"),
        ((above("60"),), "no"),
    ],
)
def test_worse_renal_function(readings: tuple[Reading, ...], found: str) -> None:
    said = history.renal_facts(record(creatinine=results(*readings)), course(60), POLICY)[
        "renalDeterioration"
    ]
    assert isinstance(said, Known)
    assert said.value == found


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        ((reading("60"), reading("40", 70)), "yes"),
        ((reading("59.99"), reading("40", 70)), "no"),
        ((reading("60"),), "no"),
        ((above("60"), reading("40", 70)), "no"),
    ],
)
def test_rising_creatinine(readings: tuple[Reading, ...], found: str) -> None:
    """Half as much again, and not yet where only the eGFR has fallen by a quarter (A-53)."""
    said = history.renal_facts(record(creatinine=results(*readings)), course(60), POLICY)["creatinineRising"]
    assert isinstance(said, Known)
    assert said.value == found


def test_renal_function_without_creatinine() -> None:
    found = history.renal_facts(record(), course(60), POLICY)
    missing = Missing.of("creatinine", Reason.NOT_SUPPLIED)
    assert found == {"renalDeterioration": missing, "creatinineRising": missing}


# --- vaccinations --------------------------------------------------------------------------------------------


def test_a_live_vaccine_without_its_date_leaves_the_count_open() -> None:
    dated = Event(frozenset({"mmr-vaccine"}), ago(30), "Immunization/1")
    undated = Event(frozenset({"mmr-vaccine"}), None, "Immunization/2")
    both = history.days_since_live(replace(record(), vaccinations=(dated, undated), vaccinations_gap=()))
    assert isinstance(both, Doubtful)
    assert both.value == Interval.exactly(D(30))
    one = history.days_since_live(replace(record(), vaccinations=(dated,), vaccinations_gap=()))
    assert isinstance(one, Known)
    assert isinstance(
        history.days_since_live(replace(record(), vaccinations=(undated,), vaccinations_gap=())), Missing
    )
    assert isinstance(history.days_since_live(record()), Missing)


def test_vaccinations_that_were_not_supplied_are_unknown() -> None:
    assert history.vaccination_history(record()) == Missing.of("immunizations", Reason.NOT_SUPPLIED)
    assert history.varicella_doses(record()) == Missing.of("immunizations", Reason.NOT_SUPPLIED)
    assert history.vaccination_history(replace(record(), vaccinations_gap=())) == NO


def test_an_incomplete_list_of_vaccinations_may_hold_a_later_one() -> None:
    old = Event(frozenset({"mmr-vaccine"}), ago(400), "Immunization/1")
    gap = (Cause("immunizations", Reason.PARTIAL_PAGE),)
    found = history.days_since_live(replace(record(), vaccinations=(old,), vaccinations_gap=gap))
    assert isinstance(found, Doubtful) and found.causes == gap
    assert isinstance(
        history.days_since_live(replace(record(), vaccinations=(old,), vaccinations_gap=())), Known
    )


def test_an_incomplete_list_of_vaccinations_may_hold_the_second_dose() -> None:
    def doses(count: int, gap: tuple[Cause, ...]) -> Fact:
        given = tuple(
            Event(frozenset({"varicella-vaccine"}), ago(400 + n), f"Immunization/{n}") for n in range(count)
        )
        return history.varicella_doses(replace(record(), vaccinations=given, vaccinations_gap=gap))

    gap = (Cause("immunizations", Reason.PARTIAL_PAGE),)
    assert doses(1, gap) == Missing(gap)
    assert doses(1, ()) == Known(Interval.exactly(D(1)))
    assert doses(2, gap) == Known(Interval.exactly(D(2)))
