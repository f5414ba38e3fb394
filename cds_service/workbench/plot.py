"""``jaki-cds plot``: the pictures of one request as one SVG or PNG file, the same bytes for the same request.

The PNG is drawn from the SVG with a font of our own, so that no font of the machine shows in it. All are drawn from
what the workbench draws from (``pictures.py``): results over time with the bands of the guideline, dose bands with
the child, the monitoring plan, the eGFR calculation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr  # writes, and reads none  # nosec B406

from cards.text import rounded
from cds_service.explain import UnusableInput, assessed_file
from cds_service.workbench.pictures import pictures

OK, UNUSABLE = 0, 2
WIDTH, LEFT, RIGHT = 480, 56, 464
TOP, BOTTOM, HEIGHT = 34, 174, 210
COLUMNS = 2
LABEL_GAP = 13
LINE = 22
ROOM = Decimal("0.12")
"""Of the height of a picture that is left free above and below."""
PNG_ZOOM = 2
FONT = Path(__file__).parent / "fonts" / "plot-sans.ttf"
FONT_NAME = "jaki-cds Plot Sans"
NEAR = Decimal("2.5")
"""Limits further up than this multiple of the highest result are left out of the picture."""
LEAST_SPAN = Decimal("0.4")
"""Of the highest value: a small change is not drawn as a large one."""
COLOURS = {
    "critical": "#f3b4ba",
    "warning": "#f9d9a8",
    "info": "#cfe2f3",
    "none": "#d6ecd9",
    "own": "#a9d3f2",
    "other": "#e4edf4",
}
WORDS = {"critical": "critical", "warning": "warning", "info": "information", "none": "continue"}
GRAVE = ("none", "info", "warning", "critical")

Json = dict[str, Any]


@dataclass(slots=True)
class Canvas:
    """One picture under way: its elements, and the height that it came to."""

    title: str
    height: int = HEIGHT
    parts: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> None:
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')

    def dot(self, x: float, y: float, fill: str = "#0b3a63") -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}"/>')

    def text(self, x: float, y: float, words: str, anchor: str = "start") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')


def main(args: list[str]) -> int:
    """Draws and returns the exit status: 0, or 2 for unusable input."""
    parser = argparse.ArgumentParser(
        prog="jaki-cds plot", description="The pictures of a request, as SVG or PNG."
    )
    parser.add_argument("request", type=Path, metavar="REQUEST.json", help="a whole hook request")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--format", choices=("svg", "png"), help="default: by the ending of FILE, else svg", default=None
    )
    options = parser.parse_args(args)
    ending = options.output.suffix.lower() if options.output else ""
    try:
        drawn = plot(options.request)
        as_png = options.format == "png" if options.format else ending == ".png"
        content = png(drawn) if as_png else drawn.encode()
        if options.output is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            options.output.write_bytes(content)
    except UnusableInput as fault:
        return _fault(str(fault))
    except OSError as fault:
        return _fault(f"{options.output}: cannot be written ({fault.strerror}).")
    return OK


def png(drawn: str) -> bytes:
    """The PNG of an SVG of ours. Raises ``UnusableInput`` where the package that draws it is not installed."""
    try:
        import resvg_py
    except ImportError:
        raise UnusableInput(
            "PNG needs the package resvg-py (pip install resvg-py); SVG does without: -o FILE.svg."
        ) from None
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=drawn.replace('font-family="sans-serif"', f'font-family="{FONT_NAME}"', 1),
            skip_system_fonts=True,
            font_files=[str(FONT)],
            font_family=FONT_NAME,
            zoom=PNG_ZOOM,
        )
    )


def _fault(words: str) -> int:
    sys.stderr.write(f"jaki-cds plot: {words}\n")
    return UNUSABLE


def plot(path: Path) -> str:
    """The SVG of a request file. Raises ``UnusableInput``, also where no order was assessed."""
    _, runtime, case, orders = assessed_file(path)
    drawn = [canvas for order in pictures(case, runtime, orders) for canvas in _canvases(order)]
    if not drawn:
        raise UnusableInput(f"{path}: no order of it was assessed, so there is nothing to draw.")
    return _sheet(drawn)


def _canvases(order: Json) -> list[Canvas]:
    found = [_doses(order, picture) for picture in order["doses"]]
    if order["egfr"] is not None:
        found.append(_egfr(order["egfr"]))
    if order["plan"] is not None:
        found.append(_plan(order["plan"], order["asOf"]))
    return [*found, *(_series(order, result) for result in order["results"])]


def _sheet(drawn: list[Canvas]) -> str:
    """All pictures side by side, row by row."""
    body, y = [], 0
    for start in range(0, len(drawn), COLUMNS):
        row = drawn[start : start + COLUMNS]
        for column, canvas in enumerate(row):
            body.append(
                f'<g transform="translate({column * WIDTH},{y})" role="img" aria-label={quoteattr(canvas.title)}>'
            )
            body.append(f'<text x="8" y="20" font-weight="bold">{escape(canvas.title)}</text>')
            body += [*canvas.parts, "</g>"]
        y += max(canvas.height for canvas in row)
    wide = WIDTH * COLUMNS
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {y}" width="{wide}" height="{y}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{wide}" height="{y}" fill="#fff"/>', *body, "</svg>", ""])


def _scale(low: Decimal, high: Decimal, start: float, end: float) -> Callable[[Decimal], float]:
    """From values to places; what lies beyond an end is drawn at it."""
    span = high - low or Decimal(1)
    return lambda value: start + float((min(max(value, low), high) - low) / span) * (end - start)


def _series(order: Json, result: Json) -> Canvas:
    points = [(date.fromisoformat(p["date"]).toordinal(), _middle(p)) for p in result["points"]]
    newest = result["points"][-1]
    canvas = Canvas(f"{result['title']}: {_reading(newest)} {result['unit']}")
    days = [on for on, _ in points] + [date.fromisoformat(order["asOf"]).toordinal()]
    start = date.fromisoformat(order["start"]).toordinal() if order["start"] else None
    first = min([*days, *([start] if start is not None else [])])
    values = [value for _, value in points]
    ends = [end for band in result["bands"] for end in (band["low"], band["high"]) if end is not None]
    near = [end for end in ends if end <= max(values) * NEAR]
    low, high = min(values + near), max(values + near)
    missing = max(Decimal(0), abs(high) * LEAST_SPAN - (high - low))
    low, high = low - missing / 2, high + missing / 2
    room = (high - low or abs(high) or Decimal(1)) * ROOM
    low, high = max(Decimal(0), low - room), high + room
    x = _scale(Decimal(first), Decimal(max(*days, first + 1)), LEFT, RIGHT)
    y = _scale(low, high, BOTTOM, TOP)
    names: list[tuple[float, str]] = []
    for band in sorted(result["bands"], key=lambda b: GRAVE.index(b["severity"])):
        top = y(high if band["high"] is None else band["high"])
        bottom = y(low if band["low"] is None else band["low"])
        canvas.rect(LEFT, top, RIGHT - LEFT, max(0.0, bottom - top), COLOURS[band["severity"]])
        if bottom - top >= LABEL_GAP:
            names.insert(0, ((top + bottom) / 2 + 4, f"{band['row']} {WORDS[band['severity']]}"))
    named: list[float] = []
    for at, words in names:  # over all bands, the gravest first
        if all(abs(other - at) >= LABEL_GAP for other in named):
            named.append(at)
            canvas.text(RIGHT - 4, at, words, "end")
    canvas.line([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], "#66737f")
    _labels(canvas, [*sorted(near), max(values), min(values)], y)
    if start is not None:
        canvas.line([(x(Decimal(start)), TOP), (x(Decimal(start)), BOTTOM)], "#5b2a86", "5 3")
        canvas.text(x(Decimal(start)) + 3, TOP + 10, "start")
    canvas.line([(x(Decimal(on)), y(value)) for on, value in points], "#0b3a63")
    for on, value in points:
        canvas.dot(x(Decimal(on)), y(value))
    canvas.text(LEFT, BOTTOM + 16, date.fromordinal(first).isoformat())
    canvas.text(RIGHT, BOTTOM + 16, order["asOf"], "end")
    return canvas


def _labels(canvas: Canvas, values: list[Decimal], y: Callable[[Decimal], float]) -> None:
    """The values at their places, limits before results; one that would touch another is left out."""
    taken: list[float] = []
    for value in values:
        if all(abs(at - y(value)) >= LABEL_GAP for at in taken):
            taken.append(y(value))
            canvas.text(LEFT - 7, y(value) + 4, rounded(value, 2), "end")


def _middle(point: Json) -> Decimal:
    low, high = point["low"], point["high"]
    found = high if low is None else low if high is None else (low + high) / 2
    return Decimal(found)


def _reading(point: Json) -> str:
    low, high = point["low"], point["high"]
    if low == high:
        return rounded(low, 2)
    if low is None:
        return f"below {rounded(high, 2)}"
    return f"above {rounded(low, 2)}" if high is None else f"{rounded(low, 2)} to {rounded(high, 2)}"


def _doses(order: Json, picture: Json) -> Canvas:
    canvas = Canvas(f"{picture['title']}, mg per day", HEIGHT + LINE)
    canvas.text(8, HEIGHT + 8, picture["state"])
    ends = [end for band in picture["bands"] for end in (band["low"], band["high"]) if end is not None]
    right = max([*ends, picture["value"] or Decimal(0)]) * (1 + 2 * ROOM)
    drafted = picture["draftedMgPerDay"]
    highest = max(
        [band["mgPerDay"] or Decimal(0) for band in picture["bands"]] + [drafted or Decimal(0), Decimal(1)]
    )
    x = _scale(Decimal(0), right, LEFT, RIGHT)
    y = _scale(Decimal(0), highest * (1 + ROOM), BOTTOM, TOP)
    for band in picture["bands"]:
        start, end = x(band["low"] or Decimal(0)), x(right if band["high"] is None else band["high"])
        top = y(band["mgPerDay"]) if band["dose"] else float(TOP)
        colour = "own" if band["own"] and band["dose"] else "other" if band["dose"] else "warning"
        canvas.rect(start, top, end - start - 1, BOTTOM - top, COLOURS[colour])
        if band["dose"]:
            canvas.text((start + end) / 2, top - 3, rounded(band["mgPerDay"], 2), "middle")
    canvas.line([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], "#66737f")
    for end in sorted(set(ends)):
        canvas.text(x(end), BOTTOM + 14, rounded(end, 2), "middle")
    canvas.text((LEFT + RIGHT) / 2, BOTTOM + 29, f"{picture['axis']} {picture['unit']}".strip(), "middle")
    if picture["value"] is not None:
        at = x(picture["value"])
        canvas.line([(at, TOP), (at, BOTTOM)], "#16212b")
        if drafted is not None:
            canvas.dot(at, y(drafted))
    return canvas


def _plan(plan: Json, as_of: str) -> Canvas:
    canvas = Canvas(f"Monitoring plan as of {as_of}", TOP + LINE * (len(plan["visits"]) + 2))
    fills = {"done": "#1d6b34", "due": "#8a4b00", "overdue": "#a80b1b", "to come": "#9aa7b2"}
    canvas.text(28, TOP + 12, f"{plan['start']}  start of the course")
    for number, visit in enumerate(plan["visits"], start=1):
        y = TOP + 8 + number * LINE
        canvas.dot(14, y, fills[visit["state"]])
        canvas.text(28, y + 4, f"{visit['date']}  {visit['name']}: {visit['state']}")
    return canvas


def _egfr(total: Json) -> Canvas:
    canvas = Canvas("eGFR", TOP + 3 * LINE)
    canvas.text(
        8,
        TOP + 12,
        f"{rounded(total['constant'])} × {rounded(total['height'])} cm ÷ {rounded(total['creatinine'])} "
        f"µmol/L = {rounded(total['value'])} {total['unit']}",
    )
    limits = ", ".join(rounded(limit) for limit in total["limits"])
    canvas.text(8, TOP + 12 + LINE, f"Limits of this drug's tables: {limits or 'none'}")
    return canvas


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
