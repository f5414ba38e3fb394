"""The spool: where entries wait, line by line and safely on disk, while the database cannot take them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

OWNER_ONLY = 0o600
BATCH = 100
CHUNK_BYTES = 1024 * 1024


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
        return not self._taken.exists() and _size(self.path) == 0

    def depth(self) -> int:
        """How many entries wait. Reads the files, which are empty but after a failure."""
        return _lines(self.path) + _lines(self._taken)

    def drain(self, take: Callable[[list[bytes]], None]) -> None:
        """Hands the lines to ``take``, a batch at a time, and forgets them once it has returned for all.

        Killed in between, lines are handed over again: ``take`` must know those it has had. Whoever appends does not
        wait for this, and where somebody else is at it already, nothing is done.
        """
        with self._turn() as mine:
            if not mine:
                return
            if self._taken.exists():  # somebody was killed at it, and others may have appended since
                self._empty(take)
            if not self.is_empty():
                with self._locked():
                    self.path.rename(self._taken)
                self._empty(take)

    def _empty(self, take: Callable[[list[bytes]], None]) -> None:
        with self._taken.open("rb") as file:
            lines = (line.strip() for line in file)
            while batch := list(islice(filter(None, lines), BATCH)):
                take(batch)
        self._taken.unlink()

    @property
    def _taken(self) -> Path:
        """The file while it is being emptied; new lines go into a new one."""
        return self.path.with_name(self.path.name + ".taken")

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether nobody else empties the spool; nobody will until the end."""
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, OWNER_ONLY)
        with os.fdopen(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that now has the name, locked: while we waited, it may have been taken away to be emptied."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is(file, self.path):
                    yield file
                    return
            finally:
                os.close(file)  # lets go of the lock as well


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
    except FileNotFoundError:
        return 0


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
