"""The service under the real server: limits that only a socket can test, start and stop."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from cds_service.cli import main

ROOT = Path(__file__).parent.parent
URL = "/cds-services/jaki-patient-view"
LIMIT = 8 * 1024 * 1024
BODY = {
    "hook": "patient-view",
    "hookInstance": "7c1f3ba2-6a70-4d4b-9a47-111111111111",
    "context": {"userId": "Practitioner/p1", "patientId": "child-1"},
    "prefetch": {"patient": {"resourceType": "Patient", "id": "child-1", "birthDate": "2016-05-14"}},
}
START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    *options: str, errors: int | IO[str] = subprocess.PIPE
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A service process on a free port that answers; killed at the end if it still runs.

    ``errors``: where its log lines go; a pipe that nobody reads stops the service after some hundred calls.
    """
    port = free_port()
    command = [sys.executable, "-m", "cds_service.cli", "serve", "--port", str(port), *options]
    environment = {"JAKI_CDS_STORE": "none", **os.environ}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=errors, text=True)
    try:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running("--demo", "--workers", "2") as (_, port):
        yield port


def exchange(port: int, raw: bytes) -> tuple[int, str, bytes]:
    """Status, media type and body of the answer to a request sent byte for byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.headers.get("Content-Type", ""), response.read()


def head(*lines: str) -> bytes:
    return "\r\n".join(
        [f"POST {URL} HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", ""]
    ).encode()


def test_it_answers(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(3):  # on one connection
        connection.request("POST", URL, json.dumps(BODY), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200
        assert "cards" in json.loads(response.read())
    assert "/" not in (response.headers.get("Server") or "")
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()


@pytest.mark.parametrize("size", [len(json.dumps(BODY)), LIMIT + 1])
def test_http_1_a_chunked_body_is_refused_whole_however_large(port: int, size: int) -> None:
    piece = json.dumps(BODY).encode().ljust(size)
    raw = head("Transfer-Encoding: chunked") + f"{len(piece):x}\r\n".encode() + piece + b"\r\n0\r\n\r\n"
    status, media_type, body = exchange(port, raw)
    assert status in (411, 413)
    assert media_type == "application/json"
    assert json.loads(body)["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(("size", "expected"), [(LIMIT, 200), (LIMIT + 1, 413), (3 * LIMIT, 413)])
def test_http_1_the_limit_of_a_body(port: int, size: int, expected: int) -> None:
    """The client sends everything before it reads, and still gets the answer."""
    raw = head(f"Content-Length: {size}") + json.dumps(BODY).encode().ljust(size)
    assert exchange(port, raw)[0] == expected


def test_http_1_a_too_large_body_is_refused_before_it_is_sent(port: int) -> None:
    start = time.monotonic()
    assert exchange(port, head(f"Content-Length: {1000 * LIMIT}"))[0] == 413
    assert time.monotonic() - start < 2


@pytest.mark.slow
def test_http_10_a_body_that_stalls_costs_a_few_seconds_and_no_more(port: int) -> None:
    start = time.monotonic()
    status, _, body = exchange(port, head("Content-Length: 100") + b"{")
    assert (status, time.monotonic() - start < 5) == (400, True)
    assert b"in time" in body


def test_a_post_without_length(port: int) -> None:
    assert exchange(port, head())[0] == 411


def test_a_refusal_does_not_upset_the_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", URL, "x" * 100_000, {"Content-Type": "text/plain"})
    refused = connection.getresponse()
    assert (refused.status, json.loads(refused.read())["resourceType"]) == (415, "OperationOutcome")
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()


def test_metrics_add_up_over_the_workers(port: int) -> None:
    def count() -> int:
        text = exchange(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")[2].decode()
        wanted = 'jaki_cds_requests_total{service="discovery",status="200"} '
        return sum(
            int(float(line.removeprefix(wanted))) for line in text.splitlines() if line.startswith(wanted)
        )

    before = count()
    for _ in range(20):
        exchange(port, b"GET /cds-services HTTP/1.1\r\nHost: x\r\n\r\n")
    assert count() - before == 20


@pytest.mark.slow
def test_obs_3_metrics_may_have_a_listener_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = free_port()
    monkeypatch.setenv("JAKI_CDS_METRICS_PORT", str(other))
    with running("--demo", "--workers", "1") as (_, port):
        for host in ("x", f"x:{other}"):  # what the client says of the port does not count
            call = f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Port: {other}\r\n\r\n".encode()
            assert exchange(port, call)[0] == 404
            status, _, body = exchange(other, call)
            assert (status, b"jaki_cds_requests_total" in body) == (200, True)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_logs_one_json_line_per_request(stop: signal.Signals) -> None:
    with running("--demo", "--workers", "1") as (process, port):
        assert exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        process.send_signal(stop)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    ready, *lines = errors.strip().splitlines()
    assert ready.startswith(f"jaki-cds listens on http://127.0.0.1:{port} (demo mode)")
    assert [(json.loads(line)["event"], json.loads(line)["status"]) for line in lines] == [("answered", 200)]


@pytest.mark.slow
def test_obs_2_a_call_in_flight_is_answered_when_it_is_told_to_stop() -> None:
    """It waits for a FHIR server that says nothing while SIGTERM comes in."""
    body = BODY | {"prefetch": {}}
    with socket.socket() as silent, running("--demo", "--workers", "1") as (process, port):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        raw = json.dumps(body | {"fhirServer": f"http://127.0.0.1:{silent.getsockname()[1]}"}).encode()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(exchange, port, head(f"Content-Length: {len(raw)}") + raw)
            silent.accept()[0].close()
            process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            time.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):  # who comes now learns at once, and asks elsewhere
                socket.create_connection(("127.0.0.1", port), timeout=5)
            assert not call.done()
            assert call.result()[0] == 412
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert time.monotonic() - start < 15


REFUSED_STARTS = [
    (["serve"], {}, "no client is configured"),
    (["serve", "--demo", "--host", "0.0.0.0"], {}, "loopback only"),
    (["serve", "--demo", "--host", "192.0.2.1"], {}, "loopback only"),
    (["serve", "--host", "::"], {"JAKI_CDS_DEMO": "1"}, "loopback only"),
    (["serve", "--demo"], {"JAKI_CDS_MAX_BODY_BYTES": "8MB"}, "JAKI_CDS_MAX_BODY_BYTES"),
    (["serve", "--demo"], {"JAKI_CDS_DEMMO": "1"}, "JAKI_CDS_DEMMO"),
]


@pytest.mark.parametrize(("words", "environment", "reason"), REFUSED_STARTS)
def test_a_start_that_is_refused_says_why_on_one_line(
    words: list[str],
    environment: dict[str, str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("JAKI_CDS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert reason in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["policy:\n  freshness:\n    weight: many\n", "freshness:\n  weight: 30\n", "policy: [weight\n"]
)
def test_a_fault_in_the_site_file_stops_the_start_on_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(text, encoding="utf-8")
    monkeypatch.setenv("JAKI_CDS_SITE", str(site))
    assert main(["serve", "--demo", "--port", str(free_port())]) == 2
    told = capsys.readouterr().err
    assert "site.yaml" in told and told.count("\n") == 1


def test_a_port_in_use_is_told_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["serve", "--demo", "--port", str(other.getsockname()[1])]) == 2
    errors = capsys.readouterr().err
    assert "--port" in errors
    assert len(errors.splitlines()) == 1
