"""The envelope of a hook call: what must be there, what is forgiven, what a refusal says."""

from __future__ import annotations

import copy
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from cds_service.envelope import HookCall, check_feedback, read_call
from cds_service.errors import BadRequest
from cds_service.services import SERVICES
from cds_service.settings import Settings

DEMO = Settings(demo=True)
GUARDED = Settings(demo=False)
BUNDLE = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "ServiceRequest", "id": "s1"}}]}
AUTHORIZATION = {
    "access_token": "invented-token",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "patient/*.rs",
    "subject": "jaki-cds",
}


def request_of(service_id: str) -> dict[str, Any]:
    service = SERVICES[service_id]
    context: dict[str, Any] = {"userId": "Practitioner/p1", "patientId": "child-1"}
    if service.drafts_field:
        context[service.drafts_field] = copy.deepcopy(BUNDLE)
    return {
        "hook": service.hook,
        "hookInstance": "7c1f3ba2-6a70-4d4b-9a47-111111111111",
        "context": context,
    }


def call(service_id: str, body: object, settings: Settings = DEMO) -> HookCall:
    return read_call(SERVICES[service_id], body, settings)


def refusal(service_id: str, body: object, settings: Settings = DEMO) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        call(service_id, body, settings)
    return caught.value


@pytest.mark.parametrize("service_id", SERVICES)
def test_the_least_request_of_each_hook(service_id: str) -> None:
    result = call(service_id, request_of(service_id))
    assert (result.patient_id, result.user_id) == ("child-1", "Practitioner/p1")
    assert result.prefetch == {}
    assert (result.fhir_server, result.fhir_authorization, result.as_of, result.selections) == (None,) * 4


REQUIRED = [
    (service.id, path)
    for service in SERVICES.values()
    for path in (
        "hook",
        "hookInstance",
        "context",
        "context.userId",
        "context.patientId",
        *([f"context.{service.drafts_field}"] if service.drafts_field else []),
    )
]


@pytest.mark.parametrize(("service_id", "path"), REQUIRED)
@pytest.mark.parametrize("fault", ["missing", "null", "number", "list", "empty"])
def test_a_required_field_is_named(service_id: str, path: str, fault: str) -> None:
    body = request_of(service_id)
    parent, name = (body["context"], path.removeprefix("context.")) if "." in path else (body, path)
    if fault == "missing":
        del parent[name]
    else:
        parent[name] = {"null": None, "number": 4711, "list": ["4711"], "empty": ""}[fault]
    issues = refusal(service_id, body).issues
    assert [issue.field for issue in issues] == [path]
    assert path in issues[0].diagnostics
    assert "Send " in issues[0].diagnostics
    assert "4711" not in issues[0].diagnostics


@pytest.mark.parametrize(
    "drafts", [{}, {"resourceType": "Patient"}, {"resourceType": "Bundle", "entry": {}}, "x", 1]
)
def test_drafts_that_are_no_bundle(drafts: object) -> None:
    body = request_of("jaki-order-sign")
    body["context"]["draftOrders"] = drafts
    (issue,) = refusal("jaki-order-sign", body).issues
    assert (issue.field or "").startswith("context.draftOrders")


@pytest.mark.parametrize(
    "drafts", [{"resourceType": "Bundle"}, {"entry": []}, {"resourceType": "Bundle", "type": 1}]
)
def test_drafts_that_pass_for_a_bundle(drafts: object) -> None:
    body = request_of("jaki-order-sign")
    body["context"]["draftOrders"] = drafts
    assert call("jaki-order-sign", body).context["draftOrders"] == drafts


@pytest.mark.parametrize(
    "patient_id", ["Patient/1", "a b", "é", "a" * 65, "1\n", ".", "..", "a/../b", "http://example.org/1"]
)
def test_a_malformed_patient_id(patient_id: str) -> None:
    body = request_of("jaki-patient-view")
    body["context"]["patientId"] = patient_id
    (issue,) = refusal("jaki-patient-view", body).issues
    assert issue.field == "context.patientId"


@pytest.mark.parametrize(
    ("selections", "expected"),
    [
        (["MedicationRequest/a"], ("MedicationRequest/a",)),
        (["MedicationRequest/not-drafted"], ("MedicationRequest/not-drafted",)),
        ([], ()),
        (None, None),
    ],
)
def test_selections(selections: object, expected: object) -> None:
    body = request_of("jaki-order-select")
    body["context"]["selections"] = selections
    assert call("jaki-order-select", body).selections == expected


@pytest.mark.parametrize(
    ("selections", "field"),
    [("a", "context.selections"), ([1], "context.selections[0]"), ({}, "context.selections")],
)
def test_selections_of_a_wrong_type(selections: object, field: str) -> None:
    body = request_of("jaki-order-select")
    body["context"]["selections"] = selections
    assert [issue.field for issue in refusal("jaki-order-select", body).issues] == [field]


def test_the_hook_must_be_the_services_own() -> None:
    body = request_of("jaki-order-sign") | {"hook": "patient-view-of-4711"}
    (issue,) = refusal("jaki-order-sign", body).issues
    assert issue.field == "hook"
    assert "4711" not in issue.diagnostics


def test_hook_instance_is_a_uuid_outside_demo_mode_only() -> None:
    body = request_of("jaki-order-sign") | {"hookInstance": "no-uuid"}
    assert call("jaki-order-sign", body).hook_instance == "no-uuid"
    assert [issue.field for issue in refusal("jaki-order-sign", body, GUARDED).issues] == ["hookInstance"]
    assert call("jaki-order-sign", request_of("jaki-order-sign"), GUARDED)


def test_user_of_the_2018_ballot() -> None:
    body = request_of("jaki-order-sign") | {"user": "Practitioner/old"}
    assert call("jaki-order-sign", body).user_id == "Practitioner/p1"
    del body["context"]["userId"]
    assert call("jaki-order-sign", body).user_id == "Practitioner/old"


@pytest.mark.parametrize("member", ["prefetch", "extension", "fhirServer", "fhirAuthorization"])
def test_null_counts_as_absent(member: str) -> None:
    plain = call("jaki-patient-view", request_of("jaki-patient-view"))
    nulled = call("jaki-patient-view", request_of("jaki-patient-view") | {member: None})
    assert (nulled.prefetch, nulled.fhir_server, nulled.fhir_authorization) == (
        plain.prefetch,
        plain.fhir_server,
        plain.fhir_authorization,
    )


def test_a_null_under_a_prefetch_key_is_kept() -> None:
    body = request_of("jaki-patient-view") | {"prefetch": {"patient": None}}
    assert call("jaki-patient-view", body).prefetch == {"patient": None}


def test_unknown_members_are_ignored() -> None:
    body = request_of("jaki-patient-view") | {"junk": [1], "extension": {"com.example": {"asOf": 1}}}
    body["context"]["encounterId"] = 5
    assert call("jaki-patient-view", body).patient_id == "child-1"


def test_a_complete_authorization() -> None:
    body = request_of("jaki-patient-view") | {
        "fhirServer": "https://fhir.example.org",
        "fhirAuthorization": AUTHORIZATION,
    }
    result = call("jaki-patient-view", body)
    assert (result.fhir_server, result.fhir_authorization) == ("https://fhir.example.org", AUTHORIZATION)
    assert "invented-token" not in repr(result)
    assert "child-1" not in repr(result)


BAD_AUTHORIZATIONS: list[tuple[str, object]] = [
    *(
        (f"fhirAuthorization.{name}", {k: v for k, v in AUTHORIZATION.items() if k != name})
        for name in AUTHORIZATION
    ),
    *((f"fhirAuthorization.{name}", AUTHORIZATION | {name: None}) for name in AUTHORIZATION),
    *((f"fhirAuthorization.{name}", AUTHORIZATION | {name: ""}) for name in AUTHORIZATION),
    ("fhirAuthorization", "invented-token"),
    ("fhirAuthorization", []),
    ("fhirAuthorization.token_type", AUTHORIZATION | {"token_type": "Basic"}),
    ("fhirAuthorization.expires_in", AUTHORIZATION | {"expires_in": "300"}),
    ("fhirAuthorization.expires_in", AUTHORIZATION | {"expires_in": Decimal("0.5")}),
    ("fhirAuthorization.expires_in", AUTHORIZATION | {"expires_in": True}),
    ("fhirAuthorization.expires_in", AUTHORIZATION | {"expires_in": 0}),
    ("fhirAuthorization.access_token", AUTHORIZATION | {"access_token": "a\r\nX-Evil: 1"}),
    ("fhirAuthorization.patient", AUTHORIZATION | {"patient": 1}),
]


@pytest.mark.parametrize(("field", "authorization"), BAD_AUTHORIZATIONS)
def test_an_incomplete_or_malformed_authorization(field: str, authorization: object) -> None:
    body = request_of("jaki-patient-view") | {
        "fhirServer": "https://fhir.example.org",
        "fhirAuthorization": authorization,
    }
    issues = refusal("jaki-patient-view", body).issues
    assert [issue.field for issue in issues] == [field]
    assert "invented-token" not in issues[0].diagnostics


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing() -> None:
    authorization = AUTHORIZATION | {"expires_in": Decimal("300.0")}
    body = request_of("jaki-patient-view") | {"fhirServer": "https://fhir.example.org"}
    read = call("jaki-patient-view", body | {"fhirAuthorization": authorization})
    assert read.fhir_authorization == authorization


@pytest.mark.parametrize("patient", ["{}", "Patient/{}"])
def test_a_token_of_the_patient(patient: str) -> None:
    body = request_of("jaki-patient-view") | {"fhirServer": "https://fhir.example.org"}
    named = AUTHORIZATION | {"patient": patient.format(body["context"]["patientId"])}
    assert call("jaki-patient-view", body | {"fhirAuthorization": named}).fhir_authorization == named


@pytest.mark.parametrize("patient", ["another-child", "Patient/another-child", ""])
def test_auth_9_a_token_of_another_patient_is_refused(patient: str) -> None:
    body = request_of("jaki-patient-view") | {
        "fhirServer": "https://fhir.example.org",
        "fhirAuthorization": AUTHORIZATION | {"patient": patient},
    }
    (issue,) = refusal("jaki-patient-view", body).issues
    assert issue.field == "fhirAuthorization.patient"
    assert "another-child" not in issue.diagnostics


def test_an_authorization_without_server() -> None:
    body = request_of("jaki-patient-view") | {"fhirAuthorization": AUTHORIZATION}
    assert [issue.field for issue in refusal("jaki-patient-view", body).issues] == ["fhirServer"]


def with_as_of(value: object) -> dict[str, Any]:
    return request_of("jaki-patient-view") | {"extension": {"org.jaki-cds": {"asOf": value}}}


@pytest.mark.parametrize("text", ["2026-06-01", "2024-02-29"])
def test_as_of_in_demo_mode(text: str) -> None:
    assert call("jaki-patient-view", with_as_of(text)).as_of == date.fromisoformat(text)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "2026-02-30",
            "2025-02-29",
            "20260601",
            "2026-6-1",
            "2026-W01-1",
            "1 June 2026",
            "2026-06-01\n",
        ),
        *("2026-06-01T00:00:00Z", "٢٠٢٦-٠٦-٠١", "0001-01-01", "9999-12-31"),
        *(20260601, None, ["2026-06-01"], {}, True),
    ],
)
def test_an_invalid_as_of(value: object) -> None:
    (issue,) = refusal("jaki-patient-view", with_as_of(value)).issues
    assert issue.field == 'extension["org.jaki-cds"].asOf'


@pytest.mark.parametrize("value", ["2026-06-01", "nonsense", 987654321])
def test_as_of_outside_demo_mode_is_ignored_and_logged(
    value: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert call("jaki-patient-view", with_as_of(value), GUARDED).as_of is None
    assert "asOf ignored" in caplog.text
    assert str(value) not in caplog.text


@pytest.mark.parametrize("extension", ["x", [], {"org.jaki-cds": "x"}, {"org.jaki-cds": ["asOf"]}])
def test_an_extension_of_a_wrong_type(extension: object) -> None:
    assert refusal("jaki-patient-view", request_of("jaki-patient-view") | {"extension": extension})


@pytest.mark.parametrize("body", [[], "x", 1, None, True])
def test_a_body_that_is_no_object(body: object) -> None:
    assert "object" in refusal("jaki-patient-view", body).issues[0].diagnostics


def test_every_fault_is_told_at_once() -> None:
    fields = [
        issue.field
        for issue in refusal("jaki-order-sign", {"hook": 1, "context": {}, "hookInstance": "x"}).issues
    ]
    assert fields == ["context.draftOrders", "context.patientId", "context.userId", "hook"]


ITEM = {
    "card": "11111111-2222-4333-8444-555555555555",
    "outcome": "overridden",
    "outcomeTimestamp": "2026-11-22T10:34:16.335Z",
}
ACCEPTED = ITEM | {"outcome": "accepted", "acceptedSuggestions": [{"id": "s-1"}]}

GOOD_FEEDBACK: list[tuple[str, list[dict[str, Any]]]] = [
    ("accepted", [ACCEPTED]),
    ("overridden without a reason", [ITEM]),
    (
        "with a reason",
        [ITEM | {"overrideReason": {"reason": {"code": "reviewed", "system": "http://example.org/r"}}}],
    ),
    ("with a reason without system", [ITEM | {"overrideReason": {"reason": {"code": "reviewed"}}}]),
    ("with a comment only", [ITEM | {"overrideReason": {"userComment": "seen"}}]),
    ("with both", [ITEM | {"overrideReason": {"reason": {"code": "reviewed"}, "userComment": "seen"}}]),
    ("with null for no reason", [ITEM | {"overrideReason": None}]),
    ("several items", [ITEM, ACCEPTED, ITEM]),
    ("a card that is no UUID", [ITEM | {"card": "card-7"}]),
    ("a vendor's shape", [ITEM | {"overrideReasons": [{"display": "x"}], "extension": {"com.example": 1}}]),
    ("an offset", [ITEM | {"outcomeTimestamp": "2026-11-22T10:34:16+01:00"}]),
    ("whole seconds", [ITEM | {"outcomeTimestamp": "2026-11-22T10:34:31Z"}]),
    ("nanoseconds", [ITEM | {"outcomeTimestamp": "2026-11-22T10:34:31.123456789Z"}]),
]


@pytest.mark.parametrize(
    "items", [case[1] for case in GOOD_FEEDBACK], ids=[case[0] for case in GOOD_FEEDBACK]
)
def test_good_feedback(items: list[dict[str, Any]]) -> None:
    assert [item["outcome"] for item in check_feedback({"feedback": items})] == [
        item["outcome"] for item in items
    ]


BAD_FEEDBACK: list[tuple[object, str | None]] = [
    ([], None),
    ({}, "feedback"),
    ({"feedback": None}, "feedback"),
    ({"feedback": []}, "feedback"),
    ({"feedback": ITEM}, "feedback"),
    ({"feedback": ["x"]}, "feedback[0]"),
    *(({"feedback": [{k: v for k, v in ITEM.items() if k != name}]}, f"feedback[0].{name}") for name in ITEM),
    *(({"feedback": [ITEM, ITEM | {name: 5}]}, f"feedback[1].{name}") for name in ITEM),
    ({"feedback": [ITEM | {"card": ""}]}, "feedback[0].card"),
    ({"feedback": [ITEM | {"outcome": "ignored"}]}, "feedback[0].outcome"),
    ({"feedback": [ITEM | {"outcome": "accepted"}]}, "feedback[0].acceptedSuggestions"),
    ({"feedback": [ACCEPTED | {"acceptedSuggestions": []}]}, "feedback[0].acceptedSuggestions"),
    ({"feedback": [ACCEPTED | {"acceptedSuggestions": None}]}, "feedback[0].acceptedSuggestions"),
    ({"feedback": [ACCEPTED | {"acceptedSuggestions": "s-1"}]}, "feedback[0].acceptedSuggestions"),
    ({"feedback": [ACCEPTED | {"acceptedSuggestions": [{}]}]}, "feedback[0].acceptedSuggestions[0].id"),
    ({"feedback": [ACCEPTED | {"acceptedSuggestions": ["s-1"]}]}, "feedback[0].acceptedSuggestions[0]"),
    ({"feedback": [ITEM | {"overrideReason": "x"}]}, "feedback[0].overrideReason"),
    ({"feedback": [ITEM | {"overrideReason": {"userComment": 5}}]}, "feedback[0].overrideReason.userComment"),
    *(
        ({"feedback": [ITEM | {"outcomeTimestamp": text}]}, "feedback[0].outcomeTimestamp")
        for text in (
            "yesterday",
            "2026-11-22",
            "2026-11-22T10:34:16",
            "2026-13-22T10:34:16Z",
            "2026-11-22T25:00:00Z",
        )
    ),
]


@pytest.mark.parametrize(("body", "field"), BAD_FEEDBACK)
def test_bad_feedback(body: object, field: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        check_feedback(body)
    assert [issue.field for issue in caught.value.issues] == [field]
