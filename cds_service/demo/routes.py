"""The addresses below ``/demo``: registered in demo mode and nowhere else, so that otherwise all of them are 404."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from http import HTTPStatus
from typing import cast

from flask import Blueprint, Response, current_app, request

from cds_service.bodies import read_body, read_form
from cds_service.demo import drafts
from cds_service.demo.children import load, store
from cds_service.demo.own_server import BASE
from cds_service.demo.search import KINDS, BadSearch, search
from cds_service.envelope import check_feedback, read_call
from cds_service.errors import BadRequest, Issue, Refusal
from cds_service.json_reader import write_json
from cds_service.runtime import Runtime

FHIR_JSON = "application/fhir+json"
FHIR_VERSION = "4.0.1"
_STRICT = "handling=strict"
_ALWAYS_KNOWN = ("_id", "_sort", "_count", "_offset", "_format")


class NoSuchResource(Refusal):
    """404 of the FHIR server, for a type and for an id alike."""

    status = HTTPStatus.NOT_FOUND
    code = "not-found"
    diagnostics = (
        "No such resource; GET /demo/fhir/metadata lists the types, GET /demo/children the children."
    )


def make_demo_routes() -> Blueprint:
    """All demo addresses. A base typed with a slash at its end is answered as well (``/demo/fhir//Patient``)."""
    load()  # a fault in a child's file shows at the start
    routes = Blueprint("demo", __name__)

    def add(rule: str, view: Callable[..., Response], endpoint: str, method: str) -> None:
        routes.add_url_rule(
            rule, endpoint, view, methods=[method, "OPTIONS"], provide_automatic_options=False
        )

    add("/demo/children", _children, "children", "GET")
    for base in (f"{BASE}/", f"{BASE}//"):
        add(f"{base}metadata", _metadata, "metadata", "GET")
        add(f"{base}<kind>", _search_by_get, "search", "GET")
        add(f"{base}<kind>/_search", _search_by_post, "search-by-post", "POST")
        add(f"{base}<kind>/<id_>", _read, "read", "GET")
    add("/demo/cds-services", _discovery, "discovery", "GET")
    for base in ("/demo/cds-services/", "/demo/cds-services//"):
        add(f"{base}{drafts.SERVICE.id}", _drafts, drafts.SERVICE.id, "POST")
        add(f"{base}{drafts.SERVICE.id}/feedback", _feedback, f"{drafts.SERVICE.id}/feedback", "POST")
    return routes


def _runtime() -> Runtime:
    return cast("Runtime", current_app.extensions["jaki_cds"])


def _today() -> date:
    return _runtime().today()


def _json(value: object, media_type: str = "application/json") -> Response:
    return Response(write_json(value), content_type=media_type)


def _children() -> Response:
    return _json(
        [
            {"id": child.id, "label": child.label, "description": child.description, "drug": child.drug}
            for child in load()
        ]
    )


# --- the FHIR server ------------------------------------------------------------------------------


def _metadata() -> Response:
    return _json(
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": _today().isoformat(),
            "kind": "instance",
            "software": {"name": "jaki-cds demo FHIR server"},
            "implementation": {"description": "Invented children, read only", "url": _base()},
            "fhirVersion": FHIR_VERSION,
            "format": ["json"],
            "rest": [{"mode": "server", "resource": [_capability(kind) for kind in KINDS]}],
        },
        FHIR_JSON,
    )


def _capability(kind: str) -> dict[str, object]:
    parameters = {"_id": ("token", "id"), **KINDS[kind].parameters}
    return {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": name, "type": how} for name, (how, _) in parameters.items()],
    }


def _base() -> str:
    """The server's address as the client sees it."""
    public = _runtime().settings.public_base_url
    return (public or request.host_url.rstrip("/")) + BASE


def _read(kind: str, id_: str) -> Response:
    resource = store(_today()).get(kind, {}).get(id_)
    if resource is None:
        raise NoSuchResource()
    return _json(resource, FHIR_JSON)


def _search_by_get(kind: str) -> Response:
    return _found(kind, list(request.args.items(multi=True)))


def _search_by_post(kind: str) -> Response:
    form = read_form(request, _runtime().settings.max_body_bytes)
    return _found(kind, [*request.args.items(multi=True), *form])


def _found(kind: str, parameters: list[tuple[str, str]]) -> Response:
    if kind not in KINDS:
        raise NoSuchResource()
    known = (*_ALWAYS_KNOWN, *KINDS[kind].parameters)
    if _STRICT in request.headers.get("Prefer", "") and any(name not in known for name, _ in parameters):
        raise BadRequest([Issue(f"A parameter is not known here; those known: {', '.join(known)}.")])
    try:
        bundle = search(store(_today()).get(kind, {}).values(), kind, parameters, _base())
    except BadSearch as fault:
        raise BadRequest(str(fault)) from None
    return _json(bundle, FHIR_JSON)


# --- the tester's drafts --------------------------------------------------------------------------


def _discovery() -> Response:
    return _json(drafts.discovery())


def _drafts() -> Response:
    settings = _runtime().settings
    return _json(
        drafts.respond(read_call(drafts.SERVICE, read_body(request, settings.max_body_bytes), settings))
    )


def _feedback() -> Response:
    check_feedback(read_body(request, _runtime().settings.max_body_bytes))
    return _json({})
