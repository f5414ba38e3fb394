"""What an answer costs, in function calls: the guard against a slower service that needs no clock.

Every call of a Python or built-in function while one request is answered is counted, and with them the elements that
fhir.resources validates. Both numbers are the same on every machine, however slow or busy, so that a limit can be
tight. Between Python 3.11, with which the limits are counted, and 3.13 they differ by 3 % (later versions make no call
of a comprehension, and the standard library changes); hence ``SLACK``.

The limits stand in ``call_counts.csv``. Whoever makes the service cheaper, or dearer for a reason, renews them:
``python tests/test_call_counts.py``; the difference is then part of the commit.
"""

from __future__ import annotations

import cProfile
import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from bench_bodies import BODIES, selecting
from builders import AS_OF, client

from cds_service.json_reader import write_json

TABLE = Path(__file__).with_name("call_counts.csv")
SLACK = 1.05
RENEW = "If it has to be so, renew the limits with: python tests/test_call_counts.py"
BY_NAME = {body.name: body for body in BODIES}
LARGE = 1_000
# Every element of a resource is validated through this one function of pydantic, however fhir.resources is asked to.
VALIDATOR = "'validate_python' of 'pydantic_core"


@dataclass(frozen=True, slots=True)
class Counts:
    calls: int
    validations: int


DAY = date.fromisoformat(AS_OF)


@cache
def counts(name: str) -> Counts:
    body = BY_NAME[name]
    return counted(body.hook, body.bytes(DAY, 0), body.bytes(DAY, 1))


@cache
def counts_of(observations: int) -> Counts:
    first, second = (write_json(selecting(observations, DAY, variant)) for variant in (0, 1))
    return counted("order-select", first, second)


def counted(hook: str, first: bytes, second: bytes) -> Counts:
    """What the answer to the second body takes; the first one, of another child, fills caches."""

    def ask(raw: bytes) -> None:
        path = f"/cds-services/jaki-{hook}"
        raw = raw[:-1] + b',"extension":' + write_json({"org.jaki-cds": {"asOf": AS_OF}}) + b"}"
        answer = client().post(path, data=raw, content_type="application/json")
        assert answer.status_code == 200, answer.data[:300]

    ask(first)
    watch = cProfile.Profile()
    watch.runcall(ask, second)
    entries = watch.getstats()
    validations = sum(entry.callcount for entry in entries if VALIDATOR in str(entry.code))
    return Counts(sum(entry.callcount for entry in entries), validations)


def limits() -> dict[str, Counts]:
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return {
            row["body"]: Counts(int(row["calls"]), int(row["validations"])) for row in csv.DictReader(stream)
        }


def test_every_body_of_the_benchmark_has_a_limit() -> None:
    assert set(limits()) == set(BY_NAME), RENEW


every_body = pytest.mark.parametrize(
    "name",
    [
        name if body.observations < LARGE else pytest.param(name, marks=pytest.mark.slow)
        for name, body in BY_NAME.items()
    ],
)


@every_body
def test_an_answer_takes_no_more_function_calls_than_it_did(name: str) -> None:
    found, limit = counts(name).calls, limits()[name].calls
    assert found <= limit * SLACK, (
        f"{name}: {found:,} function calls for one answer, {found / limit:.2f} times the limit of {limit:,}. "
        f"'make bench PROFILE=200' shows where they are made. {RENEW}"
    )


@every_body
def test_an_answer_validates_no_more_resources_than_it_did(name: str) -> None:
    found, limit = counts(name).validations, limits()[name].validations
    assert found <= limit, f"{name}: {found} validations for one answer, not {limit}. {RENEW}"


def test_the_counter_sees_validations() -> None:
    """A result with an extension is not of the plain shape that is recognised without its model."""
    body = selecting(10, DAY, 0)
    for entry in body["prefetch"]["growth"]["entry"]:
        entry["resource"]["extension"] = [{"url": "http://example.org/device", "valueString": "scales"}]
    raw = write_json(body)
    found = counted("order-select", raw, raw).validations
    assert found > 0, "what fhir.resources is asked through has another name"


def test_cost_is_linear_in_the_number_of_observations() -> None:
    few, some, many = (counts_of(n).calls for n in (200, 600, 1_000))
    assert many - some <= 1.1 * (some - few), "an Observation costs more where there are many"


if __name__ == "__main__":
    with TABLE.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["body", "calls", "validations"])
        for each in BY_NAME:
            now = counts(each)
            writer.writerow([each, now.calls, now.validations])
            print(f"{each}: {now.calls:,} calls, {now.validations} validations")
