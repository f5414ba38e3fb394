"""The client itself: which base may be called, and all keys of a call in parallel inside one deadline."""

from __future__ import annotations

import ipaddress
import queue
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fhir_mappings.client.addresses import (
    LONGEST_BASE,
    Peers,
    Place,
    Target,
    read_network,
    read_place,
    read_target,
)
from fhir_mappings.client.breaker import Breaker
from fhir_mappings.client.connection import Secret, tls_context
from fhir_mappings.client.errand import OUT_OF_TIME, DocumentErrand, Errand, Terms
from fhir_mappings.client.outcomes import Fetched, FetchPolicy, FetchState

IN_FLIGHT: Final = 8
"""Calls to one base at any moment, over all hook requests of this process."""
BASES_REMEMBERED: Final = 256
"""Breakers kept; in demo mode a caller may name any number of loopback bases."""

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1"})
_TOKEN = re.compile(r"[!-~]{1,16384}")


@dataclass(frozen=True, slots=True)
class _Gate:
    breaker: Breaker
    slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(IN_FLIGHT))


class FhirClient:
    """Fetches FHIR resources for one issuer (or for demo mode) within its policy; safe for threads.

    ``read_json`` is the service's hardened JSON reader: bytes to Python values, any exception where the
    bytes are not acceptable JSON. Breakers and counts of calls live in this object, so there is one
    client per policy and process, not one per request.

    Raises:
        ValueError: a base, network or CA file of the policy cannot be used; says which and what to write.
    """

    def __init__(
        self,
        policy: FetchPolicy,
        read_json: Callable[[bytes], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy, self._clock = policy, clock
        self._peers = Peers(policy.allow_loopback, tuple(read_network(cidr) for cidr in policy.networks))
        for name in ("deadline_ms", "connect_ms", "attempt_ms", "max_bytes", "max_pages", "max_resources"):
            if getattr(policy, name) < 1:
                raise ValueError(f"{name}: {getattr(policy, name)} is too small; write a whole number from 1")
        self._bases = tuple(self._listed(base) for base in policy.allowed_bases)
        # Without a listed base only plain HTTP to this machine is possible.
        tls = tls_context(policy.ca_file) if self._bases else None
        self._terms = Terms(policy, read_json, self._peers, tls)
        self._gates: OrderedDict[Place, _Gate] = OrderedDict()
        self._gates_lock = threading.Lock()
        self._open = 0
        self.watch: Callable[[int], None] = lambda resting: None
        """Told how many bases are left alone or only probed, each time that this changes; nothing else of them."""

    def permits(self, base: str) -> bool:
        """Whether this FHIR base may be called at all; nothing is looked up or sent."""
        return self._admitted(base) is not None

    def fetch_all(
        self, base: str, token: str | None, queries: Mapping[str, str], *, deadline_ms: int | None = None
    ) -> dict[str, Fetched]:
        """Fetch every key in parallel and return by the deadline, whatever the server does.

        ``queries``: for each key a read (``Patient/1``), a type-level search (``Observation?...``) or, to
        read on in a Bundle that came with the prefetch, its ``next`` link. ``deadline_ms`` lowers
        the policy's deadline for this call (what remains of the hook request's budget).
        The result has exactly the keys of ``queries``.
        """
        allowed = self._policy.deadline_ms
        budget_ms = allowed if deadline_ms is None else min(deadline_ms, allowed)
        end = time.monotonic() + budget_ms / 1000
        root = self._admitted(base)
        if root is None:
            return _refused(queries, "the FHIR base is not permitted")
        if token is not None and not _TOKEN.fullmatch(token):
            return _refused(queries, "the access token has an impossible form")
        if budget_ms <= 0:
            return _refused(queries, OUT_OF_TIME)
        secret = None if token is None else Secret(token)
        targets = {key: read_target(root, query) for key, query in queries.items()}
        errands = {
            key: Errand(self._terms, root, secret, target, end)
            for key, target in targets.items()
            if target is not None
        }
        settled = self._run(self._gate(root), list(errands.values()), end) if errands else []
        results = dict(zip(errands, settled, strict=True))
        outside = Fetched(
            FetchState.NOT_FETCHABLE, why="the query is not a read, a search or a page below the base"
        )
        return {key: results.get(key, outside) for key in queries}

    def document(self) -> Fetched:
        """The JSON object at the policy's first base itself, with all guards of a FHIR call and no token.

        For what a site configures by its address, such as a client's key set.
        """
        end = time.monotonic() + self._policy.deadline_ms / 1000
        root = self._bases[0]
        errand = DocumentErrand(self._terms, root, None, Target(root.url, ""), end)
        return self._run(self._gate(root), [errand], end)[0]

    def _run(self, gate: _Gate, errands: Sequence[Errand], end: float) -> list[Fetched]:
        ticket = gate.breaker.admit()
        if ticket is None:
            resting = Fetched(FetchState.NOT_FETCHABLE, why="the server failed repeatedly and is left alone")
            return [resting] * len(errands)
        todo: queue.SimpleQueue[Errand] = queue.SimpleQueue()
        done: queue.SimpleQueue[None] = queue.SimpleQueue()
        for errand in errands:
            todo.put(errand)

        def work() -> None:
            with suppress(queue.Empty):
                while True:
                    errand = todo.get_nowait()
                    if gate.slots.acquire(timeout=max(0.0, end - time.monotonic())):
                        try:
                            errand.run()
                        finally:
                            gate.slots.release()
                    else:
                        errand.refuse("too many calls to this server are under way")
                    done.put(None)

        # Daemon threads and not a ThreadPoolExecutor: the executor joins its threads when the
        # interpreter exits, so a name look-up that hangs would hold up the shutdown.
        for _ in range(min(IN_FLIGHT, len(errands))):
            threading.Thread(target=work, name="fhir-fetch", daemon=True).start()
        with suppress(queue.Empty):
            for _ in errands:
                done.get(timeout=max(0.0, end - time.monotonic()))
        settled = [errand.settle() for errand in errands]
        signs = [errand.healthy for errand in errands]
        # One answer shows that the server lives; only when it gave none at all is it called sick.
        gate.breaker.record(ticket, True if True in signs else False if False in signs else None)
        self._tell()
        return settled

    def _tell(self) -> None:
        with self._gates_lock:
            resting = sum(gate.breaker.is_open for gate in self._gates.values())
            if resting != self._open:
                self._open = resting
                self.watch(resting)

    def _gate(self, root: Place) -> _Gate:
        with self._gates_lock:
            gate = self._gates.pop(root, None) or _Gate(Breaker(self._clock))
            self._gates[root] = gate
            if len(self._gates) > BASES_REMEMBERED:
                self._gates.popitem(last=False)
            return gate

    def _admitted(self, base: str) -> Place | None:
        place = self._usable(base)
        if place is None:
            return None
        # Plain HTTP has passed `_usable` only in demo mode and for this machine.
        listed = place.scheme == "http" or any(allowed.holds(place) for allowed in self._bases)
        return place if listed else None

    def _usable(self, base: str) -> Place | None:
        """The canonical base, where its form, its scheme and an address written out in it are acceptable."""
        found = read_place(base, LONGEST_BASE)
        if found is None or found[1] not in ("", "/"):
            return None
        place = found[0]
        demo = self._policy.allow_http and self._policy.allow_loopback and place.host in _LOOPBACK_HOSTS
        if place.scheme != "https" and not demo:
            return None
        try:
            address = ipaddress.ip_address(place.host.strip("[]"))
        except ValueError:
            return place
        return place if self._peers.permit(address) else None

    def _listed(self, base: str) -> Place:
        place = self._usable(base)
        if place is None:
            raise ValueError(
                f"allowed_bases: {base!r} cannot be a FHIR base; write https://host[:port]/path in plain "
                "ASCII, without user, query or fragment; list the network of a private address in networks"
            )
        return place


def _refused(queries: Mapping[str, str], why: str) -> dict[str, Fetched]:
    return {key: Fetched(FetchState.NOT_FETCHABLE, why=why) for key in queries}
