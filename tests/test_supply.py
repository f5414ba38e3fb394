"""Data fetched from the caller's FHIR server: the CDS Hooks sandbox sends a draft and no prefetch.

The drafts are those that the sandbox sends (its R4, STU3 and DSTU2 shapes, a half-typed date); the FHIR servers are
small ones on 127.0.0.1.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

import pytest
from builders import (
    ATC,
    POLY_JIA,
    RXNORM,
    UCUM,
    Json,
    bundle,
    cards,
    concept,
    dose,
    draft,
    findings,
    given,
    hook_request,
    missing,
    outcome,
    post,
    prefetch_of,
)
from fault_servers import Behaviour, Server, answer, hang, holders, reset, resources, truncate

from cds_service.app import create_app
from cds_service.json_reader import write_json
from cds_service.settings import Settings
from fhir_mappings.prefetch import templates

TOKEN = "{{context.patientId}}"
GONE = {"reference": "Medication/m1"}


def fhir(data: Json, child: str = "p1", **more: Json) -> Behaviour:
    """A FHIR server that answers each of our templates with that key of ``data``, and ``more`` by path."""
    by_path = {
        f"/fhir/{template.replace(TOKEN, child).replace('|', '%7C')}": data[name]
        for name, template in templates().items()
        if name in data
    }
    by_path |= {f"/fhir/{path}": body for path, body in more.items()}
    return resources(json.loads(write_json(by_path)))  # the small servers know no Decimals


def sandbox(
    version: str, *, hook: str = "order-select", code: Json | None = None, start: str | None = None
) -> Json:
    """A request of the sandbox: category as an object, tablets without a unit, no prefetch, Bundle without type."""
    order: Json = {
        "resourceType": "MedicationRequest",
        "id": "request-123",
        "status": "draft",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2026-05-30",
        "intent": "order",
        "category": {"coding": [{"system": "http://example.org", "code": "community"}]},
        "medicationCodeableConcept": code or concept("1357541", RXNORM, "tofacitinib 5 MG Oral Tablet"),
    }
    repeat: Json = {"frequency": 1, "period": 1, "periodUnit": "d"}
    if start is not None:
        repeat["boundsPeriod"] = {"start": start}
    pill = {"value": 1, "system": UCUM, "code": "{pill}"}
    if version == "R4":
        order["dosageInstruction"] = [{"timing": {"repeat": repeat}, "doseAndRate": [{"doseQuantity": pill}]}]
    else:
        order["dosageInstruction"] = [{"timing": {"repeat": repeat}, "doseQuantity": pill}]
    if version == "DSTU2":
        order |= {"resourceType": "MedicationOrder", "id": "order-123", "patient": order.pop("subject")}
        order["dateWritten"] = order.pop("authoredOn")
        repeat["periodUnits"] = repeat.pop("periodUnit")
    selections = [f"{order['resourceType']}/{order['id']}"] if hook == "order-select" else None
    request = hook_request([], hook=hook, selections=selections)
    request["context"]["draftOrders"] = {"resourceType": "Bundle", "entry": [{"resource": order}]}
    del request["prefetch"]
    return request


BARICITINIB = {
    "text": "baricitinib 2 MG Oral Tablet",
    "coding": [{"display": "baricitinib 2 MG Oral Tablet", "system": RXNORM, "code": "BARI-PLACEHOLDER"}],
}
CAPTURES: dict[str, tuple[Json, str, str, int]] = {
    # request, dose row, verdict, drafted mg per day
    "13 baricitinib by a suggestion": (sandbox("R4", code=BARICITINIB), "BARI-JIA-02", "under", 2),
    "14 the same, signed": (sandbox("R4", hook="order-sign", code=BARICITINIB), "BARI-JIA-02", "under", 2),
    "16 DSTU2 server": (sandbox("DSTU2"), "TOFA-DOSE-04", "under", 5),
    "17 STU3 server": (sandbox("STU3"), "TOFA-DOSE-04", "under", 5),
    "19 half a date": (sandbox("R4", start="Invalid date"), "TOFA-DOSE-04", "under", 5),
    "19 an early year": (sandbox("R4", start="0002-01-01"), "TOFA-DOSE-04", "under", 5),
}


@pytest.mark.parametrize(("request_", "row", "verdict", "total"), CAPTURES.values(), ids=CAPTURES)
def test_missing_keys_are_fetched(request_: Json, row: str, verdict: str, total: int) -> None:
    with Server(fhir(prefetch_of())) as server:
        found = cards(request_ | {"fhirServer": server.base})
    assert given(found) == row
    one = dose(found)
    assert one is not None and one["order"] == {"mgPerDay": total, "verdict": verdict}
    assert not missing(found)


@pytest.mark.parametrize("request_", [row[0] for row in CAPTURES.values()], ids=CAPTURES)
def test_fetch_6_without_the_fhir_server_nothing_can_be_said(request_: Json) -> None:
    with Server(reset) as server:
        gone = server.base
    for base in (gone, "https://ehr.example/fhir", None):
        response = post({**request_, "fhirServer": base})
        assert response.status_code == 412
        assert response.get_json()["resourceType"] == "OperationOutcome"
        told = response.get_data(as_text=True)
        assert not [word for word in ("p1", "request-123", "2026-05-30", "mg", "ehr.example") if word in told]


FAULTS: dict[str, Behaviour] = {
    "404": answer(404, {"resourceType": "OperationOutcome"}),
    "401": answer(401, {"resourceType": "OperationOutcome"}),
    "500": answer(500),
    "not JSON": answer(200, "<html>"),
    "reset": reset,
    "truncated": truncate,
    "another type": answer(200, {"resourceType": "CapabilityStatement"}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fhir_server_that_fails_costs_its_keys_only(fault: Behaviour) -> None:
    """The patient came with the request: cards without a firm dose, each gap with a reason."""
    request = sandbox("R4") | {"prefetch": {"patient": prefetch_of()["patient"]}}
    with Server(fault) as server:
        found = cards(request | {"fhirServer": server.base})
    assert given(found) == "-"
    assert {reason for fact, reason in missing(found) if fact in ("weight", "indication")} <= {
        "failed",
        "not-supplied",
        "unreadable",
    }
    assert ("weight", "absent") not in missing(found)


def test_a_fhir_server_that_hangs_is_given_up() -> None:
    request = sandbox("R4") | {"prefetch": {"patient": prefetch_of()["patient"]}}
    with Server(hang) as server:
        found = cards(request | {"fhirServer": server.base})
    assert given(found) == "-"
    assert ("weight", "not-supplied") in missing(found) or ("weight", "failed") in missing(found)


def test_what_was_supplied_is_not_fetched_again() -> None:
    """Not even an empty or failed key: it was answered."""
    data = prefetch_of()
    weight = data.pop("growth")
    with Server(fhir({"growth": weight})) as server:
        found = cards(
            hook_request([draft("tofacitinib", 4)], data | {"liver": outcome()}) | {"fhirServer": server.base}
        )
    assert given(found) == "TOFA-DOSE-04"
    assert len(server.heads) == 1
    assert server.heads[0].startswith("GET /fhir/Observation?patient=p1&code=")


def test_the_rest_of_a_broken_off_page_is_fetched() -> None:
    data = prefetch_of()
    entries = data["growth"]["entry"]
    with Server(fhir({}, **{"page2": bundle(*(entry["resource"] for entry in entries[1:]))})) as server:
        link = [{"relation": "next", "url": f"{server.base}/page2"}]
        first = bundle(entries[0]["resource"], link=link)
        request = hook_request([draft("tofacitinib", 4)], data | {"growth": first})
        assert given(cards(request | {"fhirServer": server.base})) == "TOFA-DOSE-04"
    found = cards(request | {"fhirServer": server.base})  # the server has gone
    assert given(found) == "TOFA-DOSE-04?"
    assert ("weight", "partial-page") in missing(found)


def test_ssrf_7_a_next_page_on_another_server_is_not_followed() -> None:
    data = prefetch_of()
    with Server(answer(200, bundle())) as other, Server(fhir({})) as server:
        data["growth"]["link"] = [{"relation": "next", "url": f"{other.base}/page2"}]
        found = cards(hook_request([draft("tofacitinib", 4)], data) | {"fhirServer": server.base})
    assert other.connections == 0
    assert ("weight", "partial-page") in missing(found)


MEDICATION = {"resourceType": "Medication", "id": "m1", "code": concept("1357541", RXNORM)}


@pytest.mark.parametrize(
    "members",
    [{"medicationReference": GONE}, {"medication": {"reference": GONE}}],
    ids=["R4", "R5"],
)
def test_a_medication_that_a_draft_refers_to_is_fetched(members: Json) -> None:
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None) | members
    with Server(fhir({}, **{"Medication/m1": MEDICATION})) as server:
        found = cards(hook_request([drafted]) | {"fhirServer": server.base})
    assert given(found) == "TOFA-DOSE-04"
    with Server(answer(404)) as server:
        assert post(hook_request([drafted]) | {"fhirServer": server.base}).status_code == 412


def test_a_medication_of_another_server_is_not_asked_of_this_one() -> None:
    reference = {"reference": "https://other.example/fhir/Medication/m1"}
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference=reference)
    with Server(fhir({}, **{"Medication/m1": MEDICATION})) as server:
        assert post(hook_request([drafted]) | {"fhirServer": server.base}).status_code == 412
    assert server.connections == 0


@pytest.mark.parametrize("patient", [None, outcome(), bundle()], ids=["null", "failed", "empty"])
def test_a_patient_that_the_prefetch_lacks_is_asked_for(patient: Json | None) -> None:
    request = hook_request([draft("tofacitinib", 4)], prefetch_of() | {"patient": patient})
    assert post(request).status_code == 412
    with Server(fhir({"patient": prefetch_of()["patient"]})) as server:
        assert given(cards(request | {"fhirServer": server.base})) == "TOFA-DOSE-04"
    assert server.connections == 1


@pytest.mark.parametrize(
    "reference", ["http://169.254.0.1/fhir/Medication/../x", "Medication/a b", "urn:uuid:1", "#m"]
)
def test_only_a_plain_reference_is_fetched(reference: str) -> None:
    drafted = draft(
        "tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": reference}
    )
    with Server(fhir({})) as server:
        assert post(hook_request([drafted]) | {"fhirServer": server.base}).status_code == 412
    assert server.connections == 0


def test_fetch_9_the_token_goes_to_the_fhir_server_and_nowhere_else() -> None:
    authorization: dict[str, Any] = {
        "access_token": "secret-of-the-test",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "patient/*.read",
        "subject": "jaki",
    }
    with Server(fhir(prefetch_of())) as server:
        response = post(sandbox("R4") | {"fhirServer": server.base, "fhirAuthorization": authorization})
    assert response.status_code == 200
    assert all("Authorization: Bearer secret-of-the-test" in head for head in server.heads)
    assert b"secret-of-the-test" not in response.data


@pytest.mark.slow
def test_fetch_9_the_token_is_gone_after_the_call() -> None:
    """Of the whole service: not in what it keeps of a call, not in an exception, not in a thread."""
    token = "-".join(["canary", "4712"])
    app = create_app(Settings(demo=True, log_level="error")).test_client()
    for behaviour in (fhir(prefetch_of()), answer(503), truncate):
        with Server(behaviour) as server:
            authorization = {"access_token": token, "token_type": "Bearer", "expires_in": 300}
            authorization |= {"scope": "patient/*.read", "subject": "jaki"}
            request = sandbox("R4") | {"fhirServer": server.base, "fhirAuthorization": authorization}
            body = write_json(request | {"prefetch": {"patient": prefetch_of()["patient"]}})
            response = app.post("/cds-services/jaki-order-select", data=body, content_type="application/json")
            assert response.status_code == 200
            assert token in "".join(server.heads)
            server.heads.clear()
        del response, body, request, authorization, server
    time.sleep(0.02)
    assert holders(token, but=sys._getframe()) == []


def test_the_fetched_conditions_give_the_indication() -> None:
    with Server(fhir(prefetch_of(conditions=[POLY_JIA]))) as server:
        found = findings(cards(sandbox("R4") | {"fhirServer": server.base}))
    sources = {item["source"] for item in found["TOFA-DOSE-04"]["evidence"] if item["fact"] == "indication"}
    assert sources <= {"Condition/c0"}


# --- medicines of the record that are named by reference only --------------------------------------------------


def by_reference(id_: str, **more: Any) -> Json:
    return {
        "resourceType": "MedicationRequest",
        "id": f"order-{id_}",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": "2026-01-10",
        "medicationReference": {"reference": f"Medication/{id_}"},
        **more,
    }


SALBUTAMOL = {"resourceType": "Medication", "id": "m2", "code": concept("R03AC02", ATC)}
METHOTREXATE = {"resourceType": "Medication", "id": "m3", "code": concept("L04AX03", ATC)}


def test_medications_that_the_record_only_refers_to_are_fetched() -> None:
    """A search for orders leaves out what they refer to, so a list would be unreadable that is not."""
    request = hook_request([draft("tofacitinib", 4)], medicines=[by_reference("m2"), by_reference("m3")])
    with Server(fhir({}, **{"Medication/m2": SALBUTAMOL, "Medication/m3": METHOTREXATE})) as server:
        found = cards(request | {"fhirServer": server.base})
    assert sorted(head.split()[1] for head in server.heads) == ["/fhir/Medication/m2", "/fhir/Medication/m3"]
    assert ("medications", "unreadable") not in missing(found)
    assert "CON-04" in findings(found)
    gone = cards(request | {"fhirServer": server.base})
    assert ("medications", "unreadable") in missing(gone)


@pytest.mark.parametrize(
    "more",
    [
        {"status": "cancelled"},
        {"intent": "proposal"},
        {"subject": {"reference": "Patient/p2"}},
        {"medicationReference": {"reference": "Medication/m2", "display": "methotrexate"}},
        {"medicationReference": {"reference": "https://other.example/fhir/Medication/m2"}},
        {"medicationReference": {"reference": "#m2"}},
    ],
    ids=str,
)
def test_a_medication_that_nobody_needs_is_not_fetched(more: Json) -> None:
    with Server(fhir({}, **{"Medication/m2": SALBUTAMOL})) as server:
        request = hook_request([draft("tofacitinib", 4)], medicines=[by_reference("m2", **more)])
        cards(request | {"fhirServer": server.base})
    assert server.heads == []


def test_of_very_many_medications_some_are_fetched_and_the_list_stays_unreadable() -> None:
    every = [by_reference(f"x{number}") for number in range(60)]
    more = {f"Medication/x{number}": SALBUTAMOL | {"id": f"x{number}"} for number in range(60)}
    with Server(fhir({}, **more)) as server:
        found = cards(hook_request([draft("tofacitinib", 4)], medicines=every) | {"fhirServer": server.base})
    assert len(server.heads) == 40
    assert ("medications", "unreadable") in missing(found)


def test_fetch_1_all_rounds_of_one_call_share_one_deadline() -> None:
    """FETCH-1 for a whole call: what the draft refers to, the missing keys, what the record refers to."""

    def behave(line: socket.socket, head: str, server: Server) -> None:
        server.stopped.wait(0.1)
        path = head.split()[1].removeprefix("/fhir/")
        by_path = {
            "Medication/m1": MEDICATION,
            "Patient/p1": prefetch_of()["patient"],
            "MedicationRequest?patient=p1": bundle(by_reference("m2")),
        }
        body = by_path.get(path) or bundle()
        (hang if path == "Medication/m2" else answer(200, json.loads(write_json(body))))(line, head, server)

    settings = Settings(demo=True, log_level="error", fetch_deadline_ms=700)
    app = create_app(settings).test_client()
    drafted = draft("tofacitinib", 4, medicationCodeableConcept=None, medicationReference=GONE)
    request = hook_request([drafted], {})
    took = []
    with Server(behave) as server:
        body = write_json(request | {"fhirServer": server.base})
        for _ in range(
            8
        ):  # a busy machine may be slow now and then; a second deadline would make each attempt slow
            server.heads.clear()
            start = time.monotonic()
            response = app.post("/cds-services/jaki-order-select", data=body, content_type="application/json")
            if any("/Medication/m2" in head for head in server.heads):  # the last round began
                took.append(time.monotonic() - start)
                assert response.status_code == 200
                if took[-1] < 0.95:
                    break
    assert min(took) < 0.95, took


def test_pages_count_towards_the_total_of_the_first() -> None:
    data = prefetch_of()
    entries = [entry["resource"] for entry in data["growth"]["entry"]]
    whole = len(entries)
    with Server(fhir({}, **{"page2": bundle(*entries[1:], total=whole)})) as server:
        link = [{"relation": "next", "url": f"{server.base}/page2"}]
        first = bundle(entries[0], link=link, total=whole)
        found = cards(
            hook_request([draft("tofacitinib", 4)], data | {"growth": first}) | {"fhirServer": server.base}
        )
    assert given(found) == "TOFA-DOSE-04"
    assert not missing(found)


def test_the_names_that_a_bundle_gives_its_entries_outlive_its_next_page() -> None:
    url = "urn:uuid:4c2c1a40-0000-4000-8000-000000000003"
    data = prefetch_of()
    with Server(fhir({}, page2=bundle())) as server:
        data["medicationRequests"] = bundle(
            MEDICATION, link=[{"relation": "next", "url": f"{server.base}/page2"}]
        )
        data["medicationRequests"]["entry"][0]["fullUrl"] = url
        drafted = draft(
            "tofacitinib", 4, medicationCodeableConcept=None, medicationReference={"reference": url}
        )
        other = by_reference("m9") | {"medicationReference": {"reference": url}}
        data["medicationStatements"] = bundle(other)
        found = cards(hook_request([drafted], data) | {"fhirServer": server.base})
    assert ("medications", "unreadable") not in missing(found)
    assert server.connections == 1
