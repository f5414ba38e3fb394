"""The table of what CDS Hooks asks of a service, and the rows of it that no other test shows."""

from __future__ import annotations

import copy
import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from builders import Json, bundle, cards, client, comparable, draft, findings, hook_request, post, prefetch_of
from test_http import FEEDBACK, ORDER_SIGN_URL, body_of

from cards.text import LONGEST_SUMMARY, summary
from cds_service.conformance import ConformanceError, page, read_rows
from cds_service.json_reader import read_json, write_json
from cds_service.logs import JsonLines
from cds_service.services import SERVICES, discovery

TESTS = Path(__file__).parent
SAMPLES = TESTS.parent / "samples"
ROWS = read_rows(TESTS / "conformance.csv")

# --- the table ------------------------------------------------------------------------------------


def exists(name: str) -> bool:
    file, _, test = name.partition("::")
    path = TESTS / file
    return path.is_file() and bool(test) and f"\ndef {test}(" in path.read_text("utf-8")


def test_the_table_is_whole() -> None:
    sizes = {"D": 14, "R": 20, "P": 16, "H": 13, "C": 14, "S": 5, "A": 6, "Y": 2, "L": 4, "F": 10, "X": 14,
             "K": 3, "O": 3, "V": 2}  # fmt: skip
    assert [row.id for row in ROWS] == [f"{k}{n:02}" for k, size in sizes.items() for n in range(1, size + 1)]


def test_every_shall_has_its_tests_and_of_the_rest_nineteen_in_twenty() -> None:
    demanded = [row for row in ROWS if row.level.startswith("SHALL")]
    rest = [row for row in ROWS if not row.level.startswith("SHALL")]
    assert all(row.tests for row in demanded)
    assert sum(bool(row.tests) for row in rest) >= len(rest) * 0.95


def test_every_test_that_is_named_exists() -> None:
    missing = {name for row in ROWS for name in row.tests if not exists(name)}
    assert not missing


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert exists("test_conformance.py::test_a_test_that_is_not_there_is_noticed")
    assert not exists("test_conformance.py::test_a_test")
    assert not exists("test_conformance.py")
    assert not exists("test_nowhere.py::test_a_test")


def test_the_page_is_up_to_date() -> None:
    written = (TESTS.parent / "docs" / "conformance.md").read_text("utf-8")
    assert written == page(ROWS), "docs/conformance.md is out of date; run `make page` and commit it"


@pytest.mark.parametrize(
    "line",
    [
        "D01,SHALL,Something,,",
        "D01,SHALL,Something,test_a.py::test_b,a reason",
        "D01,MUST,Something,test_a.py::test_b,",
        "D01,SHALL,,test_a.py::test_b,",
        "D01,SHALL,Something,test_a.py::test_b,,more",
        "D01,MAY,Something,,why\nD01,MAY,Something,,why",
    ],
)
def test_a_faulty_line_is_told(tmp_path: Path, line: str) -> None:
    path = tmp_path / "conformance.csv"
    path.write_text(f"id,level,statement,tests,left_out\n{line}\n", "utf-8")
    with pytest.raises(ConformanceError, match="D01"):
        read_rows(path)


# --- discovery ------------------------------------------------------------------------------------


def entries() -> list[Any]:
    services = discovery()["services"]
    assert isinstance(services, list)
    return services


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from walk(member, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from walk(item, path)


def test_discovery_entries() -> None:
    for entry in entries():
        for name in ("id", "hook", "title", "description"):
            assert isinstance(entry[name], str) and entry[name].strip()
        assert entry["prefetch"]
        assert all(isinstance(v, str) and v for pair in entry["prefetch"].items() for v in pair)
        assert "hookVersion" not in entry and "version" not in entry
        assert not [path for path, value in walk(entry) if value in (None, "", [], {})]


def test_templates_use_only_the_patients_id() -> None:
    """It is a token in every hook; a template that asks for nothing else needs no other one before it."""
    for entry in entries():
        for template in entry["prefetch"].values():
            assert re.findall(r"\{\{(.*?)\}\}", template) == ["context.patientId"]
            rest = template.replace("{{context.patientId}}", "")
            assert not re.search(r"[{}%]|today\(|resolve\(|ofType\(", rest)


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", ["absent", None, {}])
@pytest.mark.parametrize("service", SERVICES)
def test_a_call_without_any_data(service: str, prefetch: Any) -> None:
    body = body_of(service)
    if prefetch == "absent":
        del body["prefetch"]
    else:
        body["prefetch"] = prefetch
    response = client().post(f"/cds-services/{service}", json=body)
    assert response.status_code == (412 if service == "jaki-patient-view" else 200)


def test_the_same_call_twice() -> None:
    """order-sign without an order-select before it; the same advice, other uuids."""
    request = hook_request([draft("tofacitinib", 5)], hook="order-sign", bloods={})
    first, second = cards(request), cards(request)
    assert comparable(first) == comparable(second)
    ids = [thing["uuid"] for card in (*first, *second) for thing in (card, *card.get("suggestions", ()))]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(one)) == one for one in ids)


@pytest.mark.parametrize("severity", ["warning", "information"])
def test_an_outcome_among_the_entries(severity: str) -> None:
    """Epic sends one of severity warning where it found nothing."""
    notice = {
        "severity": severity,
        "code": "processing",
        "details": {"text": "Resource request returns no results."},
    }
    outcome = {"resourceType": "OperationOutcome", "issue": [notice]}
    request = hook_request([draft("tofacitinib", 4)])
    expected = comparable(cards(request))
    for key, value in request["prefetch"].items():
        if isinstance(value.get("entry"), list) and value["entry"]:
            spoilt = copy.deepcopy(request)
            spoilt["prefetch"][key]["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})
            assert comparable(cards(spoilt)) == expected, key


USERS = ["Practitioner/p1", "PractitionerRole/p1", "Patient/p1", "RelatedPerson/r1"]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("encounter", [None, "e1"])
def test_the_encounter_and_the_user_may_vary(user: str, encounter: str | None) -> None:
    for service in SERVICES:
        body = body_of(service)
        body["context"] |= {"userId": user} | ({"encounterId": encounter} if encounter else {})
        assert client().post(f"/cds-services/{service}", json=body).status_code == 200


def test_a_draft_that_is_already_active() -> None:
    drafted, active = (
        set(findings(cards(hook_request([draft("tofacitinib", 5, status=status)], hook="order-sign"))))
        for status in ("draft", "active")
    )
    assert drafted == active


# --- answers --------------------------------------------------------------------------------------

CARD = {"uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "overrideReasons",
        "extension"}  # fmt: skip


def stored() -> list[Json]:
    texts = [path.read_text("utf-8") for path in sorted(SAMPLES.glob("*/response.json"))]
    return [card for text in texts for card in json.loads(text)["cards"]]


def test_cards_hold_what_the_specification_knows() -> None:
    found = [*stored(), *cards(hook_request([draft("tofacitinib", 5)], bloods={}))]
    assert len(found) > 50
    for card in found:
        assert set(card) <= CARD
        assert set(card["extension"]) == {"org.jaki-cds"}
        assert set(card["source"]) <= {"label", "url", "icon", "topic"}
        assert re.match(r"https://[a-z]", card["source"]["url"])
        assert all(isinstance(card["source"]["topic"][name], str) for name in ("system", "code"))
        assert ("suggestions" in card) == ("selectionBehavior" in card)
        assert card.get("selectionBehavior", "at-most-one") == "at-most-one"
        suggestions = card.get("suggestions", ())
        assert sum(suggestion.get("isRecommended", False) for suggestion in suggestions) <= 1
        for suggestion in suggestions:
            assert set(suggestion) <= {"label", "uuid", "isRecommended", "actions"}
            for action in suggestion["actions"]:
                assert set(action) == {"type", "description", "resource"}
            # Applied together: one change of the draft, or orders of tests.
            types = [action["type"] for action in suggestion["actions"]]
            assert types == ["update"] or set(types) == {"create"}


def test_an_answer_is_json_in_utf_8() -> None:
    response = post(hook_request([draft("tofacitinib", 5)], bloods={"neutrophils": "1.1"}))
    assert response.content_type == "application/json"
    assert set(response.get_json()) == {"cards"}
    assert "×10⁹/L" in response.data.decode("utf-8")


@pytest.mark.parametrize(("length", "cut"), [(138, False), (139, False), (140, True), (141, True)])
def test_a_long_summary_is_cut(length: int, cut: bool) -> None:
    text = ("word " * 40)[: length - 1] + "x"
    assert len(text) == length
    shown = summary(text)
    assert len(shown) <= LONGEST_SUMMARY
    assert (shown != text) == cut


def test_feedback_with_the_ids_of_an_answer() -> None:
    found = cards(hook_request([draft("tofacitinib", 5)]))
    items: list[Json] = []
    for card in found:
        item = FEEDBACK["feedback"][0] | {"card": card["uuid"]}
        items += [item, item]
        for suggestion in card.get("suggestions", ()):
            taken = {"outcome": "accepted", "acceptedSuggestions": [{"id": suggestion["uuid"]}]}
            items.append(item | taken)
    assert any("acceptedSuggestions" in item for item in items)
    for _ in range(2):
        response = client().post(f"{ORDER_SIGN_URL}/feedback", json={"feedback": items})
        assert (response.status_code, response.get_json()) == (200, {})


# --- what a call may cost, and what it may leave behind -------------------------------------------


def test_a_full_prefetch_is_answered_quickly() -> None:
    request = hook_request([draft("tofacitinib", 5)])
    cards(request)
    times = []
    for _ in range(20):
        start = time.process_time()
        cards(request)
        times.append(time.process_time() - start)
    assert sorted(times)[18] < 0.5


def test_calls_at_the_same_time_do_not_mix() -> None:
    """Twenty children with a weight of their own each; every answer speaks of its own child only."""

    def ask(number: int) -> tuple[set[str], set[str]]:
        child = f"child-{number}"
        text = write_json(prefetch_of(weight=str(20 + number))).decode()
        prefetch: Any = read_json(
            text.replace("Patient/p1", f"Patient/{child}").replace('"p1"', f'"{child}"').encode()
        )
        request = hook_request([draft("tofacitinib", 4, subject={"reference": f"Patient/{child}"})], prefetch)
        request["context"]["patientId"] = child
        found = post(request).get_json()["cards"]
        weights = {
            str(item["value"])
            for card in found
            for finding in card["extension"]["org.jaki-cds"]["findings"]
            for item in finding["evidence"]
            if item["fact"] == "weight"
        }
        return weights, set(re.findall(r"child-\d+", json.dumps(found)))

    with ThreadPoolExecutor(8) as pool:
        for number, (weights, children) in enumerate(pool.map(ask, range(20))):
            assert weights == {str(20 + number)}
            assert children == {f"child-{number}"}


SECRETS = {
    "token of the client": "eyJ-canary-jwt",
    "access token": "canary-access",
    "name": "Canaryname",
    "number": "9434765919",
    "birth date": "2016-05-14",
    "address": "Canary Street",
    "note": "Canary note",
    "query": "canaryquery",
    "cookie": "canarycookie",
    "comment": "Canary comment",
    "instance": "7c1f3ba2-6a70-4d4b-9a47-caca0caca0ca",
    "hospital number": "MRN-canary",
}


def test_log_1_no_secret_of_a_request_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in a log line, nor in the metrics, nor in the body of a refusal."""
    request = hook_request(
        [draft("tofacitinib", 5, note=[{"text": SECRETS["note"]}])], birth=SECRETS["birth date"]
    )
    request["hookInstance"] = SECRETS["instance"]
    request["prefetch"]["patient"] |= {
        "name": [{"family": SECRETS["name"]}],
        "identifier": [{"value": SECRETS["number"]}, {"value": SECRETS["hospital number"]}],
        "address": [{"line": [SECRETS["address"]]}],
    }
    headers = {"Authorization": f"Bearer {SECRETS['token of the client']}", "Cookie": SECRETS["cookie"]}
    authorization = {"access_token": SECRETS["access token"], "token_type": "Bearer", "expires_in": 300,
                     "scope": "patient/*.read", "subject": "x"}  # fmt: skip
    faulty: list[Json] = [
        request,
        request | {"fhirAuthorization": authorization},
        request | {"fhirAuthorization": authorization, "fhirServer": "http://127.0.0.1:9"},
        request | {"hook": SECRETS["name"]},
        request | {"context": {"patientId": SECRETS["name"] + "/", "userId": 5}},
        request | {"prefetch": {"patient": bundle()}},
        request | {"extension": {"org.jaki-cds": {"asOf": SECRETS["note"]}}},
    ]
    formatter, said = JsonLines(), ""
    with caplog.at_level(logging.DEBUG):
        for body in faulty:
            data = json.dumps(body, default=float)
            response = client().post(
                f"/cds-services/jaki-order-select?x={SECRETS['query']}",
                data=data,
                headers=headers,
                content_type="application/json",
            )
            said += response.get_data(as_text=True) if response.status_code != 200 else ""
            cut = client().post(ORDER_SIGN_URL, data=data[:-5], content_type="application/json")
            said += cut.get_data(as_text=True)
        item = FEEDBACK["feedback"][0] | {"overrideReason": {"userComment": SECRETS["comment"]}}
        client().post(f"{ORDER_SIGN_URL}/feedback", json={"feedback": [item]}, headers=headers)
        client().get(f"/Patient/{SECRETS['name']}?q={SECRETS['query']}", headers=headers)
    lines = [formatter.format(record) for record in caplog.records]
    assert len(lines) >= len(faulty)
    said += "\n".join(lines) + client().get("/metrics").get_data(as_text=True)
    for kind, secret in SECRETS.items():
        assert secret not in said, kind
