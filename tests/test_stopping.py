"""After a JAK inhibitor was stopped, and while a disease is in remission: what still counts (A-39, rulings 12, 19)."""

from __future__ import annotations

from typing import Any

import pytest
from builders import POLY_JIA, ask, concept, condition, draft, findings, given, order, texts, vaccination

from guideline.tables import load_tables

Json = dict[str, Any]
ATC = "http://www.whocc.no/atc"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def stopped(day: str | None, status: str = "stopped", start: str = "2026-01-10") -> Json:
    """A recorded tofacitinib order that ended on a day, or on a day that is not on record."""
    ends = [] if day is None else [{"timing": {"repeat": {"boundsPeriod": {"start": start, "end": day}}}}]
    return order("tofacitinib", start=start, status=status, dosageInstruction=ends or None)


VACCINES: dict[str, tuple[Json, str | None, str | None]] = {
    # the order on record on 1 June 2026, and what VAX-01 says to a live vaccine that is drafted
    "being taken": (stopped(None, "active"), "hit", "critical"),
    "ended yesterday": (stopped("2026-05-31"), "hit", "warning"),
    "completed of late": (stopped("2026-05-20", "completed"), "hit", "warning"),
    "ended 28 days ago": (stopped("2026-05-04"), "hit", "warning"),
    "ended 29 days ago": (stopped("2026-05-03"), None, None),
    "ended on a day that is not on record": (stopped(None, start="2025-01-10"), "cannot-assess", "warning"),
}


@pytest.mark.parametrize(("recorded", "outcome", "severity"), VACCINES.values(), ids=VACCINES)
def test_a_live_vaccine_drafted_after_the_last_dose(
    recorded: Json, outcome: str | None, severity: str | None
) -> None:
    vaccine = vaccination("03", "mmr-2", "2026-06-01") | {"status": "draft"}
    found = findings(ask(vaccine, medicines=[recorded]))
    assert (found.get("VAX-01", {}).get("outcome"), found.get("VAX-01", {}).get("severity")) == (
        outcome,
        severity,
    )
    # An end on an unknown day asks only how long ago it was.
    assert outcome != "cannot-assess" or set(found) == {"VAX-01"}


def test_a_vaccine_that_is_not_live_gives_no_card_at_any_time() -> None:
    influenza = vaccination("140", "flu-1", "2026-06-01") | {"status": "draft"}
    for recorded, _, _ in VACCINES.values():
        assert ask(influenza, medicines=[recorded]) == []


BIOLOGICS: dict[str, tuple[Json, bool]] = {
    "being taken": (stopped(None, "active"), True),
    "a supply that ran out of late, perhaps to be renewed": (stopped("2026-05-20", "completed"), True),
    "stopped today": (stopped("2026-06-01"), True),
    "stopped yesterday": (stopped("2026-05-31"), False),
}


@pytest.mark.parametrize(("recorded", "combined"), BIOLOGICS.values(), ids=BIOLOGICS)
def test_a_biologic_or_contraceptive_after_a_stop_is_no_combination(recorded: Json, combined: bool) -> None:
    for code, id_, words in (("L04AB04", "CON-02", "adalimumab"), ("G03AA07", "PREG-04", "combined pill")):
        other = draft("tofacitinib", id_="o1", medicationCodeableConcept=concept(code, ATC, words))
        found = findings(ask(other, medicines=[recorded]))
        assert (id_ in found) is combined


def test_a_live_vaccine_drafted_with_the_drug_is_critical_after_a_pause_too() -> None:
    vaccine = vaccination("03", "mmr-2", "2026-06-01") | {"status": "draft"}
    found = findings(ask(draft("tofacitinib", 4), vaccine, medicines=[stopped("2026-05-20")]))
    assert found["VAX-01"]["severity"] == "critical"


def test_a_disease_in_remission_is_the_indication_and_the_card_says_so() -> None:
    found = ask(
        draft("tofacitinib", 4),
        conditions=[condition(POLY_JIA, clinicalStatus=concept("remission", CLINICAL))],
    )
    assert given(found) == "TOFA-DOSE-04"
    assert "on record as in remission" in texts(found)
    assert "in remission" not in texts(ask(draft("tofacitinib", 4)))


def test_doses_without_a_settled_indication_are_labelled_as_reference() -> None:
    assert "For reference only, not a suggestion:" in texts(ask(draft("tofacitinib", 4), conditions=[]))
    assert "For reference only" not in texts(ask(draft("tofacitinib", 4)))


def test_the_risk_of_an_operation_is_never_inferred() -> None:
    """A-50: nobody can choose it in a hook request, so PERI-03 stays a note."""
    rows = [row for table in load_tables().all for row in table.rows if row.id == "PERI-03"]
    assert [row.severity.value for row in rows] == ["info"]
