"""What is made once at the start and shared by every request; nothing in it changes afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cds_service.auth import Door
from cds_service.clients import load_clients
from cds_service.demo.own_server import OwnServer
from cds_service.json_reader import read_json
from cds_service.replay_guard import ReplayGuard
from cds_service.settings import Settings
from fhir_mappings import prefetch
from fhir_mappings.client import FetchPolicy, FhirClient
from fhir_mappings.site_codes import NO_SITE_CODES, SiteCodes, load_site_codes
from guideline.growth_reference import MEASURES, limits
from guideline.policy import Policy, load_policy
from guideline.tables import Tables, load_tables


def utc_today() -> date:
    """The server's date in UTC: the evaluation date unless demo mode sets another (contract section 3)."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings, knowledge and clock of the running service.

    ``client``: what fetches for the call at hand; outside demo mode each call brings its own client's.
    ``door``: who may call; ``None`` in demo mode, which knows no clients.
    """

    settings: Settings
    tables: Tables
    policy: Policy
    client: FhirClient | OwnServer | None
    today: Callable[[], date] = utc_today
    site_codes: SiteCodes = NO_SITE_CODES
    count_unknown: Callable[[Mapping[tuple[str, str], int]], None] = lambda counted: None
    """Takes note of the codes that nobody knows, by resource type and code system."""
    door: Door | None = None


def make_runtime(settings: Settings) -> Runtime:
    """Loads everything that a request needs, so that a fault shows at the start and not at a call."""
    tables = load_tables()
    prefetch.templates()  # the code tables are read and checked here
    for measure in MEASURES:
        limits(measure, None, 0)  # the growth tables likewise
    return Runtime(
        settings=settings,
        tables=tables,
        policy=load_policy(settings.site),
        client=_client(settings),
        site_codes=load_site_codes(settings.site),
        door=_door(settings),
    )


def _door(settings: Settings) -> Door | None:
    if settings.demo:
        return None
    return Door(load_clients(settings) if settings.clients else (), ReplayGuard(settings.token_store))


def _client(settings: Settings) -> OwnServer | None:
    """The FHIR client of demo mode: this machine only. Outside it each caller has one of its own."""
    if not settings.demo:
        return None
    policy = FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=settings.fetch_deadline_ms)
    return OwnServer(FhirClient(policy, read_json))
