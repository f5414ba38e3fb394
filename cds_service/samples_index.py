"""``samples/README.md``: the index of the sample cases, made from their ``case.yaml`` (``make page``)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cds_service.replay import CaseFile, find_cases, read_case_file

_HEAD = """# Sample cases

<!-- Made by `make page` from the case.yaml of each folder; change those. -->

Invented children, {count} cases. Each folder holds a whole hook request (`request.json`), the stored answer
(`response.json`; uuids of cards and suggestions are placeholders) and what the case is about (`case.yaml`).

- `jaki-cds replay samples` answers all of them and tells every difference; `make samples` stores the answers anew.
- `jaki-cds replay samples/<case>/request.json` shows the cards of one, `jaki-cds explain samples/<case>/request.json`
  how they came about.
- Statement ids link to the rules in [docs/guideline.md](../docs/guideline.md).

| case | title | hook | shows |
|---|---|---|---|
"""


def index(folder: Path) -> str:
    """The page for a folder of cases. Raises ``UnusableInput`` for a case.yaml that cannot be used."""
    cases = [(case.name, read_case_file(case.request.parent)) for case in find_cases([folder])]
    return _HEAD.format(count=len(cases)) + "\n".join(_rows(cases)) + "\n"


def _rows(cases: Sequence[tuple[str, CaseFile]]) -> Iterator[str]:
    for name, about in cases:
        shows = ", ".join(about.shows) or "no card"
        yield f"| [{name}]({name}/request.json) | **{about.title}**<br>{about.intent} | {about.hook} | {shows} |"


def main(arguments: Sequence[str]) -> int:
    folder = Path(arguments[0])
    (folder / "README.md").write_text(index(folder), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
