"""The tables load and are free of faults; each deliberate fault is refused with place, fault and cure."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guideline import lint, render
from guideline.evaluate import ask_row
from guideline.facts import closure, vocabulary
from guideline.sources import egfr_constant, solution_mg_per_ml, the_source
from guideline.tables import TableFault, load_tables
from guideline.values import Interval, Known

TABLES = load_tables()

SOUND = """\
- table: X-DOSE
  title: Invented doses by weight
  hit: exactly one
  drugs: [tofacitinib]
  applies: {indication: jia}
  gives: {indication: jia, phase: initial}
  columns: [weight]
  domain: {weight: "(0, inf)"}
  stale: {weight: provisional}
  within: {age: "< 18"}
  within_cite: "5.3"
  rows:
    - id: TOFA-DOSE-06
      section: "5.3"
      when: {weight: "< 5"}
      severity: warning
      origin: default
      cite: "5.3"
      say: No dose.
    - id: TOFA-DOSE-01
      section: "5.3"
      when: {weight: "[5, 20)"}
      dose: {times_per_day: 2, mg: 2, form: oral-solution}
      origin: printed
      cite: "5.3"
      say: A dose.
    - id: TOFA-DOSE-02
      section: "5.3"
      when: {weight: ">= 20"}
      dose: {times_per_day: 2, mg: 4, form: oral-solution}
      origin: printed
      cite: "5.3"
      say: Another dose.
- table: X-BLOODS
  title: Invented thresholds
  hit: any number
  drugs: [tofacitinib]
  rows:
    - id: TOFA-INIT-01
      section: "5.1"
      when:
        - {haemoglobin: "<= 9", starting: "yes"}
        - {neutrophils: "< 1"}
      severity: critical
      origin: printed
      cite: "5.1"
      say: Do not start.
    - id: TOFA-INIT-01
      section: "5.1"
      when: {haemoglobin: "(9, 10]"}
      severity: warning
      origin: printed
      cite: "5.1"
      say: Nearly.
"""
DOSE_PLACE = "x.yaml: X-DOSE"
FIRST, NEARLY = SOUND[SOUND.index("    - id: TOFA-INIT-01") :].split("    - id")[1:]
BOTH = (
    "x.yaml: X-BLOODS, TOFA-INIT-01 (haemoglobin <= 9, starting yes; or neutrophils < 1)",
    "x.yaml: X-BLOODS, TOFA-INIT-01 (haemoglobin (9, 10])",
)


def faults_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    tables, found = lint.load(tmp_path)
    return found + lint.faults(tables)


def test_the_tables_of_the_service_have_no_fault() -> None:
    tables, found = lint.load(lint.HERE / "tables")
    assert found + lint.faults(tables) == []
    assert len(tables.all) == len(TABLES.all) > 30


def test_the_sound_table_has_no_fault(tmp_path: Path) -> None:
    assert faults_of(tmp_path, SOUND) == []


FAULTS = [
    # what is wrong, old text, new text, the beginning of a fault
    (
        "gap of x.99",
        '"[5, 20)"',
        '"[5, 19.99]"',
        f"{DOSE_PLACE}: weight 19.995 fits no row; widen a row or add one",
    ),
    ("missing band", '"[5, 20)"', '"[5, 10)"', f"{DOSE_PLACE}: weight 10 fits no row"),
    ("hole at exactly 5", '"[5, 20)"', '"(5, 20)"', f"{DOSE_PLACE}: weight 5 fits no row"),
    (
        "shared limit",
        '"[5, 20)"',
        '"[5, 20]"',
        f"{DOSE_PLACE}: weight 20 fits both TOFA-DOSE-01 (weight [5, 20]) and TOFA-DOSE-02 (weight >= 20); "
        "make one end open",
    ),
    ("dead row", '"< 5"', '"[30, 30)"', f"{DOSE_PLACE}, TOFA-DOSE-06: no point of the domain reaches it"),
    (
        "domain too small",
        '"(0, inf)"',
        '"[1, 15]"',
        f"{DOSE_PLACE}: weight 20 lies outside the domain [1, 15]",
    ),
    (
        "domain begins later",
        '"(0, inf)"',
        '"[6, inf)"',
        f"{DOSE_PLACE}: weight 5 lies outside the domain >= 6",
    ),
    ("no domain", '  domain: {weight: "(0, inf)"}\n', "", f'{DOSE_PLACE}: column "weight" has no domain'),
    (
        "domain of another fact",
        '"(0, inf)"}',
        '"(0, inf)", age: "< 3"}',
        f'{DOSE_PLACE}: the domain names "age"',
    ),
    (
        "domain of a choice",
        '"(0, inf)"}',
        '"(0, inf)", form: tablet}',
        f"{DOSE_PLACE}: the domain of form is a span",
    ),
    ("no columns", "  columns: [weight]\n", "", f"{DOSE_PLACE}, TOFA-DOSE-06: weight is no column"),
    ("column that is no fact", "[weight]", "[weight, mass]", f'{DOSE_PLACE}: column "mass" is no fact'),
    ("column that no row asks", "[weight]", "[weight, form]", f'{DOSE_PLACE}: no row asks for column "form"'),
    (
        "unknown column in a row",
        '{weight: "< 5"}',
        '{mass: "< 5"}',
        f'{DOSE_PLACE}, TOFA-DOSE-06: "mass" is no fact',
    ),
    ("not a cell", '"< 5"', '"below 5"', f'{DOSE_PLACE}, TOFA-DOSE-06, weight: "below 5" is no cell'),
    (
        "span upside down",
        '"[5, 20)"',
        '"[20, 5)"',
        f'{DOSE_PLACE}, TOFA-DOSE-01, weight: "[20, 5)" ends before',
    ),
    (
        "a choice for a number",
        '"< 5"',
        "light",
        f'{DOSE_PLACE}, TOFA-DOSE-06, weight: "light" does not fit a number',
    ),
    (
        "a number for a choice",
        "{indication: jia}\n  gives",
        '{indication: "< 5"}\n  gives',
        f"{DOSE_PLACE}, indication: ",
    ),
    (
        "option not in the list",
        'starting: "yes"',
        "starting: perhaps",
        "x.yaml: X-BLOODS, TOFA-INIT-01, starting: perhaps is none",
    ),
    (
        "no such section",
        'id: TOFA-DOSE-01\n      section: "5.3"',
        'id: TOFA-DOSE-01\n      section: "5.9"',
        f'{DOSE_PLACE}, TOFA-DOSE-01: section "5.9"',
    ),
    (
        "another section",
        'id: TOFA-DOSE-01\n      section: "5.3"',
        'id: TOFA-DOSE-01\n      section: "6.3"',
        f'{DOSE_PLACE}, TOFA-DOSE-01: section "6.3" is not where the register finds it (5.3)',
    ),
    (
        "no cite",
        '      cite: "5.3"\n      say: A dose.',
        "      say: A dose.",
        "x.yaml: X-DOSE: rows: TOFA-DOSE-01: 'cite' is a required property",
    ),
    (
        "unknown key",
        "  title: Invented doses",
        "  colour: red\n  title: Invented doses",
        "x.yaml: X-DOSE: Additional properties are not allowed ('colour'",
    ),
    (
        "dose without its frequency",
        "{times_per_day: 2, mg: 2, form",
        "{mg: 2, form",
        "x.yaml: X-DOSE: rows: TOFA-DOSE-01: dose: ",
    ),
    (
        "dose in both manners",
        "{times_per_day: 2, mg: 2, form",
        "{times_per_day: 2, mg: 2, EVE: 2, form",
        "x.yaml: X-DOSE: rows: TOFA-DOSE-01: dose: ",
    ),
    ("dose in words", "mg: 2, form", "mg: two, form", "x.yaml: X-DOSE: rows: TOFA-DOSE-01: dose: "),
    (
        "repeated key",
        "      say: A dose.",
        "      say: A dose.\n      say: Twice.",
        'x.yaml, line 27: "say" stands twice',
    ),
    ("not YAML", "- table: X-DOSE", "- table: [X-DOSE", "x.yaml, line 2: not readable as YAML"),
    (
        "unknown id",
        "id: TOFA-DOSE-02",
        "id: TOFA-DOSE-99",
        f"{DOSE_PLACE}, TOFA-DOSE-99: this id is not in statements.csv",
    ),
    (
        "claims too much",
        "origin: default",
        "origin: printed",
        f"{DOSE_PLACE}, TOFA-DOSE-06: origin printed, but the register says default; write the register's",
    ),
    (
        "claims too little",
        'origin: printed\n      cite: "5.3"\n      say: A dose',
        'origin: derived\n      cite: "5.3"\n      say: A dose',
        f"{DOSE_PLACE}, TOFA-DOSE-01: origin derived, but the register says printed; write the register's, or",
    ),
    (
        "own default without a ruling",
        'origin: printed\n      cite: "5.3"\n      say: A dose',
        'origin: default\n      cite: "5.3"\n      say: A dose',
        f"{DOSE_PLACE}, TOFA-DOSE-01: origin default, but",
    ),
    (
        "spokesman who is not there",
        "  columns:",
        "  speaks_when_unknown: TOFA-DOSE-09\n  columns:",
        f"{DOSE_PLACE}: speaks_when_unknown names TOFA-DOSE-09",
    ),
    (
        "spokesman for a withheld dose",
        "  columns:",
        "  speaks_when_unknown: TOFA-DOSE-06\n  columns:",
        f"{DOSE_PLACE}: unknown_withholds is lost",
    ),
    (
        "speaks for no fact",
        "  columns:",
        "  speaks_for: mood\n  columns:",
        f'{DOSE_PLACE}: speaks_for "mood" is no fact',
    ),
    (
        "stale fact that is not asked",
        "{weight: provisional}",
        "{height: provisional}",
        f'{DOSE_PLACE}: stale names "height"',
    ),
    (
        "within without its cite",
        '  within_cite: "5.3"\n',
        "",
        f"{DOSE_PLACE}: within and within_cite belong together",
    ),
    (
        "doses for nobody",
        "  gives: {indication: jia, phase: initial}\n",
        "",
        f"{DOSE_PLACE}: a dose table says for which indication",
    ),
    (
        "cross-check without doses",
        "  title: Invented thresholds",
        "  cross_check: true\n  title: Invented thresholds",
        "x.yaml: X-BLOODS: a cross-check compares doses",
    ),
    (
        "row with its own applies",
        "      say: A dose.",
        "      applies: {form: tablet}\n      say: A dose.",
        f"{DOSE_PLACE}, TOFA-DOSE-01: rows of an exactly-one table have no `applies`",
    ),
    (
        "row that can never apply",
        '{neutrophils: "< 1"}\n',
        '{neutrophils: "< 1", weight: "< 5"}\n      applies: {weight: ">= 5"}\n',
        "x.yaml: X-BLOODS, TOFA-INIT-01: its conditions exclude each other",
    ),
    ("the same row twice", NEARLY, FIRST, f"{BOTH[0]} and {BOTH[0]}: the same row twice; remove one"),
    (
        "two faces at one severity",
        "severity: critical",
        "severity: warning",
        f"{BOTH[0]} and {BOTH[1]}: both can apply at severity warning; only one is shown, so part them",
    ),
    ("the same name twice", "table: X-BLOODS", "table: X-DOSE", f"{DOSE_PLACE}: this name stands twice"),
]


@pytest.mark.parametrize(
    ("old", "new", "fault"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS]
)
def test_a_fault_is_refused_with_place_and_cure(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = SOUND
    if "unknown_withholds" in fault:
        text = text.replace("severity: warning", 'severity: warning\n      unknown_withholds: "true"', 1)
    assert text.count(old) >= 1
    found = faults_of(tmp_path, text.replace(old, new, 1))
    assert any(line.startswith(fault) for line in found), found


AT_LOAD = [
    "no such section", "no cite", "unknown key", "dose without its frequency", "repeated key", "not YAML",
    "unknown column in a row", "not a cell", "a choice for a number", "option not in the list", "no columns",
    "domain of a choice",
]  # fmt: skip


@pytest.mark.parametrize("name", AT_LOAD)
def test_the_service_does_not_start_with_such_a_table(tmp_path: Path, name: str) -> None:
    _, old, new, _fault = next(case for case in FAULTS if case[0] == name)
    (tmp_path / "x.yaml").write_text(SOUND.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TableFault, match=r"x\.yaml"):
        load_tables(tmp_path)


def test_every_fault_is_told_and_not_the_first_only(tmp_path: Path) -> None:
    text = (
        SOUND.replace('"< 5"', '"light 5"')
        .replace('"[5, 20)"', '"[20, 5)"')
        .replace("id: TOFA-INIT-01", "id: X-1")
    )
    found = faults_of(tmp_path, text)
    assert [line.split(": ")[1].split(",")[0] for line in found] == [
        "X-DOSE",
        "X-DOSE",
        "X-BLOODS",
        "X-BLOODS",
    ]


def test_many_holes_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    choices = SOUND.replace("[weight]", "[weight, jiaCategory]").replace(
        '{weight: "[5, 20)"}', '{weight: "[5, 20)", jiaCategory: systemic}'
    )
    found = faults_of(tmp_path, choices)
    assert (
        found[0] == f"{DOSE_PLACE}: weight 5, jiaCategory polyarticular fits no row; widen a row or add one"
    )
    assert found[lint.SHOWN_POINTS] == f"{DOSE_PLACE}: 11 more points that were tried fit no row"
    assert len(found) == lint.SHOWN_POINTS + 1


def test_a_choice_column_is_probed_only_where_the_table_applies(tmp_path: Path) -> None:
    text = SOUND.replace("[weight]", "[weight, form]").replace(
        "{indication: jia}\n", "{indication: jia, form: tablet}\n", 1
    )
    assert faults_of(tmp_path, text.replace('{weight: "[5, 20)"}', '{weight: "[5, 20)", form: tablet}')) == []


def test_an_exactly_one_table_without_any_column_is_told(tmp_path: Path) -> None:
    found = faults_of(
        tmp_path, SOUND.replace("  columns: [weight]\n", "").replace('{weight: "< 5"}', "always")
    )
    assert any("weight is no column" in line for line in found)
    lone = SOUND[: SOUND.index("    - id: TOFA-DOSE-01")].replace('{weight: "< 5"}', "always")
    lone = lone.replace("  columns: [weight]\n", "").replace('  domain: {weight: "(0, inf)"}\n', "")
    assert f"{DOSE_PLACE}: an exactly-one table names its columns; write `columns`" in faults_of(
        tmp_path, lone
    )


def test_a_row_that_always_applies_leaves_no_hole(tmp_path: Path) -> None:
    found = faults_of(tmp_path, SOUND.replace('when: {weight: "< 5"}', "when: always"))
    assert any("weight 5 fits both TOFA-DOSE-06 (always) and TOFA-DOSE-01" in line for line in found)


def test_own_default_that_names_its_ruling_is_accepted(tmp_path: Path) -> None:
    for cite in ("A-10 (licence)", "5.3; ruling 4"):
        text = SOUND.replace(
            'origin: printed\n      cite: "5.3"', f'origin: default\n      cite: "{cite}"', 1
        )
        assert faults_of(tmp_path, text) == []


def test_the_same_name_in_another_drug_is_no_second_face(tmp_path: Path) -> None:
    twin = (
        SOUND[SOUND.index("- table: X-BLOODS") :]
        .replace("X-BLOODS", "Y-BLOODS")
        .replace("[tofacitinib]", "[ruxolitinib]")
    )
    assert faults_of(tmp_path, SOUND + twin) == []


# --- the command ---------------------------------------------------------------------------------------


def test_lint_says_how_much_it_has_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert lint.main([]) == 0
    assert capsys.readouterr().out.endswith("rows, no faults\n")


def test_lint_ends_with_1_where_there_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text(SOUND.replace("TOFA-DOSE-02", "TOFA-DOSE-99"), encoding="utf-8")
    assert lint.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("2 tables, 5 rows, 1 fault\n")


@pytest.mark.parametrize("args", [["one", "two"], ["no-such-folder"]])
def test_lint_explains_its_use(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert lint.main(args) == 2
    assert "usage: jaki-cds lint" in capsys.readouterr().err


# --- what must be true of the tables themselves -----------------------------------------------------------


def test_the_register_is_whole() -> None:
    register = lint.register()
    assert len(register) == 189
    sections = {section for statement in register.values() for section in statement.sections}
    assert sections <= set(the_source().sections)


def test_the_printed_constants() -> None:
    assert egfr_constant() == 36
    assert solution_mg_per_ml() == 1


def test_every_fact_that_the_tables_ask_is_in_the_vocabulary() -> None:
    assert closure(TABLES.facts()) <= set(vocabulary())


EXACTLY_ONE = [table for table in TABLES.all if table.exactly_one]


@given(data=st.data())
def test_exactly_one_row_for_every_child(data: st.DataObject) -> None:
    """The linter's claim, tried with values of its own choosing."""
    table = data.draw(st.sampled_from(EXACTLY_ONE))
    facts = {}
    for column in table.columns:
        kind = vocabulary()[column]
        if kind.kind == "choice":
            facts[column] = Known(data.draw(st.sampled_from(kind.options)))
        else:
            lowest = table.domain[column].low
            number = data.draw(st.decimals(min_value=lowest, max_value=300, places=2))
            value = Interval.exactly(number)
            facts[column] = Known(value)
            if not table.domain[column].test(value):
                return
    assert [ask_row(row, facts, {}).holds for row in table.rows].count(True) == 1


def test_a_lower_egfr_never_raises_the_dose() -> None:
    """Ambiguity A-01, its hard invariant, at every limit of eGFR and weight."""
    table = TABLES.named("BARI-IFN")
    points = {
        column: lint.probes(
            table.domain[column],
            {limit for row in table.rows for box in row.boxes for limit in box[column].limits},
        )
        for column in ("egfr", "weight")
    }
    for schedule, weight in itertools.product(vocabulary()["schedule"].options, points["weight"]):
        totals: list[Decimal] = []
        for egfr in points["egfr"]:
            facts = {
                "egfr": Known(Interval.exactly(egfr)),
                "schedule": Known(schedule),
                "weight": Known(Interval.exactly(weight)),
            }
            totals += [
                row.dose.mg_per_day for row in table.rows if row.dose and ask_row(row, facts, {}).holds
            ]
        assert len(totals) == len(points["egfr"])
        assert totals == sorted(totals)


def test_a_line_without_limits_is_asked_at_one_point() -> None:
    assert lint.probes(lint.WHOLE_LINE, ()) == [Decimal(0)]


def test_the_page_says_how_much_a_clinician_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(render, "signed", lambda table: table.name in read)
    assert render._state(TABLES) == "No clinician has reviewed this content yet."
    read.append("TOFA-DOSE")
    unread = f"{len(TABLES.all) - 1} of {len(TABLES.all)} tables have not been reviewed"
    assert render._state(TABLES).startswith(unread)
    read.extend(table.name for table in TABLES.all)
    assert render._state(TABLES).startswith("Every table has been read")
