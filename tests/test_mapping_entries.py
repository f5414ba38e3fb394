"""One bad resource costs exactly itself; any valid resource of the prefetch types is digested."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from builders import (
    AS_OF,
    SAVI,
    Json,
    bundle,
    cards,
    comparable,
    divided,
    draft,
    findings,
    hook_request,
    order,
    prefetch_of,
)
from fhir_shapes import MODELS, choices, every_shape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cds_service.envelope import read_call
from cds_service.explain import as_text, assessments, explanation
from cds_service.json_reader import read_json, write_json
from cds_service.pipeline import respond
from cds_service.runtime import Runtime, make_runtime
from cds_service.services import SERVICES
from cds_service.settings import Settings
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
ELSEWHERE = {"STU3": {"ServiceRequest": "ProcedureRequest"}}
"""What a type of the prefetch is called in another version."""
RUNNING = order("baricitinib", dosageInstruction=divided(MORN=4, EVE=4))
HOOKS = ("order-select", "order-sign", "medication-prescribe", "patient-view")
SETTINGS = Settings(demo=True, log_level="error")


@cache
def runtime() -> Runtime:
    return make_runtime(SETTINGS)


def requests_with(resources: list[Json], kind: str) -> Iterator[Json]:
    """Each hook with these in the prefetch: under their own key, or that of another type; and among the drafts."""
    name = next((key.name for key in keys() if key.resource_type == kind), "growth")
    data = prefetch_of(conditions=[SAVI], medicines=[RUNNING], birth="2012-05-14", weight="40", height="150")
    if kind == "Patient":
        data["patient"] = bundle(*({**resource, "id": "p1"} for resource in resources))
    else:
        data[name] = bundle(*resources, *(e["resource"] for e in data.get(name, {}).get("entry", ())))
    for hook in HOOKS:
        if hook == "patient-view":
            context = {"patientId": "p1", "userId": "Practitioner/x"}
            asked = {"hook": hook, "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": context}
            yield asked | {"prefetch": data, "extension": {"org.jaki-cds": {"asOf": AS_OF}}}
        else:
            drafts = [] if kind == "Patient" else [{**r, "id": f"{r['id']}-draft"} for r in resources]
            yield hook_request([DRAFT, *drafts], data, hook=hook)


def digest(request: Json) -> None:
    """Answer and explain; raises where anything fails inside."""
    service = next(s for s in SERVICES.values() if s.hook == request["hook"])
    call = read_call(service, read_json(write_json(request)), SETTINGS)
    answer = respond(call, runtime()).body
    assert answer["cards"]
    assert b"failed inside the service" not in write_json(answer)
    assert "".join(as_text(explanation(call, runtime(), *assessments(call, runtime()))))


def assert_digested(resources: list[Json], kind: str) -> None:
    for request in requests_with(resources, kind):
        try:
            digest(request)
        except Exception as fault:
            culprits = [r for r in resources if not _is_digested(r, kind)]
            raise AssertionError(
                f"{request['hook']}: {fault!r}: {culprits[:1] or 'only together'}"
            ) from fault


def _is_digested(resource: Json, kind: str) -> bool:
    try:
        for request in requests_with([resource], kind):
            digest(request)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("kind", TYPES)
def test_any_valid_resource_is_digested(kind: str) -> None:
    """Every form of every value[x], with all that FHIR allows beside it, in every hook, as data and as draft."""
    assert_digested(list(every_shape(kind, "R4", "quick", 12)), kind)


@pytest.mark.slow
@pytest.mark.parametrize("version", MODELS)
@pytest.mark.parametrize("kind", TYPES)
def test_any_valid_resource_of_any_version_is_digested(kind: str, version: str) -> None:
    named = ELSEWHERE.get(version, {}).get(kind, kind)
    for seed in range(4):
        resources = list(every_shape(named, version, seed, 20))
        for start in range(0, len(resources), 10):
            assert_digested(resources[start : start + 10], kind)


def test_the_generator_makes_what_it_promises() -> None:
    """Each kind of value[x], and everything beside a plain value, occurs among the shapes of the quick run."""
    every = [resource for kind in TYPES for resource in every_shape(kind, "R4", "quick", 12)]
    names = set().union(*every)
    assert {name for kind in TYPES for _, name in choices(kind)} <= names
    text = json.dumps(every)
    for sign in (
        "extension",
        "modifierExtension",
        "contained",
        "data-absent-reason",
        "implicitRules",
        '"2024-05"',
    ):
        assert sign in text, sign
