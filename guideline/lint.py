"""The linter of the decision tables: every fault at once, each with place, proof and cure.

``jaki-cds lint`` runs it; no network, no clock. A table that cannot be built is a fault too, and the tables that
can be built are still checked.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from guideline.cells import Cell, Choice, Span
from guideline.facts import vocabulary
from guideline.findings import Origin
from guideline.tables import HERE, Box, Row, Table, TableFault, Tables, build_table
from guideline.values import Interval, Value
from guideline.yaml_text import YamlFault, read_yaml

REGISTER = HERE / "statements.csv"
SHOWN_POINTS = 5
"""So many points of a table are listed one by one; the rest is counted."""
CLAIM = {Origin.PRINTED: 2, Origin.DERIVED: 1, Origin.DEFAULT: 0}
"""How much of the guideline's authority an origin claims."""
STEP = Decimal(1)

_USAGE = "usage: jaki-cds lint [FOLDER]   (FOLDER holds table files; without it, the service's own tables)"
WHOLE_LINE = Span(None, None, low_open=False, high_open=False)


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of the register: its sections (none where the guideline is silent) and its origin."""

    id: str
    sections: tuple[str, ...]
    origin: Origin


@cache
def register() -> Mapping[str, Statement]:
    """Every statement of the guideline by id (``statements.csv``)."""
    with REGISTER.open(encoding="utf-8", newline="") as stream:
        return {
            line["id"]: Statement(
                line["id"],
                tuple(part.strip() for part in line["section"].split(";") if part.strip()),
                Origin(line["origin"]),
            )
            for line in csv.DictReader(stream)
        }


def main(args: Sequence[str]) -> int:
    """Prints every fault of the tables; 0 without fault, 1 with, 2 for a wrong call."""
    folder = Path(args[0]) if args else HERE / "tables"
    if len(args) > 1 or not folder.is_dir():
        print(_USAGE, file=sys.stderr)
        return 2
    tables, found = load(folder)
    found += faults(tables)
    for fault in found:
        print(fault)
    rows = sum(len(table.rows) for table in tables.all)
    print(
        f"{len(tables.all)} tables, {rows} rows, {len(found) or 'no'} fault{'' if len(found) == 1 else 's'}"
    )
    return 1 if found else 0


def load(folder: Path) -> tuple[Tables, list[str]]:
    """The tables of a folder that can be built, and the faults of those that cannot."""
    schema = json.loads((HERE / "schema" / "table.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    built: list[Table] = []
    found: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            entries = read_yaml(path)
        except YamlFault as fault:
            found.append(str(fault))
            continue
        misshapen = [_shape_fault(path.name, entries, error) for error in validator.iter_errors(entries)]
        found += misshapen
        for entry in () if misshapen else entries:
            table, wrong = _build(entry, path.name)
            found += wrong
            built += [table] if table is not None else []
    return Tables(tuple(built)), found


def _shape_fault(file: str, entries: Any, error: jsonschema.ValidationError) -> str:
    """A breach of the schema, placed by table and row rather than by index."""
    place, node = [file], entries
    for part in error.absolute_path:
        node = node[part]
        name = node.get("table") or node.get("id") if isinstance(node, dict) else None
        place.append(str(name or part))
    return f"{': '.join(place)}: {error.message}; see guideline/schema/table.schema.json"


def _build(entry: Mapping[str, Any], file: str) -> tuple[Table | None, list[str]]:
    """The table, or the faults of each of its rows (``build_table`` stops at the first)."""
    try:
        return build_table(entry, file), []
    except TableFault as first:
        found = [str(first)]
    for row in entry["rows"]:
        try:
            build_table({**entry, "rows": [row]}, file)
        except TableFault as fault:
            found.append(str(fault))
    return None, list(dict.fromkeys(found))


def faults(tables: Tables) -> list[str]:
    """Every fault of tables that could be built, in the order of the files."""
    found: list[str] = []
    seen: set[str] = set()
    for table in tables.all:
        if table.name in seen:
            found.append(f"{_place(table)}: this name stands twice; give one of the tables another")
        seen.add(table.name)
        found += _table_faults(table)
        for row in table.rows:
            found += _row_faults(table, row)
        if table.exactly_one:
            found += partition_faults(table)
    return [*found, *_twins(tables)]


def _place(table: Table, row: Row | None = None) -> str:
    return f"{table.file}: {table.name}" + (f", {row.id}" if row is not None else "")


# --- tables and rows by themselves -----------------------------------------------------------------


def _table_faults(table: Table) -> Iterator[str]:
    place, used = _place(table), set(table.facts())
    spokesman = table.speaks_when_unknown
    if spokesman is not None and all(row.id != spokesman for row in table.rows):
        yield f"{place}: speaks_when_unknown names {spokesman}, which is no row of it; name one of its rows"
    if spokesman is not None and any(row.unknown_withholds for row in table.rows):
        yield f"{place}: unknown_withholds is lost where one row speaks for all; remove speaks_when_unknown"
    if table.speaks_for is not None and table.speaks_for not in vocabulary():
        yield f'{place}: speaks_for "{table.speaks_for}" is no fact; add it to facts.yaml or correct the name'
    for fact in sorted(set(table.stale) - used):
        yield f'{place}: stale names "{fact}", which the table does not ask; remove it or correct the name'
    if bool(table.within) != (table.within_cite is not None):
        yield f"{place}: within and within_cite belong together; write the one that is lacking"
    if table.is_dose_table and not table.cross_check and not table.gives:
        yield f"{place}: a dose table says for which indication it gives its doses; write `gives`"
    if table.cross_check and not table.is_dose_table:
        yield f"{place}: a cross-check compares doses and none of its rows has one; remove `cross_check`"
    for column in table.columns:
        if column not in vocabulary():
            yield f'{place}: column "{column}" is no fact; add it to facts.yaml or correct the name'
        elif column not in used:
            yield f'{place}: no row asks for column "{column}"; remove it or use it'


def _row_faults(table: Table, row: Row) -> Iterator[str]:
    place = _place(table, row)
    statement = register().get(row.id)
    if statement is None:
        yield f"{place}: this id is not in statements.csv; correct it (ids are never made up or reused)"
    else:
        yield from _origin_faults(place, row, statement)
        if statement.sections and row.section not in statement.sections:
            yield (
                f'{place}: section "{row.section}" is not where the register finds it '
                f"({', '.join(statement.sections)}); name one of these"
            )
    if table.exactly_one and row.applies:
        yield f"{place}: rows of an exactly-one table have no `applies`; make it a column"
    for box in row.boxes or ({},):
        if not _can_hold([table.applies, row.applies, box]):
            yield f"{place}: its conditions exclude each other, so it can never apply; correct `when` or `applies`"


def _origin_faults(place: str, row: Row, statement: Statement) -> Iterator[str]:
    if row.origin is statement.origin:
        return
    if row.origin is Origin.DEFAULT and _names_a_ruling(row.cite):
        return
    more = CLAIM[row.origin] > CLAIM[statement.origin]
    cure = "write the register's" if more else "write the register's, or `default` with the ruling in `cite`"
    yield f"{place}: origin {row.origin}, but the register says {statement.origin}; {cure}"


def _names_a_ruling(cite: str) -> bool:
    """Whether the citation says which ruling or ambiguity (A-nn) the service's own default rests on."""
    words = (
        cite.replace("(", " ").replace(")", " ").replace(",", " ").replace(";", " ").replace(":", " ").split()
    )
    return "ruling" in words or any(word[:2] == "A-" and word[2:].isdigit() for word in words)


# --- exactly one row for every child ------------------------------------------------------------------


def partition_faults(table: Table) -> list[str]:
    """Holes, overlaps and dead rows of an *exactly one* table, each with a point that proves it.

    Whether a row holds can change only at one of its limits. So the limits themselves, the ends of the domain,
    and one point between each two neighbours (which is just above the one and just below the other) decide
    every point of the domain, for every combination of options.
    """
    place = _place(table)
    if not table.columns:
        return [f"{place}: an exactly-one table names its columns; write `columns`"]
    if unknown := [column for column in table.columns if column not in vocabulary()]:
        return [f"{place}: not probed, since {', '.join(unknown)} is no fact; correct `columns` first"]
    found: list[str] = []
    axes: list[list[Value]] = []
    for column in table.columns:
        cells = [box[column] for row in table.rows for box in row.boxes if column in box]
        kind = vocabulary()[column]
        if kind.kind == "choice":
            allowed = table.applies.get(column)
            axes.append([o for o in kind.options if allowed is None or allowed.test(o)])
            continue
        domain = table.domain.get(column)
        if domain is None:
            return [
                f'{place}: column "{column}" has no domain; write for example domain: {{{column}: "(0, inf)"}}'
            ]
        limits = {limit for cell in cells for limit in cell.limits}
        for limit in sorted(limits):
            if (domain.low is not None and limit < domain.low) or (
                domain.high is not None and limit > domain.high
            ):
                found.append(
                    f"{place}: {column} {limit} lies outside the domain {domain}; widen it or correct the limit"
                )
        axes.append([Interval.exactly(point) for point in probes(domain, limits)])
    found += [
        f'{place}: the domain names "{fact}", which is no number column; remove it or add the column'
        for fact in table.domain
        if fact not in table.columns or vocabulary()[fact].kind == "choice"
    ]
    return found + _probe(table, axes)


def probes(domain: Span, limits: Iterable[Decimal]) -> list[Decimal]:
    """The points of a domain at which to ask: its ends, every limit, and one point in every gap between them."""
    stops = sorted({*limits, *domain.limits})
    if not stops:
        return [Decimal(0)]
    between = [(low + high) / 2 for low, high in itertools.pairwise(stops)]
    points = sorted({stops[0] - STEP, *stops, *between, stops[-1] + STEP})
    return [point for point in points if domain.test(Interval.exactly(point))]


def _probe(table: Table, axes: list[list[Value]]) -> list[str]:
    holes: list[str] = []
    overlaps: dict[tuple[int, ...], str] = {}
    alive: set[int] = set()
    for values in itertools.product(*axes):
        point = dict(zip(table.columns, values, strict=True))
        hit = tuple(index for index, row in enumerate(table.rows) if _holds(row, point))
        alive.update(hit)
        if not hit:
            holes.append(_in_words(point))
        elif len(hit) > 1:
            overlaps.setdefault(hit, _in_words(point))
    place = _place(table)
    found = [f"{place}: {hole} fits no row; widen a row or add one" for hole in holes[:SHOWN_POINTS]]
    if len(holes) > SHOWN_POINTS:
        found.append(f"{place}: {len(holes) - SHOWN_POINTS} more points that were tried fit no row")
    for hit, words in overlaps.items():
        rows = " and ".join(f"{table.rows[i].id} ({_conditions(table.rows[i])})" for i in hit)
        found.append(f"{place}: {words} fits both {rows}; make one end open")
    for index, row in enumerate(table.rows):
        if index not in alive:
            found.append(
                f"{_place(table, row)}: no point of the domain reaches it; remove it or correct `when`"
            )
    return found


def _holds(row: Row, point: Mapping[str, Value]) -> bool:
    return not row.boxes or any(
        all(fact in point and cell.test(point[fact]) for fact, cell in box.items()) for box in row.boxes
    )


def _in_words(point: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{f} {format(v.low or Decimal(0), 'f') if isinstance(v, Interval) else v}" for f, v in point.items()
    )


def _conditions(row: Row) -> str:
    return (
        "; or ".join(", ".join(f"{fact} {cell}" for fact, cell in box.items()) for box in row.boxes)
        or "always"
    )


# --- rows against each other ----------------------------------------------------------------------------


def _can_hold(boxes: Iterable[Box]) -> bool:
    """Whether some value of every fact fits all the boxes at once."""
    by_fact: dict[str, list[Cell]] = {}
    for box in boxes:
        for fact, cell in box.items():
            by_fact.setdefault(fact, []).append(cell)
    return all(_common(cells) for cells in by_fact.values())


def _common(cells: list[Cell]) -> bool:
    options = [set(cell.options) for cell in cells if isinstance(cell, Choice)]
    if options:
        return bool(set.intersection(*options))
    points = probes(WHOLE_LINE, {limit for cell in cells for limit in cell.limits})
    return any(all(cell.test(Interval.exactly(point)) for cell in cells) for point in points)


def _twins(tables: Tables) -> Iterator[str]:
    """Rows of one statement that could both speak at the same severity, so that one sentence would be lost."""
    spoken = [(table, row) for table in tables.all if not table.cross_check for row in table.rows]
    for (table, row), (other, twin) in itertools.combinations(spoken, 2):
        if row.id != twin.id or not set(table.drugs) & set(other.drugs):
            continue
        if (table.stage == "after view") != (other.stage == "after view") and not (table.view and other.view):
            continue  # a running dose is judged where no order is being drafted, a drafted one nowhere else
        both = f"{_place(table, row)} ({_conditions(row)}) and {_place(other, twin)} ({_conditions(twin)})"
        if (row, table.applies) == (twin, other.applies):
            yield f"{both}: the same row twice; remove one"
        elif row.severity is twin.severity and any(
            _can_hold([table.applies, row.applies, a, other.applies, twin.applies, b])
            for a in row.boxes or ({},)
            for b in twin.boxes or ({},)
        ):
            yield f"{both}: both can apply at severity {row.severity}; only one is shown, so part them"
