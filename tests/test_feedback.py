"""What feedback does: the warning that a site does not want repeated, on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from cds_service.app import create_app
from cds_service.runtime import Runtime, make_runtime
from cds_service.settings import Settings
from cds_service.store import cli, index
from cds_service.store.chain import Link
from cds_service.store.database import Database
from cds_service.store.recording import moment
from cds_service.store.store import Store
from cds_service.store.tables import AUDIT, CARD, FEEDBACK
from guideline.policy import LONGEST_SILENCE, load_policy
from guideline.yaml_text import YamlFault

SAMPLES = Path(__file__).parent.parent / "samples"
ORDER_SIGN = "/cds-services/jaki-order-sign"
DAYS = 7
REASON = {"reason": {"system": "urn:jaki-cds:override-reason", "code": "specialist-advice"}}

Json = dict[str, Any]


@cache
def runtime() -> Runtime:
    return make_runtime(Settings(demo=True, log_level="error"))


def client_of(store: Store | None, days: int = DAYS) -> FlaskClient:
    policy = replace(runtime().policy, repeat_overridden_after=days)
    made = replace(runtime(), policy=policy)
    return create_app(made.settings, made, store).test_client()


def sample(name: str = "bari-egfr-25", child: str = "") -> Json:
    """A sample, of a child of that id."""
    asked: Json = json.loads((SAMPLES / name / "request.json").read_text("utf-8"))
    if child:
        asked = json.loads(json.dumps(asked).replace(asked["context"]["patientId"], child))
    return asked | {"hook": "order-sign"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for many tests; each asks about a child of its own."""
    found = Store.open(Settings(demo=True, store=f"sqlite:///{tmp_path_factory.mktemp('s')}/s.sqlite"))
    assert found is not None
    yield found
    found.database.close()


@pytest.fixture(scope="module")
def site(shared: Store) -> FlaskClient:
    """A site that does not want overridden warnings repeated."""
    return client_of(shared)


@pytest.fixture
def child() -> str:
    return f"child-{uuid4()}"


def ask(client: FlaskClient, asked: Json, service: str = "order-sign") -> list[Json]:
    url = f"/cds-services/jaki-{service}"
    return list(client.post(url, json=asked | {"hook": service}).get_json()["cards"])


def ours(card: Json) -> Json:
    return dict(card["extension"]["org.jaki-cds"])


def said(cards: list[Json]) -> list[tuple[str, str]]:
    return [(card["indicator"], card["summary"]) for card in cards]


def could_be_checked(card: Json) -> bool:
    return all(finding["outcome"] != "cannot-assess" for finding in ours(card)["findings"])


def the_warning(cards: list[Json]) -> Json:
    return next(card for card in cards if card["indicator"] == "warning" and could_be_checked(card))


def report(client: FlaskClient, card: Json, **members: Any) -> None:
    """Overridden now and with a reason, unless ``members`` say otherwise."""
    item = {
        "card": card["uuid"],
        "outcome": "overridden",
        "overrideReason": REASON,
        "outcomeTimestamp": moment(datetime.now(UTC)),
    } | members
    told = {name: value for name, value in item.items() if value is not None}
    assert client.post(f"{ORDER_SIGN}/feedback", json={"feedback": [told]}).status_code == 200


def notes(cards: list[Json]) -> list[Json]:
    return [card for card in cards if "withheld" in ours(card)]


def test_unless_a_site_asks_for_it_every_warning_is_repeated(store: Store) -> None:
    client = client_of(store, days=runtime().policy.repeat_overridden_after)
    first = ask(client, sample())
    report(client, the_warning(first))
    assert said(ask(client, sample())) == said(first)


def test_aud_3_a_mark_that_was_given_to_another_card_is_noticed(store: Store) -> None:
    """By it a warning is known again as overridden: on another card's row it would silence what nobody answered."""
    warning = the_warning(ask(client_of(store), sample()))

    def faults() -> list[str]:
        with store.database.reading() as connection:
            return list(index.faults(cli.links(connection), connection))

    assert faults() == []
    with store.database.writing() as connection:
        mark = select(CARD.c.mark).where(CARD.c.uuid == warning["uuid"]).scalar_subquery()
        others = update(CARD).where(CARD.c.mark.is_(None))
        assert connection.execute(others.values(mark=mark)).rowcount > 0
    assert faults()


def test_an_overridden_warning_is_not_repeated_and_the_answer_says_so(store: Store) -> None:
    client = client_of(store)
    first = ask(client, sample())
    warning = the_warning(first)
    report(client, warning)
    second = ask(client, sample())
    *rest, note = second
    assert said(rest) == [line for line in said(first) if line != (warning["indicator"], warning["summary"])]
    assert note["indicator"] == "info"
    assert note["summary"].startswith("1 warning is not repeated")
    assert "Agreed with the tertiary or specialist team" in note["detail"]
    (withheld,) = ours(note)["withheld"]
    assert withheld["card"] == warning["uuid"]
    statements = {finding["id"] for finding in ours(warning)["findings"]}
    assert set(withheld["findings"]) == statements
    assert all(statement in note["detail"] for statement in statements)
    # In the record, too, and what explains the note tells it.
    with store.database.reading() as connection:
        link = Link(*connection.execute(select(AUDIT).order_by(AUDIT.c.seq.desc())).first())
    body = json.loads(link.body)
    assert body["withheld"] == [withheld]
    assert [card["uuid"] for card in body["cards"]] == [card["uuid"] for card in second]
    told = "\n".join(cli.told(link, body, note["uuid"]))
    assert "Not repeated" in told and warning["uuid"] in told
    # Overridden once, kept back each time.
    assert said(ask(client, sample())) == said(second)


def other_child(asked: Json) -> Json:
    found: Json = json.loads(json.dumps(asked).replace(asked["context"]["patientId"], "another-child"))
    return found


def other_dose(asked: Json) -> Json:
    (entry,) = asked["context"]["draftOrders"]["entry"]
    entry["resource"]["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] += 1
    return asked


def other_note_on_the_order(asked: Json) -> Json:
    (entry,) = asked["context"]["draftOrders"]["entry"]
    entry["resource"]["priority"] = "urgent"
    return asked


def newer_result(asked: Json) -> Json:
    for entry in asked["prefetch"]["kidney"]["entry"]:
        if "valueQuantity" in entry["resource"]:
            entry["resource"]["valueQuantity"]["value"] += 1
    return asked


def drafted_twice(asked: Json) -> Json:
    (entry,) = asked["context"]["draftOrders"]["entry"]
    twin = json.loads(json.dumps(entry))
    twin["resource"]["id"] = "draft-again"
    asked["context"]["draftOrders"]["entry"] = [entry, twin]
    asked["context"].pop("selections", None)
    return asked


@pytest.mark.parametrize(
    "change", [other_child, other_dose, other_note_on_the_order, newer_result, drafted_twice]
)
def test_any_change_of_child_order_or_evidence_brings_the_warning_back(
    site: FlaskClient, child: str, change: Callable[[Json], Json]
) -> None:
    report(site, the_warning(ask(site, sample(child=child))))
    assert notes(ask(site, sample(child=child)))
    assert not notes(ask(site, change(sample(child=child))))


def test_the_same_order_drafted_anew_is_the_same(site: FlaskClient, child: str) -> None:
    report(site, the_warning(ask(site, sample(child=child))))
    again: Json = json.loads(json.dumps(sample(child=child)).replace("/draft-1", "/draft-2"))
    (entry,) = again["context"]["draftOrders"]["entry"]
    entry["resource"] |= {"id": "draft-2", "authoredOn": "2026-06-01T11:00:00Z"}
    assert notes(ask(site, again))


NOT_AN_OVERRIDE: dict[str, Json] = {
    "without a reason": {"overrideReason": None},
    "with a comment only": {"overrideReason": {"userComment": "seen"}},
    "longer ago": {"outcomeTimestamp": moment(datetime.now(UTC) - timedelta(days=DAYS, minutes=1))},
    "accepted": {"outcome": "accepted", "overrideReason": None, "acceptedSuggestions": [{"id": "1"}]},
}


@pytest.mark.parametrize("what", NOT_AN_OVERRIDE)
def test_what_does_not_keep_a_warning_back(site: FlaskClient, child: str, what: str) -> None:
    first = ask(site, sample(child=child))
    report(site, the_warning(first), **NOT_AN_OVERRIDE[what])
    assert said(ask(site, sample(child=child))) == said(first)


def test_the_last_word_on_a_card_counts(store: Store) -> None:
    client = client_of(store)
    first = ask(client, sample())
    report(client, the_warning(first))
    later = moment(datetime.now(UTC) + timedelta(minutes=1))
    report(client, the_warning(first), overrideReason=None, outcomeTimestamp=later)
    assert said(ask(client, sample())) == said(first)


def test_a_time_in_the_future_keeps_nothing_back_for_longer(
    site: FlaskClient, child: str, shared: Store
) -> None:
    """The time of the override is the client's word; when the report came is known."""
    first = ask(site, sample(child=child))
    report(site, the_warning(first), outcomeTimestamp="2999-01-01T00:00:00Z")
    assert notes(ask(site, sample(child=child)))
    past = moment(datetime.now(UTC) - timedelta(days=DAYS, minutes=1))
    with shared.database.writing() as connection:
        connection.execute(update(FEEDBACK).values(at=past))
    assert said(ask(site, sample(child=child))) == said(first)


def test_a_card_of_another_client_is_not_overridden_by_it(
    site: FlaskClient, child: str, shared: Store
) -> None:
    first = ask(site, sample(child=child))
    with shared.database.writing() as connection:
        connection.execute(update(CARD).values(client="another-hospital"))
    report(site, the_warning(first))
    assert said(ask(site, sample(child=child))) == said(first)


def test_only_at_signing(site: FlaskClient, child: str) -> None:
    selecting = ask(site, sample(child=child), "order-select")
    report(site, the_warning(selecting))
    assert not notes(ask(site, sample(child=child), "order-select"))
    assert not notes(ask(site, sample(child=child)))  # shown at selection, not at signing
    report(site, the_warning(ask(site, sample(child=child))))
    assert notes(ask(site, sample(child=child)))
    assert said(ask(site, sample(child=child), "order-select")) == said(selecting)


@pytest.mark.parametrize("name", ["tofa-init-neutrophils-1.1", "bari-birth-year-only"])
def test_a_critical_card_and_what_could_not_be_checked_are_always_repeated(
    site: FlaskClient, child: str, name: str
) -> None:
    first = ask(site, sample(name, child))
    always = [card for card in first if card["indicator"] == "critical" or not could_be_checked(card)]
    assert always
    for card in first:
        report(site, card)
    second = ask(site, sample(name, child))
    assert [card for card in said(always) if card not in said(second)] == []


def test_while_the_store_fails_everything_is_shown(
    site: FlaskClient, child: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(site, sample(child=child))
    report(site, the_warning(first))

    def fails(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(Database, "reading", fails)
        assert said(ask(site, sample(child=child))) == said(first)
    shared._not_before = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(Store, "overridden", fails)  # a fault of ours
        assert said(ask(site, sample(child=child))) == said(first)
    assert said(ask(client_of(None), sample(child=child))) == said(first)


def events(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """What ``/metrics`` tells of the cards, without the client, which demo mode does not know."""
    families = text_string_to_metric_families(client.get("/metrics").get_data(as_text=True))
    return {
        (s.labels["statement"], s.labels["event"], s.labels["reason"]): s.value
        for family in families
        for s in family.samples
        if s.name == "jaki_cds_statement_cards_total"
    }


def test_metrics_tell_what_became_of_each_statement_however_often_it_is_reported(store: Store) -> None:
    client = client_of(store)
    cards = ask(client, sample())
    warning = the_warning(cards)
    for _ in range(3):
        report(client, warning, outcomeTimestamp="2026-06-01T10:00:00Z")
    report(client, cards[-1] | {"uuid": str(uuid4())})
    found = events(client)
    shown = {finding["id"] for card in cards for finding in ours(card)["findings"]}
    assert {key[0] for key in found if key[1] == "shown"} == shown
    overridden = {key: value for key, value in found.items() if key[1] == "overridden"}
    statements = {finding["id"] for finding in ours(warning)["findings"]}
    assert overridden == {(statement, "overridden", "specialist-advice"): 1 for statement in statements}
    assert "jaki_cds_feedback_unknown_cards_total 1.0" in client.get("/metrics").get_data(as_text=True)


def test_feedback_that_waited_in_the_spool_is_counted_when_it_is_taken_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(store)
    warning = the_warning(ask(client, sample()))

    def fails(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(Database, "writing", fails)
        report(client, warning)
        assert "jaki_cds_spool_entries 1.0" in client.get("/metrics").get_data(as_text=True)
    assert client.get("/readyz").status_code == 200
    assert "jaki_cds_spool_entries 0.0" in client.get("/metrics").get_data(as_text=True)
    assert sum(value for key, value in events(client).items() if key[1] == "overridden") > 0


def test_a_site_cannot_silence_a_warning_for_years(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    for days, allowed in ((0, True), (LONGEST_SILENCE, True), (LONGEST_SILENCE + 1, False), ("1.5", False)):
        path.write_text(f"policy: {{repeat_overridden_after: {days}}}\n", "utf-8")
        if allowed:
            assert load_policy(path).repeat_overridden_after == days
        else:
            with pytest.raises(YamlFault, match="repeat_overridden_after"):
                load_policy(path)
