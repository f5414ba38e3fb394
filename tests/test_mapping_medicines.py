"""Which medicine an order names: codes old and new, names where there is no code, references of every kind."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from builders import (
    ATC,
    DMD,
    RXNORM,
    SNOMED,
    Json,
    ask,
    bundle,
    cards,
    concept,
    draft,
    findings,
    given,
    hook_request,
    ours,
    post,
    prefetch_of,
    texts,
)
from hypothesis import given as for_all
from hypothesis import strategies as st

from cds_service.case import MOST_DRAFTS
from fhir_mappings import medicines

BY_NAME = "recognised by its name"


def ordered(**medicine: Any) -> list[Json]:
    """The cards of an order whose medicine is said like this."""
    return ask(draft("tofacitinib", 4, medicationCodeableConcept=None) | medicine)


def drug_of(found: list[Json]) -> str:
    drugs = {finding["drug"] for card in found for finding in ours(card)["findings"]}
    return drugs.pop() if len(drugs) == 1 else "-" if not drugs else "several"


CODES = {
    "RxNorm ingredient": (concept("1357536", RXNORM), "tofacitinib"),
    "RxNorm product": (concept("1357541", RXNORM), "tofacitinib"),
    "RxNorm brand": (concept("1357547", RXNORM), "tofacitinib"),
    "RxNorm by OID": (concept("1357536", "urn:oid:2.16.840.1.113883.6.88"), "tofacitinib"),
    "ATC": (concept("L04AF01", ATC), "tofacitinib"),
    "old ATC": (concept("L04AA29", ATC), "tofacitinib"),
    "dm+d VTM": (concept("704316006", DMD), "tofacitinib"),
    "dm+d VTM as SNOMED CT": (concept("704316006", SNOMED), "tofacitinib"),
    "ingredient": (concept("704314009", SNOMED), "tofacitinib"),
    "baricitinib, RxNorm": (concept("2047232", RXNORM), "baricitinib"),
    "baricitinib, ATC": (concept("L04AF02", ATC), "baricitinib"),
    "baricitinib, old ATC": (concept("L04AA37", ATC), "baricitinib"),
    "baricitinib, dm+d": (concept("34345911000001107", DMD), "baricitinib"),
    "ruxolitinib, ATC": (concept("L01EJ01", ATC), "ruxolitinib"),
    "ruxolitinib, old ATC": (concept("L01XE18", ATC), "ruxolitinib"),
    "ruxolitinib, product": (concept("1193339", RXNORM), "ruxolitinib"),
    "second of two codings": (
        {"coding": [{"system": "http://x", "code": "1"}, {"system": ATC, "code": "L04AF02"}]},
        "baricitinib",
    ),
    "a code that lost its quotation marks": (
        {"coding": [{"system": RXNORM, "code": 1357536}]},
        "tofacitinib",
    ),
    "a coding that lost its list": ({"coding": {"system": RXNORM, "code": "1357536"}}, "tofacitinib"),
}


@pytest.mark.parametrize(("code", "drug"), CODES.values(), ids=CODES)
def test_jak_inhibitors_by_code(code: Json, drug: str) -> None:
    found = ordered(medicationCodeableConcept=code)
    assert drug_of(found) == drug
    assert BY_NAME not in texts(found)


NAMES = {
    "text": ({"text": "Tofacitinib 5 mg tablets"}, "tofacitinib"),
    "brand": ({"text": "XELJANZ"}, "tofacitinib"),
    "brand of baricitinib": ({"text": "Olumiant 2mg"}, "baricitinib"),
    "brand of ruxolitinib": ({"text": "jakavi"}, "ruxolitinib"),
    "display of an unknown code": (
        {
            "coding": [
                {"system": RXNORM, "code": "BARI-PLACEHOLDER", "display": "baricitinib 2 MG Oral Tablet"}
            ]
        },
        "baricitinib",
    ),
    "display of a local code": ({"coding": [{"code": "x", "display": "Baricitinib"}]}, "baricitinib"),
    "code of a class": (concept("L04AF", ATC, "Tofacitinib 5 mg"), "tofacitinib"),
    "code of another medicine": (concept("L04AX03", ATC, "Tofacitinib 5 mg"), "tofacitinib"),
}


@pytest.mark.parametrize(("code", "drug"), NAMES.values(), ids=NAMES)
def test_jak_inhibitors_by_name_are_flagged(code: Json, drug: str) -> None:
    found = ordered(medicationCodeableConcept=code)
    assert drug_of(found) == drug
    assert BY_NAME in texts(found)


NO_CONCERN: dict[str, Any] = {
    "methotrexate": concept("L04AX03", ATC, "methotrexate"),
    "methotrexate by name": {"text": "methotrexate 2.5 mg"},
    "a name within a word": {"text": "pseudotofacitinibium"},
    "deucravacitinib, a TYK2 inhibitor": concept("L04AF07", ATC, "deucravacitinib"),
    "no medicine yet": None,
    "empty": {},
    "empty coding": {"coding": []},
    "words only of nothing": {"text": " "},
    "an odd shape": "tofacitinib",
}


@pytest.mark.parametrize("code", NO_CONCERN.values(), ids=NO_CONCERN)
def test_what_is_no_jak_inhibitor_gets_no_card(code: Any) -> None:
    assert ordered(medicationCodeableConcept=code) == []


TOPICAL = {
    "ruxolitinib cream": concept("D11AH09", ATC),
    "ruxolitinib cream with its name": concept("D11AH09", ATC, "ruxolitinib 15 mg/g cream"),
    "ruxolitinib cream by name": {"text": "ruxolitinib cream 1.5 %"},
    "ruxolitinib cream by brand": {"text": "Opzelura 15 mg/g"},
}


@pytest.mark.parametrize("code", TOPICAL.values(), ids=TOPICAL)
def test_a_topical_jak_inhibitor_gets_a_card_that_it_is_outside_the_guideline(code: Json) -> None:
    (card,) = ordered(medicationCodeableConcept=code)
    assert card["indicator"] == "info"
    assert "topical" in card["summary"] and "overrideReasons" not in card
    finding = findings([card])["META-05"]
    assert (finding["outcome"], finding["severity"], finding["drug"]) == (
        "outside-guideline",
        "info",
        "ruxolitinib",
    )
    assert given([card]) == "-"


def test_the_route_tells_a_cream() -> None:
    route = {"route": {"coding": [{"system": SNOMED, "code": "6064005"}], "text": "Topical"}}
    (card,) = ordered(medicationCodeableConcept=concept("1193326", RXNORM), dosageInstruction=[route])
    assert "topical" in card["summary"]
    by_mouth = {"route": concept("26643006")}
    found = ordered(medicationCodeableConcept=concept("1193326", RXNORM), dosageInstruction=[by_mouth])
    assert drug_of(found) == "ruxolitinib"


NOT_COVERED = {
    "upadacitinib": concept("L04AF03", ATC),
    "old ATC": concept("L04AA44", ATC),
    "upadacitinib by name": {"text": "Rinvoq 15 mg"},
    "filgotinib": concept("L04AF04", ATC),
    "class": concept("704312008", SNOMED),
    "a newer member of the class": concept("L04AF99", ATC),
    "one for the skin alone": {"text": "delgocitinib 20 mg/g cream"},
}


@pytest.mark.parametrize("code", NOT_COVERED.values(), ids=NOT_COVERED)
def test_a_jak_inhibitor_that_the_guideline_does_not_cover_gets_a_card_that_says_so(code: Json) -> None:
    (card,) = ordered(medicationCodeableConcept=code)
    assert card["indicator"] == "warning"
    assert "none that the guideline covers" in card["detail"]
    assert given([card]) == "-"


# --- references -----------------------------------------------------------------------------------

MEDICATION: Json = {"resourceType": "Medication", "id": "m1", "code": concept("1357541", RXNORM)}
INGREDIENT_ONLY: Json = {
    "resourceType": "Medication",
    "id": "m1",
    "code": {"text": "a product"},
    "ingredient": [{"itemCodeableConcept": concept("1357536", RXNORM)}],
}
REFERENCES: dict[str, tuple[Json, Json | None]] = {
    # members of the order, and the Medication in the prefetch
    "contained": ({"medicationReference": {"reference": "#m1"}, "contained": [MEDICATION]}, None),
    "contained, among oddities": (
        {"medicationReference": {"reference": "#m1"}, "contained": [5, MEDICATION]},
        None,
    ),
    "in the prefetch": ({"medicationReference": {"reference": "Medication/m1"}}, MEDICATION),
    "absolute": (
        {"medicationReference": {"reference": "https://ehr.example/fhir/Medication/m1"}},
        MEDICATION,
    ),
    "versioned": ({"medicationReference": {"reference": "Medication/m1/_history/2"}}, MEDICATION),
    "R5 reference": ({"medication": {"reference": {"reference": "Medication/m1"}}}, MEDICATION),
    "R5 concept": ({"medication": {"concept": MEDICATION["code"]}}, None),
    "a concept under the short name": ({"medication": MEDICATION["code"]}, None),
    "a reference under the short name": ({"medication": {"reference": "Medication/m1"}}, MEDICATION),
    "by its ingredient": ({"medicationReference": {"reference": "Medication/m1"}}, INGREDIENT_ONLY),
    "by its ingredient, STU3 and R5": (
        {"medicationReference": {"reference": "Medication/m1"}},
        {
            **INGREDIENT_ONLY,
            "ingredient": [{"item": {"concept": concept("1", "x")}}, {"item": MEDICATION["code"]}, 7],
        },
    ),
    "by its ingredient, DSTU2": (
        {"medicationReference": {"reference": "Medication/m1"}},
        {"resourceType": "Medication", "id": "m1", "product": {"ingredient": [{"item": MEDICATION["code"]}]}},
    ),
    "by an ingredient that is a contained Substance": (
        {"medicationReference": {"reference": "Medication/m1"}},
        {
            "resourceType": "Medication",
            "id": "m1",
            "contained": [{"resourceType": "Substance", "id": "s", "code": concept("1357536", RXNORM)}],
            "ingredient": [{"itemReference": {"reference": "#s"}}],
        },
    ),
    "by an ingredient that is contained in the order": (
        {
            "medicationReference": {"reference": "#m1"},
            "contained": [
                {
                    "resourceType": "Medication",
                    "id": "m1",
                    "ingredient": [{"itemReference": {"reference": "#s"}}],
                },
                {"resourceType": "Substance", "id": "s", "code": concept("1357536", RXNORM)},
            ],
        },
        None,
    ),
    "by an ingredient by reference, R5": (
        {"medication": {"reference": {"reference": "Medication/m1"}}},
        {
            "resourceType": "Medication",
            "id": "m1",
            "contained": [{"resourceType": "Substance", "id": "s", "code": concept("1357536", RXNORM)}],
            "ingredient": [{"item": {"reference": {"reference": "#s"}}}],
        },
    ),
    "by the words of the reference": (
        {"medicationReference": {"reference": "Medication/gone", "display": "tofacitinib 5 mg"}},
        None,
    ),
}


@pytest.mark.parametrize(("members", "medication"), REFERENCES.values(), ids=REFERENCES)
def test_medicines_by_reference(members: Json, medication: Json | None) -> None:
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None) | members
    data = prefetch_of(medicines=[medication] if medication else [])
    assert drug_of(cards(hook_request([drafted], data))) == "tofacitinib"


def test_a_medication_may_come_as_another_draft_entry() -> None:
    drafted = draft(
        "tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": "Medication/m1"}
    )
    assert drug_of(cards(hook_request([drafted, MEDICATION]))) == "tofacitinib"


def test_a_reference_is_resolved_by_the_full_url_of_an_entry() -> None:
    url = "urn:uuid:4c2c1a40-0000-4000-8000-000000000002"
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": url})
    among_drafts = hook_request([drafted, MEDICATION])
    among_drafts["context"]["draftOrders"]["entry"][1]["fullUrl"] = url
    assert drug_of(cards(among_drafts)) == "tofacitinib"
    prefetched = hook_request([drafted], prefetch_of(medicines=[MEDICATION]))
    prefetched["prefetch"]["medicationRequests"]["entry"][0]["fullUrl"] = url
    assert drug_of(cards(prefetched)) == "tofacitinib"


SERVERS = {
    "the request's own": ("https://ehr.example/fhir", "https://ehr.example/fhir/Medication/m1", 200),
    "with a slash at its end": ("https://ehr.example/fhir/", "https://ehr.example/fhir/Medication/m1", 200),
    "by another scheme": ("http://EHR.example/fhir", "https://ehr.example/fhir/Medication/m1", 200),
    "another": ("https://ehr.example/fhir", "https://other.example/fhir/Medication/m1", 412),
    "another path": ("https://ehr.example/fhir", "https://ehr.example/fhir2/Medication/m1", 412),
    "none named": (None, "https://other.example/fhir/Medication/m1", 200),
}


@pytest.mark.parametrize(("server", "url", "status"), SERVERS.values(), ids=SERVERS)
def test_the_same_id_at_another_server_is_another_medication(
    server: str | None, url: str, status: int
) -> None:
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": url})
    request = hook_request([drafted], prefetch_of(medicines=[MEDICATION]))
    assert post(request | ({"fhirServer": server} if server else {})).status_code == status


GONE = {"reference": "Medication/gone"}


@pytest.mark.parametrize(
    "members",
    [
        {"medicationReference": GONE},
        {"medicationReference": {"reference": "#gone"}},
        {"medicationReference": {"reference": 5}},
        {"medicationReference": {"identifier": {"value": "1"}}},
        {"medication": {"reference": GONE}},
        *(
            {
                "medicationReference": {"reference": "#m"},
                "contained": [{"resourceType": "Medication", "id": "m"} | more],
            }
            for more in (
                {},
                {"code": {"coding": []}},
                {"ingredient": [{"itemReference": {"reference": "#gone"}}]},
                {"ingredient": [{"itemReference": {"reference": "#m"}}]},
                {"ingredient": [{"itemCodeableConcept": MEDICATION["code"]}] * 51},
            )
        ),
    ],
    ids=lambda members: str(members)[:120],
)
def test_nothing_can_be_said_where_no_drug_can_be_had(members: Json) -> None:
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None) | members
    response = post(hook_request([drafted]))
    assert response.status_code == 412
    assert response.get_json()["resourceType"] == "OperationOutcome"


def test_one_unresolved_draft_among_others_gets_a_card() -> None:
    unresolved = draft("tofacitinib", 4, id_="d2", medicationCodeableConcept=None, medicationReference=GONE)
    found = cards(hook_request([draft("tofacitinib", 4), unresolved]))
    assert given(found) == "TOFA-DOSE-04"
    assert {finding.get("order") for finding in findings(found).values()} >= {"MedicationRequest/d2"}
    assert "could not be resolved" in texts(found)
    methotrexate = draft("tofacitinib", 4, medicationCodeableConcept=concept("L04AX03", ATC))
    (card,) = cards(hook_request([methotrexate, unresolved]))
    assert "could not be resolved" in card["detail"]


# --- other medicines by name ----------------------------------------------------------------------

CONTRACEPTIVES = {
    # words -> what the start is told
    "a brand": ("Microgynon 30 tablets", "critical"),
    "a patch": ("Evra transdermal patch", "critical"),
    "a ring": ("NuvaRing 0.120 mg/0.015 mg per 24 hours", "critical"),
    "both hormones": ("Ethinylestradiol 30microgram / Levonorgestrel 150microgram tablets", "critical"),
    "both hormones, American": ("ethinyl estradiol 0.03 MG / desogestrel 0.15 MG Oral Tablet", "critical"),
    "an oestrogen alone": ("Ethinylestradiol 10microgram tablets", "warning"),
    "a progestogen": ("Desogestrel 75microgram tablets", "info"),
    "a progestogen brand": ("Cerazette 75microgram tablets", "info"),
    "a pill of no told kind": ("Oral contraceptive pill", "warning"),
    "a pill told to be combined": ("Combined oral contraceptive pill", "critical"),
    "a pill told to be progestogen-only": ("Progestogen-only oral contraceptive pill", "info"),
}


@pytest.mark.parametrize(("words", "severity"), CONTRACEPTIVES.values(), ids=CONTRACEPTIVES)
def test_contraceptives_are_known_by_their_names(words: str, severity: str) -> None:
    taken = draft("tofacitinib", id_="m1", status="active", medicationCodeableConcept={"text": words})
    found = findings(ask(draft("tofacitinib", 4), medicines=[taken]))
    assert found["PREG-04"]["severity"] == severity
    assert ("TOFA-CI-07" in found) is (severity == "critical")


def test_two_ingredients_make_a_combined_contraceptive() -> None:
    hormones = [concept("4124", RXNORM), concept("6373", RXNORM)]
    pill = {
        "resourceType": "Medication",
        "id": "pill",
        "ingredient": [{"itemCodeableConcept": hormone} for hormone in hormones],
    }
    taken = draft(
        "tofacitinib",
        id_="m1",
        status="active",
        medicationCodeableConcept=None,
        medicationReference={"reference": "#pill"},
        contained=[pill],
    )
    assert findings(ask(draft("tofacitinib", 4), medicines=[taken]))["TOFA-CI-07"]["severity"] == "critical"


ALLERGIES = {
    "lactose by code": (concept("47703008"), "warning"),
    "lactose by name": ({"text": "Lactose intolerance"}, "warning"),
    "the class": ({"text": "JAK inhibitors"}, "critical"),
    "another of the class": ({"text": "upadacitinib"}, None),
    "soya": ({"text": "Soya"}, None),
}


@pytest.mark.parametrize(("code", "severity"), ALLERGIES.values(), ids=ALLERGIES)
def test_allergies_to_a_component(code: Json, severity: str | None) -> None:
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a1",
        "patient": {"reference": "Patient/p1"},
        "code": code,
    }
    found = findings(
        cards(hook_request([draft("tofacitinib", 4)], prefetch_of() | {"allergies": bundle(allergy)}))
    )
    assert found.get("TOFA-CI-01", {}).get("severity") == severity


# --- long texts and many drafts -----------------------------------------------------------------------------


NAMES = sorted({name for known in medicines._names().values() for name, _ in known})


@for_all(
    st.lists(st.sampled_from([*NAMES, "a", "ß", "2", "_", "-", " ", "(", ",", "\n"]), max_size=12).map(
        "".join
    )
)
def test_names_are_found_as_whole_words(text: str) -> None:
    concepts = {name: concept for known in medicines._names().values() for name, concept in known}
    expected = {concepts[name] for name in NAMES if re.search(rf"\b{re.escape(name)}\b", text.lower())}
    assert medicines.named_in([text]) == expected


LONG = {
    "strengths": "tofacitinib " + "1 mg/mL " * 25_000,
    "different strengths": "tofacitinib " + "".join(f"{n} mg/mL " for n in range(1, 20_000)),
    "digits": "tofacitinib " + "1" * 200_000,
    "blanks": "tofacitinib " + " " * 200_000 + "x",
    "names": "methotrexate ciclosporin " * 8_000 + "tofacitinib",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_http_2_a_long_name_is_read_in_its_one_pass(text: str) -> None:
    request = hook_request([draft("tofacitinib", 4, medicationCodeableConcept={"text": text})])
    start = time.process_time()
    assert drug_of(cards(request)) == "tofacitinib"
    assert time.process_time() - start < 1.0


def test_http_2_more_drafts_than_anybody_signs_are_refused_whole() -> None:
    many = [draft("tofacitinib", 4, id_=f"d{n}") for n in range(MOST_DRAFTS + 1)]
    response = post(hook_request(many))
    assert response.status_code == 413
    assert "several calls" in response.get_json()["issue"][0]["diagnostics"]
    others = [
        draft("tofacitinib", id_=f"d{n}", medicationCodeableConcept={"text": "paracetamol"})
        for n in range(150)
    ]
    assert post(hook_request(others)).get_json() == {"cards": []}
