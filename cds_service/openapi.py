"""``GET /openapi.json``: the addresses of this service as an OpenAPI 3.1 document.

Made from the same lists as the routes and discovery; a test compares the three.
"""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from cds_service.services import SERVICES, Service

Json = dict[str, Any]

VERSION = "0.1.0"
"""Of the interface as described here; it changes by addition only."""
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "The request is malformed; the diagnostics name the field and the cure.",
    HTTPStatus.UNAUTHORIZED: "No valid bearer token of a configured client.",
    HTTPStatus.FORBIDDEN: "This client may not use this service.",
    HTTPStatus.LENGTH_REQUIRED: "The request has no Content-Length.",
    HTTPStatus.PRECONDITION_FAILED: "Nothing at all can be said: the Patient or every drug could not be had.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON, or it is compressed.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many calls; Retry-After says how long to wait.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; its log has the fault under X-Request-Id.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service cannot answer at the moment.",
}
_PLAIN = {
    "/healthz": ("health", "The process answers."),
    "/readyz": ("readiness", "The service is ready for calls."),
    "/openapi.json": ("openapi", "This document."),
}
_TEXTS = {
    "/metrics": ("metrics", "Counters in Prometheus text format.", "text/plain"),
    "/guideline": ("guideline", "The rules as a page for clinicians.", "text/html"),
    "/guideline.css": ("guidelineStyle", "The style of that page.", "text/css"),
}


@cache
def document() -> Json:
    """The whole document. It names no host: the address is the one that it was fetched from."""
    paths: Json = {"/cds-services": {"get": _get("discovery", "The services, CDS Hooks 2.0.", "Discovery")}}
    for service in SERVICES.values():
        paths[f"/cds-services/{service.id}"] = {"post": _hook(service)}
        paths[f"/cds-services/{service.id}/feedback"] = {"post": _feedback(service)}
    for path, (name, purpose) in _PLAIN.items():
        paths[path] = {"get": _get(name, purpose, "Object")}
    for path, (name, purpose, media_type) in _TEXTS.items():
        answer = {"description": purpose, "content": {media_type: {"schema": {"type": "string"}}}}
        paths[path] = {"get": {"operationId": name, "summary": purpose, "responses": {"200": answer}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jaki-cds",
            "version": VERSION,
            "description": "CDS Hooks service for JAK inhibitor doses in children, after the SPARN guideline.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"client": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _get(name: str, purpose: str, schema: str) -> Json:
    return {"operationId": name, "summary": purpose, "responses": {"200": _answer(purpose, schema)}}


def _hook(service: Service) -> Json:
    return {
        "operationId": service.id,
        "summary": service.title,
        "description": service.description,
        "security": [{"client": []}],
        "requestBody": _body(f"{service.hook} request", _example(service)),
        "responses": {"200": _answer("The cards.", "Answer"), **_refused()},
    }


def _feedback(service: Service) -> Json:
    return {
        "operationId": f"{service.id}-feedback",
        "summary": f"What became of the cards of {service.id}.",
        "security": [{"client": []}],
        "requestBody": _body("Feedback", _examples()["feedback"]),
        "responses": {"200": _answer("Taken.", "Object"), **_refused()},
    }


def _refused() -> Json:
    return {str(status.value): _answer(text, "OperationOutcome") for status, text in _REFUSALS.items()}


def _body(schema: str, example: Json) -> Json:
    content = {"application/json": {"schema": _reference(schema), "example": example}}
    return {"required": True, "content": content}


def _example(service: Service) -> Json:
    """A whole call of one hook with an invented child."""
    parts = _examples()
    draft = parts["draft"]
    context: Json = {"userId": "Practitioner/p1", "patientId": parts["prefetch"]["patient"]["id"]}
    if service.drafts_field:
        context[service.drafts_field] = {"resourceType": "Bundle", "entry": [{"resource": draft}]}
    if service.hook == "order-select":
        context["selections"] = [f"{draft['resourceType']}/{draft['id']}"]
    instance = "7c1f3ba2-6a70-4d4b-9a47-0c9d2f3d8a51"
    return {
        "hook": service.hook,
        "hookInstance": instance,
        "context": context,
        "prefetch": parts["prefetch"],
    }


@cache
def _examples() -> Json:
    found: Json = json.loads(files("cds_service").joinpath("schema", "example.json").read_text("utf-8"))
    return found


def _answer(purpose: str, schema: str) -> Json:
    return {"description": purpose, "content": {"application/json": {"schema": _reference(schema)}}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name.replace(' ', '-')}"}


def _schemas() -> Json:
    issue = {
        "type": "object",
        "required": ["severity", "code", "diagnostics"],
        "properties": {
            "severity": {"const": "error"},
            "code": {"type": "string"},
            "diagnostics": {"type": "string"},
            "expression": {"type": "array", "items": {"type": "string"}},
        },
    }
    found: Json = {
        "Object": {"type": "object"},
        "Discovery": {
            "type": "object",
            "required": ["services"],
            "properties": {"services": {"type": "array", "items": _discovered()}},
        },
        "Answer": _embedded("answer.schema.json", "Answer"),
        "OperationOutcome": {
            "type": "object",
            "required": ["resourceType", "issue"],
            "properties": {
                "resourceType": {"const": "OperationOutcome"},
                "issue": {"type": "array", "minItems": 1, "items": issue},
            },
        },
        "Feedback": _feedback_schema(),
    }
    for service in SERVICES.values():
        found[f"{service.hook}-request"] = _hook_schema(service.hook)
    return found


def _discovered() -> Json:
    text = {"type": "string", "minLength": 1}
    prefetch = {"type": "object", "minProperties": 1, "additionalProperties": text}
    texts = dict.fromkeys(("id", "hook", "title", "description", "usageRequirements"), text)
    return {
        "type": "object",
        "required": ["id", "hook", "title", "description", "prefetch"],
        "additionalProperties": False,
        "properties": {**texts, "prefetch": prefetch},
    }


def _embedded(file: str, name: str) -> Json:
    """A schema of ours with its definitions found from the root of this document."""
    text = files("cds_service").joinpath("schema", file).read_text("utf-8")
    schema: Json = json.loads(text.replace('"#/$defs/', f'"#/components/schemas/{name}/$defs/'))
    return {key: value for key, value in schema.items() if key not in ("$schema", "$id")}


_SHARED = ("userId", "patientId", "bundle")
"""Definitions that every hook's context uses."""


def _hook_schema(hook: str) -> Json:
    """The envelope of one hook, as it is asked for outside demo mode."""
    name = f"{hook}-request"
    schema = _embedded("envelope.schema.json", name)
    members = schema["properties"]
    members["context"] = {"$ref": f"#/components/schemas/{name}/$defs/{hook}"}
    members["hook"]["const"] = hook
    members["hookInstance"]["format"] = "uuid"
    schema["$defs"] = {known: schema["$defs"][known] for known in (hook, *_SHARED)}
    for value in (schema, schema["$defs"][hook], members["fhirAuthorization"]):
        _allow_null(value)
    # As the schema's dependentRequired, but with null for absent.
    del schema["dependentRequired"]
    schema["if"] = {
        "required": ["fhirAuthorization"],
        "properties": {"fhirAuthorization": {"type": "object"}},
    }
    schema["then"] = {"required": ["fhirServer"], "properties": {"fhirServer": {"type": "string"}}}
    return schema


def _feedback_schema() -> Json:
    schema = _embedded("feedback.schema.json", "Feedback")
    item = schema["properties"]["feedback"]["items"]
    item["then"]["properties"]["acceptedSuggestions"]["type"] = "array"
    for value in (item, item["properties"]["overrideReason"]):
        _allow_null(value)
    return schema


def _allow_null(value: Json) -> None:
    """``null`` counts as absent there, so it may stand where the member may be left out."""
    for name, member in value["properties"].items():
        if name not in value.get("required", ()):
            value["properties"][name] = {"anyOf": [member, {"type": "null"}]}
