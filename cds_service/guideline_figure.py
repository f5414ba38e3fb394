"""The figure of one decision table as inline SVG: what it asks first, then its rows as boxes in the order of the table.

An arrow leads into each row. A row shows each of its conditions; a span of numbers also as a band on an axis that has
every limit of the table at equal distances (so it is not to scale), a filled end where the limit itself counts and a
hollow one where it does not. Where two numbers choose one row, a map with both as its axes comes first. Everything is
drawn from the tables; the words are those of the page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from html import escape

from guideline.cells import Cell, Span
from guideline.facts import vocabulary
from guideline.render import RowText
from guideline.tables import Box, Row, Table
from guideline.words import box_in_words, plain, regimen, unit_words

WIDTH, SPINE, LEFT, RIGHT = 340, 10, 26, 334
"""Narrow, so that the letters keep their size on a phone."""
PAD, LINE, GAP = 9, 16, 10
STRIP_LEFT, STRIP_RIGHT = LEFT + 16, RIGHT - 14
STRIP, TICKS = 13, 13
CHARACTERS = 45
"""Of a line of text within a box."""
BAR = 5
AXES = 2
CELL = 44
END = 3.5

Limits = dict[str, tuple[Decimal, ...]]


@dataclass(slots=True)
class _Drawing:
    """The elements so far, and how far down they reach."""

    parts: list[str] = field(default_factory=list)
    y: float = 0

    def text(self, words: str, *, x: float = LEFT + 14, cls: str = "", width: int = CHARACTERS) -> None:
        """Words on as many lines as they need."""
        named = f' class="{cls}"' if cls else ""
        for line in textwrap.wrap(words, width, break_long_words=True):
            self.y += LINE
            self.parts.append(f'<text x="{x:g}" y="{self.y - 4:g}"{named}>{escape(line)}</text>')


def figure(table: Table, rows: Sequence[tuple[Row, RowText]]) -> str:
    """The SVG of the table with ``rows``, which are all of it or those that a search found."""
    name = escape(table.name, quote=True)
    limits = _limits(table)
    drawing = _Drawing()
    for name_of_map, cells in _maps(table, rows).items():
        _map(drawing, name_of_map, cells, limits)
    _question(drawing, table)
    spine_from, last = drawing.y, drawing.y
    for number, (row, text) in enumerate(rows, start=1):
        drawing.y += GAP
        last = drawing.y + PAD + LINE / 2
        _row(drawing, row, text, limits, number)
    drawing.parts.insert(0, f'<path class="spine" d="M{SPINE} {spine_from:g}V{last:g}"/>')
    height = drawing.y + 4
    rule = "exactly one row applies" if table.exactly_one else "each row that fits applies"
    title = f"Figure of {table.name}: {table.title}"
    told = f"{len(rows)} row{'' if len(rows) == 1 else 's'} in the order of the table; {rule}."
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="group" aria-labelledby="figure-{name} figure-{name}-text">'
        f'<title id="figure-{name}">{escape(title)}</title><desc id="figure-{name}-text">{escape(told)}</desc>'
        + "".join(drawing.parts)
        + "</svg>"
    )


def _limits(table: Table) -> Limits:
    """Every limit that the rows set on each fact, ascending."""
    found: dict[str, set[Decimal]] = {}
    for row in table.rows:
        for box in (row.applies, *row.boxes):
            for fact, cell in box.items():
                if isinstance(cell, Span):
                    found.setdefault(fact, set()).update(cell.limits)
    return {fact: tuple(sorted(limits)) for fact, limits in found.items()}


def _question(drawing: _Drawing, table: Table) -> None:
    """The box at the top: when the table is asked at all, and how many of its rows may apply."""
    before, top = len(drawing.parts), drawing.y + 1
    drawing.y += PAD - 2
    drawing.text(
        "Exactly one row applies" if table.exactly_one else "Each row that fits applies", x=12, cls="strong"
    )
    if table.applies:
        drawing.text(f"Asked only where {box_in_words(table.applies, spoken=True)}", x=12, width=50)
    drawing.y += PAD - 2
    drawing.parts.insert(
        before,
        f'<rect class="question" x="1" y="{top:g}" width="{RIGHT}" height="{drawing.y - top:g}" rx="6"/>',
    )


def _row(drawing: _Drawing, row: Row, text: RowText, limits: Limits, number: int) -> None:
    top, before = drawing.y, len(drawing.parts)
    drawing.y += PAD - 3
    drawing.text(f"{number}. {row.id}", cls="strong")
    boxes: tuple[Box, ...] = row.boxes or ({},)
    for place, box in enumerate(boxes):
        if place:
            drawing.text("or", cls="quiet")
        _conditions(drawing, box, limits)
    if not any(row.boxes) and not row.applies:
        drawing.text("always")
    if row.applies:
        drawing.text("only where", cls="quiet")
        _conditions(drawing, row.applies, limits)
    drawing.text(f"→ {' · '.join(_outcome(row, text))}", cls=f"outcome {row.severity.value}", width=38)
    drawing.y += PAD - 2
    height = drawing.y - top
    middle = top + PAD + LINE / 2
    frame = (
        f'<rect class="row {row.severity.value}" x="{LEFT}" y="{top:g}" width="{RIGHT - LEFT}" height="{height:g}" '
        f'rx="6"/><rect class="bar {row.severity.value}" x="{LEFT}" y="{top:g}" width="{BAR}" height="{height:g}" '
        f'rx="2"/><path class="arrow" d="M{SPINE} {middle:g}H{LEFT - 2}m-5 -4l5 4l-5 4"/>'
    )
    inside = "".join(drawing.parts[before:])
    drawing.parts[before:] = [f'<a href="#{escape(row.id, quote=True)}">{frame}{inside}</a>']


def _outcome(row: Row, text: RowText) -> Iterator[str]:
    if row.dose is not None:
        yield f"{regimen(row.dose)} ({plain(row.dose.mg_per_day)} mg per day)"
        effects = text.shown_as.partition("; ")[2]
        if effects:
            yield effects
    else:
        yield text.shown_as


# --- two numbers ----------------------------------------------------------------------------------

_Cells = list[tuple[Row, Box]]


def _maps(table: Table, rows: Sequence[tuple[Row, RowText]]) -> dict[str, _Cells]:
    """The maps to draw, by what else their rows ask; none unless two numbers choose among all rows."""
    numbers = [name for name in table.columns if vocabulary()[name].kind == "number"]
    if not table.exactly_one or len(numbers) != AXES:
        return {}
    found: dict[str, _Cells] = {}
    for row, _ in rows:
        for box in row.boxes:
            if not all(isinstance(box.get(name), Span) for name in numbers):
                return {}
            others = box_in_words({n: c for n, c in box.items() if n not in numbers}, spoken=True)
            across, up = sorted(numbers, reverse=True)
            found.setdefault(others, []).append((row, {across: box[across], up: box[up]}))
    return found


def _map(drawing: _Drawing, heading: str, cells: _Cells, limits: Limits) -> None:
    """One map: the first number across, the second upwards; each row a box with its dose of a day."""
    across, up = cells[0][1]
    columns, lines = limits[across], limits[up]
    width = (RIGHT - LEFT) / (len(columns) + 1)
    drawing.text(heading or "Both together", x=2, cls="strong", width=50)
    drawing.text(f"↑ {_axis(up)}", x=2, width=50)
    bottom = drawing.y + 4 + CELL * (len(lines) + 1)
    for row, box in cells:
        x_from, x_to = _places(box[across], columns)
        y_from, y_to = _places(box[up], lines)
        x, y = LEFT + width * x_from, bottom - CELL * y_to
        wide, high = width * (x_to - x_from), CELL * (y_to - y_from)
        middle = x + wide / 2
        dose = f"{plain(row.dose.mg_per_day)} mg per day" if row.dose is not None else row.severity.value
        drawing.parts.append(
            f'<a href="#{escape(row.id, quote=True)}"><rect class="row {row.severity.value}" x="{x:g}" y="{y:g}" '
            f'width="{wide:g}" height="{high:g}"/><text class="cell strong" x="{middle:g}" y="{y + high / 2 - 3:g}">'
            f'{escape(row.id)}</text><text class="cell" x="{middle:g}" y="{y + high / 2 + 12:g}">{dose}</text></a>'
        )
    for number, limit in enumerate(lines, start=1):
        drawing.parts.append(
            f'<text class="tick" x="{LEFT - 12}" y="{bottom - CELL * number + 4:g}">{plain(limit)}</text>'
        )
    for number, limit in enumerate(columns, start=1):
        drawing.parts.append(
            f'<text class="tick" x="{LEFT + width * number:g}" y="{bottom + 12:g}">{plain(limit)}</text>'
        )
    drawing.y = bottom + TICKS
    drawing.text(f"→ {_axis(across)}", x=2, width=50)
    drawing.y += GAP


def _axis(fact: str) -> str:
    kind = vocabulary()[fact]
    return f"{kind.title}, {unit_words(kind.unit)}" if kind.unit else kind.title


def _places(cell: Cell, limits: tuple[Decimal, ...]) -> tuple[int, int]:
    """From which to which of the equal parts of an axis a span reaches."""
    assert isinstance(cell, Span)
    low = 0 if cell.low is None else limits.index(cell.low) + 1
    high = len(limits) + 1 if cell.high is None else limits.index(cell.high) + 1
    return low, high


# --- conditions -----------------------------------------------------------------------------------


def _conditions(drawing: _Drawing, box: Box, limits: Limits) -> None:
    for fact, cell in box.items():
        drawing.text(box_in_words({fact: cell}, spoken=True))
        if isinstance(cell, Span):
            _strip(drawing, cell, limits[fact])


def _strip(drawing: _Drawing, cell: Span, limits: tuple[Decimal, ...]) -> None:
    """The span as a band among all limits of its fact, which stand at equal distances."""
    step = (STRIP_RIGHT - STRIP_LEFT) / (len(limits) + 1)
    place = {limit: STRIP_LEFT + step * number for number, limit in enumerate(limits, start=1)}
    middle = drawing.y + STRIP / 2 + 1
    start = STRIP_LEFT if cell.low is None else place[cell.low]
    end = STRIP_RIGHT if cell.high is None else place[cell.high]
    parts = [f'<path class="axis" d="M{STRIP_LEFT} {middle:g}H{STRIP_RIGHT}"/>']
    parts += [f'<path class="axis" d="M{at:g} {middle - 4:g}v8"/>' for at in place.values()]
    parts.append(f'<path class="band" d="M{start:g} {middle:g}H{end:g}"/>')
    for limit, is_open in ((cell.low, cell.low_open), (cell.high, cell.high_open)):
        if limit is not None:
            kind = "open-end" if is_open else "closed-end"
            parts.append(f'<circle class="{kind}" cx="{place[limit]:g}" cy="{middle:g}" r="{END}"/>')
    drawing.y += STRIP + TICKS
    parts += [
        f'<text class="tick" x="{at:g}" y="{drawing.y - 2:g}">{escape(plain(limit))}</text>'
        for limit, at in place.items()
    ]
    drawing.parts += parts
