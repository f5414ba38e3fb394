"""The three files of a sample case (contract section 5), made of a request and its answer."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from cds_service.compare import EXTENSION, as_stored, findings_of
from cds_service.json_reader import write_json

Json = dict[str, Any]
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,60}")
"""Of a case, which is the name of its folder."""
TOLD = ("alert", "dose", "order")
"""Kinds of findings that ``shows`` names; notes and plans come with nearly every order."""


def sample_files(request: Json, answer: Json, title: str | None) -> dict[str, bytes]:
    """Name -> content. The request must say its date (``asOf``), so that the answer stays the same."""
    quoted = {
        "title": title or "To be written",
        "intent": "To be written: what this case shows.",
        "hook": request["hook"],
        "as_of": request["extension"][EXTENSION]["asOf"],
    }
    lines = [f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in quoted.items()]
    shown = ", ".join(sorted(findings_of(answer, TOLD)))
    return {
        "request.json": msgspec.json.format(write_json(request), indent=2) + b"\n",
        "response.json": as_stored(answer),
        "case.yaml": "\n".join([*lines, f"shows: [{shown}]", ""]).encode(),
    }
