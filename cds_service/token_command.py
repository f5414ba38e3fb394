"""``jaki-cds token``: keys and tokens for a test of the connection, and why a token would be refused.

For the integrator at the terminal; over HTTP nobody is told why a token does not let in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from cds_service.auth import Door, TokenRefused, Why
from cds_service.clients import ClientsFault, load_clients
from cds_service.jwks import ALGORITHMS, ES384
from cds_service.replay_guard import GuardUnavailable, ReplayGuard
from cds_service.services import SERVICES
from cds_service.settings import SettingsError, read_settings

REFUSED = 1
USAGE_ERROR = 2
PRIVATE_FILE = 0o600


class _CommandError(Exception):
    """What stops the command, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: made, or good; 1: the token would be refused; 2: the command cannot run."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (_CommandError, ClientsFault, SettingsError) as fault:
        print(f"jaki-cds token: {fault}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaki-cds token", description="Keys and tokens of clients, for tests."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    keygen = commands.add_parser("keygen", help="make a key; prints the public key set for clients.yaml")
    keygen.add_argument("file", type=Path, help="where the private key goes; must not exist yet")
    keygen.add_argument("--alg", choices=ALGORITHMS, default=ES384, help="default: %(default)s")
    keygen.add_argument("--kid", default=None, help="id of the key (default: a random one)")
    keygen.set_defaults(run=_keygen)

    make = commands.add_parser("make", help="print a token signed with a key of keygen")
    make.add_argument("--key", type=Path, required=True, help="the file that keygen wrote")
    make.add_argument("--iss", required=True, help="the client's iss in clients.yaml")
    make.add_argument("--aud", required=True, help="the address to be called")
    make.add_argument("--seconds", type=int, default=300, help="life (default: %(default)s)")
    make.add_argument("--tenant", default=None)
    make.add_argument("--jti", default=None, help="default: a random one")
    make.set_defaults(run=_make)

    check = commands.add_parser("check", help="say whether a token would be accepted, and if not, why")
    check.add_argument("token", help="the token, or - to read it from standard input")
    check.add_argument(
        "--path",
        default=None,
        help="the address called, from /cds-services on (default: that of any service)",
    )
    check.set_defaults(run=_check)
    return parser


def _keygen(options: argparse.Namespace) -> int:
    private: dict[str, Any]
    if options.alg == ES384:
        private = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()), as_dict=True)
    else:
        private = RSAAlgorithm.to_jwk(
            rsa.generate_private_key(public_exponent=65537, key_size=3072), as_dict=True
        )
    private = {"kid": options.kid or str(uuid.uuid4()), "alg": options.alg, "use": "sig"} | {
        name: value for name, value in private.items() if name != "key_ops"
    }
    try:
        handle = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as fault:
        raise _CommandError(
            f"cannot write {options.file}: {os.strerror(fault.errno or 0)}; name a new file in a folder of yours"
        ) from None
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(private, stream)
    public = {k: v for k, v in private.items() if k not in ("d", "p", "q", "dp", "dq", "qi")}
    print(json.dumps({"keys": [public]}, indent=2))
    return 0


def _make(options: argparse.Namespace) -> int:
    try:
        private = json.loads(options.key.read_text(encoding="utf-8"))
        key = jwt.PyJWK(private).key
        algorithm, kid = private["alg"], private["kid"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError):
        raise _CommandError(f"{options.key} is no key; make one with: jaki-cds token keygen FILE") from None
    now = int(time.time())
    claims = {
        "iss": options.iss,
        "aud": options.aud,
        "iat": now,
        "exp": now + options.seconds,
        "jti": options.jti or str(uuid.uuid4()),
    }
    if options.tenant is not None:
        claims["tenant"] = options.tenant
    print(jwt.encode(claims, key, algorithm, headers={"kid": kid, "typ": "JWT"}))
    return 0


def _check(options: argparse.Namespace) -> int:
    """Asks everything that the service asks, but leaves the token unused."""
    settings = read_settings(os.environ)
    if settings.clients is None:
        raise _CommandError("no client is configured; name the file of clients in JAKI_CDS_CLIENTS")
    token = (sys.stdin.read() if options.token == "-" else options.token).strip()  # "-": stdin  # nosec B105
    door = Door(load_clients(settings), ReplayGuard(settings.token_store))
    paths = [options.path] if options.path else [f"/cds-services/{service}" for service in SERVICES]
    if not options.path:
        paths += [f"{path}/feedback" for path in paths]
    try:
        client, claims = door.verify(token.removeprefix("Bearer ").strip(), paths)
        if client.tenants and claims.tenant not in client.tenants:
            print("refused with 403: tenant is not one of this client's")
            return REFUSED
        if door.guard.seen(claims.issuer, claims.jti):
            raise TokenRefused(Why.USED)
    except TokenRefused as refusal:
        print(f"refused with 401: {refusal.why}")
        return REFUSED
    except GuardUnavailable as fault:
        raise _CommandError(f"the database of JAKI_CDS_STORE cannot be used ({fault}); check it") from None
    finally:
        door.guard.close()
    print(f"good: client {client.name}, for {int(claims.expires - time.time())} s more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
