"""Which medicine an order, statement or allergy names: by code, else by ingredient or brand name (and then flagged)."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec

from fhir_mappings.elements import Resource, codings, concepts_in, is_modified, status_of, texts
from fhir_mappings.prefetch import Pool
from fhir_mappings.products import Product, listed, read_product
from fhir_mappings.systems import ATC, CVX, canonical
from guideline.doses import Form
from guideline.sources import solution_mg_per_ml

JAK_INHIBITORS = ("tofacitinib", "baricitinib", "ruxolitinib")
_LOCAL_WORDS = re.compile(
    r"\b(cream|ointment|gel|lotion|shampoo|topical|cutaneous|skin|scalp|eye|ophthalmic|ear|otic)\b"
)
_SYSTEMIC_WORDS = re.compile(
    r"\b(capsules?|caps|tablets?|tabs?|oral|orally|mouth|suspension|injection|infusion|intravenous|subcutaneous)\b"
)
_SYSTEMIC_ROUTES = frozenset({"route-oral", "route-intravenous", "route-subcutaneous"})
_LOCAL_TOO = frozenset({"ketoconazole", "fluconazole", "tacrolimus", "ciclosporin", "prednisolone"})
"""Medicines whose one code of RxNorm, SNOMED CT or dm+d stands for the cream and the eye drops as well."""
_TOPICAL = "ruxolitinib-topical"
_NOT_COVERED = frozenset({"upadacitinib", "filgotinib", "jak-inhibitor-class", "jak-inhibitor-unnamed"})
_JAK_CONCEPTS = frozenset({*JAK_INHIBITORS, "upadacitinib", "filgotinib", _TOPICAL})


class Medicine(msgspec.Struct, frozen=True):
    """The medicine of one resource. ``unresolved``: it is named only by a reference that is not here."""

    concepts: frozenset[str]
    by_name: bool
    unresolved: bool
    product: Product | None
    names_nothing: bool = False

    @property
    def jak_inhibitor(self) -> str | None:
        """The one covered JAK inhibitor that is named; ``None`` also where two are."""
        named = [drug for drug in JAK_INHIBITORS if drug in self.concepts]
        return named[0] if len(named) == 1 else None

    @property
    def is_known(self) -> bool:
        """Whether anything but what it is made up with says what it is."""
        return bool(_substances(self.concepts))

    @property
    def contradictory(self) -> bool:
        """Whether codes and words name two different JAK inhibitors."""
        return len(self.concepts & frozenset(JAK_INHIBITORS)) > 1

    @property
    def is_jak_inhibitor(self) -> bool:
        """Any JAK inhibitor, also a topical one and one that the guideline does not name."""
        return bool(self.concepts & (_NOT_COVERED | {*JAK_INHIBITORS, _TOPICAL}))

    @property
    def is_topical(self) -> bool:
        """A JAK inhibitor for the skin or the eye, and none to be swallowed beside it."""
        return _TOPICAL in self.concepts and not self.concepts & (_NOT_COVERED | frozenset(JAK_INHIBITORS))


_WORD = re.compile(r"\w+")


@cache
def _names() -> dict[str, tuple[tuple[str, str], ...]]:
    """The names with their concepts, by their first word."""
    path = Path(__file__).with_name("names.csv")
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            first = _WORD.match(row["name"])
            if first is None or not row["name"][-1:].isalnum():
                raise ValueError(
                    f"names.csv: {row['name']!r} must begin and end with a letter or digit; correct it"
                )
            found[first[0]] = (*found.get(first[0], ()), (row["name"], row["concept"]))
    return found


def pointer_of(resource: Resource) -> object:
    """The Reference to a Medication of an order or statement (DSTU2 to R5), or ``None``."""
    pointer: object = resource.get("medicationReference")
    both = resource.get("medication")
    if pointer is None and isinstance(both, dict):
        inner = both.get("reference")
        return inner if isinstance(inner, dict) else both if isinstance(inner, str) else None
    return pointer


Medicines = dict[int, tuple[Resource, Medicine]]
"""Medicines by the identity of the resource that names them, which is kept beside its medicine."""


def medicines_read(pool: Pool) -> Medicines:
    """The medicines read so far, by the identity of their resources."""
    known: Medicines = pool.kept.setdefault("medicines", {})
    return known


def is_spoken_of(resource: Resource) -> bool:
    """Whether the Reference to the Medication says in words what it is: many records have no more in a list."""
    pointer = pointer_of(resource)
    words = pointer.get("display") if isinstance(pointer, dict) else None
    return isinstance(words, str) and bool(words.strip())


def medicine_of(resource: Resource, pool: Pool) -> Medicine:
    """The medicine of a MedicationRequest, MedicationOrder or MedicationStatement (DSTU2 to R5); each read once."""
    known = medicines_read(pool)
    found = known.get(id(resource))
    if found is None:
        # The resource is kept beside its medicine: its identity cannot become another's while the pool lives.
        found = known[id(resource)] = resource, read_medicine(resource, pool)
    return found[1]


def read_medicine(resource: Resource, pool: Pool) -> Medicine:
    """``medicine_of`` without remembering it."""
    concept: object = resource.get("medicationCodeableConcept")
    pointer = pointer_of(resource)
    both = resource.get("medication")
    if isinstance(both, dict):  # R5, and STU3 drafts of some clients
        concept = concept or both.get("concept") or (both if "coding" in both or "text" in both else None)
    medication = pool.resolve(pointer, resource) if pointer is not None else None
    if medication is not None and _is_unusable(medication):
        medication = None  # FHIR forbids reading the first
    holders = [concept]
    if medication is not None:
        holders.append(medication.get("code"))
        for part in [medication, *(p for p in [medication.get("product")] if isinstance(p, dict))]:
            for ingredient in listed(part.get("ingredient")):
                if isinstance(ingredient, dict) and not _is_no_ingredient(ingredient):
                    item = ingredient.get("item") if isinstance(ingredient.get("item"), dict) else None
                    holders += [ingredient.get("itemCodeableConcept"), item]
                    holders.append(_code_referred_to(ingredient, [medication, resource], pool))
    words = [word for holder in holders for word in texts(holder)]
    if isinstance(pointer, dict) and isinstance(pointer.get("display"), str):
        words.append(pointer["display"])
    coded = frozenset().union(*(concepts_in(holder) for holder in holders))
    found, by_name = coded, False
    named = named_in(words)
    if not _OF_UNSAID_KIND.isdisjoint(coded | named):
        named = settled_vaccine(named, words, coded=any(is_coded_product(holder) for holder in holders))
        coded = settled_vaccine(coded, words)
    if not _is_a_medicine(coded):
        found, by_name = coded | named, bool(_substances(named - coded))
    else:
        # A code that says something else does not silence the name of a JAK inhibitor beside it, and two different
        # ones are told as a contradiction, never one of them chosen.
        named &= _JAK_CONCEPTS
        found, by_name = coded | named, bool(named - coded) and not coded & _JAK_CONCEPTS
    named_anything = bool(found)
    found = _with_combination(found)
    if _is_local(words, medication, resource):
        if "ruxolitinib" in found:
            found = (found - {"ruxolitinib"}) | {_TOPICAL}
        found -= _LOCAL_TOO
    if _TOPICAL in found:
        found -= {"ruxolitinib"}
    product = None
    if any(drug in found for drug in JAK_INHIBITORS):
        raw = [c for holder in (concept,) if isinstance(holder, dict) for c in listed(holder.get("coding"))]
        coding_list = [c for c in raw if isinstance(c, dict)]
        product = read_product(coding_list, words, medication)
        if "tofacitinib" in found:
            product = _of_printed_strength(product)
    nothing = concept is None and pointer is None
    named_by_class = any(_is_substance(holder) for holder in holders)
    silent = nothing or not (coded or words or named_by_class)
    # A Medication that names nothing is as good as none.
    unresolved = pointer is not None and not named_anything and (medication is None or silent)
    return Medicine(found, by_name and bool(found), unresolved, product, silent)


def _is_unusable(medication: Resource) -> bool:
    """Whether FHIR forbids reading it, it was entered in error, or it has more parts than any medicine."""
    wrong = is_modified(medication) or status_of(medication) == "entered-in-error"
    return wrong or _has_too_many_parts(medication)


def _is_no_ingredient(ingredient: Resource) -> bool:
    """Whether an ingredient is inactive, or carries a modifier that this service does not know."""
    return ingredient.get("isActive") is False or is_modified(ingredient)


MOST_INGREDIENTS = 50


def _has_too_many_parts(medication: Resource) -> bool:
    """No medicine has so many; each may have to be looked for among as many contained resources."""
    inner = medication.get("product")
    parts = [medication, inner if isinstance(inner, dict) else {}]
    return any(len(listed(part.get("ingredient"))) > MOST_INGREDIENTS for part in parts)


def _code_referred_to(ingredient: Resource, holders: list[Resource], pool: Pool) -> object:
    """The code of the Substance or Medication that an ingredient is given as (R4; STU3 and R5 under ``item``)."""
    item = ingredient.get("item")
    inner = item.get("reference") if isinstance(item, dict) else None
    pointer = ingredient.get("itemReference") or (inner if isinstance(inner, dict) else item)
    found = next((there for holder in holders if (there := pool.resolve(pointer, holder)) is not None), None)
    return None if found is None or is_modified(found) else found.get("code")


def _is_substance(concept: object) -> bool:
    """Whether an ATC code names one substance. ATC is small and our table has every class that matters, so one that
    is not in it is no medicine of ours; of the endless product codes that cannot be said."""
    return any(
        canonical(system[:256]) == ATC and len(code.strip()) == _ATC_SUBSTANCE
        for system, code in codings(concept)
    )


_ATC_SUBSTANCE = 7
"""Characters of an ATC code of the fifth level, the substance."""


def _of_printed_strength(product: Product) -> Product:
    """An oral solution of tofacitinib that does not say its strength is the one in which section 5.3 prints volumes.

    TOFA-DOSE-08: millilitres are milligrams at that strength. The card says that it was taken to be so.
    """
    if product.form is not Form.ORAL_SOLUTION or product.strength_mg is not None or product.note is not None:
        return product
    strength = solution_mg_per_ml()
    note = f"it does not say its strength; taken to be the guideline's {strength} mg/mL oral solution"
    return replace(product, strength_mg=strength, per_ml=Decimal(1), source="guideline", note=note)


def _substances(concepts: frozenset[str]) -> frozenset[str]:
    """Without what medicines are made up with: benzoate is an excipient, and the tail of many names."""
    return frozenset(concept for concept in concepts if not concept.startswith("excipient-"))


def _is_a_medicine(concepts: frozenset[str]) -> bool:
    """Whether a code names one medicine; a form, a route or a whole class of medicines is none."""
    return any(
        not concept.startswith(("form-", "route-", "unit-", "excipient-")) and not concept.endswith("-class")
        for concept in concepts
    )


def named_in(words: list[str]) -> frozenset[str]:
    """The concepts whose names stand in the texts as whole words; one pass over each, however long it is."""
    found: set[str] = set()
    for text in words:
        lowered = text.lower()
        for word in _WORD.finditer(lowered):
            for name, concept in _names().get(word[0], ()):
                end = word.start() + len(name)
                if lowered.startswith(name, word.start()) and not _WORD.match(lowered, end):
                    found.add(concept)
    return frozenset(found)


_LIVE_ONE: Mapping[str, str] = {
    "zoster-vaccine-type-unknown": "zoster-live-vaccine",
    "influenza-vaccine-type-unknown": "influenza-live-vaccine",
    "typhoid-vaccine-type-unknown": "typhoid-oral-vaccine",
    "other-vaccine-type-unknown": "other-live-vaccine",
}
_OF_UNSAID_KIND = frozenset(_LIVE_ONE)
_NOT_LIVE = re.compile(
    r"\b(?:inactivated|recombinant|split|sub-?unit|surface antigen|polysaccharide|conjugated?|adjuvanted|killed"
    r"|(?:not|non)[ -]live)\b"
)
_INJECTED = re.compile(r"\b(?:injection|injectable|intramuscular|intradermal|syringes?)\b")
_LIVE = re.compile(r"\b(?:live|attenuated)\b")
_LIVE_BY_ROUTE = re.compile(r"\b(?:nasal|intranasal|oral|capsules?)\b")


def settled_vaccine(found: frozenset[str], words: list[str], *, coded: bool = False) -> frozenset[str]:
    """Vaccines of which the name does not say whether they are live, settled by what else is said of them.

    Of influenza and typhoid the live one is never injected; of zoster either may be. ``coded``: a code of a system
    that has one for each kind stands beside the words, so that the words leave nothing open.
    """
    unsaid = found & _OF_UNSAID_KIND
    if not unsaid:
        return found
    rest = found - unsaid | {concept for concept in named_in(words) if concept.endswith("-vaccine")}
    if coded or any(concept.endswith("-vaccine") for concept in rest):
        return rest
    text = " ".join(words).lower()
    if _NOT_LIVE.search(text):
        return rest
    for concept in unsaid:
        by_route = concept.startswith(("influenza", "typhoid"))
        if _LIVE.search(text) or (by_route and _LIVE_BY_ROUTE.search(text)):
            rest |= {_LIVE_ONE[concept]}
        elif not (by_route and _INJECTED.search(text)):
            rest |= {concept}
    return rest


def is_coded_product(holder: object) -> bool:
    """Whether a code of CVX or of a substance of ATC stands there: they have one for each kind of a vaccine."""
    return any(canonical(system[:256]) == CVX for system, _ in codings(holder)) or _is_substance(holder)


def _is_local(words: list[str], medication: Resource | None, resource: Resource) -> bool:
    """Whether it is for the skin, the eye or the ear alone, by its form or its route: route matters (pitfall 10)."""
    dosages = listed(resource.get("dosageInstruction")) + listed(resource.get("dosage"))
    routes = [dosage.get("route") for dosage in dosages if isinstance(dosage, dict)]
    forms = [] if medication is None else [medication.get("form"), medication.get("doseForm")]
    spoken = [*words, *(word for told in (*routes, *forms) for word in texts(told))]
    coded = frozenset().union(*map(concepts_in, routes))
    if coded & _SYSTEMIC_ROUTES or any(_SYSTEMIC_WORDS.search(word.lower()) for word in spoken):
        return False
    return "route-local" in coded or any(_LOCAL_WORDS.search(word.lower()) for word in spoken)


_COMBINED = "combined-hormonal-contraceptive"
_PROGESTOGEN = "progestogen-only-contraceptive"


def _with_combination(found: frozenset[str]) -> frozenset[str]:
    """Ethinylestradiol together with a progestogen is a combined contraceptive, and no longer either of them.

    A contraceptive of a kind that is told, in the same words or beside them, is none of unknown kind.
    """
    both = {"ethinylestradiol", _PROGESTOGEN}
    if both <= found or _COMBINED in found:
        found = (found - both) | {_COMBINED}
    return found - {"contraceptive-unnamed"} if found & {_COMBINED, _PROGESTOGEN} else found
