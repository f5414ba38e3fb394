"""What is recognised cheaply is what the long way round would have found: each shortcut against what it spares.

The body against the careful reader, a usual result against its fhir.resources model, a usual request against its
schema, the order of a history against sorting all of it, rows decided at once against asking them in full.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from builders import Json, draft, hook_request, observation
from hypothesis import given, settings
from hypothesis import strategies as st

from cds_service import envelope, json_reader
from cds_service.json_reader import UnreadableBody, read_json
from cds_service.services import SERVICES
from fhir_mappings import observations, validate
from fhir_mappings.elements import read_date
from fhir_mappings.observations import Readings
from fhir_mappings.panels import Result
from guideline import evaluate
from guideline.examples import read_examples
from guideline.findings import Outcome
from guideline.tables import load_tables

# --- the body -------------------------------------------------------------------------------------

SEEDS = (
    b'{"a":[1,2.50,{"b":"x\\"y\\\\","c":null}],"d":{"e":true}}',
    rb'["\u0061b","\/",{"k":"[{","q":"]}"}]',
    b'{"x":1e3,"y":-0,"z":-0.0,"status":"final"}',
)
PIECES = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\x00", b"\xff", b"\xc3\xa9"),
    *(b"1", b"e5", b"E-3", b".", b"-", b"1" * 39, b"1" * 41, b"0." + b"0" * 35 + b"1", b"9" * 29 + b".5"),
    *(rb"\u0000", rb"\ud83d", rb"\ud83d\ude00", rb"\u0061", b"\\" * 2, b'\\"', b'""', b"NaN", b"null"),
    *(b'"status":"final",', b'"a":1,', b'"":"",', b"[[[[", b"]]]]", b'"[["', b"[" * 70, b"]" * 70),
)


def spoilt(seed: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    for at, piece in edits:
        seed = seed[: at % (len(seed) + 1)] + piece + seed[at % (len(seed) + 1) :]
    return seed


def told(raw: bytes, *, carefully: bool) -> tuple[bool, str]:
    """Whether a body is accepted, and its value (or the reason) with the type of every number."""
    try:
        return True, repr(json_reader._read_carefully(raw) if carefully else read_json(raw))
    except UnreadableBody as refusal:
        return False, refusal.reason


@settings(max_examples=250)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 200), st.sampled_from(PIECES)), max_size=3))
def test_the_quick_reader_says_what_the_careful_one_says(seed: bytes, edits: list[tuple[int, bytes]]) -> None:
    raw = spoilt(seed, edits)
    assert told(raw, carefully=False) == told(raw, carefully=True)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_usual_body_is_read_quickly(indent: int | None, ascii_only: bool) -> None:
    value = {"note": 'Größe 132 cm, "quoted" [and {bracketed', "value": 12.5, "nested": [[{"a": []}]]}
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert json_reader._read_quickly(raw) == json_reader._read_carefully(raw)


# --- one result -----------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    *(None, "", " ", " ", "\x1c", "\x0b", "\u200b", "x", "a b", "a  b", " a", "é", 5, -1, True, False),
    *(Decimal("1.50"), Decimal("1E+5"), Decimal("0E-9"), 10**38, [], [None], {}, {"a": 1}, ["x"], [{}]),
    *(
        "2026",
        "2026-05",
        "2026-05-30",
        "2026-02-30",
        "0000-01-01",
        "2026-05-30T09:00:00Z",
        "2026-05-30T09:00Z",
    ),
    *("2026-05-30T23:59:60Z", "2026-05-30T09:00:00", "2026-05-30T09:00:00.1234567Z", "2026-05-30T24:00:00Z"),
    *("2026-05-30T09:00:00.123456+13:59", "2026-05-30T09:00:00+14:00", "final", "Final"),
    *({"coding": [{"code": "x"}]}, {"coding": [None]}, {"text": None}, {"value": None}),
)
MEMBERS = (
    *(
        "value",
        "unit",
        "system",
        "code",
        "comparator",
        "coding",
        "text",
        "display",
        "version",
        "userSelected",
    ),
    *(
        "id",
        "extension",
        "_status",
        "status",
        "component",
        "valueString",
        "effectivePeriod",
        "effectiveInstant",
    ),
    *("note", "contained", "modifierExtension", "language", "implicitRules", "category", "dataAbsentReason"),
    *("status__ext", "resource_type", "fhir_comments", "focus", "subject", "specimen", "meta", "issued"),
)


def holders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from holders(inner)


def varied(chance: random.Random) -> Json:
    """A usual result with up to two places changed."""
    found = copy.deepcopy(observation("haemoglobin", "12.5", on="2026-05-25T09:30:00+01:00"))
    found["category"] = [{"coding": [{"code": "laboratory"}]}]
    for _ in range(chance.choice((0, 1, 1, 2))):
        holder = chance.choice([found, found, found.get("code"), *holders(found)])
        odd = copy.deepcopy(chance.choice(ODD))
        if isinstance(holder, list):
            holder[chance.randrange(len(holder))] = odd
        elif isinstance(holder, dict):
            holder[chance.choice([*holder, *MEMBERS])] = odd
    return found


def by_the_model(resource: Json, monkeypatch: pytest.MonkeyPatch) -> bool:
    with monkeypatch.context() as patch:
        patch.setattr(validate, "_is_usual", lambda _: False)
        return validate.is_readable(resource)


def test_a_result_recognised_as_usual_is_one_that_the_model_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, usual, refused = random.Random(1), 0, 0
    for _ in range(1_500):
        resource = varied(chance)
        if validate._is_usual(resource):
            usual += 1
            assert by_the_model(resource, monkeypatch), resource
        elif refused < 40:
            refused += not by_the_model(resource, monkeypatch)
    assert usual > 300 and refused > 10, "nothing was compared"


# --- the envelope ---------------------------------------------------------------------------------


def test_a_request_recognised_as_usual_has_no_fault_by_its_schema() -> None:
    chance, usual = random.Random(1), 0
    service = SERVICES["jaki-order-select"]
    validator = envelope._envelope_validator(service.hook)
    for _ in range(600):
        request = copy.deepcopy(hook_request(draft("tofacitinib", 4)))
        context = request["context"]
        for _ in range(chance.choice((0, 1, 2))):
            holder = chance.choice((request, context, context, context.get("draftOrders")))
            if isinstance(holder, dict) and holder:
                name = chance.choice([*holder, "selections", "fhirServer", "userId", "patientId"])
                holder[name] = chance.choice((*ODD, "..", "a" * 64, "a" * 65, "Patient/1", ["x", 1], "x\n"))
        request = envelope._without_nulls(request)
        if isinstance(request.get("context"), dict):
            request["context"] = envelope._without_nulls(request["context"])
        if envelope._is_usual(request, service):
            usual += 1
            assert envelope._issues(validator, request) == [], request
    assert 100 < usual < 600


# --- the order of a history -----------------------------------------------------------------------

DAY = date(2026, 6, 1)
TIMES = st.builds(
    lambda days, form: form.format(DAY - timedelta(days=days)),
    st.integers(0, 30),
    st.sampled_from(
        (
            "{}",
            "{}T09:00:00Z",
            "{}T23:30:00-05:00",
            "{}T00:30:00+14:00",
            "{}T09:00:00",
            "{} 09:00",
            "{}T99",
            "x",
        )
    ),
)


@settings(max_examples=150)
@given(st.lists(TIMES, min_size=1, max_size=12))
def test_a_history_is_ordered_as_if_all_of_it_were_sorted(times: list[str]) -> None:
    resources = [
        {"resourceType": "Observation", "id": f"o{n}", "effectiveDateTime": time}
        for n, time in enumerate(times)
    ]
    found = [observations._Found(Result(r, frozenset(), r), r) for r in resources]
    expected = sorted(
        resources,
        key=lambda r: (
            read_date(r["effectiveDateTime"]) is None,
            observations._moment(r["effectiveDateTime"]),
            read_date(r["effectiveDateTime"]) or date.min,
            f"Observation/{r['id']}",
        ),
        reverse=True,
    )
    series = Readings("haemoglobin", "p1", DAY, None, found)
    assert [reading.source for reading in series] == [f"Observation/{r['id']}" for r in expected]


# --- rows that known facts decide -----------------------------------------------------------------


def test_rows_decided_at_once_are_decided_so_in_full() -> None:
    tables = load_tables()
    examples = read_examples(Path(__file__).with_name("examples"))
    found: Counter[str] = Counter()
    for example in examples[:: max(1, len(examples) // 60)]:
        facts = example.assessed(tables).facts
        for table in tables.of(example.drug):
            trials = evaluate.trials_of(table)
            of_table = evaluate.ask_known(trials.conditions, facts)
            for place, trial in enumerate(trials.rows):
                concerns, asked = (
                    evaluate.ask_applies(table, trial.row, facts),
                    evaluate.ask_row(trial.row, facts, table.stale),
                )
                if of_table:
                    found["cleared by the table"] += 1
                    out = trials.cleared[of_table][place]
                    assert (out.row, out.outcome) == (trial.row, Outcome.CLEAR)
                    assert concerns.holds is False and concerns.decided_by == out.answer.decided_by, (
                        trial.row.id
                    )
                    continue
                at_once = evaluate.ask_at_once(trial, facts, of_table)
                if at_once is None:
                    found["asked in full"] += 1
                    assert not (concerns.holds is False or asked.holds is False), trial.row.id
                elif at_once.outcome is Outcome.HIT:
                    found["hit"] += 1
                    assert concerns.holds and not concerns.doubts, trial.row.id
                    assert asked == at_once.answer, trial.row.id
                else:
                    found["cleared"] += 1
                    whole = concerns if concerns.holds is False else asked
                    assert whole.holds is False and at_once.outcome is Outcome.CLEAR, trial.row.id
                    assert whole.decided_by == at_once.answer.decided_by, trial.row.id
    assert len(found) == 4 and min(found.values()) > 100, found
