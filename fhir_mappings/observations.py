"""Observation -> readings of one analyte, newest first, each read only when somebody asks for it.

Sorting looks at dates and codes alone; a resource is validated and converted when its turn comes, so that 2,000
results do not cost 2,000 validations.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, NamedTuple

import msgspec

from fhir_mappings.answers import meaning_of
from fhir_mappings.elements import (
    FIRST_DAY,
    LAST_DAY,
    Resource,
    codings,
    concepts_in,
    has_known_system,
    is_modified,
    is_of_other_focus,
    is_of_patient,
    read_date,
    read_span,
    reference,
    status_of,
    texts,
)
from fhir_mappings.panels import WITHDRAWN, Result, results_of
from fhir_mappings.prefetch import Pool, keys
from fhir_mappings.units import convert, is_plausible
from fhir_mappings.unknown_codes import is_local
from fhir_mappings.validate import is_readable
from guideline.facts import vocabulary
from guideline.record import Reading, Unusable
from guideline.tables import load_tables
from guideline.values import Interval, Reason
from guideline.words import plain

_USABLE = ("final", "amended", "corrected")
_COMPARATORS = {"<": (False, True), "<=": (False, False), ">": (True, True), ">=": (True, False)}
_LATEST_ZONE = timedelta(days=1)
"""A result dated tomorrow by its own clock may be today's in UTC; later ones are faults."""


class _Found(msgspec.Struct, frozen=True, gc=False):
    """One result before it is read, and the part of it (itself or a component) that holds the analyte."""

    result: Result
    part: Resource


class _Dated(NamedTuple):
    """One result in its place: in the order of these members, from the end, a series is newest first.

    Undated results come first: they are unusable, and must be seen before an older one is taken. Of results of one
    moment the reference decides, so that the order of arrival does not.
    """

    undated: bool
    when: str
    day: date
    source: str
    arrived: int
    found: _Found


@dataclass(slots=True)
class Readings:
    """The readings of one analyte, newest first (``guideline.record.Series``), each read once on demand."""

    analyte: str
    patient_id: str
    today: date
    gap: Reason | None
    found: list[_Found]
    _waiting: list[tuple[int, int, _Found]] | None = None
    _ordered: list[_Dated] = field(default_factory=list)
    _read: list[Reading | Unusable] = field(default_factory=list)

    def __iter__(self) -> Iterator[Reading | Unusable]:
        if not self.found:
            return
        index = 0
        while index < len(self._ordered) or self._order_more():
            if index == len(self._read):
                dated, alone = self._ordered[index], self._is_alone(index)
                self._read.append(_read(self.analyte, dated, self.patient_id, self.today, alone=alone))
            yield self._read[index]
            index += 1

    def _is_alone(self, index: int) -> bool:
        """Whether no other result has the time of this one: results of one moment are put in their order together."""
        ordered, when = self._ordered, self._ordered[index].when
        return not (
            (index > 0 and ordered[index - 1].when == when)
            or (index + 1 < len(ordered) and ordered[index + 1].when == when)
        )

    def _order_more(self) -> bool:
        """Puts the next newest results in their order; whether there were any.

        Two days as written that are further apart than time zones can bring together are in order already, so of a
        long history only the newest part is looked at closely. That needs a day on every result.
        """
        if self._waiting is None:
            # One alone has its place, whatever its day.
            many = len(self.found) > 1
            self._waiting = sorted(
                (_day_written(f.result.resource) if many else 0, n, f) for n, f in enumerate(self.found)
            )
        waiting = self._waiting
        if not waiting:
            return False
        next_: list[_Dated] = []
        least = waiting[-1][0]
        undated = waiting[0][0] == _NO_DAY
        while waiting and (undated or waiting[-1][0] >= least - _ZONES_APART):
            least, arrived, found = waiting.pop()
            next_.append(_dated(found, arrived))
        if undated:
            next_ = _placed(next_)
        next_.sort(key=lambda d: d[:-1], reverse=True)
        self._ordered += next_
        return True


_ZONES_APART = 2
"""Days as written of one moment differ by one at most, so moments three days apart never change places."""
_NO_DAY = -1
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.,Z+-]*)?")


def _day_written(resource: Resource) -> int:
    """The day of a result as it is written, counted; ``_NO_DAY`` where that is not a plain one."""
    text = _time_of(resource)
    return _NO_DAY if text is None or _DAY.fullmatch(text) is None else _counted(text[:10])


@lru_cache(maxsize=8192)
def _counted(written: str) -> int:
    """A plain day as its number. Many results share one, and nothing of a child is in it."""
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return _NO_DAY
    return day.toordinal() if FIRST_DAY <= day <= LAST_DAY else _NO_DAY


def _dated(found: _Found, arrived: int) -> _Dated:
    text = _time_of(found.result.resource)
    on = read_date(text)
    when = "" if text is None else _moment(text)
    return _Dated(on is None, when, on or date.min, reference(found.result.holder), -arrived, found)


def _placed(results: list[_Dated]) -> list[_Dated]:
    """A result of which only the month or the year is known has no place among others of that time: it may be the
    newest of them. It counts as undated then."""
    days = sorted(result.day for result in results)
    placed = []
    for result in results:
        span = read_span(_time_of(result.found.result.resource))
        if (
            span is not None
            and span[0] != span[1]
            and bisect_right(days, span[1]) - bisect_left(days, span[0]) > 1
        ):
            result = result._replace(undated=True)
        placed.append(result)
    return placed


@dataclass(frozen=True, slots=True)
class Results:
    """All analytes' readings, and what was left out on the way."""

    series: Mapping[str, Readings]
    not_final: tuple[str, ...]
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Results in codes that nobody knows -> the empty facts that their unit would fit."""


def read_results(pool: Pool, patient_id: str, today: date) -> Results:
    """Every analyte of the vocabulary, indexed by its codes in one pass."""
    by_fact: dict[str, list[_Found]] = {}
    not_final: list[str] = []
    unknown: list[Result] = []
    own = f"Patient/{patient_id}"
    for result in results_of(pool, patient_id):
        resource, concepts = result.resource, result.concepts
        wanted = _facts_of(concepts)
        if (
            wanted
            and resource.get("status") == "final"
            and type(subject := resource.get("subject")) is dict
            and subject.get("reference") == own
            and "component" not in resource
            and not concepts & _SPECIMEN_UNSAID
        ):
            # By far the most: nothing more to ask, and no list of parts to make.
            for fact in wanted:
                by_fact.setdefault(fact, []).append(_Found(result, resource))
            continue
        found = [(fact, resource) for fact in wanted] if wanted else []
        if concepts & _SPECIMEN_UNSAID:
            found = [(fact, resource) for fact in _where_said(result)]
        if "component" in resource:
            found += _components(resource)
        if not found:
            # Of thousands of results most are in LOINC, whether a rule asks for them or not.
            if (
                not has_known_system(resource.get("code"))
                and status_of(resource) in _USABLE
                and is_local(resource, patient_id)
            ):
                unknown.append(result)
            continue
        if not is_of_patient(resource, patient_id):
            continue
        status = status_of(resource)
        if status not in _USABLE:
            if status not in WITHDRAWN:
                not_final.extend(fact for fact, _ in found)
            continue
        for fact, part in found:
            by_fact.setdefault(fact, []).append(_Found(result, part))
    series: dict[str, Readings] = {}
    for fact, analyte in _analytes().items():
        gap = pool.gap("series", fact)
        series[fact] = (
            Readings(analyte, patient_id, today, gap, by_fact[fact])
            if fact in by_fact
            else _no_readings(analyte, gap)
        )
    empty = {fact: readings for fact, readings in series.items() if not readings.found}
    return Results(
        series,
        tuple(dict.fromkeys(not_final)),
        {result.source: fits for result in unknown if (fits := tuple(_fits(result.resource, empty)))},
    )


@cache
def _no_readings(analyte: str, gap: Reason | None) -> Readings:
    """The series of an analyte of which nothing came; it holds nothing of a child, so that all share it."""
    return Readings(analyte, "", date.min, gap, [])


@cache
def _analytes() -> Mapping[str, str]:
    """Every fact that is a series of results, with its analyte."""
    return {n: _analyte(kind.concepts) for n, kind in vocabulary().items() if kind.read_from == ("series",)}


@lru_cache(maxsize=512)
def _facts_of(concepts: frozenset[str]) -> tuple[str, ...]:
    """The facts whose results have one of these concepts; a fact twice where two of them name it."""
    kinds = vocabulary()
    return tuple(
        name for concept in concepts for name in _analytes() for own in kinds[name].concepts if own == concept
    )


def _where_said(result: Result) -> Iterator[str]:
    """The facts of a result of which a code does not name the specimen: by that code only where the result does.

    A virus that was found nobody says where may be in the blood: it counts there, as a load that cannot be used.
    """
    facts = _facts_of(result.concepts & _SPECIMEN_UNSAID)
    said = [fact for fact in facts if _has_specimen(result.resource, fact)]
    said += _facts_of(result.concepts - _SPECIMEN_UNSAID)
    if not said:
        said = [fact for fact in facts if not _is_of_urine(fact) and not _is_low(result.resource, fact)]
    yield from said


def _components(resource: Resource) -> Iterator[tuple[str, Resource]]:
    """(fact, part) for each component that is one of our analytes."""
    components = resource.get("component")
    for component in components if isinstance(components, list) else ():
        if isinstance(component, dict):
            for fact in _facts_of(concepts_in(component.get("code"))):
                yield fact, component


def _fits(resource: Resource, empty: Mapping[str, Readings]) -> Iterator[str]:
    """The facts without any result whose unit and plausible values a result of unknown code would fit."""
    quantity = resource.get("valueQuantity")
    value = _number(quantity.get("value")) if isinstance(quantity, dict) else None
    if value is None or not isinstance(quantity, dict):
        return
    code, unit = _text(quantity.get("code")), _text(quantity.get("unit"))
    if len(code or "") + len(unit or "") > _LONGEST_UNIT:
        return
    possible = _facts_of_unit(code, unit)
    for fact, readings in empty.items():
        if fact in possible:
            converted = _converted(readings.analyte, value, quantity)
            loaded = readings.analyte in _VIRUS_LOADS
            if not isinstance(converted, Reason) and (loaded or is_plausible(readings.analyte, converted)):
                yield fact


_LONGEST_UNIT = 64
"""Code and unit together; what is longer is no unit, and must not fill the memory of those that were seen."""


@lru_cache(maxsize=512)
def _facts_of_unit(code: str | None, unit: str | None) -> frozenset[str]:
    """The results that the tables use and that may come in this unit."""
    quantity = {"code": code, "unit": unit}
    kinds = vocabulary()
    return frozenset(
        fact
        for key in keys()
        for fact in key.facts
        if kinds[fact].read_from == ("series",)
        and _converted(_analyte(kinds[fact].concepts), Decimal(1), quantity) is not Reason.UNUSABLE_UNIT
    )


def _analyte(concepts: tuple[str, ...]) -> str:
    return concepts[0]


_SPECIMEN_UNSAID = frozenset({"bk-viral-load-specimen-unknown"})
_URINE, _BLOOD = re.compile(r"urine", re.I), re.compile(r"blood|plasma|serum", re.I)


def _is_of_urine(name: str) -> bool:
    return "urine" in name.lower()


def _is_low(resource: Resource, fact: str) -> bool:
    """Whether a load says that nothing was found, or less than any limit of a row: its specimen matters little then."""
    quantity = resource.get("valueQuantity")
    if not isinstance(quantity, dict):
        return _below_detection(resource)
    value = _number(quantity.get("value"))
    if value is None:
        return False
    bound = _converted(_analyte(vocabulary()[fact].concepts), value, quantity)
    least = min(load_tables().limits_of(fact))
    if isinstance(bound, Reason):
        return False
    comparator = quantity.get("comparator")
    return (comparator == "<" and bound <= least) or (comparator == "<=" and bound < least)


def _is_of_unsaid_specimen(result: Result, analyte: str) -> bool:
    """Whether nothing of a result says that it is of the specimen of ``analyte``: neither its codes nor the rest."""
    concepts = result.concepts
    unsaid = bool(concepts & _SPECIMEN_UNSAID) and analyte not in concepts
    return unsaid and not _has_specimen(result.resource, analyte)


def _has_specimen(resource: Resource, fact: str) -> bool:
    """Whether a load whose code does not name the specimen is of the kind that the fact wants (A-28)."""
    specimen = resource.get("specimen")
    words = list(texts(specimen)) if isinstance(specimen, dict) else []
    wanted = _URINE if _is_of_urine(fact) else _BLOOD
    return any(wanted.search(word) for word in words)


def _time_of(resource: Resource) -> str | None:
    """The clinical time as written: effective, never issued (the register's conventions)."""
    for name in ("effectiveDateTime", "effectiveInstant"):
        value = resource.get(name)
        if isinstance(value, str):
            return value
    span = resource.get("effectivePeriod")
    if isinstance(span, dict):
        for name in ("end", "start"):
            value = span.get(name)
            if isinstance(value, str):
                return value
    return None


def _moment(text: str) -> str:
    """A time for sorting: in UTC where it has a zone; a day alone is its beginning."""
    try:
        moment = datetime.fromisoformat(text.strip())
        zone = moment.tzinfo
        return (moment if zone is None or zone is UTC else moment.astimezone(UTC)).isoformat()
    except (ValueError, OverflowError):
        return text


def _read(analyte: str, dated: _Dated, patient_id: str, today: date, *, alone: bool) -> Reading | Unusable:
    resource, part = dated.found.result.resource, dated.found.part
    on, source = (None if dated.undated else dated.day), dated.source

    def unusable(reason: Reason, detail: str) -> Unusable:
        return Unusable(reason, on, source, detail)

    if on is None:
        return unusable(Reason.UNREADABLE, "it carries no usable date")
    if on > today + _LATEST_ZONE:
        return unusable(Reason.UNREADABLE, "it is dated in the future")
    if is_modified(resource) or is_modified(part):
        return unusable(Reason.UNREADABLE, "it carries a modifier that this service does not know")
    if is_of_other_focus(resource, patient_id):
        return unusable(Reason.UNREADABLE, "it is about something else than the child")
    if part.get("dataAbsentReason"):
        return unusable(Reason.UNREADABLE, "it says that its value is absent")
    if not is_readable(resource):
        return unusable(Reason.UNREADABLE, "it is not well-formed FHIR")
    if _is_of_unsaid_specimen(dated.found.result, analyte):
        return unusable(Reason.UNREADABLE, "it does not say whether it is of blood or of urine")
    quantity = part.get("valueQuantity")
    if analyte in _VIRUS_LOADS and not isinstance(quantity, dict) and _below_detection(part):
        return Reading(Interval(None, Decimal(0), high_open=True), min(on, today), source, alone=alone)
    if analyte in _FOUND_OR_NOT and not isinstance(quantity, dict) and meaning_of(part) == "positive":
        return Reading(Interval(Decimal(0), None, low_open=True), min(on, today), source, alone=alone)
    if not isinstance(quantity, dict):
        return unusable(Reason.UNREADABLE, "it carries no numeric value")
    value = _number(quantity.get("value"))
    if value is None:
        return unusable(Reason.UNREADABLE, "it carries no numeric value")
    converted = _converted(analyte, value, quantity)
    if isinstance(converted, Reason):
        return unusable(converted, _why_not_converted(analyte, value, quantity))
    comparator = quantity.get("comparator")
    if comparator is not None and (not isinstance(comparator, str) or comparator not in _COMPARATORS):
        return unusable(Reason.COMPARATOR, "its comparator is not understood")
    if comparator is None and analyte not in _VIRUS_LOADS and not is_plausible(analyte, converted):
        return unusable(Reason.IMPLAUSIBLE, "the value is not plausible in its unit")
    low, high = _range(analyte, part, quantity)
    return Reading(
        value=_interval(converted, comparator),
        on=min(on, today),
        source=source,
        low=low,
        high=high,
        normal=_interpretation(part),
        moment=dated.when if "T" in (_time_of(resource) or "") else None,
        alone=alone,
    )


def _interval(value: Decimal, comparator: str | None) -> Interval:
    if comparator is None:
        return Interval.exactly(value)
    above, open_ = _COMPARATORS[comparator]
    if above:
        return Interval(value, None, low_open=open_)
    return Interval(None, value, high_open=open_)


def _number(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


_VIRUS_LOADS = frozenset(
    {"bk-viral-load-blood", "bk-viral-load-urine", "jc-viral-load-blood", "jc-viral-load-urine"}
)
_FOUND_OR_NOT = frozenset({"jc-viral-load-blood", "jc-viral-load-urine"})
"""Loads of which nothing but whether the virus was found is asked (A-69), so that words alone answer."""
_BELOW = re.compile(
    r"<\s*L?LO[QD]\b|\bbelow (the )?(lower )?(limit|level) of (quantification|detection)\b", re.I
)
_INTERNATIONAL = re.compile(r"\bIU\b", re.I)
_SHOWN_BELOW = Decimal(10) ** 12


def _below_detection(part: Resource) -> bool:
    """Whether a load without a number says that nothing was found, or less than can be measured."""
    words = (part.get("valueString"), *texts(part.get("valueCodeableConcept")))
    return meaning_of(part) == "negative" or any(isinstance(w, str) and _BELOW.search(w) for w in words)


def _why_not_converted(analyte: str, value: Decimal, quantity: Mapping[str, Any]) -> str:
    """The reason for the card; of a load in international units also its number, to be read by a person (A-28)."""
    units = (_text(quantity.get("code")), _text(quantity.get("unit")))
    if (
        analyte in _VIRUS_LOADS
        and 0 <= value < _SHOWN_BELOW
        and any(u and _INTERNATIONAL.search(u) for u in units)
    ):
        return (
            f"{plain(value)} in international units, which are not converted; ask the laboratory for copies"
        )
    return "its unit is missing or cannot be converted"


_LOG_COPIES, _COPIES = "viral-load-log-copies", "viral-load-copies"


def _converted(analyte: str, value: Decimal, quantity: Mapping[str, Any]) -> Decimal | Reason:
    code, unit = quantity.get("code"), quantity.get("unit")
    code, unit = code if isinstance(code, str) else None, unit if isinstance(unit, str) else None
    if analyte not in _VIRUS_LOADS:
        return convert(analyte, value, code, unit)
    logarithm = convert(_LOG_COPIES, value, code, unit)
    if not isinstance(logarithm, Reason):
        return logarithm if is_plausible(_LOG_COPIES, logarithm) else Reason.IMPLAUSIBLE
    copies = convert(_COPIES, value, code, unit)
    if isinstance(copies, Reason):
        return copies
    # Copies become their logarithm; international units never do.
    return copies.log10() if is_plausible(_COPIES, copies) else Reason.IMPLAUSIBLE


def _range(
    analyte: str, part: Resource, quantity: Mapping[str, Any]
) -> tuple[Decimal | None, Decimal | None]:
    """The laboratory's own reference range, in the analyte's unit; a bound without a unit has the value's.

    Of several ranges (by age or sex, which are not interpreted) the narrowest bounds count.
    """
    ranges = part.get("referenceRange")
    every: list[list[Decimal | None]] = []
    for entry in ranges if isinstance(ranges, list) else ():
        if (
            not isinstance(entry, dict)
            or is_modified(entry)
            or ("type" in entry and not _is_normal_range(entry))
        ):
            continue
        bounds: list[Decimal | None] = []
        for name in ("low", "high"):
            bound = entry.get(name)
            number = _number(bound.get("value")) if isinstance(bound, dict) else None
            if number is None or not isinstance(bound, dict):
                bounds.append(None)
                continue
            own = _text(bound.get("code")) or _text(bound.get("unit"))
            converted = _converted(analyte, number, bound if own else quantity)
            bounds.append(None if isinstance(converted, Reason) else converted)
        every.append(bounds)
    lows = [low for low, _ in every if low is not None]
    highs = [high for _, high in every if high is not None]
    return max(lows, default=None), min(highs, default=None)


def _is_normal_range(entry: Mapping[str, Any]) -> bool:
    """A range without a type is the normal one; one of another type (treatment, panic) is not."""
    kinds = [code for _, code in codings(entry.get("type"))]
    return not kinds or "normal" in kinds


def _interpretation(part: Resource) -> bool | None:
    """Normal, abnormal, or not said."""
    found = part.get("interpretation")
    if found is None:
        return None
    words = [code.upper() for _, code in codings(found)]
    if not words:
        return None
    return all(word in ("N", "NEG", "ND") for word in words)
