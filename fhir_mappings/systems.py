"""Code systems: one canonical URL each, however a record spells it.

FHIR names a code system by URL (FHIR R4 Coding.system), older senders by ``urn:oid:``, and SNOMED CT by a
URL with an edition or version behind it. Comparing the raw text would lose codes silently.
"""

from __future__ import annotations

import re
from typing import Final

LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
DMD: Final = "https://dmd.nhs.uk"
RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
ICD10: Final = "http://hl7.org/fhir/sid/icd-10"
ATC: Final = "http://www.whocc.no/atc"
CVX: Final = "http://hl7.org/fhir/sid/cvx"
READ_V2: Final = "http://read.info/readv2"
ORPHANET: Final = "http://www.orpha.net"
UCUM: Final = "http://unitsofmeasure.org"
GTS_ABBREVIATION: Final = "http://terminology.hl7.org/CodeSystem/v3-GTSAbbreviation"
TIMING_EVENT: Final = "http://terminology.hl7.org/CodeSystem/v3-TimingEvent"
EVENT_TIMING: Final = "http://hl7.org/fhir/event-timing"

CANONICAL: Final = frozenset(
    {
        LOINC,
        SNOMED,
        RXNORM,
        ICD10,
        ATC,
        CVX,
        READ_V2,
        ORPHANET,
        UCUM,
        GTS_ABBREVIATION,
        TIMING_EVENT,
        EVENT_TIMING,
    }
)
"""dm+d is absent on purpose: its ids are SNOMED CT UK ids, and the same id arrives under either URL."""

_ALIASES: Final = {
    DMD: SNOMED,
    "http://dmd.nhs.uk": SNOMED,
    "https://snomed.info/sct": SNOMED,
    "urn:oid:2.16.840.1.113883.6.96": SNOMED,
    "urn:oid:2.16.840.1.113883.2.1.3.2.4.15": SNOMED,
    "https://loinc.org": LOINC,
    "urn:oid:2.16.840.1.113883.6.1": LOINC,
    "https://www.nlm.nih.gov/research/umls/rxnorm": RXNORM,
    "urn:oid:2.16.840.1.113883.6.88": RXNORM,
    "https://hl7.org/fhir/sid/icd-10": ICD10,
    "http://hl7.org/fhir/sid/icd-10-cm": ICD10,
    "http://hl7.org/fhir/sid/icd-10-uk": ICD10,
    "http://hl7.org/fhir/sid/icd-10-gm": ICD10,
    "http://hl7.org/fhir/sid/icd-10-us": ICD10,
    "http://fhir.de/codesystem/bfarm/icd-10-gm": ICD10,
    "http://fhir.de/codesystem/dimdi/icd-10-gm": ICD10,
    "https://fhir.hl7.org.uk/id/icd-10": ICD10,
    "https://fhir.nhs.uk/id/icd-10": ICD10,
    "urn:oid:2.16.840.1.113883.6.3": ICD10,
    "urn:oid:2.16.840.1.113883.6.90": ICD10,
    "https://www.whocc.no/atc": ATC,
    "http://whocc.no/atc": ATC,
    "http://fhir.de/codesystem/bfarm/atc": ATC,
    "http://fhir.de/codesystem/dimdi/atc": ATC,
    "http://fhir.de/codesystem/ask/atc": ATC,
    "urn:oid:2.16.840.1.113883.6.73": ATC,
    "https://hl7.org/fhir/sid/cvx": CVX,
    "urn:oid:2.16.840.1.113883.12.292": CVX,
    "urn:oid:2.16.840.1.113883.6.59": CVX,
    "https://read.info/readv2": READ_V2,
    "https://www.orpha.net": ORPHANET,
    "urn:oid:2.16.840.1.113883.2.61.1.6.3": ORPHANET,
    "https://unitsofmeasure.org": UCUM,
    "urn:oid:2.16.840.1.113883.6.8": UCUM,
    "http://hl7.org/fhir/v3/gtsabbreviation": GTS_ABBREVIATION,
    "http://hl7.org/fhir/v3/timingevent": TIMING_EVENT,
}

_BY_LOWER: Final = {url.lower(): url for url in CANONICAL} | _ALIASES
_BARE_OID: Final = re.compile(r"^[0-2](\.\d+)+$")


def canonical(system: str) -> str | None:
    """The canonical URL of a code system as a record spells it, or ``None`` where it is not one of ours.

    Tolerated: letter case, blanks around, a trailing slash, ``|version``, a bare OID, and the edition that
    SNOMED CT puts behind its URL (``http://snomed.info/sct/83821000000107``).
    """
    text = system.strip().split("|", 1)[0].rstrip("/").lower()
    if _BARE_OID.match(text):
        text = f"urn:oid:{text}"
    if text.startswith((f"{SNOMED}/", "https://snomed.info/sct/")):
        return SNOMED
    return _BY_LOWER.get(text)
