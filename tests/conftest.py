"""What tests share: a store on SQLite and on a real PostgreSQL, made anew for each test; the number of examples.

Few examples in the quick run, many where time is given. The quick run draws the same ones each time, so that what
fails was broken by the change at hand; the thorough one draws new ones.

`pytest --hypothesis-profile=thorough` (a step of `make exhaustive`) takes the second profile. Properties that
cost more or less than most ask for a share of `settings.default.max_examples`, so that both profiles reach them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import postgres
import pytest
from canaries import Watch
from hypothesis import settings
from sqlalchemy import text

from cds_service.store.database import Database, parse_url
from cds_service.store.keys import read_keys
from cds_service.store.spool import Spool
from cds_service.store.store import Store

settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("quick")


@pytest.fixture(scope="session", autouse=True)
def no_log_line_of_any_test_names_a_patient() -> Iterator[None]:
    """LOG-1, over all tests of a run."""
    watch = Watch()
    logger = logging.getLogger("jaki_cds")
    logger.addHandler(watch)
    yield
    logger.removeHandler(watch)
    assert watch.found == []


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: each entry waits for the disk, and the tests write many."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL of our own."""
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL's initdb and postgres are not installed")
    with postgres.cluster() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, memory: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{memory}/store.sqlite"
    address = str(request.getfixturevalue("server"))
    plain = Database(parse_url(address))
    with plain.engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        connection.commit()
    plain.close()
    return address


@pytest.fixture
def make(database_url: str, memory: Path) -> Iterator[Callable[[], Store]]:
    """A store on the same database and spool each time it is called, as several processes have."""
    made: list[Store] = []

    def store() -> Store:
        keys = read_keys(memory / "key", create=True)
        made.append(Store(Database(parse_url(database_url)), Spool(memory / "spool"), keys))
        return made[-1]

    yield store
    for each in made:
        each.database.close()


@pytest.fixture
def store(make: Callable[[], Store]) -> Store:
    return make()
