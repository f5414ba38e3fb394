"""``jaki-demo-drafts``: puts a drug into the draft that the public CDS Hooks sandbox does not have in its list.

A tester's tool, no guidance: it has a discovery document of its own below ``/demo`` (the four services of
``/cds-services`` stay as they are), so it is there only for whoever adds that address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from cards.model import Action, Suggestion
from cds_service.demo.children import drug_concept
from cds_service.envelope import HookCall
from cds_service.services import Service

SERVICE = Service(
    id="jaki-demo-drafts",
    hook="order-select",
    title="Tester's drafts (demo mode)",
    description="Offers to set the draft to tofacitinib oral solution, baricitinib or ruxolitinib.",
    usage_requirements="For trying the service with invented children only. It gives no advice.",
    drafts_field="draftOrders",
)
_OFFERED = {
    "tofacitinib oral solution": "tofacitinib",
    "baricitinib": "baricitinib",
    "ruxolitinib": "ruxolitinib",
}
_DRAFT_KEPT = ("id", "status", "intent", "subject", "authoredOn", "category", "reasonCode")


def discovery() -> dict[str, object]:
    """The body of ``GET /demo/cds-services``."""
    return {
        "services": [
            {
                "id": SERVICE.id,
                "hook": SERVICE.hook,
                "title": SERVICE.title,
                "description": SERVICE.description,
                "usageRequirements": SERVICE.usage_requirements,
            }
        ]
    }


def respond(call: HookCall) -> dict[str, object]:
    """One card with a suggestion for each drug; accepting one changes the drug of the first draft."""
    draft = _first_draft(call.context.get("draftOrders"))
    suggestions = [_suggestion(name, term, draft, call.patient_id) for name, term in _OFFERED.items()]
    card: dict[str, Any] = {
        "uuid": str(uuid4()),
        "summary": "Demo: set the drafted drug",
        "indicator": "info",
        "detail": "For testers. Choose a drug that is not in the list; the dose stays to be filled in.",
        "source": {
            "label": "jaki-cds demo",
            "topic": {"system": "urn:jaki-cds:demo", "code": "drafts", "display": "Tester's drafts"},
        },
        "suggestions": [suggestion.as_json() for suggestion in suggestions],
        "selectionBehavior": "at-most-one",
    }
    return {"cards": [card]}


def _first_draft(bundle: object) -> Mapping[str, Any] | None:
    entries = bundle.get("entry") if isinstance(bundle, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping) and resource.get("resourceType") == "MedicationRequest":
            return resource
    return None


def _suggestion(name: str, term: str, draft: Mapping[str, Any] | None, patient_id: str) -> Suggestion:
    """An update of the draft there is, else a new one. The old drug's dose does not go with the new drug."""
    resource: dict[str, Any] = {
        "resourceType": "MedicationRequest",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{patient_id}"},
        **{member: draft[member] for member in _DRAFT_KEPT if draft is not None and member in draft},
        "medicationCodeableConcept": drug_concept(term),
    }
    kind = "create" if draft is None else "update"
    action = Action(kind, f"Sets the drafted drug to {name}.", resource)
    return Suggestion(f"Draft {name}", str(uuid4()), False, (action,))
