"""What the controls of the workbench offer: results, conditions and medicines with the codes the service reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fhir_mappings.concepts import Use, index
from fhir_mappings.prefetch import keys
from guideline.facts import vocabulary
from guideline.tables import DRUGS
from guideline.words import unit_words

_PREFERRED = ("http://loinc.org", "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm")


@dataclass(frozen=True, slots=True)
class ResultControl:
    """One analyte: the prefetch key that holds it, the unit of a new result, every code it is found by."""

    fact: str
    title: str
    key: str
    unit: str
    unit_words: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coded:
    """One entry of a list that can be added: its words and the code that it is written with."""

    label: str
    system: str
    code: str


@cache
def results() -> tuple[ResultControl, ...]:
    """Every analyte of the prefetch, in the order of its keys."""
    found = []
    for key in keys():
        for name in key.facts if key.record_list == "series" else ():
            kind = vocabulary()[name]
            rows = [row for concept in kind.concepts for row in index().concepts.get(concept, ())]
            usable = [row for row in rows if row.use is not Use.EXCLUDE]
            usable.sort(key=lambda row: _rank(row.system))
            if usable:
                codes = tuple(f"{row.system}|{row.code}" for row in usable)
                unit = kind.unit or "1"
                found.append(ResultControl(name, kind.title, key.name, unit, unit_words(unit), codes))
    return tuple(found)


@cache
def conditions() -> tuple[Coded, ...]:
    return _coded(
        {name for kind in vocabulary().values() if "conditions" in kind.read_from for name in kind.concepts}
        | {"jia", "sle", "jdm", "savi", "praas", "aicardi-goutieres", "jia-uveitis"}
        | {concept for concept in index().concepts if concept.startswith("jia-")}
    )


@cache
def medicines() -> tuple[Coded, ...]:
    return _coded(
        {name for kind in vocabulary().values() if "medications" in kind.read_from for name in kind.concepts}
    )


@cache
def jak_inhibitors() -> tuple[Coded, ...]:
    """The three drugs of the guideline, for the drafted order."""
    return _coded(set(DRUGS))


def _coded(concepts: set[str]) -> tuple[Coded, ...]:
    """One code for each concept, the preferred system first; ordered by their words."""
    found: dict[str, Coded] = {}
    for concept in sorted(concepts):
        rows = [row for row in index().concepts.get(concept, ()) if row.use is Use.MATCH]
        if rows:
            first = min(rows, key=lambda row: (_rank(row.system), row.label != concept))
            found.setdefault(first.label, Coded(first.label, first.system, first.code))
    return tuple(sorted(found.values(), key=lambda each: each.label.lower()))


def _rank(system: str) -> int:
    return _PREFERRED.index(system) if system in _PREFERRED else len(_PREFERRED)
