"""The prefetch keys: their templates, computed from the facts that the tables use, and what state each is in.

CDS Hooks, "Prefetch Template": reads and type-level searches inside the recommended query subset (reference and
token parameters, ``_sort``, ``_count``; no parameter twice). Resources are pooled whatever key they came in; a
key only tells whether its search was answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from fhir_mappings.concepts import codes_of
from fhir_mappings.site_codes import NO_SITE_CODES, SiteCodes
from fhir_mappings.systems import canonical
from guideline.facts import closure, vocabulary
from guideline.tables import Tables, load_tables
from guideline.values import Reason
from guideline.yaml_text import read_yaml

Resource = Mapping[str, Any]
_PATIENT_TOKEN = "{{context.patientId}}"  # a placeholder of CDS Hooks  # nosec B105
_MEDICATION_RESOURCES = ("MedicationRequest", "MedicationOrder", "MedicationStatement", "Medication")
_REQUESTS = ("ServiceRequest", "ProcedureRequest")


@dataclass(frozen=True, slots=True)
class Key:
    """One prefetch key. ``record_list`` is the list it fills; ``facts`` the results it holds."""

    name: str
    resource_type: str
    record_list: str
    facts: tuple[str, ...]
    count: str | None
    status: str | None

    def template(self, site_codes: SiteCodes = NO_SITE_CODES) -> str:
        if self.resource_type == "Patient":
            return f"Patient/{_PATIENT_TOKEN}"
        query = f"{self.resource_type}?patient={_PATIENT_TOKEN}"
        if self.facts:
            kinds = vocabulary()
            concepts = [concept for fact in self.facts for concept in kinds[fact].concepts]
            codes = [c for concept in concepts for c in (*codes_of(concept), *site_codes.of(concept))]
            query += "&code=" + ",".join(dict.fromkeys(f"{canonical(s) or s}|{code}" for s, code in codes))
        if self.status is not None:
            query += f"&status={self.status}"
        if self.count is not None:
            query += f"&_sort=-date&_count={self.count}"
        return query


@cache
def keys() -> tuple[Key, ...]:
    """The keys that the tables need, in the order of ``prefetch.yaml``."""
    return keys_for(load_tables())


def keys_for(tables: Tables) -> tuple[Key, ...]:
    used = closure(tables.facts())
    kinds = vocabulary()
    lists = {part for fact in used for part in kinds[fact].read_from}
    lists |= {
        "patient",
        "conditions",
        "medications",
    }  # the child, the indication and the course are always needed
    found = []
    for name, entry in read_yaml(Path(__file__).with_name("prefetch.yaml")).items():
        facts = tuple(fact for fact in entry.get("facts", ()) if fact in used)
        if entry["list"] in lists and (facts or "facts" not in entry):
            found.append(
                Key(name, entry["type"], entry["list"], facts, entry.get("count"), entry.get("status"))
            )
    return tuple(found)


def templates(site_codes: SiteCodes = NO_SITE_CODES) -> dict[str, str]:
    """Key -> template, as discovery publishes them; a site's own codes are asked for as well."""
    return {key.name: key.template(site_codes) for key in keys()}


# --- what arrived ---------------------------------------------------------------------------------


class Supply(msgspec.Struct, frozen=True):
    """What one key holds: its resources, and why its list may be incomplete (``None``: answered in full).

    ``urls`` is what its Bundle calls the resources (``fullUrl``).
    """

    resources: tuple[Resource, ...]
    gap: Reason | None
    next_url: str | None = None
    urls: Mapping[str, Resource] = msgspec.field(default_factory=dict)


NOT_SUPPLIED = Supply((), Reason.NOT_SUPPLIED)


def read_supply(value: object, resource_type: str | None = None) -> Supply:
    """One prefetch value: a resource, a Bundle, an OperationOutcome, ``null`` or something else.

    ``resource_type`` is what our own template asked for; anything else under that key leaves it unsatisfied.
    """
    if value is None:
        return Supply((), None)
    if not isinstance(value, dict):
        return Supply((), Reason.UNREADABLE)
    kind = value.get("resourceType")
    if kind == "OperationOutcome":
        return Supply((), Reason.FAILED if _is_error(value) else None)
    if kind != "Bundle":
        if not isinstance(kind, str):
            return Supply((), Reason.UNREADABLE)
        fits = resource_type is None or kind == resource_type or _is_sibling(kind, resource_type)
        return Supply((value,), None if fits else Reason.NOT_SUPPLIED)
    return _read_bundle(value, resource_type)


def _read_bundle(bundle: Resource, resource_type: str | None) -> Supply:
    entries = bundle.get("entry")
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        return Supply((), Reason.UNREADABLE)
    found: list[Resource] = []
    urls: dict[str, Resource] = {}
    gap: Reason | None = None
    kinds: set[str] = set()
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(resource, dict) or not isinstance(kind, str):
            gap = gap or Reason.UNREADABLE
        elif kind == "OperationOutcome":
            gap = Reason.FAILED if _is_error(resource) else gap
        else:
            found.append(resource)
            kinds.add(kind)
            if isinstance(url := entry.get("fullUrl"), str):
                urls[url] = resource
    following = _next_url(bundle)
    if (following is not None or _promises_more(bundle, entries)) and gap is not Reason.FAILED:
        gap = Reason.PARTIAL_PAGE
    if (
        gap is None
        and resource_type is not None
        and kinds
        and not any(kind == resource_type or _is_sibling(kind, resource_type) for kind in kinds)
    ):
        gap = Reason.NOT_SUPPLIED
    return Supply(tuple(found), gap, following, urls)


def _is_sibling(kind: str, asked: str) -> bool:
    """DSTU2 answers a search for MedicationRequest with MedicationOrder, STU3 one for ServiceRequest likewise."""
    return any(kind in family and asked in family for family in (_MEDICATION_RESOURCES, _REQUESTS))


def _is_error(outcome: Resource) -> bool:
    """An OperationOutcome that says failure; one that only warns or informs means "nothing found"."""
    issues = outcome.get("issue")
    if not isinstance(issues, list) or not issues:
        return True
    severities = [issue.get("severity") if isinstance(issue, dict) else None for issue in issues]
    return any(severity not in ("warning", "information", "success") for severity in severities)


def _next_url(bundle: Resource) -> str | None:
    links = bundle.get("link")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None


def _promises_more(bundle: Resource, entries: list[Any]) -> bool:
    """Whether more matches are said to exist than came: a page whose link to the next one was left out."""
    total = bundle.get("total")
    if not isinstance(total, int) or not total:
        return False
    if total > len(entries):
        return True
    searches = [entry["search"] for entry in entries if type(entry) is dict and "search" in entry]
    beside = [s for s in searches if type(s) is dict and s.get("mode") in ("include", "outcome")]
    return total > len(entries) - len(beside)


class Pool:
    """Every resource of the request by type, each once, and the state of every key of ours.

    Of two resources that differ under one id nothing tells which is right: both count, and neither answers a
    reference. References are resolved among them: relative, contained, by ``fullUrl``, and absolute ones to
    ``server``, the request's own FHIR server (any, where the request names none). ``context`` and ``urls`` are the
    drafts and what their Bundle calls them.
    """

    def __init__(
        self,
        supplies: Mapping[str, Supply],
        context: Iterable[Resource] = (),
        *,
        server: str | None = None,
        urls: Mapping[str, Resource] | None = None,
    ) -> None:
        self._server = server
        self._by_url = {**{u: r for s in supplies.values() for u, r in s.urls.items()}, **(urls or {})}
        self._by_type: dict[str, list[Resource]] = {}
        self.kept: dict[str, Any] = {}
        """What readers found in the pool and need again; it lives and dies with the call."""
        self._by_reference: dict[str, Resource] = {}
        self._contested: dict[str, list[Resource]] = {}
        for supply in supplies.values():
            for resource in supply.resources:
                self._add(resource)
        for kind in {reference.partition("/")[0] for reference in self._contested}:
            # So that the order in which they came changes nothing.
            self._by_type[kind].sort(
                key=lambda r: (
                    json.dumps(r, sort_keys=True, default=str) if _reference_of(r) in self._contested else ""
                )
            )
        for resource in context:
            self._remember(resource)
        self._gaps = {key.name: supplies.get(key.name, NOT_SUPPLIED).gap for key in keys()}

    def _add(self, resource: Resource) -> None:
        kind = resource.get("resourceType")
        if not isinstance(kind, str):
            return
        reference = _reference_of(resource)
        if reference is not None:
            first = self._by_reference.get(reference)
            if first is None:
                self._by_reference[reference] = resource
            elif resource == first or not self._differs(reference, resource):
                return
        self._by_type.setdefault(kind, []).append(resource)

    def _differs(self, reference: str, resource: Resource) -> bool:
        """Whether a further resource of one id says anything that the others do not."""
        others = self._contested.setdefault(reference, [])
        if resource in others[:_COMPARED]:
            return False
        others.append(resource)
        return True

    def _remember(self, resource: Resource) -> None:
        reference = _reference_of(resource)
        if reference is not None:
            self._by_reference.setdefault(reference, resource)

    def of(self, *resource_types: str) -> Iterator[Resource]:
        return chain.from_iterable(self._by_type.get(kind, ()) for kind in resource_types)

    def by_type(self) -> Mapping[str, Sequence[Resource]]:
        return self._by_type

    def resolve(self, reference: object, holder: Resource) -> Resource | None:
        """The resource that a Reference of ``holder`` points to, or ``None`` where it is not here."""
        text = reference.get("reference") if isinstance(reference, dict) else None
        if not isinstance(text, str):
            return None
        if text.startswith("#"):
            contained = holder.get("contained")
            for resource in contained if isinstance(contained, list) else ():
                if isinstance(resource, dict) and resource.get("id") == text[1:]:
                    return resource
            return None
        if text in self._by_url:
            return self._by_url[text]
        wanted = relative_reference(text)
        if wanted in self._contested or not is_at(text, self._server):
            return None
        return self._by_reference.get(wanted)

    def gap(self, record_list: str, fact: str | None = None) -> Reason | None:
        """Why a list (or the results of one fact) may be incomplete; the gravest reason of its keys."""
        gaps = self._gaps
        found = [gap for name in _names_of(record_list, fact) if (gap := gaps[name]) is not None]
        return min(found, key=_GRAVITY.index) if found else None


@cache
def _names_of(record_list: str, fact: str | None) -> tuple[str, ...]:
    """The keys that fill a list, or hold the results of one fact."""
    return tuple(
        key.name for key in keys() if key.record_list == record_list and (fact is None or fact in key.facts)
    )


_COMPARED: Final = 8
"""Resources under one id that a further one is compared with; more than that is no record but an attack."""
_GRAVITY = (Reason.FAILED, Reason.NOT_SUPPLIED, Reason.UNREADABLE, Reason.PARTIAL_PAGE)


def is_at(reference: str, server: str | None) -> bool:
    """Whether a reference is to a resource of ``server``: the same id at another server is another resource."""
    if server is None or "://" not in reference:
        return True
    return _without_scheme(reference).startswith(_without_scheme(server).rstrip("/") + "/")


def _without_scheme(url: str) -> str:
    """A URL to compare: behind a proxy one server is often named with http and with https."""
    host, slash, path = url.partition("://")[2].partition("/")
    return host.lower() + slash + path


def relative_reference(text: str) -> str:
    """``Type/id`` of a relative, absolute or versioned reference."""
    parts = text.split("/_history/")[0].rstrip("/").split("/")
    return "/".join(parts[-2:])


def _reference_of(resource: Resource) -> str | None:
    kind, id_ = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{id_}" if isinstance(kind, str) and isinstance(id_, str) and id_ else None
