"""One Observation through fhir.resources, with what is harmlessly wrong pruned: a bad resource costs only itself.

The model refuses a whole resource for one unknown member, so members outside the essential set are
removed and tried again; a fault inside the essential set makes the resource unreadable. Messages of the library
quote the input, so they go nowhere.

A laboratory's usual result - a code, a day or moment, a number with its unit - is recognised as well-formed
without the model, which would take fifty times as long. Whatever is not quite usual is left to the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from fhir.resources.R4B.observation import Observation
from pydantic import ValidationError

_ESSENTIAL = frozenset(
    {
        *("status", "code", "effectiveDateTime", "effectivePeriod", "effectiveInstant"),
        *("valueQuantity", "component", "modifierExtension"),
    }
)
"""A fault in one of these makes the Observation unreadable."""
_ATTEMPTS = 5

_UNREAD = frozenset(
    {
        *("id", "meta", "identifier", "basedOn", "partOf", "category", "subject", "focus", "encounter"),
        *("issued", "performer", "interpretation", "note", "bodySite", "method", "specimen", "device"),
        *("referenceRange", "hasMember", "derivedFrom", "text", "language"),
    }
)
"""Members of an Observation that are pruned where they are faulty: their content decides nothing here."""
_USUAL_STATUS = frozenset({"final", "amended", "corrected"})
_CODING = frozenset({"system", "version", "code", "display", "userSelected"})
_QUANTITY = frozenset({"value", "comparator", "unit", "system", "code"})
_CODE = re.compile(r"[!-~]+(?: [!-~]+)*")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9]))?"
)


def is_readable(observation: Mapping[str, Any]) -> bool:
    """Whether what this service reads of the Observation is well-formed FHIR (R4B model)."""
    if _is_usual(observation):
        return True
    candidate = dict(observation)
    for _ in range(_ATTEMPTS):
        try:
            Observation.model_validate(candidate)
        except ValidationError as fault:
            faulty = {str(error["loc"][0]) for error in fault.errors(include_input=False) if error["loc"]}
            faulty = {name.removesuffix("__ext") for name in faulty}
            if not faulty or faulty & _ESSENTIAL or not faulty & set(candidate):
                return False
            for name in faulty:
                candidate.pop(name, None)
                candidate.pop(f"_{name}", None)
        except (KeyError, RecursionError, TypeError, ValueError, AttributeError):
            return False
        else:
            return True
    return False


def _is_usual(observation: Mapping[str, Any]) -> bool:
    """Whether an Observation is of the plainest shape, which the model accepts whatever the unread members hold."""
    for name, value in observation.items():
        usual = _USUAL.get(name)
        if usual is not None:
            if not usual(value):
                return False
        # The model refuses a whole resource for a null in a list, wherever that is.
        elif name not in _UNREAD or (isinstance(value, list) and None in value):
            return False
    return "status" in observation and "code" in observation


def _is_usual_status(value: object) -> bool:
    return isinstance(value, str) and value in _USUAL_STATUS


def _is_usual_concept(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"coding", "text"}:
        return False
    codings = value.get("coding", [])
    return (
        isinstance(codings, list)
        and all(map(_is_usual_coding, codings))
        and ("text" not in value or _is_words(value["text"]))
    )


def _is_usual_coding(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= _CODING
        and isinstance(value.get("system", ""), str)
        and _is_code(value.get("code", "-"))
        and _is_words(value.get("display", "-"))
        and _is_words(value.get("version", "-"))
        and isinstance(value.get("userSelected", False), bool)
    )


def _is_usual_quantity(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _QUANTITY:
        return False
    number = value.get("value", 0)
    return (
        (number.is_finite() if isinstance(number, Decimal) else type(number) is int)
        and isinstance(value.get("system", ""), str)
        and _is_words(value.get("unit", "-"))
        and _is_code(value.get("code", "-"))
        and _is_code(value.get("comparator", "<"))
    )


def _is_moment(value: object) -> bool:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return False
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def _is_words(value: object) -> bool:
    return isinstance(value, str) and not value.isspace() and value != ""


def _is_code(value: object) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


_USUAL: Mapping[str, Callable[[object], bool]] = {
    "resourceType": lambda value: value == "Observation",
    "status": _is_usual_status,
    "code": _is_usual_concept,
    "effectiveDateTime": _is_moment,
    "valueQuantity": _is_usual_quantity,
}
