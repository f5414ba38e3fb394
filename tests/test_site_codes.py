"""A site's own codes: what a code map may say, that a mapped record reads like a coded one, and what stays unknown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from builders import (
    LOINC,
    RXNORM,
    SNOMED,
    Json,
    bundle,
    cards,
    draft,
    given,
    hook_request,
    observation,
    prefetch_of,
    texts,
    updates,
)
from test_mapping_versions import DRAFTS, US, r5, rewritten, rounded, stu3, told, written

from cds_service.app import create_app
from cds_service.json_reader import read_json, write_json
from cds_service.settings import Settings
from fhir_mappings.prefetch import templates
from fhir_mappings.site_codes import NO_SITE_CODES, SiteCodeFault, as_it_came, load_site_codes

LOCAL = "https://hospital.example/lab"


def concept_map(*elements: Json, target: str = LOINC, source: str = LOCAL, **more: Any) -> Json:
    return {
        "resourceType": "ConceptMap",
        "status": "active",
        "group": [{"source": source, "target": target, "element": list(elements)}],
        **more,
    }


def element(code: str, target: str, equivalence: str = "equivalent") -> Json:
    return {"code": code, "target": [{"code": target, "equivalence": equivalence}]}


def site(folder: Path, *maps: object) -> Path:
    names = []
    for number, one in enumerate(maps):
        (folder / f"map{number}.json").write_text(
            one if isinstance(one, str) else json.dumps(one), encoding="utf-8"
        )
        names.append(f"  - map{number}.json\n")
    path = folder / "site.yaml"
    path.write_text("code_maps:\n" + "".join(names), encoding="utf-8")
    return path


def asked(settings: Settings, request: Json) -> list[Json]:
    service = {"order-select": "jaki-order-select", "order-sign": "jaki-order-sign"}[request["hook"]]
    response = (
        create_app(settings)
        .test_client()
        .post(f"/cds-services/{service}", data=write_json(request), content_type="application/json")
    )
    assert response.status_code == 200, response.get_json()
    body = read_json(response.data)
    assert isinstance(body, dict)
    found: list[Json] = body["cards"]
    return found


def local(fact: str) -> str:
    return f"LAB-{fact}"


@pytest.fixture
def hospital(tmp_path: Path) -> Settings:
    """A hospital that has a code of its own for every result, every disease and every drug."""
    results = concept_map(*(element(local(fact), code) for fact, (code, _, _) in US.items()))
    conditions = concept_map(
        element("SAVI", "711164003"), element("SWALLOW", "40739000", "wider"), target=SNOMED
    )
    drugs = concept_map(element("BARI", "2047232"), element("TOFA", "1357536"), target=RXNORM)
    return Settings(demo=True, log_level="error", site=site(tmp_path, results, conditions, drugs))


LOCAL_OF = {
    "711164003": "SAVI",
    "40739000": "SWALLOW",
    "2047232": "BARI",
    "1357536": "TOFA",
    **{code: local(fact) for fact, (code, _, _) in US.items()},
}


def in_local_codes(value: Any) -> Any:
    if isinstance(value, dict):
        if str(value.get("code")) in LOCAL_OF and "system" in value:
            return {"system": LOCAL, "code": LOCAL_OF[value["code"]]}
        return {name: in_local_codes(item) for name, item in value.items() if name != "text"}
    return [in_local_codes(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("version", [None, r5, stu3])
@pytest.mark.parametrize("drug", DRAFTS)
def test_a_record_in_local_codes_gives_the_same_findings(hospital: Settings, drug: str, version: Any) -> None:
    how = version or (lambda resource: resource)
    data = rewritten(written(US, LOINC), how)
    drafted = how(DRAFTS[drug])
    usual = asked(Settings(demo=True, log_level="error"), hook_request([drafted], data))
    request = hook_request([in_local_codes(drafted)], in_local_codes(data))
    mapped = asked(hospital, request)
    assert given(usual) != "-" or drug == "tofacitinib"
    assert rounded(told(mapped)) == rounded(told(usual))
    assert given(mapped) == given(usual)


def test_without_the_map_the_same_record_is_not_understood(hospital: Settings) -> None:
    data, drafted = in_local_codes(written(US, LOINC)), DRAFTS["baricitinib"]
    mapped = asked(hospital, hook_request([drafted], data))
    unmapped = asked(Settings(demo=True, log_level="error"), hook_request([drafted], data))
    assert given(mapped) != given(unmapped)


def test_a_suggested_order_is_the_hospitals_own(hospital: Settings) -> None:
    """The order that goes back holds the codes that came, and nothing that this service added."""
    drafted = in_local_codes(draft("tofacitinib", 1))
    for coding in (
        drafted["medicationCodeableConcept"]["coding"],
        drafted["medicationCodeableConcept"]["coding"][0],
    ):
        drafted["medicationCodeableConcept"] = {"coding": coding}
        found = updates(asked(hospital, hook_request([drafted], prefetch_of())))
        assert found
        for suggestion in found:
            sent = suggestion["actions"][0]["resource"]
            assert sent["medicationCodeableConcept"] == drafted["medicationCodeableConcept"]


def test_the_hospitals_codes_are_asked_for(hospital: Settings) -> None:
    codes = load_site_codes(hospital.site)
    kidney = templates(codes)["kidney"]
    assert f"{LOCAL}|LAB-creatinine" in kidney
    body = create_app(hospital).test_client().get("/cds-services").get_json()
    assert all(service["prefetch"]["kidney"] == kidney for service in body["services"])


def test_translating_changes_nothing_that_holds_no_local_code(hospital: Settings) -> None:
    codes = load_site_codes(hospital.site)
    data = prefetch_of()
    assert codes.translated(data) is data
    mapped = codes.translated(in_local_codes(data))
    assert mapped != in_local_codes(data)
    assert as_it_came(mapped) == in_local_codes(data)


def test_r5_relations_and_none_at_all(tmp_path: Path) -> None:
    r5_map = concept_map(
        {"code": "A", "target": [{"code": "718-7", "relationship": "source-is-narrower-than-target"}]},
        {"code": "B", "target": [{"code": "718-7", "relationship": "not-related-to"}]},
        {"code": "C", "noMap": True},
    )
    assert set(load_site_codes(site(tmp_path, r5_map)).targets) == {(LOCAL, "A")}
    assert load_site_codes(None) is NO_SITE_CODES


def test_a_site_file_without_maps(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("policy: {}\n", encoding="utf-8")
    assert load_site_codes(path) is NO_SITE_CODES


HB = element("HB", "718-7")
FAULTS: list[tuple[object, str]] = [
    ("{", r"map0\.json, line 1: not readable as JSON; .*"),
    ({"resourceType": "ValueSet"}, r"map0\.json: not a FHIR ConceptMap; .*"),
    (concept_map(HB, status="retired"), r"map0\.json, line 1: the ConceptMap is retired; .*"),
    ({"resourceType": "ConceptMap"}, r"map0\.json: the ConceptMap has no group; .*"),
    (concept_map(HB, source=""), r"map0\.json, line 1, group 1: it has no source; .*"),
    (
        concept_map(HB, target="http://example.org"),
        r"map0\.json, line 1, group 1: the target system is none .*; .*",
    ),
    (concept_map({"target": []}), r"map0\.json, line 1, group 1, element 1: it has no code; .*"),
    (
        concept_map(HB, element("X", "9-9")),
        r"map0\.json, line 1, group 1, element 2 \(X\), target 1: the target code .*; .*",
    ),
    (
        concept_map(element("X", "718-7", "narrower")),
        r"map0\.json, line 1, group 1, element 1 \(X\), target 1: the relation .*",
    ),
    (concept_map(element("X", "718-7", "relatedto")), r".*the relation must say.*"),
    (concept_map({"code": "X", "target": [{"code": "718-7"}]}), r".*the relation must say.*"),
    (concept_map({"code": "X", "target": {"code": "718-7"}}), r".*target is no list; .*"),
    (concept_map({"code": "X", "target": ["718-7"]}), r".*target 1: it is no object; .*"),
    (concept_map(element("777-3", "718-7"), source=LOINC), r".*already knows what the code means; .*"),
    (
        concept_map(HB, HB),
        r"map0\.json, line 1, group 1, element 2 \(HB\): the code is mapped already at "
        r"map0\.json, group 1, element 1 \(HB\); .*",
    ),
]


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_a_faulty_map_stops_the_start_with_place_and_cure(
    tmp_path: Path, content: object, message: str
) -> None:
    path = site(tmp_path, content)
    with pytest.raises(SiteCodeFault) as told_:
        create_app(Settings(demo=True, site=path))

    assert re.fullmatch(message, str(told_.value)), str(told_.value)


def test_a_fault_in_a_map_is_told_with_its_line(tmp_path: Path) -> None:
    text = json.dumps(concept_map(HB, element("X", "9-9")), indent=2)
    line = text[: text.index('"9-9"')].count("\n")  # its target begins on the line before
    place = rf"^map0\.json, line {line}, group 1, element 2 \(X\), target 1: "
    with pytest.raises(SiteCodeFault, match=place):
        load_site_codes(site(tmp_path, text))


def test_a_map_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("code_maps: [gone.json]\n", encoding="utf-8")
    with pytest.raises(
        SiteCodeFault, match=r"^site\.yaml, line 1, code_maps: gone\.json cannot be read \(No such file"
    ):
        load_site_codes(path)
    path.write_text("code_maps: gone.json\n", encoding="utf-8")
    with pytest.raises(SiteCodeFault, match=r"^site\.yaml, line 1: code_maps is a list"):
        load_site_codes(path)


# --- codes that nobody knows --------------------------------------------------------------------------------


def unknown(value: str = "11", unit: str = "g/dL", **more: Any) -> Json:
    return observation("haemoglobin", value, unit, id_="loc", **({"code": LOCAL_CODE} | more))


LOCAL_CODE = {"coding": [{"system": LOCAL, "code": "HB-secret-name"}]}
NO_HB = {"neutrophils": "3", "lymphocytes": "2"}


def noted(*results: Json, bloods: dict[str, str] = NO_HB, **more: Any) -> str:
    found = cards(hook_request([draft("tofacitinib", 5)], prefetch_of(bloods=bloods, results=results) | more))
    return texts(found)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        (unknown(), True),
        (unknown("110", "g/L"), True),
        (unknown("11", "mmHg"), False),
        (unknown("9000"), False),
        (unknown(status="preliminary"), False),
        (unknown(subject={"reference": "Patient/p2"}), False),
        (unknown(code={"coding": [{"system": LOINC, "code": "4548-4"}]}), False),
        (unknown(code={"coding": [{"system": LOINC, "code": "718-7"}]}), False),
    ],
)
def test_a_result_in_an_unknown_code_is_named_where_it_could_be_what_is_missing(
    result: Json, named: bool
) -> None:
    said = noted(result)
    assert ("Observation/loc: in no code that this service knows" in said) is named
    assert "HB-secret-name" not in said


def test_nothing_is_named_where_nothing_is_missing() -> None:
    assert "in no code that this service knows" not in noted(unknown(), bloods={**NO_HB, "haemoglobin": "12"})


LOCAL_ENTRIES: dict[str, Json] = {
    "conditions": {
        "resourceType": "Condition",
        "id": "loc",
        "subject": {"reference": "Patient/p1"},
        "code": LOCAL_CODE,
    },
    "procedures": {
        "resourceType": "Procedure",
        "id": "loc",
        "status": "completed",
        "subject": {"reference": "Patient/p1"},
        "code": LOCAL_CODE,
    },
    "immunizations": {
        "resourceType": "Immunization",
        "id": "loc",
        "status": "completed",
        "patient": {"reference": "Patient/p1"},
        "vaccineCode": LOCAL_CODE,
    },
}


@pytest.mark.parametrize("key", LOCAL_ENTRIES)
def test_an_entry_in_local_codes_is_named(key: str) -> None:
    entry = LOCAL_ENTRIES[key]
    kind = entry["resourceType"]
    more = {key: bundle(*(e["resource"] for e in prefetch_of()[key]["entry"]), entry)}
    assert f"{kind}/loc: in codes that this service does not know" in noted(**more)
    wrong = entry | {"status": "entered-in-error"}
    assert "in codes that this service does not know" not in noted(**{key: bundle(wrong)})
    known = json.loads(json.dumps(entry).replace(LOCAL, SNOMED).replace("HB-secret-name", "195967001"))
    assert "in codes that this service does not know" not in noted(**{key: bundle(known)})


def test_a_medicine_in_local_codes_that_is_known_by_its_name_is_not_named() -> None:
    def taken(text: str) -> str:
        medicine = {"medicationCodeableConcept": LOCAL_CODE | {"text": text}}
        running = draft("tofacitinib", id_="loc", status="active", **medicine)
        return noted(medicationRequests=bundle(running))

    assert "MedicationRequest/loc: in codes" in taken("ZX 40")
    assert "MedicationRequest/loc: in codes" not in taken("methotrexate")


def test_unknown_codes_are_counted_without_their_text() -> None:
    app = create_app(Settings(demo=True, log_level="error"))
    request = hook_request([draft("tofacitinib", 5)], prefetch_of(results=[unknown(), unknown(id="loc2")]))
    request["prefetch"]["conditions"]["entry"].append(
        {
            "resource": LOCAL_ENTRIES["conditions"]
            | {"code": {"coding": [{"system": SNOMED, "code": "195967001"}]}}
        }
    )
    client = app.test_client()
    for _ in range(2):
        client.post(
            "/cds-services/jaki-order-select", data=write_json(request), content_type="application/json"
        )
    said = client.get("/metrics").get_data(as_text=True)
    assert 'jaki_cds_unknown_codes_total{resource="Observation",system="other"} 4' in said
    assert 'jaki_cds_unknown_codes_total{resource="Condition",system="snomed-ct"} 2' in said
    assert said.count("jaki_cds_unknown_codes_total{") == 2
    assert "HB-secret-name" not in said
    assert "hospital.example" not in said
