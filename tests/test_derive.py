"""Facts made from facts: ages, results, eGFR, the course of treatment, and the draft against the row."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline import growth_reference
from guideline.assess import _joined, rules
from guideline.derive import (
    Course,
    GivenFacts,
    OrderFacts,
    Supposed,
    bound_text,
    completed_years,
    course_of,
    egfr,
    egfr_disagrees,
    egfr_interval,
    egfr_lowest,
    egfr_sum,
    inside_range,
    measurement,
    newest,
)
from guideline.doses import Administration, Regimen, When
from guideline.dosing import compare, per_kg, verdict_of
from guideline.evaluate import HOLDS, ask_at_once, ask_row, trials
from guideline.examples import Example, Results, ordered_dose, read_examples, regimen_in_words
from guideline.facts import vocabulary
from guideline.findings import Finding, Kind, Origin, Outcome, Severity, Verdict
from guideline.policy import Policy, load_policy
from guideline.record import Birth, Reading, Record, RecordedOrder, Unusable
from guideline.tables import load_tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason

TODAY = date(2026, 3, 2)
POLICY = load_policy()
D = Decimal


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def exactly(number: str) -> Interval:
    return Interval.exactly(D(number))


def reading(number: str, days: int = 0, source: str = "Observation/1", **more: object) -> Reading:
    return Reading(exactly(number), ago(days), source, **more)  # type: ignore[arg-type]


def record(born: date = date(2017, 1, 1), **series: Results) -> Record:
    return Record(
        on=TODAY,
        birth=Birth(born, born, "Patient/child", born.isoformat()),
        sex=Known("female"),
        series=series,
        flags={},
        orders=(),
        orders_gap=(),
    )


# --- age -----------------------------------------------------------------------------------------------

AGES = [
    (date(2017, 3, 2), TODAY, 9),
    (date(2017, 3, 3), TODAY, 8),
    (date(2016, 2, 29), date(2026, 2, 28), 9),
    (date(2016, 2, 29), date(2026, 3, 1), 10),
    (date(2016, 2, 29), date(2028, 2, 29), 12),
    (TODAY, TODAY, 0),
]


@pytest.mark.parametrize(("born", "on", "years"), AGES)
def test_a_child_has_its_birthday_on_the_day_itself(born: date, on: date, years: int) -> None:
    assert completed_years(born, on) == years


# --- results -------------------------------------------------------------------------------------------


def test_the_newest_result_is_taken_and_what_was_passed_over_is_told() -> None:
    spoilt = Unusable(Reason.UNUSABLE_UNIT, ago(1), "Observation/2", "invented")
    found, missing, passed = newest("alt", record(alt=Results((spoilt, reading("20", 3)))))
    assert found == reading("20", 3)
    assert missing is None
    assert passed == (Cause("alt", Reason.UNUSABLE_UNIT, "invented"),)


def test_an_implausible_newest_result_is_never_replaced_by_an_older_one() -> None:
    spoilt = Unusable(Reason.IMPLAUSIBLE, ago(1), "Observation/2", "invented")
    found, missing, _ = newest("alt", record(alt=Results((spoilt, reading("20", 3)))))
    assert found is None
    assert missing == Missing.of("alt", Reason.IMPLAUSIBLE, "invented")


def test_no_results_say_why() -> None:
    assert newest("alt", record())[1] == Missing.of("alt", Reason.NOT_SUPPLIED)
    assert newest("alt", record(alt=Results(())))[1] == Missing.of("alt", Reason.ABSENT)
    assert newest("alt", record(alt=Results((), Reason.FAILED)))[1] == Missing.of("alt", Reason.FAILED)


@pytest.mark.parametrize("gap", [Reason.PARTIAL_PAGE])
def test_a_newest_result_of_a_partial_answer_may_not_be_the_newest(gap: Reason) -> None:
    found, _, passed = newest("alt", record(alt=Results((reading("20"),), gap)))
    assert found == reading("20")
    assert passed == (Cause("alt", gap),)


def test_an_unlikely_weight_that_is_confirmed_says_so_and_may_still_be_old() -> None:
    fresh = measurement(
        "weight", record(weight=Results((reading("86"), reading("85", 10, "Observation/2")))), POLICY
    )
    assert isinstance(fresh, Known)
    assert [e.source for e in fresh.evidence] == ["Observation/1", "Observation/2"]
    assert fresh.evidence[0].note == "unusual for age and sex; confirmed by a second measurement"
    old = Results((reading("86", 91), reading("85", 101, "Observation/2")))
    aged = measurement("weight", record(weight=old), POLICY)
    assert isinstance(aged, Doubtful)
    assert aged.causes[0].reason is Reason.STALE
    assert len(aged.evidence) == 2


def test_the_same_measurement_or_a_spoilt_one_confirms_nothing() -> None:
    spoilt = Unusable(Reason.UNUSABLE_UNIT, ago(1), "Observation/2", "invented")
    found = measurement("weight", record(weight=Results((reading("86"), spoilt, reading("86")))), POLICY)
    assert isinstance(found, Missing)
    assert found.causes[0].reason is Reason.IMPLAUSIBLE


BOUNDED_WEIGHTS = [
    (Interval(None, D("2"), high_open=True), False),
    (Interval(D("120"), None), False),
    (Interval(None, D("30")), True),
    (Interval(D("30"), None), True),
    (Interval(D("29"), D("31")), True),
]


@pytest.mark.parametrize(("value", "usable"), BOUNDED_WEIGHTS)
def test_a_weight_that_is_only_a_bound_is_judged_by_it(value: Interval, usable: bool) -> None:
    found = measurement("weight", record(weight=Results((Reading(value, TODAY, "Observation/1"),))), POLICY)
    assert isinstance(found, Known if usable else Missing)


def test_beyond_the_growth_tables_no_weight_is_unlikely_for_the_age() -> None:
    adult = record(born=date(2000, 1, 1), weight=Results((reading("200"),)))
    assert isinstance(measurement("weight", adult, POLICY), Known)


def test_a_weight_of_before_birth_is_left_to_the_other_checks() -> None:
    found = measurement("weight", record(born=TODAY, weight=Results((reading("3", 1),))), POLICY)
    assert isinstance(found, Known)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(None, D(5), high_open=True), "<5"),
        (Interval(None, D(5)), "<=5"),
        (Interval(D(5), None, low_open=True), ">5"),
        (Interval(D(5), None), ">=5"),
        (Interval(D(5), D(6)), "5 to 6"),
    ],
)
def test_a_bounded_value_keeps_its_comparator(value: Interval, text: str) -> None:
    assert bound_text(value) == text


# --- eGFR ----------------------------------------------------------------------------------------------


def test_the_egfr_of_the_guideline_is_exact() -> None:
    value = egfr_interval(exactly("120"), exactly("36"))
    assert value is not None
    assert value.exact == 120


BOUNDED_EGFR = [
    # creatinine, eGFR at a height of 100 cm
    (Interval(None, D(18), high_open=True), Interval(D(200), None, low_open=True)),
    (Interval(D(18), None), Interval(None, D(200))),
    (Interval(D(18), D(36)), Interval(D(100), D(200))),
    (Interval(None, None), None),
    (exactly("0"), None),
    (Interval(D(0), D(36)), Interval(D(100), None)),
]


@pytest.mark.parametrize(("creatinine", "expected"), BOUNDED_EGFR)
def test_a_bounded_creatinine_gives_a_bounded_egfr(creatinine: Interval, expected: Interval | None) -> None:
    assert egfr_interval(exactly("100"), creatinine) == expected


amounts = st.decimals(min_value=1, max_value=2000, places=1)


@given(amounts, amounts, amounts, st.integers(0, 10))
def test_the_egfr_of_every_creatinine_between_the_bounds_lies_between_theirs(
    height: Decimal, one: Decimal, other: Decimal, tenths: int
) -> None:
    low, high = min(one, other), max(one, other)
    between = low + (high - low) * tenths / 10
    wide = egfr_interval(Interval.exactly(height), Interval(low, high))
    value = egfr_interval(Interval.exactly(height), Interval.exactly(between))
    assert wide is not None and value is not None
    assert wide.low is not None and wide.high is not None and value.exact is not None
    assert wide.low <= value.exact <= wide.high


def fact(number: str, name: str) -> Known:
    return Known(exactly(number), (Evidence(name, D(number), on=TODAY, source=f"Observation/{name}"),))


def test_a_creatinine_without_a_usable_bound_gives_no_egfr() -> None:
    nothing = Known(Interval(None, None), (Evidence("creatinine", "?"),))
    found = egfr(fact("100", "height"), nothing)
    assert isinstance(found, Missing)
    assert [c.fact for c in found.causes] == ["creatinine", "egfr"]
    assert egfr_sum(found) is None


def test_the_sum_is_shown_where_both_inputs_are_exact() -> None:
    shown = egfr_sum(egfr(fact("120", "height"), fact("36", "creatinine")))
    assert shown is not None
    assert (shown.constant, shown.height_cm, shown.creatinine_umol_l, shown.egfr) == (36, 120, 36, 120)
    assert egfr_sum(Known(exactly("90"))) is None
    assert egfr_sum(Known(Interval(D(90), None))) is None


CAUSE = (Cause("creatinine", Reason.STALE),)
LOWEST: list[tuple[Fact, Fact, Fact]] = [
    # calculated, laboratory, for warnings
    (Known(exactly("50")), Missing.of("egfr", Reason.ABSENT), Known(exactly("50"))),
    (Known(exactly("50")), Known(exactly("29")), Known(exactly("29"))),
    (Known(exactly("50")), Known(exactly("50")), Known(exactly("50"))),
    (Known(exactly("50")), Known(exactly("90")), Known(exactly("50"))),
    (Known(exactly("50")), Known(Interval(D(90), None)), Known(exactly("50"))),
    (Known(exactly("50")), Doubtful(exactly("29"), CAUSE), Known(exactly("50"))),
    (Missing(CAUSE), Known(exactly("29")), Doubtful(exactly("29"), CAUSE)),
    (Doubtful(exactly("50"), CAUSE), Known(exactly("29")), Doubtful(exactly("29"), CAUSE)),
    (Known(Interval(None, D(50))), Known(exactly("29")), Known(Interval(None, D(50)))),
]


@pytest.mark.parametrize(("calculated", "laboratory", "expected"), LOWEST)
def test_warnings_go_by_the_lower_egfr(calculated: Fact, laboratory: Fact, expected: Fact) -> None:
    assert egfr_lowest(calculated, laboratory) == expected


DISAGREE: list[tuple[Fact, Fact, Fact]] = [
    (Known(exactly("121")), Known(exactly("120")), Known("yes")),
    (Known(exactly("121")), Known(exactly("300")), Known("no")),
    (Known(exactly("121")), Missing.of("egfr", Reason.ABSENT), Known("no")),
    (Known(exactly("121")), Known(Interval(D(90), None)), Known("no")),
    (Missing(CAUSE), Known(exactly("29")), Missing(CAUSE)),
]


@pytest.mark.parametrize(("calculated", "laboratory", "expected"), DISAGREE)
def test_two_egfrs_disagree_across_a_limit(calculated: Fact, laboratory: Fact, expected: Fact) -> None:
    assert egfr_disagrees(calculated, laboratory, (D(40), D(120))) == expected


# --- reference ranges ----------------------------------------------------------------------------------


def site_policy(tmp_path: Path) -> Policy:
    path = tmp_path / "site.yaml"
    path.write_text("policy: {reference_ranges: {alt: {low: 5, high: 40}}}\n", encoding="utf-8")
    return load_policy(path)


@pytest.mark.parametrize(("number", "inside"), [("4.9", False), ("5", True), ("40", True), ("40.1", False)])
def test_the_range_of_the_site_counts_where_the_laboratory_sends_none(
    tmp_path: Path, number: str, inside: bool
) -> None:
    assert inside_range("alt", reading(number), site_policy(tmp_path)) is inside
    assert inside_range("alt", reading(number), POLICY) is None


def test_the_laboratory_goes_before_the_site(tmp_path: Path) -> None:
    policy = site_policy(tmp_path)
    assert inside_range("alt", reading("60", low=D(1), high=D(100)), policy) is True
    assert inside_range("alt", reading("60", normal=True), policy) is True
    assert inside_range("alt", reading("20", normal=False), policy) is False


# --- the course of treatment ---------------------------------------------------------------------------


def order(
    start: int | None,
    end: int | None = None,
    *,
    active: bool = False,
    drug: str = "baricitinib",
    dose: str = "2/-/2",
) -> RecordedOrder:
    days = [None if at is None else ago(at) for at in (start, end)]
    return RecordedOrder(drug, active, days[0], days[1], ordered_dose(dose), "MedicationRequest/1")


COURSES = [
    ("no order", (), None, True),
    ("an order of another drug only", (order(60, active=True, drug="tofacitinib"),), None, True),
    ("an active order", (order(60, active=True),), 60, False),
    ("an active order of unknown start", (order(None, active=True),), None, False),
    ("an active order that ends in the future", (order(60, -10, active=True),), 60, False),
    ("an order that ended 28 days ago", (order(60, 28),), 60, False),
    ("an order that ended 29 days ago", (order(60, 29),), None, True),
    ("an active order whose recorded end lies 29 days back", (order(60, 29, active=True),), None, True),
    ("an ended order of unknown end", (order(60),), None, True),
    ("an ended order of unknown end, followed by another", (order(200), order(60, active=True)), 200, False),
    ("a gap of 28 days within the run", (order(200, 88), order(60, active=True)), 200, False),
    ("a gap of 29 days within the run", (order(200, 89), order(60, active=True)), 60, False),
    ("an order that begins in the future", (order(-5, active=True),), None, True),
    ("a future order beside a running one", (order(-5, active=True), order(60, active=True)), 60, False),
    (
        "back from another drug within 28 days",
        (order(60, 10), order(10, active=True, drug="tofacitinib")),
        None,
        True,
    ),
    (
        "another drug that began before this one ended",
        (order(60, 10), order(50, active=True, drug="tofacitinib")),
        60,
        False,
    ),
]


@pytest.mark.parametrize(
    ("orders", "start", "starting"), [case[1:] for case in COURSES], ids=[case[0] for case in COURSES]
)
def test_the_course_of_a_drug(orders: tuple[RecordedOrder, ...], start: int | None, starting: bool) -> None:
    course = course_of("baricitinib", orders, TODAY, POLICY.restart_gap)
    assert course.starting is starting
    assert course.start == (None if start is None else ago(start))
    assert (course.running is None) is starting


def test_the_newest_active_order_is_the_running_one() -> None:
    first, second = order(100, active=True, dose="2/-/2"), order(20, active=True, dose="4/-/2")
    course = course_of("baricitinib", (second, first), TODAY, POLICY.restart_gap)
    assert course == Course(second, ago(100), starting=False)


# --- the draft against the row -------------------------------------------------------------------------


def regimen(text: str) -> Regimen:
    found = ordered_dose(text).regimen
    assert found is not None
    return found


SECOND_DAY = Regimen((Administration(D(8), times_per_day=D("0.5")),))
COMPARED = [
    ("4 mg twice daily", "4 mg twice daily", Verdict.MATCH),
    ("4/-/4", "4 mg twice daily", Verdict.MATCH),
    ("8 mg once daily", "4 mg twice daily", Verdict.SCHEDULE),
    ("5 mg twice daily", "4 mg twice daily", Verdict.OVER),
    ("3.2 mg twice daily", "4 mg twice daily", Verdict.UNDER),
    ("4 mg twice daily", "4/-/4", Verdict.MATCH),
    ("2 mg three times daily", "2/2/2", Verdict.MATCH),
    ("2/-/4", "4/-/2", Verdict.SCHEDULE),
    ("6 mg once daily", "4/-/2", Verdict.SCHEDULE),
]


@pytest.mark.parametrize(("draft", "row", "verdict"), COMPARED)
def test_a_draft_against_a_row(draft: str, row: str, verdict: Verdict) -> None:
    assert compare(regimen(draft), regimen(row)) is verdict


def test_every_second_day_is_never_the_row_s_schedule() -> None:
    assert compare(SECOND_DAY, regimen("4 mg once daily")) is Verdict.SCHEDULE
    assert compare(SECOND_DAY, regimen("2/-/2")) is Verdict.SCHEDULE
    assert regimen_in_words(SECOND_DAY) == "8 mg 0.5 times daily"


def test_two_doses_at_one_time_of_day_count_together() -> None:
    twice = Regimen(
        (Administration(D(2), When.MORN), Administration(D(2), When.MORN), Administration(D(2), When.EVE))
    )
    assert compare(twice, regimen("4/-/2")) is Verdict.MATCH


def test_a_draft_without_a_dose_has_its_own_verdict() -> None:
    assert verdict_of(ordered_dose("none"), regimen("4/-/2")) is Verdict.ABSENT
    assert verdict_of(ordered_dose("unreadable"), regimen("4/-/2")) is Verdict.UNREADABLE
    assert verdict_of(ordered_dose("4/-/2"), None) is Verdict.ABSENT


def test_the_dose_per_kg_needs_an_exact_weight() -> None:
    assert per_kg(regimen("4/-/2"), Known(exactly("30"))) == D("0.2")
    assert per_kg(regimen("4/-/2"), Known(Interval(D(30), None))) is None
    assert per_kg(regimen("4/-/2"), Missing.of("weight", Reason.ABSENT)) is None


# --- findings of one statement -------------------------------------------------------------------------


def finding(outcome: Outcome, severity: Severity, source: str) -> Finding:
    return Finding(
        id="TOFA-DOSE-09",
        outcome=outcome,
        severity=severity,
        kind=Kind.ALERT,
        origin=Origin.DERIVED,
        section="5.3",
        drug="tofacitinib",
        order=None,
        say=source,
        rule="always",
        cite="5.3",
        title="Invented",
        evidence=(Evidence("weight", D(20), source=source),),
    )


def test_a_hit_goes_before_what_could_not_be_assessed() -> None:
    hit, unknown = (
        finding(Outcome.HIT, Severity.INFO, "a"),
        finding(Outcome.CANNOT_ASSESS, Severity.WARNING, "b"),
    )
    assert _joined([unknown, hit]) == (hit,)
    assert _joined([hit, unknown]) == (hit,)


def test_the_more_severe_face_speaks_with_the_evidence_of_both() -> None:
    info, warning = finding(Outcome.HIT, Severity.INFO, "a"), finding(Outcome.HIT, Severity.WARNING, "b")
    (joined,) = _joined([info, warning])
    assert joined.say == "b"
    assert [e.source for e in joined.evidence] == ["b", "a"]


# --- facts are worked out when they are asked for ---------------------------------------------------


TABLES = load_tables()
EXAMPLES = read_examples(Path(__file__).with_name("examples"))


def order_facts(example: Example) -> OrderFacts:
    return OrderFacts(example.record, example.draft, TABLES, example.policy, rules())


@pytest.mark.parametrize("example", EXAMPLES[:: len(EXAMPLES) // 20], ids=lambda example: example.name)
def test_a_fact_is_the_same_whenever_it_is_asked_for(example: Example) -> None:
    facts = order_facts(example)
    complete, names = facts.complete(), list(rules())
    for seed in range(5):
        random.Random(seed).shuffle(names)
        asked = order_facts(replace(example, record=replace(example.record)))
        assert {name: asked[name] for name in names} == {name: complete[name] for name in names}


def test_a_fact_that_nobody_asks_for_is_not_worked_out() -> None:
    facts = order_facts(EXAMPLES[0])
    held = set(facts)
    assert not held & set(rules())
    assert facts["egfr"] == facts["egfr"]
    assert set(facts) - held == {"egfr", "height", "creatinine"}


def test_all_facts_are_of_the_vocabulary_and_all_of_it_is_there_but_what_needs_the_dose() -> None:
    later = {"verdict", "reducedDoseNeeded", "singleDoseMg", "equalsEscalationRow", "licensedBandDisagrees"}
    assert set(rules()) <= set(vocabulary())
    assert set(vocabulary()) - set(order_facts(EXAMPLES[0]).complete()) == {
        *later,
        "interruption",
        "startOfRunningOrder",
    }


def test_a_fault_in_a_rule_is_not_taken_for_a_fact_that_nobody_supplied() -> None:
    def faulty(c: OrderFacts) -> Fact:
        return c["noSuchFact"]

    example = EXAMPLES[0]
    broken = {**rules(), "haemoglobin": faulty}
    facts = OrderFacts(example.record, example.draft, TABLES, example.policy, broken)
    low = next(
        trial
        for each in trials(TABLES, "tofacitinib", "first")
        for trial in each.rows
        if trial.names == ("haemoglobin",)
    )
    for ask in (lambda: ask_at_once(low, facts, HOLDS), lambda: ask_row(low.row, facts, {}), facts.complete):
        with pytest.raises(KeyError, match="noSuchFact"):
            ask()


def test_a_fact_that_nobody_supplied_says_so_and_one_that_is_none_is_a_fault() -> None:
    for facts in (GivenFacts(), order_facts(EXAMPLES[0])):
        assert facts["verdict"] == Missing.of("doseDrafted", Reason.NOT_SUPPLIED)
        assert "verdict" not in facts
        with pytest.raises(KeyError):
            facts["noSuchFact"]


def test_supposing_a_fact_leaves_what_was_made_from_it() -> None:
    facts = order_facts(EXAMPLES[0])
    supposed = Supposed(facts, egfr=fact("5", "egfr"))
    assert supposed["egfr"] == fact("5", "egfr") != facts["egfr"]
    assert supposed["egfrLowest"] == facts["egfrLowest"]


# --- what is not known never reads as normal -----------------------------------------------------------


@given(st.data())
def test_a_fact_taken_away_never_turns_a_hit_into_a_clear(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from([r for t in TABLES.all for r in t.rows if r.boxes]))
    facts: dict[str, Fact] = {}
    for name, cell in {name: cell for box in row.boxes for name, cell in box.items()}.items():
        options = getattr(cell, "options", None)
        limit = next(iter(cell.limits), D(1))
        value = (
            data.draw(st.sampled_from(options))
            if options
            else Interval.exactly(limit + data.draw(st.integers(-1, 1)))
        )
        facts[name] = Known(value)
    before = ask_row(row, facts, {}).holds
    taken = data.draw(st.sampled_from(sorted(facts)))
    after = ask_row(row, {**facts, taken: Missing.of(taken, Reason.ABSENT)}, {}).holds
    assert after is before or after is None


def test_a_growth_table_with_another_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weight.csv"
    path.write_text("sex,age,low,high\n", encoding="utf-8")
    with pytest.raises(growth_reference.GrowthTableError, match=r"weight\.csv, line 1: unknown header"):
        growth_reference.load(path, 0)
