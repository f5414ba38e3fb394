"""Every statement of the register accounted for: the rows that encode it, or why none does, and what proves it.

``python -m guideline.coverage FILE`` writes the page in Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guideline.lint import Statement, register
from guideline.render import read_examples
from guideline.sources import the_source
from guideline.tables import Tables, load_tables
from guideline.yaml_text import read_yaml

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "samples"
_MOST_NAMED = 3
"""So many examples or samples are named; the rest is counted."""


@dataclass(frozen=True, slots=True)
class NotEncoded:
    """A statement without a row, and why."""

    section: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """How one ambiguity (A-nn) or ruling (R-nn) is settled, where, and what proves it (``None``: nothing yet)."""

    resolution: str
    statements: tuple[str, ...]
    test: str | None


def not_encoded() -> dict[str, NotEncoded]:
    """Statements without a row, by id."""
    entries = read_yaml(HERE / "not_encoded.yaml")
    return {id_: NotEncoded(entry["section"], entry["reason"]) for id_, entry in entries.items()}


def resolutions() -> dict[str, Resolution]:
    """Ambiguities and rulings, by id."""
    entries = read_yaml(HERE / "resolutions.yaml")
    return {
        id_: Resolution(
            entry["resolution"],
            tuple(entry["statements"]),
            None if entry["test"] == "null" else entry["test"],
        )
        for id_, entry in entries.items()
    }


def rows_by_statement(tables: Tables) -> dict[str, tuple[str, ...]]:
    """The tables that hold rows of each id."""
    found: dict[str, tuple[str, ...]] = {}
    for table in tables.all:
        for row in table.rows:
            found[row.id] = tuple(dict.fromkeys((*found.get(row.id, ()), table.name)))
    return found


def samples_by_statement(folder: Path = SAMPLES) -> dict[str, tuple[str, ...]]:
    """The sample cases that show each id; none where the folder is not there."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.glob("*/case.yaml")):
        for id_ in read_yaml(path).get("shows", ()):
            found[id_] = (*found.get(id_, ()), path.parent.name)
    return found


def orphans(tables: Tables) -> tuple[list[str], list[str]]:
    """Statements with neither a row nor a reason, and rows or reasons without a statement."""
    known, accounted = set(register()), {*rows_by_statement(tables), *not_encoded()}
    return sorted(known - accounted), sorted(accounted - known)


def page() -> str:
    """The page as GFM."""
    tables, statements = load_tables(), register()
    lost, strange = orphans(tables)
    settled = resolutions()
    unproved = sum(each.test is None for each in settled.values())
    lines = [
        "# Coverage of the guideline",
        "",
        "Generated from `guideline/tables`, `not_encoded.yaml`, `resolutions.yaml`, the examples and the samples by "
        "`make page`; change it there.",
        "",
        f"**{len(statements) - len(lost)} of {len(statements)} accounted for**, "
        f"{len(not_encoded())} of them without a row and with their reason; "
        f"{len(lost) + len(strange)} orphans.",
        "",
        f"{len(settled)} ambiguities and rulings settled, {unproved} of them without a test of their own.",
        "",
    ]
    by_section: dict[str, list[Statement]] = {}
    for statement in statements.values():
        by_section.setdefault(statement.sections[0] if statement.sections else "", []).append(statement)
    rows, left_out = rows_by_statement(tables), not_encoded()
    examples, samples = read_examples(), samples_by_statement()
    for number, title in {**the_source().sections, "": "Whole document"}.items():
        if found := by_section.get(number):
            heading = title if number in ("", title) else f"{number} {title}"
            lines += [f"## {heading}", ""]
            lines += ["| statement | encoded in | examples | samples |", "|---|---|---|---|"]
            lines += [_line(each.id, rows, left_out, examples, samples) for each in found]
            lines.append("")
    lines += [
        "## Ambiguities and rulings",
        "",
        "| id | resolution | statements | proved by |",
        "|---|---|---|---|",
    ]
    lines += [_resolution_line(id_, each) for id_, each in settled.items()]
    return "\n".join([*lines, ""])


def _line(
    id_: str,
    rows: Mapping[str, tuple[str, ...]],
    left_out: Mapping[str, NotEncoded],
    examples: Mapping[str, tuple[str, ...]],
    samples: Mapping[str, tuple[str, ...]],
) -> str:
    where = ", ".join(rows.get(id_, ())) or (
        f"no row: {left_out[id_].reason}" if id_ in left_out else "**nowhere**"
    )
    return f"| {id_} | {where} | {_named(examples.get(id_, ()))} | {_named(samples.get(id_, ()))} |"


def _named(names: Sequence[str]) -> str:
    shown = "; ".join(names[:_MOST_NAMED]).replace("|", "\\|")
    more = len(names) - _MOST_NAMED
    return f"{shown}; {more} more" if more > 0 else shown or "-"


def _resolution_line(id_: str, each: Resolution) -> str:
    proof = each.test or "nothing yet"
    return f"| {id_} | {each.resolution} | {', '.join(each.statements)} | {proof} |"


def main(arguments: Sequence[str]) -> int:
    Path(arguments[0]).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
