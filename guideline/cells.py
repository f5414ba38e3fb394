"""The cell grammar of a decision table: a span of numbers, or one of a list of choices. Nothing else.

``[10, 20)``, ``>= 3``, ``< 5`` are spans; ``yes``, ``polyarticular | psoriatic`` are choices. When a row wants
arithmetic, "unless" or a look at another row, the answer is a new named fact in ``derive.py``, never a richer
cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from guideline.values import Interval, Value

_NUMBER = r"-?\d+(?:\.\d+)?"
_SPAN = re.compile(rf"^([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER}|inf)\s*([\])])$")
_LIMIT = re.compile(rf"^(<=|>=|<|>)\s*({_NUMBER})$")
_CHOICE = re.compile(r"^[A-Za-z][A-Za-z0-9-]*(\s*\|\s*[A-Za-z][A-Za-z0-9-]*)*$")


class CellError(ValueError):
    """A cell that is not in the grammar; the text names the fault and the cure."""


@dataclass(frozen=True, slots=True)
class Span:
    """All numbers between two bounds; ``None`` is unbounded."""

    low: Decimal | None
    high: Decimal | None
    low_open: bool
    high_open: bool

    def test(self, value: Value) -> bool | None:
        """Whether the value lies inside: ``True``, ``False``, or ``None`` where its bounds leave it open."""
        if not isinstance(value, Interval):
            raise TypeError("a span was asked of a choice")
        low, high = self.low, self.high
        holds = True
        if low is not None:
            if value.high is not None and (
                value.high < low or (value.high == low and (self.low_open or value.high_open))
            ):
                return False  # wholly below
            holds = value.low is not None and (
                value.low > low or (value.low == low and (not self.low_open or value.low_open))
            )
        if high is not None:
            if value.low is not None and (
                value.low > high or (value.low == high and (self.high_open or value.low_open))
            ):
                return False  # wholly above
            holds = (
                holds
                and value.high is not None
                and (value.high < high or (value.high == high and (not self.high_open or value.high_open)))
            )
        return True if holds else None

    @property
    def limits(self) -> tuple[Decimal, ...]:
        return tuple(limit for limit in (self.low, self.high) if limit is not None)

    def in_words(self) -> str:
        """The span as a clinician says it, without the unit."""
        low, high = _plain(self.low), _plain(self.high)
        if self.low is not None and self.low == self.high:
            return f"exactly {low}"
        if self.low is None:
            return f"below {high}" if self.high_open else f"{high} or less"
        if self.high is None:
            return f"above {low}" if self.low_open else f"{low} or more"
        start = f"above {low}" if self.low_open else f"from {low}"
        end = f"up to but not including {high}" if self.high_open else f"up to and including {high}"
        return f"{start} {end}"

    def __str__(self) -> str:
        if self.low is None:
            return f"{'<' if self.high_open else '<='} {_plain(self.high)}"
        if self.high is None:
            return f"{'>' if self.low_open else '>='} {_plain(self.low)}"
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{left}{_plain(self.low)}, {_plain(self.high)}{right}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a closed list of words."""

    options: tuple[str, ...]

    def test(self, value: Value) -> bool | None:
        if not isinstance(value, str):
            raise TypeError("a choice was asked of a number")
        return value in self.options

    @property
    def limits(self) -> tuple[Decimal, ...]:
        return ()

    def in_words(self) -> str:
        return " or ".join(self.options)

    def __str__(self) -> str:
        return " | ".join(self.options)


Cell = Span | Choice


def parse_cell(text: str) -> Cell:
    """A cell from its text; raises ``CellError`` with the cure."""
    text = text.strip()
    if found := _LIMIT.match(text):
        sign, number = found[1], Decimal(found[2])
        if sign.startswith("<"):
            return Span(None, number, low_open=False, high_open=sign == "<")
        return Span(number, None, low_open=sign == ">", high_open=False)
    if found := _SPAN.match(text):
        low = Decimal(found[2])
        high = None if found[3] == "inf" else Decimal(found[3])
        if high is not None and high < low:
            raise CellError(f'"{text}" ends before it begins; write the smaller number first')
        return Span(low, high, low_open=found[1] == "(", high_open=found[4] == ")" and high is not None)
    if _CHOICE.match(text):
        return Choice(tuple(option.strip() for option in text.split("|")))
    raise CellError(f'"{text}" is no cell; write for example "[10, 20)", ">= 3" or "yes | no"')


def _plain(number: Decimal | None) -> str:
    return "inf" if number is None else format(number, "f")
