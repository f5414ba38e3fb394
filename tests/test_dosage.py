"""The dose of an order, read from every usual shape of FHIR, and the suggested dose written back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest
from fhir.resources.R4B.dosage import Dosage as R4Dosage
from fhir.resources.STU3.dosage import Dosage as STU3Dosage
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import concepts
from fhir_mappings.dosage import FhirVersion, read_dose, write_dosage
from fhir_mappings.products import Product, read_amount
from guideline.doses import Administration, DoseState, Form, OrderedDose, Regimen, When

SNOMED, UCUM = "http://snomed.info/sct", "http://unitsofmeasure.org"
GTS = "http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation"

NOT_NAMED = Product(Form.UNKNOWN, None, None, "nothing")
TABLET_5 = Product(Form.TABLET, Decimal(5), None, "product-code")
SOLUTION = Product(Form.ORAL_SOLUTION, Decimal(1), Decimal(1), "words")
SOLUTION_10_IN_2 = Product(Form.ORAL_SOLUTION, Decimal(10), Decimal(2), "words")
CAPSULE = Product(Form.OTHER, Decimal(5), None, "words")

MG_5 = {"value": 5, "unit": "mg", "system": UCUM, "code": "mg"}
MG_4 = {**MG_5, "value": 4}
PILL = {"value": 1, "system": UCUM, "code": "{pill}"}
TWICE = {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}}
TWICE_DSTU2 = {"repeat": {"frequency": 2, "period": 1, "periodUnits": "d"}}
ONCE = {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}


def order(*dosages: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "MedicationRequest", "dosageInstruction": list(dosages), **more}


def dosage(dose: Any = MG_5, timing: Any = TWICE, **more: Any) -> dict[str, Any]:
    """A Dosage of R4; without ``dose`` or ``timing`` where these are ``None``."""
    written = {} if dose is None else {"doseAndRate": [{"doseQuantity": dose}]}
    return {**written, **({} if timing is None else {"timing": timing}), **more}


def rates(*entries: Any) -> dict[str, Any]:
    return {"doseAndRate": list(entries), "timing": TWICE}


def repeated(**repeat: Any) -> dict[str, Any]:
    return order(dosage(timing={"repeat": repeat}))


def daily(times: Any, **more: Any) -> dict[str, Any]:
    return repeated(frequency=times, period=1, periodUnit="d", **more)


def coded(code: Any, **repeat: Any) -> dict[str, Any]:
    return order(dosage(timing={"code": code, "repeat": repeat}))


def gts(code: str) -> dict[str, Any]:
    return {"coding": [{"system": GTS, "code": code}]}


def said(dose: OrderedDose) -> str:
    """A dose as one says it: "5 mg x2" (times a day) or "2 mg MORN + 4 mg EVE"."""
    if dose.regimen is None:
        return dose.state.value
    return " + ".join(
        f"{a.mg.normalize():f} mg {a.when or f'x{a.times_per_day:.4g}'}" for a in dose.regimen.administrations
    )


# --- shapes -------------------------------------------------------------------------------------------------

SHAPES = [
    ("R4", order(dosage())),
    ("R4, doseAndRate an object", order({"doseAndRate": {"doseQuantity": MG_5}, "timing": TWICE})),
    ("R4 draft, doseQuantity under the Dosage", order({"doseQuantity": MG_5, "timing": TWICE})),
    ("R4, a quantity in both places, equal", order(dosage(doseQuantity=MG_5))),
    ("R4, ordered and calculated dose", order(rates({"doseQuantity": MG_5}, {"doseQuantity": MG_5}))),
    ("R4, one entry without dose", order(rates({"type": {}}, {"doseQuantity": MG_5}))),
    ("a range from 5 to 5", order(rates({"doseRange": {"low": MG_5, "high": MG_5}}))),
    ("STU3", order({"doseQuantity": MG_5, "timing": TWICE}, resourceType="MedicationRequest")),
    ("DSTU2", order({"doseQuantity": MG_5, "timing": TWICE_DSTU2})),
    ("one Dosage alone, no list", {"dosageInstruction": dosage()}),
    ("timing in a list of one", order(dosage(timing=[TWICE]))),
    ("R5, not as needed", order(dosage(asNeeded=False, asNeededFor=[]))),
    ("not as needed", order(dosage(asNeededBoolean=False))),
    ("with text beside it", order(dosage(text="5 mg twice daily", patientInstruction="with food"))),
    ("with extensions", order(dosage(_text={"extension": []}, extension=[{"url": "urn:x"}], _dose=[None]))),
    ("a start still being typed", daily(2, boundsPeriod={"start": "Invalid date"})),
    ("with an empty Dosage beside it", order({}, dosage())),
    ("nulls", order(None, dosage(text=None, asNeededBoolean=None, asNeededFor=None, sequence=None))),
    ("of a MedicationStatement", {"dosage": [dosage()]}),
    ("of a DSTU2 MedicationStatement", {"dosage": [{"quantityQuantity": MG_5, "timing": TWICE}]}),
]  # fmt: skip


@pytest.mark.parametrize("drafted", [row[1] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_five_mg_twice_daily_is_read_in_every_shape(drafted: dict[str, Any]) -> None:
    assert said(read_dose(drafted, NOT_NAMED)) == "5 mg x2"


@pytest.mark.parametrize(
    ("quantity", "product", "expected"),
    [
        (PILL, TABLET_5, "5 mg x2"),
        ({**PILL, "value": Decimal("0.5")}, TABLET_5, "2.5 mg x2"),
        ({"value": 2, "unit": "tablets"}, TABLET_5, "10 mg x2"),
        ({"value": 1, "system": SNOMED, "code": "428673006"}, TABLET_5, "5 mg x2"),
        (PILL, Product(Form.UNKNOWN, Decimal(5), None, "words"), "5 mg x2"),
        ({"value": Decimal("3.2"), "unit": "mL"}, SOLUTION, "3.2 mg x2"),
        ({"value": 1, "unit": "ml"}, SOLUTION_10_IN_2, "5 mg x2"),
        ({"value": Decimal("3.2"), "unit": "mg"}, SOLUTION, "3.2 mg x2"),
        ({"value": 3.2, "unit": "mg"}, SOLUTION, "3.2 mg x2"),
        ({"value": 5000, "unit": "micrograms"}, NOT_NAMED, "5 mg x2"),
        ({"value": Decimal("0.005"), "system": UCUM, "code": "g"}, NOT_NAMED, "5 mg x2"),
    ],
)
def test_tablets_and_millilitres_become_milligrams(quantity: Any, product: Product, expected: str) -> None:
    assert said(read_dose(order(dosage(quantity)), product)) == expected


# --- timing -------------------------------------------------------------------------------------------------

WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TIMINGS = [
    (daily(1), "5 mg x1"),
    (daily(4), "5 mg x4"),
    (repeated(period=1, periodUnit="d"), "5 mg x1"),
    (repeated(period=12, periodUnit="h"), "5 mg x2"),
    (repeated(frequency=1, period=720, periodUnit="min"), "5 mg x2"),
    (repeated(frequency=1, period=2, periodUnit="d"), "5 mg x0.5"),
    (repeated(frequency=14, period=1, periodUnit="wk"), "5 mg x2"),
    (repeated(frequency=1, period=1, periodUnit="wk"), "5 mg x0.1429"),
    (repeated(frequency=Decimal("2.0"), period=Decimal("1.0"), periodUnit="d"), "5 mg x2"),
    (daily(2, frequencyMax=2, periodMax=1), "5 mg x2"),
    (daily(2, dayOfWeek=WEEK), "5 mg x2"),
    (daily(2, count=28, duration=5, durationUnit="min"), "5 mg x2"),
    (repeated(when=["MORN"]), "5 mg MORN"),
    (repeated(when="MORN"), "5 mg MORN"),
    (repeated(when=["EVE", "MORN"]), "5 mg MORN + 5 mg EVE"),
    (daily(2, when=["MORN", "EVE"]), "5 mg MORN + 5 mg EVE"),
    (repeated(when=["MORN", "EVE"], frequency=2), "5 mg MORN + 5 mg EVE"),
    (repeated(when=["MORN", "EVE"], period=1, periodUnit="d"), "5 mg MORN + 5 mg EVE"),
    (repeated(when=["MORN"], frequency=1, period=24, periodUnit="h"), "5 mg MORN"),
    (repeated(when=["MORN"], frequency=1, period=2, periodUnit="d"), "5 mg x0.5"),
    (repeated(when=["CM", "CD", "CV"]), "5 mg MORN + 5 mg AFT + 5 mg EVE"),
    (repeated(when=["WAKE", "NOON", "HS"]), "5 mg MORN + 5 mg AFT + 5 mg EVE"),
    (repeated(when=["ACM", "PCV"]), "5 mg MORN + 5 mg EVE"),
    (repeated(when=["MORN.early", "AFT.late", "EVE.early"]), "5 mg MORN + 5 mg AFT + 5 mg EVE"),
    (repeated(when=["MORN.early", "MORN.late"]), "5 mg x2"),
    (repeated(when=["NIGHT"]), "5 mg EVE"),
    (repeated(when=["PHS"]), "5 mg EVE"),
    (daily(2, when=["AC"]), "5 mg x2"),
    (repeated(timeOfDay=["08:00:00", "20:00:00"]), "5 mg MORN + 5 mg EVE"),
    (repeated(timeOfDay=["08:00"]), "5 mg MORN"),
    (repeated(timeOfDay=["11:59:59", "12:00:00", "17:00:00"]), "5 mg MORN + 5 mg AFT + 5 mg EVE"),
    (repeated(timeOfDay=["16:59:00"]), "5 mg AFT"),
    (repeated(timeOfDay=["06:00:00", "10:00:00"]), "5 mg x2"),
    (repeated(timeOfDay=["08:00:00"], when=["MORN"]), "5 mg MORN"),
    (coded(gts("QD")), "5 mg x1"),
    (coded(gts("BID")), "5 mg x2"),
    (coded(gts("TID")), "5 mg x3"),
    (coded(gts("QID")), "5 mg x4"),
    (coded(gts("QOD")), "5 mg x0.5"),
    (coded(gts("WK")), "5 mg x0.1429"),
    (coded(gts("Q24H")), "5 mg x1"),
    (coded(gts("Q12H")), "5 mg x2"),
    (coded(gts("Q8H")), "5 mg x3"),
    (coded(gts("Q6H")), "5 mg x4"),
    (coded(gts("Q4H")), "5 mg x6"),
    (coded(gts("AM")), "5 mg MORN"),
    (coded(gts("PM")), "5 mg EVE"),
    (coded({"coding": [{"system": GTS, "code": "PM", "display": "every afternoon"}]}), "5 mg EVE"),
    (coded(gts("BED")), "5 mg EVE"),
    (coded({"coding": [{"system": "http://hl7.org/fhir/v3/GTSAbbreviation", "code": "BID"}]}), "5 mg x2"),
    (coded({"coding": [{"system": "http://hl7.org/fhir/timing-abbreviation", "code": "BID"}]}), "5 mg x2"),
    (coded({"coding": [{"code": "bid"}]}), "5 mg x2"),
    (coded({"coding": [{"system": SNOMED, "code": "229799001"}]}), "5 mg x2"),
    (coded({"coding": [{"system": "urn:local", "code": "17", "display": "Twice daily"}]}), "5 mg x2"),
    (coded({"text": "BID"}), "5 mg x2"),
    (coded({"text": "b.d."}), "5 mg x2"),
    (coded({"text": "Twice a day"}), "5 mg x2"),
    (coded({"text": "OM"}), "5 mg MORN"),
    (coded("TDS"), "5 mg x3"),
    (coded({"coding": [{"system": GTS, "code": "BID"}], "text": "twice daily"}), "5 mg x2"),
    (coded(gts("BID"), frequency=2, period=1, periodUnit="d"), "5 mg x2"),
    (coded(gts("BID"), frequency=1, period=12, periodUnit="h"), "5 mg x2"),
    (coded(gts("BID"), frequency=2), "5 mg x2"),
    (coded(gts("BID"), when=["MORN", "EVE"]), "5 mg MORN + 5 mg EVE"),
    (coded(gts("AM"), frequency=1, period=1, periodUnit="d"), "5 mg MORN"),
    (coded({"text": "as the ward does"}, frequency=2, period=1, periodUnit="d"), "5 mg x2"),
    (coded(gts("BID"), boundsPeriod={"start": "Invalid date"}), "5 mg x2"),
    (order(dosage(timing={"event": ["2026-06-01"], **TWICE})), "5 mg x2"),
]  # fmt: skip


@pytest.mark.parametrize(("drafted", "expected"), TIMINGS)
def test_the_timing_is_read(drafted: dict[str, Any], expected: str) -> None:
    assert said(read_dose(drafted, NOT_NAMED)) == expected


# --- several Dosages ----------------------------------------------------------------------------------------


CHANGES = "the dose changes over time"
NUMBERED = "only some of the dosage instructions have a sequence number"
LACKS_DOSE = "one of the dosage instructions has no dose"
NO_TABLET = "the dose is in tablets and the strength of the tablet is not known"


def at(when: str, dose: Any = MG_5, **more: Any) -> dict[str, Any]:
    return dosage(dose, {"repeat": {"when": [when], "frequency": 1, "period": 1, "periodUnit": "d"}}, **more)


SEVERAL = [
    ("morning and evening", order(at("MORN"), at("EVE", MG_4)), "5 mg MORN + 4 mg EVE"),
    ("the same dose morning and evening", order(at("MORN"), at("EVE")), "5 mg MORN + 5 mg EVE"),
    ("the same number", order(at("MORN", sequence=1), at("EVE", sequence=1)), "5 mg MORN + 5 mg EVE"),
    ("two amounts, no time of day", order(dosage(MG_5, ONCE), dosage(MG_4, ONCE)), "5 mg x1 + 4 mg x1"),
    ("the same amount twice", order(dosage(MG_5, ONCE), dosage(MG_5, ONCE)), "5 mg x2"),
    ("two doses in the morning", order(at("MORN"), at("MORN")), "5 mg MORN + 5 mg MORN"),
    ("one after the other, equal", order(dosage(sequence=1), dosage(sequence=2)), "5 mg x2"),
    ("one after the other, not equal", order(dosage(sequence=1), dosage(MG_4, sequence=2)), CHANGES),
    ("numbered times of day", order(at("MORN", sequence=1), at("EVE", sequence=2)), CHANGES),
    ("only one numbered", order(dosage(), dosage(sequence=2)), NUMBERED),
    ("one without dose", order(dosage(), dosage(None)), LACKS_DOSE),
    ("one in words", order(dosage(), {"text": "and one at night"}), LACKS_DOSE),
    ("one unreadable", order(dosage(), dosage(PILL)), NO_TABLET),
    (
        "for different weeks",
        order(*(dosage(dose, {"repeat": {**TWICE["repeat"], "boundsPeriod": {"start": day}}})
                for dose, day in ((MG_4, "2026-06-01"), (MG_5, "2026-06-15")))),
        CHANGES,
    ),
    (
        "for the same weeks",
        order(*(dosage(dose, {"repeat": {**ONCE["repeat"], "boundsPeriod": {"start": "2026-06-01"}}})
                for dose in (MG_4, MG_5))),
        "4 mg x1 + 5 mg x1",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("drafted", "expected"), [r[1:] for r in SEVERAL], ids=[r[0] for r in SEVERAL])
def test_several_dosages(drafted: dict[str, Any], expected: str) -> None:
    dose = read_dose(drafted, NOT_NAMED)
    assert (dose.why or said(dose)) == expected


# --- no dose ------------------------------------------------------------------------------------------------

ABSENT: list[tuple[str, dict[str, Any]]] = [
    ("no dosageInstruction", {}),
    ("null", {"dosageInstruction": None}),
    ("an empty list", order()),
    ("an empty Dosage", order({})),
    ("timing alone", order(dosage(None))),
    ("a unit but no number yet", order(dosage({"unit": "mg"}))),
    ("a number that is null", order(dosage({"value": None, "unit": "mg"}))),
    ("a blank text", order(dosage(None, text=" "))),
    ("an empty doseAndRate", order({"doseAndRate": [], "timing": TWICE})),
    ("a timing that can't be read", order(dosage(None, {"repeat": "soon"}))),
]


@pytest.mark.parametrize("drafted", [row[1] for row in ABSENT], ids=[row[0] for row in ABSENT])
def test_an_order_that_says_no_dose_yet_is_absent(drafted: dict[str, Any]) -> None:
    assert read_dose(drafted, TABLET_5) == OrderedDose(DoseState.ABSENT)


# --- unreadable ---------------------------------------------------------------------------------------------

SHAPE, NUMBER, RANGE = (
    "is not in the shape that FHIR gives it",
    "is not given as a plain number",
    "is a range",
)
TIME = "a time of day in the timing is not understood"
PERIOD, CLASH = "the timing lacks its period or the unit of it", "parts of the timing contradict each other"

UNREADABLE: list[tuple[str, Any, str]] = [
    # the instruction
    ("text only", order({"text": "5 mg twice daily"}), "free text only"),
    ("text and timing", order(dosage(None, text="5 mg twice daily")), "free text only"),
    ("patient instruction only", order({"patientInstruction": "one in the morning"}), "free text only"),
    ("additional instruction only", order({"additionalInstruction": [{"text": "ask"}]}), "free text only"),
    ("R5 rendered text only", {"renderedDosageInstruction": "5 mg twice daily"}, "free text only"),
    ("as needed", order(dosage(asNeededBoolean=True)), "as needed"),
    ("R5 as needed", order(dosage(asNeeded=True)), "as needed"),
    ("as needed for pain", order(dosage(asNeededCodeableConcept={"text": "pain"})), "as needed"),
    ("R5 as needed for pain", order(dosage(asNeededFor=[{"text": "pain"}])), "as needed"),
    ("as needed as a string", order(dosage(asNeededBoolean="true")), "not given as true or false"),
    ("a modifier extension", order(dosage(modifierExtension=[{"url": "urn:x"}])), "modifier extension"),
    ("one in the timing", order(dosage(timing={**TWICE, "modifierExtension": [{}]})), "modifier extension"),
    ("instruction a string", {"dosageInstruction": "5 mg"}, SHAPE),
    ("instruction a list of strings", {"dosageInstruction": ["5 mg"]}, SHAPE),
    ("no timing", order(dosage(timing=None)), "the dose has no timing"),
    ("an empty timing", order(dosage(timing={})), "the dose has no timing"),
    ("bounds alone", repeated(boundsPeriod={"start": "2026-06-01"}), "the dose has no timing"),
    ("sequence a string", order(dosage(sequence="1")), NUMBER),
    # the amount
    ("no unit", order(dosage({"value": 5})), "no unit"),
    ("a unit that is no amount", order(dosage({"value": 5, "unit": "spoonful"})), "is not mg"),
    ("per kg", order(dosage({"value": 5, "unit": "mg/kg"})), "as a rate"),
    ("code and unit at odds", order(dosage({**MG_5, "unit": "mL"})), "contradict"),
    ("number a string", order(dosage({**MG_5, "value": "5"})), NUMBER.replace("is not given as a ", "")),
    ("number a boolean", order(dosage({**MG_5, "value": True})), "plain number"),
    ("zero", order(dosage({**MG_5, "value": 0})), "zero or less"),
    ("negative", order(dosage({**MG_5, "value": -5})), "zero or less"),
    ("a comparator", order(dosage({**MG_5, "comparator": "<="})), "comparator"),
    ("a quantity as a string", order(dosage("5 mg")), SHAPE),
    ("doseAndRate as a string", order({"doseAndRate": "5 mg", "timing": TWICE}), SHAPE),
    ("a range", order({"doseRange": {"low": MG_4, "high": MG_5}, "timing": TWICE}), RANGE),
    ("a range without end", order({"doseRange": {"low": MG_4}, "timing": TWICE}), RANGE),
    ("a range as a string", order({"doseRange": "4-5 mg", "timing": TWICE}), SHAPE),
    ("two doses", order(rates({"doseQuantity": MG_4}, {"doseQuantity": MG_5})), "more than one dose"),
    ("a rate", order(rates({"rateRatio": {"numerator": MG_5}})), "as a rate"),
    ("a rate in STU3", order({"rateQuantity": MG_5, "timing": TWICE}), "as a rate"),
    ("two places at odds", order(dosage(MG_4, doseQuantity=MG_5)), "more than one dose"),
    # the timing
    ("frequency without period", repeated(frequency=2), PERIOD),
    ("period without unit", repeated(frequency=2, period=1), PERIOD),
    ("unit without period", repeated(frequency=2, periodUnit="d"), PERIOD),
    ("times of day, period without unit", repeated(when=["MORN"], period=2), PERIOD),
    ("a month", repeated(frequency=1, period=1, periodUnit="mo"), "minutes, hours, days or weeks"),
    ("a year", repeated(frequency=1, period=1, periodUnit="a"), "minutes, hours, days or weeks"),
    ("a unit as a list", repeated(frequency=1, period=1, periodUnit=["d"]), "minutes, hours, days or weeks"),
    ("two units", repeated(frequency=1, period=1, periodUnit="d", periodUnits="wk"), CLASH),
    ("one to two times", daily(1, frequencyMax=2), RANGE),
    ("up to two times", repeated(frequencyMax=2, period=1, periodUnit="d"), RANGE),
    ("every 6 to 8 hours", repeated(frequency=1, period=6, periodMax=8, periodUnit="h"), RANGE),
    ("frequency a string", daily("2"), NUMBER),
    ("frequency a boolean", daily(True), NUMBER),
    ("frequency zero", daily(0), "zero or less"),
    ("frequency a half", daily(Decimal("0.5")), "no whole number"),
    ("period zero", repeated(frequency=1, period=0, periodUnit="d"), "zero or less"),
    ("some weekdays", daily(1, dayOfWeek=["mon", "thu"]), "days of the week"),
    ("an unknown time of day", repeated(when=["TEATIME"]), TIME),
    ("with meals, how many?", repeated(when=["PC"]), "with meals"),
    ("a meal and the morning", repeated(when=["PC", "MORN"]), TIME),
    ("morning, but twice", daily(2, when=["MORN"]), "times of day and the frequency"),
    ("morning, evening, but once", daily(1, when=["MORN", "EVE"]), "times of day and the frequency"),
    ("no such hour", repeated(timeOfDay=["25:00:00"]), TIME),
    ("no such minute", repeated(timeOfDay=["08:60:00"]), TIME),
    ("hour in words", repeated(timeOfDay=["eight"]), TIME),
    ("clock and event at odds", repeated(timeOfDay=["08:00:00"], when=["EVE"]), CLASH),
    ("code and repeat at odds", coded(gts("BID"), frequency=1, period=1, periodUnit="d"), CLASH),
    ("code and time of day at odds", coded(gts("AM"), when=["EVE"]), CLASH),
    ("code and frequency at odds", coded(gts("BID"), frequency=3), PERIOD),
    ("two codes at odds", coded({"coding": [*gts("BID")["coding"], *gts("QD")["coding"]]}), CLASH),
    ("code and text at odds", coded({**gts("BID"), "text": "once daily"}), CLASH),
    ("an unknown code", coded(gts("SOMETIMES")), "not understood"),
    ("of another system", coded({"coding": [{"system": "urn:local", "code": "BID"}]}), "not understood"),
    ("a text of its own", coded({"text": "when it suits"}), "not understood"),
    ("a month by code", coded(gts("MO")), "not understood"),
    ("dates only", order(dosage(timing={"event": ["2026-06-01"]})), "a list of dates"),
    ("timing a string", order(dosage(timing="BID")), SHAPE),
    ("two timings", order(dosage(timing=[TWICE, ONCE])), SHAPE),
    ("repeat a number", order(dosage(timing={"repeat": 2})), SHAPE),
    ("not an order", ["BID"], SHAPE),
]  # fmt: skip


@pytest.mark.parametrize(("drafted", "why"), [r[1:] for r in UNREADABLE], ids=[r[0] for r in UNREADABLE])
def test_what_is_not_understood_is_unreadable_with_its_reason(drafted: Any, why: str) -> None:
    dose = read_dose(drafted, TABLET_5)
    assert (dose.state, dose.regimen) == (DoseState.UNREADABLE, None)
    assert why in (dose.why or "")


@pytest.mark.parametrize(
    ("quantity", "product", "why"),
    [
        (PILL, NOT_NAMED, "the dose is in tablets and the strength of the tablet is not known"),
        (PILL, SOLUTION, "the dose is in tablets and the product is no tablet"),
        (PILL, CAPSULE, "the dose is in tablets and the product is no tablet"),
        ({"value": 5, "unit": "mL"}, TABLET_5, "the strength of the product in mg/mL is not known"),
        ({"value": 5, "unit": "mL"}, NOT_NAMED, "the strength of the product in mg/mL is not known"),
    ],
)
def test_without_the_strength_there_are_no_milligrams(quantity: Any, product: Product, why: str) -> None:
    dose = read_dose(order(dosage(quantity)), product)
    assert dose.state is DoseState.UNREADABLE
    assert why in (dose.why or "")


# --- the code tables and the reader agree -------------------------------------------------------------------


def most(value: object, *, per: object = 1, unit: str = "d", code: str = "mg", name: str = "code") -> Any:
    """``maxDosePerPeriod``: so many mg in so long."""
    return {"numerator": {"value": value, name: code}, "denominator": {"value": per, name: unit}}


MAXIMA: list[tuple[dict[str, Any], bool]] = [
    ({"maxDosePerPeriod": most(10)}, True),
    ({"maxDosePerPeriod": most(9)}, False),
    ({"maxDosePerPeriod": [most(10), most(9)]}, False),
    ({"maxDosePerPeriod": most(5, per=12, unit="h")}, True),
    ({"maxDosePerPeriod": most(9, per=24, unit="h")}, False),
    ({"maxDosePerPeriod": most(9, unit="day", name="unit")}, False),
    ({"maxDosePerPeriod": most(69, unit="wk")}, False),
    ({"maxDosePerPeriod": most(70, unit="wk")}, True),
    ({"maxDosePerPeriod": most(1, code="{tablet}")}, True),  # of a strength that is not known
    ({"maxDosePerPeriod": most(1, code="mg/kg")}, True),
    ({"maxDosePerPeriod": most(1, unit="a")}, True),
    ({"maxDosePerPeriod": most(1, per=0)}, True),
    ({"maxDosePerPeriod": {"numerator": MG_4}}, True),
    ({"maxDosePerPeriod": "9 mg a day"}, True),
    ({"maxDosePerAdministration": MG_5}, True),
    ({"maxDosePerAdministration": MG_4}, False),
    ({"maxDosePerAdministration": {**MG_4, "value": None}}, True),
]


@pytest.mark.parametrize(("maximum", "within"), MAXIMA, ids=str)
def test_a_dose_above_its_own_maximum_is_unreadable(maximum: dict[str, Any], within: bool) -> None:
    dose = read_dose(order(dosage(**maximum)), NOT_NAMED)
    assert (dose.state is DoseState.READ) is within
    if not within:
        assert dose.why == "the dose is above the maximum that the order itself sets"


TIMING_CODES = {
    c for name, rows in concepts.index().concepts.items() if name.startswith("timing-") for c in rows
}
WHEN_CODES = {c for name, rows in concepts.index().concepts.items() if name.startswith("when-") for c in rows}
UNIT_CODES = {c for name, rows in concepts.index().concepts.items() if name.startswith("unit-") for c in rows}


@pytest.mark.parametrize("row", sorted(TIMING_CODES, key=str), ids=lambda row: row.code)
def test_every_listed_timing_code_is_read_but_the_month(row: concepts.Row) -> None:
    dose = read_dose(coded({"coding": [{"system": row.system, "code": row.code}]}), NOT_NAMED)
    assert (dose.state is DoseState.READ) is (row.code != "MO")


@pytest.mark.parametrize("row", sorted(WHEN_CODES, key=str), ids=lambda row: row.code)
def test_every_listed_time_of_day_is_read(row: concepts.Row) -> None:
    once = daily(1, when=[row.code])
    assert read_dose(once, NOT_NAMED).state is DoseState.READ


@pytest.mark.parametrize("row", sorted(UNIT_CODES, key=str), ids=lambda row: row.code)
def test_every_listed_unit_of_a_dose_is_read(row: concepts.Row) -> None:
    amount = read_amount({"value": 1, "system": row.system, "code": row.code})
    assert amount is not None
    assert row.concept == f"unit-{amount.kind.lower()}"


# --- anything at all ----------------------------------------------------------------------------------------

KEYS = [
    "dosageInstruction", "dosage", "text", "timing", "repeat", "code", "coding", "system", "display",
    "event", "frequency", "frequencyMax", "period", "periodMax", "periodUnit", "periodUnits", "when",
    "timeOfDay", "dayOfWeek", "boundsPeriod", "doseAndRate", "doseQuantity", "doseRange", "low", "high",
    "value", "unit", "comparator", "asNeeded", "asNeededBoolean", "sequence", "modifierExtension",
]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=4)
    | st.sampled_from(["mg", "mL", "d", "MORN", "08:00:00", "::", "BID", UCUM, GTS, SNOMED, "1", "{pill}"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
REPEATS = st.dictionaries(st.sampled_from(KEYS), JSON | st.integers(1, 3), max_size=6)


@given(JSON, REPEATS, st.sampled_from([NOT_NAMED, TABLET_5, SOLUTION]))
def test_no_json_makes_reading_fail(anything: Any, repeat: Any, product: Product) -> None:
    for drafted in (anything, {"dosageInstruction": anything}, order(dosage(timing={"repeat": repeat}))):
        dose = read_dose(drafted, product)
        assert (dose.regimen is not None) is (dose.state is DoseState.READ)
        assert (dose.why is not None) is (dose.state is DoseState.UNREADABLE)
        assert dose.regimen is None or dose.regimen.mg_per_day > 0


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=12, max_size=12))
def test_no_text_of_the_order_reaches_the_reason(secret: str) -> None:
    for drafted in (
        order(dosage({"value": 5, "unit": secret})),
        order(dosage({"value": secret, "unit": "mg"})),
        order({"text": secret}),
        repeated(when=[secret]),
        repeated(frequency=1, period=1, periodUnit=secret),
        coded({"text": secret}),
    ):
        assert secret not in (read_dose(drafted, NOT_NAMED).why or secret)


# --- writing ------------------------------------------------------------------------------------------------

TOFACITINIB = Regimen((Administration(Decimal("3.2"), times_per_day=Decimal(2)),))
DIVIDED = Regimen(tuple(Administration(Decimal(2 * n), when=when) for n, when in enumerate(When, 1)))


def test_a_dose_twice_daily_is_one_dosage() -> None:
    assert write_dosage(TOFACITINIB, "R4") == [
        {
            "text": "3.2 mg twice daily by mouth",
            "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
            "route": {"coding": [{"system": SNOMED, "code": "26643006", "display": "Oral route"}]},
            "doseAndRate": [
                {"doseQuantity": {"value": Decimal("3.2"), "unit": "mg", "system": UCUM, "code": "mg"}}
            ],
        }
    ]


def test_divided_doses_are_one_dosage_for_each_time_of_day() -> None:
    written = write_dosage(DIVIDED, "R4")
    assert [(d["text"], d["timing"]["repeat"]["when"]) for d in written] == [
        ("2 mg in the morning by mouth", ["MORN"]),
        ("4 mg in the afternoon by mouth", ["AFT"]),
        ("6 mg in the evening by mouth", ["EVE"]),
    ]
    assert all(
        {"frequency": 1, "period": 1, "periodUnit": "d"}.items() <= d["timing"]["repeat"].items()
        for d in written
    )


@pytest.mark.parametrize("fhir", ["STU3", "DSTU2"])
def test_older_fhir_has_the_quantity_under_the_dosage(fhir: FhirVersion) -> None:
    (written,) = write_dosage(TOFACITINIB, fhir)
    assert written["doseQuantity"]["value"] == Decimal("3.2")
    assert "doseAndRate" not in written


def test_dstu2_has_period_units_and_one_when() -> None:
    assert [d["timing"]["repeat"] for d in write_dosage(DIVIDED, "DSTU2")] == [
        {"frequency": 1, "period": 1, "periodUnits": "d", "when": when} for when in ("MORN", "AFT", "EVE")
    ]


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (Decimal(1), "4 mg once daily by mouth"),
        (Decimal(3), "4 mg three times daily by mouth"),
        (Decimal(4), "4 mg four times daily by mouth"),
        (Decimal(6), "4 mg 6 times daily by mouth"),
        (Decimal("0.5"), "4 mg once every 2 days by mouth"),
        (Decimal(1) / 7, "4 mg once every 7 days by mouth"),
        (Decimal("1.5"), "4 mg three times every 2 days by mouth"),
    ],
)
def test_the_text_says_how_often(times: Decimal, text: str) -> None:
    (written,) = write_dosage(Regimen((Administration(Decimal("4.0"), times_per_day=times),)), "R4")
    assert written["text"] == text
    assert str(written["doseAndRate"][0]["doseQuantity"]["value"]) == "4"


@pytest.mark.parametrize(
    ("regimen", "fault"),
    [
        (Regimen(()), "empty"),
        (Regimen((Administration(Decimal(0), when=When.MORN),)), "not above zero"),
        (Regimen((Administration(Decimal(1)),)), "a time of day or times a day"),
        (Regimen((Administration(Decimal(1), When.MORN, Decimal(1)),)), "a time of day or times a day"),
        (Regimen((Administration(Decimal(1), times_per_day=Decimal(0)),)), "whole days"),
        (Regimen((Administration(Decimal(1), times_per_day=Decimal("0.3337")),)), "whole days"),
    ],
)
def test_a_regimen_that_is_no_dose_is_refused(regimen: Regimen, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        write_dosage(regimen, "R4")


AMOUNTS = st.decimals(min_value="0.01", max_value=1000, places=2) | st.decimals("0.001", 1, places=6)
BY_TIME_OF_DAY = st.lists(
    st.builds(Administration, AMOUNTS, when=st.sampled_from(When)), min_size=1, max_size=4
)
RATES = st.builds(lambda times, days: Decimal(times) / Decimal(days), st.integers(1, 24), st.integers(1, 366))
BY_FREQUENCY = st.lists(
    st.builds(Administration, AMOUNTS, times_per_day=RATES), min_size=1, max_size=3, unique_by=lambda a: a.mg
)
REGIMENS = (BY_TIME_OF_DAY | BY_FREQUENCY).map(lambda administrations: Regimen(tuple(administrations)))


@given(REGIMENS, st.sampled_from(get_args(FhirVersion)))
def test_what_is_written_is_read_back(regimen: Regimen, fhir: FhirVersion) -> None:
    drafted = {"dosageInstruction": write_dosage(regimen, fhir)}
    assert read_dose(drafted, NOT_NAMED) == OrderedDose(DoseState.READ, regimen)


@given(REGIMENS)
def test_what_is_written_is_valid_fhir(regimen: Regimen) -> None:
    for written in write_dosage(regimen, "R4"):
        R4Dosage.model_validate(written)
    for written in write_dosage(regimen, "STU3"):
        STU3Dosage.model_validate(written)
