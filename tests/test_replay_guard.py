"""A token counts once, over threads, processes and machines: the same tests on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from cds_service.replay_guard import SECONDS_BETWEEN_SWEEPS, GuardUnavailable, ReplayGuard
from cds_service.settings import read_settings

ROOT = Path(__file__).parent.parent
ISS = "https://ehr.example.org"
NOW = 1_780_000_000.0


@pytest.fixture
def url(database_url: str) -> str:
    """An empty database of either kind, as the settings name it."""
    return read_settings({"JAKI_CDS_STORE": database_url}).token_store


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


SENDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from cds_service.replay_guard import ReplayGuard
guard = ReplayGuard(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(lambda _: guard.first_use("https://ehr.example.org", "one", 4e9), range(200))))
guard.close()
"""


@pytest.mark.slow
def test_auth_6_of_400_sends_of_one_token_from_two_processes_one_is_accepted(url: str) -> None:
    command = [sys.executable, "-c", SENDER, url]
    senders = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    accepted = [int(sender.communicate(timeout=60)[0]) for sender in senders]
    assert sum(accepted) == 1


def test_tokens_are_forgotten_when_they_have_expired_for_good(url: str) -> None:
    clock = Clock()
    guard = ReplayGuard(url, clock)
    assert guard.first_use(ISS, "a", NOW + 100)
    assert not guard.first_use(ISS, "a", NOW + 100)
    assert guard.first_use("another issuer", "a", NOW + 100)
    clock.now += 99
    assert guard.first_use(ISS, "b", NOW + 1000)
    assert guard.seen(ISS, "a")
    clock.now += SECONDS_BETWEEN_SWEEPS + 3
    assert guard.first_use(ISS, "c", NOW + 1000)
    end = time.monotonic() + 5
    while guard.seen(ISS, "a") and time.monotonic() < end:
        time.sleep(0.01)
    assert not guard.seen(ISS, "a")
    assert guard.seen(ISS, "b") and guard.seen(ISS, "c")
    guard.close()


def test_a_call_does_not_wait_for_the_disk(url: str) -> None:
    """A token that a power cut forgets is stale in minutes; that it was used need not be on disk."""
    guard = ReplayGuard(url)
    guard.check()
    asked = "PRAGMA synchronous" if url.startswith("sqlite") else "SHOW synchronous_commit"
    with guard._connected().connect() as connection:
        assert connection.execute(text(asked)).scalar() in (1, "off")
    guard.close()


def test_connections_that_were_cut_are_made_anew(server: str) -> None:
    guard = ReplayGuard(read_settings({"JAKI_CDS_STORE": server}).token_store)
    guard.first_use(ISS, "cut", time.time() + 100)
    with psycopg.connect(server) as other:
        theirs = "FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
        assert (True,) in other.execute(f"SELECT pg_terminate_backend(pid) {theirs}").fetchall()
    assert not guard.first_use(ISS, "cut", time.time() + 100)
    guard.close()


def test_a_server_that_does_not_answer_is_told() -> None:
    guard = ReplayGuard("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(GuardUnavailable):
        guard.first_use(ISS, "a", NOW)
    guard.close()
