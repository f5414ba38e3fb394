"""The cards in the form that each kind of client takes: form changes, what they say does not."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from builders import Json, draft, hook_request

from cds_service.app import create_app
from cds_service.json_reader import read_json, write_json
from cds_service.profiles import DEFAULT, PROFILES, shaped
from cds_service.settings import Settings, SettingsError, read_settings

DELETE = {"type": "delete", "description": "Delete it", "resourceId": "MedicationRequest/d1"}


def update(id_: str, mg: int) -> Json:
    resource = {"resourceType": "MedicationRequest", "id": id_, "mg": mg}
    return {"type": "update", "description": f"Set {mg}", "resource": resource}


def create(name: str) -> Json:
    resource = {"resourceType": "ServiceRequest", "code": {"text": name}}
    return {"type": "create", "description": f"Order {name}", "resource": resource}


def suggestion(number: int, *actions: Json) -> Json:
    return {"label": f"Suggestion {number}", "uuid": f"u{number}", "actions": list(actions)}


def card(*suggestions: Json, topic: str = "jakidose") -> Json:
    return {
        "uuid": "c1",
        "summary": "A card",
        "source": {"label": "x", "topic": {"system": "s", "code": topic}},
        "suggestions": list(suggestions),
        "selectionBehavior": "at-most-one",
        "overrideReasons": [{"code": "a", "system": "s", "display": "A"}],
    }


def one(name: str, given: Json) -> Any:
    before = copy.deepcopy(given)
    response: Any = shaped({"cards": [given]}, name, iter(["n1", "n2", "n3"]).__next__)
    assert given == before
    return response["cards"][0]


@pytest.mark.parametrize("name", [DEFAULT, "sandbox"])
def test_the_default_and_the_sandbox_get_the_cards_as_they_are(name: str) -> None:
    given = card(suggestion(1, update("d1", 5), DELETE), suggestion(2, create("a"), create("b")))
    assert one(name, given) == given


def test_1_0_knows_no_override_reasons_and_the_old_form_of_deletion() -> None:
    found = one("1.0", card(suggestion(1, DELETE, update("d1", 5))))
    assert found["selectionBehavior"] == "at-most-one"
    assert "overrideReasons" not in found
    assert found["suggestions"][0]["actions"] == [
        {"type": "delete", "description": "Delete it", "resource": "MedicationRequest/d1"},
        update("d1", 5),
    ]


def test_epic_gets_any_and_one_action_for_each_suggestion() -> None:
    found = one("epic", card(suggestion(1, update("d1", 5)), suggestion(2, create("a"), create("b"))))
    assert found["selectionBehavior"] == "any"
    assert found["overrideReasons"]
    assert found["suggestions"] == [
        suggestion(1, update("d1", 5)),
        {"label": "Order a", "uuid": "u2", "actions": [create("a")]},
        {"label": "Order b", "uuid": "n1", "actions": [create("b")]},
    ]


def test_epic_is_never_offered_two_doses_of_one_order_to_accept_together() -> None:
    found = one("epic", card(suggestion(1, update("d1", 5)), suggestion(2, update("d1", 8))))
    assert found["suggestions"] == [suggestion(1, update("d1", 5))]


@pytest.mark.parametrize(
    ("topic", "code"), [("jakidose", "jakidose"), ("jaki-dose.1", "jakidose1"), ("x" * 120, "x" * 100)]
)
def test_epics_topics_are_short_and_plain(topic: str, code: str) -> None:
    assert one("epic", card(topic=topic))["source"]["topic"] == {"system": "s", "code": code}


def test_an_answer_without_cards_stays_one() -> None:
    for name in PROFILES:
        assert shaped({"cards": []}, name) == {"cards": []}


@pytest.mark.parametrize("name", PROFILES)
def test_the_service_answers_in_the_configured_form(name: str) -> None:
    """The same request under each profile: the same findings and doses, a form that fits the client."""
    client = create_app(Settings(demo=True, profile=name)).test_client()
    raw = write_json(hook_request([draft("tofacitinib", 5)], bloods={}))
    response = client.post("/cds-services/jaki-order-select", data=raw, content_type="application/json")
    body: Any = read_json(response.data)
    found = body["cards"]
    assert any("suggestions" in card for card in found)
    for item in found:
        assert item["extension"]["org.jaki-cds"]["findings"]
        assert re.fullmatch(r"[A-Za-z0-9]{1,100}", item["source"]["topic"]["code"])
        assert ("overrideReasons" in item) == (name != "1.0" and item["indicator"] != "info")
        if "suggestions" in item:
            assert item["selectionBehavior"] == ("any" if name == "epic" else "at-most-one")
            uuids = [suggestion["uuid"] for suggestion in item["suggestions"]]
            assert len(set(uuids)) == len(uuids)
            if name == "epic":
                assert {len(suggestion["actions"]) for suggestion in item["suggestions"]} == {1}
    counts = {name: len([a for c in found for s in c.get("suggestions", ()) for a in s["actions"]])}
    assert counts[name] > 1


def test_the_setting_is_checked() -> None:
    assert read_settings({"JAKI_CDS_PROFILE": "epic"}).profile == "epic"
    with pytest.raises(SettingsError, match="JAKI_CDS_PROFILE is no client profile"):
        read_settings({"JAKI_CDS_PROFILE": "cerner"})
