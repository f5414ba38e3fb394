"""Settings: environment variables JAKI_CDS_*, read once at start, each with its default and its check.

``docs/settings.md`` is generated from the table below (``make page``); a test keeps the two the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from cds_service.profiles import DEFAULT, PROFILES

PREFIX = "JAKI_CDS_"
STORE, NO_STORE = "sqlite:///var/jaki-cds.sqlite", "none"
MEBIBYTE = 1024 * 1024
LOG_LEVELS = ("debug", "info", "warning", "error")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?")
_BASE_URL = re.compile(r"https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")


class SettingsError(Exception):
    """A setting that cannot be used; the text names it, its fault and the cure on one line."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs. Field ``x`` is the environment variable ``JAKI_CDS_X``."""

    demo: bool = False
    max_body_bytes: int = 8 * MEBIBYTE
    allowed_origins: tuple[str, ...] = ()
    fetch_deadline_ms: int = 2000
    public_base_url: str | None = None
    site: Path | None = None
    clients: Path | None = None
    log_level: str = "info"
    profile: str = DEFAULT
    calls_per_second: int = 50
    store: str = STORE
    store_key: Path | None = None
    retention_days: int = 0
    metrics_port: int = 0

    @property
    def token_store(self) -> str:
        """The database that remembers used tokens; there is one also where calls are not recorded.

        With SQLite it is a file of its own: in that of the record, a token would wait until another call is on disk.
        """
        url = make_url(STORE if self.store == NO_STORE else self.store)
        if url.drivername == "sqlite":
            path = Path(str(url.database))
            url = url.set(database=str(path.with_stem(f"{path.stem}-tokens")))
        return url.render_as_string(hide_password=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of ``docs/settings.md``: what is written in the environment and what it is read as."""

    field: str
    default: str
    values: str
    meaning: str
    read: Callable[[str], object]

    @property
    def variable(self) -> str:
        return PREFIX + self.field.upper()


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("is neither 0 nor 1")
    return text == "1"


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text):
            raise ValueError("is not a whole number")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"is not between {low} and {high}")
        return number

    return read


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(text.replace(",", " ").split())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "holds something that is no origin (scheme://host or scheme://host:port, lower case)"
            )
    return origins


def _base_url(text: str) -> str | None:
    if not text:
        return None
    if not _BASE_URL.fullmatch(text):
        raise ValueError("is not an http or https address without query and fragment")
    return text.rstrip("/")


def _file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ValueError("names no file")
    return path


def _store(text: str) -> str:
    if text == NO_STORE:
        return text
    try:
        url = make_url(text)
    except (SQLAlchemyError, ValueError):
        raise ValueError(f"is neither the address of a database nor {NO_STORE}") from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise ValueError("is of a kind of database that is not supported")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("names no file, so the worker processes would share nothing")
    return url.render_as_string(hide_password=False)


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ValueError("is no log level")
    return text


def _profile(text: str) -> str:
    if text not in PROFILES:
        raise ValueError("is no client profile")
    return text


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "demo",
        "0",
        "`0`, `1`",
        "Demo mode, the same as `jaki-cds serve --demo`: loopback only, no client authentication, "
        "`asOf` allowed.",
        _switch,
    ),
    Setting(
        "max_body_bytes",
        str(8 * MEBIBYTE),
        "1024 to 67108864",
        "Largest request body in bytes; a larger one is refused with 413 before it is read.",
        _whole_number(1024, 64 * MEBIBYTE),
    ),
    Setting(
        "allowed_origins",
        "",
        "origins, separated by blanks or commas",
        "Browser origins that may call the service, compared exactly. In demo mode every "
        "`http://127.0.0.1:*` and `http://localhost:*` is allowed besides.",
        _origins,
    ),
    Setting(
        "fetch_deadline_ms",
        "2000",
        "300 to 4000",
        "Milliseconds in all for fetching missing prefetch data from the FHIR server during one call.",
        _whole_number(300, 4000),
    ),
    Setting(
        "public_base_url",
        "",
        "an http or https address",
        "The address under which clients reach this service, where a proxy stands in front of it.",
        _base_url,
    ),
    Setting(
        "site",
        "",
        "path of a YAML file",
        "The site's policy: freshness windows, limits of normal, local code maps. A fault in it stops "
        "the start.",
        _file,
    ),
    Setting(
        "clients",
        "",
        "path of a YAML file",
        "The clients that may call, with their keys (`docs/connecting.md`). Needed outside demo mode; a "
        "fault in it stops the start.",
        _file,
    ),
    Setting(
        "log_level",
        "info",
        ", ".join(f"`{level}`" for level in LOG_LEVELS),
        "Least level of the log lines on standard error; `info` has one line for each request.",
        _log_level,
    ),
    Setting(
        "profile",
        DEFAULT,
        ", ".join(f"`{name}`" for name in PROFILES),
        "The form of the cards for clients that have none of their own: CDS Hooks 2.0, CDS Hooks 1.0, Epic "
        "or the public sandbox.",
        _profile,
    ),
    Setting(
        "calls_per_second",
        "50",
        "1 to 10000",
        "Calls that one client may make in a second, over all workers of a machine; more get 429. None in demo mode.",
        _whole_number(1, 10_000),
    ),
    Setting(
        "store",
        STORE,
        f"`sqlite:///path`, `postgresql://user@host/name`, `{NO_STORE}`",
        "The database in which calls and feedback are recorded (docs/audit.md) and used tokens remembered; with "
        "SQLite these have a file of their own beside it (`jaki-cds-tokens.sqlite`). "
        f"`{NO_STORE}` records nothing; used tokens are then remembered in `var/`.",
        _store,
    ),
    Setting(
        "store_key",
        "",
        "path of a file",
        "The key file of the store, mode 600, one key of 64 hexadecimal digits a line, the newest last. "
        "Without it one is made beside the SQLite file, or in `var/`.",
        _file,
    ),
    Setting(
        "retention_days",
        "0",
        "0 to 36500",
        "Days after which `jaki-cds audit prune` deletes entries and feedback; 0 keeps them.",
        _whole_number(0, 36500),
    ),
    Setting(
        "metrics_port",
        "0",
        "0 to 65535",
        "Port of a listener at 127.0.0.1 for `/metrics`, which is then 404 at the service's own address; "
        "0: no such listener, `/metrics` stands beside the other addresses.",
        _whole_number(0, 65_535),
    ),
)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of ``environment``.

    Raises:
        SettingsError: a value that cannot be used, or a name with our prefix that is no setting (a
            misspelt one would otherwise be ignored in silence).
    """
    known = {setting.variable for setting in SETTINGS}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(f"{name} is not a setting; correct its name (docs/settings.md lists all).")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        try:
            values[setting.field] = setting.read(environment.get(setting.variable, setting.default))
        except ValueError as error:
            raise SettingsError(f"{setting.variable} {error}; allowed: {setting.values}.") from None
    return Settings(**values)


def site_fault(fault: Exception) -> str:
    """A fault of the site file, or of a code map that it names, on one line under the name of the setting."""
    told = f"{fault.filename}: {fault.strerror}." if isinstance(fault, OSError) else str(fault)
    return " ".join(f"{PREFIX}SITE: {told}".split())


def page() -> str:
    """The text of ``docs/settings.md``."""
    rows = [
        f"| `{setting.variable}` | {f'`{setting.default}`' if setting.default else 'none'} "
        f"| {setting.values} | {setting.meaning} |"
        for setting in SETTINGS
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Generated from `cds_service/settings.py` by `make page`; change it there.",
            "",
            "Settings are environment variables, read once at the start. A value that cannot be used,",
            f"or a name with the prefix `{PREFIX}` that is not listed here, stops the start with one line",
            "that says so.",
            "",
            "| variable | default | values | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
