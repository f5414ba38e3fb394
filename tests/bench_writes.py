"""Writes entries into the chain of a PostgreSQL as a busy worker does: ``bench_writes.py URL SECONDS``

Eight threads hand in one entry after the other, copies of the newest one there with ids of their own. Says "ready",
waits for a line, and says how many entries were kept and how many of them went to the spool instead.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import uuid4

import msgspec
from sqlalchemy import select

from cds_service.store.database import Database, parse_url
from cds_service.store.keys import Keys
from cds_service.store.spool import Spool
from cds_service.store.store import CardRow, Entry, Store
from cds_service.store.tables import AUDIT, CARD

THREADS = 8


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


def main(url: str, seconds: float, folder: Path) -> None:
    spool = folder / "spool"
    store = Store(Database(parse_url(url)), Spool(spool), Keys((bytes.fromhex("5a" * 32),)))
    pattern = newest(store.database)
    kept = [0] * THREADS

    def write(thread: int) -> None:
        while time.monotonic() < end:
            cards = [msgspec.structs.replace(card, uuid=str(uuid4())) for card in pattern.cards]
            store.write(msgspec.structs.replace(pattern, id=str(uuid4()), cards=cards))
            kept[thread] += 1

    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(kept), len(spool.read_bytes().splitlines()) if spool.exists() else 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(sys.argv[1], float(sys.argv[2]), Path(place))
