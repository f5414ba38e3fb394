"""The dose of a medication order, read from FHIR (DSTU2 to R5), and a suggested dose, written as FHIR.

An order is written by other systems, half-finished or malformed: reading never raises and never guesses. What
cannot be understood is ``UNREADABLE`` with the reason in our own words; an order that says no dose yet is
``ABSENT``. FHIR: ``Dosage`` and ``Timing`` (R4 sections 2.8 and 2.1.28.3); terminology pitfalls 17 and 18.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from fhir.resources.R4B.dosage import Dosage as R4Dosage

from fhir_mappings import systems
from fhir_mappings.products import Kind, Product, Unreadable, listed, number, read_amount
from guideline.doses import Administration, DoseState, Form, OrderedDose, Regimen, When

FhirVersion = Literal["R4", "STU3", "DSTU2"]

_MINUTES = {"min": 1, "h": 60, "d": 24 * 60, "wk": 7 * 24 * 60}
_DAY = _MINUTES["d"]
_UNIT_OF_TIME = {
    **_MINUTES,
    **{"day": _DAY, "days": _DAY, "24h": _DAY, "hour": _MINUTES["h"], "hours": _MINUTES["h"]},
    **{"week": _MINUTES["wk"], "weeks": _MINUTES["wk"]},
}
_WEEK = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})

# FHIR event-timing and v3 TimingEvent codes; the guideline knows three times of day (ambiguity A-75).
_WHENS: Mapping[str, When] = {
    code: when
    for when, codes in {
        When.MORN: "MORN MORN.early MORN.late WAKE CM ACM PCM",
        When.AFT: "NOON AFT AFT.early AFT.late CD ACD PCD",
        When.EVE: "EVE EVE.early EVE.late NIGHT HS PHS CV ACV PCV",
    }.items()
    for code in codes.split()
}
_ANY_MEAL = frozenset({"C", "AC", "PC"})  # with a meal, whichever: says nothing of the time of day
_NOON_HOUR = 12
_EVENING_HOUR = 17
_LAST_HOUR = 23
_LAST_MINUTE = 59
_CLOCK_PARTS = (2, 3)


@dataclass(frozen=True, slots=True)
class _Schedule:
    """How often a dose is given; ``whens`` names the times of day where they are known, once each."""

    per_day: Decimal
    whens: tuple[When, ...] = ()


@dataclass(frozen=True, slots=True)
class _Abbreviation:
    """A code such as BID: so many times in so many minutes, or once a day at a time of day."""

    times: int
    minutes: int
    when: When | None = None

    @property
    def schedule(self) -> _Schedule:
        whens = (self.when,) if self.when else ()
        return _Schedule(_per_day(Decimal(self.times), Decimal(self.minutes)), whens)


def _per_day(times: Decimal, minutes: Decimal) -> Decimal:
    """Doses per day; one division only, so that equal schedules give equal numbers."""
    return times * _DAY / minutes


def _every(hours: int) -> _Abbreviation:
    return _Abbreviation(1, hours * _MINUTES["h"])


_DAILY, _TWICE, _THRICE, _FOUR = (_Abbreviation(times, _DAY) for times in (1, 2, 3, 4))
_MORNING, _AFTERNOON, _EVENING = (_Abbreviation(1, _DAY, when) for when in When)

# v3-GTSAbbreviation. PM is displayed as "every afternoon", but is prescribed as the second half of a morning
# and evening pair.
_CODES: Mapping[str, _Abbreviation] = {
    "QD": _DAILY,
    "BID": _TWICE,
    "TID": _THRICE,
    "QID": _FOUR,
    "QOD": _Abbreviation(1, 2 * _DAY),
    "WK": _Abbreviation(1, _MINUTES["wk"]),
    "AM": _MORNING,
    "PM": _EVENING,
    "BED": _EVENING,
    **{f"Q{hours}H": _every(hours) for hours in (1, 2, 3, 4, 6, 8, 12, 24)},
}
_TIMING_ABBREVIATION = "http://hl7.org/fhir/timing-abbreviation"  # DSTU2
_SNOMED_CODES: Mapping[str, _Abbreviation] = {
    "229797004": _DAILY,
    "229799001": _TWICE,
    "229798009": _THRICE,
    "307439001": _FOUR,
}
_PHRASES: Mapping[str, _Abbreviation] = {
    **{code.lower(): schedule for code, schedule in _CODES.items()},
    **{
        phrase: schedule
        for schedule, phrases in (
            (_DAILY, ("od", "once daily", "once a day", "daily", "every day")),
            (_TWICE, ("bd", "bds", "twice daily", "twice a day", "two times daily", "two times a day")),
            (_THRICE, ("tds", "three times daily", "three times a day")),
            (_FOUR, ("qds", "four times daily", "four times a day")),
            (_Abbreviation(1, 2 * _DAY), ("every other day", "alternate days", "on alternate days")),
            (_Abbreviation(1, _MINUTES["wk"]), ("weekly", "once weekly", "once a week")),
            (_MORNING, ("om", "mane", "every morning", "in the morning", "each morning")),
            (_AFTERNOON, ("in the afternoon",)),
            (_EVENING, ("on", "nocte", "every evening", "in the evening", "at night", "at bedtime")),
            *((_every(hours), (f"every {hours} hours", f"every {hours}h")) for hours in (4, 6, 8, 12, 24)),
        )
        for phrase in phrases
    },
}


# --- reading --------------------------------------------------------------------------------------


def read_dose(order: Mapping[str, Any], product: Product) -> OrderedDose:
    """The dose that an order (or MedicationStatement) says, in milligrams per administration; never raises.

    ``product`` turns tablets and millilitres into milligrams. Several Dosages are given side by side and
    summed; Dosages that follow one another are unreadable unless they are the same. Free text is never
    interpreted: it makes an order without a structured dose unreadable instead of absent.
    """
    try:
        regimen = _regimen(order, product)
    except Unreadable as fault:
        return OrderedDose(DoseState.UNREADABLE, why=str(fault))
    return OrderedDose(DoseState.ABSENT) if regimen is None else OrderedDose(DoseState.READ, regimen)


def _regimen(order: object, product: Product) -> Regimen | None:
    if not isinstance(order, dict):
        raise Unreadable("the order is not in the shape that FHIR gives it")
    key = "dosageInstruction" if order.get("dosageInstruction") is not None else "dosage"
    every = _objects(order.get(key), "the dosage instruction")
    dosages = [dosage for dosage in every if not _is_empty(dosage)]
    if not any(_says_dose(dosage) for dosage in dosages):
        # Timing alone is an order form in progress.
        if any(_says_words(dosage) for dosage in dosages) or _is_text(order.get("renderedDosageInstruction")):
            raise Unreadable("the dose is written as free text only")
        return None
    _refuse_differing_bounds(dosages)
    stages: dict[Decimal | None, list[Administration]] = {}
    for dosage in dosages:
        stages.setdefault(_sequence(dosage), []).extend(_administrations(dosage, product))
    regimens = [Regimen(_combined(administrations)) for administrations in stages.values()]
    if None in stages and len(stages) > 1:
        raise Unreadable("only some of the dosage instructions have a sequence number")
    if any(regimen != regimens[0] for regimen in regimens):
        raise Unreadable("the dose changes over time")
    return regimens[0]


def _combined(administrations: Iterable[Administration]) -> tuple[Administration, ...]:
    """Side by side as they are; but a dose said twice without time of day is given twice as often."""
    combined: list[Administration] = []
    often: dict[Decimal, int] = {}
    for administration in administrations:
        mg, times = administration.mg, administration.times_per_day
        if times is None:
            combined.append(administration)
        elif mg in often:
            earlier = combined[often[mg]].times_per_day or Decimal(0)
            combined[often[mg]] = Administration(mg, times_per_day=earlier + times)
        else:
            often[mg] = len(combined)
            combined.append(administration)
    return tuple(combined)


def _administrations(dosage: Mapping[str, Any], product: Product) -> list[Administration]:
    _refuse_modifiers(dosage)
    if _as_needed(dosage):
        raise Unreadable("the dose is to be taken as needed")
    mg = _dose(dosage, product)
    schedule = _schedule(dosage)
    if mg is None:
        raise Unreadable("one of the dosage instructions has no dose")
    if schedule is None:
        raise Unreadable("the dose has no timing")
    _refuse_above_own_maximum(dosage, mg, schedule, product)
    if schedule.whens:
        return [Administration(mg, when=when) for when in schedule.whens]
    return [Administration(mg, times_per_day=schedule.per_day)]


def _is_empty(dosage: Mapping[str, Any]) -> bool:
    return not (_says_dose(dosage) or _says_words(dosage) or dosage.get("timing"))


def _says_words(dosage: Mapping[str, Any]) -> bool:
    keys = ("text", "patientInstruction", "additionalInstruction", "additionalInstructions")
    return any(_is_text(value) if isinstance(value, str) else bool(value) for value in map(dosage.get, keys))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _refuse_modifiers(dosage: Mapping[str, Any]) -> None:
    """FHIR forbids reading an element whose modifier extension is not understood."""
    parts = [dosage, *(part for part in listed(dosage.get("timing")) if isinstance(part, dict))]
    if any(part.get("modifierExtension") for part in parts):
        raise Unreadable("the dosage instruction carries a modifier extension")


def _refuse_differing_bounds(dosages: Sequence[Mapping[str, Any]]) -> None:
    """Dosages for different stretches of time are a dose that changes, even without sequence numbers.

    The bounds are only compared with each other: the content of one ("Invalid date") does not matter.
    """
    bounds = []
    for dosage in dosages:
        repeat = _repeat(_object(dosage.get("timing"), "the timing"))
        bounds.append({key: value for key, value in repeat.items() if key.startswith("bounds")})
    if any(bound != bounds[0] for bound in bounds):
        raise Unreadable("the dose changes over time")


def _sequence(dosage: Mapping[str, Any]) -> Decimal | None:
    return _number(dosage.get("sequence"), "the sequence of a dosage instruction")


def _as_needed(dosage: Mapping[str, Any]) -> bool:
    for key in ("asNeededBoolean", "asNeeded"):
        flag = dosage.get(key)
        if flag is not None and not isinstance(flag, bool):
            raise Unreadable("whether the dose is to be taken as needed is not given as true or false")
        if flag:
            return True
    return bool(dosage.get("asNeededCodeableConcept") or dosage.get("asNeededFor"))


# --- the amount -----------------------------------------------------------------------------------

# The last is that of a DSTU2 MedicationStatement.
_QUANTITY_KEYS = ("doseQuantity", "doseSimpleQuantity", "quantityQuantity")


def _says_dose(dosage: Mapping[str, Any]) -> bool:
    """Whether a dose is said, be it malformed; a unit without a number is no dose yet."""
    rates = listed(dosage.get("doseAndRate"))
    if any(not isinstance(rate, dict) for rate in rates if rate is not None):
        return True
    for holder in (dosage, *(rate for rate in rates if isinstance(rate, dict))):
        if _has_rate(holder):
            return True
        quantities = [quantity for key in _QUANTITY_KEYS for quantity in listed(holder.get(key))]
        for bounds in listed(holder.get("doseRange")):
            if isinstance(bounds, dict):
                quantities += [bounds.get("low"), bounds.get("high")]
            else:
                quantities.append(bounds)
        for quantity in quantities:
            if quantity is not None and not (isinstance(quantity, dict) and quantity.get("value") is None):
                return True
    return False


def _has_rate(holder: Mapping[str, Any]) -> bool:
    return any(holder.get(key) for key in ("rateRatio", "rateRange", "rateQuantity"))


def _dose(dosage: Mapping[str, Any], product: Product) -> Decimal | None:
    """Milligrams of one administration, wherever the FHIR version puts them; all said must be equal."""
    doses = list(_doses(dosage, product))
    if any(dose <= 0 for dose in doses):
        raise Unreadable("the dose is zero or less")
    if any(dose != doses[0] for dose in doses):
        raise Unreadable("the dosage instruction gives more than one dose")
    if not doses and any(map(_has_rate, (dosage, *_objects(dosage.get("doseAndRate"), "the dose")))):
        raise Unreadable("the dose is given as a rate")
    return doses[0] if doses else None


def _doses(dosage: Mapping[str, Any], product: Product) -> Iterator[Decimal]:
    for holder in (dosage, *_as_given(_objects(dosage.get("doseAndRate"), "the dose"))):
        for key in _QUANTITY_KEYS:
            for quantity in _objects(holder.get(key), "the dose"):
                mg = _milligrams(quantity, product)
                if mg is not None:
                    yield mg
        for bounds in _objects(holder.get("doseRange"), "the dose range"):
            low = _milligrams(_object(bounds.get("low"), "the dose range"), product)
            high = _milligrams(_object(bounds.get("high"), "the dose range"), product)
            if low is None and high is None:
                continue
            if low is None or low != high:
                raise Unreadable("the dose is a range")
            yield low


def _as_given(rates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without the dose per kg or m2 that was ordered, where the amount calculated from it stands beside it.

    ``doseAndRate.type`` says which is which (dose-rate-type); paediatric orders often carry both.
    """
    if not any("calculated" in _types(rate) for rate in rates):
        return list(rates)
    return [
        rate for rate in rates if not ("ordered" in _types(rate) and _is_per_size(rate.get("doseQuantity")))
    ]


def _types(rate: Mapping[str, Any]) -> set[object]:
    return {
        coding.get("code")
        for coding in _objects(_object(rate.get("type"), "the dose").get("coding"), "the dose")
    }


def _is_per_size(quantity: object) -> bool:
    units = [quantity.get("code"), quantity.get("unit")] if isinstance(quantity, Mapping) else []
    return any(
        isinstance(unit, str) and unit.lower().replace(" ", "").endswith(("/kg", "/m2")) for unit in units
    )


def _milligrams(quantity: Mapping[str, Any], product: Product) -> Decimal | None:
    amount = read_amount(quantity)
    if amount is None or amount.kind is Kind.MILLIGRAM:
        return amount.value if amount else None
    if amount.kind is Kind.MILLILITRE:
        if product.strength_mg is None or product.per_ml is None:
            raise Unreadable("the dose is in mL and the strength of the product in mg/mL is not known")
        return amount.value * product.strength_mg / product.per_ml
    if product.per_ml is not None or product.form not in (Form.TABLET, Form.UNKNOWN):
        raise Unreadable("the dose is in tablets and the product is no tablet")
    if product.strength_mg is None:
        raise Unreadable("the dose is in tablets and the strength of the tablet is not known")
    return amount.value * product.strength_mg


def _refuse_above_own_maximum(
    dosage: Mapping[str, Any], mg: Decimal, schedule: _Schedule, product: Product
) -> None:
    """A dose above the maximum that stands beside it contradicts it; which of the two is meant cannot be known.

    A maximum that cannot be read (for each kg, in a lifetime) says nothing of the dose and is left alone.
    """
    for key in ("maxDosePerAdministration", "maxDosePerPeriod"):
        for maximum in listed(dosage.get(key)):
            most = _maximum(maximum, key, product)
            if most is not None and most < (
                mg if key == "maxDosePerAdministration" else mg * schedule.per_day
            ):
                raise Unreadable("the dose is above the maximum that the order itself sets")


def _maximum(maximum: object, key: str, product: Product) -> Decimal | None:
    """Milligrams for each administration (a Quantity) or each day (a Ratio: so much in so long)."""
    if not isinstance(maximum, dict):
        return None
    try:
        if key == "maxDosePerAdministration":
            return _milligrams(maximum, product)
        upper, lower = maximum.get("numerator"), maximum.get("denominator")
        if not isinstance(upper, dict) or not isinstance(lower, dict):
            return None
        mg, span = _milligrams(upper, product), number(lower.get("value"))
    except Unreadable:
        return None
    units = (_UNIT_OF_TIME.get(word) for name in ("code", "unit") if isinstance(word := lower.get(name), str))
    minutes = next((unit for unit in units if unit is not None), None)
    if mg is None or span is None or span <= 0 or minutes is None:
        return None
    return _per_day(mg, span * minutes)


# --- the timing -----------------------------------------------------------------------------------


def _schedule(dosage: Mapping[str, Any]) -> _Schedule | None:
    """How often, from ``repeat`` and ``code`` together; ``None`` where the timing says nothing at all."""
    timing = _object(dosage.get("timing"), "the timing")
    codes = list(_abbreviations(timing.get("code")))
    repeat = _repeat_schedule(_repeat(timing), codes)
    schedules = ([repeat] if repeat else []) + [code.schedule for code in codes]
    if not schedules:
        if timing.get("code"):
            raise Unreadable("the timing is a code or text that is not understood")
        if timing.get("event"):
            raise Unreadable("the timing is a list of dates, not a repeated dose")
        return None
    whens = {schedule.whens for schedule in schedules if schedule.whens}
    if len({schedule.per_day for schedule in schedules}) > 1 or len(whens) > 1:
        raise Unreadable("parts of the timing contradict each other")
    return _Schedule(schedules[0].per_day, whens.pop() if whens else ())


def _repeat(timing: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(timing.get("repeat"), "the timing")


def _repeat_schedule(repeat: Mapping[str, Any], codes: Sequence[_Abbreviation]) -> _Schedule | None:
    _refuse_some_weekdays(repeat)
    frequency, period = _frequency(repeat), _positive(repeat.get("period"), "the period of the timing")
    minutes = _cycle(repeat, period)
    events, any_meal = _times_of_day(repeat)
    if events:
        return _at_times_of_day(events, frequency, minutes, incomplete=period is not None and minutes is None)
    if minutes is not None:
        return _Schedule(_per_day(frequency or Decimal(1), minutes))
    if frequency is None and period is None:
        if any_meal and not codes:
            raise Unreadable("the dose goes with meals, but not how many a day")
        return None
    if codes and frequency in (None, *(Decimal(code.times) for code in codes)):
        return None  # the code says the period that is lacking
    raise Unreadable("the timing lacks its period or the unit of it")


def _at_times_of_day(
    events: Sequence[When], frequency: Decimal | None, minutes: Decimal | None, *, incomplete: bool
) -> _Schedule:
    if incomplete:
        raise Unreadable("the timing lacks its period or the unit of it")
    if frequency not in (None, Decimal(len(events))):
        raise Unreadable("the times of day and the frequency contradict each other")
    per_day = _per_day(Decimal(len(events)), Decimal(_DAY) if minutes is None else minutes)
    daily_and_distinct = per_day == len(events) == len(set(events))
    return _Schedule(per_day, tuple(when for when in When if when in events) if daily_and_distinct else ())


def _frequency(repeat: Mapping[str, Any]) -> Decimal | None:
    frequency = _positive(repeat.get("frequency"), "the frequency of the timing")
    most = _positive(repeat.get("frequencyMax"), "the frequency of the timing")
    if frequency is not None and frequency != frequency.to_integral_value():
        raise Unreadable("the frequency of the timing is no whole number")
    if most is not None and most != (frequency or 1):
        raise Unreadable("the frequency of the timing is a range")
    return frequency


def _cycle(repeat: Mapping[str, Any], period: Decimal | None) -> Decimal | None:
    """Minutes of one period; ``None`` where the period or its unit (DSTU2: ``periodUnits``) is lacking."""
    longest = _positive(repeat.get("periodMax"), "the period of the timing")
    if longest is not None and longest != period:
        raise Unreadable("the period of the timing is a range")
    units = [unit for unit in (repeat.get("periodUnit"), repeat.get("periodUnits")) if unit is not None]
    if any(unit != units[0] for unit in units):
        raise Unreadable("parts of the timing contradict each other")
    if not units or period is None:
        return None
    if not isinstance(units[0], str) or units[0] not in _MINUTES:
        raise Unreadable("the period of the timing is not in minutes, hours, days or weeks")
    return period * _MINUTES[units[0]]


def _times_of_day(repeat: Mapping[str, Any]) -> tuple[list[When], bool]:
    """The times of day, one for each administration, and whether the dose goes with an unnamed meal."""
    codes = listed(repeat.get("when"))
    any_meal = bool(codes) and all(isinstance(code, str) and code in _ANY_MEAL for code in codes)
    named: list[When] = []
    if not any_meal:
        for code in codes:
            if not isinstance(code, str) or code not in _WHENS:
                raise Unreadable("a time of day in the timing is not understood")
            named.append(_WHENS[code])
    clock = [_part_of_day(time) for time in listed(repeat.get("timeOfDay"))]
    if named and clock and sorted(named) != sorted(clock):
        raise Unreadable("parts of the timing contradict each other")
    return named or clock, any_meal


def _part_of_day(time: object) -> When:
    parts = time.split(":") if isinstance(time, str) else []
    hour, minute = (parts[0], parts[1]) if len(parts) in _CLOCK_PARTS else ("", "")
    two_digits = all(len(part) == len("00") and part.isascii() and part.isdigit() for part in (hour, minute))
    if not two_digits or int(hour) > _LAST_HOUR or int(minute) > _LAST_MINUTE:
        raise Unreadable("a time of day in the timing is not understood")
    if int(hour) < _NOON_HOUR:
        return When.MORN
    return When.AFT if int(hour) < _EVENING_HOUR else When.EVE


def _refuse_some_weekdays(repeat: Mapping[str, Any]) -> None:
    days = listed(repeat.get("dayOfWeek"))
    if days and {day for day in days if isinstance(day, str)} != _WEEK:
        raise Unreadable("the dose is given on some days of the week only")


def _abbreviations(concept: object) -> Iterator[_Abbreviation]:
    """What ``timing.code`` says: every coding and every text of it that is understood."""
    for part in listed(concept):
        if isinstance(part, str):
            yield from _phrase(part)
            continue
        if not isinstance(part, dict):
            raise Unreadable("the timing is not in the shape that FHIR gives it")
        yield from _phrase(part.get("text"))
        for coding in _objects(part.get("coding"), "the timing"):
            code, system = coding.get("code"), coding.get("system")
            known = _code_table(system).get(code.strip().upper()) if isinstance(code, str) else None
            if known:
                yield known
            else:
                yield from _phrase(coding.get("display"))


def _code_table(system: object) -> Mapping[str, _Abbreviation]:
    if system is None or system == _TIMING_ABBREVIATION:
        return _CODES
    canonical = systems.canonical(system) if isinstance(system, str) else None
    if canonical == systems.SNOMED:
        return _SNOMED_CODES
    return _CODES if canonical == systems.GTS_ABBREVIATION else {}


def _phrase(text: object) -> Iterator[_Abbreviation]:
    if isinstance(text, str):
        words = " ".join(text.lower().replace(".", "").split()).removesuffix(" (qualifier value)")
        if words in _PHRASES:
            yield _PHRASES[words]


# --- tolerant shapes ------------------------------------------------------------------------------


def _objects(value: object, what: str) -> list[Mapping[str, Any]]:
    """The objects of an element that may repeat; an object alone is a list of one, ``null`` is nothing."""
    if value is None:
        return []
    items = [item for item in listed(value) if item is not None]
    found: list[Mapping[str, Any]] = [item for item in items if isinstance(item, dict)]
    if len(found) < len(items):
        raise Unreadable(f"{what} is not in the shape that FHIR gives it")
    return found


def _object(value: object, what: str) -> Mapping[str, Any]:
    """The one object of an element that does not repeat; empty where it is absent."""
    found = _objects(value, what)
    if len(found) > 1:
        raise Unreadable(f"{what} is not in the shape that FHIR gives it")
    return found[0] if found else {}


def _number(value: object, what: str) -> Decimal | None:
    if value is None:
        return None
    found = number(value)
    if found is None:
        raise Unreadable(f"{what} is not given as a plain number")
    return found


def _positive(value: object, what: str) -> Decimal | None:
    found = _number(value, what)
    if found is not None and found <= 0:
        raise Unreadable(f"{what} is zero or less")
    return found


# --- writing --------------------------------------------------------------------------------------

_ORAL = "26643006"
_LONGEST_CYCLE = 366
_TIMES_IN_WORDS = {1: "once", 2: "twice", 3: "three times", 4: "four times"}
_WHEN_IN_WORDS = {When.MORN: "in the morning", When.AFT: "in the afternoon", When.EVE: "in the evening"}


def write_dosage(regimen: Regimen, fhir: FhirVersion) -> list[dict[str, Any]]:
    """The ``dosageInstruction`` of a suggested regimen: one Dosage for each administration (contract, 4).

    Milligrams by mouth, numbers exact (``Decimal`` and ``int``). STU3 and DSTU2 put ``doseQuantity`` under
    the Dosage; DSTU2 has ``periodUnits`` and a single ``when``, for which its own value set has no morning,
    so the later FHIR code is sent.

    Raises ``ValueError`` for a regimen that is no dose: empty, not above zero, or with a number of times a
    day that is not so many times in so many whole days.
    """
    if not regimen.administrations:
        raise ValueError("write_dosage: the regimen is empty; pass one with an administration.")
    if fhir == "R4":
        _check(regimen)
    return [_written(administration, fhir) for administration in regimen.administrations]


@lru_cache(maxsize=256)
def _check(regimen: Regimen) -> None:
    """Has the model look at what is written of a regimen: once for each, since they are those of the tables.

    Checked, not dumped: the dump of the model would turn the Decimals into floats.
    """
    for administration in regimen.administrations:
        R4Dosage.model_validate(_written(administration, "R4"))


def _written(administration: Administration, fhir: FhirVersion) -> dict[str, Any]:
    mg = _plain(administration.mg)
    if mg <= 0:
        raise ValueError("write_dosage: a dose is not above zero; pass the milligrams of the row.")
    times, days = _times_in_days(administration)
    repeat: dict[str, Any] = {
        "frequency": times,
        "period": days,
        "periodUnits" if fhir == "DSTU2" else "periodUnit": "d",
    }
    if administration.when is not None:
        repeat["when"] = administration.when.value if fhir == "DSTU2" else [administration.when.value]
        how_often = _WHEN_IN_WORDS[administration.when]
    else:
        how_often = _how_often(times, days)
    quantity = {"value": mg, "unit": "mg", "system": systems.UCUM, "code": "mg"}
    dose = {"doseAndRate": [{"doseQuantity": quantity}]} if fhir == "R4" else {"doseQuantity": quantity}
    return {
        "text": f"{mg:f} mg {how_often} by mouth",
        "timing": {"repeat": repeat},
        "route": {"coding": [{"system": systems.SNOMED, "code": _ORAL, "display": "Oral route"}]},
        **dose,
    }


def _times_in_days(administration: Administration) -> tuple[int, int]:
    if (administration.when is None) is (administration.times_per_day is None):
        raise ValueError("write_dosage: an administration needs a time of day or times a day, not both.")
    if administration.times_per_day is None:
        return 1, 1
    per_day = administration.times_per_day
    # A third is not exact as a Decimal; the ratio nearest to it is tried before the digits themselves.
    for ratio in (Fraction(per_day).limit_denominator(_LONGEST_CYCLE), Fraction(per_day)):
        times, days = ratio.numerator, ratio.denominator
        if times > 0 and days <= _LONGEST_CYCLE and _per_day(Decimal(times), Decimal(days * _DAY)) == per_day:
            return times, days
    raise ValueError("write_dosage: the times a day are not so many in a number of whole days up to a year.")


def _how_often(times: int, days: int) -> str:
    often = _TIMES_IN_WORDS.get(times, f"{times} times")
    if days == 1:
        return f"{often} daily"
    return f"{often} every {days} days"


def _plain(value: Decimal) -> Decimal:
    """The same number without exponent or trailing zeros: 4.0 and 4E0 are written as 4."""
    whole = value == value.to_integral_value()
    return Decimal(int(value)) if whole else Decimal(f"{value:f}".rstrip("0"))
