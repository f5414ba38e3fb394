"""Reading our own YAML strictly: every scalar stays text, and a repeated key is a fault, not a choice."""

from __future__ import annotations

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
        if key in found:
            line = key_node.start_mark.line + 1
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
        raise YamlFault(f"{path.name}: not readable as YAML; {fault}") from None
