"""Growth reference: ages in months, the loader, the shipped tables, and the method of the generator."""

from __future__ import annotations

import runpy
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline import growth_reference as growth

GENERATE = runpy.run_path(str(growth.DIRECTORY / "generate.py"))
CDC = GENERATE["read_cdc"](growth.DIRECTORY / "cdc_weight_lms.csv")


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
    try:
        with pytest.raises(growth.GrowthTableError, match=r"generate\.py"):
            growth.limits("weight", "male", 108)
    finally:
        growth._table.cache_clear()


# --- the shipped tables -------------------------------------------------------------------------------------


def plausible(measure: growth.Measure, sex: str | None, months: int, value: str) -> bool:
    found = growth.limits(measure, sex, months)
    assert found is not None
    return found[0] <= Decimal(value) <= found[1]


@pytest.mark.parametrize(
    ("measure", "sex", "months", "value"),
    [
        ("weight", "female", 0, "3.2"),
        ("weight", "male", 12, "9.6"),
        ("weight", "male", 24, "12"),
        ("weight", "female", 24, "8"),  # small for her age
        ("weight", "female", 60, "18"),
        ("weight", "male", 108, "28"),
        ("weight", "female", 108, "50"),  # with obesity
        ("weight", "female", 120, "32"),
        ("weight", "male", 144, "40"),
        ("weight", "male", 192, "70"),
        ("weight", "male", 204, "95"),
        ("weight", "female", 239, "58"),
        ("height", "female", 0, "50"),
        ("height", "male", 24, "87"),
        ("height", "female", 108, "132"),
        ("height", "male", 144, "149"),
        ("height", "female", 239, "163"),
        ("height", "male", 239, "195"),
    ],
)
def test_an_ordinary_child_is_plausible(measure: growth.Measure, sex: str, months: int, value: str) -> None:
    assert plausible(measure, sex, months, value)
    assert plausible(measure, None, months, value)


@pytest.mark.parametrize(
    ("measure", "months", "value"),
    [
        ("weight", 24, "4.5"),
        ("weight", 24, "26.5"),  # 12 kg, in pounds
        ("weight", 108, "86"),  # 39 kg, in pounds
        ("weight", 108, "2.8"),  # 28 kg, the point astray
        ("weight", 192, "154"),  # 70 kg, in pounds
        ("height", 108, "52"),  # 132 cm, in inches
        ("height", 108, "1.32"),  # in metres
        ("height", 24, "120"),
    ],
)
def test_a_slip_of_unit_or_point_is_implausible(measure: growth.Measure, months: int, value: str) -> None:
    assert not any(plausible(measure, sex, months, value) for sex in (*growth.SEXES, None))


def test_highest_weight_at_nine_years_is_well_below_86_kg() -> None:
    found = growth.limits("weight", None, 108)
    assert found is not None
    assert Decimal(50) < found[1] < Decimal(70)


@pytest.mark.parametrize("sex", growth.SEXES)
def test_every_median_of_cdc_lies_well_within_the_limits(sex: str) -> None:
    for month, lms in CDC[sex].items():
        found = growth.limits("weight", sex, min(int(month), growth.LAST_MONTH))
        assert found is not None
        assert found[0] * Decimal("1.4") < lms.median < found[1] / Decimal("1.4")


@pytest.mark.parametrize("sex", growth.SEXES)
@pytest.mark.parametrize("measure", ["weight", "height"])
def test_limits_rise_with_age(measure: growth.Measure, sex: str) -> None:
    """No limit falls by more than 0.5 % in a month or rises by a tenth beyond infancy.

    The one exception is the lower limit of weight at 120 months, where CDC's wider method takes over.
    """
    spans = [growth.limits(measure, sex, month) for month in range(growth.LAST_MONTH + 1)]
    for month, (before, after) in enumerate(pairwise(spans), start=1):
        assert before is not None and after is not None
        for side in (0, 1):
            step = after[side] / before[side]
            seam = (measure, month, side) == ("weight", 120, 0)
            assert step > Decimal("0.995") or (seam and step > Decimal("0.8")), (month, side)
            assert step < Decimal("1.1") or month < 12, (month, side)


@pytest.mark.parametrize(
    ("sex", "months", "low", "high"),
    [("male", 24, "18.5", "19.1"), ("female", 120, "22", "23.5"), ("male", 239, "29", "31")],
)
def test_98th_centile_of_bmi(sex: str, months: int, low: str, high: str) -> None:
    found = growth.bmi_centile98(sex, months)
    assert found is not None
    assert Decimal(low) < found[0] == found[1] < Decimal(high)


def test_98th_centile_of_bmi_begins_at_two_years_and_ends_at_twenty() -> None:
    assert growth.bmi_centile98("male", 23) is None
    assert growth.bmi_centile98("male", 240) is None
    found = growth.bmi_centile98(None, 144)
    assert found is not None
    assert found[0] < found[1]


# --- the generator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "low", "high"),
    [("1", "60.00", "140.00"), ("0", "63.74", "144.29"), ("-1", "66.66", "150.00")],
)
def test_cdc_modified_z_score_by_hand(power: str, low: str, high: str) -> None:
    """M 100, S 0.1: +-2 SD is 80 and 120, or 100 e^+-0.2, or 100/1.2 and 100/0.8; the distance doubled."""
    lms = GENERATE["Lms"](Decimal(power), Decimal(100), Decimal("0.1"))
    assert GENERATE["widest"]([GENERATE["cdc_limits"](lms)]) == (Decimal(low), Decimal(high))


@pytest.mark.parametrize(
    ("power", "low", "high"),
    [("1", "60.00", "140.00"), ("-1", "70.51", "160.72")],
)
def test_who_restricted_method_by_hand(power: str, low: str, high: str) -> None:
    """M 100, S 0.1: 3 SD is 70 and 130, or 100/1.3 and 100/0.7; one step from 2 to 3 SD further."""
    lms = GENERATE["Lms"](Decimal(power), Decimal(100), Decimal("0.1"))
    assert GENERATE["widest"]([GENERATE["who_limits"](lms)]) == (Decimal(low), Decimal(high))


def test_limits_are_the_widest_rounded_outwards() -> None:
    found = [(Decimal("1.239"), Decimal("5.551")), (Decimal("1.241"), Decimal("5.549"))]
    assert GENERATE["widest"](found) == (Decimal("1.23"), Decimal("5.56"))


@given(st.dates(date(1995, 1, 1), date(2026, 1, 1)), st.integers(0, 1856))
def test_every_age_in_days_is_within_its_completed_month(born: date, days: int) -> None:
    month = growth.completed_months(born, born + timedelta(days))
    assert days in GENERATE["days_of"](month)


@pytest.mark.parametrize(
    ("sex", "age", "power", "median", "variation"),
    [
        ("male", "138.5", "-0.924670244", "38.2977703", "0.194053274"),
        ("male", "234.5", "-0.964376555", "69.99868896", "0.160007394"),
        ("female", "150.5", "-0.850307441", "43.9661169", "0.199419208"),
        ("female", "174.5", "-1.238005268", "50.92540942", "0.183327556"),
        ("female", "210.5", "-1.8689768", "55.70623826", "0.160423319"),
    ],
)
def test_interpolated_limits_are_those_of_cdc_s_own_row(
    sex: str, age: str, power: str, median: str, variation: str
) -> None:
    """Half-way between two kept rows, where the line is furthest off, the limits are within 1 % of CDC's."""
    own = GENERATE["Lms"](Decimal(power), Decimal(median), Decimal(variation))
    made = GENERATE["interpolate"](CDC[sex], Decimal(age))
    for one, other in zip(GENERATE["cdc_limits"](own), GENERATE["cdc_limits"](made), strict=True):
        assert abs(one / other - 1) < Decimal("0.01")


@pytest.mark.parametrize(
    ("sex", "age", "centile3", "centile97"),
    [
        ("male", "120.5", "24.19264433", "49.41515104"),
        ("male", "132.5", "26.59626062", "56.26028801"),
        ("male", "144.5", "29.47256769", "63.30852916"),
        ("male", "156.5", "32.96851567", "70.27737718"),
        ("male", "168.5", "37.07330766", "76.96389688"),
        ("male", "180.5", "41.52175462", "83.24017154"),
        ("male", "192.5", "45.79300591", "88.95303286"),
        ("male", "204.5", "49.28661635", "93.77917145"),
        ("male", "216.5", "51.69086489", "97.24564034"),
        ("male", "228.5", "53.21738885", "99.18615007"),
        ("male", "240", "54.00391729", "100.7783809"),
        ("female", "120.5", "23.99142774", "51.42912799"),
        ("female", "132.5", "26.81859231", "58.72012509"),
        ("female", "144.5", "30.01760377", "65.90102746"),
        ("female", "156.5", "33.40616909", "72.37632936"),
        ("female", "168.5", "36.70143915", "77.68816668"),
        ("female", "180.5", "39.59012338", "81.64830091"),
        ("female", "192.5", "41.82734048", "84.36638832"),
        ("female", "204.5", "43.33645956", "86.16706131"),
        ("female", "216.5", "44.24715174", "87.43461808"),
        ("female", "228.5", "44.79521204", "88.42066003"),
        ("female", "240", "45.04654822", "89.04485133"),
    ],
)
def test_cdc_rows_give_the_centiles_cdc_prints_beside_them(
    sex: str, age: str, centile3: str, centile97: str
) -> None:
    """A wrong digit in L, M or S cannot give both the 3rd and the 97th centile of CDC's file."""
    lms = CDC[sex][Decimal(age)]
    z = Decimal("1.8807936082")
    assert abs(lms.at(-z) - Decimal(centile3)) < Decimal("0.00001")
    assert abs(lms.at(z) - Decimal(centile97)) < Decimal("0.00001")


@pytest.mark.parametrize("sex", growth.SEXES)
def test_shipped_weights_from_121_months_are_those_the_generator_makes(sex: str) -> None:
    for month in range(GENERATE["FIRST_CDC_MONTH"], growth.LAST_MONTH + 1):
        made = GENERATE["widest"](GENERATE["cdc_during"](CDC[sex], month))
        assert growth.limits("weight", sex, month) == made


def test_an_age_without_cdc_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="no CDC rows around 100 months"):
        GENERATE["interpolate"](CDC["male"], 100)


def test_generator_refuses_tables_that_are_not_of_the_pinned_release(tmp_path: Path) -> None:
    path = tmp_path / "tables/by_day/wfa.py"
    path.parent.mkdir(parents=True)
    path.write_text("DATA = {}\n")
    with pytest.raises(SystemExit, match="SHA-256"):
        GENERATE["read_who"](tmp_path, "wfa")
    with pytest.raises(SystemExit, match="absent"):
        GENERATE["read_who"](tmp_path, "lfa")
