"""Reading is lazy: of thousands of results only those are validated that can decide something, newest first."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any

import pytest
from builders import HEALTHY, Json, ask, draft, given, observation, order

import fhir_mappings.observations

MANY = 2_000
FACTS = {"weight": "28.5", "height": "132", "creatinine": "40", **HEALTHY}
AS_OF = date(2026, 6, 1)


def results(newest: dict[str, str]) -> list[Json]:
    """Every analyte every tenth day, back over some five years; ``newest`` are the values of the last set."""
    found = []
    for n in range(MANY):
        round_, which = divmod(n, len(FACTS))
        fact = list(FACTS)[which]
        value = newest.get(fact, FACTS[fact]) if round_ == 0 else FACTS[fact]
        on = (AS_OF - timedelta(days=1 + 10 * round_)).isoformat()
        found.append(observation(fact, value, on=on, id_=f"o{n}"))
    return found


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many results of each code were validated."""
    counted: Counter[str] = Counter()
    validate = fhir_mappings.observations.is_readable

    def count(resource: Any) -> bool:
        counted[resource["code"]["coding"][0]["code"]] += 1
        return validate(resource)

    monkeypatch.setattr(fhir_mappings.observations, "is_readable", count)
    return counted


def test_a_start_validates_the_newest_and_the_months_before(validated: Counter[str]) -> None:
    found = ask(
        draft("tofacitinib", 4), weight=None, height=None, creatinine=None, bloods={}, results=results({})
    )
    assert given(found) == "TOFA-DOSE-04"
    assert validated["29463-7"] <= 2, (
        "a plausible weight, and the one behind it, which may be of the same moment"
    )
    assert validated["751-8"] == 1, "one neutrophil count is enough, where no course is running"
    assert 0 < sum(validated.values()) < MANY / 20


def test_a_renewal_validates_no_more_than_the_course(validated: Counter[str]) -> None:
    running = order("tofacitinib", 4, start="2025-12-01")
    found = ask(
        draft("tofacitinib", 4),
        weight=None,
        height=None,
        creatinine=None,
        bloods={},
        results=results({}),
        medicines=[running],
    )
    assert given(found) == "TOFA-DOSE-04"
    assert sum(validated.values()) < MANY / 8


def test_of_all_these_the_newest_decides() -> None:
    newest = {"weight": "41"}
    found = ask(
        draft("tofacitinib", 5), weight=None, height=None, creatinine=None, bloods={}, results=results(newest)
    )
    assert given(found) == "TOFA-DOSE-05"
