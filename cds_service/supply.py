"""The FHIR data of one call: what came with the prefetch, and what is missing fetched from ``fhirServer``."""

from __future__ import annotations

from collections.abc import Mapping

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


def complete(call: HookCall, runtime: Runtime, supplies: Mapping[str, Supply]) -> dict[str, Supply]:
    """The supplies with every missing key, and the rest of every broken-off page, fetched in one go."""
    found = dict(supplies)
    server = call.fhir_server
    if server is None or runtime.client is None or not runtime.client.permits(server):
        return found
    # Nothing can be said without the Patient, so an empty or failed key of it is asked for again.
    has_patient = any(
        r.get("resourceType") == "Patient" and r.get("id") == call.patient_id
        for supply in supplies.values()
        for r in supply.resources
    )
    queries = {
        key.name: key.template(runtime.site_codes).replace(_PATIENT_TOKEN, call.patient_id)
        for key in keys()
        if key.name not in supplies or (key.resource_type == "Patient" and not has_patient)
    }
    pages = {name: s.next_url for name, s in supplies.items() if s.next_url}
    fetched = runtime.client.fetch_all(server, _token(call), {**queries, **pages})
    for key in keys():
        if key.name in queries:
            found[key.name] = _fetched(fetched[key.name], key.resource_type)
    asked = {key.name: key.resource_type for key in keys()}
    for name in pages:
        rest = _fetched(fetched[name], asked.get(name))
        gap = None if rest.gap is None else Reason.PARTIAL_PAGE
        found[name] = Supply((*supplies[name].resources, *rest.resources), gap)
    return found


def fetch_references(call: HookCall, runtime: Runtime, references: tuple[str, ...]) -> dict[str, Supply]:
    """Resources that a draft only refers to, read from ``fhirServer`` where that is allowed."""
    server = call.fhir_server
    if not references or server is None or runtime.client is None or not runtime.client.permits(server):
        return {}
    fetched = runtime.client.fetch_all(server, _token(call), {name: name for name in references})
    return {f"reference {name}": _fetched(result, None) for name, result in fetched.items()}


def _token(call: HookCall) -> str | None:
    if call.fhir_authorization is None:
        return None
    token = call.fhir_authorization.get("access_token")
    return token if isinstance(token, str) else None


def _fetched(result: Fetched, resource_type: str | None) -> Supply:
    """A fetched key as a supply. A key that could not be fetched stays "not supplied" (contract section 2)."""
    if result.state is FetchState.OK:
        supply = read_supply(result.body, resource_type)
        if result.partial and supply.gap is None:
            return Supply(supply.resources, Reason.PARTIAL_PAGE)
        return supply
    if result.state is FetchState.NOT_FETCHABLE:
        return Supply((), Reason.NOT_SUPPLIED)
    return Supply((), Reason.FAILED if result.state is FetchState.FAILED else None)
