"""Where a value stands in a YAML or JSON file, so that a fault can name its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from guideline.yaml_text import line_of

TEXT = """\
policy:
  freshness:
    weight: 90
code_maps:
- first.json
- second.json
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["policy", "freshness", "weight"], ", line 3"),
        (["code_maps", 1], ", line 6"),
        (["code_maps", 7], ", line 4"),  # what should hold it
        (["policy", "growth"], ", line 1"),
        (["policy", "freshness", "weight", "unit"], ", line 3"),
        (["strange"], ""),
        ([], ""),
    ],
)
def test_the_line_of_a_value(keys: list[str | int], line: str, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(TEXT, "utf-8")
    assert line_of(path, keys) == line


@pytest.mark.parametrize("content", [b"a: [1, 2", b"\xff\xfe"])
def test_no_line_is_told_of_a_file_that_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    assert line_of(path, ["a"]) == ""
    assert line_of(tmp_path / "missing.yaml", ["a"]) == ""
