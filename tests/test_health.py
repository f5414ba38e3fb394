"""OBS-1: ``/healthz`` says that the process lives, ``/readyz`` whether it can take calls, in each state of fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from test_auth import client_of

from cds_service.app import create_app
from cds_service.auth import Door
from cds_service.replay_guard import ReplayGuard
from cds_service.runtime import make_runtime
from cds_service.settings import Settings
from cds_service.store import store as store_module
from cds_service.store.database import Database
from cds_service.store.spool import Spool
from cds_service.store.store import LEAST_ROOM, Entry, Store, append


def service(store: Store | None, tokens: str) -> FlaskClient:
    """A service outside demo mode with one client, whose used tokens are remembered at ``tokens``."""
    settings = Settings(log_level="error")
    runtime = replace(make_runtime(settings), door=Door([client_of()], ReplayGuard(tokens)))
    return create_app(settings, runtime, store).test_client()


def fails(*_: object) -> Any:
    raise OSError


@contextmanager
def patched(*places: tuple[type, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in places:
            patch.setattr(owner, name, fails)
        yield


@contextmanager
def waiting(store: Store, folder: Path) -> Iterator[None]:
    """An entry waits, and cannot be taken over."""
    store.spool.append(b"{}")
    with patched((Spool, "drain")):
        yield
    store.spool.path.unlink()


@contextmanager
def locked(store: Store) -> Iterator[None]:
    other = Database(store.database.url)
    with other.writing():
        yield
    other.close()


@contextmanager
def writeless(store: Store) -> Iterator[None]:
    """The database is there and may be locked, but takes no write."""
    with store.database.writing() as connection:
        append(connection, [Entry("id", "2026-06-01T00:00:00.000Z", "call", "{}")], store.keys)
        connection.execute(
            text("CREATE TRIGGER full BEFORE UPDATE ON head BEGIN SELECT RAISE(ABORT, 'full'); END")
        )
    store._write_again = 0
    yield


@contextmanager
def without_room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "disk_usage", lambda path: SimpleNamespace(free=LEAST_ROOM - 1))
        yield


@contextmanager
def tokens_lost(folder: Path) -> Iterator[None]:
    path = folder / "tokens.sqlite"
    kept = path.read_bytes() if path.exists() else b""
    path.write_bytes(b"this is no database" * 100)
    yield
    path.write_bytes(kept)


STATES: dict[str, tuple[Callable[[Store, Path], Any], int]] = {
    "all is well": (lambda store, folder: nullcontext(), 200),
    "the database is away": (lambda store, folder: patched((Database, "writing")), 503),
    "another holds the database": (lambda store, folder: locked(store), 503),
    "the database takes no write": (lambda store, folder: writeless(store), 503),
    "the disk is nearly full": (lambda store, folder: without_room(), 503),
    "entries wait in the spool": (waiting, 503),
    "the spool cannot be read": (lambda store, folder: patched((Spool, "is_empty")), 503),
    "used tokens are not known": (lambda store, folder: tokens_lost(folder), 503),
    "used tokens cannot be asked for": (lambda store, folder: patched((ReplayGuard, "_connected")), 503),
}


@pytest.mark.parametrize("state", STATES)
def test_obs_1_alive_and_ready_differ(memory: Path, state: str) -> None:
    store = Store.open(Settings(store=f"sqlite:///{memory}/s.sqlite"))
    assert store is not None
    store.is_ready()  # makes the tables
    client = service(store, f"sqlite:///{memory}/tokens.sqlite")
    hindrance, ready = STATES[state]
    with hindrance(store, memory):
        assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, ready)
    store.database.close()


def test_obs_1_without_a_record_the_service_is_ready(memory: Path) -> None:
    client = service(None, f"sqlite:///{memory}/tokens.sqlite")
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)
