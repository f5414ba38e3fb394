"""``jaki-cds audit``: the record of what was said, checked, explained, exported and pruned."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, select

from cds_service.explain import as_text
from cds_service.json_reader import write_json
from cds_service.settings import Settings, SettingsError, read_settings
from cds_service.store import chain, index
from cds_service.store.again import differences, unaccounted
from cds_service.store.chain import Link
from cds_service.store.database import StoreFault
from cds_service.store.events import audit_event
from cds_service.store.index import body_of
from cds_service.store.keys import KeyFault
from cds_service.store.recording import VERSION, as_order, moment, written_out
from cds_service.store.store import Entry, Store, append, read_head
from cds_service.store.tables import AUDIT, CARD, FEEDBACK
from guideline.sources import the_source
from guideline.tables import load_tables

OK, FAULTY, UNUSABLE = 0, 1, 2
BATCH = 500
PRUNED_AT_ONCE, PRUNE_PAUSE_SECONDS = 2000, 0.2
"""Entries deleted in one transaction, a fifth of a second at most, and how long others then have their turn."""

Json = dict[str, Any]


class UnusableInput(Exception):
    """A command that cannot run; the text is the one line that the user reads."""


def main(args: list[str]) -> int:
    """Runs one command and returns its exit status: 1 for a chain that is not whole, 2 where it cannot run."""
    options = _parser().parse_args(args)
    try:
        with opened() as (store, settings):
            return int(options.run(store, settings, options))
    except UnusableInput as fault:
        print(f"jaki-cds audit: {fault}", file=sys.stderr)
        return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaki-cds audit", description="The record of what was said.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made

    command("verify", _verify, "checks that no entry was changed, removed or moved")
    explaining = command("explain", _explain, "tells from the record alone why a card was shown")
    explaining.add_argument("card", metavar="CARD-UUID", type=str.lower)
    explaining.add_argument("--json", action="store_true", help="the entry itself, as JSON")
    exporting = command("export", _export, "writes FHIR R4 AuditEvents, one a line")
    exporting.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    exporting.add_argument("--since", metavar="DATE", default="", help="only entries from this day on (UTC)")
    pruning = command("prune", _prune, "deletes entries and feedback older than the retention time")
    pruning.add_argument("--days", type=int, help="instead of JAKI_CDS_RETENTION_DAYS")
    return parser


@contextmanager
def opened() -> Iterator[tuple[Store, Settings]]:
    """The store of the environment's settings. Raises ``UnusableInput``, whatever is wrong with it."""
    try:
        settings = read_settings(os.environ)
        store = Store.open(settings)
    except (SettingsError, StoreFault, KeyFault) as fault:
        raise UnusableInput(str(fault)) from None
    except OSError as fault:
        raise UnusableInput(f"the store's folder cannot be used: {fault.strerror}.") from None
    if store is None:
        raise UnusableInput("JAKI_CDS_STORE is none, so nothing is recorded.")
    try:
        yield store, settings
    except store.database.faults as fault:
        raise UnusableInput(f"the database does not answer ({type(fault).__name__}).") from None
    finally:
        store.database.close()


def links(connection: Connection, since: str = "") -> Iterator[Link]:
    """The entries in the order of the chain, a batch at a time."""
    last = 0
    while True:
        wanted = (
            select(AUDIT).where(AUDIT.c.seq > last, AUDIT.c.at >= since).order_by(AUDIT.c.seq).limit(BATCH)
        )
        rows = connection.execute(wanted).all()
        if not rows:
            return
        yield from (Link(*row) for row in rows)
        last = rows[-1].seq


def _verify(store: Store, _settings: Settings, _options: argparse.Namespace) -> int:
    with store.database.reading() as connection:
        head = read_head(connection)
        found = list(chain.faults(links(connection), head, store.keys))
        found += list(index.faults(links(connection), connection))
        count = connection.execute(select(func.count()).select_from(AUDIT)).scalar_one()
    for fault in found:
        print(fault)
    if found:
        print(f"{len(found)} faults in {count} entries.")
        return FAULTY
    end = "nothing recorded yet" if head is None else f"the last is {head.seq}, {head.hash}"
    print(f"{count} entries, whole and in order; {end}.")
    if not store.spool.is_empty():
        print(f"Entries wait in the spool {store.spool.path}; they are not part of the chain yet.")
    return OK


def _explain(store: Store, _settings: Settings, options: argparse.Namespace) -> int:
    with store.database.reading() as connection:
        wanted = select(AUDIT).join(CARD, CARD.c.seq == AUDIT.c.seq).where(CARD.c.uuid == options.card)
        row = connection.execute(wanted).first()
        own = select(CARD.c.client).where(CARD.c.uuid == options.card).scalar_subquery()
        reported = select(FEEDBACK).where(FEEDBACK.c.card == options.card).order_by(FEEDBACK.c.outcome_at)
        feedback = connection.execute(reported.where(FEEDBACK.c.client == own)).all()
    if row is None:
        raise UnusableInput("no entry has this card; it was sent by another store, or pruned.")
    link = Link(*row)
    if chain.digest(link.previous, link.seq, link.id, link.at, link.kind, link.body) != link.hash:
        print(f"Entry {link.seq} was changed after it was written; run jaki-cds audit verify.")
        return FAULTY
    if options.json:
        print(link.body)
        return OK
    body = body_of(link)
    if body.get("v") != VERSION:
        raise UnusableInput(
            "the entry was written by another version of this program; --json shows it as it is."
        )
    print("\n".join(told(link, body, options.card)))
    for report in feedback:
        reason = f", {report.reason}" if report.reason else ""
        print(f"Feedback: {report.outcome}{reason} at {report.outcome_at}")
    return OK


def told(link: Link, body: Json, uuid: str) -> Iterator[str]:
    """The card's findings with their evidence first, then everything that led to them."""
    (card,) = (card for card in body["cards"] if card["uuid"] == uuid)
    evidence = body.get("evidence", ())
    yield f"Card {uuid} ({card['indicator']}), entry {link.seq} of {link.at}"
    yield f"{body['service']}, patient {body['patient']}, user {body['user']}, answered in {body['ms']} ms"
    yield f"Guideline {body['edition']}, knowledge {body['knowledgeVersion']}, evaluated as of {body['asOf']}"
    yield ""
    yield "What the card said"
    for finding in card["findings"]:
        yield f"  {finding['id']}: {finding['outcome']}, {finding['severity']}"
        for e in written_out(finding["evidence"], evidence):
            value = " ".join(str(e[part]) for part in ("value", "unit", "date", "source") if part in e)
            yield f"    {e['fact']} {value}"
        for cause in finding["missing"]:
            yield f"    {cause['fact']}: {cause['reason']}"
    for kept_back in body.get("withheld", ()):
        how = f"{kept_back['reason']} at {kept_back['overridden']}"
        yield f"  Not repeated: {', '.join(kept_back['findings'])}, overridden on card {kept_back['card']} ({how})"
    yield ""
    yield "What was read (and the hash of what decided)"
    for key in body["read"]:
        gap = f" ({key['gap']})" if "gap" in key else ""
        names = [f"{kind}/{id}" for kind, ids in key.get("resources", {}).items() for id in ids.split()]
        marked = (f"{name} {body['used'][name][:8]}" if name in body["used"] else name for name in names)
        yield f"  {key['key']}{gap}: {', '.join(marked) or 'nothing'}"
    yield ""
    orders = {finding.get("order") for finding in card["findings"]}
    mine = [order for order in body["orders"] if order["order"] in orders] or body["orders"]
    if body["knowledgeVersion"] != the_source().knowledge_version:
        yield from as_text({**body, "orders": [as_order(order, evidence, {}) for order in mine]})
        yield ""
        yield f"These tables are {the_source().knowledge_version}: the rows' sentences are not known here."
        return
    tables = load_tables()
    rules = {row.id: row.rule for table in tables.all for row in table.rows}
    found = [as_order(order, evidence, rules) for order in mine]
    yield from as_text({**body, "orders": found})
    yield ""
    odd = [line for order in found for line in differences(order, tables)]
    count = sum(len(order["rows"]) for order in found)
    yield f"Tried again on these facts: {count - len(odd)} of {count} rows come out as recorded."
    yield from (f"  {line}" for line in odd)
    unlike = list(unaccounted(body, tables))
    yield (
        "The findings and doses of this answer's cards follow from them."
        if not unlike
        else "Of the answer's cards:"
    )
    yield from (f"  {line}" for line in unlike)


def _export(store: Store, _settings: Settings, options: argparse.Namespace) -> int:
    try:
        file = sys.stdout.buffer if options.output is None else options.output.open("wb")
    except OSError as fault:
        raise UnusableInput(f"{options.output}: cannot be written ({fault.strerror}).") from None
    with store.database.reading() as connection:
        for link in links(connection, options.since):
            file.write(write_json(audit_event(link, body_of(link))) + b"\n")
    file.flush()
    if options.output is not None:
        file.close()
    return OK


def _prune(store: Store, settings: Settings, options: argparse.Namespace) -> int:
    days = settings.retention_days if options.days is None else options.days
    if days < 1:
        raise UnusableInput("nothing is to be deleted: set JAKI_CDS_RETENTION_DAYS, or give --days.")
    print(f"{prune(store, datetime.now(UTC), days)} entries deleted.")
    return OK


def prune(store: Store, now: datetime, days: int) -> int:
    """Deletes what is older and writes an entry that says so; returns how many entries went.

    A part at a time, each with its entry and a pause behind it: calls want to be recorded meanwhile.
    """
    before = moment(now - timedelta(days=days))
    count = 0
    while part := _prune_part(store, now, before):
        count += part
        if part < PRUNED_AT_ONCE:
            break
        time.sleep(PRUNE_PAUSE_SECONDS)
    return count


def _prune_part(store: Store, now: datetime, before: str) -> int:
    with store.database.writing() as connection:
        first = connection.execute(select(func.min(AUDIT.c.seq))).scalar()
        if first is None:
            return 0
        kept = connection.execute(select(func.min(AUDIT.c.seq)).where(AUDIT.c.at >= before)).scalar()
        end = first + PRUNED_AT_ONCE if kept is None else min(kept, first + PRUNED_AT_ONCE)
        wanted = select(AUDIT).where(AUDIT.c.seq < end).order_by(AUDIT.c.seq.desc()).limit(1)
        last = connection.execute(wanted).first()
        if last is None:
            return 0
        count = connection.execute(delete(AUDIT).where(AUDIT.c.seq <= last.seq)).rowcount
        connection.execute(delete(CARD).where(CARD.c.seq <= last.seq))
        connection.execute(delete(FEEDBACK).where(FEEDBACK.c.at < before))
        told = {"v": 1, "before": before, "deleted": count, "upTo": last.seq, "hash": last.hash}
        entry = Entry(str(uuid4()), moment(now), chain.PRUNE, write_json(told).decode())
        append(connection, [entry], store.keys)
    return count
