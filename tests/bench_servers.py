"""The servers that the benchmark compares: each started as a process of its own, with what it used up to now.

CPU time is the processes' own (the kernel's clock of each process), so that neither the client of the benchmark nor
other work on the machine counts.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import yaml
from test_serve import free_port

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 20.0
ISSUER = "https://ehr.example.org/bench"
ENVIRONMENTS = ROOT / ".bench"
PEER = "healthchain==0.16.1"


class NotHere(Exception):
    """A server that cannot be had on this machine, with the reason."""


@dataclass(slots=True)
class Running:
    """A server that answers. ``ready``: seconds from its start to its first answer; ``ready_cpu``: those of CPU."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    base: str
    ready: float
    ready_cpu: float
    sign: Callable[[str], str] | None = None

    def workers(self) -> list[int]:
        """Those that answer: all but the first where there are more."""
        pids = tree(self.process.pid)
        return pids[1:] or pids

    def cpu(self) -> float:
        """Seconds of CPU that all of them used since their start, user and system."""
        return _cpu_of_tree(self.process.pid)

    def memory(self, field_: str) -> int:
        """The largest worker's ``VmHWM`` (peak) or ``VmRSS`` (now), in bytes."""
        return max(memory_bytes(pid, field_) for pid in self.workers())


class Python:
    """Which interpreter runs floor and service: this one, or that of an environment with the service's needs alone."""

    path = sys.executable


def use_run_environment() -> None:
    """Measures what an installation has. Tools of developers make some libraries load more, and start later.

    Raises:
        NotHere: the packages of the lock file cannot be installed.
    """
    Python.path = environment("run", "--require-hashes", "-r", str(ROOT / "requirements.lock"))


def environment(name: str, *wanted: str) -> str:
    """The interpreter of an environment in ``.bench``, made where it is missing or the lock file is newer.

    Raises:
        NotHere: it cannot be made.
    """
    folder = ENVIRONMENTS / name
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists() or made.stat().st_mtime < (ROOT / "requirements.lock").stat().st_mtime:
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [*(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"), *wanted],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                raise NotHere(f"{name} cannot be installed: {done.stderr.strip()[-300:]}")
        made.touch()
    return str(python)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process to the nanosecond; the clock's id is made as clock_getcpuclockid(3) makes it."""
    return time.clock_gettime((~pid << 3) | 2)


def _cpu_of_tree(pid: int) -> float:
    return sum(cpu_seconds(each) for each in tree(pid))


def memory_bytes(pid: int, field_: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field_}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no {field_}")


def _answers(port: int) -> bool:
    """Whether ``/readyz`` is answered: with 200, or with 404 by a server that has no such address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status in (200, 404)
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def started(
    name: str, command: list[str], port: int, environment: dict[str, str], base: str = "/cds-services"
) -> Iterator[Running]:
    """The command as a server that answers; ended with all its workers."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("JAKI_CDS_")}
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **environment}, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            while not _answers(port):
                if process.poll() is not None or time.monotonic() - start > START_SECONDS:
                    said.seek(0)
                    raise NotHere(f"{name} did not start: {said.read().decode(errors='replace')[-500:]}")
                time.sleep(0.005)
            yield Running(name, process, port, base, time.monotonic() - start, _cpu_of_tree(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def floor() -> Iterator[Running]:
    port = free_port()
    with started("floor", [Python.path, str(ROOT / "tests/bench_floor.py"), str(port)], port, {}) as it:
        yield it


def _serve(port: int, workers: int, *more: str) -> list[str]:
    return [
        *(Python.path, "-m", "cds_service.cli", "serve", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(workers), "--threads", "2", *more),
    ]


@contextmanager
def service(workers: int = 1, name: str = "service") -> Iterator[Running]:
    """The whole service, asking nobody who they are and recording nothing."""
    port = free_port()
    environment = {"JAKI_CDS_STORE": "none"}
    with started(name, _serve(port, workers, "--demo"), port, environment) as it:
        yield it


@contextmanager
def service_with_both(
    workers: int = 1, store: str | None = None, name: str = "service with both"
) -> Iterator[Running]:
    """The whole service with authentication and audit; ``store``: the URL of its database, else SQLite on disk."""
    port = free_port()
    ENVIRONMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ENVIRONMENTS) as folder:
        address = f"http://127.0.0.1:{port}"
        environment, sign = make_site(Path(folder), address, store or f"sqlite:///{folder}/store.sqlite")
        with started(name, _serve(port, workers), port, environment) as it:
            it.sign = sign
            yield it


def make_site(folder: Path, address: str, store: str) -> tuple[dict[str, str], Callable[[str], str]]:
    """Settings of a service with one client, and the client's signature: the Authorization header for a path."""
    key_file = folder / "client.json"
    made = subprocess.run(
        [sys.executable, "-m", "cds_service.cli", "token", "keygen", str(key_file)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    client = {"name": "bench", "iss": ISSUER, "jwks": json.loads(made.stdout), "audiences": [address]}
    (folder / "clients.yaml").write_text(yaml.safe_dump({"clients": [client]}))
    (folder / "store.key").touch(0o600)
    (folder / "store.key").write_text("5a" * 32 + "\n")
    environment = {
        "JAKI_CDS_CLIENTS": str(folder / "clients.yaml"),
        "JAKI_CDS_PUBLIC_BASE_URL": address,
        "JAKI_CDS_CALLS_PER_SECOND": "10000",
        "JAKI_CDS_STORE": store,
        "JAKI_CDS_STORE_KEY": str(folder / "store.key"),
    }
    private = json.loads(key_file.read_text())
    key = jwt.PyJWK(private).key

    def sign(path: str) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": address + path,
            "iat": now,
            "exp": now + 600,
            "jti": str(uuid.uuid4()),
        }
        header = {"kid": private["kid"], "typ": "JWT"}
        return f"Bearer {jwt.encode(claims, key, private['alg'], headers=header)}"

    return environment, sign


@contextmanager
def healthchain() -> Iterator[Running]:
    """HealthChain in an environment of its own, made once.

    Raises:
        NotHere: it cannot be installed, or does not start.
    """
    python = environment("healthchain", PEER)
    port = free_port()
    command = [python, str(ROOT / "tests/bench_healthchain.py"), str(port)]
    with started("healthchain", command, port, {}, "/cds/cds-services") as it:
        yield it
