"""What differs in the answer for clients that do not speak CDS Hooks 2.0 as it is written.

The cards are always made for 2.0; a profile changes their form afterwards and never what they say. Which
one holds is a setting (``JAKI_CDS_PROFILE``), or comes with the client that the call's token names.

| profile | for |
|---|---|
| ``2.0`` | everybody else (the default) |
| ``1.0`` | clients of CDS Hooks 1.0: no ``any``, no override reasons, a deletion names its resource in ``resource`` |
| ``epic`` | Epic: only ``any``, one action for each suggestion, topics of at most 100 letters and digits |
| ``sandbox`` | the public CDS Hooks sandbox: it takes what 2.0 says, so nothing differs |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cds_service.uuids import new_uuid as random_uuid

Json = dict[str, Any]

AT_MOST_ONE, ANY = "at-most-one", "any"
_LONGEST_EPIC_TOPIC = 100
_NOT_EPIC_TOPIC = re.compile(r"[^A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Profile:
    """How the cards for one kind of client are written.

    ``old_delete``: a deletion has ``Type/id`` as text in ``resource`` (1.0), not in ``resourceId`` (2.0).
    ``longest_topic``: letters and digits of ``source.topic.code``; ``None``: any code.
    """

    name: str
    selection: str = AT_MOST_ONE
    one_action: bool = False
    old_delete: bool = False
    longest_topic: int | None = None
    override_reasons: bool = True


DEFAULT = "default"
PROFILES = {
    profile.name: profile
    for profile in (
        Profile(DEFAULT),
        Profile("1.0", old_delete=True, override_reasons=False),
        Profile("epic", selection=ANY, one_action=True, longest_topic=_LONGEST_EPIC_TOPIC),
        Profile("sandbox"),
    )
}
_AS_WRITTEN = frozenset(name for name, profile in PROFILES.items() if profile == Profile(name))


def shaped(
    response: dict[str, object], name: str, new_uuid: Callable[[], str] = random_uuid
) -> dict[str, object]:
    """``response`` as clients of the profile ``name`` expect it; the given one is left alone.

    Raises:
        KeyError: no profile has this name.
    """
    profile, cards = PROFILES[name], response.get("cards")
    if name in _AS_WRITTEN or not isinstance(cards, list):
        return response
    return {**response, "cards": [_card(card, profile, new_uuid) for card in cards]}


def _card(card: Json, profile: Profile, new_uuid: Callable[[], str]) -> Json:
    found = dict(card)
    if not profile.override_reasons:
        found.pop("overrideReasons", None)
    topic = card["source"].get("topic")
    if profile.longest_topic is not None and topic is not None:
        code = _NOT_EPIC_TOPIC.sub("", topic["code"])[: profile.longest_topic]
        found["source"] = {**card["source"], "topic": {**topic, "code": code}}
    if "suggestions" in card:
        found["selectionBehavior"] = profile.selection
        found["suggestions"] = list(_suggestions(card["suggestions"], profile, new_uuid))
    return found


def _suggestions(suggestions: list[Json], profile: Profile, new_uuid: Callable[[], str]) -> Iterator[Json]:
    changed: set[str] = set()
    for suggestion in suggestions:
        actions = [_action(action, profile) for action in suggestion["actions"]]
        targets = {f"{a['resource']['resourceType']}/{a['resource']['id']}" for a in actions if _updates(a)}
        if profile.selection == ANY and targets & changed:
            continue  # two changes of one order are alternatives: never both
        changed |= targets
        if not profile.one_action or len(actions) == 1:
            yield {**suggestion, "actions": actions}
            continue
        for number, action in enumerate(actions):
            # The client shows the action's own description, so that becomes the label too.
            uuid = suggestion["uuid"] if number == 0 else new_uuid()
            yield {**suggestion, "label": action["description"], "uuid": uuid, "actions": [action]}


def _updates(action: Json) -> bool:
    return bool(action["type"] == "update")


def _action(action: Json, profile: Profile) -> Json:
    if action["type"] != "delete" or not profile.old_delete:
        return action
    return {name: value for name, value in action.items() if name != "resourceId"} | {
        "resource": action["resourceId"]
    }
