"""A site's own codes: FHIR ConceptMaps that say which code of ours a local one stands for.

The site file names them (``code_maps``, paths beside that file). A resource is read as if each mapped coding had
our code beside it, so nothing past this module knows local codes; what is sent back never holds an added coding.
Only mappings that are safe to rely on are accepted: the local code means the same, or is a kind of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fhir_mappings import systems
from fhir_mappings.concepts import concepts_of, exclusions_of, normalise
from guideline.yaml_text import YamlFault, line_of, read_yaml

_SAME = frozenset({"equal", "equivalent"})
_IS_A = frozenset({"wider", "subsumes", "source-is-narrower-than-target"})
"""R4 ``equivalence`` speaks of the target (wider: the target is the wider one); R5 ``relationship`` of the source."""
_NONE = frozenset({"unmatched", "disjoint", "not-related-to"})
_LARGEST_FILE = 32 * 1024 * 1024
_LONGEST_SYSTEM = 256
Coded = tuple[str, str]


class SiteCodeFault(YamlFault):
    """A code map that must not be used; the text names file and place, the fault and the cure."""


class _AddedCoding(dict[str, str]):
    """A coding that this module put beside a local one."""


class _WidenedCoding(list[Any]):
    """A list made of a lone coding and those added to it."""


@dataclass(frozen=True, slots=True)
class SiteCodes:
    """Local (system, code) -> our (system, code); empty where a site has no code of its own."""

    targets: Mapping[Coded, tuple[Coded, ...]] = field(default_factory=dict)

    def of(self, concept: str) -> tuple[Coded, ...]:
        """The local codes of a concept, for the searches of the prefetch templates."""
        return tuple(
            local
            for local, targets in self.targets.items()
            if any(concept in concepts_of(system, code) for system, code in targets)
        )

    def translated(self, value: Any) -> Any:
        """``value`` with our coding beside every local one. What holds no local code is given back as it is."""
        return self._translated(value) if self.targets else value

    def _translated(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            changed = {
                name: new
                for name, item in value.items()
                if (new := self._coding(item) if name == "coding" else self._translated(item)) is not item
            }
            return {**value, **changed} if changed else value
        if isinstance(value, list):
            items = [self._translated(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def _coding(self, coding: Any) -> Any:
        if isinstance(coding, Mapping):
            added = self._added([coding])
            return _WidenedCoding([coding, *added]) if added else coding
        if isinstance(coding, list):
            added = self._added(coding)
            return [*coding, *added] if added else coding
        return coding

    def _added(self, codings: list[Any]) -> list[_AddedCoding]:
        found: dict[Coded, _AddedCoding] = {}
        for coding in codings:
            if isinstance(coding, Mapping) and not isinstance(coding, _AddedCoding):
                system, code = coding.get("system"), coding.get("code")
                if isinstance(code, int) and not isinstance(code, bool):
                    code = str(code)
                if isinstance(system, str) and isinstance(code, str):
                    for target in self.targets.get(_key(system, code), ()):
                        found[target] = _AddedCoding(system=target[0], code=target[1])
        return list(found.values())


NO_SITE_CODES = SiteCodes()


def as_it_came(value: Any) -> Any:
    """``value`` without the codings that ``translated`` added."""
    if isinstance(value, _WidenedCoding):
        return value[0]
    if isinstance(value, Mapping):
        changed = {name: new for name, item in value.items() if (new := as_it_came(item)) is not item}
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [as_it_came(item) for item in value if not isinstance(item, _AddedCoding)]
        same = len(items) == len(value) and all(new is old for new, old in zip(items, value, strict=True))
        return value if same else items
    return value


def _key(system: str, code: str) -> Coded:
    known = systems.canonical(system[:_LONGEST_SYSTEM])
    if known is not None:
        return known, normalise(known, code)
    return system.strip().split("|", 1)[0].rstrip("/"), code.strip()


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a file: the keys that lead to it, and what people call it."""

    path: Path
    keys: tuple[str | int, ...] = ()
    words: str = ""

    def within(self, name: str, index: int, more: str = "") -> _Place:
        return _Place(self.path, (*self.keys, name, index), f"{self.words}, {name} {index + 1}{more}")

    def fault(self, text: str) -> SiteCodeFault:
        return SiteCodeFault(f"{self.path.name}{line_of(self.path, self.keys)}{self.words}: {text}")

    def __str__(self) -> str:
        return f"{self.path.name}{self.words}"


def load_site_codes(site: Path | None) -> SiteCodes:
    """The code maps that the site file names. Raises ``SiteCodeFault`` (or ``YamlFault``) at the first fault."""
    own = read_yaml(site) if site is not None else {}
    named = own.get("code_maps", []) if isinstance(own, dict) else []
    if site is None or not named:
        return NO_SITE_CODES
    if not isinstance(named, list) or not all(isinstance(name, str) and name for name in named):
        raise _Place(site, ("code_maps",)).fault(
            "code_maps is a list of file names; write one to a line, after a hyphen"
        )
    found: dict[Coded, tuple[Coded, ...]] = {}
    places: dict[Coded, _Place] = {}
    for number, name in enumerate(named):
        concept_map = _read(site.parent / name, _Place(site, ("code_maps", number), ", code_maps"))
        for place, local, targets in _mappings(concept_map, _Place(site.parent / name)):
            if local in places:
                raise place.fault(f"the code is mapped already at {places[local]}; delete one of the two")
            places[local] = place
            found[local] = targets
    return SiteCodes(MappingProxyType(found))


_Mapped = Iterator[tuple[_Place, Coded, tuple[Coded, ...]]]


def _mappings(concept_map: Mapping[str, Any], whole: _Place) -> _Mapped:
    groups = concept_map.get("group")
    if not isinstance(groups, list) or not groups:
        raise whole.fault("the ConceptMap has no group; write group, element and target")
    for g, group in enumerate(groups):
        place = whole.within("group", g)
        source = _system(group, "source", place)
        target = _system(group, "target", place)
        if systems.canonical(target) is None:
            raise place.fault(
                "the target system is none that this service knows; map to LOINC, SNOMED CT, RxNorm, ATC, "
                "ICD-10 or CVX"
            )
        for e, element in enumerate(_listed(group.get("element"), place, "element")):
            yield from _element(element, source, target, place.within("element", e))


def _element(element: Any, source: str, target: str, place: _Place) -> _Mapped:
    code = element.get("code") if isinstance(element, Mapping) else None
    if not isinstance(code, str) or not code.strip():
        raise place.fault("it has no code; write the local code as text")
    place = replace(place, words=f"{place.words} ({code})")
    local = _key(source, code)
    if concepts_of(*local) or exclusions_of(*local):
        raise place.fault(
            "this service already knows what the code means; delete the element, or report a wrong meaning as a "
            "fault"
        )
    found = []
    for t, entry in enumerate(_listed(element.get("target", []), place, "target")):
        where = place.within("target", t)
        if not isinstance(entry, Mapping):
            raise where.fault("it is no object; write code and equivalence")
        relation = entry.get("relationship", entry.get("equivalence"))
        if relation in _NONE:
            continue
        if relation not in _SAME | _IS_A:
            raise where.fault(
                "the relation must say that the local code means the same (equivalent) or is a kind of the target "
                "(R4 wider, R5 source-is-narrower-than-target); anything else could be wrong for a child"
            )
        wanted = entry.get("code")
        if not isinstance(wanted, str) or not concepts_of(target, wanted):
            raise where.fault(
                "the target code is none that this service uses; choose one of fhir_mappings/codes/*.csv"
            )
        found.append((target, wanted.strip()))
    if found:
        yield place, local, tuple(found)


def _read(path: Path, named_in: _Place) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SiteCodeFault(f"{path.name}: larger than 32 MiB; split it or leave out what is not needed")
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise named_in.fault(
            f"{path.name} cannot be read ({os.strerror(fault.errno or 0)}); correct the name, beside the site file"
        ) from None
    except (ValueError, RecursionError) as fault:
        if isinstance(fault, SiteCodeFault):
            raise
        line = f", line {fault.lineno}" if isinstance(fault, json.JSONDecodeError) else ""
        raise SiteCodeFault(f"{path.name}{line}: not readable as JSON; export the ConceptMap again") from None
    if not isinstance(loaded, dict) or loaded.get("resourceType") != "ConceptMap":
        raise _Place(path).fault("not a FHIR ConceptMap; name a file whose resourceType is ConceptMap")
    if loaded.get("status") == "retired":
        raise _Place(path, ("status",)).fault("the ConceptMap is retired; name the one in its place")
    return loaded


def _system(group: Any, name: str, place: _Place) -> str:
    system = group.get(name) if isinstance(group, Mapping) else None
    if not isinstance(system, str) or not system.strip():
        raise place.fault(f"it has no {name}; write the address of the code system")
    return system


def _listed(value: Any, place: _Place, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise place.fault(f"{name} is no list; write it as FHIR does, in brackets")
    return value
