"""The guideline document behind the tables (``sources.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

from guideline.yaml_text import read_yaml

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Source:
    """One edition of the guideline. ``sections`` are its real section numbers; a row must cite one."""

    id: str
    title: str
    short: str
    publisher: str
    accepted: date
    posted: date
    review_by: date
    url: str
    knowledge_version: str
    sections: Mapping[str, str]


@cache
def the_source() -> Source:
    entry = read_yaml(HERE / "sources.yaml")
    return Source(
        id=entry["id"],
        title=entry["title"],
        short=entry["short"],
        publisher=entry["publisher"],
        accepted=date.fromisoformat(entry["accepted"]),
        posted=date.fromisoformat(entry["posted"]),
        review_by=date.fromisoformat(entry["review_by"]),
        url=entry["url"],
        knowledge_version=entry["knowledge_version"],
        sections=entry["sections"],
    )


@cache
def egfr_constant() -> Decimal:
    """The constant of the printed eGFR formula (section 6.2b iii)."""
    return Decimal(read_yaml(HERE / "formulas.yaml")["egfr"]["constant"])


@cache
def solution_mg_per_ml() -> Decimal:
    """The strength of the oral solution in which section 5.3 states its volumes."""
    return Decimal(read_yaml(HERE / "formulas.yaml")["solution"]["mg_per_ml"])


@cache
def tablet_mg() -> Decimal:
    """The strength of the tofacitinib tablets that section 5.3 names, in mg."""
    return Decimal(read_yaml(HERE / "formulas.yaml")["tablet"]["mg"])
