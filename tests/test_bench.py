"""The benchmark itself: its bodies, its arithmetic, its page; and (slow) one short run."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import bench
import pytest
from bench_bodies import BODIES, VARIANTS, Body, selecting
from bench_load import Load
from bench_page import (
    BOTH,
    DOCS,
    FLOOR,
    SERVICE,
    TARGETS,
    Run,
    cost_table,
    figure,
    number,
    peers,
    target_table,
    write_section,
)
from bench_servers import NotHere

DAY = date(2026, 6, 1)


def load(cpu_ms: float, calls: int = 200) -> Load:
    return Load(calls, 1.0, cpu_ms * calls / 1000, [0.001] * (calls - 4) + [0.003] * 4)


def run_of(**cpu_ms: float) -> Run:
    """A run in which each server takes so many ms for every body; in a second round, disturbed, twice that."""
    run = Run(two_workers=load(1.0, 600))
    for server, name in ((FLOOR, "floor"), (SERVICE, "service"), (BOTH, "both")):
        for body in BODIES:
            run.cells[server, body.name] = [load(2 * cpu_ms[name]), load(cpu_ms[name])]
        run.ready[server], run.ready_cpu[server], run.peak[server] = 1.0, 0.5, 100 * 1024 * 1024
    return run


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)
def test_a_body_is_the_same_each_time_and_holds_what_it_says(body: Body) -> None:
    raw = body.bytes(DAY)
    if len(raw) < 300_000:
        assert raw == body.bytes(DAY)
        assert len({*body.variants(DAY)}) == VARIANTS
    assert json.loads(raw)["hook"] == body.hook
    found = sum(
        len(bundle.get("entry", ()))
        for key, bundle in json.loads(raw)["prefetch"].items()
        if key not in ("patient", "conditions", "medicationRequests", "immunizations", "screening")
    )
    assert found == body.observations


def test_an_observation_is_as_large_as_real_ones() -> None:
    few, many = (len(json.dumps(selecting(n, DAY), default=str)) for n in (10, 110))
    assert 1_000 < (many - few) / 100 < 1_400


def test_the_least_of_the_rounds_counts() -> None:
    run = run_of(floor=0.5, service=1.5, both=3.0)
    assert run.cpu(SERVICE, "10 Observations") == pytest.approx(1.5)
    assert run.ratio(SERVICE, "10 Observations") == pytest.approx(3)
    assert "| 10 Observations | 0.50 | 1.50 | 3.00 | 3.00 | 6.00 |" in cost_table(run)


def test_targets_are_held_or_not_in_each_run() -> None:
    good, bad = run_of(floor=0.5, service=0.7, both=2.0), run_of(floor=0.5, service=2.2, both=5.0)
    assert target_table([good]).count("**held**") == len(TARGETS)
    table = target_table([good, bad])
    assert "| 10 Observations: CPU per call | ≤ 4 × floor | 1.40, 4.40 | not held (1 of 2) |" in table
    assert "| Peak memory of a worker | ≤ 150 MiB | 100, 100 | **held** |" in table
    assert "at most of 10, 200, 2000 | ≤ 2 ms | 1.30, 2.80 | not held (1 of 2) |" in table


def test_too_few_calls_have_no_p99() -> None:
    run = run_of(floor=0.5, service=0.7, both=2.0)
    run.cells[SERVICE, "200 Observations"] = [load(1.0, 20)]
    assert run.p99(SERVICE, "200 Observations") is None
    assert "× p50 | – | not measured |" in target_table([run])


@pytest.mark.parametrize(
    ("value", "text"), [(0.314, "0.31"), (12.34, "12.3"), (1234.5, "1,234"), (None, "–")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


def test_the_figure_shows_every_peer_and_is_the_same_each_time() -> None:
    own = {SERVICE: [(10.0, 1.0), (2_000.0, 20.0)]}
    drawn = figure(own)
    assert drawn == figure(own)
    for name in peers():
        assert f">{name}</text>" in drawn
    assert drawn.count("<polyline") == len(peers()) + 1


def test_a_section_is_replaced_and_the_words_around_it_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- soak: by hand of make -->\nold\n<!-- end of soak -->\nb\n")
    write_section(page, "soak", r"new \1")
    assert page.read_text() == "a\n<!-- soak: by hand of make -->\n\nnew \\1\n\n<!-- end of soak -->\nb\n"
    with pytest.raises(ValueError, match="no section measured"):
        write_section(page, "measured", "x")


def test_the_pages_have_their_sections() -> None:
    assert re.findall("<!-- (.*?):", (DOCS / "performance.md").read_text()) == ["measured", "soak"]
    assert re.findall("<!-- (.*?):", (DOCS / "scaling.md").read_text()) == ["measured"]


@pytest.mark.slow
def test_a_run_goes_through_without_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_here() -> None:
        raise NotHere("no network")

    monkeypatch.setattr(bench, "healthchain", not_here)
    run = bench.one_run(seconds=0.05, rounds=1, starts=1)
    assert run.servers() == [FLOOR, SERVICE, BOTH]
    assert run.bodies() == [body.name for body in BODIES]
    for body in BODIES:
        assert 0 < run.cpu(FLOOR, body.name) < run.cpu(SERVICE, body.name) < run.cpu(BOTH, body.name) + 20
    assert "Left out: no network" in bench.report([run], "")
