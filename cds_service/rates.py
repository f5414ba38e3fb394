"""How many calls a client may make in a second (429 beyond; no limit in demo mode).

Counted in each worker process by itself, by the client that the token names, else by the address that the
call came from. The engine is the one of Flask-Limiter (``limits``), in memory: nothing is shared or kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from cds_service.errors import TooManyRequests

RETRY_SECONDS = 1


class Rates:
    """The calls of the last second, by client. ``clock``: seconds that only ever grow."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        self._window = MovingWindowRateLimiter(_LastCalls(clock))

    def check(self, client: str) -> None:
        """Counts one call of ``client``.

        Raises:
            TooManyRequests: it has made as many within the last second as it may.
        """
        if not self._window.hit(self._item, client):
            raise TooManyRequests(headers={"Retry-After": str(RETRY_SECONDS)})


class _LastCalls(MemoryStorage):
    """The times of as many calls as are allowed. The library's own starts a thread at nearly every call, to forget."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._taking = Lock()
        self._calls: dict[str, deque[float]] = {}

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether a call is allowed, which then counts. Always one: ``amount`` is the library's."""
        now = self._clock()
        with self._taking:
            calls = self._calls.setdefault(key, deque(maxlen=limit))
            if len(calls) == limit and now - calls[0] < expiry:
                return False
            calls.append(now)  # the oldest goes
            return True
