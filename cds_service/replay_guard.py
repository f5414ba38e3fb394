"""Every token counts once (``jti``): a table that all threads, workers and machines share.

One row is inserted for each accepted token, and the database's uniqueness decides who was first. Only a
hash of issuer and ``jti`` is stored, until the token has expired for good.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Executable,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    create_engine,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from cds_service.store.database import driver_sql, faults_of
from cds_service.store.keys import OWNER_ONLY

BUSY_SECONDS: Final = 3
SECONDS_BETWEEN_SWEEPS: Final = 60.0

_metadata = MetaData()
_seen = Table(
    "token_seen",
    _metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("expires", BigInteger, nullable=False, index=True),
)


_ASKED = select(_seen.c.expires).where(_seen.c.digest == bindparam("wanted"))
_OLD = _seen.delete().where(_seen.c.expires < bindparam("now"))


class GuardUnavailable(Exception):
    """The store cannot be asked, so nobody knows whether a token was used before."""


class ReplayGuard:
    """Remembers tokens in the database at ``url`` (SQLAlchemy; SQLite or PostgreSQL).

    The connection is made at the first use in each process, since connections do not survive a fork.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._owner = 0
        self._swept_at = 0.0

    def first_use(self, issuer: str, jti: str, expires: float) -> bool:
        """Whether this token was never seen; from now on it was. ``expires``: seconds since 1970.

        Raises:
            GuardUnavailable: the store does not answer. The call must then be refused, not let in.
        """
        digest = _digest(issuer, jti)
        try:
            engine = self._connected()
        except (SQLAlchemyError, OSError) as fault:
            raise GuardUnavailable(type(fault).__name__) from None
        try:
            first = _take(engine, digest, int(expires) + 1)
        except faults_of(engine) as fault:
            raise GuardUnavailable(type(fault).__name__) from None
        self._sweep_now_and_then()
        return first

    def _sweep_now_and_then(self) -> None:
        """Expired tokens go in a thread of their own: no call waits for that."""
        now = self._clock()
        with self._lock:
            if now - self._swept_at < SECONDS_BETWEEN_SWEEPS:
                return
            self._swept_at = now
        threading.Thread(target=self._sweep, args=(int(now),), daemon=True).start()

    def _sweep(self, now: int) -> None:
        # What cannot be deleted now is deleted a minute later; who asks for a token meanwhile learns of the fault.
        with suppress(SQLAlchemyError, OSError), self._connected().connect() as connection:
            connection.execute(_OLD, {"now": now})

    def seen(self, issuer: str, jti: str) -> bool:
        """Whether the token was used; nothing is changed. Raises ``GuardUnavailable`` likewise."""
        try:
            with self._connected().connect() as connection:
                return connection.execute(_ASKED, {"wanted": _digest(issuer, jti)}).first() is not None
        except (SQLAlchemyError, OSError) as fault:
            raise GuardUnavailable(type(fault).__name__) from None

    def check(self) -> None:
        """Raises ``GuardUnavailable`` where the store cannot be reached; makes the table if need be."""
        self.seen("", "")

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def _connected(self) -> Engine:
        with self._lock:
            if self._engine is None or self._owner != os.getpid():
                self._engine, self._owner = _open(self._url), os.getpid()
            return self._engine


@cache
def _add(dialect: str) -> Executable:
    """Adds a row and gives it back; of those who add the same one, one gets it and all others nothing."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(_seen).on_conflict_do_nothing().returning(_seen.c.expires)


def _take(engine: Engine, digest: bytes, expires: int) -> bool:
    """Whether the row was not there; with the driver's own cursor, since every call does this."""
    dialect = engine.dialect
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        # SQLite has one writer: a flood of one token, only looked up here, must not hold up the others.
        # PostgreSQL writes nothing for a row that is there.
        if dialect.name == "sqlite":
            cursor.execute(driver_sql(_ASKED, dialect), {"wanted": digest})
            if cursor.fetchone() is not None:
                return False
        cursor.execute(driver_sql(_add(dialect.name), dialect), {"digest": digest, "expires": expires})
        return cursor.fetchone() is not None
    finally:
        connection.close()


def _digest(issuer: str, jti: str) -> bytes:
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    text = f"{len(issuer)}:{issuer}{jti}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _open(url: str) -> Engine:
    where = make_url(url)
    embedded = where.get_backend_name() == "sqlite"
    if embedded and where.database and where.database != ":memory:":
        path = Path(where.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(OWNER_ONLY)
    # A power cut may lose the last instants, with either database; the tokens of then are stale in minutes. Waiting
    # for the disk would cost each call more than everything else that is done for it.
    wait = f"-c synchronous_commit=off -c lock_timeout={BUSY_SECONDS}s -c statement_timeout={BUSY_SECONDS}s"
    engine = create_engine(
        where,
        connect_args={"timeout": BUSY_SECONDS}
        if embedded
        else {"connect_timeout": BUSY_SECONDS, "options": wait},
        # Each statement stands alone: the insert is the whole decision.
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_timeout=BUSY_SECONDS,
        pool_pre_ping=not embedded,
        pool_use_lifo=True,  # SQLite reads pages anew that another connection has written
        **({"paramstyle": "named"} if embedded else {}),
    )
    if embedded:
        event.listen(engine, "connect", _use_wal)
    with suppress(SQLAlchemyError):
        # Two processes that start together may both try to make the table: the later one finds it.
        _metadata.create_all(engine)
    _metadata.create_all(engine)
    return engine


def _use_wal(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
