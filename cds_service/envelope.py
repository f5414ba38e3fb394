"""The hook request's envelope: checked against a schema, then one frozen value.

Only what every service needs is checked here (CDS Hooks 2.0, HTTP Request, and the context of each
hook). The resources inside are read later, one by one, so that a bad one costs only itself. ``null``
counts as absent, unknown members are ignored.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from cds_service.errors import BadRequest, Issue, TooLarge
from cds_service.services import Service
from cds_service.settings import Settings

EXTENSION = "org.jaki-cds"
AS_OF_FIELD = f'extension["{EXTENSION}"].asOf'
MAX_ISSUES = 10
MOST_REPORTS = 1000
"""Items of one feedback call: they are written in one transaction, for which all other calls wait."""
# Ages and windows are counted back from the evaluation date: a year near the end of the calendar has no past.
FIRST_YEAR, LAST_YEAR = 1900, 2200

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})")

_log = logging.getLogger("jaki_cds")


@dataclass(frozen=True, slots=True, repr=False)
class HookCall:
    """One checked hook call.

    ``context`` and ``prefetch`` are the request's own objects and must not be changed. ``as_of`` is
    set in demo mode only; ``None`` means the server's date. ``fhir_authorization`` is complete when it
    is there, and then ``fhir_server`` is there too.
    """

    service_id: str
    hook: str
    hook_instance: str
    patient_id: str
    user_id: str
    context: dict[str, object]
    prefetch: dict[str, object]
    fhir_server: str | None
    fhir_authorization: dict[str, object] | None
    as_of: date | None
    raw: dict[str, object]

    def __repr__(self) -> str:
        # Patient data and a token are inside: nothing of it may reach a log by way of a traceback.
        return f"<HookCall of {self.service_id}>"

    @property
    def selections(self) -> tuple[str, ...] | None:
        """References of the selected drafts; ``None`` where the request names none: all drafts count."""
        selections = self.context.get("selections")
        return None if selections is None else tuple(cast("list[str]", selections))


def read_call(service: Service, body: object, settings: Settings) -> HookCall:
    """The hook call in ``body``, the parsed JSON of a POST to ``service``.

    Raises:
        BadRequest: naming each faulty field with its cure, never its value.
    """
    if not isinstance(body, dict):
        raise BadRequest("The body is not a JSON object; send the hook request as one object.")
    request = _without_nulls(body)
    context = request.get("context")
    if isinstance(context, dict):
        request["context"] = context = _with_user(_without_nulls(context), request)
    authorization = request.get("fhirAuthorization")
    if isinstance(authorization, dict):
        request["fhirAuthorization"] = authorization = _without_nulls(authorization)

    issues = [] if _is_usual(request, service) else _issues(_envelope_validator(service.hook), request)
    issues += _of_one_patient(authorization, context)
    hook = request.get("hook")
    if isinstance(hook, str) and hook and hook != service.hook:
        issues.append(
            Issue(
                f'hook is not the one that this service answers. Send "{service.hook}" to {service.id}.',
                "hook",
            )
        )
    instance = request.get("hookInstance")
    if not settings.demo and isinstance(instance, str) and instance and not _UUID.fullmatch(instance):
        issues.append(
            Issue("hookInstance is not a UUID. Send a UUID, a new one for each call.", "hookInstance")
        )
    as_of = _as_of(request, settings, issues)
    if issues:
        raise BadRequest(issues[:MAX_ISSUES])

    context = cast("dict[str, Any]", context)
    return HookCall(
        service_id=service.id,
        hook=service.hook,
        hook_instance=cast("str", instance),
        patient_id=context["patientId"],
        user_id=context["userId"],
        context=context,
        prefetch=cast("dict[str, object]", request.get("prefetch", {})),
        fhir_server=cast("str | None", request.get("fhirServer")),
        fhir_authorization=cast("dict[str, object] | None", authorization),
        as_of=as_of,
        raw=body,
    )


_PATIENT_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9.\-]{1,64}")


def _is_usual(request: Mapping[str, object], service: Service) -> bool:
    """Whether a request has the plainest form that the schema allows; only other ones need the schema itself."""
    context, server = request.get("context"), request.get("fhirServer", "-")
    if not isinstance(context, dict) or "fhirAuthorization" in request:
        return False
    patient, selections = context.get("patientId"), context.get("selections", [])
    drafts = context.get(service.drafts_field) if service.drafts_field is not None else None
    return (
        all(_is_text(part) for part in (request.get("hook"), request.get("hookInstance"), server))
        and isinstance(request.get("prefetch", {}), dict)
        and _is_text(context.get("userId"))
        and isinstance(patient, str)
        and _PATIENT_ID.fullmatch(patient) is not None
        and isinstance(selections, list)
        and all(isinstance(selection, str) for selection in selections)
        and (
            service.drafts_field is None
            or (
                isinstance(drafts, dict)
                and drafts.get("resourceType") == "Bundle"
                and isinstance(drafts.get("entry", []), list)
            )
        )
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def check_feedback(body: object) -> list[dict[str, Any]]:
    """The items of a feedback call (CDS Hooks 2.0, Feedback), each with a known ``outcome``.

    Raises:
        BadRequest: naming each faulty field with its cure, never its value.
        TooLarge: more items than are written while others wait.
    """
    if not isinstance(body, dict):
        raise BadRequest('The body is not a JSON object; send {"feedback": [...]}.')
    feedback = _without_nulls(body)
    items = feedback.get("feedback")
    if isinstance(items, list):
        if len(items) > MOST_REPORTS:
            raise TooLarge(f"feedback has more than {MOST_REPORTS} items; send them in several calls.")
        feedback["feedback"] = items = [
            _without_nulls(item) if isinstance(item, dict) else item for item in items
        ]
        for item in items:
            if isinstance(item, dict) and isinstance(item.get("overrideReason"), dict):
                item["overrideReason"] = _without_nulls(item["overrideReason"])
    issues = _issues(_feedback_validator(), feedback)
    if issues:
        raise BadRequest(issues[:MAX_ISSUES])
    return cast("list[dict[str, Any]]", items)


def _without_nulls(members: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _with_user(context: dict[str, Any], request: Mapping[str, object]) -> dict[str, Any]:
    """Clients of the 2018 ballot name the user beside the context, not in it."""
    if "userId" not in context and isinstance(request.get("user"), str):
        return {**context, "userId": request["user"]}
    return context


def _of_one_patient(authorization: object, context: object) -> list[Issue]:
    """A token for another patient than the call's: whatever it would fetch is not this child's."""
    if not isinstance(authorization, dict) or not isinstance(context, dict):
        return []
    patient = authorization.get("patient")
    if not isinstance(patient, str) or patient.removeprefix("Patient/") == context.get("patientId"):
        return []
    field = "fhirAuthorization.patient"
    cure = "Send the token of the patient whose chart is open, or leave fhirAuthorization out."
    return [Issue(f"{field} is not the patient of context.patientId. {cure}", field)]


def _as_of(request: Mapping[str, object], settings: Settings, issues: list[Issue]) -> date | None:
    """The evaluation date that the request asks for; a fault of it is added to ``issues``."""
    extension = request.get("extension")
    ours = extension.get(EXTENSION) if isinstance(extension, dict) else None
    if not settings.demo:
        if isinstance(ours, dict) and "asOf" in ours:
            _log.warning("asOf ignored: the service is not in demo mode")
        return None
    if extension is not None and not isinstance(extension, dict):
        issues.append(Issue("extension is not an object. Send an object, or leave it out.", "extension"))
        return None
    if ours is None:
        return None
    if not isinstance(ours, dict):
        field = f'extension["{EXTENSION}"]'
        issues.append(Issue(f"{field} is not an object. Send an object, or leave it out.", field))
        return None
    if "asOf" not in ours:
        return None
    as_of = _calendar_date(ours["asOf"])
    if as_of is None:
        cure = f"Send a date between {FIRST_YEAR} and {LAST_YEAR} as YYYY-MM-DD, or leave it out."
        issues.append(Issue(f"{AS_OF_FIELD} is not a date of the calendar. {cure}", AS_OF_FIELD))
    return as_of


def _calendar_date(value: object) -> date | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return day if FIRST_YEAR <= day.year <= LAST_YEAR else None


_formats = FormatChecker(formats=())


@_formats.checks("date-time")
def _is_date_time(value: object) -> bool:
    """RFC 3339 with a time zone; anything but a string is another keyword's business."""
    if not isinstance(value, str):
        return True
    if not _DATE_TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


def _is_integer(_checker: object, value: object) -> bool:
    """Also ``300.0``, as JSON Schema has it (2020-12, validation, 6.1.1)."""
    whole = isinstance(value, int) or (isinstance(value, Decimal) and value == value.to_integral_value())
    return whole and not isinstance(value, bool)


def _is_number(_checker: object, value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer).redefine(
        "number", _is_number
    ),
)


def _schema(name: str) -> dict[str, Any]:
    return cast(
        "dict[str, Any]", json.loads(files("cds_service").joinpath("schema", name).read_text("utf-8"))
    )


@cache
def _envelope_validator(hook: str) -> Any:
    """The envelope's schema with the context of one hook in its place."""
    schema = _schema("envelope.schema.json")
    context = {"$ref": f"#/$defs/{hook}"}
    return _Validator({**schema, "properties": {**schema["properties"], "context": context}})


@cache
def _feedback_validator() -> Any:
    return _Validator(_schema("feedback.schema.json"), format_checker=_formats)


_FAULTS = {
    "type": "has the wrong type",
    "minLength": "is empty",
    "minItems": "is empty",
    "pattern": "is malformed",
    "format": "is malformed",
    "const": "has a value that is not allowed",
    "enum": "has a value that is not allowed",
    "minimum": "is too small",
    "anyOf": "is not a FHIR Bundle",
}


def _issues(validator: Any, body: Mapping[str, object]) -> list[Issue]:
    """Every fault as ``path fault. cure``; the texts come from the schema alone.

    The path holds only names of the schema and positions, since unknown members are never entered;
    jsonschema's own message is not used, as it quotes the value.
    """
    found: dict[str, Issue] = {}
    errors: Iterable[ValidationError] = validator.iter_errors(body)
    for error in errors:
        here = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        schema = cast("dict[str, Any]", error.schema)
        for name, fault, cure in _described(error, schema, validator):
            path = f"{here}.{name}" if name else here
            path = path.removeprefix(".")
            found.setdefault(path, Issue(f"{path} {fault}. {cure}".strip(), path))
    return [found[path] for path in sorted(found)]


def _described(error: ValidationError, schema: dict[str, Any], validator: Any) -> list[tuple[str, str, str]]:
    """The missing member's name ("" where the value itself is at fault), the fault and the cure."""
    keyword = str(error.validator)
    if keyword in ("required", "dependentRequired"):
        needed = cast("list[str]", error.validator_value) if keyword == "required" else ["fhirServer"]
        instance = cast("dict[str, object]", error.instance)
        return [
            (name, "is missing", _cure(schema["properties"].get(name, {}), validator))
            for name in needed
            if name not in instance
        ]
    return [("", _FAULTS[keyword], _cure(schema, validator))]


def _cure(schema: dict[str, Any], validator: Any) -> str:
    if "description" not in schema and "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        schema = validator.schema["$defs"][name]
    return str(schema.get("description", ""))
