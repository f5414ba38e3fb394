"""The FHIR data of one call: what came with the prefetch, and what is missing fetched from ``fhirServer``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import msgspec

from cds_service.envelope import HookCall
from cds_service.runtime import Runtime
from fhir_mappings.client import Fetched, FetchState
from fhir_mappings.prefetch import Supply, keys, read_supply
from guideline.values import Reason

_PATIENT_TOKEN = "{{context.patientId}}"  # a placeholder of CDS Hooks  # nosec B105


def supplies_of(call: HookCall) -> dict[str, Supply]:
    """Every prefetch value as it came, ours judged against what its template asked for."""
    asked = {key.name: key.resource_type for key in keys()}
    return {name: read_supply(value, asked.get(name)) for name, value in call.prefetch.items()}


class Source:
    """The caller's FHIR server as far as one call may use it; what is fetched in several rounds shares one deadline."""

    def __init__(self, call: HookCall, runtime: Runtime) -> None:
        server, client = call.fhir_server, runtime.client
        usable = server is not None and client is not None and client.permits(server)
        self._client = client if usable else None
        self._call, self._site_codes = call, runtime.site_codes
        self._allowed_s = runtime.settings.fetch_deadline_ms / 1000
        self._end: float | None = None

    def complete(self, supplies: Mapping[str, Supply]) -> dict[str, Supply]:
        """The supplies with every missing key, and the rest of every broken-off page, fetched in one go."""
        found = dict(supplies)
        if self._client is None:
            return found
        # Nothing can be said without the Patient, so an empty or failed key of it is asked for again.
        has_patient = any(
            r.get("resourceType") == "Patient" and r.get("id") == self._call.patient_id
            for supply in supplies.values()
            for r in supply.resources
        )
        queries = {
            key.name: key.template(self._site_codes).replace(_PATIENT_TOKEN, self._call.patient_id)
            for key in keys()
            if key.name not in supplies or (key.resource_type == "Patient" and not has_patient)
        }
        pages = {name: s.next_url for name, s in supplies.items() if s.next_url}
        fetched = self._fetch({**queries, **pages})
        asked = {key.name: key.resource_type for key in keys()}
        for name in queries:
            found[name] = _fetched(fetched[name], asked[name])
        for name in pages:
            found[name] = _continued(supplies[name], _fetched(fetched[name], asked.get(name), page=True))
        return found

    def references(self, references: Iterable[str]) -> dict[str, Supply]:
        """Resources that orders only refer to. Those that cannot be had are left out."""
        fetched = self._fetch({name: name for name in references})
        return {f"reference {name}": _fetched(result, None) for name, result in fetched.items()}

    def _fetch(self, queries: Mapping[str, str]) -> dict[str, Fetched]:
        server = self._call.fhir_server
        if not queries or self._client is None or server is None:
            return {}
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._allowed_s
        left_ms = max(0, int((self._end - now) * 1000))
        return self._client.fetch_all(server, _token(self._call), queries, deadline_ms=left_ms)


def _token(call: HookCall) -> str | None:
    if call.fhir_authorization is None:
        return None
    token = call.fhir_authorization.get("access_token")
    return token if isinstance(token, str) else None


def _continued(first: Supply, rest: Supply) -> Supply:
    """A broken-off page with the pages behind it."""
    gap = None if rest.gap is None else Reason.PARTIAL_PAGE
    return Supply((*first.resources, *rest.resources), gap, urls={**first.urls, **rest.urls})


def _fetched(result: Fetched, resource_type: str | None, *, page: bool = False) -> Supply:
    """A fetched key as a supply. A key that could not be fetched stays "not supplied" (contract section 2).

    ``page``: not the first of its search, so that its ``total`` counts what stands on the pages before it too.
    """
    if result.state is FetchState.OK:
        body = result.body
        if page and body is not None:
            body = {name: value for name, value in body.items() if name != "total"}
        supply = read_supply(body, resource_type)
        if result.partial and supply.gap is None:
            return msgspec.structs.replace(supply, gap=Reason.PARTIAL_PAGE)
        return supply
    if result.state is FetchState.NOT_FETCHABLE:
        return Supply((), Reason.NOT_SUPPLIED)
    return Supply((), Reason.FAILED if result.state is FetchState.FAILED else None)
