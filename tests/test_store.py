"""The record of what was said (AUD-1 to AUD-8): the same tests on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import builders
import postgres
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, inspect, select, text, update

from cds_service.app import create_app
from cds_service.settings import Settings
from cds_service.store import chain, database
from cds_service.store.database import Database, StoreFault, parse_url
from cds_service.store.keys import KeyFault, Keys, key_id, read_keys
from cds_service.store.spool import Spool
from cds_service.store.store import Entry, NotRecorded, Store, read_head
from cds_service.store.tables import AUDIT, CARD, FEEDBACK, HEAD, METADATA

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
ORDER_SIGN = "/cds-services/jaki-order-sign"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed")
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite"
    address = str(request.getfixturevalue("server"))
    plain = Database(parse_url(address))
    with plain.engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        connection.commit()
    plain.close()
    return address


@pytest.fixture
def make(url: str, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """A store on the same database and spool each time it is called, as several processes have."""
    made: list[Store] = []

    def store() -> Store:
        keys = read_keys(tmp_path / "key", create=True)
        made.append(Store(Database(parse_url(url)), Spool(tmp_path / "spool"), keys))
        return made[-1]

    yield store
    for each in made:
        each.database.close()


@pytest.fixture
def store(make: Callable[[], Store]) -> Store:
    return make()


def client_of(store: Store | None, **how: Any) -> FlaskClient:
    return create_app(Settings(demo=True, log_level="error", **how), store=store).test_client()


def entry(number: int = 0) -> Entry:
    return Entry(str(uuid4()), "2026-06-01T00:00:00.000Z", "call", json.dumps({"number": number}))


def links(store: Store) -> list[chain.Link]:
    with store.database.reading() as connection:
        return [chain.Link(*row) for row in connection.execute(select(AUDIT).order_by(AUDIT.c.seq))]


def faults(store: Store) -> list[str]:
    with store.database.reading() as connection:
        head = read_head(connection)
    return list(chain.faults(links(store), head, store.keys))


def bodies(store: Store) -> list[dict[str, Any]]:
    return [json.loads(link.body) for link in links(store)]


def sample(name: str = "bari-egfr-25") -> dict[str, Any]:
    """A sample request, sent at signing."""
    return json.loads((SAMPLES / name / "request.json").read_text("utf-8")) | {"hook": "order-sign"}


# --- AUD-1: every call leaves one entry -----------------------------------------------------------


def test_aud_1_every_call_leaves_one_entry_and_every_card_leads_to_it(store: Store) -> None:
    client = client_of(store)
    asked = sample()
    sent = client.post(ORDER_SIGN, json=asked).get_json()["cards"]
    assert sent
    client.post(ORDER_SIGN, json={})  # refused: 400
    client.post(ORDER_SIGN, data=b"{", content_type="application/json")
    client.post(ORDER_SIGN, data=b"x", content_type="text/plain")
    client.get("/cds-services")
    client.post("/cds-services/nope", json={})
    assert [body["status"] for body in bodies(store)] == [200, 400, 400, 415]
    with store.database.reading() as connection:
        found = {row.uuid: row.seq for row in connection.execute(select(CARD))}
    assert found == {card["uuid"]: 1 for card in sent}
    assert [card["uuid"] for card in bodies(store)[0]["cards"]] == [card["uuid"] for card in sent]
    assert faults(store) == []


def test_aud_1_a_refused_stranger_leaves_an_entry(store: Store) -> None:
    client = create_app(Settings(demo=False), store=store).test_client()
    assert client.post(ORDER_SIGN, json=sample()).status_code == 401
    (body,) = bodies(store)
    assert (body["status"], "patient" in body) == (401, False)


def test_an_entry_holds_what_was_read_and_every_row(store: Store) -> None:
    client_of(store).post(ORDER_SIGN, json=sample())
    (body,) = bodies(store)
    (order,) = body["orders"]
    assert len(order["rows"]) > 50
    assert {row[2] for row in order["rows"]} >= {"hit", "clear"}
    assert order["facts"]["creatinine"]["state"] == "known"
    read = {reference for key in body["read"] for reference, _ in key["resources"]}
    assert any(reference.startswith("Observation/creatinine") for reference in read)
    assert body["knowledgeVersion"] and body["asOf"] == "2026-06-01" and body["ms"] > 0


def test_without_a_store_nothing_is_recorded_and_the_service_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store.open(Settings(store="none")) is None
    client = client_of(None)
    assert client.post(ORDER_SIGN, json=sample()).status_code == 200
    assert client.get("/readyz").status_code == 200
    assert list(tmp_path.iterdir()) == []
