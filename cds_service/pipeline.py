"""Request -> facts -> findings -> cards -> response. A stub until its parts are there: no cards."""

from __future__ import annotations

from cds_service.envelope import HookCall
from cds_service.runtime import Runtime


def respond(call: HookCall, runtime: Runtime) -> dict[str, object]:
    """The body of the answer to ``call``."""
    return {"cards": []}
