"""Writing entries: into the chain, or into the spool while the database fails, so that the clinician is answered."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from cds_service.json_reader import write_json
from cds_service.settings import Settings
from cds_service.store.chain import GENESIS, Head, digest
from cds_service.store.database import Database, parse_url
from cds_service.store.keys import OWNER_ONLY, Keys, read_keys
from cds_service.store.spool import Spool
from cds_service.store.tables import AUDIT, CARD, FEEDBACK, HEAD

NO_STORE = "none"
KEY_FILE, SPOOL_FILE = "jaki-cds.key", "jaki-cds-spool.ndjson"
STATE = Path("var")
PAUSE_SECONDS = 2.0
"""After a failure the database is left alone for so long: a call must not wait for what has just failed."""

_log = logging.getLogger("jaki_cds")


class NotRecorded(Exception):
    """Neither the database nor the spool took an entry."""


class CardRow(msgspec.Struct, frozen=True):
    """A card that was sent: a row of the table ``card``."""

    uuid: str
    client: str
    service: str
    indicator: str
    findings: list[list[str]]
    suggestions: list[str]


class FeedbackRow(msgspec.Struct, frozen=True):
    """A report on a card: a row of the table ``feedback``. The clinician's comment itself is not kept."""

    client: str
    service: str
    card: str
    outcome: str
    outcome_at: str
    reason: str
    commented: bool
    suggestions: list[str]

    @property
    def id(self) -> str:
        """The same for every repetition of a report."""
        told = [self.client, self.card, self.outcome, self.reason, sorted(self.suggestions)]
        return hashlib.sha256(write_json(told)).hexdigest()


class Entry(msgspec.Struct, frozen=True):
    """One entry before it gets its place in the chain. ``body`` is JSON."""

    id: str
    at: str
    kind: str
    body: str
    cards: list[CardRow] = []
    feedback: list[FeedbackRow] = []


@dataclass(slots=True)
class Store:
    """The database, the spool and the keys of one service."""

    database: Database
    spool: Spool
    keys: Keys
    must_record: bool = True
    """Whether a call that cannot be recorded at all is refused: everywhere but in demo mode."""
    _not_before: float = 0.0

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """The store of the settings, or ``None`` where it is switched off. Nothing is connected yet.

        Raises:
            StoreFault, KeyFault: a URL or key file that cannot be used.
            OSError: the database file or the key file cannot be opened or made.
        """
        if settings.store == NO_STORE:
            return None
        database = Database(parse_url(settings.store))
        folder = STATE
        if database.is_sqlite:
            folder = Path(str(database.url.database)).parent
            folder.mkdir(parents=True, exist_ok=True)
            # Made here, so that it is nobody else's to read; SQLite's files beside it take over its mode.
            os.close(os.open(str(database.url.database), os.O_RDWR | os.O_CREAT, OWNER_ONLY))
        keys = read_keys(settings.store_key or folder / KEY_FILE, create=settings.store_key is None)
        return cls(database, Spool(folder / SPOOL_FILE), keys, must_record=not settings.demo)

    def write(self, entry: Entry) -> None:
        """Returns when ``entry`` is safe, in the database or in the spool. Raises ``NotRecorded``."""
        if time.monotonic() >= self._not_before:
            try:
                with self.database.writing() as connection:
                    append(connection, [entry], self.keys)
                self._drain_beside()
                return
            except (SQLAlchemyError, OSError) as fault:
                self._not_before = time.monotonic() + PAUSE_SECONDS
                # The fault's text would hold the entry.
                _log.error("store failed", extra={"fields": {"fault": type(fault).__name__}})
        try:
            self.spool.append(msgspec.json.encode(entry))
        except OSError as fault:
            _log.error("spool failed", extra={"fields": {"fault": type(fault).__name__}})
            raise NotRecorded from None

    def is_ready(self) -> bool:
        """The database takes entries, and none waits in the spool (those that wait are taken over here)."""
        try:
            with self.database.writing() as connection:
                read_head(connection)
            self._drain()
        except (SQLAlchemyError, OSError):
            return False
        self._not_before = 0.0
        return self.spool.is_empty()

    def _drain_beside(self) -> None:
        """Entries that wait go into the chain in a thread of their own: no call waits for them."""
        if not self.spool.is_empty():
            threading.Thread(target=self._drain_quietly, daemon=True).start()

    def _drain_quietly(self) -> None:
        try:
            self._drain()
        except (SQLAlchemyError, OSError) as fault:
            _log.error("spool not taken over", extra={"fields": {"fault": type(fault).__name__}})

    def _drain(self) -> None:
        if not self.spool.is_empty():
            self.spool.drain(self._take)

    def _take(self, lines: list[bytes]) -> None:
        """The spool's entries into the chain, but those that a killed predecessor had already taken."""
        entries = []
        for line in lines:
            try:
                entries.append(msgspec.json.decode(line, type=Entry))
            except msgspec.DecodeError:  # cut off by a kill, so never acknowledged
                _log.warning("spool line unreadable")
        with self.database.writing() as connection:
            named = select(AUDIT.c.id).where(AUDIT.c.id.in_([entry.id for entry in entries]))
            known = {row.id for row in connection.execute(named)}
            append(connection, [entry for entry in entries if entry.id not in known], self.keys)


# Made once: SQLAlchemy then finds their compiled form at once.
_ADD_ENTRY, _ADD_CARD, _ADD_HEAD, _MOVE_HEAD = insert(AUDIT), insert(CARD), insert(HEAD), update(HEAD)
_READ_HEAD = select(HEAD.c.seq, HEAD.c.hash, HEAD.c.key_id, HEAD.c.seal)


def append(connection: Connection, entries: Sequence[Entry], keys: Keys) -> None:
    """Chains ``entries`` on, inside a transaction that alone writes."""
    if not entries:
        return
    head = read_head(connection)
    seq, last = (0, GENESIS) if head is None else (head.seq, head.hash)
    for entry in entries:
        seq, before = seq + 1, last
        last = digest(before, seq, entry.id, entry.at, entry.kind, entry.body)
        row = {"id": entry.id, "at": entry.at, "kind": entry.kind, "body": entry.body}
        connection.execute(_ADD_ENTRY, {"seq": seq, **row, "previous": before, "hash": last})
        _index(connection, entry, seq)
    sealed = {"seq": seq, "hash": last, "key_id": keys.current, "seal": keys.seal(seq, last)}
    if head is None:
        connection.execute(_ADD_HEAD, {"id": 1, **sealed})
    else:
        connection.execute(_MOVE_HEAD, sealed)


def read_head(connection: Connection) -> Head | None:
    row = connection.execute(_READ_HEAD).first()
    return None if row is None else Head(*row)


def _index(connection: Connection, entry: Entry, seq: int) -> None:
    if entry.cards:
        connection.execute(
            _ADD_CARD,
            [
                {
                    "uuid": card.uuid,
                    "seq": seq,
                    "at": entry.at,
                    "client": card.client,
                    "service": card.service,
                    "indicator": card.indicator,
                    "findings": write_json(card.findings).decode(),
                    "suggestions": write_json(card.suggestions).decode(),
                }
                for card in entry.cards
            ],
        )
    for report in entry.feedback:
        _keep_feedback(connection, report, entry.at)


def _keep_feedback(connection: Connection, report: FeedbackRow, at: str) -> None:
    """One row however often a report comes; a later repetition moves its time on."""
    row = connection.execute(select(FEEDBACK.c.outcome_at).where(FEEDBACK.c.id == report.id)).first()
    if row is None:
        values = msgspec.structs.asdict(report)
        values["suggestions"] = write_json(report.suggestions).decode()
        connection.execute(insert(FEEDBACK), {"id": report.id, "at": at, **values})
    elif row.outcome_at < report.outcome_at:
        changed = update(FEEDBACK).where(FEEDBACK.c.id == report.id).values(outcome_at=report.outcome_at)
        connection.execute(changed)
