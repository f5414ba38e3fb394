"""Four services on one PostgreSQL against one service: nobody behind a balancer can tell the difference.

Each process has a folder of its own, as if on a machine of its own; they share the database, the key file and the file
of clients. Both sides go through the same scenario: the same calls, each token used again, feedback that reaches
another process than the card came from, one process stopped and one killed and started again. What is compared: the
answers (but for the uuids), the statuses, the record, the report of the feedback.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import postgres
import psycopg
import pytest
from bench_bodies import BODIES
from bench_servers import make_site
from builders import comparable
from sqlalchemy import select
from test_serve import free_port

from cds_service.json_reader import read_json, write_json
from cds_service.runtime import utc_today
from cds_service.store.database import Database, parse_url
from cds_service.store.tables import AUDIT, FEEDBACK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
ADDRESS = "https://cds.example.org"
PROCESSES = 4
START_SECONDS = 120.0
RACERS = 16
SAMPLES = sorted(ROOT.glob("samples/*/request.json"))[::10]
HOOKS = {"patient-view", "order-select", "order-sign"}


@dataclass(slots=True)
class Process:
    """One service, which can be stopped and started again at the same port."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "cds_service.cli", "serve", "--port", str(self.port)]
        path = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        self.folder.mkdir(exist_ok=True)
        self.running = subprocess.Popen(
            [*command, "--workers", "1", "--threads", "4"],
            cwd=self.folder,
            env={**path, **self.environment, "JAKI_CDS_LOG_LEVEL": "error"},
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self.running.poll() is None and time.monotonic() < end, "the service did not start"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return self.exchange("GET", "/readyz", None, None)[0] == 200
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.running is not None
        if how == signal.SIGKILL:  # the workers as well: the machine is gone
            for child in (
                Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text().split()
            ):
                os.kill(int(child), how)
        self.running.send_signal(how)
        self.running.wait(30)

    def exchange(self, method: str, path: str, body: bytes | None, token: str | None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = token
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, read_json(response.read())
        except http.client.HTTPException as fault:
            raise ConnectionError from fault
        finally:
            connection.close()


@dataclass(slots=True)
class Seen:
    """What a caller and an auditor see of a scenario."""

    answers: dict[str, set[str]] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)
    reports: Any = None
    feedback_rows: int = 0
    verified: str = ""


class Balancer:
    """Sends each call to the next process; one that does not take it is passed over, as balancers do."""

    def __init__(self, processes: list[Process], sign: Callable[[str], str]) -> None:
        self.processes = processes
        self.sign = sign

    def post(self, path: str, body: bytes, turn: int) -> tuple[int, Any, str]:
        end = time.monotonic() + START_SECONDS
        for attempt in itertools.count():
            token = self.sign(path)
            with contextlib.suppress(OSError):
                at = self.processes[(turn + attempt) % len(self.processes)]
                return (*at.exchange("POST", path, body, token), token)
            assert time.monotonic() < end, "no process answered"
            time.sleep(0.1)
        raise AssertionError


def requests() -> dict[str, dict[str, Any]]:
    found = {path.parent.name: json.loads(path.read_text("utf-8")) for path in SAMPLES}
    found = {name: body for name, body in found.items() if body["hook"] in HOOKS}
    for body in found.values():
        body.pop("extension", None)
        body.pop("fhirServer", None)
    on = utc_today()
    for body in BODIES:
        if body.observations <= 200:
            found[body.name] = json.loads(body.bytes(on))
    return found


def feedback_on(card: dict[str, Any], number: int) -> dict[str, Any]:
    said: dict[str, Any] = {"card": card["uuid"], "outcomeTimestamp": "2026-06-01T10:00:00Z"}
    reasons = card.get("overrideReasons")
    if number % 2 or not reasons:
        return {**said, "outcome": "accepted", "acceptedSuggestions": []}
    return {
        **said,
        "outcome": "overridden",
        "overrideReason": {"reason": {"code": reasons[0]["code"], "system": reasons[0]["system"]}},
    }


def play(processes: list[Process], sign: Callable[[str], str]) -> Seen:
    """The scenario: every request four times, interleaved, in two halves with restarts between and within."""
    seen = Seen()
    balancer = Balancer(processes, sign)
    asked = [(name, turn) for turn in range(PROCESSES) for name in requests()]
    bodies = {name: (body["hook"], write_json(body)) for name, body in requests().items()}

    def call(number: int) -> tuple[str, int, str, list[dict[str, Any]], str]:
        name, turn = asked[number]
        hook, raw = bodies[name]
        path = f"/cds-services/jaki-{hook}"
        status, answer, token = balancer.post(path, raw, number + turn)
        cards = answer["cards"] if status == 200 else []
        return name, status, comparable(cards) if status == 200 else json.dumps(answer), cards, token

    def report(number: int, hook: str, card: dict[str, Any]) -> None:
        """At another process than the card came from, and once more at a third."""
        path = f"/cds-services/jaki-{hook}/feedback"
        body = write_json({"feedback": [feedback_on(card, number)]})
        for step in (1, 2):
            status, _, _ = balancer.post(path, body, number + step)
            seen.statuses["feedback", status] += 1

    used: list[tuple[str, str, bytes]] = []
    with ThreadPoolExecutor(8) as pool:
        for half in (0, 1):
            numbers = range(half * len(asked) // 2, (half + 1) * len(asked) // 2)
            calls = [pool.submit(call, number) for number in numbers]
            if half:  # one process leaves while calls are on their way, and comes back
                processes[0].stop()
                processes[0].start()
            for number, found in zip(numbers, calls, strict=True):
                name, status, answer, cards, token = found.result()
                hook, raw = bodies[name]
                seen.answers.setdefault(name, set()).add(answer)
                seen.statuses["call", status] += 1
                used.append((f"/cds-services/jaki-{hook}", token, raw))
                if cards:
                    report(number, hook, cards[0])
            processes[-1].stop(signal.SIGKILL)
            processes[-1].start()

    # A token that one process accepted is refused by each of them, those that started later as well.
    for path, token, raw in used[::10]:
        for turn in range(PROCESSES):
            status, _ = processes[turn % len(processes)].exchange("POST", path, raw, token)
            seen.statuses["token used again", status] += 1
    # One new token, sent to all at the same moment: one of them takes it.
    path, _, raw = used[0]
    token = sign(path)
    with ThreadPoolExecutor(RACERS) as pool:
        for status, _ in pool.map(
            lambda n: processes[n % len(processes)].exchange("POST", path, raw, token), range(RACERS)
        ):
            seen.statuses["race", status] += 1
    return seen


def recorded(seen: Seen, environment: dict[str, str]) -> Seen:
    """With what the store holds and the commands say of it."""
    database = Database(parse_url(environment["JAKI_CDS_STORE"]))
    with database.reading() as connection:
        for row in connection.execute(select(AUDIT)):
            seen.entries[comparable_entry(row.kind, json.loads(row.body))] += 1
        seen.feedback_rows = len(connection.execute(select(FEEDBACK)).all())
    database.close()
    command = [sys.executable, "-m", "cds_service.cli"]
    settings = {**os.environ, **environment}
    report = subprocess.run(
        [*command, "feedback", "report", "--json"], cwd=ROOT, env=settings, check=True, capture_output=True
    )
    seen.reports = sorted(json.loads(report.stdout), key=lambda line: (line["statement"], line["client"]))
    verify = subprocess.run(
        [*command, "audit", "verify"], cwd=ROOT, env=settings, capture_output=True, text=True
    )
    seen.verified = verify.stdout.split(";")[0]
    assert verify.returncode == 0, verify.stdout
    return seen


def comparable_entry(kind: str, body: dict[str, Any]) -> str:
    """An entry without what differs between two equal calls: the time taken, uuids and what is made of them."""
    body.pop("ms")
    if kind == "feedback":
        body["request"].pop("hash")  # it names a card by its uuid
    for card in body.get("cards", ()):
        body_of_card = {key: card[key] for key in ("indicator", "findings") if key in card}
        card.clear()
        card.update(body_of_card)
    for report in body.get("feedback", ()):
        report.pop("id")
        report.pop("card")
    return json.dumps([kind, body], sort_keys=True)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed")
    with postgres.cluster() as url:
        yield url


def scenario(count: int, server: str, folder: Path) -> Seen:
    name = f"of_{count}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    folder.mkdir()
    environment, sign = make_site(folder, ADDRESS, server.replace("/postgres?", f"/{name}?"))
    processes = [Process(folder / f"machine-{number}", environment) for number in range(count)]
    with ExitStack() as stack:
        for process in processes:
            process.start()
            stack.callback(process.stop)
        seen = play(processes, sign)
        for process in processes:  # whatever waited in a spool is taken over
            status, _ = process.exchange("GET", "/readyz", None, None)
            assert status == 200
    return recorded(seen, environment)


def test_four_processes_on_one_database_answer_and_record_as_one_does(server: str, tmp_path: Path) -> None:
    four, one = (scenario(count, server, tmp_path / str(count)) for count in (PROCESSES, 1))
    calls = PROCESSES * len(requests())
    assert four.statuses["call", 200] == calls, four.statuses
    assert four.statuses["token used again", 401] == PROCESSES * len(range(0, calls, 10))
    assert four.statuses["race", 200] == 1
    assert four.statuses == one.statuses
    assert {name: len(answers) for name, answers in four.answers.items()} == dict.fromkeys(requests(), 1)
    assert four.answers == one.answers
    assert four.entries == one.entries
    assert four.reports == one.reports
    assert four.reports, "no statement was reported on"
    assert four.feedback_rows == one.feedback_rows == four.statuses["feedback", 200] / 2
    assert four.verified == one.verified
    assert four.entries.total() == four.statuses.total()
