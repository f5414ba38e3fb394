"""An entry as a FHIR R4 AuditEvent (http://hl7.org/fhir/R4/auditevent.html), with pseudonyms for persons."""

from __future__ import annotations

from typing import Any

from cds_service.store.chain import PRUNE, Link

Json = dict[str, Any]

PSEUDONYM = "urn:jaki-cds:pseudonym"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_SUBTYPES = "urn:jaki-cds:audit"
_ENTITY_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_CLIENT_FAULT, _SERVER_FAULT = 400, 500


def audit_event(link: Link, body: Json) -> Json:
    event: Json = {
        "resourceType": "AuditEvent",
        "id": link.id,
        "type": {"system": _TYPES, "code": "rest", "display": "RESTful Operation"},
        "subtype": [{"system": _SUBTYPES, "code": link.kind}],
        "action": "D" if link.kind == PRUNE else "E",
        "recorded": link.at,
        "outcome": _outcome(body),
        "agent": _agents(body),
        "source": {"observer": {"display": "jaki-cds"}},
    }
    if entities := list(_entities(link, body)):
        event["entity"] = entities
    return event


def _outcome(body: Json) -> str:
    """0 success, 4 the caller's fault, 8 ours."""
    status = body.get("status", 200)
    return "8" if status >= _SERVER_FAULT else "4" if status >= _CLIENT_FAULT else "0"


def _agents(body: Json) -> list[Json]:
    client = {"requestor": "user" not in body, "name": body.get("client") or "client without authentication"}
    if "user" not in body:
        return [client]
    user = {"requestor": True, "who": {"identifier": {"system": PSEUDONYM, "value": body["user"]}}}
    return [user, client]


def _entities(link: Link, body: Json) -> list[Json]:
    found: list[Json] = []
    if "patient" in body:
        found.append(
            {
                "what": {"identifier": {"system": PSEUDONYM, "value": body["patient"]}},
                "type": {"system": _ENTITY_TYPES, "code": "1", "display": "Person"},
                "role": {"system": _ROLES, "code": "1", "display": "Patient"},
            }
        )
    details: dict[str, str] = {"entry": str(link.seq), "hash": link.hash}
    names = ("service", "status", "asOf", "knowledgeVersion")
    details |= {name: str(body[name]) for name in names if name in body}
    cards = [{"type": "card", "valueString": card["uuid"]} for card in body.get("cards", ())]
    told = [{"type": name, "valueString": value} for name, value in details.items()]
    found.append(
        {
            "type": {"system": _ENTITY_TYPES, "code": "2", "display": "System Object"},
            "description": "What the service was asked and answered",
            "detail": told + cards,
        }
    )
    return found
