"""The addresses of the workbench. They are registered in demo mode only; elsewhere they answer 404 like any other."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, current_app, render_template, request

from cds_service.bodies import read_body
from cds_service.envelope import read_call
from cds_service.errors import BadRequest, UnknownService
from cds_service.explain import assessments, explanation
from cds_service.json_reader import write_json
from cds_service.replay import UnusableInput, find_cases, read_case_file
from cds_service.runtime import Runtime
from cds_service.services import SERVICES
from cds_service.workbench.controls import conditions, jak_inhibitors, medicines, results
from cds_service.workbench.pictures import cited, pictures

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "samples"
"""The sample cases of the checkout; an installation without one has none, and the page says so."""
_FILES = {path.name: path for path in (HERE / "static").iterdir() if path.is_file()}
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'"
)


def make_workbench() -> Blueprint:
    """Page, static files, samples and the explanation of a posted request."""
    routes = Blueprint("workbench", __name__, template_folder="templates")
    routes.add_url_rule("/", "page", _page, methods=["GET"])
    routes.add_url_rule("/demo/static/<name>", "static", _static, methods=["GET"])
    routes.add_url_rule("/demo/samples/<name>", "sample", _sample, methods=["GET"])
    routes.add_url_rule("/demo/explain", "explain", _explain, methods=["POST"])
    return routes


def _runtime() -> Runtime:
    found = current_app.extensions["jaki_cds"]
    assert isinstance(found, Runtime)
    return found


def _page() -> Response:
    html = render_template(
        "workbench.html",
        samples=sample_list(SAMPLES),
        services={service.hook: service.id for service in SERVICES.values()},
        results=results(),
        conditions=conditions(),
        medicines=medicines(),
        drugs=jak_inhibitors(),
    )
    return Response(
        html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY}
    )


def sample_list(folder: Path) -> list[tuple[str, str]]:
    """(name, title) of every sample case; none where the folder is not there."""
    try:
        return [(case.name, read_case_file(case.request.parent).title) for case in find_cases([folder])]
    except UnusableInput:
        return []


def _static(name: str) -> Response:
    """One of the page's own files, whole each time: no 304 or 206, which the counters do not know."""
    if name not in _FILES:
        raise UnknownService("There is no such file.")
    return Response(_FILES[name].read_bytes(), content_type=_TYPES[_FILES[name].suffix])


def _sample(name: str) -> Response:
    """The request of one sample, as it is stored. The name is compared with the list, never joined to a path."""
    if name not in dict(sample_list(SAMPLES)):
        raise UnknownService("There is no sample of this name; choose one from the list of the page.")
    return Response((SAMPLES / name / "request.json").read_bytes(), content_type="application/json")


def _explain() -> Response:
    """What ``jaki-cds explain --json`` prints, the citation of each row, and what the pictures are drawn from."""
    runtime = _runtime()
    body = read_body(request, runtime.settings.max_body_bytes)
    hook = body.get("hook") if isinstance(body, dict) else None
    service = next((s for s in SERVICES.values() if s.hook == hook), None)
    if service is None:
        hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
        raise BadRequest(f"hook is none that the service answers; it answers {hooks}.")
    call = read_call(service, body, runtime.settings)
    case, orders = assessments(call, runtime)
    found = explanation(call, runtime, case, orders)
    cited(found, runtime.tables)
    found["pictures"] = pictures(case, runtime, orders)
    return Response(write_json(found), content_type="application/json")
