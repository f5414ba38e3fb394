"""The closed evaluator: facts against the cells of one row. Three answers: yes, no, or cannot say, with causes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from guideline.cells import Cell, Choice
from guideline.derive import DIFFER
from guideline.facts import vocabulary
from guideline.findings import Outcome
from guideline.tables import Box, Row, Table, Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Known, Missing, Reason, Value

Facts = Mapping[str, Fact]


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


@dataclass(frozen=True, slots=True)
class Trial:
    """A row as it is tried, made ready once: most rows are ruled out by one condition, and need no more than that.

    ``applies`` is what table and row concern. ``conditions`` are the cells of which one alone rules the row out, each
    with its fact and whether an old value may do so: those of ``applies`` and, where the row has one box, of that. The
    options of a choice stand beside its test. ``cleared`` is the outcome for each fact that may rule it out.
    """

    table: Table
    row: Row
    applies: Box
    conditions: tuple[tuple[str, tuple[str, ...] | None, Callable[[Value], bool | None], bool], ...]
    cleared: Mapping[str, Tried]


def trials(tables: Tables, drug: str, stage: str) -> tuple[tuple[Table, tuple[Trial, ...]], ...]:
    """The rows of the tables of a drug that are tried at a stage, dose tables left out."""
    return tables.kept(
        ("trials", drug, stage),
        lambda: tuple(
            (table, tuple(trial(table, row) for row in table.rows))
            for table in tables.of(drug)
            if table.stage == stage and not table.is_dose_table
        ),
    )


def trial(table: Table, row: Row) -> Trial:
    """One row made ready."""
    applies = {**table.applies, **row.applies}
    cells = [(name, cell, False) for name, cell in applies.items()]
    if len(row.boxes) == 1:
        cells += [(name, cell, name in table.stale) for name, cell in row.boxes[0].items()]
    conditions = tuple(
        (name, cell.options if isinstance(cell, Choice) else None, cell.test, may_be_old)
        for name, cell, may_be_old in cells
    )
    cleared = {
        name: Tried(table, row, Outcome.CLEAR, Answer(False, decided_by=(name,))) for name, _, _ in cells
    }
    return Trial(table, row, applies, conditions, cleared)


def ruled_out(trial: Trial, facts: Facts) -> Tried | None:
    """The outcome of a row that one condition alone rules out; ``None`` where it has to be asked in full."""
    for name, options, test, may_be_old in trial.conditions:
        fact = facts.get(name)
        if fact is None or isinstance(fact, Missing):
            continue
        value = fact.value
        # A choice of one word is the commonest condition by far, and asked without a call.
        if value in options if options is not None and type(value) is str else test(value) is not False:
            continue
        if isinstance(fact, Known) or (may_be_old and not fact.expired):
            return trial.cleared[name]
    return None


def ask_cell(name: str, cell: Cell, facts: Facts, stale: str | None, *, caution: bool = True) -> Answer:
    """One cell against its fact.

    A doubtful value may say yes where ``caution`` asks for it (a warning), but never no, and neither where a dose
    is chosen; ``stale`` lets it say both.
    """
    fact = facts.get(name)
    if fact is None:
        return Answer(None, (Cause(vocabulary()[name].named, Reason.NOT_SUPPLIED),), decided_by=(name,))
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
