"""Writes entries into the chain of a PostgreSQL as fast as it takes them: ``bench_writes.py URL SECONDS``

The entry is a copy of the newest one there, with an id of its own. Says "ready", waits for a line, and says how many
were written and how often another writer was waited for in vain.
"""

from __future__ import annotations

import sys
import time
from uuid import uuid4

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cds_service.store.database import Database, parse_url
from cds_service.store.keys import Keys
from cds_service.store.store import CardRow, Entry, append
from cds_service.store.tables import AUDIT, CARD


def newest(database: Database) -> Entry:
    with database.reading() as connection:
        row = connection.execute(select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(1)).one()
        cards = connection.execute(select(CARD).where(CARD.c.seq == row.seq)).all()
    rows = [
        CardRow(
            card.uuid,
            card.client,
            card.service,
            card.indicator,
            msgspec.json.decode(card.findings),
            msgspec.json.decode(card.suggestions),
        )
        for card in cards
    ]
    return Entry(row.id, row.at, row.kind, row.body, rows)


def main(url: str, seconds: float) -> None:
    database = Database(parse_url(url))
    keys = Keys((bytes.fromhex("5a" * 32),))
    pattern = newest(database)
    print("ready", flush=True)
    sys.stdin.readline()
    written = waited = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cards = [msgspec.structs.replace(card, uuid=str(uuid4())) for card in pattern.cards]
        entry = msgspec.structs.replace(pattern, id=str(uuid4()), cards=cards)
        try:
            with database.writing() as connection:
                append(connection, [entry], keys)
            written += 1
        except SQLAlchemyError:
            waited += 1
    print(written, waited)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
