"""The prefetch templates: inside the query subset that CDS Hooks recommends, and complete for our codes."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import pytest
from builders import client

from fhir_mappings.concepts import codes_of
from fhir_mappings.prefetch import Pool, keys, read_supply, relative_reference, templates
from fhir_mappings.systems import canonical
from guideline.facts import vocabulary

TOKEN = "{{context.patientId}}"
QUERIES = {name: template for name, template in templates().items() if "?" in template}
SUBSET = {"patient", "code", "_sort", "_count", "category", "status"}


def parameters(template: str) -> list[tuple[str, str]]:
    """As they stand in the address; a template that held a blank or an ampersand in a value would show here."""
    return parse_qsl(template.partition("?")[2], keep_blank_values=True, strict_parsing=True)


def test_every_service_publishes_the_templates() -> None:
    services = client().get("/cds-services").get_json()["services"]
    assert services
    for service in services:
        assert service["prefetch"] == templates()


@pytest.mark.parametrize("name", templates())
def test_only_the_patients_id_is_filled_in(name: str) -> None:
    """Other tokens are not known to every client; a sandbox sends them literally."""
    template = templates()[name]
    assert re.findall(r"\{\{.*?\}\}", template) == [TOKEN]
    assert "%7B" not in template and " " not in template


@pytest.mark.parametrize("name", QUERIES)
def test_a_search_stays_inside_the_recommended_subset(name: str) -> None:
    kind, _, query = QUERIES[name].partition("?")
    assert re.fullmatch(r"[A-Z][A-Za-z]+", kind)
    names = [parameter for parameter, _ in parameters(QUERIES[name])]
    assert query.startswith(f"patient={TOKEN}")
    assert set(names) <= SUBSET
    assert len(names) == len(set(names)), "clients fold a repeated parameter into an OR"
    assert ":" not in "".join(names), "no modifiers"
    assert "." not in "".join(names), "no chains"


def test_the_patient_is_a_read() -> None:
    assert templates()["patient"] == f"Patient/{TOKEN}"


@pytest.mark.parametrize("key", [key for key in keys() if key.facts], ids=lambda key: key.name)
def test_every_code_of_ours_is_asked_for(key: object) -> None:
    (one,) = [k for k in keys() if k is key]
    asked = dict(parameters(templates()[one.name]))["code"].split(",")
    assert len(asked) == len(set(asked))
    for fact in one.facts:
        for concept in vocabulary()[fact].concepts:
            for system, code in codes_of(concept):
                assert f"{canonical(system)}|{code}" in asked


def test_every_result_that_is_read_is_in_a_key() -> None:
    """A fact that the tables use and no key holds would always be "not supplied"."""
    held = {fact for key in keys() for fact in key.facts}
    gaps = {
        name
        for name, kind in vocabulary().items()
        if kind.read_from == ("series",) and Pool({}).gap("series", name) is None
    }
    assert gaps.isdisjoint(held)


def test_references_are_compared_without_server_and_version() -> None:
    for text in (
        "Condition/1",
        "http://x/fhir/Condition/1",
        "Condition/1/_history/3",
        "http://x/fhir/Condition/1/",
    ):
        assert relative_reference(text) == "Condition/1"


def test_a_dstu2_answer_to_our_search_for_medicines() -> None:
    found = read_supply(
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "MedicationOrder"}}]},
        "MedicationRequest",
    )
    assert found.gap is None
