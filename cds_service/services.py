"""The four services that discovery declares. Ids and hooks are public contract; never rename one."""

from __future__ import annotations

from dataclasses import dataclass

from fhir_mappings.prefetch import templates
from fhir_mappings.site_codes import NO_SITE_CODES, SiteCodes

_UNREVIEWED = (
    "No clinician has reviewed the content yet: it was taken from the published text of the guideline. "
    "It informs the prescriber; it does not decide."
)


@dataclass(frozen=True, slots=True)
class Service:
    """One entry of the discovery document (CDS Hooks 2.0, Discovery).

    ``drafts_field`` is the context field that holds the hook's drafts; ``None`` where it has none.
    """

    id: str
    hook: str
    title: str
    description: str
    usage_requirements: str
    drafts_field: str | None


SERVICES: dict[str, Service] = {
    service.id: service
    for service in (
        Service(
            id="jaki-medication-prescribe",
            hook="medication-prescribe",
            title="JAK inhibitor dose for a child (medication-prescribe)",
            description=(
                "Compares a drafted JAK inhibitor with the dose, the precautions and the baseline tests of "
                "the SPARN guideline. For clients of CDS Hooks 1.0; others use order-select and order-sign."
            ),
            usage_requirements=_UNREVIEWED,
            drafts_field="medications",
        ),
        Service(
            id="jaki-order-select",
            hook="order-select",
            title="JAK inhibitor dose for a child",
            description=(
                "When a JAK inhibitor is selected: the SPARN guideline's dose for this child, its "
                "precautions and the baseline tests that are still lacking."
            ),
            usage_requirements=_UNREVIEWED,
            drafts_field="draftOrders",
        ),
        Service(
            id="jaki-order-sign",
            hook="order-sign",
            title="JAK inhibitor dose for a child, before signing",
            description=(
                "Before an order for a JAK inhibitor is signed: compares the drafted dose with the SPARN "
                "guideline's and names what is missing."
            ),
            usage_requirements=_UNREVIEWED,
            drafts_field="draftOrders",
        ),
        Service(
            id="jaki-patient-view",
            hook="patient-view",
            title="Monitoring of a child on a JAK inhibitor",
            description=(
                "When the chart of a child on a JAK inhibitor is opened: the monitoring that the SPARN "
                "guideline asks for and that is due, and results that call for action."
            ),
            usage_requirements=_UNREVIEWED,
            drafts_field=None,
        ),
    )
}


def discovery(site_codes: SiteCodes = NO_SITE_CODES) -> dict[str, object]:
    """The body of ``GET /cds-services``. Empty members are left out, as CDS Hooks demands."""
    prefetch = templates(site_codes)
    return {"services": [_entry(service, prefetch) for service in SERVICES.values()]}


def _entry(service: Service, prefetch: dict[str, str]) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": service.id,
        "hook": service.hook,
        "title": service.title,
        "description": service.description,
        "usageRequirements": service.usage_requirements,
    }
    entry["prefetch"] = prefetch
    return entry
