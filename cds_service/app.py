"""The Flask application: routes, and what holds for every answer (errors, headers, log line)."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, g, request
from flask.globals import request_ctx
from werkzeug.exceptions import BadRequest as HttpBadRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import MapAdapter

from cds_service import cors
from cds_service.bodies import RAW, take_rest
from cds_service.demo.own_server import OwnServer
from cds_service.demo.routes import make_demo_routes
from cds_service.errors import (
    BadRequest,
    InternalFault,
    Issue,
    Refusal,
    Unavailable,
    UnknownService,
    WrongMethod,
    operation_outcome,
)
from cds_service.logs import request_id
from cds_service.metrics import ENDPOINTS, OTHER, Metrics
from cds_service.rates import Rates
from cds_service.routes import METRICS, answer, bare, make_routes, metrics, runtime, store
from cds_service.runtime import Runtime, make_runtime
from cds_service.settings import Settings
from cds_service.store.recording import record
from cds_service.store.store import NotRecorded, Store
from cds_service.workbench.routes import make_workbench
from fhir_mappings.client import FhirClient

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    # A page of another site may use the answers where CORS allows it; same-site would forbid that.
    "Cross-Origin-Resource-Policy": "cross-origin",
}

_SECURITY = [(name.lower(), (name, value)) for name, value in SECURITY_HEADERS.items()]

_log = logging.getLogger("jaki_cds")


def create_app(settings: Settings, runtime: Runtime | None = None, store: Store | None = None) -> Flask:
    """The service as a WSGI application; ``runtime`` replaces the one made from ``settings`` (tests).

    Calls are recorded in ``store``; without one they are not.
    """
    app = Flask("cds_service", static_folder=None)
    made = runtime or make_runtime(settings)
    clients = [] if made.door is None else [client.name for client in made.door.clients.values()]
    counters = Metrics(clients) if store is None else Metrics(clients, store.spool.depth)
    if store is not None:
        store.on_report = lambda r: counters.count_report(r.client, r.statements, r.outcome, r.reason)
    for name, fhir in _fhir_clients(made):
        fhir.watch = partial(counters.tell_breakers, name)
    if made.door is not None:
        for client in made.door.clients.values():
            made.door.rings[client.iss].on_failure = partial(counters.count_key_failure, client.name)
    app.extensions["jaki_cds"] = replace(made, count_unknown=counters.count_unknown_codes)
    app.extensions["jaki_cds_metrics"] = counters
    app.extensions["jaki_cds_rates"] = None if settings.demo else Rates(settings.calls_per_second, clients)
    app.extensions["jaki_cds_store"] = store
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.after_request(_finish)
    app.wsgi_app = _secured(app.wsgi_app)  # type: ignore[method-assign, assignment]
    app.register_error_handler(Refusal, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(Exception, _fail)
    app.register_blueprint(make_routes())
    if settings.demo:
        app.register_blueprint(make_workbench())
        app.register_blueprint(make_demo_routes())
    return app


def _fhir_clients(made: Runtime) -> Iterator[tuple[str, FhirClient]]:
    """What fetches, by the name of the client for which it does; demo mode has one that is nobody's."""
    if isinstance(made.client, OwnServer):
        yield "", made.client.elsewhere
    if made.door is not None:
        yield from ((client.name, client.fhir) for client in made.door.clients.values())


def _secured(application: WSGIApplication) -> WSGIApplication:
    """Adds the headers of every answer where it leaves; werkzeug would check each of them each time."""

    def answer_call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            given = {name.lower() for name, _ in headers}  # a page for people has a policy of its own
            more = [header for lower, header in _SECURITY if lower not in given]
            return start_response(status, headers + more, exc_info)

        return application(environ, start)

    return answer_call


def _begin() -> Response | None:
    here = bare(g)
    here.start = time.perf_counter()
    here.request_id = str(uuid.uuid4())
    here.cards = None
    request_id.set(here.request_id)
    if request.path.startswith(METRICS):
        _hide_metrics()
    return _answer_options() if request.method == "OPTIONS" else None


def _hide_metrics() -> None:
    """Where they have a listener of their own, they are nowhere else (the port is the socket's, not the caller's)."""
    port = runtime().settings.metrics_port
    if port and request.environ["SERVER_PORT"] != str(port):
        raise UnknownService()


def _answer_options() -> Response | None:
    """Preflights get 204 without authentication, also of an unknown id: the call then gets a readable 404."""
    below = ("/cds-services/", "/demo/") if runtime().settings.demo else ("/cds-services/",)
    if cors.is_preflight(request) and f"{request.path}/".startswith(below):
        return Response(status=HTTPStatus.NO_CONTENT)
    if request.routing_exception is None:
        response = answer({})
        response.headers["Allow"] = ", ".join(sorted(_adapter().allowed_methods()))
        return response
    return None


def _adapter() -> MapAdapter:
    """The match of this request's address against the routes."""
    return cast("MapAdapter", request_ctx.url_adapter)


def _refuse(refusal: Refusal) -> Response:
    response = answer(refusal.outcome(), refusal.status)
    response.headers.extend(refusal.headers)
    return response


def _refuse_http(error: HTTPException) -> Response:
    """Werkzeug's own refusals, which would be HTML."""
    if isinstance(error, NotFound):
        return _redirect() or _refuse(UnknownService())
    if isinstance(error, MethodNotAllowed):
        return _refuse(WrongMethod(headers={"Allow": ", ".join(sorted(error.valid_methods or ()))}))
    if isinstance(error, HttpBadRequest):
        return _refuse(BadRequest())
    return _fail(error)


def _redirect() -> Response | None:
    """To the same address without the slash at its end, where there is one."""
    path = request.path.removesuffix("/")
    if path == request.path or not _adapter().allowed_methods(path):
        return None
    issue = Issue("The address has no slash at its end; see the Location header.")
    response = answer(operation_outcome("processing", [issue]), HTTPStatus.PERMANENT_REDIRECT)
    response.autocorrect_location_header = False
    response.headers["Location"] = request.root_path + path
    return response


def _fail(error: Exception) -> Response:
    """A fault of ours: a fixed text out, its type and place into the log, its message nowhere."""
    _log.error("failed", exc_info=error, extra={"fields": {"endpoint": _endpoint()}})
    return _refuse(InternalFault())


def _endpoint() -> str:
    """Which of the closed list of endpoints was asked for; the path itself is never logged."""
    name = (request.endpoint or OTHER).removeprefix("cds.")
    return name if name in ENDPOINTS else OTHER


def _record(response: Response, kept: Store) -> Response:
    """The answer leaves when its entry is safe. What cannot be recorded at all is not said, but in demo mode."""
    exchange = g.get("exchange")
    if exchange is None:
        return response
    exchange.raw = request.environ.get(RAW, b"")
    try:
        record(exchange, response.status_code, (time.perf_counter() - g.start) * 1000, kept)
    except NotRecorded:
        if kept.must_record:
            return _refuse(Unavailable())
    return response


def _finish(response: Response) -> Response:
    """What every answer gets, whatever became of the request."""
    here, asked = bare(g), bare(request)
    if (kept := store()) is not None:
        response = _record(response, kept)
    response.headers.add("X-Request-Id", here.request_id)
    cors.add_headers(asked, response, runtime().settings)
    take_rest(asked, response)

    seconds, endpoint, status = time.perf_counter() - here.start, _endpoint(), response.status_code
    metrics().count_request(endpoint, status, seconds)
    fields: dict[str, object] = {"endpoint": endpoint, "status": status, "ms": round(seconds * 1000, 1)}
    if here.cards is not None:
        fields["cards"] = here.cards
    _log.info("answered", extra={"fields": fields})
    request_id.set(None)
    return response
