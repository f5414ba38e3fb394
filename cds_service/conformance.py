"""``docs/conformance.md``: what a CDS Hooks service has to do, row by row, and the tests that show it.

Generated from ``tests/conformance.csv`` by ``make page``. A row has tests, or a reason for being left out.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LEVELS = {
    "SHALL": "the specification demands it",
    "SHALL NOT": "the specification forbids it",
    "SHOULD": "the specification recommends it",
    "MAY": "the specification allows it",
    "duty": "no keyword, but conformant clients rely on it",
    "choice": "the specification is silent; this service has decided",
}
_HEAD = """\
# Conformance

Generated from `tests/conformance.csv` by `make page`; change it there. `make test` runs the tests that are
named, and one that sees to it that each of them exists; a row is met as long as they pass. A row about
something that is never sent says so; its tests see to it that it is not.

What CDS Hooks 2.0 (and 1.0, and the clients that are known) asks of a service:

| level | meaning |
|---|---|
{levels}

| level | rows | tested | left out |
|---|---|---|---|
{counts}

| row | level | what | tests |
|---|---|---|---|
{rows}
"""


class ConformanceError(Exception):
    """A line of the table that cannot be used; the text says which, why and the cure."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is asked. ``tests`` are ``file.py::test_name``; without any, ``left_out`` says why."""

    id: str
    level: str
    statement: str
    tests: tuple[str, ...]
    left_out: str


def read_rows(path: Path) -> list[Row]:
    """The rows of ``tests/conformance.csv``.

    Raises:
        ConformanceError: an unknown level, an id twice, or not exactly one of tests and reason.
    """
    found: list[Row] = []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, strict=True):
            row = Row(
                line["id"], line["level"], line["statement"], tuple(line["tests"].split()), line["left_out"]
            )
            if None in line or row.level not in LEVELS or not row.statement:
                raise ConformanceError(f"{path.name}, row {row.id}: malformed; write it like its neighbours.")
            if bool(row.tests) == bool(row.left_out):
                raise ConformanceError(
                    f"{path.name}, row {row.id}: name its tests or why it is left out, and not both."
                )
            if any(row.id == other.id for other in found):
                raise ConformanceError(f"{path.name}, row {row.id} stands there twice; keep one.")
            found.append(row)
    return found


def page(rows: Sequence[Row]) -> str:
    """The text of ``docs/conformance.md``."""
    return _HEAD.format(
        levels="\n".join(f"| {level} | {meaning} |" for level, meaning in LEVELS.items()),
        counts="\n".join(_count(level, [row for row in rows if row.level == level]) for level in LEVELS),
        rows="\n".join(f"| {row.id} | {row.level} | {row.statement} | {_shown(row)} |" for row in rows),
    )


def _count(level: str, rows: Sequence[Row]) -> str:
    tested = sum(bool(row.tests) for row in rows)
    return f"| {level} | {len(rows)} | {tested} | {len(rows) - tested} |"


def _shown(row: Row) -> str:
    return "<br>".join(f"`{name}`" for name in row.tests) or f"*left out: {row.left_out}*"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(read_rows(Path(sys.argv[1]))), encoding="utf-8")
