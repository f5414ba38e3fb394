"""The guarded FHIR client: fetches the data an EHR did not send as prefetch, in time and from it only.

This is the one part of ``fhir_mappings`` with a clock, threads and a network. Everything that comes
from outside is hostile until shown otherwise: the base URL in the hook request, the address its
name resolves to, each byte of an answer, and the ``next`` links of a Bundle. Whatever happens, a
fetch ends by its deadline with one `Fetched` for each key; no exception leaves it for a fault
of the network, and neither a reason nor a log line holds a URL, a token or a body.

The guards, in the order in which a request meets them:

=====================  ====================================================================
base URL               one grammar, one canonical form, then an exact match with the allow-list
relative URL           only a read or a type-level search (CDS Hooks 2.0, recommended subset)
circuit breaker        a base that failed five times in 30 s is left alone for 15 s
bulkhead               at most eight calls in flight to one base
peer address           looked up here and checked before the socket is connected
answer                 no redirect, size cap after decompression, deadline for each chunk
page links             only below the same base, a bounded number of pages and resources
=====================  ====================================================================
"""

from __future__ import annotations

from fhir_mappings.client.breaker import Breaker
from fhir_mappings.client.fhir_client import FhirClient
from fhir_mappings.client.outcomes import Fetched, FetchPolicy, FetchState

__all__ = ["Breaker", "FetchPolicy", "FetchState", "Fetched", "FhirClient"]
