"""The command ``jaki-cds`` (contract section 1)."""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cds_service.settings import Settings
    from cds_service.store.store import Store

USAGE_ERROR = 2
# subcommand -> module whose main(args) runs it and returns the exit status
ELSEWHERE = {
    "replay": ("cds_service.replay", "replay sample cases and show cards or differences"),
    "explain": ("cds_service.explain", "show the facts of a request and every row tried on them"),
    "audit": ("cds_service.store.cli", "the record of what was said: verify, explain, export, prune"),
    "feedback": ("cds_service.store.feedback", "what became of the cards: report"),
    "plot": ("cds_service.workbench.plot", "draw the pictures of a request as SVG or PNG"),
    "sample": (
        "cds_service.sample_command",
        "make a sample case from a patient's record, identifiers replaced",
    ),
    "token": ("cds_service.token_command", "make keys and tokens for a test; say why one is refused"),
    "lint": ("guideline.lint", "check the guideline tables"),
}


class CommandError(Exception):
    """A command that cannot run; the text is the one line that the user reads."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ELSEWHERE:
        module = importlib.import_module(ELSEWHERE[words[0]][0])
        try:
            return int(module.main(words[1:]) or 0)
        except BrokenPipeError:  # whoever read the output has seen enough (| head)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return USAGE_ERROR
    options = _parser().parse_args(words)
    try:
        return serve(options)
    except CommandError as error:
        print(f"jaki-cds: {error}", file=sys.stderr)
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaki-cds", description="JAK inhibitor doses for children, as CDS Hooks."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    server = commands.add_parser("serve", help="run the service", description="Runs the service.")
    server.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    server.add_argument(
        "--port", type=_Number(1, 65535), default=8000, help="port to listen on (default: %(default)s)"
    )
    server.add_argument(
        "--workers", type=_Number(1, 64), default=2, help="worker processes (default: %(default)s)"
    )
    server.add_argument(
        "--threads", type=_Number(1, 256), default=8, help="threads each (default: %(default)s)"
    )
    server.add_argument(
        "--demo", action="store_true", help="loopback only, no client authentication, asOf allowed"
    )
    for name, (_, purpose) in ELSEWHERE.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser


class _Number:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __call__(self, text: str) -> int:
        if not text.isascii() or not text.isdigit() or not self.low <= int(text) <= self.high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {self.low} to {self.high}")
        return int(text)


def serve(options: argparse.Namespace) -> int:
    """Runs the service under gunicorn until SIGTERM or Ctrl-C.

    Raises:
        CommandError: a setting, address or port with which it must not or cannot start.
    """
    from cds_service.settings import SettingsError, read_settings

    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        raise CommandError(str(error)) from None
    settings = replace(settings, demo=settings.demo or options.demo)
    if settings.demo and not _is_loopback(options.host):
        raise CommandError(
            "demo mode asks no client who it is, so it listens on loopback only; "
            "use --host 127.0.0.1 or leave it out."
        )
    _check_site(settings)
    _check_clients(settings, options.host)
    _check_free(options.host, options.port)

    from cds_service.server import Server

    store = open_store(settings)
    Server(settings, options.host, options.port, options.workers, options.threads, store).run()
    return 0


def _check_site(settings: Settings) -> None:
    """The site file and the code maps that it names can be used; a fault stops the start on one line."""
    from cds_service.settings import site_fault
    from fhir_mappings.site_codes import load_site_codes
    from guideline.policy import load_policy
    from guideline.yaml_text import YamlFault

    try:
        load_policy(settings.site)
        load_site_codes(settings.site)
    except (YamlFault, OSError) as fault:
        raise CommandError(site_fault(fault)) from None


def open_store(settings: Settings) -> Store | None:
    """The store, its tables brought up to date. In demo mode the service also runs where none can be had.

    Raises:
        CommandError: a URL or key file that cannot be used. A database that only does not answer is none: the
            service starts, is not ready, and writes to the spool.
    """
    from cds_service.store.database import StoreFault
    from cds_service.store.keys import KeyFault
    from cds_service.store.store import Store

    try:
        store = Store.open(settings)
    except (StoreFault, KeyFault, OSError) as fault:
        why = f"{fault.filename}: {fault.strerror}" if isinstance(fault, OSError) else fault
        if not settings.demo:
            raise CommandError(
                f"the store cannot be used: {why}; set JAKI_CDS_STORE and JAKI_CDS_STORE_KEY."
            ) from None
        print(f"jaki-cds: nothing is recorded: {why}", file=sys.stderr)
        return None
    if store is not None:
        if not store.is_ready():
            print("jaki-cds: the store does not answer; entries go to its spool.", file=sys.stderr)
        store.database.close()  # the workers make connections of their own
    return store


def _check_clients(settings: Settings, host: str) -> None:
    """Whoever may call is configured, and what the service must remember of them can be stored."""
    from cds_service.clients import ClientsFault, load_clients
    from cds_service.replay_guard import GuardUnavailable, ReplayGuard

    if settings.demo and settings.clients is None:
        return
    if settings.clients is None:
        raise CommandError(
            "no client is configured, so nobody could call the service; name a file of clients in "
            "JAKI_CDS_CLIENTS (docs/connecting.md), or use --demo to try the service on this machine."
        )
    if settings.log_level == "debug" and not _is_loopback(host):
        raise CommandError(
            "JAKI_CDS_LOG_LEVEL is debug, which is for this machine only; use info, or --host 127.0.0.1."
        )
    try:
        load_clients(settings)
    except ClientsFault as fault:
        raise CommandError(str(fault)) from None
    if settings.demo:
        return
    guard = ReplayGuard(settings.token_store)
    try:
        guard.check()
    except GuardUnavailable as fault:
        raise CommandError(
            f"the database of JAKI_CDS_STORE cannot be used ({fault}); "
            "check its address, that it runs, and that this user may write there."
        ) from None
    finally:
        guard.close()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    """One clear line instead of the server's retries."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}; "
                "choose another with --port."
            ) from None


if __name__ == "__main__":
    sys.exit(main())
