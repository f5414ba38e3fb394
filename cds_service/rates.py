"""How many calls a client may make in a second (429 beyond; no limit in demo mode).

Counted in each worker process by itself, by the client that the token names, else by the address that the
call came from. The engine is the one of Flask-Limiter (``limits``), in memory: nothing is shared or kept.
"""

from __future__ import annotations

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from cds_service.errors import TooManyRequests

RETRY_SECONDS = 1


class Rates:
    """The calls of the last second, by client."""

    def __init__(self, per_second: int) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, client: str) -> None:
        """Counts one call of ``client``.

        Raises:
            TooManyRequests: it has made as many within the last second as it may.
        """
        if not self._window.hit(self._item, client):
            raise TooManyRequests(headers={"Retry-After": str(RETRY_SECONDS)})
