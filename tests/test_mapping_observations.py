"""Observations: which result is used, with which value, and why another one is not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from builders import (
    AS_OF,
    HEALTHY,
    LOINC,
    POLY_JIA,
    SAVI,
    SNOMED,
    TAKEN,
    Json,
    ask,
    bundle,
    concept,
    divided,
    draft,
    evidence,
    findings,
    given,
    hook_request,
    missing,
    observation,
    order,
    prefetch_of,
    quantity,
    texts,
)
from builders import cards as answered

NEWER, NEWEST = "2026-05-28", "2026-05-30"


def weighed(*results: Json, on: str = AS_OF) -> list[Json]:
    """A girl of 10 with JIA and these weights; the usual height."""
    return ask(draft("tofacitinib", 4), weight=None, results=results, on=on)


def weight(value: str | int = "30", on: str = NEWEST, id_: str = "w2", **more: Any) -> Json:
    return observation("weight", value, on=on, id_=id_, **more)


OLDER = weight("45", on=TAKEN, id_="w1")
"""45 kg is another band (5 mg) than 30 kg (4 mg): the dose tells which result was used."""


# --- status ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["final", "amended", "corrected", "AMENDED"])
def test_final_results_are_used(status: str) -> None:
    assert given(weighed(weight(status=status), OLDER)) == "TOFA-DOSE-04"


@pytest.mark.parametrize("status", ["preliminary", "registered", "unknown", "odd", None, 5])
def test_results_that_are_not_final_are_not_used_and_named(status: object) -> None:
    found = weighed(weight(status=status), OLDER)
    assert given(found) == "TOFA-DOSE-05"
    assert "Not yet final and therefore not used: weight." in texts(found)


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_withdrawn_results_do_not_exist(status: str) -> None:
    found = weighed(weight(status=status), OLDER)
    assert given(found) == "TOFA-DOSE-05"
    assert "Not yet final" not in texts(found)


# --- dates ----------------------------------------------------------------------------------------

DATES: dict[str, tuple[Json, str]] = {
    "dateTime": ({"effectiveDateTime": NEWEST}, "TOFA-DOSE-04"),
    "dateTime with zone": ({"effectiveDateTime": "2026-05-30T23:59:59.5+01:00"}, "TOFA-DOSE-04"),
    "instant": ({"effectiveInstant": "2026-05-30T10:00:00Z"}, "TOFA-DOSE-04"),
    "period": ({"effectivePeriod": {"start": "2026-05-01", "end": NEWEST}}, "TOFA-DOSE-04"),
    "period that began": ({"effectivePeriod": {"start": NEWEST}}, "TOFA-DOSE-04"),
    "old period": ({"effectivePeriod": {"start": "2026-04-01", "end": "2026-04-02"}}, "TOFA-DOSE-05"),
    "year and month: may be the newer": ({"effectiveDateTime": "2026-05"}, "TOFA-DOSE-05?"),
    "year: may be the newer": ({"effectiveDateTime": "2026"}, "TOFA-DOSE-05?"),
    "tomorrow, by another clock": ({"effectiveDateTime": "2026-06-02T00:30:00+02:00"}, "TOFA-DOSE-04"),
    "issued does not count": (
        {"effectiveDateTime": "2026-04-01", "issued": "2026-06-01T00:00:00Z"},
        "TOFA-DOSE-05",
    ),
}


@pytest.mark.parametrize(("when", "row"), DATES.values(), ids=DATES)
def test_the_clinical_date_decides(when: Json, row: str) -> None:
    newer = weight()
    del newer["effectiveDateTime"]
    assert given(weighed(newer | when, OLDER)) == row


UNDATED = {
    "none": {},
    "no date": {"effectiveDateTime": "lately"},
    "not in the calendar": {"effectiveDateTime": "2026-02-30"},
    "a number": {"effectiveDateTime": 20260530},
    "future": {"effectiveDateTime": "2026-06-03"},
    "timing": {"effectiveTiming": {"event": [NEWEST]}},
}


@pytest.mark.parametrize("when", UNDATED.values(), ids=UNDATED)
def test_a_result_without_usable_date_is_not_used_and_leaves_a_doubt(when: Json) -> None:
    """It may be the newest, so the older one does not give a firm dose."""
    newer = weight()
    del newer["effectiveDateTime"]
    found = weighed(newer | when, OLDER)
    assert given(found) == "TOFA-DOSE-05?"
    assert ("weight", "unreadable") in missing(found)


ZONES = {
    "same day": ("2026-05-25T12:00:00Z", "2026-05-25T12:30:00+02:00"),
    "another day by its own clock": ("2026-05-25T23:30:00Z", "2026-05-26T00:10:00+02:00"),
    "a day alone is its beginning": ("2026-05-25T00:30:00Z", "2026-05-25"),
}


@pytest.mark.parametrize(("newer", "older"), ZONES.values(), ids=ZONES)
def test_time_zones_are_reckoned_with(newer: str, older: str) -> None:
    results = [weight("30", on=newer, id_="wa"), weight("45", on=older, id_="wb")]
    assert given(weighed(*results)) == given(weighed(*results[::-1])) == "TOFA-DOSE-04"


def test_results_of_one_moment_are_taken_in_the_same_order_whatever_the_order_of_arrival() -> None:
    one, other = weight(id_="wa"), weight("45", id_="wb")
    assert given(weighed(one, other)) == given(weighed(other, one))


# --- values ---------------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[Json, str]] = {
    "no value": ({"valueQuantity": None}, "unreadable"),
    "no value, with its reason": (
        {"valueQuantity": None, "dataAbsentReason": concept("unknown", "http://x")},
        "unreadable",
    ),
    "words": ({"valueQuantity": None, "valueString": "30 kg"}, "unreadable"),
    "a number in quotes": ({"valueQuantity": {"value": "30", "unit": "kg"}}, "unreadable"),
    "no number": ({"valueQuantity": {"unit": "kg"}}, "unreadable"),
    "true": ({"valueQuantity": {"value": True, "unit": "kg"}}, "unreadable"),
    "no unit": ({"valueQuantity": {"value": 30}}, "unusable-unit"),
    "odd unit": ({"valueQuantity": quantity(30, "stone")}, "unusable-unit"),
    "unit of something else": ({"valueQuantity": quantity(30, "cm")}, "unusable-unit"),
    "code and words disagree": ({"valueQuantity": quantity(30, "kg", code="g")}, "unusable-unit"),
    "odd comparator": ({"valueQuantity": quantity(30, "kg") | {"comparator": "~"}}, "comparator"),
    "comparator ad": ({"valueQuantity": quantity(30, "kg") | {"comparator": "ad"}}, "comparator"),
    "below zero": ({"valueQuantity": quantity(-30, "kg")}, "implausible"),
    "a thousand times too much": ({"valueQuantity": quantity(30000, "kg")}, "implausible"),
    "implausible for the age": ({"valueQuantity": quantity(3, "kg")}, "implausible"),
    "modifier": ({"modifierExtension": [{"url": "http://x", "valueBoolean": True}]}, "unreadable"),
    "not FHIR": ({"component": "x"}, "unreadable"),
}


@pytest.mark.parametrize(("change", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_result_is_told_with_its_reason(change: Json, reason: str) -> None:
    one = {name: value for name, value in (weight() | change).items() if value is not None}
    found = weighed(one)
    assert given(found) == "-"
    assert ("weight", reason) in missing(found)


@pytest.mark.parametrize("name", ["no value", "no unit", "modifier"])
def test_an_older_result_behind_an_unusable_one_gives_a_provisional_dose_at_most(name: str) -> None:
    change, reason = UNUSABLE[name]
    one = {name: value for name, value in (weight() | change).items() if value is not None}
    found = weighed(one, OLDER)
    assert given(found) == "TOFA-DOSE-05?"
    assert ("weight", reason) in missing(found)


def test_an_implausible_result_is_never_replaced_by_an_older_one() -> None:
    assert given(weighed(weight(30000), OLDER)) == "-"


def test_harmless_faults_of_a_resource_cost_nothing() -> None:
    one = weight(text={"status": "odd"}, performer="somebody", referenceRange="none", note=5)
    assert given(weighed(one)) == "TOFA-DOSE-04"


COMPARED: dict[str, tuple[str, str, str]] = {
    # comparator, weight, dose
    "below the band's end": ("<", "20", "-"),
    "from 40 kg on": (">=", "40", "TOFA-DOSE-05"),
    "above 40 kg": (">", "40", "TOFA-DOSE-05"),
    "at most 40 kg": ("<=", "40", "-"),
}


@pytest.mark.parametrize(("comparator", "value", "row"), COMPARED.values(), ids=COMPARED)
def test_a_bounded_value_counts_as_far_as_it_decides(comparator: str, value: str, row: str) -> None:
    one = weight(valueQuantity=quantity(value, "kg") | {"comparator": comparator})
    assert given(weighed(one)) == row


def test_a_creatinine_below_detection_is_never_taken_as_exact() -> None:
    """<30 umol/L at 132 cm is an eGFR above 158; it shows on the card as a bound."""
    low = observation("creatinine", 30) | {"valueQuantity": quantity(30, "umol/L") | {"comparator": "<"}}
    found = ask(draft("baricitinib", 4), conditions=[SAVI], creatinine=None, results=[low])
    assert given(found) == "BARI-IFN-02"
    assert "<30" in {str(value) for value in evidence(found, "creatinine")}
    at_most = low | {"valueQuantity": quantity(40, "umol/L") | {"comparator": "<"}}
    found = ask(draft("baricitinib", 4), conditions=[SAVI], creatinine=None, results=[at_most])
    assert given(found) == "-"  # above 118.8: on which side of 120 is not known


# --- codes ----------------------------------------------------------------------------------------

CODED: dict[str, tuple[Json, bool]] = {
    "LOINC": (concept("29463-7", LOINC), True),
    "LOINC by OID": (concept("29463-7", "urn:oid:2.16.840.1.113883.6.1"), True),
    "LOINC with a slash": (concept("29463-7", "http://loinc.org/"), True),
    "second coding": (
        {"coding": [{"system": "http://x", "code": "kg"}, *concept("29463-7", LOINC)["coding"]]},
        True,
    ),
    "SNOMED CT": (concept("27113001", SNOMED), True),
    "words only": ({"text": "Body weight"}, False),
    "no system": ({"coding": [{"code": "29463-7"}]}, False),
    "another system": (concept("29463-7", SNOMED), False),
    "another code": (concept("8867-4", LOINC), False),
    "no code": ({}, False),
}


@pytest.mark.parametrize(("code", "known"), CODED.values(), ids=CODED)
def test_results_are_found_by_code_alone(code: Json, known: bool) -> None:
    found = weighed(weight(code=code))
    assert (given(found) == "TOFA-DOSE-04") is known
    assert (("weight", "absent") in missing(found)) is not known


def test_a_component_counts_as_a_result() -> None:
    panel = weight(
        code=concept("85353-1", LOINC),
        component=[
            {"code": concept("8302-2", LOINC), "valueQuantity": quantity(132, "cm")},
            {"code": concept("29463-7", LOINC), "valueQuantity": quantity(30, "kg")},
            "odd",
        ],
    )
    assert given(weighed({**panel, "component": panel["component"][:2]})) == "TOFA-DOSE-04"
    assert ("weight", "unreadable") in missing(weighed(panel))


# --- whose ----------------------------------------------------------------------------------------

SUBJECTS: dict[str, tuple[Json, bool]] = {
    "ours": ({"subject": {"reference": "Patient/p1"}}, True),
    "ours, absolute": ({"subject": {"reference": "https://ehr.example/fhir/Patient/p1"}}, True),
    "ours, versioned": ({"subject": {"reference": "Patient/p1/_history/4"}}, True),
    "unsaid": ({"subject": None}, True),
    "by identifier": ({"subject": {"identifier": {"value": "1"}}}, True),
    "another's": ({"subject": {"reference": "Patient/p2"}}, False),
    "another's, absolute": ({"subject": {"reference": "https://ehr.example/fhir/Patient/p11"}}, False),
    "another's, as bare text": ({"subject": "Patient/p2"}, False),
    "another's, in the other element": ({"subject": None, "patient": {"reference": "Patient/p2"}}, False),
    "a group's": ({"subject": {"reference": "Group/p1"}}, False),
}


@pytest.mark.parametrize(("subject", "is_ours"), SUBJECTS.values(), ids=SUBJECTS)
def test_another_patients_result_is_not_used_and_told(subject: Json, is_ours: bool) -> None:
    found = weighed(weight() | subject)
    assert (given(found) == "TOFA-DOSE-04") is is_ours
    assert ("of another patient" in texts(found)) is not is_ours


# --- ranges and interpretation (ruling 13) ----------------------------------------------------------

NORMAL = {"referenceRange": [{"low": quantity(5, "U/L"), "high": quantity(40, "U/L")}]}
H = [concept("H", "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation")]
N = [concept("N", "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation")]
TYPES = "http://terminology.hl7.org/CodeSystem/referencerange-meaning"

RANGED: dict[str, tuple[Json, bool]] = {
    # the ALT of 41 and whether the bloods count as normal
    "inside": ({"referenceRange": [{"high": quantity(41, "U/L")}]}, True),
    "outside": (NORMAL, False),
    "none sent": ({}, False),
    "interpretation only, normal": ({"interpretation": N}, True),
    "interpretation only, high": ({"interpretation": H}, False),
    "interpretation of two minds": ({"interpretation": N + H}, False),
    "the range goes before the interpretation": (NORMAL | {"interpretation": N}, False),
    "bounds without a unit have the value's": (
        {"referenceRange": [{"low": {"value": 5}, "high": {"value": 50}}]},
        True,
    ),
    "bounds in another unit": (
        {"referenceRange": [{"low": quantity(5, "mg"), "high": quantity(50, "mg")}]},
        False,
    ),
    "a treatment range is no normal range": (
        {"referenceRange": [{"high": quantity(50, "U/L"), "type": concept("treatment", TYPES)}]},
        False,
    ),
    "of several ranges the narrowest counts": (
        {"referenceRange": [{"high": quantity(60, "U/L")}, {"high": quantity(40, "U/L")}]},
        False,
    ),
    "odd shapes": ({"referenceRange": [{"high": "40"}]}, False),
}


@pytest.mark.parametrize(("more", "is_normal"), RANGED.values(), ids=RANGED)
def test_normal_bloods_are_judged_by_the_laboratorys_own_range(more: Json, is_normal: bool) -> None:
    """An escalation is given only where every blood result is inside its range."""
    alt = observation("alt", 41) | {"referenceRange": None, **more}
    data = prefetch_of(
        conditions=[SAVI],
        creatinine="30",
        medicines=[order("baricitinib", dosageInstruction=divided(MORN=4, EVE=2))],
    )
    data["liver"]["entry"] = [e for e in data["liver"]["entry"] if e["resource"]["id"] != "alt-1"]
    data["liver"]["entry"].append({"resource": {k: v for k, v in alt.items() if v is not None}})
    drafted = draft("baricitinib", dosageInstruction=divided(MORN=4, EVE=4))
    found = answered(hook_request([drafted], data))
    # Provisional where there is no upper limit to compare multiples of it with.
    assert given(found).rstrip("?") == ("BARI-IFN-05" if is_normal else "-")
    assert ("BARI-IFN-08" in findings(found)) is not is_normal


def test_an_stu3_result_is_read() -> None:
    """STU3: ``interpretation`` is one concept, ``context`` and ``comment`` still exist."""
    one = weight(interpretation=N[0], context={"reference": "Encounter/e"}, comment="old shape")
    assert given(weighed(one)) == "TOFA-DOSE-04"


# --- a search that did not answer in full (ruling 18) ---------------------------------------------

GAPS: dict[str, tuple[Any, str]] = {
    "next page": ({"link": [{"relation": "next", "url": "http://x/2"}]}, "partial-page"),
    "an error among the results": (
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]},
        "failed",
    ),
    "an entry without resource": ({}, "unreadable"),
}


@pytest.mark.parametrize(("fault", "reason"), GAPS.values(), ids=GAPS)
def test_a_result_of_a_broken_off_search_may_not_be_the_newest(fault: Json, reason: str) -> None:
    data = prefetch_of()
    if "link" in fault:
        data["growth"] |= fault
    else:
        data["growth"]["entry"].append({"resource": fault} if fault else {})
    found = answered(hook_request([draft("tofacitinib", 4)], data))
    assert given(found) == "TOFA-DOSE-04?"
    assert ("weight", reason) in missing(found)


def test_a_low_haemoglobin_of_a_failed_search_still_counts() -> None:
    data = prefetch_of(bloods={"neutrophils": "3", "lymphocytes": "2"})
    data["bloodCount"] = bundle(
        observation("haemoglobin", "9"),
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]},
    )
    found = findings(answered(hook_request([draft("tofacitinib", 4)], data, conditions=[POLY_JIA])))
    assert found["TOFA-INIT-01"]["outcome"] == "hit"


def test_exact_decimals_reach_the_card() -> None:
    assert Decimal("28.55") in evidence(ask(draft("tofacitinib", 4), weight="28.55"), "weight")


SAME_DAY: dict[str, tuple[str, str, str]] = {
    # when a weight of 30 kg and one of 45 kg were taken, and the row that they give
    "two days alone": ("2026-05-25", "2026-05-25", "-"),
    "one moment": ("2026-05-25T08:00:00Z", "2026-05-25T09:00:00+01:00", "-"),
    "the lighter one later": ("2026-05-25T09:00:00Z", "2026-05-25T08:00:00Z", "TOFA-DOSE-04"),
    "the heavier one later": ("2026-05-25T08:00:00Z", "2026-05-25T09:00:00Z", "TOFA-DOSE-05"),
}


@pytest.mark.parametrize(("light", "heavy", "row"), SAME_DAY.values(), ids=SAME_DAY)
def test_of_two_weights_of_one_moment_none_is_chosen(light: str, heavy: str, row: str) -> None:
    results = [weight("30", on=light, id_="wa"), weight("45", on=heavy, id_="wb")]
    for found in (weighed(*results), weighed(*results[::-1])):
        assert given(found) == row
        assert (("weight", "unreadable") in missing(found)) is (row == "-")
        assert row != "-" or {30, 45} <= evidence(found, "weight")


# --- results of one moment ------------------------------------------------------------------------


def bled(*times: str) -> list[Json]:
    """Two haemoglobins, 12.5 and then 9.9 g/dL, at these times."""
    values = zip(("12.5", "9.9"), times, "ab", strict=True)
    return [observation("haemoglobin", value, on=on, id_=f"hb-{id_}") for value, on, id_ in values]


MOMENTS = {
    # times -> whether the low one bars the start
    "days alone": (("2026-05-25", "2026-05-25"), True),
    "the same minute": (("2026-05-25T08:00:00Z", "2026-05-25T09:00:00+01:00"), True),
    "the low one earlier": (("2026-05-25T17:00:00Z", "2026-05-25T08:00:00Z"), False),
    "the low one later": (("2026-05-25T08:00:00Z", "2026-05-25T17:00:00Z"), True),
    "the low one of the day alone": (("2026-05-25T08:00:00Z", "2026-05-25"), False),
}


@pytest.mark.parametrize(("times", "barred"), MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("step", [1, -1], ids=["as it came", "turned round"])
def test_of_results_of_one_moment_the_worse_one_warns(
    times: tuple[str, str], barred: bool, step: int
) -> None:
    bloods = {fact: value for fact, value in HEALTHY.items() if fact != "haemoglobin"}
    found = ask(draft("tofacitinib", 4), bloods=bloods, results=bled(*times)[::step])
    assert ("TOFA-INIT-01" in findings(found)) is barred
    assert (given(found) == "-") is barred


def test_the_worse_result_stands_in_the_summary() -> None:
    bloods = {fact: value for fact, value in HEALTHY.items() if fact != "haemoglobin"}
    worst, *_ = ask(draft("tofacitinib", 4), bloods=bloods, results=bled("2026-05-25", "2026-05-25"))
    assert "9.9" in worst["summary"]
    assert "12.5" not in worst["summary"]
    assert "the results of this day differ" in worst["detail"]
