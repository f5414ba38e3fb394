"""The chain: each entry holds the hash of the one before it, so that no entry changes, goes or moves unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cds_service.json_reader import UnreadableBody, read_json, write_json
from cds_service.store.keys import Keys

GENESIS = "0" * 64
PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Link:
    """One row of the table ``audit``."""

    seq: int
    id: str
    at: str
    kind: str
    body: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The row of the table ``head``."""

    seq: int
    hash: str
    key_id: str
    seal: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a ``prune`` entry says that the chain was cut: the last entry deleted and its hash."""

    seq: int
    hash: str


def digest(previous: str, seq: int, id: str, at: str, kind: str, body: str) -> str:
    """The hash of an entry; written as a JSON array, so that no two entries give the same bytes."""
    return hashlib.sha256(write_json([previous, seq, id, at, kind, body])).hexdigest()


def faults(links: Iterable[Link], head: Head | None, keys: Keys | None) -> Iterator[str]:
    """What is wrong with a chain, a sentence each; ``links`` in the order of ``seq``. Nothing: it is whole.

    Without ``keys`` the seal is not checked, and entries cut off at the end together with a changed head are missed.
    """
    first = last = None
    cut: Cut | None = None
    for link in links:
        first = first or link
        if digest(link.previous, link.seq, link.id, link.at, link.kind, link.body) != link.hash:
            yield f"Entry {link.seq} was changed: its hash does not fit its content."
        if last is not None and link.seq != last.seq + 1:
            yield f"Between entries {last.seq} and {link.seq} something was removed."
        if last is not None and link.previous != last.hash:
            yield f"Entry {link.seq} does not follow on entry {last.seq}: one of them was changed or moved."
        if link.kind == PRUNE:
            cut = _cut(link) or cut
        last = link
    yield from _start(first, cut)
    yield from _end(last, head, keys)


def _cut(link: Link) -> Cut | None:
    try:
        body = read_json(link.body.encode())
    except UnreadableBody:
        return None
    if not isinstance(body, dict) or not body.get("deleted"):
        return None
    return Cut(int(body["upTo"]), str(body["hash"]))


def _start(first: Link | None, cut: Cut | None) -> Iterator[str]:
    if first is None:
        return
    seq, before = (1, GENESIS) if cut is None else (cut.seq + 1, cut.hash)
    if first.seq != seq or first.previous != before:
        yield f"The chain begins with entry {first.seq}, but entry {seq} should be its first: entries were removed."


def _end(last: Link | None, head: Head | None, keys: Keys | None) -> Iterator[str]:
    if head is None:
        if last is not None:
            yield "The head of the chain is missing."
        return
    end = (0, GENESIS) if last is None else (last.seq, last.hash)
    if end != (head.seq, head.hash):
        yield f"The chain ends with entry {end[0]}, but its head names entry {head.seq}: entries were removed."
    if keys is None:
        return
    seal = keys.seal(head.seq, head.hash, head.key_id)
    if seal is None:
        yield f"The head is sealed with key {head.key_id}, which is not in the key file; add that key to check it."
    elif seal != head.seal:
        yield "The seal of the head is wrong: the end of the chain was changed by somebody without the key."
