"""The service over HTTP: addresses, statuses, headers and bodies, whatever the clinical answer."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from cds_service import pipeline
from cds_service.app import SECURITY_HEADERS, create_app
from cds_service.errors import CannotAnswer, Forbidden, TooManyRequests, Unavailable
from cds_service.logs import JsonLines
from cds_service.services import SERVICES
from cds_service.settings import Settings

UUID = "7c1f3ba2-6a70-4d4b-9a47-111111111111"
LOOPBACK = "http://127.0.0.1:8080"
ADDRESSES = [
    "/cds-services",
    *(f"/cds-services/{service}" for service in SERVICES),
    *(f"/cds-services/{service}/feedback" for service in SERVICES),
]
FEEDBACK = {
    "feedback": [
        {
            "card": "11111111-2222-4333-8444-555555555555",
            "outcome": "overridden",
            "outcomeTimestamp": "2026-11-22T10:34:21.028Z",
        }
    ]
}


def body_of(service_id: str) -> dict[str, Any]:
    """A request with one draft that names no drug: nothing for this guideline."""
    service = SERVICES[service_id]
    context: dict[str, Any] = {"userId": "Practitioner/p1", "patientId": "child-1"}
    if service.drafts_field:
        draft = {"resourceType": "ServiceRequest", "id": "s1", "status": "draft"}
        context[service.drafts_field] = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
    patient = {"resourceType": "Patient", "id": "child-1", "birthDate": "2016-05-14"}
    return {"hook": service.hook, "hookInstance": UUID, "context": context, "prefetch": {"patient": patient}}


ORDER_SIGN = body_of("jaki-order-sign")
ORDER_SIGN_URL = "/cds-services/jaki-order-sign"


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(demo=True))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def assert_refused(response: TestResponse, status: int, *words: str) -> None:
    """A refusal is always an OperationOutcome in JSON with a diagnostics text."""
    assert response.status_code == status
    assert response.content_type == "application/json"
    body = response.get_json()
    assert body["resourceType"] == "OperationOutcome"
    assert body["issue"]
    for issue in body["issue"]:
        assert issue["severity"] == "error"
        assert issue["code"]
        assert issue["diagnostics"]
    for word in words:
        assert word in response.get_data(as_text=True)


def test_discovery_lists_each_service_once(client: FlaskClient) -> None:
    response = client.get("/cds-services")
    assert (response.status_code, response.content_type) == (200, "application/json")
    services = response.get_json()["services"]
    assert {service["id"]: service["hook"] for service in services} == {
        "jaki-medication-prescribe": "medication-prescribe",
        "jaki-order-select": "order-select",
        "jaki-order-sign": "order-sign",
        "jaki-patient-view": "patient-view",
    }
    assert len(services) == 4
    for service in services:
        assert set(service) <= {"id", "hook", "title", "description", "prefetch", "usageRequirements"}
        assert all(service.values())
        assert "No clinician has reviewed" in service["usageRequirements"]


def test_discovery_is_stable(client: FlaskClient) -> None:
    assert client.get("/cds-services").data == client.get("/cds-services").data


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_for_this_guideline(client: FlaskClient, service: str) -> None:
    response = client.post(f"/cds-services/{service}", json=body_of(service))
    assert (response.status_code, response.content_type) == (200, "application/json")
    if service != "jaki-patient-view":
        assert response.get_json() == {"cards": []}


@pytest.mark.parametrize("service", SERVICES)
def test_feedback(client: FlaskClient, service: str) -> None:
    response = client.post(f"/cds-services/{service}/feedback", json=FEEDBACK)
    assert (response.status_code, response.get_json()) == (200, {})


def test_feedback_is_counted(app: Flask) -> None:
    client = create_app(Settings(demo=True)).test_client()
    for _ in range(2):
        client.post("/cds-services/jaki-order-sign/feedback", json=FEEDBACK)
    client.post("/cds-services/jaki-order-sign/feedback", json={"feedback": []})
    text = client.get("/metrics").get_data(as_text=True)
    assert 'jaki_cds_feedback_total{outcome="overridden",service="jaki-order-sign"} 2.0' in text
    assert 'jaki_cds_requests_total{service="jaki-order-sign/feedback",status="400"} 1.0' in text


def test_bad_feedback_names_the_field(client: FlaskClient) -> None:
    response = client.post("/cds-services/jaki-order-sign/feedback", json={"feedback": [{}]})
    assert_refused(response, 400, "feedback[0].card", "feedback[0].outcome", "feedback[0].outcomeTimestamp")


@pytest.mark.parametrize(("path", "status"), [("/healthz", "ok"), ("/readyz", "ready")])
def test_health(client: FlaskClient, path: str, status: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.get_json()) == (200, {"status": status})


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"x"', b"7", b"null", b" ", b"\xef\xbb\xbf{}", b'{"a": NaN}'])
def test_a_body_that_is_no_json_object(client: FlaskClient, raw: bytes) -> None:
    assert_refused(client.post(ORDER_SIGN_URL, data=raw, content_type="application/json"), 400)


def test_a_fault_of_the_envelope_names_its_field(client: FlaskClient) -> None:
    body = copy.deepcopy(ORDER_SIGN)
    del body["context"]["draftOrders"]
    response = client.post(ORDER_SIGN_URL, json=body)
    assert_refused(response, 400, "context.draftOrders is missing")
    assert response.get_json()["issue"][0]["expression"] == ["context.draftOrders"]


@pytest.mark.parametrize("fhir_server", ["http://127.0.0.1:9/fhir", "http://localhost:9/fhir"])
def test_a_loopback_server_may_be_named_without_token(client: FlaskClient, fhir_server: str) -> None:
    assert client.post(ORDER_SIGN_URL, json=ORDER_SIGN | {"fhirServer": fhir_server}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/nope", 404, None),
        ("POST", "/cds-services/nope", 404, None),
        ("GET", "/cds-services/nope", 404, None),
        ("POST", "/cds-services/nope/feedback", 404, None),
        ("POST", "/cds-services/jaki-order-sign/nope", 404, None),
        ("GET", ORDER_SIGN_URL, 405, "OPTIONS, POST"),
        ("PUT", ORDER_SIGN_URL, 405, "OPTIONS, POST"),
        ("GET", f"{ORDER_SIGN_URL}/feedback", 405, "OPTIONS, POST"),
        ("POST", "/cds-services", 405, "GET, HEAD, OPTIONS"),
        ("DELETE", "/cds-services", 405, "GET, HEAD, OPTIONS"),
    ],
)
def test_wrong_addresses_and_methods(
    client: FlaskClient, method: str, path: str, status: int, allow: str | None
) -> None:
    response = client.open(path, method=method, json=ORDER_SIGN)
    assert_refused(response, status)
    assert response.headers.get("Allow") == allow


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/fhir+json"],
)
def test_accepted_media_types(client: FlaskClient, content_type: str) -> None:
    response = client.post(ORDER_SIGN_URL, data=json.dumps(ORDER_SIGN), content_type=content_type)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/xml",
    ],
)
def test_refused_media_types(client: FlaskClient, content_type: str | None) -> None:
    assert_refused(client.post(ORDER_SIGN_URL, data=json.dumps(ORDER_SIGN), content_type=content_type), 415)


@pytest.mark.parametrize(
    ("encoding", "status"), [("identity", 200), ("gzip", 415), ("br", 415), ("gzip, identity", 415)]
)
def test_http_1_compressed_bodies_are_refused(client: FlaskClient, encoding: str, status: int) -> None:
    headers = {"Content-Encoding": encoding}
    assert client.post(ORDER_SIGN_URL, json=ORDER_SIGN, headers=headers).status_code == status


def test_a_body_at_the_limit_and_one_byte_over() -> None:
    limit = 2048
    client = create_app(Settings(demo=True, max_body_bytes=limit)).test_client()
    raw = json.dumps(ORDER_SIGN).encode()
    at_limit = client.post(ORDER_SIGN_URL, data=raw.ljust(limit), content_type="application/json")
    assert at_limit.status_code == 200
    over = client.post(ORDER_SIGN_URL, data=raw.ljust(limit + 1), content_type="application/json")
    assert_refused(over, 413, "2048")


def test_a_body_of_no_declared_length(client: FlaskClient) -> None:
    response = client.post(
        ORDER_SIGN_URL, content_type="application/json", headers={"Transfer-Encoding": "chunked"}, data=b"x"
    )
    assert_refused(response, 411)


def test_a_body_shorter_than_declared(client: FlaskClient) -> None:
    response = client.post(
        ORDER_SIGN_URL,
        data=b"{}",
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "100"},
    )
    assert_refused(response, 400, "Content-Length")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/cds-services/", "/cds-services"),
        ("/healthz/", "/healthz"),
        (f"{ORDER_SIGN_URL}/", ORDER_SIGN_URL),
        (f"{ORDER_SIGN_URL}/feedback/", f"{ORDER_SIGN_URL}/feedback"),
    ],
)
def test_a_slash_at_the_end_redirects(client: FlaskClient, path: str, location: str) -> None:
    for method in ("GET", "POST"):
        response = client.open(path, method=method, json={})
        assert_refused(response, 308)
        assert response.headers["Location"] == location


@pytest.mark.parametrize("path", ["/cds-services/nope/", "//evil.example.org/", "/healthz//", "//healthz"])
def test_nothing_else_redirects(path: str) -> None:
    # Without demo mode: the test client takes the first part for a host, and demo mode has a page at its root.
    assert_refused(create_app(Settings()).test_client().get(path), 404)


def test_a_base_address_typed_with_a_slash_still_works(client: FlaskClient) -> None:
    assert client.post("/cds-services//jaki-order-sign", json=ORDER_SIGN).status_code == 200


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (CannotAnswer("The Patient could not be had: prefetch key patient."), 412),
        (Forbidden(), 403),
        (TooManyRequests(headers={"Retry-After": "1"}), 429),
        (Unavailable(), 503),
    ],
)
def test_refusals_of_the_pipeline(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, refusal: Exception, status: int
) -> None:
    def respond(*_: object) -> dict[str, object]:
        raise refusal

    monkeypatch.setattr(pipeline, "respond", respond)
    assert_refused(client.post(ORDER_SIGN_URL, json=ORDER_SIGN, headers={"Origin": LOOPBACK}), status)


def test_a_fault_of_ours_tells_nothing(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(*_: object) -> dict[str, object]:
        raise ValueError("Testcase, Avery")

    monkeypatch.setattr(pipeline, "respond", respond)
    with caplog.at_level(logging.INFO, logger="jaki_cds"):
        response = client.post(ORDER_SIGN_URL, json=ORDER_SIGN, headers={"Origin": LOOPBACK})
    assert_refused(response, 500)
    assert response.headers["Access-Control-Allow-Origin"] == LOOPBACK
    assert "Avery" not in response.get_data(as_text=True)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    (failure,) = [line for line in lines if line["event"] == "failed"]
    assert failure["exception"] == "ValueError"
    assert any(place.startswith("test_http.py:") for place in failure["at"])
    assert "Avery" not in json.dumps(lines)


def test_the_log_line_of_a_request(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    formatter = JsonLines()
    with caplog.at_level(logging.INFO, logger="jaki_cds"):
        client.post(ORDER_SIGN_URL, json=ORDER_SIGN)
        client.get("/Patient/child-1?name=Avery")
    lines = [json.loads(formatter.format(record)) for record in caplog.records]
    assert [(line["endpoint"], line["status"], line.get("cards")) for line in lines] == [
        ("jaki-order-sign", 200, 0),
        ("other", 404, None),
    ]
    assert "child-1" not in json.dumps(lines)


def test_outside_demo_mode_nobody_is_let_in() -> None:
    client = create_app(Settings(demo=False)).test_client()
    calls = [
        client.post(ORDER_SIGN_URL, json=ORDER_SIGN),
        client.post(ORDER_SIGN_URL, json=ORDER_SIGN, headers={"Authorization": "Bearer invented"}),
        client.post(f"{ORDER_SIGN_URL}/feedback", json=FEEDBACK),
        client.post(ORDER_SIGN_URL, data=b"x" * 100, content_type="text/plain"),
    ]
    for response in calls:
        assert_refused(response, 401)
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert len({response.data for response in calls}) == 1
    assert client.get("/cds-services").status_code == 200


ANY_REQUEST = [
    (method, path)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
    for path in (
        *ADDRESSES,
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/cds-services/",
        "/cds-services/nope",
        "/%00%ff",
    )
]


@pytest.mark.parametrize("demo", [True, False])
def test_http_9_every_answer_has_the_security_headers_and_is_never_html(demo: bool) -> None:
    client = create_app(Settings(demo=demo)).test_client()
    for method, path in ANY_REQUEST:
        response = client.open(path, method=method)
        if demo and path == "/" and method in ("GET", "HEAD"):
            continue  # the workbench, a page with a policy of its own (test_workbench.py)
        for name, value in SECURITY_HEADERS.items():
            assert response.headers[name] == value, (method, path)
        assert response.headers["X-Request-Id"]
        assert response.status_code in (200, 308, 401, 404, 405, 415), (method, path)
        assert "html" not in response.content_type, (method, path)
        if response.status_code != 200 and method != "HEAD":
            assert_refused(response, response.status_code)


@pytest.mark.parametrize("path", [*ADDRESSES, "/cds-services/nope"])
@pytest.mark.parametrize("origin", [LOOPBACK, "http://localhost:3000", "http://localhost"])
def test_preflight_in_demo_mode(client: FlaskClient, path: str, origin: str) -> None:
    response = client.options(
        path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert response.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, Accept"
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    "origin",
    ["https://sandbox.example.org", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "null",
     "https://localhost", "http://127.0.0.1:", "http://127.0.0.1:8080/", "http://a@127.0.0.1"],
)  # fmt: skip
def test_other_origins_get_no_permission(client: FlaskClient, origin: str) -> None:
    for method in ("OPTIONS", "GET"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        response = client.open("/cds-services", method=method, headers=headers)
        assert response.status_code in (200, 204)
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
        assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/cds-services", 200), ("POST", ORDER_SIGN_URL, 400), ("POST", "/cds-services/nope", 404),
     ("GET", ORDER_SIGN_URL, 405), ("GET", "/cds-services/", 308)],
)  # fmt: skip
def test_answers_and_errors_are_readable_to_an_allowed_origin(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = client.open(path, method=method, json={}, headers={"Origin": LOOPBACK})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == LOOPBACK


def test_a_configured_origin_is_compared_exactly() -> None:
    client = create_app(Settings(demo=False, allowed_origins=("https://ehr.example.org",))).test_client()
    allowed = client.post(ORDER_SIGN_URL, json={}, headers={"Origin": "https://ehr.example.org"})
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (
        401,
        "https://ehr.example.org",
    )
    for origin in ("https://ehr.example.org:8443", "http://ehr.example.org", LOOPBACK):
        assert (
            "Access-Control-Allow-Origin"
            not in client.get("/cds-services", headers={"Origin": origin}).headers
        )


def test_http_9_no_cors_at_all_by_default_outside_demo_mode() -> None:
    client = create_app(Settings(demo=False)).test_client()
    response = client.get("/cds-services", headers={"Origin": LOOPBACK})
    assert "Vary" not in response.headers
    assert "Access-Control-Allow-Origin" not in response.headers


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(service=st.sampled_from(sorted(SERVICES)), suffix=st.sampled_from(["", "/feedback"]), data=st.data())
@settings(max_examples=settings.default.max_examples * 2)
def test_http_3_any_value_in_any_place_is_answered_or_refused(
    app: Flask, service: str, suffix: str, data: st.DataObject
) -> None:
    """One member of a good request replaced by anything: never a 500."""
    body: Any = copy.deepcopy(FEEDBACK if suffix else body_of(service))
    body["extension"] = {"org.jaki-cds": {"asOf": "2026-06-01"}}
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON_VALUES)
    response = app.test_client().post(f"/cds-services/{service}{suffix}", json=body)
    assert response.status_code in (200, 400, 412)
    if response.status_code != 200:
        assert_refused(response, response.status_code)


def test_a_plain_options_is_no_preflight(client: FlaskClient) -> None:
    response = client.options(ORDER_SIGN_URL)
    assert (response.status_code, response.headers["Allow"]) == (200, "OPTIONS, POST")
