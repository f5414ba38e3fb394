"""What holds for every request, whatever the child: order, units and company of the data do not matter, less data
never makes a dose firmer, and nothing in a request can break the service or write on its cards."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from builders import (
    AS_OF,
    ASTHMA,
    ATC,
    JDM,
    LOINC,
    POLY_JIA,
    RXNORM,
    SAVI,
    Json,
    answer,
    bundle,
    cards,
    comparable,
    concept,
    condition,
    divided,
    dosage,
    dose,
    draft,
    firmness,
    hook_request,
    observation,
    order,
    ours,
    outcome,
    post,
    prefetch_of,
    quantity,
    texts,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

few = settings(max_examples=settings.default.max_examples // 2, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=settings.default.max_examples * 2)

POUND = Decimal("0.45359237")
INCH = Decimal("2.54")
HB_PER_MMOL = Decimal("1.611")

weights = st.integers(900, 9000).map(lambda n: Decimal(n) / 100)
heights = st.integers(700, 1900).map(lambda n: Decimal(n) / 10)
creatinines = st.integers(10, 1500).map(lambda n: Decimal(n) / 10)
births = st.dates(min_value=date(2007, 1, 1), max_value=date(2025, 1, 1))
indications = st.sampled_from([POLY_JIA, JDM, SAVI])
drugs = st.sampled_from(["tofacitinib", "baricitinib"])


@st.composite
def children(draw: st.DrawFn) -> Json:
    """An invented child as keyword arguments of ``prefetch_of``."""
    running = draw(st.sampled_from([None, {"MORN": 2, "EVE": 2}, {"MORN": 4, "EVE": 4}]))
    medicines = [] if running is None else [order("baricitinib", dosageInstruction=divided(**running))]
    return {
        "birth": draw(births).isoformat(),
        "weight": draw(weights),
        "height": draw(heights),
        "creatinine": draw(creatinines),
        "conditions": [draw(indications)],
        "medicines": medicines,
    }


def answered(child: Json, drug: str, mg: int = 4) -> list[Json]:
    return cards(hook_request([draft(drug, mg)], prefetch_of(**child)))


# --- units ----------------------------------------------------------------------------------------

UNITS: dict[str, list[tuple[str, Decimal]]] = {
    "weight": [("g", Decimal("0.001")), ("[lb_av]", POUND), ("kilogram", Decimal(1)), ("Kg", Decimal(1))],
    "height": [("m", Decimal(100)), ("[in_i]", INCH), ("mm", Decimal("0.1")), ("centimeter", Decimal(1))],
    "creatinine": [("mg/dL", Decimal("88.4")), ("µmol/l", Decimal(1)), ("mmol/L", Decimal(1000))],
    "haemoglobin": [("g/L", Decimal("0.1")), ("mmol/L", HB_PER_MMOL), ("g/dl", Decimal(1))],
    "neutrophils": [("10*3/uL", Decimal(1)), ("/uL", Decimal("0.001")), ("X 10-9/l", Decimal(1))],
}
"""A few spellings of each, and what one unit is in the guideline's."""
PLACES = {"weight": 3, "height": 3, "creatinine": 4, "haemoglobin": 3, "neutrophils": 3}


@pytest.mark.parametrize("fact", UNITS)
@few
@given(data=st.data())
def test_the_unit_of_an_input_does_not_matter(fact: str, data: st.DataObject) -> None:
    usual, factor = data.draw(st.sampled_from(UNITS[fact]))
    drug, indication = data.draw(drugs), data.draw(indications)
    low, high = {
        "weight": (9, 60),
        "height": (80, 180),
        "creatinine": (10, 400),
        "haemoglobin": (6, 16),
        "neutrophils": (0, 6),
    }[fact]
    scale = Decimal(10) ** -PLACES[fact]
    least, most = int(low / factor / scale) + 1, int(high / factor / scale)
    value = data.draw(st.integers(least, most)) * scale

    def ask(number: Decimal, unit: str | None) -> str:
        one = observation(fact, number, unit or "")
        one.pop("referenceRange", None)
        bloods = {"haemoglobin": "12", "neutrophils": "3", "lymphocytes": "2"}
        child: Json = {"conditions": [indication], "bloods": {k: v for k, v in bloods.items() if k != fact}}
        if fact in ("weight", "height", "creatinine"):
            child[fact] = None
        return comparable(cards(hook_request([draft(drug, 4)], prefetch_of(**child, results=[one]))))

    assert ask(value, usual) == ask(value * factor, None)


@pytest.mark.parametrize("fact", UNITS)
@pytest.mark.parametrize("unit", [None, "", "furlong", "mm[Hg]", "%"])
def test_a_number_without_a_usable_unit_is_never_used(fact: str, unit: str | None) -> None:
    child: Json = {fact: None} if fact in ("weight", "height", "creatinine") else {"bloods": {}}
    one = observation(fact, "12", "x")
    one["valueQuantity"] = {"value": 12} if unit is None else {"value": 12, "unit": unit, "code": unit}
    found = cards(
        hook_request([draft("baricitinib", 4)], prefetch_of(**child, results=[one], conditions=[SAVI]))
    )
    gaps = {
        (gap["fact"], gap["reason"]) for card in found for f in ours(card)["findings"] for gap in f["missing"]
    }
    values = [
        e["value"]
        for card in found
        for f in ours(card)["findings"]
        for e in f["evidence"]
        if e["fact"] == fact
    ]
    assert not values
    # An empty unit is no valid FHIR either, so the whole result counts as unreadable.
    assert (fact, "unreadable" if unit == "" else "unusable-unit") in gaps


# --- order and company ----------------------------------------------------------------------------


def shuffled(value: Any, rng: random.Random, *, lists: bool = False) -> Any:
    """The same JSON with its members in another order; entries of Bundles too, other lists left alone."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng, lists=name == "entry") for name in names}
    if isinstance(value, list):
        items = [shuffled(item, rng) for item in value]
        if lists:
            rng.shuffle(items)
        return items
    return value


def _history() -> list[Json]:
    return [
        observation("weight", "20.1", on="2026-05-25", id_="w-same-day-a"),
        observation("weight", "19.9", on="2026-05-25", id_="w-same-day-b"),
        observation("weight", "18", on="2026-01-02", id_="w-old"),
        observation("haemoglobin", "9", on="2026-05-01", id_="hb-old"),
        observation("creatinine", "55", on="2025-12-30", id_="cr-old"),
    ]


@few
@given(child=children(), drug=drugs, seed=st.integers(0, 10**6))
def test_order_and_keys_do_not_matter(child: Json, drug: str, seed: int) -> None:
    """Members, entries, and the key in which a resource arrives, as long as every key is supplied."""
    rng = random.Random(seed)
    request = hook_request([draft(drug, 4)], prefetch_of(**child, results=_history()))
    expected = comparable(cards(request))
    assert comparable(cards(shuffled(request, rng))) == expected

    moved = copy.deepcopy(request)
    kind_of = {"Observation": ("growth", "bloodCount", "liver", "kidney")}
    supplied = [name for name in kind_of["Observation"] if name in moved["prefetch"]]
    every = [entry for name in supplied for entry in moved["prefetch"][name]["entry"]]
    rng.shuffle(every)
    for name in supplied:
        moved["prefetch"][name] = bundle()
    moved["prefetch"][rng.choice(supplied)]["entry"] = every
    assert comparable(cards(moved)) == expected


@few
@given(child=children(), drug=drugs, seed=st.integers(0, 10**6))
def test_a_resource_sent_twice_counts_once(child: Json, drug: str, seed: int) -> None:
    rng = random.Random(seed)
    request = hook_request([draft(drug, 4)], prefetch_of(**child, results=_history()))
    expected = comparable(cards(request))
    for value in request["prefetch"].values():
        if value["resourceType"] == "Bundle":
            value["entry"] += copy.deepcopy(value["entry"])
            rng.shuffle(value["entry"])
    assert comparable(cards(request)) == expected


def _irrelevant() -> list[Json]:
    other = observation("weight", "70", id_="x1", code=concept("8867-4", LOINC))
    sodium = observation("weight", "140", "mmol/L", id_="x2", code=concept("99999-9", LOINC))
    return [
        other,
        sodium,
        condition(ASTHMA, "x3"),
        condition("X99", "x4", "http://hl7.org/fhir/sid/icd-10"),  # a local code would be named on the card
        {"resourceType": "Encounter", "id": "x5", "status": "finished"},
        {
            "resourceType": "MedicationRequest",
            "id": "x6",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": concept("R03AC02", ATC, "salbutamol"),
            "subject": {"reference": "Patient/p1"},
        },
    ]


@few
@given(child=children(), drug=drugs)
def test_what_has_nothing_to_do_with_it_changes_nothing(child: Json, drug: str) -> None:
    request = hook_request([draft(drug, 4)], prefetch_of(**child))
    expected = comparable(cards(request))
    request["prefetch"]["growth"]["entry"] += [{"resource": resource} for resource in _irrelevant()]
    request["prefetch"]["somethingElse"] = bundle(*_irrelevant())
    assert comparable(cards(request)) == expected


# --- doses ----------------------------------------------------------------------------------------


@many
@given(child=children(), other=creatinines, mg=st.sampled_from([2, 4, 6]))
def test_a_lower_egfr_never_raises_the_baricitinib_dose(child: Json, other: Decimal, mg: int) -> None:
    low, high = sorted([child["creatinine"], other])
    better = dose(answered({**child, "creatinine": low, "medicines": []}, "baricitinib", mg))
    worse = dose(answered({**child, "creatinine": high, "medicines": []}, "baricitinib", mg))
    if worse is not None:
        assert better is not None
        assert worse["mgPerDay"] <= better["mgPerDay"]


@many
@given(child=children(), mg=st.sampled_from([None, 1, 2, 4, 6]))
def test_an_escalation_is_never_suggested_unprompted(child: Json, mg: int | None) -> None:
    """The escalated table is for a draft above the running order, or a running order that stands in it."""
    found = dose(cards(hook_request([draft("baricitinib", mg)], prefetch_of(**child))))
    running = [
        sum(int(part["doseAndRate"][0]["doseQuantity"]["value"]) for part in one["dosageInstruction"])
        for one in child["medicines"]
    ]
    if found is not None and found["phase"] == "escalated":
        assert running and (running[0] > 4 or 2 * (mg or 0) > running[0])
    if not running and found is not None:
        assert found["phase"] == "initial"


# --- less data ------------------------------------------------------------------------------------

LOSSES: dict[str, Any] = {
    "error": lambda value: outcome("error"),
    "fatal": lambda value: outcome("fatal"),
    "an outcome without issues": lambda value: {"resourceType": "OperationOutcome"},
    "error in the Bundle": lambda value: bundle(outcome()),
    "garbage": lambda value: ["garbage"],
    "another type": lambda value: {"resourceType": "Slot", "id": "s"},
    "a next page": lambda value: value | {"link": [{"relation": "next", "url": "http://example.org/2"}]},
    "a next page without address": lambda value: value | {"link": [{"relation": "next"}]},
    "an entry without resource": lambda value: value | {"entry": [*value.get("entry", []), {}]},
}

CHILDREN_WITH_LESS: dict[str, Json] = {
    "healthy": {},
    "interferonopathy": {"conditions": [SAVI]},
    "on dialysis": {"conditions": [POLY_JIA, condition("265764009", "dial")]},
    "escalated": {
        "conditions": [SAVI],
        "creatinine": "30",
        "medicines": [order("baricitinib", dosageInstruction=divided(MORN=4, EVE=4))],
    },
    "no bloods": {"bloods": {}},
}


def _keys() -> list[str]:
    return [name for name in prefetch_of() if name != "patient"]


@pytest.mark.parametrize("who", CHILDREN_WITH_LESS)
@pytest.mark.parametrize(
    "drug",
    [
        "tofacitinib",
        pytest.param("baricitinib", marks=pytest.mark.slow),
        pytest.param("ruxolitinib", marks=pytest.mark.slow),
    ],
)
def test_losing_a_key_never_makes_a_dose_firm(who: str, drug: str) -> None:
    drafted = [draft(drug, 4)]
    before = firmness(cards(hook_request(drafted, prefetch_of(**CHILDREN_WITH_LESS[who]))))
    ways = [None, *LOSSES.values()]
    for index, name in enumerate(_keys()):
        for loss in (ways[0], ways[1], ways[2 + (index + len(who)) % (len(ways) - 2)]):
            data = prefetch_of(**CHILDREN_WITH_LESS[who])
            value = data.pop(name)
            if loss is not None:
                data[name] = loss(value)
            found = cards(hook_request(drafted, data))
            assert found, (name, loss)
            assert firmness(found) <= max(1, before), (name, loss)
            if before == 1:
                assert firmness(found) <= 1, (name, loss)


@few
@given(
    child=children(),
    drug=st.sampled_from(["tofacitinib", "baricitinib", "ruxolitinib"]),
    lost=st.sets(st.sampled_from(_keys())),
    how=st.sampled_from(["absent", *LOSSES]),
)
def test_losing_several_keys_never_makes_a_dose_firm(
    child: Json, drug: str, lost: set[str], how: str
) -> None:
    data = prefetch_of(**child)
    before = firmness(cards(hook_request([draft(drug, 4)], data)))
    for name in lost:
        value = data.pop(name)
        if how != "absent":
            data[name] = LOSSES[how](value)
    found = cards(hook_request([draft(drug, 4)], data))
    assert found
    assert firmness(found) < 2 or before == 2


@pytest.mark.parametrize("name", _keys())
@pytest.mark.parametrize("empty", [None, bundle(), outcome("warning"), outcome("information")], ids=str)
def test_an_empty_answer_still_gets_cards(name: str, empty: Json | None) -> None:
    for drug in ("tofacitinib", "baricitinib", "ruxolitinib"):
        assert cards(hook_request([draft(drug, 4)], prefetch_of() | {name: empty}))


def test_without_any_data_but_the_patient_there_are_cards_and_no_firm_dose() -> None:
    for drug in ("tofacitinib", "baricitinib", "ruxolitinib"):
        found = cards(hook_request([draft(drug, 4)], {"patient": prefetch_of()["patient"]}))
        assert found
        assert firmness(found) < 2


# --- hostile requests -----------------------------------------------------------------------------


def rich() -> Json:
    """A request in which nearly everything that the service reads occurs."""
    medication = {
        "resourceType": "Medication",
        "id": "m",
        "code": concept("L04AB04", ATC, "adalimumab"),
        "form": concept("385055001"),
        "ingredient": [
            {
                "itemCodeableConcept": concept("1357536", RXNORM),
                "strength": {"numerator": quantity(5, "mg"), "denominator": quantity(1, "{tablet}")},
            }
        ],
    }
    supply = {"expectedSupplyDuration": quantity(30, "d")}
    subject = {"reference": "Patient/p1"}
    panel = {
        "resourceType": "Observation",
        "id": "panel",
        "status": "final",
        "code": concept("58410-2", LOINC, "panel"),
        "subject": subject,
        "effectivePeriod": {"start": "2026-05-20", "end": "2026-05-21"},
        "component": [
            {
                "code": concept("718-7", LOINC),
                "valueQuantity": quantity(12, "g/dL"),
                "interpretation": [concept("N", "http://example.org")],
            }
        ],
    }
    statement = {
        "resourceType": "MedicationStatement",
        "id": "ms1",
        "status": "active",
        "medicationReference": {"reference": "#m", "display": "a medicine"},
        "contained": [medication],
        "subject": subject,
        "effectivePeriod": {"start": "2026-01-01", "end": "2026-02-01"},
        "dosage": [dosage(4)],
    }
    drafts = [
        draft(
            "baricitinib",
            4,
            1,
            reasonCode=[concept(SAVI, text="a reason")],
            reasonReference=[{"reference": "Condition/c0"}],
            dispenseRequest=supply,
            note=[{"text": "a note"}],
        ),
        draft("tofacitinib", 4, id_="d2"),
    ]
    request = hook_request(
        drafts,
        prefetch_of(
            conditions=[SAVI, condition(POLY_JIA, "c1", onsetDateTime="2020")],
            medicines=[
                order("baricitinib", 4, 1, dispenseRequest=supply),
                order("baricitinib", 2, 1, start="2025-12-01", status="stopped", id_="old"),
                statement,
            ],
            results=[observation("weight", "20", on="2026-01-05", id_="wold"), panel],
        ),
    )
    request["prefetch"]["allergies"] = bundle(
        {
            "resourceType": "AllergyIntolerance",
            "id": "a1",
            "patient": subject,
            "code": concept("L04AB04", ATC, "an allergy"),
            "reaction": [{"substance": concept("1")}],
        }
    )
    request["prefetch"]["procedures"] = bundle(
        {
            "resourceType": "Procedure",
            "id": "pr1",
            "status": "completed",
            "subject": subject,
            "code": concept("108241001", text="a procedure"),
            "performedPeriod": {"start": "2020"},
        }
    )
    load = observation("weight", "3.2", "{Log_copies}/mL", id_="bk", code=concept("43201-3", LOINC))
    load["specimen"] = {"display": "urine", "text": "urine"}
    pregnancy = answer("19080-1", "260385009", "hcg") | {
        "interpretation": [concept("NEG", "http://example.org")]
    }
    said = answer("71773-6", "260385009", "igra-2") | {"valueString": "not detected", "conclusion": "none"}
    request["prefetch"]["virusLoads"] = bundle(load)
    request["prefetch"]["statuses"] = bundle(pregnancy, {**said, "resourceType": "DiagnosticReport"})
    operation = {
        "resourceType": "ServiceRequest",
        "id": "op",
        "status": "active",
        "intent": "order",
        "subject": subject,
        "category": [concept("387713003")],
        "occurrenceDateTime": "2026-06-10",
    }
    request["prefetch"]["plannedOperations"] = bundle(operation)
    vaccine = {"resourceType": "Immunization", "id": "vac", "status": "not-done", "patient": subject}
    vaccine["vaccineCode"] = concept("21", "http://hl7.org/fhir/sid/cvx", "varicella")
    recommended = {"resourceType": "ImmunizationRecommendation", "id": "rec", "patient": subject}
    recommended["recommendation"] = [{"vaccineCode": [vaccine["vaccineCode"]]}]
    request["context"]["draftOrders"]["entry"] += [{"resource": vaccine}, {"resource": recommended}]
    return request


Path = tuple[str | int, ...]


def places(value: Any, here: Path = ()) -> Iterator[Path]:
    if here:
        yield here
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*here, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*here, index))


def changed(value: Json, path: Path, new: Any) -> Json:
    """A copy with something else at ``path``; only what is on the way is copied."""
    copied: Any = dict(value) if isinstance(value, dict) else list(value)
    first, *rest = path
    copied[first] = changed(copied[first], tuple(rest), new) if rest else new
    return copied  # type: ignore[no-any-return]


RICH = rich()
PLACES_IN_DATA = [path for path in places(RICH) if path[0] == "prefetch" and len(path) > 1]
PLACES_IN_DRAFTS = [
    path for path in places(RICH) if path[:3] == ("context", "draftOrders", "entry") and len(path) > 3
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**6)
    | st.text(max_size=8)
    | st.sampled_from(
        ["Patient/p2", "#m", "2026-13-45", "final", "http://loinc.org", Decimal("1e20"), Decimal("-0.5")]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "coding",
                    "code",
                    "system",
                    "value",
                    "unit",
                    "reference",
                    "entry",
                    "resource",
                    "resourceType",
                    "x",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


BAD = [
    None,
    [],
    {},
    "",
    0,
    True,
    "x",
    [None],
    {"coding": [None]},
    {"coding": None},
    {"reference": 5},
    deep(30),
]


def assert_unbroken(request: Json, *, drafts_whole: bool) -> None:
    response = post(request)
    assert response.status_code in (200, 400, 412)
    assert b"failed inside the service" not in response.data
    if drafts_whole and response.status_code == 200:
        assert response.get_json()["cards"]
    if response.status_code != 200:
        assert response.get_json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize("every", [144, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_http_3_nothing_in_the_data_breaks_the_service(bad: Any, every: int) -> None:
    """One value of the wrong kind anywhere in the prefetch: no 5xx, no internal failure, never an empty answer."""
    for path in PLACES_IN_DATA[BAD.index(bad) :: every]:
        assert_unbroken(changed(RICH, path, bad), drafts_whole=True)


@pytest.mark.parametrize("every", [27, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_http_3_nothing_in_the_drafts_breaks_the_service(bad: Any, every: int) -> None:
    for path in PLACES_IN_DRAFTS[BAD.index(bad) % every :: every]:
        assert_unbroken(changed(RICH, path, bad), drafts_whole=False)


@many
@given(
    faults=st.lists(
        st.tuples(st.sampled_from([*PLACES_IN_DATA, *PLACES_IN_DRAFTS]), json_values), min_size=1, max_size=4
    )
)
def test_http_3_several_faults_at_once_do_not_break_the_service(faults: list[tuple[Path, Any]]) -> None:
    request = RICH
    for path, value in faults:
        try:
            request = changed(request, path, value)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            continue  # an earlier fault took the place away
    assert_unbroken(request, drafts_whole=False)


CANARY = "zq9x"
CANARIES = [
    f"<img src={CANARY} onerror=alert(1)>",
    f"[{CANARY}](javascript:alert(1)) **{CANARY}** |{CANARY}| `{CANARY}`",
    f"\u202e{CANARY}\u2066",
    CANARY,
]


@pytest.mark.parametrize("every", [48, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("canary", CANARIES, ids=["html", "markdown", "bidi", "word"])
def test_card_1_no_text_of_the_request_reaches_a_card(canary: str, every: int) -> None:
    """Every string of the data and the drafts in turn; only the suggested resource may hold it."""
    strings = [p for p in (*PLACES_IN_DATA, *PLACES_IN_DRAFTS) if isinstance(_at(RICH, p), str)]
    for path in strings[CANARIES.index(canary) % every :: every]:
        if path[-1] in ("id", "reference") and canary == CANARY:
            continue  # a well-formed id is the `source` of evidence
        response = post(changed(RICH, path, canary))
        if response.status_code == 200:
            assert CANARY not in texts(response.get_json()["cards"]), path
        else:
            assert CANARY.encode() not in response.data, path


def test_all_strings_at_once() -> None:
    request = hook_request([draft("tofacitinib", 4)])
    for path in [p for p in places(request["prefetch"]) if p[-1] in ("text", "display", "unit", "id")]:
        if path[0] != "patient":
            request["prefetch"] = changed(request["prefetch"], path, CANARIES[0])
    found = cards(request)
    assert found
    assert CANARY not in texts(found)


def test_names_of_members_reach_no_card() -> None:
    request = hook_request([draft("tofacitinib", 4)])
    request["prefetch"]["patient"] |= {CANARIES[0]: CANARIES[1], "extension": [{"url": CANARIES[0]}]}
    request["prefetch"][CANARIES[0]] = bundle(observation("weight", "3", id_="w") | {CANARIES[1]: 1})
    assert CANARY not in texts(cards(request))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def test_the_evaluation_date_is_on_every_card() -> None:
    for card in cards(RICH):
        assert ours(card)["asOf"] == AS_OF
        assert "1 June 2026" in card["detail"] or AS_OF in card["detail"]
