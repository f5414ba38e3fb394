"""Compares a software bill of materials (CycloneDX, JSON) with the lock file; ``make sbom`` runs it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(?P<version>[^ ;]+)(?: *; *(?P<when>[^\\]+))?"
)


def pinned(lock: str) -> dict[str, str]:
    """Name and version of each package that the lock file has for this machine."""
    lines = (_PINNED.match(line) for line in lock.splitlines())
    return {
        _plain(found["name"]): found["version"]
        for found in lines
        if found is not None and (found["when"] is None or Marker(found["when"].strip()).evaluate())
    }


def faults(lock: str, bill: dict[str, Any], *, whole: bool = True) -> Iterator[str]:
    """What the bill says otherwise than the lock file; ``whole``: it may list nothing else either."""
    wanted = pinned(lock)
    listed = {_plain(part["name"]): part for part in bill["components"]}
    for name, version in wanted.items():
        part = listed.get(name)
        if part is None:
            yield f"{name} {version} is locked and not listed"
        elif part["version"] != version:
            yield f"{name} is locked at {version} and listed at {part['version']}"
        elif not part.get("licenses"):
            yield f"{name} {version} is listed without a licence"
    if whole:
        yield from (f"{name} is listed and not locked" for name in listed if name not in wanted)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    found = list(
        faults(Path(sys.argv[1]).read_text("utf-8"), json.loads(Path(sys.argv[2]).read_text("utf-8")))
    )
    print(
        "\n".join(found)
        or f"{sys.argv[2]}: {len(pinned(Path(sys.argv[1]).read_text('utf-8')))} packages, as locked"
    )
    sys.exit(bool(found))
