"""`jaki-cds explain`: facts, phase, rows tried, dose - as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import POLY_JIA, SAVI, condition, draft, hook_request, observation, prefetch_of

from cds_service.cli import main as jaki_cds
from cds_service.explain import explain, main
from cds_service.json_reader import write_json
from guideline.tables import load_tables

SAMPLES = Path(__file__).parent.parent / "samples"


def text_of(case: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(SAMPLES / case / "request.json")]) == 0
    return capsys.readouterr().out


def json_of(case: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([str(SAMPLES / case / "request.json"), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def section(text: str, heading: str) -> str:
    return text.partition(f"\n{heading}\n")[2].partition("\n\n")[0]


def test_the_facts_with_value_unit_date_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    facts = section(text_of("bari-ifn-04-escalation", capsys), "Facts")
    rows = [" ".join(line.split()) for line in facts.splitlines()]
    assert "weight 16.1 kg [2026-05-25 Observation/weight-1]" in rows
    assert "age 4 years [birthDate 2021-07-07 Patient/child-46]" in rows
    assert (
        "egfr 137.33 mL/min/1.73 m² [2026-05-25 Observation/creatinine-1; creatinine 27 umol/L 2026-05-25 "
        "Observation/creatinine-1; height 103 cm 2026-05-25 Observation/height-1]"
    ) in rows


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("tofa-weight-absent", "weight missing: weight absent"),
        ("tofa-growth-not-supplied", "weight missing: weight not-supplied"),
        ("tofa-bloods-failed", "neutrophils missing: neutrophils failed"),
        ("tofa-weight-stale", "doubtful: weight stale (100 days old; the window is 90 days)"),
    ],
)
def test_why_a_fact_is_missing_or_doubtful(case: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = section(text_of(case, capsys), "Facts")
    assert line in " ".join(facts.split())


@pytest.mark.parametrize(
    ("case", "lines"),
    [
        ("bari-ifn-04-escalation", ["Phase: escalation", "+ 2 mg evening [BARI-IFN-04]; the draft"]),
        ("tofa-bloods-absent", ["Phase: initiation", "Dose: 4 mg twice daily [TOFA-DOSE-04], provisional; the draft"]),
        ("tofa-init-neutrophils-1.1", ["Dose: none; withheld by TOFA-INIT-02"]),
        ("tofa-weight-absent", ["Dose: none; no row could be chosen, see the rows that could not be assessed"]),
        ("bari-several-indications", ["  In JDM: 4 mg once daily [BARI-JDM-02]"]),
        ("tofa-mg-per-kg", ["Drafted: unreadable (", "the draft against it: unreadable"]),
        ("tofa-name-only", ["Drug: tofacitinib (recognised by its name, not by a code)"]),
        ("view-bari-egfr-38", ["Dose: none is looked for, since nothing is being ordered"]),
        ("sign-no-jak-inhibitor", ["No JAK inhibitor is drafted or being taken, so no row was tried."]),
        (
            "another-patients-draft",
            ["Not assessed: it names another patient, or its drug is not covered or could not be resolved."],
        ),
    ],
)  # fmt: skip
def test_phase_and_dose(case: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of(case, capsys)
    assert [line for line in lines if line not in text] == []


def test_rows_stand_under_their_outcome_with_what_decided_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of("bari-egfr-36-start", capsys)
    applying, clear = section(text, "Rows that apply"), section(text, "Rows that do not apply")
    assert "REN-BARI / BARI-MT-06: eGFR from 30 up to but not including 40" in applying
    assert "REN-BARI / REN-BARI-01: eGFR below 10 mL/min/1.73 m²  (decided by egfrLowest)" in clear
    assert "BARI-IFN / BARI-IFN-01: " in clear


@pytest.mark.parametrize(
    "case", ["bari-ifn-04-escalation", "tofa-dose-03-adult-dose", "ruxo-ags", "tofa-lupus"]
)
def test_every_row_of_every_table_of_the_drug_is_there(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    order = json_of(case, capsys)["orders"][0]
    asked = [t for t in load_tables().of(order["drug"]) if not t.cross_check and t.stage != "after view"]
    wanted = {(t.name, r.id) for t in asked for r in t.rows}
    assert {(row["table"], row["row"]) for row in order["rows"]} == wanted


def test_json_holds_the_exact_values(capsys: pytest.CaptureFixture[str]) -> None:
    order = json_of("bari-ifn-04-escalation", capsys)["orders"][0]
    assert order["facts"]["egfr"]["value"] == pytest.approx(36 * 103 / 27)
    assert order["facts"]["weight"]["evidence"] == [
        {
            "fact": "weight",
            "value": 16.1,
            "unit": "kg",
            "date": "2026-05-25",
            "source": "Observation/weight-1",
        }
    ]
    assert order["phase"]["value"] == "escalation"
    assert order["dose"]["row"] == "BARI-IFN-04"
    assert order["dose"]["mgPerDay"] == 8


@pytest.mark.parametrize("case", sorted(path.parent.name for path in SAMPLES.glob("*/request.json")))
def test_every_sample_can_be_explained_and_agrees_with_its_answer(case: str) -> None:
    answer = json.loads((SAMPLES / case / "response.json").read_bytes())
    ours = [card["extension"]["org.jaki-cds"] for card in answer["cards"]]
    doses = [found["dose"]["id"] for found in ours if "dose" in found]
    explained = explain(SAMPLES / case / "request.json")
    assert [order["dose"]["row"] for order in explained["orders"] if order.get("dose")] == doses


def test_the_command_line_reaches_it() -> None:
    assert jaki_cds(["explain", str(SAMPLES / "tofa-lupus" / "request.json")]) == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no", "The body is not valid JSON"),
        ("[]", "hook is none that the service answers"),
        ('{"hook": "order-sign", "hookInstance": "x", "context": {}}', "context.draftOrders is missing."),
    ],
)
def test_unusable_input_gives_one_clear_line_and_2(
    text: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.json"
    path.write_text(text, "utf-8")
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"jaki-cds explain: {path}: ")
    assert line in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert "cannot be read (No such file or directory)." in capsys.readouterr().err


def test_resources_that_were_not_used_are_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {"reference": "Patient/p1"}
    hb = {"unit": "g/dL", "code": "g/dL"}
    results = [
        observation("haemoglobin", "11", id_="other", subject={"reference": "Patient/p2"}),
        observation("haemoglobin", "11", id_="early", status="preliminary"),
        observation("haemoglobin", "11", id_="wrong", status="entered-in-error"),
        observation("haemoglobin", "11", id_="odd", modifierExtension=[{"url": "http://example.org/not"}]),
        observation("haemoglobin", "11", "furlong", id_="unit"),
        observation("haemoglobin", "110", id_="high"),
        observation("haemoglobin", "11", id_="local", code={"coding": [{"system": "http://x", "code": "1"}]}),
        observation("haemoglobin", "11", id_="donor", focus=[{"reference": "Patient/donor"}]),
        observation("haemoglobin", "11", id_="words", code={"text": "Haemoglobin"}),
        observation("weight", "30", id_="used", on="2026-05-31"),
    ]
    conditions = [
        condition(POLY_JIA, "jia"),
        condition(POLY_JIA, "refuted", verificationStatus={"coding": [{"code": "refuted"}]}),
        condition(SAVI, "past", clinicalStatus={"coding": [{"code": "resolved"}]}),
    ]
    data = prefetch_of(conditions=conditions, results=results, bloods={})
    data["procedures"]["entry"] = [
        {"resource": {"resourceType": "Procedure", "id": "p", "subject": ours, "notDone": True, "code": hb}}
    ]
    path = tmp_path / "request.json"
    path.write_bytes(write_json(hook_request([draft("tofacitinib", 5)], data)))
    assert main([str(path)]) == 0
    listed = section(capsys.readouterr().out, "Resources that were not used").splitlines()
    told = dict(line.strip().split(": ", 1) for line in listed)
    assert told == {
        "Condition/past": "it is past; it counts as history only",
        "Condition/refuted": "its status says that it never happened or was withdrawn",
        "Observation/donor": "it is about something else than the child",
        "Observation/donor (for haemoglobin)": "unreadable: it is about something else than the child",
        "Observation/early": "it is not final",
        "Observation/high (for haemoglobin)": "implausible: the value is not plausible in its unit",
        "Observation/local": "its code is in no table of this service",
        "Observation/odd": "it carries a modifier that this service does not know",
        "Observation/odd (for haemoglobin)": "unreadable: it carries a modifier that this service does not know",
        "Observation/other": "it is of another patient",
        "Observation/unit (for haemoglobin)": "unusable-unit: its unit is missing or cannot be converted",
        "Observation/words": "it is named in words alone, without a code",
        "Observation/wrong": "its status says that it never happened or was withdrawn",
        "Procedure/p": "its status says that it never happened or was withdrawn",
    }


# --- the site file ----------------------------------------------------------------------------------------


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.yaml"
    monkeypatch.setenv("JAKI_CDS_SITE", str(path))
    return path


def test_the_policy_of_the_site_counts(site_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site_file.write_text("policy: {freshness: {weight: 120}}\n", "utf-8")
    weight = json_of("tofa-weight-stale", capsys)["orders"][0]["facts"]["weight"]
    assert weight["state"] == "known"


def test_the_codes_of_the_site_are_understood(site_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = {"coding": [{"system": "http://hospital.example/lab", "code": "HB"}]}
    data = prefetch_of(bloods={}, results=[observation("haemoglobin", "11", id_="local", code=local)])
    path = site_file.with_name("request.json")
    path.write_bytes(write_json(hook_request([draft("tofacitinib", 5)], data)))

    def told() -> str:
        assert main([str(path)]) == 0
        return " ".join(capsys.readouterr().out.split())

    site_file.write_text("code_maps: []\n", "utf-8")
    assert "haemoglobin missing: " in told()
    element = {"code": "HB", "target": [{"code": "718-7", "equivalence": "equivalent"}]}
    group = {"source": "http://hospital.example/lab", "target": "http://loinc.org", "element": [element]}
    codes = {"resourceType": "ConceptMap", "group": [group]}
    site_file.with_name("codes.json").write_text(json.dumps(codes), "utf-8")
    site_file.write_text("code_maps: [codes.json]\n", "utf-8")
    assert "haemoglobin 11 g/dL [2026-05-25 Observation/local]" in told()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("policy:\n  restart_gap: soon\n", "JAKI_CDS_SITE: site.yaml, line 2: restart_gap must be a number"),
        ("code_maps: [gone.json]\n", "JAKI_CDS_SITE: site.yaml, line 1, code_maps: gone.json cannot be read"),
        (None, "JAKI_CDS_SITE names no file"),
    ],
)
def test_a_fault_of_the_site_file_is_one_line_and_2(
    site_file: Path, text: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        site_file.write_text(text, "utf-8")
    assert main([str(SAMPLES / "tofa-lupus" / "request.json")]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
