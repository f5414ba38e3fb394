"""Who may import whom, and which packages must give the same answer whenever and wherever they run.

cds_service -> fhir_mappings -> guideline <- cards <- cds_service
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"guideline", "fhir_mappings", "cards", "cds_service"}
MAY_IMPORT = {
    "guideline": set[str](),
    "fhir_mappings": {"guideline"},
    "cards": {"guideline"},
    "cds_service": {"guideline", "fhir_mappings", "cards"},
}
NETWORK = {"requests", "urllib", "urllib3", "http", "socket", "ssl", "asyncio"}
WEB = {"flask", "werkzeug", "gunicorn"}
CHANCE = {"time", "random", "secrets"}
FORBIDDEN = {
    "guideline": WEB | NETWORK | CHANCE | {"fhir"},
    "fhir_mappings": WEB | NETWORK | CHANCE,
    "cards": WEB | NETWORK | CHANCE | {"fhir"},
    "cds_service": set[str](),
}
# The one part that talks to FHIR servers, and keeps time for its deadline.
EXCEPTIONS = {
    "fhir_mappings/client": {"requests", "urllib", "urllib3", "socket", "ssl", "time", "random", "http"}
}
UNREPEATABLE = {
    ("datetime", "now"),
    ("datetime", "today"),
    ("datetime", "utcnow"),
    ("date", "today"),
    ("uuid", "uuid1"),
    ("uuid", "uuid4"),
}
FILES = sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of the top-level packages that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield package if node.level else (node.module or "").partition(".")[0]


def unrepeatable(tree: ast.AST) -> Iterator[str]:
    """Uses of the clock and of random identifiers, called or only named."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = (
                owner.id
                if isinstance(owner, ast.Name)
                else owner.attr
                if isinstance(owner, ast.Attribute)
                else ""
            )
            if (name, node.attr) in UNREPEATABLE:
                yield f"{name}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (
                f"{node.module}.{a.name}" for a in node.names if (node.module, a.name) in UNREPEATABLE
            )


def faults(source: str, path: Path) -> list[str]:
    """What a module does that its layer must not."""
    package = path.parts[0]
    tree = ast.parse(source)
    allowed = EXCEPTIONS.get(path.parent.as_posix(), set())
    names = set(imported(tree, package))
    found = [f"imports {name}" for name in names & OURS - MAY_IMPORT[package] - {package}]
    found += [f"imports {name}" for name in names & FORBIDDEN[package] - allowed]
    if package != "cds_service" and not allowed:
        found += [f"uses {use}" for use in unrepeatable(tree)]
    return found


def test_there_is_something_to_check() -> None:
    assert {path.parts[0] for path in FILES} == OURS


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_keeps_to_its_layer(path: Path) -> None:
    assert faults((ROOT / path).read_text(encoding="utf-8"), path) == []


BREACHES = [
    ("guideline/x.py", "import cards"),
    ("guideline/x.py", "from fhir_mappings.codes import x"),
    ("guideline/x.py", "import flask"),
    ("guideline/x.py", "from fhir.resources.bundle import Bundle"),
    ("guideline/x.py", "def f():\n    import cds_service"),
    ("guideline/x.py", "from datetime import date\nx = date.today()"),
    ("cards/x.py", "import fhir_mappings"),
    ("cards/x.py", "import uuid\nx = uuid.uuid4()"),
    ("cards/x.py", "from uuid import uuid4"),
    ("cards/x.py", "import datetime\nx = datetime.datetime.now"),
    ("fhir_mappings/x.py", "import requests"),
    ("fhir_mappings/x.py", "import time"),
    ("fhir_mappings/client/x.py", "import flask"),
    ("fhir_mappings/client/x.py", "import cds_service.app"),
]


@pytest.mark.parametrize(("path", "source"), BREACHES)
def test_a_breach_is_noticed(path: str, source: str) -> None:
    assert len(faults(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cards/x.py", "from uuid import UUID, uuid5\nfrom guideline.values import Known"),
        ("guideline/x.py", "from . import values"),
        ("fhir_mappings/client/x.py", "import requests, time"),
        ("cds_service/x.py", "import cards, fhir_mappings, time"),
    ],
)
def test_what_is_allowed_is_no_breach(path: str, source: str) -> None:
    assert faults(source, Path(path)) == []
