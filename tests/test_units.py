"""Units: the spellings laboratories send, what is refused, and the absolute limits."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import units
from guideline.values import Reason

TABLE = units.load_units(units.UNITS_FILE)
HEADER = "analyte,unit,factor,offset,canonical\n"


@pytest.mark.parametrize(
    ("analyte", "value", "code", "unit", "expected"),
    [
        ("haemoglobin", "105", "g/L", None, "10.5"),
        ("haemoglobin", "10.5", None, "g/dl", "10.5"),
        ("haemoglobin", "6.5", "mmol/L", "mmol/L", "10.4715"),
        ("white-cells", "4.5", None, "X 10-9/l", "4.5"),
        ("neutrophils", "1.2", None, "x10^9/L", "1.2"),
        ("neutrophils", "1.2", "10*3/uL", None, "1.2"),
        ("neutrophils", "1200", "/uL", None, "1.2"),
        ("neutrophils", "1.2", None, "×10⁹/L", "1.2"),
        ("lymphocytes", "0.9", None, "K/uL", "0.9"),
        ("platelets", "250", None, "K/µL", "250"),
        ("platelets", "250", None, "K/μL", "250"),
        ("creatinine", "0.5", "mg/dL", "mg/dL", "44.2"),
        ("creatinine", "44", None, "µmol/L", "44"),
        ("bilirubin", "1", "mg/dL", None, "17.1"),
        ("alt", "40", None, "iu/L", "40"),
        ("crp", "1.2", "mg/dL", None, "12"),
        ("weight", "86", "[lb_av]", "lb", "39.00894382"),
        ("weight", "12500", "g", None, "12.5"),
        ("weight", "12.5", None, "kilogram", "12.5"),
        ("height", "50", "[in_i]", None, "127"),
        ("height", "1.27", "m", None, "127"),
        ("height", "127", None, "centimeter", "127"),
        ("temperature", "98.6", "[degF]", "°F", "37"),
        ("egfr-laboratory", "90", None, "mL/min/1.73m²", "90"),
        ("viral-load-copies", "5000", "{copies}/mL", None, "5000"),
        ("viral-load-log-copies", "3.7", None, "log10 copies/mL", "3.7"),
        ("weight", "20", "258683005-local", "kg", "20"),
    ],
)
def test_convert(analyte: str, value: str, code: str | None, unit: str | None, expected: str) -> None:
    assert units.convert(analyte, Decimal(value), code, unit) == Decimal(expected)


@pytest.mark.parametrize(
    ("analyte", "code", "unit"),
    [
        ("haemoglobin", None, None),
        ("haemoglobin", "", " "),
        ("haemoglobin", None, "%"),
        ("haemoglobin", "g/dL", "g/L"),
        ("haemoglobin", "10*9/L", "g/L"),
        ("haemoglobin", "g/L", "10*9/L"),
        ("lymphocytes", "%", "%"),
        ("crp", "nmol/L", None),
        ("viral-load-copies", "{Log_copies}/mL", None),
        ("viral-load-copies", "[IU]/mL", "copies/mL"),
        ("viral-load-log-copies", "{copies}/mL", None),
        ("egfr-laboratory", "mL/min", None),
    ],
)
def test_a_unit_that_is_absent_unknown_or_contradicted_is_refused(
    analyte: str, code: str | None, unit: str | None
) -> None:
    assert units.convert(analyte, Decimal(10), code, unit) is Reason.UNUSABLE_UNIT


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_unreadable(text: str) -> None:
    assert units.convert("weight", Decimal(text), "kg", None) is Reason.UNREADABLE
    assert not units.is_plausible("weight", Decimal(text))


def test_an_analyte_without_a_table_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError, match="hemoglobin"):
        units.convert("hemoglobin", Decimal(1), "g/L", None)


@given(
    st.sampled_from(sorted(TABLE.conversions)),
    st.decimals(0, 10**6, places=3, allow_nan=False, allow_infinity=False),
)
def test_there_and_back(key: tuple[str, str], value: Decimal) -> None:
    conversion = TABLE.conversions[key]
    there = units.convert(key[0], value, None, key[1])
    assert isinstance(there, Decimal)
    back = there * conversion.denominator / conversion.numerator - conversion.offset
    assert abs(back - value) < Decimal("1e-9")


@given(st.sampled_from(sorted(TABLE.conversions)), st.sampled_from(["", " ", "  "]))
def test_case_and_blanks_do_not_matter(key: tuple[str, str], blank: str) -> None:
    shouted = blank + key[1].upper() + blank
    assert units.convert(key[0], Decimal(7), None, shouted) == units.convert(key[0], Decimal(7), None, key[1])


@pytest.mark.parametrize(
    ("analyte", "plausible", "implausible"),
    [
        ("haemoglobin", ["2", "10.5", "25"], ["105", "1.05", "0", "-10"]),
        ("creatinine", ["5", "44", "2000"], ["4.9", "0.4", "0", "-44", "2001"]),
        ("weight", ["0.3", "20", "300"], ["0", "-20", "12500"]),
        ("height", ["20", "127", "230"], ["1.27", "1270"]),
        ("neutrophils", ["0", "1.2"], ["1200", "-1"]),
        ("temperature", ["37"], ["98.6"]),
        ("viral-load-log-copies", ["0", "12"], ["5000"]),
        ("viral-load-copies", ["12", "5000"], ["3.7"]),
    ],
)
def test_absolute_limits(analyte: str, plausible: list[str], implausible: list[str]) -> None:
    assert [v for v in plausible if not units.is_plausible(analyte, Decimal(v))] == []
    assert [v for v in implausible if units.is_plausible(analyte, Decimal(v))] == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("hb,g/L,0.1,0,g/dL", "line 2: the unit is not in its normal spelling; write 'g/l'"),
        ("hb,g/l,0,0,g/dL", "line 2: the factor is not above zero"),
        ("hb,g/l,a tenth,0,g/dL", "is not a number"),
        ("hb,g/l,0.1,0,g/dL", "hb lacks its own unit"),
        ("hb,g/l,1,0,g/L\nhb,g/l,1,0,g/L", "line 3: g/l stands twice"),
        ("hb,g/l,1,0,g/L\nhb,g/dl,10,0,g/dL", "line 3: hb has two canonical units"),
    ],
)
def test_a_faulty_unit_row_is_refused(tmp_path: Path, row: str, message: str) -> None:
    table = tmp_path / "units.csv"
    table.write_text(f"{HEADER}{row}\n")
    with pytest.raises(units.UnitTableError, match=message):
        units.load_units(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("hb,2,25,g/L,why", "the unit is not that of units.csv; write g/dL"),
        ("hb,25,2,g/dL,why", "do not rise"),
        ("hb,-1,2,g/dL,why", "do not rise"),
        ("hb,2,25,g/dL,", "no reason is given"),
        ("hb,2,25,g/dL,why\nhb,2,25,g/dL,why", "stands twice"),
        ("", "no limits for hb"),
    ],
)
def test_a_faulty_limit_is_refused(tmp_path: Path, row: str, message: str) -> None:
    table = tmp_path / "plausible.csv"
    table.write_text(f"analyte,low,high,unit,why\n{row}\n")
    with pytest.raises(units.UnitTableError, match=message):
        units.load_limits(table, {"hb": "g/dL"})
