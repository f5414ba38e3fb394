"""What holds for every card of every child: its shape, its severity, its findings and its suggestions."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from typing import Any

import pytest
from builders import (
    ENTHESITIS,
    GVHD,
    HEALTHY,
    JDM,
    LOINC,
    POLY_JIA,
    RXNORM,
    SAVI,
    Json,
    ask,
    bundle,
    cards,
    concept,
    condition,
    divided,
    dosage,
    dose,
    draft,
    hook_request,
    observation,
    order,
    ours,
    outcome,
    prefetch_of,
    suggestions,
    texts,
    updates,
)

from cds_service.uuids import new_uuid
from fhir_mappings.dosage import read_dose
from fhir_mappings.products import read_product

BLEEDING = {"haemoglobin": "7", "neutrophils": "0.4", "lymphocytes": "0.3", "platelets": "60"}
ESCALATED = [order("baricitinib", dosageInstruction=divided(MORN=4, EVE=4))]

CHILDREN: dict[str, tuple[list[Json], Json]] = {
    # drafts, and what the child has
    "healthy": ([draft("tofacitinib", 4)], {}),
    "no dose yet": ([draft("tofacitinib")], {}),
    "over": ([draft("baricitinib", 8, 1)], {}),
    "divided": ([draft("baricitinib", 4, 1)], {"conditions": [SAVI], "creatinine": "30"}),
    "several critical findings": ([draft("tofacitinib", 5)], {"bloods": BLEEDING, "creatinine": "700"}),
    "very low bloods, baricitinib": ([draft("baricitinib", 5)], {"bloods": BLEEDING, "creatinine": "700"}),
    "no bloods": ([draft("tofacitinib", 4)], {"bloods": {}}),
    "nothing known": (
        [draft("baricitinib", 4)],
        {"weight": None, "height": None, "creatinine": None, "bloods": {}},
    ),
    "no birth date": ([draft("tofacitinib", 4)], {"birth": None}),
    "18 years": ([draft("tofacitinib", 4)], {"birth": "2008-01-01"}),
    "an infant": ([draft("baricitinib", 2)], {"birth": "2025-06-01", "weight": "8", "conditions": [SAVI]}),
    "escalated": (
        [draft("baricitinib", dosageInstruction=divided(MORN=6, EVE=4))],
        {"conditions": [SAVI], "medicines": ESCALATED},
    ),
    "above everything": (
        [draft("baricitinib", 8)],
        {"conditions": [SAVI], "medicines": ESCALATED, "creatinine": "30"},
    ),
    "renewal": (
        [draft("baricitinib", 4, 1)],
        {"conditions": [JDM], "medicines": [order("baricitinib", 4, 1)]},
    ),
    "stopped": (
        [draft("baricitinib", 4, 1, status="stopped")],
        {"conditions": [SAVI], "medicines": ESCALATED},
    ),
    "wrong category": ([draft("tofacitinib", 4)], {"conditions": [ENTHESITIS]}),
    "several indications": ([draft("baricitinib", 4)], {"conditions": [SAVI, POLY_JIA]}),
    "ruxolitinib": ([draft("ruxolitinib", 5)], {"conditions": [GVHD]}),
    "two drafts": ([draft("tofacitinib", 4), draft("baricitinib", 4, id_="d2")], {}),
    "another patient's": ([draft("tofacitinib", 4, subject={"reference": "Patient/p2"})], {}),
    "not covered": ([draft("tofacitinib", medicationCodeableConcept={"text": "upadacitinib"})], {}),
    "stale weight": (
        [draft("tofacitinib", 4)],
        {"weight": None, "results": [observation("weight", 28, on="2026-01-20")]},
    ),
    "tablets below 40 kg": (
        [
            draft(
                "tofacitinib",
                5,
                medicationCodeableConcept=concept("1357541", RXNORM, "tofacitinib 5 MG Oral Tablet"),
            )
        ],
        {},
    ),
    "tuberculosis": ([draft("tofacitinib", 4)], {"conditions": [POLY_JIA, "56717001"]}),
}


def answer(name: str) -> list[Json]:
    drafts, child = CHILDREN[name]
    return cards(hook_request(drafts, prefetch_of(**child)))


@pytest.fixture(params=CHILDREN)
def found(request: pytest.FixtureRequest) -> list[Json]:
    return answer(request.param)


RANK = {"critical": 0, "warning": 1, "info": 2}


def test_identifiers_are_random_uuids_of_version_4() -> None:
    made = [new_uuid() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    read = [uuid.UUID(each) for each in made]
    assert [str(each) for each in read] == made
    assert {(each.version, each.variant) for each in read} == {(4, uuid.RFC_4122)}
    # Every other bit is set in some and not in others.
    every, some = 2**128 - 1, 0
    for each in read:
        every, some = every & each.int, some | each.int
    assert (every, some) == (0x4 << 76 | 0x2 << 62, 2**128 - 1 - (0xB << 76) - (0x1 << 62))


def test_every_card_has_its_members(found: list[Json]) -> None:
    assert found
    for card in found:
        assert 0 < len(card["summary"]) <= 139
        assert "\n" not in card["summary"]
        assert card["indicator"] in RANK
        assert str(uuid.UUID(card["uuid"])) == card["uuid"]
        assert card["source"]["label"] and card["source"]["topic"]["code"]
        assert card["detail"].strip()
        assert {"edition", "knowledgeVersion", "asOf", "findings"} <= ours(card).keys()
    assert len({card["uuid"] for card in found}) == len(found)


def test_no_angle_bracket_before_a_letter_and_no_hidden_characters(found: list[Json]) -> None:
    for card in found:
        for text in (card["summary"], *(s["label"] for s in card.get("suggestions", ()))):
            assert not re.search(r"<[A-Za-z/!]", text)
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", text)
        assert not re.search(r"<[A-Za-z/!]", card["detail"])


def test_nothing_is_empty(found: list[Json]) -> None:
    def walk(value: Any, path: str) -> None:
        if path.endswith((".evidence", ".missing", ".resource")):
            return
        assert value not in ("", [], {}, None), path
        if isinstance(value, dict):
            for name, member in value.items():
                walk(member, f"{path}.{name}")
        elif isinstance(value, list):
            for item in value:
                walk(item, path)

    for card in found:
        walk(card, "card")


def test_the_indicator_is_the_gravest_finding(found: list[Json]) -> None:
    for card in found:
        gravest = min((finding["severity"] for finding in ours(card)["findings"]), key=RANK.__getitem__)
        assert card["indicator"] == gravest


def test_the_gravest_card_comes_first(found: list[Json]) -> None:
    """Per order: several drafts follow one another."""
    by_order: dict[str, list[int]] = {}
    for card in found:
        by_order.setdefault(str(ours(card)["findings"][0].get("order")), []).append(RANK[card["indicator"]])
    for ranks in by_order.values():
        assert ranks == sorted(ranks)


def test_each_finding_stands_on_one_card_whose_text_names_it(found: list[Json]) -> None:
    seen = [(finding.get("order"), finding["id"]) for card in found for finding in ours(card)["findings"]]
    assert len(seen) == len(set(seen))
    for card in found:
        for finding in ours(card)["findings"]:
            assert finding["id"] in card["detail"]


def test_findings_are_written_as_the_contract_says(found: list[Json]) -> None:
    reasons = {
        "absent",
        "not-supplied",
        "failed",
        "partial-page",
        "unreadable",
        "stale",
        "unusable-unit",
        "implausible",
        "comparator",
    }
    for card in found:
        for finding in ours(card)["findings"]:
            assert finding["outcome"] in ("hit", "cannot-assess", "outside-guideline")
            assert finding["severity"] in RANK
            assert finding["kind"] in ("alert", "dose", "order", "plan", "note")
            assert finding["origin"] in ("printed", "derived", "default")
            assert re.fullmatch(r"MedicationRequest/d[12]", finding["order"])
            assert {gap["reason"] for gap in finding["missing"]} <= reasons
            for item in finding["evidence"]:
                assert item["fact"]
                assert re.fullmatch(r"\d{4}(-\d\d){0,2}", item.get("date", "2026"))
                assert re.fullmatch(r"[A-Z][A-Za-z]+(/[A-Za-z0-9.-]+)?", item.get("source", "Patient/p1"))


def test_override_reasons_where_there_is_something_to_override(found: list[Json]) -> None:
    for card in found:
        if card["indicator"] == "info":
            assert "overrideReasons" not in card
        else:
            assert card["overrideReasons"]
            for reason in card["overrideReasons"]:
                assert reason.keys() == {"system", "code", "display"}


def test_no_dose_beside_a_critical_hit(found: list[Json]) -> None:
    critical = {
        finding["order"]
        for card in found
        for finding in ours(card)["findings"]
        if (finding["severity"], finding["outcome"]) == ("critical", "hit")
    }
    for card in found:
        if "dose" in ours(card):
            assert ours(card)["findings"][0]["order"] not in critical


def test_it_is_said_that_nobody_has_reviewed_the_content(found: list[Json]) -> None:
    for card in found:
        assert "not yet" in card["detail"] or "No clinician" in card["detail"]


def test_every_suggestion_is_complete(found: list[Json]) -> None:
    for suggestion in suggestions(found):
        assert suggestion["label"] and suggestion["uuid"]
        for action in suggestion["actions"]:
            assert action["type"] in ("create", "update")
            assert action["description"]
            kind = action["resource"]["resourceType"]
            assert kind == ("ServiceRequest" if action["type"] == "create" else "MedicationRequest")


# --- the dose -------------------------------------------------------------------------------------

DOSED: dict[str, tuple[str, Json, list[Json]]] = {
    # drug, child, the dosage to be written
    "by weight": ("tofacitinib", {"weight": "15", "birth": "2022-05-14", "height": "100"}, [dosage("3.2")]),
    "half milligrams": (
        "tofacitinib",
        {"weight": "9", "birth": "2024-05-14", "height": "80"},
        [dosage("2.5")],
    ),
    "once daily": ("baricitinib", {}, [dosage(4, 1)]),
    "in two": ("baricitinib", {"conditions": [SAVI], "creatinine": "30"}, divided(MORN=4, EVE=2)),
    "in three": (
        "baricitinib",
        {"conditions": [SAVI], "creatinine": "20", "weight": "15", "birth": "2022-05-14", "height": "100"},
        divided(MORN=2, AFT=2, EVE=2),
    ),
}
MORE = {
    "note": [{"text": "a note"}],
    "dispenseRequest": {"numberOfRepeatsAllowed": 3},
    "substitution": {"allowedBoolean": False},
    "extension": [{"url": "http://example.org", "valueDecimal": Decimal("1.50")}],
}


@pytest.mark.parametrize(("drug", "child", "expected"), DOSED.values(), ids=DOSED)
def test_a_suggested_dose_is_the_dose_of_the_card(drug: str, child: Json, expected: list[Json]) -> None:
    before = draft(drug, 1, 1, **MORE)
    found = ask(before, **child)
    (suggestion,) = updates(found)
    (action,) = suggestion["actions"]
    after = action["resource"]
    assert {**after, "dosageInstruction": 0} == {**before, "dosageInstruction": 0}

    one = dose(found)
    assert one is not None
    written = after["dosageInstruction"]
    assert [w["doseAndRate"][0]["doseQuantity"]["value"] for w in written] == [
        a["mg"] for a in one["administrations"]
    ]
    for ours_, theirs in zip(written, expected, strict=True):
        assert ours_["timing"]["repeat"] == theirs["timing"]["repeat"]
        assert ours_["doseAndRate"] == theirs["doseAndRate"]

    read = read_dose(after, read_product([], [], None)).regimen
    assert read is not None
    assert read.mg_per_day == Decimal(one["mgPerDay"])
    assert [
        {"when": a.when.value, "mg": a.mg} if a.when else {"timesPerDay": a.times_per_day, "mg": a.mg}
        for a in read.administrations
    ] == one["administrations"]

    # Taken over, the draft matches.
    taken = dose(ask(after, **child))
    assert taken is not None and taken["order"]["verdict"] == "match"


def test_a_firm_dose_is_recommended_and_a_provisional_one_is_not() -> None:
    (firm,) = updates(ask(draft("tofacitinib", 5)))
    assert firm["isRecommended"] is True
    found = ask(draft("tofacitinib", 5), bloods={})
    (provisional,) = updates(found)
    assert "isRecommended" not in provisional
    assert "provisional" in provisional["label"]
    one = dose(found)
    assert one is not None and one["provisional"] is True
    assert any("**Provisional.**" in card["detail"] for card in found)


def test_a_matching_draft_needs_no_suggestion() -> None:
    assert updates(ask(draft("tofacitinib", 4))) == []


def test_many_critical_findings_share_a_card() -> None:
    found = answer("several critical findings")
    critical = [card for card in found if card["indicator"] == "critical"]
    ids = {f["id"] for card in critical for f in ours(card)["findings"]}
    assert {"TOFA-INIT-01", "TOFA-INIT-02", "TOFA-INIT-03"} <= ids
    assert len(critical) <= 3


def test_what_the_detail_shows() -> None:
    detail = " ".join(
        card["detail"] for card in ask(draft("baricitinib", 8, 1), conditions=[SAVI], creatinine="30")
    )
    assert "eGFR = 36 × height 132 cm / creatinine 30 µmol/L = 158.4" in detail
    assert "| guideline (BARI-IFN-02) | 4 mg morning + 2 mg evening (6 mg per day) |" in detail
    assert "| drafted | 8 mg once daily (8 mg per day) |" in detail
    assert "28.5 kg" in detail and "25 May 2026" in detail
    solution = " ".join(card["detail"] for card in ask(draft("tofacitinib", 5)))
    assert "4 mL of the 1 mg/mL oral solution" in solution


def test_a_failure_of_ours_is_a_visible_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("zq9x is a name of the child")

    monkeypatch.setattr("cds_service.pipeline.assess", broken)
    (card,) = ask(draft("tofacitinib", 4))
    assert card["indicator"] == "warning"
    assert "failed inside the service" in card["detail"]
    assert "zq9x" not in str(card)


def test_a_failure_before_the_drafts_are_known_is_a_visible_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("zq9x is a name of the child")

    monkeypatch.setattr("cds_service.pipeline.concern_of", broken)
    (card,) = ask(draft("tofacitinib", 4))
    assert card["indicator"] == "warning"
    assert "failed inside the service" in card["detail"]
    assert "zq9x" not in str(card)


def test_a_running_treatment_with_unknown_medicines_is_told() -> None:
    data = prefetch_of() | {"medicationRequests": outcome()}
    request = hook_request([], data) | {"hook": "patient-view"}
    request["context"] = {"patientId": "p1", "userId": "Practitioner/x"}
    from builders import client  # the service of this hook is not one of the order hooks

    from cds_service.json_reader import write_json

    answer_ = client().post(
        "/cds-services/jaki-patient-view", data=write_json(request), content_type="application/json"
    )
    (card,) = answer_.get_json()["cards"]
    assert "could not be checked" in card["detail"]
    assert "dose" not in ours(card)


def test_conditions_in_a_bundle_of_their_own() -> None:
    data = prefetch_of() | {"conditions": bundle(condition(POLY_JIA))}
    assert cards(hook_request([draft("tofacitinib", 4)], data))


# --- what a reader of summaries alone takes away ---------------------------------------------------


def test_a_matching_draft_does_not_hide_a_warning_of_the_dose_card() -> None:
    tofacitinib_before = order("tofacitinib", 4, status="stopped", start="2025-12-01")
    light = ask(draft("baricitinib", 4, 1), weight="24", medicines=[tofacitinib_before])
    assert light[0]["indicator"] == "warning"
    assert light[0]["summary"].endswith("; the draft matches, but there is a warning")
    usual = ask(draft("baricitinib", 4, 1), weight="31", medicines=[tofacitinib_before])
    assert next(c for c in usual if "dose" in ours(c))["summary"].endswith("; the draft matches")


def test_egfr_keeps_its_spelling_at_the_head_of_a_sentence() -> None:
    (card, *_) = ask(draft("baricitinib", 4, 1), creatinine="130")
    assert "**eGFR 36.6 mL/min/1.73 m²: " in card["detail"]
    assert "EGFR" not in texts([card])


def test_a_summary_counts_lines_and_not_statements() -> None:
    pregnant = ask(
        draft("tofacitinib", 4), birth="2010-05-14", weight="50", conditions=[POLY_JIA, "77386006"]
    )
    critical = pregnant[0]
    assert {f["id"] for f in ours(critical)["findings"]} == {"TOFA-CI-05", "PREG-01"}
    assert critical["detail"].count("\n- ") + critical["detail"].startswith("- ") == 1
    assert "more)" not in critical["summary"]


def test_a_child_outside_a_row_is_sent_to_the_tertiary_team() -> None:
    small: Json = {"birth": "2024-02-14", "weight": "9.9", "height": "82", "creatinine": "20"}
    found = ask(draft("baricitinib", 2, 3), conditions=[SAVI], **small)
    assert "Tertiary advice; for an adult, adult guidance." in texts(found)


def test_a_test_that_is_due_twice_is_offered_once() -> None:
    running = order(
        "baricitinib", 4, 1, start="2026-03-22"
    )  # 71 days: week 8 overdue, lipids by themselves due
    at_week_4 = [observation(fact, value, on="2026-04-22") for fact, value in HEALTHY.items()]
    at_week_4.append(observation("creatinine", 40, on="2026-04-22"))
    for code, unit in (("1988-5", "mg/L"), ("4537-7", "mm/h")):  # CRP and ESR
        found = observation("alt", 3, unit, on="2026-04-22", id_=f"r{code}")
        at_week_4.append({**found, "code": concept(code, LOINC)})
    shown = ask(
        draft("baricitinib", 4, 1), medicines=[running], bloods={}, creatinine=None, results=at_week_4
    )
    told = {f["id"]: f["severity"] for card in shown for f in ours(card)["findings"]}
    assert (told["BARI-MON-03"], told["BARI-MON-06"]) == ("warning", "info")
    offered = [action["description"] for s in suggestions(shown) for action in s["actions"]]
    assert offered.count("Order: Lipid profile") == 1
    assert len(offered) == len(set(offered))


def test_of_several_drafts_of_one_drug_none_is_said_to_match_alone() -> None:
    morning, evening = (
        draft("baricitinib", dosageInstruction=divided(**part)) for part in ({"MORN": 4}, {"EVE": 2})
    )
    savi: Json = {"conditions": [SAVI], "creatinine": "30"}
    shown = ask(morning, {**evening, "id": "d2"}, **savi)
    on_dose = [card for card in shown if "dose" in ours(card)]
    assert len(on_dose) == 2
    for card in on_dose:
        assert card["summary"].endswith("; several drafts of this drug, add up what they give in a day")
        assert "suggestions" not in card
    (alone,) = (card for card in ask(morning, **savi) if "dose" in ours(card))
    assert alone["summary"].endswith("is below it")
