"""Which browser pages may call the service (Fetch standard, CORS protocol; CDS Hooks 2.0, CORS).

Credentials are never allowed: the bearer token is an explicit header, no cookie is used.
"""

from __future__ import annotations

import re

from flask import Request, Response

from cds_service.settings import Settings

_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?")


def is_preflight(request: Request) -> bool:
    """An OPTIONS by which a browser asks before the real call; it never carries a token."""
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def is_allowed(origin: str, settings: Settings) -> bool:
    """Configured origins count exactly as written; in demo mode every loopback page counts besides."""
    return origin in settings.allowed_origins or (settings.demo and _LOOPBACK.fullmatch(origin) is not None)


def add_headers(request: Request, response: Response, settings: Settings) -> None:
    """Lets an allowed origin read the answer, an error included; says nothing to any other."""
    if not settings.demo and not settings.allowed_origins:
        return
    response.headers.add("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is None or not is_allowed(origin, settings):
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "X-Request-Id, WWW-Authenticate"
    if is_preflight(request):
        response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Accept"
        response.headers["Access-Control-Max-Age"] = "600"
