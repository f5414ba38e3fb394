"""The database behind the store: SQLite (WAL, synchronous FULL) or PostgreSQL, its migrations, its transactions.

One writer at a time, over all threads, processes and machines: SQLite by BEGIN IMMEDIATE, PostgreSQL by an
advisory lock. The chain needs that, since each entry names the one before it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Dialect, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

MIGRATIONS = Path(__file__).with_name("migrations")
NEWEST = "0002"
LOCK_MS = 500
"""How long a call waits for another writer before its entry goes to the spool instead."""
CONNECT_SECONDS = 2
_LOCK_NUMBER = 0x6A616B69  # of the advisory lock: "jaki"
_LOCK = f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})"
_WRITES = "jaki_writes"


class StoreFault(Exception):
    """A store that cannot be used as it is set; the text names fault and cure and never the password."""


def parse_url(text_: str) -> URL:
    """The database of setting JAKI_CDS_STORE. Raises ``StoreFault``."""
    try:
        url = make_url(text_)
    except ArgumentError:
        raise StoreFault("is no database URL; write sqlite:///path or postgresql://user@host/name.") from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreFault("names a database that is not supported; use sqlite:///path or postgresql://.")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreFault("names no file, so nothing would be kept; write sqlite:///path.")
    return url


@cache
def driver_sql(statement: Any, dialect: Dialect) -> str:
    """A statement as the driver takes it, with its values by name."""
    return str(statement.compile(dialect=dialect))


def faults_of(engine: Engine) -> tuple[type[Exception], ...]:
    """What a database that fails raises: SQLAlchemy's faults, its driver's own, and the system's."""
    driver = cast("type[Exception]", engine.dialect.loaded_dbapi.Error)
    return (SQLAlchemyError, driver, OSError)


class Database:
    """Connections and transactions. Safe in threads and across a fork: a child makes connections of its own."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.drivername == "sqlite"
        self._engine = self._make_engine()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._migrated = False

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            wait = f"-c lock_timeout={LOCK_MS} -c statement_timeout=5000"
            arguments = {"connect_timeout": CONNECT_SECONDS, "options": wait}
            return create_engine(
                self.url, pool_size=2, pool_pre_ping=True, connect_args=arguments, hide_parameters=True
            )
        engine = create_engine(
            self.url,
            pool_size=2,
            pool_use_lifo=True,  # SQLite reads pages anew that another connection has written
            connect_args={"timeout": LOCK_MS / 1000},
            hide_parameters=True,
            paramstyle="named",  # so that values go by name with both drivers
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @property
    def engine(self) -> Engine:
        if self._pid != os.getpid():
            # The parent's connections are the parent's: forgotten here, not closed.
            self._engine.dispose(close=False)
            self._lock = threading.Lock()
            self._pid = os.getpid()
        return self._engine

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """What this raises where the database fails."""
        return faults_of(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that nobody else writes beside; committed at its end."""
        engine = self.engine
        with self._lock:
            if not self._migrated:
                self._migrate(engine)
            with _write(engine) as connection:
                yield connection

    @contextmanager
    def writing_directly(self) -> Iterator[DBAPICursor]:
        """As ``writing``, with the driver's own cursor: for what every call does, SQLAlchemy's way costs too much."""
        engine = self.engine
        with self._lock:
            if not self._migrated:
                self._migrate(engine)
            connection = engine.raw_connection()
            try:
                cursor = connection.cursor()
                cursor.execute("BEGIN IMMEDIATE" if self.is_sqlite else _LOCK)
                yield cursor
                cursor.close()
                connection.commit()
            finally:
                connection.close()  # into the pool; what was not committed is rolled back

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One unchanging view of everything."""
        if not self._migrated:
            with self.writing():
                pass
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    def _migrate(self, engine: Engine) -> None:
        with _write(engine) as connection:
            if MigrationContext.configure(connection).get_current_revision() != NEWEST:
                upgrade(connection)
        self._migrated = True


@contextmanager
def _write(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text(_LOCK))
        yield connection


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def upgrade(connection: Connection, to: str = "head") -> None:
    """Brings the tables to a version, inside the connection's transaction."""
    command.upgrade(_config(connection), to)


def downgrade(connection: Connection, to: str = "base") -> None:
    command.downgrade(_config(connection), to)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
