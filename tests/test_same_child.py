"""Many children by chance, each told in many ways: R4, R5, STU3; US or UK units and codes; another code of the same
concept; a hospital's own codes. The findings must be the same, word for word.

A child has anything of our code tables: diseases, medicines, vaccines, procedures, tests in words, numbers at any
place of their range. Numbers are chosen so that each is exact in both units.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from builders import (
    ATC,
    LOINC,
    RXNORM,
    SNOMED,
    Json,
    answer,
    bundle,
    concept,
    condition,
    divided,
    draft,
    hook_request,
    observation,
    order,
    prefetch_of,
    vaccination,
)
from test_mapping_versions import UK, US, procedure, r5, rewritten, statement, stu3, told

from cds_service.envelope import read_call
from cds_service.json_reader import read_json, write_json
from cds_service.pipeline import respond
from cds_service.runtime import Runtime, make_runtime
from cds_service.services import SERVICES
from cds_service.settings import Settings
from fhir_mappings.concepts import Use, concepts_of, index
from fhir_mappings.site_codes import NO_SITE_CODES, SiteCodes, load_site_codes

SETTINGS = Settings(demo=True, log_level="error")
CVX = "http://hl7.org/fhir/sid/cvx"
LOCAL = "https://hospital.example/own"
STEPS = {  # (lowest, highest, step) in the unit of the United States
    "weight": ("15", "150", "0.5"),
    "height": ("30", "72", "0.25"),
    "creatinine": ("0.1", "3", "0.05"),
    "haemoglobin": ("5", "16", "0.1"),
    "neutrophils": ("100", "9000", "50"),
    "lymphocytes": ("0.1", "5", "0.05"),
    "whiteCells": ("0.5", "15", "0.1"),
    "platelets": ("20", "500", "1"),
    "alt": ("5", "400", "1"),
    "ast": ("5", "400", "1"),
    "bilirubin": ("0.2", "8", "0.1"),
}
KEYS = {"conditions": "conditions", "procedures": "procedures", "vaccines": "immunizations"}


@cache
def runtime() -> Runtime:
    return make_runtime(SETTINGS)


def answered(request: Json, codes: SiteCodes = NO_SITE_CODES) -> dict[str, Json]:
    """The findings, each with its numbers plain."""
    call = read_call(SERVICES["jaki-order-select"], read_json(write_json(request)), SETTINGS)
    body = respond(call, replace(runtime(), site_codes=codes)).body
    found: Any = body["cards"]
    return told(found)


@cache
def concepts_in(*systems: str) -> tuple[tuple[str, str, str], ...]:
    """(system, code, concept) of the rows that may stand for a positive, of these systems."""
    rows = (row for rows in index().exact.values() for row in rows if row.use is not Use.EXCLUDE)
    return tuple(sorted({(row.system, row.code, row.concept) for row in rows if row.system in systems}))


class Child:
    """One child as a seed makes it."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(f"child {seed}")
        self.numbers = {fact: self._number(fact) for fact in STEPS if chance.random() < 0.9}
        self.limits = {fact: chance.random() < 0.7 for fact in STEPS}
        self.drug = chance.choice(["tofacitinib", "baricitinib", "ruxolitinib"])
        self.data = self._record()
        reasons = [
            concept(code) for system, code, name in self._some(SNOMED, "jia", "jdm", "savi", "aicardi")
        ][:1]
        self.draft = draft(
            self.drug, chance.choice([2, 4, 5, 10]), chance.choice([1, 2]), reasonCode=reasons or None
        )

    def _number(self, fact: str) -> Decimal:
        low, high, step = map(Decimal, STEPS[fact])
        return low + step * self.chance.randint(0, int((high - low) / step))

    def _day(self) -> str:
        year, month, day = (
            self.chance.choice([2024, 2025, 2026, 2026]),
            self.chance.randint(1, 5),
            self.chance.randint(1, 28),
        )
        return f"{year}-{month:02}-{day:02}"

    def _some(self, system: str, *starts: str) -> list[tuple[str, str, str]]:
        rows = [row for row in concepts_in(system) if row[2].startswith(starts)]
        return self.chance.sample(rows, min(len(rows), self.chance.randint(0, 2)))

    def _record(self) -> Json:
        chance = self.chance
        data = prefetch_of(
            birth=f"{chance.randint(2008, 2024)}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
            sex=chance.choice(["female", "male"]),
            **dict.fromkeys(("weight", "height", "creatinine")),
            bloods={},
        )
        diseases = [row for row in concepts_in(SNOMED) if not concepts_of(*row[:2]) & {"chest-x-ray"}]
        conditions = [
            condition(c, f"c{n}", recordedDate=self._day())
            for n, (_, c, _) in enumerate(chance.sample(diseases, 5))
        ]
        procedures = [
            procedure(c, f"p{n}", performedDateTime=self._day())
            for n, (_, c, _) in enumerate(chance.sample(diseases, 1))
        ]
        medicines = [
            statement(c, f"m{n}", "active", effectivePeriod={"start": self._day()})
            for n, (_, c, _) in enumerate(chance.sample(concepts_in(ATC), 3))
        ]
        running = order("baricitinib", dosageInstruction=divided(MORN=2, EVE=2), start=self._day())
        vaccines = [
            vaccination(c, f"v{n}", on=self._day())
            for n, (_, c, _) in enumerate(chance.sample(concepts_in(CVX), 2))
        ]
        tests = [
            answer(
                code,
                chance.choice(["10828004", "260385009", "260373001", "260415000"]),
                f"t{n}",
                on=self._day(),
            )
            for n, code in enumerate(["71773-6", "19162-7", "17850-9", "2106-3"])
            if chance.random() < 0.7
        ]
        return data | {
            "conditions": bundle(*conditions),
            "procedures": bundle(*procedures),
            "medicationStatements": bundle(*medicines),
            "medicationRequests": bundle(*([running] if chance.random() < 0.5 else [])),
            "immunizations": bundle(*vaccines),
            "screening": bundle(*tests),
        }

    def told(self, way: dict[str, tuple[str, str, str]], system: str) -> Json:
        """The prefetch with the numbers in one country's codes and units."""
        made = []
        for fact, value in self.numbers.items():
            code, unit, factor = way[fact]
            number = value * Decimal(US[fact][2]) / Decimal(factor)
            one = observation(fact, number, unit, code=concept(code, system))
            one.pop("referenceRange", None)
            if self.limits[fact]:
                high = self.middle(fact) * Decimal(US[fact][2]) / Decimal(factor)
                one["referenceRange"] = [{"high": {"value": high, "unit": unit}}]
            made.append(one)
        return self.data | {"growth": bundle(*made)}

    @staticmethod
    def middle(fact: str) -> Decimal:
        low, high, step = map(Decimal, STEPS[fact])
        return low + step * int((high - low) / step / 3)


def every_coding(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        if (
            isinstance(value.get("system"), str)
            and isinstance(value.get("code"), str)
            and "value" not in value
        ):
            yield value
        for item in value.values():
            yield from every_coding(item)
    elif isinstance(value, list):
        for item in value:
            yield from every_coding(item)


def mapped(request: Json, folder: Path) -> tuple[Json, SiteCodes]:
    """The request in a hospital's own codes, and the maps that say what each means."""
    groups: dict[str, Json] = {}
    request = json.loads(write_json(request), parse_float=Decimal)
    for coding in every_coding(request):
        system, code = coding["system"], coding["code"]
        if concepts_of(system, code):
            group = groups.setdefault(
                system, {"source": f"{LOCAL}/{len(groups)}", "target": system, "element": {}}
            )
            own = f"OWN-{code}"
            group["element"][own] = {"code": own, "target": [{"code": code, "equivalence": "equivalent"}]}
            coding.update(system=group["source"], code=own)
    found = [group | {"element": list(group["element"].values())} for group in groups.values()]
    (folder / "own.json").write_text(json.dumps({"resourceType": "ConceptMap", "group": found}), "utf-8")
    site = folder / "site.yaml"
    site.write_text("code_maps: [own.json]\n", "utf-8")
    return request, load_site_codes(site)


def in_other_codes(value: Any, chance: random.Random) -> Any:
    """The same concepts by other codes: SNOMED CT for ATC, ICD-10 for SNOMED CT ..., wherever there is one.

    Only codes that mean exactly the same set of concepts; never the child's own kind of answer.
    """
    if isinstance(value, dict):
        system, code = value.get("system"), value.get("code")
        if isinstance(system, str) and isinstance(code, str) and "value" not in value:
            same = alternatives().get(concepts_of(system, code), ())
            return {"system": (chosen := chance.choice(same))[0], "code": chosen[1]} if same else value
        return {name: in_other_codes(item, chance) for name, item in value.items()}
    return [in_other_codes(item, chance) for item in value] if isinstance(value, list) else value


@cache
def alternatives() -> dict[frozenset[str], tuple[tuple[str, str], ...]]:
    found: dict[frozenset[str], list[tuple[str, str]]] = {}
    for system in (SNOMED, ATC, RXNORM, LOINC, CVX, "http://hl7.org/fhir/sid/icd-10"):
        for own, code, _ in concepts_in(system):
            meant = concepts_of(own, code)
            found.setdefault(meant, []).append((own, code))
    return {meant: tuple(dict.fromkeys(codes)) for meant, codes in found.items() if meant}


Version = Callable[[Json], Json]
DRESSES: dict[str, tuple[Version | None, str]] = {
    "UK": (None, "UK"),
    "R5, US": (r5, "US"),
    "STU3, UK": (stu3, "UK"),
    "own codes": (None, "own"),
    "R5, own codes": (r5, "own"),
    "other codes": (None, "other"),
}


def dressed(child: Child, version: Version | None, way: str) -> Json:
    data = child.told(UK, SNOMED) if way == "UK" else child.told(US, LOINC)
    drafted = child.draft
    if version is not None:
        data, drafted = rewritten(data, version), version(drafted)
    if way == "other":
        data = in_other_codes(data, child.chance)
    return hook_request([drafted], data)


@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, 104), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_child_is_the_same_in_every_dress(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        usual = answered(dressed(Child(seed), None, "US"))
        assert usual
        for name, (version, way) in DRESSES.items():
            request, codes = dressed(Child(seed), version, way), NO_SITE_CODES
            if way == "own":
                request, codes = mapped(request, tmp_path)
            found = answered(request, codes)
            differing = {i for i in usual.keys() | found.keys() if usual.get(i) != found.get(i)}
            assert not differing, (seed, name, [(usual.get(i), found.get(i)) for i in sorted(differing)][:2])


def test_the_children_differ_and_much_is_found() -> None:
    every = [answered(dressed(Child(seed), None, "US")) for seed in range(6)]
    assert len({frozenset(found) for found in every}) == len(every)
    assert len(set().union(*every)) > 60
