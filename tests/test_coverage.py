"""Every statement of the register, every ambiguity and every ruling is accounted for, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guideline import coverage
from guideline.examples import read_examples
from guideline.findings import Severity
from guideline.lint import register
from guideline.sources import the_source
from guideline.tables import load_tables

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
TABLES = load_tables()
MOST_NOT_ENCODED = 20
RULING_2 = {
    "BARI-CI-08", "REN-TOFA-01", "TOFA-DOSE-06", "TOFA-DOSE-07", "BARI-JIA-04", "BARI-IFN-08", "BARI-JDM-03",
    "IND-TOFA-06", "IND-TOFA-07", "IND-OTHER-01", "TOFA-ALC-02", "TOFA-ALC-03", "TOFA-ANC-02", "TOFA-ANC-03",
    *(f"BARI-MT-0{number}" for number in range(1, 9)),
}  # fmt: skip
"""The warnings that withhold the dose (ruling 2)."""
OTHERWISE = {
    "REN-BARI-03": "ruling 1: a crossing of 120 gives no dose",
    "IND-RUXO-03": "no ruxolitinib dose is printed",
}
"""What else withholds it, with the reason."""


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    assert coverage.main([str(tmp_path / "coverage.md")]) == 0
    assert (tmp_path / "coverage.md").read_text(encoding="utf-8") == coverage.page()


def test_189_of_189_are_accounted_for() -> None:
    assert coverage.orphans(TABLES) == ([], [])
    assert len(register()) == 189
    assert "**189 of 189 accounted for**" in coverage.page()


def test_a_statement_has_rows_or_a_reason_and_not_both() -> None:
    left_out = coverage.not_encoded()
    assert len(left_out) <= MOST_NOT_ENCODED
    assert not set(left_out) & set(coverage.rows_by_statement(TABLES))
    for id_, entry in left_out.items():
        assert entry.section in the_source().sections, id_
        assert len(entry.reason.split()) > 5, f"{id_}: say why it has no row"


def test_an_orphan_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "not_encoded", lambda: {"X-99": coverage.NotEncoded("1", "made up")})
    lost, strange = coverage.orphans(TABLES)
    assert strange == ["X-99"]
    assert lost == ["META-01", "META-02", "META-03", "SKIN-02", "VAX-02"]
    assert "184 of 189" in coverage.page()


def test_every_ambiguity_and_every_ruling_is_settled() -> None:
    wanted = [f"A-{n:02}" for n in range(1, 78)] + [f"R-{n:02}" for n in range(1, 24)]
    assert list(coverage.resolutions()) == wanted


def example_names() -> set[str]:
    return {f"{example.file}: {example.name}" for example in read_examples(TESTS / "examples")}


def has_test(name: str) -> bool:
    """Whether ``test_file.py::test_name`` exists."""
    file, _, test = name.partition("::")
    path = TESTS / file
    return (
        path.is_file() and re.search(rf"^def {re.escape(test)}\(", path.read_text("utf-8"), re.M) is not None
    )


@pytest.mark.parametrize("id_", coverage.resolutions())
def test_a_resolution_names_statements_and_a_proof_that_exist(id_: str) -> None:
    entry = coverage.resolutions()[id_]
    assert entry.statements
    assert set(entry.statements) <= set(register())
    if entry.test is not None:
        assert has_test(entry.test) or entry.test in example_names(), f"{id_}: there is no {entry.test}"


def test_the_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "coverage.md").read_text("utf-8")
    assert written == coverage.page(), "docs/coverage.md is out of date; run `make page` and commit it"


# --- rulings that are lists --------------------------------------------------------------------------


def test_only_these_warnings_withhold_the_dose() -> None:
    withholding = {
        row.id
        for table in TABLES.all
        for row in table.rows
        if row.withholds is not None and row.severity is not Severity.CRITICAL
    }
    assert withholding == RULING_2 | set(OTHERWISE)


def test_every_critical_row_withholds_the_dose() -> None:
    live_vaccine = {"VAX-01"}  # withheld as critical by the engine itself
    for table in TABLES.all:
        for row in table.rows:
            if row.severity is Severity.CRITICAL and row.id not in live_vaccine:
                assert row.withholds is not None, row.id


def test_which_effects_hold_at_a_start() -> None:
    at_start = {
        row.id
        for table in TABLES.all
        for row in table.rows
        if row.id.startswith("AE-") and "starting" not in {**table.applies, **row.applies}
    }
    assert at_start == {"AE-02", "AE-13", "AE-14"}
