"""Every unit string that is accepted, with what one of it is in the analyte's own unit, and units that are refused.

The numbers stand here a second time, typed by hand, so that a slip in one of the two places is noticed; both could
be wrong alike. Lengths and masses are exact by definition (a pound is 0.45359237 kg). The factors between mass and
substance are the rounded ones that laboratories use; the last test holds three of them against the molar masses.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

import pytest

from fhir_mappings import units
from guideline.values import Reason

TABLE = units.load_units(units.UNITS_FILE)

COUNTS: Mapping[str, str] = {
    "1": """
10*9/l 10^9/l 10e9/l x10*9/l x10^9/l x10e9/l x109/l x10(9)/l 10(9)/l 10**9/l x10**9/l x10-9/l giga/l g/l 10*3/ul 10^3/ul
10e3/ul x10*3/ul x10^3/ul x10e3/ul x103/ul k/ul thou/ul thousand/ul 10*3/mcl 10^3/mcl
x10^3/mcl x10*3/mcl k/mcl 10*3/mm3 10^3/mm3 x10^3/mm3 k/mm3 {cells}*10*9/l {cells}x10*3/ul
""",
    "0.001": """
/ul cells/ul {cells}/ul /mcl cells/mcl /mm3 cells/mm3 10*6/l 10^6/l 10e6/l x10*6/l x10^6/l
x10e6/l
""",
}
ENZYMES: Mapping[str, str] = {
    "1": """
u/l iu/l [iu]/l units/l mu/ml miu/ml m[iu]/ml
""",
    "60": """
ukat/l mckat/l
""",
}
LIPIDS: Mapping[str, str] = {
    "1": """
mmol/l
""",
    "1/38.67": """
mg/dl
""",
    "100/38.67": """
g/l
""",
}
ACCEPTED: Mapping[str, Mapping[str, str]] = {
    "neutrophils": COUNTS,
    "lymphocytes": COUNTS,
    "white-cells": COUNTS,
    "platelets": COUNTS,
    "haemoglobin": {
        "1": """
g/dl gm/dl g/100ml
""",
        "0.1": """
g/l gm/l
""",
        "1.611": """
mmol/l
""",
    },
    "creatinine": {
        "1": """
umol/l mcmol/l micromol/l
""",
        "1000": """
mmol/l
""",
        "88.4": """
mg/dl
""",
        "8.84": """
mg/l
""",
    },
    "bilirubin": {
        "1": """
umol/l mcmol/l micromol/l
""",
        "1000": """
mmol/l
""",
        "17.1": """
mg/dl
""",
        "1.71": """
mg/l
""",
    },
    "alt": ENZYMES,
    "ast": ENZYMES,
    "ck": ENZYMES,
    "crp": {
        "1": """
mg/l ug/ml mcg/ml
""",
        "10": """
mg/dl
""",
    },
    "esr": {
        "1": """
mm/h mm/hr mm/hour mm/1h mm/1hr mm/1.h mm/(1.h)
""",
    },
    "urea": {
        "1": """
mmol/l
""",
        "10/60.06": """
mg/dl
""",
        "1000/60.06": """
g/l
""",
    },
    "urea-nitrogen": {
        "1": """
mmol/l
""",
        "10/28.014": """
mg/dl
""",
    },
    "cholesterol": LIPIDS,
    "hdl-cholesterol": LIPIDS,
    "ldl-cholesterol": LIPIDS,
    "triglycerides": {
        "1": """
mmol/l
""",
        "1/88.57": """
mg/dl
""",
        "100/88.57": """
g/l
""",
    },
    "sodium": {
        "1": """
mmol/l meq/l
""",
    },
    "potassium": {
        "1": """
mmol/l meq/l
""",
    },
    "egfr-laboratory": {
        "1": """
ml/min/{1.73_m2} ml/min/{1.73m2} ml/min/1.73m2 ml/min/1.73m^2 ml/min/1.73_m2
ml/min/1.73.m2 ml/min/1.73sqm ml/min/1.73m*2 ml/min/{1.73}m2 ml/min/{1.73m^2}
(ml/min)/{1.73_m2} ml/min/1.73*m2
""",
    },
    "weight": {
        "1": """
kg kgs kilogram kilograms
""",
        "0.001": """
g gram grams
""",
        "0.45359237": """
[lb_av] lb lbs lb_av pound pounds
""",
        "0.028349523125": """
[oz_av]
""",
        "6.35029318": """
[stone_av]
""",
    },
    "height": {
        "1": """
cm centimeter centimeters centimetre centimetres
""",
        "100": """
m meter meters metre metres
""",
        "0.1": """
mm millimeter millimetre
""",
        "2.54": """
[in_i] in inch inches in_i
""",
        "30.48": """
[ft_i]
""",
    },
    "bmi": {
        "1": """
kg/m2 kg/m^2 kg/(m2) kg/m*2 kg/sqm
""",
    },
    "temperature": {
        "1": "cel c °c degc celsius degreec degreescelsius degreecelsius",
        "5/9": "[degf] f °f degf fahrenheit degreef degreesfahrenheit degreefahrenheit",
    },
    "blood-pressure-systolic": {
        "1": """
mm[hg] mmhg
""",
    },
    "blood-pressure-diastolic": {
        "1": """
mm[hg] mmhg
""",
    },
    "viral-load-copies": {
        "1": """
{copies}/ml copies/ml {copy}/ml copy/ml cp/ml cps/ml {copies_dna}/ml {dna_copies}/ml
""",
        "0.001": """
{copies}/l copies/l
""",
    },
    "viral-load-log-copies": {
        "1": """
{log_copies}/ml log_copies/ml {log10_copies}/ml {log_copies_dna}/ml {log10copies}/ml
{logcopies}/ml log10copies/ml log10_copies/ml logcopies/ml log(10)copies/ml log(copies)/ml
log10(copies)/ml log10(copies/ml) log(copies/ml) log10cp/ml logcp/ml
""",
    },
}
EVERYWHERE = ("", "%", "1", "furlong", "{score}", "mg/kg", "[arb'U]", "mmol/mol")
"""No unit, a share, a bare number, nonsense, a dose: right for no analyte."""
LOOK_ALIKES: Mapping[str, str] = {
    "neutrophils": "10*12/l 10*9 10*-9/l mg/l u/l",
    "lymphocytes": "10*12/l 10*9 10*-9/l mg/l u/l",
    "white-cells": "10*12/l 10*9 /[hpf] mg/l u/l",
    "platelets": "10*12/l 10*9 fl mg/l u/l",
    "haemoglobin": "pg g 10*9/l u/l umol/l",
    "creatinine": "ml/min g/l mmol/d umol g/d",
    "bilirubin": "mg umol g/l u/l mmol/d",
    "alt": "u /l mg/l nkat u/g",
    "ast": "u /l mg/l nkat u/g",
    "ck": "u /l mg/l ng/ml ug/l",
    "crp": "nmol/l mg umol/l u/l g",
    "esr": "mm mm/s mm/min cm/h mm/2h",
    "urea": "mmol umol/d g/d ml/min u/l",
    "urea-nitrogen": "mmol umol/d g/d ml/min u/l",
    "cholesterol": "mg mmol u/l g/d mmol/d",
    "hdl-cholesterol": "mg mmol u/l g/d mmol/d",
    "ldl-cholesterol": "mg mmol u/l g/d mmol/d",
    "triglycerides": "mg mmol u/l g/d mmol/d",
    "sodium": "mg/dl mmol mmol/d g/l meq",
    "potassium": "mg/dl mmol mmol/d g/l meq",
    "egfr-laboratory": "ml/min ml/s ml/min/kg l/h ml/min/m2",
    "weight": "kg/m2 cm t l kg/d",
    "height": "kg km um nm cm2",
    "bmi": "kg kg/m m2 {percentile} kg/cm2",
    "temperature": "k kelvin [degre] degr mmhg",
    "blood-pressure-systolic": "kpa cm[h2o] bar mm [psi]",
    "blood-pressure-diastolic": "kpa cm[h2o] bar mm [psi]",
    "viral-load-copies": "[iu]/ml iu/ml {log_copies}/ml log10copies/ml {ct}",
    "viral-load-log-copies": "[iu]/ml iu/ml {copies}/ml log_iu/ml {log_iu}/ml",
}
FREEZING = Decimal(-32)


def in_words(groups: Mapping[str, str]) -> dict[str, Fraction]:
    return {
        unit: Fraction(factor) if "/" not in factor else _fraction(factor)
        for factor, group in groups.items()
        for unit in group.split()
    }


def _fraction(text: str) -> Fraction:
    over, under = text.split("/")
    return Fraction(over) / Fraction(under)


def test_every_analyte_and_every_unit_stands_here() -> None:
    by_analyte: dict[str, set[str]] = {}
    for analyte, unit in TABLE.conversions:
        by_analyte.setdefault(analyte, set()).add(unit)
    assert by_analyte == {analyte: set(in_words(groups)) for analyte, groups in ACCEPTED.items()}
    assert set(LOOK_ALIKES) == set(ACCEPTED)


@pytest.mark.parametrize("analyte", ACCEPTED)
def test_every_accepted_unit_is_converted(analyte: str) -> None:
    for unit, factor in in_words(ACCEPTED[analyte]).items():
        for value in (Decimal(1), Decimal("12.5"), Decimal(400)):
            shifted = value + FREEZING if analyte == "temperature" and factor != 1 else value
            expected = Fraction(shifted) * factor
            for code, text in ((unit, None), (None, unit), (None, f" {unit.upper()} ")):
                found = units.convert(analyte, value, code, text)
                assert isinstance(found, Decimal), (unit, code, text)
                assert abs(Fraction(found) - expected) <= abs(expected) / 10**20, (unit, found)


@pytest.mark.parametrize("analyte", ACCEPTED)
def test_look_alikes_are_refused(analyte: str) -> None:
    refused = LOOK_ALIKES[analyte].split()
    assert len(refused) >= 5
    for unit in (*refused, *EVERYWHERE):
        for code, text in ((unit, None), (None, unit), (unit, unit)):
            assert units.convert(analyte, Decimal(10), code, text) is Reason.UNUSABLE_UNIT, (unit, code, text)


@pytest.mark.parametrize("analyte", ACCEPTED)
def test_a_unit_of_another_analyte_is_never_converted(analyte: str) -> None:
    """Whatever the table knows for something else and not for this."""
    mine = set(in_words(ACCEPTED[analyte]))
    others = {unit for other in ACCEPTED.values() for unit in in_words(other)} - mine
    assert len(others) >= 5
    for unit in others:
        assert units.convert(analyte, Decimal(10), unit, None) is Reason.UNUSABLE_UNIT, unit


def test_haemoglobin_creatinine_and_bilirubin_by_their_molar_mass() -> None:
    """The factors against the molar masses, to the digits that laboratories use."""
    for analyte, unit, grams_per_mol, scale in (
        ("haemoglobin", "mmol/L", Decimal(16114), Decimal(10000)),
        ("creatinine", "mg/dL", Decimal("113.12"), None),
        ("bilirubin", "mg/dL", Decimal("584.66"), None),
    ):
        found = units.convert(analyte, Decimal(1), unit, None)
        assert isinstance(found, Decimal)
        expected = grams_per_mol / scale if scale else Decimal(10000) / grams_per_mol
        assert abs(found - expected) < expected / 1000
