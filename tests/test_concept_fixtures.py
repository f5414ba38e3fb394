"""Every concept of the code tables: a resource that carries its code is found, and look-alikes are not.

Generated over the tables: each code as an EHR would send it, then the same code in another system, with another
last digit, and in words alone. The look-alikes that have a name of their own stand below by hand.
"""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from builders import (
    ATC,
    LOINC,
    RXNORM,
    SAVI,
    SNOMED,
    Json,
    answer,
    bundle,
    cards,
    concept,
    condition,
    draft,
    findings,
    given,
    hook_request,
    missing,
    observation,
    prefetch_of,
    vaccination,
)

from fhir_mappings.answers import read_answers
from fhir_mappings.concepts import CODES, PRODUCTS_FILE, concepts_of, exclusions_of
from fhir_mappings.dosage import read_dose
from fhir_mappings.lists import read_lists
from fhir_mappings.medicines import medicine_of
from fhir_mappings.observations import read_results
from fhir_mappings.prefetch import Pool, Supply, keys
from fhir_mappings.products import Product, Unreadable, read_amount, read_product
from fhir_mappings.systems import canonical
from guideline.doses import DoseState, Form
from guideline.facts import vocabulary

TODAY = date(2026, 6, 1)
SUBJECT = {"reference": "Patient/p1"}
LOCAL = "https://hospital.example/codes"
KIND_OF = {
    "conditions": "Condition",
    "procedures": "Procedure",
    "medicines": "MedicationStatement",
    "vaccines": "Immunization",
    "laboratory": "Observation",
    "measurements": "Observation",
}


@cache
def rows() -> tuple[tuple[str, str, str, str, str], ...]:
    """(file, concept, system, code, use) of every row that names something a child has, takes or had measured."""
    found = []
    for path in sorted(CODES.glob("*.csv")):
        if path.name != PRODUCTS_FILE and path.stem in KIND_OF:
            with path.open(encoding="utf-8", newline="") as handle:
                found += [
                    (path.stem, r["concept"], r["system"], r["code"], r["use"])
                    for r in csv.DictReader(handle)
                ]
    return tuple(found)


CONCEPTS = sorted({(file, name) for file, name, _, _, use in rows() if use != "exclude"})
NO_ENTRY = ("form-", "route-", "unit-")


def resource(file: str, code: Json) -> Json:
    kind = KIND_OF[file]
    found: Json = {"resourceType": kind, "id": "r1", "subject": SUBJECT, "status": "completed"}
    if kind == "Immunization":
        return found | {"patient": SUBJECT, "vaccineCode": code, "occurrenceDateTime": "2024-05-06"}
    if kind == "MedicationStatement":
        return found | {"status": "active", "medicationCodeableConcept": code}
    if kind == "Observation":
        specimen = {"text": "blood"} if "urine" not in str(code) else {"text": "urine"}
        return found | {
            "status": "final",
            "code": code,
            "effectiveDateTime": "2026-05-06",
            "specimen": specimen,
        }
    return found | {"code": code}


def found_in(file: str, code: Json) -> frozenset[str]:
    """The concepts under which the record lists a resource with this code; of a result those of its facts."""
    one = resource(file, code)
    pool = Pool({key.name: Supply((), None) for key in keys()} | {"one": Supply((one,), None)})
    if one["resourceType"] == "Observation":
        results = read_results(pool, "p1", TODAY)
        facts = [fact for fact, readings in results.series.items() if readings.found]
        facts += [fact for fact, told in read_answers(pool, "p1", TODAY)[0].items() if told.answers]
        return frozenset(name for fact in facts for name in vocabulary()[fact].concepts)
    lists = read_lists(pool, "p1", (), TODAY)
    every = (lists.conditions, lists.procedures, lists.medications, lists.immunizations)
    return frozenset().union(*(item.concepts for entries in every for item in entries.items))


def is_a_fact(name: str) -> bool:
    """Whether a result of this concept is asked for: a number or an answer in words."""
    return any(
        name in kind.concepts and kind.read_from in (("series",), ("answers",))
        for kind in vocabulary().values()
    )


@pytest.mark.parametrize(("file", "name"), CONCEPTS, ids=[f"{file}-{name}" for file, name in CONCEPTS])
def test_a_concept_is_found_by_each_of_its_codes_and_not_by_look_alikes(file: str, name: str) -> None:
    own = [(s, c) for f, n, s, c, use in rows() if (f, n) == (file, name) and use != "exclude"]
    assert own
    result = KIND_OF[file] == "Observation"
    for system, code in own:
        assert name in concepts_of(system, code)
        if not name.startswith(NO_ENTRY) and (not result or is_a_fact(name)):
            assert name in found_in(file, concept(code, system)), (system, code)
        # The same characters in a hospital's own system mean something else.
        assert name not in found_in(file, concept(code, LOCAL)), code
        assert name not in concepts_of(LOCAL, code)
        if not result:  # a number of a result never follows from words
            continue
        assert name not in found_in(file, {"text": name, "coding": [{"system": system, "display": name}]})
    system, code = own[0]
    if canonical(system) in (LOINC, SNOMED):
        other = code[:-1] + str((int(code[-1]) + 1) % 10)  # another check digit: a slip, or another concept
        assert name not in found_in(file, concept(other, system)), other


EXCLUDED = sorted(
    {(file, name, system, code) for file, name, system, code, use in rows() if use == "exclude"}
)


@pytest.mark.parametrize(("file", "name", "system", "code"), EXCLUDED)
def test_a_look_alike_of_the_tables_is_never_a_positive(file: str, name: str, system: str, code: str) -> None:
    assert name in exclusions_of(system, code)
    assert name not in found_in(file, concept(code, system))


# --- the words of results, doses and products -----------------------------------------------------------------


def table(name: str, prefix: str) -> list[tuple[str, str, str]]:
    """(concept, system, code) of the rows of one file whose concept begins so."""
    with (CODES / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        every = [(r["concept"], r["system"], r["code"]) for r in csv.DictReader(handle)]
    return [row for row in every if row[0].startswith(prefix)]


@pytest.mark.parametrize(("name", "system", "code"), table("results", "result-"))
def test_each_word_of_a_result_is_understood_in_its_own_system_only(
    name: str, system: str, code: str
) -> None:
    meanings = []
    for own in (system, LOCAL):
        test = answer("71773-6", code, "t") | {"valueCodeableConcept": concept(code, own)}
        read, _ = read_answers(Pool({"one": Supply((test,), None)}), "p1", TODAY)
        meanings += [told.meaning for told in read["tbTest"].answers]
    positive = name in ("result-positive", "result-detected")
    assert meanings == ["positive" if positive else "negative", "unclear"]


def read_from(timing: Json, quantity: Json | None = None) -> DoseState:
    dose = {"doseQuantity": quantity or {"value": 5, "unit": "mg"}}
    order = {"dosageInstruction": [{"timing": timing, "doseAndRate": [dose]}]}
    return read_dose(order, Product(Form.TABLET, Decimal(5), None, "words")).state


MONTHS = {"timing-mo", "period-month"}
"""Understood as what they are, but no dose of the guideline is monthly."""
ANY_MEAL = {"when-c", "when-ac", "when-pc"}


@pytest.mark.parametrize(("name", "system", "code"), table("timing", ""))
def test_each_code_of_a_timing_is_understood_and_its_look_alike_is_not(
    name: str, system: str, code: str
) -> None:
    if name.startswith("timing-"):
        told, other = {"code": concept(code, system)}, {"code": concept(code, LOCAL)}
    elif name.startswith("when-"):
        told, other = ({"repeat": {"when": [word]}} for word in (code, f"{code}x"))
    else:
        told, other = (
            {"repeat": {"frequency": 1, "period": 1, "periodUnit": word}} for word in (code, f"{code}x")
        )
    unread = name in MONTHS | ANY_MEAL
    assert read_from(told) is (DoseState.UNREADABLE if unread else DoseState.READ)
    assert read_from(other) is DoseState.UNREADABLE


@pytest.mark.parametrize(("name", "system", "code"), table("dose_units", "unit-"))
def test_each_unit_of_a_dose_is_understood_in_its_own_system_only(name: str, system: str, code: str) -> None:
    twice = {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}
    state = read_from(twice, {"value": 1, "system": system, "code": code})
    # Millilitres of a tablet are no dose; that it says so shows that they were understood.
    assert state is (DoseState.UNREADABLE if name == "unit-ml" else DoseState.READ)
    assert read_amount({"value": 1, "system": system, "code": code})
    with pytest.raises(Unreadable):
        read_amount({"value": 1, "system": LOCAL, "code": code})


@pytest.mark.parametrize(("name", "system", "code"), table("dose_units", "form-"))
def test_each_form_of_a_product_is_understood_in_its_own_system_only(
    name: str, system: str, code: str
) -> None:
    def form(own: str) -> Form:
        return read_product([], [], {"form": concept(code, own)}).form

    assert form(system) is (Form.TABLET if name == "form-tablet" else Form.ORAL_SOLUTION)
    assert form(LOCAL) is Form.UNKNOWN


@pytest.mark.parametrize(("name", "system", "code"), table("dose_units", "route-"))
def test_each_route_is_understood_in_its_own_system_only(name: str, system: str, code: str) -> None:
    def systemic(own: str, words: str) -> bool:
        taken = {"medicationCodeableConcept": concept("42316", RXNORM, words), "dosageInstruction": []}
        taken["dosageInstruction"] = [{"route": concept(code, own)}]
        return "tacrolimus" in medicine_of(taken, Pool({})).concepts

    by_skin = name in ("route-local", "route-transdermal", "route-vaginal")
    assert systemic(system, "ointment") is not by_skin
    assert not systemic(LOCAL, "ointment")
    assert systemic(system, "tacrolimus") is (name != "route-local")


# --- look-alikes by name: what they must not do to the answer --------------------------------------------------


def told(**child: Any) -> dict[str, Json]:
    more = child.pop("more", {})
    return findings(cards(hook_request([draft("baricitinib", 4)], prefetch_of(**child) | more)))


GIRL = {"birth": "2010-05-14", "weight": "50", "height": "160"}


def taking(code: str) -> Json:
    return {"medicationStatements": bundle(resource("medicines", concept(code, ATC)))}


def conditions(code: str) -> Json:
    return {"conditions": bundle(condition(SAVI, "savi"), condition(code, "look"))}


# what is said, the real thing, the look-alike: only the first may change the answer
PAIRS: dict[str, tuple[Json, Json, Json]] = {
    "breast-feeding, not a breast-fed infant": ({}, conditions("413712001"), conditions("169741004")),
    "pregnant, not 'not pregnant'": ({}, conditions("77386006"), conditions("60001007")),
    "contraceptive pill, not estradiol replacement": ({}, taking("G03AA07"), taking("G03CA03")),
    "live vaccine, not recombinant zoster": (
        {},
        {"immunizations": bundle(vaccination("121", "v", on="2026-05-25"))},
        {"immunizations": bundle(vaccination("187", "v", on="2026-05-25"))},
    ),
    "systemic steroid, not steroid cream": ({}, taking("H02AB06"), taking("D07AA02")),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_look_alike_changes_no_answer(pair: str) -> None:
    base, real, look = PAIRS[pair]
    empty = {name: bundle() for name in real}
    if "immunizations" in real:
        empty = {"immunizations": bundle(vaccination("20", "v", on="2026-05-25"))}
    if "conditions" in real:
        empty = {"conditions": bundle(condition(SAVI, "savi"), condition("195967001", "look"))}
    plain = told(**GIRL, conditions=[SAVI], more=base | empty)
    if pair.startswith(
        "systemic steroid"
    ):  # no rule of its own: it only must not be taken for a medicine with one
        assert told(**GIRL, conditions=[SAVI], more=base | look) == plain
        return
    assert told(**GIRL, conditions=[SAVI], more=base | real) != plain
    assert told(**GIRL, conditions=[SAVI], more=base | look).keys() == plain.keys()


@pytest.mark.parametrize(
    ("fact", "code", "value", "unit"),
    [
        ("haemoglobin", "4548-4", "5.4", "%"),  # HbA1c
        ("haemoglobin", "59261-8", "36", "mmol/mol"),  # HbA1c, IFCC
        ("haemoglobin", "785-6", "29", "pg"),  # MCH
        ("lymphocytes", "736-9", "30", "%"),
        ("whiteCells", "26465-5", "3", "10*6/L"),  # in cerebrospinal fluid
        ("creatinine", "2161-8", "5", "mmol/L"),  # in urine
        ("bilirubin", "1968-7", "3", "umol/L"),  # direct
        ("weight", "8339-4", "3.2", "kg"),  # at birth
        ("height", "8287-5", "48", "cm"),  # head circumference
        ("platelets", "32623-1", "9", "fL"),  # mean volume
    ],
)
def test_a_look_alike_of_a_result_leaves_it_missing(fact: str, code: str, value: str, unit: str) -> None:
    one = observation("weight", value, unit, id_="look", code=concept(code, LOINC))
    assert concepts_of(LOINC, code) == frozenset()
    pool = Pool({key.name: Supply((), None) for key in keys()} | {"one": Supply((one,), None)})
    results = read_results(pool, "p1", TODAY)
    assert not any(readings.found for readings in results.series.values())
    assert not results.series[fact].found
    assert not results.unknown, "a code of a system that we know is taken at its word"


def test_aicardi_syndrome_is_no_interferonopathy() -> None:
    drafted = draft("baricitinib", 4)
    ags = cards(hook_request([drafted], prefetch_of(conditions=["230312006"])))
    aicardi = cards(hook_request([drafted], prefetch_of(conditions=["80651009"])))
    assert given(aicardi) == "-"
    assert ("indication", "absent") in missing(aicardi)
    assert ("indication", "absent") not in missing(ags)
