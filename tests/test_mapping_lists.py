"""Conditions, procedures, medicines and allergies of the record: what counts, and when "none" may be concluded."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    AS_OF,
    ATC,
    POLY_JIA,
    RXNORM,
    SAVI,
    Json,
    ask,
    bundle,
    cards,
    concept,
    condition,
    divided,
    draft,
    findings,
    firmness,
    given,
    hook_request,
    missing,
    order,
    outcome,
    prefetch_of,
    texts,
    vaccination,
)

CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CKD5 = "433146000"


def with_jia(**change: Any) -> list[Json]:
    one = {name: value for name, value in (condition(POLY_JIA) | change).items() if value is not None}
    return ask(draft("tofacitinib", 4), conditions=[one])


# --- conditions -----------------------------------------------------------------------------------

STATUSES: dict[str, tuple[Json, bool]] = {
    "active": ({}, True),
    "recurrence": ({"clinicalStatus": concept("recurrence", CLINICAL)}, True),
    "relapse": ({"clinicalStatus": concept("relapse", CLINICAL)}, True),
    "inactive": ({"clinicalStatus": concept("inactive", CLINICAL)}, False),
    "remission, usual on the drug": ({"clinicalStatus": concept("remission", CLINICAL)}, True),
    "STU3 remission": ({"clinicalStatus": "remission"}, True),
    "remission, refuted": (
        {
            "clinicalStatus": concept("remission", CLINICAL),
            "verificationStatus": concept("refuted", VERIFICATION),
        },
        False,
    ),
    "resolved": ({"clinicalStatus": concept("resolved", CLINICAL)}, False),
    "resolved, no code system": ({"clinicalStatus": {"coding": [{"code": "resolved"}]}}, False),
    "resolved, coding not in a list": ({"clinicalStatus": {"coding": {"code": "resolved"}}}, False),
    "STU3 active": ({"clinicalStatus": "active"}, True),
    "STU3 Active": ({"clinicalStatus": "Active"}, True),
    "STU3 resolved": ({"clinicalStatus": "resolved"}, False),
    "unsaid": ({"clinicalStatus": None}, True),
    "unsaid and abated on a day": ({"clinicalStatus": None, "abatementDateTime": "2020"}, False),
    "unsaid and abated at an age": ({"clinicalStatus": None, "abatementAge": {"value": 5}}, False),
    "unsaid and abated": ({"clinicalStatus": None, "abatementBoolean": True}, False),
    "unsaid and not abated": ({"clinicalStatus": None, "abatementBoolean": False}, True),
    "confirmed": ({"verificationStatus": concept("confirmed", VERIFICATION)}, True),
    "provisional": ({"verificationStatus": concept("provisional", VERIFICATION)}, True),
    "refuted": ({"verificationStatus": concept("refuted", VERIFICATION)}, False),
    "refuted, no code system": ({"verificationStatus": {"coding": [{"code": "refuted"}]}}, False),
    "entered in error": ({"verificationStatus": concept("entered-in-error", VERIFICATION)}, False),
    "STU3 refuted": ({"verificationStatus": "refuted"}, False),
    "another patient's": ({"subject": {"reference": "Patient/p2"}}, False),
    "DSTU2, ours": ({"subject": None, "patient": {"reference": "Patient/p1"}}, True),
    "DSTU2, another's": ({"subject": None, "patient": {"reference": "Patient/p2"}}, False),
}


@pytest.mark.parametrize(("change", "counts"), STATUSES.values(), ids=STATUSES)
def test_which_conditions_count(change: Json, counts: bool) -> None:
    found = with_jia(**change)
    assert given(found) == ("TOFA-DOSE-04" if counts else "-")
    assert (("indication", "absent") in missing(found)) is not counts


UNREADABLE: dict[str, Json] = {
    "modifier": {"modifierExtension": [{"url": "http://x", "valueBoolean": True}]},
    "no code": {"code": None},
    "code is a word": {"code": "chronic kidney disease"},
    "code is empty": {"code": {}},
    "code without system and words": {"code": {"coding": [{"code": "x"}]}},
}


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_condition_could_be_anything(change: Json) -> None:
    """The child may be on dialysis: the dose of tofacitinib stays, provisionally."""
    odd = {name: value for name, value in (condition(CKD5, "odd") | change).items() if value is not None}
    found = ask(draft("tofacitinib", 4), conditions=[POLY_JIA, odd])
    assert given(found) == "TOFA-DOSE-04?"
    assert ("conditions", "unreadable") in missing(found)
    assert findings(found)["REN-TOFA-01"]["outcome"] == "cannot-assess"


def test_a_condition_in_words_only_is_no_gap_and_no_match() -> None:
    odd = condition("1", "odd") | {"code": {"text": "Chronic kidney disease stage 5"}}
    assert given(ask(draft("tofacitinib", 4), conditions=[POLY_JIA, odd])) == "TOFA-DOSE-04"


def test_a_condition_that_counts_beside_an_incomplete_list() -> None:
    """Yes is yes, also where the list failed: on dialysis there is no dose."""
    data = prefetch_of(conditions=[POLY_JIA, CKD5])
    data["conditions"]["entry"].append({"resource": outcome()})
    found = cards(hook_request([draft("tofacitinib", 4)], data))
    assert given(found) == "-"
    assert findings(found)["REN-TOFA-01"]["outcome"] == "hit"


# --- the state of a list --------------------------------------------------------------------------

STATES: dict[str, tuple[Any, str | None]] = {
    "empty Bundle": (bundle(), None),
    "null": (None, None),
    "warning": (outcome("warning"), None),
    "Bundle with a warning": (bundle(outcome("information")), None),
    "Bundle without entries": ({"resourceType": "Bundle"}, None),
    "error": (outcome(), "failed"),
    "fatal": (outcome("fatal"), "failed"),
    "outcome without issue": ({"resourceType": "OperationOutcome"}, "failed"),
    "outcome with odd issue": ({"resourceType": "OperationOutcome", "issue": ["x"]}, "failed"),
    "Bundle with an error": (bundle(outcome()), "failed"),
    "next page": (bundle(link=[{"relation": "next", "url": "http://x"}]), "partial-page"),
    "error and next page": (bundle(outcome(), link=[{"relation": "next", "url": "http://x"}]), "failed"),
    "self link only": (bundle(link=[{"relation": "self", "url": "http://x"}, "odd"]), None),
    "link is no list": (bundle(link={"relation": "next", "url": "http://x"}), None),
    "entry is no list": ({"resourceType": "Bundle", "entry": {}}, "unreadable"),
    "entry without resource": ({"resourceType": "Bundle", "entry": [{}]}, "unreadable"),
    "entry is null": ({"resourceType": "Bundle", "entry": [None]}, "unreadable"),
    "resource without type": ({"resourceType": "Bundle", "entry": [{"resource": {}}]}, "unreadable"),
    "a list": ([], "unreadable"),
    "a word": ("none", "unreadable"),
    "no resource": ({}, "unreadable"),
    "type is no word": ({"resourceType": 5}, "unreadable"),
    "another type": ({"resourceType": "Slot"}, "not-supplied"),
    "Bundle of another type": (bundle({"resourceType": "Slot"}), "not-supplied"),
}


@pytest.mark.parametrize(("state", "reason"), STATES.values(), ids=STATES)
@pytest.mark.parametrize("key", ["procedures", "conditions"])
def test_what_an_answer_without_resources_means(key: str, state: Any, reason: str | None) -> None:
    """Ruling 18: answered with nothing is "none"; everything else cannot be assessed."""
    data = prefetch_of(conditions=[]) | {key: state}
    drafted = draft("tofacitinib", 4, reasonCode=[concept(POLY_JIA)])
    found = cards(hook_request([drafted], data))
    if reason is None:
        assert given(found) == "TOFA-DOSE-04"
        assert not missing(found)
    else:
        assert given(found) == "TOFA-DOSE-04?"
        assert ("conditions" if key == "conditions" else "procedures", reason) in missing(found)


def test_a_key_that_is_not_there_was_not_supplied() -> None:
    data = prefetch_of()
    del data["procedures"]
    found = cards(hook_request([draft("tofacitinib", 4)], data))
    assert given(found) == "TOFA-DOSE-04?"
    assert ("procedures", "not-supplied") in missing(found)


# --- procedures -----------------------------------------------------------------------------------

PROCEDURES: dict[str, tuple[Json, bool]] = {
    "done": ({"status": "completed", "performedDateTime": "2026-05-01"}, True),
    "period": ({"status": "in-progress", "performedPeriod": {"start": "2020"}}, True),
    "no date": ({"status": "completed"}, True),
    "not done": ({"status": "not-done"}, False),
    "aborted": ({"status": "aborted"}, False),
    "entered in error": ({"status": "entered-in-error"}, False),
    "another patient's": ({"status": "completed", "subject": {"reference": "Patient/p2"}}, False),
}


@pytest.mark.parametrize(("change", "counts"), PROCEDURES.values(), ids=PROCEDURES)
def test_which_procedures_count(change: Json, counts: bool) -> None:
    dialysis = {
        "resourceType": "Procedure",
        "id": "dial",
        "code": concept("302497006"),
        "subject": {"reference": "Patient/p1"},
        **change,
    }
    found = cards(hook_request([draft("tofacitinib", 4)], prefetch_of() | {"procedures": bundle(dialysis)}))
    assert ("REN-TOFA-01" in findings(found)) is counts


# --- medicines ------------------------------------------------------------------------------------

TAKEN: dict[str, tuple[Json, bool]] = {
    # of a tofacitinib order: does it count as tofacitinib in the history?
    "active": ({}, True),
    "Active": ({"status": "Active"}, True),
    "completed": ({"status": "completed"}, True),
    "stopped": ({"status": "stopped"}, True),
    "ended (R5)": ({"status": "ended"}, True),
    "on hold": ({"status": "on-hold"}, True),
    "unknown": ({"status": "unknown"}, True),
    "draft": ({"status": "draft"}, False),
    "cancelled": ({"status": "cancelled"}, False),
    "entered in error": ({"status": "entered-in-error"}, False),
    "plan": ({"intent": "plan"}, False),
    "proposal": ({"intent": "proposal"}, False),
    "instance order": ({"intent": "instance-order"}, True),
    "do not perform": ({"doNotPerform": True}, False),
    "another patient's": ({"subject": {"reference": "Patient/p2"}}, False),
}
STATEMENTS: dict[str, tuple[Json, bool]] = {
    "active": ({}, True),
    "recorded (R5)": ({"status": "recorded"}, True),
    "intended": ({"status": "intended"}, False),
    "not taken": ({"status": "not-taken"}, False),
    "DSTU2 not taken": ({"wasNotTaken": True}, False),
    "STU3 not taken": ({"taken": "n"}, False),
    "STU3 not asked": ({"taken": "unk"}, True),
}


def before(**change: Any) -> list[Json]:
    """Baricitinib drafted in JIA for a child with this tofacitinib order on record."""
    return ask(draft("baricitinib", 4, 1), medicines=[order("tofacitinib", 4) | change])


@pytest.mark.parametrize(("change", "counts"), TAKEN.values(), ids=TAKEN)
def test_which_orders_count_as_taken(change: Json, counts: bool) -> None:
    assert ("IND-BARI-03" in findings(before(**change))) is not counts


@pytest.mark.parametrize(("change", "counts"), STATEMENTS.values(), ids=STATEMENTS)
def test_which_statements_count_as_taken(change: Json, counts: bool) -> None:
    statement = order("tofacitinib", 4) | {"resourceType": "MedicationStatement"} | change
    del statement["intent"]
    data = prefetch_of() | {"medicationStatements": bundle(statement)}
    found = cards(hook_request([draft("baricitinib", 4, 1)], data))
    assert ("IND-BARI-03" in findings(found)) is not counts


UNKNOWN_MEDICINES: dict[str, Json] = {
    "no status": {"status": None},
    "odd status": {"status": "odd"},
    "modifier": {"modifierExtension": [{"url": "http://x"}]},
    "no medicine": {"medicationCodeableConcept": None},
    "empty medicine": {"medicationCodeableConcept": {}},
    "unresolved": {
        "medicationCodeableConcept": None,
        "medicationReference": {"reference": "Medication/gone"},
    },
}


@pytest.mark.parametrize("change", UNKNOWN_MEDICINES.values(), ids=UNKNOWN_MEDICINES)
def test_an_unreadable_medicine_could_be_anything(change: Json) -> None:
    found = before(**change)
    assert ("medications", "unreadable") in missing(found)
    assert findings(found)["IND-BARI-03"]["outcome"] == "cannot-assess"


def test_a_reference_with_words_is_a_medicine_in_words_alone() -> None:
    """Epic lists every medicine so: one that no name of ours is in leaves the list readable, and is named."""
    listed = {"medicationCodeableConcept": None}
    words = {"reference": "Medication/gone", "display": "folic acid 5 mg tablet"}
    found = before(**listed, medicationReference=words)
    assert ("medications", "unreadable") not in missing(found)
    assert "in words alone, without a code" in texts(found)
    known = before(**listed, medicationReference={**words, "display": "tofacitinib (XELJANZ) 5 mg tablet"})
    assert "IND-BARI-03" not in findings(known)
    assert "in words alone" not in texts(known)


# --- the course of treatment (rulings 1 and 16) ---------------------------------------------------

COURSES: dict[str, tuple[list[Json], bool]] = {
    # recorded baricitinib orders, and whether the draft is a start
    "none": ([], True),
    "active": ([order("baricitinib", 4, 1)], False),
    "active, start unknown": ([order("baricitinib", 4, 1) | {"authoredOn": "?"}], False),
    "active, from the future": ([order("baricitinib", 4, 1, start="2026-07-01")], True),
    "another drug": ([order("tofacitinib", 4)], True),
    "stopped 28 days ago": (
        [order("baricitinib", 4, 1, status="stopped") | {"effectivePeriod": {"end": "2026-05-04"}}],
        False,
    ),
    "stopped 29 days ago": (
        [order("baricitinib", 4, 1, status="stopped") | {"effectivePeriod": {"end": "2026-05-03"}}],
        True,
    ),
    "completed, supply of 28 days ended 20 days ago": (
        [
            order("baricitinib", 4, 1, status="completed", start="2026-04-14")
            | {"dispenseRequest": {"expectedSupplyDuration": {"value": 28, "code": "d"}}}
        ],
        False,
    ),
    "completed, end unknown": ([order("baricitinib", 4, 1, status="completed")], True),
    "supply in an odd unit, taken at least on its first day": (
        [
            order("baricitinib", 4, 1, status="completed", start="2026-05-20")
            | {"dispenseRequest": {"expectedSupplyDuration": {"value": 4, "code": "mo"}}}
        ],
        False,
    ),
    "supply in an odd unit, long ago": (
        [
            order("baricitinib", 4, 1, status="completed", start="2026-01-20")
            | {"dispenseRequest": {"expectedSupplyDuration": {"value": 4, "code": "mo"}}}
        ],
        True,
    ),
    "supply of an absurd length": (
        [
            order("baricitinib", 4, 1, status="completed", start="2020-01-01")
            | {"dispenseRequest": {"expectedSupplyDuration": {"value": 4000, "code": "d"}}}
        ],
        True,
    ),
    "bounds of the dosage": (
        [
            order("baricitinib", status="completed")
            | {"dosageInstruction": [{"timing": {"repeat": {"boundsPeriod": {"end": "2026-05-20"}}}}, "odd"]}
        ],
        False,
    ),
    "statement with effective date": (
        [
            order("baricitinib", 4, 1)
            | {"resourceType": "MedicationStatement", "authoredOn": None, "effectiveDateTime": "2026-01-01"}
        ],
        False,
    ),
    "statement asserted": (
        [
            order("baricitinib", 4, 1)
            | {"resourceType": "MedicationStatement", "authoredOn": None, "dateAsserted": "2026-01-01"}
        ],
        False,
    ),
}


@pytest.mark.parametrize(("orders", "starts"), COURSES.values(), ids=COURSES)
def test_whether_a_draft_is_a_start(orders: list[Json], starts: bool) -> None:
    """BARI-INIT-01 (haemoglobin at most 8.0) is for a start only."""
    found = ask(draft("baricitinib", 4, 1), medicines=orders, bloods={"haemoglobin": "8"})
    assert ("BARI-INIT-01" in findings(found)) is starts


def test_the_draft_itself_is_no_history() -> None:
    drafted = draft("baricitinib", 4, 1)
    found = ask(drafted, medicines=[drafted | {"status": "active"}], bloods={"haemoglobin": "8"})
    assert "BARI-INIT-01" in findings(found)


def test_changing_the_running_order_is_no_start() -> None:
    """A draft with the id of an order that has run since January: an escalation, not a first dose."""
    running = order("baricitinib", dosageInstruction=divided(MORN=4, EVE=2))
    higher = draft("baricitinib", id_="run1", dosageInstruction=divided(MORN=4, EVE=4))
    assert given(ask(higher, medicines=[running], conditions=[SAVI], creatinine="30")) == "BARI-IFN-05"
    begun_today = running | {"authoredOn": AS_OF}
    assert given(ask(higher, medicines=[begun_today], conditions=[SAVI], creatinine="30")) == "BARI-IFN-02"


def test_a_medicine_that_is_being_stopped_is_no_longer_taken() -> None:
    """A biologic beside the JAK inhibitor is a warning (CON-02), and a note where the same request stops it (A-45)."""
    adalimumab = concept("L04AB04", ATC, "adalimumab")
    biologic = order("tofacitinib", id_="bio", medicationCodeableConcept=adalimumab)
    drafted = draft("tofacitinib", 4)
    assert findings(ask(drafted, medicines=[biologic]))["CON-02"]["severity"] == "warning"
    stopped = findings(ask(drafted, biologic | {"status": "stopped"}, medicines=[biologic]))["CON-02"]
    assert (stopped["severity"], stopped["evidence"][0]["date"]) == ("info", AS_OF)


def until(day: str) -> Json:
    """A dosage with a planned end."""
    return {"timing": {"repeat": {"boundsPeriod": {"start": "2025-01-01", "end": day}}}}


ENDS: dict[str, tuple[Json, str | None]] = {
    # how an adalimumab order on record stands on 1 June 2026, and what CON-02 says
    "no end": ({}, "warning"),
    "to end in 28 days": ({"dosageInstruction": [until("2026-06-29")]}, "info"),
    "to end in 29 days": ({"dosageInstruction": [until("2026-06-30")]}, "warning"),
    "over, though active": ({"dosageInstruction": [until("2025-06-30")]}, "info"),
    "stopped 70 days ago": ({"status": "stopped", "dosageInstruction": [until("2026-03-23")]}, "info"),
    "stopped 71 days ago": ({"status": "stopped", "dosageInstruction": [until("2026-03-22")]}, None),
    "stopped, written of late": ({"status": "stopped", "authoredOn": "2026-05-01"}, "info"),
    "stopped, written long ago": ({"status": "stopped", "authoredOn": "2024-05-01"}, None),
    "never taken": ({"status": "cancelled", "authoredOn": "2026-05-01"}, None),
}


@pytest.mark.parametrize(("change", "severity"), ENDS.values(), ids=ENDS)
def test_a_biologic_that_ends_is_a_switch(change: Json, severity: str | None) -> None:
    adalimumab = concept("L04AB04", ATC, "adalimumab")
    biologic = order("tofacitinib", id_="bio", medicationCodeableConcept=adalimumab) | change
    found = findings(ask(draft("tofacitinib", 4), medicines=[biologic])).get("CON-02", {})
    assert found.get("severity") == severity


VACCINATED: dict[str, tuple[Any, str | None]] = {
    # when a live vaccine was given, and what VAX-01 says at a start on 1 June 2026
    "12 days ago": ("2026-05-20", "hit"),
    "in May": ("2026-05", "hit"),
    "this year": ("2026", "hit"),
    "in April": ("2026-04", None),
    "years ago": ("2018", None),
    "unknown": (None, "cannot-assess"),
    "in the future": ("2027-01-01", "cannot-assess"),
}


@pytest.mark.parametrize(("when", "outcome_"), VACCINATED.values(), ids=VACCINATED)
def test_a_partial_date_of_a_vaccination_may_be_its_last_day(when: Any, outcome_: str | None) -> None:
    varicella = vaccination("21", "vac") | {"occurrenceDateTime": when}
    data = prefetch_of()
    data["immunizations"]["entry"].append({"resource": varicella})
    finding = findings(cards(hook_request([draft("tofacitinib", 4)], data))).get("VAX-01")
    assert (finding and finding["outcome"]) == outcome_


def test_an_unknown_history_is_no_start_and_no_renewal() -> None:
    """Without the medicines the table of an interferonopathy cannot be chosen: no dose."""
    data = prefetch_of(conditions=[SAVI]) | {"medicationRequests": outcome()}
    found = cards(hook_request([draft("baricitinib", dosageInstruction=divided(MORN=2, EVE=2))], data))
    assert firmness(found) == 0
    assert ("medications", "failed") in missing(found)


# --- allergies ------------------------------------------------------------------------------------

ALLERGIES: dict[str, tuple[Json, bool]] = {
    # to adalimumab: does it count as an anti-TNF medicine that was not tolerated?
    "code": ({"code": concept("L04AB04", ATC)}, True),
    "code without clinical status": ({"code": concept("L04AB04", ATC), "clinicalStatus": None}, True),
    "name": ({"code": {"text": "Adalimumab"}}, True),
    "substance of a reaction": (
        {"code": {"text": "see reaction"}, "reaction": [{"substance": concept("L04AB04", ATC)}, 5]},
        True,
    ),
    "DSTU2 substance": ({"substance": concept("L04AB04", ATC), "status": "confirmed"}, True),
    "DSTU2 refuted": ({"substance": concept("L04AB04", ATC), "status": "refuted"}, False),
    "resolved": ({"code": concept("L04AB04", ATC), "clinicalStatus": concept("resolved", "http://x")}, False),
    "STU3 inactive": ({"code": concept("L04AB04", ATC), "clinicalStatus": "inactive"}, False),
    "refuted": (
        {"code": concept("L04AB04", ATC), "verificationStatus": concept("refuted", "http://x")},
        False,
    ),
    "another patient's": ({"code": concept("L04AB04", ATC), "patient": {"reference": "Patient/p2"}}, False),
    "no known allergy": ({"code": concept("716186003")}, False),
}


def allergic(change: Json) -> list[Json]:
    one = {"resourceType": "AllergyIntolerance", "id": "a1", "patient": {"reference": "Patient/p1"}, **change}
    data = prefetch_of() | {"allergies": bundle({k: v for k, v in one.items() if v is not None})}
    return cards(hook_request([draft("tofacitinib", 4)], data))


@pytest.mark.parametrize(("change", "counts"), ALLERGIES.values(), ids=ALLERGIES)
def test_which_allergies_count(change: Json, counts: bool) -> None:
    severity = findings(allergic(change))["IND-TOFA-02"]["severity"]
    assert severity == ("info" if counts else "warning")


def test_an_allergy_to_nothing_is_unreadable() -> None:
    assert ("allergies", "unreadable") in missing(allergic({}))


def test_other_patients_resources_are_counted_on_the_card() -> None:
    other = condition(CKD5, "other", subject={"reference": "Patient/p2"})
    found = ask(draft("tofacitinib", 4), conditions=[POLY_JIA, other])
    assert "1 resource(s) of another patient came with the request and were not used." in texts(found)


def test_medicines_of_the_record_are_recognised_by_reference() -> None:
    medication = {"resourceType": "Medication", "id": "m1", "code": concept("1357536", RXNORM)}
    by_reference = order("tofacitinib", 4) | {
        "medicationReference": {"reference": "http://x/fhir/Medication/m1"}
    }
    del by_reference["medicationCodeableConcept"]
    found = ask(draft("baricitinib", 4, 1), medicines=[by_reference, medication])
    assert "IND-BARI-03" not in findings(found)
