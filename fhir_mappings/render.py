"""``docs/facts.md``: each fact that a table may name, where it is read, how old it may be, and how absence reads.

``python -m fhir_mappings.render FILE`` writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fhir_mappings.concepts import Row, Use, index
from fhir_mappings.prefetch import keys
from guideline.facts import FactKind, vocabulary
from guideline.policy import Freshness, load_policy
from guideline.values import Reason
from guideline.words import unit_words

_LISTS = ("conditions", "procedures", "medications", "allergies", "immunizations", "operations", "drafts")


@dataclass(frozen=True, slots=True)
class _Chapter:
    """Facts that are read from the same place, and how their absence reads."""

    title: str
    sources: tuple[str, ...]
    absent: str


_CHAPTERS = (
    _Chapter(
        "The child",
        ("patient",),
        "A birth date that is lacking or partial: what hangs on it is not assessed.",
    ),
    _Chapter(
        "Measurements and results",
        ("series",),
        "The newest usable result counts; an implausible newest one is never replaced by an older one in silence. "
        "No result means cannot assess, with the reason why there is none. It is never taken for a normal result.",
    ),
    _Chapter(
        "Conditions, procedures, medicines, allergies, vaccinations, drafts",
        _LISTS,
        "A search that was answered and holds none means no. A list that was not supplied, that failed, broke off "
        "or held something unreadable can say yes, never no.",
    ),
    _Chapter(
        "Tests that answer in words",
        ("answers",),
        "The newest final result counts, as positive, negative or unclear; what cannot be understood is unclear, never "
        "negative. No result means that none is on record, if the search was answered.",
    ),
    _Chapter(
        "The drafted order",
        ("order",),
        "What the order does not say is not assessed. The indication is then looked for among the active conditions. "
        "A draft without a dose is told apart from one whose dose cannot be read.",
    ),
    _Chapter(
        "Made from other facts",
        ("derived",),
        "Missing where a fact that it is made from is, with that reason.",
    ),
    _Chapter("After the dose row is known", ("dose", "last"), "No dose row: nothing to compare."),
    _Chapter("The guideline and the site", ("site",), "Always known."),
)
_SYSTEMS: Mapping[str, str] = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED CT",
    "https://dmd.nhs.uk": "dm+d",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "http://hl7.org/fhir/sid/icd-10": "ICD-10",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD-10-CM",
    "http://www.whocc.no/atc": "ATC",
    "http://hl7.org/fhir/sid/cvx": "CVX",
    "http://read.info/readv2": "Read v2",
    "http://www.orpha.net": "Orphanet",
}


def facts_page() -> str:
    """The text of ``docs/facts.md``."""
    lines = [
        "# The facts",
        "",
        "Generated from `guideline/facts.yaml`, `guideline/policy.yaml` and `fhir_mappings/codes` by `make page`;",
        "change them there.",
        "",
        "A fact is what a table may name. It is known, or doubtful (it may raise a warning, never clear one), or",
        "missing with a reason: " + ", ".join(f"`{reason}`" for reason in Reason) + ".",
        "The ages are the service's defaults; a site may set its own (`docs/settings.md`).",
        "",
    ]
    for chapter in _CHAPTERS:
        lines += [f"## {chapter.title}", "", chapter.absent, ""]
        lines += [
            "| fact | what it is | unit or choices | read from | how old, days |",
            "|---|---|---|---|---|",
        ]
        lines += [_line(kind) for kind in vocabulary().values() if kind.read_from[0] in chapter.sources]
        lines += [""]
    return "\n".join([*lines, *_codes(), *_prefetch(), ""])


def _line(kind: FactKind) -> str:
    values = unit_words(kind.unit) if kind.unit else ", ".join(kind.options)
    return f"| `{kind.name}` | {kind.title} | {values} | {_read_from(kind)} | {_window(kind)} |"


_STATUSES: Mapping[str, str] = {
    "ever": " (also ended ones)",
    "ever-confirmed": " (also ended ones, confirmed ones only)",
    "completed": " (completed ones)",
}


def _read_from(kind: FactKind) -> str:
    found = "results" if kind.read_from == ("series",) else ", ".join(kind.read_from)
    if kind.statuses != "current":
        found += _STATUSES[kind.statuses]
    if kind.uses:
        found += ": " + ", ".join(f"`{used}`" for used in kind.uses)
    if kind.concepts:
        found += "; codes: " + ", ".join(f"[{c}](#{c})" for c in kind.concepts)
    if kind.perhaps:
        found += "; left open by: " + ", ".join(f"[{c}](#{c})" for c in kind.perhaps)
    return found


def _window(kind: FactKind) -> str:
    fresh = load_policy().freshness
    young = f"under {fresh.young_child_below_years} years"
    if kind.name == "weight":
        return (
            f"{fresh.weight}; {young} {fresh.weight_young_child}; the dose is provisional beyond that, and goes beyond "
            f"{fresh.weight_provisional_until}"
        )
    if kind.name == "height":
        return f"{fresh.height}; {young} {fresh.height_young_child}; older ones for caution only"
    if kind.read_from == ("series",):
        return _bloods(fresh)
    if kind.name == "baselineBloodsNormal":
        return f"{fresh.normal_bloods}"
    return "no limit" if kind.concepts else "-"


def _bloods(fresh: Freshness) -> str:
    return f"at a start {fresh.bloods_at_start}, on treatment {fresh.bloods_on_treatment}; older ones for caution only"


# --- codes and keys -------------------------------------------------------------------------------


def _codes() -> Iterator[str]:
    used = dict.fromkeys(concept for kind in vocabulary().values() for concept in kind.concepts)
    concepts = index().concepts
    yield "## Codes by concept"
    yield ""
    yield "A star stands for every longer code too. Codes named under *never* are look-alikes that must not count."
    yield "Where each code was seen, and which are unverified, stands in `fhir_mappings/codes/*.csv`."
    yield ""
    for concept in used:
        yield f"### {concept}"
        yield ""
        yield _listed([row for row in concepts.get(concept, ()) if row.use is not Use.EXCLUDE])
        if never := [row for row in concepts.get(concept, ()) if row.use is Use.EXCLUDE]:
            yield f"Never: {_listed(never)}"
        yield ""


def _listed(rows: list[Row]) -> str:
    by_system: dict[str, list[str]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row.code + ("*" if row.use is Use.PREFIX else ""))
    return "; ".join(
        f"{_SYSTEMS.get(s, s)} {', '.join(f'`{c}`' for c in found)}" for s, found in by_system.items()
    )


def _prefetch() -> Iterator[str]:
    yield "## Prefetch keys"
    yield ""
    yield "The templates themselves are in the discovery document, `GET /cds-services`."
    yield ""
    yield "| key | resources | facts |"
    yield "|---|---|---|"
    for key in keys():
        facts = ", ".join(f"`{fact}`" for fact in key.facts) or "all of them"
        yield f"| `{key.name}` | {key.resource_type} | {facts} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(facts_page(), encoding="utf-8")
