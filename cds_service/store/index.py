"""The tables of cards and of feedback beside the chain: they must say what its entries say, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select

from cds_service.json_reader import UnreadableBody, read_json
from cds_service.store.chain import PRUNE, Link
from cds_service.store.store import FeedbackRow
from cds_service.store.tables import CARD, FEEDBACK

Json = dict[str, Any]
NOT_A_LIST = "cannot be read"


@dataclass(slots=True)
class _Reports:
    """The reports that the entries brought, by id: in which entry last, and the latest time told.

    ``perhaps_gone``: their rows may have been pruned, since they may have come before it for the first time.
    """

    entries: dict[str, int] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    perhaps_gone: set[str] = field(default_factory=set)
    untimed: set[str] = field(default_factory=set)

    def add(self, link: Link, report: Json) -> None:
        id = report["id"]
        self.entries[id] = link.seq
        if "at" in report:
            self.times[id] = max(self.times.get(id, ""), report["at"])
        else:  # an entry of before times were kept
            self.untimed.add(id)
        self.perhaps_gone.discard(id)

    def prune(self) -> None:
        self.perhaps_gone |= self.entries.keys()
        self.untimed |= self.entries.keys()

    def fit(self, row: Row[Any]) -> bool:
        told = FeedbackRow(
            row.client,
            row.service,
            row.card,
            row.outcome,
            row.outcome_at,
            row.reason,
            row.commented,
            _listed(row.suggestions),
        )
        timely = row.id in self.untimed or self.times.get(row.id) == row.outcome_at
        return told.id == row.id and row.id in self.entries and timely


def faults(entries: Iterable[Link], connection: Connection) -> Iterator[str]:
    """Cards and reports that are missing in their table, are changed there, or stand there without an entry."""
    reports, known = _Reports(), 0
    for link in entries:
        body = body_of(link)
        if link.kind == PRUNE:
            reports.prune()
        try:
            for report in body.get("feedback", ()):
                reports.add(link, report)
            for card in body.get("cards", ()):
                row = connection.execute(select(CARD).where(CARD.c.uuid == card["uuid"])).first()
                known += row is not None
                if row is None or not _fits(row, link, body, card):
                    yield f"The card index does not fit entry {link.seq}: one of its cards is missing or changed."
        except (KeyError, TypeError, AttributeError):
            yield f"Entry {link.seq} lacks what the card index and the feedback go by."
    strays = connection.execute(select(func.count()).select_from(CARD)).scalar_one() - known
    if strays:
        yield f"The card index has {strays} cards that are in no entry."
    for row in connection.execute(select(FEEDBACK)):
        if not reports.fit(row):
            yield f"The feedback on card {row.card} was changed, or is in no entry."
        reports.entries.pop(row.id, None)
    for id, seq in reports.entries.items():
        if id not in reports.perhaps_gone:
            yield f"Feedback of entry {seq} is missing."


def _fits(row: Row[Any], link: Link, body: Json, card: Json) -> bool:
    findings = [[f["id"], f["outcome"], f["severity"]] for f in card["findings"]]
    told = (link.seq, link.at, body["client"], body["service"], card["indicator"])
    lists = (findings, card["suggestions"])
    return (
        told == (row.seq, row.at, row.client, row.service, row.indicator)
        and lists == (_listed(row.findings), _listed(row.suggestions))
        and card.get("mark", row.mark or "") == (row.mark or "")
    )


def _listed(text: str) -> list[Any]:
    """A list as a row holds it. What is none (somebody changed it) is one that no entry has."""
    try:
        found = read_json(text.encode())
    except UnreadableBody:
        return [NOT_A_LIST]
    return found if isinstance(found, list) else [NOT_A_LIST]


def body_of(link: Link) -> Json:
    """What an entry says; nothing where it cannot be read (somebody changed it; its hash tells)."""
    try:
        body = read_json(link.body.encode())
    except UnreadableBody:
        return {}
    return body if isinstance(body, dict) else {}
