"""A real PostgreSQL for the tests: made anew in a folder of its own, on a Unix socket, with nothing to set up."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_SECONDS = 30
PLACES = [Path("/usr/local/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are, or ``None``."""
    found = shutil.which("initdb")
    places = ([Path(found).resolve().parent] if found else []) + PLACES
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _account() -> str | None:
    """Whom to run as: PostgreSQL refuses root. ``None``: ourselves."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _wait_for(folder: Path) -> None:
    """Until the server takes connections; its socket is there a little earlier."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(folder), user="jaki", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[str]:
    """The URL of a running, empty server; stopped and deleted at the end. ``durable``: a commit waits for the disk."""
    where = binaries()
    assert where is not None
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="jaki-pg-"))
    if account is not None:
        shutil.chown(folder, account)
    switch = [] if account is None else ["setpriv", f"--reuid={account}", "--clear-groups", "--"]
    data = folder / "data"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    server = None
    try:
        # -N and -F: no waiting for the disk. The tests kill clients, not the machine.
        make = [*switch, str(where / "initdb"), "-D", str(data), "-U", "jaki", "-A", "trust", "-N"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, env=environment)
        start = [
            *switch,
            str(where / "postgres"),
            "-D",
            str(data),
            "-k",
            str(folder),
            "-h",
            "",
            *([] if durable else ["-F"]),
        ]
        server = subprocess.Popen(start, stderr=subprocess.DEVNULL, cwd=folder, env=environment)
        _wait_for(folder)
        yield f"postgresql://jaki@/postgres?host={folder}"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # does not wait for those who are connected
            server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
