"""Who calls: the check of a client's bearer token (CDS Hooks 2.0, Trusting CDS Clients; RFC 8725).

A token is refused with one exception type whose reason never leaves the machine. Nothing in a token
causes a connection: keys come from the configuration or from the address that stands there, and an
unknown key id is looked up only after everything that needs no key has proved right.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from jwt import PyJWTError, get_algorithm_by_name

from cds_service.clients import Client
from cds_service.errors import Forbidden
from cds_service.json_reader import UnreadableBody, read_json
from cds_service.jwks import ALGORITHMS, LONGEST_KID, Key, KeyRing
from cds_service.replay_guard import ReplayGuard

LONGEST_TOKEN: Final = 8 * 1024
LONGEST_HEADER: Final = 2 * 1024
"""Characters of the token's first part, encoded."""
LONGEST_JTI: Final = 256
LEEWAY_S: Final = 60
LONGEST_LIFE_S: Final = 15 * 60
LATEST_TIME: Final = 2**53

_COMPACT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")
_BEARER = re.compile(r"(?i:bearer) +(?P<token>[!-~]+)")


class Why(StrEnum):
    """Why a token is refused: for the log and for ``jaki-cds token check``, never for the caller."""

    NO_TOKEN = "there is no Authorization header of the form: Bearer TOKEN"  # a sentence  # nosec B105
    TOO_LONG = f"it is longer than {LONGEST_TOKEN} characters, or its header than {LONGEST_HEADER}"
    FORM = "it is not three parts of unpadded base64url, separated by dots"
    HEADER = "its header is not strict JSON (an object, each member once)"
    PAYLOAD = "its payload is not strict JSON (an object, each member once)"
    ALGORITHM = "alg is neither ES384 nor RS384"
    TYPE = "typ is not JWT"
    KEY_ID = f"kid is not a text of 1 to {LONGEST_KID} characters"
    CRITICAL = "it uses crit or b64, which are not supported"
    JKU = "jku is not the key set address configured for this client"
    ISSUER = "iss is not a configured client's, character for character"
    AUDIENCE = "aud does not name the address called, character for character"
    TIMES = "exp or iat is missing, or one of exp, iat and nbf is not a number of seconds since 1970"
    EXPIRED = f"exp has passed by {LEEWAY_S} s or more"
    EARLY = f"iat or nbf is more than {LEEWAY_S} s ahead of the clock"
    LIFE = f"exp is not after iat, or more than {LONGEST_LIFE_S} s after it"
    TOKEN_ID = f"jti is not a text of 1 to {LONGEST_JTI} characters"
    TENANT = "tenant is not a text"
    KEY = "the client's key set holds no key of this kid for this alg"
    SIGNATURE = "the signature is not of the key that kid names"
    USED = "a token with this jti was accepted before"


class TokenRefused(Exception):
    """A token that does not let in. ``why`` is for the operator only."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.name)
        self.why = why


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, once all of it that needs no key has been found in order."""

    issuer: str
    jti: str
    tenant: str | None
    algorithm: str
    kid: str
    expires: float


class Door:
    """Lets in the tokens of the configured clients. ``clock``: seconds since 1970."""

    def __init__(
        self,
        clients: Sequence[Client],
        guard: ReplayGuard,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clients = {client.iss: client for client in clients}
        self.guard = guard
        self._clock = clock
        self.rings = {c.iss: KeyRing(c.keys, c.fetch_keys, ticks) for c in clients}

    def enter(self, authorization: str | None, paths: Sequence[str]) -> Client:
        """The client whose token the header carries; ``paths``: of the addresses its ``aud`` may name.

        Raises:
            TokenRefused: the token is not good for this call.
            Forbidden: it is, but its tenant may not use the service.
            GuardUnavailable: the store of used tokens does not answer.
        """
        found = _BEARER.fullmatch(authorization or "")
        if found is None:
            raise TokenRefused(Why.NO_TOKEN)
        client, claims = self.verify(found["token"], paths)
        if client.tenants and claims.tenant not in client.tenants:
            raise Forbidden()
        if not self.guard.first_use(claims.issuer, claims.jti, claims.expires + LEEWAY_S):
            raise TokenRefused(Why.USED)
        return client

    def verify(self, token: str, paths: Sequence[str]) -> tuple[Client, Claims]:
        """Everything about a token but its tenant and whether it was used before.

        Raises:
            TokenRefused: with the first fault found.
        """
        client, claims = read_token(token, self.clients, paths, self._clock())
        ring = self.rings[client.iss]
        key = ring.find(claims.kid, claims.algorithm)
        if key is None:
            raise TokenRefused(Why.KEY)
        if not signed_by(token, key):
            successor = ring.successor(key)
            if successor is None or not signed_by(token, successor):
                raise TokenRefused(Why.SIGNATURE)
        return client, claims

    def is_anothers(self, client: Client, base: str) -> bool:
        """Whether a FHIR base is another client's and not this one's."""
        return not client.fhir.permits(base) and any(
            other.fhir.permits(base) for other in self.clients.values()
        )


def signed_by(token: str, key: Key) -> bool:
    """Whether the signature is this key's; the algorithm is the key's own."""
    signed, _, signature = token.rpartition(".")
    try:
        return _ALGORITHMS[key.algorithm].verify(signed.encode(), key.public, _decoded(signature))
    except (TokenRefused, PyJWTError, ValueError, TypeError):
        return False


_ALGORITHMS = {name: get_algorithm_by_name(name) for name in ALGORITHMS}
"""PyJWT's own. Its ``PyJWS`` would take the token apart a second time, and look for what is refused here already."""


def read_token(
    token: str, clients: dict[str, Client], paths: Sequence[str], now: float
) -> tuple[Client, Claims]:
    """Judges all of a token but its signature.

    Raises:
        TokenRefused: with the first fault found.
    """
    header, payload = _parts(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused(Why.ALGORITHM)
    if header.get("typ") != "JWT":
        raise TokenRefused(Why.TYPE)
    if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KID:
        raise TokenRefused(Why.KEY_ID)
    if "crit" in header or "b64" in header:
        raise TokenRefused(Why.CRITICAL)
    issuer = payload.get("iss")
    client = clients.get(issuer) if isinstance(issuer, str) else None
    if client is None:
        raise TokenRefused(Why.ISSUER)
    if "jku" in header and (
        not isinstance(header["jku"], str)
        or not header["jku"].startswith(("https://", "http://"))
        # Keys that stand in the configuration need no address, so what the token says of one is void.
        or (client.jwks_url is not None and header["jku"] != client.jwks_url)
    ):
        raise TokenRefused(Why.JKU)
    if not _for_us(payload.get("aud"), client, paths):
        raise TokenRefused(Why.AUDIENCE)
    expires = _check_times(payload, now)
    jti, tenant = payload.get("jti"), payload.get("tenant")
    if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_JTI:
        raise TokenRefused(Why.TOKEN_ID)
    if tenant is not None and not isinstance(tenant, str):
        raise TokenRefused(Why.TENANT)
    return client, Claims(client.iss, jti, tenant, algorithm, kid, expires)


def _parts(token: str) -> tuple[dict[str, object], dict[str, object]]:
    """Header and payload; the signature must be well-formed too."""
    if len(token) > LONGEST_TOKEN:
        raise TokenRefused(Why.TOO_LONG)
    if not _COMPACT.fullmatch(token):
        raise TokenRefused(Why.FORM)
    parts = token.split(".")
    if len(parts[0]) > LONGEST_HEADER:
        raise TokenRefused(Why.TOO_LONG)
    header, payload, _ = (_decoded(part) for part in parts)
    return _object(header, Why.HEADER), _object(payload, Why.PAYLOAD)


def _decoded(part: str) -> bytes:
    """The bytes of one part; only their one canonical spelling counts (no stray bits at the end)."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise TokenRefused(Why.FORM) from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise TokenRefused(Why.FORM)
    return raw


def _object(raw: bytes, why: Why) -> dict[str, object]:
    try:
        value = read_json(raw)
    except UnreadableBody:
        raise TokenRefused(why) from None
    if not isinstance(value, dict):
        raise TokenRefused(why)
    return value


def _for_us(audience: object, client: Client, paths: Sequence[str]) -> bool:
    named = audience if isinstance(audience, list) else [audience]
    ours = {base + path for base in client.audiences for path in paths}
    return all(isinstance(name, str) for name in named) and any(name in ours for name in named)


def _check_times(payload: dict[str, object], now: float) -> float:
    """The time of expiry, where exp, iat and nbf allow the token now."""
    expires, issued = _time(payload.get("exp")), _time(payload.get("iat"))
    begins = _time(payload["nbf"]) if "nbf" in payload else issued
    if now >= expires + LEEWAY_S:
        raise TokenRefused(Why.EXPIRED)
    if issued > now + LEEWAY_S or begins > now + LEEWAY_S:
        raise TokenRefused(Why.EARLY)
    if not 0 < expires - issued <= LONGEST_LIFE_S:
        raise TokenRefused(Why.LIFE)
    return expires


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < LATEST_TIME:
        raise TokenRefused(Why.TIMES)
    return float(value)
