"""What the engine concludes: findings, and the dose that may be suggested (contract section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

import msgspec

from guideline.doses import Form, OrderedDose, Regimen
from guideline.values import Cause, Evidence, Fact


class Outcome(StrEnum):
    """The four answers of a row. ``CLEAR`` (assessed, does not apply) never reaches a card."""

    HIT = "hit"
    CLEAR = "clear"
    CANNOT_ASSESS = "cannot-assess"
    OUTSIDE_GUIDELINE = "outside-guideline"


class Severity(StrEnum):
    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 is the most severe."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class Kind(StrEnum):
    ALERT = "alert"
    DOSE = "dose"
    ORDER = "order"
    PLAN = "plan"
    NOTE = "note"


class Origin(StrEnum):
    PRINTED = "printed"
    DERIVED = "derived"
    DEFAULT = "default"


class Verdict(StrEnum):
    """The drafted dose against the guideline's row."""

    MATCH = "match"
    OVER = "over"
    UNDER = "under"
    SCHEDULE = "schedule"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


class Finding(msgspec.Struct, frozen=True):
    """One statement of the guideline, applied to one child and one order.

    ``say`` is the row's sentence for the prescriber, ``rule`` the row's conditions in words, ``cite`` where the
    guideline says so. ``about_dose`` findings belong beside the dose. ``due`` is the day a planned check is due,
    ``orders`` the tests that may be ordered. ``reviewed``: a clinician has signed the table as it stands.
    """

    id: str
    outcome: Outcome
    severity: Severity
    kind: Kind
    origin: Origin
    section: str
    drug: str
    order: str | None
    say: str
    rule: str
    cite: str
    title: str
    about_dose: bool = False
    due: date | None = None
    orders: tuple[str, ...] = ()
    reviewed: bool = False
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class DoseAdvice:
    """The dose that may be suggested for one order, and how the draft compares with it.

    ``other_product``: the drafted product does not fit this dose, so that the dose alone does not put the order right.
    ``lowered``: the draft takes an escalated dose down, so that the way back up is no recommendation.
    """

    row: str
    drug: str
    indication: str
    phase: str
    regimen: Regimen
    form: Form
    provisional: bool
    verdict: Verdict
    mg_per_kg_day: Decimal | None = None
    other_product: bool = False
    lowered: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceDose:
    """A dose that is shown as text only: the indication is not settled, or the table is for reference."""

    row: str
    heading: str
    regimen: Regimen
    mg_per_kg_day: Decimal | None = None


class Trace(msgspec.Struct, frozen=True):
    """One row as it was tried, for ``explain`` and the record: what decided it."""

    table: str
    row: str
    outcome: Outcome
    rule: str
    decided_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What follows from the facts of an assessment alone."""

    findings: tuple[Finding, ...]
    dose: DoseAdvice | None
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class EgfrSum:
    """The eGFR calculation with its numbers, so that the reader can check it."""

    constant: Decimal
    height_cm: Decimal
    creatinine_umol_l: Decimal
    egfr: Decimal


@dataclass(frozen=True, slots=True)
class OrderAssessment:
    """Everything that the guideline says of one drafted order.

    ``traces`` holds every row of every table that concerns the drug, ``facts`` what was read and derived of the
    child by the names of the vocabulary: for ``explain``, not for cards, and put together only where somebody asks.
    ``used_facts``, for the record, has no result or derived fact that neither a row nor a card asked for.
    """

    order: str
    drug: str
    drafted: OrderedDose
    matched_by_name: bool
    findings: tuple[Finding, ...]
    dose: DoseAdvice | None
    reference_doses: tuple[ReferenceDose, ...]
    withheld_by: tuple[str, ...]
    egfr: EgfrSum | None
    notes: tuple[str, ...] = ()
    all_facts: Callable[[], Mapping[str, Fact]] = field(default=dict, repr=False, compare=False)
    used_facts: Callable[[], Mapping[str, Fact]] = field(default=dict, repr=False, compare=False)
    trace: Callable[[], tuple[Trace, ...]] = field(default=tuple, repr=False, compare=False)

    @property
    def facts(self) -> Mapping[str, Fact]:
        """Every fact, those too that no row asked for."""
        return self.all_facts()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Every row as it was tried."""
        return self.trace()
