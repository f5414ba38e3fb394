"""What holds of the findings of every child: less data never means silence, a normal result never adds a warning, a
worse value is never told more mildly, and a wholly normal start says no more than the dose and the plan.

The children are those of the examples, so that every row is met.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from builders import JDM, SAVI, Json, ask, divided, dose, draft, order, ours
from hypothesis import given, settings
from hypothesis import strategies as st

from guideline.examples import Example, Results, read_examples
from guideline.facts import vocabulary
from guideline.findings import Finding, Kind, OrderAssessment, Outcome, Severity
from guideline.record import Answer, Answers, Reading, Record
from guideline.tables import load_tables
from guideline.values import Cause, Interval, Known, Missing, Reason

TABLES = load_tables()
EXAMPLES = read_examples(Path(__file__).parent / "examples")
examples = st.sampled_from(EXAMPLES)


def said(example: Example, record: Record | None = None) -> OrderAssessment:
    assessed = example if record is None else replace(example, record=record)
    return assessed.assessed(TABLES)


def told(example: Example, record: Record | None = None) -> dict[str, Finding]:
    return {finding.id: finding for finding in said(example, record).findings}


def grave(found: Mapping[str, Finding]) -> set[str]:
    return {
        name
        for name, finding in found.items()
        if finding.outcome is Outcome.HIT and finding.severity is not Severity.INFO
    }


# --- less data ------------------------------------------------------------------------------------

OPTIONAL = [kind for kind in vocabulary().values() if kind.optional]
"""Results that nobody has to have: a note says that one was not there to be looked at."""
BESIDE_OTHERS = {
    "WITH-01": "it stands beside an instruction to interrupt, and that is told as not assessed",
    "TOFA-DOSE-09": "it stands beside the dose for the weight, and that is told as not assessed",
}

NOT_ASKED_OF_BOYS = {"PREG-01", "TOFA-CI-05", "TOFA-CI-06", "BARI-CI-05", "BARI-CI-06"}
"""A pregnancy on record counts in a boy too, but its lack is no gap of his (A-31): the lost list is told by others."""


def losses(record: Record) -> Iterator[tuple[str, str, Record]]:
    """How an input is lost, its name, and the record without it: a search found nothing, was not made or failed."""
    for name in record.series:
        for gap in (None, Reason.NOT_SUPPLIED, Reason.FAILED):
            how = "absent" if gap is None else gap.value
            yield how, name, replace(record, series={**record.series, name: Results((), gap)})
    for name in record.answers:
        yield "failed", name, replace(record, answers={**record.answers, name: Answers((), Reason.FAILED)})
    for name in {kind.read_from[0] for fact in record.flags if (kind := vocabulary()[fact]).read_from}:
        lost = {
            fact: Missing.of(vocabulary()[fact].named, Reason.FAILED)
            for fact in record.flags
            if vocabulary()[fact].read_from[:1] == (name,)
        }
        yield "failed", name, replace(record, flags={**record.flags, **lost})
    gone = (Cause("immunizations", Reason.FAILED),)
    yield "failed", "immunizations", replace(record, vaccinations=(), vaccinations_gap=gone)
    yield "absent", "birthDate", replace(record, birth=Cause("birthDate", Reason.ABSENT))


def speaks_for(name: str) -> set[str]:
    """The statements of the tables that tell their gaps under one id, for a statement of such a table."""
    return {
        row.id
        for table in TABLES.all
        if table.speaks_when_unknown and any(row.id == name for row in table.rows)
        for row in table.rows
    }


def silenced(example: Example, lost: str, record: Record, before: set[str]) -> set[str]:
    after = said(example, record)
    shown = bool(after.findings) or not example.view
    if shown and any(kind.title in note for kind in OPTIONAL if kind.name == lost for note in after.notes):
        return set()
    still = {finding.id for finding in after.findings}
    beside = BESIDE_OTHERS if any(f.outcome is Outcome.CANNOT_ASSESS for f in after.findings) else {}
    excused = set(beside)
    if isinstance(sex := example.record.sex, Known) and sex.value == "male":
        missing = {cause.fact for finding in after.findings for cause in finding.missing}
        excused |= NOT_ASKED_OF_BOYS if lost in missing else set()
    return {name for name in before - still - excused if not speaks_for(name) & still}


@given(examples, st.data())
def test_removing_an_input_never_turns_a_finding_into_silence(example: Example, data: st.DataObject) -> None:
    before = grave(told(example))
    if before:
        how, name, record = data.draw(st.sampled_from(list(losses(example.record))), label="what is lost")
        assert not silenced(example, name, record, before), (how, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(8))
def test_no_input_of_any_example_can_be_lost_in_silence(part: int) -> None:
    for example in EXAMPLES[part::8]:
        before = grave(told(example))
        for how, name, record in losses(example.record) if before else ():
            assert not silenced(example, name, record, before), (example.file, example.name, how, name)


# --- one more normal result -----------------------------------------------------------------------

NORMAL: Mapping[str, tuple[str, str, str]] = {
    # a value in the middle of a range that a laboratory may print
    "whiteCells": ("7", "4", "12"),
    "neutrophils": ("3", "1.5", "8"),
    "lymphocytes": ("2", "1.5", "7"),
    "platelets": ("300", "150", "450"),
    "alt": ("20", "5", "40"),
    "ast": ("25", "5", "45"),
    "bilirubin": ("8", "1", "20"),
    "crp": ("2", "0", "5"),
    "esr": ("6", "1", "15"),
    "ck": ("100", "30", "200"),
    "cholesterol": ("4", "3", "5"),
    "triglycerides": ("1", "0.5", "2"),
    "bkBloodLoad": ("0", "0", "1"),
    "bkUrineLoad": ("0", "0", "1"),
    "jcLoad": ("0", "0", "1"),
    "jcUrineLoad": ("0", "0", "1"),
}
"""Haemoglobin and creatinine are left out: a normal one may be a fall, or the way to another dose table."""
CLEAR = ("tbTest", "chestXray", "tbCulture", "pregnancyTest", "lactationStatus", "urineProtein", "urineBlood")


def with_result(record: Record, name: str) -> Record:
    value, low, high = map(Decimal, NORMAL[name])
    new = Reading(Interval.exactly(value), record.on, f"Observation/new-{name}", low=low, high=high)
    series = record.series.get(name)
    gap = Reason.NOT_SUPPLIED if series is None else series.gap
    return replace(record, series={**record.series, name: Results((new, *(series or ())), gap)})


def with_answer(record: Record, name: str) -> Record:
    found = record.answers.get(name)
    new = Answer("negative", record.on, f"Observation/new-{name}")
    answers = Answers((new, *(found.answers if found else ())), found.gap if found else None)
    return replace(record, answers={**record.answers, name: answers})


@given(examples, st.sampled_from([*NORMAL, *CLEAR]))
def test_a_normal_result_never_adds_a_warning(example: Example, name: str) -> None:
    record = with_result(example.record, name) if name in NORMAL else with_answer(example.record, name)
    before, after = told(example), told(example, record)
    new = {i for i, f in after.items() if f.severity is not Severity.INFO and not _warned(before, i)}
    # A milder row may speak in place of a graver one: "no signs" after a clean urine (BK-08 for BK-09).
    gone = {i for i, f in before.items() if f.severity is Severity.CRITICAL and not _warned(after, i)}
    milder = {
        row.id
        for table in TABLES.all
        if gone & {row.id for row in table.rows}
        for row in table.rows
        if row.severity is not Severity.CRITICAL
    }
    assert new <= milder


def _warned(found: Mapping[str, Finding], name: str) -> bool:
    return name in found and found[name].severity is not Severity.INFO


# --- worse values ---------------------------------------------------------------------------------

WORSE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # the findings of one analyte, and its values from harmless to grave
    "haemoglobin": (
        ("TOFA-INIT-01", "BARI-INIT-01", "TOFA-HB-01", "TOFA-HB-02", "BARI-MT-01"),
        ("12", "10.1", "10", "9.9", "9.1", "9", "8.9", "8.1", "8", "7.9", "5"),
    ),
    "neutrophils": (
        ("TOFA-INIT-02", "BARI-INIT-02", "TOFA-ANC-01", "TOFA-ANC-02", "TOFA-ANC-03", "BARI-MT-03", "INF-01"),
        ("3", "1.21", "1.2", "1.01", "1", "0.99", "0.51", "0.5", "0.49", "0.1"),
    ),
    "lymphocytes": (
        ("TOFA-INIT-03", "BARI-INIT-03", "TOFA-ALC-01", "TOFA-ALC-02", "TOFA-ALC-03", "BARI-MT-04"),
        ("2", "0.76", "0.75", "0.74", "0.51", "0.5", "0.49", "0.1"),
    ),
    "whiteCells": (("BARI-MT-02", "TOFA-MT-GAP"), ("7", "4", "2.01", "2", "1.99", "0.5")),
    "platelets low": (("BARI-MT-05",), ("300", "75.1", "75", "74.9", "10")),
    "platelets": (("AE-02", "VTE-03"), ("300", "600", "600.1", "900")),
    "alt": (
        ("AE-13", "BARI-MT-07", "BARI-MT-08", "TOFA-MT-GAP"),
        ("20", "119", "120", "121", "199", "200", "201", "900"),
    ),
    "bkBloodLoad": (
        ("BK-03", "BK-07", "BK-08", "BK-09", "BK-10"),
        ("0", "2.99", "3", "3.01", "3.99", "4", "4.01", "7"),
    ),
    "ck": (("AE-16",), ("100", "999", "1000", "1001", "5000")),
    "temperature": (("INF-01", "INF-02"), ("36.6", "37.9", "38", "40")),
}
RANGES = {"alt": ("5", "40"), "ck": ("30", "200")}


def gravest(found: Mapping[str, Finding], names: Iterable[str]) -> int:
    """3 critical, 2 warning, 1 info, 0 nothing; what could not be assessed counts like nothing."""
    hits = [found[name] for name in names if name in found and found[name].outcome is Outcome.HIT]
    alerts = [finding for finding in hits if finding.kind is not Kind.NOTE]
    return max((3 - finding.severity.rank for finding in alerts), default=0)


@settings(max_examples=max(1, settings.default.max_examples // 6))
@given(examples, st.sampled_from(list(WORSE)), st.integers(0, 20))
def test_a_worse_value_is_never_told_more_mildly(example: Example, what: str, days: int) -> None:
    analyte = what.split()[0]
    names, values = WORSE[what]
    low, high = map(Decimal, RANGES.get(analyte, ("0", "1000000")))
    series = example.record.series.get(analyte)
    on = example.record.on - timedelta(days=min(days, 2) if analyte == "temperature" else days)
    older = tuple(r for r in series or () if isinstance(r, Reading) and r.on < on)
    ranks = []
    for value in values:
        new = Reading(Interval.exactly(Decimal(value)), on, "Observation/new", low=low, high=high)
        record = replace(
            example.record, series={**example.record.series, analyte: Results((new, *older), None)}
        )
        ranks.append(gravest(told(example, record), names))
    assert ranks == sorted(ranks)


# --- a wholly normal start ------------------------------------------------------------------------

ANTI_TNF = order("tofacitinib", start="2025-01-10", status="completed", id_="tnf") | {
    "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AB04"}]}
}
STARTS: dict[str, tuple[Json, Json]] = {
    "tofacitinib in polyarticular JIA": (draft("tofacitinib", 4), {"medicines": [ANTI_TNF]}),
    "baricitinib in interferonopathy": (
        draft("baricitinib", dosageInstruction=divided(MORN=4, EVE=2)),
        {"conditions": [SAVI], "creatinine": "30"},
    ),
    "baricitinib in interferonopathy with reduced eGFR": (
        draft("baricitinib", dosageInstruction=divided(MORN=2, EVE=2)),
        {"conditions": [SAVI], "creatinine": "50"},
    ),
    "baricitinib in JDM": (draft("baricitinib", 4, 1), {"conditions": [JDM]}),
}


@pytest.mark.parametrize(("drafted", "child"), STARTS.values(), ids=STARTS)
def test_a_wholly_normal_start_gives_the_dose_and_the_plan(drafted: Json, child: Json) -> None:
    dosed, plan = found = ask(drafted, **child)
    assert [card["indicator"] for card in found] == ["info", "info"]
    advice = dose([dosed])
    assert advice is not None
    assert advice["order"]["verdict"] == "match"
    assert "provisional" not in advice
    kinds = {finding["kind"] for finding in ours(plan)["findings"]}
    assert {"plan", "note"} <= kinds <= {"plan", "note", "order"}
    assert all(finding["outcome"] == "hit" for card in found for finding in ours(card)["findings"])
