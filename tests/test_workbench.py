"""The workbench without a browser: its addresses in and out of demo mode, its policy, its data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cds_service.app import create_app
from cds_service.replay import main as replay
from cds_service.settings import Settings
from cds_service.workbench.routes import SAMPLES

STATIC = Path(__file__).parent.parent / "cds_service" / "workbench" / "static"
NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def demo() -> FlaskClient:
    return create_app(Settings(demo=True)).test_client()


@pytest.mark.parametrize("path", ["/", "/demo/static/workbench.js", "/demo/samples/tofa-exactly-20kg"])
def test_outside_demo_mode_nothing_of_it_answers(path: str) -> None:
    answer = create_app(Settings()).test_client().get(path)
    assert answer.status_code == 404
    assert answer.get_json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("path", ["/demo/explain", "/demo/sample"])
def test_outside_demo_mode_nothing_is_explained_or_saved(path: str) -> None:
    answer = create_app(Settings()).test_client().post(path, json={})
    assert answer.status_code == 404
    assert answer.get_json()["resourceType"] == "OperationOutcome"


def test_the_page_allows_its_own_files_only(demo: FlaskClient) -> None:
    answer = demo.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    page = answer.get_data(as_text=True)
    assert " style=" not in page
    assert page.count("<script") == page.count('<script type="module" src="/demo/static/')


def test_every_sample_is_offered_and_comes_as_it_is_stored(demo: FlaskClient) -> None:
    page = demo.get("/").get_data(as_text=True)
    for name in NAMES:
        assert f'value="{name}"' in page
        assert demo.get(f"/demo/samples/{name}").data == (SAMPLES / name / "request.json").read_bytes()


@pytest.mark.parametrize("name", ["no-such", "..", "%2e%2e%2fpyproject.toml", "README.md"])
def test_a_sample_that_is_not_there_is_404(demo: FlaskClient, name: str) -> None:
    answer = demo.get(f"/demo/samples/{name}")
    assert answer.status_code == 404
    assert answer.get_json()["resourceType"] == "OperationOutcome"


def explained(demo: FlaskClient, name: str) -> dict[str, object]:
    body = (SAMPLES / name / "request.json").read_bytes()
    answer = demo.post("/demo/explain", data=body, content_type="application/json")
    assert answer.status_code == 200
    found: dict[str, object] = json.loads(answer.data)
    return found


def test_each_row_tried_comes_with_its_words_and_citation(demo: FlaskClient) -> None:
    order = explained(demo, "tofa-exactly-20kg")["orders"][0]  # type: ignore[index]
    assert {"TOFA-DOSE-04"} <= {row["row"] for row in order["rows"]}
    assert all(row["cite"] and row["say"] for row in order["rows"])
    assert order["facts"]["weight"]["evidence"][0]["source"] == "Observation/weight-1"


def test_the_childs_band_is_chosen_by_the_table_on_its_limit(demo: FlaskClient) -> None:
    [picture] = explained(demo, "tofa-exactly-20kg")["pictures"]  # type: ignore[misc]
    [dose] = picture["doses"]
    assert [band["row"] for band in dose["bands"] if band["own"]] == ["TOFA-DOSE-04"]
    assert (dose["value"], dose["draftedMgPerDay"]) == (20, 6.4)


def test_a_running_course_has_its_plan(demo: FlaskClient) -> None:
    [picture] = explained(demo, "view-bari-egfr-38")["pictures"]  # type: ignore[misc]
    assert picture["start"] == "2025-12-01"
    assert [visit["state"] for visit in picture["plan"]["visits"]] == ["done"] * 4 + ["to come"]
    assert picture["egfr"]["value"] == 38.4


def test_bands_come_from_the_rows_that_could_apply(demo: FlaskClient) -> None:
    [picture] = explained(demo, "tofa-init-all-limits-uk")["pictures"]  # type: ignore[misc]
    neutrophils = next(r for r in picture["results"] if r["fact"] == "neutrophils")
    rows = {band["row"] for band in neutrophils["bands"]}
    assert "TOFA-INIT-02" in rows
    assert not any(row.startswith("TOFA-ANC") for row in rows)  # these are for a child on treatment


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_can_be_explained_and_drawn(demo: FlaskClient, name: str) -> None:
    found = explained(demo, name)
    assert len(found["pictures"]) == sum(o["assessed"] for o in found["orders"])  # type: ignore[arg-type,attr-defined]


@pytest.mark.parametrize("body", [[], {}, {"hook": "order-dispatch"}])
def test_what_is_no_hook_request_is_refused_with_a_cure(demo: FlaskClient, body: object) -> None:
    answer = demo.post("/demo/explain", json=body)
    assert answer.status_code == 400
    assert "order-sign" in answer.get_json()["issue"][0]["diagnostics"]


# --- a whole sample -------------------------------------------------------------------------------


def saved(demo: FlaskClient, request: object, name: str = "my-case", title: str = "A title") -> TestResponse:
    return demo.post("/demo/sample", query_string={"name": name, "title": title}, json=request)


@pytest.mark.parametrize("sample", ["tofa-exactly-20kg", "view-bari-egfr-38", "prescribe-stu3"])
def test_a_saved_sample_is_whole_and_replays(demo: FlaskClient, sample: str, tmp_path: Path) -> None:
    request = json.loads((SAMPLES / sample / "request.json").read_bytes())
    answer = saved(demo, request)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="my-case.zip"'
    with ZipFile(BytesIO(answer.data)) as packed:
        assert sorted(packed.namelist()) == [
            f"my-case/{n}" for n in ("case.yaml", "request.json", "response.json")
        ]
        packed.extractall(tmp_path)
    assert json.loads((tmp_path / "my-case" / "request.json").read_bytes()) == request
    stored = json.loads((SAMPLES / sample / "response.json").read_bytes())
    assert json.loads((tmp_path / "my-case" / "response.json").read_bytes()) == stored
    assert replay([str(tmp_path)]) == 0
    assert saved(demo, request).data == answer.data


def test_a_request_without_a_date_gets_the_day_of_the_call(demo: FlaskClient) -> None:
    request = json.loads((SAMPLES / "tofa-exactly-20kg" / "request.json").read_bytes())
    del request["extension"]
    with ZipFile(BytesIO(saved(demo, request).data)) as packed:
        kept = json.loads(packed.read("my-case/request.json"))
    assert kept["extension"]["org.jaki-cds"]["asOf"] == datetime.now(UTC).date().isoformat()


@pytest.mark.parametrize("name", ["", "../up", "A b", "x" * 80])
def test_a_name_that_is_no_folder_is_refused(demo: FlaskClient, name: str) -> None:
    request = json.loads((SAMPLES / "tofa-exactly-20kg" / "request.json").read_bytes())
    answer = saved(demo, request, name)
    assert answer.status_code == 400
    assert "small letters" in answer.get_json()["issue"][0]["diagnostics"]


def test_a_file_that_the_browser_has_already_is_sent_again(demo: FlaskClient) -> None:
    address = "/demo/static/workbench.css"
    first = demo.get(address)
    assert first.mimetype == "text/css"
    again = demo.get(address, headers={"If-None-Match": "*", "Range": "bytes=0-9"})
    assert (again.status_code, again.data) == (200, first.data)


@pytest.mark.parametrize("name", ["no-such.js", "..", "%2e%2e%2froutes.py"])
def test_a_file_that_is_not_there_is_404(demo: FlaskClient, name: str) -> None:
    assert demo.get(f"/demo/static/{name}").status_code == 404


def test_no_script_turns_text_into_html() -> None:
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert word not in text, path.name
