"""``/openapi.json`` equals the routes and discovery, and describes what is really answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import draft, hook_request, post
from jsonschema import Draft202012Validator
from test_http import FEEDBACK, body_of

from cds_service.app import create_app
from cds_service.openapi import document
from cds_service.profiles import PROFILES, shaped
from cds_service.services import SERVICES, discovery
from cds_service.settings import Settings

APP = create_app(Settings(demo=True))


def validator(reference: str) -> Any:
    return Draft202012Validator({"$ref": reference, "components": document()["components"]})


def test_it_is_served_and_names_no_host() -> None:
    response = APP.test_client().get("/openapi.json")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.get_json() == json.loads(json.dumps(document()))
    assert "servers" not in document()


def test_it_has_the_routes_and_nothing_else() -> None:
    routes = {
        (rule.rule, method.lower())
        for rule in APP.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if "//" not in rule.rule  # the spelling of a base address with a slash at its end
        and rule.rule != "/"
        and not rule.rule.startswith(
            "/demo/"
        )  # pages and servers of demo mode are for trying out, not to build on
    }
    assert {(path, method) for path, item in document()["paths"].items() for method in item} == routes


def test_it_has_the_services_of_discovery() -> None:
    services: Any = discovery()["services"]
    hooks = {
        p.removeprefix("/cds-services/") for p in document()["paths"] if p.count("/") == 2
    } & SERVICES.keys()
    assert hooks == {service["id"] for service in services}
    for service in services:
        operation = document()["paths"][f"/cds-services/{service['id']}"]["post"]
        assert (operation["summary"], operation["description"]) == (service["title"], service["description"])
        schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert schema.endswith(f"/{service['hook']}-request")


def test_every_reference_leads_somewhere_and_names_are_unique() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                place: Any = document()
                for step in value["$ref"].removeprefix("#/").split("/"):
                    place = place[step]
            for member in value.values():
                walk(member)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document())
    names = [op["operationId"] for item in document()["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("service", SERVICES)
def test_the_schemas_take_what_the_service_takes(service: str) -> None:
    hook = SERVICES[service].hook
    body = body_of(service)
    check = validator(f"#/components/schemas/{hook}-request")
    assert check.is_valid(body)
    for name in ("hook", "hookInstance", "context"):
        assert not check.is_valid({key: value for key, value in body.items() if key != name})
    assert not check.is_valid(body | {"context": {"userId": "Practitioner/p1"}})
    authorization = {
        "access_token": "t",
        "token_type": "Bearer",
        "expires_in": 1,
        "scope": "s",
        "subject": "c",
    }
    for server, given, taken in (
        ("https://fhir.example.org", authorization, True),
        (None, None, True),
        (None, authorization, False),
        ("", None, False),
    ):
        call = body | {"fhirServer": server, "fhirAuthorization": given}
        assert check.is_valid(call) is taken
        assert (APP.test_client().post(f"/cds-services/{service}", json=call).status_code != 400) is taken
    assert validator("#/components/schemas/Feedback").is_valid(FEEDBACK)
    assert not validator("#/components/schemas/Feedback").is_valid({"feedback": []})


SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*/response.json"))


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "sandbox"])  # that is the default
def test_test_2_discovery_and_answers_fit_their_schemas(profile: str) -> None:
    """Every stored answer in the form of each profile; objects there have no members but those listed."""
    check = validator("#/components/schemas/Answer")
    assert len(SAMPLES) > 50
    for path in SAMPLES:
        check.validate(shaped(json.loads(path.read_text("utf-8")), profile))
    validator("#/components/schemas/Discovery").validate(discovery())


def test_a_live_answer_and_a_refusal_fit_their_schemas() -> None:
    answer = post(hook_request([draft("tofacitinib", 5)])).get_json()
    assert validator("#/components/schemas/Answer").is_valid(answer)
    refusal = post(hook_request([draft("tofacitinib", 5)]) | {"context": {}})
    assert refusal.status_code == 400
    assert validator("#/components/schemas/OperationOutcome").is_valid(refusal.get_json())


LINK = {"label": "Guideline", "url": "https://example.org", "type": "absolute"}
NEVER_SENT: list[tuple[str, Any]] = [
    *(("links", [link]) for link in (LINK, LINK | {"appContext": "x"}, LINK | {"autolaunchable": True}, {})),
    ("links", []),
    ("source.icon", "https://example.org/icon.png"),
    ("summary", "x" * 140),
    ("summary", "two\nlines"),
    ("detail", " "),
    ("indicator", "hard-stop"),
    ("source.url", "/guideline"),
    ("source.topic.display", ""),
    ("suggestions", []),
    ("suggestions.0.actionSelectionBehavior", "all"),
    ("suggestions.0.actions", []),
    ("suggestions.0.actions.0.type", "CREATE"),
    ("overrideReasons.0.code", ""),
    ("private", True),
]


@pytest.mark.parametrize(("place", "value"), NEVER_SENT)
def test_what_is_never_sent_would_be_noticed(place: str, value: Any) -> None:
    answers = (json.loads(path.read_text("utf-8")) for path in SAMPLES)
    answer = next(a for a in answers if {"suggestions", "overrideReasons"} <= {*(a["cards"] or [{}])[0]})
    here, (*way, last) = answer["cards"][0], place.split(".")
    for step in way:
        here = here[int(step) if step.isdigit() else step]
    here[last] = value
    assert not validator("#/components/schemas/Answer").is_valid(answer)


@pytest.mark.parametrize("service", SERVICES)
def test_the_examples_are_taken_and_answered(service: str) -> None:
    paths = document()["paths"]
    for path in (f"/cds-services/{service}", f"/cds-services/{service}/feedback"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        assert validator(content["schema"]["$ref"]).is_valid(content["example"])
        response = APP.test_client().post(path, json=content["example"])
        assert response.status_code == 200
        if not path.endswith("feedback") and SERVICES[service].drafts_field:
            assert response.get_json()["cards"]
