"""A second implementation of the doses, written from the guideline's text alone, to compare the service with.

It shares nothing with ``guideline/``: no table, no engine, no types. Where it differs from the service one of the two
has misread the text. Sections and appendices are those of the guideline; "ruling" marks a decision of the service.

A day of doses is a mapping of slot to milligrams: the slots are "MORN", "AFT", "EVE", or "1", "2", ... for doses
without a time of day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction as F

Day = dict[str, F]


RUNNING_FOR = timedelta(days=200)


@dataclass(frozen=True)
class Child:
    """Everything that the printed doses depend on."""

    drug: str
    indication: str
    born: date
    on: date
    kg: F
    height_cm: F
    creatinine: F
    running: Day | None = None
    """The dose that is being taken, for ``RUNNING_FOR``; ``None`` at a start."""
    bloods_normal: bool = True


def times(number: int, mg: str | int) -> Day:
    return {str(index): F(mg) for index in range(1, number + 1)}


def slots(morning: int, afternoon: int, evening: int) -> Day:
    day = {"MORN": F(morning), "AFT": F(afternoon), "EVE": F(evening)}
    return {slot: mg for slot, mg in day.items() if mg}


def total(day: Day) -> F:
    return sum(day.values(), F(0))


def age(child: Child) -> int:
    """Completed years; someone born on 29 February has a birthday on 1 March of other years (A-09)."""
    years = child.on.year - child.born.year
    birthday_to_come = (child.on.month, child.on.day) < (child.born.month, child.born.day)
    return years - 1 if birthday_to_come else years


def egfr(child: Child) -> F:
    """Section 6.2b iii: 36 x height in cm / creatinine in umol/L, never rounded (A-15)."""
    return 36 * child.height_cm / child.creatinine


def dose(child: Child, drafted: Day) -> Day | None:
    """The day of doses that may be suggested for a draft, or ``None`` where none may be."""
    if child.drug == "tofacitinib":
        return _tofacitinib(child)
    if egfr(child) < 40:  # 6.1, 6.2b ii, 6.7; ruling 4 at a start, ruling 2 on treatment
        return None
    if total(drafted) > 12:  # 6.3: 12 mg is the highest total that is printed, for any child
        return None
    if child.indication == "jia":
        return _by_age(child, youngest=2, step=9)  # appendix 3: 2-8 and 9-17 years
    if child.indication == "jdm":
        today = _by_age(child, youngest=2, step=6)  # 6.5: below 6 years, from 6 years
        if child.running is not None and total(drafted) > total(child.running):
            before = _by_age(replace(child, on=child.on - RUNNING_FOR), youngest=2, step=6)
            if (before, today) != (times(1, 2), times(1, 4)):
                return None  # 6.5: an increase, for which no step is printed
            if (total(child.running), total(drafted)) != (2, 4):  # ruling 1: a rise that age explains
                return None
        return today
    return _interferonopathy(child, drafted)


def _tofacitinib(child: Child) -> Day | None:
    """Section 5.3, both tables; 2 to 17 years; nothing below 5 kg; no figure in severe renal impairment (A-05)."""
    if child.indication != "jia" or not 2 <= age(child) <= 17 or egfr(child) < 30:
        return None
    kg = child.kg
    if kg < 5:
        return None
    if kg < 7:
        return times(2, 2)
    if kg < 10:
        return times(2, "5/2")
    if kg < 20:
        return times(2, "16/5")
    if kg < 40:
        return times(2, 4)
    return times(2, 5)


def _by_age(child: Child, *, youngest: int, step: int) -> Day | None:
    if not youngest <= age(child) <= 17:
        return None
    return times(1, 2 if age(child) < step else 4)


def _initial(child: Child) -> Day:
    """Section 6.3 and appendix 2, initial dosing. 20 and 40 kg both belong to the middle row."""
    if egfr(child) <= 120:
        return slots(2, 0, 2)
    if child.kg < 20:
        return slots(2, 2, 2)
    return slots(4, 0, 2) if child.kg <= 40 else slots(4, 0, 4)


def _escalated(child: Child) -> Day:
    """Section 6.3 and appendix 2, dose escalation."""
    if egfr(child) <= 120:
        return slots(2, 2, 2) if child.kg < 20 else slots(4, 0, 2)
    if child.kg < 20:
        return slots(2, 4, 2)
    return slots(4, 0, 4) if child.kg <= 40 else slots(6, 0, 4)


def _interferonopathy(child: Child, drafted: Day) -> Day | None:
    if not 2 <= age(child) <= 17 or child.kg < 10:
        return None
    initial = _initial(child)
    if child.running is None:
        return initial
    running, now = total(child.running), total(drafted)
    if now > running >= total(initial) and now > total(initial):  # ruling 1: an escalation
        return _escalated(child) if child.bloods_normal else None
    return _escalated(child) if running > total(initial) else initial


def verdict(drafted: Day, guideline: Day) -> str:
    """The draft against the guideline's day (ruling 11)."""
    if not drafted:
        return "absent"
    if total(drafted) != total(guideline):
        return "over" if total(drafted) > total(guideline) else "under"
    return (
        "match"
        if _split(drafted, by_slot="MORN" in guideline) == _split(guideline, by_slot="MORN" in guideline)
        else "schedule"
    )


def _split(day: Day, *, by_slot: bool) -> object:
    if not by_slot:
        return sorted(day.values())
    if set(day) <= {"MORN", "AFT", "EVE"}:
        return day
    alike = len(set(day.values())) == 1
    if alike and len(day) == 2:
        return {"MORN": day["1"], "EVE": day["2"]}
    if alike and len(day) == 3:
        return {"MORN": day["1"], "AFT": day["2"], "EVE": day["3"]}
    return None
