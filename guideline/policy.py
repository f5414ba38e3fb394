"""Site policy: the service's own defaults, replaced value by value by a site's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

from guideline.facts import vocabulary
from guideline.yaml_text import YamlFault, line_of, read_yaml

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


class _Fault(Exception):
    """A value that cannot be used: its dotted name below ``policy`` ("" for that itself), what is wrong, the cure."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def load_policy(site: Path | None = None) -> Policy:
    """The defaults, with the values of the site file in their place; raises ``YamlFault`` with the cure."""
    if site is None:
        return _default_policy()
    own = read_yaml(site)
    if not isinstance(own, dict):
        raise YamlFault(f"{site.name}: a site file is a list of names and values; see docs/settings.md")
    strange = next((name for name in own if name not in SITE_MEMBERS), None)
    if strange is not None:
        # A value in the wrong place would otherwise be ignored, and the default would quietly hold.
        raise YamlFault(
            f'{site.name}{line_of(site, [strange])}: "{strange}" is no member of a site file; it has '
            f"{' and '.join(sorted(SITE_MEMBERS))}; "
            f'put "{strange}:" below "policy:" if it is a value of the policy, or take it out'
        )
    try:
        return _policy(_merged(read_yaml(DEFAULTS), own.get("policy", {}), ""))
    except _Fault as fault:
        keys = ("policy", *filter(None, fault.key.split(".")))
        raise YamlFault(f"{site.name}{line_of(site, keys)}: {fault}") from None


@cache
def _default_policy() -> Policy:
    return _policy(read_yaml(DEFAULTS))


def _merged(base: Mapping[str, Any], own: Any, place: str) -> dict[str, Any]:
    if not isinstance(own, dict):
        raise _Fault(place, "policy is a list of names and values; see docs/settings.md")
    merged = dict(base)
    for key, value in own.items():
        inside = f"{place}.{key}" if place else key
        if key not in base:
            raise _Fault(inside, f'policy has no "{key}"; the names are {", ".join(sorted(base))}')
        inner = isinstance(base[key], dict) and key != "reference_ranges"
        merged[key] = _merged(base[key], value, inside) if inner else value
    return merged


def _policy(values: Mapping[str, Any]) -> Policy:
    fresh, growth = values["freshness"], values["growth"]
    days = {key: _days(fresh[key], f"freshness.{key}") for key in fresh if key != "young_child_below_years"}
    return Policy(
        show_notes=_yes_no(values["show_notes"], "show_notes"),
        bar_jdm_trial_open=_yes_no(values["bar_jdm_trial_open"], "bar_jdm_trial_open"),
        repeat_overridden_after=_repeat_after(values["repeat_overridden_after"]),
        freshness=Freshness(
            young_child_below_years=_number(
                fresh["young_child_below_years"], "freshness.young_child_below_years"
            ),
            **days,
        ),
        restart_gap=_days(values["restart_gap"], "restart_gap"),
        growth=Growth(
            confirm_within=_days(growth["confirm_within"], "growth.confirm_within"),
            confirm_tolerance=_number(growth["confirm_tolerance"], "growth.confirm_tolerance"),
        ),
        reference_ranges=_ranges(values["reference_ranges"]),
        numbers=_numbers(values),
    )


_PLAIN = ("child_bearing_age", "fever_celsius", "tb_regimen_medicines")
_GROUPS = ("screening", "baseline", "persistence", "monitoring", "switch", "washout")


def _numbers(values: Mapping[str, Any]) -> dict[str, Decimal]:
    found = {key: _number(values[key], key) for key in _PLAIN}
    for group in _GROUPS:
        found |= {f"{group}.{key}": _number(text, f"{group}.{key}") for key, text in values[group].items()}
    return found


def _ranges(values: Any) -> dict[str, ReferenceRange]:
    if not isinstance(values, dict):
        raise _Fault("reference_ranges", "reference_ranges is a list of analytes, each with low and high")
    found = {}
    results = sorted(name for name, kind in vocabulary().items() if kind.read_from == ("series",))
    for analyte, limits in values.items():
        if analyte not in results:
            raise _Fault(
                f"reference_ranges.{analyte}",
                f'reference_ranges has no "{analyte}"; the results are {", ".join(results)}',
            )
        if not isinstance(limits, dict) or not limits or set(limits) - {"low", "high"}:
            raise _Fault(
                f"reference_ranges.{analyte}", f"reference_ranges.{analyte} takes low and high, nothing else"
            )
        bounds = {key: _number(text, f"reference_ranges.{analyte}.{key}") for key, text in limits.items()}
        low, high = bounds.get("low"), bounds.get("high")
        if low is not None and high is not None and low > high:
            raise _Fault(
                f"reference_ranges.{analyte}",
                f"reference_ranges.{analyte}: low is above high; write the lower limit as low",
            )
        found[analyte] = ReferenceRange(low, high)
    return found


def _number(text: Any, key: str) -> Decimal:
    try:
        number = Decimal(str(text))
    except InvalidOperation:
        raise _Fault(key, f"{key} must be a number") from None
    if not number.is_finite() or number < 0:
        raise _Fault(key, f"{key} must be a number of 0 or more")
    return number


def _days(text: Any, key: str) -> int:
    number = _number(text, key)
    if number != number.to_integral_value():
        raise _Fault(key, f"{key} must be a whole number of days")
    return int(number)


def _repeat_after(text: Any) -> int:
    days = _days(text, "repeat_overridden_after")
    if days > LONGEST_SILENCE:
        raise _Fault("repeat_overridden_after", f"repeat_overridden_after is at most {LONGEST_SILENCE} days")
    return days


def _yes_no(text: Any, key: str) -> bool:
    if text not in ("yes", "no"):
        raise _Fault(key, f'{key} must be "yes" or "no"')
    return bool(text == "yes")
