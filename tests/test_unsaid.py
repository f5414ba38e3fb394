"""What a record leaves unsaid - the kind of a vaccine or a pill, the specimen of a load, how sure a diagnosis is."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_mappings import diagnoses
from guideline.facts import vocabulary
from tests.builders import (
    ATC,
    DMD,
    LOINC,
    POLY_JIA,
    SAVI,
    Json,
    answer,
    ask,
    bundle,
    cards,
    concept,
    condition,
    divided,
    dose,
    draft,
    findings,
    hook_request,
    order,
    prefetch_of,
    quantity,
    suggestions,
    texts,
    updates,
    view,
)

CVX = "http://hl7.org/fhir/sid/cvx"
SHINGRIX = (
    "Shingles (Herpes Zoster, adjuvanted recombinant) vaccine powder and suspension for injection 0.5ml vials"
)
ZOSTAVAX = "Shingles (Herpes Zoster, live) vaccine powder and solvent for suspension for injection"
ON_TOFACITINIB = order("tofacitinib", 4)
ON_BARICITINIB = order("baricitinib", start="2025-12-01", dosageInstruction=divided(MORN=4, EVE=2))


def other(code: str = "", system: str = CVX, words: str | None = None) -> Json:
    """A drafted order of something else, by code, by words, or by both."""
    named: Json = {"coding": [{"system": system, "code": code}]} if code else {}
    return draft(
        "tofacitinib", id_="x1", medicationCodeableConcept=named | ({"text": words} if words else {})
    )


def said(*drafts: Json, **child: Any) -> dict[str, tuple[str, str]]:
    """Outcome and severity of every finding."""
    return {id_: (f["outcome"], f["severity"]) for id_, f in findings(ask(*drafts, **child)).items()}


# --- vaccines -------------------------------------------------------------------------------------

LIVE, ASKED, SILENT = ("hit", "critical"), ("cannot-assess", "warning"), None


@pytest.mark.parametrize(
    ("vaccine", "expected"),
    [
        (other("188"), ASKED),
        (other("88"), ASKED),
        (other("91"), ASKED),
        (other("20142211000001104", DMD), ASKED),
        (other(words="Zoster vaccine"), ASKED),
        (other(words="Influenza vaccine"), ASKED),
        (other("188", words="Shingrix"), SILENT),
        (other("150", words="Influenza vaccine"), SILENT),
        (other(words=SHINGRIX), SILENT),
        (other(words="Influenza vaccine suspension for injection 0.5ml pre-filled syringes"), SILENT),
        (other(words="Influenza vaccine (split virion, inactivated)"), SILENT),
        (other(words=ZOSTAVAX), LIVE),
        (other(words="Influenza vaccine nasal suspension 0.2ml unit dose"), LIVE),
        (other(words="Varicella-Zoster vaccine"), LIVE),
        (other("174"), LIVE),
        (other("317"), LIVE),
    ],
)
def test_a_vaccine_that_may_be_live_is_asked_about(vaccine: Json, expected: tuple[str, str] | None) -> None:
    assert said(vaccine, medicines=[ON_TOFACITINIB]).get("VAX-01") == expected
    assert said(vaccine) == {}, "a child who takes no JAK inhibitor"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("Zoster vaccination", ASKED), ("MMR immunisation", LIVE), ("HPV vaccination", SILENT)],
)
def test_a_vaccination_is_the_order_of_its_vaccine(words: str, expected: tuple[str, str] | None) -> None:
    request = {
        "resourceType": "ServiceRequest",
        "id": "x1",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "code": {"text": words},
    }
    assert said(request, medicines=[ON_TOFACITINIB]).get("VAX-01") == expected


# --- contraceptives -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pill", "severity"),
    [
        (other(words="Oral contraceptive pill"), "warning"),
        (other("G03A", ATC), "warning"),
        (other(words="Combined oral contraceptive pill"), "critical"),
        (other(words="Progestogen-only contraceptive pill"), "info"),
    ],
)
def test_a_pill_of_unsaid_kind_is_a_warning(pill: Json, severity: str) -> None:
    assert said(pill, medicines=[ON_TOFACITINIB])["PREG-04"] == ("hit", severity)


# --- virus loads ----------------------------------------------------------------------------------


def load(code: str, value: str | None = None, on: str = "2026-05-28", **more: Any) -> Json:
    found: Json = {
        "resourceType": "Observation",
        "id": f"load-{code}-{on}",
        "status": "final",
        "code": concept(code, LOINC),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": on,
    }
    if value is not None:
        found["valueQuantity"] = quantity(value, "{Log_copies}/mL")
    return found | more


EARLIER = load("100674-1", "2", on="2026-05-01")
JC_NEGATIVE = answer("100685-7", "260415000", "jc-old", "2026-05-01")


def on_baricitinib(*results: Json) -> dict[str, Json]:
    return findings(view(prefetch_of(conditions=[SAVI], medicines=[ON_BARICITINIB], results=results)))


def test_a_load_that_may_be_of_the_blood_is_not_passed_over_for_an_older_one() -> None:
    found = on_baricitinib(EARLIER, load("43201-3", "4.5"))["BK-10"]
    assert (found["outcome"], found["severity"]) == ("cannot-assess", "warning")
    assert found["missing"] == [{"fact": "bkBloodLoad", "reason": "unreadable"}]


@pytest.mark.parametrize(
    "harmless",
    [
        load("43201-3", "4.5", specimen={"display": "Urine"}),
        load("43201-3", valueString="Not detected"),
        load("43201-3", valueQuantity=quantity("2.6", "{Log_copies}/mL") | {"comparator": "<"}),
        load("43201-3", valueQuantity=quantity("3", "{Log_copies}/mL") | {"comparator": "<"}),
        load("43201-3", valueQuantity=quantity("500", "{copies}/mL") | {"comparator": "<"}),
    ],
)
def test_a_load_of_urine_or_a_low_one_of_unsaid_specimen_alarms_nobody(harmless: Json) -> None:
    assert "BK-10" not in on_baricitinib(EARLIER, harmless)


@pytest.mark.parametrize(
    ("comparator", "value", "unit"),
    [
        ("<", "4.5", "{Log_copies}/mL"),
        ("<=", "3", "{Log_copies}/mL"),
        ("<", "10000", "{copies}/mL"),
        ("<", "2", "[IU]/mL"),
        (">", "2", "{Log_copies}/mL"),
    ],
)
def test_a_bound_that_leaves_a_high_load_possible_is_not_passed_over(
    comparator: str, value: str, unit: str
) -> None:
    bounded = load("43201-3", valueQuantity=quantity(value, unit) | {"comparator": comparator})
    assert on_baricitinib(EARLIER, bounded)["BK-10"]["outcome"] == "cannot-assess"


def test_a_load_whose_specimen_is_said_counts() -> None:
    found = on_baricitinib(EARLIER, load("43201-3", "4.5", specimen={"display": "Plasma"}))
    assert found["BK-10"]["severity"] == "critical"


def test_jc_virus_found_in_words_under_the_code_of_a_load_is_told() -> None:
    assert on_baricitinib(JC_NEGATIVE, answer("100685-7", "10828004", "jc-new"))["BK-13"]["outcome"] == "hit"
    assert "BK-13" not in on_baricitinib(JC_NEGATIVE)


def test_a_jc_load_that_cannot_be_read_is_no_negative_one() -> None:
    unread = load("100685-7", valueQuantity=quantity("500", "[IU]/mL"))
    assert on_baricitinib(JC_NEGATIVE, unread)["BK-13"]["outcome"] == "cannot-assess"


# --- diagnoses ------------------------------------------------------------------------------------


def unsure(code: str, word: str) -> Json:
    status = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
    return condition(code, "c9", verificationStatus=concept(word, status))


@pytest.mark.parametrize("word", ["provisional", "differential", "unconfirmed"])
def test_an_indication_that_is_not_confirmed_is_said_to_be_so(word: str) -> None:
    answered = ask(draft("tofacitinib", 4), conditions=[unsure(POLY_JIA, word)])
    assert f"{word} diagnosis; it was used as the indication. Confirm it." in texts(answered)
    assert dose(answered) is not None
    confirmed = ask(draft("tofacitinib", 4), conditions=[unsure(POLY_JIA, "confirmed")])
    assert "it was used as the indication" not in texts(confirmed)


def test_an_infection_that_is_only_suspected_counts_and_is_named_as_such() -> None:
    pneumonia = unsure("233604007", "differential")
    answered = view(prefetch_of(conditions=[POLY_JIA, pneumonia], medicines=[ON_TOFACITINIB]))
    assert findings(answered)["INF-01"]["severity"] == "critical"
    assert "pneumonia (a differential diagnosis)" in texts(answered)


@pytest.mark.parametrize(("word", "asked"), [("differential", True), ("confirmed", False)])
def test_a_chickenpox_that_was_only_suspected_settles_no_immunity(word: str, asked: bool) -> None:
    prefetch = prefetch_of(conditions=[POLY_JIA, unsure("38907003", word) | PAST])
    prefetch["screening"] = bundle(answer("71773-6", "260385009", "igra-1"))
    found = findings(cards(hook_request([draft("tofacitinib", 4)], prefetch)))
    assert ("SCR-05" in found) is asked


PAST = {
    "clinicalStatus": concept("resolved", "http://terminology.hl7.org/CodeSystem/condition-clinical"),
    "onsetDateTime": "2020-03-01",
}


# --- urine strips ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strip", "severity"),
    [
        ("++", "critical"),
        ("1+", "critical"),
        ("Nil", None),
        ("NAD", None),
        ("Trace", "warning"),
        ("C++", "warning"),
    ],
)
def test_a_urine_strip_is_read_as_it_is_written(strip: str, severity: str | None) -> None:
    found = on_baricitinib(load("100674-1", "3.2"), load("20454-5", valueString=strip))
    assert (found["BK-09"]["severity"] if "BK-09" in found else None) == severity


# --- what is offered ------------------------------------------------------------------------------


def test_a_barred_start_offers_no_orders_for_its_plan() -> None:
    pneumonia = condition("233604007", "c9")
    free, barred = (ask(draft("tofacitinib", 4), conditions=[POLY_JIA, *more]) for more in ([], [pneumonia]))
    labels = [[suggestion["label"] for suggestion in suggestions(answered)] for answered in (free, barred)]
    assert "Order the monitoring plan" in labels[0]
    assert "Order the monitoring plan" not in labels[1]
    assert "TOFA-MON-01" in findings(barred), "the plan itself is told"
    assert "not offered as orders" in texts(barred)
    assert "not offered as orders" not in texts(free)


@pytest.mark.parametrize(("evening", "recommended"), [(2, False), (6, True)])
def test_an_escalated_dose_that_is_lowered_is_not_recommended_back(evening: int, recommended: bool) -> None:
    running = order("baricitinib", start="2025-12-01", dosageInstruction=divided(MORN=4, EVE=4))
    drafted = draft("baricitinib", dosageInstruction=divided(MORN=4, EVE=evening))
    answered = ask(drafted, conditions=[SAVI], medicines=[running], creatinine="36")
    (offered,) = updates(answered)
    assert offered.get("isRecommended", False) is recommended
    assert (
        "one option where the dose is lowered: 4 mg morning + 2 mg evening" in texts(answered)
    ) is not recommended


def test_two_jak_inhibitors_are_told_once_on_opening_the_chart() -> None:
    both = [ON_TOFACITINIB, order("baricitinib", 4, 1, id_="run2")]
    answered = view(prefetch_of(medicines=both))
    told = [f["id"] for card in answered for f in card["extension"]["org.jaki-cds"]["findings"]]
    assert told.count("CON-05") == 1


def test_a_combination_product_says_why_it_counts_as_active_tuberculosis() -> None:
    rifinah = order("tofacitinib", id_="rif", medicationCodeableConcept=concept("J04AM02", ATC))
    answered = view(prefetch_of(medicines=[ON_TOFACITINIB, rifinah]))
    assert "TOFA-CI-02" in findings(answered)
    assert "not so where it treats latent TB" in texts(answered)


def test_a_fall_of_haemoglobin_names_the_value_that_it_fell_from() -> None:
    earlier = {"id_": "hb-0", "on": "2026-01-05"}
    results = [observation_of("12.5", **earlier), observation_of("10.4", id_="hb-1", on="2026-05-28")]
    bloods = {"neutrophils": "3"}
    answered = view(prefetch_of(medicines=[ON_TOFACITINIB], results=results, bloods=bloods))
    assert "**Haemoglobin 10.4 g/dL (12.5 g/dL before treatment): Interrupt dosing" in texts(answered)


def observation_of(value: str, *, id_: str, on: str) -> Json:
    return load("718-7", on=on, id=id_, valueQuantity=quantity(value, "g/dL"))


# --- diagnoses in words ---------------------------------------------------------------------------


def in_words(words: str, **more: Any) -> Json:
    return condition("", "c9") | {"code": {"text": words}} | more


@pytest.mark.parametrize(
    ("words", "id_"),
    [
        ("Shingles", "ZOST-01"),
        ("Community-acquired pneumonia", "INF-01"),
        ("Herpes zoster (disorder)", "ZOST-01"),
        ("Pulmonary embolism", "AE-10"),
        ("No pneumonia", None),
        ("Pneumonia?", None),
        ("History of shingles", None),
    ],
)
def test_a_grave_diagnosis_in_words_counts_where_the_words_are_its_name(words: str, id_: str | None) -> None:
    answered = view(prefetch_of(conditions=[POLY_JIA, in_words(words)], medicines=[ON_TOFACITINIB]))
    grave = {name for name, found in findings(answered).items() if found["severity"] == "critical"}
    assert grave == ({id_} if id_ else set())
    assert ("by the words of the diagnosis, not by a code: Condition/c9" in texts(answered)) is (
        id_ is not None
    )


def test_a_local_code_with_the_name_of_a_grave_diagnosis_counts_and_a_known_code_is_taken_at_its_word() -> (
    None
):
    local = {"coding": [{"system": "urn:oid:1.2.3", "code": "PN1", "display": "Pneumonia"}]}
    asthma = concept("195967001", text="Pneumonia")
    for code, counts in ((local, True), (asthma, False)):
        answered = view(
            prefetch_of(conditions=[POLY_JIA, in_words("", code=code)], medicines=[ON_TOFACITINIB])
        )
        assert ("INF-01" in findings(answered)) is counts


def test_a_diagnosis_in_words_clears_nothing() -> None:
    prefetch = prefetch_of(conditions=[POLY_JIA, in_words("Chickenpox", **PAST)])
    prefetch["screening"] = bundle(answer("71773-6", "260385009", "igra-1"))
    assert "SCR-05" in findings(cards(hook_request([draft("tofacitinib", 4)], prefetch)))


def test_every_name_of_a_diagnosis_can_be_met_and_means_something_we_know() -> None:
    known = frozenset(concept for kind in vocabulary().values() for concept in kind.concepts)
    for name, concepts in diagnoses._names().items():
        assert concepts <= known, name
        assert diagnoses.diagnosis_in_words({"text": f" {name.capitalize()}"}) == concepts
