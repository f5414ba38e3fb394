"""The doses of the service against those of ``oracle.py``, on and around every limit of the guideline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction as F
from itertools import product
from typing import Any

import oracle
import pytest
from builders import (
    HEALTHY,
    JDM,
    POLY_JIA,
    SAVI,
    bundle,
    cards,
    divided,
    dosage,
    dose,
    draft,
    hook_request,
    observation,
    order,
    prefetch_of,
)
from oracle import RUNNING_FOR, Child, Day, slots, times

from fhir_mappings.drafts import drafted_orders, read_draft
from fhir_mappings.gather import gather
from fhir_mappings.lists import read_lists
from fhir_mappings.prefetch import Pool, read_supply
from guideline.assess import assess
from guideline.findings import DoseAdvice
from guideline.policy import load_policy
from guideline.tables import load_tables

ON = date(2026, 6, 1)
TABLES, POLICY = load_tables(), load_policy(None)
CODE = {"jia": POLY_JIA, "jdm": JDM, "interferonopathy": SAVI}

STEP = F(1, 1000)
HEIGHT = F(120)
"""Gives round creatinines: 36 umol/L is an eGFR of exactly 120."""


def around(*limits: int) -> list[F]:
    return [limit + step for limit in limits for step in (-STEP, F(0), STEP)]


def birthdays(*years: int) -> list[date]:
    """Children who have that birthday tomorrow, today, and had it yesterday."""
    return [date(ON.year - y, ON.month, ON.day) + timedelta(days=d) for y in years for d in (1, 0, -1)]


def creatinines(*egfrs: int) -> list[F]:
    """Creatinines whose eGFR is just above, exactly, and just below each limit."""
    return [36 * HEIGHT / limit + step for limit in egfrs for step in (-STEP, F(0), STEP)]


TEN = date(2016, 1, 15)
HEALTHY_KIDNEYS = F(30)  # eGFR 144
BASE = Child("baricitinib", "interferonopathy", TEN, ON, F(28), HEIGHT, HEALTHY_KIDNEYS)

DRAFTS: tuple[Day, ...] = (
    {},
    times(2, "16/5"),
    times(2, 4),
    times(2, 5),
    times(1, 2),
    times(1, 4),
    times(1, 6),
    times(3, 2),
    times(2, 2),
    slots(2, 2, 2),
    slots(4, 0, 2),
    slots(2, 0, 4),
    slots(4, 0, 4),
    slots(6, 0, 4),
    slots(6, 0, 6),
    slots(6, 2, 6),
)


def children() -> Iterator[Child]:
    tofacitinib = replace(BASE, drug="tofacitinib", indication="jia")
    weights = around(5, 7, 10, 20, 40)
    for kg, running in product(weights, (None, times(2, 4))):
        yield replace(tofacitinib, kg=kg, running=running)
    for born, kg in product(birthdays(2, 18), (F(6), F(15), F(50))):
        yield replace(tofacitinib, born=born, kg=kg)
    for creatinine, kg in product(creatinines(120, 30), (F(15), F(50))):
        yield replace(tofacitinib, creatinine=creatinine, kg=kg)
    yield replace(tofacitinib, indication="jdm")
    yield replace(tofacitinib, indication="interferonopathy")

    for indication in ("jia", "jdm"):
        other = replace(BASE, indication=indication)
        for born, running in product(birthdays(2, 6, 9, 18), (None, times(1, 2))):
            yield replace(other, born=born, running=running)
        for creatinine, running in product(creatinines(120, 40, 30, 10), (None, times(1, 4))):
            yield replace(other, creatinine=creatinine, running=running)

    running_doses = (None, times(1, 2), slots(2, 0, 2), slots(2, 2, 2), slots(4, 0, 4), slots(6, 0, 4))
    kidneys = (*creatinines(120), HEALTHY_KIDNEYS, F(60))
    for kg, creatinine, running in product(around(20, 40), kidneys, running_doses):
        yield replace(BASE, kg=kg, creatinine=creatinine, running=running)
    for creatinine, running in product(creatinines(40, 30, 10), (None, slots(2, 0, 2))):
        yield replace(BASE, creatinine=creatinine, running=running)
    for kg, born in product((*around(10), F(15)), birthdays(2, 18)):
        yield replace(BASE, kg=kg, born=born)
    for kg, running in product(around(20), (slots(2, 2, 2), slots(4, 0, 2))):
        yield replace(BASE, kg=kg, running=running, bloods_normal=False)
    # 29 February: still 5 (9, 1) years on 28 February of other years, and a year more on 1 March.
    for year, on in product((2020, 2016, 2024), (date(2026, 2, 28), date(2026, 3, 1))):
        for indication in ("jia", "jdm"):
            yield replace(BASE, indication=indication, born=date(year, 2, 29), on=on)


CHILDREN = list(children())


def exact(number: F) -> Decimal:
    found = Decimal(number.numerator) / Decimal(number.denominator)
    assert F(found) == number, "the tests use numbers with few decimals"
    return found


def dosages(day: Day) -> list[dict[str, Any]]:
    if "1" in day:
        return [dosage(exact(day["1"]), len(day))]
    return divided(**{slot: exact(mg) for slot, mg in day.items()})


def drafted(child: Child, day: Day) -> dict[str, Any]:
    return draft(child.drug, dosageInstruction=dosages(day) or None)


def data(child: Child) -> dict[str, Any]:
    """The child's record; weight and height are confirmed, so that no value is refused as odd for the age."""
    taken, before = ((child.on - timedelta(days=days)).isoformat() for days in (3, 20))
    kg, height = exact(child.kg), exact(child.height_cm)
    found = prefetch_of(
        birth=child.born.isoformat(),
        weight=None,
        height=None,
        creatinine=None,
        bloods={},
        conditions=[CODE[child.indication]],
        medicines=[] if child.running is None else [_running(child)],
        results=[
            observation("weight", kg, on=taken, id_="w1"),
            observation("weight", kg, on=before, id_="w0"),
            observation("height", height, on=taken, id_="h1"),
            observation("height", height, on=before, id_="h0"),
        ],
    )
    bloods = HEALTHY if child.bloods_normal else {**HEALTHY, "alt": "41"}
    found["kidney"] = bundle(_creatinine(child, taken))
    found["bloodCount"] = bundle(*(observation(fact, value, on=taken) for fact, value in bloods.items()))
    return found


def _creatinine(child: Child, on: str) -> dict[str, Any]:
    """Its reference range holds it: what is abnormal is said by ``bloods_normal`` alone."""
    found = observation("creatinine", exact(child.creatinine), on=on)
    return found | {"referenceRange": [{"low": {"value": 1}, "high": {"value": 2000}}]}


def _running(child: Child) -> dict[str, Any]:
    assert child.running is not None
    start = (child.on - RUNNING_FOR).isoformat()
    return order(child.drug, start=start, dosageInstruction=dosages(child.running))


def day_of(advice: DoseAdvice) -> Day:
    day: Day = {}
    for one in advice.regimen.administrations:
        if one.when is not None:
            day[one.when.value] = F(one.mg)
        else:
            assert one.times_per_day is not None
            day |= times(int(one.times_per_day), str(one.mg))
    return day


@pytest.mark.parametrize("part", range(4))
def test_limits_of_the_printed_doses(part: int) -> None:
    """Every child, each with a few of the drafts; all of them in the slow run."""
    assert not differences(CHILDREN[part::4], every=16)[:3]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_draft_at_every_limit_of_the_printed_doses(part: int) -> None:
    assert not differences(CHILDREN[part::4], every=1)[:3]


def differences(some: list[Child], every: int) -> list[tuple[object, ...]]:
    """Where service and oracle disagree; each child with every ``every``-th draft, another first for each child."""
    found = []
    for index, child in enumerate(some):
        pool = Pool({name: read_supply(value) for name, value in data(child).items()})
        lists = read_lists(pool, "p1", (), child.on)
        record = gather(tuple(pool.of("Patient")), pool, lists, child.on)
        for day in DRAFTS[index % every :: every]:
            (one,) = drafted_orders(bundle(drafted(child, day)), None, pool, "p1")
            advice = assess(record, read_draft(one, pool, lists), TABLES, POLICY).dose
            ours = None if advice is None else (day_of(advice), advice.verdict.value)
            expected = oracle.dose(child, day)
            theirs = None if expected is None else (expected, oracle.verdict(day, expected))
            if ours != theirs:
                found.append((child, day, ours, theirs))
    return found


@pytest.mark.parametrize("part", range(4))
def test_the_same_over_http(part: int) -> None:
    """Every draft once, with children spread over the whole list."""
    for index in range(part, len(CHILDREN), 12):
        child, day = CHILDREN[index], DRAFTS[index % len(DRAFTS)]
        found = dose(cards(hook_request([drafted(child, day)], data(child), on=child.on.isoformat())))
        expected = oracle.dose(child, day)
        if expected is None:
            assert found is None, (child, day)
            continue
        assert found is not None, (child, day)
        assert Decimal(found["mgPerDay"]) == exact(oracle.total(expected))
        assert found["order"]["verdict"] == oracle.verdict(day, expected), (child, day)


def test_the_grid_meets_every_printed_dose() -> None:
    """A grid that misses a row would prove nothing about it."""
    met: dict[str, list[Day]] = {}
    for child, day in product(CHILDREN, DRAFTS):
        found = oracle.dose(child, day)
        if found is not None and found not in met.setdefault(f"{child.drug}, {child.indication}", []):
            met[f"{child.drug}, {child.indication}"].append(found)
    printed = {
        "tofacitinib, jia": [times(2, mg) for mg in (2, "5/2", "16/5", 4, 5)],
        "baricitinib, jia": [times(1, 2), times(1, 4)],
        "baricitinib, jdm": [times(1, 2), times(1, 4)],
        "baricitinib, interferonopathy": [
            slots(2, 2, 2),
            slots(4, 0, 2),
            slots(4, 0, 4),
            slots(2, 4, 2),
            slots(6, 0, 4),
            slots(2, 0, 2),
        ],
    }
    assert met.keys() == printed.keys()
    for name, days in printed.items():
        assert all(day in met[name] for day in days) and len(met[name]) == len(days), name
