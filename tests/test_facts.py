"""The vocabulary of facts: what every entry says, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from guideline import facts
from guideline.facts import closure, vocabulary
from guideline.values import Interval
from guideline.words import box_in_words, boxes_in_words, unit_words
from guideline.yaml_text import YamlFault


def test_every_fact_is_a_number_with_a_unit_or_a_choice_with_options() -> None:
    for kind in vocabulary().values():
        assert (kind.unit is not None) == (kind.kind == "number"), kind.name
        assert bool(kind.options) == (kind.kind == "choice"), kind.name
        assert kind.title
        assert kind.read_from


def test_a_series_is_its_own_concept_unless_it_says_otherwise() -> None:
    assert vocabulary()["weight"].concepts == ("weight",)
    assert vocabulary()["whiteCells"].concepts == ("white-cells",)
    assert vocabulary()["egfr"].concepts == ()


def test_a_fact_carries_its_public_name() -> None:
    assert vocabulary()["age"].named == "birthDate"
    assert vocabulary()["weight"].named == "weight"


def test_the_closure_holds_what_a_fact_is_made_from() -> None:
    assert closure(frozenset({"egfrLowest"})) == {
        "egfrLowest",
        "egfr",
        "egfrLaboratory",
        "height",
        "creatinine",
    }
    assert closure(frozenset()) == frozenset()
    # A fact that two others use is followed once.
    assert "egfr" in closure(frozenset({"egfrLowest", "egfrDisagrees"}))


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "facts.yaml"
    monkeypatch.setattr(facts, "VOCABULARY", path)
    vocabulary.cache_clear()
    yield path
    vocabulary.cache_clear()


WRONG = [
    ("weight: {kind: number, unit: kg, title: weight, from: series, colour: red}", "weight: unknown colour"),
    ("weight: {kind: text, title: weight, from: series}", "weight: kind is number (with a unit) or choice"),
    (
        "dialysis: {kind: choice, title: dialysis, from: conditions}",
        "dialysis: kind is number (with a unit) or choice",
    ),
    ("weight: {kind: number, title: weight, from: series}", "weight: a number needs its one unit"),
    (
        "d: {kind: choice, options: [a], unit: kg, title: d, from: order}",
        "d: a number needs its one unit, a choice",
    ),
    (
        "d: {kind: choice, options: [a], title: d, from: derived, uses: [e]}",
        'd: uses "e", which is not in the list',
    ),
]


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_a_wrong_entry_is_refused_by_name(listed: Path, text: str, fault: str) -> None:
    listed.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(YamlFault) as told:
        vocabulary()
    assert f"facts.yaml, {fault}" in str(told.value)


def test_an_interval_knows_whether_it_is_exact() -> None:
    assert Interval.exactly(Decimal(3)).exact == 3
    assert Interval(Decimal(3), Decimal(4)).exact is None
    assert Interval(None, None).exact is None


def test_units_in_a_clinicians_words() -> None:
    assert unit_words("10*9/L") == "×10⁹/L"
    assert unit_words("kg") == "kg"
    assert unit_words(None) == ""


def test_no_condition_is_always() -> None:
    assert boxes_in_words(()) == "always"
    assert box_in_words({}) == ""
