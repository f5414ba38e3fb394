"""The indication of an order: its own reason, else the child's conditions (ruling 12)."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    ASTHMA,
    ENTHESITIS,
    EXTENDED_OLIGO_UVEITIS,
    GVHD,
    JDM,
    JIA,
    LUPUS,
    OLIGO,
    POLY_JIA,
    SAVI,
    SYSTEMIC_JIA,
    UVEITIS,
    Json,
    ask,
    cards,
    concept,
    condition,
    dose,
    draft,
    evidence,
    findings,
    given,
    hook_request,
    missing,
    outcome,
    prefetch_of,
    texts,
)

ICD10 = "http://hl7.org/fhir/sid/icd-10"
ORPHANET = "http://www.orpha.net"
WORDS_UNREAD = "reason could not be read"


def baricitinib(*conditions: str | Json, **order: Any) -> list[Json]:
    return ask(draft("baricitinib", 4, 1, **order), conditions=conditions)


def indication(found: list[Json]) -> str | None:
    one = dose(found)
    return None if one is None else one["indication"]


# --- from the conditions --------------------------------------------------------------------------

ALONE: dict[str, tuple[Json, str | None]] = {
    "JIA": (condition(JIA), "jia"),
    "JIA, ICD-10": (condition("M08.3", system=ICD10), "jia"),
    "JIA, ICD-10 without its dot": (condition("M083", system=ICD10), "jia"),
    "JIA, the old name": (condition("410795001"), "jia"),
    "uveitis of JIA": (condition(UVEITIS), "jia"),
    "JDM": (condition(JDM), "jdm"),
    "JDM, ICD-10": (condition("M33.0", system=ICD10), "jdm"),
    "SAVI": (condition(SAVI), "interferonopathy"),
    "Aicardi-Goutières": (condition("51", system=ORPHANET), "interferonopathy"),
    "PRAAS": (condition("324977", system=ORPHANET), "interferonopathy"),
    "Aicardi syndrome is another disease": (condition("80651009"), None),
    "lupus": (condition(LUPUS), None),
    "asthma": (condition(ASTHMA), None),
}


@pytest.mark.parametrize(("one", "expected"), ALONE.values(), ids=ALONE)
def test_an_order_without_reason_takes_the_one_condition(one: Json, expected: str | None) -> None:
    assert indication(baricitinib(one, ASTHMA)) == expected


def test_no_indication_on_record_gives_every_dose_as_text_and_none_to_take() -> None:
    found = baricitinib(ASTHMA)
    assert given(found) == "-"
    assert ("indication", "absent") in missing(found)
    for words in ("In JIA", "In JDM", "In monogenic interferonopathy"):
        assert words in texts(found)
    assert [f["id"] for f in findings(found).values() if ("indication", "absent") in _gaps(f)] == [
        "IND-OTHER-01"
    ]


def _gaps(finding: Json) -> set[tuple[str, str]]:
    return {(gap["fact"], gap["reason"]) for gap in finding["missing"]}


def test_several_indications_and_none_on_the_order() -> None:
    found = baricitinib(SAVI, POLY_JIA)
    assert given(found) == "-"
    assert "In JIA: 4 mg once daily" in texts(found)
    assert "In monogenic interferonopathy: 2 mg morning + 2 mg evening" in texts(found)
    assert "In JDM" not in texts(found)
    assert evidence(found, "indication") == {"jia", "interferonopathy"}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ((SAVI, UVEITIS), "interferonopathy"),  # uveitis alone is no second indication
        ((SAVI, LUPUS), "interferonopathy"),  # nor is a disease that the guideline does not list
        ((JDM, JDM), "jdm"),
        ((JIA, UVEITIS), "jia"),
        ((SAVI, GVHD), None),
    ],
)
def test_what_counts_as_several(conditions: tuple[str, ...], expected: str | None) -> None:
    assert indication(baricitinib(*conditions)) == expected


@pytest.mark.parametrize("reason", ["failed", "not-supplied"])
def test_conditions_that_could_not_be_had(reason: str) -> None:
    data = prefetch_of()
    if reason == "failed":
        data["conditions"] = outcome()
    else:
        del data["conditions"]
    found = cards(hook_request([draft("baricitinib", 4, 1)], data))
    assert given(found) == "-"
    assert ("indication", reason) in missing(found)


# --- from the order -------------------------------------------------------------------------------

REASONS: dict[str, tuple[Json, str | None]] = {
    "list": ({"reasonCode": [concept(JDM)]}, "jdm"),
    "object": ({"reasonCode": concept(JDM)}, "jdm"),
    "DSTU2": ({"reasonCodeableConcept": concept(JDM)}, "jdm"),
    "R5": ({"reason": [{"concept": concept(JDM)}]}, "jdm"),
    "reference": ({"reasonReference": [{"reference": "Condition/c0"}]}, "jdm"),
    "reference, object": ({"reasonReference": {"reference": "Condition/c0"}}, "jdm"),
    "reference, absolute": ({"reasonReference": [{"reference": "http://x/fhir/Condition/c0"}]}, "jdm"),
    "reference, R5": ({"reason": [{"reference": {"reference": "Condition/c0"}}]}, "jdm"),
    "reference, contained": (
        {"reasonReference": [{"reference": "#k"}], "contained": [condition(JDM, "k")]},
        "jdm",
    ),
    "known code that is no indication": ({"reasonCode": [concept(ASTHMA)]}, None),
    "not listed": ({"reasonCode": [concept(LUPUS)]}, None),
    "code and words": ({"reasonCode": [{"text": "JDM"}, concept(JDM)]}, "jdm"),
}


@pytest.mark.parametrize(("reason", "expected"), REASONS.values(), ids=REASONS)
def test_the_orders_reason_goes_before_the_conditions(reason: Json, expected: str | None) -> None:
    found = baricitinib(JDM, SAVI, **reason)
    assert indication(found) == expected
    assert WORDS_UNREAD not in texts(found)
    if expected is None:
        assert findings(found)["IND-OTHER-01"]["outcome"] == "hit"


UNREAD: dict[str, Json] = {
    "words only": {"reasonCode": [{"text": "dermatomyositis"}]},
    "local code": {"reasonCode": [concept("JDM", "http://example.org/codes")]},
    "a word": {"reasonCode": "JDM"},
    "unresolved reference": {"reasonReference": [{"reference": "Condition/gone"}]},
    "another patient's condition": {"reasonReference": [{"reference": "Condition/other"}]},
    "a modified condition": {"reasonReference": [{"reference": "Condition/modified"}]},
}


@pytest.mark.parametrize("reason", UNREAD.values(), ids=UNREAD)
def test_an_unread_reason_is_told_and_the_conditions_are_used(reason: Json) -> None:
    others = [
        condition(JDM, "other", subject={"reference": "Patient/p2"}),
        condition(JDM, "modified", modifierExtension=[{"url": "http://x"}]),
    ]
    found = baricitinib(SAVI, *others, **reason)
    assert indication(found) == "interferonopathy"
    assert WORDS_UNREAD in texts(found)


def test_a_resolved_reason_counts_as_none() -> None:
    ended = condition(JDM, "ended", clinicalStatus="resolved")
    assert (
        indication(baricitinib(SAVI, ended, reasonReference=[{"reference": "Condition/ended"}]))
        == "interferonopathy"
    )


INACTIVE = condition(JDM, "ended", clinicalStatus=concept("inactive", "http://x"))


def test_an_inactive_disease_is_the_indication_where_the_order_names_it() -> None:
    found = baricitinib(SAVI, INACTIVE, reasonReference=[{"reference": "Condition/ended"}])
    assert indication(found) == "jdm"
    assert "on record as inactive; it was used" in texts(found)


def test_an_inactive_disease_is_none_where_the_order_is_silent_and_the_card_says_so() -> None:
    found = baricitinib(ASTHMA, INACTIVE)
    assert indication(found) is None
    assert "It was not taken for the indication" in texts(found)
    assert "It was not taken for the indication" not in texts(baricitinib(ASTHMA))


def test_two_reasons_of_different_diseases() -> None:
    found = baricitinib(POLY_JIA, reasonCode=[concept(JDM), concept(SAVI)])
    assert given(found) == "-"
    assert evidence(found, "indication") == {"jdm", "interferonopathy"}


# --- JIA categories in tofacitinib ----------------------------------------------------------------

CATEGORIES: dict[str, tuple[tuple[str | Json, ...], str, str]] = {
    # conditions, dose, id that must be there
    "RF-positive": ((POLY_JIA,), "TOFA-DOSE-04", "IND-TOFA-02"),
    "RF-negative": (("410797009",), "TOFA-DOSE-04", "IND-TOFA-02"),
    "polyarticular": (("1961000",), "TOFA-DOSE-04", "IND-TOFA-02"),
    "psoriatic": (("239802003",), "TOFA-DOSE-04", "IND-TOFA-02"),
    "extended oligoarticular (with uveitis)": ((EXTENDED_OLIGO_UVEITIS,), "TOFA-DOSE-04", "IND-TOFA-02"),
    "not said": ((JIA,), "TOFA-DOSE-04?", "IND-TOFA-02"),
    "oligoarticular": ((OLIGO,), "TOFA-DOSE-04?", "IND-TOFA-02"),
    "enthesitis-related": ((ENTHESITIS,), "-", "IND-OTHER-01"),
    "systemic": ((SYSTEMIC_JIA,), "-", "IND-TOFA-07"),
    "uveitis alone": ((UVEITIS,), "-", "IND-TOFA-07"),
    "polyarticular with uveitis": ((POLY_JIA, UVEITIS), "TOFA-DOSE-04", "IND-TOFA-02"),
    "JIA made precise by another": ((JIA, POLY_JIA), "TOFA-DOSE-04", "IND-TOFA-02"),
    "two kinds of polyarticular": (("1961000", "410797009"), "TOFA-DOSE-04", "IND-TOFA-02"),
    "contradictory, RF": ((POLY_JIA, "410797009"), "TOFA-DOSE-04", "IND-TOFA-02"),
    "polyarticular and psoriatic": ((POLY_JIA, "239802003"), "TOFA-DOSE-04", "IND-TOFA-02"),
    "contradictory, one without a row": ((POLY_JIA, SYSTEMIC_JIA), "-", "IND-TOFA-07"),
    "contradictory, enthesitis": ((POLY_JIA, ENTHESITIS), "-", "IND-OTHER-01"),
}


@pytest.mark.parametrize(("conditions", "row", "id_"), CATEGORIES.values(), ids=CATEGORIES)
def test_jia_categories(conditions: tuple[str, ...], row: str, id_: str) -> None:
    found = ask(draft("tofacitinib", 4), conditions=conditions)
    assert given(found) == row
    assert id_ in findings(found)


def test_a_reason_of_jia_alone_takes_its_category_from_the_conditions() -> None:
    drafted = draft("tofacitinib", 4, reasonCode=[concept(JIA)])
    assert given(ask(drafted, conditions=[POLY_JIA])) == "TOFA-DOSE-04"
    assert given(ask(drafted, conditions=[])) == "TOFA-DOSE-04?"


def test_baricitinib_outside_the_trials_categories_warns_and_keeps_its_dose() -> None:
    found = baricitinib(SYSTEMIC_JIA)
    assert given(found) == "BARI-JIA-02"
    assert findings(found)["IND-BARI-04"]["severity"] == "warning"
