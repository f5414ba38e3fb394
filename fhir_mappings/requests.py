"""Tests to order, written as FHIR ServiceRequests (R4); nothing else is ever created."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from fhir.resources.R4B.servicerequest import ServiceRequest

from guideline.yaml_text import read_yaml


@cache
def _orders() -> Mapping[str, Mapping[str, str]]:
    loaded: Mapping[str, Mapping[str, str]] = read_yaml(Path(__file__).with_name("orders.yaml"))
    return loaded


def order_names() -> frozenset[str]:
    return frozenset(_orders())


@cache
def _template(name: str) -> tuple[str, Mapping[str, Any]]:
    """The words of one test and what all its ServiceRequests share, checked once against the R4B model."""
    entry = _orders()[name]
    code: dict[str, Any] = {"text": entry["text"]}
    if "code" in entry:
        code = {"coding": [{"system": entry["system"], "code": entry["code"]}], **code}
    resource = {"resourceType": "ServiceRequest", "status": "draft", "intent": "order", "code": code}
    ServiceRequest.model_validate({**resource, "subject": {"reference": "Patient/1"}})
    return entry["text"], resource


def service_request(name: str, patient_id: str, due: date | None) -> tuple[str, dict[str, Any]]:
    """The words of one test and its draft ServiceRequest. ``KeyError`` for a test that is not in the list."""
    words, template = _template(name)
    resource = {**template, "subject": {"reference": f"Patient/{patient_id}"}}
    if due is not None:
        resource["occurrenceDateTime"] = due.isoformat()
    return words, resource
