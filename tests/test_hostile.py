"""Hostile input: whatever is sent, the answer is an answer or a refusal, quick, and never repeats what was sent.

The names follow the targets HTTP-1 to HTTP-10 and CARD-1; more of them stand beside what they concern
(``test_http.py``, ``test_serve.py``, ``test_json_reader.py``, ``test_properties.py``).
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import random
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from builders import HEALTHY, Json, bundle, client, comparable, draft, findings, hook_request, observation
from builders import cards as cards_of
from forks import ended_with, in_a_worker
from test_http import FEEDBACK, ORDER_SIGN, ORDER_SIGN_URL, assert_refused
from test_json_reader import REFUSED
from test_serve import LIMIT, exchange, head, running

from cards.text import escaped
from cds_service import routes
from cds_service.app import create_app
from cds_service.errors import TooManyRequests
from cds_service.json_reader import MAX_NODES, UnreadableBody, read_json
from cds_service.rates import Rates
from cds_service.services import SERVICES
from cds_service.settings import Settings

SAMPLES = Path(__file__).parent.parent / "samples"
CASES = int(os.environ.get("HOSTILE_CASES", "100"))
"""Requests of the quick random test; the exhaustive run has 20,000."""
SECRET = "zq9xCanary"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running("--demo", "--workers", "1", "--threads", "4") as (_, port):
        yield port


# --- HTTP-1: lengths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", ["-1", "+5", "0x5", "5, 5", "5 5", "٥", "abc", "", "9" * 30, "9" * 5000, str(LIMIT + 1)]
)
def test_http_1_odd_lengths_are_refused(port: int, length: str) -> None:
    status, media_type, body = exchange(port, head(f"Content-Length: {length}") + b"{}")
    assert status in (400, 411, 413)
    assert media_type == "application/json"
    assert json.loads(body)["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Content-Length: 2", "Content-Length: 3"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: identity", "Content-Length: 2"],
    ],
    ids=str,
)
def test_http_1_a_length_told_twice_or_in_chunks_is_refused(port: int, lines: list[str]) -> None:
    status, _, body = exchange(port, head(*lines) + b"2\r\n{}\r\n0\r\n\r\n")
    assert status in (400, 411)
    assert json.loads(body)["resourceType"] == "OperationOutcome"


# --- HTTP-2: the JSON reader ----------------------------------------------------------------------


@pytest.mark.parametrize("raw", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("path", [ORDER_SIGN_URL, f"{ORDER_SIGN_URL}/feedback"])
def test_http_2_attacks_on_the_reader_are_refused_quickly(path: str, raw: bytes) -> None:
    start = time.process_time()
    response = client().post(path, data=raw, content_type="application/json")
    assert time.process_time() - start < 0.5
    assert_refused(response, 400 if raw else 411)


def test_http_2_each_refusal_of_the_reader_takes_milliseconds() -> None:
    """The least of three tries, in the processor's time: 50 ms, and 300 ms for a flood of values."""
    assert len(REFUSED) >= 30
    for name, raw, _ in REFUSED:
        times = []
        for _ in range(3):
            start = time.process_time()
            with pytest.raises(UnreadableBody):
                read_json(raw)
            times.append(time.process_time() - start)
        assert min(times) < (0.3 if "flood" in name else 0.05), name


# --- HTTP-3: never a 5xx --------------------------------------------------------------------------

ODD: list[Any] = [
    None, True, False, 0, -1, 10**39, Decimal("-1e30"), Decimal("1e-30"), "", " ", "x" * 5000, "0", "-5",
    "0000-00-00", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
    "2026-02-30", "2026-13", "2026-06-01T24:00:00Z", "2026-06-01T00:00:00+99:00", "20260601", "٣", "１", "1e5",
    "NaN", "Infinity", "1,5", "> 5", "<", "%", "{", "\u202e", "😀", "/", "#", "#x", "Patient/", "urn:uuid:x",
    [], {}, [[]], [None], [{}], ["x"], {"a": 1}, {"value": 10**30, "unit": "mg"}, {"value": "5"},
    {"value": -3, "unit": "kg", "code": "kg", "system": "http://unitsofmeasure.org"}, {"reference": 5},
    {"reference": "#"}, {"coding": []}, {"coding": {}}, {"coding": [{"code": 5}]}, {"coding": [None]}, {"text": 5},
    {"start": "9999-12-31"}, {"end": "0001-01-01"}, {"repeat": {"frequency": 0}},
    {"repeat": {"frequency": 10**30, "period": Decimal("1e-30"), "periodUnit": "d"}}, {"resourceType": 5},
    {"resourceType": "OperationOutcome"}, {"resourceType": "Bundle", "entry": [None, 5, {"resource": None}]},
]  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if here:
        yield here
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*here, key))


def spoil(body: Any, chance: random.Random) -> None:
    """One to five places of the request changed: another type, another order of magnitude, gone, twice."""
    for _ in range(chance.choice([1, 1, 2, 3, 5])):
        found = [p for p in places(body) if p[0] in ("context", "prefetch") or chance.random() < 0.02]
        if not found:
            return
        *way, key = chance.choice(found)
        place = body
        for step in way:
            place = place[step]
        now = place[key]
        kind = chance.random()
        if kind < 0.55:
            place[key] = copy.deepcopy(chance.choice(ODD))
        elif kind < 0.7:
            place[key] = [now] if chance.random() < 0.5 else {"x": now}
        elif kind < 0.8:
            del place[key]
        elif isinstance(place, list):
            place.insert(key, copy.deepcopy(now))
        elif isinstance(now, str) and now:
            cut = chance.randrange(len(now))
            place[key] = (
                now[:cut] + chance.choice(["", "0", "9", "-", ":", ".", "/", "٣", "e", "<"]) + now[cut:]
            )
        elif isinstance(now, int | Decimal) and not isinstance(now, bool):
            place[key] = chance.choice([now * 1000, -now, str(now), 10**38, Decimal("1e-30"), 0])
        else:
            place[key] = str(now)


class _Faults(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()} {getattr(record, 'fields', {})}")


@pytest.mark.parametrize("cases", [CASES, pytest.param(20_000, marks=pytest.mark.exhaustive)])
def test_http_3_spoilt_samples_are_answered_or_refused_and_no_check_fails(cases: int) -> None:
    """Odd data may make a check impossible; they never make the service fail inside one."""
    chance = random.Random(20261125)
    texts = [path.read_bytes() for path in sorted(SAMPLES.glob("*/request.json"))]
    service = {known.hook: known.id for known in SERVICES.values()}
    faults = _Faults()
    logger = logging.getLogger("jaki_cds")
    logger.addHandler(faults)
    try:
        for number in range(cases):
            body: Any = read_json(chance.choice(texts))
            hook = body["hook"]
            for name in ("fhirServer", "fhirAuthorization"):
                body.pop(name, None)
            spoil(body, chance)
            raw = json.dumps(body, default=float)
            response = client().post(
                f"/cds-services/{service[hook]}", data=raw, content_type="application/json"
            )
            assert response.status_code in (200, 400, 412), number
            assert not faults.found, (number, faults.found)
    finally:
        logger.removeHandler(faults)


HEADERS: list[tuple[str, str]] = [
    ("Origin", "\xff<script>"),
    ("Origin", "a" * 8000),
    ("Authorization", "Bearer \xff"),
    ("Authorization", "Bearer"),
    ("Cookie", "\xff=\xff"),
    ("Content-Type", "application/json; charset=utf-16"),
    ("Content-Type", "application/json; \xff"),
    ("Accept", "\xff"),
    ("Host", "[::1"),
    ("Host", "a:99999999"),
    ("X-Forwarded-For", "<script>"),
    ("X-Request-Id", "x\ty"),
    ("Range", "bytes=0-5"),
    ("If-Modified-Since", "never"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_http_3_odd_headers(name: str, value: str) -> None:
    response = client().post(
        ORDER_SIGN_URL,
        data=json.dumps(ORDER_SIGN),
        headers={"Content-Type": "application/json"} | {name: value},
    )
    assert response.status_code in (200, 400, 415)


RAW: dict[str, bytes] = {
    "no request": b"\x16\x03\x01\x00\xa5\x01\x00" + bytes(50) + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": f"GET /{SECRET} HTTP/9.9\r\nHost: x\r\n\r\n".encode(),
    "a method": f"{SECRET} /healthz HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "bytes in the address": f"GET /{SECRET}".encode() + b"\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long address": f"GET /{SECRET * 800} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "an escaped address": f"GET /%zz%ff%00{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a folded header": f"GET /healthz HTTP/1.1\r\nHost: x\r\n{SECRET}: a\r\n b\r\n\r\n".encode(),
    "a blank in a header": f"GET /healthz HTTP/1.1\r\nHost: x\r\n{SECRET} : a\r\n\r\n".encode(),
    "a NUL in a header": f"GET /healthz HTTP/1.1\r\nHost: x\r\n{SECRET}: a\0b\r\n\r\n".encode(),
    "a long header": f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: {SECRET * 900}\r\n\r\n".encode(),
    "many headers": (
        "GET /healthz HTTP/1.1\r\nHost: x\r\n" + "".join(f"{SECRET}{i}: a\r\n" for i in range(200)) + "\r\n"
    ).encode(),
    "two hosts": f"GET /healthz HTTP/1.1\r\nHost: {SECRET}\r\nHost: b\r\n\r\n".encode(),
    "an expectation": f"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: {SECRET}\r\n\r\n".encode(),
    "an unknown coding": head(f"Transfer-Encoding: {SECRET}"),
}


@pytest.mark.parametrize("name", RAW)
def test_http_3_malformed_http_is_refused_and_not_repeated(port: int, name: str) -> None:
    """What the web server itself refuses is an OperationOutcome too, with the headers of every answer."""
    status, media_type, body = exchange(port, RAW[name])
    assert status in (400, 404, 414, 417, 431)
    assert media_type == "application/json"
    assert json.loads(body)["resourceType"] == "OperationOutcome"
    assert SECRET.lower().encode() not in body.lower()


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "Script-Name"])
def test_http_3_no_header_changes_which_address_is_asked_for(port: int, name: str) -> None:
    """gunicorn would take the first two from any client on this machine, and fail on a bad one."""
    answer = exchange(port, f"GET /healthz HTTP/1.1\r\nHost: x\r\n{name}: /metrics\r\n\r\n".encode())
    assert (answer[0], answer[2]) == (200, b'{"status":"ok"}')


EMBEDDED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(EMBEDDED), EMBEDDED)
UNREAD: dict[str, bytes] = {
    "refused for its media type": head("Content-Type: text/plain", f"Content-Length: {len(EMBEDDED)}") + EMBEDDED,
    "of a GET": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(EMBEDDED) + EMBEDDED,
    "of a GET, in chunks": b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + IN_CHUNKS,
    "of an unknown address": b"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(EMBEDDED) + EMBEDDED,
    "in chunks": head("Transfer-Encoding: chunked") + IN_CHUNKS,
    "in chunks of no size": head("Transfer-Encoding: chunked") + b"zz\r\n" + EMBEDDED,
    "in chunks of another size": head("Transfer-Encoding: chunked") + b"5\r\nabcdeX" + EMBEDDED,
    "in chunks that never end": head("Transfer-Encoding: chunked") + b"5;a=b\r\nabcde\r\n0\r\n" + EMBEDDED,
}  # fmt: skip


@pytest.mark.parametrize("raw", UNREAD.values(), ids=UNREAD)
def test_http_3_a_body_that_is_not_read_never_becomes_a_request(port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.count(b"HTTP/1.1 ") == 1
    assert b"jaki_cds_requests_total" not in said


# --- HTTP-4: numbers ------------------------------------------------------------------------------

EXTREMES = [10**39, -(10**39), "1e30", "1e-30", "9" * 9 + "e30", "0." + "1" * 38, "0e30", "-0.0"]


@pytest.mark.parametrize("number", EXTREMES, ids=str)
def test_http_4_no_number_takes_long_to_reckon_with(number: object) -> None:
    """Each number of a request at one of the extremes: as quick as any other request."""
    raw = (SAMPLES / "tofa-dose-03-adult-dose" / "request.json").read_text("utf-8")
    body: Any = read_json(raw.encode())
    body.pop("fhirServer", None)
    mark = 4711471147
    numbers = [p for p in places(body) if isinstance(_at(body, p), int | Decimal)]
    for place in numbers[EXTREMES.index(number) :: len(EXTREMES)]:
        spoilt = copy.deepcopy(body)
        _at(spoilt, place[:-1])[place[-1]] = mark
        data = json.dumps(spoilt, default=float).replace(str(mark), str(number))
        start = time.process_time()
        response = client().post(
            f"/cds-services/jaki-{spoilt['hook']}", data=data, content_type="application/json"
        )
        assert time.process_time() - start < 0.5, place
        assert response.status_code in (200, 400), place
        assert b"failed inside the service" not in response.data, place


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


# --- HTTP-5: one bad entry costs itself only ------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [None, 5, "x", [], {}, {"resource": None}, {"resource": []}, {"resource": {}}, {"resource": {"resourceType": 5}}],
    ids=repr,
)  # fmt: skip
def test_http_5_a_broken_entry_costs_only_itself(entry: Any) -> None:
    """What the good entries show stays found; what rests on a list being whole becomes unknown, never silent."""
    request = hook_request([draft("tofacitinib", 5)], bloods=HEALTHY | {"neutrophils": "0.4"})
    expected = _findings(request)
    assert {"critical", "warning"} <= {severity for _, severity, _ in expected.values()}
    for key, value in request["prefetch"].items():
        if isinstance(value.get("entry"), list):
            for position in {0, len(value["entry"])}:
                spoilt = copy.deepcopy(request)
                spoilt["prefetch"][key]["entry"].insert(position, entry)
                found = _findings(spoilt)
                for name, finding in expected.items():
                    unknown = found[name][0] == "cannot-assess" and name != "TOFA-INIT-02"
                    assert found[name] == finding or unknown, (key, position, name)


def _findings(request: Json) -> dict[str, tuple[str, str, Any]]:
    found = findings(cards_of(request)).items()
    return {name: (f["outcome"], f["severity"], f["evidence"]) for name, f in found}


# --- HTTP-6: memory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"{}," * (MAX_NODES // 2 - 2) + b"{}]",
        b"[" + b"[[]]," * (2 * 1024 * 1024 // 5) + b"[]]",
        b'{"a":"' + b"x" * (2 * 1024 * 1024) + b'"}',
    ],
    ids=["objects", "arrays", "a string"],
)
def test_http_6_two_mebibytes_take_a_bounded_amount_of_memory(raw: bytes) -> None:
    tracemalloc.start()
    try:
        with contextlib.suppress(UnreadableBody):
            read_json(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120 * 1024 * 1024


def test_http_6_a_whole_call_of_two_mebibytes_takes_a_bounded_amount_of_memory() -> None:
    request = hook_request([draft("tofacitinib", 5)])
    entries = bundle(*(observation("weight", 30) | {"id": f"o{n}"} for n in range(3000)))
    request["prefetch"] |= {"growth": entries, "more": [{}] * 100_000}
    raw = json.dumps(request, default=float).encode()
    raw += b" " * (2 * 1024 * 1024 - len(raw))
    client().post(ORDER_SIGN_URL, data=raw, content_type="application/json")
    tracemalloc.start()
    try:
        response = client().post("/cds-services/jaki-order-select", data=raw, content_type="application/json")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (response.status_code, len(raw)) == (200, 2 * 1024 * 1024)
    assert peak < 120 * 1024 * 1024


# --- HTTP-7: members that nobody asked for --------------------------------------------------------


def test_http_7_unknown_members_are_ignored() -> None:
    request = hook_request([draft("tofacitinib", 4)])
    expected = comparable(cards_of(request))
    more = request | {
        SECRET: [SECRET],
        "extension": request["extension"] | {SECRET: {SECRET: 1}},
        "context": request["context"] | {SECRET: {SECRET: SECRET}},
        "prefetch": request["prefetch"] | {SECRET: bundle(observation("weight", 3) | {SECRET: SECRET})},
    }
    del more["prefetch"][SECRET]["entry"]
    found = cards_of(more)
    assert comparable(found) == expected
    assert SECRET not in str(found)


def test_http_7_unknown_members_of_feedback_are_ignored_and_not_repeated() -> None:
    item = FEEDBACK["feedback"][0] | {SECRET: SECRET, "extension": {SECRET: [SECRET]}}
    response = client().post(f"{ORDER_SIGN_URL}/feedback", json={"feedback": [item], SECRET: SECRET})
    assert (response.status_code, response.get_json()) == (200, {})
    assert SECRET not in client().get("/metrics").get_data(as_text=True)


def test_http_7_feedback_of_more_items_than_are_written_at_once_is_refused() -> None:
    """Fifty thousand in one body kept every other caller waiting for seconds."""
    item = FEEDBACK["feedback"][0]
    assert client().post(f"{ORDER_SIGN_URL}/feedback", json={"feedback": [item] * 1000}).status_code == 200
    assert_refused(client().post(f"{ORDER_SIGN_URL}/feedback", json={"feedback": [item] * 1001}), 413)


# --- HTTP-9: headers of the real server -----------------------------------------------------------


@pytest.mark.parametrize(
    "raw", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"x y z\r\n\r\n"],
    ids=["good", "malformed"],
)  # fmt: skip
def test_http_9_no_version_of_the_server_is_told(port: int, raw: bytes) -> None:

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        answer = connection.recv(65536).decode("latin-1")
    headers = answer.partition("\r\n\r\n")[0].lower()
    assert "x-content-type-options: nosniff" in headers
    assert "cache-control: no-store" in headers
    assert "server: gunicorn/" not in headers and "python" not in headers


# --- HTTP-10: slow clients (with a buffering proxy: deploy/) ---------------------------------------


@pytest.mark.slow
def test_http_10_a_client_that_does_not_finish_its_header_is_given_up(port: int) -> None:
    """As many as the service has threads: it is back after some seconds, not stopped for good."""
    stalled = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
    try:
        for connection in stalled:
            connection.sendall(b"POST " + ORDER_SIGN_URL.encode())
        start = time.monotonic()
        assert exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
        assert time.monotonic() - start < 15
        assert stalled[0].recv(100) == b""
    finally:
        for connection in stalled:
            connection.close()


# --- CARD-1: text that is not our own -------------------------------------------------------------

HOSTILE = [
    f"<script>{SECRET}</script>",
    f'<img src="https://evil.example/{SECRET}">',
    f"[{SECRET}](javascript:alert(1))",
    f"![{SECRET}](https://evil.example/x.png)",
    f"www.evil.example/{SECRET}",
    f"https://evil.example/{SECRET}",
    f"a@evil.example {SECRET}",
    f"\n# {SECRET}",
    f"|a|b|\n|-|-|\n|{SECRET}|",
    f"- {SECRET}\n1. x",
    f"&lt;b&gt;{SECRET}",
    f"```\n{SECRET}\n```",
    f"**{SECRET}** __x__ ~~x~~ `x`",
    f"\u202e{SECRET}\u200b\u2066",
    f"    {SECRET}",
    f"{SECRET}\n===",
    f"<https://{SECRET}>",
    f"[^1]: {SECRET}",
    f"\\<b\\>{SECRET}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_card_1_escaped_text_has_no_bare_punctuation_and_one_line(text: str) -> None:
    shown = escaped(text)
    assert SECRET in shown
    assert "\n" not in shown and not shown.startswith(" ")
    bare = shown.replace("\\\\", "")
    for position, character in enumerate(bare):
        if character.isascii() and not (character.isalnum() or character in " \\"):
            assert bare[position - 1] == "\\", shown
    assert not any(ord(character) < 32 or 0x200B <= ord(character) <= 0x206F for character in shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_card_1_two_parsers_of_gfm_see_nothing_but_text(text: str) -> None:
    """Where the two parsers are installed (they are no dependency of the project)."""
    markdown_it = pytest.importorskip("markdown_it")
    cmarkgfm = pytest.importorskip("cmarkgfm")
    tokens = markdown_it.MarkdownIt("gfm-like").parse(escaped(text))
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert kinds <= {"text", "text_special", "softbreak"}
    html = cmarkgfm.github_flavored_markdown_to_html(escaped(text))
    assert html.count("<") == html.count("<p>") + html.count("</p>") == 2


# --- HTTP-8: too many calls -----------------------------------------------------------------------


def test_http_8_a_client_that_calls_too_often_gets_429_and_others_do_not() -> None:
    rates = Rates(3, ["hospital-a", "hospital-b"])
    for _ in range(3):
        rates.check("hospital-a")
    with pytest.raises(TooManyRequests) as refusal:
        rates.check("hospital-a")
    assert refusal.value.headers == {"Retry-After": "1"}
    rates.check("hospital-b")


def test_http_8_calls_count_for_one_second_and_refused_ones_not_at_all() -> None:
    now = 100.0
    rates = Rates(2, clock=lambda: now)
    for at, allowed in (
        (100, True),
        (100.6, True),
        (100.9, False),
        (101, True),
        (101.5, False),
        (101.6, True),
    ):
        now = at
        with contextlib.nullcontext() if allowed else pytest.raises(TooManyRequests):
            rates.check("hospital-a")


def test_http_8_no_thread_is_started_for_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, started = Rates(10), []
    rates.check("hospital-a")
    time.sleep(0.05)  # whatever the library starts at first has ended
    monkeypatch.setattr(threading.Thread, "start", started.append)
    rates.check("hospital-a")
    assert not started, "a thread for each call costs more than counting it"


def test_http_8_all_workers_of_a_service_count_together() -> None:
    rates = Rates(50, ["hospital-a", "hospital-b"], clock=lambda: 100.0)

    def calls(client: str, number: int) -> int:
        taken = 0
        for _ in range(number):
            with contextlib.suppress(TooManyRequests):
                rates.check(client)
                taken += 1
        return taken

    def worker() -> int:
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(calls, ["hospital-a"] * 4, [25] * 4))

    assert sum(ended_with(*[in_a_worker(worker) for _ in range(4)])) == 50
    assert calls("hospital-b", 60) == 50


def test_http_8_the_limit_holds_outside_demo_mode_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_require_client", lambda *paths: None)
    for demo, last in ((False, 429), (True, 200)):
        app = create_app(Settings(demo=demo, calls_per_second=2)).test_client()
        answers = [app.post(f"{ORDER_SIGN_URL}/feedback", json=FEEDBACK) for _ in range(4)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == last
        if last != 200:
            assert_refused(answers[-1], 429)
            assert answers[-1].headers["Retry-After"] == "1"
