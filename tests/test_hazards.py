"""The hazard log: complete lines, ratings that a control may only lower, and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guideline.examples import read_examples

TESTS = Path(__file__).parent
LOG = TESTS.parent / "docs" / "hazards.md"
COLUMNS = ("id", "hazard", "cause", "effect", "harm", "severity", "before", "after", "control", "test")
FEWEST = 25


def hazards() -> list[dict[str, str]]:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in LOG.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    head, _, *body = rows
    assert tuple(head) == COLUMNS
    return [dict(zip(head, row, strict=True)) for row in body]


HAZARDS = hazards()


EXAMPLES = {f"{example.file}: {example.name}" for example in read_examples(TESTS / "examples")}


def exists(name: str) -> bool:
    """Whether ``test_file.py::test_name``, or ``file.yaml: name`` of an example, is there."""
    file, _, test = name.partition("::")
    path = TESTS / file
    if not test or not path.is_file():
        return name in EXAMPLES
    return re.search(rf"^def {re.escape(test)}\(", path.read_text("utf-8"), re.M) is not None


def test_there_are_enough_and_each_has_its_own_id() -> None:
    assert len(HAZARDS) >= FEWEST
    assert [hazard["id"] for hazard in HAZARDS] == [f"H-{n:02}" for n in range(1, len(HAZARDS) + 1)]


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard["id"])
def test_a_hazard_is_complete_and_its_test_exists(hazard: dict[str, str]) -> None:
    assert all(hazard[column] for column in COLUMNS)
    severity, before, after = (int(hazard[column]) for column in ("severity", "before", "after"))
    assert all(1 <= rating <= 5 for rating in (severity, before, after))
    assert after <= before, "a control does not make a hazard likelier"
    names = re.findall(r"`([^`]+)`", hazard["test"])
    assert names
    for name in names:
        assert exists(name), f"{hazard['id']}: there is no {name}"


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert exists("test_hazards.py::test_a_test_that_is_not_there_is_noticed")
    assert not exists("test_hazards.py::test_made_up")
    assert not exists("test_made_up.py::test_made_up")
    assert not exists("histories.yaml: made up")
