"""Writing entries: into the chain, or into the spool while the database fails, so that the clinician is answered."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import Any, Self

import msgspec
from sqlalchemy import Connection, Dialect, bindparam, insert, select, update
from sqlalchemy.engine.interfaces import DBAPICursor

from cds_service.json_reader import write_json
from cds_service.settings import Settings
from cds_service.store.chain import GENESIS, Head, digest
from cds_service.store.database import Database, driver_sql, parse_url
from cds_service.store.keys import OWNER_ONLY, Keys, read_keys
from cds_service.store.spool import Spool
from cds_service.store.tables import AUDIT, CARD, FEEDBACK, HEAD

NO_STORE = "none"
KEY_FILE, SPOOL_FILE = "jaki-cds.key", "jaki-cds-spool.ndjson"
STATE = Path("var")
OVERRIDDEN = "overridden"
PAUSE_SECONDS = 2.0
"""After a failure the database is left alone for so long: a call must not wait for what has just failed."""

LOOK_SECONDS = 1.0
"""Between looks at the spool, which other processes may have used, and between trials of a write."""

LEAST_ROOM = 1024 * 1024
"""Bytes on the disk of an embedded database below which it is not ready: some thirty entries."""

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
    mark: str | None = None


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


@dataclass(frozen=True, slots=True)
class Override:
    """That a card was overridden: its uuid, the code of the reason, and when (as the client says)."""

    card: str
    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a client reported of a card: the statements on it, ``None`` where it is none that this client was sent."""

    client: str
    statements: tuple[str, ...] | None
    outcome: str
    reason: str


class Entry(msgspec.Struct, frozen=True):
    """One entry before it gets its place in the chain. ``body`` is JSON."""

    id: str
    at: str
    kind: str
    body: str
    cards: list[CardRow] = []
    feedback: list[FeedbackRow] = []


@dataclass(slots=True, eq=False)
class _Waiting:
    """An entry that a thread has handed in: whether another thread took it along, and whether it is safe."""

    entry: Entry
    taken: bool = False
    kept: bool = False


@dataclass(slots=True)
class Store:
    """The database, the spool and the keys of one service."""

    database: Database
    spool: Spool
    keys: Keys
    must_record: bool = True
    """Whether a call that cannot be recorded at all is refused: everywhere but in demo mode."""
    on_report: Callable[[Report], None] = lambda report: None
    """Takes note of a report on a card when it is in the database, once however often it was sent."""
    _not_before: float = 0.0
    _look_again: float = 0.0
    _write_again: float = 0.0
    _waiting: list[_Waiting] = field(default_factory=list, init=False)
    _gathering: threading.Lock = field(default_factory=threading.Lock, init=False)
    _writing: threading.Lock = field(default_factory=threading.Lock, init=False)

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
        """Returns when ``entry`` is safe, in the database or in the spool. Raises ``NotRecorded``.

        While one thread waits for the disk, the entries of others gather; the next writes them all in one transaction.
        """
        mine = _Waiting(entry)
        with self._gathering:
            self._waiting.append(mine)
        with self._writing:
            if not mine.taken:
                with self._gathering:
                    batch, self._waiting = self._waiting, []
                for each in batch:
                    each.taken = True
                self._keep(batch)
        if not mine.kept:
            raise NotRecorded

    def _keep(self, batch: list[_Waiting]) -> None:
        """Writes what has gathered, into the database or else into the spool."""
        entries = [each.entry for each in batch]
        if not (self._into_database(entries) or self._into_spool(entries)):
            return
        for each in batch:
            each.kept = True

    def _into_database(self, entries: list[Entry]) -> bool:
        if time.monotonic() < self._not_before:
            return False
        try:
            if any(entry.feedback for entry in entries):
                with self.database.writing() as connection:
                    reports = append(connection, entries, self.keys)
                self._note(reports)
            else:
                with self.database.writing_directly() as cursor:
                    chain_on(cursor, self.database.engine.dialect, entries, self.keys)
            self._drain_beside()
        except Exception as fault:  # whatever it is, others may have their entries in the same batch
            self._not_before = time.monotonic() + PAUSE_SECONDS
            # The fault's text would hold the entry.
            _log.error("store failed", extra={"fields": {"fault": type(fault).__name__}})
            return False
        return True

    def _note(self, reports: Iterable[Report]) -> None:
        for report in reports:
            self.on_report(report)

    def _into_spool(self, entries: list[Entry]) -> bool:
        try:
            self.spool.append(b"\n".join(map(msgspec.json.encode, entries)))
        except OSError as fault:
            _log.error("spool failed", extra={"fields": {"fault": type(fault).__name__}})
            return False
        return True

    def overridden(self, client: str, marks: Iterable[str], since: str) -> dict[str, Override]:
        """Of the cards with these marks that this client was sent: the last word on each, where it was an override.

        With a reason, and given and received after ``since``. Where the database does not answer: none, so that
        everything is shown.
        """
        if time.monotonic() < self._not_before:
            return {}
        wanted = _LAST_WORDS.where(CARD.c.client == client, CARD.c.mark.in_(marks))
        try:
            with self.database.reading() as connection:
                rows = connection.execute(wanted).all()
        except self.database.faults as fault:
            self._not_before = time.monotonic() + PAUSE_SECONDS
            _log.error("store failed", extra={"fields": {"fault": type(fault).__name__}})
            return {}
        last = {row.mark: row for row in rows}  # the latest of each mark comes last
        return {
            mark: Override(row.uuid, row.reason, row.outcome_at)
            for mark, row in last.items()
            if row.outcome == OVERRIDDEN and row.reason and min(row.outcome_at, row.at) >= since
        }

    def is_ready(self) -> bool:
        """The database takes entries, and none waits in the spool (those that wait are taken over here)."""
        try:
            with self.database.writing() as connection:
                self._rewrite_head(connection)
            self._drain()
            room = not self.database.is_sqlite or disk_usage(self.spool.path.parent).free >= LEAST_ROOM
        except self.database.faults:
            return False
        self._not_before = 0.0
        return room and self.spool.is_empty()

    def _rewrite_head(self, connection: Connection) -> None:
        """The head as it was: only a write shows whether the disk takes one. Once a second, whoever asks how often."""
        now = time.monotonic()
        if now >= self._write_again:
            connection.execute(update(HEAD).values(seq=HEAD.c.seq))
            self._write_again = now + LOOK_SECONDS

    def _drain_beside(self) -> None:
        """Entries that wait go into the chain in a thread of their own: no call waits for them."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_SECONDS
        if not self.spool.is_empty():
            threading.Thread(target=self._drain_quietly, daemon=True).start()

    def _drain_quietly(self) -> None:
        try:
            self._drain()
        except self.database.faults as fault:
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
            reports = append(connection, [entry for entry in entries if entry.id not in known], self.keys)
        self._note(reports)


_ADD_ENTRY, _ADD_CARD, _ADD_HEAD = insert(AUDIT), insert(CARD), insert(HEAD)
_MOVE_HEAD = update(HEAD).values({name: bindparam(name) for name in ("seq", "hash", "key_id", "seal")})
_LAST_WORDS = (
    select(
        CARD.c.mark, CARD.c.uuid, FEEDBACK.c.outcome, FEEDBACK.c.outcome_at, FEEDBACK.c.at, FEEDBACK.c.reason
    )
    .join(FEEDBACK, (FEEDBACK.c.card == CARD.c.uuid) & (FEEDBACK.c.client == CARD.c.client))
    .order_by(FEEDBACK.c.outcome_at, FEEDBACK.c.at)
)
_READ_HEAD = select(HEAD.c.seq, HEAD.c.hash, HEAD.c.key_id, HEAD.c.seal)


def append(connection: Connection, entries: Sequence[Entry], keys: Keys) -> list[Report]:
    """Chains ``entries`` on, inside a transaction that alone writes; gives the reports on cards that are new.

    Raises ``Database.faults``.
    """
    if not entries:
        return []
    cursor = connection.connection.cursor()
    chain_on(cursor, connection.dialect, entries, keys)
    cursor.close()
    reports = [_keep_feedback(connection, report, entry.at) for entry in entries for report in entry.feedback]
    return [report for report in reports if report is not None]


def chain_on(cursor: DBAPICursor, dialect: Dialect, entries: Sequence[Entry], keys: Keys) -> None:
    """Entries and their cards, without the feedback that they bring."""
    cursor.execute(driver_sql(_READ_HEAD, dialect))
    found = cursor.fetchone()
    head = None if found is None else Head(*found)
    seq, last = (0, GENESIS) if head is None else (head.seq, head.hash)
    for entry in entries:
        seq, before = seq + 1, last
        last = digest(before, seq, entry.id, entry.at, entry.kind, entry.body)
        row = {"id": entry.id, "at": entry.at, "kind": entry.kind, "body": entry.body}
        cursor.execute(driver_sql(_ADD_ENTRY, dialect), {"seq": seq, **row, "previous": before, "hash": last})
        if entry.cards:
            rows = [_card_row(card, entry.at, seq) for card in entry.cards]
            cursor.executemany(driver_sql(_ADD_CARD, dialect), rows)
    sealed = {"seq": seq, "hash": last, "key_id": keys.current, "seal": keys.seal(seq, last)}
    if head is None:
        cursor.execute(driver_sql(_ADD_HEAD, dialect), {"id": 1, **sealed})
    else:
        cursor.execute(driver_sql(_MOVE_HEAD, dialect), sealed)


def read_head(connection: Connection) -> Head | None:
    row = connection.execute(_READ_HEAD).first()
    return None if row is None else Head(*row)


def _card_row(card: CardRow, at: str, seq: int) -> dict[str, Any]:
    return {
        "uuid": card.uuid,
        "seq": seq,
        "at": at,
        "client": card.client,
        "service": card.service,
        "indicator": card.indicator,
        "findings": write_json(card.findings).decode(),
        "suggestions": write_json(card.suggestions).decode(),
        "mark": card.mark,
    }


def _keep_feedback(connection: Connection, row: FeedbackRow, at: str) -> Report | None:
    """One row however often a report comes; a later repetition moves its time on, and is nothing new."""
    known = connection.execute(select(FEEDBACK.c.outcome_at).where(FEEDBACK.c.id == row.id)).first()
    if known is not None:
        if known.outcome_at < row.outcome_at:
            later = update(FEEDBACK).where(FEEDBACK.c.id == row.id).values(outcome_at=row.outcome_at)
            connection.execute(later)
        return None
    values = msgspec.structs.asdict(row)
    values["suggestions"] = write_json(row.suggestions).decode()
    connection.execute(insert(FEEDBACK), {"id": row.id, "at": at, **values})
    own = select(CARD.c.findings).where(CARD.c.uuid == row.card, CARD.c.client == row.client)
    card = connection.execute(own).first()
    statements = None if card is None else tuple(id for id, *_ in msgspec.json.decode(card.findings))
    return Report(row.client, statements, row.outcome, row.reason)
