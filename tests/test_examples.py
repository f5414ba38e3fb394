"""The examples of ``tests/examples`` hold, and every row of the tables has the examples that it needs.

For each row: one child to whom it applies, one on each limit and one just on the other side of it, one for each
input that can be missing, and one to whom it does not apply. "Exactly" means: the ids of ``expect`` are there with
their outcome, those of ``not`` are not; an example counts for the rows whose id it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from guideline import assess as assessing
from guideline import dosing, evaluate
from guideline.cells import Span
from guideline.evaluate import Answer, Facts, Trial, Tried
from guideline.examples import Example, ExampleFault, read_examples
from guideline.findings import Outcome
from guideline.mutate import STEPS, step_of
from guideline.tables import Row, Table, Tables, load_tables
from guideline.values import Cause, Doubtful, Interval, Known, Missing, Reason

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = read_examples(FOLDER)
TABLES = load_tables()

COVERED = (
    "adverse_effects.yaml",
    "baricitinib.yaml",
    "bk_virus.yaml",
    "contraindications.yaml",
    "governance.yaml",
    "indications.yaml",
    "monitoring.yaml",
    "renal.yaml",
    "risks.yaml",
    "running_dose.yaml",
    "screening.yaml",
    "start_bloods.yaml",
    "tofacitinib.yaml",
    "treatment_thresholds.yaml",
)
"""The table files whose examples are complete. A new file joins the list together with its examples."""

NEVER_MISSING = {
    "afterLastDose": "whether a draft stands for an ended course is always known; how long ago may be missing",
    "barJdmTrialOpen": "a setting of the site",
    "guidelinePastReview": "the day is always known",
    "form": "a form that is not stated is 'unknown', which is an answer (ruling 11)",
    "modifiedRelease": "a product that does not say so is not modified-release",
    "egfrCalculated": "says whether there is an eGFR",
    "strength": "a strength that is not stated is 'unsaid', which is an answer",
    "reducedDoseNeeded": "says whether a row was a hit",
    "monthsOnDrug": "an unknown start is taken for a recent one, for caution only",
    "singleDoseMg": "zero where no dose row was chosen",
    "equalsEscalationRow": "an increase cannot be told from an unreadable draft, so the row is not reached",
    "baselineBloodsNormal": "an unknown result counts as not met (ruling 13)",
    "lymphocytesPersist": "no second low result on record counts as none, in doubt where results are lacking",
    "lymphocytesRepeatLate": "asked of the newest result, which the same row asks first",
    "neutrophilsPersist": "no second low result on record counts as none, in doubt where results are lacking",
    "neutrophilsRepeatLate": "asked of the newest result, which the same row asks first",
    "infectionUnsaid": "unknown conditions leave the doubtful yes that a warning may use (A-72)",
    "bkSigns": "unknown signs are a doubtful no, so that the milder row speaks",
    "haemoglobinFallFromLast": "without an earlier result there is no fall to tell of",
    "ending": "says whether the order itself stops the drug",
    "interruption": "says whether a finding interrupts the drug",
    "starting": "where the medicines are unknown, the stricter rules of a start hold (ruling 1)",
    "egfrDisagrees": "missing only together with the eGFR, which the same row asks first",
}
"""Facts that always have a value, with the reason."""
NOT_A_LIMIT = {("REN-BARI-02", "egfr"): "above 0 only says that an eGFR is known; nobody has one of 0"}


@pytest.mark.parametrize("file", sorted({example.file for example in EXAMPLES}))
def test_examples_hold(file: str) -> None:
    """A thousand sentences, a test a file; one that does not hold is named with what it objects to."""
    asked = [example for example in EXAMPLES if example.file == file]
    assert {e.name: told for e in asked if (told := e.objections(TABLES))} == {}


def test_names_are_told_once_in_a_file() -> None:
    seen: set[tuple[str, str, str]] = set()
    for example in EXAMPLES:
        assert example.names or example.dose or example.reference is not None, example.name
        seen.add((example.file, example.name, example.drug))
    assert len(seen) > len(EXAMPLES) * 9 // 10


# --- what the examples cover -------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What the examples that name a row asked of it."""

    hit: bool = False
    cleared: bool = False
    missing: set[str] = field(default_factory=set)
    values: dict[int, set[tuple[Decimal, bool | None]]] = field(default_factory=lambda: defaultdict(set))


def observed(examples: Iterable[Example]) -> Mapping[int, Seen]:
    """Per row (by identity), what the examples that name its id asked of it."""
    found: dict[int, Seen] = defaultdict(Seen)
    asked: list[tuple[Row, Facts, Answer]] = []
    with pytest.MonkeyPatch.context() as patch:
        ask_row, ask_applies, ask_at_once = evaluate.ask_row, evaluate.ask_applies, evaluate.ask_at_once
        try_tables = assessing._try_tables

        def listening_row(row: Row, facts: Facts, stale: dict[str, str]) -> Answer:
            answer = ask_row(row, facts, stale)
            asked.append((row, facts, answer))
            return answer

        def listening_applies(table: Table, row: Row, facts: Facts) -> Answer:
            answer = ask_applies(table, row, facts)
            if answer.holds is not True:
                asked.append((row, facts, answer))
            return answer

        def listening_once(trial: Trial, facts: Facts, of_table: str | None) -> Tried | None:
            said = ask_at_once(trial, facts, of_table)
            if said is not None:
                asked.append((trial.row, facts, said.answer))
            return said

        def listening_tables(tables: Tables, drug: str, facts: Facts, stage: str) -> list[Tried]:
            tried = try_tables(tables, drug, facts, stage)
            # A row that its table clears is asked nothing itself.
            asked.extend((t.row, facts, t.answer) for t in tried if t.outcome is Outcome.CLEAR)
            return tried

        patch.setattr(assessing, "ask_at_once", listening_once)
        patch.setattr(assessing, "_try_tables", listening_tables)
        patch.setattr(assessing, "ask_row", listening_row)
        patch.setattr(dosing, "ask_row", listening_row)
        patch.setattr(assessing, "ask_applies", listening_applies)
        for example in examples:
            asked.clear()
            said = example.assessed(TABLES)
            assert said.traces  # asks the dose rows too that choosing one left out
            told = {f.id for f in said.findings}
            hits = {f.id for f in said.findings if f.outcome is not Outcome.CANNOT_ASSESS}
            if not told.issuperset(example.absent):
                for table in TABLES.all:
                    for row in table.rows:
                        found[id(row)].cleared |= row.id in example.absent and row.id not in told
            for row, facts, answer in asked:
                if row.id in example.names:
                    _note(found[id(row)], row, facts, answer, row.id in hits)
    return found


def _note(seen: Seen, row: Row, facts: Facts, answer: Answer, is_hit: bool) -> None:
    seen.hit |= answer.holds is True and is_hit
    seen.cleared |= answer.holds is False
    for box in row.boxes:
        for name, cell in box.items():
            fact = facts.get(name)
            if fact is None or isinstance(fact, Missing):
                seen.missing.add(name)
            elif isinstance(cell, Span) and isinstance(fact.value, Interval) and fact.value.exact is not None:
                seen.values[id(cell)].add((fact.value.exact, cell.test(fact.value)))


def rows() -> Iterator[tuple[Table, Row]]:
    for table in TABLES.all:
        if table.file in COVERED and not table.cross_check:
            for row in table.rows:
                yield table, row


def lacking(row: Row, mine: Seen) -> Iterator[str]:
    """The examples that a row still needs."""
    if not mine.hit:
        yield "a child to whom it applies"
    if not mine.cleared:
        yield "a child to whom it does not apply"
    for box in row.boxes:
        for name, cell in box.items():
            if name not in mine.missing and name not in NEVER_MISSING:
                yield f"a child whose {name} is missing"
            if (row.id, name) not in NOT_A_LIMIT:
                for limit in cell.limits:
                    yield from _beside(name, cell, limit, mine.values[id(cell)])


def test_every_row_has_its_examples() -> None:
    """One test, since what the examples asked of the rows is gathered once for all of them."""
    seen = observed(EXAMPLES)
    needed = {
        f"{table.file}: {table.name}, {row.id}": needs
        for table, row in rows()
        if (needs := list(lacking(row, seen[id(row)])))
    }
    assert needed == {}


def named(name: str) -> Row:
    return next(row for _, row in rows() if row.id == name)


def test_a_row_without_examples_lacks_them_all() -> None:
    assert list(lacking(named("TOFA-DOSE-03"), Seen())) == [
        "a child to whom it applies",
        "a child to whom it does not apply",
        "a child whose weight is missing",
        "weight of exactly 10",
        "weight of exactly 20",
    ]


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (
            "Just below 10 kg is still in the second band",
            "weight within 0.01 of 10 on the other side of [10, 20)",
        ),
        ("Exactly 20 kg has moved to the fourth band", "weight of exactly 20"),
    ],
)
def test_an_example_that_is_taken_away_is_missed(left_out: str, told: str) -> None:
    row = named("TOFA-DOSE-03")
    naming = [example for example in EXAMPLES if row.id in example.names]
    others = [example for example in naming if not example.name.startswith(left_out)]
    assert told not in list(lacking(row, observed(naming)[id(row)]))
    assert told in list(lacking(row, observed(others)[id(row)]))


def _beside(
    name: str, cell: object, limit: Decimal, values: set[tuple[Decimal, bool | None]]
) -> Iterator[str]:
    """The limit itself, and a value at most one step away that gets the opposite answer."""
    on = {answer for value, answer in values if value == limit}
    if not on:
        yield f"{name} of exactly {limit}"
        return
    step = step_of(name)
    if not any(
        abs(value - limit) <= step and answer is not None and answer not in on for value, answer in values
    ):
        yield f"{name} within {step} of {limit} on the other side of {cell}"


def test_every_covered_file_has_examples_of_its_own() -> None:
    assert {example.file for example in EXAMPLES} >= set(COVERED)
    assert set(COVERED) <= {table.file for table in TABLES.all}


def test_steps_are_of_facts_of_the_vocabulary() -> None:
    assert set(STEPS) <= TABLES.facts()


# --- an example that is wrong fails, and one that cannot be read says where ------------------------------

WRONG = [
    ({"expect": "{TOFA-DOSE-05: info}"}, "TOFA-DOSE-05 is expected and not there"),
    ({"expect": "{TOFA-DOSE-04: warning}"}, "TOFA-DOSE-04: expected hit warning, found hit info"),
    ({"expect": "{TOFA-DOSE-04: cannot-assess}"}, "TOFA-DOSE-04: expected cannot-assess, found hit info"),
    ({"expect": '{TOFA-DOSE-04: "info, weight stale"}'}, "TOFA-DOSE-04: expected weight stale as missing"),
    ({"not": "[TOFA-DOSE-04]"}, "TOFA-DOSE-04 must not be there"),
    ({"says": "{TOFA-DOSE-04: nonsense}"}, 'TOFA-DOSE-04 must say "nonsense"'),
    ({"says": "{TOFA-DOSE-05: Dose}"}, 'TOFA-DOSE-05 must say "Dose"'),
    ({"dose": "none"}, "dose: expected none, found 4 mg twice daily, oral-solution"),
    ({"dose": "4 mg once daily, oral-solution"}, "dose: expected 4 mg once daily"),
    ({"withheld": "[TOFA-DOSE-07]"}, "withheld: expected ['TOFA-DOSE-07'], found []"),
    ({"verdict": "over"}, "verdict: expected over, found absent"),
    ({"reference": "[TOFA-DOSE-01]"}, "reference doses: expected ['TOFA-DOSE-01'], found []"),
    (
        {"facts": "{weight: '25 kg, 91 days ago'}", "expect": '{TOFA-DOSE-04: "info, nothing missing"}'},
        "TOFA-DOSE-04: nothing should be missing, found [('weight', 'stale')]",
    ),
    ({"facts": "{weight: absent}", "dose": "4 mg"}, "dose: expected 4 mg, found none"),
]


def written(tmp_path: Path, **case: str) -> tuple[Example, ...]:
    children = (FOLDER / "children.yaml").read_text(encoding="utf-8")
    (tmp_path / "children.yaml").write_text(children, encoding="utf-8")
    lines = [f"      {key}: {value}" for key, value in case.items()]
    head = "- about: x\n  drug: tofacitinib\n  child: five years, polyarticular JIA\n  cases:\n    - name: this one\n"
    (tmp_path / "x.yaml").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    return read_examples(tmp_path)


@pytest.mark.parametrize(("case", "objection"), WRONG)
def test_a_wrong_example_is_told(tmp_path: Path, case: dict[str, str], objection: str) -> None:
    (example,) = written(tmp_path, **case)
    objections = example.objections(TABLES)
    assert len(objections) == 1
    assert objections[0].startswith(objection)


def test_a_yes_may_be_dated_or_doubtful(tmp_path: Path) -> None:
    case = {"facts": "{antiTnf: 'yes, 30 days ago', methotrexate: 'yes, stale'}"}
    (example,) = written(tmp_path, **case)
    dated, doubtful = example.record.flags["antiTnf"], example.record.flags["methotrexate"]
    assert isinstance(dated, Known)
    assert dated.evidence[0].on == example.record.on - timedelta(days=30)
    assert doubtful == Doubtful("yes", (Cause("medications", Reason.STALE),))


UNREADABLE = [
    ({"expects": "{}"}, "unknown expects"),
    ({"child": "nobody"}, 'child "nobody" is not in children.yaml'),
    ({"facts": "{wieght: 3 kg}"}, '"wieght" cannot be given'),
    ({"facts": "{phase: initiation}"}, '"phase" cannot be given'),
    ({"facts": "{weight: 20 g}"}, "write a number and the unit kg"),
    ({"facts": "{weight: heavy}"}, '"heavy" is no result'),
    ({"facts": "{weight: '20 kg, yesterday'}"}, '"yesterday" is not understood'),
    ({"facts": "{antiTnf: maybe}"}, 'antiTnf "maybe" is none of yes, no'),
    ({"facts": "{draft: a lot}"}, '"a lot" is no dose'),
    ({"facts": "{running: '4 mg once daily, in May'}"}, '"in May" is no day'),
    ({"facts": "{form: pill}"}, "pill"),
    ({"facts": "{born: 2024-13-01}"}, "month"),
]


@pytest.mark.parametrize(("case", "fault"), UNREADABLE)
def test_an_example_that_cannot_be_read_says_where(tmp_path: Path, case: dict[str, str], fault: str) -> None:
    with pytest.raises(ExampleFault, match=r"x\.yaml: this one: ") as told:
        written(tmp_path, **case)
    assert fault in str(told.value)


def test_a_child_of_whom_little_is_known_is_an_example_too(tmp_path: Path) -> None:
    (tmp_path / "children.yaml").write_text("bare: {age: 25}\n", encoding="utf-8")
    (tmp_path / "x.yaml").write_text(
        "- about: x\n  drug: tofacitinib\n  child: bare\n  cases:\n    - name: nothing on record\n"
        '      expect: {IND-OTHER-01: "cannot-assess, indication absent", TOFA-DOSE-07: warning}\n'
        "    - {name: with an eGFR, facts: {egfr: 90}, expect: {TOFA-DOSE-07: warning}}\n",
        encoding="utf-8",
    )
    for example in read_examples(tmp_path):
        assert example.objections(TABLES) == []
