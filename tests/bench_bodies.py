"""Hook requests for measuring: one invented child, and as many Observations as are asked for, shaped like real ones.

An Observation of a hospital's server has about 1.1 kB: its profile, category, subject, encounter, two times, a coded
quantity, a reference range and an interpretation. Every seventeenth is a code of one set of bloods and growth; some of
these codes no table uses, as in real answers. Each request comes in variants, with other values, times and ids, as of
other children: a service that remembered what it read last would gain nothing. All of it follows from day and variant.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from builders import (
    LOINC,
    POLY_JIA,
    RXNORM,
    Json,
    answer,
    bundle,
    concept,
    condition,
    draft,
    order,
    quantity,
    vaccination,
)

from cds_service.json_reader import write_json
from fhir_mappings.prefetch import keys

SEED = 20261122
HOURS_BETWEEN = 11
VARIANTS = 16
AMOXICILLIN = "723"


@dataclass(frozen=True, slots=True)
class Analyte:
    """A code of the set: in which prefetch key it comes, its unit, and the span of its values and reference range."""

    key: str
    code: str
    title: str
    unit: str
    low: str
    high: str
    category: str = "laboratory"


# The first ten are what a start needs, so that also the smallest body gets a dose.
ANALYTES = (
    Analyte("growth", "29463-7", "Body weight", "kg", "28", "29", "vital-signs"),
    Analyte("growth", "8302-2", "Body height", "cm", "131", "133", "vital-signs"),
    Analyte("kidney", "2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", "0.4", "0.6"),
    Analyte("bloodCount", "718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", "11.5", "14"),
    Analyte("bloodCount", "751-8", "Neutrophils [#/volume] in Blood by Automated count", "10*3/uL", "2", "6"),
    Analyte("bloodCount", "731-0", "Lymphocytes [#/volume] in Blood by Automated count", "10*3/uL", "2", "4"),
    Analyte(
        "bloodCount", "777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", "200", "400"
    ),
    Analyte(
        "bloodCount", "6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", "5", "11"
    ),
    Analyte(
        "liver", "1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum", "U/L", "8", "30"
    ),
    Analyte(
        "liver",
        "1920-8",
        "Aspartate aminotransferase [Enzymatic activity/volume] in Serum",
        "U/L",
        "10",
        "35",
    ),
    Analyte(
        "bloodCount", "4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", "34", "42"
    ),
    Analyte(
        "lipidsAndMuscle", "13457-7", "Cholesterol in LDL [Mass/volume] calculated", "mg/dL", "60", "110"
    ),
    Analyte("lipidsAndMuscle", "2085-9", "Cholesterol in HDL [Mass/volume]", "mg/dL", "40", "70"),
    Analyte(
        "lipidsAndMuscle", "2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", "120", "180"
    ),
    Analyte(
        "lipidsAndMuscle", "2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", "50", "110"
    ),
    Analyte("lipidsAndMuscle", "2157-6", "Creatine kinase [Enzymatic activity/volume]", "U/L", "40", "150"),
    Analyte(
        "inflammation", "1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "mg/L", "1", "9"
    ),
)


def observation(
    number: int, analyte: Analyte, taken: datetime, chance: random.Random, factor: Decimal = Decimal(1)
) -> Json:
    """One result, as a hospital's server writes it; ``factor`` makes the child smaller or larger."""
    low, high = Decimal(analyte.low) * factor, Decimal(analyte.high) * factor
    value = (low + (high - low) * Decimal(chance.randrange(101)) / 100).quantize(Decimal("0.01"))
    moment = taken.isoformat(timespec="seconds") + "+00:00"
    categories = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": f"obs-{chance.randrange(10**8)}-{number}",
        "meta": {
            "versionId": "1",
            "lastUpdated": moment,
            "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"],
        },
        "status": "final",
        "category": [
            {"coding": [{"system": categories, "code": analyte.category, "display": analyte.category}]}
        ],
        "code": {
            "coding": [{"system": LOINC, "code": analyte.code, "display": analyte.title}],
            "text": analyte.title,
        },
        "subject": {"reference": "Patient/p1", "display": "Invented, Child"},
        "encounter": {"reference": f"Encounter/visit-{number // len(ANALYTES)}"},
        "effectiveDateTime": moment,
        "issued": moment,
        "valueQuantity": quantity(value, analyte.unit),
        "interpretation": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                        "code": "N",
                        "display": "Normal",
                    }
                ]
            }
        ],
        "referenceRange": [
            {
                "low": quantity(low * Decimal("0.8"), analyte.unit),
                "high": quantity(high * Decimal("1.2"), analyte.unit),
                "text": f"{low} to {high} {analyte.unit}",
            }
        ],
    }


def _prefetch(results: Iterator[tuple[str, Json]], on: date, **lists: list[Json]) -> Json:
    """Every key of discovery; ``results`` are pairs of key and Observation, ``lists`` what the other keys hold."""
    by_key: dict[str, list[Json]] = {
        "conditions": [condition(POLY_JIA)],
        "screening": [
            answer("71773-6", "260385009", "igra-1", on.isoformat()),
            answer("19162-7", "10828004", "vzv-1", on.isoformat()),
            answer("17850-9", "260385009", "hsv-1", on.isoformat()),
        ],
        "immunizations": [vaccination("03", "mmr-1", (on - timedelta(days=2900)).isoformat())],
        **lists,
    }
    for key, resource in results:
        by_key.setdefault(key, []).append(resource)
    birth = (on - timedelta(days=3700)).isoformat()
    patient: Json = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": birth}
    return {
        key.name: patient if key.name == "patient" else bundle(*by_key.get(key.name, [])) for key in keys()
    }


def _first(newest: date, chance: random.Random) -> datetime:
    """The moment of the newest result, some time in the morning."""
    return datetime.combine(newest, time(7)) - timedelta(seconds=chance.randrange(7 * 3600))


def _series(count: int, newest: date, variant: int) -> Iterator[tuple[str, Json]]:
    """``count`` results, one every eleven hours backwards, the codes in turn."""
    chance = random.Random(SEED + variant)
    last = _first(newest, chance)
    for number in range(count):
        analyte = ANALYTES[number % len(ANALYTES)]
        yield (
            analyte.key,
            observation(number, analyte, last - timedelta(hours=HOURS_BETWEEN * number), chance),
        )


def _call(hook: str, prefetch: Json, *drafts: Json) -> Json:
    context: Json = {"patientId": "p1", "userId": "Practitioner/x"}
    if hook != "patient-view":
        context["draftOrders"] = bundle(*drafts)
    if hook == "order-select":
        context["selections"] = [f"MedicationRequest/{one['id']}" for one in drafts]
    return {
        "hook": hook,
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": context,
        "prefetch": prefetch,
    }


def selecting(count: int, on: date, variant: int = 0) -> Json:
    """Tofacitinib chosen, dose too low, for a child with ``count`` results: a dose card with suggestions."""
    return _call("order-select", _prefetch(_series(count, on, variant), on), draft("tofacitinib", 3))


def selecting_another(count: int, on: date, variant: int = 0) -> Json:
    """An antibiotic chosen for the same child, who takes no JAK inhibitor: nothing to say."""
    amoxicillin = {
        **draft("tofacitinib", 250, 3),
        "medicationCodeableConcept": concept(AMOXICILLIN, RXNORM, "Amoxicillin"),
    }
    return _call("order-select", _prefetch(_series(count, on, variant), on), amoxicillin)


def viewing(count: int, on: date, variant: int = 0) -> Json:
    """The record of a child on tofacitinib opened."""
    running = order("tofacitinib", 4, start=(on - timedelta(days=200)).isoformat())
    return _call("patient-view", _prefetch(_series(count, on, variant), on, medicationRequests=[running]))


VISITS = 78
# Weight and height of a girl of twelve and of a baby, as parts of what the set above has for ten years.
AT_TWELVE = {"29463-7": Decimal("1.4"), "8302-2": Decimal("1.14")}
AT_BIRTH = {"29463-7": Decimal("0.15"), "8302-2": Decimal("0.41")}


def long_history(on: date, variant: int = 0) -> Json:
    """Twelve years of one child: a visit every eight weeks with the whole set, courses, vaccinations, operations."""
    chance = random.Random(SEED + variant)
    last = _first(on, chance)
    visits = [last - timedelta(days=56 * visit) for visit in range(VISITS)]

    def size(analyte: Analyte, visit: int) -> Decimal:
        newest, first = (ages.get(analyte.code, Decimal(1)) for ages in (AT_TWELVE, AT_BIRTH))
        return (newest - (newest - first) * visit / VISITS).quantize(Decimal("0.001"))

    results = (
        (
            analyte.key,
            observation(visit * len(ANALYTES) + place, analyte, taken, chance, size(analyte, visit)),
        )
        for visit, taken in enumerate(visits)
        for place, analyte in enumerate(ANALYTES)
    )

    def day(years: float) -> str:
        return (on - timedelta(days=int(365 * years))).isoformat()

    def past(id_: str, rxnorm: str, name: str, since: float, until: float) -> Json:
        period = {"start": day(since), "end": day(until)}
        return {
            **draft("tofacitinib", id_=id_, status="completed", authoredOn=day(since)),
            "medicationCodeableConcept": concept(rxnorm, RXNORM, name),
            "dosageInstruction": [{"timing": {"repeat": {"boundsPeriod": period}}}],
        }

    courses = [
        order("tofacitinib", 4, start=day(1.5)),
        past("mtx", "6851", "Methotrexate", 9, 1.5),
        past("eta", "214555", "Etanercept", 7, 3),
        *(past(f"amox-{n}", AMOXICILLIN, "Amoxicillin", n / 2, n / 2 - 0.02) for n in range(1, 20)),
    ]
    conditions = [
        condition(POLY_JIA, "c1", onsetDateTime=day(9)),
        *(
            condition(
                "65363002",
                f"otitis-{n}",
                onsetDateTime=day(n),
                clinicalStatus=concept(
                    "resolved", "http://terminology.hl7.org/CodeSystem/condition-clinical"
                ),
            )
            for n in range(1, 10)
        ),
    ]
    vaccinations = [
        vaccination(cvx, f"v{number}", day(years))
        for number, (cvx, years) in enumerate(
            [("20", 11.8), ("20", 11.7), ("20", 11.6), ("03", 10.9), ("03", 6), ("21", 10.9), ("21", 6)]
        )
    ]
    lists = {"conditions": conditions, "medicationRequests": courses, "immunizations": vaccinations}
    call = _call("order-select", _prefetch(results, on, **lists), draft("tofacitinib", 3))
    call["prefetch"]["patient"]["birthDate"] = day(12.2)
    return call


@dataclass(frozen=True, slots=True)
class Body:
    """A request to be measured: its name in the table, the Observations that it holds, how it is made for a day."""

    name: str
    observations: int
    make: Callable[[date, int], Json]

    def bytes(self, on: date, variant: int = 0) -> bytes:
        raw = write_json(self.make(on, variant))
        return re.sub(rb'(Patient/|"id":"|"patientId":")p1"', rb'\g<1>p%d"' % (variant + 1), raw)

    def variants(self, on: date) -> list[bytes]:
        """Requests for several children."""
        return [self.bytes(on, variant) for variant in range(VARIANTS if self.observations <= 200 else 4)]

    @property
    def hook(self) -> str:
        return "patient-view" if self.name.startswith("patient-view") else "order-select"


def _selecting(count: int) -> Body:
    return Body(f"{count} Observations", count, lambda on, variant: selecting(count, on, variant))


def _another(count: int) -> Body:
    return Body(
        f"no JAK inhibitor, {count}", count, lambda on, variant: selecting_another(count, on, variant)
    )


BODIES = (
    *map(_selecting, (10, 30, 200, 2_000)),
    *map(_another, (10, 200)),
    Body("patient-view, 30", 30, lambda on, variant: viewing(30, on, variant)),
    Body("twelve years", VISITS * len(ANALYTES), long_history),
)
