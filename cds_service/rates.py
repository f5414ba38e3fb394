"""How many calls a client may make in a second (429 beyond; no limit in demo mode).

Counted over all workers of a machine, by the client that the token names. The engine is the one of Flask-Limiter
(``limits``) with a store of its own: shared memory, since its stores are one process's or need a server.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterable

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from cds_service.errors import TooManyRequests
from cds_service.worker_lock import WorkerLock

RETRY_SECONDS = 1
NOBODY = ""
_CELL_BYTES = 8


class Rates:
    """The calls of the last second, by client. To be made before the workers fork.

    ``clock``: seconds that only ever grow, the same in all processes. Who is none of ``clients`` (nobody, where tokens
    are asked for) shares one count with all others such.
    """

    def __init__(
        self, per_second: int, clients: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        names = dict.fromkeys((NOBODY, *clients))
        self._window = MovingWindowRateLimiter(
            _SharedTimes(map(self._item.key_for, names), per_second, clock)
        )

    def check(self, client: str) -> None:
        """Counts one call of ``client``.

        Raises:
            TooManyRequests: it has made as many within the last second as it may.
        """
        if not self._window.hit(self._item, client):
            raise TooManyRequests(headers={"Retry-After": str(RETRY_SECONDS)})


class _SharedTimes(MemoryStorage):
    """For each key the times of as many hits as are allowed: a ring, whose next place holds the oldest of them.

    (The library's own store besides starts a thread at nearly every hit, to forget.)
    """

    def __init__(self, keys: Iterable[str], most: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._rings = {key: number * (most + 1) for number, key in enumerate(keys)}
        self._cells = memoryview(mmap.mmap(-1, len(self._rings) * (most + 1) * _CELL_BYTES)).cast("d")
        self._shared = WorkerLock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether fewer than ``limit`` hits lie within the last ``expiry`` seconds; then this is one more.

        Always one: ``amount`` is the library's.
        """
        ring = self._rings.get(key, 0)
        with self._shared:
            now = self._clock()
            place = int(self._cells[ring])
            oldest = self._cells[ring + 1 + place]
            if oldest and now - oldest < expiry:
                return False
            self._cells[ring + 1 + place] = now
            self._cells[ring] = (place + 1) % limit
        return True
