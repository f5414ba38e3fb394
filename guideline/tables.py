"""Loading the decision tables: strict, once, with file, row and cure for every fault."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jsonschema

from guideline.cells import Cell, CellError, Choice, Span, parse_cell
from guideline.doses import Administration, Form, Regimen, When
from guideline.facts import FactKind, closure, vocabulary
from guideline.findings import Kind, Origin, Severity
from guideline.sources import the_source
from guideline.words import boxes_in_words
from guideline.yaml_text import YamlFault, read_yaml

HERE = Path(__file__).parent
DRUGS = ("tofacitinib", "baricitinib", "ruxolitinib")
FINGERPRINT_DIGITS = 12
T = TypeVar("T")


class TableFault(ValueError):
    """A table that cannot be used; the text names file, table, row, fault and cure."""


Box = Mapping[str, Cell]
"""One set of conditions that must all hold."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, which is one statement of the guideline (or one face of it).

    ``boxes`` are alternatives: the row applies where any box holds; no box at all means always.
    ``withholds`` is "row" where no dose row applies, "dose" where one applies but must not be suggested.
    ``unknown_withholds``: the dose is withheld where the row cannot be assessed, always ("true") or in one
    indication. ``visit`` dates the row by the monitoring schedule, ``orders`` are the tests that it offers to order,
    ``interrupts`` rows interrupt, reduce or stop the drug. ``unknown_bars`` is false where another row already
    asks for the datum, so that its lack does not make the dose provisional, or names the one fact whose lack does.
    ``on_limit`` is said besides where a value stands exactly on a limit of the row that another row names too.
    ``reassures`` rows say that all is
    well, so a doubtful value (a stale one, say) leaves them open. ``other_product`` rows fault the drafted product
    itself, so that its dose alone cannot put the order right.
    """

    id: str
    section: str
    boxes: tuple[Box, ...]
    applies: Box
    severity: Severity
    kind: Kind
    origin: Origin
    cite: str
    say: str
    withholds: str | None
    unknown_withholds: str | None
    reduces: bool
    dose: Regimen | None
    form: Form
    disagrees: str | None
    on_limit: str | None
    rule: str
    visit: str | None
    orders: tuple[str, ...]
    interrupts: bool
    makes_provisional: bool
    reassures: bool
    unknown_bars: bool | str
    other_product: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One decision table. ``exactly_one`` tables are proved free of holes and overlaps by the linter.

    ``stale`` says per column what a doubtful value may do there: "use" it, or use it and mark the dose
    "provisional"; by default it counts for caution only. ``view`` tables also watch a running treatment;
    ``beyond`` tables also judge a drafted order of something else for a child on a JAK inhibitor. ``stage`` says when
    a table is tried: first, after the dose row is known (of a draft, or of a running treatment), or after all
    others. ``fingerprint`` changes with everything that a reader of the table signs for (``sign_off.py``).
    """

    name: str
    file: str
    title: str
    exactly_one: bool
    drugs: tuple[str, ...]
    applies: Box
    gives: Mapping[str, str]
    columns: tuple[str, ...]
    domain: Mapping[str, Span]
    stale: Mapping[str, str]
    within: Box
    within_cite: str | None
    speaks_when_unknown: str | None
    speaks_for: str | None
    stage: str
    cross_check: bool
    about_dose: bool
    view: bool
    beyond: bool
    rows: tuple[Row, ...]
    fingerprint: str

    @property
    def is_dose_table(self) -> bool:
        return any(row.dose is not None for row in self.rows)

    def facts(self) -> Iterator[str]:
        """Every fact that the table looks at."""
        yield from self.applies
        yield from self.within
        for row in self.rows:
            yield from row.applies
            for box in row.boxes:
                yield from box


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables, in the order of the files. What follows from them alone is worked out once (``kept``)."""

    all: tuple[Table, ...]
    _kept: dict[object, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def kept(self, name: object, made: Callable[[], T]) -> T:
        """What ``made`` gives, which must follow from the tables and ``name`` alone."""
        if name not in self._kept:
            self._kept[name] = made()
        found: T = self._kept[name]
        return found

    def of(self, drug: str) -> tuple[Table, ...]:
        return self.kept(("of", drug), lambda: tuple(table for table in self.all if drug in table.drugs))

    def only(self, name: object, wanted: Callable[[Table], bool]) -> Tables:
        """The tables that are ``wanted``, which must follow from ``name`` alone."""
        return self.kept(("only", name), lambda: Tables(tuple(t for t in self.all if wanted(t))))

    def named(self, name: str) -> Table:
        return next(table for table in self.all if table.name == name)

    def facts(self) -> frozenset[str]:
        return frozenset(fact for table in self.all for fact in table.facts())

    def facts_beyond(self) -> frozenset[str]:
        """Every fact of the tables that also judge drafts of something else."""
        return Tables(tuple(table for table in self.all if table.beyond)).facts()

    def optional_facts(self, drug: str) -> tuple[FactKind, ...]:
        """What the tables of a drug look at, directly or through another fact, though nobody has to have it."""

        def found() -> tuple[FactKind, ...]:
            used = closure(Tables(self.of(drug)).facts())
            return tuple(kind for name, kind in vocabulary().items() if kind.optional and name in used)

        return self.kept(("optional", drug), found)

    def limits_in(self, table: str, fact: str) -> tuple[Decimal, ...]:
        """Every limit that one table sets on a fact, ascending."""
        return self.kept(("limits in", table, fact), lambda: Tables((self.named(table),)).limits_of(fact))

    def limits_of(self, *facts: str) -> tuple[Decimal, ...]:
        """Every limit that any table sets on the named facts, ascending."""
        return self.kept(("limits", facts), lambda: self._limits_of(facts))

    def _limits_of(self, facts: tuple[str, ...]) -> tuple[Decimal, ...]:
        found: set[Decimal] = set()
        for table in self.all:
            for row in table.rows:
                for box in row.boxes:
                    for fact, cell in box.items():
                        if fact in facts:
                            found.update(cell.limits)
        return tuple(sorted(found))


@cache
def load_tables(folder: Path = HERE / "tables") -> Tables:
    """Every table of the folder; raises ``TableFault`` at the first fault."""
    raw = raw_tables(folder)
    return Tables(tuple(build_table(entry, name) for name, entries in raw.items() for entry in entries))


def raw_tables(folder: Path = HERE / "tables") -> dict[str, list[dict[str, Any]]]:
    """The files as they were written, checked against the schema only (the mutation check starts here)."""
    schema = json.loads((HERE / "schema" / "table.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            entries = read_yaml(path)
        except YamlFault as fault:
            raise TableFault(str(fault)) from None
        for error in validator.iter_errors(entries):
            place = "/".join(str(part) for part in error.absolute_path)
            raise TableFault(f"{path.name}: {place}: {error.message}. See guideline/schema/table.schema.json")
        found[path.name] = entries
    return found


def build_table(entry: Mapping[str, Any], file: str) -> Table:
    """One table from its checked entry."""
    name = entry["table"]
    place = f"{file}: {name}"
    rows = tuple(_row(row, place) for row in entry["rows"])
    table = Table(
        name=name,
        file=file,
        title=entry["title"],
        exactly_one=entry["hit"] == "exactly one",
        drugs=tuple(entry.get("drugs", DRUGS)),
        applies=_box(entry.get("applies", {}), place),
        gives=entry.get("gives", {}),
        columns=tuple(entry.get("columns", ())),
        domain=_domain(entry.get("domain", {}), place),
        stale=entry.get("stale", {}),
        within=_box(entry.get("within", {}), place),
        within_cite=entry.get("within_cite"),
        speaks_when_unknown=entry.get("speaks_when_unknown"),
        speaks_for=entry.get("speaks_for"),
        stage=f"after {entry['after']}" if "after" in entry else "first",
        cross_check=entry.get("cross_check") == "true",
        about_dose=entry.get("about") == "dose",
        view=entry.get("view") == "true",
        beyond=entry.get("beyond") == "true",
        rows=rows,
        fingerprint="",
    )
    table = replace(table, fingerprint=_fingerprint(entry, table))
    if table.exactly_one:
        for row in rows:
            for box in row.boxes:
                if strange := set(box) - set(table.columns):
                    raise TableFault(
                        f"{place}, {row.id}: {', '.join(strange)} is no column; add it to `columns`"
                    )
    return table


def _fingerprint(entry: Mapping[str, Any], table: Table) -> str:
    """Twelve hexadecimal digits of the table as written and of the facts that it names; layout is nothing."""
    kinds = (vocabulary()[name] for name in {*table.facts(), *table.domain})
    facts = {kind.name: [kind.title, kind.unit, kind.options] for kind in kinds}
    content = json.dumps({"table": entry, "facts": facts}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _row(entry: Mapping[str, Any], place: str) -> Row:
    place = f"{place}, {entry['id']}"
    if entry["section"] not in the_source().sections:
        raise TableFault(
            f'{place}: section "{entry["section"]}" is not in sources.yaml; add it or correct it'
        )
    stated = entry.get("when", "always")
    boxes = [] if stated == "always" else stated if isinstance(stated, list) else [stated]
    boxes_read = tuple(_box(box, place) for box in boxes)
    dose = entry.get("dose")
    return Row(
        id=entry["id"],
        section=entry["section"],
        boxes=boxes_read,
        applies=_box(entry.get("applies", {}), place),
        severity=Severity(entry.get("severity", "info")),
        kind=Kind(entry.get("kind", "dose" if dose else "alert")),
        origin=Origin(entry["origin"]),
        cite=" ".join(entry["cite"].split()),
        say=" ".join(entry["say"].split()),
        withholds=entry.get("withholds"),
        unknown_withholds=entry.get("unknown_withholds"),
        reduces=entry.get("reduces") == "true",
        dose=_regimen(dose) if dose else None,
        form=Form(dose["form"]) if dose else Form.ANY,
        disagrees=" ".join(entry["disagrees"].split()) if "disagrees" in entry else None,
        on_limit=" ".join(entry["on_limit"].split()) if "on_limit" in entry else None,
        rule=boxes_in_words(boxes_read),
        visit=entry.get("visit"),
        orders=tuple(entry.get("orders", ())),
        interrupts=entry.get("interrupts") == "true",
        makes_provisional=entry.get("makes_provisional") == "true",
        reassures=entry.get("reassures") == "true",
        unknown_bars=_unless_false(entry.get("unknown_bars")),
        other_product=entry.get("other_product") == "true",
    )


def _unless_false(text: str | None) -> bool | str:
    return text != "false" if text in (None, "false") else str(text)


def _regimen(dose: Mapping[str, str]) -> Regimen:
    if "mg" in dose:
        return Regimen((Administration(Decimal(dose["mg"]), times_per_day=Decimal(dose["times_per_day"])),))
    return Regimen(tuple(Administration(Decimal(dose[when]), when=when) for when in When if when in dose))


def _box(entry: Mapping[str, str], place: str) -> Box:
    box: dict[str, Cell] = {}
    for fact, text in entry.items():
        kind = vocabulary().get(fact)
        if kind is None:
            raise TableFault(f'{place}: "{fact}" is no fact; add it to facts.yaml or correct the name')
        try:
            cell = parse_cell(text)
        except CellError as fault:
            raise TableFault(f"{place}, {fact}: {fault}") from None
        if isinstance(cell, Choice) != (kind.kind == "choice"):
            raise TableFault(f'{place}, {fact}: "{text}" does not fit a {kind.kind}')
        if isinstance(cell, Choice) and (strange := set(cell.options) - set(kind.options)):
            raise TableFault(
                f"{place}, {fact}: {', '.join(sorted(strange))} is none of {', '.join(kind.options)}"
            )
        box[fact] = cell
    return box


def _domain(entry: Mapping[str, str], place: str) -> dict[str, Span]:
    found = {}
    for fact, cell in _box(entry, place).items():
        if not isinstance(cell, Span):
            raise TableFault(f"{place}: the domain of {fact} is a span")
        found[fact] = cell
    return found
