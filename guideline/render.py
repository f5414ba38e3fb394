"""The tables as sentences: what ``docs/guideline.md`` and ``GET /guideline`` show and a pharmacist signs.

``python -m guideline.render FILE`` writes the page in Markdown. Every row is told whole: its conditions, its dose
or its words, what it withholds, how grave it is, who says so and where. ``content`` is what ``sign_off.csv`` names.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from guideline.facts import vocabulary
from guideline.findings import Origin
from guideline.sign_off import signatures, signed
from guideline.sources import the_source
from guideline.tables import Row, Table, Tables, load_tables
from guideline.words import box_in_words, boxes_in_words, day, plain, regimen
from guideline.yaml_text import read_yaml

EXAMPLES = Path(__file__).parent.parent / "tests" / "examples"
HOW_TO_READ = (
    "How to read a row: its statement id, when it applies, what it says, in brackets how the card shows it, then "
    "where the guideline says so. Where a fact that decides a row is missing, the card says that the row could "
    "not be checked; the row is never passed over in silence."
)
NO_ROW = "no row"
_MARKDOWN = re.compile(r"([\\`*_<>\[\]|])")

_ORIGINS = {
    Origin.PRINTED: "printed in the guideline",
    Origin.DERIVED: "follows from the guideline",
    Origin.DEFAULT: "the guideline is silent: the service's own safety default",
}
_WITHHELD = {"row": "no dose row applies, no dose is suggested", "dose": "no dose is suggested"}
_STALE = {
    "use": "An old {} is used as it is.",
    "provisional": "An old {} may still choose the row; the dose is then provisional.",
    "provisional-said-here": "An old {} may still choose the row; the dose is then provisional, and the row says so.",
}


@dataclass(frozen=True, slots=True)
class RowText:
    """One row for reading. ``shown_as`` is how grave it is and what it withholds; ``said`` who says it and where."""

    id: str
    condition: str
    says: str
    severity: str
    shown_as: str
    said: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableText:
    """One table for reading. ``scope`` are whole sentences; ``read_by`` is the state of its sign-off."""

    name: str
    title: str
    scope: tuple[str, ...]
    read_by: str
    content: str
    rows: tuple[RowText, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """The tables of one file."""

    title: str
    tables: tuple[TableText, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the document, and the rows that cite it."""

    number: str
    title: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page. ``about`` are sentences on the document behind it; ``state`` is that of the sign-off."""

    url: str
    about: tuple[str, ...]
    state: str
    chapters: tuple[Chapter, ...]
    sections: tuple[Section, ...]


Examples = Mapping[str, tuple[str, ...]]
"""The names of the worked examples, by row id."""


def page_of(tables: Tables, examples: Examples) -> Page:
    """The tables as a page, in the order of the files."""
    files = dict.fromkeys(table.file for table in tables.all)
    source = the_source()
    return Page(
        url=source.url,
        about=(
            f"{source.title}. {source.publisher}.",
            f"Edition {source.id}: accepted {day(source.accepted)}, posted {day(source.posted)}, to be reviewed "
            f"by {day(source.review_by)}. Knowledge version {source.knowledge_version}.",
        ),
        chapters=tuple(
            Chapter(
                title=Path(file).stem.replace("_", " ").capitalize(),
                tables=tuple(_table(t, examples) for t in tables.all if t.file == file),
            )
            for file in files
        ),
        state=_state(tables),
        sections=tuple(_section(n, title, tables) for n, title in source.sections.items()),
    )


def _section(number: str, title: str, tables: Tables) -> Section:
    citing = (row.id for table in tables.all for row in table.rows if row.section == number)
    return Section(number, title, tuple(dict.fromkeys(citing)))


def _state(tables: Tables) -> str:
    unread = sum(not signed(table) for table in tables.all)
    if unread == len(tables.all):
        return "No clinician has reviewed this content yet."
    if unread:
        return f"{unread} of {len(tables.all)} tables have not been reviewed by a clinician as they stand."
    return "Every table has been read against the guideline by the readers named beside it."


# --- a table --------------------------------------------------------------------------------------


def _table(table: Table, examples: Examples) -> TableText:
    told: set[str] = set()
    rows = []
    for row in table.rows:
        # The examples of a statement stand once, at its first row.
        rows.append(_row(row, examples.get(row.id, ()) if row.id not in told else ()))
        told.add(row.id)
    return TableText(
        name=table.name,
        title=table.title,
        scope=tuple(_scope(table)),
        read_by=_read_by(table),
        content=table.fingerprint,
        rows=tuple(rows),
    )


def _scope(table: Table) -> Iterator[str]:
    yield f"For {' and '.join(table.drugs)}."
    yield "Exactly one row applies." if table.exactly_one else "Any number of rows may apply."
    if table.applies:
        yield f"Only where {box_in_words(table.applies, spoken=True)}."
    if table.domain:
        yield f"Covers: {box_in_words(table.domain, spoken=True)}."
    if table.within:
        cite = f" ({table.within_cite})" if table.within_cite else ""
        yield f"A dose is suggested only where {box_in_words(table.within, spoken=True)}{cite}."
    if table.cross_check:
        yield "A second table to compare with; its doses are not suggested."
    if table.stage == "after dose":
        yield "Compares the drafted dose with the row."
    if table.stage == "after view":
        yield "Compares the running dose with the row, where no order is being drafted."
    for fact, use in table.stale.items():
        yield _STALE[use].format(vocabulary()[fact].title)
    if table.view:
        yield "Also watched in a child who is already on the drug."
    if table.speaks_when_unknown:
        yield f"What cannot be assessed in this table is told once, under {table.speaks_when_unknown}."


def _read_by(table: Table) -> str:
    readers = [f"{s.reader}, {s.role}, {day(s.on)}" for s in signatures(table)]
    return "; ".join(readers) if readers else "nobody yet"


# --- a row ----------------------------------------------------------------------------------------


def _row(row: Row, examples: tuple[str, ...]) -> RowText:
    return RowText(
        id=row.id,
        condition=_condition(row),
        says=" ".join((*_dose(row), row.say, *_besides(row))),
        severity=row.severity.value,
        shown_as="; ".join((f"{row.severity.value} {row.kind.value}", *_effects(row))),
        said=f"{row.cite}. {_capital(_ORIGINS[row.origin])}",
        examples=examples,
    )


def _condition(row: Row) -> str:
    conditions = boxes_in_words(row.boxes, spoken=True) if row.boxes else ""
    concerns = box_in_words(row.applies, spoken=True)
    if conditions and concerns:
        return f"If {conditions}; only where {concerns}"
    return f"If {conditions or concerns}" if conditions or concerns else "Always"


def _dose(row: Row) -> Iterator[str]:
    if row.dose is not None:
        form = "" if row.form.value == "any" else f", {row.form.value.replace('-', ' ')}"
        yield f"{regimen(row.dose)} ({plain(row.dose.mg_per_day)} mg per day){form}."


def _besides(row: Row) -> Iterator[str]:
    if row.disagrees is not None:
        yield f"Where the weight band of the licence gives another dose, it says besides: {row.disagrees}"
    if row.on_limit is not None:
        yield f"Of a value exactly on its limit it says besides: {row.on_limit}"


def _effects(row: Row) -> Iterator[str]:
    if row.withholds is not None:
        yield _WITHHELD[row.withholds]
    if row.unknown_withholds:
        yield "nor is one while this cannot be assessed"
    if row.reduces:
        yield "a lower or otherwise split draft is then not called wrong"
    if row.interrupts:
        yield "interrupts, reduces or stops the drug, so WITH-01 stands beside it in interferonopathy"
    if row.makes_provisional:
        yield "the dose is provisional until it is settled"
    if row.other_product:
        yield "the dose beside it is not recommended for acceptance, since the product has to be changed first"
    if row.reassures:
        yield "an old or doubtful value leaves it open"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- worked examples ------------------------------------------------------------------------------


def read_examples(folder: Path = EXAMPLES) -> dict[str, tuple[str, ...]]:
    """The worked examples by the row ids that they expect; none where the folder is not there.

    They live beside the tests, so an installed service shows the page without them.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        content = read_yaml(path)
        # A file that is a mapping holds what the examples share, no example.
        groups = content if isinstance(content, list) else ()
        for case in (case for group in groups for case in group["cases"]):
            for id_ in case.get("expect", ()):
                found[id_] = tuple(dict.fromkeys((*found.get(id_, ()), str(case["name"]))))
    return found


# --- Markdown -------------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    """The page as GFM."""
    lines = [
        "# The guideline as this service applies it",
        "",
        "Generated from `guideline/tables` by `make page`; change it there.",
        "",
        *[f"{_escaped(fact)}  " for fact in page.about],
        f"<{page.url}>",
        "",
        f"**{page.state}**",
        "",
        HOW_TO_READ,
        "",
    ]
    for chapter in page.chapters:
        lines += [f"## {chapter.title}", ""]
        for table in chapter.tables:
            lines += _table_lines(table)
    lines += ["## Sections and their rows", "", "| section | title | rows |", "|---|---|---|"]
    for section in page.sections:
        rows = ", ".join(section.rows) or NO_ROW
        lines.append(f"| {_escaped(section.number)} | {_escaped(section.title)} | {rows} |")
    return "\n".join([*lines, ""])


def _table_lines(table: TableText) -> list[str]:
    lines = [f"### {table.name}: {_escaped(table.title)}", "", _escaped(" ".join(table.scope)), ""]
    lines += [f"Read by: {_escaped(table.read_by)}. Content `{table.content}`.", ""]
    for row in table.rows:
        lines.append(f"- **{row.id}** {_escaped(row.condition)}: {_escaped(row.says)} \\[{row.shown_as}\\]  ")
        lines.append(f"  *{_escaped(row.said)}.*")
        lines += [f"  - Example: {_escaped(example)}" for example in row.examples]
    return [*lines, ""]


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(page_of(load_tables(), read_examples())), encoding="utf-8")
