"""Drafts: which of them are looked at, in which FHIR version they are, and what their dose is."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    ATC,
    POLY_JIA,
    RXNORM,
    SAVI,
    UCUM,
    Json,
    ask,
    bundle,
    cards,
    concept,
    divided,
    dosage,
    dose,
    draft,
    findings,
    given,
    hook_request,
    missing,
    observation,
    order,
    ours,
    outcome,
    post,
    prefetch_of,
    quantity,
    texts,
    updates,
)

TOFACITINIB = concept("1357541", RXNORM, "tofacitinib 5 MG Oral Tablet")


def tofacitinib(**more: Any) -> Json:
    return draft("tofacitinib", 4, **more)


# --- which drafts ---------------------------------------------------------------------------------

SELECTIONS: dict[str, tuple[list[str] | None, bool]] = {
    "none named: all": (None, True),
    "type and id": (["MedicationRequest/d1"], True),
    "id alone": (["d1"], True),
    "absolute": (["https://ehr.example/fhir/MedicationRequest/d1"], True),
    "versioned": (["MedicationRequest/d1/_history/2"], True),
    "full url": (["urn:uuid:4c2c1a40-0000-4000-8000-000000000001"], True),
    "one of two": (["ServiceRequest/s1", "MedicationRequest/d1"], True),
    "nothing selected": ([], False),
    "another": (["MedicationRequest/d2"], False),
    "another type": (["ServiceRequest/d1"], False),
    "the beginning of the id": (["MedicationRequest/d"], False),
    "the end of the id": (["MedicationRequest/xd1"], False),
}


@pytest.mark.parametrize(("selections", "selected"), SELECTIONS.values(), ids=SELECTIONS)
def test_selections(selections: list[str] | None, selected: bool) -> None:
    request = hook_request([tofacitinib()], selections=selections)
    request["context"]["draftOrders"]["entry"][0]["fullUrl"] = "urn:uuid:4c2c1a40-0000-4000-8000-000000000001"
    assert bool(cards(request)) is selected


@pytest.mark.parametrize("id_", ["temp#1", "id with blanks", "x" * 80, "ä", "a/b"])
def test_an_id_that_fhir_forbids_does_not_hide_a_draft(id_: str) -> None:
    found = ask(tofacitinib(id_=id_), selections=[f"MedicationRequest/{id_}"])
    assert given(found) == "TOFA-DOSE-04"
    assert all(finding["order"] == "MedicationRequest" for finding in findings(found).values())


@pytest.mark.parametrize("id_", [None, "", 5])
def test_a_draft_without_id_counts_where_a_selection_has_no_other_draft(id_: object) -> None:
    nameless = tofacitinib() | {"id": id_}
    assert given(ask(nameless, selections=["MedicationRequest/new"])) == "TOFA-DOSE-04"
    found = ask(nameless, draft("ruxolitinib", 4, id_="d2"), selections=["MedicationRequest/d2"])
    assert {finding["order"] for finding in findings(found).values()} == {"MedicationRequest/d2"}


def test_an_odd_drafts_bundle_is_no_fault() -> None:
    """No type, an object for a list, entries that are none."""
    request = hook_request([])
    request["context"]["draftOrders"] = {
        "resourceType": "Bundle",
        "entry": [None, {}, {"resource": None}, 5, {"resource": tofacitinib(category={"text": "community"})}],
    }
    assert given(cards(request)) == "TOFA-DOSE-04"


@pytest.mark.parametrize("hook", ["order-select", "order-sign", "medication-prescribe"])
def test_every_order_hook_gives_the_same(hook: str) -> None:
    assert given(cards(hook_request([tofacitinib()], hook=hook))) == "TOFA-DOSE-04"


def test_two_drafts_get_their_own_cards() -> None:
    found = cards(hook_request([tofacitinib(), draft("ruxolitinib", 5, id_="d2")]))
    orders = [{finding["order"] for finding in ours(card)["findings"]} for card in found]
    assert all(len(named) == 1 for named in orders)
    assert set().union(*orders) == {"MedicationRequest/d1", "MedicationRequest/d2"}


@pytest.mark.parametrize(
    "subject", [{"reference": "Patient/p2"}, {"reference": "http://x/fhir/Patient/p2"}, "Patient/p2"], ids=str
)
def test_another_patients_draft_is_not_checked_and_says_so(subject: object) -> None:
    (card,) = ask(tofacitinib(subject=subject))
    assert "names another patient" in card["detail"]
    assert "dose" not in ours(card)


def test_a_draft_with_a_modifier_extension_is_not_checked_and_says_so() -> None:
    modifier = [{"url": "https://ehr.example/negated", "valueBoolean": True}]
    (card,) = ask(tofacitinib(modifierExtension=modifier))
    assert card["indicator"] == "warning"
    assert "modifier extension" in card["detail"]
    assert missing([card]) == {("drug", "unreadable")} and given([card]) == "-"


@pytest.mark.parametrize("kind", ["ServiceRequest", "Immunization", "MedicationDispense", "", 5, None])
def test_other_resources_among_the_drafts_are_left_alone(kind: object) -> None:
    assert ask(tofacitinib() | {"resourceType": kind}) == []


def test_a_request_of_the_wrong_shape_is_refused() -> None:
    request = hook_request([])
    request["context"]["draftOrders"] = "drafts"
    response = post(request)
    assert response.status_code == 400
    assert "draftOrders" in response.get_json()["issue"][0]["diagnostics"]


# --- versions -------------------------------------------------------------------------------------

PILL = {"value": 1, "system": UCUM, "code": "{pill}"}
TWICE = {"frequency": 2, "period": 1, "periodUnit": "d"}
STU3: Json = {
    "medicationCodeableConcept": TOFACITINIB,
    "dosageInstruction": [{"timing": {"repeat": TWICE}, "doseQuantity": PILL}],
}
R4: Json = {
    "medicationCodeableConcept": TOFACITINIB,
    "dosageInstruction": [{"timing": {"repeat": TWICE}, "doseAndRate": [{"doseQuantity": PILL}]}],
}
DSTU2: Json = {
    "resourceType": "MedicationOrder",
    "subject": None,
    "patient": {"reference": "Patient/p1"},
    "medicationCodeableConcept": TOFACITINIB,
    "dosageInstruction": [
        {"timing": {"repeat": {"frequency": 2, "period": 1, "periodUnits": "d"}}, "doseQuantity": PILL}
    ],
}
VERSIONS = {"R4": R4, "STU3": STU3, "DSTU2": DSTU2}


def said(found: list[Json]) -> set[tuple[str, str, str]]:
    return {(f["id"], f["outcome"], f["severity"]) for f in findings(found).values()}


def shaped(version: Json) -> Json:
    return {name: value for name, value in (draft("tofacitinib") | version).items() if value is not None}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_versions_of_fhir_give_the_same_findings(version: str) -> None:
    found = ask(shaped(VERSIONS[version]))
    assert said(found) == said(ask(shaped(R4)))
    one = dose(found)
    assert one is not None and one["order"] == {"mgPerDay": 10, "verdict": "over"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_suggestion_keeps_the_shape_of_its_draft(version: str) -> None:
    before = shaped(VERSIONS[version])
    (suggestion,) = updates(ask(before))
    after = suggestion["actions"][0]["resource"]
    (written,) = after["dosageInstruction"]
    assert {**after, "dosageInstruction": 0} == {**before, "dosageInstruction": 0}
    assert ("doseAndRate" in written) is (version == "R4")
    assert ("doseQuantity" in written) is (version != "R4")
    assert ("periodUnits" in written["timing"]["repeat"]) is (version == "DSTU2")


SHAPES: dict[str, tuple[Json, bool]] = {
    # drafts without a dose, and whether the suggestion is in STU3 shape
    "nothing said": ({}, False),
    "STU3 context": ({"context": {"reference": "Encounter/1"}}, True),
    "STU3 requester": ({"requester": {"agent": {"reference": "Practitioner/1"}}}, True),
    "R4 requester": ({"requester": {"reference": "Practitioner/1"}}, False),
    "STU3 dose range": ({"dosageInstruction": [{"doseRange": {"low": quantity(4, "mg")}}]}, True),
    "oddities": ({"dosageInstruction": ["odd"]}, False),
}


@pytest.mark.parametrize(("members", "is_stu3"), SHAPES.values(), ids=SHAPES)
def test_the_version_is_told_by_the_shape(members: Json, is_stu3: bool) -> None:
    (suggestion,) = updates(ask(draft("tofacitinib") | members))
    (written,) = suggestion["actions"][0]["resource"]["dosageInstruction"]
    assert ("doseQuantity" in written) is is_stu3


# --- doses ----------------------------------------------------------------------------------------

DOSES: dict[str, tuple[Json, str, int | None]] = {
    # dosageInstruction of tofacitinib at 28.5 kg (4 mg twice daily), verdict, mg per day
    "match": ({"dosageInstruction": [dosage(4)]}, "match", 8),
    "in g": ({"dosageInstruction": [dosage("0.004", unit="g")]}, "match", 8),
    "morning and evening": ({"dosageInstruction": divided(MORN=4, EVE=4)}, "match", 8),
    "object for list": ({"dosageInstruction": dosage(4)}, "match", 8),
    "over": ({"dosageInstruction": [dosage(5)]}, "over", 10),
    "under": ({"dosageInstruction": [dosage(2)]}, "under", 4),
    "same total, once": ({"dosageInstruction": [dosage(8, 1)]}, "schedule", 8),
    "same total, four times": ({"dosageInstruction": [dosage(2, 4)]}, "schedule", 8),
    "none": ({}, "absent", None),
    "empty list": ({"dosageInstruction": []}, "absent", None),
    "timing alone": ({"dosageInstruction": [{"timing": {"repeat": TWICE}}]}, "absent", None),
    "words": ({"dosageInstruction": [{"text": "4 mg twice daily"}]}, "unreadable", None),
    "per kg": ({"dosageInstruction": [dosage(1, unit="mg/kg")]}, "unreadable", None),
    "a number in quotes": (
        {
            "dosageInstruction": [
                {"timing": {"repeat": TWICE}, "doseAndRate": [{"doseQuantity": {"value": "4"}}]}
            ]
        },
        "unreadable",
        None,
    ),
    "odd": ({"dosageInstruction": "4 mg"}, "unreadable", None),
    "millilitres of an unknown solution": ({"dosageInstruction": [dosage(4, unit="mL")]}, "unreadable", None),
}


@pytest.mark.parametrize(("members", "verdict", "total"), DOSES.values(), ids=DOSES)
def test_the_drafted_dose_against_the_row(members: Json, verdict: str, total: int | None) -> None:
    found = ask(draft("tofacitinib") | members)
    one = dose(found)
    assert one is not None
    assert one["id"] == "TOFA-DOSE-04"
    assert one["order"] == (
        {"verdict": verdict} if total is None else {"mgPerDay": total, "verdict": verdict}
    )
    assert bool(updates(found)) is (verdict != "match")
    if verdict == "unreadable":
        assert ("doseDrafted", "unreadable") in missing(found)


def test_millilitres_of_the_oral_solution() -> None:
    solution = {"text": "tofacitinib 1 mg/mL oral solution"}
    found = ask(
        draft("tofacitinib", medicationCodeableConcept=solution, dosageInstruction=[dosage(4, unit="mL")])
    )
    one = dose(found)
    assert one is not None and one["order"] == {"mgPerDay": 8, "verdict": "match"}


SOLUTIONS = {
    "no strength": ({"text": "tofacitinib oral solution"}, 8, True),
    "another strength": ({"text": "tofacitinib 2 mg/mL oral solution"}, 16, False),
    "two strengths": ({"text": "tofacitinib 1 mg/mL or 2 mg/mL oral solution"}, None, False),
    "no form": ({"text": "tofacitinib"}, None, False),
    "a tablet": ({"text": "tofacitinib tablet"}, None, False),
}


@pytest.mark.parametrize(("product", "total", "taken"), SOLUTIONS.values(), ids=SOLUTIONS)
def test_a_solution_that_does_not_say_its_strength_is_the_printed_one(
    product: Json, total: int | None, taken: bool
) -> None:
    found = ask(
        draft("tofacitinib", medicationCodeableConcept=product, dosageInstruction=[dosage(4, unit="mL")])
    )
    one = dose(found)
    assert one is not None and one["order"].get("mgPerDay") == total
    assert ("taken to be the guideline's 1 mg/mL oral solution" in texts(found)) is taken


def test_a_baricitinib_solution_has_no_printed_strength() -> None:
    found = ask(
        draft(
            "baricitinib",
            medicationCodeableConcept={"text": "baricitinib oral solution"},
            dosageInstruction=[dosage(4, 1, unit="mL")],
        )
    )
    one = dose(found)
    assert one is not None and one["order"] == {"verdict": "unreadable"}


def test_notes_on_the_product_are_told() -> None:
    clash = {**TOFACITINIB, "text": "tofacitinib 11 mg tablet"}
    found = texts(ask(draft("tofacitinib", medicationCodeableConcept=clash)))
    assert (
        "The product of the draft: the product code, the Medication resource and the words do not agree"
        in found
    )
    assert "does not say which form" in texts(ask(draft("tofacitinib", 4)))


def test_an_empty_draft_gets_no_card() -> None:
    """The form of a client before a drug is chosen."""
    bare = {"resourceType": "MedicationRequest", "id": "d1", "status": "draft"}
    request = hook_request([bare])
    request["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": bundle(bare)["entry"]}
    assert cards(request) == []


# --- drafts that end the drug -----------------------------------------------------------------------

ENDING: dict[str, Json] = {
    "stopped": {"status": "stopped"},
    "on hold": {"status": "on-hold"},
    "not to be given": {"doNotPerform": True},
}
RUNNING = order("baricitinib", 4, 1)


@pytest.mark.parametrize("members", ENDING.values(), ids=ENDING)
@pytest.mark.parametrize("drug", ["tofacitinib", "baricitinib"])
def test_an_order_that_ends_the_running_drug_is_judged_as_its_end(drug: str, members: Json) -> None:
    running = [order(drug, 4, 1)]
    found = ask(draft(drug, 4, 1, **members), conditions=[SAVI], medicines=running)
    assert {name: f["severity"] for name, f in findings(found).items()} == {"WITH-01": "warning"}
    found = ask(draft(drug, 4, 1, **members), conditions=[POLY_JIA], medicines=running)
    assert {name: f["severity"] for name, f in findings(found).items()} == {"WITH-02": "info"}


@pytest.mark.parametrize("members", ENDING.values(), ids=ENDING)
def test_the_end_of_a_drug_for_nobody_knows_what_is_not_answered_with_silence(members: Json) -> None:
    found = ask(draft("baricitinib", 4, 1, **members), conditions=[], medicines=[RUNNING])
    assert findings(found)["WITH-01"]["outcome"] == "cannot-assess"
    assert missing(found) == {("indication", "absent")}


def test_an_order_not_to_give_what_nobody_takes_is_a_note() -> None:
    (card,) = ask(draft("baricitinib", 4, 1, doNotPerform=True), conditions=[SAVI])
    assert (card["indicator"], given([card])) == ("info", "-")
    assert "not to be given" in card["detail"]
    unknown = prefetch_of(conditions=[SAVI]) | {"medicationRequests": outcome()}
    found = cards(hook_request([draft("baricitinib", 4, 1, doNotPerform=True)], unknown))
    assert "WITH-01" in findings(found)


def test_an_order_not_to_give_something_else_concerns_nobody() -> None:
    adalimumab = draft("tofacitinib", id_="d2", medicationCodeableConcept=concept("L04AB04", ATC))
    assert "CON-02" in findings(ask(adalimumab, medicines=[RUNNING]))
    assert ask(adalimumab | {"doNotPerform": True}, medicines=[RUNNING]) == []
    assert "CON-02" not in findings(ask(draft("baricitinib", 4, 1), adalimumab | {"doNotPerform": True}))


def test_the_order_that_a_new_one_replaces_does_not_keep_its_dose_from_being_accepted() -> None:
    end = draft("baricitinib", 4, 1, id_="run1", status="stopped")
    found = ask(end, draft("baricitinib", 2, 1), medicines=[RUNNING])
    assert len(updates(found)) == 1
    found = ask(draft("baricitinib", 4, 1, id_="d2"), draft("baricitinib", 2, 1), medicines=[RUNNING])
    assert updates(found) == []


# --- the eGFR since the running order began ---------------------------------------------------------


@pytest.mark.parametrize(
    ("heights", "crossed"),
    [
        ({"2026-01-05": "130", "2026-05-25": "132"}, True),
        ({"2026-05-25": "132"}, True),  # the first height after the start is near enough
        ({"2026-05-25": "132", "2026-02-01": "90"}, False),  # the first of them, be it the shorter
        ({"2025-06-01": "131", "2026-05-25": "132"}, True),  # one of long before is not
    ],
    ids=["then", "later", "first later", "long before"],
)
def test_the_egfr_at_the_start_of_the_running_order_is_looked_at(
    heights: dict[str, str], crossed: bool
) -> None:
    results = [observation("height", cm, on=on, id_=f"h{on}") for on, cm in heights.items()]
    results += [
        observation("creatinine", 30, on="2026-01-05", id_="then"),
        observation("creatinine", 45, on="2026-05-25", id_="now"),
    ]
    found = ask(
        draft("baricitinib", dosageInstruction=divided(MORN=4, EVE=2)),
        conditions=[SAVI],
        medicines=[order("baricitinib", dosageInstruction=divided(MORN=4, EVE=2), start="2026-01-10")],
        height=None,
        creatinine=None,
        results=results,
    )
    assert findings(found)["REN-BARI-03"]["severity"] == ("warning" if crossed else "info")
    assert given(found) == ("-" if crossed else "BARI-IFNR-05")


# --- a product that does not fit its dose -----------------------------------------------------------

BIG = {"birth": "2013-05-14", "weight": "42", "height": "150"}
PRODUCTS: dict[str, tuple[str, Json, str, set[str]]] = {
    # words of the product -> the child, mg of the draft, which of the two statements fault the product
    "1 mg/mL solution": ("Tofacitinib 1 mg/mL oral solution", {}, "4", set()),
    "1 mg/mL in other numbers": ("Tofacitinib 5mg/5ml oral solution", {}, "4", set()),
    "5 mg/mL solution below 40 kg": (
        "Tofacitinib 5 mg/mL oral solution",
        {},
        "4",
        {"FORM-01", "TOFA-DOSE-08"},
    ),
    "5 mg/mL solution from 40 kg": ("Tofacitinib 5 mg/mL oral solution", BIG, "5", {"TOFA-DOSE-08"}),
    "solution without a strength": ("Tofacitinib oral solution", {}, "4", set()),
    "milligrams of the dose": ("Tofacitinib 4 mg", {}, "4", set()),
    "5 mg tablets below 40 kg": ("Tofacitinib 5 mg tablets", {}, "4", {"FORM-01"}),
    "5 mg tablets from 40 kg": ("Tofacitinib 5 mg tablets", BIG, "5", set()),
    "10 mg tablets": ("Tofacitinib 10 mg tablets", BIG, "5", {"TOFA-DOSE-08"}),
    "modified release": ("Tofacitinib 11 mg modified-release tablets", BIG, "5", {"TOFA-DOSE-08"}),
}


@pytest.mark.parametrize(("words", "child", "mg", "faults"), PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_that_the_guideline_does_not_name_is_told(
    words: str, child: Json, mg: str, faults: set[str]
) -> None:
    drug = concept("1357536", RXNORM, words)
    fitting = findings(ask(draft("tofacitinib", mg, medicationCodeableConcept=drug), **child))
    assert {"FORM-01", "TOFA-DOSE-08"} & set(fitting) == faults
    once = ask(draft("tofacitinib", mg, 1, medicationCodeableConcept=drug), **child)
    (update,) = updates(once)
    assert ("isRecommended" in update) is not bool(faults)
    assert update["label"].endswith("; the product must be changed too") is bool(faults)
