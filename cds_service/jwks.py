"""Key sets of clients (RFC 7517): which keys are taken from them, and a cache that follows a rotation.

Only public keys for ES384 (P-384) and RS384 (RSA of 2048 to 8192 bits) count, and a key's algorithm
is decided by its type, never by the token. The signing key of the public CDS Hooks sandbox is known to
everybody, so it is no key here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWK, PyJWTError

from cds_service.shared_set import SharedSet

ES384: Final = "ES384"
RS384: Final = "RS384"
ALGORITHMS: Final = (ES384, RS384)
LONGEST_KID: Final = 256
MOST_KEYS: Final = 32
LARGEST_SET_BYTES: Final = 64 * 1024
RSA_BITS: Final = (2048, 8192)
SECONDS_BETWEEN_FETCHES: Final = 60.0
SECONDS_FRESH: Final = 300.0
"""A set older than this is fetched again in the background, so that a withdrawn key goes too."""

SANDBOX_ISSUER: Final = "https://sandbox.cds-hooks.org"
SANDBOX_X: Final = "dw_JGR8nB2I6XveNxUOl2qk699ZPLM2nYI5STSdiEl9avAkrm3CkfYMbrrjr8laB"
"""The x coordinate of the sandbox's key, whose private half is published."""

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_log = logging.getLogger("jaki_cds")


class KeyFault(ValueError):
    """A key that cannot be used; the text says why and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key under its id. ``public`` is the object of the cryptography library."""

    kid: str
    algorithm: str
    public: Any


Keys = Mapping[tuple[str, str], Key]
"""By key id and algorithm."""


def read_key(jwk: object, *, sandbox: bool = False) -> Key:
    """One member of ``keys``. ``sandbox``: the key of the public sandbox is acceptable (demo mode).

    Raises:
        KeyFault: it is not a public signing key for ES384 or RS384 that is strong enough.
    """
    if not isinstance(jwk, dict):
        raise KeyFault("a key is a JSON object; copy it whole from the client's key set")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID:
        raise KeyFault(f"a key needs a kid of 1 to {LONGEST_KID} characters")
    if _PRIVATE & set(jwk):
        raise KeyFault("this is a private or secret key; give the public one and withdraw this one")
    algorithm = {"EC": ES384, "RSA": RS384}.get(str(jwk.get("kty")))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm:
        raise KeyFault("the key is for neither ES384 nor RS384; ask the client for one that is")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise KeyFault("the key is not for signatures; give the one with use sig")
    if algorithm == ES384 and jwk.get("crv") != "P-384":
        raise KeyFault("the key is on another curve than P-384; ask the client for an ES384 key")
    if jwk.get("x") == SANDBOX_X and not sandbox:
        raise KeyFault(
            "this is the public sandbox's key, with which anybody can sign; use it in demo mode only"
        )
    try:
        public = PyJWK(jwk, algorithm).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise KeyFault("the key cannot be read; copy it whole from the client's key set") from None
    if algorithm == RS384 and not RSA_BITS[0] <= public.key_size <= RSA_BITS[1]:
        raise KeyFault(
            f"an RSA key must have {RSA_BITS[0]} to {RSA_BITS[1]} bits; ask the client for another"
        )
    return Key(kid, algorithm, public)


def read_fetched_set(value: object) -> Keys | None:
    """The usable keys of a fetched set; ``None`` where it is no key set.

    Keys that are for something else are passed over. Two keys under one id and algorithm count as none:
    nobody could say which is meant.
    """
    members = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(members, list) or len(members) > MOST_KEYS:
        return None
    found: dict[tuple[str, str], Key] = {}
    twice: set[tuple[str, str]] = set()
    for member in members:
        try:
            key = read_key(member)
        except KeyFault:
            continue
        name = (key.kid, key.algorithm)
        if name in found:
            twice.add(name)
        found[name] = key
    return {name: key for name, key in found.items() if name not in twice}


class KeyRing:
    """The keys of one client, safe for threads, and for the workers forked after it was made.

    ``fetch`` gets the key set from the client's configured address (``None`` where that failed). It is
    called at most once in 60 s whatever tokens come, one call at a time, over all workers; what one of them
    fetched the others take over. What was once fetched stays good while the address does not answer: an
    outage there must not stop the advice here.
    """

    def __init__(
        self,
        fixed: Keys,
        fetch: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = fixed
        self._fetch = fetch
        self._clock = clock
        self._shared = None if fetch is None else SharedSet()
        self._looked_at: float | None = None
        self._fetched_at: float | None = None
        self.on_failure: Callable[[], None] = lambda: None
        """Called each time that the address gave no set that can be used."""

    def find(self, kid: str, algorithm: str) -> Key | None:
        """The key; an unknown one is looked for in a fresh set, where one may be fetched now."""
        key = self._keys.get((kid, algorithm))
        if key is None:
            self._renew()
            return self._keys.get((kid, algorithm))
        if self._shared is not None and self._is_past(self._looked_at, SECONDS_FRESH):
            self._looked_at = self._clock()  # so that no second thread starts while one waits for its turn
            threading.Thread(target=self._renew, args=(SECONDS_FRESH,), name="key-set", daemon=True).start()
        return key

    def successor(self, key: Key) -> Key | None:
        """Another key under the same id, where the client has put one: it rotates without a new id."""
        self._renew()
        now = self._keys.get((key.kid, key.algorithm))
        return None if now is None or now.public == key.public else now

    def _is_past(self, since: float | None, seconds: float) -> bool:
        return since is None or self._clock() - since >= seconds

    def _renew(self, seconds: float = SECONDS_BETWEEN_FETCHES) -> None:
        """Takes over what another worker fetched; fetches where nobody has asked for so many seconds."""
        if self._fetch is None or self._shared is None:
            return
        with self._shared.lock:
            asked_at, fetched_at = self._shared.times()
            if fetched_at not in (None, self._fetched_at):
                self._fetched_at = fetched_at
                self._keys = read_fetched_set(self._shared.value()) or self._keys
            if self._is_past(asked_at, seconds):
                asked_at = self._clock()
                self._shared.ask(asked_at)
                self._take(self._fetch(), self._shared)
            self._looked_at = asked_at

    def _take(self, fetched: object, shared: SharedSet) -> None:
        keys = read_fetched_set(fetched)
        if not keys:
            _log.warning("key set not renewed: its address gave none that can be used")
            self.on_failure()
            return
        self._keys, self._fetched_at = keys, self._clock()
        with suppress(OSError):  # no room for it: then each worker fetches its own, a minute apart
            shared.keep(fetched, self._fetched_at)
