"""The lists of the record - conditions, procedures, medicines, allergies - as yes/no facts with their reasons.

"No" means that the list was answered in full and holds none (ruling 18). A list that was not supplied, failed,
broke off or held something unreadable can say yes, never no.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, partial

import msgspec

from fhir_mappings.diagnoses import diagnosis_in_words
from fhir_mappings.dosage import read_dose
from fhir_mappings.elements import (
    Resource,
    codings,
    concepts_in,
    is_modified,
    is_of_patient,
    period,
    read_date,
    read_span,
    reference,
    status_of,
    texts,
)
from fhir_mappings.medicines import (
    Medicine,
    is_coded_product,
    is_spoken_of,
    medicine_of,
    named_in,
    read_medicine,
    settled_vaccine,
)
from fhir_mappings.prefetch import Pool
from fhir_mappings.products import listed
from guideline.facts import FactKind, vocabulary
from guideline.record import INTRAVENOUS, Event, RecordedOrder
from guideline.values import Cause, Evidence, Fact, Known, Missing, Reason

_ACTIVE_CLINICAL = ("active", "recurrence", "relapse")
_PAST_CLINICAL = ("inactive", "remission", "resolved")
_NEVER_VERIFIED = ("refuted", "entered-in-error")
_NONE: frozenset[str] = frozenset()
_UNCONFIRMED: Mapping[str, str] = {
    "provisional": "a provisional diagnosis",
    "differential": "a differential diagnosis",
    "unconfirmed": "an unconfirmed diagnosis",
}
MEDICATION_TYPES = ("MedicationRequest", "MedicationOrder", "MedicationStatement")
_TAKEN = ("active", "completed", "stopped", "ended", "on-hold", "in-progress", "recorded", "unknown")
_NOT_TAKEN = ("draft", "cancelled", "entered-in-error", "intended", "not-taken", "submitted")
_ENDED = ("stopped", "cancelled", "completed")
_NOT_AN_ORDER = ("proposal", "plan", "option")


class Item(msgspec.Struct, frozen=True):
    """One entry of a list that counts: what it is, since when, and whether it is current, past or completed.

    ``drafted`` entries stand in the request's own drafts: present, but no history. A disease in ``remission`` is not
    current, and still the child's disease: remission on the drug is what the drug is given for; an ``inactive`` one
    counts only where the order itself names it. ``until`` is the day on which a medicine ended or is to end, where
    the record says so. ``unconfirmed`` is the word for a diagnosis that is not confirmed: it counts, and the card says
    what it is.
    """

    concepts: frozenset[str]
    on: date | None
    source: str
    current: bool
    by_name: bool = False
    completed: bool = False
    drafted: bool = False
    remission: bool = False
    inactive: bool = False
    until: date | None = None
    unconfirmed: str | None = None


class RecordList(msgspec.Struct, frozen=True):
    """One list of the record. ``gap``: why it may be incomplete."""

    items: tuple[Item, ...]
    gap: Reason | None


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of the record by the names that ``facts.yaml`` uses."""

    conditions: RecordList
    procedures: RecordList
    medications: RecordList
    allergies: RecordList
    immunizations: RecordList
    operations: RecordList
    drafts: RecordList
    condition_resources: tuple[Resource, ...]
    orders: tuple[RecordedOrder, ...]

    def of(self, name: str) -> RecordList:
        found: RecordList = getattr(self, name)
        return found


def read_lists(pool: Pool, patient_id: str, drafts: Iterable[Resource], on: date) -> Lists:
    """Every list of the record as of ``on``; the request's ``drafts`` are a list of their own.

    An order on record that is being changed (a draft with its id) is what the draft says from now on; that it ran
    until today stays part of the course of treatment.
    """
    drafts = tuple(drafts)
    # A draft without id is named by its type alone, like any other resource without id.
    drafted = frozenset(own for resource in drafts if "/" in (own := reference(resource)))
    conditions, active = _conditions(pool, patient_id)
    ended = frozenset(reference(resource) for resource in drafts if status_of(resource) in _ENDED)
    medications, orders = _medications(pool, patient_id, drafted, ended, on)
    return Lists(
        conditions=conditions,
        procedures=_simple(pool, patient_id, "procedures", ("Procedure",), _procedure),
        medications=medications,
        allergies=_simple(pool, patient_id, "allergies", ("AllergyIntolerance",), _allergy),
        immunizations=_simple(
            pool, patient_id, "immunizations", ("Immunization",), partial(_immunization, today=on)
        ),
        operations=_simple(pool, patient_id, "operations", _OPERATION_TYPES, _operation),
        drafts=_drafted(pool, patient_id, drafts),
        condition_resources=active,
        orders=orders,
    )


# --- conditions -----------------------------------------------------------------------------------


def _code_of(value: object) -> str | None:
    """A status given as a code (STU3) or as a CodeableConcept (R4), whose system may be lacking."""
    if isinstance(value, dict):
        parts = [part for part in listed(value.get("coding")) if isinstance(part, dict)]
        value = next((part["code"] for part in parts if isinstance(part.get("code"), str)), None)
    return value.strip().lower() if isinstance(value, str) and value.strip() else None


def is_active_condition(resource: Resource) -> bool:
    """Active, recurring or of unsaid clinical status; refuted and erroneous ones never."""
    verification = _code_of(resource.get("verificationStatus"))
    if verification in _NEVER_VERIFIED:
        return False
    clinical = _code_of(resource.get("clinicalStatus"))
    if clinical in _ACTIVE_CLINICAL:
        return True
    if clinical in _PAST_CLINICAL:
        return False
    # Unsaid, "unknown" (R5) or in words of the site: only an end on record makes it past.
    return not any(
        name.startswith("abatement") and value not in (None, False) for name, value in resource.items()
    )


def is_in_remission(resource: Resource) -> bool:
    """In remission and neither refuted nor erroneous."""
    verified = _code_of(resource.get("verificationStatus")) not in _NEVER_VERIFIED
    return verified and _code_of(resource.get("clinicalStatus")) == "remission"


def is_at_rest(resource: Resource) -> bool:
    """In remission or inactive, not resolved, and neither refuted nor erroneous."""
    verified = _code_of(resource.get("verificationStatus")) not in _NEVER_VERIFIED
    return verified and _code_of(resource.get("clinicalStatus")) in ("remission", "inactive")


def is_never_true(resource: Resource) -> bool:
    """Refuted or entered in error by its verification, or said not to have been done, given or taken."""
    if _code_of(resource.get("verificationStatus")) in _NEVER_VERIFIED:
        return True
    names = ("notDone", "notPerformed", "notGiven", "wasNotGiven", "wasNotTaken", "doNotPerform")
    return any(resource.get(name) is True for name in names)


_WHAT = (
    "code",
    "substance",
    "vaccineCode",
    "category",
    "serviceType",
    "serviceCategory",
    "reasonCode",
    "reason",
)


def _says_what(resource: Resource) -> Iterator[bool]:
    """Whether any element that may say what the entry is does so."""
    return (not _names_nothing(resource.get(name)) for name in _WHAT)


def _names_nothing(concept: object) -> bool:
    """Whether neither a code nor a word says what it is: then it could be anything."""
    return not any(codings(concept)) and not any(word.strip() for word in texts(concept))


_RECORDED = ("recordedDate", "assertedDate", "dateRecorded")  # R4 and R5, STU3, DSTU2


def _first_date(resource: Resource, names: tuple[str, ...]) -> date | None:
    return next((on for name in names if (on := read_date(resource.get(name))) is not None), None)


def _conditions(pool: Pool, patient_id: str) -> tuple[RecordList, tuple[Resource, ...]]:
    items: list[Item] = []
    active: list[Resource] = []
    gap = pool.gap("conditions")
    for resource in pool.of("Condition"):
        if not is_of_patient(resource, patient_id):
            continue
        if is_modified(resource) or _names_nothing(resource.get("code")):
            gap = gap or Reason.UNREADABLE
        elif _code_of(resource.get("verificationStatus")) not in _NEVER_VERIFIED:
            current = is_active_condition(resource)
            if current:
                active.append(resource)
            onset = read_date(resource.get("onsetDateTime")) or period(resource, "onsetPeriod")[0]
            onset = onset or _first_date(resource, _RECORDED)
            coded = concepts_in(resource.get("code"))
            named = _NONE if coded else diagnosis_in_words(resource.get("code"))
            items.append(
                Item(
                    coded | named,
                    onset,
                    reference(resource),
                    current,
                    by_name=bool(named),
                    remission=is_in_remission(resource),
                    inactive=_code_of(resource.get("clinicalStatus")) == "inactive",
                    unconfirmed=_UNCONFIRMED.get(_code_of(resource.get("verificationStatus")) or ""),
                )
            )
    return RecordList(tuple(items), gap), tuple(active)


# --- procedures and allergies ---------------------------------------------------------------------


def _simple(
    pool: Pool, patient_id: str, name: str, types: tuple[str, ...], read: Callable[[Resource], Item | None]
) -> RecordList:
    items: list[Item] = []
    gap = pool.gap(name)
    for resource in pool.of(*types):
        if not is_of_patient(resource, patient_id):
            continue
        if is_modified(resource) or not any(_says_what(resource)):
            gap = gap or Reason.UNREADABLE
        elif (item := read(resource)) is not None:
            items.append(item)
    return RecordList(tuple(items), gap)


def _procedure(resource: Resource) -> Item | None:
    if status_of(resource) in ("entered-in-error", "not-done", "aborted", "preparation"):
        return None
    if resource.get("notDone") is True or resource.get("notPerformed") is True:  # STU3, DSTU2
        return None
    on: date | None = None
    for name in ("performed", "occurrence"):  # R4, R5
        start, end = period(resource, f"{name}Period")
        on = on or read_date(resource.get(f"{name}DateTime")) or end or start
    return Item(concepts_in(resource.get("code")), on, reference(resource), current=True)


def _allergy(resource: Resource) -> Item | None:
    if _code_of(resource.get("verificationStatus")) in _NEVER_VERIFIED:
        return None
    if _code_of(resource.get("clinicalStatus")) in ("inactive", "resolved"):
        return None
    if status_of(resource) in ("inactive", "resolved", *_NEVER_VERIFIED):  # DSTU2
        return None
    what = resource.get("code") or resource.get("substance")
    found = concepts_in(what)
    for reaction in listed(resource.get("reaction")):
        if isinstance(reaction, dict) and not is_modified(reaction):
            found |= concepts_in(reaction.get("substance"))
    named = read_medicine({"medicationCodeableConcept": what}, _NO_POOL)
    on = read_date(resource.get("recordedDate")) or read_date(resource.get("assertedDate"))
    by_name = named.by_name and not named.concepts <= found
    return Item(found | named.concepts, on, reference(resource), current=True, by_name=by_name)


_NO_POOL = Pool({})

_OPERATION_TYPES = ("ServiceRequest", "ProcedureRequest", "Appointment", "Procedure")
_PLANNED = ("active", "booked", "pending", "proposed", "arrived", "checked-in", "waitlist", "preparation")


def _operation(resource: Resource) -> Item | None:
    """A planned operation: active request, appointment, or procedure in preparation, surgical by code (ruling 17)."""
    if status_of(resource) not in _PLANNED or resource.get("intent") in ("proposal", "option"):
        return None
    found: frozenset[str] = frozenset()
    for name in ("code", "category", "serviceType", "serviceCategory", "reasonCode", "reason"):
        found |= concepts_in(resource.get(name))
    if not found & {"operation", "surgical-procedure"}:
        return None
    start, _ = period(resource, "occurrencePeriod")
    on = read_date(resource.get("occurrenceDateTime")) or start or read_date(resource.get("start"))
    on = on or read_date(resource.get("scheduledDateTime"))  # DSTU2
    return Item(found, on or read_date(resource.get("performedDateTime")), reference(resource), current=True)


def _immunization(resource: Resource, today: date) -> Item | None:
    if (
        status_of(resource) in ("entered-in-error", "not-done", "refused")
        or resource.get("wasNotGiven") is True  # DSTU2
        or resource.get("notGiven") is True  # STU3
    ):
        return None
    span = read_span(resource.get("occurrenceDateTime")) or read_span(resource.get("date"))
    # Of "May 2026" the last day counts: how recent a live vaccine is matters. One in the future has no usable date.
    on = min(span[1], today) if span is not None and span[0] <= today else None
    return Item(vaccines_in(resource.get("vaccineCode")), on, reference(resource), current=True)


def _drafted(pool: Pool, patient_id: str, drafts: Iterable[Resource]) -> RecordList:
    """The drafts of the request: medicines, vaccines and recommendations to vaccinate."""
    items = []
    for resource in drafts:
        own = reference(resource)
        if not is_of_patient(resource, patient_id) or is_withdrawn(resource):
            continue
        found = draft_concepts(resource, pool)
        if found:
            items.append(Item(found, None, own, current=True, drafted=True))
    return RecordList(tuple(items), None)


_WITHDRAWN = ("entered-in-error", "cancelled", "stopped", "not-done")


def is_withdrawn(resource: Resource) -> bool:
    """Whether a draft takes something back, or says that it is not to be given."""
    return status_of(resource) in _WITHDRAWN or resource.get("doNotPerform") is True


def draft_concepts(resource: Resource, pool: Pool) -> frozenset[str]:
    """What a drafted order or vaccination is, whatever its resource type."""
    if resource.get("resourceType") in ("MedicationRequest", "MedicationOrder"):
        return medicine_of(resource, pool).concepts
    found = vaccines_in(resource.get("vaccineCode")) | concepts_in(resource.get("code"))
    found |= _vaccines_named(resource.get("code"), list(texts(resource.get("code"))))
    for entry in listed(resource.get("recommendation")):
        if isinstance(entry, dict):
            found |= vaccines_in(entry.get("vaccineCode"))
    return found


def vaccines_in(value: object) -> frozenset[str]:
    """The vaccine of a ``vaccineCode``: by its codes, else by its words ("MMR" is the vaccine there, not the test)."""
    found: frozenset[str] = frozenset()
    for each in listed(value) if isinstance(value, list) else (value,):
        words = [word for text in texts(each) for word in (text, f"{text} vaccine")]
        coded = settled_vaccine(concepts_in(each), words)
        found |= coded or _vaccines_named(each, words)
    return found


_VACCINATION = re.compile(r"\b(?:vaccination|immuni[sz]ation)\b", re.I)


def _vaccines_named(holder: object, words: list[str]) -> frozenset[str]:
    words = [spelling for word in words for spelling in (word, _VACCINATION.sub("vaccine", word))]
    named = frozenset(concept for concept in named_in(words) if "-vaccine" in concept)
    return settled_vaccine(named, words, coded=is_coded_product(holder))


# --- medicines ------------------------------------------------------------------------------------


def counts_as_taken(resource: Resource) -> bool:
    """Whether an order or statement is of a medicine that the child takes or took, for all that it says itself."""
    if status_of(resource) in _NOT_TAKEN or resource.get("doNotPerform") is True:
        return False
    if resource.get("wasNotTaken") is True or resource.get("taken") in ("n", "na"):
        return False
    if _adherence(resource).startswith("not-taking"):
        return False
    intent = resource.get("intent")
    # What a patient or a letter reports is recorded as a plan that is reported (US Core, medication lists).
    return intent not in _NOT_AN_ORDER or (intent == "plan" and _is_reported(resource))


def _is_reported(resource: Resource) -> bool:
    """Whether an order is the record of a medicine that somebody says the child takes (R4, R5)."""
    told = (resource.get("reportedBoolean"), resource.get("reported"))
    return any(value is True for value in told) or bool(resource.get("reportedReference"))


def _adherence(resource: Resource) -> str:
    """What an R5 MedicationStatement says of whether the child takes it; R5 keeps that out of the status."""
    adherence = resource.get("adherence")
    code = _code_of(adherence.get("code")) if isinstance(adherence, dict) else None
    return code or ""


def _medications(
    pool: Pool, patient_id: str, drafted: frozenset[str], ended: frozenset[str], on: date
) -> tuple[RecordList, tuple[RecordedOrder, ...]]:
    items: list[Item] = []
    orders: list[RecordedOrder] = []
    gap = pool.gap("medications")
    for resource in pool.of(*MEDICATION_TYPES):
        start, end = _span_of(resource)
        changing = reference(resource) in drafted
        if status_of(resource) in _NOT_TAKEN or (changing and (start is None or start >= on)):
            continue
        if not is_of_patient(resource, patient_id):
            continue
        if is_modified(resource) or status_of(resource) not in _TAKEN:
            gap = gap or Reason.UNREADABLE
            continue
        if not counts_as_taken(resource):
            continue
        medicine = medicine_of(resource, pool)
        lost = medicine.unresolved and not is_spoken_of(resource)
        if lost or medicine.names_nothing or medicine.contradictory:
            gap = gap or Reason.UNREADABLE
            continue
        current = status_of(resource) in ("active", "on-hold", "in-progress", "recorded", "unknown")
        if status_of(resource) == "recorded" and (  # R5 has no status for "no longer taken"
            (end is not None and end < on) or _adherence(resource).startswith("stopped")
        ):
            current = False
        completed = status_of(resource) == "completed"
        if not changing:
            # An ended order without its end ended on or after the day on which it was written.
            until = end if end is not None or current else start
            items.append(
                Item(
                    medicine.concepts | _by_vein(resource, medicine.concepts),
                    start,
                    reference(resource),
                    current,
                    medicine.by_name,
                    completed,
                    until=until,
                )
            )
        elif reference(resource) in ended:
            items.append(
                Item(medicine.concepts, start, reference(resource), False, medicine.by_name, until=on)
            )
        drug = medicine.jak_inhibitor
        if drug is not None:
            orders.append(_recorded(drug, resource, medicine))
    return RecordList(tuple(items), gap), tuple(orders)


_VEIN = re.compile(r"\b(?:intravenous(?:ly)?|i\.?v\.?|infusion)(?!\w)", re.I)


def _by_vein(resource: Resource, concepts: frozenset[str]) -> frozenset[str]:
    """An antibiotic that is given into a vein makes an infection a serious one (A-35)."""
    if not concepts & frozenset(vocabulary()["antibiotic"].concepts):
        return frozenset()
    routes = [
        dosage.get("route")
        for dosage in listed(resource.get("dosageInstruction", resource.get("dosage")))
        if isinstance(dosage, Mapping)
    ]
    words = [word for named in (*routes, resource.get("medicationCodeableConcept")) for word in texts(named)]
    coded = any("route-intravenous" in concepts_in(route) for route in routes)
    return frozenset({INTRAVENOUS}) if coded or any(_VEIN.search(word) for word in words) else frozenset()


def _recorded(drug: str, resource: Resource, medicine: Medicine) -> RecordedOrder:
    start, end = _span_of(resource)
    active = status_of(resource) in ("active", "in-progress", "recorded")
    if _adherence(resource).startswith(("stopped", "on-hold")):
        active = False
    assert medicine.product is not None
    return RecordedOrder(drug, active, start, end, read_dose(resource, medicine.product), reference(resource))


def _span_of(resource: Resource) -> tuple[date | None, date | None]:
    """When the treatment of an order or statement began and ended, as far as the record says (ruling 16)."""
    start = read_date(resource.get("authoredOn")) or read_date(resource.get("dateWritten"))
    end: date | None = None
    for name in ("effectivePeriod", "effective", "effectiveDosePeriod"):  # the last in an R5 request
        began, ended = period(resource, name)
        start, end = began or start, ended or end
    start = read_date(resource.get("effectiveDateTime")) or start
    for dosage in listed(resource.get("dosageInstruction", resource.get("dosage"))):
        timing = dosage.get("timing") if isinstance(dosage, dict) else None
        repeat = timing.get("repeat") if isinstance(timing, dict) else None
        if isinstance(repeat, dict):
            began, ended = period(repeat, "boundsPeriod")
            start, end = start or began, max(filter(None, (end, ended)), default=None)
    if start is None:
        start = read_date(resource.get("dateAsserted"))
    if end is None and status_of(resource) in ("completed", "stopped", "ended"):
        end = _supplied_until(resource, start)
    return start, end


def _supplied_until(resource: Resource, start: date | None) -> date | None:
    dispense = resource.get("dispenseRequest")
    if not isinstance(dispense, dict) or is_modified(dispense):
        return None
    supply = dispense.get("expectedSupplyDuration")
    if (
        start is None
        or not isinstance(supply, dict)
        or supply.get("code", supply.get("unit")) not in ("d", "days")
    ):
        return None
    value = supply.get("value")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LONGEST_SUPPLY:
        return None
    return start + timedelta(days=value)


_LONGEST_SUPPLY = 400
"""Days; a longer supply on one order is taken for a slip and not used."""


# --- yes/no facts ---------------------------------------------------------------------------------


_LISTS = ("conditions", "procedures", "medications", "allergies", "immunizations", "operations", "drafts")


def read_flags(lists: Lists) -> dict[str, Fact]:
    """Every yes/no fact of the vocabulary that is read from lists alone."""
    found: dict[str, Fact] = {}
    for read_from, by_concept in _flags().items():
        sources = [(part, lists.of(part)) for part in read_from]
        # Of the many things that could stand in a list most do not, and say no in the same words.
        found |= dict.fromkeys(by_concept[_ANY], _none_found(sources))
        concepts = {concept for _, each in sources for item in each.items for concept in item.concepts}
        for name in {name for concept in concepts for name in by_concept.get(concept, ())}:
            found[name] = _flag(vocabulary()[name], sources)
    return found


_ANY = ""


@cache
def _flags() -> Mapping[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """The yes/no facts of lists: by the lists that they are read from, then by concept (all of them at ``_ANY``)."""
    found: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    for kind in vocabulary().values():
        if kind.kind == "choice" and kind.concepts and all(part in _LISTS for part in kind.read_from):
            by_concept = found.setdefault(kind.read_from, {})
            for concept in (_ANY, *kind.concepts, *kind.perhaps):
                by_concept[concept] = (*by_concept.get(concept, ()), kind.name)
    return found


def _none_found(sources: Iterable[tuple[str, RecordList]]) -> Fact:
    causes = tuple(Cause(name, each.gap) for name, each in sources if each.gap is not None)
    return Missing(causes) if causes else Known("no")


def _flag(kind: FactKind, sources: list[tuple[str, RecordList]]) -> Fact:
    wanted = frozenset(kind.concepts)
    evidence: list[Evidence] = []
    for name, record_list in sources:
        for item in record_list.items:
            if item.concepts & wanted and _counts(item, kind):
                label = _label(item.concepts & wanted)
                evidence.append(Evidence(name, label, on=item.on, source=item.source, note=item.unconfirmed))
    if evidence:
        return Known("yes", tuple(evidence))
    perhaps = any(not i.concepts.isdisjoint(kind.perhaps) for _, each in sources for i in each.items)
    return _open(kind) if perhaps else _none_found(sources)


def _open(kind: FactKind) -> Fact:
    """A yes/no fact where an entry does not say enough to answer it: a zoster vaccine may be live, or not."""
    return Missing.of(
        kind.named,
        Reason.UNREADABLE,
        "the draft does not say whether the vaccine is live; a live one is to be avoided",
    )


def _counts(item: Item, kind: FactKind) -> bool:
    if kind.statuses == "ever":
        return not item.drafted
    if (
        kind.statuses == "ever-confirmed"
    ):  # what settles a question has to be sure: a suspected chickenpox does not
        return item.unconfirmed is None and not item.by_name
    return item.completed if kind.statuses == "completed" else item.current


def only_draft(lists: Lists, own: str) -> Lists:
    """The lists with one draft as the only medicine, so that only what it adds is judged."""
    nothing = RecordList((), None)
    drafts = RecordList(tuple(i for i in lists.drafts.items if i.source == own), None)
    return replace(lists, medications=nothing, drafts=drafts)


def events_of(record_list: RecordList) -> tuple[Event, ...]:
    return tuple(Event(item.concepts, item.on, item.source) for item in record_list.items)


def _label(concepts: frozenset[str]) -> str:
    return ", ".join(sorted(concepts))


def gap_of(name: str, record_list: RecordList) -> tuple[Cause, ...]:
    return (Cause(name, record_list.gap),) if record_list.gap is not None else ()
