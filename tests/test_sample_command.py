"""`jaki-cds sample new`: what stays of a record, what goes, and what is said of it. All children are invented."""

from __future__ import annotations

import copy
import json
import shutil
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cds_service.cli import main
from cds_service.compare import conclusions
from cds_service.deidentify import REMOVED, age_on, deidentified, leftovers, plain_text, shifted
from cds_service.demo.children import store
from cds_service.json_reader import read_json, write_json
from cds_service.replay import in_process
from cds_service.replay import main as replay
from cds_service.services import SERVICES

SAMPLES = Path(__file__).parent.parent / "samples"
NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/request.json"))
CANARY = "Zanzibarquux"
NHS_NUMBER = "9876543210"

Json = dict[str, Any]


def sample(name: str) -> Json:
    found = read_json((SAMPLES / name / "request.json").read_bytes())
    assert isinstance(found, dict)
    return found


def record(child: str = "jia-28kg", *, drafted: bool = True) -> Json:
    """A demo child as ``Patient/$everything`` would give it, with what identifies a real one."""
    found = []
    for resources in store(date(2026, 6, 1)).values():
        for resource in resources.values():
            about = (resource.get("subject") or resource.get("patient") or {}).get("reference")
            if resource["id"] == child or about == f"Patient/{child}":
                found.append(copy.deepcopy(resource))
    patient = next(r for r in found if r["resourceType"] == "Patient")
    patient |= {
        "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": NHS_NUMBER}],
        "name": [{"family": CANARY, "given": ["Grace"]}],
        "telecom": [{"system": "phone", "value": "0131 496 0000"}],
        "address": [{"line": [f"1 {CANARY} Street"], "postalCode": "EH1 1AA"}],
        "photo": [{"contentType": "image/png", "data": "iVBORw0KGgo="}],
        "text": {"status": "generated", "div": f"<div>{CANARY}</div>"},
        "generalPractitioner": [{"display": f"Dr {CANARY}"}],
    }
    if drafted:
        found.append(draft(child))
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in found]}


def draft(child: str) -> Json:
    return {
        "resourceType": "MedicationRequest",
        "id": "order-of-the-ward-77",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{child}", "display": CANARY},
        "authoredOn": "2026-06-01",
        "requester": {"reference": "Practitioner/9", "display": f"Dr {CANARY}"},
        "note": [{"text": f"Mother of {CANARY} asks for mornings"}],
        "medicationCodeableConcept": {"text": f"Tofacitinib 1 mg/mL oral solution, {CANARY}"},
        "dosageInstruction": [
            {
                "text": f"4 mg twice daily for {CANARY}",
                "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
                "doseAndRate": [{"doseQuantity": {"value": 4, "unit": "mg", "code": "mg"}}],
            }
        ],
    }


@pytest.fixture(autouse=True)
def one_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cds_service.sample_command.in_process", shared)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    path.write_bytes(write_json(record()))
    return path


def made_in(tmp_path: Path, *arguments: str) -> Path:
    assert main(["sample", "new", *arguments, "--name", "made", "--into", str(tmp_path)]) == 0
    return tmp_path / "made"


# --- the command ----------------------------------------------------------------------------------


def test_a_bundle_becomes_a_sample_that_replays(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_in(tmp_path, str(bundle), "--as-of", "2026-06-01", "--title", "Made of a record")
    said = capsys.readouterr().out
    assert "The sample gives the same findings and doses as the original." in said
    assert "A person must now read request.json" in said
    assert "left out: MedicationRequest.note, MedicationRequest.requester" in said
    request = json.loads((folder / "request.json").read_bytes())
    assert request["hook"] == "order-sign"
    child = request["prefetch"]["patient"]
    assert set(child) == {"resourceType", "id", "active", "gender", "birthDate"}
    [entry] = request["context"]["draftOrders"]["entry"]
    assert entry["resource"]["medicationCodeableConcept"]["text"] == "Tofacitinib 1 mg/mL oral solution"
    assert entry["resource"]["dosageInstruction"][0]["text"] == REMOVED
    assert replay([str(folder)]) == 0
    for text in (said, *(path.read_text("utf-8") for path in folder.iterdir())):
        for secret in (CANARY, NHS_NUMBER, "Grace", "0131", "EH1", "jia-28kg", "ward-77", "2026-06-01"):
            assert secret.casefold() not in text.casefold()


def test_without_a_draft_it_is_the_opened_chart(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(write_json(record("jia-overdue-bloods", drafted=False)))
    folder = made_in(tmp_path, str(path), "--as-of", "2026-06-01")
    request = json.loads((folder / "request.json").read_bytes())
    assert request["hook"] == "patient-view"
    assert "TOFA-MON-03" in (folder / "case.yaml").read_text("utf-8")


def test_what_the_bundle_never_had_is_unknown_unless_it_is_the_whole_record(
    bundle: Path, tmp_path: Path
) -> None:
    assert (
        "allergies"
        not in json.loads((made_in(tmp_path, str(bundle)) / "request.json").read_bytes())["prefetch"]
    )
    shutil.rmtree(tmp_path / "made")
    folder = made_in(tmp_path, str(bundle), "--whole-record")
    kept = json.loads((folder / "request.json").read_bytes())["prefetch"]
    assert kept["allergies"] == {"resourceType": "Bundle", "type": "searchset", "total": 0}


@pytest.mark.parametrize(
    ("change", "arguments", "told"),
    [
        (lambda b: b.update(resourceType="Patient"), [], "is neither a FHIR Bundle nor a hook request"),
        (lambda b: b.update(entry=[]), [], "it must hold the Patient too"),
        (lambda b: b["entry"].append({"resource": {"resourceType": "Patient", "id": "x"}}), [], "--patient ID"),
        (lambda b: b["entry"].pop(), ["--hook", "order-select"], "no order of status draft is in it"),
        (lambda _: None, ["--name", "../up"], "--name is made of small letters"),
        (
            lambda b: b["entry"][-1]["resource"].update(dosageInstruction=[{"doseAndRate": [{"type": {"coding": [
                {"system": "http://snomed.info/sct", "code": NHS_NUMBER}]}, "doseQuantity": {"unit": "mg"}}]}]),
            [],
            "what identifies would still stand in the sample (prefetch.patient.identifier.value)",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, arguments: list[str], told: str
) -> None:
    value = record()
    change(value)
    path = tmp_path / "record.json"
    path.write_bytes(write_json(value))
    given = ["sample", "new", str(path), "--name", "made", "--into", str(tmp_path), *arguments]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert NHS_NUMBER not in said
    assert not (tmp_path / "made").exists()


def test_a_case_is_never_overwritten(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    assert main(["sample", "new", str(bundle), "--name", "made", "--into", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


# --- what is kept and what goes -------------------------------------------------------------------


def everywhere(value: object) -> object:
    """The same with what identifies put beside everything: unknown members, notes, extensions, displays."""
    if isinstance(value, list):
        return [everywhere(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: everywhere(inner) for name, inner in value.items()}
    if "resourceType" in found or "coding" in found or "reference" in found:
        found |= {
            "extension": [{"url": f"http://{CANARY}.org", "valueString": CANARY}],
            "note": [{"text": CANARY}],
            f"x{CANARY}": CANARY,
            "identifier": [{"value": CANARY}],
            "_status": {"extension": [{"url": "x", "valueString": CANARY}]},
        }
    for name in ("display", "text"):
        if isinstance(found.get(name), str):
            found[name] += f" {CANARY}"
    return found


@pytest.mark.parametrize("name", NAMES[::12])
def test_nothing_that_identifies_gets_through(name: str) -> None:
    made, changes = deidentified(everywhere(sample(name)), -1000)  # type: ignore[arg-type]
    for text in (write_json(made).decode(), *changes.lines()):
        told = text.replace(f"x{CANARY}", "")  # the name of a member is told, so that a reader can judge it
        assert CANARY not in told
    assert CANARY not in write_json(made).decode()


shared = cache(in_process)


@pytest.mark.parametrize("name", [*NAMES[::15], pytest.param(None, marks=pytest.mark.slow)])
def test_a_sample_concludes_what_its_original_does(name: str | None) -> None:
    """Also with every date moved; of all samples in the slow run."""
    ask = shared()
    for each in [name] if name else NAMES:
        request = sample(each)
        made, _ = deidentified(request, -1461)  # four years: the birthday stays where it is
        service = next(s.id for s in SERVICES.values() if s.hook == request["hook"])
        told = [list(conclusions(json.loads(ask(service, write_json(r))[1]))) for r in (request, made)]
        assert told[0] == told[1], each


def test_references_follow_their_ids() -> None:
    request = sample("tofa-exactly-20kg")
    made, _ = deidentified(request, -1000)
    [entry] = made["context"]["draftOrders"]["entry"]
    assert entry["resource"]["id"] == "medicationrequest-1"
    assert entry["resource"]["subject"] == {"reference": "Patient/child-1"}
    assert made["context"]["selections"] == ["MedicationRequest/medicationrequest-1"]
    assert made["context"]["patientId"] == made["prefetch"]["patient"]["id"] == "child-1"


def test_another_patients_resource_stays_another_patients() -> None:
    request = sample("tofa-exactly-20kg")
    request["prefetch"]["conditions"]["entry"][0]["resource"]["subject"] = {"reference": "Patient/other"}
    made, _ = deidentified(request, -1000)
    subject = made["prefetch"]["conditions"]["entry"][0]["resource"]["subject"]
    assert subject == {"reference": "Patient/child-2"}


def test_local_codes_become_examples_each_time_the_same() -> None:
    request = sample("tofa-exactly-20kg")
    local = {"system": f"https://{CANARY}.nhs.uk/codes", "code": "WT1"}
    for entry in request["prefetch"]["growth"]["entry"]:
        entry["resource"]["code"] = {"coding": [local]}
    made, _ = deidentified(request, -1000)
    codes = {json.dumps(e["resource"]["code"]) for e in made["prefetch"]["growth"]["entry"]}
    assert codes == {
        json.dumps({"coding": [{"system": "http://example.org/local-codes-1", "code": "local-1"}]})
    }


def test_a_modifier_stays_one() -> None:
    request = sample("tofa-exactly-20kg")
    resource = request["context"]["draftOrders"]["entry"][0]["resource"]
    resource["modifierExtension"] = [{"url": f"http://{CANARY}", "valueString": CANARY}]
    made, _ = deidentified(request, -1000)
    kept = made["context"]["draftOrders"]["entry"][0]["resource"]["modifierExtension"]
    assert kept == [{"url": "http://example.org/modifier", "valueBoolean": True}]


def test_keys_keep_their_state() -> None:
    request = sample("tofa-exactly-20kg")
    outcome = {"resourceType": "OperationOutcome", "text": {"div": CANARY}, "issue": [
        {"severity": "error", "code": "exception", "diagnostics": CANARY}]}  # fmt: skip
    page = {"relation": "next", "url": f"https://{CANARY}.org/?page=2"}
    request["prefetch"] |= {"liver": None, "kidney": outcome}
    request["prefetch"]["growth"]["link"] = [page]
    kept = deidentified(request, -1000)[0]["prefetch"]
    assert kept["liver"] is None
    assert kept["kidney"]["issue"] == [{"severity": "error", "code": "exception"}]
    assert kept["growth"]["link"] == [{"relation": "next", "url": "http://example.org/next"}]


@pytest.mark.parametrize(
    ("text", "medicine", "kept"),
    [
        ("Tofacitinib 1 mg/mL oral solution", True, "Tofacitinib 1 mg/mL oral solution"),
        (f"Xeljanz 5 mg tablets ({CANARY} pharmacy)", True, "Xeljanz 5 mg tablets"),
        (f"{CANARY} tablets", True, REMOVED),
        ("not detected", False, "not detected"),
        (f"not detected, rang {CANARY}", False, REMOVED),  # never shortened to the opposite
        ("12/03/15", False, REMOVED),
        ("tablet 555 123 456", True, REMOVED),
        ("5", False, REMOVED),
    ],
)
def test_text_stays_only_where_it_is_plain(text: str, medicine: bool, kept: str) -> None:
    assert plain_text(text, medicine=medicine) == kept


@pytest.mark.parametrize(
    ("written", "moved"),
    [
        ("2026-06-01", "2026-06-11"),
        ("2026-06-25T23:59:30+01:00", "2026-07-05T23:59:30+01:00"),
        ("2026-06", "2026-06"),
        ("2026", "2026"),
        ("soon", None),
    ],
)
def test_a_date_moves_as_precisely_as_it_came(written: str, moved: str | None) -> None:
    assert shifted(written, timedelta(days=10)) == moved


@given(born=st.dates(date(2006, 1, 1), date(2024, 1, 1)), on=st.dates(date(2024, 1, 1), date(2027, 1, 1)))
def test_four_years_keep_every_age(born: date, on: date) -> None:
    by = timedelta(days=-1461)
    assert age_on(born + by, on + by) == age_on(born, on)


def test_what_is_left_over_is_named_by_its_place_only() -> None:
    original = {"patient": {"name": [{"family": CANARY}], "id": "a-real-id"}}
    assert leftovers(original, {"text": f"of {CANARY}"}) == ["patient.name.family"]
    assert leftovers(original, {"ids": ["Patient/a-real-id"]}) == ["patient.id"]
    assert leftovers(original, {"text": "of nobody"}) == []
