"""The indication of an order: from its own reason, else from the child's active conditions (ruling 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from fhir_mappings.elements import (
    Resource,
    concepts_in,
    has_known_system,
    is_modified,
    is_of_patient,
    reference,
)
from fhir_mappings.lists import Lists, is_active_condition, is_at_rest
from fhir_mappings.prefetch import Pool, relative_reference
from fhir_mappings.products import listed
from guideline.values import Cause, Doubtful, Evidence, Fact, Known, Missing, Reason

_GROUPS: Mapping[str, str] = {
    "jdm": "jdm",
    "aicardi-goutieres": "interferonopathy",
    "praas": "interferonopathy",
    "savi": "interferonopathy",
    "gvhd": "gvhd",
    "sle": "other",
}
_UVEITIS = "jia-uveitis"
_CATEGORIES: Mapping[str, str] = {
    "jia-polyarticular-rf-positive": "polyarticular-rf-positive",
    "jia-polyarticular-rf-negative": "polyarticular-rf-negative",
    "jia-polyarticular": "polyarticular",
    "jia-psoriatic": "psoriatic",
    "jia-extended-oligoarticular": "extended-oligoarticular",
    "jia-enthesitis-related": "enthesitis-related",
    "jia-persistent-oligoarticular": "persistent-oligoarticular",
    "jia-systemic": "systemic",
}
_POLYARTICULAR = frozenset({"polyarticular", "polyarticular-rf-positive", "polyarticular-rf-negative"})
_CAUTION = ("systemic", "persistent-oligoarticular", "enthesitis-related")
"""Categories without a tofacitinib row, most cautious first: where categories contradict, one of them counts."""


class Indication(msgspec.Struct, frozen=True):
    """The indication facts of one order. ``on_record`` lists what the conditions offer where the order is silent."""

    indication: Fact
    jia_category: Fact
    on_record: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Stated(msgspec.Struct, frozen=True):
    concepts: frozenset[str]
    source: str


def indication_of(order: Resource, pool: Pool, lists: Lists) -> Indication:
    stated, unread = _reasons(order, pool)
    on_record = _conditions(lists)
    if stated:
        found = _decide(stated, on_record)
        if found is not None:
            return msgspec.structs.replace(found, notes=_standing(found, lists))
        evidence = tuple(Evidence("indication", "not listed", source=s.source) for s in stated)
        return Indication(Known("other", evidence), _no_category())
    notes: tuple[str, ...] = (
        ("The order's reason could not be read (no known code); the conditions on record were used.",)
        if unread
        else ()
    )
    found = _decide(on_record, on_record)
    if found is not None:
        return msgspec.structs.replace(found, notes=(*notes, *_standing(found, lists)))
    if any(item.inactive and _groups(item.concepts) for item in lists.conditions.items):
        notes += (_INACTIVE,)
    reason = lists.conditions.gap or Reason.ABSENT
    return Indication(Missing.of("indication", reason), _no_category(), (), notes)


_INACTIVE = (
    "A disease that this guideline treats is on record as inactive. It was not taken for the indication; "
    "where it is, name it as the reason of the order."
)


def _groups(concepts: frozenset[str]) -> frozenset[str]:
    return frozenset(filter(None, map(_group, concepts)))


def _standing(found: Indication, lists: Lists) -> tuple[str, ...]:
    """A word where the indication rests on conditions in remission, on one that the order names as inactive, or on
    nothing that is confirmed."""
    sources = {e.source for e in found.indication.evidence}
    resting_on = [item for item in lists.conditions.items if item.source in sources]
    notes = []
    if resting_on and all(item.remission or item.inactive for item in resting_on):
        how = "in remission" if all(item.remission for item in resting_on) else "inactive"
        notes.append(f"The indication is on record as {how}; it was used as the indication.")
    if resting_on and all(item.unconfirmed for item in resting_on):
        how = " and ".join(sorted({str(item.unconfirmed) for item in resting_on}))
        notes.append(f"The indication is on record only as {how}; it was used as the indication. Confirm it.")
    return tuple(notes)


def _no_category() -> Fact:
    return Missing.of("jiaCategory", Reason.ABSENT)


def _reasons(order: Resource, pool: Pool) -> tuple[list[_Stated], bool]:
    """The order's own reasons (DSTU2 to R5), and whether one was there that no known code names."""
    own = reference(order)
    stated: list[_Stated] = []
    unread = False
    concepts: list[tuple[object, str]] = []
    for name in ("reasonCode", "reasonCodeableConcept"):
        concepts += [(item, own) for item in listed(order.get(name))]
    pointers = list(listed(order.get("reasonReference")))
    for item in listed(order.get("reason")):
        if isinstance(item, dict):
            concepts += [(item["concept"], own)] if "concept" in item else []
            pointers += [item["reference"]] if "reference" in item else []
    for pointer in pointers:
        condition = pool.resolve(pointer, order)
        if condition is None or is_modified(condition) or not _same_patient(condition, order):
            unread = True
        elif is_active_condition(condition) or is_at_rest(condition):
            # The order itself names it: a disease that is inactive on the drug is still what the drug is for.
            concepts.append((condition.get("code"), reference(condition)))
    for concept, source in concepts:
        if has_known_system(concept):
            stated.append(_Stated(concepts_in(concept), source))
        elif concept:
            unread = True
    return stated, unread


def _same_patient(condition: Resource, order: Resource) -> bool:
    """Whether a condition is not about somebody else than the order is."""
    subject = order.get("subject") or order.get("patient")
    text = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(text, str):
        return True
    return is_of_patient(condition, relative_reference(text).removeprefix("Patient/"))


def _conditions(lists: Lists) -> list[_Stated]:
    """The child's conditions that may be the indication; a disease in remission on its treatment still is."""
    return [
        _Stated(item.concepts, item.source)
        for item in lists.conditions.items
        if item.current or item.remission
    ]


def _group(concept: str) -> str | None:
    if concept == "jia" or concept.startswith("jia-"):
        return "jia"
    return _GROUPS.get(concept)


def _decide(stated: Iterable[_Stated], context: Iterable[_Stated]) -> Indication | None:
    """One indication, several, or none of the guideline's (``None``)."""
    by_group: dict[str, list[_Stated]] = {}
    for item in stated:
        for concept in item.concepts:
            group = _group(concept)
            if group is not None:
                by_group.setdefault(group, []).append(item)
    if len(by_group) > 1 and "jia" in by_group:
        only_uveitis = all(s.concepts & {_UVEITIS} and not _jia_proper(s.concepts) for s in by_group["jia"])
        if only_uveitis:  # uveitis alone does not make a second indication beside another disease
            del by_group["jia"]
    if len(by_group) > 1:
        by_group.pop("other", None)
    if not by_group:
        return None
    if len(by_group) > 1:
        named = tuple(sorted(by_group))
        detail = "several on record, none on the order"
        causes = (Cause("indication", Reason.ABSENT, detail),)
        evidence = tuple(Evidence("indication", g, source=s.source) for g in named for s in by_group[g][:1])
        return Indication(Missing(causes, evidence), _no_category(), named)
    group, items = next(iter(by_group.items()))
    evidence = tuple(dict.fromkeys(Evidence("indication", group, source=s.source) for s in items))
    category = _jia_category(items, list(context)) if group == "jia" else _no_category()
    return Indication(Known(group, evidence), category)


def _jia_proper(concepts: frozenset[str]) -> frozenset[str]:
    return frozenset(c for c in concepts if _group(c) == "jia" and c != _UVEITIS)


def _jia_category(stated: list[_Stated], context: list[_Stated]) -> Fact:
    """The category from the reason itself; where that only says "JIA", from the conditions on record."""
    for items in (stated, context):
        found: dict[str, str] = {}
        for item in items:
            for concept, category in _CATEGORIES.items():
                if concept in item.concepts:
                    found.setdefault(category, item.source)
        if found:
            return _one_category(found)
    proper = [s for s in (*stated, *context) if _jia_proper(s.concepts)]
    if not proper:
        source = next(s.source for s in stated)
        return Known("uveitis", (Evidence("jiaCategory", "uveitis", source=source),))
    unsaid = any("jia-oligoarticular" in s.concepts for s in proper)
    detail = (
        "oligoarticular, but not whether extended or persistent" if unsaid else "the record says JIA only"
    )
    return Missing.of("jiaCategory", Reason.ABSENT, detail)


def _one_category(found: Mapping[str, str]) -> Fact:
    evidence = tuple(Evidence("jiaCategory", category, source=source) for category, source in found.items())
    names = set(found)
    if len(names) == 1:
        return Known(names.pop(), evidence)
    without_row = [c for c in _CAUTION if c in names]
    if without_row:
        causes = (Cause("jiaCategory", Reason.UNREADABLE, "categories on record contradict each other"),)
        return Doubtful(without_row[0], causes, evidence)
    special = sorted(names - _POLYARTICULAR)
    if special:
        return Known(special[0], evidence)
    precise = sorted(names - {"polyarticular"})
    return Known(precise[0] if len(precise) == 1 else "polyarticular", evidence)
