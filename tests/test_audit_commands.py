"""``jaki-cds audit`` and ``jaki-cds feedback`` on a record made by real calls."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fhir.resources.R4B.auditevent import AuditEvent
from flask.testing import FlaskClient
from sqlalchemy import delete, insert, literal, select, update

from cds_service.app import create_app
from cds_service.cli import CommandError, main, open_store
from cds_service.settings import Settings
from cds_service.store import chain, cli
from cds_service.store.cli import links, prune
from cds_service.store.store import Entry, Store, append, read_head
from cds_service.store.tables import AUDIT, CARD, FEEDBACK, HEAD

SAMPLES = Path(__file__).parent.parent / "samples"
URL = "/cds-services/jaki-order-sign"


@pytest.fixture
def store(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    url = f"sqlite:///{memory}/deep/er/store.sqlite"
    monkeypatch.setenv("JAKI_CDS_STORE", url)
    found = Store.open(Settings(store=url))
    assert found is not None
    yield found
    found.database.close()


@pytest.fixture
def client(store: Store) -> FlaskClient:
    return create_app(Settings(demo=True, log_level="error"), store=store).test_client()


def call(client: FlaskClient, name: str = "bari-egfr-25") -> list[dict[str, Any]]:
    asked = json.loads((SAMPLES / name / "request.json").read_text("utf-8")) | {"hook": "order-sign"}
    return list(client.post(URL, json=asked).get_json()["cards"])


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_verify(client: FlaskClient, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "audit", "verify")[0] == 0
    for _ in range(3):
        call(client)
    status, out, _ = run(capsys, "audit", "verify")
    assert (status, out.splitlines()[0].startswith("3 entries, whole and in order")) == (0, True)
    with store.database.writing() as connection:
        body = connection.execute(update(AUDIT).where(AUDIT.c.seq == 2).values(kind="prune"))
        assert body.rowcount == 1
    status, out, _ = run(capsys, "audit", "verify")
    assert status == 1
    assert "Entry 2 was changed" in out


INDEX_TAMPERINGS = {
    "a card's findings": update(CARD).values(findings="[]"),
    "a card's suggestions": update(CARD).values(suggestions='["x"]'),
    "a card's client": update(CARD).values(client="another-hospital"),
    "a card's severity": update(CARD).values(indicator="info"),
    "a card's time": update(CARD).values(at="2026-06-02T00:00:00.000Z"),
    "a card removed": delete(CARD),
    "a card put in": insert(CARD).from_select(
        CARD.c.keys(), select(*[literal("x") if c is CARD.c.uuid else c for c in CARD.c]).limit(1)
    ),
    "what became of a card": update(FEEDBACK).values(outcome="accepted"),
    "the reason why": update(FEEDBACK).values(reason="not-applicable"),
    "when": update(FEEDBACK).values(outcome_at="2026-06-02T00:00:00.000Z"),
    "whose": update(FEEDBACK).values(client="another-hospital"),
    "a card's findings, no longer JSON": update(CARD).values(findings="{"),
    "accepted suggestions, no longer JSON": update(FEEDBACK).values(suggestions="["),
    "an entry without its client": update(AUDIT).values(body='{"cards": [{}], "feedback": [{}]}'),
    "feedback removed": delete(FEEDBACK),
    "feedback put in": insert(FEEDBACK).from_select(
        FEEDBACK.c.keys(), select(*[literal("x") if c is FEEDBACK.c.id else c for c in FEEDBACK.c]).limit(1)
    ),
}


@pytest.mark.parametrize("what", INDEX_TAMPERINGS)
def test_aud_3_tampering_beside_the_chain_is_noticed(
    client: FlaskClient, store: Store, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """With what is in them an override could be invented, and a warning be kept back for it."""
    card = next(card for card in call(client) if card["indicator"] != "info")
    told = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}
    reason = {"overrideReason": {"reason": {"code": "specialist-advice"}}}
    for when in ("2026-06-01T10:00:00Z", "2026-06-01T11:00:00Z", "2026-06-01T09:00:00Z"):
        client.post(f"{URL}/feedback", json={"feedback": [told | reason | {"outcomeTimestamp": when}]})
    assert run(capsys, "audit", "verify")[0] == 0
    with store.database.writing() as connection:
        connection.execute(INDEX_TAMPERINGS[what])
    status, out, _ = run(capsys, "audit", "verify")
    assert (status, len(out.splitlines()) > 1) == (1, True)


def test_explain_a_card_from_the_record_alone(
    client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    card = next(card for card in call(client) if card["indicator"] != "info")
    finding = card["extension"]["org.jaki-cds"]["findings"][0]
    client.post(
        f"{URL}/feedback",
        json={
            "feedback": [
                {
                    "card": card["uuid"],
                    "outcome": "overridden",
                    "overrideReason": {"reason": {"code": "specialist-advice"}},
                    "outcomeTimestamp": "2026-06-01T10:00:00Z",
                }
            ]
        },
    )
    status, out, _ = run(capsys, "audit", "explain", card["uuid"].upper())
    assert status == 0
    assert f"{finding['id']}: {finding['outcome']}, {finding['severity']}" in out
    for evidence in finding["evidence"]:
        assert f"{evidence['fact']} {evidence['value']} {evidence['unit']}" in out
    assert "Rows that apply" in out and "Rows that do not apply" in out
    assert "overridden, specialist-advice" in out
    again = re.search(r"Tried again on these facts: (\d+) of (\d+) rows", out)
    assert again is not None and again[1] == again[2] != "0"
    status, out, _ = run(capsys, "audit", "explain", card["uuid"], "--json")
    assert json.loads(out)["cards"]


def test_a_card_that_nobody_sent(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = run(capsys, "audit", "explain", "11111111-2222-4333-8444-555555555555")
    assert (status, len(errors.splitlines())) == (2, 1)


def test_export_as_fhir_audit_events(
    client: FlaskClient, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards = call(client)
    client.post(URL, json={})
    client.post(f"{URL}/feedback", json={"feedback": []})
    assert run(capsys, "audit", "export", "--output", str(memory / "out.ndjson"))[0] == 0
    lines = (memory / "out.ndjson").read_text("utf-8").splitlines()
    events = [AuditEvent.model_validate_json(line) for line in lines]
    assert [event.outcome for event in events] == ["0", "4", "4"]
    assert cards[0]["uuid"] in lines[0]
    assert run(capsys, "audit", "export", "--since", "2100-01-01", "--output", str(memory / "none"))[0] == 0
    assert (memory / "none").read_text() == ""


def faults(store: Store) -> list[str]:
    with store.database.reading() as connection:
        return list(chain.faults(list(links(connection)), read_head(connection), store.keys))


def test_prune_leaves_a_chain_that_is_whole_and_says_what_went(
    client: FlaskClient, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        call(client)
    now = datetime.now(UTC)
    assert run(capsys, "audit", "prune")[0] == 2  # nothing is deleted unless somebody set a time
    assert prune(store, now, 1) == 0
    assert prune(store, now + timedelta(days=2), 1) == 3
    call(client)
    assert faults(store) == []
    with store.database.reading() as connection:
        kinds = [link.kind for link in links(connection)]
    assert kinds == ["prune", "call"]
    assert prune(store, now + timedelta(days=9), 1) == 2
    assert faults(store) == []
    assert run(capsys, "audit", "verify")[0] == 0


@pytest.mark.parametrize("calls", [4, 5])
def test_prune_lets_others_write_in_between(
    client: FlaskClient,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    """A part at a time, and the chain is whole after each: a long lock would send every call away."""
    monkeypatch.setattr(cli, "PRUNED_AT_ONCE", 2)
    paused = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        call(client)
        assert run(capsys, "audit", "verify")[0] == 0

    for _ in range(calls - 1):
        (card, *_) = call(client)
    told = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}
    client.post(f"{URL}/feedback", json={"feedback": [told]})
    now = datetime.now(UTC)
    with store.database.writing() as connection:  # as if all of them were of the day before yesterday
        old = [(link.seq, link) for link in links(connection)]
        connection.execute(delete(AUDIT))
        connection.execute(delete(HEAD))
        connection.execute(update(FEEDBACK).values(at="2026-01-01T00:00:00.000Z"))
        connection.execute(update(CARD).values(at="2026-01-01T00:00:00.000Z"))
        entries = [Entry(link.id, "2026-01-01T00:00:00.000Z", link.kind, link.body) for _, link in old]
        append(connection, entries, store.keys)
    assert run(capsys, "audit", "verify")[0] == 0
    monkeypatch.setattr(time, "sleep", pause)
    assert prune(store, now, 30) == calls
    assert len(paused) == calls // 2
    assert run(capsys, "audit", "verify")[0] == 0
    with store.database.reading() as connection:
        kinds = [link.kind for link in links(connection)]
        assert connection.execute(select(FEEDBACK)).all() == []
    assert kinds == ["prune", "call"] * (calls // 2) + ["prune"] * (calls % 2)


def test_prune_leaves_feedback_that_fits(
    client: FlaskClient, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (card, *_) = call(client)
    told = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}

    def report() -> None:
        assert client.post(f"{URL}/feedback", json={"feedback": [told]}).status_code == 200

    report()
    assert prune(store, datetime.now(UTC) + timedelta(days=2), 1) == 2
    assert run(capsys, "audit", "verify")[0] == 0
    report()
    report()
    assert run(capsys, "audit", "verify")[0] == 0
    with store.database.writing() as connection:  # the first entry goes, the repetition stays, the row goes
        append(connection, [Entry(str(uuid4()), "2026-06-01T00:00:00.000Z", "prune", "{}")], store.keys)
        connection.execute(delete(FEEDBACK))
    assert run(capsys, "audit", "verify")[0] == 0
    report()
    assert run(capsys, "audit", "verify")[0] == 0
    with store.database.writing() as connection:
        connection.execute(delete(FEEDBACK))
    assert "Feedback of entry 7 is missing." in run(capsys, "audit", "verify")[1]


def test_feedback_report(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    for reason in ({"code": "not-applicable"}, {"code": "not-applicable"}, None):
        card = next(card for card in call(client) if card["indicator"] != "info")
        told = {"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}
        if reason is not None:
            told["overrideReason"] = {"reason": reason}
        client.post(f"{URL}/feedback", json={"feedback": [told]})
    call(client)
    statement = card["extension"]["org.jaki-cds"]["findings"][0]["id"]
    status, out, _ = run(capsys, "feedback", "report", "--json")
    found = {told["statement"]: told for told in json.loads(out)}
    assert status == 0
    assert found[statement] == {
        "statement": statement,
        "client": "",
        "shown": 4,
        "accepted": 0,
        "overridden": 3,
        "reasons": {"no reason": 1, "not-applicable": 2},
    }
    status, out, _ = run(capsys, "feedback", "report")
    assert "not-applicable 2, no reason 1" in out


def test_auth_9_feedback_on_another_clients_card_is_nobodys(
    client: FlaskClient, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gets the answer that any card gets, so that nobody learns which cards there are, and counts for nothing."""
    card = next(card for card in call(client) if card["indicator"] != "info")
    with store.database.writing() as connection:
        connection.execute(update(CARD).values(client="another-hospital"))
    item = {"outcome": "overridden", "outcomeTimestamp": "2026-06-01T10:00:00Z"}
    answers = {
        (answer.status_code, answer.get_data())
        for uuid in (card["uuid"], "11111111-2222-4333-8444-555555555555")
        for answer in [client.post(f"{URL}/feedback", json={"feedback": [{"card": uuid, **item}]})]
    }
    assert len(answers) == 1
    _, out, _ = run(capsys, "feedback", "report", "--json")
    assert {(told["client"], told["overridden"]) for told in json.loads(out)} == {("another-hospital", 0)}
    _, out, _ = run(capsys, "feedback", "report")
    assert "2 reports on cards that their sender was never sent are not counted." in out
    _, out, _ = run(capsys, "audit", "explain", card["uuid"])
    assert "Card " in out and "Feedback" not in out


@pytest.mark.parametrize("words", [["audit", "verify"], ["feedback", "report"]])
@pytest.mark.parametrize(("url", "why"), [("none", "nothing is recorded"), ("mysql://a/b", "JAKI_CDS_STORE")])
def test_without_a_store(
    words: list[str],
    url: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JAKI_CDS_STORE", url)
    status, _, errors = run(capsys, *words)
    assert (status, len(errors.splitlines())) == (2, 1)
    assert why in errors


def test_what_the_store_makes_is_the_owners_alone(store: Store, client: FlaskClient, memory: Path) -> None:
    call(client)
    made = {path.name: path.stat().st_mode & 0o777 for path in (memory / "deep" / "er").iterdir()}
    assert made.pop("jaki-cds.key") == 0o600
    assert {name.removeprefix("store.sqlite") for name in made} == {"", "-wal", "-shm"}
    assert set(made.values()) == {0o600}


@pytest.mark.parametrize("demo", [True, False])
def test_a_place_where_nothing_can_be_made_stops_the_start_but_of_demo_mode(
    demo: bool, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (memory / "file").write_text("")
    settings = Settings(demo=demo, store=f"sqlite:///{memory}/file/store.sqlite")
    if demo:
        assert open_store(settings) is None
        assert "nothing is recorded" in capsys.readouterr().err
    else:
        with pytest.raises(CommandError, match="JAKI_CDS_STORE"):
            open_store(settings)


def test_a_database_that_does_not_answer_does_not_stop_the_start(
    memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(memory)
    settings = Settings(store="postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    found = open_store(settings)
    assert found is not None
    assert "spool" in capsys.readouterr().err
    asked = create_app(Settings(demo=True, log_level="error"), store=found).test_client()
    assert call(asked)
    assert asked.get("/readyz").status_code == 503
    assert len(found.spool.path.read_bytes().splitlines()) == 1
    assert {path.name for path in (memory / "var").iterdir()} == {"jaki-cds.key", "jaki-cds-spool.ndjson"}
