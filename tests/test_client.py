"""The guarded FHIR client: what it refuses to call, what a bad server can do to it, what it sends.

The targets FETCH-1 to FETCH-9 and SSRF-1 to SSRF-7 stand in the names of their tests, some of them in
``test_supply.py``, ``test_mapping_states.py`` and ``test_mapping_ehr.py``.

Guards of the connection are tested against real servers on this machine (`fault_servers`), for
``responses`` replaces the very part that holds them; it serves only to count attempts.
"""

from __future__ import annotations

import gc
import ipaddress
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fault_servers as faults
import pytest
import requests
import responses
from fault_servers import Server, answer, resources
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fhir_mappings.client import Breaker, Fetched, FetchPolicy, FetchState, FhirClient
from fhir_mappings.client.addresses import Peers
from fhir_mappings.client.connection import Secret

OK, NOT_FETCHABLE = FetchState.OK, FetchState.NOT_FETCHABLE
FAILED, NOT_FOUND = FetchState.FAILED, FetchState.NOT_FOUND

DEMO = FetchPolicy(allow_loopback=True, allow_http=True)
QUICK = FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=400, attempt_ms=250)
HOSPITAL = FetchPolicy(allowed_bases=("https://ehr.example/fhir",))

SEARCH = "Observation?patient=p1&code=http://loinc.org|751-8"
EMPTY_BUNDLE = {"resourceType": "Bundle", "type": "searchset"}
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}


def client(policy: FetchPolicy = DEMO, **options: Any) -> FhirClient:
    return FhirClient(policy, json.loads, **options)


def one(
    server: Server, query: str = SEARCH, policy: FetchPolicy = QUICK, token: str | None = None
) -> Fetched:
    return client(policy).fetch_all(server.base, token, {"key": query})["key"]


def bundle(*ids: str, following: str | None = None) -> dict[str, Any]:
    links = [{"relation": "self", "url": "ignored"}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    entries = [{"resource": {"resourceType": "Observation", "id": id}} for id in ids]
    return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


def ids(fetched: Fetched) -> list[str]:
    assert fetched.body is not None, fetched.why
    return [entry["resource"]["id"] for entry in fetched.body.get("entry", [])]


@pytest.fixture
def silent_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """No name is looked up and no socket connected; returns the attempts."""
    attempts: list[object] = []

    def forbidden(*args: object, **_options: object) -> None:
        attempts.append(args)
        raise OSError("the test allows no network")

    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    return attempts


def test_every_target_has_a_test_that_bears_its_name() -> None:
    every = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    targets = [f"fetch_{number}" for number in range(1, 10)] + [f"ssrf_{number}" for number in range(1, 8)]
    assert [target for target in targets if f"\ndef test_{target}_" not in every] == []


# --- Which bases may be called ----------------------------------------------------------------------

HOSTILE = [
    # no FHIR base at all
    "", " ", "ehr.example/fhir", "//ehr.example/fhir", "https:/ehr.example/fhir", "https:///fhir", "https://",
    "file:///etc/passwd", "ftp://ehr.example/fhir", "gopher://ehr.example/fhir", "javascript:alert(1)",
    "data:text/plain,x", "unix:///var/run/docker.sock", "jar:https://ehr.example/fhir!/",
    # plain HTTP (finding: HAPI issue 6805)
    "http://ehr.example/fhir", "http://ehr.example:443/fhir", "HTTP://EHR.EXAMPLE/fhir",
    # user info
    "https://ehr.example@evil.example/fhir", "https://user:secret@ehr.example/fhir", "https://@ehr.example/fhir",
    "https://ehr.example%40evil.example/fhir", "https://ehr.example:443@evil.example/fhir",
    # backslashes, on which URL readers disagree
    "https://evil.example\\@ehr.example/fhir", "https://ehr.example\\.evil.example/fhir",
    "https:\\\\ehr.example\\fhir", "https://ehr.example/fhir\\..\\admin",
    # other host, or a host that only looks alike
    "https://evil.example/fhir", "https://ehr.example.evil.example/fhir", "https://evil-ehr.example/fhir",
    "https://ehr.example./fhir", "https://.ehr.example/fhir", "https://ehr..example/fhir",
    "https://ehr.exampleevil/fhir", "https://xn--hr-7ja.example/fhir", "https://\u0435hr.example/fhir",
    "https://\uff45hr.example/fhir", "https://ehr\u3002example/fhir", "https://ehr.example\u2024evil/fhir",
    "https://ehr_example/fhir", "https://-ehr.example/fhir",
    # ports
    "https://ehr.example:8443/fhir", "https://ehr.example:/fhir", "https://ehr.example:0/fhir",
    "https://ehr.example:0443/fhir", "https://ehr.example:+443/fhir", "https://ehr.example:99999/fhir",
    "https://ehr.example:443:443/fhir", "https://ehr.example:80443/fhir", "https://ehr.example:\u0664\u0664\u0663/fhir",
    # path: above, beside, dot segments, coded separators, empty segments, parameters
    "https://ehr.example", "https://ehr.example/", "https://ehr.example/fhirx", "https://ehr.example/FHIR",
    "https://ehr.example/fhir/../admin", "https://ehr.example/fhir/..", "https://ehr.example/fhir/./x",
    "https://ehr.example/fhir/%2e%2e/admin", "https://ehr.example/fhir/.%2E/admin",
    "https://ehr.example/fhir%2fadmin", "https://ehr.example/fhir/%2F..", "https://ehr.example/fhir/%5c..",
    "https://ehr.example/fhir/%252e%252e/x", "https://ehr.example/fhir/%00", "https://ehr.example/fhir/%zz",
    "https://ehr.example//fhir", "https://ehr.example/fhir//x", "https://ehr.example/fhir/..;/admin",
    # query, fragment, control characters and spaces
    "https://ehr.example/fhir?x=1", "https://ehr.example/fhir?", "https://ehr.example/fhir#x",
    "https://ehr.example/fhir#", "https://evil.example#@ehr.example/fhir", "https://evil.example?@ehr.example/fhir",
    "https://ehr.example/fhir\r\nX-Evil: 1", "https://ehr.example/fhir\n", "\thttps://ehr.example/fhir",
    " https://ehr.example/fhir", "https://ehr.example /fhir", "https://ehr.example/fhir ", "https://ehr.example\x00/fhir",
    "https://ehr.example/fhir/" + "x" * 2048,
    # addresses of this machine, the cloud and private networks, in all their spellings
    "https://127.0.0.1/fhir", "https://localhost/fhir", "https://2130706433/fhir", "https://0x7f000001/fhir",
    "https://0x7f.1/fhir", "https://0177.0.0.1/fhir", "https://127.1/fhir", "https://127.0.0.1./fhir",
    "https://0/fhir", "https://0.0.0.0/fhir", "https://[::1]/fhir", "https://[::]/fhir", "https://[::ffff:127.0.0.1]/fhir",
    "https://[0:0:0:0:0:ffff:7f00:1]/fhir", "https://[::127.0.0.1]/fhir", "https://[64:ff9b::7f00:1]/fhir",
    "https://[2002:7f00:1::]/fhir", "https://[fe80::1%25eth0]/fhir", "https://[fe80::1]/fhir", "https://[::1/fhir",
    "https://169.254.169.254/fhir", "https://[fd00:ec2::254]/fhir", "https://metadata.google.internal/fhir",
    "https://10.0.0.1/fhir", "https://192.168.1.1/fhir", "https://127.0.0.1.nip.io/fhir",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE, ids=ascii)
def test_ssrf_1_a_hostile_base_is_refused_before_anything_is_looked_up(
    url: str, silent_network: list[object]
) -> None:
    hospital = client(HOSPITAL)
    fetched = hospital.fetch_all(url, "token", {"patient": "Patient/p1"})
    assert not hospital.permits(url)
    assert fetched["patient"].state is NOT_FETCHABLE
    next_page = {"next": f"{url}/Observation?page=2"}
    assert hospital.fetch_all(url, "token", next_page)["next"].state is NOT_FETCHABLE
    assert silent_network == []


def test_ssrf_1_the_table_of_hostile_bases_is_long_enough() -> None:
    assert len(set(HOSTILE)) >= 50


@pytest.mark.parametrize(
    "url",
    [
        "https://ehr.example/fhir",
        "https://ehr.example/fhir/",
        "https://ehr.example:443/fhir",
        "HTTPS://EHR.Example/fhir",
        "https://ehr.example/fhir/tenant-1",
        "https://ehr.example/fhir/a%20b",
    ],
)
def test_ssrf_2_a_base_at_or_below_the_listed_one_is_permitted(url: str) -> None:
    assert client(HOSPITAL).permits(url)


@pytest.mark.parametrize(
    ("url", "permitted"),
    [
        ("http://127.0.0.1:8080/fhir", True),
        ("http://localhost:8080", True),
        ("http://localhost/r4/", True),
        ("http://LOCALHOST:65535/r4", True),
        ("https://localhost:8080/fhir", False),
        ("http://127.0.0.2:8080/fhir", False),
        ("http://[::1]:8080/fhir", False),
        ("http://localhost.evil.example/fhir", False),
        ("http://localhost:65536/fhir", False),
        ("http://0.0.0.0:8080/fhir", False),
        ("http://user@localhost:8080/fhir", False),
        ("http://127.1:8080/fhir", False),
        ("http://2130706433:8080/fhir", False),
        ("https://ehr.example/fhir", False),
        ("http://169.254.169.254/latest", False),
    ],
)
def test_ssrf_6_demo_mode_permits_plain_http_to_this_machine_and_nothing_else(
    url: str, permitted: bool
) -> None:
    assert client(DEMO).permits(url) is permitted


PLAIN = ("http://ehr.example/fhir", "http://127.0.0.1/fhir", "http://localhost:8080", "HTTP://[::1]/fhir")


@pytest.mark.parametrize("url", PLAIN)
@pytest.mark.parametrize(
    "policy",
    [HOSPITAL, FetchPolicy(allow_http=True), FetchPolicy(HOSPITAL.allowed_bases, allow_loopback=True)],
    ids=["a hospital", "http without loopback", "loopback without http"],
)
def test_ssrf_6_plain_http_is_refused_outside_demo_mode(
    policy: FetchPolicy, url: str, silent_network: list[object]
) -> None:
    assert not client(policy).permits(url)
    assert client(policy).fetch_all(url, "token", {"key": SEARCH})["key"].state is NOT_FETCHABLE
    assert silent_network == []


def test_ssrf_2_the_list_of_one_client_permits_nothing_to_another() -> None:
    own, others = client(HOSPITAL), client(FetchPolicy(allowed_bases=("https://other.example/fhir",)))
    assert own.permits("https://ehr.example/fhir") and not own.permits("https://other.example/fhir")
    assert others.permits("https://other.example/fhir") and not others.permits("https://ehr.example/fhir")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 24),
            st.integers(0, 3),
            st.text("ehr.example/fhir:@\\?#%25[]0 \n\u3002-", max_size=4),
        ),
        max_size=4,
    )
)
@settings(max_examples=settings.default.max_examples * 3)
def test_ssrf_2_whatever_is_permitted_has_the_listed_origin_and_path(
    edits: list[tuple[int, int, str]],
) -> None:
    url = "https://ehr.example/fhir"
    for at, removed, inserted in edits:
        url = url[:at] + inserted + url[at + removed :]
    if client_of_the_hospital.permits(url):
        parts = urlsplit(url)
        assert (parts.scheme, parts.hostname, parts.port or 443) == ("https", "ehr.example", 443)
        assert parts.path.rstrip("/") == "/fhir" or parts.path.startswith("/fhir/")
        assert (parts.username, parts.query, parts.fragment) == (None, "", "")


client_of_the_hospital = client(HOSPITAL)


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        (FetchPolicy(allowed_bases=("http://ehr.example/fhir",)), "allowed_bases"),
        (FetchPolicy(allowed_bases=("https://10.1.2.3/fhir",)), "allowed_bases"),
        (FetchPolicy(networks=("10.0.0.1/8",)), "networks"),
        (FetchPolicy(networks=("hospital",)), "networks"),
        (FetchPolicy(allowed_bases=HOSPITAL.allowed_bases, ca_file="no-such-file.pem"), "ca_file"),
        (FetchPolicy(max_pages=0), "max_pages"),
    ],
)
def test_a_policy_that_cannot_be_used_says_which_part_and_the_cure(policy: FetchPolicy, place: str) -> None:
    with pytest.raises(ValueError, match=rf"^{place}: .*(write|name) "):
        client(policy)


# --- Which peers may be connected to ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "plain", "loopback", "network"),
    [
        # address, permitted by default, with allow_loopback, with networks 10.0.0.0/8 and fd00::/8
        ("93.184.216.34", True, True, True),
        ("2606:4700::1111", True, True, True),
        ("64:ff9b::5db8:d822", True, True, True),  # NAT64 of a public address
        ("127.0.0.1", False, True, False),
        ("127.9.9.9", False, True, False),
        ("::1", False, True, False),
        ("::ffff:127.0.0.1", False, True, False),
        ("64:ff9b::7f00:1", False, True, False),
        ("10.1.2.3", False, False, True),
        ("::ffff:10.1.2.3", False, False, True),
        ("fd12::1", False, False, True),
        ("192.168.1.1", False, False, False),
        ("172.16.0.1", False, False, False),
        ("100.64.0.1", False, False, False),
        ("169.254.169.254", False, False, False),
        ("::ffff:169.254.169.254", False, False, False),
        ("64:ff9b::a9fe:a9fe", False, False, False),
        ("fe80::1", False, False, False),
        ("fd00:ec2::254", False, False, False),
        ("100.100.100.200", False, False, False),
        ("168.63.129.16", False, False, False),
        ("0.0.0.0", False, False, False),
        ("0.1.2.3", False, False, False),
        ("::", False, False, False),
        ("::127.0.0.1", False, False, False),
        ("224.0.0.1", False, False, False),
        ("ff02::1", False, False, False),
        ("255.255.255.255", False, False, False),
        ("192.0.0.8", False, False, False),
        ("192.88.99.1", False, False, False),
        ("2002:7f00:1::", False, False, False),
        ("2001:0:7f00:1::", False, False, False),
        ("64:ff9b:1::7f00:1", False, False, False),
    ],
)
def test_ssrf_3_permitted_peer_addresses(address: str, plain: bool, loopback: bool, network: bool) -> None:
    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    peer = ipaddress.ip_address(address)
    assert Peers(False, ()).permit(peer) is plain
    assert Peers(True, ()).permit(peer) is loopback
    assert Peers(False, networks).permit(peer) is network


def resolve_to(monkeypatch: pytest.MonkeyPatch, *peers: tuple[str, int]) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", peer) for peer in peers]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)


def test_ssrf_3_a_listed_name_that_resolves_to_this_machine_gets_no_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        resolve_to(monkeypatch, ("127.0.0.1", server.port))
        fetched = client(HOSPITAL).fetch_all("https://ehr.example/fhir", "token", {"key": SEARCH})["key"]
        assert fetched == Fetched(NOT_FETCHABLE, why="the server's network address is not permitted")
        assert (server.connections, server.received) == (0, 0)


def test_ssrf_3_localhost_that_resolves_elsewhere_gets_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demo mode sends plain HTTP; a poisoned hosts file must not turn that to another machine."""
    dialled: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _socket, peer: dialled.append(peer))
    resolve_to(monkeypatch, ("93.184.216.34", 80), ("10.0.0.1", 80))
    fetched = client(DEMO).fetch_all("http://localhost:8080/fhir", None, {"key": SEARCH})["key"]
    assert fetched.why == "the server's network address is not permitted"
    assert dialled == []


def test_ssrf_3_forbidden_addresses_are_passed_over_for_a_permitted_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        resolve_to(monkeypatch, ("169.254.169.254", 80), ("127.0.0.1", server.port))
        assert client(DEMO).fetch_all("http://localhost:1/fhir", None, {"key": SEARCH})["key"].state is OK


# --- What is asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("Patient/p1", "/fhir/Patient/p1"),
        ("Patient/p1?_elements=birthDate", "/fhir/Patient/p1?_elements=birthDate"),
        ("Medication/m1/_history/3", "/fhir/Medication/m1/_history/3"),
        (SEARCH, "/fhir/Observation?patient=p1&code=http://loinc.org%7C751-8"),
        (
            "Observation?code=a|1,b|2&date=ge2026-01-01",
            "/fhir/Observation?code=a%7C1,b%7C2&date=ge2026-01-01",
        ),
        ("Observation?code=a%7C1", "/fhir/Observation?code=a%7C1"),
        ("Observation?x=100%&y=%2", "/fhir/Observation?x=100%25&y=%252"),
        ('Condition?x="a b"#c', "/fhir/Condition?x=%22a%20b%22%23c"),
        ("Observation?x=\u00b5g", "/fhir/Observation?x=%C2%B5g"),
    ],
)
def test_the_query_is_sent_as_given_but_encoded(query: str, line: str) -> None:
    with Server(answer(404)) as server:
        one(server, query)
        assert [head.split(" ")[1] for head in server.heads] == [line]


@pytest.mark.parametrize(
    "query",
    [
        "", "Observation", "?_type=Patient", "/Patient/p1", "../admin", "Patient/..", "Patient/.",
        "Patient/p1/..",
        "Patient/p1/$everything", "Observation/$lastn?x=1", "Patient/p1/Observation?x=1", "Patient/a%2fb",
        "Patient/" + "x" * 65, "Patient/p1\r\nX-Evil: 1", "Observation?x=\n", "Observation?x=\ud800",
        "metadata/x/y", "//evil.example/Patient/p1", "https://evil.example/fhir/Patient/p1", "Patient\\p1",
    ],
    ids=ascii,
)  # fmt: skip
def test_only_reads_and_type_level_searches_are_sent(query: str) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        assert one(server, query).state is NOT_FETCHABLE
        assert server.connections == 0


def test_headers_of_a_request() -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        one(server, token="abc.def")
        lines = {name.lower(): value for name, _, value in (
            line.partition(": ") for line in server.heads[0].strip().split("\r\n")[1:]
        )}  # fmt: skip
        assert lines == {
            "host": f"127.0.0.1:{server.port}",
            "accept": "application/fhir+json",
            "accept-encoding": "gzip",
            "authorization": "Bearer abc.def",
            "user-agent": "jaki-cds",
        }


def test_ssrf_5_proxies_netrc_and_other_variables_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "no-such-file"))
    with Server(answer(200, EMPTY_BUNDLE)) as proxy, Server(answer(200, EMPTY_BUNDLE)) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        # The environment would act: without the guards, requests takes the login of the file.
        assert requests.utils.get_netrc_auth(server.base) == ("eve", "secret")
        assert one(server).state is OK
        assert one(server, token="abc").state is OK
        assert (proxy.connections, server.connections) == (0, 2)
        assert "Authorization" not in server.heads[0]
        assert "Authorization: Bearer abc\r\n" in server.heads[1]


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "\u00e9", "x" * 20_000], ids=ascii)
def test_fetch_9_a_token_that_cannot_be_a_header_is_not_sent(token: str) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        assert one(server, token=token).state is NOT_FETCHABLE
        assert server.connections == 0


# --- What an answer means ---------------------------------------------------------------------------

PATIENT = {"resourceType": "Patient", "id": "p1"}
READ = "Patient/p1"


@pytest.mark.parametrize(
    ("query", "behaviour", "state", "why"),
    [
        (READ, answer(200, PATIENT), OK, None),
        (READ, answer(200, PATIENT, Content_Type="application/json; charset=utf-8"), OK, None),
        (READ, answer(200, {"resourceType": "Patient"}), OK, None),
        (SEARCH, answer(200, EMPTY_BUNDLE), OK, None),
        (READ, answer(404), NOT_FOUND, "the resource does not exist"),
        (READ, answer(410), NOT_FOUND, "the resource does not exist"),
        (SEARCH, answer(404), FAILED, "HTTP status 404"),
        (READ, answer(401), FAILED, "HTTP status 401"),
        (READ, answer(403), FAILED, "HTTP status 403"),
        (READ, answer(204), FAILED, "HTTP status 204"),
        (SEARCH, answer(400, OUTCOME), FAILED, "HTTP status 400"),
        (SEARCH, answer(429, Retry_After="3600"), FAILED, "HTTP status 429"),
        (SEARCH, answer(500), FAILED, "HTTP status 500"),
        (SEARCH, answer(503, Retry_After="3600"), FAILED, "HTTP status 503"),
        (SEARCH, answer(200, OUTCOME), FAILED, "OperationOutcome"),
        (SEARCH, answer(200, {"resourceType": "OperationOutcome"}), FAILED, "OperationOutcome"),
        (SEARCH, answer(200, EMPTY_BUNDLE | {"entry": [{"resource": OUTCOME}]}), FAILED, "OperationOutcome"),
        (SEARCH, answer(200, PATIENT), FAILED, "another resource type"),
        (READ, answer(200, EMPTY_BUNDLE), FAILED, "another resource type"),
        (READ, answer(200, {"resourceType": "Patient", "id": "p2"}), FAILED, "another resource"),
        (READ, answer(200, "<html>Log in</html>", Content_Type="text/html"), FAILED, "not FHIR JSON"),
        (READ, answer(200, "<html>Log in</html>"), FAILED, "not FHIR JSON"),
        (READ, answer(200, ""), FAILED, "not FHIR JSON"),
        (READ, answer(200, "[1]"), FAILED, "not FHIR JSON"),
        (READ, answer(200, {"id": "p1"}), FAILED, "not FHIR JSON"),
        (SEARCH, answer(200, EMPTY_BUNDLE | {"entry": {}}), FAILED, "not FHIR JSON"),
        (SEARCH, answer(200, EMPTY_BUNDLE | {"link": {"relation": "next"}}), FAILED, "not FHIR JSON"),
        (SEARCH, answer(200, EMPTY_BUNDLE, Content_Encoding="gzip"), FAILED, "not FHIR JSON"),
        (SEARCH, answer(200, EMPTY_BUNDLE, Content_Encoding="br"), FAILED, "not FHIR JSON"),
        (SEARCH, faults.truncate, FAILED, "broke off"),
        (SEARCH, faults.truncate_chunked, FAILED, "broke off"),
        (SEARCH, faults.reset_midway, FAILED, "broke off"),
        (SEARCH, faults.reset, NOT_FETCHABLE, "no connection"),
        (SEARCH, faults.hang, NOT_FETCHABLE, "in time"),
        (SEARCH, faults.endless, FAILED, "too large"),
    ],
)  # fmt: skip
def test_state_and_reason_of_an_answer(
    query: str, behaviour: faults.Behaviour, state: FetchState, why: str | None
) -> None:
    with Server(behaviour) as server:
        fetched = one(server, query, DEMO if behaviour is faults.endless else QUICK)
    assert fetched.state is state, fetched.why
    assert (fetched.body is not None) is (state is OK)
    assert fetched.partial is False
    assert (fetched.why or "").find(why or "") >= 0
    assert (fetched.why is None) is (state is OK)


def test_an_outcome_that_only_warns_is_handed_on_as_it_came() -> None:
    warning = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "not-found"}]}
    with Server(answer(200, warning)) as server:
        assert one(server) == Fetched(OK, warning)


def test_no_server_at_all() -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as server:
        base = server.base
    assert client(QUICK).fetch_all(base, None, {"key": SEARCH})["key"].why == "no connection to the server"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_ssrf_4_redirects_are_not_followed_and_their_body_is_not_read(status: int) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as other:
        redirect = answer(status, "x", Location=f"{other.base}/{SEARCH}", Content_Length="999999")
        with Server(redirect) as server:
            assert one(server, token="abc").why == f"the server answered with HTTP status {status}"
        assert other.connections == 0


def test_any_exception_of_the_json_reader_is_a_failed_key() -> None:
    def reader(_raw: bytes) -> object:
        raise RecursionError("Erika Mustermann")

    with Server(answer(200, PATIENT)) as server:
        fetched = FhirClient(QUICK, reader).fetch_all(server.base, None, {"key": READ})["key"]
    assert fetched == Fetched(FAILED, why="the answer is not FHIR JSON")


# --- Time -------------------------------------------------------------------------------------------


def fetch_in_time(run: Callable[[], Fetched], limit_s: float) -> Fetched:
    """The result, after asserting its time. A real fault is slow each time, a busy machine is not."""
    for _ in range(3):
        start = time.monotonic()
        fetched = run()
        took = time.monotonic() - start
        if took <= limit_s:
            return fetched
    raise AssertionError(f"took {took:.3f} s instead of {limit_s:.3f} s: {fetched.why}")


TIMELY = FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=400)
SLOW_OR_BROKEN: dict[str, faults.Behaviour] = {
    "hang": faults.hang,
    "drip of the body": faults.drip_body,
    "drip of a header": faults.drip_head,
    "drip of gzip bytes": faults.drip_gzip,
    "reset": faults.reset,
    "reset midway": faults.reset_midway,
    "truncated": faults.truncate,
    "bomb": faults.gzip_bomb(20),
    "endless": faults.endless,
    "429": answer(429, Retry_After="3600"),
    "503": answer(503, Retry_After="3600"),
    "401": answer(401),
    "404": answer(404),
    "HTML": answer(200, "<html>", Content_Type="text/html"),
    "OperationOutcome": answer(200, OUTCOME),
}


@pytest.mark.parametrize("name", SLOW_OR_BROKEN)
def test_fetch_1_each_fault_ends_by_the_deadline_without_a_resource(name: str) -> None:
    with Server(SLOW_OR_BROKEN[name]) as server:
        fetched = fetch_in_time(lambda: one(server, policy=TIMELY), 0.450)
    assert fetched.state in (NOT_FETCHABLE, FAILED)
    assert fetched.body is None


def test_fetch_1_a_server_that_never_shakes_hands_ends_by_the_deadline() -> None:
    with Server(faults.hang) as server:
        base = f"https://localhost:{server.port}"
        policy = FetchPolicy(allowed_bases=(base,), allow_loopback=True, deadline_ms=400)
        secure = client(policy)
        fetched = fetch_in_time(lambda: secure.fetch_all(base, None, {"key": SEARCH})["key"], 0.450)
    assert fetched.state is NOT_FETCHABLE


def stall_midway(line: socket.socket, _head: str, server: Server) -> None:
    server.stopped.wait(0.2)
    line.sendall(faults.message(200, b" " * 99)[:-50])
    server.stopped.wait()


@pytest.mark.parametrize("behaviour", [faults.drip_body, stall_midway])
def test_fetch_1_an_attempt_ends_at_its_own_limit_well_before_the_deadline(
    behaviour: faults.Behaviour,
) -> None:
    policy = FetchPolicy(allow_loopback=True, allow_http=True, attempt_ms=300)
    with Server(behaviour) as server:
        fetched = fetch_in_time(lambda: one(server, policy=policy), 0.400)
    assert fetched == Fetched(NOT_FETCHABLE, why="the server did not answer in time")


def test_a_fetch_that_was_given_up_leaves_no_thread_behind() -> None:
    with Server(faults.drip_head) as server:
        one(server, policy=FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=100))
        left = [thread for thread in threading.enumerate() if thread.name == "fhir-fetch"]
        for thread in left:
            thread.join(1)
        assert not any(thread.is_alive() for thread in left)


@pytest.fixture
def hanging_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with Server(faults.hang) as server:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: server.stopped.wait())
        yield


def test_fetch_1_a_name_lookup_that_hangs_ends_by_the_deadline(hanging_lookup: None) -> None:
    hanging = client(TIMELY)
    fetched = fetch_in_time(
        lambda: hanging.fetch_all("http://localhost:1/fhir", None, {"key": SEARCH})["key"], 0.450
    )
    assert fetched == Fetched(NOT_FETCHABLE, why="the time for fetching ran out")


def test_a_name_lookup_that_hangs_does_not_hold_up_the_exit_of_the_process() -> None:
    script = """
import json, socket, threading
from fhir_mappings.client import FetchPolicy, FhirClient
socket.getaddrinfo = lambda *_args, **_options: threading.Event().wait()
policy = FetchPolicy(allow_loopback=True, allow_http=True, deadline_ms=50)
print(FhirClient(policy, json.loads).fetch_all("http://localhost:1", None, {"key": "Patient/1"})["key"].state)
"""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=10, check=True
    )
    assert done.stdout.strip() == "not-fetchable"


def test_fetch_4_missing_keys_are_fetched_in_parallel() -> None:
    """Target: five keys of 200 ms each in 350 ms."""
    queries = {f"key{n}": f"Patient/p{n}" for n in range(5)}
    by_path = {f"/fhir/Patient/p{n}": {"resourceType": "Patient", "id": f"p{n}"} for n in range(5)}
    with Server(resources(by_path, delay_s=0.2)) as server:

        def run() -> Fetched:
            fetched = client(DEMO).fetch_all(server.base, None, queries)
            assert {key: (each.body or {}).get("id") for key, each in fetched.items()} == {
                f"key{n}": f"p{n}" for n in range(5)
            }
            return fetched["key0"]

        fetch_in_time(run, 0.350)


def test_fetch_4_one_key_that_hangs_does_not_cost_the_others() -> None:
    def behave(line: socket.socket, head: str, server: Server) -> None:
        (faults.hang if "/slow" in head else answer(200, EMPTY_BUNDLE))(line, head, server)

    with Server(behave) as server:
        fetched = client(QUICK).fetch_all(server.base, None, {"slow": "Patient/slow", "quick": SEARCH})
    assert {key: each.state for key, each in fetched.items()} == {"slow": NOT_FETCHABLE, "quick": OK}


def test_fetch_1_a_call_may_have_less_time_than_the_policy_allows() -> None:
    with Server(faults.hang) as server:
        patient = client(DEMO)
        fetched = fetch_in_time(
            lambda: patient.fetch_all(server.base, None, {"key": SEARCH}, deadline_ms=100)["key"], 0.150
        )
        assert fetched.state is NOT_FETCHABLE
        sent = len(server.heads)
        spent = patient.fetch_all(server.base, None, {"key": SEARCH}, deadline_ms=0)["key"]
        assert spent.why == "the time for fetching ran out"
        assert len(server.heads) == sent


def test_fetch_4_at_most_eight_calls_are_in_flight_and_the_others_wait_their_turn() -> None:
    """Twelve keys at once; each holds its slot for 50 ms, so the most that are seen together is eight."""
    together, most = [0], [0]

    def behave(line: socket.socket, head: str, server: Server) -> None:
        together[0] += 1
        most[0] = max(most[0], together[0])
        server.stopped.wait(0.05)
        together[0] -= 1
        answer(200, EMPTY_BUNDLE)(line, head, server)

    with Server(behave) as server:
        fetched = client(DEMO).fetch_all(server.base, None, {f"key{n}": SEARCH for n in range(12)})
    assert [each.state for each in fetched.values()] == [OK] * 12
    assert most[0] == 8


# --- Size -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fetch_2_a_gzip_bomb_of_200_mb_costs_at_most_20_mib() -> None:
    with Server(faults.gzip_bomb(200)) as server:
        tracemalloc.start()
        try:
            fetched = one(server, policy=DEMO)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert fetched.why == "the answer is too large"
    assert peak <= 20 * 2**20


@pytest.mark.parametrize(("size", "state"), [(1000, OK), (1001, FAILED)])
def test_fetch_2_the_size_limit_is_exact(size: int, state: FetchState) -> None:
    body = json.dumps(EMPTY_BUNDLE).ljust(size)
    policy = FetchPolicy(allow_loopback=True, allow_http=True, max_bytes=1000)
    with Server(answer(200, body)) as server:
        assert one(server, policy=policy).state is state


# --- Second attempts --------------------------------------------------------------------------------

BASE = "http://127.0.0.1:9/fhir"


@pytest.mark.parametrize(
    ("first", "calls"),
    [
        ({"status": 502}, 2),
        ({"status": 503, "headers": {"Retry-After": "3600"}}, 2),
        ({"status": 504}, 2),
        ({"body": requests.ConnectionError("refused")}, 2),
        ({"body": requests.exceptions.ConnectTimeout("slow")}, 2),
        ({"body": requests.ReadTimeout("slow")}, 1),
        ({"body": requests.exceptions.SSLError("untrusted")}, 1),
        ({"status": 500}, 1),
        ({"status": 501}, 1),
        ({"status": 429}, 1),
        ({"status": 400}, 1),
        ({"status": 401}, 1),
        ({"status": 404}, 1),
        ({"status": 200, "body": "<html>"}, 1),
        ({"status": 200, "json": OUTCOME}, 1),
    ],
    ids=str,
)
def test_fetch_3_a_second_attempt_only_where_it_may_help(first: dict[str, Any], calls: int) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{BASE}/Patient/p1", **first)
        if calls == 2:
            mock.get(f"{BASE}/Patient/p1", json=PATIENT)
        fetched = client(DEMO).fetch_all(BASE, None, {"key": "Patient/p1"})["key"]
        assert len(mock.calls) == calls
        assert (fetched.state is OK) is (calls == 2)


def test_fetch_3_never_a_third_attempt() -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{BASE}/Patient/p1", status=503)
        assert client(DEMO).fetch_all(BASE, None, {"key": "Patient/p1"})["key"].state is FAILED
        assert len(mock.calls) == 2


def test_fetch_3_no_second_attempt_with_less_than_300_ms_left() -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{BASE}/Patient/p1", status=503)
        client(DEMO).fetch_all(BASE, None, {"key": "Patient/p1"}, deadline_ms=305)
        assert len(mock.calls) == 1


# --- Pages ------------------------------------------------------------------------------------------


def pages(server: Server, *following: str | None) -> dict[str, Any]:
    """Pages o0, o1, ... of one resource each; ``following`` are their next links, {base} filled in."""
    return {
        f"/fhir/Observation?page={n}": bundle(
            f"o{n}", following=link and link.format(base=server.base, port=server.port)
        )
        for n, link in enumerate(following)
    }


@pytest.mark.parametrize(
    ("following", "expected", "partial"),
    [
        ([None], 1, False),
        (["{base}/Observation?page=1", "{base}/Observation?page=2", None], 3, False),
        (["Observation?page=1", "?page=2", "/fhir/Observation?page=3", None], 4, False),
        (["{base}/Observation?page=0"], 1, True),
        (["{base}/Observation?page=1", "{base}/Observation?page=0"], 2, True),
        (["{base}/Observation?page=7"], 1, True),
        ([f"{{base}}/Observation?page={n}" for n in range(1, 5)] + [None], 5, False),
        ([f"{{base}}/Observation?page={n}" for n in range(1, 7)] + [None], 5, True),
    ],
    ids=["one", "three", "relative", "to itself", "in a circle", "missing page", "five", "seven"],
)
def test_pages_are_merged_as_far_as_they_may_be_followed(
    following: list[str | None], expected: int, partial: bool
) -> None:
    server = Server(faults.hang)
    server.behaviour = resources(pages(server, *following))
    with server:
        fetched = one(server, "Observation?page=0", DEMO)
    assert fetched.state is OK
    assert ids(fetched) == [f"o{n}" for n in range(expected)]
    assert fetched.partial is partial
    assert (fetched.why is not None) is partial
    # The merged Bundle shows the same to whoever looks at its links.
    links = (fetched.body or {}).get("link", [])
    assert any(link["relation"] == "next" for link in links) is partial


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:{other}/fhir/Observation?page=1",
        "http://localhost:{port}/fhir/Observation?page=1",
        "https://127.0.0.1:{port}/fhir/Observation?page=1",
        "//127.0.0.1:{other}/fhir/Observation?page=1",
        "http://127.0.0.1:{port}@127.0.0.1:{other}/fhir/Observation?page=1",
        "http://127.0.0.1:{other}\\@127.0.0.1:{port}/fhir/Observation?page=1",
        "http://user@127.0.0.1:{port}/fhir/Observation?page=1",
        "http://127.0.0.1:{port}/admin?page=1",
        "http://127.0.0.1:{port}/fhirx?page=1",
        "http://127.0.0.1:{port}/fhir/../admin?page=1",
        "http://127.0.0.1:{port}/fhir/%2e%2e/admin?page=1",
        "http://127.0.0.1:{port}/fhir/Observation?page=1#x",
        "../admin",
        "/admin",
        "//[x",
        "file:///etc/passwd",
        "",
    ],
)
def test_ssrf_7_a_next_link_that_leaves_the_base_is_not_followed(link: str) -> None:
    with Server(answer(200, EMPTY_BUNDLE)) as other, Server(faults.hang) as server:
        following = link.format(port=server.port, other=other.port)
        server.behaviour = answer(200, bundle("o0", following=following))
        fetched = one(server, token="abc")
        assert (fetched.state, ids(fetched), fetched.partial) == (OK, ["o0"], True)
        assert (other.connections, len(server.heads)) == (0, 1)


@pytest.mark.parametrize(
    "link", [{"relation": "next"}, {"relation": "next", "url": 5}, {"relation": "next", "url": None}]
)
def test_a_next_link_without_address_makes_the_list_incomplete(link: dict[str, Any]) -> None:
    with Server(answer(200, EMPTY_BUNDLE | {"link": [link]})) as server:
        assert one(server).partial is True


def test_pages_that_came_in_time_are_kept() -> None:
    def behave(line: socket.socket, head: str, server: Server) -> None:
        first = answer(200, bundle("o0", following=f"{server.base}/Observation?page=1"))
        (faults.drip_head if "page=1" in head else first)(line, head, server)

    with Server(behave) as server:
        fetched = one(server, "Observation?page=0", QUICK)
    assert (fetched.state, ids(fetched), fetched.partial) == (OK, ["o0"], True)
    assert fetched.why == "the time for fetching ran out"


@pytest.mark.parametrize(("count", "partial"), [(500, False), (501, True)])
def test_at_most_500_resources(count: int, partial: bool) -> None:
    with Server(answer(200, bundle(*(f"o{n}" for n in range(count))))) as server:
        fetched = one(server)
    assert (len(ids(fetched)), fetched.partial) == (500, partial)


@pytest.mark.parametrize(
    ("link", "state", "found"),
    [
        ("{base}/Observation?page=1", OK, ["o1", "o2"]),
        ("Observation?page=1", OK, ["o1", "o2"]),
        ("{base}/Observation?page=9", FAILED, []),
        ("http://evil.example/fhir/Observation?page=1", NOT_FETCHABLE, []),
        ("http://[", NOT_FETCHABLE, []),
        ("//[", NOT_FETCHABLE, []),
        ("", NOT_FETCHABLE, []),
    ],
)
def test_the_pages_of_a_bundle_from_the_prefetch_can_be_followed(
    link: str, state: FetchState, found: list[str]
) -> None:
    server = Server(faults.hang)
    server.behaviour = resources(pages(server, None, "{base}/Observation?page=2", None))
    with server:
        fetched = client(QUICK).fetch_all(server.base, None, {"next": link.format(base=server.base)})["next"]
    assert fetched.state is state
    assert (ids(fetched) if fetched.body else []) == found


# --- TLS --------------------------------------------------------------------------------------------


def test_a_certificate_is_checked_against_authority_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = faults.self_signed(tmp_path)
    if made is None:
        pytest.skip("needs the openssl command")
    context, certificate = made
    with Server(answer(200, EMPTY_BUNDLE), tls=context) as server:
        named, numbered = f"https://localhost:{server.port}", f"https://127.0.0.1:{server.port}"

        def fetch(base: str, ca_file: str | None) -> Fetched:
            policy = FetchPolicy(allowed_bases=(named, numbered), allow_loopback=True, ca_file=ca_file)
            return client(policy).fetch_all(base, "abc", {"key": SEARCH})["key"]

        assert fetch(named, None).why == "no trustworthy TLS connection"
        assert fetch(numbered, str(certificate)).why == "no trustworthy TLS connection"
        for name in (
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ):  # SSRF-5: nobody else names authorities
            monkeypatch.setenv(name, str(certificate))
        assert fetch(named, None).why == "no trustworthy TLS connection"
        assert server.heads == []
        assert fetch(named, str(certificate)).state is OK


# --- What is kept secret ----------------------------------------------------------------------------


def test_fetch_9_neither_token_nor_patient_appears_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A header that cannot be parsed makes urllib3 warn with the whole URL."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nbad header\r\nContent-Length: 2\r\n\r\n{}"
    with caplog.at_level(logging.DEBUG), Server(lambda line, _head, _server: line.sendall(raw)) as server:
        one(server, "Observation?patient=p4711", token="canary")
        assert "p4711" in server.heads[0]
        logging.getLogger("urllib3.connectionpool").warning("others still log")
    assert "p4711" not in caplog.text
    assert "canary" not in caplog.text
    assert "others still log" in caplog.text


@pytest.mark.slow
def test_fetch_9_the_token_is_gone_after_the_call() -> None:
    token = "-".join(["canary", "4711"])
    for behaviour in (answer(200, EMPTY_BUNDLE), answer(503), faults.reset, faults.truncate, faults.hang):
        with Server(behaviour) as server:
            one(server, token=token)
            server.heads.clear()
            time.sleep(0.02)
    assert faults.holders(token, but=sys._getframe()) == []
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Secret)]


def test_fetch_9_the_text_form_of_a_wrapped_token_is_constant() -> None:
    assert {f"{Secret('canary')}", repr(Secret("canary")), str([Secret("canary")])[1:-1]} == {
        "<access token>"
    }


# --- Circuit breaker --------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_fetch_7_five_failed_calls_open_the_breaker_and_one_probe_closes_it() -> None:
    clock = Clock()
    patient = client(QUICK, clock=clock)
    with Server(answer(500)) as server:

        def call() -> str | None:
            return patient.fetch_all(server.base, None, {"key": SEARCH})["key"].why

        assert {call() for _ in range(5)} == {"the server answered with HTTP status 500"}
        resting = fetch_in_time(lambda: patient.fetch_all(server.base, None, {"key": SEARCH})["key"], 0.020)
        assert resting == Fetched(NOT_FETCHABLE, why="the server failed repeatedly and is left alone")
        assert len(server.heads) == 5
        clock.now += 15
        assert call() == "the server answered with HTTP status 500"
        assert call() == "the server failed repeatedly and is left alone"
        clock.now += 15
        server.behaviour = answer(200, EMPTY_BUNDLE)
        assert [call(), call()] == [None, None]


def test_fetch_7_the_breaker_of_one_base_does_not_touch_another() -> None:
    patient = client(QUICK)
    with Server(answer(500)) as sick, Server(answer(200, EMPTY_BUNDLE)) as well:
        for _ in range(6):
            patient.fetch_all(sick.base, None, {"key": SEARCH})
        assert len(sick.heads) == 5
        assert patient.fetch_all(well.base, None, {"key": SEARCH})["key"].state is OK


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_fetch_7_an_answer_of_the_4xx_kind_shows_that_the_server_is_well(status: int) -> None:
    patient = client(QUICK)
    with Server(answer(status)) as server:
        for _ in range(7):
            patient.fetch_all(server.base, None, {"key": SEARCH})
        assert len(server.heads) == 7


def test_fetch_7_a_call_counts_once_and_one_good_key_is_enough() -> None:
    patient = client(QUICK)
    all_fail = {f"key{n}": f"Patient/bad{n}" for n in range(6)}

    def behave(line: socket.socket, head: str, server: Server) -> None:
        (answer(500) if "/bad" in head else answer(200, EMPTY_BUNDLE))(line, head, server)

    with Server(behave) as server:
        for _ in range(6):
            patient.fetch_all(server.base, None, all_fail | {"good": SEARCH})
        for _ in range(4):
            patient.fetch_all(server.base, None, all_fail)
        assert patient.fetch_all(server.base, None, {"key": SEARCH})["key"].state is OK


class BreakerLife(RuleBasedStateMachine):
    """Any order of calls, results and time: the promises of the breaker, told without its code."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(self.clock)
        self.tickets: list[int] = []
        self.stale: list[int] = []
        self.failed_at: list[float] = []
        self.probe: int | None = None
        self.opened_at: float | None = None

    @rule(seconds=st.sampled_from([0.5, 4.0, 6.0, 14.9, 15.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def call(self) -> None:
        ticket = self.breaker.admit()
        if self.opened_at is None:
            assert ticket is not None, "a closed breaker admits"
            self.tickets.append(ticket)
        elif self.clock.now - self.opened_at < 15 or self.probe is not None:
            assert ticket is None, "an open breaker rests for 15 s and then admits one probe at a time"
        else:
            assert ticket is not None, "after 15 s a probe is admitted"
            self.probe = ticket

    @precondition(lambda self: self.tickets)
    @rule(healthy=st.sampled_from([True, False, False, False, None]))
    def end_call(self, healthy: bool | None) -> None:
        self.breaker.record(self.tickets.pop(0), healthy)
        if healthy is False and self.opened_at is None:
            self.failed_at.append(self.clock.now)
            if len([at for at in self.failed_at if self.clock.now - at <= 30]) >= 5:
                self.opened_at = self.clock.now
                self.stale += self.tickets
                self.tickets = []

    @precondition(lambda self: self.probe is not None)
    @rule(healthy=st.sampled_from([True, False, None]))
    def end_probe(self, healthy: bool | None) -> None:
        assert self.probe is not None
        self.breaker.record(self.probe, healthy)
        self.probe = None
        if healthy is True:
            self.opened_at, self.failed_at = None, []
        elif healthy is False:
            self.opened_at = self.clock.now

    @precondition(lambda self: self.stale)
    @rule(healthy=st.sampled_from([True, False, None]))
    def end_call_that_began_before_the_breaker_opened(self, healthy: bool | None) -> None:
        self.breaker.record(self.stale.pop(), healthy)


TestFetch7Breaker = BreakerLife.TestCase
TestFetch7Breaker.settings = settings(stateful_step_count=40, suppress_health_check=list(HealthCheck))
