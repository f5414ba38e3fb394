"""The files of ``deploy/``: what they promise, and the nginx configuration with a real nginx where one is installed.

``NGINX`` names the program, if it is not on the path.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.engine import make_url
from test_serve import BODY, LIMIT, URL, free_port, running

from cds_service import cli
from cds_service.server import GRACEFUL_SECONDS
from cds_service.settings import read_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
CONFIGURATION = (DEPLOY / "nginx.conf").read_text("utf-8")
NGINX = os.environ.get("NGINX") or shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx is installed")


def test_nginx_speaks_tls_1_2_or_newer() -> None:
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in CONFIGURATION
    assert CONFIGURATION.count("proxy_pass") == 1
    plain = CONFIGURATION.split("listen 80;")[1].split("server {")[0]
    assert "return 403;" in plain and "proxy_pass" not in plain


def test_nginx_has_the_limit_of_the_service_and_takes_requests_in_whole() -> None:
    assert f"client_max_body_size {LIMIT // 1024 // 1024}m;" in CONFIGURATION
    for line in (
        "proxy_request_buffering on;",
        "location = /metrics { return 404; }",
        "proxy_next_upstream off;",
    ):
        assert line in CONFIGURATION


def test_nginx_logs_nothing_of_a_patient() -> None:
    (line,) = [line for line in CONFIGURATION.splitlines() if "log_format" in line]
    for name in (
        "$request ",
        "$request_uri",
        "$args",
        "$uri",
        "$http_referer",
        "$http_authorization",
        "$remote_user",
    ):
        assert name not in line


def test_the_unit_starts_the_service_without_privileges() -> None:
    unit = (DEPLOY / "jaki-cds.service").read_text("utf-8")
    assert "serve --host 127.0.0.1" in unit and "--demo" not in unit
    for line in ("User=jaki-cds", "NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0"):
        assert f"\n{line}\n" in unit


def test_the_containers_publish_nginx_only() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    assert set(services) == {"nginx", "service", "store"}
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert "USER 10001" in image and "--require-hashes" in image and "--demo" not in image


def test_the_image_is_made_of_what_is_there_and_of_nothing_else() -> None:
    """What a linter of Dockerfiles would ask; there is no engine here to build it with."""
    root = DEPLOY.parent
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {"FROM", "WORKDIR", "RUN", "COPY", "USER", "ENV", "EXPOSE", "STOPSIGNAL",
                                           "HEALTHCHECK", "CMD"}  # fmt: skip
    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    supported = {"3.11", "3.12", "3.13"}  # requires-python
    assert all(base.startswith("python:") and base.split(":")[1].split("-")[0] in supported for base in bases)
    ignored = (root / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (root / source).exists() and f"!{source}" in ignored, source
        if word == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest and ("--require-hashes" in rest or "--no-deps" in rest)
        if word in ("CMD", "HEALTHCHECK"):
            assert "[" in rest, "without a shell, so that signals arrive"
    assert [rest for word, rest in steps if word == "USER"] == ["10001"]
    packages = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests"}
    assert packages <= {rest.split()[0] for word, rest in steps if word == "COPY"}


def test_the_parts_of_the_compose_file_fit_together() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    for name, service in services.items():
        assert set(service) <= {"image", "build", "command", "ports", "volumes", "depends_on", "networks", "restart",
                                "env_file", "environment", "read_only", "tmpfs", "cap_drop", "security_opt", "secrets",
                                "stop_grace_period", "healthcheck"}, name  # fmt: skip
        assert ("image" in service) != ("build" in service)
        assert ":" in service.get("image", ":") and not service.get("image", "").endswith(":latest")
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith("./")
        for needed, how in service.get("depends_on", {}).items():
            # The image of the service has its own check.
            assert needed in services and how == {"condition": "service_healthy"}
            assert "healthcheck" in services[needed] or "HEALTHCHECK" in (DEPLOY / "Dockerfile").read_text(
                "utf-8"
            )
    nginx = services["nginx"]
    targets = {volume.split(":")[1] for volume in nginx["volumes"]}
    assert nginx["command"][2] in targets
    assert any(f"ssl_certificate {target}/" in CONFIGURATION for target in targets)
    assert services["service"]["read_only"] and services["service"]["cap_drop"] == ["ALL"]
    assert compose["networks"]["back"] == {"internal": True}, "the store has no way out"
    assert services["store"]["networks"] == ["back"]


def example_environment() -> dict[str, str]:
    lines = (DEPLOY / "environment.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_example_of_the_environment_fits_the_service_and_the_other_files(tmp_path: Path) -> None:
    environment = example_environment()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    assert compose["service"]["env_file"] == "environment", "where the example is copied to"
    mounted = [volume.split(":")[1] for volume in compose["service"]["volumes"]]
    assert environment["JAKI_CDS_CLIENTS"] in mounted
    store, database = make_url(environment["JAKI_CDS_STORE"]), compose["store"]["environment"]
    assert (store.host, store.username, store.database) == (
        *("store", database["POSTGRES_USER"]),
        database["POSTGRES_DB"],
    )
    assert f"server_name {environment['JAKI_CDS_PUBLIC_BASE_URL'].removeprefix('https://')};" in CONFIGURATION
    clients = tmp_path / "clients.yaml"
    clients.write_text("clients: []")
    settings = read_settings(environment | {"JAKI_CDS_CLIENTS": str(clients)})
    assert not settings.demo and settings.store.startswith("postgresql")


def test_commands_and_ports_are_those_of_the_service() -> None:
    """What the unit and the image start is understood by the command line; nginx and the health check ask its port."""
    unit = (DEPLOY / "jaki-cds.service").read_text("utf-8")
    (started,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    image = (DEPLOY / "Dockerfile").read_text("utf-8")
    (command,) = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    for words in (started.split(), json.loads(command)):
        assert Path(words[0]).name == "jaki-cds"
        options = cli._parser().parse_args(words[1:])
        assert options.port == 8000
    assert "server 127.0.0.1:8000;" in CONFIGURATION
    assert "EXPOSE 8000" in image and "http://127.0.0.1:8000/healthz" in image
    stop = int(re.findall("^TimeoutStopSec=(.*)$", unit, re.MULTILINE)[0])
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["service"]
    assert stop > GRACEFUL_SECONDS and compose["stop_grace_period"] == f"{stop}s"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd is installed")
def test_systemd_understands_each_line_of_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "jaki-cds.service").read_text("utf-8")
    copy = tmp_path / "jaki-cds.service"
    copy.write_text(unit.replace("/opt/jaki-cds/.venv/bin/jaki-cds", sys.executable), "utf-8")
    told = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


# --- with nginx -----------------------------------------------------------------------------------


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture(scope="module")
def tls_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The shipped configuration with other ports and paths, before a service of its own."""
    assert NGINX is not None
    folder = tmp_path_factory.mktemp("nginx")
    certificate(folder)
    with running("--demo", "--workers", "2") as (_, port):
        plain, tls = free_port(), free_port()
        text = CONFIGURATION
        for old, new in (
            ("listen 80;", f"listen 127.0.0.1:{plain};"),
            ("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
            ("server 127.0.0.1:8000;", f"server 127.0.0.1:{port};"),
            ("/etc/jaki-cds/tls/", f"{folder}/"),
            ("/run/jaki-cds-nginx.pid", f"{folder}/pid"),
            ("access_log /dev/stdout plain", f"access_log {folder}/access plain"),
            ("error_log stderr warn;", f"error_log {folder}/errors warn; daemon off;"),
            # So many come from one address in this test only.
            ("limit_conn connections 100;", "limit_conn connections 1000;"),
        ):
            assert old in text
            text = text.replace(old, new)
        for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            text = text.replace("http {", f"http {{\n    {part}_temp_path {folder}/{part};", 1)
        (folder / "nginx.conf").write_text(text, "utf-8")
        process = subprocess.Popen(
            [NGINX, "-e", f"{folder}/errors", "-p", str(folder), "-c", f"{folder}/nginx.conf"]
        )
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", tls)) == 0:
                        break
                time.sleep(0.05)
            yield tls
        finally:
            process.terminate()
            process.wait(10)


def connect(port: int) -> http.client.HTTPSConnection:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)


def ask(port: int, method: str, path: str, body: bytes | Iterator[bytes] | None = None) -> tuple[int, bytes]:
    connection = connect(port)
    try:
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, path, body, {"Content-Type": "application/json"}, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.slow
@needs_nginx
def test_calls_pass_and_operators_pages_do_not(tls_port: int) -> None:
    raw = json.dumps(BODY).encode()
    assert ask(tls_port, "POST", URL, raw)[0] == 200
    assert ask(tls_port, "POST", URL, iter([raw[:40], raw[40:]]))[0] == 200  # nginx gives it a length
    assert ask(tls_port, "GET", "/healthz") == (200, b'{"status":"ok"}')
    for path in ("/metrics", "/readyz"):
        status, body = ask(tls_port, "GET", path)
        assert (status, json.loads(body)["resourceType"]) == (404, "OperationOutcome")
    for path in (
        "//metrics",
        "/%6detrics",
        "/metrics?x",
        "/./metrics",
        "/a/../metrics",
        "/metrics/",
        "/metrics;x",
    ):
        status, body = ask(tls_port, "GET", path)
        assert (status in (308, 400, 404), b"jaki_cds_requests" in body) == (True, False), path
    status, body = ask(tls_port, "POST", URL, raw.ljust(LIMIT + 1))
    assert (status, json.loads(body)["resourceType"]) == (413, "OperationOutcome")


@pytest.mark.slow
@needs_nginx
def test_old_tls_is_refused(tls_port: int) -> None:
    for version, taken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", tls_port), timeout=5) as connection:
            expected = contextlib.nullcontext() if taken else pytest.raises((ssl.SSLError, OSError))
            with expected:
                context.wrap_socket(connection).close()


@pytest.mark.slow
@needs_nginx
def test_http_10_two_hundred_stalled_connections_do_not_stop_good_calls(tls_port: int) -> None:
    """Half of them stall in the header, half in the body."""
    stalled = []
    try:
        for number in range(200):
            connection = connect(tls_port)
            connection.connect()
            head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sock.sendall((head + ("Content-Length: 500\r\n\r\n{" if number % 2 else "")).encode())
            stalled.append(connection)
        raw = json.dumps(BODY).encode()
        calls, checks = [], []
        for _ in range(20):
            start = time.monotonic()
            assert ask(tls_port, "POST", URL, raw)[0] == 200
            calls.append(time.monotonic() - start)
            start = time.monotonic()
            assert ask(tls_port, "GET", "/healthz")[0] == 200
            checks.append(time.monotonic() - start)
        assert sorted(calls)[18] <= 0.5
        assert sorted(checks)[18] <= 0.2
    finally:
        for connection in stalled:
            connection.close()
