"""Counters in Prometheus text format, right for several worker processes.

prometheus_client writes the exposition. Its own way of counting over processes needs a folder of files that
outlive a crash and must be swept; here all counters live in one anonymous shared memory that is made before
the workers are forked. Each worker writes only its own row, so that no lock is shared between processes (a
killed worker could hold one for ever); a reader adds the rows. The labels come from closed lists: no text of
a request becomes one.
"""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from cds_service.envelope import EXTENSION
from cds_service.services import SERVICES
from fhir_mappings.unknown_codes import RESOURCE_TYPES, SYSTEM_NAMES
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

_CELL = struct.Struct("=Q")

Key = tuple[str, ...]

_PLAIN = (
    ("cards", "cards", "Cards sent.", ["service"]),
    ("indicators", "card_indicators", "Cards sent by indicator.", ["indicator"]),
    ("missing", "not_assessed", "Findings that could not be assessed, by reason.", ["reason"]),
    ("feedback", "feedback", "Feedback items received.", ["service", "outcome"]),
    (
        "unknown-codes",
        "unknown_codes",
        "Resources received whose codes are in no table of this service.",
        ["resource", "system"],
    ),
)


def _keys() -> list[Key]:
    keys: list[Key] = [("requests", endpoint, str(status)) for endpoint in ENDPOINTS for status in STATUSES]
    keys += [("microseconds", endpoint) for endpoint in ENDPOINTS]
    keys += [("cards", service) for service in SERVICES]
    keys += [("unknown-codes", kind, system) for kind in RESOURCE_TYPES for system in SYSTEM_NAMES]
    keys += [("indicators", indicator) for indicator in INDICATORS]
    keys += [("missing", reason) for reason in REASONS]
    keys += [("feedback", service, outcome) for service in SERVICES for outcome in OUTCOMES]
    return keys


class Metrics(Collector):
    """The counters of one service, shared by the workers forked after it was made."""

    def __init__(self) -> None:
        self._columns = {key: number for number, key in enumerate(_keys())}
        self._cells = mmap.mmap(-1, ROWS * len(self._columns) * _CELL.size)
        self._row = 0
        self._lock = threading.Lock()

    def use_row(self, worker: int) -> None:
        """Called in a new worker process with its number, before it answers anything."""
        self._row = worker % ROWS
        self._lock = threading.Lock()

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        self._add(("requests", endpoint, str(status)), 1)
        self._add(("microseconds", endpoint), round(seconds * 1_000_000))

    def count_cards(self, service: str, cards: Sequence[Mapping[str, Any]]) -> None:
        """Also by indicator, and what could not be assessed by the reason why (a finding may have several)."""
        self._add(("cards", service), len(cards))
        for card in cards:
            self._add(("indicators", card["indicator"]), 1)
            for finding in card["extension"][EXTENSION]["findings"]:
                for reason in {missing["reason"] for missing in finding["missing"]}:
                    self._add(("missing", reason), 1)

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
        total = {key: self._total(column) for key, column in self._columns.items()}
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

    def _offset(self, row: int, column: int) -> int:
        return (row * len(self._columns) + column) * _CELL.size

    def _add(self, key: Key, amount: int) -> None:
        offset = self._offset(self._row, self._columns[key])
        with self._lock:
            (count,) = _CELL.unpack_from(self._cells, offset)
            _CELL.pack_into(self._cells, offset, count + amount)

    def _total(self, column: int) -> int:
        return sum(int(_CELL.unpack_from(self._cells, self._offset(row, column))[0]) for row in range(ROWS))
