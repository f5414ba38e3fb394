"""What schemathesis needs to know beside the OpenAPI document (``test_contract.py`` starts it with this module).

It is imported by schemathesis itself, by way of ``SCHEMATHESIS_HOOKS``.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

import jwt
import schemathesis

from cds_service.json_reader import UnreadableBody, read_json

_KEY = json.loads(os.environ["CONTRACT_KEY"])


@schemathesis.auth(refresh_interval=None)
class FreshToken:
    """A token of its own for each call, as the service takes none twice."""

    def get(self, case: Any, _context: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": os.environ["CONTRACT_ISS"],
            "aud": os.environ["CONTRACT_BASE"] + case.operation.path,
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, jwt.PyJWK(_KEY).key, "ES384", headers={"kid": _KEY["kid"], "typ": "JWT"})

    def set(self, case: Any, data: str, _context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def filter_body(_context: Any, body: Any) -> bool:
    """Leaves out what a schema cannot say: numbers beyond the limits, NUL and half surrogate pairs, another's token.

    That they are refused is shown by the tests of the reader and of the envelope.
    """
    if not isinstance(body, dict | list):
        return True
    if _names_two_patients(body):
        return False
    try:
        read_json(json.dumps(body).encode())
    except (UnreadableBody, TypeError, ValueError):
        return False
    return True


def _names_two_patients(body: Any) -> bool:
    parts = [body.get(name) for name in ("fhirAuthorization", "context")] if isinstance(body, dict) else []
    if not all(isinstance(part, dict) for part in parts) or not parts:
        return False
    of_token = parts[0].get("patient")
    return of_token is not None and of_token != parts[1].get("patientId")
