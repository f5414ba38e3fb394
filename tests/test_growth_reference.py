"""Growth reference: ages in months, the loader, the limits, and the method of the generator."""

from __future__ import annotations

import runpy
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline import growth_reference as growth

GENERATE = runpy.run_path(str(growth.DIRECTORY / "generate.py"))
needs_tables = pytest.mark.skipif(
    not all(growth.available(name) for name in ("weight", "height", "bmi")),
    reason="the growth tables are not made yet (guideline/growth/README.md)",
)


@pytest.mark.parametrize(
    ("born", "on", "months"),
    [
        (date(2020, 3, 15), date(2020, 3, 15), 0),
        (date(2020, 3, 15), date(2020, 4, 14), 0),
        (date(2020, 3, 15), date(2020, 4, 15), 1),
        (date(2020, 1, 31), date(2020, 2, 29), 0),
        (date(2020, 2, 29), date(2021, 2, 28), 11),
        (date(2020, 2, 29), date(2021, 3, 1), 12),
        (date(2015, 12, 1), date(2025, 1, 1), 109),
    ],
)
def test_completed_months(born: date, on: date, months: int) -> None:
    assert growth.completed_months(born, on) == months


def test_a_day_before_birth_has_no_age() -> None:
    with pytest.raises(ValueError, match="before birth"):
        growth.completed_months(date(2020, 3, 15), date(2020, 3, 14))


@given(st.dates(date(1990, 1, 1), date(2060, 1, 1)), st.dates(date(1990, 1, 1), date(2060, 1, 1)))
def test_age_never_falls(one: date, other: date) -> None:
    born, on = sorted((one, other))
    assert 0 <= growth.completed_months(born, on) * 28 <= (on - born).days


def invented(directory: Path, **change: str) -> Path:
    """A whole table of invented limits, one row of which can be changed."""
    rows = {
        f"{sex},{m}": f"{1 + m},{base + m}"
        for sex, base in (("male", 20), ("female", 10))
        for m in range(240)
    }
    rows.update({key.replace("_", ","): value for key, value in change.items()})
    path = directory / "weight.csv"
    body = "".join(f"{key},{value}\n" for key, value in rows.items() if value)
    path.write_text("sex,month,low,high\n" + body)
    return path


def test_unknown_sex_gives_the_union_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invented(tmp_path, male_100="50,90", female_100="40,80")
    monkeypatch.setattr(growth, "DIRECTORY", tmp_path)
    growth._table.cache_clear()
    try:
        assert growth.limits("weight", "male", 100) == (Decimal(50), Decimal(90))
        assert growth.limits("weight", "female", 100) == (Decimal(40), Decimal(80))
        assert growth.limits("weight", None, 100) == (Decimal(40), Decimal(90))
        assert growth.limits("weight", "other", 100) == (Decimal(40), Decimal(90))
        assert growth.limits("weight", "male", 240) is None
        with pytest.raises(ValueError, match="below zero"):
            growth.limits("weight", "male", -1)
    finally:
        growth._table.cache_clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"male_7": ""}, "months are lacking"),
        ({"male_7": "9,8"}, "line 9: the limits do not rise"),
        ({"male_7": "0,8"}, "line 9: the limits do not rise"),
        ({"male_7": "x,8"}, "line 9: not a number"),
        ({"boy_7": "1,8"}, "sex or month unknown"),
        ({"male_240": "1,8"}, "sex or month unknown"),
    ],
)
def test_a_faulty_table_is_refused_by_name(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(growth.GrowthTableError, match=message):
        growth.load(invented(tmp_path, **change), growth.FIRST_MONTH)


def test_a_missing_table_never_reads_as_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "DIRECTORY", tmp_path)
    growth._table.cache_clear()
    with pytest.raises(growth.GrowthReferenceMissing, match=r"generate\.py"):
        growth.limits("weight", "male", 108)


@pytest.mark.parametrize(
    ("power", "low", "high"),
    [("1", "60.00", "140.00"), ("0", "63.74", "144.29"), ("-1", "66.66", "150.00")],
)
def test_modified_z_score_by_hand(power: str, low: str, high: str) -> None:
    """M 100, S 0.1: +-2 SD is 80 and 120, or 100 e^+-0.2, or 100/1.2 and 100/0.8; doubled."""
    lms = GENERATE["Lms"](Decimal(power), Decimal(100), Decimal("0.1"))
    assert GENERATE["restricted_limits"](lms) == (Decimal(low), Decimal(high))


def test_generator_takes_the_half_month_and_skips_the_repeated_header() -> None:
    text = "Sex,Agemos,L,M,S\n1,24,9,9,9\n1,24.5,1,12,0.1\nSex,Agemos,L,M,S\n2,24.5,1,11,0.1\n"
    rows = GENERATE["parse"](text)
    assert {key: row.median for key, row in rows.items()} == {("male", 24): 12, ("female", 24): 11}


def test_generator_refuses_a_file_that_is_not_the_official_one(tmp_path: Path) -> None:
    (tmp_path / "wtage.csv").write_text("Sex,Agemos,L,M,S\n1,24.5,1,12,0.1\n")
    with pytest.raises(SystemExit, match="SHA-256"):
        GENERATE["read"](tmp_path / "wtage.csv")


@needs_tables
def test_a_weight_in_pounds_is_out_of_range_at_nine_years() -> None:
    found = growth.limits("weight", None, 108)
    assert found is not None
    assert found[1] < Decimal(86)


@needs_tables
def test_a_small_two_year_old_stays_in_range() -> None:
    found = growth.limits("weight", None, 24)
    assert found is not None
    assert found[0] < Decimal(8)


@needs_tables
def test_limits_hold_the_ordinary_child_at_every_age() -> None:
    for sex in growth.SEXES:
        for month in range(growth.LAST_MONTH + 1):
            weight, height = growth.limits("weight", sex, month), growth.limits("height", sex, month)
            assert weight is not None and height is not None
            assert weight[0] < weight[1] and Decimal(30) < height[0] < height[1] < Decimal(230)
