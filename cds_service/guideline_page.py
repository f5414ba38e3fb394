"""``GET /guideline``: the tables as a page that a clinician reads, made from the tables that this process runs.

No script, no patient data. ``?q=`` finds the rows that hold every word of it. In demo mode each row leads to the
sample cases that show it and, where the checkout is there, tells its worked examples; elsewhere the page does
without (``docs/guideline.md`` has the examples).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from flask import Response, render_template
from markupsafe import Markup

from cds_service.guideline_figure import figure
from cds_service.replay import UnusableInput, find_cases, read_case_file
from guideline.render import HOW_TO_READ, NO_ROW, Chapter, Examples, Page, TableText, page_of, read_examples
from guideline.tables import Tables

_STYLE = Path(__file__).parent / "templates" / "guideline.css"
_SAMPLES = Path(__file__).parent.parent / "samples"
LONGEST_SEARCH = 200
# Stricter than it looks: nothing may be loaded but the style sheet of this service, and the search comes back here.
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}


def guideline_page(tables: Tables, search: str = "", *, demo: bool = False) -> Response:
    """The page in HTML, with the rows that hold every word of ``search``. Jinja escapes every text."""
    whole = page_of(tables, _examples() if demo else {})
    words = search[:LONGEST_SEARCH].lower().split()
    page = found_in(whole, words) if words else whole
    html = render_template(
        "guideline.html",
        page=page,
        how_to_read=HOW_TO_READ,
        no_row=NO_ROW,
        search=" ".join(words),
        found=_count(page),
        rows=_count(whole),
        samples=samples_by_row(_SAMPLES) if demo else {},
        anchors=_anchors(page),
        demo=demo,
        figures=_figures(tables, whole, page),
    )
    return Response(html, content_type="text/html; charset=utf-8", headers=_POLICY)


def guideline_style() -> Response:
    return Response(_STYLE.read_bytes(), content_type="text/css; charset=utf-8")


def found_in(page: Page, words: list[str]) -> Page:
    """The page with only those rows that hold every one of the words (in lower case)."""
    chapters = []
    for chapter in page.chapters:
        tables = tuple(table for each in chapter.tables if (table := _found(each, words)).rows)
        if tables:
            chapters.append(Chapter(chapter.title, tables))
    return replace(page, chapters=tuple(chapters))


def _found(table: TableText, words: list[str]) -> TableText:
    rows = []
    for row in table.rows:
        text = " ".join(
            (table.name, table.title, row.id, row.condition, row.says, row.shown_as, row.said)
        ).lower()
        if all(word in text for word in words):
            rows.append(row)
    return replace(table, rows=tuple(rows))


def _tables(page: Page) -> Iterator[TableText]:
    for chapter in page.chapters:
        yield from chapter.tables


def _figures(tables: Tables, whole: Page, page: Page) -> dict[str, Markup]:
    """Table -> the figure of the rows that the page shows of it."""
    shown = {table.name: table.rows for table in _tables(page)}
    texts = {table.name: table.rows for table in _tables(whole)}
    drawn = {}
    for table in (each for each in tables.all if each.name in shown):
        rows = [
            (row, text)
            for row, text in zip(table.rows, texts[table.name], strict=True)
            if any(text is each for each in shown[table.name])
        ]
        drawn[table.name] = Markup(figure(table, rows))  # it has escaped every text  # nosec B704
    return drawn


def _count(page: Page) -> int:
    return sum(len(table.rows) for table in _tables(page))


def _anchors(page: Page) -> dict[str, tuple[str, int]]:
    """Statement id -> the table and the place in it where it stands first: an address may stand only once."""
    found: dict[str, tuple[str, int]] = {}
    for table in _tables(page):
        for number, row in enumerate(table.rows):
            found.setdefault(row.id, (table.name, number))
    return found


@cache
def samples_by_row(folder: Path) -> dict[str, tuple[str, ...]]:
    """Statement id -> the sample cases that show it; nothing where the folder is not there."""
    found: dict[str, tuple[str, ...]] = {}
    try:
        for case in find_cases([folder]):
            for row in read_case_file(case.request.parent).shows:
                found[row] = (*found.get(row, ()), case.name)
    except UnusableInput:
        return {}
    return found


@cache
def _examples() -> Examples:
    return read_examples()
