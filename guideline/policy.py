"""Site policy: the service's own defaults, replaced value by value by a site's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from guideline.yaml_text import YamlFault, read_yaml

DEFAULTS = Path(__file__).with_name("policy.yaml")
LONGEST_SILENCE = 90
"""Days for which a site may keep an overridden warning back: a slip of the pen must not silence it for years."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old a value may be, in days (ruling 7)."""

    young_child_below_years: Decimal
    weight: int
    weight_young_child: int
    weight_provisional_until: int
    height: int
    height_young_child: int
    bloods_at_start: int
    bloods_on_treatment: int
    normal_bloods: int


@dataclass(frozen=True, slots=True)
class Growth:
    """When a second measurement confirms an unlikely one (ruling 5)."""

    confirm_within: int
    confirm_tolerance: Decimal


@dataclass(frozen=True, slots=True)
class ReferenceRange:
    """A site's own range for one analyte, in the fact's unit."""

    low: Decimal | None
    high: Decimal | None


@dataclass(frozen=True, slots=True)
class Policy:
    """``repeat_overridden_after``: days after which a warning is shown again that was overridden with a reason."""

    show_notes: bool
    bar_jdm_trial_open: bool
    repeat_overridden_after: int
    freshness: Freshness
    restart_gap: int
    growth: Growth
    reference_ranges: Mapping[str, ReferenceRange]
    numbers: Mapping[str, Decimal]

    def number(self, name: str) -> Decimal:
        """One of the plain numbers by its name in the file (``baseline.egfr_fall``)."""
        return self.numbers[name]

    def days(self, name: str) -> int:
        return int(self.numbers[name])


SITE_MEMBERS = frozenset({"policy", "code_maps"})


def load_policy(site: Path | None = None) -> Policy:
    """The defaults, with the values of the site file in their place; raises ``YamlFault`` with the cure."""
    if site is None:
        return _default_policy()
    own = read_yaml(site)
    if not isinstance(own, dict):
        raise YamlFault(f"{site.name}: a site file is a list of names and values; see docs/settings.md")
    strange = sorted(set(own) - SITE_MEMBERS)
    if strange:
        # A value in the wrong place would otherwise be ignored, and the default would quietly hold.
        raise YamlFault(
            f'{site.name}: "{strange[0]}" is no member of a site file; it has '
            f"{' and '.join(sorted(SITE_MEMBERS))}; "
            f'put "{strange[0]}:" below "policy:" if it is a value of the policy, or take it out'
        )
    return _policy(_merged(read_yaml(DEFAULTS), own.get("policy", {}), site.name), site.name)


@cache
def _default_policy() -> Policy:
    return _policy(read_yaml(DEFAULTS), DEFAULTS.name)


def _merged(base: Mapping[str, Any], own: Any, name: str) -> dict[str, Any]:
    if not isinstance(own, dict):
        raise YamlFault(f"{name}: policy is a list of names and values; see docs/settings.md")
    merged = dict(base)
    for key, value in own.items():
        if key not in base:
            raise YamlFault(f'{name}: policy has no "{key}"; the names are {", ".join(sorted(base))}')
        inner = isinstance(base[key], dict) and key != "reference_ranges"
        merged[key] = _merged(base[key], value, name) if inner else value
    return merged


def _policy(values: Mapping[str, Any], name: str) -> Policy:
    fresh, growth = values["freshness"], values["growth"]
    days = {
        key: _days(fresh[key], f"freshness.{key}", name) for key in fresh if key != "young_child_below_years"
    }
    return Policy(
        show_notes=_yes_no(values["show_notes"], "show_notes", name),
        bar_jdm_trial_open=_yes_no(values["bar_jdm_trial_open"], "bar_jdm_trial_open", name),
        repeat_overridden_after=_repeat_after(values["repeat_overridden_after"], name),
        freshness=Freshness(
            young_child_below_years=_number(
                fresh["young_child_below_years"], "young_child_below_years", name
            ),
            **days,
        ),
        restart_gap=_days(values["restart_gap"], "restart_gap", name),
        growth=Growth(
            confirm_within=_days(growth["confirm_within"], "growth.confirm_within", name),
            confirm_tolerance=_number(growth["confirm_tolerance"], "growth.confirm_tolerance", name),
        ),
        reference_ranges=_ranges(values["reference_ranges"], name),
        numbers=_numbers(values, name),
    )


_PLAIN = ("child_bearing_age", "fever_celsius", "tb_regimen_medicines")
_GROUPS = ("screening", "baseline", "persistence", "monitoring", "switch", "washout")


def _numbers(values: Mapping[str, Any], name: str) -> dict[str, Decimal]:
    found = {key: _number(values[key], key, name) for key in _PLAIN}
    for group in _GROUPS:
        found |= {
            f"{group}.{key}": _number(text, f"{group}.{key}", name) for key, text in values[group].items()
        }
    return found


def _ranges(values: Any, name: str) -> dict[str, ReferenceRange]:
    if not isinstance(values, dict):
        raise YamlFault(f"{name}: reference_ranges is a list of analytes, each with low and high")
    found = {}
    for analyte, limits in values.items():
        if not isinstance(limits, dict) or not limits or set(limits) - {"low", "high"}:
            raise YamlFault(f"{name}: reference_ranges.{analyte} takes low and high, nothing else")
        bounds = {
            key: _number(text, f"reference_ranges.{analyte}.{key}", name) for key, text in limits.items()
        }
        found[analyte] = ReferenceRange(bounds.get("low"), bounds.get("high"))
    return found


def _number(text: Any, key: str, name: str) -> Decimal:
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        raise YamlFault(f"{name}: {key} must be a number") from None
    if not number.is_finite() or number < 0:
        raise YamlFault(f"{name}: {key} must be a number of 0 or more")
    return number


def _days(text: Any, key: str, name: str) -> int:
    number = _number(text, key, name)
    if number != number.to_integral_value():
        raise YamlFault(f"{name}: {key} must be a whole number of days")
    return int(number)


def _repeat_after(text: Any, name: str) -> int:
    days = _days(text, "repeat_overridden_after", name)
    if days > LONGEST_SILENCE:
        raise YamlFault(f"{name}: repeat_overridden_after is at most {LONGEST_SILENCE} days")
    return days


def _yes_no(text: Any, key: str, name: str) -> bool:
    if text not in ("yes", "no"):
        raise YamlFault(f'{name}: {key} must be "yes" or "no"')
    return bool(text == "yes")
