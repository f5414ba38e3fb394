"""Resources of every shape that the FHIR models allow, made by chance: valid by type, whatever they say.

The models of ``fhir.resources`` (R4B, STU3, R5) are walked field by field. What real records hold beside plain values
is in: every kind of value[x], partial dates, extensions and modifier extensions at any depth, contained resources,
values that are absent with a reason, codes of our own tables beside strange ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from builders import Json
from fhir.resources import get_fhir_model_class as r5_model
from fhir.resources.R4B import get_fhir_model_class as r4b_model
from fhir.resources.STU3 import get_fhir_model_class as stu3_model
from pydantic import ValidationError

from fhir_mappings.concepts import index

MODELS: Mapping[str, Callable[[str], Any]] = {"R4": r4b_model, "STU3": stu3_model, "R5": r5_model}
WORDS = (
    "x",
    "baricitinib 2 mg",
    "Opzelura cream",
    "negative",
    "not detected",
    "12.5 g/dL",
    "<0.5",
    "\u00e9\u6f22",
    "a" * 300,
)
PRIMITIVES: Mapping[str, tuple[Any, ...]] = {
    "Boolean": (True, False),
    "Integer": (0, 1, 7, 500, -3),
    "Integer64": (0, 1),
    "PositiveInt": (1, 2, 99),
    "UnsignedInt": (0, 2, 99),
    "Decimal": (0, 1, 12.5, 1000000, -4, 0.0000001),
    "Date": ("2024", "2024-05", "2024-05-06", "0001-01-01", "9999-12-31", "2028-02-29"),
    "DateTime": (
        *("2024", "2024-05", "2024-05-06", "2026-05-06T07:08:09+10:00", "2026-05-06T07:08:09Z", "9999-12-31"),
        *("0001-01-01T00:00:00Z", "2026-06-01T23:59:59-12:00", "2026-06-02T00:30:00+14:00", "2026-05-20"),
    ),
    "Instant": ("2026-05-06T07:08:09Z", "2026-05-06T07:08:09.123456+02:00"),
    "Time": ("08:00:00", "23:59:59"),
    "Base64Binary": ("YQ==",),
    "Uri": (
        *(
            "http://loinc.org",
            "http://snomed.info/sct",
            "http://www.whocc.no/atc",
            "http://unitsofmeasure.org",
        ),
        *("urn:x", "http://hl7.org/fhir/sid/cvx", "http://www.nlm.nih.gov/research/umls/rxnorm"),
    ),
    "Code": ("mg", "kg", "umol/L", "10*9/L", "mg/kg", "d", "wk", "mL", "{tablet}", "nonsense"),
    "Id": ("a1",),
}
REFERENCES = (
    *("Patient/p1", "Patient/p1", "Patient/p1", "#x", "#", "Medication/m", "Condition/c0", "Group/1"),
    *(
        "https://a.example/fhir/Patient/p2",
        "urn:uuid:4c2c1a40-0000-4000-8000-000000000009",
        "Patient/p1/_history/2",
    ),
)
ABSENT = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
SKIPPED = {"fhir_comments", "resource_type", "meta", "text", "contained", "extension", "modifierExtension"}
NEEDED = (
    "code",
    "status",
    "subject",
    "patient",
    "vaccineCode",
    "system",
    "coding",
    "value",
    "unit",
    "medication",
)
DEEPEST = 5
_NAME = re.compile(r"abc\.(\w+)Type\b")
_PRIMITIVE = re.compile(r"(\w+)\(")


@cache
def known_codes() -> tuple[Json, ...]:
    """Every code of our own tables, as codings."""
    return tuple({"system": system, "code": code} for system, code in index().exact)


@cache
def choices(kind: str, version: str = "R4") -> tuple[tuple[str, str], ...]:
    """(value[x], member) for each form that a choice of this resource type may take: valueQuantity, valueString ..."""
    fields = MODELS[version](kind).model_fields.items()
    extras = ((name, field.json_schema_extra or {}) for name, field in fields)
    return tuple((str(extra["one_of_many"]), name) for name, extra in extras if "one_of_many" in extra)


class Shapes:
    """A source of resources of one FHIR version."""

    def __init__(self, version: str, seed: object) -> None:
        self.version, self.chance = version, random.Random(f"{version} {seed}")

    def resource(self, kind: str, id_: str, member: str | None = None) -> Json:
        """A valid resource; ``member`` is the one of its choices that it must have."""
        for _ in range(20):
            made = {"resourceType": kind, **self._made(kind, 0, member), "id": id_}
            if self.chance.random() < 0.2:
                made["contained"] = [{"resourceType": kind, **self._made(kind, 2), "id": "x"}]
            if self.chance.random() < 0.15:
                made["meta"] = {"versionId": "2", "lastUpdated": "2026-05-06T07:08:09Z"}
            made = self._valid(made)
            if member is None or member in made:
                return made
        raise AssertionError(f"no valid {kind} with {member} could be made; the generator is at fault")

    def _made(self, kind: str, depth: int, member: str | None = None) -> Json:
        found: Json = {}
        fields = list(MODELS[self.version](kind).model_fields.items())
        self.chance.shuffle(fields)
        taken = {choice for choice, name in choices(kind, self.version) if name == member}
        for name, field in fields:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            choice = extra.get("one_of_many")
            wanted = name == member or (choice not in taken and self._wants(name, extra, depth))
            if name in SKIPPED or name.endswith("__ext") or not wanted or depth > DEEPEST:
                continue
            value = self._value(str(field.annotation), extra, depth)
            if value is None:
                continue
            if isinstance(choice, str):
                taken.add(choice)
            alias = field.alias or name
            if f"{name}__ext" in dict(fields) and self.chance.random() < 0.05:
                found[f"_{alias}"] = {"extension": [ABSENT]}
                if name != member:
                    continue  # absent, and its reason
            found[alias] = value
        self._extend(found, dict(fields), depth)
        return found

    def _wants(self, name: str, extra: Mapping[str, Any], depth: int) -> bool:
        needed = extra.get("element_required") or extra.get("one_of_many_required")
        likely = 0.8 if name in NEEDED else 0.02 if name == "implicitRules" else 0.35 if depth == 0 else 0.2
        return bool(needed) or self.chance.random() < likely

    def _extend(self, found: Json, fields: Mapping[str, Any], depth: int) -> None:
        if "extension" in fields and self.chance.random() < 0.1:
            found["extension"] = [self._extension(depth)]
        if "modifierExtension" in fields and self.chance.random() < 0.03:
            found["modifierExtension"] = [self._extension(depth)]

    def _extension(self, depth: int) -> Json:
        if depth < DEEPEST and self.chance.random() < 0.3:
            return {"url": "http://example.org/outer", "extension": [self._extension(depth + 1)]}
        value = self.chance.choice(
            [{"valueBoolean": True}, {"valueString": "x"}, {"valueQuantity": {"value": 12, "unit": "kg"}}]
        )
        return {"url": "http://example.org/x", **value}

    def _value(self, annotation: str, extra: Mapping[str, Any], depth: int) -> Any:
        one: Any
        if (complex_type := _NAME.search(annotation)) is not None:
            if complex_type[1] in ("Resource", "Extension", "Meta", "Narrative"):
                return None
            one = self._complex(complex_type[1], depth)
            if not one:
                return None
        else:
            allowed = [value for value in extra.get("enum_values") or () if value != "+"]
            primitive = _PRIMITIVE.search(annotation)
            words = PRIMITIVES.get(primitive[1] if primitive else "", WORDS)
            one = self.chance.random() < 0.5 if "bool" in annotation else self.chance.choice(allowed or words)
        return [one] if "List[" in annotation else one

    def _complex(self, kind: str, depth: int) -> Json:
        if kind == "Reference":
            found: Json = {"reference": self.chance.choice(REFERENCES)}
            return found | ({"display": self.chance.choice(WORDS)} if self.chance.random() < 0.2 else {})
        if kind == "SampledData":
            every = {"interval": 10, "intervalUnit": "ms"} if self.version == "R5" else {"period": 10}
            return {"origin": {"value": 0}, "dimensions": 1, "data": "1 2 E", **every}
        if kind == "Coding" and self.chance.random() < 0.7:
            return dict(self.chance.choice(known_codes()))
        return self._made(kind, depth + 1)

    def _valid(self, resource: Json) -> Json:
        """The resource without the members that break a rule between elements, so that the model accepts it."""
        for _ in range(12):
            try:
                MODELS[self.version](resource["resourceType"]).model_validate(resource)
            except ValidationError as fault:
                for error in fault.errors(include_input=False):
                    # A choice of which none is there is a fault of no one element.
                    unsaid = _NEEDED_CHOICES.get(resource["resourceType"], "")
                    name = str(error["loc"][0]).removesuffix("__ext") if error["loc"] else unsaid
                    resource.pop(name, None)
                    resource.pop(f"_{name}", None)
                    plain = (
                        _PLAIN_R5.get(name, _PLAIN.get(name)) if self.version == "R5" else _PLAIN.get(name)
                    )
                    if plain is not None:
                        resource[name] = plain
            else:
                return resource
        raise AssertionError(f"no valid {resource['resourceType']} could be made; the generator is at fault")


_PLAIN: Json = {
    "status": "completed",
    "intent": "order",
    "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
    "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "21"}]},
    "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L04AF02"}]},
    "subject": {"reference": "Patient/p1"},
    "patient": {"reference": "Patient/p1"},
    "occurrenceString": "long ago",
}
"""In the place of a needed element that came out broken."""
_NEEDED_CHOICES = {
    "Immunization": "occurrenceString",
    "MedicationRequest": "medicationCodeableConcept",
    "MedicationStatement": "medicationCodeableConcept",
}
_PLAIN_R5: Json = {
    "clinicalStatus": {"coding": [{"code": "active"}]},
    "medication": {"concept": _PLAIN["medicationCodeableConcept"]},
}


def every_shape(kind: str, version: str, seed: object, more: int) -> Iterator[Json]:
    """A resource for each form of each choice of its type, and some more."""
    shapes = Shapes(version, f"{kind} {seed}")
    members = [name for _, name in choices(kind, version)]
    for number, member in enumerate([*members, *[None] * more]):
        yield shapes.resource(kind, f"r{number}", member)
