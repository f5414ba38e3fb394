"""Every limit of the tables flipped, and the outcomes of neighbouring rows swapped: some example must object.

``make mutate`` tries every other change as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest
from test_examples import COVERED, FOLDER

from guideline import mutate
from guideline.cells import Choice
from guideline.examples import Example, read_examples
from guideline.findings import OrderAssessment, Outcome
from guideline.mutate import CHANGE, DROP, FLIP, MOVE, SWAP, Mutant, mutants, run
from guideline.tables import Tables, build_table, load_tables, raw_tables

RAW = raw_tables()
DOSES = ("start_bloods.yaml",)
"""Tried in the quick run too; the others with ``make slow``."""
NO_LIMITS = ()


def mutants_of(table: str, file: str = "tofacitinib.yaml") -> list[Mutant]:
    return [m for m in mutants(RAW) if m.table == table and m.file == file]


@pytest.mark.parametrize(
    "file",
    [
        file if file in DOSES else pytest.param(file, marks=pytest.mark.slow)
        for file in COVERED
        if file not in NO_LIMITS
    ],
)
def test_flipped_limits_and_swapped_outcomes_are_noticed(file: str) -> None:
    found = run({file: RAW[file]}, (FLIP, SWAP), FOLDER)
    assert [str(mutant) for mutant in found.survivors] == []
    assert found.tried > 0


def test_every_kind_of_change_is_made() -> None:
    what = {(m.kind, m.what) for m in mutants_of("TOFA-DOSE")}
    assert {
        (FLIP, "weight [5, 7) made (5, 7)"),
        (FLIP, "weight [5, 7) made [5, 7]"),
        (MOVE, "weight [5, 7) made [5.01, 7)"),
        (MOVE, "weight [5, 7) made [5, 6.99)"),
        (MOVE, "weight >= 40 made >= 39.99"),
        (SWAP, "outcomes of the two rows swapped"),
        (CHANGE, "dose: mg 2.5 made 3.5"),
        (CHANGE, "dose: times_per_day 2 made 3"),
        (CHANGE, "dose: form any"),
        (CHANGE, "severity critical"),
        (CHANGE, "applies: indication jia made jdm"),
        (CHANGE, "stale weight provisional-said-here"),
        (DROP, "applies: condition indication jia dropped"),
        (DROP, "stale without weight"),
        (DROP, "the whole row dropped"),
        (DROP, "without withholds"),
    } <= what
    assert (DROP, "without unknown_withholds") in {(m.kind, m.what) for m in mutants_of("TOFA-AGE")}
    assert (DROP, "alternative 1 dropped") in {(m.kind, m.what) for m in mutants_of("TOFA-FORM")}
    assert (DROP, "dose: without AFT") not in what
    split = {m.what for m in mutants_of("BARI-IFN", "baricitinib.yaml")}
    assert {"dose: without AFT", "within: age [2, 18) made [2, 18]", "dose: MORN 2 made 3"} <= split


def test_whole_numbers_are_moved_by_one() -> None:
    what = {m.what for m in mutants_of("BARI-JIA", "baricitinib.yaml")}
    assert "age [2, 9) made [3, 9)" in what
    assert "age [2, 9) made [2.01, 9)" not in what


def test_no_mutant_is_the_table_itself() -> None:
    for mutant in mutants(RAW):
        original = next(entry for entry in RAW[mutant.file] if entry["table"] == mutant.table)
        assert mutant.entry != original, str(mutant)


def test_excuses_are_of_changes_that_are_made() -> None:
    """An excuse that no longer fits a change is out of date."""
    excused = set(mutate.EXCUSED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutate, "EXCUSED", {})
        made = {(m.table, row, m.what) for m in mutants(RAW) for row in m.rows}
    assert excused <= made


FLAGS = sorted(excuse for excuse in mutate.EXCUSED if excuse[2].startswith("without "))


@pytest.mark.slow
@pytest.mark.parametrize(("table", "row", "what"), FLAGS, ids=["-".join(flag) for flag in FLAGS])
def test_an_excused_flag_changes_no_word_for_any_child_of_the_examples(
    table: str, row: str, what: str
) -> None:
    """The reason of the excuse, proved: with and without the flag the whole assessment is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutate, "EXCUSED", {})
        changed = [m for m in mutants(RAW) if (m.table, m.what) == (table, what) and row in m.rows]
    assert changed
    concerned = [(e, said) for e, said in _assessed() if row in {f.id for f in said.findings}]
    assert any(f.id == row and f.outcome is Outcome.HIT for _, said in concerned for f in said.findings)
    for mutant in changed:
        other = build_table(mutant.entry, mutant.file)
        without = Tables(tuple(other if each.name == table else each for each in load_tables().all))
        for example, said in concerned:
            assert _told(example.assessed(without)) == _told(said), example.name


@cache
def _assessed() -> tuple[tuple[Example, OrderAssessment], ...]:
    return tuple((example, example.assessed(load_tables())) for example in read_examples(FOLDER))


def _told(assessed: OrderAssessment) -> OrderAssessment:
    """What a reader sees of an assessment: not the order of reasons, nor whether a table is signed."""
    findings = tuple(msgspec.structs.replace(finding, reviewed=False) for finding in assessed.findings)
    return replace(assessed, findings=findings, withheld_by=tuple(sorted(assessed.withheld_by)))


def small(**changes: Any) -> dict[str, Any]:
    entry = next(e for e in RAW["tofacitinib.yaml"] if e["table"] == "TOFA-DOSE")
    return {**entry, **changes}


def test_a_change_that_no_example_notices_survives(tmp_path: Any) -> None:
    (tmp_path / "children.yaml").write_text("{}\n", encoding="utf-8")
    (tmp_path / "none.yaml").write_text("[]\n", encoding="utf-8")
    raw = {"tofacitinib.yaml": [small()]}
    found = run(raw, (SWAP,), tmp_path)
    assert found.survivors[0].rows == ("TOFA-DOSE-06", "TOFA-DOSE-01")
    assert found.tried == len(found.survivors) + len(found.by_linter)
    assert run(raw, (FLIP,), tmp_path).by_linter


def test_a_change_that_no_child_can_feel_is_not_tried(tmp_path: Any) -> None:
    """An eGFR above 0 and one of any value are the same children."""
    (tmp_path / "children.yaml").write_text("{}\n", encoding="utf-8")
    (tmp_path / "none.yaml").write_text("[]\n", encoding="utf-8")
    entry = next(e for e in RAW["renal.yaml"] if e["table"] == "REN-EGFR")
    made = [m for m in mutants({"renal.yaml": [entry]}) if m.kind == FLIP]
    found = run({"renal.yaml": [entry]}, (FLIP,), tmp_path)
    assert found.tried < len(made)
    assert not [m for m in (*found.survivors, *found.by_linter) if "egfr > 0" in m.what]


def test_a_table_without_one_of_its_rows_is_another_table(tmp_path: Any) -> None:
    (tmp_path / "children.yaml").write_text("{}\n", encoding="utf-8")
    (tmp_path / "none.yaml").write_text("[]\n", encoding="utf-8")
    found = run({"tofacitinib.yaml": [small()]}, (DROP,), tmp_path)
    assert "the whole row dropped" in {m.what for m in (*found.survivors, *found.by_linter)}


def test_the_command_tells_what_survived(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = Mutant("x.yaml", "X", ("X-1", "X-2"), SWAP, "outcomes of the two rows swapped", {})
    monkeypatch.setattr(mutate, "run", lambda raw: mutate.Outcome(3, (), (lone,)))
    assert mutate.main() == 1
    told = "x.yaml: X, X-1 and X-2: outcomes of the two rows swapped: no example noticed; add one\n"
    assert (
        capsys.readouterr().out
        == f"{told}3 mutants: 2 noticed by an example, 0 by the linter only, 1 by nothing\n"
    )
    monkeypatch.setattr(mutate, "run", lambda raw: mutate.Outcome(3, (lone,), ()))
    assert mutate.main() == 0


def test_a_change_that_cannot_be_built_or_on_which_the_engine_stumbles_is_noticed() -> None:
    tables = load_tables()
    assert mutate._changed(tables, Mutant("x", "TOFA-DOSE", (), CHANGE, "", broken())) is None
    changed = mutate._changed(tables, Mutant("x", "TOFA-DOSE", (), CHANGE, "", small(gives={})))
    example = next(
        e for e in read_examples(FOLDER) if e.file == "tofacitinib.yaml" and e.dose not in (None, "none")
    )
    assert changed is not None
    assert mutate._notices(example, changed)
    assert not mutate._notices(example, tables)


def test_a_choice_is_narrowed_widened_and_replaced() -> None:
    made = {str(cell) for cell in mutate._of_choice("starting", Choice(("yes",)))}
    assert made == {"no", "yes | no"}
    assert {str(cell) for cell in mutate._of_choice("starting", Choice(("yes", "no")))} == {"yes", "no"}


def broken() -> Mapping[str, Any]:
    rows = [{**small()["rows"][0], "when": {"weight": "about 5"}}]
    return small(rows=rows)
