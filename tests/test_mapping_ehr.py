"""What real records hold beside what the specification shows: cut lists, copies that differ, reports of others, creams,
brand names, free text, and dates that databases use for "not known"."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from builders import (
    ATC,
    LOINC,
    POLY_JIA,
    RXNORM,
    SAVI,
    Json,
    answer,
    bundle,
    cards,
    comparable,
    concept,
    condition,
    dose,
    draft,
    evidence,
    findings,
    given,
    hook_request,
    missing,
    observation,
    order,
    post,
    prefetch_of,
    quantity,
    texts,
    vaccination,
)

from fhir_mappings import medicines
from fhir_mappings.answers import read_answers
from fhir_mappings.concepts import codes_of
from fhir_mappings.elements import read_date
from fhir_mappings.patient import read_sex
from fhir_mappings.prefetch import Pool, Supply
from guideline.facts import vocabulary
from guideline.values import Missing, Reason

SUBJECT = {"reference": "Patient/p1"}
OTHER = {"reference": "Patient/p2"}
MODIFIER = {"modifierExtension": [{"url": "http://example.org/not"}]}


def told(drug: str = "tofacitinib", *, data: Json | None = None, **child: Any) -> list[Json]:
    return cards(hook_request([draft(drug, 4)], (prefetch_of(**child)) | (data or {})))


# --- lists that were cut ------------------------------------------------------------------------------------


def counted(total: Any, *modes: str | None) -> Json:
    """A search answer of one weight and further entries of these modes, with this ``total`` and no ``next`` link."""
    entries: list[Json] = [{"resource": observation("weight", "28.5")}]
    for number, mode in enumerate(modes):
        other = {"resourceType": "Encounter", "id": f"e{number}"}
        entries.append({"resource": other} | ({} if mode is None else {"search": {"mode": mode}}))
    return {"resourceType": "Bundle", "type": "searchset", "total": total, "entry": entries}


@pytest.mark.parametrize(
    ("growth", "cut"),
    [
        (counted(1), False),
        (counted(2), True),
        (counted(150), True),
        (counted(2, None), False),
        (counted(2, "match"), False),
        (counted(2, "include"), True),
        (counted(2, "outcome", "match"), False),
        (counted(0), False),
        (counted("2"), False),
        ({"resourceType": "Bundle", "type": "searchset", "total": 3}, True),
        ({"resourceType": "Bundle", "type": "searchset", "total": 0}, False),
    ],
)
def test_a_list_that_holds_less_than_its_total_is_incomplete(growth: Json, cut: bool) -> None:
    """A copy of a page often loses its ``next`` link."""
    assert (("height", "partial-page") in missing(told(data={"growth": growth}))) is cut


# --- copies that differ -------------------------------------------------------------------------------------


def in_both_orders(*results: Json) -> list[list[Json]]:
    return [told(data={"growth": bundle(*some)}) for some in (results, results[::-1])]


def test_of_two_weights_under_one_id_neither_is_chosen() -> None:
    height = observation("height", "132")
    light, heavy = (observation("weight", value, id_="w") for value in ("28.5", "50"))
    one, other = in_both_orders(light, heavy, height)
    assert given(one) == given(other) == "-"
    assert comparable(one) == comparable(other)
    assert {given(found) for found in in_both_orders(light, light, height)} == {"TOFA-DOSE-04"}


def test_many_copies_under_one_id_do_not_take_long() -> None:
    copies = [observation("weight", 20 + number, id_="w") for number in range(1500)]
    assert given(told(data={"growth": bundle(*copies)})) == "-"


@pytest.mark.parametrize(
    ("again", "birth"),
    [({"birthDate": "2010-05-14"}, True), ({"birthDate": "2016"}, True), ({"active": True}, False)],
)
def test_a_patient_that_comes_twice_must_have_one_birth_date(again: Json, birth: bool) -> None:
    data = prefetch_of()
    data["other"] = data["patient"] | again
    found = told(data=data)
    assert (("birthDate", "unreadable") in missing(found)) is birth
    assert (given(found) == "-") is birth


def test_a_patient_that_comes_twice_must_have_one_sex() -> None:
    girl, boy = ({"resourceType": "Patient", "id": "p1", "gender": sex} for sex in ("female", "male"))
    assert read_sex([girl, girl]) == read_sex([girl])
    assert read_sex([girl, boy]) == Missing.of("sex", Reason.UNREADABLE)


def test_a_medication_that_comes_in_two_versions_answers_no_reference() -> None:
    drafted = draft(
        "tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": "Medication/m1"}
    )
    one = {"resourceType": "Medication", "id": "m1", "code": concept("1357536", RXNORM)}
    other = one | {"code": concept("2047232", RXNORM)}
    assert post(hook_request([drafted], prefetch_of(medicines=[one, one]))).status_code == 200
    assert post(hook_request([drafted], prefetch_of(medicines=[one, other]))).status_code == 412


# --- modifiers in odd places --------------------------------------------------------------------------------

LOW_HB = {"haemoglobin": "7.1", "neutrophils": "3", "lymphocytes": "2"}


def test_rules_agreed_elsewhere_make_a_resource_unusable() -> None:
    """``implicitRules`` is a modifier element: what it does to the meaning is not known here."""
    strange = observation("haemoglobin", "7.1", implicitRules="http://example.org/rules")
    found = told(bloods={"neutrophils": "3", "lymphocytes": "2"}, results=[strange])
    assert evidence(found, "haemoglobin") == set()
    assert ("haemoglobin", "unreadable") in missing(found)


def test_a_modified_reference_range_is_none() -> None:
    def alt(more: Json) -> set[str]:
        limits = {"low": quantity("5", "U/L"), "high": quantity("40", "U/L")} | more
        one = observation("alt", "200", referenceRange=[limits])
        return {n for n, f in findings(told(data={"liver": bundle(one)})).items() if f["outcome"] == "hit"}

    assert alt({}) - alt(MODIFIER), "the range decides something"


def test_a_modified_supply_ends_no_course() -> None:
    """30 days from January on: ended long ago; with an unknown modifier that cannot be said."""

    def course(more: Json) -> str:
        supply = {"expectedSupplyDuration": quantity(30, "d")} | more
        ended = order("baricitinib", 4, 1, start="2026-04-20", status="completed", dispenseRequest=supply)
        return comparable(told("baricitinib", medicines=[ended], conditions=[SAVI]))

    assert course({}) != course(MODIFIER)


@pytest.mark.parametrize(
    "more", [MODIFIER, {"isActive": False}, {"itemCodeableConcept": concept("1", "http://x")}]
)
def test_an_ingredient_that_is_none_names_no_drug(more: Json) -> None:
    ingredient = {"itemCodeableConcept": concept("1357536", RXNORM)}
    medication = {"resourceType": "Medication", "id": "m", "code": {"text": "a product"}}
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": "#m"})

    def answered(part: Json) -> list[Json]:
        return cards(hook_request([drafted | {"contained": [medication | {"ingredient": [part]}]}]))

    assert answered(ingredient)
    assert not answered(ingredient | more)


def test_a_medication_entered_in_error_names_no_drug() -> None:
    medication = {"resourceType": "Medication", "id": "m1", "code": concept("1357536", RXNORM)}
    drafted = draft(
        "tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": "#m1"}
    )
    wrong = medication | {"status": "entered-in-error"}
    assert post(hook_request([drafted | {"contained": [medication]}])).status_code == 200
    assert post(hook_request([drafted | {"contained": [wrong]}])).status_code == 412


@pytest.mark.parametrize("place", ["medication", "order"])
def test_an_ingredient_may_be_a_resource_of_its_own(place: str) -> None:
    substance = {"resourceType": "Substance", "id": "s", "code": concept("1357536", RXNORM)}
    medication: Json = {
        "resourceType": "Medication",
        "id": "m",
        "code": {"text": "a product"},
        "ingredient": [{"itemReference": {"reference": "#s"}}],
    }
    contained = (
        [medication | {"contained": [substance]}] if place == "medication" else [medication, substance]
    )
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": "#m"})
    assert given(cards(hook_request([drafted | {"contained": contained}]))) == "TOFA-DOSE-04"


# --- medicines as lists tell them ---------------------------------------------------------------------------


def taking(medicine: Json, **more: Any) -> list[Json]:
    """The answer to baricitinib drafted for a child that takes this."""
    taken = draft("tofacitinib", id_="x", medicationCodeableConcept=medicine, authoredOn="2026-01-01")
    taken |= {"status": "active", **more}
    return told("baricitinib", medicines=[taken])


METHOTREXATE = concept("L04AX03", ATC)


@pytest.mark.parametrize(
    ("more", "counts"),
    [
        ({"intent": "order"}, True),
        ({"intent": "plan"}, False),
        ({"intent": "plan", "reportedBoolean": False}, False),
        ({"intent": "plan", "reportedBoolean": True}, True),
        ({"intent": "plan", "reported": True}, True),
        ({"intent": "plan", "reportedReference": {"reference": "Practitioner/1"}}, True),
        ({"intent": "proposal", "reportedBoolean": True}, False),
        ({"intent": "order", "status": "cancelled"}, False),
    ],
)
def test_a_reported_medicine_is_taken_though_it_is_no_order(more: Json, counts: bool) -> None:
    """Medication lists keep what a family or another hospital reports as a plan (US Core)."""
    assert ("CON-04" in findings(taking(METHOTREXATE, **more))) is counts


NAMED: dict[str, tuple[str, str]] = {
    "ingredient": ("Methotrexate 2.5mg tablets", "CON-04"),
    "brand of a biologic": ("RoActemra 162mg/0.9ml solution for injection pre-filled pens", "CON-02"),
    "probenecid": ("probenecid 500 MG Oral Tablet", "CON-07"),
    "brand of a pill": ("Microgynon 30 tablets", "PREG-04"),
    "an oestrogen": ("Ethinylestradiol 30microgram / Levonorgestrel 150microgram tablets", "PREG-04"),
}


@pytest.mark.parametrize(("words", "row"), NAMED.values(), ids=NAMED)
def test_a_medicine_known_by_its_name_alone_is_flagged(words: str, row: str) -> None:
    for medicine in ({"text": words}, {"coding": [{"system": "http://x", "code": "1", "display": words}]}):
        found = taking(medicine)
        assert row in findings(found)
        assert "Recognised by the name of the medicine, not by a code: MedicationRequest/x." in texts(found)
    assert "Recognised by the name" not in texts(taking(METHOTREXATE))


def test_an_allergy_known_by_its_name_alone_is_flagged() -> None:
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a",
        "patient": SUBJECT,
        "code": {"text": "Xeljanz"},
    }
    found = told(data={"allergies": bundle(allergy)})
    assert "not by a code: AllergyIntolerance/a." in texts(found)


def test_names_are_in_lower_case_stand_once_and_mean_a_concept_of_the_tables() -> None:
    path = Path(medicines.__file__).with_name("names.csv")
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    pairs = [(row["name"], row["concept"]) for row in rows]
    assert len(pairs) == len(set(pairs))
    used = {concept for kind in vocabulary().values() for concept in kind.concepts}
    for row in rows:
        assert row["name"] == row["name"].lower().strip()
        assert row["concept"] in used | {"jak-inhibitor-unnamed"} or codes_of(row["concept"]), row


ROUTES = {"mouth": concept("26643006"), "skin": concept("448598008"), "eye": concept("54485002")}
TACROLIMUS = {
    "RxNorm": concept("42316", RXNORM),
    "VTM": concept("109129008"),
    "words": {"text": "tacrolimus"},
}
LOCAL: dict[str, tuple[str, str | None, bool]] = {
    # words beside the code, route, whether it counts as taken by the whole body
    "nothing said": ("", None, True),
    "capsules": ("1 mg capsules", None, True),
    "ointment": ("0.1% ointment", None, False),
    "eye drops": ("eye drops", None, False),
    "a soft gel capsule": ("soft gel capsule", None, True),
    "route skin": ("", "skin", False),
    "route eye": ("", "eye", False),
    "route mouth": ("", "mouth", True),
    "ointment by mouth": ("0.1% ointment", "mouth", True),
}


@pytest.mark.parametrize("coded", TACROLIMUS)
@pytest.mark.parametrize(("words", "route", "systemic"), LOCAL.values(), ids=LOCAL)
@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationStatement"])
def test_what_is_for_the_skin_or_the_eye_alone_is_not_taken(
    kind: str, words: str, route: str | None, systemic: bool, coded: str
) -> None:
    """One code of RxNorm, SNOMED CT or dm+d stands for every route of tacrolimus (pitfall 10)."""
    code = TACROLIMUS[coded]
    taken: Json = {
        "resourceType": kind,
        "status": "active",
        "subject": SUBJECT,
        "medicationCodeableConcept": code | {"text": f"{code.get('text', '')} {words}".strip() or "x"},
    }
    if route is not None:
        taken["dosageInstruction" if kind == "MedicationRequest" else "dosage"] = [{"route": ROUTES[route]}]
    assert ("tacrolimus" in medicines.medicine_of(taken, Pool({})).concepts) is systemic


# --- words alone --------------------------------------------------------------------------------------------

ALONE = ": in words alone, without a code"


def entry(kind: str, words: str, **more: Any) -> Json:
    what = "vaccineCode" if kind == "Immunization" else "code"
    return {
        "resourceType": kind,
        "id": "w",
        "status": "completed",
        "subject": SUBJECT,
        what: {"text": words},
        **more,
    }


@pytest.mark.parametrize(
    ("key", "one", "named"),
    [
        ("conditions", entry("Condition", "Wheezy child"), True),
        ("conditions", entry("Condition", "Pregnant"), False),
        ("procedures", entry("Procedure", "Haemodialysis"), True),
        ("allergies", entry("AllergyIntolerance", "nuts"), True),
        ("immunizations", entry("Immunization", "chickenpox vaccine"), True),
        ("conditions", entry("Condition", " "), False),
        ("conditions", entry("Condition", "x", subject=OTHER), False),
        ("conditions", entry("Condition", "x", verificationStatus=concept("refuted", "x")), False),
        ("procedures", entry("Procedure", "x", status="not-done"), False),
        ("conditions", entry("Condition", "x", code=concept("195967001", text="x")), False),
    ],
)
def test_an_entry_in_words_alone_is_named(key: str, one: Json, named: bool) -> None:
    data = prefetch_of()
    data[key]["entry"].append({"resource": one})
    assert (f"{one['resourceType']}/w{ALONE}" in texts(told(data=data))) is named


@pytest.mark.parametrize(
    ("words", "named"), [("ZX 40", True), ("methotrexate", False), ("zopiclone benzoate", True)]
)
@pytest.mark.parametrize("referred", [False, True])
def test_a_medicine_in_unknown_words_alone_is_named(words: str, named: bool, referred: bool) -> None:
    medication = {"resourceType": "Medication", "id": "m", "code": {"text": words}}
    more = {"medicationReference": {"reference": "#m"}, "contained": [medication]} if referred else {}
    found = texts(taking(None if referred else {"text": words}, **more))  # type: ignore[arg-type]
    assert (f"MedicationRequest/x{ALONE}" in found) is named


def test_a_result_in_words_alone_is_named_where_it_could_be_what_is_missing() -> None:
    spoken = observation("haemoglobin", "11", id_="hb", code={"text": "Haemoglobin"})
    found = told(bloods={"neutrophils": "3", "lymphocytes": "2"}, results=[spoken])
    assert "Observation/hb: in no code that this service knows; by its unit" in texts(found)
    assert evidence(found, "haemoglobin") == set()


# --- whose it is, and whether it is final --------------------------------------------------------------------

FOREIGN: dict[str, Json] = {
    "Observation, number": observation("weight", "60", id_="f", subject=OTHER),
    "Observation, words": answer("71773-6", "10828004", "f") | {"subject": OTHER},
    "Observation of no concern": observation(
        "weight", "60", id_="f", code=concept("8867-4", LOINC), subject=OTHER
    ),
    "Observation by an absolute reference": observation(
        "weight", "60", id_="f", subject={"reference": "https://ehr.example/fhir/Patient/p2"}
    ),
    "Observation of a group": observation("weight", "60", id_="f", subject={"reference": "Group/p1"}),
    "contained in a report": {
        "resourceType": "DiagnosticReport",
        "id": "f",
        "status": "final",
        "code": concept("58410-2", LOINC),
        "subject": SUBJECT,
        "contained": [observation("weight", "60", id_="w", subject=OTHER)],
    },
    "DiagnosticReport": {
        "resourceType": "DiagnosticReport",
        "id": "f",
        "status": "final",
        "code": concept("30745-4", LOINC),
        "subject": OTHER,
    },
    "Condition": condition("265764009", "f", subject=OTHER),
    "Procedure": entry("Procedure", "x", code=concept("265764009"), subject=OTHER),
    "MedicationRequest": order("baricitinib", 4, id_="f", subject=OTHER),
    "MedicationStatement": {
        "resourceType": "MedicationStatement",
        "id": "f",
        "status": "active",
        "medicationCodeableConcept": concept("L04AX03", ATC),
        "subject": OTHER,
    },
    "AllergyIntolerance": {
        "resourceType": "AllergyIntolerance",
        "id": "f",
        "patient": OTHER,
        "code": concept("L04AF01", ATC),
    },
    "Immunization": vaccination("21", "f", on="2026-05-20") | {"patient": OTHER},
    "ServiceRequest": {
        "resourceType": "ServiceRequest",
        "id": "f",
        "status": "active",
        "intent": "order",
        "category": [concept("387713003")],
        "occurrenceDateTime": "2026-06-10",
        "subject": OTHER,
    },
    "Patient": {"resourceType": "Patient", "id": "p2", "birthDate": "2020-01-01", "gender": "male"},
}
NOTE = "1 resource(s) of another patient came with the request and were not used."


@pytest.mark.parametrize("key", ["growth", "conditions", "a key of the client's own"])
@pytest.mark.parametrize("what", FOREIGN)
def test_fetch_8_another_patients_resource_is_never_used_and_named_once(what: str, key: str) -> None:
    """FETCH-8: the answer is the usual one, word for word, but for one note."""
    data = prefetch_of()
    data.setdefault(key, bundle())["entry"].append({"resource": FOREIGN[what]})
    found, usual = told(data=data), told()
    assert NOTE in texts(found)
    assert comparable(found).replace(f"{NOTE} ", "").replace(NOTE, "") == comparable(usual).replace(NOTE, "")


NHS, MRN = "https://fhir.nhs.uk/Id/nhs-number", "https://hospital.example/mrn"
OWN_NUMBER = {"system": NHS, "value": "9000000009"}


@pytest.mark.parametrize(
    ("subject", "foreign"),
    [
        ({"identifier": OWN_NUMBER}, False),
        ({"identifier": {"system": NHS, "value": "9000000017"}}, True),
        ({"identifier": {"system": NHS}}, True),
        ({"identifier": {"system": MRN, "value": "9000000017"}}, False),
        ({"identifier": "9000000017"}, False),
        ({"identifier": {"system": NHS, "value": "9000000017"}, "reference": "Patient/p1"}, False),
        ({"display": "somebody"}, False),
    ],
)
@pytest.mark.parametrize("member", ["subject", "patient"])
def test_fetch_8_a_patient_named_by_number_alone_is_compared_by_it(
    member: str, subject: Json, foreign: bool
) -> None:
    heavy = observation("weight", "50", id_="w", on="2026-05-30")
    del heavy["subject"]
    data = prefetch_of(results=[heavy | {member: subject}])
    data["patient"]["identifier"] = [OWN_NUMBER, {"value": "no system"}, "x"]
    found = told(data=data)
    assert (NOTE in texts(found)) is foreign
    assert given(found) == ("TOFA-DOSE-04" if foreign else "TOFA-DOSE-05")
    del data["patient"]["identifier"]
    assert NOTE not in texts(told(data=data))


@pytest.mark.parametrize("status", ["preliminary", "registered", "unknown"])
def test_an_answer_in_words_that_is_not_final_is_shown_and_not_used(status: str) -> None:
    early = answer("71773-6", "10828004", "igra") | {"status": status}
    found = told(data={"screening": bundle(early)})
    assert "Not yet final and therefore not used: tuberculosis test (IGRA or skin test)." in texts(found)
    assert "SCR-02" not in findings(found)
    for gone in ("entered-in-error", "cancelled"):
        assert "Not yet final" not in texts(told(data={"screening": bundle(early | {"status": gone})}))


NEGATIVE = concept("260385009")


@pytest.mark.parametrize(
    ("more", "meaning"),
    [
        ({"conclusionCode": [NEGATIVE]}, "negative"),
        ({"conclusionCode": [NEGATIVE], "status": "appended"}, "negative"),
        ({"conclusionCode": [concept("10828004")]}, "positive"),
        ({"conclusion": "No growth"}, "negative"),
        ({"conclusionCode": [concept("195967001")]}, "unclear"),
        ({"conclusionCode": [NEGATIVE], **MODIFIER}, "unclear"),
        ({}, "unclear"),
    ],
)
def test_a_report_may_conclude_in_codes(more: Json, meaning: str) -> None:
    """A chest X-ray that a DiagnosticReport tells of."""
    report = answer("30745-4", "1", "x") | {"resourceType": "DiagnosticReport", **more}
    del report["valueCodeableConcept"]
    read, not_final = read_answers(Pool({"x": Supply((report,), None)}), "p1", date(2026, 6, 1))
    assert [found.meaning for found in read["chestXray"].answers] == [meaning]
    assert not_final == ()


# --- doses as paediatric systems write them ------------------------------------------------------------------


def rate(kind: str | None, value: str, unit: str) -> Json:
    found: Json = {"doseQuantity": quantity(value, unit)}
    if kind is not None:
        found["type"] = concept(kind, "http://terminology.hl7.org/CodeSystem/dose-rate-type")
    return found


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([rate("calculated", "4", "mg")], "match"),
        ([rate("calculated", "4", "mg"), rate("ordered", "0.14", "mg/kg")], "match"),
        ([rate("ordered", "120", "mg/m2"), rate("calculated", "4", "mg")], "match"),
        ([rate("calculated", "4", "mg"), rate("ordered", "4", "mg")], "match"),
        ([rate("ordered", "0.14", "mg/kg")], "unreadable"),
        ([rate("calculated", "4", "mg"), rate("ordered", "5", "mg")], "unreadable"),
        ([rate("calculated", "4", "mg"), rate("calculated", "0.14", "mg/kg")], "unreadable"),
        ([rate("calculated", "4", "mg"), rate(None, "0.14", "mg/kg")], "unreadable"),
    ],
)
def test_the_amount_calculated_from_the_weight_is_the_dose(rates: list[Json], verdict: str) -> None:
    """Beside it often stands what was ordered per kg."""
    drafted = draft("tofacitinib", 4)
    drafted["dosageInstruction"][0]["doseAndRate"] = rates
    one = dose(cards(hook_request([drafted])))
    assert one is not None and one["order"]["verdict"] == verdict


# --- dates that are none -------------------------------------------------------------------------------------

FAR = ("0001-01-01", "0001", "0001-01-01T00:00:00+14:00", "9999-12-31", "9999", "9999-12-31T23:59:59-12:00")


def dated(when: str, status: str) -> Json:
    """A child whose every entry has this date."""
    supply = {"expectedSupplyDuration": quantity(30, "d")}
    orders = [
        order("baricitinib", 4, start=when, status=status, dispenseRequest=supply),
        order("tofacitinib", 4, id_="e", status=status, effectivePeriod={"start": when, "end": when}),
    ]
    old = condition(SAVI, "c", onsetDateTime=when, abatementDateTime=when, clinicalStatus=concept("resolved"))
    results = [
        observation("haemoglobin", "9", on=when, id_="hx"),
        observation("weight", "20", on=when, id_="wx"),
    ]
    operation = FOREIGN["ServiceRequest"] | {"subject": SUBJECT, "occurrenceDateTime": when}
    return prefetch_of(medicines=orders, conditions=[POLY_JIA, old], results=results) | {
        "immunizations": bundle(vaccination("21", "v", on=when)),
        "plannedOperations": bundle(operation),
        "screening": bundle(answer("71773-6", "260385009", "i", on=when)),
    }


@pytest.mark.parametrize("status", ["active", "completed"])
@pytest.mark.parametrize("when", FAR)
def test_dates_that_databases_use_for_not_known_break_nothing(when: str, status: str) -> None:
    data = dated(when, status)
    for drafted in (draft("baricitinib", 4), draft("tofacitinib", 4, id_="run1", authoredOn=when)):
        found = cards(hook_request([drafted], data))
        assert found
        assert "failed inside the service" not in texts(found)
    found = told(data=data | {"patient": data["patient"] | {"birthDate": when}})
    assert ("birthDate", "unreadable") in missing(found)


@pytest.mark.parametrize(
    ("month", "day", "given_"),
    [
        ("2026-05", None, "TOFA-DOSE-04"),
        ("2026-05", "2026-05-10", "TOFA-DOSE-05?"),
        ("2026-05", "2026-05-31", "TOFA-DOSE-05?"),
        ("2026", "2026-05-10", "TOFA-DOSE-05?"),
        ("2026-04", "2026-05-10", "TOFA-DOSE-05"),
        ("2026-05", "2026-04-30", "TOFA-DOSE-04"),
    ],
)
def test_a_weight_of_some_day_of_the_month_is_not_put_before_or_behind_others(
    month: str, day: str | None, given_: str
) -> None:
    """28.5 kg in May and 50 kg on a day of May: which is the newer cannot be known."""
    results = [observation("weight", "28.5", on=month, id_="w1")]
    results += [observation("weight", "50", on=day, id_="w2")] if day is not None else []
    assert given(told(weight=None, results=results)) == given_


@pytest.mark.parametrize(
    ("month", "day", "meaning"),
    [
        (("2026-05", "positive"), ("2026-05-10", "negative"), "positive"),
        (("2026-05", "negative"), ("2026-05-10", "positive"), "positive"),
        (("2026", "positive"), ("2026-05-10", "negative"), "positive"),
        (("2026-04", "positive"), ("2026-05-10", "negative"), "negative"),
    ],
)
def test_of_answers_whose_order_is_not_known_the_graver_counts(
    month: tuple[str, str], day: tuple[str, str], meaning: str
) -> None:
    codes = {"positive": "10828004", "negative": "260385009"}
    tests = [answer("71773-6", codes[said], f"t{n}", on=on) for n, (on, said) in enumerate((month, day))]
    read, _ = read_answers(Pool({"x": Supply(tuple(tests), None)}), "p1", date(2026, 6, 1))
    assert read["tbTest"].answers[0].meaning == meaning


def test_an_end_in_9999_is_an_open_end() -> None:
    def course(end: str | None) -> str:
        period = {"start": "2026-01-10"} | ({} if end is None else {"end": end})
        statement = order("baricitinib", 4, 1, effectivePeriod=period)
        return comparable(told("baricitinib", medicines=[statement]))

    assert course("9999-12-31") == course(None)
    assert course("2026-02-01") != course(None)


def test_read_dates_keep_their_limits() -> None:
    assert read_date("1800-01-01") == date(1800, 1, 1)
    assert read_date("2300-12-31") == date(2300, 12, 31)
    assert read_date("1799-12-31") is read_date("2301-01-01") is None
