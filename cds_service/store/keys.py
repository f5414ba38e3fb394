"""The key of the store: it makes pseudonyms of patients and users, and seals the end of the chain.

The file holds one key a line (64 hexadecimal digits), the newest last. A new key is a new line: old entries
name the key they were made with and stay verifiable, new ones get other pseudonyms.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OWNER_ONLY = 0o600
_OTHERS = 0o077
_KEY = re.compile(r"[0-9a-f]{64}")
PSEUDONYM_DIGITS = 32


class KeyFault(Exception):
    """A key file that cannot be used; the text names place, fault and cure."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """All keys, oldest first."""

    keys: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<Keys {', '.join(map(key_id, self.keys))}>"

    @property
    def current(self) -> str:
        """The name of the newest key, which says nothing about the key itself."""
        return key_id(self.keys[-1])

    def pseudonym(self, kind: str, client: str, value: str) -> str:
        """The same for the same ``value`` of a kind ("patient") at one client; not to be reversed without the key."""
        return self.fingerprint("\0".join((kind, client, value)).encode("utf-8", "surrogatepass"))

    def fingerprint(self, content: bytes) -> str:
        """A keyed hash of content that was read: shows later whether it was this, and cannot be guessed at."""
        return _keyed_hash(self.keys[-1], content)[:PSEUDONYM_DIGITS]

    def seal(self, seq: int, digest: str, name: str | None = None) -> str | None:
        """The seal of a chain that ends here, with the key called ``name``; ``None`` where that key is not had."""
        wanted = self.current if name is None else name
        for key in self.keys:
            if key_id(key) == wanted:
                return _keyed_hash(key, f"head {seq} {digest}".encode())
        return None


def _keyed_hash(key: bytes, content: bytes) -> str:
    """HMAC-SHA-256. To take in the key costs more than a short text, so that is done once."""
    made = _keyed(key).copy()
    made.update(content)
    return made.hexdigest()


@cache
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


@cache
def key_id(key: bytes) -> str:
    return hashlib.sha256(b"name of " + key).hexdigest()[:8]


def read_keys(path: Path, *, create: bool) -> Keys:
    """The keys in ``path``; made, with mode 600, where it is missing and ``create`` is set.

    Raises:
        KeyFault: it is missing, malformed, or readable by others.
        OSError: it cannot be read or made.
    """
    if create and not path.exists():
        _make(path)
    try:
        mode, lines = path.stat().st_mode, path.read_text("ascii").split()
    except FileNotFoundError:
        raise KeyFault(f"{path}: is missing; name the key file with JAKI_CDS_STORE_KEY.") from None
    except UnicodeDecodeError:
        lines, mode = [], OWNER_ONLY
    if mode & _OTHERS:
        raise KeyFault(f"{path}: others may read the key; set its mode to 600.")
    if not lines or not all(_KEY.fullmatch(line) for line in lines):
        raise KeyFault(f"{path}: is no key file; it holds one key a line, 64 hexadecimal digits each.")
    return Keys(tuple(bytes.fromhex(line) for line in lines))


def _make(path: Path) -> None:
    """Written whole under another name and linked into place: of two processes that start, one makes the key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
