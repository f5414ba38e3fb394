"""A hook request with a child's record made fit to be looked at elsewhere: what is known to be needed stays.

The list says what is kept, not what is taken out, so that an element that nobody thought of is left out. Kept are the
elements that this service reads: coded values, quantities, statuses, dates. All dates move by the same number of
days, so that ages and distances hold. Ids are made anew and references follow them; identifiers, names, addresses,
telecom, photos, narrative, notes and extensions go. Text stays only where every word of it is one of this project's
own code tables or of dosing, text that names a medicine keeps those words; local code systems become example ones.

This is a help for a person who checks the result, not a proof: rare diseases and odd courses are told by the values
themselves.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import fhir_mappings
from fhir_mappings.concepts import index
from fhir_mappings.elements import read_date, read_span
from fhir_mappings.prefetch import keys, relative_reference
from fhir_mappings.systems import canonical
from guideline.yaml_text import read_yaml

Json = dict[str, Any]
EXTENSION = "org.jaki-cds"
REMOVED = "(removed)"
_EXAMPLE = "http://example.org"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_HL7 = ("http://hl7.org/fhir/", "http://terminology.hl7.org/")

_LISTS: Mapping[str, list[str]] = read_yaml(Path(__file__).with_suffix(".yaml"))
TYPES, _DATES, _WORDS, _TEXTS = (frozenset(_LISTS[name]) for name in ("types", "dates", "words", "texts"))
_KEPT, _MEDICINES, _IDENTIFYING = (frozenset(_LISTS[name]) for name in ("kept", "medicines", "identifying"))
_READ = _DATES | _WORDS | _TEXTS | _KEPT | {"reference", "system"}
_WORD = re.compile(r"[A-Za-z][A-Za-z-]{0,39}")
_CODE = re.compile(r"[A-Za-z0-9./*^{}%\[\]_<>=+-]{1,40}")
_UNIT = re.compile(r"(?!.*\d{4})[A-Za-z0-9_%µμ°/.*^{}\[\]() ×²³⁹-]{1,24}")
_TIME = re.compile(r"\d\d:\d\d(?::\d\d)?")
_PARTS = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)?")
_DIGITS = re.compile(r"\d[\d\s./()+-]*")
_MOST_DIGITS = 4
_SHORTEST_SOUGHT = 3
_OWN_ID = re.compile(r"(?:[A-Z][A-Za-z]+/)?[a-z]+-\d{1,4}")
_YEAR, _YEAR_AND_MONTH, _DAY = 4, 7, 10


@dataclass(slots=True)
class Changes:
    """What was done, told by element and never by value: kind of change and place -> how often."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, what: str, place: str) -> None:
        self.counts[what, place] += 1

    def lines(self) -> Iterator[str]:
        """One line a kind of change, with its places in the order of the alphabet."""
        kinds: dict[str, list[str]] = {}
        for (what, place), number in sorted(self.counts.items()):
            kinds.setdefault(what, []).append(place if number == 1 else f"{place} ({number})")
        for what, places in kinds.items():
            yield f"{what}: {', '.join(places)}"


def deidentified(request: Mapping[str, Any], shift: int) -> tuple[Json, Changes]:
    """The request with ``shift`` days added to every date, and what was changed."""
    cleaner = _Cleaner(timedelta(days=shift))
    return cleaner.request(request), cleaner.changes


def shifted(text: str, by: timedelta) -> str | None:
    """A FHIR date as precise as it came, moved; ``None`` where it is none. The time of day stays."""
    span = read_span(text)
    if span is None:
        return None
    written = text.strip()
    if len(written) >= _DAY:
        return (span[0] + by).isoformat() + written[_DAY:]
    # Of a month or a year its middle moves: a guess of the same precision.
    middle = span[0] + (span[1] - span[0]) / 2 + by
    return middle.isoformat()[: _YEAR if len(written) == _YEAR else _YEAR_AND_MONTH]


def age_on(born: date, on: date) -> tuple[int, int]:
    """Completed years and months."""
    months = (on.year - born.year) * 12 + on.month - born.month - (on.day < born.day)
    return months // 12, months % 12


def leftovers(original: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """Elements of the original whose text still stands in what was made of it, told by their names only.

    Looked for is what identifies: ids, identifiers, names, telecom, addresses, the birth date. Words that stand in
    the code tables, short numbers and ids of the form that is made here identify nobody.
    """
    text = "\n".join(_strings(made)).casefold()
    found = {
        where
        for where, value in _identifying(original, "")
        if not _OWN_ID.fullmatch(value) and not _says_nothing(value) and _stands_in(value.casefold(), text)
    }
    return sorted(found)


def _says_nothing(value: str) -> bool:
    letters = [part for part in _PARTS.findall(value) if not part[0].isdigit()]
    if letters:
        return len(value) < _SHORTEST_SOUGHT or all(map(_is_plain, letters))
    return sum(map(str.isdigit, value)) <= _MOST_DIGITS


def _stands_in(value: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _identifying(value: object, place: str, wanted: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in ("system", "use", "type", "resourceType", "prefix"):
                yield from _identifying(inner, f"{place}.{name}".lstrip("."), wanted or name in _IDENTIFYING)
    elif isinstance(value, list):
        for inner in value:
            yield from _identifying(inner, place, wanted)
    elif wanted and isinstance(value, str):
        yield place, value


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str | int | Decimal):
        yield str(value)


# --- words ----------------------------------------------------------------------------------------


@cache
def _vocabulary() -> frozenset[str]:
    """Every word of the labels and names of the code tables, and of dosing, in lower case."""
    labels = [row.label for rows in index().concepts.values() for row in rows]
    text = " ".join([*labels, *_names(), *_LISTS["plain"]])
    return frozenset(part.casefold() for part in _PARTS.findall(text) if not part[0].isdigit())


@cache
def _names() -> tuple[str, ...]:
    """The names by which medicines are recognised."""
    path = Path(fhir_mappings.__file__).parent / "names.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(row["name"] for row in csv.DictReader(file))


def _is_plain(part: str) -> bool:
    return part[0].isdigit() or part.casefold() in _vocabulary()


def plain_text(text: str, *, medicine: bool) -> str:
    """The text where all of it is plain; of a medicine's its plain words; else ``REMOVED``.

    Other text is never shortened: without one word it could mean the opposite. Many digits in a row, with or
    without signs between them, are a date or a number of somebody.
    """
    parts = _PARTS.findall(text)
    if any(sum(map(str.isdigit, run)) > _MOST_DIGITS for run in _DIGITS.findall(text)):
        return REMOVED
    if any(not part[0].isdigit() for part in parts) and all(map(_is_plain, parts)):
        return text
    if medicine and any(name in text.casefold() for name in _names()):
        kept = _PARTS.sub(lambda part: part[0] if _is_plain(part[0]) else "", text)
        return " ".join(re.sub(r"[^\w\s/.,%-]", "", kept).split()).strip(" /.,-") or REMOVED
    return REMOVED


# --- the walk -------------------------------------------------------------------------------------


class _Cleaner:
    """One request under way; what was seen before gets the same new id or code system."""

    def __init__(self, by: timedelta) -> None:
        self._by = by
        self._ids: dict[tuple[str, str], str] = {}
        self._numbers: Counter[str] = Counter()
        self._systems: dict[str, str] = {}
        self._codes: dict[tuple[str, str], str] = {}
        self._urls: dict[str, str] = {}
        self.changes = Changes()

    # A request and its Bundles

    def request(self, request: Mapping[str, Any]) -> Json:
        context = request["context"] if isinstance(request.get("context"), Mapping) else {}
        self._new_id("Patient", str(context.get("patientId", "")))
        self._remember_urls(request)
        made: Json = {
            "hook": request.get("hook"),
            "hookInstance": "00000000-0000-4000-8000-000000000001",
            "context": {"userId": "Practitioner/practitioner-1", "patientId": "child-1"},
        }
        for name in ("draftOrders", "medications"):
            if isinstance(context.get(name), Mapping):
                made["context"][name] = self._bundle(context[name])
        if isinstance(context.get("selections"), list):
            made["context"]["selections"] = [self._reference(str(each)) for each in context["selections"]]
        extension = request.get("extension")
        ours = extension.get(EXTENSION) if isinstance(extension, Mapping) else None
        if isinstance(ours, Mapping) and isinstance(ours.get("asOf"), str):
            made["extension"] = {EXTENSION: {"asOf": shifted(ours["asOf"], self._by)}}
        prefetch = request.get("prefetch")
        if isinstance(prefetch, Mapping):
            made["prefetch"] = self._prefetch(prefetch)
        for name in sorted(set(context) - set(made["context"])):
            self.changes.note("left out", f"context.{name}")
        for name in sorted(set(request) - set(made)):
            self.changes.note("left out", str(name))
        return made

    def _prefetch(self, prefetch: Mapping[str, Any]) -> Json:
        ours = {key.name for key in keys()}
        made: Json = {}
        for number, (name, value) in enumerate(prefetch.items(), start=1):
            made[name if name in ours else f"other{number}"] = self._supplied(value)
        return made

    def _supplied(self, value: object) -> object:
        if not isinstance(value, Mapping):
            return None
        kind = value.get("resourceType")
        if kind == "Bundle":
            return self._bundle(value)
        return self._outcome(value) if kind == "OperationOutcome" else self._resource(value)

    def _bundle(self, bundle: Mapping[str, Any]) -> Json:
        made: Json = {"resourceType": "Bundle"}
        if isinstance(kind := bundle.get("type"), str) and _WORD.fullmatch(kind):
            made["type"] = kind
        entries = []
        for entry in bundle["entry"] if isinstance(bundle.get("entry"), list) else ():
            resource = entry.get("resource") if isinstance(entry, Mapping) else None
            if isinstance(resource, Mapping) and (found := self._supplied(resource)) is not None:
                entries.append({"resource": found})
        if "total" in bundle:
            made["total"] = len(entries)
        links = bundle.get("link")
        if any(isinstance(e, Mapping) and e.get("relation") == "next" for e in links or ()):
            made["link"] = [{"relation": "next", "url": f"{_EXAMPLE}/next"}]
        if entries:
            made["entry"] = entries
        return made

    def _outcome(self, outcome: Mapping[str, Any]) -> Json:
        issues = outcome["issue"] if isinstance(outcome.get("issue"), list) else []
        kept = ("severity", "code")
        return {
            "resourceType": "OperationOutcome",
            "issue": [
                {n: each[n] for n in kept if isinstance(each.get(n), str) and _WORD.fullmatch(each[n])}
                for each in issues
                if isinstance(each, Mapping)
            ],
        }

    def _resource(self, resource: Mapping[str, Any]) -> Json | None:
        kind = resource.get("resourceType")
        if kind not in TYPES:
            self.changes.note("resources left out", str(kind) if _is_type(kind) else "of no known type")
            return None
        made: Json = {"resourceType": kind}
        if isinstance(resource.get("id"), str):
            made["id"] = self._new_id(str(kind), resource["id"])
        return made | self._members(resource, str(kind), str(kind), medicine=kind == "Medication")

    # Elements

    def _members(self, value: Mapping[str, Any], place: str, kind: str, *, medicine: bool) -> Json:
        made: Json = {}
        for name, inner in value.items():
            here = f"{place}.{name}"
            if name in ("resourceType", "id") and place == kind:
                continue
            if name == "modifierExtension" and inner:
                made[name] = [{"url": f"{_EXAMPLE}/modifier", "valueBoolean": True}]
                self.changes.note("replaced by an example", here)
                continue
            found: object
            if name.startswith("_"):
                found = _absent_reason(inner)
            elif name in _READ:
                found = self._value(name, inner, here, kind, medicine=medicine or name in _MEDICINES)
            else:
                found = None
            if found is None:
                self.changes.note("left out", here)
            else:
                made[name] = found
        if made.get("text") == REMOVED and isinstance(made.get("coding"), list):
            # Our own label says what the code means.
            made["text"] = next((c["display"] for c in made["coding"] if "display" in c), REMOVED)
        return made

    def _value(self, name: str, value: object, place: str, kind: str, *, medicine: bool) -> object:
        if isinstance(value, list):
            found = [self._value(name, each, place, kind, medicine=medicine) for each in value]
            return [each for each in found if each is not None] or None
        if isinstance(value, Mapping):
            if name == "text":  # the narrative
                return None
            if name == "contained":
                return self._contained(value)
            if name == "coding" or ("code" in value and "system" in value and "value" not in value):
                return self._coding(value, place)
            return self._members(value, place, kind, medicine=medicine) or None
        if isinstance(value, bool | int | Decimal | float):
            return value
        return self._text(name, value, place, medicine=medicine) if isinstance(value, str) else None

    def _text(self, name: str, text: str, place: str, *, medicine: bool) -> str | None:
        if name in _DATES or name == "valueDateTime":
            found = shifted(text, self._by)
            self.changes.note("moved", place)
            return found
        if name in _WORDS or name == "resourceType":
            return text if _WORD.fullmatch(text) else None
        if name == "reference":
            return self._reference(text)
        if name == "timeOfDay":
            return text if _TIME.fullmatch(text) else None
        if name == "system":  # of a Quantity
            return text if canonical(text) is not None else None
        if name in ("unit", "code"):
            return text if _UNIT.fullmatch(text) else None
        if name in _TEXTS:
            found = plain_text(text, medicine=medicine)
            if found == REMOVED and name == "display":
                return None
            if found != text:
                self.changes.note("text replaced", place)
            return found
        return None

    def _contained(self, resource: Mapping[str, Any]) -> Json | None:
        kind = resource.get("resourceType")
        if kind not in TYPES:
            return None
        made: Json = {"resourceType": kind}
        if isinstance(resource.get("id"), str):
            made["id"] = self._new_id("#", resource["id"])
        return made | self._members(resource, str(kind), str(kind), medicine=kind == "Medication")

    def _coding(self, coding: Mapping[str, Any], place: str) -> Json | None:
        """Of a system that is known, its code with our own label; of another, an example system and code."""
        system, code = coding.get("system"), coding.get("code")
        code = str(code) if isinstance(code, int) and not isinstance(code, bool) else code
        if not isinstance(code, str):
            return None
        if not isinstance(system, str):
            return {"code": code} if _WORD.fullmatch(code) else None
        known = canonical(system)
        if (known is not None or system.startswith(_HL7)) and _CODE.fullmatch(code):
            made = {"system": system, "code": code}
            label = next((r.label for r in index().exact.get((known or "", code), ())), None)
            return {**made, "display": label} if label else made
        self.changes.note("local code replaced", place)
        new = self._systems.setdefault(system, f"{_EXAMPLE}/local-codes-{len(self._systems) + 1}")
        return {
            "system": new,
            "code": self._codes.setdefault((system, code), f"local-{len(self._codes) + 1}"),
        }

    # Ids and references

    def _new_id(self, kind: str, old: str) -> str:
        known = self._ids.get((kind, old))
        if known is None:
            stem = {"Patient": "child", "#": "contained"}.get(kind, kind.lower())
            self._numbers[stem] += 1
            known = self._ids[kind, old] = f"{stem}-{self._numbers[stem]}"
        return known

    def _remember_urls(self, value: object) -> None:
        """What Bundles call their resources (``fullUrl``), since references may use it."""
        if isinstance(value, list):
            for each in value:
                self._remember_urls(each)
        elif isinstance(value, Mapping):
            resource, url = value.get("resource"), value.get("fullUrl")
            if isinstance(resource, Mapping) and isinstance(url, str) and isinstance(resource.get("id"), str):
                kind = str(resource.get("resourceType"))
                self._urls[url] = f"{kind}/{resource['id']}"
            for each in value.values():
                self._remember_urls(each)

    def _reference(self, text: str) -> str | None:
        if text.startswith("#"):
            return f"#{self._new_id('#', text[1:])}"
        kind, slash, old = relative_reference(self._urls.get(text, text)).partition("/")
        if not slash:
            return f"Patient/{self._ids['Patient', text]}" if ("Patient", text) in self._ids else None
        return f"{kind}/{self._new_id(kind, old)}" if _is_type(kind) else None


def _is_type(kind: object) -> bool:
    return isinstance(kind, str) and re.fullmatch(r"[A-Z][A-Za-z]{1,40}", kind) is not None


def _absent_reason(value: object) -> Json | None:
    """Of the extensions of a primitive only the reason why it has no value."""
    for each in value.get("extension", ()) if isinstance(value, Mapping) else ():
        code = each.get("valueCode") if isinstance(each, Mapping) and each.get("url") == _ABSENT else None
        if isinstance(code, str) and _WORD.fullmatch(code):
            return {"extension": [{"url": _ABSENT, "valueCode": code}]}
    return None


def birth_date(request: Mapping[str, Any]) -> date | None:
    """The child's birth date, where it is known to the day."""
    prefetch = request.get("prefetch")
    patient = prefetch.get("patient") if isinstance(prefetch, Mapping) else None
    written = patient.get("birthDate") if isinstance(patient, Mapping) else None
    return read_date(written) if isinstance(written, str) and len(written.strip()) == _DAY else None
