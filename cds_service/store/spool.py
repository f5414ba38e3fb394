"""The spool: where entries wait, line by line and safely on disk, while the database cannot take them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OWNER_ONLY = 0o600


class Spool:
    """A file of one entry a line. Several processes may append and empty it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: bytes) -> None:
        """Returns when ``line`` is on disk. Raises ``OSError``."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:
            end = os.lseek(file, 0, os.SEEK_END)
            # A process killed in the middle of a line leaves it without an end.
            torn = end > 0 and os.pread(file, 1, end - 1) != b"\n"
            _write_all(file, (b"\n" if torn else b"") + line + b"\n")
            os.fsync(file)

    def is_empty(self) -> bool:
        try:
            return self.path.stat().st_size == 0
        except FileNotFoundError:
            return True

    def drain(self, take: Callable[[list[bytes]], None]) -> None:
        """Hands all lines to ``take`` and empties the file once it returns.

        Killed in between, the lines are handed over again: ``take`` must know those it has had.
        """
        with self._locked() as file:
            size = os.lseek(file, 0, os.SEEK_END)
            lines = os.pread(file, size, 0).split(b"\n") if size else []
            if found := [line for line in lines if line]:
                take(found)
            os.ftruncate(file, 0)
            os.fsync(file)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)  # lets go of the lock as well


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
