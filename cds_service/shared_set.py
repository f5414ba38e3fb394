"""A key set that one worker process fetched, for all of them: an unlinked file that they inherit when they fork.

Its lock belongs to a process and goes with it, so a worker that is killed holds up no other.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cds_service.json_reader import UnreadableBody, read_json, write_json

_HEAD = struct.Struct("dd")
_NEVER = -1.0


class SharedSet:
    """When the set was asked for and what was fetched last. To be made before the workers fork; used under ``held``.

    Times are seconds of the system's monotonic clock, which is the same in all processes.
    """

    def __init__(self) -> None:
        self._file, path = tempfile.mkstemp(prefix="jaki-cds-")
        Path(path).unlink()
        os.pwrite(self._file, _HEAD.pack(_NEVER, _NEVER), 0)
        weakref.finalize(self, os.close, self._file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process holds it meanwhile. Threads of one process must take care of themselves."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def times(self) -> tuple[float | None, float | None]:
        """When it was asked for last, and when what is kept was fetched; ``None`` for never."""
        asked, fetched = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0))
        return (None if asked == _NEVER else asked, None if fetched == _NEVER else fetched)

    def ask(self, now: float) -> None:
        """Somebody asks for it from now on."""
        os.pwrite(self._file, struct.pack("d", now), 0)

    def keep(self, value: object, now: float) -> None:
        """Raises ``OSError`` where the disk is full; then, as after a kill, nothing is kept."""
        raw = write_json(value)
        os.pwrite(self._file, _HEAD.pack(now, _NEVER), 0)
        os.ftruncate(self._file, _HEAD.size)
        os.pwrite(self._file, raw, _HEAD.size)
        os.pwrite(self._file, _HEAD.pack(now, now), 0)

    def value(self) -> object:
        """What was fetched last."""
        size = os.fstat(self._file).st_size - _HEAD.size
        try:
            return read_json(os.pread(self._file, size, _HEAD.size))
        except UnreadableBody:  # not as it was written
            return None
