"""Demo mode: the invented children, the FHIR server that holds them, and what the services say of each."""

from __future__ import annotations

import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from builders import dose, findings, missing, ours
from fhir.resources.R4B import get_fhir_model_class
from flask.testing import FlaskClient
from test_serve import running

from cds_service.app import create_app
from cds_service.demo import children
from cds_service.demo.children import Child, drug_concept, load, store
from cds_service.demo.own_server import is_own
from cds_service.json_reader import read_json
from cds_service.runtime import make_runtime
from cds_service.settings import Settings
from fhir_mappings.client import FetchPolicy, FetchState, FhirClient
from fhir_mappings.prefetch import templates

FHIR = "/demo/fhir"
OWN = "http://localhost/demo/fhir"
LOINC = "http://loinc.org"
CHILDREN = {child.id: child for child in load()}
TODAY = date(2027, 3, 1)


def at(today: date) -> FlaskClient:
    """A test client of a service whose clock stands at ``today``."""
    settings = Settings(demo=True, log_level="error")
    return create_app(settings, replace(make_runtime(settings), today=lambda: today)).test_client()


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return at(TODAY)


def found(client: FlaskClient, path: str, **parameters: str) -> dict[str, Any]:
    response = client.get(f"{FHIR}/{path}?{urlencode(parameters)}")
    assert (response.status_code, response.content_type) == (200, "application/fhir+json")
    body: dict[str, Any] = response.get_json()
    return body


def ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", ())]


# --- the children ---------------------------------------------------------------------------------


def test_the_list_of_children_names_nobody(client: FlaskClient) -> None:
    listed = client.get("/demo/children").get_json()
    assert len(listed) >= 12
    assert [child["id"] for child in listed] == list(CHILDREN)
    for child in listed:
        assert child["label"] and child["description"]
        patient = client.get(f"{FHIR}/Patient/{child['id']}").get_json()
        (name,) = patient["name"]
        for word in (name["family"], *name["given"]):
            assert word.casefold() not in (child["label"] + child["description"]).casefold()


def test_the_childrens_resources_are_fhir() -> None:
    for kind, resources in store(TODAY).items():
        for id_, resource in resources.items():
            assert (resource["resourceType"], resource["id"]) == (kind, id_)
            assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", id_)
            get_fhir_model_class(kind).model_validate(resource)


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("drug: tofacitinib", "drug: tofa", "'tofa'"),
        ("polyarticular-jia: -700", "poly-jia: -700", "'poly-jia'"),
        ("born: -2060", "", "'born'"),
        ('-7: "17.4"', '-7: "heavy"', "number"),
        ('-7: "17.4"', 'last week: "17.4"', "day"),
        ("medicine: adalimumab", "drug: adalimumab", "'medicine'"),
    ],
)
def test_a_childs_file_that_cannot_be_used(tmp_path: Path, good: str, bad: str, said: str) -> None:
    text = (Path(children.__file__).parent / "children" / "jia-17kg.yaml").read_text(encoding="utf-8")
    assert good in text
    path = tmp_path / "jia-17kg.yaml"
    path.write_text(text.replace(good, bad), encoding="utf-8")
    with pytest.raises(children.UnusableChild, match=f"jia-17kg.yaml: .*{said}"):
        children.read_child(path)


def test_dates_move_with_the_clock_and_ids_do_not() -> None:
    before, after = store(date(2027, 2, 28)), store(TODAY)
    assert {k: list(v) for k, v in before.items()} == {k: list(v) for k, v in after.items()}
    weights = [kinds["Observation"]["jia-17kg-weight-7"]["effectiveDateTime"] for kinds in (before, after)]
    assert weights == ["2027-02-21", "2027-02-22"]
    for resources in after.values():
        for resource in resources.values():
            for name in ("effectiveDateTime", "authoredOn", "onsetDateTime", "occurrenceDateTime"):
                assert resource.get(name, "") <= TODAY.isoformat()


def test_the_page_for_testers_lists_every_child() -> None:
    page = (Path(__file__).parent.parent / "docs" / "sandbox.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- children:")[2].partition("<!-- end of children -->")[0]
    rows = [f"| `{c.id}` | **{c.label}**<br>{c.description} | {c.drug} |" for c in CHILDREN.values()]
    assert [line for line in shown.splitlines() if line.startswith("| `") and "patientId" not in line] == rows


# --- what the services say of them ----------------------------------------------------------------


def call(client: FlaskClient, service: str, child: str, **context: Any) -> list[dict[str, Any]]:
    """A hook call without any prefetch, whose FHIR server is the called service itself."""
    request = {
        "hook": service.removeprefix("jaki-"),
        "hookInstance": "7c1f3ba2-6a70-4d4b-9a47-111111111111",
        "fhirServer": OWN,
        "context": {"userId": "Practitioner/COREPRACTITIONER1", "patientId": child, **context},
    }
    response = client.post(f"/cds-services/{service}", json=request)
    assert response.status_code == 200, response.get_json()
    body = read_json(response.data)
    assert isinstance(body, dict)
    cards: list[dict[str, Any]] = body["cards"]
    return cards


def order_select(client: FlaskClient, child: Child) -> list[dict[str, Any]]:
    draft = {
        "resourceType": "MedicationRequest",
        "id": "d1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{child.id}"},
        "medicationCodeableConcept": drug_concept(child.drug),
    }
    return call(
        client,
        "jaki-order-select",
        child.id,
        selections=["MedicationRequest/d1"],
        draftOrders={"resourceType": "Bundle", "entry": [{"resource": draft}]},
    )


@cache
def selected(today: date) -> dict[str, list[dict[str, Any]]]:
    """The cards of every child's draft as of a day."""
    client = at(today)
    return {child.id: order_select(client, child) for child in CHILDREN.values()}


@pytest.mark.parametrize("today", [TODAY, date(2028, 2, 29)])
def test_each_child_shows_what_its_file_says_on_any_day(today: date) -> None:
    for child in CHILDREN.values():
        said = findings(selected(today)[child.id])
        for id_ in child.shows:
            assert said[id_]["outcome"] == "hit", f"{child.id} {today}"


def test_a_call_changes_nothing_in_the_store() -> None:
    before = deepcopy(store(TODAY))
    selected.cache_clear()
    selected(TODAY)
    assert store(TODAY) == before


def test_everything_is_fetched() -> None:
    for child, cards in selected(TODAY).items():
        assert cards
        reasons = {reason for _, reason in missing(cards)}
        assert not reasons & {"not-supplied", "failed", "partial-page"}, child


@pytest.mark.parametrize(
    ("child", "administrations"),
    [
        ("jia-6kg", [(2, "2")]),
        ("jia-9kg", [(2, "2.5")]),
        ("jia-17kg", [(2, "3.2")]),
        ("jia-28kg", [(2, "4")]),
        ("jia-48kg", [(2, "5")]),
        ("jdm-5y", [(1, "2")]),
        ("jdm-12y-treated", [(1, "4")]),
        ("interferonopathy-normal-egfr", [("MORN", "2"), ("AFT", "2"), ("EVE", "2")]),
        ("interferonopathy-reduced-egfr", [("MORN", "2"), ("EVE", "2")]),
    ],
)
def test_a_firm_dose(child: str, administrations: list[tuple[object, str]]) -> None:
    found = dose(selected(TODAY)[child])
    assert found is not None
    assert "provisional" not in found
    assert [(one.get("when") or one["timesPerDay"], one["mg"]) for one in found["administrations"]] == [
        (when, Decimal(mg)) for when, mg in administrations
    ]


@pytest.mark.parametrize("child", ["jia-low-neutrophils", "jia-pregnant", "jia-old-weight"])
def test_no_dose(child: str) -> None:
    assert dose(selected(TODAY)[child]) is None


@pytest.mark.parametrize("child", ["jia-no-tb-screen", "jia-overdue-bloods"])
def test_a_provisional_dose(child: str) -> None:
    found = dose(selected(TODAY)[child])
    assert found is not None
    assert found["provisional"] is True


VIEWS = {
    "jia-band-crossed": "TOFA-DOSE-08",
    "jia-overdue-bloods": "TOFA-MON-03",
    "jia-shingles-on-treatment": "ZOST-01",
}


def test_opening_a_chart(client: FlaskClient) -> None:
    """Cards for children on treatment with something due; none for the others."""
    for child in CHILDREN:
        cards = call(client, "jaki-patient-view", child)
        assert bool(cards) == (child in VIEWS), child
        if cards:
            assert findings(cards)[VIEWS[child]]["outcome"] == "hit"
            assert ours(cards[0])["asOf"] == TODAY.isoformat()


# --- search ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("patient", ["jia-17kg", "Patient/jia-17kg", f"{OWN}/Patient/jia-17kg"])
@pytest.mark.parametrize("parameter", ["patient", "subject"])
def test_search_by_patient(client: FlaskClient, parameter: str, patient: str) -> None:
    bundle = found(client, "Condition", **{parameter: patient})
    assert (bundle["resourceType"], bundle["type"], bundle["total"]) == ("Bundle", "searchset", 2)
    assert ids(bundle) == ["jia-17kg-polyarticular-jia", "jia-17kg-asthma"]
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"{OWN}/Condition/{entry['resource']['id']}"
        assert entry["search"] == {"mode": "match"}
        code = entry["resource"]["code"]
        assert code["coding"][0]["code"] and code["text"]


def test_get_and_post_find_the_same(client: FlaskClient) -> None:
    for template in templates().values():
        kind, _, query = template.replace("{{context.patientId}}", "jia-17kg").partition("?")
        if not query:
            continue
        by_get = client.get(f"{FHIR}/{kind}?{quote(query, safe='=&')}")
        by_post = client.post(
            f"{FHIR}/{kind}/_search",
            data=quote(query, safe="=&"),
            content_type="application/x-www-form-urlencoded",
            headers={"Accept": "application/json+fhir"},
        )
        assert by_get.status_code == by_post.status_code == 200
        assert by_get.data == by_post.data


def test_code_lists(client: FlaskClient) -> None:
    def count(code: str) -> int:
        total: int = found(client, "Observation", patient="jia-17kg", code=code)["total"]
        return total

    assert count(f"{LOINC}|29463-7") == count("29463-7") == 4
    assert count(f"{LOINC}|29463-7,{LOINC}|8302-2") == 7
    assert count("http://snomed.info/sct|29463-7") == count("|29463-7") == count("nothing") == 0
    assert count(f"{LOINC}|") == found(client, "Observation", patient="jia-17kg")["total"]


def test_category_status_and_id(client: FlaskClient) -> None:
    vital = found(client, "Observation", patient="jia-17kg", category="vital-signs", _count="100")
    assert vital["total"] == 7
    assert all("weight" in id_ or "height" in id_ for id_ in ids(vital))
    active = found(client, "MedicationRequest", patient="jia-17kg", status="active")
    stopped = found(client, "MedicationRequest", patient="jia-17kg", status="completed,stopped")
    assert (ids(active), ids(stopped)) == (["jia-17kg-medicine-0"], ["jia-17kg-medicine-1"])
    assert ids(found(client, "Patient", _id="jia-17kg,jia-48kg")) == ["jia-17kg", "jia-48kg"]
    assert found(client, "Condition", patient="nobody") == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 0,
        "link": [{"relation": "self", "url": f"{OWN}/Condition?patient=nobody"}],
    }


def test_order_and_pages(client: FlaskClient) -> None:
    parameters = {"patient": "jia-17kg", "code": "29463-7", "_sort": "-date", "_count": "3"}
    first = found(client, "Observation", **parameters)
    assert first["total"] == 4
    links = {link["relation"]: link["url"] for link in first["link"]}
    rest = client.get(links["next"].removeprefix("http://localhost")).get_json()
    assert [link["relation"] for link in rest["link"]] == ["self"]
    dates = [entry["resource"]["effectiveDateTime"] for entry in (*first["entry"], *rest["entry"])]
    assert dates == sorted(dates, reverse=True)
    assert len(set(ids(first) + ids(rest))) == 4
    upwards = found(client, "Observation", **{**parameters, "_sort": "date", "_count": "1"})
    assert ids(upwards) == ids(rest)
    counted = found(client, "Observation", **{**parameters, "_count": "0"})
    assert (counted["total"], "entry" in counted) == (4, False)


def test_dates(client: FlaskClient) -> None:
    def count(on: str) -> int:
        total: int = found(client, "Observation", patient="jia-17kg", code="29463-7", date=on)["total"]
        return total

    assert (count("ge2027-02-22"), count("gt2027-02-22"), count("2027-02-22")) == (1, 0, 1)
    assert (count("lt2027-02-22"), count("le2027-02-22"), count("2027-02")) == (3, 4, 1)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Observation?date=ge{{today()}}", 400),
        ("Observation?_count=many", 400),
        ("Observation?_sort=colour", 400),
        ("Patient/nobody", 404),
        ("Nothing/1", 404),
        ("Nothing?patient=1", 404),
        ("Patient/jia-17kg/more", 404),
    ],
)
def test_refusals(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(f"{FHIR}/{path}", headers={"Origin": "http://127.0.0.1:8080"})
    assert response.status_code == status
    assert response.get_json()["resourceType"] == "OperationOutcome"
    assert response.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:8080"
    for part in ("many", "colour", "nobody", "today"):
        assert part not in response.get_data(as_text=True)


def test_an_unknown_parameter_is_left_out_unless_the_client_is_strict(client: FlaskClient) -> None:
    bundle = found(client, "Condition", patient="jia-17kg", colour="blue")
    assert bundle["total"] == 2
    assert bundle["link"][0]["url"] == f"{OWN}/Condition?patient=jia-17kg"
    strict = client.get(f"{FHIR}/Condition?colour=blue", headers={"Prefer": "handling=strict"})
    assert strict.status_code == 400


@pytest.mark.parametrize(
    ("media_type", "data", "status"),
    [("application/json", "{}", 415), ("application/x-www-form-urlencoded", b"patient=\xff", 400)],
)
def test_a_form_that_cannot_be_read(client: FlaskClient, media_type: str, data: Any, status: int) -> None:
    response = client.post(f"{FHIR}/Condition/_search", data=data, content_type=media_type)
    assert response.status_code == status
    assert response.get_json()["resourceType"] == "OperationOutcome"


def test_nothing_can_be_changed(client: FlaskClient) -> None:
    assert client.delete(f"{FHIR}/Patient/jia-17kg").status_code == 405
    assert client.post(f"{FHIR}/Patient", json={"resourceType": "Patient"}).status_code == 405


def test_metadata(client: FlaskClient) -> None:
    statement = found(client, "metadata")
    assert client.get(f"{FHIR}/Practitioner/COREPRACTITIONER1").status_code == 200  # the sandbox's only user
    assert (statement["resourceType"], statement["fhirVersion"]) == ("CapabilityStatement", "4.0.1")
    get_fhir_model_class("CapabilityStatement").model_validate(statement)
    kinds = {entry["type"] for entry in statement["rest"][0]["resource"]}
    assert {template.split("?")[0].split("/")[0] for template in templates().values()} <= kinds


# --- outside demo mode ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_outside_demo_mode_none_of_it_answers(method: str) -> None:
    client = create_app(Settings(demo=False, allowed_origins=("https://ehr.example.org",))).test_client()
    for rule in create_app(Settings(demo=True)).url_map.iter_rules():
        if not rule.rule.startswith("/demo"):
            continue
        path = rule.rule.replace("<kind>", "Patient").replace("<id_>", "jia-17kg")
        asks = {"Origin": "https://ehr.example.org", "Access-Control-Request-Method": "GET"}
        response = client.open(path, method=method, headers=asks)
        assert (path, response.status_code) == (path, 404)
        assert response.get_json()["resourceType"] == "OperationOutcome"


# --- under the real server ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "own"),
    [
        ("http://127.0.0.1:8000/demo/fhir", True),
        ("http://localhost:8000/demo/fhir/", True),
        ("http://127.0.0.1:8001/demo/fhir", False),
        ("http://127.0.0.1/demo/fhir", False),
        ("http://127.0.0.1:8000/fhir", False),
        ("http://ehr.example.org:8000/demo/fhir", False),
    ],
)
def test_only_our_own_address_is_answered_without_the_network(base: str, own: bool) -> None:
    app = create_app(Settings(demo=True, log_level="error"))
    with app.test_request_context(base_url="http://127.0.0.1:8000"):
        assert is_own(base) is own
    assert not is_own(base)  # outside a request nobody knows the address


@pytest.mark.slow
def test_a_service_that_fetches_from_itself_never_waits_for_itself() -> None:
    """More calls at once than threads; each needs a dozen searches of the same service."""
    with running("--demo", "--workers", "1", "--threads", "2") as (_, port):
        base = f"http://127.0.0.1:{port}/demo/fhir"
        request = {
            "hook": "patient-view",
            "hookInstance": "7c1f3ba2-6a70-4d4b-9a47-111111111111",
            "context": {"userId": "Practitioner/COREPRACTITIONER1", "patientId": "jia-overdue-bloods"},
        }

        def ask(server: str) -> list[dict[str, Any]]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            body = json.dumps({**request, "fhirServer": server})
            connection.request(
                "POST", "/cds-services/jaki-patient-view", body, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            cards: list[dict[str, Any]] = json.loads(response.read())["cards"]
            connection.close()
            return cards

        start = time.monotonic()
        servers = [base, base.replace("127.0.0.1", "localhost")] * 10
        with ThreadPoolExecutor(len(servers)) as pool:
            answers = list(pool.map(ask, servers))
        seconds = time.monotonic() - start

        # Another service may use it as its FHIR server: over HTTP, page by page.
        policy = FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=10_000, attempt_ms=5_000)
        query = "Observation?patient=jia-17kg&code=http://loinc.org|29463-7&_count=1"
        fetched = FhirClient(policy, read_json).fetch_all(base, None, {"weight": query})["weight"]
    assert (fetched.state, fetched.partial, len((fetched.body or {})["entry"])) == (FetchState.OK, False, 4)
    for cards in answers:
        assert "TOFA-MON-03" in findings(cards)
        assert "not-supplied" not in {reason for _, reason in missing(cards)}
    assert seconds < 5
