"""The invented children: one YAML file each, dates in days before today, turned into FHIR R4 resources on demand.

``terms.yaml`` says which code each short name stands for. A file that cannot be used stops the start of a
service in demo mode (``load`` is called then) with the file and the name at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from guideline.yaml_text import read_yaml

Resource = dict[str, Any]
_HERE = Path(__file__).parent
_UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem"
PRACTITIONER_ID = "COREPRACTITIONER1"
"""The user that the public CDS Hooks sandbox always names."""


class UnusableChild(ValueError):
    """A child's file that cannot be used; the text says file, place and cure."""


@dataclass(frozen=True, slots=True)
class Child:
    """One invented child. ``drug`` is what a tester drafts (a name of ``terms.yaml``), ``shows`` what comes of it."""

    id: str
    label: str
    description: str
    drug: str
    shows: tuple[str, ...]
    file: Mapping[str, Any]


@cache
def load() -> tuple[Child, ...]:
    """All children in the order of their ids; raises ``UnusableChild``."""
    return tuple(read_child(path) for path in sorted((_HERE / "children").glob("*.yaml")))


def read_child(path: Path) -> Child:
    """One child's file, every resource tried once; the file's name is the id.

    Raises:
        UnusableChild: a member is missing, or a name or value is not one that can be used.
    """
    file = read_yaml(path)
    try:
        child = Child(path.stem, file["label"], file["description"], file["drug"], tuple(file["shows"]), file)
        drug_concept(child.drug)
        list(_resources(child, date(2026, 1, 1)))
    except (KeyError, TypeError, AttributeError) as fault:
        raise UnusableChild(
            f"{path.name}: {fault} is missing, misspelt or not in terms.yaml; correct it there."
        ) from None
    except (ValueError, ArithmeticError):
        raise UnusableChild(
            f"{path.name}: a number or a day cannot be read; write days before today as whole numbers (-7)."
        ) from None
    return child


@lru_cache(maxsize=2)
def store(today: date) -> dict[str, dict[str, Resource]]:
    """Every resource as of ``today``: type -> id -> resource, the newest of a kind first."""
    found: dict[str, dict[str, Resource]] = {"Practitioner": {PRACTITIONER_ID: _practitioner()}}
    for child in load():
        for resource in _resources(child, today):
            found.setdefault(resource["resourceType"], {})[resource["id"]] = resource
    return found


def drug_concept(name: str) -> Resource:
    """The medication of ``terms.yaml`` as a CodeableConcept."""
    return _concept(_terms()["medicines"][name])


@cache
def _terms() -> Any:
    return read_yaml(_HERE / "terms.yaml")


def _practitioner() -> Resource:
    name = {"family": "Demo", "given": ["Prescriber"]}
    return {"resourceType": "Practitioner", "id": PRACTITIONER_ID, "active": True, "name": [name]}


# --- from the file to resources -------------------------------------------------------------------


def _resources(child: Child, today: date) -> Iterator[Resource]:
    yield _patient(child, today)
    yield from _conditions(child, today)
    yield from _observations(child, today)
    for number, entry in enumerate(child.file.get("orders", ())):
        yield _order(child, f"order-{number}", entry, today)
    for number, entry in enumerate(child.file.get("medicines", ())):
        yield _order(child, f"medicine-{number}", entry, today)
    for name, days in child.file.get("vaccines", {}).items():
        yield {
            "resourceType": "Immunization",
            "id": f"{child.id}-{name}",
            "status": "completed",
            "vaccineCode": _concept(_terms()["vaccines"][name]),
            "patient": _of(child),
            "occurrenceDateTime": _day(today, days),
        }


def _patient(child: Child, today: date) -> Resource:
    family, _, given = child.file["name"].partition(" ")
    return {
        "resourceType": "Patient",
        "id": child.id,
        "active": True,
        "name": [{"use": "official", "family": family, "given": [given]}],
        "gender": child.file["sex"],
        "birthDate": _day(today, child.file["born"]),
    }


def _conditions(child: Child, today: date) -> Iterator[Resource]:
    for name, days in child.file.get("conditions", {}).items():
        yield {
            "resourceType": "Condition",
            "id": f"{child.id}-{name}",
            "clinicalStatus": _status("condition-clinical", "active"),
            "verificationStatus": _status("condition-ver-status", "confirmed"),
            "category": [_status("condition-category", "problem-list-item")],
            "code": _concept(_terms()["conditions"][name]),
            "subject": _of(child),
            "onsetDateTime": _day(today, days),
            "recordedDate": _day(today, days),
        }


def _observations(child: Child, today: date) -> Iterator[Resource]:
    series: dict[str, dict[str, str]] = {}
    for visit, days in enumerate(child.file.get("bloods", ())):
        for fact, values in _terms()["healthy"].items():
            series.setdefault(fact, {})[days] = values[visit % len(values)]
    # What the child's file names itself replaces the healthy row of that result altogether.
    for fact, results in {**series, **child.file.get("results", {})}.items():
        for days in sorted(results, key=int, reverse=True):
            yield _measured(child, fact, days, results[days], today)
    for name, results in child.file.get("answers", {}).items():
        for days, meaning in results.items():
            yield {
                **_observation(child, name, _terms()["answers"][name], "laboratory", days, today),
                "valueCodeableConcept": _concept(_terms()["meanings"][meaning]),
            }


def _measured(child: Child, fact: str, days: str, value: str, today: date) -> Resource:
    term = _terms()["results"][fact]
    found = _observation(child, fact, term, term["category"], days, today)
    found["valueQuantity"] = _quantity(value, term["unit"])
    if "high" in term:
        low, high = _quantity(term["low"], term["unit"]), _quantity(term["high"], term["unit"])
        found["referenceRange"] = [{"low": low, "high": high}]
    return found


def _observation(
    child: Child, name: str, term: Mapping[str, str], category: str, days: str, today: date
) -> Resource:
    return {
        "resourceType": "Observation",
        # Ids stay the same from day to day: they count back from today as the file does.
        "id": f"{child.id}-{name}{days}",
        "status": "final",
        "category": [_status("observation-category", category)],
        "code": _concept(term),
        "subject": _of(child),
        "effectiveDateTime": _day(today, days),
    }


def _order(child: Child, name: str, entry: Mapping[str, Any], today: date) -> Resource:
    """A recorded order; with ``ended`` a completed one. ``every``: ``wk`` or ``2wk``, else days."""
    number, unit = entry.get("every", "d")[:-2] or "1", entry.get("every", "d")[-2:]
    repeat: Resource = {
        "frequency": int(entry.get("times", "1")),
        "period": int(number),
        "periodUnit": unit,
        "boundsPeriod": {"start": _day(today, entry["started"])},
    }
    if "ended" in entry:
        repeat["boundsPeriod"]["end"] = _day(today, entry["ended"])
    return {
        "resourceType": "MedicationRequest",
        "id": f"{child.id}-{name}",
        "status": "completed" if "ended" in entry else "active",
        "intent": "order",
        "category": [_status("medicationrequest-category", "community")],
        "medicationCodeableConcept": drug_concept(entry["medicine"]),
        "subject": _of(child),
        "authoredOn": _day(today, entry["started"]),
        "dosageInstruction": [
            {
                "timing": {"repeat": repeat},
                "doseAndRate": [{"doseQuantity": _quantity(entry["mg"], "mg")}],
            }
        ],
    }


def _day(today: date, days: str) -> str:
    return (today + timedelta(days=int(days))).isoformat()


def _of(child: Child) -> Resource:
    return {"reference": f"Patient/{child.id}"}


def _quantity(value: str, unit: str) -> Resource:
    return {"value": Decimal(value), "unit": unit, "system": _UCUM, "code": unit}


def _status(system: str, code: str) -> Resource:
    return {"coding": [{"system": f"{_HL7}/{system}", "code": code}]}


def _concept(term: Mapping[str, str]) -> Resource:
    coding = {"system": term["system"], "code": term["code"], "display": term["text"]}
    return {"coding": [coding], "text": term["text"]}
