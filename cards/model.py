"""The parts of a CDS Hooks response (2.0, "HTTP Response"), as values that know how to become JSON.

Nothing is empty in an answer but ``cards``: members without content are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

JsonObject = dict[str, Any]


class Action(msgspec.Struct, frozen=True):
    """What a suggestion does when it is accepted (type ``create`` or ``update``, with the whole resource)."""

    type: str
    description: str
    resource: Mapping[str, Any]

    def as_json(self) -> JsonObject:
        return {"type": self.type, "description": self.description, "resource": dict(self.resource)}


class Suggestion(msgspec.Struct, frozen=True):
    label: str
    uuid: str
    recommended: bool
    actions: tuple[Action, ...]

    def as_json(self) -> JsonObject:
        found: JsonObject = {"label": self.label, "uuid": self.uuid}
        if self.recommended:
            found["isRecommended"] = True
        found["actions"] = [action.as_json() for action in self.actions]
        return found


class Card(msgspec.Struct, frozen=True):
    """One card. ``extension`` is its machine-readable part (contract section 4)."""

    uuid: str
    summary: str
    detail: str
    indicator: str
    source: JsonObject
    extension: JsonObject
    suggestions: tuple[Suggestion, ...] = ()
    override_reasons: tuple[JsonObject, ...] = ()

    def as_json(self) -> JsonObject:
        found: JsonObject = {
            "uuid": self.uuid,
            "summary": self.summary,
            "indicator": self.indicator,
            "detail": self.detail,
            "source": self.source,
        }
        if self.suggestions:
            found["suggestions"] = [suggestion.as_json() for suggestion in self.suggestions]
            found["selectionBehavior"] = "at-most-one"
        if self.override_reasons:
            found["overrideReasons"] = list(self.override_reasons)
        found["extension"] = self.extension
        return found
