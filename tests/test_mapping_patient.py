"""The child: partial, odd and missing birth dates, and whose Patient it is."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    Json,
    bundle,
    cards,
    draft,
    findings,
    given,
    hook_request,
    missing,
    outcome,
    post,
    prefetch_of,
    texts,
)


def born(birth: Any, on: str = "2026-06-01", **patient: Any) -> list[Json]:
    """Baricitinib for a child with JIA: 2 mg before the 9th birthday, 4 mg from then to the 18th."""
    data = prefetch_of()
    data["patient"] |= {"birthDate": birth, **patient}
    return cards(hook_request([draft("baricitinib", 4, 1)], data, on=on))


BIRTHS: dict[str, tuple[Any, str]] = {
    "a day": ("2016-05-14", "BARI-JIA-02"),
    "blanks around": (" 2016-05-14 ", "BARI-JIA-02"),
    "with a time": ("2016-05-14T10:00:00Z", "BARI-JIA-02"),
    "9th birthday today": ("2017-06-01", "BARI-JIA-02"),
    "9th birthday tomorrow": ("2017-06-02", "BARI-JIA-01"),
    "18th birthday tomorrow": ("2008-06-02", "BARI-JIA-02"),
    "18th birthday today": ("2008-06-01", "-"),
    "2nd birthday today": ("2024-06-01", "BARI-JIA-01"),
    "2nd birthday tomorrow": ("2024-06-02", "-"),
    "a year far from a limit": ("2014", "BARI-JIA-02"),
    "a year that allows 8 and 9": ("2017", "-"),
    "a month far from a limit": ("2018-05", "BARI-JIA-01"),
    "the month of the 9th birthday, over": ("2017-05", "BARI-JIA-02"),
    "the month of the 9th birthday, not over": ("2017-06", "-"),
    "the month of the 18th birthday": ("2008-06", "-"),
}


@pytest.mark.parametrize(("birth", "row"), BIRTHS.values(), ids=BIRTHS)
def test_the_age_in_completed_years(birth: str, row: str) -> None:
    # The usual height is odd at 2 and at 17 years, which makes the eGFR unknown and the dose provisional.
    assert given(born(birth)).rstrip("?") == row


def test_a_child_of_29_february() -> None:
    data = prefetch_of(birth="2016-02-29")
    for on, row in (("2025-02-28", "BARI-JIA-01"), ("2025-03-01", "BARI-JIA-02")):
        assert given(cards(hook_request([draft("baricitinib", 4, 1)], data, on=on))).rstrip("?") == row


NOT_USABLE: dict[str, tuple[Any, str]] = {
    "missing": (None, "absent"),
    "empty": ("", "absent"),
    "not in the calendar": ("2016-02-30", "unreadable"),
    "another order": ("14-05-2016", "unreadable"),
    "without hyphens": ("20160514", "unreadable"),
    "week date": ("2016-W20-1", "unreadable"),
    "odd month": ("2016-+5", "unreadable"),
    "something behind it": ("2016-05-14xyz", "unreadable"),
    "month 13": ("2016-13", "unreadable"),
    "year 0": ("0000", "unreadable"),
    "a number": (2016, "unreadable"),
    "a list": (["2016-05-14"], "unreadable"),
    "in the future": ("2026-06-02", "implausible"),
    "next year": ("2027", "implausible"),
    "131 years ago": ("1895-01-01", "implausible"),
}


@pytest.mark.parametrize(("birth", "reason"), NOT_USABLE.values(), ids=NOT_USABLE)
def test_without_a_usable_birth_date_there_are_cards_and_no_dose(birth: Any, reason: str) -> None:
    """Ruling 23."""
    found = born(birth)
    assert given(found) == "-"
    assert ("birthDate", reason) in missing(found)
    assert "Could not be checked" in texts(found)


def test_the_birth_date_on_the_card_is_as_precise_as_it_was_given() -> None:
    for birth in ("2014", "2014-05", "2014-05-03"):
        values = {
            item["value"]
            for finding in findings(born(birth)).values()
            for item in finding["evidence"]
            if item["fact"] == "birthDate"
        }
        assert values == {birth}


def test_a_modified_patient_has_no_birth_date() -> None:
    assert ("birthDate", "unreadable") in missing(born("2016-05-14", modifierExtension=[{"url": "http://x"}]))


@pytest.mark.parametrize("sex", ["female", "male", "other", "unknown", "odd", None, 5])
def test_the_sex_never_breaks_an_answer(sex: object) -> None:
    assert given(born("2016-05-14", gender=sex)) == "BARI-JIA-02"


PATIENTS: dict[str, Any] = {
    "absent": ...,
    "null": None,
    "error": outcome(),
    "another's": {"resourceType": "Patient", "id": "p2", "birthDate": "2016-05-14"},
    "without id": {"resourceType": "Patient", "birthDate": "2016-05-14"},
    "of another type": {"resourceType": "Person", "id": "p1", "birthDate": "2016-05-14"},
    "a word": "Patient/p1",
}


@pytest.mark.parametrize("patient", PATIENTS.values(), ids=PATIENTS)
def test_without_the_patient_nothing_can_be_said(patient: Any) -> None:
    data = prefetch_of()
    del data["patient"]
    if patient is not ...:
        data["patient"] = patient
    response = post(hook_request([draft("baricitinib", 4, 1)], data))
    assert response.status_code == 412
    assert "Patient" in response.get_json()["issue"][0]["diagnostics"]


def test_the_patient_may_come_in_a_bundle_or_under_another_key() -> None:
    data = prefetch_of()
    patient = data.pop("patient")
    drafted = [draft("baricitinib", 4, 1)]
    assert given(cards(hook_request(drafted, data | {"patient": bundle(patient)}))) == "BARI-JIA-02"
    assert given(cards(hook_request(drafted, data | {"child": patient}))) == "BARI-JIA-02"
    other = {"resourceType": "Patient", "id": "p2", "birthDate": "2024-01-01"}
    assert given(cards(hook_request(drafted, data | {"patient": bundle(other, patient)}))) == "BARI-JIA-02"
