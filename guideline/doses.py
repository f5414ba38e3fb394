"""Doses as the guideline writes them, and the comparison of a drafted dose with a row's dose.

All amounts are milligrams, all numbers ``Decimal``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class When(StrEnum):
    """Time of day of one administration (FHIR event-timing codes; ambiguity A-75)."""

    MORN = "MORN"
    AFT = "AFT"
    EVE = "EVE"


class Form(StrEnum):
    """Form of a product, or the form that a dose asks for (contract ``dose.form``)."""

    ORAL_SOLUTION = "oral-solution"
    TABLET = "tablet"
    OTHER = "other"
    ANY = "any"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Administration:
    """One dose of the day: either at a time of day, or so many times a day.

    Exactly one of ``when`` and ``times_per_day`` is set. ``times_per_day`` may be a fraction (one dose every
    second day is 0.5).
    """

    mg: Decimal
    when: When | None = None
    times_per_day: Decimal | None = None

    @property
    def mg_per_day(self) -> Decimal:
        return self.mg if self.times_per_day is None else self.mg * self.times_per_day


@dataclass(frozen=True, slots=True)
class Regimen:
    """A whole day's dosing: what a guideline row asks for, or what a draft says."""

    administrations: tuple[Administration, ...]

    @property
    def mg_per_day(self) -> Decimal:
        return sum((a.mg_per_day for a in self.administrations), Decimal(0))


class DoseState(StrEnum):
    """How far the dose of an order could be read."""

    READ = "read"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class OrderedDose:
    """The dose of a drafted or recorded order.

    ``regimen`` is set if and only if ``state`` is ``READ``. ``why`` says in our own words why a dose is
    unreadable (never text of the request).
    """

    state: DoseState
    regimen: Regimen | None = None
    why: str | None = None
