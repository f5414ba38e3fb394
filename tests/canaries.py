"""Words that stand for what must never be written down, and a watch over the log lines of a whole test run (LOG-1)."""

from __future__ import annotations

import logging

from cds_service.logs import JsonLines

CANARIES = {
    "token": "canaryToken5f1",
    "name": "Canaryfirst",
    "family": "Canarylast",
    "nhs": "9434765919",
    "birthDate": "2016-04-17",
    "address": "13 Canary Wharf Lane",
    "text": "canary free text of a clinician",
    "mrn": "MRN-CANARY-77",
    "patient": "canary-child-1",
    "user": "canary-doctor-1",
    "server": "canary.example.org",
    "comment": "canary comment of feedback",
}
NAME = "Avery"
"""The child of most tests."""


class Watch(logging.Handler):
    """Keeps each log line, as the service writes it, in which one of the words stands."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if any(word in line for word in (*CANARIES.values(), NAME)):
            self.found.append(line)
