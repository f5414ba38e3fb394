"""Codes: what a code means, which look-alikes never count, and how a faulty table is refused."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import concepts, systems

ICD = "http://hl7.org/fhir/sid/icd-10"
ATC = "http://www.whocc.no/atc"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
NEEDED = [
    "haemoglobin",
    "neutrophils",
    "lymphocytes",
    "white-cells",
    "platelets",
    "creatinine",
    "egfr-laboratory",
    "alt",
    "ast",
    "bilirubin",
    "crp",
    "esr",
    "ck",
    "cholesterol",
    "triglycerides",
    "urea",
    "weight",
    "height",
    "tofacitinib",
    "baricitinib",
    "ruxolitinib",
    "upadacitinib",
    "filgotinib",
    "methotrexate",
    "adalimumab",
    "etanercept",
    "infliximab",
    "golimumab",
    "certolizumab-pegol",
    "jia",
    "jia-polyarticular",
    "jia-polyarticular-rf-positive",
    "jia-polyarticular-rf-negative",
    "jia-extended-oligoarticular",
    "jia-oligoarticular",
    "jia-psoriatic",
    "jia-enthesitis-related",
    "jia-systemic",
    "jia-uveitis",
    "jdm",
    "aicardi-goutieres",
    "praas",
    "savi",
    "gvhd",
    "sle",
    "ckd-4",
    "ckd-5",
    "dialysis",
    "acute-kidney-injury",
    "dysphagia",
    "result-positive",
    "result-negative",
]
HEADER = "concept,system,code,label,use,source\n"


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("http://loinc.org", systems.LOINC),
        ("http://loinc.org/", systems.LOINC),
        (" HTTP://LOINC.ORG|2.78 ", systems.LOINC),
        ("urn:oid:2.16.840.1.113883.6.1", systems.LOINC),
        ("2.16.840.1.113883.6.1", systems.LOINC),
        ("http://snomed.info/sct/83821000000107", systems.SNOMED),
        ("http://snomed.info/sct|http://snomed.info/sct/83821000000107/version/20240101", systems.SNOMED),
        ("https://dmd.nhs.uk", systems.SNOMED),
        ("urn:oid:2.16.840.1.113883.6.88", systems.RXNORM),
        ("http://hl7.org/fhir/sid/icd-10-cm", systems.ICD10),
        ("http://fhir.de/CodeSystem/bfarm/icd-10-gm", systems.ICD10),
        ("http://fhir.de/CodeSystem/bfarm/atc", systems.ATC),
        ("http://snomed.info/sctx", None),
        ("http://example.org/local", None),
        ("", None),
    ],
)
def test_a_code_system_has_one_name(spelling: str, canonical: str | None) -> None:
    assert systems.canonical(spelling) == canonical


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        ("http://loinc.org", "718-7", {"haemoglobin"}),
        ("http://snomed.info/sct", "1107511000000100", {"haemoglobin"}),
        ("http://loinc.org", "3091-6", {"urea"}),
        ("http://loinc.org", "3094-0", {"urea-nitrogen"}),
        (RXNORM, "1357547", {"tofacitinib"}),
        (RXNORM, "1193353", {"ruxolitinib"}),
        ("http://snomed.info/sct", "704316006", {"tofacitinib"}),
        ("https://dmd.nhs.uk", "704313003", {"tofacitinib"}),
        (ATC, "L04AF01", {"tofacitinib"}),
        (ATC, "L04AA29", {"tofacitinib"}),
        (ATC, "L04AF99", {"jak-inhibitor-class"}),
        (ATC, "D11AH09", {"ruxolitinib-topical"}),
        (ATC, "L04AB04", {"adalimumab"}),
        (ATC, "G03AA13", {"combined-hormonal-contraceptive"}),
        (ATC, "G03AC09", {"progestogen-only-contraceptive"}),
        (ATC, "J04AM02", {"tb-combination-therapy"}),
        (ATC, "J04AM05", {"tb-combination-therapy"}),
        (ICD, "M08.2", {"jia-systemic"}),
        ("http://hl7.org/fhir/sid/icd-10-cm", "M08.20", {"jia-systemic"}),
        (ICD, "m0820", {"jia-systemic"}),
        (ICD, "M08.0", {"jia"}),
        (ICD, "M08.4", {"jia-oligoarticular"}),
        (ICD, "M09.0*", {"jia-psoriatic"}),
        (ICD, "C91.0", {"malignancy"}),
        (ICD, "Z85.6", {"malignancy-history"}),
        ("http://snomed.info/sct", "1156845007", {"jia-extended-oligoarticular", "jia-uveitis"}),
        ("http://hl7.org/fhir/sid/cvx", "94", {"mmr-vaccine", "varicella-vaccine"}),
        ("http://hl7.org/fhir/sid/cvx", "187", {"zoster-recombinant-vaccine"}),
        (ICD, "M79.9", set()),
        ("http://example.org/local", "718-7", set()),
        (ATC, "M08", set()),
        (ICD, "", set()),
    ],
)
def test_what_a_code_means(system: str, code: str, expected: set[str]) -> None:
    assert concepts.concepts_of(system, code) == expected


@pytest.mark.parametrize(
    ("system", "code", "name"),
    [
        ("http://snomed.info/sct", "60001007", "not-pregnant"),
        ("http://snomed.info/sct", "169741004", "breast-fed-infant"),
        ("http://snomed.info/sct", "80651009", "aicardi-syndrome"),
        ("http://snomed.info/sct", "16181000237107", "white-cells-in-fluid"),
        ("http://loinc.org", "736-9", "lymphocytes-percentage"),
        ("http://snomed.info/sct", "266919005", "smoking-never"),
    ],
)
def test_an_exclusion_is_seen_and_never_a_positive(system: str, code: str, name: str) -> None:
    assert concepts.concepts_of(system, code) == frozenset()
    assert concepts.exclusions_of(system, code) == {name}


def test_an_exclusion_beats_a_shorter_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "a.csv"
    table.write_text(
        f"{HEADER}wide,{ICD},A10,ours,prefix,invented\nnot-it,{ICD},A10.1,ours,exclude,invented\n"
    )
    found = concepts.load([table])
    monkeypatch.setattr(concepts, "index", lambda: found)
    assert concepts.concepts_of(ICD, "A10.2") == {"wide"}
    assert concepts.concepts_of(ICD, "A10.1") == frozenset()


def test_codes_for_a_prefetch_template() -> None:
    assert ("http://loinc.org", "14682-9") in concepts.codes_of("creatinine")
    assert concepts.codes_of("not-pregnant") == ()
    with pytest.raises(KeyError, match="creatinin"):
        concepts.codes_of("creatinin")


def test_every_positive_row_is_found_again_by_its_own_code() -> None:
    rows = [row for rows in concepts.index().concepts.values() for row in rows]
    assert len(rows) > 900
    for row in rows:
        found = concepts.exclusions_of if row.use is concepts.Use.EXCLUDE else concepts.concepts_of
        assert row.concept in found(row.system, row.code), row


@pytest.mark.parametrize(
    "name",
    NEEDED,
)
def test_a_concept_that_the_engine_needs_has_codes(name: str) -> None:
    assert concepts.codes_of(name)


@pytest.mark.parametrize(
    ("code", "concept", "mg"),
    [("1357541", "tofacitinib", "5"), ("1357547", "tofacitinib", "5"), ("1193331", "ruxolitinib", "10")],
)
def test_a_product_code_gives_its_strength(code: str, concept: str, mg: str) -> None:
    product = concepts.product_of(RXNORM, code)
    assert product == concepts.Product(concept, Decimal(mg), None, "tablet")
    assert concepts.product_of(RXNORM, "1357536") is None


def test_check_digits_by_example() -> None:
    assert concepts.loinc_check_digit_ok("718-7") and not concepts.loinc_check_digit_ok("718-8")
    assert concepts.snomed_check_digit_ok("704316006") and not concepts.snomed_check_digit_ok("704316007")


@given(st.integers(10**5, 10**16), st.integers(0, 9), st.integers(0, 9))
def test_only_one_last_digit_is_right(number: int, one: int, other: int) -> None:
    right = [d for d in range(10) if concepts.snomed_check_digit_ok(f"{number}{d}")]
    assert len(right) == 1
    assert (one == other) or not all(concepts.snomed_check_digit_ok(f"{number}{d}") for d in (one, other))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Haemoglobin,http://loinc.org,718-7,ours,match,x", "line 2: the concept is not a kebab-case"),
        ("hb,http://example.org,718-7,ours,match,x", "line 2: the code system is unknown"),
        ("hb,http://loinc.org,718-8,ours,match,x", "line 2: 718-8 has no valid LOINC check digit"),
        ("hb,http://snomed.info/sct,704316007,ours,match,x", "no valid SNOMED CT check digit"),
        (f"hb,{ICD},M8,ours,match,x", "not shaped like ICD-10"),
        ("hb,http://loinc.org,718-7,ours,maybe,x", "line 2: the use is unknown; write one of match"),
        ("hb,http://loinc.org, 718-7,ours,match,x", "not in its normal spelling"),
        ("hb,http://loinc.org,718-7,,match,x", "label or the source is empty"),
        ("hb,http://loinc.org,718-7,ours,match", "has not 6 fields"),
        (
            "hb,http://loinc.org,718-7,ours,match,x\nhb,urn:oid:2.16.840.1.113883.6.1,718-7,ours,match,x",
            "line 3: 718-7 for hb stands already at a.csv, line 2",
        ),
    ],
)
def test_a_faulty_row_is_refused_with_place_and_cure(tmp_path: Path, row: str, message: str) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{HEADER}{row}\n")
    with pytest.raises(concepts.CodeTableError, match=message):
        concepts.load([table])
