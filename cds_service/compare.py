"""Two answers of the service compared, told by finding: which came, which went, what changed.

Uuids are made anew for every answer, so they are replaced by fixed ones, by position, before anything is compared
or stored. Everything else counts, the wording of the cards included.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from cds_service.json_reader import write_json

EXTENSION = "org.jaki-cds"
AROUND = 6
"""Words that are shown before and behind those that changed."""
LONGEST_TEXT_DIFFERENCE = 12
"""Lines of changed card text that are shown; the rest is only counted."""

Json = dict[str, Any]


def with_placeholders(answer: Json) -> Json:
    """The answer with a fixed uuid, counted up, in place of that of each card and suggestion."""
    uuids = (f"00000000-0000-4000-8000-{number:012d}" for number in range(1, 10**6))
    return {**answer, "cards": [_with_placeholders(card, uuids) for card in answer["cards"]]}


def _with_placeholders(card: Json, uuids: Iterator[str]) -> Json:
    found = {**card, "uuid": next(uuids)}
    if "suggestions" in card:
        found["suggestions"] = [{**s, "uuid": next(uuids)} for s in card["suggestions"]]
    return found


def as_stored(answer: Json) -> bytes:
    """The answer as ``response.json`` holds it: indented, placeholders for uuids, a line end at the end."""
    return msgspec.json.format(write_json(with_placeholders(answer)), indent=2) + b"\n"


def findings_of(answer: Json, kinds: Collection[str] = ()) -> set[str]:
    """The statement ids that the cards of an answer hold; with ``kinds`` only those of them that apply."""
    return {
        finding["id"]
        for card in answer["cards"]
        for finding in _ours(card).get("findings", ())
        if not kinds or (finding.get("kind") in kinds and finding.get("outcome") == "hit")
    }


def conclusions(answer: Json) -> Iterator[str]:
    """What an answer concludes, a line a finding and a dose, without the dates, values and ids that led to it."""
    for card in answer["cards"]:
        for finding in _ours(card).get("findings", ()):
            lacks = ", ".join(f"{m.get('fact')} {m.get('reason')}" for m in finding.get("missing", ()))
            told = f"{finding.get('id')} ({finding.get('outcome')}, {finding.get('severity')})"
            yield f"{told}, missing {lacks}" if lacks else told
        if "dose" in _ours(card):
            dose = _ours(card)["dose"]
            verdict = dose.get("order", {}).get("verdict")
            yield f"dose {_dose_text(dose)}, provisional {dose.get('provisional', False)}, draft {verdict}"


def differences(stored: Json, answer: Json) -> list[str]:
    """What the answer says otherwise than the stored one, a line each; empty where they are the same."""
    before, after = with_placeholders(stored), with_placeholders(answer)
    if before == after:
        return []
    lines = [*_finding_differences(before, after), *_dose_differences(before, after)]
    lines += _card_differences(before, after)
    return lines or ["the answers differ outside their cards"]


def _ours(card: Json) -> Json:
    extension = card.get("extension")
    found = extension.get(EXTENSION) if isinstance(extension, dict) else None
    return found if isinstance(found, dict) else {}


# --- findings and doses ---------------------------------------------------------------------------


def _findings(answer: Json) -> dict[tuple[str, str], Json]:
    """By statement id and order."""
    return {
        (finding["id"], str(finding.get("order", ""))): finding
        for card in answer["cards"]
        for finding in _ours(card).get("findings", ())
    }


def _finding_differences(before: Json, after: Json) -> Iterator[str]:
    old, new = _findings(before), _findings(after)
    for key in sorted(old.keys() | new.keys()):
        name = " ".join(part for part in key if part)
        if key not in new:
            yield f"went:    {name} ({old[key].get('outcome')}, {old[key].get('severity')})"
        elif key not in old:
            yield f"came:    {name} ({new[key].get('outcome')}, {new[key].get('severity')})"
        else:
            yield from _changes(f"changed: {name}", old[key], new[key])


def _dose_differences(before: Json, after: Json) -> Iterator[str]:
    old, new = _doses(before), _doses(after)
    for order in sorted(old.keys() | new.keys()):
        if order not in new:
            yield f"dose went: {order} {_dose_text(old[order])}"
        elif order not in old:
            yield f"dose came: {order} {_dose_text(new[order])}"
        else:
            yield from _changes(f"dose changed: {order}", old[order], new[order])


def _doses(answer: Json) -> dict[str, Json]:
    found = {}
    for card in answer["cards"]:
        ours = _ours(card)
        if "dose" in ours:
            findings = ours.get("findings") or [{}]
            found[str(findings[0].get("order", ""))] = ours["dose"]
    return found


def _dose_text(dose: Json) -> str:
    return f"{dose.get('id')}, {_text(dose.get('mgPerDay'))} mg per day, {_text(dose.get('administrations'))}"


def _changes(what: str, old: Json, new: Json) -> Iterator[str]:
    for member in sorted(old.keys() | new.keys()):
        yield from _changed_values(f"{what}: {member}", old.get(member), new.get(member))


def _changed_values(where: str, old: object, new: object) -> Iterator[str]:
    """Every value that differs, with its place; of a list whose length changed, what came and what went."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _changed_values(f"{where}.{name}", old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changed_values(f"{where}[{number}]", before, after)
    elif isinstance(old, list) and isinstance(new, list):
        yield from (f"{where} went: {_text(item)}" for item in old if item not in new)
        yield from (f"{where} came: {_text(item)}" for item in new if item not in old)
    else:
        yield f"{where} {_text(old)} -> {_text(new)}"


def _text(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, str | int | Decimal):
        return str(value)
    return write_json(value).decode()


# --- the cards themselves -------------------------------------------------------------------------


def _card_differences(before: Json, after: Json) -> Iterator[str]:
    """Which cards came and went, and what else of a card changed (its findings are told above)."""
    old, new = _cards(before), _cards(after)
    for key in sorted(old.keys() | new.keys()):
        name = f"card {key[0]}" if key[1] == 0 else f"card {key[0]} ({key[1] + 1})"
        if key not in new:
            yield f"{name} went: {old[key].get('summary')}"
        elif key not in old:
            yield f"{name} came: {new[key].get('summary')}"
        else:
            yield from _card_changes(name, old[key], new[key])
    if list(old) != list(new) and old.keys() == new.keys():
        yield "the cards stand in another order"


def _cards(answer: Json) -> dict[tuple[str, int], Json]:
    """By topic, and by position among the cards of that topic."""
    found: dict[tuple[str, int], Json] = {}
    for card in answer["cards"]:
        source = card.get("source")
        topic = source.get("topic") if isinstance(source, dict) else None
        code = str(topic.get("code")) if isinstance(topic, dict) else "without a topic"
        number = sum(1 for name, _ in found if name == code)
        found[code, number] = card
    return found


def _card_changes(name: str, old: Json, new: Json) -> Iterator[str]:
    for member in sorted((old.keys() | new.keys()) - {"uuid", "detail", "extension"}):
        yield from _changed_values(
            f"{name}: {member}", _without_uuids(old.get(member)), _without_uuids(new.get(member))
        )
    if old.get("detail") != new.get("detail"):
        yield f"{name}: its text changed"
        lines = list(_text_changes(str(old.get("detail", "")), str(new.get("detail", ""))))
        yield from (f"    {line}" for line in lines[:LONGEST_TEXT_DIFFERENCE])
        if len(lines) > LONGEST_TEXT_DIFFERENCE:
            yield f"    ... and {len(lines) - LONGEST_TEXT_DIFFERENCE} lines more"
    ours, theirs = _ours(old), _ours(new)
    for member in sorted((ours.keys() | theirs.keys()) - {"findings", "dose"}):
        yield from _changed_values(f"{name}: {member}", ours.get(member), theirs.get(member))
    if _ids(ours) != _ids(theirs):
        yield f"{name}: holds {', '.join(_ids(theirs))} instead of {', '.join(_ids(ours))}"


def _text_changes(old: str, new: str) -> Iterator[str]:
    """The lines that went and came; of a line that changed the words that did, with a few around them."""
    before, after = old.splitlines(), new.splitlines()
    for what, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "replace" and i2 - i1 == j2 - j1:
            for was, now in zip(before[i1:i2], after[j1:j2], strict=True):
                yield from _word_changes(was.split(), now.split())
        elif what != "equal":
            yield from (f"-{line}" for line in before[i1:i2])
            yield from (f"+{line}" for line in after[j1:j2])


def _word_changes(before: list[str], after: list[str]) -> Iterator[str]:
    for what, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what != "equal":
            lead, trail = before[max(0, i1 - AROUND) : i1], before[i2 : i2 + AROUND]
            parts = [
                "..." if i1 > AROUND else "",
                *lead,
                f"[-{' '.join(before[i1:i2])}-]" if i1 < i2 else "",
                f"[+{' '.join(after[j1:j2])}+]" if j1 < j2 else "",
                *trail,
                "..." if i2 + AROUND < len(before) else "",
            ]
            yield "~" + " ".join(part for part in parts if part)


def _without_uuids(value: object) -> object:
    """Suggestions are numbered across the whole answer, so their places shift with any card before them."""
    if isinstance(value, list):
        return [_without_uuids(item) for item in value]
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if name != "uuid"}
    return value


def _ids(ours: Json) -> list[str]:
    return [str(finding["id"]) for finding in ours.get("findings", ())]
