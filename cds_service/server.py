"""The service under gunicorn: worker processes of threads, the application loaded once before they fork."""

from __future__ import annotations

import gc
import sys

from flask import Flask
from gunicorn.app.base import BaseApplication

from cds_service import logs
from cds_service.app import create_app
from cds_service.metrics import Metrics
from cds_service.settings import Settings
from cds_service.store.store import Store

GRACEFUL_SECONDS = 15


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
            "bind": self._address,
            "worker_class": "gthread",
            "workers": self._workers,
            "threads": self._threads,
            "preload_app": True,
            "graceful_timeout": GRACEFUL_SECONDS,
            "proc_name": "jaki-cds",
            "accesslog": None,
            # Else gunicorn makes a socket for remote control in the home directory.
            "control_socket_disable": True,
            # At lower levels gunicorn quotes what it refuses, and that may hold data of a patient.
            "loglevel": "error",
            "when_ready": lambda _arbiter: self._say_ready(),
            "post_fork": lambda _arbiter, worker: self._use_row(worker.age),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        logs.configure(self._settings.log_level)
        app = create_app(self._settings, store=self._store)
        self._metrics = app.extensions["jaki_cds_metrics"]
        # What was loaded lives as long as the process: the collector need never look at it again.
        gc.collect()
        gc.freeze()
        return app

    def _say_ready(self) -> None:
        mode = "demo mode" if self._settings.demo else "clients authenticated"
        sys.stderr.write(f"jaki-cds listens on http://{self._address} ({mode}); Ctrl-C stops it.\n")
        sys.stderr.flush()

    def _use_row(self, worker: int) -> None:
        if self._metrics is not None:
            self._metrics.use_row(worker)
