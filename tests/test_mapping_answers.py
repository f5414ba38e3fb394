"""Results that answer in words: which one counts, and what it means.

A positive pregnancy test is a contraindication (TOFA-CI-05), which makes it visible on the cards.
"""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    SNOMED,
    Json,
    answer,
    bundle,
    cards,
    concept,
    draft,
    findings,
    hook_request,
    missing,
    prefetch_of,
)

POSITIVE, NEGATIVE, INDETERMINATE = "10828004", "260385009", "82334004"
FLAGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"


def answered(*results: Json) -> list[Json]:
    """A girl of 14 with these pregnancy tests."""
    data = prefetch_of(birth="2012-01-01", weight="45", height="155") | {"statuses": bundle(*results)}
    return cards(hook_request([draft("tofacitinib", 5)], data))


def hcg(**change: Any) -> Json:
    one = answer("19080-1", NEGATIVE, "hcg-1") | change
    return {name: value for name, value in one.items() if value is not None}


def is_hit(found: list[Json]) -> bool:
    finding = findings(found).get("TOFA-CI-05")
    return finding is not None and finding["outcome"] == "hit"


def is_unclear(found: list[Json]) -> bool:
    finding = findings(found).get("TOFA-CI-05")
    return finding is not None and finding["outcome"] == "cannot-assess"


SAID: dict[str, tuple[Json, str]] = {
    "code, negative": ({}, "negative"),
    "code, positive": ({"valueCodeableConcept": concept(POSITIVE)}, "positive"),
    "code of the finding": ({"valueCodeableConcept": concept("250423000")}, "positive"),
    "code of the negative finding": ({"valueCodeableConcept": concept("250425007")}, "negative"),
    "code of a state, contradicted by its words": (
        {
            "valueCodeableConcept": {
                "coding": [{"system": SNOMED, "code": "77386006", "display": "Not pregnant"}]
            }
        },
        "unclear",
    ),
    "flag, positive": ({"valueCodeableConcept": None, "interpretation": [concept("POS", FLAGS)]}, "positive"),
    "flag, negative": ({"valueCodeableConcept": None, "interpretation": [concept("NEG", FLAGS)]}, "negative"),
    "negative code, positive flag": ({"interpretation": [concept("POS", FLAGS)]}, "unclear"),
    "true": ({"valueCodeableConcept": None, "valueBoolean": True}, "positive"),
    "false": ({"valueCodeableConcept": None, "valueBoolean": False}, "negative"),
    "words, positive": ({"valueCodeableConcept": None, "valueString": "POSITIVE"}, "positive"),
    "words, negative": ({"valueCodeableConcept": {"text": "Not detected"}}, "negative"),
    "words, not pregnant": ({"valueCodeableConcept": {"text": "Not pregnant"}}, "negative"),
    "words, equivocal": ({"valueCodeableConcept": {"text": "equivocal, repeat; not positive"}}, "unclear"),
    "words of both kinds": (
        {"valueCodeableConcept": {"text": "Positive (negative control valid)"}},
        "unclear",
    ),
    "words of a flag": ({"valueCodeableConcept": None, "interpretation": "negative"}, "negative"),
    "words of neither kind": ({"valueCodeableConcept": {"text": "see report"}}, "unclear"),
    "a number": ({"valueCodeableConcept": None, "valueQuantity": {"value": 5, "unit": "IU/L"}}, "unclear"),
    "nothing": ({"valueCodeableConcept": None}, "unclear"),
    "modifier": ({"modifierExtension": [{"url": "http://x"}]}, "unclear"),
}


@pytest.mark.parametrize(("change", "meaning"), SAID.values(), ids=SAID)
def test_what_a_result_says(change: Json, meaning: str) -> None:
    found = answered(hcg(**change))
    assert is_hit(found) is (meaning == "positive")
    assert is_unclear(found) is (meaning == "unclear")
    assert (("pregnancy", "unreadable") in missing(found)) is (meaning == "unclear")


POSITIVE_TEST = {"valueCodeableConcept": concept(POSITIVE)}
WHICH: dict[str, tuple[list[Json], str]] = {
    "newest positive": ([hcg(), hcg(id="new", effectiveDateTime="2026-05-30", **POSITIVE_TEST)], "positive"),
    "newest by instant": (
        [
            hcg(),
            hcg(id="new", effectiveDateTime=None, effectiveInstant="2026-05-30T01:00:00Z", **POSITIVE_TEST),
        ],
        "positive",
    ),
    "newest by period": (
        [
            hcg(),
            hcg(id="new", effectiveDateTime=None, effectivePeriod={"start": "2026-05-30"}, **POSITIVE_TEST),
        ],
        "positive",
    ),
    "same day": ([hcg(), hcg(id="new", **POSITIVE_TEST)], "positive"),
    "positive without date": ([hcg(), hcg(id="new", effectiveDateTime=None, **POSITIVE_TEST)], "positive"),
    "negative without date": ([hcg(effectiveDateTime=None)], "unclear"),
    "positive from the future": (
        [hcg(), hcg(id="new", effectiveDateTime="2027-01-01", **POSITIVE_TEST)],
        "positive",
    ),
    "preliminary": ([hcg(), hcg(id="new", status="preliminary", **POSITIVE_TEST)], "negative"),
    "in error": ([hcg(), hcg(id="new", status="entered-in-error", **POSITIVE_TEST)], "negative"),
    "another patient's": (
        [hcg(), hcg(id="new", subject={"reference": "Patient/p2"}, **POSITIVE_TEST)],
        "negative",
    ),
}


@pytest.mark.parametrize(("results", "meaning"), WHICH.values(), ids=WHICH)
def test_which_result_counts_whatever_the_order_of_arrival(results: list[Json], meaning: str) -> None:
    for arrived in (results, results[::-1]):
        found = answered(*arrived)
        assert is_hit(found) is (meaning == "positive")
        assert is_unclear(found) is (meaning == "unclear")
