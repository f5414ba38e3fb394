"""What may be spent on fetching, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class FetchState(StrEnum):
    """How the fetch of one key ended; the reader of prefetch turns it into a reason."""

    OK = "ok"
    """A resource, or a Bundle merged over its pages. An OperationOutcome that only warns or
    informs is handed on as it came, as if the EHR had put it into the prefetch."""
    NOT_FETCHABLE = "not-fetchable"
    """Nothing was said by a FHIR server: refused by policy, no connection, out of time, breaker open."""
    FAILED = "failed"
    """The server answered, with an error or with something that is not the FHIR JSON asked for."""
    NOT_FOUND = "not-found"
    """A read was answered with 404 or 410."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one key came to. ``body`` is set only for `FetchState.OK`.

    ``partial``: more pages (or resources) exist than ``body`` holds. ``why`` says in a few fixed words
    what went wrong or was cut; it never holds a URL, a token or anything a server sent.
    """

    state: FetchState
    body: dict[str, Any] | None = None
    partial: bool = False
    why: str | None = None


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Where one client may fetch from and what it may spend. Times in milliseconds.

    ``allowed_bases``: FHIR bases of the issuer; a base below one of them is allowed too.
    ``allow_loopback``: peers on this machine are reachable. ``allow_http`` with ``allow_loopback`` is demo
    mode: any ``http://127.0.0.1:*`` or ``http://localhost:*`` base is allowed as well.
    ``networks``: CIDRs of private networks on which a listed base may live.
    ``ca_file``: the only certificate authorities trusted, else those that come with ``requests``.
    """

    allowed_bases: tuple[str, ...] = ()
    allow_loopback: bool = False
    allow_http: bool = False
    networks: tuple[str, ...] = ()
    deadline_ms: int = 2000
    connect_ms: int = 250
    attempt_ms: int = 800
    max_bytes: int = 5 * 1024 * 1024
    max_pages: int = 5
    max_resources: int = 500
    ca_file: str | None = None
