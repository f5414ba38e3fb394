"""What is made once at the start and shared by every request; nothing in it changes afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cds_service.settings import Settings


def utc_today() -> date:
    """The server's date in UTC: the evaluation date unless demo mode sets another (contract section 3)."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings, knowledge and clock of the running service."""

    settings: Settings
    today: Callable[[], date] = utc_today


def make_runtime(settings: Settings) -> Runtime:
    """Loads everything that a request needs, so that a fault shows at the start and not at a call."""
    return Runtime(settings=settings)
