"""What is fuzzed, and what must hold for every input (target TEST-6). ``fuzz.py`` runs these under atheris.

Each target takes bytes, and raises where the code under test does what it must never do.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from urllib3.util import parse_url

from cds_service.auth import Claims, TokenRefused, read_token, signed_by
from cds_service.clients import Client
from cds_service.json_reader import (
    MAX_DEPTH,
    MAX_EXPONENT,
    MAX_NUMBER_CHARACTERS,
    UnreadableBody,
    read_json,
    write_json,
)
from cds_service.jwks import ALGORITHMS, Key, read_key
from fhir_mappings.client import FetchPolicy, FhirClient
from fhir_mappings.client.addresses import read_place, read_target
from fhir_mappings.dosage import read_dose
from fhir_mappings.products import Product, read_product
from guideline.doses import DoseState, Form

SLOWEST_S = 0.5
"""Of processor time for one input of a few kilobytes; an input that takes longer is a finding."""


@dataclass(frozen=True, slots=True)
class Target:
    """``one``: judges one input. ``seeds``: inputs to start from. ``words``: what is worth inserting."""

    one: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


@contextmanager
def _in_time() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < SLOWEST_S


# --- the JSON reader ------------------------------------------------------------------------------

_REASON = re.compile(r"[A-Za-z0-9 ,.;:()'\\_-]{10,200}")


def one_json(raw: bytes) -> None:
    """Read or refused in time; what is read is what the standard library reads, and survives being written."""
    with _in_time():
        try:
            value = read_json(raw)
        except UnreadableBody as refusal:
            assert _REASON.fullmatch(refusal.reason), "a reason is made of words of ours"
            return
    expected = json.loads(
        raw.decode("utf-8"),
        parse_int=_int,
        parse_float=_decimal,
        parse_constant=_constant,
        object_pairs_hook=_members,
    )
    assert repr(value) == repr(expected), "the same values, of the same types, with the same digits"
    assert read_json(write_json(value)) == value
    assert _depth(value) <= MAX_DEPTH


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _int(literal: str) -> int:
    assert len(literal) <= MAX_NUMBER_CHARACTERS
    return int(literal)


def _decimal(literal: str) -> Decimal:
    assert len(literal) <= MAX_NUMBER_CHARACTERS
    exponent = re.search(r"(?i)e(.*)", literal)
    assert exponent is None or abs(int(exponent[1])) <= MAX_EXPONENT
    return Decimal(literal)


def _constant(literal: str) -> None:
    raise AssertionError(f"{literal} was read")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs), "one member twice"
    for text in (text for pair in pairs for text in pair if isinstance(text, str)):
        assert not re.search("[\0\ud800-\udfff]", text)
    return dict(pairs)


JSON = Target(
    one_json,
    (
        b'{"hook": "order-sign", "context": {"patientId": "p1", "draftOrders": {"entry": []}}, "prefetch": null}',
        b'[1, -0.5, 1e30, 0.70, true, false, null, "\\ud83d\\ude00", "\\"\\\\[{"]',
        b"[" * 64 + b"]" * 64,
        b'{"a": {"a": [{}, [], [[]]]}}',
        b'{"a": 1, "b": 2, "\\u0061": 3}',
        b"[1111111111111111111111111111111111111111, -0.00000000000000000000000000000000000001]",
    ),
    (
        b"\\u0000",
        b"\\ud800",
        b"NaN",
        b"-Infinity",
        b"1e31",
        b'"a":',
        b"\xef\xbb\xbf",
        b"\\\\",
        b'\\"',
        b"[[",
        b"]]",
        b"{}",
    ),
)

# --- the token and its header ---------------------------------------------------------------------

_ISS, _BASE, _PATH, _NOW = (
    "https://ehr.example.org/fhir",
    "https://cds.example.org",
    "/cds-services/x",
    1_800_000_000,
)
_PAYLOAD = {"iss": _ISS, "aud": _BASE + _PATH, "iat": _NOW, "exp": _NOW + 300, "jti": "j"}


@cache
def _signer() -> tuple[Any, Key, dict[str, Client]]:
    private = ec.generate_private_key(ec.SECP384R1())
    key = read_key(ECAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": "k"})
    fhir = FhirClient(FetchPolicy(), read_json)
    client = Client(
        "ward", _ISS, (_BASE,), fhir, {("k", "ES384"): key}, jwks_url="https://ehr.example.org/jwks"
    )
    return private, key, {_ISS: client}


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def one_token(raw: bytes) -> None:
    """The input as the header of a token that is rightly signed, as its payload, and as the whole token."""
    private, key, _ = _signer()
    payload = json.dumps(_PAYLOAD).encode()
    good = b'{"alg":"ES384","typ":"JWT","kid":"k"}'
    for header, said in ((raw, payload), (good, raw)):
        signed = f"{_part(header)}.{_part(said)}"
        claims = _read(signed + ".AAAA")
        if claims is not None:
            assert claims.issuer == _ISS
            assert 0 < len(claims.jti) <= 256 and _NOW - 60 < claims.expires <= _NOW + 960
            header_said = json.loads(header)
            assert claims.algorithm == header_said["alg"] and claims.algorithm in ALGORITHMS
            assert header_said["typ"] == "JWT" and "crit" not in header_said and "b64" not in header_said
            assert header_said.get("jku", "https://ehr.example.org/jwks") == "https://ehr.example.org/jwks"
            if (claims.kid, claims.algorithm) == ("k", "ES384"):  # else the client has no such key
                signature = jwt.get_algorithm_by_name("ES384").sign(signed.encode(), private)
                assert signed_by(f"{signed}.{_part(signature)}", key)
                assert not signed_by(f"{signed}.{_part(bytes(96))}", key)
    _read(raw.decode("latin-1"))


def _read(token: str) -> Claims | None:
    with _in_time():
        try:
            return read_token(token, _signer()[2], [_PATH], _NOW)[1]
        except TokenRefused:
            return None


TOKEN = Target(
    one_token,
    (
        b'{"alg":"ES384","typ":"JWT","kid":"k"}',
        b'{"alg":"RS384","typ":"JWT","kid":"k"}',
        b'{"alg":"ES384","typ":"JWT","kid":"k","jku":"https://ehr.example.org/jwks"}',
        json.dumps(_PAYLOAD).encode(),
        json.dumps(_PAYLOAD | {"nbf": _NOW - 5, "tenant": "t", "aud": ["x", _BASE + _PATH]}).encode(),
        f"{_part(b'{}')}.{_part(b'{}')}.{_part(b'x')}".encode(),
    ),
    (
        b'"crit":[]',
        b'"b64":false',
        b'"none"',
        b'"HS384"',
        b'"RS384"',
        b'"jwk":{}',
        b"1e30",
        b"true",
        b"1800000361",
        b'"nbf":',
    ),
)

# --- the URL guard --------------------------------------------------------------------------------

_BASES = ("https://fhir.example.org/r4", "https://10.20.1.1:8443/fhir", "https://[2001:db8::5]/fhir")
_CLIENT = FhirClient(FetchPolicy(allowed_bases=_BASES, networks=("10.20.0.0/16", "2001:db8::/32")), read_json)


def one_url(raw: bytes) -> None:
    """What the guard takes, two other parsers take for the same scheme, host and port; and only listed bases pass."""
    text = raw.decode("utf-8", "replace")
    with _in_time():
        permitted, found = _CLIENT.permits(text), read_place(text, 8192)
    if permitted:
        assert found is not None
        assert any(f"{found[0].url}/".startswith(f"{base}/") for base in _BASES), text
    if found is not None:
        place = found[0]
        assert text.isascii() and not re.search(r"[\s\\#\x00-\x1f]", text.partition("?")[0])
        other, third = urlsplit(text), parse_url(text)
        assert other.scheme == place.scheme == third.scheme
        host = place.host.strip("[]")
        assert _same_host(other.hostname or "", host) and _same_host((third.host or "").strip("[]"), host), (
            text
        )
        default = {"http": 80, "https": 443}[place.scheme]
        assert (other.port or default) == (third.port or default) == place.port
        assert read_place(place.url, 8192) == (place, ""), "canonical already"
    root = read_place(_BASES[0], 2048)
    assert root is not None
    target = read_target(root[0], text)
    if target is not None:
        sent = parse_url(target.url)
        assert (sent.scheme, sent.host, sent.port) == ("https", "fhir.example.org", None)
        assert (sent.path or "").startswith("/r4") and ".." not in (sent.path or "").split("/")
        assert not re.search(r"[\s\x00-\x1f\x7f]", target.url) and target.url.isascii()


def _same_host(one: str, other: str) -> bool:
    if ":" in one and ":" in other:
        return IPv6Address(one) == IPv6Address(other)
    return one.lower() == other


URL = Target(
    one_url,
    (
        *(base.encode() for base in _BASES),
        b"https://fhir.example.org/r4/Observation?page=2&_count=50",
        b"https://fhir.example.org:443/r4/",
        b"HTTPS://FHIR.example.org/r4/Patient/1",
        b"https://user:pw@fhir.example.org\\@evil.example/r4",
        b"http://[::ffff:127.0.0.1]:80/x;y=1?q#f",
        b"Patient/1/_history/2",
        b"Observation?patient=Patient/1&code=http://loinc.org|718-7,6690-2",
        b"https://2130706433/",
    ),
    (
        b"://",
        b"%2e%2e",
        b"%5c",
        b"/../",
        b"@",
        b"\\",
        b"#",
        b"[::1]",
        b"0x7f",
        b":0443",
        b"?",
        b"xn--",
        b"%00",
    ),
)

# --- the dose and its words -----------------------------------------------------------------------

_TABLET = Product(Form.TABLET, Decimal(5), None, "product-code")
_SOLUTION = Product(Form.ORAL_SOLUTION, Decimal(1), Decimal(1), "words")


def one_dose(raw: bytes) -> None:
    """JSON is taken for a whole order; anything else for the words of an order, of its timing and of its product.

    Words alone never make a dose; a dose that is read is a positive number of milligrams with a rhythm.
    """
    try:
        order: Any = read_json(raw)
    except UnreadableBody:
        text = raw.decode("utf-8", "replace").replace("\0", "")
        _judge(_ordered(text=text, patientInstruction=text), worded=True)
        five, twice = {"value": 5, "unit": "mg"}, {"code": {"text": "BID"}}
        product = read_product([], [text], None)
        assert product.strength_mg is None or product.strength_mg > 0
        assert product.per_ml is None or product.per_ml > 0
        _judge(_ordered(doseQuantity={"value": 1, "unit": "mL"}, timing=twice), product)
        _judge(_ordered(doseQuantity={"value": 5, "unit": text}, timing=twice))
        _judge(_ordered(doseQuantity=five, timing={"code": {"text": text}}))
        repeat = {"frequency": 2, "period": 1, "periodUnit": text}
        _judge(_ordered(doseQuantity=five, timing={"repeat": repeat}))
    else:
        _judge(order)


def _ordered(**dosage: Any) -> dict[str, Any]:
    return {"dosageInstruction": [dosage]}


def _judge(order: Any, *products: Product, worded: bool = False) -> None:
    for product in products or (_TABLET, _SOLUTION):
        with _in_time():
            dose = read_dose(order, product)
        assert (dose.regimen is not None) == (dose.state is DoseState.READ)
        assert not (worded and dose.state is DoseState.READ), "words were taken for a dose"
        if dose.regimen is not None:
            assert dose.regimen.administrations
            assert dose.regimen.mg_per_day.is_finite()
            for part in dose.regimen.administrations:
                times = part.times_per_day
                assert part.mg.is_finite() and part.mg > 0
                assert (part.when is None) != (times is None)
                assert times is None or (times.is_finite() and times > 0)


def _order(**dosage: Any) -> bytes:
    return json.dumps(_ordered(**dosage)).encode()


_MG = {"value": 5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}
_DAILY = {"frequency": 2, "period": 1, "periodUnit": "d"}
DOSE = Target(
    one_dose,
    (
        _order(doseAndRate=[{"doseQuantity": _MG}], timing={"repeat": _DAILY}),
        _order(doseQuantity=_MG, timing={"repeat": _DAILY | {"when": ["MORN", "EVE"]}}, sequence=1),
        _order(
            doseAndRate=[{"doseRange": {"low": _MG, "high": _MG}}],
            timing={"code": {"coding": [{"code": "BID"}]}},
        ),
        _order(
            doseQuantity=_MG,
            maxDosePerPeriod={"numerator": _MG, "denominator": {"value": 1, "unit": "d"}},
            timing={"repeat": _DAILY | {"timeOfDay": ["08:00:00", "20:00:00"], "dayOfWeek": ["mon"]}},
        ),
        b"5 mg twice daily",
        b"every 12 hours",
        b"Tofacitinib 5 mg film-coated tablets",
        b"1 mg/mL oral solution",
        b"BID",
        b"twice a day (qualifier value)",
        "2,5 mg/5 ml Lösung".encode(),
    ),
    (
        b" mg",
        b"/mL",
        b"mcg",
        b'"timing":',
        b'"repeat":',
        b'"periodMax":',
        b'"asNeededBoolean":',
        b'"boundsPeriod":',
        b"1e-30",
        b"1e30",
        "½".encode(),
        "٣".encode(),
        "µg".encode(),
        b"QD",
        b"PRN",
        b'"modifierExtension":',
    ),
)

TARGETS = {"json": JSON, "token": TOKEN, "url": URL, "dose": DOSE}
