"""One hook call with the child's record read: what the steps of the pipeline share."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from cards.build import NewRequest, Occasion, not_checked_card
from cards.model import Card
from cds_service.envelope import HookCall
from cds_service.errors import CannotAnswer, Refusal, TooLarge
from cds_service.runtime import Runtime
from cds_service.services import SERVICES
from cds_service.supply import Source, supplies_of
from fhir_mappings.drafts import (
    DraftedOrder,
    drafted_orders,
    named_resources,
    other_drafts,
    resources_of,
    unresolved_medications,
    unresolved_references,
)
from fhir_mappings.gather import gather
from fhir_mappings.lists import Lists, read_lists
from fhir_mappings.medicines import Medicines, medicines_read, pointer_of
from fhir_mappings.patient import find_patient, with_owners
from fhir_mappings.prefetch import Pool, Supply
from fhir_mappings.requests import service_request
from fhir_mappings.unknown_codes import count_unknown
from guideline.findings import OrderAssessment
from guideline.record import Record

MOST_DRAFTS = 100
"""Of one call. No prescriber signs as many; each costs some milliseconds and its cards some ten kilobytes."""

_log = logging.getLogger("jaki_cds")


@dataclass(frozen=True, slots=True)
class Concern:
    """What of a call concerns this guideline: drafts of JAK inhibitors, and of things a child on one should not get.

    ``orders`` may hold drafts whose drug could not be resolved. ``supplies`` and their ``pool`` are the data read so
    far; ``None`` where the drafts alone told enough: ``medicines`` are what they name then, whatever else is read.
    ``source`` is where more can be fetched.
    """

    source: Source
    supplies: dict[str, Supply] | None
    pool: Pool | None
    orders: tuple[DraftedOrder, ...]
    others: tuple[str, ...]
    medicines: Medicines = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steps:
    """What was read and concluded on the way to an answer: for the record of the call, never for its cards."""

    supplies: dict[str, Supply] = field(default_factory=dict)
    assessed: list[OrderAssessment] = field(default_factory=list)

    def keep(self, assessed: OrderAssessment) -> OrderAssessment:
        self.assessed.append(assessed)
        return assessed


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and the steps that led to it.

    ``marks``: by the uuid of a card the mark under which it would be known again; ``withheld``: the cards that a site
    does not want repeated, for the record (both empty unless a site asks for it).
    """

    body: dict[str, object]
    steps: Steps
    marks: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """The child's record, read once for all orders of the call."""

    pool: Pool
    lists: Lists
    record: Record
    steps: Steps


def drafts_of(call: HookCall) -> object:
    """The Bundle of drafts, or ``None`` for a hook that has none."""
    field = SERVICES[call.service_id].drafts_field
    return None if field is None else call.context.get(field)


def _pool(call: HookCall, drafts: object, supplies: dict[str, Supply], runtime: Runtime) -> Pool:
    """Everything that the call brought or that was fetched, with our codes beside the site's own."""
    return Pool(
        with_owners(_translated(supplies, runtime), call.patient_id),
        resources_of(drafts),
        server=call.fhir_server,
        urls=named_resources(drafts),
    )


def concern_of(call: HookCall, runtime: Runtime) -> Concern:
    """What of the call concerns this guideline; read from the drafts alone wherever that is enough."""
    drafts, source = runtime.site_codes.translated(drafts_of(call)), Source(call, runtime)
    # Most drafts name their drug by code or word: then the child's record need not even be looked at.
    alone = all(pointer_of(resource) is None for resource in resources_of(drafts))
    supplies = {} if alone else supplies_of(call)

    def read() -> tuple[Pool, list[DraftedOrder]]:
        pool = _pool(call, drafts, supplies, runtime)
        return pool, drafted_orders(drafts, call.selections, pool, call.patient_id)

    pool, found = read()
    lacking = unresolved_references(found, call.fhir_server)
    if lacking:
        supplies = {**supplies, **source.references(lacking)}
        pool, found = read()
    unresolved = [order for order in found if order.medicine.unresolved]
    if unresolved and len(unresolved) == len(found):
        raise CannotAnswer(
            "Every drafted order names its drug only by a reference, and none could be resolved."
        )
    orders = [o for o in found if o.medicine.unresolved or o.medicine.is_jak_inhibitor]
    others = other_drafts(drafts, call.selections, pool, call.patient_id)
    if len(orders) + len(others) > MOST_DRAFTS:
        raise TooLarge(
            f"More than {MOST_DRAFTS} of the drafted orders concern this guideline; send them in several calls."
        )
    if alone:
        return Concern(source, None, None, tuple(orders), tuple(others), medicines_read(pool))
    return Concern(source, supplies, pool, tuple(orders), tuple(others))


def _translated(supplies: dict[str, Supply], runtime: Runtime) -> dict[str, Supply]:
    """The supplies with our codes beside the site's own."""
    if not runtime.site_codes.targets:
        return supplies
    translated = runtime.site_codes.translated
    return {
        name: msgspec.structs.replace(
            supply,
            resources=tuple(map(translated, supply.resources)),
            urls={url: translated(resource) for url, resource in supply.urls.items()},
        )
        for name, supply in supplies.items()
    }


def read_case(call: HookCall, runtime: Runtime, concern: Concern, on: date, steps: Steps) -> Case:
    """The child's record, with everything fetched that was missing. Without the Patient: ``CannotAnswer``."""
    drafts = runtime.site_codes.translated(drafts_of(call))
    supplies = supplies_of(call) if concern.supplies is None else concern.supplies
    steps.supplies.update(concern.source.complete(supplies))
    pool = concern.pool
    if pool is None or not _is_same(steps.supplies, supplies):
        pool = _pool(call, drafts, steps.supplies, runtime)
        medicines_read(pool).update(concern.medicines)
    lacking = unresolved_medications(pool, call.patient_id, call.fhir_server)
    if lacking and (fetched := concern.source.references(lacking)):
        steps.supplies.update(fetched)
        pool = _pool(call, drafts, steps.supplies, runtime)
    patients = find_patient(pool, call.patient_id)
    if not patients:
        raise CannotAnswer(
            "The Patient is neither in the prefetch nor obtainable from fhirServer (key patient)."
        )
    runtime.count_unknown(count_unknown(pool))
    lists = read_lists(pool, call.patient_id, resources_of(drafts), on)
    return Case(pool, lists, gather(patients, pool, lists, on), steps)


def _is_same(supplies: dict[str, Supply], before: dict[str, Supply]) -> bool:
    """Whether nothing was added to what was there before."""
    return supplies.keys() == before.keys() and all(s is before[name] for name, s in supplies.items())


@contextmanager
def visible_failure(order: str | None, cards: list[Card], occasion: Occasion) -> Iterator[None]:
    """A fault of ours inside a good request becomes a card: the prescriber must see that nothing was checked.

    What is meant for the client (a 412, a 413) goes on to it.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as fault:
        where = traceback.extract_tb(fault.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        _log.error("order not assessed", extra={"fields": {"fault": type(fault).__name__, "at": place}})
        cards.append(not_checked_card("failure", order, (), occasion))


def new_request(call: HookCall) -> NewRequest:
    """How a suggestion writes the order of a test for this child."""
    return lambda name, due: service_request(name, call.patient_id, due)
