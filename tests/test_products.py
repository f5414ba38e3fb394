"""What product an order names: its form and its strength, from code, Medication resource or words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import concepts
from fhir_mappings.products import Amount, Kind, Product, Unreadable, number, read_amount, read_product
from guideline.doses import Form

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"

TOFACITINIB_5 = {"system": RXNORM, "code": "1357541"}
MG, ML = {"unit": "mg", "system": UCUM, "code": "mg"}, {"unit": "mL", "system": UCUM, "code": "mL"}


def strength(product: Product) -> str | None:
    """The strength as one says it: "5 mg" of a tablet, "1 mg/1 mL" of a solution."""
    if product.strength_mg is None:
        return None
    over = "" if product.per_ml is None else f"/{product.per_ml.normalize():f} mL"
    return f"{product.strength_mg.normalize():f} mg{over}"


WORDS = [
    # what the order says                                     strength      form
    ("tofacitinib 5 MG Oral Tablet", "5 mg", Form.TABLET),
    ("Tofacitinib 5mg tablets", "5 mg", Form.TABLET),
    ("tofacitinib 5 mg film-coated tablet", "5 mg", Form.TABLET),
    ("baricitinib 2 milligram tab", "2 mg", Form.TABLET),
    ("baricitinib 0.002 g tablet", "2 mg", Form.TABLET),
    ("baricitinib 2000 micrograms tablets", "2 mg", Form.TABLET),
    ("baricitinib 2000 \u03bcg tablets", "2 mg", Form.TABLET),
    ("baricitinib 2 mg/tablet", "2 mg", Form.TABLET),
    ("tofacitinib 1 mg/mL oral solution", "1 mg/1 mL", Form.ORAL_SOLUTION),
    ("Tofacitinib 1mg/1ml oral liquid", "1 mg/1 mL", Form.ORAL_SOLUTION),
    ("tofacitinib 1 MG/ML Oral Solution", "1 mg/1 mL", Form.ORAL_SOLUTION),
    ("tofacitinib 1 mg per mL solution, 240 mL", "1 mg/1 mL", Form.ORAL_SOLUTION),
    ("ruxolitinib 10 mg/2 mL oral solution", "10 mg/2 mL", Form.ORAL_SOLUTION),
    ("tofacitinib 1 mg/mL (240 mg/240 mL) oral solution", "1 mg/1 mL", Form.ORAL_SOLUTION),
    ("tofacitinib", None, Form.UNKNOWN),
    ("tofacitinib tablets", None, Form.TABLET),
    ("tofacitinib 5", None, Form.UNKNOWN),
    ("baricitinib 0 mg tablets", None, Form.TABLET),
    ("baricitinib 0.1 mg/kg", None, Form.UNKNOWN),
    ("baricitinib 4 mg per day", None, Form.UNKNOWN),
    ("baricitinib 2,5 mg", None, Form.UNKNOWN),
    ("baricitinib 2-4 mg tablets", None, Form.TABLET),
    ("ruxolitinib 15 mg/g cream", None, Form.OTHER),
    ("ruxolitinib 5 mg capsules", "5 mg", Form.OTHER),
    ("tocilizumab 20 mg/mL solution for injection", "20 mg/1 mL", Form.OTHER),
    ("tofacitinib 5 mg tablet or 5 mg solution", "5 mg", Form.UNKNOWN),
]


@pytest.mark.parametrize(("text", "said", "form"), WORDS)
def test_the_words_tell_strength_and_form(text: str, said: str | None, form: Form) -> None:
    product = read_product([], [text], None)
    assert (strength(product), product.form) == (said, form)
    assert product.source == ("words" if said else "nothing")


@pytest.mark.parametrize(
    ("text", "modified"),
    [
        ("tofacitinib 11 MG Extended Release Oral Tablet", True),
        ("24 HR tofacitinib 11 MG Extended Release Oral Tablet [Xeljanz]", True),
        ("Xeljanz XR 11 mg tablet", True),
        ("tofacitinib 11 mg modified-release tablets", True),
        ("tofacitinib 11 mg prolonged-release tablets", True),
        ("tofacitinib 5 mg tablets", False),
    ],
)
def test_modified_release_is_told(text: str, modified: bool) -> None:
    product = read_product([], [text], None)
    assert (product.form, product.modified_release) == (Form.TABLET, modified)
    assert product.strength_mg == (11 if modified else 5)


def test_two_strengths_in_the_words_are_no_strength() -> None:
    product = read_product([], ["baricitinib 4 mg + 2 mg tablets"], None)
    assert (product.strength_mg, product.source) == (None, "nothing")
    assert product.note == "the words name more than one strength"


def test_two_texts_of_different_strength_are_no_strength() -> None:
    assert read_product([], ["baricitinib 4 mg tablet", "baricitinib 2 mg tablet"], None).strength_mg is None


def test_the_display_of_a_coding_counts_as_words() -> None:
    unknown = {"system": RXNORM, "code": "BARI-PLACEHOLDER", "display": "baricitinib 2 MG Oral Tablet"}
    assert strength(read_product([unknown], [], None)) == "2 mg"


def test_the_product_code_tells_both_without_words() -> None:
    assert read_product([TOFACITINIB_5], ["tofacitinib"], None) == Product(
        Form.TABLET, Decimal(5), None, "product-code"
    )


def test_a_product_code_and_words_that_agree_keep_the_code_as_source() -> None:
    product = read_product([TOFACITINIB_5], ["tofacitinib 5 MG Oral Tablet"], None)
    assert (strength(product), product.source, product.note) == ("5 mg", "product-code", None)


def test_a_product_code_and_words_that_disagree_are_no_strength() -> None:
    product = read_product([TOFACITINIB_5], ["tofacitinib 10 MG Oral Tablet"], None)
    assert product.strength_mg is None
    assert (
        product.note == "the product code, the Medication resource and the words do not agree on the strength"
    )


def test_a_product_code_and_words_of_another_form_are_no_form() -> None:
    product = read_product([TOFACITINIB_5], ["tofacitinib oral solution"], None)
    assert (product.form, product.note) == (Form.UNKNOWN, "more than one form is named")


def test_the_same_code_of_another_system_is_another_product() -> None:
    assert read_product([{"system": SNOMED, "code": "1357541"}], [], None).strength_mg is None


@pytest.mark.parametrize(
    "row", concepts.products().values(), ids=lambda row: f"{row.concept} {row.strength_mg}"
)
def test_every_listed_product_has_a_form_that_is_known(row: concepts.Product) -> None:
    assert row.form in {Form.TABLET, Form.ORAL_SOLUTION, Form.OTHER}


def ratio(mg: Any, per: Any) -> dict[str, Any]:
    return {"numerator": mg, "denominator": per}


ONE_PER_ML = ratio({"value": 1, **MG}, {"value": 1, **ML})
MEDICATIONS: list[tuple[str, dict[str, Any], str | None, Form]] = [
    ("R4 strength", {"ingredient": [{"strength": ONE_PER_ML}]}, "1 mg/1 mL", Form.UNKNOWN),
    ("R5 strengthRatio", {"ingredient": [{"strengthRatio": ONE_PER_ML}]}, "1 mg/1 mL", Form.UNKNOWN),
    ("R5 strengthQuantity", {"ingredient": [{"strengthQuantity": {"value": 5, **MG}}]}, "5 mg", Form.UNKNOWN),
    ("STU3 amount", {"ingredient": [{"amount": ONE_PER_ML}]}, "1 mg/1 mL", Form.UNKNOWN),
    ("DSTU2 product", {"product": {"ingredient": [{"amount": ONE_PER_ML}]}}, "1 mg/1 mL", Form.UNKNOWN),
    (
        "10 mg in 2 tablets",
        {"ingredient": [{"strength": ratio({"value": 10, **MG}, {"value": 2, "code": "{tablet}"})}]},
        "5 mg",
        Form.UNKNOWN,
    ),
    (
        "per TAB",
        {
            "ingredient": {
                "strength": ratio(
                    {"value": 5, **MG},
                    {
                        "value": 1,
                        "system": "http://terminology.hl7.org/CodeSystem/v3-orderableDrugForm",
                        "code": "TAB",
                    },
                )
            }
        },
        "5 mg",
        Form.UNKNOWN,
    ),
    (
        "no unit below",
        {"ingredient": [{"strength": ratio({"value": 5, **MG}, {"value": 1})}]},
        None,
        Form.UNKNOWN,
    ),
    ("none below", {"ingredient": [{"strength": {"numerator": {"value": 5, **MG}}}]}, None, Form.UNKNOWN),
    (
        "zero below",
        {"ingredient": [{"strength": ratio({"value": 5, **MG}, {"value": 0, **ML})}]},
        None,
        Form.UNKNOWN,
    ),
    (
        "two active ingredients",
        {"ingredient": [{"strength": ONE_PER_ML}, {"strength": ONE_PER_ML}]},
        None,
        Form.UNKNOWN,
    ),
    (
        "an inactive ingredient",
        {"ingredient": [{"strength": ONE_PER_ML}, {"isActive": False}]},
        "1 mg/1 mL",
        Form.UNKNOWN,
    ),
    ("form tablet", {"form": {"coding": [{"system": SNOMED, "code": "385055001"}]}}, None, Form.TABLET),
    ("film-coated", {"form": {"coding": [{"system": SNOMED, "code": "385057009"}]}}, None, Form.TABLET),
    ("capsule", {"form": {"coding": [{"system": SNOMED, "code": "385049006"}]}}, None, Form.OTHER),
    (
        "oral solution by dm+d",
        {"form": {"coding": [{"system": "https://dmd.nhs.uk", "code": "385023001"}]}},
        None,
        Form.ORAL_SOLUTION,
    ),
    ("form in words", {"form": {"text": "Oral solution"}}, None, Form.ORAL_SOLUTION),
    ("R5 doseForm", {"doseForm": {"text": "Film-coated tablet"}}, None, Form.TABLET),
    ("DSTU2 form", {"product": {"form": {"text": "Tablet"}}}, None, Form.TABLET),
    ("name in Medication.code", {"code": {"text": "tofacitinib 5 mg tablets"}}, "5 mg", Form.TABLET),
    ("product in Medication.code", {"code": {"coding": [TOFACITINIB_5]}}, "5 mg", Form.TABLET),
]


@pytest.mark.parametrize(
    ("medication", "said", "form"), [row[1:] for row in MEDICATIONS], ids=[r[0] for r in MEDICATIONS]
)
def test_the_medication_resource_tells(medication: dict[str, Any], said: str | None, form: Form) -> None:
    product = read_product([], [], medication)
    assert (strength(product), product.form) == (said, form)


def test_a_modified_release_form_code_is_told() -> None:
    assert read_product(
        [], [], {"form": {"coding": [{"system": SNOMED, "code": "385061003"}]}}
    ).modified_release


def test_ingredient_and_words_that_disagree_are_no_strength() -> None:
    medication = {"ingredient": [{"strength": ONE_PER_ML}]}
    assert read_product([], ["tofacitinib 5 mg tablets"], medication).strength_mg is None


AMOUNTS = [
    ({"value": 5, "code": "mg", "system": UCUM}, (5, Kind.MILLIGRAM)),
    ({"value": 5, "unit": "milligrams"}, (5, Kind.MILLIGRAM)),
    ({"value": 5, "unit": "MG"}, (5, Kind.MILLIGRAM)),
    ({"value": 5, "code": "258684004", "system": SNOMED}, (5, Kind.MILLIGRAM)),
    ({"value": Decimal("0.005"), "code": "g", "system": UCUM}, (5, Kind.MILLIGRAM)),
    ({"value": 5000, "code": "ug", "system": UCUM}, (5, Kind.MILLIGRAM)),
    ({"value": 5000, "unit": "mcg"}, (5, Kind.MILLIGRAM)),
    ({"value": 5000, "unit": "\u00b5g"}, (5, Kind.MILLIGRAM)),
    ({"value": 5, "code": "mL", "system": UCUM}, (5, Kind.MILLILITRE)),
    ({"value": 5, "unit": "ml"}, (5, Kind.MILLILITRE)),
    ({"value": 5, "code": "258773002", "system": "https://dmd.nhs.uk"}, (5, Kind.MILLILITRE)),
    ({"value": 1, "code": "{pill}", "system": UCUM}, (1, Kind.TABLET)),
    ({"value": 1, "code": "{tbl}", "system": UCUM}, (1, Kind.TABLET)),
    ({"value": 1, "code": "1", "system": UCUM}, (1, Kind.TABLET)),
    ({"value": 1, "code": "428673006", "system": SNOMED}, (1, Kind.TABLET)),
    ({"value": 1, "unit": "tablet(s)"}, (1, Kind.TABLET)),
    ({"value": 1, "code": "{tablet}", "system": UCUM, "unit": "tab"}, (1, Kind.TABLET)),
    ({"value": 5, "code": "MG001", "system": "urn:local", "unit": "mg"}, (5, Kind.MILLIGRAM)),
    ({"value": 1, "code": "{pill}", "system": UCUM, "unit": "comprimé"}, (1, Kind.TABLET)),
]  # fmt: skip


@pytest.mark.parametrize(("quantity", "expected"), AMOUNTS)
def test_an_amount_is_read(quantity: dict[str, Any], expected: tuple[int, Kind]) -> None:
    assert read_amount(quantity) == Amount(Decimal(expected[0]), expected[1])


NOT_AMOUNTS = [
    ({"value": 5}, "no unit"),
    ({"value": 5, "unit": " "}, "no unit"),
    ({"value": "5", "unit": "mg"}, "plain number"),
    ({"value": True, "unit": "mg"}, "plain number"),
    ({"value": float("nan"), "unit": "mg"}, "plain number"),
    ({"value": 10**30, "unit": "mg"}, "plain number"),
    ({"value": 5, "unit": "mg", "comparator": "<"}, "comparator"),
    ({"value": 5, "unit": "mg/kg"}, "rate"),
    ({"value": 5, "code": "mg", "system": UCUM, "unit": "mg per day"}, "rate"),
    ({"value": 5, "code": "mg/kg", "system": UCUM, "unit": "mg"}, "is not mg"),
    ({"value": 5, "code": "mg", "system": UCUM, "unit": "mL"}, "contradict"),
    ({"value": 5, "code": "mg", "system": UCUM, "unit": "g"}, "contradict"),
    ({"value": 1, "code": "1", "system": UCUM, "unit": "mg"}, "contradict"),
    ({"value": 1, "code": "1"}, "is not mg"),
    ({"value": 1, "unit": "1"}, "is not mg"),
    ({"value": 1, "unit": "capsule"}, "is not mg"),
    ({"value": 1, "unit": "spoonful"}, "is not mg"),
    ({"value": 5, "code": ["mg"], "unit": "mg"}, "is not mg"),
    ({"value": 5, "code": "mg", "system": "urn:local"}, "is not mg"),
]  # fmt: skip


@pytest.mark.parametrize(("quantity", "why"), NOT_AMOUNTS)
def test_a_doubtful_amount_is_refused(quantity: dict[str, Any], why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_amount(quantity)


def test_a_quantity_without_value_is_no_amount() -> None:
    assert read_amount({"unit": "mg"}) is None


def test_a_float_is_read_by_its_spelling() -> None:
    assert number(3.2) == Decimal("3.2")


KEYS = [
    "form", "code", "coding", "system", "text", "display", "ingredient", "strength", "amount", "product",
    "numerator", "denominator", "value", "unit", "isActive", "strengthQuantity", "comparator",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.lists(st.dictionaries(st.text(max_size=6), JSON)), st.lists(st.text()), JSON)
def test_no_json_makes_reading_a_product_fail(codings: Any, texts: list[str], medication: Any) -> None:
    product = read_product(codings, texts, medication)
    assert (product.source == "nothing") is (product.strength_mg is None)
