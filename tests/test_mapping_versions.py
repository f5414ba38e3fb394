"""The same child, however a record is written: FHIR R4, R5, STU3; LOINC or SNOMED CT; US or UK units; panels.

Each way must give the very same findings. The resources are written as R4 and rewritten here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from builders import (
    ATC,
    LOINC,
    SAVI,
    SNOMED,
    Json,
    answer,
    bundle,
    cards,
    concept,
    condition,
    divided,
    draft,
    evidence,
    findings,
    given,
    hook_request,
    missing,
    observation,
    order,
    prefetch_of,
    texts,
    updates,
)

SUBJECT = {"reference": "Patient/p1"}
CVX = "http://hl7.org/fhir/sid/cvx"


# --- a child with something of everything ---------------------------------------------------------------------


def statement(code: str, id_: str, status: str, **more: Any) -> Json:
    return {
        "resourceType": "MedicationStatement",
        "id": id_,
        "status": status,
        "subject": SUBJECT,
        "medicationCodeableConcept": concept(code, ATC),
        **more,
    }


def procedure(code: str, id_: str, **more: Any) -> Json:
    return {
        "resourceType": "Procedure",
        "id": id_,
        "status": "completed",
        "subject": SUBJECT,
        "code": concept(code),
        **more,
    }


def child(**more: Any) -> Json:
    """The prefetch in R4: conditions current and past, medicines, vaccines, an allergy, a planned operation."""
    data = prefetch_of(
        conditions=[
            condition(SAVI, "savi", reasonCode=None),
            condition("431857002", "ckd", abatementDateTime="2020-01-01")
            | {"clinicalStatus": _clinical("resolved")},
            condition("40739000", "dysphagia", recordedDate="2024-02-03"),
        ],
        medicines=[
            order("baricitinib", start="2026-01-10", dosageInstruction=divided(MORN=4, EVE=4)),
            order("tofacitinib", 5, start="2025-02-01", status="stopped", id_="old"),
        ],
        **more,
    )
    data["medicationStatements"] = bundle(
        statement(
            "L04AB04", "past", "completed", effectivePeriod={"start": "2024-01-01", "end": "2024-06-01"}
        ),
        statement("L04AX03", "mtx", "active", effectivePeriod={"start": "2024-01-01"}),
    )
    data["procedures"] = bundle(procedure("265764009", "dialysed", performedDateTime="2020-05-01"))
    data["allergies"] = bundle(
        {
            "resourceType": "AllergyIntolerance",
            "id": "a1",
            "clinicalStatus": _clinical("active"),
            "patient": SUBJECT,
            "code": concept("L04AB01", ATC),
            "recordedDate": "2023-03-04",
        }
    )
    data["plannedOperations"] = bundle(
        {
            "resourceType": "ServiceRequest",
            "id": "op",
            "status": "active",
            "intent": "order",
            "subject": SUBJECT,
            "code": concept("387713003"),
            "occurrenceDateTime": "2026-06-10",
        }
    )
    return data


def _clinical(code: str) -> Json:
    return concept(code, "http://terminology.hl7.org/CodeSystem/condition-clinical")


# --- rewriting ----------------------------------------------------------------------------------------------


def r5(resource: Json) -> Json:
    """The resource as FHIR R5 writes it (R5 "Changes from R4" of each type)."""
    found = dict(resource)
    kind = found["resourceType"]
    if kind in ("MedicationRequest", "MedicationStatement"):
        if "medicationCodeableConcept" in found:
            found["medication"] = {"concept": found.pop("medicationCodeableConcept")}
        if "medicationReference" in found:
            found["medication"] = {"reference": found.pop("medicationReference")}
        reasons = [{"concept": item} for item in found.pop("reasonCode", [])]
        reasons += [{"reference": item} for item in found.pop("reasonReference", [])]
        if reasons:
            found["reason"] = reasons
    if kind == "MedicationStatement":
        found["status"] = "recorded"
    if kind == "Procedure":
        found["occurrenceDateTime"] = found.pop("performedDateTime")
    if kind == "ServiceRequest":
        found["code"] = {"concept": found["code"]}
    return found


def stu3(resource: Json) -> Json:
    """The resource as FHIR STU3 writes it."""
    found = dict(resource)
    kind = found["resourceType"]
    for name in ("clinicalStatus", "verificationStatus"):
        if name in found:
            found[name] = found[name]["coding"][0]["code"]
    if "recordedDate" in found:
        found["assertedDate"] = found.pop("recordedDate")
    if kind == "Immunization":
        found["date"] = found.pop("occurrenceDateTime")
        found["notGiven"] = False
    if kind == "MedicationStatement":
        found["taken"] = "y"
    if kind == "MedicationRequest":
        found["dosageInstruction"] = [
            {"timing": each["timing"], **each["doseAndRate"][0]}
            for each in found.get("dosageInstruction", [])
        ]
    if kind == "ServiceRequest":
        found["resourceType"] = "ProcedureRequest"
    if kind == "Procedure":
        found["notDone"] = False
    if kind == "Observation":
        found["comment"] = "STU3 has it as one text"
        if "interpretation" in found:
            found["interpretation"] = found["interpretation"][0]
    return found


def rewritten(data: Json, how: Callable[[Json], Json]) -> Json:
    found = {}
    for name, value in data.items():
        if value["resourceType"] == "Bundle":
            entries = [{"resource": how(entry["resource"])} for entry in value["entry"]]
            found[name] = value | {"entry": entries}
        else:
            found[name] = how(value)
    return found


def told(found: list[Json]) -> dict[str, Json]:
    """The findings with plain numbers, so that 12.0 and 12 are one."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            # The type name of a source differs between versions (ProcedureRequest); its id does not.
            return {k: plain(v.rpartition("/")[2] if k == "source" and v else v) for k, v in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)

    return {name: plain(finding) for name, finding in findings(found).items()}


DRAFTS = {
    "baricitinib": draft("baricitinib", 4, 1, reasonCode=[concept(SAVI)]),
    "tofacitinib": draft("tofacitinib", 4),
}


@pytest.mark.parametrize("drug", DRAFTS)
@pytest.mark.parametrize("version", [r5, stu3])
def test_the_fhir_version_of_the_record_changes_no_finding(
    version: Callable[[Json], Json], drug: str
) -> None:
    usual = cards(hook_request([DRAFTS[drug]], child()))
    other = cards(hook_request([version(DRAFTS[drug])], rewritten(child(), version)))
    assert told(other) == told(usual)
    assert given(other) == given(usual)


def test_the_child_is_rich_enough_to_show_a_difference() -> None:
    """Each list of the record must have a finding, or the comparison above would prove nothing."""
    sources = {
        item["source"]
        for drug in DRAFTS.values()
        for finding in findings(cards(hook_request([drug], child()))).values()
        for item in finding["evidence"]
        if item.get("source")
    }
    kinds = {source.split("/")[0] for source in sources}
    assert {
        "Condition",
        "Procedure",
        "MedicationRequest",
        "Observation",
        "ServiceRequest",
        "Patient",
    } <= kinds, kinds


# --- codes and units ----------------------------------------------------------------------------------------

UK = {
    "weight": ("27113001", "g", "0.001"),
    "height": ("50373000", "m", "100"),
    "creatinine": ("1000731000000107", "umol/l", "1"),
    "haemoglobin": ("1022431000000105", "g/l", "0.1"),
    "neutrophils": ("1022551000000104", "X 10-9/l", "1"),
    "lymphocytes": ("1022581000000105", "10*9/L", "1"),
    "whiteCells": ("1022541000000102", "10^9/L", "1"),
    "platelets": ("1022651000000100", "x10^9/L", "1"),
    "alt": ("1018251000000107", "iu/L", "1"),
    "ast": ("45896001", "U/L", "1"),
    "bilirubin": ("1107221000000109", "umol/L", "1"),
}
US = {
    "weight": ("29463-7", "[lb_av]", "0.45359237"),
    "height": ("8302-2", "[in_i]", "2.54"),
    "creatinine": ("2160-0", "mg/dL", "88.4"),
    "haemoglobin": ("718-7", "g/dL", "1"),
    "neutrophils": ("751-8", "/uL", "0.001"),
    "lymphocytes": ("731-0", "10*3/uL", "1"),
    "whiteCells": ("6690-2", "K/uL", "1"),
    "platelets": ("777-3", "10*3/uL", "1"),
    "alt": ("1742-6", "U/L", "1"),
    "ast": ("1920-8", "U/L", "1"),
    "bilirubin": ("1975-2", "mg/dL", "17.1"),
}
RESULTS = {
    "weight": "20.5", "height": "127", "creatinine": "44.2", "haemoglobin": "9.5", "neutrophils": "1.2",
    "lymphocytes": "0.7", "whiteCells": "4.5", "platelets": "250", "alt": "55", "ast": "30", "bilirubin": "17.1",
}  # fmt: skip


def written(way: dict[str, tuple[str, str, str]], system: str) -> Json:
    """The child's results with the codes and the units of one country; each number is exact in both."""
    data = child(weight=None, height=None, creatinine=None, bloods={})
    made = []
    for fact, value in RESULTS.items():
        code, unit, factor = way[fact]
        number = Decimal(value) / Decimal(factor)
        number = number.quantize(Decimal("1e-12")).normalize()
        made.append(observation(fact, number, unit, code=concept(code, system)))
    return data | {"growth": bundle(*made)}


def rounded(value: Any) -> Any:
    """Numbers to eight places: a pound has no finite decimal."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    try:
        return str(round(Decimal(value), 8).normalize())
    except ArithmeticError:
        return value


@pytest.mark.parametrize("version", [None, r5, stu3])
@pytest.mark.parametrize("drug", DRAFTS)
def test_codes_units_and_version_change_no_finding(drug: str, version: Callable[[Json], Json] | None) -> None:
    us = cards(hook_request([DRAFTS[drug]], written(US, LOINC)))
    data, drafted = written(UK, SNOMED), DRAFTS[drug]
    if version is not None:
        data, drafted = rewritten(data, version), version(drafted)
    uk = cards(hook_request([drafted], data))
    assert rounded(told(uk)) == rounded(told(us))
    assert given(uk) == given(us)
    assert not {reason for _, reason in missing(uk)} & {"implausible", "unusable-unit", "not-supplied"}


# --- panels ------------------------------------------------------------------------------------------------


def panel(kind: str = "Observation", **more: Any) -> Json:
    return {
        "resourceType": kind,
        "id": "panel",
        "status": "final",
        "code": concept("58410-2", LOINC),
        "subject": SUBJECT,
        "effectiveDateTime": "2026-05-25",
        **more,
    }


LOW = observation("haemoglobin", "7.1", id_="hb")
TIMELESS = {name: value for name, value in LOW.items() if name not in ("effectiveDateTime", "subject")}
PART = {"code": LOW["code"], "valueQuantity": LOW["valueQuantity"]}
PANELS: dict[str, list[Json]] = {
    "component": [panel(component=[PART])],
    "member": [panel(hasMember=[{"reference": "Observation/hb"}]), LOW],
    "contained member": [panel(hasMember=[{"reference": "#hb"}], contained=[LOW])],
    "report": [panel("DiagnosticReport", result=[{"reference": "Observation/hb"}]), LOW],
    "contained in a report": [panel("DiagnosticReport", result=[{"reference": "#hb"}], contained=[TIMELESS])],
}


def without_hb(*results: Json) -> list[Json]:
    bloods = {"neutrophils": "3", "lymphocytes": "2"}
    return cards(hook_request([draft("tofacitinib", 5)], prefetch_of(bloods=bloods, results=results)))


@pytest.mark.parametrize("way", PANELS)
def test_a_result_inside_a_panel_is_read(way: str) -> None:
    assert evidence(without_hb(*PANELS[way]), "haemoglobin") == {Decimal("7.1")}


ABSENT = {
    "extension": [
        {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
    ]
}
UNUSED: dict[str, list[Json]] = {
    "value absent": [LOW | {"dataAbsentReason": concept("error", "x")}],
    "part absent": [panel(component=[PART | {"dataAbsentReason": concept("error", "x")}])],
    "number absent": [
        LOW
        | {
            "valueQuantity": {
                "_value": ABSENT,
                "unit": "g/dL",
            }
        }
    ],
    "date absent": [
        {n: v for n, v in LOW.items() if n != "effectiveDateTime"}
        | {"_effectiveDateTime": ABSENT}
    ],
    "panel withdrawn": [panel("DiagnosticReport", contained=[TIMELESS], status="entered-in-error")],
    "panel of another": [panel("DiagnosticReport", contained=[TIMELESS], subject={"reference": "Patient/p2"})],
    "panel modified": [panel(contained=[LOW], modifierExtension=[{"url": "http://example.org/not"}])],
    "part modified": [panel(component=[PART | {"modifierExtension": [{"url": "http://example.org/not"}]}])],
    "result modified": [LOW | {"modifierExtension": [{"url": "http://example.org/not"}]}],
    "of a donor": [LOW | {"focus": [{"reference": "Patient/donor"}]}],
    "of a device": [LOW | {"focus": [{"reference": "Device/7"}]}],
}  # fmt: skip


@pytest.mark.parametrize("way", UNUSED)
def test_a_result_that_must_not_be_used_leaves_the_check_open(way: str) -> None:
    found = without_hb(*UNUSED[way])
    assert evidence(found, "haemoglobin") == set()
    assert "haemoglobin" in {fact for fact, _ in missing(found)}


def test_a_focus_on_the_child_is_no_obstacle() -> None:
    assert evidence(without_hb(LOW | {"focus": [SUBJECT]}), "haemoglobin") == {Decimal("7.1")}


def test_answers_in_words_are_read_from_components_too() -> None:
    """A positive TB test as one line of a screening panel."""
    strip = panel(
        component=[{"code": concept("71773-6", LOINC), "valueCodeableConcept": concept("10828004")}]
    )
    alone = answer("71773-6", "10828004", "panel")
    one, other = (
        told(cards(hook_request([draft("tofacitinib", 5)], prefetch_of() | {"screening": bundle(result)})))
        for result in (strip, alone)
    )
    assert one == other
    assert "Observation/panel" in texts(
        cards(hook_request([draft("tofacitinib", 5)], prefetch_of() | {"screening": bundle(strip)}))
    )


# --- what says that something was not done -------------------------------------------------------------------

DIALYSIS = procedure("265764009", "dial", performedDateTime="2026-05-01")


@pytest.mark.parametrize("negation", [{"notDone": True}, {"notPerformed": True}, {"status": "not-done"}])
def test_a_procedure_that_was_not_done_does_not_count(negation: Json) -> None:
    def sources(entry: Json) -> bool:
        found = cards(hook_request([draft("tofacitinib", 5)], prefetch_of() | {"procedures": bundle(entry)}))
        return "Procedure/dial" in texts(found)

    assert sources(DIALYSIS)
    assert not sources(DIALYSIS | negation)


def vaccinated(entry: Json) -> dict[str, Json]:
    return told(
        cards(hook_request([draft("tofacitinib", 5)], prefetch_of() | {"immunizations": bundle(entry)}))
    )


@pytest.mark.parametrize("negation", [{"notGiven": True}, {"wasNotGiven": True}, {"status": "not-done"}])
def test_a_vaccine_that_was_not_given_does_not_count(negation: Json) -> None:
    recent = {
        "resourceType": "Immunization",
        "id": "live",
        "status": "completed",
        "patient": SUBJECT,
        "vaccineCode": concept("21", CVX),
        "occurrenceDateTime": "2026-05-25",
    }
    nothing = told(
        cards(hook_request([draft("tofacitinib", 5)], prefetch_of() | {"immunizations": bundle()}))
    )
    assert vaccinated(recent) != nothing
    assert vaccinated(recent | negation) == nothing


@pytest.mark.parametrize(
    ("more", "running"),
    [
        ({}, True),
        ({"adherence": {"code": concept("taking", "x")}}, True),
        ({"adherence": {"code": concept("not-taking", "x")}}, False),
        ({"adherence": {"code": concept("stopped", "x")}, "effectivePeriod": {"end": "2026-03-01"}}, False),
        ({"effectivePeriod": {"start": "2026-01-10", "end": "2026-03-01"}}, False),
        ({"status": "draft"}, False),
    ],
)
def test_an_r5_statement_says_elsewhere_whether_the_child_takes_it(more: Json, running: bool) -> None:
    taking = {
        "resourceType": "MedicationStatement",
        "id": "r5",
        "status": "recorded",
        "subject": SUBJECT,
        "medication": {"concept": concept("L04AF02", ATC)},
        "effectivePeriod": {"start": "2026-01-10"},
        **more,
    }
    data = prefetch_of(conditions=[SAVI]) | {"medicationStatements": bundle(taking)}
    request = hook_request([draft("tofacitinib", 5)], data)
    assert ("MedicationStatement/r5" in texts(cards(request))) is running


# --- modified drafts ----------------------------------------------------------------------------------------


def test_a_modified_draft_is_never_compared_and_never_changed() -> None:
    modified = draft("tofacitinib", 1, modifierExtension=[{"url": "http://example.org/not"}])
    found = cards(hook_request([modified]))
    assert updates(cards(hook_request([draft("tofacitinib", 1)])))
    assert not updates(found)
    assert "The drafted order carries a modifier" in texts(found)


@pytest.mark.parametrize("status", ["unknown", "Current problem", "active", "recurrence"])
def test_a_condition_whose_clinical_status_is_not_understood_counts(status: str) -> None:
    found = cards(
        hook_request(
            [draft("baricitinib", 4, 1)],
            prefetch_of(conditions=[condition(SAVI) | {"clinicalStatus": _clinical(status)}]),
        )
    )
    assert given(found).startswith("BARI-IFN")


def test_an_order_not_to_give_the_drug_gets_no_dose() -> None:
    """R4 ``doNotPerform`` turns the meaning round; only what is said of stopping may be said."""
    found = cards(hook_request([draft("baricitinib", 4, doNotPerform=True)], prefetch_of(conditions=[SAVI])))
    assert given(found) == "-"
    assert not updates(found)
    assert (
        given(
            cards(hook_request([draft("baricitinib", 4, doNotPerform=False)], prefetch_of(conditions=[SAVI])))
        )
        != "-"
    )
