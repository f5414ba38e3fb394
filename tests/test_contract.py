"""Target TEST-2: what ``/openapi.json`` says is what the service does, by schemathesis on the real server.

Everything that schemathesis checks is asked for: never a 5xx, only statuses, media types and bodies that the document
has, good bodies taken, bad ones refused, no call without a token, no method that is not listed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from test_serve import ROOT, running

from cds_service.services import SERVICES

ISS = "https://ehr.example.org/fhir"
BASE = "https://cds.example.org"
# Statuses that a body of the right form may get besides 200: nothing can be said without the Patient.
CONFIGURATION = """\
[checks.positive_data_acceptance]
expected-statuses = [200, 401, 412]
"""


@pytest.mark.parametrize(
    ("addresses", "posts", "cases"),
    [
        pytest.param("", 2 * len(SERVICES), 8, marks=pytest.mark.slow, id="all"),
        *(
            pytest.param(f"/{service}(/feedback)?$", 2, 500, marks=pytest.mark.exhaustive, id=service)
            for service in SERVICES
        ),
    ],
)
def test_test_2_schemathesis_finds_no_difference_from_the_document(
    addresses: str, posts: int, cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``addresses``: a pattern of those that are called. ``posts``: how many of them take a body."""
    pytest.importorskip("schemathesis")
    private = ec.generate_private_key(ec.SECP384R1())
    public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": "contract"}
    clients, configuration = tmp_path / "clients.yaml", tmp_path / "schemathesis.toml"
    clients.write_text(
        f"clients:\n- name: ward\n  iss: {ISS}\n  jwks: {json.dumps({'keys': [public]})}\n", "utf-8"
    )
    configuration.write_text(CONFIGURATION, "utf-8")
    for name, value in (
        ("CLIENTS", str(clients)),
        ("PUBLIC_BASE_URL", BASE),
        ("STORE", f"sqlite:///{tmp_path}/store.sqlite"),
        ("CALLS_PER_SECOND", "10000"),
        ("LOG_LEVEL", "error"),  # nobody reads the lines meanwhile
    ):
        monkeypatch.setenv(f"JAKI_CDS_{name}", value)
    with running("--workers", "2") as (_, port):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"),
                *("--checks", "all", "--max-examples", str(cases), "--seed", "20261125"),
                *("--include-path-regex", addresses or "/"),
                *("--continue-on-failure", f"http://127.0.0.1:{port}/openapi.json"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
                "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
                "CONTRACT_KEY": json.dumps(ECAlgorithm.to_jwk(private, as_dict=True) | {"kid": "contract"}),
                "CONTRACT_ISS": ISS,
                "CONTRACT_BASE": BASE,
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    made = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert made is not None, done.stdout
    assert made[1] == made[2]
    assert int(made[1]) >= posts * cases  # a GET without parameters has one form only
