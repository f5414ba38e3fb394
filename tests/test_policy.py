"""Site policy: the defaults of the rulings, a site's own values in their place, and each mistake named."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from guideline.policy import ReferenceRange, load_policy
from guideline.yaml_text import YamlFault


def site(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_rulings() -> None:
    policy = load_policy()
    fresh = policy.freshness
    assert (fresh.weight, fresh.weight_young_child, fresh.weight_provisional_until) == (90, 30, 180)
    assert (fresh.height, fresh.height_young_child) == (180, 90)
    assert (fresh.bloods_at_start, fresh.bloods_on_treatment, fresh.normal_bloods) == (28, 98, 28)
    assert fresh.young_child_below_years == 2
    assert policy.restart_gap == 28
    assert (policy.growth.confirm_within, policy.growth.confirm_tolerance) == (30, Decimal("0.10"))
    assert policy.bar_jdm_trial_open is True
    assert policy.reference_ranges == {}


def test_a_site_replaces_single_values_and_keeps_the_rest(tmp_path: Path) -> None:
    policy = load_policy(
        site(
            tmp_path,
            "policy:\n"
            "  bar_jdm_trial_open: no\n"
            "  freshness: {weight: 60}\n"
            "  growth: {confirm_tolerance: 0.05}\n"
            "  reference_ranges: {platelets: {low: 150, high: 450}, alt: {high: 40}}\n",
        )
    )
    assert policy.bar_jdm_trial_open is False
    assert (policy.freshness.weight, policy.freshness.height) == (60, 180)
    assert policy.growth.confirm_tolerance == Decimal("0.05")
    assert policy.reference_ranges == {
        "platelets": ReferenceRange(Decimal(150), Decimal(450)),
        "alt": ReferenceRange(None, Decimal(40)),
    }


def test_a_site_file_may_leave_the_policy_alone(tmp_path: Path) -> None:
    assert load_policy(site(tmp_path, "code_maps: []\n")) == load_policy()


WRONG = [
    ("- a list\n", "a site file is a list of names and values"),
    ("policy: 3\n", "policy is a list of names and values"),
    ("policy: {wieght: 3}\n", 'policy has no "wieght"; the names are'),
    ("policy: {freshness: {weigth: 3}}\n", 'policy has no "weigth"; the names are'),
    ("policy: {freshness: 3}\n", "policy is a list of names and values"),
    ("policy: {freshness: {weight: soon}}\n", "freshness.weight must be a number"),
    ("policy: {freshness: {weight: -1}}\n", "freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: NaN}}\n", "freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: Infinity}}\n", "freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: 1.5}}\n", "freshness.weight must be a whole number of days"),
    ("policy: {bar_jdm_trial_open: maybe}\n", 'bar_jdm_trial_open must be "yes" or "no"'),
    ("policy: {reference_ranges: [3]}\n", "reference_ranges is a list of analytes"),
    ("policy: {reference_ranges: {alt: 40}}\n", "reference_ranges.alt takes low and high"),
    ("policy: {reference_ranges: {alt: {}}}\n", "reference_ranges.alt takes low and high"),
    ("policy: {reference_ranges: {alt: {hihg: 40}}}\n", "reference_ranges.alt takes low and high"),
    ("policy: {restart_gap: 1, restart_gap: 2}\n", '"restart_gap" stands twice'),
    ("policy: {restart_gap: [1}\n", "not readable as YAML"),
]


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_a_wrong_site_file_is_refused_by_name(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(YamlFault, match=r"^site\.yaml") as told:
        load_policy(site(tmp_path, text))
    assert fault in str(told.value)
