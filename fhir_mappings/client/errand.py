"""The errand of one key: get it over all its pages, in time, and say in a few fixed words what went wrong."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext
from typing import Any, Final

import requests
from urllib3.exceptions import DecodeError as ContentDecodeError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from fhir_mappings.client.addresses import LONGEST_LINK, Peers, Place, Target, below, joined_url
from fhir_mappings.client.connection import AddressRefusedError, Line, Secret, Session, unlogged
from fhir_mappings.client.outcomes import Fetched, FetchPolicy, FetchState

LEAST_FOR_RETRY_S: Final = 0.3
JITTER_S: Final = (0.01, 0.05)
CHUNK: Final = 64 * 1024
OUT_OF_TIME: Final = "the time for fetching ran out"
_MEDIA_TYPES: Final = frozenset({"application/fhir+json", "application/json", "application/json+fhir", ""})
_CODINGS: Final = frozenset({"", "identity", "gzip", "deflate"})
_BUSY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_GONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


class _FaultError(Exception):
    """Why an attempt gave no resource. ``retry``: a second one may help. ``sick``: the server is unwell."""

    def __init__(self, state: FetchState, why: str, *, retry: bool = False, sick: bool = False) -> None:
        super().__init__(why)
        self.state, self.why, self.retry, self.sick = state, why, retry, sick


def _unfetchable(why: str, *, retry: bool = False, sick: bool = True) -> _FaultError:
    return _FaultError(FetchState.NOT_FETCHABLE, why, retry=retry, sick=sick)


def _failed(why: str, *, retry: bool = False, sick: bool = False) -> _FaultError:
    return _FaultError(FetchState.FAILED, why, retry=retry, sick=sick)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all errands of one client share."""

    policy: FetchPolicy
    read_json: Callable[[bytes], object]
    peers: Peers
    tls: SSLContext | None


class Errand:
    """The fetch of one key over its pages, on a thread of its own; `settle` may be called at any time."""

    media_types = _MEDIA_TYPES

    def __init__(self, terms: Terms, root: Place, token: Secret | None, target: Target, end: float):
        self._policy, self._read_json = terms.policy, terms.read_json
        self._root, self._token, self._target, self._end = root, token, target, end
        self._tls = terms.tls
        self._line = Line(terms.peers)
        self._bytes_left = terms.policy.max_bytes
        self._outcome: Fetched | None = None
        self._so_far: Fetched | None = None
        self._called = False
        self.healthy: bool | None = None
        """Whether the server seems well: None until it showed either way."""

    def run(self) -> None:
        try:
            with unlogged(), Session(self._root, self._line, self._tls, self._token) as session:
                self._outcome = self._fetch(session)
        except _FaultError as fault:
            self._outcome = Fetched(fault.state, why=fault.why)
        except Exception:
            # A fault of ours or of a library must not cost the other keys; its text may hold a URL.
            self._outcome = Fetched(FetchState.FAILED, why="the answer could not be handled")

    def refuse(self, why: str) -> None:
        self._outcome = Fetched(FetchState.NOT_FETCHABLE, why=why)

    def settle(self) -> Fetched:
        """The result as of now; what is still under way is cut off and keeps the pages it has."""
        outcome = self._outcome
        if outcome is not None:
            return outcome
        if self._called and self.healthy is None:
            self.healthy = False
        self._line.cut()
        return self._so_far or Fetched(FetchState.NOT_FETCHABLE, why=OUT_OF_TIME)

    def _fetch(self, session: Session) -> Fetched:
        url = self._target.url
        first = self._get(session, url)
        self._check_kind(first)
        if first["resourceType"] != "Bundle":
            return Fetched(FetchState.OK, first)
        entries, links, seen, page = _entries(first), _links(first), {url}, first
        for pages in range(1, self._policy.max_pages + 1):
            if len(entries) > self._policy.max_resources:
                return _merged(first, entries[: self._policy.max_resources], links, "too many resources")
            if not (following := [link.get("url") for link in links if link.get("relation") == "next"]):
                return _merged(first, entries, links, None)
            link = self._inside(url, following[0])
            if link is None or link in seen:
                return _merged(first, entries, links, "the link to the next page may not be followed")
            if pages == self._policy.max_pages or len(entries) == self._policy.max_resources:
                return _merged(first, entries, links, "too many pages")
            self._so_far = _merged(first, entries, links, OUT_OF_TIME)
            try:
                page = self._get(session, link)
                if page["resourceType"] != "Bundle":
                    raise _failed("a page is not a Bundle")
                more, links = _entries(page), _links(page)
            except _FaultError as fault:
                return _merged(first, entries, links, fault.why)
            entries, url = entries + more, link
            seen.add(link)
        raise AssertionError("max_pages is at least 1, so the loop returns")

    def _inside(self, current: str, link: object) -> str | None:
        """The address of a ``next`` link where it stays below the base, else ``None``."""
        if not isinstance(link, str) or not link or len(link) > LONGEST_LINK:
            return None
        return below(self._root, joined_url(current, link))

    def _check_kind(self, body: dict[str, Any]) -> None:
        kind, expected = body["resourceType"], self._target
        if kind == "OperationOutcome":
            return
        if kind != expected.expects:
            raise _failed("the answer is of another resource type than was asked for")
        if expected.id is not None and body.get("id", expected.id) != expected.id:
            raise _failed("the answer is another resource than was asked for")

    def _get(self, session: Session, url: str) -> dict[str, Any]:
        """One page or resource, with at most one second attempt.

        Raises:
            _FaultError: with state, reason and whether the server seems unwell.
        """
        for last in (False, True):
            try:
                body = self._attempt(session, url)
                self.healthy = True
                return body
            except _FaultError as fault:
                if not fault.sick:
                    self.healthy = self.healthy if fault.state is FetchState.NOT_FETCHABLE else True
                elif self.healthy is None:
                    self.healthy = False
                pause = random.uniform(*JITTER_S)  # spreads retries, keeps no secret  # nosec B311
                if last or not fault.retry or self._left() - pause < LEAST_FOR_RETRY_S:
                    raise
                time.sleep(pause)
        raise AssertionError("the second attempt returns or raises")

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _attempt(self, session: Session, url: str) -> dict[str, Any]:
        limit = min(self._policy.attempt_ms / 1000, self._left())
        if limit <= 0:
            raise _unfetchable(OUT_OF_TIME, sick=False)
        end = time.monotonic() + limit
        connect = min(self._policy.connect_ms / 1000, limit)
        self._called = True
        try:
            response = session.get(url, stream=True, allow_redirects=False, timeout=(connect, limit))
        except AddressRefusedError:
            raise _unfetchable("the server's network address is not permitted", sick=False) from None
        except requests.exceptions.SSLError:
            raise _unfetchable("no trustworthy TLS connection") from None
        except requests.exceptions.ConnectTimeout:
            raise _unfetchable("the server did not accept the connection in time", retry=True) from None
        except requests.exceptions.Timeout:
            raise _unfetchable("the server did not answer in time") from None
        except requests.exceptions.ConnectionError:
            raise _unfetchable("no connection to the server", retry=True) from None
        with closing(response):
            self._check_status(response.status_code)
            raw = self._body(response, end)
        return self._parse(raw)

    def _check_status(self, status: int) -> None:
        if status == HTTPStatus.OK:
            return
        if status in _GONE and self._target.id is not None:
            raise _FaultError(FetchState.NOT_FOUND, "the resource does not exist")
        unwell = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        raise _failed(f"the server answered with HTTP status {status}", retry=status in _BUSY, sick=unwell)

    def _body(self, response: requests.Response, end: float) -> bytes:
        """The decompressed body. Its size is counted while it grows, never taken from a header."""
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        if media_type not in self.media_types or coding not in _CODINGS:
            raise _failed("the answer is not FHIR JSON")
        body = bytearray()
        try:
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    raise _unfetchable("the server did not answer in time")
                self._line.limit(left)
                # read1 returns what has arrived; read would wait for the whole chunk, however slow.
                chunk = response.raw.read1(CHUNK, decode_content=True)
                if not chunk:
                    break
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise _failed("the answer is too large")
                body += chunk
        except ReadTimeoutError:
            raise _unfetchable("the server did not answer in time") from None
        except ContentDecodeError:
            raise _failed("the answer is not FHIR JSON") from None
        except (HTTPError, OSError):
            raise _failed("the answer broke off", sick=True) from None
        return bytes(body)

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = self._read_json(raw)
        except Exception:
            raise _failed("the answer is not FHIR JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("resourceType"), str):
            raise _failed("the answer is not FHIR JSON")
        if _is_error(body):
            raise _failed("the server answered with an OperationOutcome")
        return body


class DocumentErrand(Errand):
    """The fetch of one JSON object that is no FHIR resource (a client's key set)."""

    media_types = _MEDIA_TYPES | {"application/jwk-set+json", "text/plain"}

    def _fetch(self, session: Session) -> Fetched:
        session.headers["Accept"] = "application/jwk-set+json, application/json"
        return Fetched(FetchState.OK, self._get(session, self._target.url))

    def _parse(self, raw: bytes) -> dict[str, Any]:
        try:
            body = self._read_json(raw)
        except Exception:
            raise _failed("the answer is not JSON") from None
        if not isinstance(body, dict):
            raise _failed("the answer is not a JSON object")
        return body


# --- what an answer holds -------------------------------------------------------------------------


def _is_error(body: dict[str, Any]) -> bool:
    """Whether an OperationOutcome says error or fatal, or something that cannot be understood."""
    if body["resourceType"] != "OperationOutcome":
        return False
    issues = body.get("issue")
    if not isinstance(issues, list):
        return True
    return any(
        not isinstance(issue, dict) or issue.get("severity") not in ("warning", "information")
        for issue in issues
    )


def _entries(bundle: dict[str, Any]) -> list[Any]:
    """The entries of a Bundle, among them no OperationOutcome of severity error or fatal."""
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise _failed("the answer is not FHIR JSON")
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and "resourceType" in resource and _is_error(resource):
            raise _failed("the server answered with an OperationOutcome")
    return entries


def _links(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """The links of a Bundle; unreadable ones are a fault, for they may hide that more pages exist."""
    links = bundle.get("link", [])
    if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
        raise _failed("the answer is not FHIR JSON")
    return links


def _merged(
    first: dict[str, Any], entries: list[Any], links: list[dict[str, Any]], cut: str | None
) -> Fetched:
    """The pages as one Bundle. Its links are those of the last page: a ``next`` is one not followed."""
    body = {name: value for name, value in first.items() if name not in ("entry", "link")}
    if links:
        body["link"] = links
    if entries:
        body["entry"] = entries
    return Fetched(FetchState.OK, body, partial=cut is not None, why=cut)
