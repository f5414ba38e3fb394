"""What was read of the child's record, before any rule looks at it.

``fhir_mappings`` fills these; ``derive`` turns them into facts. Readings come newest first and are read
lazily, so that a long history costs nothing where the newest value decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Protocol

import msgspec

from guideline.doses import Form, OrderedDose
from guideline.values import Cause, Fact, Interval, Missing, Reason


@dataclass(frozen=True, slots=True)
class Birth:
    """The birth date as far as it is known; a partial date spans the days that it allows."""

    earliest: date
    latest: date
    source: str
    written: str


class Reading(msgspec.Struct, frozen=True):
    """One usable result, in the fact's one unit. ``low``/``high`` are the laboratory's own reference range.

    ``moment`` orders the results of one day; ``None`` where only the day is known. ``alone``: no other result of the
    analyte has the same moment, so that none need be read to find one that contradicts it.
    """

    value: Interval
    on: date
    source: str
    low: Decimal | None = None
    high: Decimal | None = None
    normal: bool | None = None
    moment: str | None = None
    alone: bool = False


class Unusable(msgspec.Struct, frozen=True):
    """A result that is there but cannot be used, and why."""

    reason: Reason
    on: date | None
    source: str
    detail: str


class Answer(msgspec.Struct, frozen=True):
    """One result in words: ``positive``, ``negative`` or ``unclear``."""

    meaning: str
    on: date
    source: str


class Answers(msgspec.Struct, frozen=True):
    """The results of one question, newest first, and why there may be more (``None``: answered in full)."""

    answers: tuple[Answer, ...]
    gap: Reason | None


INTRAVENOUS = "antibiotic-intravenous"
"""What an antibiotic that is given into a vein is called besides its own name."""


class Event(msgspec.Struct, frozen=True):
    """One dated entry of a list: a vaccination, a planned operation."""

    concepts: frozenset[str]
    on: date | None
    source: str


class Series(Protocol):
    """The readings of one analyte, newest first, and what to say where there are none.

    ``gap`` is why the list may not be complete: ``None`` when the search was answered in full.
    """

    @property
    def gap(self) -> Reason | None: ...

    def __iter__(self) -> Iterator[Reading | Unusable]: ...


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """A recorded (not drafted) order or statement of one JAK inhibitor.

    ``start``/``end`` are ``None`` where the record does not say. ``active`` is the record's own status.
    """

    drug: str
    active: bool
    start: date | None
    end: date | None
    dose: OrderedDose
    source: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted order of a JAK inhibitor, as the prescriber has it on the screen.

    ``indication`` and ``jia_category`` are facts with their own reasons; ``on_record`` names the indications
    found in the child's conditions where the order itself gives none. ``finished`` drafts stand for a course whose
    last order has ended, ``stopped`` ones for a course that was stopped, so that no supply may be running on.
    ``tablet_mg`` and ``mg_per_ml`` are the strength of the product, one or none of them known.
    """

    reference: str
    drug: str
    matched_by_name: bool
    form: Form
    modified_release: bool
    dose: OrderedDose
    indication: Fact
    jia_category: Fact
    on_record: tuple[str, ...] = ()
    ending: bool = False
    finished: bool = False
    stopped: bool = False
    notes: tuple[str, ...] = ()
    tablet_mg: Decimal | None = None
    mg_per_ml: Decimal | None = None


Newest = tuple[Reading | None, Missing | None, tuple[Cause, ...]]


@dataclass(frozen=True, slots=True)
class Record:
    """The whole record of one child as of one day.

    ``taken`` are the current medicines, ``ends`` those of any status whose
    end is on record, dated by that end. What is left out counts as not supplied.
    """

    on: date
    birth: Birth | Cause
    sex: Fact
    series: Mapping[str, Series]
    flags: Mapping[str, Fact]
    orders: tuple[RecordedOrder, ...]
    orders_gap: tuple[Cause, ...]
    answers: Mapping[str, Answers] = field(default_factory=dict)
    vaccinations: tuple[Event, ...] = ()
    vaccinations_gap: tuple[Cause, ...] = (Cause("immunizations", Reason.NOT_SUPPLIED),)
    operations: tuple[Event, ...] = ()
    taken: tuple[Event, ...] = ()
    ends: tuple[Event, ...] = ()
    notes: tuple[str, ...] = ()
    newest: dict[str, Newest] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The newest result of each analyte as ``derive.newest`` found it: many facts ask for it."""
