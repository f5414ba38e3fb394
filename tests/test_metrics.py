"""What ``/metrics`` tells: right over several processes, from closed lists, nothing of a request."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from builders import draft, hook_request
from prometheus_client.parser import text_string_to_metric_families

from cds_service.app import create_app
from cds_service.envelope import EXTENSION
from cds_service.json_reader import write_json
from cds_service.metrics import REASONS, STATUSES, Metrics
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
        child = os.fork()
        if child == 0:
            metrics.use_row(worker)
            metrics.count_request("healthz", 200, 0.25)
            os._exit(0)
        os.waitpid(child, 0)
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
