"""A key set that one worker process fetched, for all of them."""

from __future__ import annotations

import os
import struct

from cds_service.json_reader import UnreadableBody, read_json, write_json
from cds_service.worker_lock import WorkerLock

_HEAD = struct.Struct("dd")
_NEVER = -1.0


class SharedSet:
    """When the set was asked for and what was fetched last. To be made before the workers fork; used under ``lock``.

    Times are seconds of the system's monotonic clock, which is the same in all processes.
    """

    def __init__(self) -> None:
        self.lock = WorkerLock()
        self._file = self.lock.file
        os.pwrite(self._file, _HEAD.pack(_NEVER, _NEVER), 0)

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
