"""The addresses of the service (contract section 2): each one function, each short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from flask import Blueprint, Response, current_app, g, request
from werkzeug.local import LocalProxy

from cds_service import pipeline
from cds_service.auth import TokenRefused
from cds_service.bodies import read_body
from cds_service.clients import Client
from cds_service.envelope import HookCall, check_feedback, read_call
from cds_service.errors import Forbidden, Unauthorised, Unavailable
from cds_service.guideline_page import guideline_page, guideline_style
from cds_service.json_reader import write_json
from cds_service.metrics import Metrics
from cds_service.openapi import document
from cds_service.profiles import shaped
from cds_service.rates import Rates
from cds_service.repeats import without_overridden
from cds_service.replay_guard import GuardUnavailable
from cds_service.runtime import Runtime
from cds_service.services import SERVICES, Service, discovery
from cds_service.store.recording import CALL, FEEDBACK, Exchange
from cds_service.store.store import Store

METRICS = "/metrics"

_log = logging.getLogger("jaki_cds")

Proxied = TypeVar("Proxied")


def bare(proxy: Proxied) -> Proxied:
    """What one of Flask's names (``g``, ``request``) stands for just now; to look that up anew each time takes long."""
    return cast("LocalProxy[Proxied]", proxy)._get_current_object()


def runtime() -> Runtime:
    return cast("Runtime", current_app.extensions["jaki_cds"])


def metrics() -> Metrics:
    return cast("Metrics", current_app.extensions["jaki_cds_metrics"])


def store() -> Store | None:
    return cast("Store | None", current_app.extensions["jaki_cds_store"])


def answer(value: object, status: int = 200) -> Response:
    """``value`` as a JSON answer."""
    return Response(write_json(value), status, content_type="application/json")


def make_routes() -> Blueprint:
    """All addresses. Services have one rule each, so that an unknown id is 404 for every method.

    A tester who types the base address with a slash at its end makes clients ask for
    ``/cds-services//<id>``; that is answered as well, since a browser does not redirect a preflight.
    """
    routes = Blueprint("cds", __name__)

    def add(rule: str, view: Callable[[], Response], endpoint: str, method: str) -> None:
        # OPTIONS never gets as far as the view: the application answers it for all addresses alike.
        routes.add_url_rule(
            rule, endpoint, view, methods=[method, "OPTIONS"], provide_automatic_options=False
        )

    add("/cds-services", _discovery, "discovery", "GET")
    for service in SERVICES.values():
        call_hook, take_feedback = _hook_view(service), _feedback_view(service)
        for base in ("/cds-services/", "/cds-services//"):
            add(f"{base}{service.id}", call_hook, service.id, "POST")
            add(f"{base}{service.id}/feedback", take_feedback, f"{service.id}/feedback", "POST")
    add("/healthz", _healthz, "healthz", "GET")
    add("/readyz", _readyz, "readyz", "GET")
    add(METRICS, _metrics, "metrics", "GET")
    add("/openapi.json", _openapi, "openapi", "GET")
    add("/guideline", _guideline, "guideline", "GET")
    add("/guideline.css", guideline_style, "guideline-style", "GET")
    return routes


def _require_client(*paths: str) -> Client | None:
    """The client that calls; ``paths``: the addresses for which its token may be made out.

    Demo mode knows no clients and gives ``None``; outside it nothing is answered to a caller who has
    not shown who it is, and the refusal does not say what was wrong.
    """
    door = runtime().door
    if door is None:
        return None
    try:
        return door.enter(request.headers.get("Authorization"), paths)
    except TokenRefused as refusal:
        _log.warning("token refused", extra={"fields": {"why": refusal.why.name.lower()}})
        raise Unauthorised() from None
    except GuardUnavailable as fault:
        _log.error("store of used tokens unavailable", extra={"fields": {"fault": str(fault)}})
        raise Unavailable() from None


def _fetching_for(client: Client | None, call: HookCall) -> Runtime:
    """The runtime of this call, which fetches from the FHIR servers of its own client only.

    A server that is nobody's is left alone. One that is another client's is refused, since the call
    would then mix the patients of two sites.
    """
    shared = runtime()
    if client is None or shared.door is None:
        return shared
    if call.fhir_server is not None and not client.fhir.permits(call.fhir_server):
        if shared.door.is_anothers(client, call.fhir_server):
            raise Forbidden("The fhirServer is not one of this client's.")
        _log.warning("fhirServer not fetched from: not configured", extra={"fields": {"client": client.name}})
    return replace(shared, client=client.fhir)


def _name(client: Client | None) -> str:
    """The configured name of the client that calls; empty in demo mode, which knows none."""
    return "" if client is None else client.name


def _limit_rate(client: Client | None) -> None:
    """Each client by itself, as the token names it."""
    rates = cast("Rates | None", current_app.extensions["jaki_cds_rates"])
    if rates is not None:
        rates.check(_name(client))


def _discovery() -> Response:
    return answer(discovery(runtime().site_codes))


def _hook_view(service: Service) -> Callable[[], Response]:
    def call_hook() -> Response:
        here, shared = bare(g), runtime()
        here.exchange = exchange = Exchange(here.request_id, service.id, CALL)
        client = _require_client(f"/cds-services/{service.id}")
        exchange.client = _name(client)
        _limit_rate(client)
        settings = shared.settings
        call = read_call(service, read_body(bare(request), settings.max_body_bytes), settings)
        exchange.call = call
        answered = pipeline.respond(call, _fetching_for(client, call))
        days = shared.policy.repeat_overridden_after
        answered = without_overridden(answered, call, exchange.client, days, store())
        body = shaped(answered.body, settings.profile if client is None else client.profile)
        exchange.answer = answered if body is answered.body else replace(answered, body=body)
        cards = body["cards"]
        if isinstance(cards, list):
            here.cards = len(cards)
            metrics().count_cards(service.id, cards, exchange.client)
        return answer(body)

    return call_hook


def _feedback_view(service: Service) -> Callable[[], Response]:
    def take_feedback() -> Response:
        """Counts and keeps the outcomes. A card that is not known is no error: it may be older than the store."""
        g.exchange = exchange = Exchange(g.request_id, service.id, FEEDBACK)
        own = f"/cds-services/{service.id}"
        client = _require_client(f"{own}/feedback", own)
        exchange.client = _name(client)
        _limit_rate(client)
        exchange.feedback = check_feedback(read_body(request, runtime().settings.max_body_bytes))
        for item in exchange.feedback:
            metrics().count_feedback(service.id, item["outcome"])
        return answer({})

    return take_feedback


def _healthz() -> Response:
    """The process answers; nothing else is looked at."""
    return answer({"status": "ok"})


def _readyz() -> Response:
    """The store takes entries and knows used tokens; a worker that runs has loaded its tables."""
    kept, door = store(), runtime().door
    if kept is not None and not kept.is_ready():
        raise Unavailable("The store of the records cannot be reached, or entries wait in its spool.")
    if door is not None and door.clients:
        try:
            door.guard.check()
        except GuardUnavailable:
            raise Unavailable() from None
    return answer({"status": "ready"})


def _openapi() -> Response:
    return answer(document())


def _guideline() -> Response:
    settings = runtime().settings
    return guideline_page(runtime().tables, request.args.get("q", ""), demo=settings.demo)


def _metrics() -> Response:
    return Response(metrics().text(), content_type="text/plain; version=0.0.4; charset=utf-8")
