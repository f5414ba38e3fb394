"""The vocabulary of facts (``facts.yaml``): what a table may name, its kind, unit and public name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from guideline.yaml_text import YamlFault, read_yaml

VOCABULARY = Path(__file__).with_name("facts.yaml")


@dataclass(frozen=True, slots=True)
class FactKind:
    """One entry of the vocabulary.

    ``read_from`` names the lists of the record that it comes from; ``concepts`` the code lists behind it
    (of a series' results, or those that make a yes/no fact "yes"), ``perhaps`` those that leave it open; ``statuses``
    says which entries of a list count (current, ever, ever-confirmed, completed); ``uses`` the facts that a derived
    one is made from; ``named`` is the name that evidence and missing carry in public. ``optional`` results nobody has
    to have: where there is none, no finding asks for it, and a note says that it was not there to be looked at.
    """

    name: str
    kind: str
    title: str
    unit: str | None
    options: tuple[str, ...]
    read_from: tuple[str, ...]
    concepts: tuple[str, ...]
    perhaps: tuple[str, ...]
    statuses: str
    uses: tuple[str, ...]
    named: str
    optional: bool


@cache
def vocabulary() -> Mapping[str, FactKind]:
    """Every fact by name; raises ``YamlFault`` for an entry that is not understood."""
    entries = read_yaml(VOCABULARY)
    known = {
        "kind",
        "title",
        "unit",
        "options",
        "from",
        "concepts",
        "statuses",
        "uses",
        "named",
        "optional",
        "perhaps",
    }
    found: dict[str, FactKind] = {}
    for name, entry in entries.items():
        if unknown := set(entry) - known:
            raise YamlFault(f"facts.yaml, {name}: unknown {', '.join(sorted(unknown))}")
        if entry["kind"] not in ("number", "choice") or (entry["kind"] == "choice") != ("options" in entry):
            raise YamlFault(f"facts.yaml, {name}: kind is number (with a unit) or choice (with options)")
        if (entry["kind"] == "number") != ("unit" in entry):
            raise YamlFault(f"facts.yaml, {name}: a number needs its one unit, a choice has none")
        found[name] = FactKind(
            name=name,
            kind=entry["kind"],
            title=entry["title"],
            unit=entry.get("unit"),
            options=tuple(entry.get("options", ())),
            read_from=tuple(part.strip() for part in entry["from"].split(",")),
            concepts=tuple(entry.get("concepts", [name] if entry["from"] == "series" else ())),
            perhaps=tuple(entry.get("perhaps", ())),
            statuses=entry.get("statuses", "current"),
            uses=tuple(entry.get("uses", ())),
            named=entry.get("named", name),
            optional=entry.get("optional") == "true",
        )
    for kind in found.values():
        for used in kind.uses:
            if used not in found:
                raise YamlFault(f'facts.yaml, {kind.name}: uses "{used}", which is not in the list')
    return MappingProxyType(found)


def closure(names: frozenset[str]) -> frozenset[str]:
    """The named facts and every fact that they are made from."""
    kinds = vocabulary()
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(kinds[name].uses)
    return frozenset(found)
