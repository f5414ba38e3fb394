"""The tables of the store. ``migrations/`` makes them; a test keeps the two the same."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text

METADATA = MetaData()

AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False, unique=True),
    Column("at", String(24), nullable=False),  # UTC to the millisecond, 2026-06-01T10:34:21.028Z
    Column("kind", String(16), nullable=False),  # call, feedback, prune
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
"""The entries in the order of the chain. ``seq`` has no holes."""

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("key_id", String(8), nullable=False),
    Column("seal", String(64), nullable=False),
)
"""One row: the end of the chain, sealed with the key, so that entries cut off at the end are missed."""

CARD = Table(
    "card",
    METADATA,
    Column("uuid", String(36), primary_key=True),
    Column("seq", BigInteger, nullable=False, index=True),
    Column("at", String(24), nullable=False),
    Column("client", String(64), nullable=False),
    Column("service", String(64), nullable=False),
    Column("indicator", String(16), nullable=False),
    Column("findings", Text, nullable=False),  # [[statement id, outcome, severity], ...]
    Column("suggestions", Text, nullable=False),  # [uuid, ...]
    Column("mark", String(32), index=True),
)
"""Where to find the entry of a card. ``mark``: the same for a card that says the same of the same order and child."""

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("at", String(24), nullable=False),
    Column("client", String(64), nullable=False),
    Column("service", String(64), nullable=False),
    Column("card", String(40), nullable=False, index=True),
    Column("outcome", String(16), nullable=False),
    Column("outcome_at", String(24), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("commented", Boolean, nullable=False),
    Column("suggestions", Text, nullable=False),
)
"""What became of the cards. One row for each card and outcome, however often it is reported."""
