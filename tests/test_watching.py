"""The clock of the visits, other JAK inhibitors, tables tried apart from a dose, and doubtful facts put together."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from guideline.assess import assess_beyond, assess_ending
from guideline.derive import course_of
from guideline.examples import Example, ordered_dose, read_examples
from guideline.policy import load_policy
from guideline.record import Birth, Record, RecordedOrder
from guideline.tables import load_tables
from guideline.values import Fact, Known, Missing, Reason
from guideline.watching import bk_concern, clock_of

TODAY = date(2026, 3, 2)
TABLES = load_tables()
FOLDER = Path(__file__).parent / "examples"


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def order(dose: str, start: int | None, end: int | None = None, drug: str = "baricitinib") -> RecordedOrder:
    return RecordedOrder(
        drug,
        end is None,
        None if start is None else ago(start),
        None if end is None else ago(end),
        ordered_dose(dose),
        f"MedicationRequest/{start}",
    )


# --- the clock ---------------------------------------------------------------------------------------------

FIRST = order("4/-/2", 300, 20)


@pytest.mark.parametrize(
    ("orders", "escalates", "clock"),
    [
        ((FIRST, order("4/-/4", 20)), True, 20),
        ((FIRST, order("4/-/4", 20)), False, 300),
        ((FIRST, order("4/-/2", 20)), True, 300),
        ((FIRST, order("2/-/2", 20)), True, 300),
        ((FIRST, order("unreadable", 20)), True, 300),
        ((order("unreadable", 300, 20), order("4/-/4", 20)), True, 300),
        ((order("2/-/2", 300, 100), order("4/-/2", 100, 20), order("4/-/4", 20)), True, 20),
        ((order("2/-/2", 300, 100), order("4/-/2", 100, 20), order("2/-/2", 20)), True, 100),
        ((order("2/-/2", 900, 800), order("4/-/2", 60)), True, 60),
        (
            (
                FIRST,
                order("4/-/4", 20),
                order("8/-/8", None, 10),
                order("8 mg once daily", 5, 1, "ruxolitinib"),
            ),
            True,
            None,
        ),
        ((), True, None),
    ],
    ids=[
        "a higher dose",
        "a higher dose where that is no escalation",
        "the same dose",
        "a lower dose",
        "the later dose is unreadable",
        "the earlier dose is unreadable",
        "two steps up",
        "up and down again",
        "a step up after a long gap is a start",
        "an order without a start leaves the course open",
        "no order",
    ],
)
def test_the_day_that_visits_count_from(
    orders: tuple[RecordedOrder, ...], escalates: bool, clock: int | None
) -> None:
    born = date(2017, 1, 1)
    child = Record(TODAY, Birth(born, born, "Patient/child", "2017"), Known("female"), {}, {}, orders, ())
    course = course_of("baricitinib", orders, TODAY, load_policy().restart_gap)
    found = clock_of(child, "baricitinib", course, escalates=escalates)
    assert found == (None if clock is None else ago(clock))


# --- whom BK load concerns ------------------------------------------------------------------------------------

ABSENT = Missing.of("bkBloodLoad", Reason.ABSENT)
UNKNOWN = Missing.of("indication", Reason.ABSENT)
NO_WEIGHT = Missing.of("weight", Reason.ABSENT)
NO_SIGNS = Known("no")
IN_UNITS = Missing.of("bkBloodLoad", Reason.UNUSABLE_UNIT)


@pytest.mark.parametrize(
    ("load", "indication", "high", "state", "signs", "concerns"),
    [
        (Known("3"), Known("jia"), Known("no"), Known("not-due"), NO_SIGNS, Known("yes")),
        (ABSENT, Known("interferonopathy"), Known("no"), Known("due"), NO_SIGNS, Known("yes")),
        (ABSENT, Known("interferonopathy"), Known("no"), Known("not-due"), NO_SIGNS, Known("no")),
        (ABSENT, Known("jia"), Known("no"), Known("overdue"), NO_SIGNS, Known("no")),
        (ABSENT, Known("jia"), Known("yes"), Known("overdue"), NO_SIGNS, Known("yes")),
        (ABSENT, UNKNOWN, Known("yes"), Known("overdue"), NO_SIGNS, Known("yes")),
        (ABSENT, UNKNOWN, NO_WEIGHT, Known("due"), NO_SIGNS, Missing((*NO_WEIGHT.causes, *UNKNOWN.causes))),
        (ABSENT, Known("interferonopathy"), NO_WEIGHT, ABSENT, NO_SIGNS, Known("yes")),
        (ABSENT, Known("interferonopathy"), Known("no"), Known("not-due"), Known("yes"), Known("yes")),
        (ABSENT, Known("jia"), Known("no"), Known("not-due"), Known("yes"), Known("no")),
        (IN_UNITS, Known("jia"), Known("no"), Known("not-due"), NO_SIGNS, Known("yes")),
    ],
)
def test_whom_the_rows_on_bk_load_concern(
    load: Fact, indication: Fact, high: Fact, state: Fact, signs: Fact, concerns: Fact
) -> None:
    facts = {
        "bkBloodLoad": load,
        "indication": indication,
        "highDose": high,
        "bkState": state,
        "bkSigns": signs,
    }
    assert bk_concern(facts) == concerns


# --- examples put together by hand -----------------------------------------------------------------------------


def written(folder: Path, drug: str, facts: str) -> Example:
    (folder / "children.yaml").write_text(
        (FOLDER / "children.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    child = "nine years, interferonopathy"
    (folder / "x.yaml").write_text(
        f"- about: x\n  drug: {drug}\n  child: {child}\n  cases:\n    - name: this one\n      facts: {facts}\n",
        encoding="utf-8",
    )
    return read_examples(folder)[0]


FACTS = [
    ("{jakBackground: yes, ordersGap: partial-page}", "otherJakInhibitor", "medications partial-page"),
    ("{jakBackground: failed}", "otherJakInhibitor", "medications failed"),
    ("{jakBackground: yes}", "otherJakInhibitor", "no"),
    ("{tbLatentOnRecord: yes, tbTreatmentCompleted: failed}", "tbLatentUntreated", "yes"),
    ("{tbLatentOnRecord: yes, tbTreatmentCompleted: yes}", "tbLatentUntreated", "no"),
    ("{tbLatentOnRecord: yes}", "tbLatentUntreated", "yes"),
    ("{temperature: '38, 4 days ago'}", "fever", "no"),
    ("{temperature: '38, 3 days ago'}", "fever", "yes"),
    ("{temperature: '< 38'}", "fever", "no"),
    ("{temperature: failed}", "fever", "temperature failed"),
    ("{zoster: failed}", "vzvDisease", "conditions failed"),
    ("{zoster: yes, varicella: yes}", "vzvDisease", "zoster"),
    ("{jcLoad: absent, jcUrineLoad: absent}", "jcPositive", "no"),
    ("{jcLoad: failed, jcUrineLoad: absent}", "jcPositive", "jcLoad failed"),
    ("{born: absent}", "childBearing", "birthDate absent"),
    ("{sex: male, born: absent}", "childBearing", "no"),
    ("{sex: male, pregnancyOnRecord: yes, lactationOnRecord: yes}", "pregnant", "no"),
    ("{seriousInfection: failed}", "infectionUnsaid", "yes"),
    ("{seriousInfection: yes}", "infectionUnsaid", "no"),
    ("{renalSigns: failed}", "bkSigns", "no"),
]


@pytest.mark.parametrize(("facts", "name", "found"), FACTS)
def test_facts_put_together(tmp_path: Path, facts: str, name: str, found: str) -> None:
    fact = written(tmp_path, "baricitinib", facts).assessed(TABLES).facts[name]
    if isinstance(fact, Missing):
        assert f"{fact.causes[0].fact} {fact.causes[0].reason.value}" == found
    else:
        assert fact.value == found


def test_an_order_of_something_else_is_asked_of_its_own_tables(tmp_path: Path) -> None:
    example = written(tmp_path, "baricitinib", "{running: '4/-/2, 60 days ago', liveVaccineDrafted: yes}")
    said = assess_beyond(example.record, example.draft, TABLES, example.policy)
    assert "VAX-01" in {finding.id for finding in said.findings}
    assert {trace.table for trace in said.traces} <= {table.name for table in TABLES.all if table.beyond}
    assert said.dose is None


def test_a_draft_that_ends_the_drug_is_told_of_withdrawal_only(tmp_path: Path) -> None:
    example = written(
        tmp_path, "baricitinib", "{ending: yes, lymphocytes: '0.3', running: '4/-/2, 60 days ago'}"
    )
    said = assess_ending(example.record, example.draft, TABLES, example.policy)
    assert {finding.id for finding in said.findings} == {"WITH-01"}
    assert said.dose is None
