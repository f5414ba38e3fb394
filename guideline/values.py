"""What a fact can be: known, doubtful (fit for caution only) or missing, each with its reason.

There is no ``None`` and no default: a value that could not be had is a result of its own and
travels to the card (contract section 4, ``missing``).

These are frozen msgspec structs, not dataclasses: a call makes hundreds of them, and each costs a fifth.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a fact cannot be used; the spelling is the public contract's."""

    ABSENT = "absent"
    NOT_SUPPLIED = "not-supplied"
    FAILED = "failed"
    PARTIAL_PAGE = "partial-page"
    UNREADABLE = "unreadable"
    STALE = "stale"
    UNUSABLE_UNIT = "unusable-unit"
    IMPLAUSIBLE = "implausible"
    COMPARATOR = "comparator"


class Interval(msgspec.Struct, frozen=True):
    """A number that is known only to lie between two bounds; ``None`` is an open end.

    An exact value is the interval whose bounds are equal and closed. A laboratory's ``<0.5`` is
    ``(-inf, 0.5)``; the age of a child of whom only the birth year is known is two ages wide.
    """

    low: Decimal | None
    high: Decimal | None
    low_open: bool = False
    high_open: bool = False

    @classmethod
    def exactly(cls, value: Decimal) -> Interval:
        return cls(value, value)

    @property
    def exact(self) -> Decimal | None:
        """The one value of the interval, or ``None`` where it is wider than that."""
        if self.low is not None and self.low == self.high:
            return self.low
        return None


Value = Interval | str | frozenset[str]
"""A number, one choice of a closed list, or a set of choices (for example JIA categories)."""


class Evidence(msgspec.Struct, frozen=True):
    """One datum that a finding relied on, as the card shows it (contract ``evidence[]``).

    ``value`` is in the fact's one unit (UCUM); ``on`` is the clinical date (effective, not issued);
    ``source`` a relative FHIR reference. ``note`` is ours: why the datum may mislead.
    """

    fact: str
    value: Decimal | str
    unit: str | None = None
    on: date | None = None
    source: str | None = None
    note: str | None = None


class Cause(msgspec.Struct, frozen=True):
    """One base fact that is missing or unusable, and why (contract ``missing[]``).

    ``detail`` says in our own words what was found, for the card; never text of the request.
    """

    fact: str
    reason: Reason
    detail: str | None = None


class Known(msgspec.Struct, frozen=True):
    """A fact that can be relied on.

    ``each``: the values of which ``value`` is the span, where results contradict each other and a warning goes by the
    worse of them.
    """

    value: Value
    evidence: tuple[Evidence, ...] = ()
    each: tuple[Value, ...] = ()


class Doubtful(msgspec.Struct, frozen=True):
    """A value that counts against the child's safety only: it may raise a warning, never clear one.

    A result older than its window, for example: a stale value that breaches a limit still counts, a
    stale normal value clears nothing (ruling 7). ``expired`` values are too old even for a provisional dose.
    ``each`` as in ``Known``.
    """

    value: Value
    causes: tuple[Cause, ...]
    evidence: tuple[Evidence, ...] = ()
    expired: bool = False
    each: tuple[Value, ...] = ()


class Missing(msgspec.Struct, frozen=True):
    """A fact that could not be had, with every base fact that was lacking."""

    causes: tuple[Cause, ...]
    evidence: tuple[Evidence, ...] = ()

    @classmethod
    def of(cls, fact: str, reason: Reason, detail: str | None = None) -> Missing:
        return cls((Cause(fact, reason, detail),))


Fact = Known | Doubtful | Missing
