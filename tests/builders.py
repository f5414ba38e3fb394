"""Invented children as hook requests: the small resources, the whole request, and the answer over HTTP.

One child ("p1", girl, 10 years, polyarticular JIA, healthy bloods) is the ground from which tests vary one thing.
All data are invented.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from typing import Any

from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.json_reader import read_json, write_json
from cds_service.settings import Settings
from fhir_mappings.prefetch import keys

Json = dict[str, Any]

AS_OF = "2026-06-01"
TAKEN = "2026-05-25"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
DMD = "https://dmd.nhs.uk"
UCUM = "http://unitsofmeasure.org"

POLY_JIA = "410796000"
JIA = "410502007"
SYSTEMIC_JIA = "201796004"
ENTHESITIS = "239806000"
OLIGO = "74391003"
EXTENDED_OLIGO_UVEITIS = "1156845007"
UVEITIS = "416666007"
JDM = "396230008"
SAVI = "711164003"
LUPUS = "55464009"
GVHD = "234646005"
ASTHMA = "195967001"

CODES = {
    "weight": ("29463-7", "kg"),
    "height": ("8302-2", "cm"),
    "creatinine": ("14682-9", "umol/L"),
    "haemoglobin": ("718-7", "g/dL"),
    "neutrophils": ("751-8", "10*9/L"),
    "lymphocytes": ("731-0", "10*9/L"),
    "whiteCells": ("6690-2", "10*9/L"),
    "platelets": ("777-3", "10*9/L"),
    "alt": ("1742-6", "U/L"),
    "ast": ("1920-8", "U/L"),
    "bilirubin": ("14631-6", "umol/L"),
}
RANGES = {
    "creatinine": ("20", "60"),
    "haemoglobin": ("11", "15"),
    "neutrophils": ("1.5", "8"),
    "lymphocytes": ("1.5", "7"),
    "whiteCells": ("4", "12"),
    "platelets": ("150", "450"),
    "alt": ("5", "40"),
    "ast": ("5", "50"),
    "bilirubin": ("2", "20"),
}
HEALTHY = {
    "haemoglobin": "12.5",
    "neutrophils": "3",
    "lymphocytes": "2",
    "whiteCells": "7",
    "platelets": "300",
    "alt": "20",
    "ast": "25",
    "bilirubin": "8",
}
KEY_OF = {
    "weight": "growth",
    "height": "growth",
    "creatinine": "kidney",
    "alt": "liver",
    "ast": "liver",
    "bilirubin": "liver",
}
INGREDIENT = {"tofacitinib": "1357536", "baricitinib": "2047232", "ruxolitinib": "1193326"}


# --- resources ------------------------------------------------------------------------------------


def concept(code: str, system: str = SNOMED, text: str | None = None) -> Json:
    return {"coding": [{"system": system, "code": code}], **({"text": text} if text else {})}


def quantity(value: str | int | Decimal, unit: str | None, code: str | None = None) -> Json:
    found: Json = {"value": Decimal(value)}
    if unit is not None:
        found |= {"unit": unit, "system": UCUM, "code": code or unit}
    return found


def observation(
    fact: str, value: str | int | Decimal, unit: str | None = "", on: str = TAKEN, id_: str = "", **more: Any
) -> Json:
    """A final result of ``fact``; ``unit`` "" means the usual one, ``None`` none at all."""
    code, usual = CODES[fact]
    found: Json = {
        "resourceType": "Observation",
        "id": id_ or f"{fact.lower()}-1",
        "status": "final",
        "code": concept(code, LOINC),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": on,
        "valueQuantity": quantity(value, usual if unit == "" else unit),
    }
    if fact in RANGES and unit == "":
        low, high = RANGES[fact]
        found["referenceRange"] = [{"low": quantity(low, usual), "high": quantity(high, usual)}]
    return found | more


def answer(code: str, value: str, id_: str, on: str = TAKEN) -> Json:
    """A test that answers in words: a LOINC code and a SNOMED CT result (positive 10828004, negative 260385009)."""
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": concept(code, LOINC),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": on,
        "valueCodeableConcept": concept(value, SNOMED),
    }


def vaccination(cvx: str, id_: str, on: str = "2018-05-14") -> Json:
    return {
        "resourceType": "Immunization",
        "id": id_,
        "status": "completed",
        "patient": {"reference": "Patient/p1"},
        "vaccineCode": concept(cvx, "http://hl7.org/fhir/sid/cvx"),
        "occurrenceDateTime": on,
    }


def condition(code: str, id_: str = "c1", system: str = SNOMED, **more: Any) -> Json:
    return {
        "resourceType": "Condition",
        "id": id_,
        "clinicalStatus": concept("active", "http://terminology.hl7.org/CodeSystem/condition-clinical"),
        "code": concept(code, system),
        "subject": {"reference": "Patient/p1"},
        **more,
    }


def dosage(mg: str | int | Decimal, times: int = 2, when: str | None = None, unit: str = "mg") -> Json:
    repeat: Json = {"frequency": times, "period": 1, "periodUnit": "d"}
    if when is not None:
        repeat |= {"frequency": 1, "when": [when]}
    return {"timing": {"repeat": repeat}, "doseAndRate": [{"doseQuantity": quantity(mg, unit)}]}


def draft(
    drug: str, mg: str | int | Decimal | None = None, times: int = 2, id_: str = "d1", **more: Any
) -> Json:
    """A drafted order; ``None`` as a value in ``more`` removes the member."""
    found: Json = {
        "resourceType": "MedicationRequest",
        "id": id_,
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": concept(INGREDIENT[drug], RXNORM, drug),
    }
    if mg is not None:
        found["dosageInstruction"] = [dosage(mg, times)]
    return {name: value for name, value in (found | more).items() if value is not None}


def divided(**whens: str | int) -> list[Json]:
    """``divided(MORN=4, EVE=2)``: one Dosage per time of day."""
    return [dosage(mg, when=when) for when, mg in whens.items()]


def order(
    drug: str,
    mg: str | int | None = None,
    times: int = 2,
    *,
    start: str = "2026-01-10",
    status: str = "active",
    id_: str = "run1",
    **more: Any,
) -> Json:
    """A recorded order of the drug."""
    return draft(drug, mg, times, id_=id_, status=status, authoredOn=start, **more)


def bundle(*resources: Json, **more: Any) -> Json:
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(resources),
        "entry": [{"resource": resource} for resource in resources],
        **more,
    }


def outcome(severity: str = "error") -> Json:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "exception"}]}


# --- requests -------------------------------------------------------------------------------------

_SERVICES = {
    "order-select": ("jaki-order-select", "draftOrders"),
    "order-sign": ("jaki-order-sign", "draftOrders"),
    "medication-prescribe": ("jaki-medication-prescribe", "medications"),
}


def prefetch_of(
    *,
    birth: str | None = "2016-05-14",
    sex: str = "female",
    weight: str | int | Decimal | None = "28.5",
    height: str | int | Decimal | None = "132",
    creatinine: str | int | Decimal | None = "40",
    conditions: Iterable[str | Json] = (POLY_JIA,),
    medicines: Iterable[Json] = (),
    results: Iterable[Json] = (),
    bloods: dict[str, str] | None = None,
) -> Json:
    """Every key of discovery, supplied, a child screened and vaccinated; ``results`` are further Observations."""
    found = [
        observation(fact, value)
        for fact, value in {"weight": weight, "height": height, "creatinine": creatinine}.items()
        if value is not None
    ]
    found += [observation(fact, value) for fact, value in (HEALTHY if bloods is None else bloods).items()]
    by_key: dict[str, list[Json]] = {}
    for resource in found:
        fact = resource["id"].removesuffix("-1")
        name = next((k for f, k in KEY_OF.items() if f.lower() == fact), "bloodCount")
        by_key.setdefault(name, []).append(resource)
    by_key.setdefault("growth", []).extend(results)
    patient: Json = {"resourceType": "Patient", "id": "p1", "gender": sex}
    if birth is not None:
        patient["birthDate"] = birth
    by_key["conditions"] = [
        condition(item, f"c{index}") if isinstance(item, str) else item
        for index, item in enumerate(conditions)
    ]
    by_key["medicationRequests"] = list(medicines)
    by_key["screening"] = [
        answer("71773-6", "260385009", "igra-1"),
        answer("19162-7", "10828004", "vzv-1"),
        answer("17850-9", "260385009", "hsv-1"),
    ]
    by_key["immunizations"] = [vaccination("03", "mmr-1")]
    return {
        key.name: patient if key.name == "patient" else bundle(*by_key.get(key.name, [])) for key in keys()
    }


def hook_request(
    drafts: Iterable[Json],
    prefetch: Json | None = None,
    *,
    hook: str = "order-select",
    on: str = AS_OF,
    selections: list[str] | None = None,
    **child: Any,
) -> Json:
    """The whole request; ``child`` goes to ``prefetch_of``."""
    _, field = _SERVICES[hook]
    context: Json = {"patientId": "p1", "userId": "Practitioner/x", field: bundle(*drafts)}
    if selections is not None:
        context["selections"] = selections
    return {
        "hook": hook,
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": context,
        "prefetch": prefetch_of(**child) if prefetch is None else prefetch,
        "extension": {"org.jaki-cds": {"asOf": on}},
    }


def view(prefetch: Json, on: str = AS_OF) -> list[Json]:
    """The cards on opening the chart of the child of ``prefetch``."""
    request = {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"patientId": "p1", "userId": "Practitioner/x"},
        "prefetch": prefetch,
        "extension": {"org.jaki-cds": {"asOf": on}},
    }
    response = client().post(
        "/cds-services/jaki-patient-view", data=write_json(request), content_type="application/json"
    )
    assert response.status_code == 200, response.get_json()
    found: list[Json] = read_json(response.data)["cards"]
    return found


@cache
def client() -> FlaskClient:
    """A test client of the service in demo mode, made once."""
    return create_app(Settings(demo=True, log_level="error")).test_client()


def post(request: Json) -> Any:
    """The raw HTTP answer."""
    service, _ = _SERVICES[request["hook"]]
    return client().post(
        f"/cds-services/{service}", data=write_json(request), content_type="application/json"
    )


def cards(request: Json) -> list[Json]:
    """The cards of a request that must be answered with 200."""
    response = post(request)
    assert response.status_code == 200, response.get_json()
    body = read_json(response.data)
    assert isinstance(body, dict)
    found: list[Json] = body["cards"]
    return found


def ask(*drafts: Json, **child: Any) -> list[Json]:
    return cards(hook_request(drafts, **child))


# --- what the cards say ---------------------------------------------------------------------------


def ours(card: Json) -> Json:
    found: Json = card["extension"]["org.jaki-cds"]
    return found


def findings(found: list[Json]) -> dict[str, Json]:
    """Every finding by its id."""
    return {finding["id"]: finding for card in found for finding in ours(card)["findings"]}


def missing(found: list[Json]) -> set[tuple[str, str]]:
    """Every (fact, reason) that some finding lacks."""
    return {
        (gap["fact"], gap["reason"]) for finding in findings(found).values() for gap in finding["missing"]
    }


def evidence(found: list[Json], fact: str) -> set[Any]:
    """The values of ``fact`` that findings relied on."""
    return {
        item["value"]
        for finding in findings(found).values()
        for item in finding["evidence"]
        if item["fact"] == fact
    }


def dose(found: list[Json]) -> Json | None:
    doses = [ours(card)["dose"] for card in found if "dose" in ours(card)]
    assert len(doses) <= 1, "more than one dose in an answer to one draft"
    return doses[0] if doses else None


def given(found: list[Json]) -> str:
    """The dose in short: its row, ``?`` behind it where it is provisional, ``-`` where there is none."""
    one = dose(found)
    return "-" if one is None else one["id"] + ("?" if one.get("provisional") else "")


def firmness(found: list[Json]) -> int:
    """0 no dose, 1 a provisional one, 2 a firm one."""
    one = dose(found)
    return 0 if one is None else 1 if one.get("provisional") else 2


def suggestions(found: list[Json]) -> list[Json]:
    return [suggestion for card in found for suggestion in card.get("suggestions", ())]


def updates(found: list[Json]) -> list[Json]:
    """The suggestions that set a dose."""
    return [s for s in suggestions(found) if [action["type"] for action in s["actions"]] == ["update"]]


def texts(found: list[Json]) -> str:
    """Everything of the cards that a reader or another program sees, the suggested resources apart."""
    bare = json.loads(json.dumps(found, default=str))
    for card in bare:
        for suggestion in card.get("suggestions", ()):
            for action in suggestion["actions"]:
                action.pop("resource", None)
    return json.dumps(bare, ensure_ascii=False)


def comparable(found: list[Json]) -> str:
    """The cards without what may differ between two equal answers (the uuids), in one spelling."""
    bare = json.loads(json.dumps(found, default=lambda number: f"{number.normalize():f}"))
    for card in bare:
        card.pop("uuid")
        for suggestion in card.get("suggestions", ()):
            suggestion.pop("uuid")
    return json.dumps(bare, sort_keys=True, ensure_ascii=False)
