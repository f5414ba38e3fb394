"""One resource through fhir.resources, with what is harmlessly wrong pruned: a bad resource costs only itself.

The models refuse a whole resource for one unknown member, so members outside the essential set of the type are
removed and tried again; a fault inside the essential set makes the resource unreadable. Messages of the library
quote the input, so they go nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir.resources.R4B.allergyintolerance import AllergyIntolerance
from fhir.resources.R4B.condition import Condition
from fhir.resources.R4B.medicationrequest import MedicationRequest
from fhir.resources.R4B.medicationstatement import MedicationStatement
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.patient import Patient
from fhir.resources.R4B.procedure import Procedure
from pydantic import ValidationError

_MODELS: Mapping[str, Any] = {
    "AllergyIntolerance": AllergyIntolerance,
    "Condition": Condition,
    "MedicationRequest": MedicationRequest,
    "MedicationStatement": MedicationStatement,
    "Observation": Observation,
    "Patient": Patient,
    "Procedure": Procedure,
}

_ESSENTIAL: Mapping[str, frozenset[str]] = {
    "Observation": frozenset(
        {
            "status",
            "code",
            "effectiveDateTime",
            "effectivePeriod",
            "effectiveInstant",
            "valueQuantity",
            "component",
            "modifierExtension",
        }
    ),
    "Patient": frozenset({"birthDate", "gender", "modifierExtension"}),
}
_ATTEMPTS = 5


def is_readable(resource: Mapping[str, Any]) -> bool:
    """Whether what this service reads of the resource is well-formed FHIR (R4B model)."""
    kind = resource.get("resourceType")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        return False
    essential = _ESSENTIAL.get(str(kind), frozenset())
    candidate = dict(resource)
    for _ in range(_ATTEMPTS):
        try:
            model.model_validate(candidate)
        except ValidationError as fault:
            faulty = {str(error["loc"][0]) for error in fault.errors(include_input=False) if error["loc"]}
            faulty = {name.removesuffix("__ext") for name in faulty}
            if not faulty or faulty & essential or not faulty & set(candidate):
                return False
            for name in faulty:
                candidate.pop(name, None)
                candidate.pop(f"_{name}", None)
        except (KeyError, RecursionError, TypeError, ValueError, AttributeError):
            return False
        else:
            return True
    return False
