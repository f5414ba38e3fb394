"""A diagnosis in words: the few that interrupt or bar the drug, where no code of a known system says what it is.

The whole text has to be the name, so that "no pneumonia", "pneumonia?" and "history of shingles" are none. What is
recognised so is said to be, and clears nothing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fhir_mappings.elements import has_known_system, texts

_SEMANTIC_TAG = re.compile(r" *\((?:disorder|finding)\)$")
_SPACE = re.compile(r"[\s-]+")
_LONGEST_NAME = 64
"""Characters; no name of the table is as long, so that longer texts are not looked at."""


@cache
def _names() -> Mapping[str, frozenset[str]]:
    """The concepts by name."""
    found: dict[str, frozenset[str]] = {}
    with Path(__file__).with_name("diagnoses.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            found[row["name"]] = found.get(row["name"], frozenset()) | {row["concept"]}
    return found


def diagnosis_in_words(code: object) -> frozenset[str]:
    """The concepts that the words of a CodeableConcept name, where no code of a system that we know stands beside."""
    if has_known_system(code):
        return frozenset()
    spoken = (text for text in texts(code) if len(text) < _LONGEST_NAME)
    named = (_names().get(_SEMANTIC_TAG.sub("", _SPACE.sub(" ", text.strip().lower()))) for text in spoken)
    return frozenset().union(*filter(None, named))
