"""The mutation check: one table is made wrong in one place at a time, and some example must object.

``python -m guideline.mutate`` (``make mutate``) lists every change that no example notices: file, table, row, what
was changed. A change that only the linter refuses counts as noticed, and is counted apart.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from guideline import lint
from guideline.cells import Cell, Choice, parse_cell
from guideline.examples import Example, read_examples
from guideline.facts import vocabulary
from guideline.findings import Severity
from guideline.tables import Row, Table, TableFault, Tables, build_table, load_tables, raw_tables
from guideline.values import Interval, Value

EXAMPLES: Final = Path(__file__).parent.parent / "tests" / "examples"
STEP: Final = Decimal("0.01")
STEPS: Final[Mapping[str, Decimal]] = {
    "age": Decimal(1),  # completed years
    "monthsOnDrug": Decimal(1),  # completed months
    "daysSinceLiveVaccine": Decimal(1),  # whole days
    "daysSinceLastDose": Decimal(1),  # whole days
    "singleDoseMg": Decimal(2),  # doses of the tables are whole tablets, the smallest of 2 mg
}
"""How far a limit is moved: the smallest step in which the fact can differ."""
IMPOSSIBLE: Final[tuple[tuple[Mapping[str, str], str], ...]] = (
    ({"phase": "escalation", "indication": "jia | gvhd | other"}, "ruling 1: interferonopathy and JDM only"),
    ({"phase": "initiation", "monthsOnDrug": ">= 1"}, "a start is month 0"),
    (
        {"verdict": "match | over | under | schedule", "indication": "gvhd | other"},
        "no dose table, so no row to compare with",
    ),
    ({"verdict": "unreadable"}, "an unreadable draft makes the verdict a missing fact"),
    ({"infectionUnsaid": "yes", "seriousInfection": "yes"}, "infectionUnsaid says that there is none"),
    ({"infectionUnsaid": "yes", "tbActive": "yes"}, "infectionUnsaid says that there is none"),
    ({"infectionUnsaid": "no", "seriousInfection": "no", "tbActive": "no"}, "then it is yes"),
    ({"drug": "tofacitinib", "visit": "week-2 | week-4 | week-8"}, "visits of baricitinib"),
    ({"drug": "baricitinib", "visit": "week-6"}, "a visit of tofacitinib"),
    ({"visit": "none", "visitState": "due | overdue"}, "no course is running, so nothing is due"),
    ({"visit": "none", "lipidState": "due | overdue"}, "no course is running, so nothing is due"),
    (
        {"drug": "tofacitinib", "lipidVisit": "none", "lipidState": "due | overdue"},
        "lipids of tofacitinib are lacking at a visit or not at all",
    ),
    (
        {"visit": "interval", "lipidVisit": "week-6", "lipidState": "due"},
        "a set that does week 12 comes when week 6 is overdue, unless a site waits weeks longer",
    ),
    ({"visit": "none", "repeatDue": "yes"}, "no course is running, so nothing is due again"),
    (
        {"drug": "baricitinib", "visit": "week-4", "visitState": "not-due", "repeatDue": "yes"},
        "the set that did week 2 is younger than the 4 weeks after which a result is due again",
    ),
    ({"phase": "initiation", "countedFrom": "escalation"}, "a start has no course that could have escalated"),
    ({"egfr": "< 0.3"}, "36 x the smallest plausible height / the largest plausible creatinine"),
)
"""What no child can have, with the reason: a change that only such a child would feel is no mutant."""
_OUTRANKED = "the more severe face of the statement speaks instead"
_BY_ITSELF = "a critical row withholds the dose by itself (ruling 2)"
_ALSO = "the other face of the statement withholds as well"
_ON_TREATMENT = "on treatment another statement has the same condition and interrupts (ruling 9)"
_CRITICAL = (
    "a critical row withholds by itself, and bars by itself while it is unknown (rulings 2 and 3); PREG-04 has the "
    "same condition and keeps a lower draft from being faulted"
)
EXCUSED: Final[Mapping[tuple[str, str, str], str]] = {
    ("TOFA-ALC", "TOFA-ALC-03", "condition lymphocytesPersist no dropped"): _OUTRANKED,
    ("TOFA-ALC", "TOFA-ALC-03", "lymphocytesPersist no made no | yes"): _OUTRANKED,
    ("TOFA-ANC", "TOFA-ANC-03", "condition neutrophilsPersist no dropped"): _OUTRANKED,
    ("TOFA-ANC", "TOFA-ANC-03", "neutrophilsPersist no made no | yes"): _OUTRANKED,
    ("BARI-AT-LIMIT", "BARI-MT-01", "haemoglobin [8, 8] made [7.99, 8]"): _OUTRANKED,
    ("BARI-AT-LIMIT", "BARI-MT-03", "neutrophils [1, 1] made [0.99, 1]"): _OUTRANKED,
    ("BARI-AT-LIMIT", "BARI-MT-04", "lymphocytes [0.5, 0.5] made [0.49, 0.5]"): _OUTRANKED,
    ("BARI-AT-LIMIT", "BARI-MT-07", "altTimesUpper [5, 5] made [5, 5.01]"): _OUTRANKED,
    ("BARI-AT-LIMIT", "BARI-MT-07", "astTimesUpper [5, 5] made [5, 5.01]"): _OUTRANKED,
    ("BK-SCREEN", "BARI-MON-08", "bkState due made due | overdue"): _OUTRANKED,
    ("BK-SCREEN", "BK-02", "bkState due made due | overdue"): _OUTRANKED,
    ("BARI-LIPIDS", "BARI-MON-06", "lipidState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-01", "visitState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-02", "visitState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-03", "visitState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-03", "visitState not-due made not-due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-03", "lipidState not-due made not-due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-01", "lipidState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-02", "lipidState due made due | overdue"): _OUTRANKED,
    ("TOFA-DUE", "TOFA-MON-03", "lipidState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-01", "visitState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-02", "visitState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-03", "visitState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-04", "visitState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-05", "visitState due made due | overdue"): _OUTRANKED,
    ("BARI-DUE", "BARI-MON-05", "visitState not-due made not-due | overdue"): _OUTRANKED,
    ("BARI-CHECK", "BARI-IFN-07", "draftMgPerDay [12, 12] made [12, 12.01]"): _OUTRANKED,
    ("BARI-CHECK", "BARI-IFN-07", "without withholds"): _BY_ITSELF,
    ("BARI-RUNNING", "BARI-DOSE-CHK", "verdict under made under | over"): _OUTRANKED,
    ("BARI-RUNNING", "BARI-DOSE-CHK", "verdict under made under | schedule"): _OUTRANKED,
    ("BARI-RUNNING", "BARI-DOSE-CHK", "condition age >= 9 dropped"): _OUTRANKED,
    ("BARI-RUNNING", "BARI-DOSE-CHK", "age >= 9 made >= 8"): _OUTRANKED,
    ("BARI-ESCALATE", "BARI-JDM-03", "monthsOnDrug >= 3 made >= 2"): _OUTRANKED,
    ("BARI-ESCALATE", "BARI-JDM-03", "condition monthsOnDrug >= 3 dropped"): _OUTRANKED,
    ("BARI-CHECK", "BARI-JDM-03", "without withholds"): _ALSO,
    ("REN-IFN", "REN-BARI-03", "condition egfrCrossed no dropped"): _OUTRANKED,
    ("REN-IFN", "REN-BARI-03", "egfrCrossed no made no | yes"): _OUTRANKED,
    ("INFECTION", "INF-02", "fever no made no | yes"): _OUTRANKED,
    ("INFECTION", "INF-02", "antibiotic no made no | yes"): _OUTRANKED,
    ("BK-LOAD", "BK-07", "without interrupts"): "BK-09 has the same condition",
    ("BK-LOAD", "BK-09", "without interrupts"): "BK-07 has the same condition",
    ("TOFA-CI", "TOFA-CI-02", "without interrupts"): _ON_TREATMENT,
    ("TOFA-CI", "TOFA-CI-05", "without interrupts"): _ON_TREATMENT,
    ("BARI-CI", "BARI-CI-02", "without interrupts"): _ON_TREATMENT,
    ("TOFA-CI", "TOFA-CI-07", "without withholds"): _CRITICAL,
    ("BARI-CI", "BARI-CI-07", "without withholds"): _CRITICAL,
    ("BARI-CI", "BARI-CI-05", "without interrupts"): _ON_TREATMENT,
    ("CONCOMITANT", "CON-02", "biologicUse switching made switching | combined"): _OUTRANKED,
    ("VAX", "VAX-01", "condition afterLastDose yes dropped"): _OUTRANKED,
    ("VAX", "VAX-01", "afterLastDose yes made yes | no"): _OUTRANKED,
    ("VAX-GIVEN", "VAX-01", "applies: condition liveVaccineDrafted no dropped"): _OUTRANKED,
    ("VAX-GIVEN", "VAX-01", "applies: liveVaccineDrafted no made no | yes"): _OUTRANKED,
    ("VAX-RECENT", "VAX-01", "applies: condition liveVaccineDrafted no dropped"): _OUTRANKED,
    ("VAX-RECENT", "VAX-01", "applies: liveVaccineDrafted no made no | yes"): _OUTRANKED,
    ("PREG-PILL", "PREG-04", "contraceptive unknown made unknown | combined"): _OUTRANKED,
    ("PREG-PILL", "PREG-04", "contraceptive progestogen made progestogen | combined"): _OUTRANKED,
    ("PREG-PILL", "PREG-04", "contraceptive progestogen made progestogen | unknown"): _OUTRANKED,
    ("TOFA-CI", "HEP-TOFA-01", "without withholds"): "TOFA-CI-04 has the same condition",
    ("SCREEN-TB", "SCR-02", "without withholds"): "the contraindication of the drug has the same condition",
    ("REN-TOFA", "REN-TOFA-01", "without reduces"): "withholds: dose says as much",
    ("REN-BARI", "REN-BARI-01", "without reduces"): "withholds: dose says as much",
    ("REN-BARI", "BARI-CI-08", "without reduces"): "withholds: dose says as much",
    ("REN-BARI", "BARI-MT-06", "without reduces"): "withholds: dose says as much",
    ("REN-BARI", "REN-BARI-01", "without withholds"): _BY_ITSELF,
    ("INFECTION-START", "INF-01", "without withholds"): _BY_ITSELF,
    ("INFECTION-START-RUXO", "INF-01", "without withholds"): _BY_ITSELF,
}
"""Changes that alter nothing for any child, by table, row and change, with the reason."""

FLIP, MOVE, SWAP, DROP, CHANGE = "flip", "move", "swap", "drop", "change"
_OUTCOME = (
    "dose",
    "severity",
    "kind",
    "say",
    "withholds",
    "unknown_withholds",
    "reduces",
    "disagrees",
    "on_limit",
)
_ROW_FLAGS = (
    "withholds", "unknown_withholds", "reduces", "disagrees", "on_limit", "interrupts", "makes_provisional",
    "reassures", "unknown_bars", "other_product",
)  # fmt: skip
_TABLE_FLAGS = ("view", "after", "cross_check", "speaks_for", "speaks_when_unknown")
_STALE = {"provisional": "provisional-said-here", "provisional-said-here": "provisional"}
_FORMS = {"oral-solution": "any", "tablet": "any", "any": "tablet"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A table with one fault put in. ``rows`` are the ids concerned (their examples are asked first)."""

    file: str
    table: str
    rows: tuple[str, ...]
    kind: str
    what: str
    entry: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.file}: {self.table}, {' and '.join(dict.fromkeys(self.rows))}: {self.what}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all mutants."""

    tried: int
    by_linter: tuple[Mutant, ...]
    survivors: tuple[Mutant, ...]


def step_of(fact: str) -> Decimal:
    """The smallest step in which a number fact can differ."""
    return STEPS.get(fact, STEP)


def main() -> int:
    """Runs every mutant of every table; 1 where one survives."""
    found = run(raw_tables())
    lines = [f"{mutant}: no example noticed; add one" for mutant in found.survivors]
    noticed = found.tried - len(found.survivors) - len(found.by_linter)
    lines.append(
        f"{found.tried} mutants: {noticed} noticed by an example, {len(found.by_linter)} by the linter only, "
        f"{len(found.survivors)} by nothing"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if found.survivors else 0


def run(
    raw: Mapping[str, Sequence[Mapping[str, Any]]],
    kinds: Sequence[str] = (FLIP, MOVE, SWAP, DROP, CHANGE),
    folder: Path = EXAMPLES,
) -> Outcome:
    """Every mutant of these kinds against the examples of the folder."""
    tables, examples = load_tables(), read_examples(folder)
    tried = 0
    by_linter: list[Mutant] = []
    survivors: list[Mutant] = []
    for mutant in mutants(raw):
        if mutant.kind not in kinds:
            continue
        changed = _changed(tables, mutant)
        if changed is not None and _is_equivalent(tables.named(mutant.table), changed.named(mutant.table)):
            continue
        tried += 1
        if changed is None or any(_notices(example, changed) for example in _in_order(examples, mutant)):
            continue
        (by_linter if lint.faults(changed) else survivors).append(mutant)
    return Outcome(tried, tuple(by_linter), tuple(survivors))


def _notices(example: Example, changed: Tables) -> bool:
    """Whether the example fails on the changed tables; a table on which the engine stumbles is noticed too."""
    try:
        return bool(example.objections(changed))
    except (LookupError, StopIteration):
        return True


def _changed(tables: Tables, mutant: Mutant) -> Tables | None:
    """All tables with the mutant in its place; ``None`` where it cannot even be built."""
    try:
        table = build_table(mutant.entry, mutant.file)
    except TableFault:
        return None
    return replace(tables, all=tuple(table if t.name == mutant.table else t for t in tables.all))


def _in_order(examples: Sequence[Example], mutant: Mutant) -> list[Example]:
    """The examples that name the rows first: one of them nearly always notices."""
    return sorted(examples, key=lambda example: not example.names & set(mutant.rows))


# --- changes that nobody can feel ---------------------------------------------------------------------


def _is_equivalent(one: Table, other: Table) -> bool:
    """Whether the two tables differ in conditions only, and in none that any child could feel."""
    if len(one.rows) != len(other.rows) or _manner(one) != _manner(other):
        return False
    pairs = list(zip(one.rows, other.rows, strict=True))
    if any(_outcome_of(mine) != _outcome_of(theirs) for mine, theirs in pairs):
        return False
    return all(
        (mine == theirs and one.applies == other.applies)
        or _same_children(_boxes(one, mine), _boxes(other, theirs))
        for mine, theirs in pairs
    )


def _manner(table: Table) -> tuple[object, ...]:
    """What a table does with its rows, apart from their conditions."""
    spoken = (table.speaks_for, table.speaks_when_unknown, table.view, table.stage, table.cross_check)
    return (table.within, table.stale, table.beyond, *spoken)


def _outcome_of(row: Row) -> Row:
    return replace(row, boxes=(), applies={}, rule="")


def _boxes(table: Table, row: Row) -> list[list[tuple[str, Cell]]]:
    """The whole conditions of a row: the table's, its own, and each alternative."""
    drugs = {"drug": Choice(tuple(table.drugs))} if table.drugs else {}
    return [
        [*drugs.items(), *table.applies.items(), *row.applies.items(), *box.items()]
        for box in row.boxes or ({},)
    ]


def _same_children(mine: list[list[tuple[str, Cell]]], theirs: list[list[tuple[str, Cell]]]) -> bool:
    """Whether the same children, among those who can be, fit both; asked wherever an answer could change."""
    never = [[(fact, parse_cell(text)) for fact, text in box.items()] for box, _ in IMPOSSIBLE]
    facts = sorted({fact for box in (*mine, *theirs) for fact, _ in box})
    axes: list[list[Value]] = []
    for fact in facts:
        if vocabulary()[fact].kind == "choice":
            axes.append(list(vocabulary()[fact].options))
        else:
            cells = [cell for box in (*mine, *theirs, *never) for name, cell in box if name == fact]
            limits = {limit for cell in cells for limit in cell.limits}
            axes.append([Interval.exactly(point) for point in lint.probes(lint.WHOLE_LINE, limits)])
    for values in itertools.product(*axes):
        point = dict(zip(facts, values, strict=True))
        if not _fits(never, point) and _fits(mine, point) != _fits(theirs, point):
            return False
    return True


def _fits(boxes: list[list[tuple[str, Cell]]], point: Mapping[str, Value]) -> bool:
    return any(all(fact in point and cell.test(point[fact]) for fact, cell in box) for box in boxes)


# --- making them -------------------------------------------------------------------------------------


def mutants(raw: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Mutant]:
    """Every mutant of the tables as written, in the order of the files."""
    for file, entries in raw.items():
        for entry in entries:
            made = list(_of_table(entry, file))
            for index, row in enumerate(entry["rows"]):
                made += _of_row(entry, file, index, row)
            excused = {(row, what) for table, row, what in EXCUSED if table == entry["table"]}
            yield from (m for m in made if not any((row, m.what) in excused for row in m.rows))


def _of_table(entry: Mapping[str, Any], file: str) -> Iterator[Mutant]:
    ids = tuple(row["id"] for row in entry["rows"])

    def mutant(kind: str, what: str, changed: Mapping[str, Any]) -> Mutant:
        return Mutant(file, entry["table"], ids, kind, what, changed)

    for key in ("applies", "within"):
        for kind, what, box in _of_box(entry.get(key, {})):
            if kind == CHANGE and "cross_check" in entry:
                continue  # asked only where a row of the child's own table says that it may disagree
            yield mutant(kind, f"{key}: {what}", {**entry, key: box})
    stale = entry.get("stale", {})
    for fact, how in stale.items():
        yield mutant(DROP, f"stale without {fact}", {**entry, "stale": _without(stale, fact)})
        if how in _STALE:
            yield mutant(
                CHANGE, f"stale {fact} {_STALE[how]}", {**entry, "stale": {**stale, fact: _STALE[how]}}
            )
    for key in _TABLE_FLAGS:
        if key in entry:
            yield mutant(DROP, f"without {key}", _without(entry, key))
    rows = entry["rows"]
    for index in range(len(rows) - 1):
        first, second = _outcome(rows[index]), _outcome(rows[index + 1])
        if first != second:
            swapped = deepcopy(list(rows))
            swapped[index] = {**_conditions(rows[index]), **second}
            swapped[index + 1] = {**_conditions(rows[index + 1]), **first}
            what = "outcomes of the two rows swapped"
            pair = (ids[index], ids[index + 1])
            yield Mutant(file, entry["table"], pair, SWAP, what, {**entry, "rows": swapped})


def _of_row(entry: Mapping[str, Any], file: str, index: int, row: Mapping[str, Any]) -> Iterator[Mutant]:
    def mutant(kind: str, what: str, *changed: Mapping[str, Any]) -> Mutant:
        rows = [*entry["rows"][:index], *changed, *entry["rows"][index + 1 :]]
        return Mutant(file, entry["table"], (row["id"],), kind, what, {**entry, "rows": rows})

    yield mutant(DROP, "the whole row dropped")
    for key in _ROW_FLAGS:
        # A critical row that interrupts keeps the dose back by itself (ruling 2).
        spare = key == "withholds" and row.get("severity") == Severity.CRITICAL.value and "interrupts" in row
        if key in row and not spare:
            yield mutant(DROP, f"without {key}", _without(row, key))
    if "dose" not in row:
        for severity in Severity:
            if severity.value != row.get("severity", "info"):
                yield mutant(CHANGE, f"severity {severity}", {**row, "severity": severity.value})
    for kind, what, box in _of_box(row.get("applies", {})):
        yield mutant(kind, f"applies: {what}", {**row, "applies": box})
    for kind, what, when in _of_when(row["when"]):
        yield mutant(kind, what, {**row, "when": when})
    for what, dose in _of_dose(row.get("dose", {})):
        if what.startswith("form") and "cross_check" in entry:
            continue  # a cross-check compares amounts only
        yield mutant(CHANGE, f"dose: {what}", {**row, "dose": dose})


def _of_when(when: Any) -> Iterator[tuple[str, str, Any]]:
    if when == "always":
        return
    boxes = when if isinstance(when, list) else [when]
    for index, box in enumerate(boxes):
        rest = [*boxes[:index], *boxes[index + 1 :]]
        if rest:
            yield DROP, f"alternative {index + 1} dropped", rest
        for kind, what, changed in _of_box(box):
            yield kind, what, [*boxes[:index], changed, *boxes[index + 1 :]]


def _of_box(box: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    for fact, text in box.items():
        yield DROP, f"condition {fact} {text} dropped", _without(box, fact)
        for kind, cell in _of_cell(fact, parse_cell(text)):
            yield kind, f"{fact} {text} made {cell}", {**box, fact: str(cell)}


def _of_cell(fact: str, cell: Cell) -> Iterator[tuple[str, Cell]]:
    if isinstance(cell, Choice):
        yield from ((CHANGE, choice) for choice in _of_choice(fact, cell))
        return
    step = step_of(fact)
    if cell.low is not None:
        yield FLIP, replace(cell, low_open=not cell.low_open)
        yield from ((MOVE, replace(cell, low=cell.low + by)) for by in (step, -step))
    if cell.high is not None:
        yield FLIP, replace(cell, high_open=not cell.high_open)
        yield from ((MOVE, replace(cell, high=cell.high + by)) for by in (step, -step))


def _of_choice(fact: str, cell: Choice) -> Iterator[Choice]:
    others = [option for option in vocabulary()[fact].options if option not in cell.options]
    for option in cell.options:
        rest = tuple(o for o in cell.options if o != option)
        if rest:
            yield Choice(rest)
        if others:
            yield Choice((*rest, others[0]))
    yield from (Choice((*cell.options, other)) for other in others)


def _of_dose(dose: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    for key, value in dose.items():
        if key == "form":
            yield f"form {_FORMS[value]}", {**dose, key: _FORMS[value]}
            continue
        more = str(Decimal(value) + 1)
        yield f"{key} {value} made {more}", {**dose, key: more}
        if key not in ("mg", "times_per_day") and len(dose) > len(("form", key)):
            yield f"without {key}", _without(dose, key)


def _without(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in _OUTCOME if key in row}


def _conditions(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _OUTCOME}


if __name__ == "__main__":
    sys.exit(main())
