"""The clients that may call: the file named by ``JAKI_CDS_CLIENTS``, checked whole at the start.

``docs/connecting.md`` shows the file. A fault in it is told with file, line and cure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import yaml

from cds_service.json_reader import read_json
from cds_service.jwks import (
    LARGEST_SET_BYTES,
    MOST_KEYS,
    SANDBOX_ISSUER,
    Key,
    KeyFault,
    Keys,
    read_key,
)
from cds_service.profiles import DEFAULT, PROFILES
from cds_service.settings import Settings
from fhir_mappings.client import FetchPolicy, FetchState, FhirClient

KEY_FETCH_MS: Final = 2000
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_HTTPS = re.compile(r"https://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?(?:/[!$&-;=@-Z_a-z~%]*)?")
_BASE = re.compile(r"https?://[A-Za-z0-9.\-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]*)?")


class ClientsFault(ValueError):
    """A file of clients that cannot be used; one line that names file, line, fault and cure."""


@dataclass(frozen=True, slots=True)
class Client:
    """One EHR that may call.

    ``name``: how logs and reports call it. ``iss``: compared character for character. ``keys``: those
    that stand in the file; ``jwks_url``: where the others are fetched. ``audiences``: base addresses under
    which it calls this service. ``tenants``: which of its tenants may call; empty: all, also none named.
    ``profile``: shape of the answers. ``fhir``: fetches from its FHIR servers and no others.
    """

    name: str
    iss: str
    audiences: tuple[str, ...]
    fhir: FhirClient = field(repr=False, compare=False)
    keys: Keys = field(default_factory=dict)
    jwks_url: str | None = None
    fetch_keys: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    tenants: tuple[str, ...] = ()
    fhir_bases: tuple[str, ...] = ()
    profile: str = DEFAULT


def load_clients(settings: Settings) -> tuple[Client, ...]:
    """The clients of the file that the settings name.

    Raises:
        ClientsFault: at the first entry that cannot be used.
    """
    if settings.clients is None:
        return ()
    reader = _Reader(settings.clients, settings)
    try:
        root = yaml.compose(settings.clients.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line if fault.problem_mark else 0
        raise ClientsFault(
            f"{settings.clients.name}, line {line + 1}: not readable as YAML; correct it."
        ) from None
    except (OSError, ValueError, yaml.YAMLError):
        raise ClientsFault(f"{settings.clients.name}: not readable as YAML in UTF-8; correct it.") from None
    return reader.clients(root)


_MEMBERS: Final = (
    *("name", "iss", "jwks", "jwks_url", "audiences", "tenants"),
    *("fhir_bases", "networks", "ca_file", "profile"),
)


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path
    settings: Settings

    def fault(self, node: yaml.Node | None, text: str) -> ClientsFault:
        line = "" if node is None else f", line {node.start_mark.line + 1}"
        return ClientsFault(f"{self.path.name}{line}: {text}.")

    def clients(self, root: yaml.Node | None) -> tuple[Client, ...]:
        entries = self.mapping(root, ("clients",), "the file").get("clients")
        if not isinstance(entries, yaml.SequenceNode) or not entries.value:
            raise self.fault(entries or root, "no client is configured; list at least one under clients")
        found: list[Client] = []
        for entry in entries.value:
            client = self.client(entry)
            for other in found:
                if other.iss == client.iss or other.name == client.name:
                    raise self.fault(entry, "its name or iss stands twice; each client has its own")
            found.append(client)
        return tuple(found)

    def client(self, entry: yaml.Node) -> Client:
        members = self.mapping(entry, _MEMBERS, "a client")
        name = self.required(entry, members, "name")
        if not _NAME.fullmatch(name):
            raise self.fault(members["name"], "name takes up to 40 small letters, digits and hyphens")
        iss = self.required(entry, members, "iss")
        if not _HTTPS.fullmatch(iss):
            raise self.fault(members["iss"], "iss must be an https address, as the client's tokens have it")
        if iss.rstrip("/") == SANDBOX_ISSUER and not self.settings.demo:
            raise self.fault(
                members["iss"], "the public sandbox's signing key is known to all; use it with --demo only"
            )
        networks = self.texts(members, "networks")
        ca_file = self.text(members["ca_file"], "ca_file") if "ca_file" in members else None
        keys, jwks_url, fetch = self.keys(entry, members, networks, ca_file)
        bases = self.texts(members, "fhir_bases")
        profile = self.text(members["profile"], "profile") if "profile" in members else DEFAULT
        if profile not in PROFILES:
            raise self.fault(members["profile"], f"profile is one of {', '.join(PROFILES)}")
        return Client(
            name=name,
            iss=iss,
            audiences=self.audiences(entry, members),
            fhir=self.fetcher(members.get("fhir_bases", entry), bases, networks, ca_file, {}),
            keys=keys,
            jwks_url=jwks_url,
            fetch_keys=fetch,
            tenants=self.texts(members, "tenants"),
            fhir_bases=bases,
            profile=profile,
        )

    def audiences(self, entry: yaml.Node, members: Mapping[str, yaml.Node]) -> tuple[str, ...]:
        bases = self.texts(members, "audiences")
        for base in bases:
            if not _BASE.fullmatch(base):
                raise self.fault(
                    members["audiences"],
                    "audiences are base addresses of this service, without /cds-services",
                )
        bases = tuple(base.rstrip("/") for base in bases)
        if not bases and self.settings.public_base_url:
            bases = (self.settings.public_base_url,)
        if not bases:
            raise self.fault(
                entry,
                "nobody knows what aud its tokens have; set JAKI_CDS_PUBLIC_BASE_URL, or list audiences",
            )
        return bases

    def keys(
        self,
        entry: yaml.Node,
        members: Mapping[str, yaml.Node],
        networks: tuple[str, ...],
        ca_file: str | None,
    ) -> tuple[Keys, str | None, Callable[[], object] | None]:
        if ("jwks" in members) == ("jwks_url" in members):
            raise self.fault(entry, "give its keys either as jwks or by jwks_url")
        if "jwks" in members:
            return self.inline(members["jwks"]), None, None
        node = members["jwks_url"]
        url = self.text(node, "jwks_url")
        if not _HTTPS.fullmatch(url) or "?" in url:
            raise self.fault(node, "jwks_url must be an https address without a query")
        if url.startswith(f"{SANDBOX_ISSUER}/") and not self.settings.demo:
            raise self.fault(node, "the public sandbox's key is known to all; use it with --demo only")
        # One attempt may take all the time: a key server that is slow, not dead, must not lock its client out.
        limits = {"max_bytes": LARGEST_SET_BYTES, "deadline_ms": KEY_FETCH_MS, "attempt_ms": KEY_FETCH_MS}
        fetcher = self.fetcher(node, (url,), networks, ca_file, limits)

        def fetch() -> object:
            fetched = fetcher.document()
            return fetched.body if fetched.state is FetchState.OK else None

        return {}, url, fetch

    def inline(self, node: yaml.Node) -> Keys:
        """Keys in the file, as YAML or as the client's JSON, which is YAML too."""
        members = self.mapping(node, ("keys",), "jwks")
        entries = members.get("keys")
        if not isinstance(entries, yaml.SequenceNode) or not 0 < len(entries.value) <= MOST_KEYS:
            raise self.fault(node, f"jwks has a list keys of 1 to {MOST_KEYS} public keys")
        found: dict[tuple[str, str], Key] = {}
        for entry in entries.value:
            jwk = {name: _plain(value) for name, value in self.mapping(entry, None, "a key").items()}
            try:
                key = read_key(jwk, sandbox=self.settings.demo)
            except KeyFault as fault:
                raise self.fault(entry, str(fault)) from None
            if (key.kid, key.algorithm) in found:
                raise self.fault(entry, "two keys have this kid; each key has its own")
            found[key.kid, key.algorithm] = key
        return found

    def fetcher(
        self,
        node: yaml.Node,
        bases: tuple[str, ...],
        networks: tuple[str, ...],
        ca_file: str | None,
        limits: Mapping[str, Any],
    ) -> FhirClient:
        try:
            loopback = any(ip_network(network).is_loopback for network in networks)
            policy = FetchPolicy(
                allowed_bases=bases,
                allow_loopback=loopback,
                networks=networks,
                ca_file=ca_file,
                **{"deadline_ms": self.settings.fetch_deadline_ms, **limits},
            )
            return FhirClient(policy, read_json)
        except ValueError as fault:
            raise self.fault(node, str(fault).rstrip(".")) from None

    def mapping(
        self, node: yaml.Node | None, allowed: tuple[str, ...] | None, what: str
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.fault(node, f"{what} is a list of names and values; see docs/connecting.md")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fault(key, f"a name in {what} is one word; see docs/connecting.md")
            if allowed is not None and key.value not in allowed:
                raise self.fault(key, f"{what} has no {_quoted(key)}; the names are {', '.join(allowed)}")
            if key.value in found:
                raise self.fault(key, f"{_quoted(key)} stands twice; keep one of them")
            found[key.value] = value
        return found

    def required(self, entry: yaml.Node, members: Mapping[str, yaml.Node], name: str) -> str:
        if name not in members:
            raise self.fault(entry, f"a client needs {name}; add it")
        return self.text(members[name], name)

    def text(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self.fault(node, f"{name} is one text; write it on its line")
        return str(node.value)

    def texts(self, members: Mapping[str, yaml.Node], name: str) -> tuple[str, ...]:
        node = members.get(name)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.fault(node, f"{name} is a list with at least one entry; add one, or leave {name} out")
        return tuple(self.text(item, name) for item in node.value)


def _quoted(key: yaml.Node) -> str:
    return json.dumps(str(key.value)[:40])


def _plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    return node.value
