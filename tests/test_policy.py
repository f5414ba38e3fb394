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
    ("policy: 3\n", "line 1: policy is a list of names and values"),
    ("# ours\npolicy:\n  wieght: 3\n", 'line 3: policy has no "wieght"; the names are'),
    ("policy:\n  freshness:\n    height: 3\n    weigth: 3\n", 'line 4: policy has no "weigth"; the names are'),
    ("policy: {freshness: 3}\n", "line 1: policy is a list of names and values"),
    ("polcy:\n  restart_gap: 3\n", 'line 1: "polcy" is no member of a site file'),
    ("policy:\n  freshness:\n\n    weight: soon\n", "line 4: freshness.weight must be a number"),
    ("policy: {freshness: {weight: -1}}\n", "line 1: freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: NaN}}\n", "freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: Infinity}}\n", "freshness.weight must be a number of 0 or more"),
    ("policy: {freshness: {weight: 1.5}}\n", "freshness.weight must be a whole number of days"),
    ("policy:\n  freshness:\n    young_child_below_years: x\n", "line 3: freshness.young_child_below_years must"),
    ("policy:\n  baseline:\n    egfr_fall: x\n", "line 3: baseline.egfr_fall must be a number"),
    ("policy:\n  growth:\n    confirm_within: x\n", "line 3: growth.confirm_within must be a number"),
    ("policy: {bar_jdm_trial_open: maybe}\n", 'bar_jdm_trial_open must be "yes" or "no"'),
    ("policy: {reference_ranges: [3]}\n", "reference_ranges is a list of analytes"),
    ("policy: {reference_ranges: {alt: 40}}\n", "reference_ranges.alt takes low and high"),
    ("policy: {reference_ranges: {alt: {}}}\n", "reference_ranges.alt takes low and high"),
    ("policy: {reference_ranges: {alt: {hihg: 40}}}\n", "reference_ranges.alt takes low and high"),
    ("policy:\n  reference_ranges:\n    platlets: {low: 150}\n", 'line 3: reference_ranges has no "platlets"'),
    ("policy: {reference_ranges: {alt: {low: 40, high: 5}}}\n", "reference_ranges.alt: low is above high"),
    ("policy: {restart_gap: 1, restart_gap: 2}\n", 'line 1: "restart_gap" stands twice'),
    ("policy: {restart_gap: [1}\n", "line 1: not readable as YAML"),
    ("policy:\n  ? [restart_gap]\n  : 3\n", "line 2: a name is a list"),
    ("policy: {restart_gap: \udcff}\n", "not readable as YAML (it is not text in UTF-8)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_a_wrong_site_file_is_refused_by_line_and_name(tmp_path: Path, text: str, fault: str) -> None:
    path = site(tmp_path, "")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(YamlFault, match=r"^site\.yaml[:,] ") as told:
        load_policy(path)
    assert fault in str(told.value)
