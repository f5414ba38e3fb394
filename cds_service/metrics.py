"""Counters in Prometheus text format, right for several worker processes.

prometheus_client writes the exposition. Its own way of counting over processes needs a folder of files that
outlive a crash and must be swept; here all counters live in one anonymous shared memory that is made before
the workers are forked. Each worker writes only its own row, so that no lock is shared between processes (a
killed worker could hold one for ever); a reader adds the rows. The labels come from closed lists: no text of
a request becomes one.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from cards.text import wording
from cds_service.envelope import EXTENSION
from cds_service.services import SERVICES
from fhir_mappings.unknown_codes import RESOURCE_TYPES, SYSTEM_NAMES
from guideline.lint import register
from guideline.values import Reason

OTHER = "other"
ROWS = 64
STATUSES = (200, 204, 308, 400, 401, 403, 404, 405, 411, 412, 413, 415, 429, 500, 503)
ENDPOINTS = (
    "discovery",
    *SERVICES,
    *(f"{service}/feedback" for service in SERVICES),
    "healthz",
    "readyz",
    "metrics",
    "guideline",
    "guideline-style",
    "openapi",
    OTHER,
)
OUTCOMES = ("accepted", "overridden")
REASONS = tuple(reason.value for reason in Reason)
INDICATORS = ("info", "warning", "critical")

SHOWN, WITHHELD, ACCEPTED, OVERRIDDEN = "shown", "withheld", "accepted", "overridden"
NO_REASON, OTHER_REASON = "none", "other"
OVERRIDE_REASONS = (*(reason["code"] for reason in wording()["override_reasons"]), OTHER_REASON, NO_REASON)
EVENTS = (
    (SHOWN, ""),
    (WITHHELD, ""),
    (ACCEPTED, ""),
    *((OVERRIDDEN, reason) for reason in OVERRIDE_REASONS),
)
"""What becomes of a card, and the reason of an override."""

_CELL_BYTES = 8
_USED, _ORPHANS, _OPEN = ("used",), ("orphans",), "breaker-open"

Key = tuple[str, ...]

_PLAIN = (
    ("cards", "cards", "Cards sent.", ["service"]),
    ("indicators", "card_indicators", "Cards sent by indicator.", ["indicator"]),
    ("missing", "not_assessed", "Findings that could not be assessed, by reason.", ["reason"]),
    ("feedback", "feedback", "Feedback items received.", ["service", "outcome"]),
    (
        "key-failures",
        "key_set_failures",
        "Times that a client's address of keys gave no set that can be used; the keys fetched last stay good.",
        ["client"],
    ),
    (
        "breaker-opened",
        "fetch_breaker_opened",
        "Times that a worker began to leave a client's FHIR server alone, since it failed repeatedly.",
        ["client"],
    ),
    (
        "unknown-codes",
        "unknown_codes",
        "Resources received whose codes are in no table of this service.",
        ["resource", "system"],
    ),
)


def _keys() -> list[Key]:
    keys: list[Key] = [_USED, _ORPHANS]
    keys += [("requests", endpoint, str(status)) for endpoint in ENDPOINTS for status in STATUSES]
    keys += [("microseconds", endpoint) for endpoint in ENDPOINTS]
    keys += [("cards", service) for service in SERVICES]
    keys += [("unknown-codes", kind, system) for kind in RESOURCE_TYPES for system in SYSTEM_NAMES]
    keys += [("indicators", indicator) for indicator in INDICATORS]
    keys += [("missing", reason) for reason in REASONS]
    keys += [("feedback", service, outcome) for service in SERVICES for outcome in OUTCOMES]
    return keys


class Metrics(Collector):
    """The counters of one service, shared by the workers forked after it was made.

    ``clients``: the names of those who may call. ``waiting``: tells how many entries wait in the spool.
    """

    def __init__(self, clients: Iterable[str] = (), waiting: Callable[[], int] = lambda: 0) -> None:
        self._waiting = waiting
        # Without a client of a name: demo mode, or a report that was spooled for one that is no longer configured.
        self._clients = {name: number for number, name in enumerate(dict.fromkeys(("", *clients)))}
        self._statements = {name: number for number, name in enumerate(register())}
        of_clients = [
            (kind, client) for kind in ("key-failures", "breaker-opened", _OPEN) for client in self._clients
        ]
        self._columns = {key: number for number, key in enumerate([*_keys(), *of_clients])}
        # Behind them a cell for each client, statement and event, found by arithmetic: they are tens of thousands.
        events = len(self._clients) * len(self._statements) * len(EVENTS)
        self._width = len(self._columns) + events
        self._cells = memoryview(mmap.mmap(-1, ROWS * self._width * _CELL_BYTES)).cast("Q")
        self.use_row(0)

    def use_row(self, worker: int) -> None:
        """Called in a new worker process with its number, before it answers anything."""
        self._row = worker % ROWS
        self._lock = threading.Lock()
        self._cells[self._row * self._width + self._columns[_USED]] = 1

    def leave_row(self, worker: int) -> None:
        """Called when a worker has ended, killed or not: what it counted stays, it leaves nothing alone any more."""
        row = worker % ROWS * self._width
        for client in self._clients:
            self._cells[row + self._columns[_OPEN, client]] = 0

    def tell_breakers(self, client: str, resting: int) -> None:
        """How many of a client's FHIR servers this worker now leaves alone or only probes."""
        with self._lock:
            row = self._row * self._width
            cell = row + self._columns[_OPEN, client]
            opened = resting - self._cells[cell]
            self._cells[cell] = resting
            self._cells[row + self._columns["breaker-opened", client]] += max(0, opened)

    def count_key_failure(self, client: str) -> None:
        self._add(("key-failures", client), 1)

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        self._add(("requests", endpoint, str(status)), 1)
        self._add(("microseconds", endpoint), round(seconds * 1_000_000))

    def count_cards(self, service: str, cards: Sequence[Mapping[str, Any]], client: str = "") -> None:
        """Also by indicator and by statement, and what could not be assessed by the reason why (of several, each)."""
        self._add(("cards", service), len(cards))
        for card in cards:
            ours = card["extension"][EXTENSION]
            self._add(("indicators", card["indicator"]), 1)
            for finding in ours["findings"]:
                for reason in {missing["reason"] for missing in finding["missing"]}:
                    self._add(("missing", reason), 1)
            self._count_event(client, [finding["id"] for finding in ours["findings"]], SHOWN)
            for withheld in ours.get("withheld", ()):
                self._count_event(client, withheld["findings"], WITHHELD)

    def count_report(
        self, client: str, statements: Sequence[str] | None, outcome: str, reason: str = ""
    ) -> None:
        """A report on a card with these statements; ``None``: on a card that this client was never sent."""
        if statements is None:
            self._add(_ORPHANS, 1)
        elif outcome == ACCEPTED:
            self._count_event(client, statements, ACCEPTED)
        else:
            known = reason if reason in OVERRIDE_REASONS else OTHER_REASON
            self._count_event(client, statements, OVERRIDDEN, known if reason else NO_REASON)

    def _count_event(self, client: str, statements: Iterable[str], event: str, reason: str = "") -> None:
        """One card, which counts once for each of its statements."""
        place = self._clients.get(client, 0) * len(self._statements)
        row = self._row * self._width + len(self._columns)
        with self._lock:
            for statement in set(statements) & self._statements.keys():
                cell = (place + self._statements[statement]) * len(EVENTS) + EVENTS.index((event, reason))
                self._cells[row + cell] += 1

    def count_feedback(self, service: str, outcome: str) -> None:
        self._add(("feedback", service, outcome), 1)

    def count_unknown_codes(self, counted: Mapping[tuple[str, str], int]) -> None:
        """Adds the resources whose codes nobody knows, by resource type and code system."""
        for (kind, system), number in counted.items():
            self._add(("unknown-codes", kind, system), number)

    def text(self) -> str:
        """The exposition in Prometheus text format 0.0.4; endpoints that were never asked for are left out."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry).decode("utf-8")

    def collect(self) -> Iterator[Metric]:
        """The counters of all workers, as prometheus_client asks for them."""
        totals = self._totals()
        total = {key: totals[column] for key, column in self._columns.items()}
        requests = CounterMetricFamily(
            "jaki_cds_requests", "Answers by endpoint and status.", labels=["service", "status"]
        )
        seconds = SummaryMetricFamily(
            "jaki_cds_request_seconds", "Time to answer by endpoint.", labels=["service"]
        )
        for endpoint in ENDPOINTS:
            counts = {status: total[("requests", endpoint, str(status))] for status in STATUSES}
            for status, count in counts.items():
                if count:
                    requests.add_metric([endpoint, str(status)], count)
            if any(counts.values()):
                spent = total[("microseconds", endpoint)] / 1_000_000
                seconds.add_metric([endpoint], sum(counts.values()), spent)
        yield requests
        yield seconds
        for kind, name, meaning, labels in _PLAIN:
            family = CounterMetricFamily(f"jaki_cds_{name}", meaning, labels=labels)
            for key, count in total.items():
                if key[0] == kind and (count or kind != "unknown-codes"):
                    family.add_metric(key[1:], count)
            yield family

        yield CounterMetricFamily(
            "jaki_cds_feedback_unknown_cards",
            "Reports on cards that their sender was never sent, as far as is known here.",
            value=total[_ORPHANS],
        )
        yield self._events(totals)
        resting = GaugeMetricFamily(
            "jaki_cds_fetch_breakers_open",
            "FHIR servers of a client that failed repeatedly and are left alone or only probed, over all workers.",
            labels=["client"],
        )
        for client in self._clients:
            resting.add_metric([client], total[_OPEN, client])
        yield resting
        yield GaugeMetricFamily(
            "jaki_cds_spool_entries",
            "Entries that wait in the spool since the database did not take them.",
            value=self._waiting(),
        )

    def _events(self, totals: Sequence[int]) -> Metric:
        """Only what has happened: most statements are never shown to most clients."""
        family = CounterMetricFamily(
            "jaki_cds_statement_cards",
            "Cards by statement: shown, withheld, accepted, overridden with which reason (reports, not cards).",
            labels=["client", "statement", "event", "reason"],
        )
        counts = iter(totals[len(self._columns) :])
        for client in self._clients:
            for statement in self._statements:
                for (event, reason), count in zip(EVENTS, counts, strict=False):
                    if count:
                        family.add_metric([client, statement, event, reason], count)
        return family

    def _add(self, key: Key, amount: int) -> None:
        with self._lock:
            self._cells[self._row * self._width + self._columns[key]] += amount

    def _totals(self) -> list[int]:
        """The sums over the rows that a worker has used."""
        rows = (self._cells[start : start + self._width] for start in range(0, len(self._cells), self._width))
        used = [row.tolist() for row in rows if row[self._columns[_USED]]]
        return [sum(column) for column in zip(*used, strict=True)]
