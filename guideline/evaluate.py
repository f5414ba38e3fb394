"""The closed evaluator: facts against the cells of one row. Three answers: yes, no, or cannot say, with causes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

import msgspec

from guideline.cells import Cell, Choice
from guideline.derive import DIFFER
from guideline.facts import vocabulary
from guideline.findings import Outcome
from guideline.tables import Box, Row, Table, Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Known, Missing, Reason, Value

Facts = Mapping[str, Fact]
"""Facts by name. Some are worked out when they are asked for, and one that nobody supplied says so itself: only
``facts[name]`` finds them all."""


class Answer(msgspec.Struct, frozen=True):
    """Whether something holds: ``True``, ``False`` or ``None`` (cannot say), and what that rests on.

    ``doubts`` are the causes of doubtful values that were used all the same.
    """

    holds: bool | None
    causes: tuple[Cause, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    doubts: tuple[Cause, ...] = ()
    decided_by: tuple[str, ...] = ()


_ALWAYS = Answer(True)
_HIT, _CLEAR = Outcome.HIT, Outcome.CLEAR


class Tried(msgspec.Struct, frozen=True):
    """A row with its answer, before rows of one statement are joined.

    ``bars`` is set where a row that could not be assessed speaks for others, one of which may bar the dose.
    ``on_limit``: a value stands exactly on a limit of the row that another row names too.
    """

    table: Table
    row: Row
    outcome: Outcome
    answer: Answer
    bars: bool = False
    on_limit: bool = False


Conditions = tuple[tuple[str, tuple[str, ...] | None, Callable[[Value], bool | None], bool], ...]
"""Cells that must all hold, made ready: each with its fact, its test and whether an old value may rule it out. The
options of a choice stand beside its test."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A row as it is tried, made ready once: known facts decide most rows, and need no more than that.

    ``conditions`` are what the row concerns, without what its table has asked already, and its box where it has one;
    of several boxes each stands in ``boxes``. ``cleared`` is the outcome for each fact that may rule the row out by
    itself, ``names`` are the facts of the one box.
    """

    table: Table
    row: Row
    conditions: Conditions
    boxes: tuple[Conditions, ...]
    cleared: Mapping[str, Tried]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trials:
    """The rows of a table as they are tried; of ``conditions``, those of the table, one alone clears all of them."""

    table: Table
    conditions: Conditions
    cleared: Mapping[str, tuple[Tried, ...]]
    rows: tuple[Trial, ...]


def trials(tables: Tables, drug: str, stage: str) -> tuple[Trials, ...]:
    """The tables of a drug whose rows are tried at a stage, dose tables left out."""
    return tables.kept(
        ("trials", drug, stage),
        lambda: tuple(
            trials_of(table) for table in tables.of(drug) if table.stage == stage and not table.is_dose_table
        ),
    )


def trials_of(table: Table) -> Trials:
    """One table made ready."""
    replaced = {name for row in table.rows for name in row.applies}
    # What decides a row is the first of its conditions: a table's count before the rows' up to one that a row replaces.
    shared = dict(takewhile(lambda item: item[0] not in replaced, table.applies.items()))
    rows = tuple(_trial(table, row, shared) for row in table.rows)
    cleared = {name: tuple(_cleared(table, row, (name,)) for row in table.rows) for name in shared}
    return Trials(table, _conditions(shared, {}), cleared, rows)


def _trial(table: Table, row: Row, shared: Box) -> Trial:
    applies = {name: cell for name, cell in {**table.applies, **row.applies}.items() if name not in shared}
    boxes = tuple(_conditions(box, table.stale) for box in row.boxes)
    single = boxes[0] if len(boxes) == 1 else ()
    conditions = (*_conditions(applies, {}), *single)
    return Trial(
        table,
        row,
        conditions,
        boxes if len(boxes) > 1 else (),
        {name: _cleared(table, row, (name,)) for name, *_ in conditions},
        tuple(name for name, *_ in single),
    )


def _conditions(box: Box, stale: Mapping[str, str]) -> Conditions:
    return tuple(
        (name, cell.options if isinstance(cell, Choice) else None, cell.test, name in stale)
        for name, cell in box.items()
    )


def _cleared(table: Table, row: Row, by: tuple[str, ...]) -> Tried:
    return Tried(table, row, _CLEAR, Answer(False, decided_by=by))


HOLDS = ""
"""All conditions hold."""


def ask_known(conditions: Conditions, facts: Facts) -> str | None:
    """What known facts say of conditions that must all hold: the fact that rules them out, ``HOLDS``, or ``None``
    where what is not known has a say.
    """
    said: str | None = HOLDS
    for name, options, test, may_be_old in conditions:
        fact = facts[name]
        if type(fact) is Known:
            value = fact.value
            # A choice is the commonest condition by far, and asked without a call.
            holds = value in options if options is not None and type(value) is str else test(value)
            if holds:
                continue
            if holds is False:
                return name
        elif may_be_old and type(fact) is Doubtful and not fact.expired and test(fact.value) is False:
            return name
        said = None
    return said


def ask_at_once(trial: Trial, facts: Facts, of_table: str | None) -> Tried | None:
    """The outcome of a row that known facts decide; ``None`` where it has to be asked in full.

    ``of_table`` is what they say of the conditions of its table: ``HOLDS`` or ``None``.
    """
    said = ask_known(trial.conditions, facts)
    if said:
        return trial.cleared[said]
    names = trial.names
    if trial.boxes:
        each = [ask_known(box, facts) for box in trial.boxes]
        if all(each):
            return _cleared(trial.table, trial.row, unique(name for name in each if name))
        if None in each:
            return None
        names = unique(
            name for box, holds in zip(trial.boxes, each, strict=True) if holds == HOLDS for name, *_ in box
        )
    # A row with something to say of its limit has more to be looked at.
    if said is None or of_table is None or trial.row.on_limit is not None:
        return None
    if len(names) == 1 and not trial.boxes:
        evidence = facts[names[0]].evidence
    else:
        evidence = unique(datum for name in names for datum in facts[name].evidence)
    return Tried(trial.table, trial.row, _HIT, Answer(True, (), evidence, (), names))


def ask_cell(name: str, cell: Cell, facts: Facts, stale: str | None, *, caution: bool = True) -> Answer:
    """One cell against its fact.

    A doubtful value may say yes where ``caution`` asks for it (a warning), but never no, and neither where a dose
    is chosen; ``stale`` lets it say both.
    """
    fact = facts[name]
    if isinstance(fact, Missing):
        return Answer(None, fact.causes, fact.evidence, decided_by=(name,))
    held = cell.test(fact.value)
    if held is None:
        why = _undecided(name, fact)
        breaching = [cell.test(value) is True for value in fact.each]
        if caution and any(breaching):
            # Of results that contradict each other the worse one warns, and stands first.
            ordered = sorted(zip(breaching, fact.evidence, strict=True), key=lambda pair: not pair[0])
            doubts = (why, *(fact.causes if isinstance(fact, Doubtful) else ()))
            return Answer(True, (), tuple(datum for _, datum in ordered), doubts, (name,))
        return Answer(None, (why,), fact.evidence, decided_by=(name,))
    if isinstance(fact, Known):
        return Answer(held, (), fact.evidence, decided_by=(name,))
    if (held and caution) or (stale is not None and not fact.expired):
        return Answer(held, (), fact.evidence, fact.causes, (name,))
    return Answer(None, fact.causes, fact.evidence, decided_by=(name,))


def _undecided(name: str, fact: Known | Doubtful) -> Cause:
    """Why a value that is there does not decide: a partial date, results that contradict each other, a bound."""
    named = vocabulary()[name].named
    if name == "age":
        return Cause(named, Reason.UNREADABLE, "only part of the date is known")
    if any(seen.note == DIFFER for seen in fact.evidence):
        return Cause(named, Reason.UNREADABLE, "results of one day differ, on different sides of a limit")
    return Cause(named, Reason.COMPARATOR, "only a bound is known")


def ask_box(box: Box, facts: Facts, stale: Mapping[str, str], *, caution: bool = True) -> Answer:
    """All cells of a box: no as soon as one says no, cannot say as soon as one cannot."""
    answers = []
    for name, cell in box.items():
        answer = ask_cell(name, cell, facts, stale.get(name), caution=caution)
        if answer.holds is False:
            return answer
        answers.append(answer)
    if len(answers) == 1:
        return answers[0]
    if not answers:
        return _ALWAYS
    unknown = [a for a in answers if a.holds is None]
    return Answer(
        None if unknown else True,
        unique(c for a in unknown for c in a.causes),
        unique(e for a in answers for e in a.evidence),
        unique(c for a in answers for c in a.doubts),
        unique(n for a in (unknown or answers) for n in a.decided_by),
    )


def ask_row(row: Row, facts: Facts, stale: Mapping[str, str]) -> Answer:
    """The row's alternatives: yes as soon as one holds, no only when all are ruled out."""
    if not row.boxes:
        return _ALWAYS
    # A doubtful value may raise a warning; it neither chooses a dose nor says that all is well.
    caution = row.dose is None and not row.reassures
    if len(row.boxes) == 1:
        return ask_box(row.boxes[0], facts, stale, caution=caution)
    answers = [ask_box(box, facts, stale, caution=caution) for box in row.boxes]
    held = [a for a in answers if a.holds]
    if held:
        return Answer(
            True,
            (),
            unique(e for a in held for e in a.evidence),
            unique(c for a in held for c in a.doubts),
            unique(n for a in held for n in a.decided_by),
        )
    unknown = [a for a in answers if a.holds is None]
    chosen = unknown or answers
    return Answer(
        None if unknown else False,
        unique(c for a in unknown for c in a.causes),
        unique(e for a in chosen for e in a.evidence),
        (),
        unique(n for a in chosen for n in a.decided_by),
    )


def ask_applies(table: Table, row: Row, facts: Facts) -> Answer:
    """Whether table and row concern this child and order at all. A doubtful yes counts as yes."""
    return ask_box({**table.applies, **row.applies}, facts, {})


T = TypeVar("T")


def unique(items: Iterable[T]) -> tuple[T, ...]:
    """The items in their order, each once."""
    return tuple(dict.fromkeys(items))
