"""The addresses of the workbench. They are registered in demo mode only; elsewhere they answer 404 like any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from flask import Blueprint, Response, current_app, render_template, request

from cds_service.bodies import read_body
from cds_service.compare import EXTENSION
from cds_service.demo.children import load
from cds_service.envelope import HookCall, read_call
from cds_service.errors import BadRequest, UnknownService
from cds_service.explain import assessments, explanation
from cds_service.json_reader import read_json, write_json
from cds_service.pipeline import respond
from cds_service.profiles import shaped
from cds_service.replay import UnusableInput, find_cases, read_case_file
from cds_service.runtime import Runtime
from cds_service.sample_files import NAME, sample_files
from cds_service.services import SERVICES
from cds_service.workbench.controls import conditions, jak_inhibitors, medicines, results
from cds_service.workbench.pictures import cited, pictures

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "samples"
"""The sample cases of the checkout; an installation without one has none, and the page says so."""
FIRST = (
    "tofa-dose-03-adult-dose",
    "tofa-init-neutrophils-1.1",
    "tofa-band-crossed",
    "bari-ifn-02-savi",
    "view-bari-egfr-38",
    "tofa-weight-implausible",
    "tofa-bloods-failed",
    "prescribe-stu3",
)
"""Samples that the empty page offers: a wrong dose, a bar, a renewal, an eGFR, a chart, odd and missing data."""
WORDS = {
    "order-select": "Choosing a drug (order-select)",
    "order-sign": "Signing an order (order-sign)",
    "patient-view": "Opening a chart (patient-view)",
    "medication-prescribe": "CDS Hooks 1.0 (medication-prescribe)",
}
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
    routes.add_url_rule("/demo/sample", "save", _save, methods=["POST"])
    return routes


def _runtime() -> Runtime:
    found = current_app.extensions["jaki_cds"]
    assert isinstance(found, Runtime)
    return found


def _page() -> Response:
    samples = sample_list(SAMPLES)
    html = render_template(
        "workbench.html",
        samples=[
            (WORDS[s.hook], [each for each in samples if each.hook == s.hook]) for s in SERVICES.values()
        ],
        first=[each for name in FIRST for each in samples if each.name == name],
        services={service.hook: service.id for service in SERVICES.values()},
        children=load(),
        results=results(),
        conditions=conditions(),
        medicines=medicines(),
        drugs=jak_inhibitors(),
    )
    return Response(
        html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY}
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample case for the list of the page."""

    name: str
    hook: str
    title: str
    intent: str


@cache
def sample_list(folder: Path) -> tuple[Sample, ...]:
    """Every sample case; none where the folder is not there. Read once: a new sample shows after a restart."""
    found = []
    try:
        for case in find_cases([folder]):
            about = read_case_file(case.request.parent)
            found.append(Sample(case.name, about.hook, about.title, about.intent))
    except UnusableInput:
        return ()
    return tuple(found)


def _static(name: str) -> Response:
    """One of the page's own files, whole each time: no 304 or 206, which the counters do not know."""
    if name not in _FILES:
        raise UnknownService("There is no such file.")
    return Response(_FILES[name].read_bytes(), content_type=_TYPES[_FILES[name].suffix])


def _sample(name: str) -> Response:
    """The request of one sample, as it is stored. The name is compared with the list, never joined to a path."""
    if name not in {each.name for each in sample_list(SAMPLES)}:
        raise UnknownService("There is no sample of this name; choose one from the list of the page.")
    return Response((SAMPLES / name / "request.json").read_bytes(), content_type="application/json")


def _posted() -> HookCall:
    """The hook call in the body, whatever its hook is."""
    settings = _runtime().settings
    body = read_body(request, settings.max_body_bytes)
    hook = body.get("hook") if isinstance(body, dict) else None
    service = next((s for s in SERVICES.values() if s.hook == hook), None)
    if service is None:
        hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
        raise BadRequest(f"hook is none that the service answers; it answers {hooks}.")
    return read_call(service, body, settings)


def _explain() -> Response:
    """What ``jaki-cds explain --json`` prints, the citation of each row, and what the pictures are drawn from."""
    runtime, call = _runtime(), _posted()
    case, orders = assessments(call, runtime)
    found = explanation(call, runtime, case, orders)
    cited(found, runtime.tables)
    found["pictures"] = pictures(case, runtime, orders)
    return Response(write_json(found), content_type="application/json")


def _save() -> Response:
    """The posted request with its answer as a sample case: a zip with the folder ``?name=``.

    A request that does not say its date gets that of the service, since the answer depends on it.
    """
    runtime, call = _runtime(), _posted()
    name = request.args.get("name", "")
    if not NAME.fullmatch(name):
        raise BadRequest("name is not made of small letters, digits, hyphens and full stops; write it so.")
    on = call.as_of or runtime.today()
    extension = call.raw.get("extension")
    others = extension if isinstance(extension, dict) else {}
    dated = {**call.raw, "extension": {**others, EXTENSION: {"asOf": on.isoformat()}}}
    answered = shaped(respond(replace(call, as_of=on), runtime).body, runtime.settings.profile)
    answer = read_json(write_json(answered))  # as a client sees it
    assert isinstance(answer, dict)
    held = BytesIO()
    with ZipFile(held, "w", ZIP_DEFLATED) as packed:
        for file, content in sample_files(dated, answer, request.args.get("title")).items():
            packed.writestr(ZipInfo(f"{name}/{file}", (on.year, on.month, on.day, 0, 0, 0)), content)
    return Response(
        held.getvalue(),
        content_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="{name}.zip"'},
    )
