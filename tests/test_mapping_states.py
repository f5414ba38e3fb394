"""Prefetch states: present, empty, failed, omitted, unreadable, truncated; never a silent all-clear.

What is exhaustive: every state of every key alone, every state of all keys at once, and (marked slow) every pair
of states of every pair of keys, the other keys present. All 6^16 combinations are too many, so whole vectors are
drawn by chance from a fixed seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest
from builders import (
    AS_OF,
    LOINC,
    SAVI,
    Json,
    bundle,
    concept,
    divided,
    draft,
    findings,
    hook_request,
    missing,
    observation,
    order,
    outcome,
    prefetch_of,
    quantity,
)

from cds_service.envelope import read_call
from cds_service.explain import assessments
from cds_service.json_reader import read_json, write_json
from cds_service.pipeline import respond
from cds_service.runtime import Runtime, make_runtime
from cds_service.services import SERVICES
from cds_service.settings import Settings
from guideline.findings import Outcome, Severity
from guideline.values import Known

OMITTED = object()
STATES: Mapping[str, Any] = {
    "present": lambda value: value,
    "empty": lambda value: bundle(),
    "failed": lambda value: outcome("error"),
    "omitted": lambda value: OMITTED,
    "unreadable": lambda value: value | {"entry": [*value["entry"], {"resource": None}]},
    "truncated": lambda value: (
        value | {"link": [{"relation": "next", "url": "https://fhir.example.org/next"}]}
    ),
}
REASONS = {
    "failed": "failed",
    "omitted": "not-supplied",
    "unreadable": "unreadable",
    "truncated": "partial-page",
}
SETTINGS = Settings(demo=True, log_level="error")
RUNNING = order("baricitinib", dosageInstruction=divided(MORN=4, EVE=4))
CHILD = prefetch_of(conditions=[SAVI], medicines=[RUNNING], birth="2012-05-14", weight="40", height="150")
KEYS = tuple(name for name in CHILD if name != "patient")
DRUGS = ("tofacitinib", "baricitinib", "ruxolitinib")
HOOKS = (*DRUGS, "patient-view")
Vector = Mapping[str, str]


@cache
def runtime() -> Runtime:
    return make_runtime(SETTINGS)


@cache
def notes() -> frozenset[str]:
    return frozenset(
        row.id for table in runtime().tables.all for row in table.rows if row.severity is Severity.INFO
    )


def request_of(vector: Vector, hook: str) -> Json:
    data = {"patient": CHILD["patient"]}
    for name in KEYS:
        value = STATES[vector.get(name, "present")](CHILD[name])
        if value is not OMITTED:
            data[name] = value
    if hook != "patient-view":
        return hook_request([draft(hook, 4)], data)
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"patientId": "p1", "userId": "Practitioner/x"},
        "prefetch": data,
        "extension": {"org.jaki-cds": {"asOf": AS_OF}},
    }


Open = dict[str, set[str]]
"""The rows that could not be assessed, each with the reasons of what it lacks."""


def answered(vector: Vector, hook: str) -> tuple[list[Json], Open]:
    return _answered(tuple(sorted((key, state) for key, state in vector.items() if state != "present")), hook)


@cache
def _answered(states: tuple[tuple[str, str], ...], hook: str) -> tuple[list[Json], Open]:
    vector = dict(states)
    return asked(request_of(vector, hook), hook)


def asked(request: Json, hook: str) -> tuple[list[Json], Open]:
    service = next(
        s for s in SERVICES.values() if s.hook == (hook if hook == "patient-view" else "order-select")
    )
    call = read_call(service, read_json(write_json(request)), SETTINGS)
    cards: Any = respond(call, runtime()).body["cards"]
    open_rows: Open = {}
    for assessed in (found for _, found in assessments(call, runtime())[1] if found is not None):
        for trace in assessed.traces:
            if trace.outcome is Outcome.CANNOT_ASSESS:
                lacking = [assessed.facts[name] for name in trace.decided_by if name in assessed.facts]
                reasons = {c.reason.value for f in lacking if not isinstance(f, Known) for c in f.causes}
                open_rows.setdefault(trace.row, set()).update(reasons)
    return cards, open_rows


def assert_nothing_is_silent(vector: Vector, hook: str) -> None:
    cards, open_rows = answered(vector, hook)
    told = set(findings(cards))
    silent = {row: reasons for row, reasons in open_rows.items() if row not in told}
    if hook == "patient-view":
        # Nobody asked, and a note lacks only what was never measured: CK or a virus load that no rule calls for. With a
        # card for each of these every chart of a well watched child would open with one. A key that failed, was not
        # supplied, broke off or held something unreadable is always told, also where it could only have given a note.
        silent = {row: why for row, why in silent.items() if row not in notes() or why - {"absent", "stale"}}
    assert not silent, (hook, vector, silent)
    if hook != "patient-view":
        assert cards, (hook, vector)
    medicines = {vector.get(name, "present") for name in ("medicationRequests", "medicationStatements")}
    if medicines - {"present", "empty"}:
        assert cards, (hook, vector, "nobody can know what the child is taking")


@pytest.mark.slow
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("key", KEYS)
def test_fetch_5_each_state_of_each_key(key: str, hook: str) -> None:
    for state in STATES:
        assert_nothing_is_silent({key: state}, hook)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("hook", HOOKS)
def test_fetch_5_each_state_of_all_keys_at_once(hook: str, state: str) -> None:
    assert_nothing_is_silent(dict.fromkeys(KEYS, state), hook)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_fetch_5_each_state_reaches_the_findings_as_its_own_reason(key: str) -> None:
    """At least one check of one drug lacks something for this very reason, and did not before."""
    for state, reason in REASONS.items():
        gained = set()
        for hook in HOOKS:
            before = missing(answered({}, hook)[0])
            gained |= {r for _, r in missing(answered({key: state}, hook)[0]) - before}
        assert reason in gained, (key, state, gained)


def quiet() -> Json:
    """A child on tofacitinib of whom everything is known and lately measured: opening the chart brings no card."""
    watched = {
        "crp": ("1988-5", "mg/L", "2", "5"),
        "esr": ("4537-7", "mm/h", "8", "20"),
        "cholesterol": ("14647-2", "mmol/L", "4", "5"),
        "triglycerides": ("14927-8", "mmol/L", "1", "2"),
    }
    more = [
        observation(
            "weight",
            value,
            unit,
            id_=name,
            code=concept(code, LOINC),
            referenceRange=[{"low": quantity(0, unit), "high": quantity(high, unit)}],
        )
        for name, (code, unit, value, high) in watched.items()
    ]
    running = order("tofacitinib", 4, start="2025-06-02")
    data = prefetch_of(medicines=[running], results=more)
    return request_of({}, "patient-view") | {"prefetch": data}


@pytest.mark.parametrize(
    "state", [s if s == "omitted" else pytest.param(s, marks=pytest.mark.slow) for s in REASONS]
)
def test_fetch_5_a_quiet_chart_speaks_up_where_data_did_not_come(state: str) -> None:
    assert asked(quiet(), "patient-view")[0] == []
    for key in KEYS:
        request = quiet()
        value = STATES[state](request["prefetch"].pop(key))
        if value is not OMITTED:
            request["prefetch"][key] = value
        found, open_rows = asked(request, "patient-view")
        hidden = set().union(*(why for row, why in open_rows.items() if row not in findings(found)))
        assert hidden <= {"absent", "stale"}, (key, open_rows)


def vectors(count: int) -> Iterator[dict[str, str]]:
    chance = random.Random(20260601)
    for _ in range(count):
        # Few faults are the likelier way to be silent, so their number is drawn first.
        lost = chance.sample(KEYS, chance.randint(1, len(KEYS)))
        yield {key: chance.choice(list(STATES)) for key in lost}


def test_fetch_5_states_drawn_by_chance() -> None:
    for index, vector in enumerate(vectors(80)):
        assert_nothing_is_silent(vector, HOOKS[index % len(HOOKS)])


@pytest.mark.exhaustive
@pytest.mark.parametrize("hook", HOOKS)
def test_fetch_5_each_pair_of_states_of_each_pair_of_keys(hook: str) -> None:
    others = [state for state in STATES if state != "present"]
    for (one, other), (first, second) in product(combinations(KEYS, 2), product(others, repeat=2)):
        assert_nothing_is_silent({one: first, other: second}, hook)
