"""One bad resource costs exactly itself; any valid resource of the prefetch types is digested."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from builders import SAVI, Json, bundle, cards, comparable, draft, findings, hook_request, post, prefetch_of
from fhir.resources.R4B import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fhir_mappings.prefetch import keys

CHILD = prefetch_of(conditions=[SAVI], birth="2012-05-14", weight="40", height="150")
DRAFT = draft("baricitinib", 4)
BUNDLES = tuple(name for name, value in CHILD.items() if value["resourceType"] == "Bundle")
few = settings(max_examples=settings.default.max_examples // 2, suppress_health_check=list(HealthCheck))

# Each stands among the entries of a Bundle and says nothing of this child that could be used.
BROKEN: list[Any] = [
    None,
    [],
    "text",
    {},
    {"resource": None},
    {"resource": []},
    {"resource": {}},
    {"resource": {"resourceType": 5}},
    {"resource": {"resourceType": "Observation"}},
    {"resource": {"resourceType": "Observation", "status": "final", "code": {"coding": [None, 5]}}},
    {
        "resource": {
            "resourceType": "Observation",
            "status": [],
            "code": {"coding": {"system": 1, "code": []}},
        }
    },
    {"resource": {"resourceType": "Slot", "id": "s"}},
]


def with_broken(data: Json, places: list[tuple[str, int, int]]) -> Json:
    found = copy.deepcopy(data)
    for name, index, kind in places:
        entries = found[name]["entry"]
        entries.insert(index % (len(entries) + 1), copy.deepcopy(BROKEN[kind]))
    return found


@cache
def usual() -> dict[str, Json]:
    return findings(cards(hook_request([DRAFT], CHILD)))


places = st.lists(
    st.tuples(st.sampled_from(BUNDLES), st.integers(0, 9), st.integers(0, len(BROKEN) - 1)),
    min_size=1,
    max_size=5,
)


@few
@given(places=places)
def test_a_broken_entry_costs_only_itself(places: list[tuple[str, int, int]]) -> None:
    """A finding is as it was, or it says that something could not be read; none that was there is lost."""
    found = findings(cards(hook_request([DRAFT], with_broken(CHILD, places))))
    assert set(usual()) <= set(found), places
    for name, finding in found.items():
        if finding != usual().get(name):
            assert {gap["reason"] for gap in finding["missing"]} & {"unreadable", "not-supplied"}, (
                name,
                places,
            )


HARMLESS = [
    number
    for number, entry in enumerate(BROKEN)
    if isinstance(entry, dict)
    and "resourceType" in (entry.get("resource") or {})
    and entry["resource"]["resourceType"] != 5
]


@few
@given(name=st.sampled_from(BUNDLES), index=st.integers(0, 9), kind=st.sampled_from(HARMLESS))
def test_an_entry_that_is_readable_as_nothing_of_ours_changes_nothing(
    name: str, index: int, kind: int
) -> None:
    if not CHILD[name]["entry"]:
        return  # an answer that holds only something else is none to our question
    found = cards(hook_request([DRAFT], with_broken(CHILD, [(name, index, kind)])))
    assert comparable(found) == comparable(cards(hook_request([DRAFT], CHILD)))


# --- any valid resource ---------------------------------------------------------------------------------------

TYPES = sorted({key.resource_type for key in keys()} | {"Medication", "DiagnosticReport"})
PRIMITIVES: Mapping[str, tuple[Any, ...]] = {
    "Boolean": (True, False),
    "Integer": (0, 1, 7, 500),
    "PositiveInt": (1, 2, 99),
    "UnsignedInt": (0, 2, 99),
    "Decimal": (0, 1, 12.5, 1000000),
    "Date": ("2024", "2024-05", "2024-05-06"),
    "DateTime": ("2024", "2024-05", "2024-05-06", "2026-05-06T07:08:09+10:00", "2026-05-06T07:08:09Z"),
    "Instant": ("2026-05-06T07:08:09Z", "2026-05-06T07:08:09.123+02:00"),
    "Time": ("08:00:00", "23:59:59"),
    "Base64Binary": ("YQ==",),
    "Uri": (
        "http://loinc.org",
        "http://snomed.info/sct",
        "urn:x",
        "http://unitsofmeasure.org",
        "http://www.whocc.no/atc",
    ),
    "Code": ("mg", "kg", "umol/L", "718-7", "29463-7", "711164003", "L04AF02", "d"),
    "Id": ("a1",),
}
SKIPPED = {
    "contained",
    "extension",
    "meta",
    "text",
    "fhir_comments",
    "implicitRules",
    "language",
    "resource_type",
}
DEEPEST = 5
NEEDED = ("code", "status", "subject", "patient", "vaccineCode", "system", "coding", "value", "unit")


def made(kind: str, chance: random.Random, depth: int = 0) -> Json:
    """A resource or element of this FHIR type, filled by chance: valid by type, whatever it says."""
    found: Json = {}
    taken: set[str] = set()
    fields = list(get_fhir_model_class(kind).model_fields.items())
    chance.shuffle(fields)
    for name, field in fields:
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        choice = extra.get("one_of_many")
        likely = 0.8 if name in NEEDED else 0.35 if depth == 0 else 0.2
        wanted = (
            extra.get("element_required") or extra.get("one_of_many_required") or chance.random() < likely
        )
        if name in SKIPPED or name.endswith("__ext") or not wanted or choice in taken or depth > DEEPEST:
            continue
        value = _value(str(field.annotation), extra, chance, depth)
        if value is not None:
            found[field.alias or name] = value
            if isinstance(choice, str):
                taken.add(choice)
    return found


def _value(annotation: str, extra: Mapping[str, Any], chance: random.Random, depth: int) -> Any:
    many = "List[" in annotation
    complex_type = re.search(r"abc\.(\w+)Type\b", annotation)
    if complex_type is not None:
        if complex_type[1] in ("Resource", "Extension", "Identifier", "Meta", "Narrative"):
            return None
        one = (
            _reference(chance) if complex_type[1] == "Reference" else made(complex_type[1], chance, depth + 1)
        )
        if not one:
            return None
    else:
        allowed = [value for value in extra.get("enum_values") or () if value != "+"]
        primitive = re.search(r"(\w+)\(\)", annotation)
        words = PRIMITIVES.get(primitive[1] if primitive else "", ("x", "baricitinib 2 mg", "negative"))
        one = chance.choice(allowed or words) if "bool" not in annotation else chance.random() < 0.5
    return [one] if many else one


def _reference(chance: random.Random) -> Json:
    return {
        "reference": chance.choice(
            ["Patient/p1", "Patient/p1", "#x", "Medication/m", "https://a.example/Patient/p2"]
        )
    }


PLAIN: Json = {
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
    "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "21"}]},
    "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AF02"}]},
    "subject": {"reference": "Patient/p1"},
    "patient": {"reference": "Patient/p1"},
    "occurrenceString": "long ago",
}
"""In the place of a needed element that came out broken."""


def valid(resource: Json) -> Json:
    """The resource without the members that break a rule between elements, so that the model accepts it."""
    for _ in range(6):
        try:
            get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        except ValidationError as fault:
            for error in fault.errors(include_input=False):
                name = str(error["loc"][0]) if error["loc"] else ""
                resource.pop(name, None)
                if name in PLAIN:
                    resource[name] = PLAIN[name]
        else:
            return resource
    raise AssertionError(f"no valid {resource.get('resourceType')} could be made; the generator is at fault")


@pytest.mark.parametrize("kind", TYPES)
def test_any_valid_resource_is_digested(kind: str) -> None:
    """Under any key, alone and as a draft; never an error of ours, never an answer without a card."""
    chance = random.Random(kind)
    for number in range(12):
        resource = valid({"resourceType": kind, **made(kind, chance), "id": f"r{number}"})
        name = next((key.name for key in keys() if key.resource_type == kind), "growth")
        data = CHILD | {name: bundle(resource) if kind != "Patient" else {**resource, "id": "p1"}}
        drafts = [DRAFT, {**resource, "id": "other"}] if kind != "Patient" else [DRAFT]
        response = post(hook_request(drafts, data))
        assert response.status_code == 200, (response.get_json(), resource)
        assert b"failed inside the service" not in response.data, resource
        assert response.get_json()["cards"], resource
