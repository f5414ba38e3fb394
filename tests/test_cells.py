"""The cell grammar: spans and choices, exact at every end, and three answers for a value known by its bounds."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline.cells import Cell, CellError, Choice, Span, parse_cell
from guideline.derive import GivenFacts
from guideline.evaluate import ask_cell
from guideline.values import Cause, Interval, Reason

numbers = st.decimals(min_value=-50, max_value=50, places=1)


def span(text: str) -> Span:
    cell = parse_cell(text)
    assert isinstance(cell, Span)
    return cell


def at(number: str) -> Interval:
    return Interval.exactly(Decimal(number))


INSIDE = [
    ("[10, 20)", "10", True),
    ("[10, 20)", "9.99", False),
    ("[10, 20)", "19.99", True),
    ("[10, 20)", "20", False),
    ("(10, 20]", "10", False),
    ("(10, 20]", "20", True),
    ("[12, 12]", "12", True),
    ("[12, 12]", "12.01", False),
    (">= 3", "3", True),
    (">= 3", "2.9", False),
    ("> 3", "3", False),
    ("> 3", "3.001", True),
    ("<= 3", "3", True),
    ("<= 3", "3.001", False),
    ("< 3", "3", False),
    ("< 3", "2.999", True),
    ("(0, inf)", "0", False),
    ("(0, inf)", "1000000", True),
    ("[-2, 0]", "-1.5", True),
]


@pytest.mark.parametrize(("cell", "number", "inside"), INSIDE)
def test_a_span_holds_its_numbers_exactly(cell: str, number: str, inside: bool) -> None:
    assert span(cell).test(at(number)) is inside


D = Decimal
BOUNDED = [
    ("< 5", Interval(None, D(5), high_open=True), True),
    ("< 5", Interval(None, D(5)), None),
    ("< 5", Interval(D(5), None), False),
    ("<= 5", Interval(None, D(5)), True),
    ("<= 5", Interval(D(5), None, low_open=True), False),
    ("<= 5", Interval(D(5), None), None),
    ("> 5", Interval(D(5), None, low_open=True), True),
    ("> 5", Interval(D(5), None), None),
    ("> 5", Interval(None, D(5)), False),
    (">= 5", Interval(D(5), None), True),
    (">= 5", Interval(None, D(5), high_open=True), False),
    (">= 5", Interval(None, D(5)), None),
    ("[2, 9)", Interval(D(3), D(8)), True),
    ("[2, 9)", Interval(D(8), D(9)), None),
    ("[2, 9)", Interval(D(9), D(10)), False),
    ("[2, 9)", Interval(None, None), None),
    ("< 5", Interval(None, None), None),
]


@pytest.mark.parametrize(("cell", "value", "answer"), BOUNDED)
def test_a_value_that_is_only_bounds_decides_where_both_ends_agree(
    cell: str, value: Interval, answer: bool | None
) -> None:
    assert span(cell).test(value) is answer


spans = st.builds(
    lambda a, b, low_open, high_open: Span(min(a, b), max(a, b), low_open, high_open),
    numbers,
    numbers,
    st.booleans(),
    st.booleans(),
)


@given(spans, numbers, numbers, numbers)
def test_an_answer_about_bounds_holds_for_every_number_between(
    cell: Span, one: Decimal, other: Decimal, within: Decimal
) -> None:
    low, high = min(one, other), max(one, other)
    answer = cell.test(Interval(low, high))
    if answer is not None and low <= within <= high:
        assert cell.test(Interval.exactly(within)) is answer


@given(spans)
def test_a_span_is_written_as_it_is_read(cell: Span) -> None:
    assert parse_cell(str(cell)) == cell


@pytest.mark.parametrize(
    "text", ["< 5", "<= 5", "> 5", ">= 5.50", "[1, 2)", "(1, 2]", "yes", "psoriatic | systemic"]
)
def test_a_cell_is_written_as_it_stood(text: str) -> None:
    assert str(parse_cell(text)) == text


def test_an_open_end_is_a_limit_of_one_side() -> None:
    assert parse_cell("[10, inf)") == parse_cell(">= 10")
    assert span(">= 10").limits == (Decimal(10),)
    assert span("[1, 2)").limits == (Decimal(1), Decimal(2))
    assert parse_cell("yes | no").limits == ()


WORDS = [
    ("< 5", "below 5"),
    ("<= 5", "5 or less"),
    ("> 5", "above 5"),
    (">= 5", "5 or more"),
    ("[10, 20)", "from 10 up to but not including 20"),
    ("(10, 20]", "above 10 up to and including 20"),
    ("polyarticular | psoriatic", "polyarticular or psoriatic"),
]


@pytest.mark.parametrize(("cell", "words"), WORDS)
def test_a_cell_in_words(cell: str, words: str) -> None:
    assert parse_cell(cell).in_words() == words


def test_a_choice_holds_its_options() -> None:
    cell = parse_cell(" yes | not-known ")
    assert cell == Choice(("yes", "not-known"))
    assert cell.test("yes") is True
    assert cell.test("no") is False


@pytest.mark.parametrize(("cell", "value"), [("< 5", "yes"), ("yes", at("5"))])
def test_a_cell_asked_of_the_other_kind_is_a_fault_of_ours(cell: str, value: Interval | str) -> None:
    asked: Cell = parse_cell(cell)
    with pytest.raises(TypeError, match="was asked of a"):
        asked.test(value)


@pytest.mark.parametrize(
    "text", ["", "5", "= 5", "[5, 4, 3]", "[inf, 5]", "5 to 6", "< 5 kg", "yes no", "1.5.2"]
)
def test_what_is_no_cell_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CellError, match=r'is no cell; write for example "\[10, 20\)"'):
        parse_cell(text)


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(CellError, match="write the smaller number first"):
        parse_cell("[20, 10)")


def test_a_fact_that_nobody_gave_is_not_supplied() -> None:
    said = ask_cell("haemoglobin", parse_cell("<= 10"), GivenFacts(), None)
    assert (said.holds, said.causes) == (None, (Cause("haemoglobin", Reason.NOT_SUPPLIED),))
