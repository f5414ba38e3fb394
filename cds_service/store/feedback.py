"""``jaki-cds feedback report``: which statement is shown how often, and what became of it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, exists, func, select

from cds_service.json_reader import read_json, write_json
from cds_service.store.cli import OK, UNUSABLE, UnusableInput, opened
from cds_service.store.tables import CARD, FEEDBACK

NO_REASON = "no reason"


@dataclass(slots=True)
class Told:
    """One statement at one client: on how many cards it stood, and what was reported of those cards."""

    statement: str
    client: str
    shown: int = 0
    accepted: int = 0
    overridden: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        return {
            "statement": self.statement,
            "client": self.client,
            "shown": self.shown,
            "accepted": self.accepted,
            "overridden": self.overridden,
            "reasons": dict(sorted(self.reasons.items())),
        }


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jaki-cds feedback", description="What became of the cards.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    reporting = commands.add_parser("report", help="shown, accepted and overridden, by statement")
    reporting.add_argument("--since", metavar="DATE", default="", help="only cards from this day on (UTC)")
    reporting.add_argument("--json", action="store_true", help="as JSON, for machines")
    options = parser.parse_args(args)
    try:
        with opened() as (store, _), store.database.reading() as connection:
            found, unknown = report(connection, options.since), unknown_reports(connection)
    except UnusableInput as fault:
        sys.stderr.write(f"jaki-cds feedback: {fault}\n")
        return UNUSABLE
    if options.json:
        sys.stdout.write(write_json([told.as_json() for told in found]).decode() + "\n")
    else:
        sys.stdout.write("\n".join(_as_text(found)) + "\n")
        if unknown:
            sys.stdout.write(
                f"{unknown} reports on cards that their sender was never sent are not counted.\n"
            )
    return OK


def report(connection: Connection, since: str = "") -> list[Told]:
    """Every statement that a card has carried, the most overridden first.

    Of a card that was reported on more than once the latest outcome counts, and only reports of the client that
    was sent the card.
    """
    latest: dict[tuple[str, str], Any] = {}
    for row in connection.execute(select(FEEDBACK).order_by(FEEDBACK.c.outcome_at, FEEDBACK.c.at)):
        latest[row.card, row.client] = row
    found: dict[tuple[str, str], Told] = {}
    for card in connection.execute(select(CARD).where(CARD.c.at >= since)):
        outcome = latest.get((card.uuid, card.client))
        findings = cast("list[list[str]]", read_json(card.findings.encode()))
        for statement in dict.fromkeys(finding[0] for finding in findings):
            told = found.setdefault((statement, card.client), Told(statement, card.client))
            told.shown += 1
            if outcome is None:
                continue
            if outcome.outcome == "accepted":
                told.accepted += 1
            else:
                told.overridden += 1
                told.reasons[outcome.reason or NO_REASON] += 1
    return sorted(found.values(), key=lambda t: (-t.overridden, -t.shown, t.statement, t.client))


def unknown_reports(connection: Connection) -> int:
    """How many reports name a card that is not known, or that another client was sent."""
    own = (CARD.c.uuid == FEEDBACK.c.card) & (CARD.c.client == FEEDBACK.c.client)
    return connection.execute(
        select(func.count()).select_from(FEEDBACK).where(~exists().where(own))
    ).scalar_one()


def _as_text(found: Iterable[Told]) -> Iterator[str]:
    yield f"{'statement':<16} {'shown':>6} {'accepted':>9} {'overridden':>11}  reasons"
    for told in found:
        reasons = ", ".join(f"{reason} {count}" for reason, count in told.reasons.most_common())
        client = f"  [{told.client}]" if told.client else ""
        line = f"{told.statement:<16} {told.shown:>6} {told.accepted:>9} {told.overridden:>11}  {reasons}{client}"
        yield line.rstrip()
