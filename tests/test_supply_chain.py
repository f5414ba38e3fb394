"""The bill of materials is compared with the lock file; what bandit passes over has its reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sbom import faults, pinned

ROOT = Path(__file__).parent.parent
LOCK = """\
flask==3.1.3 \\
    --hash=sha256:aa
    # via jaki-cds
psycopg[binary]==3.3.9 \\
    --hash=sha256:bb
colorama==0.4.6 ; sys_platform == 'no such system' \\
    --hash=sha256:cc
typing-extensions==4.16.0 ; python_full_version >= '3.11' \\
    --hash=sha256:dd
"""


def bill(**versions: str) -> dict[str, Any]:
    parts = {"Flask": "3.1.3", "psycopg": "3.3.9", "typing_extensions": "4.16.0"} | versions
    licences = [{"license": {"id": "MIT"}}]
    return {"components": [{"name": n, "version": v, "licenses": licences} for n, v in parts.items() if v]}


def test_only_what_this_machine_needs_is_expected() -> None:
    assert pinned(LOCK) == {"flask": "3.1.3", "psycopg": "3.3.9", "typing-extensions": "4.16.0"}


def test_a_bill_that_equals_the_lock_file_is_good() -> None:
    assert not list(faults(LOCK, bill()))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (bill(Flask=""), "flask 3.1.3 is locked and not listed"),
        (bill(psycopg="3.3.8"), "psycopg is locked at 3.3.9 and listed at 3.3.8"),
        (bill(evil="1"), "evil is listed and not locked"),
        ({"components": [part | {"licenses": []} for part in bill()["components"][:1]] + bill()["components"][1:]},
         "flask 3.1.3 is listed without a licence"),
    ],
)  # fmt: skip
def test_a_difference_is_told(changed: dict[str, Any], fault: str) -> None:
    assert list(faults(LOCK, changed)) == [fault]


def test_doc_4_every_locked_package_has_hashes() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-sbom.lock"):
        text = (ROOT / name).read_text("utf-8")
        entries = re.split(r"\n(?=[a-z0-9])", text.partition("==")[2])
        assert len(entries) > 10
        assert all("--hash=sha256:" in entry for entry in entries)


def test_what_bandit_passes_over_has_its_reason() -> None:
    """``# why  # nosec B000``: a reason and one number, never a whole line or file let through."""
    for package in ("guideline", "fhir_mappings", "cards", "cds_service"):
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text("utf-8").splitlines():
                if "nosec" in line:
                    assert re.search(r"# \S.{5,}  # nosec B\d{3}$", line), f"{path.name}: {line}"
