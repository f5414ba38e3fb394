"""When monitoring is due: days after the start, complete sets, lipids, BK and JC virus (ruling 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline.derive import Course
from guideline.examples import Results, ordered_dose
from guideline.policy import load_policy
from guideline.record import Birth, Reading, Record, RecordedOrder, Unusable
from guideline.schedule import due_dates, newest_set, plan_of, schedule_facts
from guideline.values import Cause, Doubtful, Fact, Interval, Known, Missing, Reason

TODAY = date(2026, 3, 2)
POLICY = load_policy()


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def taken(*days: int, gap: Reason | None = None) -> Results:
    return Results(
        tuple(Reading(Interval.exactly(Decimal(1)), ago(day), f"Observation/{day}") for day in days), gap
    )


def record(drug: str, *days: int, **series: Results) -> Record:
    """A child whose complete sets, lipids and virus loads were all taken on these days."""
    plan = plan_of(drug)
    assert plan is not None
    names = (*plan.needed, *plan.viruses, "cholesterol", "triglycerides")
    born = date(2017, 1, 1)
    found = {**{name: taken(*days) for name in names}, **series}
    return Record(TODAY, Birth(born, born, "Patient/child", "2017-01-01"), Known("female"), found, {}, (), ())


def course(days: int | None, drug: str = "baricitinib") -> Course:
    start = None if days is None else ago(days)
    order = RecordedOrder(drug, True, start, None, ordered_dose("4 mg once daily"), "MedicationRequest/1")
    return Course(order, start, starting=False)


def asked(child: Record, days: int | None, drug: str = "baricitinib") -> dict[str, Fact]:
    run = course(days, drug)
    return schedule_facts(child, drug, run, run.start, POLICY)


def words(facts: Mapping[str, Fact], *names: str) -> tuple[object, ...]:
    return tuple(None if isinstance(fact := facts[name], Missing) else fact.value for name in names)


# --- the plan --------------------------------------------------------------------------------------------


def test_the_due_dates_of_a_course() -> None:
    start = date(2026, 1, 1)
    days = {name: (on - start).days for name, on in due_dates("baricitinib", start, POLICY).items()}
    assert days == {
        "week-2": 14,
        "week-4": 28,
        "week-8": 56,
        "week-12": 84,
        "interval": 168,
        "lipids": 56,
        "viruses": 84,
    }
    days = {name: (on - start).days for name, on in due_dates("tofacitinib", start, POLICY).items()}
    assert days == {"week-6": 42, "week-12": 84, "interval": 168, "lipids": 42}


def test_ruxolitinib_has_no_plan() -> None:
    assert plan_of("ruxolitinib") is None
    assert due_dates("ruxolitinib", TODAY, POLICY) == {}
    child = record("baricitinib", 0)
    facts = schedule_facts(child, "ruxolitinib", course(300, "ruxolitinib"), ago(300), POLICY)
    assert words(facts, "visit", "visitState", "lipidState", "bkState") == (
        "none",
        "not-due",
        "not-due",
        "not-due",
    )


def test_nothing_is_due_without_a_running_course() -> None:
    facts = schedule_facts(
        record("baricitinib"), "baricitinib", Course(None, None, starting=True), None, POLICY
    )
    assert words(facts, "visit", "visitState") == ("none", "not-due")


# --- a complete set -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "found"),
    [
        (((0,), (0,)), 0),
        (((0,), (7,)), 0),
        (((0,), (8,)), None),
        (((0, 20), (8, 14)), 14),
        (((0, 20), (30, 20)), 20),
        (((0,), ()), None),
    ],
    ids=[
        "one day",
        "7 days apart",
        "8 days apart",
        "an older pair 6 days apart",
        "an older day",
        "one lacking",
    ],
)
def test_the_newest_complete_set(days: tuple[tuple[int, ...], tuple[int, ...]], found: int | None) -> None:
    one, other = ([ago(day) for day in each] for each in days)
    assert newest_set({"alt": one, "ast": other}, 7) == (None if found is None else ago(found))


DAYS = st.lists(st.integers(0, 60), max_size=4)


@given(DAYS, DAYS, st.integers(0, 60))
def test_a_further_result_never_makes_the_newest_set_older(
    one: list[int], other: list[int], more: int
) -> None:
    dates = {"alt": [ago(day) for day in one], "ast": [ago(day) for day in other]}
    before, after = newest_set(dates, 7), newest_set({**dates, "alt": [*dates["alt"], ago(more)]}, 7)
    assert before is None or (after is not None and after >= before)


# --- visits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "sets", "visit", "state"),
    [
        (13, (), "week-2", "not-due"),
        (14, (), "week-2", "due"),
        (28, (), "week-2", "due"),
        (29, (), "week-2", "overdue"),
        (14, (7,), "week-4", "not-due"),
        (14, (8,), "week-2", "due"),
        (56, (30,), "week-8", "due"),
        (85, (8,), "interval", "not-due"),
        (300, (83,), "interval", "not-due"),
        (300, (84,), "interval", "due"),
        (300, (98,), "interval", "due"),
        (300, (99,), "interval", "overdue"),
        (300, (301,), "week-2", "overdue"),
    ],
)
def test_the_visit_that_is_next(start: int, sets: tuple[int, ...], visit: str, state: str) -> None:
    assert words(asked(record("baricitinib", *sets), start), "visit", "visitState") == (visit, state)


@pytest.mark.parametrize(
    ("sets", "state"), [((), "overdue"), ((83,), "not-due"), ((84,), "due"), ((99,), "overdue")]
)
def test_an_unknown_start_is_judged_by_the_newest_set_alone(sets: tuple[int, ...], state: str) -> None:
    facts = asked(record("baricitinib", *sets), None)
    assert words(facts, "visit", "visitState") == ("interval", state)
    cause = Cause("courseStart", Reason.ABSENT, "the start of the course is not on record")
    assert isinstance(facts["visitState"], Doubtful)
    assert facts["visitState"].causes == (cause,)


def test_an_analyte_that_was_not_delivered_leaves_the_visit_open() -> None:
    facts = asked(record("baricitinib", 10, esr=taken(gap=Reason.FAILED)), 60)
    assert facts["visit"] == facts["visitState"] == Missing((Cause("esr", Reason.FAILED),))


def test_results_that_cannot_be_used_are_passed_over() -> None:
    bad = Unusable(Reason.UNUSABLE_UNIT, ago(0), "Observation/bad", "invented")
    esr = Results((bad, *taken(10)))
    assert words(asked(record("baricitinib", 10, esr=esr), 20), "visit") == ("week-4",)


# --- lipids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drug", "start", "lipids", "state"),
    [
        ("baricitinib", 55, (), "not-due"),
        ("baricitinib", 56, (), "due"),
        ("baricitinib", 84, (), "due"),
        ("baricitinib", 85, (), "overdue"),
        ("baricitinib", 85, (50,), "not-due"),
        ("baricitinib", 85, (51,), "overdue"),
        ("baricitinib", 300, (250,), "not-due"),
        ("tofacitinib", 41, (), "not-due"),
        ("tofacitinib", 42, (), "due"),
        ("tofacitinib", 85, (), "overdue"),
        ("tofacitinib", 300, (83,), "not-due"),
        ("tofacitinib", 300, (98,), "due"),
        ("tofacitinib", 300, (99,), "overdue"),
    ],
)
def test_lipids(drug: str, start: int, lipids: tuple[int, ...], state: str) -> None:
    child = record(drug, 0, cholesterol=taken(*lipids), triglycerides=taken(*lipids))
    assert words(asked(child, start, drug), "lipidState") == (state,)


def test_lipids_of_an_unknown_start_and_a_failed_search() -> None:
    assert isinstance(asked(record("baricitinib", 0), None)["lipidState"], Doubtful)
    lost = record("baricitinib", 0, cholesterol=taken(gap=Reason.FAILED))
    assert asked(lost, 60)["lipidState"] == Missing((Cause("cholesterol", Reason.FAILED),))


# --- BK and JC virus --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "loads", "state"),
    [
        (83, (), "not-due"),
        (84, (), "due"),
        (98, (), "due"),
        (99, (), "overdue"),
        (300, (83,), "not-due"),
        (300, (84,), "due"),
        (300, (98,), "due"),
        (300, (99,), "overdue"),
        (90, (91,), "due"),
        (None, (), "overdue"),
        (None, (84,), "due"),
    ],
)
def test_virus_screening(start: int | None, loads: tuple[int, ...], state: str) -> None:
    child = record("baricitinib", 0, jcUrineLoad=taken(*loads))
    assert words(asked(child, start), "bkState") == (state,)


def test_virus_screening_that_was_not_delivered() -> None:
    child = record("baricitinib", 0)
    lost = {name: series for name, series in child.series.items() if name != "jcLoad"}
    facts = asked(Record(TODAY, child.birth, child.sex, lost, {}, (), ()), 300)
    assert facts["bkState"] == Missing((Cause("jcLoad", Reason.NOT_SUPPLIED),))


def test_tofacitinib_asks_for_no_virus_screening() -> None:
    assert words(asked(record("tofacitinib", 0), 300, "tofacitinib"), "bkState") == ("not-due",)
