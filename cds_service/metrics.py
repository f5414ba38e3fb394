"""Counters in Prometheus text format, right for several worker processes.

All counters live in one anonymous shared memory that is made before the workers are forked. Each worker
writes only its own row, so that no lock is shared between processes (a killed worker could hold one for
ever); a reader adds the rows. The labels come from closed lists: no text of a request becomes one.
"""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

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


def _keys() -> list[Key]:
    keys: list[Key] = [("requests", endpoint, str(status)) for endpoint in ENDPOINTS for status in STATUSES]
    keys += [("microseconds", endpoint) for endpoint in ENDPOINTS]
    keys += [("cards", service) for service in SERVICES]
    keys += [("unknown-codes", kind, system) for kind in RESOURCE_TYPES for system in SYSTEM_NAMES]
    keys += [("indicators", indicator) for indicator in INDICATORS]
    keys += [("missing", reason) for reason in REASONS]
    keys += [("feedback", service, outcome) for service in SERVICES for outcome in OUTCOMES]
    return keys


class Metrics:
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
        """The exposition in Prometheus text format 0.0.4; counters at zero are left out of the big table."""
        total = {key: self._total(column) for key, column in self._columns.items()}
        lines = [
            "# HELP jaki_cds_requests_total Answers by endpoint and status.",
            "# TYPE jaki_cds_requests_total counter",
        ]
        lines += [
            f'jaki_cds_requests_total{{service="{key[1]}",status="{key[2]}"}} {count}'
            for key, count in total.items()
            if key[0] == "requests" and count
        ]
        lines += [
            "# HELP jaki_cds_request_seconds Time to answer by endpoint.",
            "# TYPE jaki_cds_request_seconds summary",
        ]
        for endpoint in ENDPOINTS:
            count = sum(total[("requests", endpoint, str(status))] for status in STATUSES)
            if count:
                seconds = total[("microseconds", endpoint)] / 1_000_000
                lines.append(f'jaki_cds_request_seconds_sum{{service="{endpoint}"}} {seconds}')
                lines.append(f'jaki_cds_request_seconds_count{{service="{endpoint}"}} {count}')
        lines += ["# HELP jaki_cds_cards_total Cards sent.", "# TYPE jaki_cds_cards_total counter"]
        lines += [f'jaki_cds_cards_total{{service="{s}"}} {total[("cards", s)]}' for s in SERVICES]
        lines += [
            "# HELP jaki_cds_card_indicators_total Cards sent by indicator.",
            "# TYPE jaki_cds_card_indicators_total counter",
            *(
                f'jaki_cds_card_indicators_total{{indicator="{i}"}} {total[("indicators", i)]}'
                for i in INDICATORS
            ),
            "# HELP jaki_cds_not_assessed_total Findings that could not be assessed, by reason.",
            "# TYPE jaki_cds_not_assessed_total counter",
            *(f'jaki_cds_not_assessed_total{{reason="{r}"}} {total[("missing", r)]}' for r in REASONS),
        ]
        lines += [
            "# HELP jaki_cds_feedback_total Feedback items received.",
            "# TYPE jaki_cds_feedback_total counter",
        ]
        lines += [
            f'jaki_cds_feedback_total{{service="{s}",outcome="{o}"}} {total[("feedback", s, o)]}'
            for s in SERVICES
            for o in OUTCOMES
        ]
        lines += [
            "# HELP jaki_cds_unknown_codes_total Resources received whose codes are in no table of this service.",
            "# TYPE jaki_cds_unknown_codes_total counter",
        ]
        lines += [
            f'jaki_cds_unknown_codes_total{{resource="{key[1]}",system="{key[2]}"}} {count}'
            for key, count in total.items()
            if key[0] == "unknown-codes" and count
        ]
        return "\n".join(lines) + "\n"

    def _offset(self, row: int, column: int) -> int:
        return (row * len(self._columns) + column) * _CELL.size

    def _add(self, key: Key, amount: int) -> None:
        offset = self._offset(self._row, self._columns[key])
        with self._lock:
            (count,) = _CELL.unpack_from(self._cells, offset)
            _CELL.pack_into(self._cells, offset, count + amount)

    def _total(self, column: int) -> int:
        return sum(int(_CELL.unpack_from(self._cells, self._offset(row, column))[0]) for row in range(ROWS))
