"""Target TEST-6: coverage-guided fuzzing finds no fault. ``make fuzz`` gives each target 60 s; here it is short."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fuzz import NAMES, ROOT
from fuzz_targets import TARGETS


def test_the_runner_knows_the_targets() -> None:
    assert set(NAMES) == set(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_test_6_nothing_is_found_in_what_fuzzing_starts_from(name: str) -> None:
    target = TARGETS[name]
    for raw in target.seeds:
        target.one(raw)
        target.one(raw[: len(raw) // 2])
        for word in target.words:
            target.one(raw[: len(raw) // 2] + word + raw[len(raw) // 2 :])


@pytest.mark.slow
def test_test_6_fuzzing_finds_no_fault() -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "tests/fuzz.py", "--seconds", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("no finding") == len(NAMES)


def test_a_finding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that let a number of any size through would not pass."""
    monkeypatch.setattr("cds_service.json_reader.MAX_EXPONENT", 400)
    with pytest.raises(AssertionError):
        TARGETS["json"].one(b"[1e300]")
