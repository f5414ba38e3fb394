"""Hook requests made by chance from the sample cases, the same for the same seed: for long replays.

``python tests/generated_requests.py 10000 > calls.ndjson`` writes one on each line. Each starts from a sample and is
changed in one to four places: a result multiplied, made older, given as a bound or taken out; the birth date moved;
a prefetch key emptied, failed or left out; the drafted dose changed. They are all children who do not exist.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from cds_service.json_reader import read_json, write_json

Json = dict[str, Any]
SAMPLES = Path(__file__).parent.parent / "samples"
CENTS = Decimal("0.01")


def generated(count: int, seed: int = 1) -> Iterator[Json]:
    """``count`` requests, one after the other."""
    chance = random.Random(seed)
    bodies = [path.read_bytes() for path in sorted(SAMPLES.glob("*/request.json"))]
    for number in range(count):
        request = read_json(chance.choice(bodies))
        assert isinstance(request, dict)
        for change in chance.choices(CHANGES, k=chance.randint(1, 4)):
            change(request, chance)
        request["hookInstance"] = f"00000000-0000-4000-8000-{number:012d}"
        yield request


def results(request: Json) -> list[Json]:
    bundles = [each for each in request.get("prefetch", {}).values() if isinstance(each, dict)]
    found = [entry.get("resource", {}) for bundle in bundles for entry in bundle.get("entry", ())]
    return [each for each in found if each.get("resourceType") == "Observation" and "valueQuantity" in each]


def one_result(change: Callable[[Json, random.Random], None]) -> Callable[[Json, random.Random], None]:
    def changed(request: Json, chance: random.Random) -> None:
        if found := results(request):
            change(chance.choice(found), chance)

    return changed


def multiplied(result: Json, chance: random.Random) -> None:
    value = result["valueQuantity"].get("value")
    if isinstance(value, int | Decimal):
        result["valueQuantity"]["value"] = (Decimal(chance.randint(30, 250)) * value / 100).quantize(CENTS)


def older(result: Json, chance: random.Random) -> None:
    on = str(result.get("effectiveDateTime", ""))[:10]
    if len(on) == 10:
        result["effectiveDateTime"] = str(date.fromisoformat(on) - timedelta(days=chance.randint(1, 400)))


def bound(result: Json, chance: random.Random) -> None:
    result["valueQuantity"]["comparator"] = chance.choice(["<", "<=", ">", ">="])


def born(request: Json, chance: random.Random) -> None:
    patient = request.get("prefetch", {}).get("patient") or {}
    on = str(patient.get("birthDate", ""))
    if len(on) == 10:
        patient["birthDate"] = str(date.fromisoformat(on) + timedelta(days=chance.randint(-1500, 1500)))


def key_lost(request: Json, chance: random.Random) -> None:
    prefetch = request.get("prefetch", {})
    if keys := sorted(set(prefetch) - {"patient"}):
        key = chance.choice(keys)
        lost = [None, {"resourceType": "Bundle", "type": "searchset", "total": 0}, FAILED, ABSENT]
        if (found := chance.choice(lost)) is ABSENT:
            del prefetch[key]
        else:
            prefetch[key] = found


def drafted(request: Json, chance: random.Random) -> None:
    context = request["context"]
    bundle = context.get("draftOrders") or context.get("medications") or {}
    for entry in bundle.get("entry", ()):
        for line in entry.get("resource", {}).get("dosageInstruction", ()):
            rates = line.get("doseAndRate") or [line]
            quantity = rates[0].get("doseQuantity", {}) if isinstance(rates[0], dict) else {}
            if "value" in quantity:
                quantity["value"] = Decimal(chance.choice(["1", "2", "3.2", "4", "5", "6", "8", "11"]))


ABSENT = object()
FAILED = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}
CHANGES = [one_result(multiplied), one_result(older), one_result(bound), born, key_lost, drafted]


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes requests made by chance, one on each line.")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for request in generated(options.count, options.seed):
        sys.stdout.buffer.write(write_json(request) + b"\n")


if __name__ == "__main__":
    main()
