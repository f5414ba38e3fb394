"""``/openapi.json`` equals the routes and discovery, and describes what is really answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import draft, hook_request, post
from jsonschema import Draft202012Validator
from test_http import FEEDBACK, body_of

from cds_service.app import create_app
from cds_service.openapi import document
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
    assert validator("#/components/schemas/Feedback").is_valid(FEEDBACK)
    assert not validator("#/components/schemas/Feedback").is_valid({"feedback": []})


def test_answers_and_refusals_fit_their_schemas() -> None:
    answer = post(hook_request([draft("tofacitinib", 5)])).get_json()
    assert validator("#/components/schemas/Answer").is_valid(answer)
    refusal = post(hook_request([draft("tofacitinib", 5)]) | {"context": {}})
    assert refusal.status_code == 400
    assert validator("#/components/schemas/OperationOutcome").is_valid(refusal.get_json())
