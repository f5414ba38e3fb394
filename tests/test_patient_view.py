"""Opening the chart of a child on a JAK inhibitor: what is said of the running treatment, over HTTP.

And what other parts of the record must be read right for it: virus loads in words, infections treated into a vein.
"""

from __future__ import annotations

import pytest
from builders import (
    ATC,
    HEALTHY,
    LOINC,
    SAVI,
    SNOMED,
    Json,
    ask,
    bundle,
    concept,
    condition,
    divided,
    draft,
    evidence,
    findings,
    missing,
    observation,
    order,
    ours,
    prefetch_of,
    quantity,
    suggestions,
    texts,
    view,
)

EXTRA = {"crp": "1988-5", "esr": "30341-2", "cholesterol": "14647-2", "triglycerides": "14927-8"}
UNITS = {"crp": "mg/L", "esr": "mm/h", "cholesterol": "mmol/L", "triglycerides": "mmol/L"}
BK_BLOOD, BK_URINE, JC_BLOOD, JC_URINE = "32284-2", "32285-9", "49412-0", "49411-2"
OTITIS, SEPSIS, HYDRONEPHROSIS = "65363002", "91302008", "43064006"


def result(code: str, id_: str, on: str = "2026-05-25", **more: object) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": concept(code, LOINC),
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": on,
        **more,
    }


def monitored(*medicines: Json, results: tuple[Json, ...] = (), **child: object) -> Json:
    """The prefetch of a child whose bloods of 25 May are complete and normal."""
    more = [
        result(
            code, f"{name}-1", valueQuantity=quantity(1, UNITS[name]), referenceRange=[{"high": {"value": 5}}]
        )
        for name, code in EXTRA.items()
    ]
    found = prefetch_of(medicines=medicines, **child)  # type: ignore[arg-type]
    found["inflammation"] = bundle(*(one for one in more if one["id"] in ("crp-1", "esr-1")))
    found["lipidsAndMuscle"] = bundle(*(one for one in more if one["id"] not in ("crp-1", "esr-1")))
    loads = [result(c, f"load-{c}", valueString="Not detected") for c in (BK_URINE, JC_BLOOD, JC_URINE)]
    found["virusLoads"] = bundle(*loads, *results)
    return found


def tofacitinib(mg: str | int = 4, **more: object) -> Json:
    return order("tofacitinib", mg, start="2025-11-01", **more)  # type: ignore[arg-type]


# --- the running dose -----------------------------------------------------------------------------

EARLIER = observation("weight", "19", on="2025-10-28", id_="weight-0")
GROWN = {"weight": "20.5", "height": "112", "birth": "2019-05-14"}


def test_a_child_that_has_grown_into_the_next_band_is_told_with_the_right_dose_and_no_suggestion() -> None:
    child = monitored(tofacitinib("3.2"), **GROWN)
    child["growth"]["entry"].append({"resource": EARLIER})
    first, second = view(child)
    assert [finding["id"] for finding in ours(first)["findings"]] == ["TOFA-DOSE-08"]
    assert (first["indicator"], second["indicator"]) == ("warning", "info")
    assert set(findings([second])) == {"TOFA-DOSE-09"}
    assert "4 mg twice daily (8 mg per day" in first["detail"]
    assert "TOFA-DOSE-04" in first["detail"]
    assert "20.5 kg" in first["detail"]
    assert "dose" not in ours(first)
    assert "suggestions" not in first


def test_a_running_dose_that_fits_gives_no_card() -> None:
    assert view(monitored(tofacitinib(4), **GROWN)) == []


@pytest.mark.parametrize("words", [None, [{"text": "as directed"}]], ids=["none", "free text"])
def test_a_running_order_without_a_readable_dose_gives_no_card(words: list[Json] | None) -> None:
    assert view(monitored(tofacitinib(dosageInstruction=words), **GROWN)) == []


def test_a_divided_dose_is_compared_with_the_row_of_its_schedule() -> None:
    def seen(**whens: int) -> set[str]:
        running = order("baricitinib", start="2025-11-01", dosageInstruction=divided(**whens))
        load = result(BK_BLOOD, "load", valueString="Not detected")
        child = monitored(running, results=(load,), conditions=[SAVI], creatinine="30")  # eGFR 158
        return set(findings(view(child)))

    assert seen(MORN=4, EVE=2) == set()
    assert seen(MORN=2, AFT=2, EVE=2) == {"BARI-IFN-09"}


# --- a drug that has ended ------------------------------------------------------------------------


def ended(status: str, day: str) -> Json:
    running = tofacitinib(status=status)
    running["dosageInstruction"][0]["timing"]["repeat"]["boundsPeriod"] = {"start": "2025-11-01", "end": day}
    return running


ENDS: dict[str, tuple[Json, bool]] = {
    "stopped yesterday": (ended("stopped", "2026-05-31"), False),
    "stopped today": (ended("stopped", "2026-06-01"), True),
    "a supply that ran out 28 days ago": (ended("completed", "2026-05-04"), True),
    "a supply that ran out 29 days ago": (ended("completed", "2026-05-03"), False),
}


@pytest.mark.parametrize(("running", "watched"), ENDS.values(), ids=ENDS)
def test_a_drug_that_was_stopped_is_not_watched_and_one_that_ran_out_may_be_renewed(
    running: Json, watched: bool
) -> None:
    found = view(monitored(running, conditions=[SEPSIS]))
    assert ("INF-01" in findings(found)) is watched
    assert ("ended on" in texts(found)) is watched


# --- virus loads ----------------------------------------------------------------------------------

SCREENING = {"BK-02", "BARI-MON-08"}
UNREAD = {"BK-03", "BK-04", "BK-05", "BK-06", "BK-08", "BK-10"}
TOLD: dict[str, tuple[Json, set[str]]] = {
    # what the laboratory sends for BK virus in blood, and the findings beside a running baricitinib
    "not detected": ({"valueString": "Target not detected"}, set()),
    "not detected, coded": ({"valueCodeableConcept": concept("260415000", SNOMED)}, set()),
    "negative by its flag": ({"interpretation": [concept("NEG", "http://x")]}, set()),
    "below quantification": ({"valueString": "Detected, <LLOQ"}, set()),
    "below the limit of detection": ({"valueString": "below the lower limit of detection"}, set()),
    "detected, no number": ({"valueString": "Detected"}, {*UNREAD, *SCREENING}),
    "a number in words": ({"valueString": "2.1 log"}, {*UNREAD, *SCREENING}),
    "5000 copies": (
        {"valueQuantity": quantity(5000, "{copies}/mL")},
        {"BK-04", "BK-05", "BK-06", "BK-08", "WITH-01"},
    ),
    "international units": ({"valueQuantity": quantity(5000, "[IU]/mL")}, UNREAD),
}


def with_load(more: Json, **child: object) -> list[Json]:
    running = order("baricitinib", start="2025-11-01", dosageInstruction=divided(MORN=2, EVE=2))
    return view(monitored(running, results=(result(BK_BLOOD, "load", **more),), conditions=[SAVI], **child))


@pytest.mark.parametrize(("more", "expected"), TOLD.values(), ids=TOLD)
def test_a_virus_load_is_read_as_the_laboratory_says_it(more: Json, expected: set[str]) -> None:
    """A load in another unit has been measured; of one that cannot be read nobody knows."""
    assert set(findings(with_load(more))) == expected


def test_international_units_are_shown_and_not_converted() -> None:
    found = with_load({"valueQuantity": quantity(5000, "[IU]/mL")})
    assert ("bkBloodLoad", "unusable-unit") in missing(found)
    assert "5000 in international units" in texts(found)
    assert "ask the laboratory" in texts(found)
    assert not evidence(found, "bkBloodLoad")
    strange = with_load({"valueQuantity": quantity(5000, "furlong")})
    assert "5000" not in texts(strange)


# --- infections -----------------------------------------------------------------------------------

ROUTES: dict[str, tuple[list[Json] | None, bool]] = {
    "no route": (None, False),
    "by mouth": ([{"route": concept("26643006", SNOMED)}], False),
    "intravenous, coded": ([{"route": concept("47625008", SNOMED)}], True),
    "intravenous, in words": ([{"text": "1 g"}, {"route": {"text": "Intravenous infusion"}}], True),
    "IV": ([{"route": {"text": "IV"}}], True),
    "no vein": ([{"route": {"text": "Intravesical"}}], False),
}


@pytest.mark.parametrize(("dosages", "serious"), ROUTES.values(), ids=ROUTES)
def test_an_infection_with_an_antimicrobial_into_a_vein_is_serious(
    dosages: list[Json] | None, serious: bool
) -> None:
    amoxicillin = order("tofacitinib", id_="amx", start="2026-05-30", dosageInstruction=dosages)
    amoxicillin["medicationCodeableConcept"] = concept("J01CA04", ATC)
    child = monitored(tofacitinib(), amoxicillin, conditions=[condition(OTITIS)])
    found = findings(view(child))
    assert ("INF-01" in found) is serious
    assert ("INF-02" in found) is not serious
    alone = findings(view(monitored(tofacitinib(), amoxicillin)))
    assert "INF-01" not in alone
    assert alone["INF-02"]["severity"] == "warning"
    start = findings(ask(draft("tofacitinib", 4), medicines=[amoxicillin], conditions=[condition(OTITIS)]))
    assert ("TOFA-CI-03" in start) is serious


def test_another_medicine_into_a_vein_makes_no_infection_serious() -> None:
    infusion = order(
        "tofacitinib",
        id_="inf",
        start="2026-05-30",
        dosageInstruction=[{"route": concept("47625008", SNOMED)}],
    )
    infusion["medicationCodeableConcept"] = concept("L04AX03", ATC)
    found = findings(view(monitored(tofacitinib(), infusion, conditions=[condition(OTITIS)])))
    assert found["INF-02"]["severity"] == "info"
    assert "INF-01" not in found


# --- order and company of the cards ---------------------------------------------------------------


def test_loads_and_signs_of_one_trigger_share_a_card() -> None:
    """BK-10 rests on the load, BK-09 on the load and the signs: one problem, one card (ruling 9)."""
    running = order("baricitinib", start="2025-11-01", dosageInstruction=divided(MORN=2, EVE=2))
    load = result(BK_BLOOD, "load", valueQuantity=quantity("4.2", "{Log_copies}/mL"))
    child = monitored(running, results=(load,), conditions=[SAVI, condition(HYDRONEPHROSIS, "c9")])
    first, *others = view(child)
    assert {finding["id"] for finding in ours(first)["findings"]} == {"BK-09", "BK-10"}
    assert all(card["indicator"] != "critical" for card in others)


def test_hydronephrosis_asks_for_a_load_before_one_is_due() -> None:
    running = order("baricitinib", start="2026-05-01", dosageInstruction=divided(MORN=2, EVE=2))
    child = monitored(running, conditions=[SAVI, condition(HYDRONEPHROSIS, "c9")])
    child["virusLoads"] = bundle()
    found = findings(view(child))
    assert found["BK-09"]["outcome"] == "cannot-assess"
    assert {"fact": "bkBloodLoad", "reason": "absent"} in found["BK-09"]["missing"]


VACCINES: dict[str, tuple[Json, bool]] = {
    # what is drafted, by its words alone, and whether it is a live vaccine
    "MMR given": ({"resourceType": "Immunization", "vaccineCode": {"text": "MMR"}}, True),
    "brand, nasal influenza": (
        {"resourceType": "Immunization", "vaccineCode": {"text": "Fluenz Tetra"}},
        True,
    ),
    "brand as a medicine": ({"medicationCodeableConcept": {"text": "Priorix inj 0.5 mL"}}, True),
    "requested": ({"resourceType": "ServiceRequest", "code": {"text": "Yellow fever vaccine"}}, True),
    "recommended": (
        {
            "resourceType": "ImmunizationRecommendation",
            "recommendation": [{"vaccineCode": [{"text": "BCG"}]}],
        },
        True,
    ),
    "antibodies, no vaccine": ({"resourceType": "ServiceRequest", "code": {"text": "MMR IgG"}}, False),
    "not live": ({"resourceType": "Immunization", "vaccineCode": {"text": "Shingrix"}}, False),
    "not live, influenza": (
        {"resourceType": "Immunization", "vaccineCode": {"text": "Influenza inactivated"}},
        False,
    ),
    "a code that is another vaccine's": (
        {
            "resourceType": "Immunization",
            "vaccineCode": concept("187", "http://hl7.org/fhir/sid/cvx", "MMR"),
        },
        False,
    ),
}


@pytest.mark.parametrize(("more", "live"), VACCINES.values(), ids=VACCINES)
def test_a_vaccine_is_known_by_its_words_where_no_code_is(more: Json, live: bool) -> None:
    base = draft("tofacitinib", id_="vax") if "resourceType" not in more else {"id": "vax", "status": "draft"}
    person = {"subject": {"reference": "Patient/p1"}, "patient": {"reference": "Patient/p1"}}
    found = findings(ask(base | person | more, medicines=[tofacitinib()]))
    assert ("VAX-01" in found) is live


PILLS = {"combined": ("G03AA07", "critical"), "progestogen-only": ("G03AC01", "info")}


@pytest.mark.parametrize(("code", "severity"), PILLS.values(), ids=PILLS)
def test_a_pill_drafted_for_a_girl_on_the_drug(code: str, severity: str) -> None:
    pill = draft("tofacitinib", id_="pill", medicationCodeableConcept=concept(code, ATC))
    (card,) = ask(pill, medicines=[tofacitinib()])
    assert (card["indicator"], set(findings([card]))) == (severity, {"PREG-04"})
    assert ask(pill) == []
    # On the record it is nothing to open the chart for.
    taken = pill | {"status": "active", "authoredOn": "2026-05-01"}
    assert len(view(monitored(tofacitinib(), taken))) == (severity == "critical")


def test_over_several_drafts_the_gravest_card_comes_first() -> None:
    rank = ("critical", "warning", "info")
    found = ask(draft("tofacitinib", 4, id_="d1"), draft("ruxolitinib", 5, id_="d2"))
    ranks = [rank.index(card["indicator"]) for card in found]
    assert len({ours(card)["findings"][0]["order"] for card in found}) > 1
    assert ranks == sorted(ranks)


def test_a_short_first_sentence_is_followed_by_what_to_do() -> None:
    (card,) = view(monitored(tofacitinib(), conditions=[SEPSIS]))
    assert card["summary"].startswith(
        "Tofacitinib 4 mg twice daily: Serious infection: Interrupt the JAK inhibitor"
    )
    assert len(card["summary"]) < 140


# --- ready-made orders ----------------------------------------------------------------------------


def offered(found: list[Json]) -> list[tuple[str, str | None]]:
    """The tests that the cards offer to order: (code, day)."""
    requests = [action["resource"] for one in suggestions(found) for action in one["actions"]]
    assert {request["resourceType"] for request in requests} <= {"ServiceRequest"}
    return [(request["code"]["coding"][0]["code"], request.get("occurrenceDateTime")) for request in requests]


def test_a_low_count_comes_with_the_order_of_its_repeat() -> None:
    child = monitored(tofacitinib(), bloods=HEALTHY | {"lymphocytes": "0.7"})
    assert offered(view(child)) == [("58410-2", None)]


def test_screening_that_is_due_is_ordered_test_by_test() -> None:
    running = order("baricitinib", start="2025-11-01", dosageInstruction=divided(MORN=2, EVE=2))
    child = monitored(running, conditions=[SAVI])
    child["virusLoads"] = bundle()
    assert offered(view(child)) == [(code, None) for code in (BK_BLOOD, BK_URINE, JC_BLOOD, JC_URINE)]


# --- results that nobody has to have -------------------------------------------------------------------

TEMPERATURE = "8310-5"


def warm(celsius: str, on: str = "2026-05-31") -> Json:
    return result(TEMPERATURE, "temperature-1", on, valueQuantity=quantity(celsius, "Cel"))


@pytest.mark.parametrize(
    ("results", "named"),
    [((), True), ((warm("36.8"),), False), ((warm("36.8", "2026-05-01"),), True), ((warm("39"),), False)],
    ids=["none", "normal", "a month old", "fever"],
)
def test_an_order_names_a_temperature_that_was_not_there(results: tuple[Json, ...], named: bool) -> None:
    cards = ask(draft("tofacitinib", 4), results=results)
    notes = [card["detail"] for card in cards if "so not looked at" in card["detail"]]
    assert len(notes) == 1  # a laboratory's own eGFR is lacking in each case
    sentence = notes[0].partition("Not on record, or not lately, and so not looked at: ")[2].partition(".")[0]
    assert ("temperature" in sentence) is named
    assert "eGFR reported by the laboratory" in sentence
    assert "BK virus" not in sentence  # no rule of tofacitinib looks at it


def test_an_order_of_baricitinib_names_a_virus_load_that_was_not_there() -> None:
    first = ask(draft("baricitinib", 4))[0]["detail"]
    assert "so not looked at: eGFR reported by the laboratory, temperature, BK virus load in blood." in first


def test_a_temperature_that_nobody_took_opens_no_card_with_the_chart() -> None:
    running = order("tofacitinib", 4, start="2026-04-01")
    assert view(monitored(running)) == []
    (card,) = view(monitored(running, results=(warm("39"),)))
    assert "INF-02" in findings([card])
