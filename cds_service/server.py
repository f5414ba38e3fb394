"""The service under gunicorn: worker processes of threads, the application loaded once before they fork."""

from __future__ import annotations

import contextlib
import gc
import socket
import sys
import time
from http import HTTPStatus
from typing import Any

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from cds_service import logs
from cds_service.app import SECURITY_HEADERS, create_app
from cds_service.errors import Issue, operation_outcome
from cds_service.json_reader import write_json
from cds_service.metrics import Metrics
from cds_service.settings import Settings
from cds_service.store.store import Store

GRACEFUL_SECONDS = 15
_COLLECT_SECONDS = 1.0
HEADER_SECONDS = 6.0
_MALFORMED = {
    errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "too-long", "The address is too long."),
    errors.LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "too-long",
        "The request has too many or too long header fields.",
    ),
    errors.ExpectationFailed: (
        HTTPStatus.EXPECTATION_FAILED,
        "not-supported",
        "The Expect header asks for something that is not done here; leave it out.",
    ),
    errors.ParseException: (HTTPStatus.BAD_REQUEST, "invalid", "The request is not well-formed HTTP."),
}
_FAILED = (HTTPStatus.INTERNAL_SERVER_ERROR, "exception", "The service failed.")


class Worker(ThreadWorker):
    """gunicorn's worker of threads, which waits for no header for ever and whose refusals quote nothing.

    gunicorn would answer malformed HTTP with a page that repeats the header or the address at fault,
    and an unknown transfer coding with a 5xx; here both are an OperationOutcome.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._awaited: dict[Any, float] = {}
        self._collected = 0.0

    def set_accept_enabled(self, enabled: bool) -> None:
        """At a stop, who has connected already is let in, and nobody after that is kept waiting.

        gunicorn would leave the listener open until its last call is answered; whoever connects meanwhile would
        wait as long and then lose the call.
        """
        super().set_accept_enabled(enabled)
        if self.alive:
            return
        for listener in self.sockets:
            known = -1
            while known != self.nr_conns:
                known = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle(self, conn: Any) -> Any:
        self._awaited[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._awaited.pop(conn, None)

    def handle_request(self, req: object, conn: Any) -> Any:
        self._awaited.pop(conn, None)  # the header is there; the body has a limit of its own
        return super().handle_request(req, conn)

    def notify(self) -> None:
        """Called about once a second: gives up on clients that do not finish their header, and collects cycles.

        gunicorn would wait for ever, one thread for each of them.
        """
        super().notify()
        now = time.monotonic()
        if now - self._collected > _COLLECT_SECONDS:  # under load it is called far more often
            gc.collect()
            self._collected = time.monotonic()
        for conn, since in list(self._awaited.items()):
            if now - since > HEADER_SECONDS:
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)

    def handle_error(self, req: object, client: Any, addr: object, exc: Exception) -> None:
        ours = isinstance(exc, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName)
        kinds = (answer for kind, answer in _MALFORMED.items() if isinstance(exc, kind) and not ours)
        status, code, diagnostics = next(kinds, _FAILED)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("server failed: %s", type(exc).__name__)
        body = write_json(operation_outcome(code, [Issue(diagnostics)]))
        headers = {
            **SECURITY_HEADERS,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{n}: {v}" for n, v in headers.items())]
        try:
            util.write_nonblock(client, "\r\n".join([*lines, "", ""]).encode("ascii") + body)
        except OSError:
            self.log.debug("the client was gone before it could be refused")


class ServerLog(Logger):
    """gunicorn's own lines in the form of ours: JSON, and only their fixed text."""

    def setup(self, cfg: object) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(logs.JsonLines())


class Server(BaseApplication):
    """gunicorn with our settings only: no configuration file, no environment of its own."""

    def __init__(
        self, settings: Settings, host: str, port: int, workers: int, threads: int, store: Store | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._workers = workers
        self._threads = threads
        self._metrics: Metrics | None = None
        super().__init__(prog="jaki-cds")

    def load_config(self) -> None:
        options = {
            "bind": [self._address, *self._metrics_address()],
            "worker_class": Worker,
            "workers": self._workers,
            "threads": self._threads,
            "preload_app": True,
            "graceful_timeout": GRACEFUL_SECONDS,
            "proc_name": "jaki-cds",
            # Else a header of the client's own could set the path that the application sees.
            "forwarder_headers": "",
            "forwarded_allow_ips": "",
            "accesslog": None,
            # Else gunicorn makes a socket for remote control in the home directory.
            "control_socket_disable": True,
            # At lower levels gunicorn quotes what it refuses, and that may hold data of a patient.
            "loglevel": "error",
            "logger_class": ServerLog,
            "when_ready": lambda _arbiter: self._say_ready(),
            "post_fork": lambda _arbiter, worker: self._use_row(worker.age),
            "child_exit": lambda _arbiter, worker: self._leave_row(worker.age),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def _metrics_address(self) -> list[str]:
        """A listener of this machine only, where a setting asks for one."""
        port = self._settings.metrics_port
        return [f"127.0.0.1:{port}"] if port else []

    def load(self) -> Flask:
        logs.configure(self._settings.log_level)
        app = create_app(self._settings, store=self._store)
        self._metrics = app.extensions["jaki_cds_metrics"]
        # What was loaded lives as long as the process: the collector need never look at it again.
        gc.collect()
        gc.freeze()
        # What a call makes is nearly all without cycles. To look for them by the number of its objects would come in
        # the middle of every large call, and cost a tenth of it; the workers look beside the calls.
        gc.disable()
        return app

    def _say_ready(self) -> None:
        mode = "demo mode" if self._settings.demo else "clients authenticated"
        sys.stderr.write(f"jaki-cds listens on http://{self._address} ({mode}); Ctrl-C stops it.\n")
        sys.stderr.flush()

    def _use_row(self, worker: int) -> None:
        if self._metrics is not None:
            self._metrics.use_row(worker)

    def _leave_row(self, worker: int) -> None:
        if self._metrics is not None:
            self._metrics.leave_row(worker)
