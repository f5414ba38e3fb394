"""Reading our own YAML strictly: every scalar stays text, and a repeated key is a fault, not a choice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml


class YamlFault(ValueError):
    """A YAML file of ours that cannot be used; the text names file, line and cure."""


if TYPE_CHECKING:
    _Base = yaml.BaseLoader
else:  # libyaml's parser is some ten times as fast; a source build of PyYAML may lack it
    _Base = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_Base):
    """Scalars as written (so that 3.2 never becomes a float), repeated keys refused."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise YamlFault(f"line {line}: a name is a list or a group of names; write one word")
        if key in found:
            raise YamlFault(f'line {line}: "{key}" stands twice; keep one of them')
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """The content of one of our YAML files; raises ``YamlFault`` naming the file."""
    try:
        with path.open(encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)  # a safe loader of ours  # nosec B506
    except YamlFault as fault:
        raise YamlFault(f"{path.name}, {fault}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        mark = getattr(fault, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        why = getattr(fault, "problem", None) or "it is not text in UTF-8"
        raise YamlFault(f"{path.name}{line}: not readable as YAML ({why}); correct it there") from None


def line_of(path: Path, keys: Iterable[str | int]) -> str:
    """``", line 7"``: where the value under ``keys`` stands in a YAML or JSON file, for the text of a fault.

    A key that is not there gives the line of what should hold it. Empty where no line can be told.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            node = yaml.compose(stream, Loader=_Base)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return ""
    line: int | None = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(name, value) for name, value in node.value if name.value == key]
            if not found:
                break
            named, node = found[0]
            line = named.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line
        else:
            break
    return "" if line is None else f", line {line + 1}"
