"""What ``/metrics`` tells: right over several processes, from closed lists, nothing of a request."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from builders import draft, hook_request
from fault_servers import Server as FhirServer
from fault_servers import answer
from forks import ended_with, in_a_worker
from prometheus_client.parser import text_string_to_metric_families
from test_auth import SERVICE, client_of, token
from test_serve import BODY

from cds_service.app import create_app
from cds_service.auth import Door
from cds_service.envelope import EXTENSION
from cds_service.json_reader import write_json
from cds_service.metrics import REASONS, STATUSES, Metrics
from cds_service.replay_guard import ReplayGuard
from cds_service.runtime import make_runtime
from cds_service.server import Server
from cds_service.settings import Settings
from cds_service.store.spool import Spool


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_counters_of_forked_workers_add_up() -> None:
    metrics = Metrics()
    for worker in (1, 2):

        def count(worker: int = worker) -> int:
            metrics.use_row(worker)
            metrics.count_request("healthz", 200, 0.25)
            return 0

        assert ended_with(in_a_worker(count)) == [0]
    found = samples(metrics.text())
    assert found["jaki_cds_requests_total", "healthz", "200"] == 2
    assert found["jaki_cds_request_seconds_sum", "healthz"] == 0.5
    assert found["jaki_cds_request_seconds_count", "healthz"] == 2


def test_obs_4_what_was_not_assessed_and_what_was_refused_is_counted() -> None:
    client = create_app(Settings(demo=True)).test_client()
    request = hook_request([draft("tofacitinib", 4)], bloods={})
    del request["prefetch"]["immunizations"]
    url = "/cds-services/jaki-order-select"
    client.post(url, data=write_json(request), content_type="application/json")
    client.post(url, data=write_json(request | {"prefetch": {}}), content_type="application/json")
    found = samples(client.get("/metrics").get_data(as_text=True))
    assert found["jaki_cds_not_assessed_total", "absent"] > 0
    assert found["jaki_cds_not_assessed_total", "not-supplied"] > 0
    assert found["jaki_cds_not_assessed_total", "stale"] == 0
    assert {key[1] for key in found if key[0] == "jaki_cds_not_assessed_total"} == set(REASONS)
    assert found["jaki_cds_requests_total", "jaki-order-select", "412"] == 1
    assert found["jaki_cds_cards_total", "jaki-order-select"] == sum(
        value for key, value in found.items() if key[0] == "jaki_cds_card_indicators_total"
    )


@pytest.mark.parametrize("demo", [True, False])
def test_obs_3_hostile_traffic_adds_no_label(demo: bool) -> None:
    client = create_app(Settings(demo=demo)).test_client()
    for number in range(300):
        client.get(f"/made-up-{number}")
        client.post(f"/cds-services/made-up-{number}", json={})
        client.open("/cds-services", method="PROPFIND", headers={f"X-{number}": "1"})
    text = client.get("/metrics").get_data(as_text=True)
    assert len(samples(text)) <= 200
    assert "made-up" not in text


def test_what_became_of_the_cards_is_told_by_statement_and_client() -> None:
    metrics = Metrics(["north", "south"])
    card = {
        "indicator": "warning",
        "extension": {
            EXTENSION: {
                "findings": [
                    {"id": "AE-01", "missing": []},
                    {"id": "AE-01", "missing": []},
                    {"id": "AE-02", "missing": []},
                ],
                "withheld": [{"findings": ["AE-03"]}],
            }
        },
    }
    for _ in range(2):
        metrics.count_cards("jaki-order-sign", [card], "north")
    metrics.count_report("north", ["AE-01", "AE-02"], "overridden", "not-applicable")
    metrics.count_report("north", ["AE-01"], "overridden")
    metrics.count_report("south", ["AE-01"], "overridden", "a reason of the site's own")
    metrics.count_report("south", ["AE-01"], "accepted")
    metrics.count_report("south", None, "accepted")
    metrics.count_report("no longer configured", ["AE-01"], "accepted")
    found = samples(metrics.text())
    kept = {key[1:]: value for key, value in found.items() if key[0] == "jaki_cds_statement_cards_total"}
    assert {
        (client, statement, event, reason): n for (client, event, reason, statement), n in kept.items()
    } == {
        ("north", "AE-01", "shown", ""): 2,
        ("north", "AE-02", "shown", ""): 2,
        ("north", "AE-03", "withheld", ""): 2,
        ("north", "AE-01", "overridden", "not-applicable"): 1,
        ("north", "AE-02", "overridden", "not-applicable"): 1,
        ("north", "AE-01", "overridden", "none"): 1,
        ("south", "AE-01", "overridden", "other"): 1,
        ("south", "AE-01", "accepted", ""): 1,
        ("", "AE-01", "accepted", ""): 1,
    }
    assert found[("jaki_cds_feedback_unknown_cards_total",)] == 1


def test_obs_4_refused_tokens_and_calls_too_many_are_counted(tmp_path: Path) -> None:
    settings = Settings(log_level="error", calls_per_second=1)
    door = Door([client_of()], ReplayGuard(f"sqlite:///{tmp_path}/tokens.sqlite"))
    site = create_app(settings, replace(make_runtime(settings), door=door)).test_client()
    statuses = [site.post(SERVICE, json=BODY).status_code]
    texts = [token() for _ in range(8)]
    statuses += [
        site.post(SERVICE, json=BODY, headers={"Authorization": f"Bearer {text}"}).status_code
        for text in texts
    ]
    assert {200, 401, 429} == set(statuses)
    found = samples(site.get("/metrics").get_data(as_text=True))
    for status in (200, 401, 429):
        key = ("jaki_cds_requests_total", "jaki-patient-view", str(status))
        assert found[key] == statuses.count(status)


def test_obs_4_a_fhir_server_that_is_left_alone_is_told() -> None:
    """From the first failure to the probe that closes the breaker again, without a name of the server."""
    app = create_app(Settings(demo=True))
    runtime, now = app.extensions["jaki_cds"], [1000.0]
    runtime.client.elsewhere._clock = lambda: now[0]
    site = app.test_client()

    def told() -> tuple[float, float]:
        found = samples(site.get("/metrics").get_data(as_text=True))
        return found["jaki_cds_fetch_breakers_open", ""], found["jaki_cds_fetch_breaker_opened_total", ""]

    with FhirServer(answer(500)) as server:
        body = BODY | {"prefetch": {}, "fhirServer": server.base}

        def call() -> None:
            assert site.post(SERVICE, json=body).status_code == 412

        for _ in range(4):
            call()
        assert told() == (0, 0)
        call()
        assert told() == (1, 1)
        call()
        assert told() == (1, 1)
        now[0] += 15
        call()
        assert told() == (1, 1), "the probe failed: it is left alone for longer"
        now[0] += 15
        server.behaviour = answer(404)
        call()
        assert told() == (0, 1)
        assert str(server.port) not in site.get("/metrics").get_data(as_text=True)


def test_obs_4_breakers_of_workers_add_up_and_end_with_their_worker() -> None:
    metrics = Metrics(["north", "south"])
    for worker, resting in ((1, [1, 2, 1]), (2, [1])):

        def tell(worker: int = worker, told: list[int] = resting) -> int:
            metrics.use_row(worker)
            for number in told:
                metrics.tell_breakers("north", number)
            return 0

        assert ended_with(in_a_worker(tell)) == [0]

    def told(name: str) -> list[float]:
        found = samples(metrics.text())
        return [found[f"jaki_cds_fetch_{name}", client] for client in ("", "north", "south")]

    assert (told("breakers_open"), told("breaker_opened_total")) == ([0, 2, 0], [0, 3, 0])
    metrics.leave_row(1)
    assert (told("breakers_open"), told("breaker_opened_total")) == ([0, 1, 0], [0, 3, 0])


def test_obs_4_the_server_takes_a_worker_that_ended_out_of_the_count() -> None:
    server, metrics = Server(Settings(demo=True), "127.0.0.1", 8000, workers=1, threads=1), Metrics()
    server._metrics = metrics
    worker = SimpleNamespace(age=7)
    server.cfg.post_fork(None, worker)
    metrics.tell_breakers("", 1)
    assert samples(metrics.text())["jaki_cds_fetch_breakers_open", ""] == 1
    server.cfg.child_exit(None, worker)
    assert samples(metrics.text())["jaki_cds_fetch_breakers_open", ""] == 0


def test_obs_4_entries_that_wait_in_the_spool_are_told(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    metrics = Metrics(waiting=spool.depth)
    for waiting in range(3):
        assert samples(metrics.text())[("jaki_cds_spool_entries",)] == waiting
        spool.append(b"{}")
    spool.append(b"{}\n{}")
    assert spool.depth() == 5


def test_obs_4_alert_rules_name_metrics_labels_and_values_that_exist() -> None:
    text = (Path(__file__).parent.parent / "deploy" / "alerts.yaml").read_text("utf-8")
    expressions = [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert len(expressions) >= 5
    page = Metrics().text()
    for expression in expressions:
        for name in re.findall(r"jaki_cds_[a-z_]+", expression):
            assert f"# HELP {re.sub('_(sum|count)$', '', name)} " in page, name
        for status in re.findall(r"\b[1-5][0-9]{2}\b(?=[|\"])", expression):
            assert int(status) in STATUSES
        for reasons in re.findall(r'reason=~"([^"]+)"', expression):
            assert set(reasons.split("|")) <= set(REASONS)
