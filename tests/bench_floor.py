"""The floor of the benchmark: a Flask application that reads the body and answers one fixed card.

Under the same server and with the same threads as the service: what receiving a call and answering costs, whatever is
done in between. ``python tests/bench_floor.py PORT``
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from flask import Flask, Response, request
from gunicorn.app.base import BaseApplication

CARD = (
    b'{"cards":[{"uuid":"5a1f8a4e-52a4-4a38-8b3d-0f2f3c1f9a10","summary":"A fixed card","indicator":"info",'
    b'"detail":"What a service says that looks at nothing.","source":{"label":"Benchmark"}}]}'
)


def make_app() -> Flask:
    app = Flask("floor", static_folder=None)

    @app.post("/cds-services/<service>")
    def answer(service: str) -> Response:
        request.get_data()
        return Response(CARD, content_type="application/json")

    @app.get("/readyz")
    def ready() -> Response:
        return Response(b"{}", content_type="application/json")

    return app


class Floor(BaseApplication):  # type: ignore[misc]
    def __init__(self, port: int) -> None:
        self._port = port
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": f"127.0.0.1:{self._port}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": 2,
            "preload_app": True,
            "accesslog": None,
            "loglevel": "error",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        app = make_app()
        gc.collect()
        gc.freeze()
        return app


if __name__ == "__main__":
    Floor(int(sys.argv[1])).run()
