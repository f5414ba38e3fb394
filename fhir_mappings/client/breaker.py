"""The circuit breaker: a server that is unwell is left alone for a while, so that no call waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class Breaker:
    """Leaves a sick server alone: opens after ``failures`` in ``window_s``, probes after ``rest_s``.

    One hook call is one trial, however many keys it fetches: the keys of a call share their fate, and
    one short outage must not silence the next call. `admit` gives a ticket or ``None`` (open); each
    ticket goes back once through `record`. A trial that began before the last change of state has no say.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        failures: int = 5,
        window_s: float = 30.0,
        rest_s: float = 15.0,
    ) -> None:
        self._clock, self._failures, self._window_s, self._rest_s = clock, failures, window_s, rest_s
        self._lock = threading.Lock()
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._opened_at: float | None = None
        self._probing = False
        self._era = 0

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone, or only probed."""
        return self._opened_at is not None

    def admit(self) -> int | None:
        """A ticket for one trial, or ``None`` while the server rests or another trial probes it."""
        with self._lock:
            if self._opened_at is None:
                return self._era
            if self._probing or self._clock() - self._opened_at < self._rest_s:
                return None
            self._probing = True
            self._era += 1
            return self._era

    def record(self, ticket: int, healthy: bool | None) -> None:
        """Give a ticket back. ``None``: the trial says nothing about the server's health."""
        with self._lock:
            if ticket != self._era:
                return
            now = self._clock()
            if self._opened_at is not None:
                self._probing = False
                if healthy is not None:
                    self._opened_at = None if healthy else now
                    self._failed_at.clear()
                    self._era += 1
            elif healthy is False:
                self._failed_at.append(now)
                if len(self._failed_at) == self._failures and now - self._failed_at[0] <= self._window_s:
                    self._opened_at = now
                    self._era += 1
