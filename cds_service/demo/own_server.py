"""Fetching from our own ``/demo/fhir`` without the network.

A hook call that names this very service as its ``fhirServer`` would otherwise wait for threads of the same
process: with as many such calls as there are threads, every one of them waits for the others until its deadline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from urllib.parse import parse_qsl, urlsplit

from flask import current_app, has_request_context, request

from cds_service.demo.children import store
from cds_service.demo.search import KINDS, LARGEST_PAGE, BadSearch, search
from fhir_mappings.client import Fetched, FetchState, FhirClient

BASE = "/demo/fhir"
_LOOPBACK = ("127.0.0.1", "localhost")
_READ = re.compile(r"([A-Za-z]+)/([A-Za-z0-9.-]{1,64})")


class OwnServer:
    """A FHIR client that answers itself what is asked of this service's demo server, and fetches the rest."""

    def __init__(self, client: FhirClient) -> None:
        self.elsewhere = client

    def permits(self, base: str) -> bool:
        return self.elsewhere.permits(base)

    def fetch_all(
        self, base: str, token: str | None, queries: Mapping[str, str], *, deadline_ms: int | None = None
    ) -> dict[str, Fetched]:
        if not self.elsewhere.permits(base) or not is_own(base):
            return self.elsewhere.fetch_all(base, token, queries, deadline_ms=deadline_ms)
        today = current_app.extensions["jaki_cds"].today()
        return {key: _answer(base.rstrip("/"), query, today) for key, query in queries.items()}


def is_own(base: str) -> bool:
    """Whether a permitted base is the demo server of the service that answers this request."""
    if not has_request_context():
        return False
    parts = urlsplit(base)
    same_port = str(parts.port or 80) == request.environ.get("SERVER_PORT")
    return parts.hostname in _LOOPBACK and same_port and parts.path.rstrip("/") == BASE


def _answer(base: str, query: str, today: date) -> Fetched:
    """One read or search. All matches at once: nothing is saved by pages without a network."""
    relative = query.removeprefix(f"{base}/")
    kinds = store(today)
    if found := _READ.fullmatch(relative):
        resource = kinds.get(found[1], {}).get(found[2])
        if resource is None:
            return Fetched(FetchState.NOT_FOUND, why="the resource does not exist")
        return Fetched(FetchState.OK, resource)
    kind, _, parameters = relative.partition("?")
    if kind not in KINDS:
        return Fetched(FetchState.FAILED, why="the server answered with HTTP status 404")
    asked = [(n, v) for n, v in parse_qsl(parameters) if n not in ("_count", "_offset")]
    try:
        bundle = search(kinds.get(kind, {}).values(), kind, asked, base, page=LARGEST_PAGE)
    except BadSearch:
        return Fetched(FetchState.FAILED, why="the server answered with HTTP status 400")
    return Fetched(FetchState.OK, bundle)
