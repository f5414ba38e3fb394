"""The public CDS Hooks sandbox against this service alone, played with its captured traffic.

`Sandbox` does what that page does in a browser: it asks before each call that is not simple and believes the answer
as the Fetch standard has it, fills the prefetch by POST ``_search``, signs a token for each call, and sends the
drafts that were captured, for one of the demo children.
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from builders import dose, findings, missing
from cryptography.hazmat.primitives.asymmetric import ec
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cds_service.app import create_app
from cds_service.demo.children import load
from cds_service.settings import Settings

TRAFFIC: dict[str, Any] = json.loads(
    (Path(__file__).parent / "traffic" / "cds-hooks-sandbox.json").read_text(encoding="utf-8")
)
HEADERS = TRAFFIC["http-headers-and-jwt-claims"]
ORIGIN = HEADERS["discovery_get"]["Origin"]
HOST = "http://localhost"
FHIR = f"{HOST}/demo/fhir"
DISCOVERY = f"{HOST}/cds-services"
DEMO_DISCOVERY = f"{HOST}/demo/cds-services"
SIMPLE_TYPES = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data")
KEY = ec.generate_private_key(ec.SECP384R1())  # the real one is public too; nobody looks at it in demo mode
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"

Cards = dict[str, list[dict[str, Any]]]


@dataclass
class Sandbox:
    """The page with one child open. ``services`` are those discovered: address -> entry."""

    http: FlaskClient
    patient: str
    services: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self, *discoveries: str) -> None:
        """What the page does at its start: the FHIR server, the patient, the menu of conditions, the services."""
        assert self.get(f"{FHIR}/metadata")["fhirVersion"] == "4.0.1"
        assert self.get(f"{FHIR}/Patient")["total"] > 0
        patient = self.get(f"{FHIR}/Patient/{self.patient}")
        assert patient["name"][0]["family"] and isinstance(patient["name"][0]["given"], list)
        menu = self.get(f"{FHIR}/Condition?patient={self.patient}")
        assert menu["total"] > 0
        for entry in menu["entry"]:
            assert entry["resource"]["code"]["coding"][0] and entry["resource"]["code"]["text"]
        for base in discoveries:
            response = self.fetch("GET", base, self.authorised("discovery_get", base))
            assert response.status_code == 200
            for service in response.get_json()["services"]:
                self.services[f"{base}/{service['id']}"] = service

    def get(self, url: str) -> dict[str, Any]:
        response = self.fetch("GET", url, {"Accept": "application/json+fhir"})
        assert response.status_code == 200, url
        body: dict[str, Any] = response.get_json()
        return body

    def fire(self, captured: str) -> Cards:
        """Calls each service of the captured request's hook; id of the service -> its cards."""
        request = self.for_this_child(TRAFFIC[captured])
        return self.send(request)

    def send(self, request: dict[str, Any]) -> Cards:
        answers = {}
        for url, service in self.services.items():
            if service["hook"] == request["hook"]:
                response = self.call(url, service, request)
                assert response.status_code == 200, response.get_json()
                answers[service["id"]] = response.get_json()["cards"]
                for card in answers[service["id"]]:
                    self.draw(card)
        return answers

    def draw(self, card: dict[str, Any]) -> None:
        """The page checks nothing: what is not as it expects hangs it, or shows as "all clear"."""
        assert card["uuid"] and card["source"]["label"]
        assert card["indicator"] in ("info", "warning", "critical")
        assert 0 < len(card["summary"]) < 140
        for name in ("suggestions", "links", "overrideReasons"):
            assert isinstance(card.get(name, []), list) and card.get(name, [None])
        for reason in card.get("overrideReasons", ()):
            assert reason["code"] and reason["display"]
        for suggestion in card.get("suggestions", ()):
            assert suggestion["label"] and suggestion["uuid"]
            assert all(action["type"] and action["description"] for action in suggestion["actions"])

    def call(self, url: str, service: dict[str, Any], request: dict[str, Any]) -> TestResponse:
        body = {**request, "hookInstance": str(uuid.uuid4()), "fhirServer": FHIR}
        if prefetch := self.prefetch(service.get("prefetch", {})):
            body["prefetch"] = prefetch
        return self.fetch("POST", url, self.authorised("service_post", url), json.dumps(body))

    def for_this_child(self, request: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(request).replace(request["context"]["patientId"], self.patient)
        changed: dict[str, Any] = json.loads(
            text.replace("2026-11-22", time.strftime("%Y-%m-%d", time.gmtime()))
        )
        return changed

    def prefetch(self, templates: dict[str, str]) -> dict[str, Any]:
        """Reads by GET, searches by POST; a key that fails is left out."""
        found = {}
        for key, template in templates.items():
            query = template.replace("{{context.patientId}}", self.patient)
            path, mark, form = query.partition("?")
            headers = dict(HEADERS["fhir_prefetch_search"])
            if mark:
                # Encoded as a browser's URLSearchParams does it.
                pairs = [pair.partition("=") for pair in form.split("&")]
                data = "&".join(
                    f"{name}={value.replace('|', '%7C').replace(',', '%2C')}" for name, _, value in pairs
                )
                response = self.fetch("POST", f"{FHIR}/{path}/_search", headers, data)
            else:
                del headers["Content-Type"]
                response = self.fetch("GET", f"{FHIR}/{path}", headers)
            if response.status_code == 200:
                found[key] = response.get_json()
        return found

    def feedback(self, captured: str, service_id: str, card: dict[str, Any]) -> None:
        (url,) = [url for url, service in self.services.items() if service["id"] == service_id]
        body = copy.deepcopy(TRAFFIC[captured])
        (item,) = body["feedback"]
        item["card"] = card["uuid"]
        if "acceptedSuggestions" in item:
            item["acceptedSuggestions"] = [{"id": card["suggestions"][0]["uuid"]}]
        if "overrideReason" in item:
            reason = card["overrideReasons"][0]
            item["overrideReason"]["reason"] = {"code": reason["code"], "system": reason["system"]}
        url = f"{url}/feedback"
        response = self.fetch("POST", url, self.authorised("service_post", url), json.dumps(body))
        assert response.status_code == 200, response.get_json()

    def authorised(self, kind: str, url: str) -> dict[str, str]:
        """The captured headers with a token for exactly this address."""
        shape = HEADERS[kind]["jwt"]
        now = int(time.time())
        claims = {**shape["claims"], "aud": url, "iat": now, "exp": now + 300, "jti": str(uuid.uuid4())}
        token = jwt.encode(claims, KEY, algorithm="ES384", headers=shape["header"])
        headers = {name: value for name, value in HEADERS[kind].items() if name != "jwt"}
        return {**headers, "Authorization": f"Bearer {token}"}

    def fetch(self, method: str, url: str, headers: dict[str, str], data: str | None = None) -> TestResponse:
        """A cross-origin fetch: the preflight where one is needed, then the call; both must be allowed."""
        asked = ["authorization"] if "Authorization" in headers else []
        media_type = headers.get("Content-Type", SIMPLE_TYPES[0])
        asked += ["content-type"] if media_type not in SIMPLE_TYPES else []
        if asked:
            kind = "service_preflight" if method == "POST" else "discovery_preflight"
            preflight = {**HEADERS[kind], "Access-Control-Request-Headers": ",".join(asked)}
            allowed = self.http.options(url.removeprefix(HOST), headers=preflight)
            assert 200 <= allowed.status_code < 300, url
            assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
            listed = allowed.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
            assert set(asked) <= set(listed)
        response = self.http.open(
            url.removeprefix(HOST), method=method, headers={**headers, "Origin": ORIGIN}, data=data
        )
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN, url
        return response


@pytest.fixture(scope="module")
def http() -> FlaskClient:
    return create_app(Settings(demo=True, log_level="error")).test_client()


@pytest.fixture(scope="module")
def page(http: FlaskClient) -> Sandbox:
    page = Sandbox(http, "jia-28kg")
    page.open(DISCOVERY, DEMO_DISCOVERY)
    return page


def test_the_four_services_stand_alone_and_the_testers_tool_has_an_address_of_its_own(page: Sandbox) -> None:
    assert [service["id"] for service in page.services.values()] == [
        "jaki-medication-prescribe",
        "jaki-order-select",
        "jaki-order-sign",
        "jaki-patient-view",
        "jaki-demo-drafts",
    ]
    assert page.services[f"{DEMO_DISCOVERY}/jaki-demo-drafts"]["hook"] == "order-select"


def test_patient_view(http: FlaskClient) -> None:
    page = Sandbox(http, "jia-overdue-bloods")
    page.open(DISCOVERY)
    cards = page.fire("patient-view")["jaki-patient-view"]
    assert "TOFA-MON-03" in findings(cards)
    assert not {reason for _, reason in missing(cards)} & {"not-supplied", "failed", "partial-page"}
    reason = next(card for card in cards if "overrideReasons" in card)
    page.feedback("feedback-overridden-with-reason", "jaki-patient-view", reason)
    page.feedback("feedback-dismissed-no-reason", "jaki-patient-view", reason)


def test_patient_view_of_a_child_who_takes_no_jak_inhibitor(page: Sandbox) -> None:
    assert page.fire("patient-view") == {"jaki-patient-view": []}


def test_rx_view_before_a_drug_is_chosen(page: Sandbox) -> None:
    answers = page.fire("order-select-no-medication-yet")
    assert answers["jaki-order-select"] == []
    (card,) = answers["jaki-demo-drafts"]
    assert [suggestion["label"] for suggestion in card["suggestions"]] == [
        "Draft tofacitinib oral solution",
        "Draft baricitinib",
        "Draft ruxolitinib",
    ]


@pytest.mark.parametrize(
    ("captured", "verdict"),
    [
        ("order-select-tofacitinib-daily", "under"),
        ("order-select-tofacitinib-with-reason", "under"),
        ("order-select-tofacitinib-bid-with-reason", "over"),
        ("order-select-partial-start-date", "under"),
        ("order-select-fhir-stu3-server", "under"),
        ("order-select-fhir-dstu2-server", "under"),
        ("order-sign-tofacitinib-bid", "over"),
    ],
)
def test_rx_view_and_rx_sign_with_tofacitinib(page: Sandbox, captured: str, verdict: str) -> None:
    answers = page.fire(captured)
    hook = "order-sign" if "sign" in captured else "order-select"
    cards = answers[f"jaki-{hook}"]
    given = dose(cards)
    assert given is not None
    assert (given["id"], given["order"]["verdict"]) == ("TOFA-DOSE-04", verdict)
    assert "provisional" not in given
    card = next(card for card in cards if "suggestions" in card)
    page.feedback("feedback-accepted", f"jaki-{hook}", card)


def test_rx_sign_without_a_drug(page: Sandbox) -> None:
    assert page.fire("order-sign-no-medication") == {"jaki-order-sign": []}


@pytest.mark.parametrize("captured", ["order-select-tab-reclick", "order-sign-tab-reclick"])
def test_a_second_click_on_the_tab_sends_no_drafts_and_is_told_so(page: Sandbox, captured: str) -> None:
    request = page.for_this_child(TRAFFIC[captured])
    url = f"{DISCOVERY}/jaki-{request['hook']}"
    response = page.call(url, page.services[url], request)
    assert response.status_code == 400
    assert "draftOrders" in response.get_json()["issue"][0]["diagnostics"]


def test_the_imaging_tab(page: Sandbox) -> None:
    assert page.fire("order-select-from-imaging-tab")["jaki-order-select"] == []
    signed = page.for_this_child(TRAFFIC["order-select-from-imaging-tab"])
    del signed["context"]["selections"]
    assert page.send({**signed, "hook": "order-sign"}) == {"jaki-order-sign": []}


@pytest.mark.parametrize(
    "child",
    [pytest.param(c.id, marks=() if n % 6 == 0 else pytest.mark.slow) for n, c in enumerate(load())],
)
def test_every_screen_of_every_child(http: FlaskClient, child: str) -> None:
    """With a JAK inhibitor drafted there is always a card; nothing that the page needed could not be fetched."""
    page = Sandbox(http, child)
    page.open(DISCOVERY, DEMO_DISCOVERY)
    page.fire("patient-view")
    for captured in ("order-select-tofacitinib-bid-with-reason", "order-sign-tofacitinib-bid"):
        answers = page.fire(captured)
        answers.pop("jaki-demo-drafts", None)  # it has no advice
        for cards in answers.values():
            assert cards
            assert not {reason for _, reason in missing(cards)} & {"not-supplied", "failed", "partial-page"}


@pytest.mark.parametrize(
    "captured", ["order-select-baricitinib-injected-by-suggestion", "order-sign-baricitinib-injected"]
)
def test_a_drug_with_a_code_that_nobody_knows_is_still_recognised_by_its_name(
    page: Sandbox, captured: str
) -> None:
    hook = TRAFFIC[captured]["hook"]
    cards = page.fire(captured)[f"jaki-{hook}"]
    assert {finding["drug"] for finding in findings(cards).values()} == {"baricitinib"}


@pytest.mark.parametrize(
    ("drug", "child", "expected"),
    [
        ("tofacitinib oral solution", "jia-28kg", "TOFA-DOSE-04"),
        ("baricitinib", "jdm-5y", "BARI-JDM-01"),
        ("ruxolitinib", "jia-28kg", None),
    ],
)
def test_a_drug_from_the_testers_service(
    http: FlaskClient, drug: str, child: str, expected: str | None
) -> None:
    """The page takes the name and the code from the suggestion, whatever system it has, and fires again."""
    page = Sandbox(http, child)
    page.open(DISCOVERY, DEMO_DISCOVERY)
    before = page.for_this_child(TRAFFIC["order-select-tofacitinib-daily"])
    (card,) = page.send(before)["jaki-demo-drafts"]
    (chosen,) = [one for one in card["suggestions"] if one["label"] == f"Draft {drug}"]
    (action,) = chosen["actions"]
    assert action["type"] == "update" and action["description"]
    draft = before["context"]["draftOrders"]["entry"][0]["resource"]
    assert action["resource"]["id"] == draft["id"]
    assert "dosageInstruction" not in action["resource"]
    taken = action["resource"]["medicationCodeableConcept"]
    assert taken["text"] and taken["coding"][0]["code"]
    coding = {"system": RXNORM, "code": taken["coding"][0]["code"], "display": taken["text"]}
    draft["medicationCodeableConcept"] = {"text": taken["text"], "coding": [coding]}
    for hook in ("order-select", "order-sign"):
        context = dict(before["context"])
        if hook == "order-sign":
            del context["selections"]
        cards = page.send({**before, "hook": hook, "context": context})[f"jaki-{hook}"]
        assert cards, "a JAK inhibitor never gets an empty answer"
        given = dose(cards)
        assert (given and given["id"]) == expected
    page.feedback("feedback-accepted", "jaki-demo-drafts", card)


def test_without_a_draft_the_testers_service_offers_a_new_one(page: Sandbox) -> None:
    (card,) = page.fire("order-select-from-imaging-tab")["jaki-demo-drafts"]
    for suggestion in card["suggestions"]:
        (action,) = suggestion["actions"]
        assert action["type"] == "create"
        assert action["resource"]["subject"] == {"reference": "Patient/jia-28kg"}


def test_an_app_launch_is_refused_readably(page: Sandbox) -> None:
    headers = {"Content-Type": "application/json"}
    response = page.fetch("POST", f"{FHIR}/_services/smart/Launch", headers, "{}")
    assert response.status_code == 404
    assert response.get_json()["resourceType"] == "OperationOutcome"


def test_a_slash_typed_at_the_end_of_the_addresses(http: FlaskClient) -> None:
    page = Sandbox(http, "jia-28kg")
    assert page.get(f"{FHIR}//metadata")["fhirVersion"] == "4.0.1"
    assert page.get(f"{FHIR}//Patient/jia-28kg")["id"] == "jia-28kg"
    assert page.get(f"{FHIR}//Condition?patient=jia-28kg")["total"] > 0
