"""Examples of the guideline, written as sentences: invented children, and what the engine must say of them.

A file holds groups; a group names the drug, one of the children of ``children.yaml`` and facts of its own, and a
case adds what it is about::

    - about: Tofacitinib by weight in polyarticular JIA
      drug: tofacitinib
      child: five years, polyarticular JIA
      cases:
        - name: A child of exactly 20 kg has moved to the second band
          facts: {weight: 20 kg}
          expect: {TOFA-DOSE-04: info}
          not: [TOFA-DOSE-03]
          dose: 4 mg twice daily, oral-solution

Facts stand as they would be found on the record, so that age, eGFR, freshness and phase are worked out by the
engine itself: ``20 kg``, ``20 kg, 91 days ago``, ``< 20 kg``, ``12 g/dL, range 11 to 15``, ``yes``, a list of
results (newest first), or a reason (``absent``, ``unusable-unit``). docs: tests/examples/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from guideline.assess import assess, watch
from guideline.derive import YES, completed_years
from guideline.doses import Administration, DoseState, Form, OrderedDose, Regimen, When
from guideline.facts import vocabulary
from guideline.findings import DoseAdvice, Finding, OrderAssessment, Outcome
from guideline.growth_reference import completed_months, limits
from guideline.policy import Policy, load_policy
from guideline.record import (
    Answer,
    Answers,
    Birth,
    Draft,
    Event,
    Reading,
    Record,
    RecordedOrder,
    Series,
    Unusable,
)
from guideline.sources import egfr_constant
from guideline.tables import Tables
from guideline.values import Cause, Doubtful, Evidence, Fact, Interval, Known, Missing, Reason
from guideline.words import unit_words
from guideline.yaml_text import read_yaml

TODAY: Final = date(2026, 3, 2)
"""The day of an example that names none."""

_GROUP_KEYS = {"about", "drug", "child", "facts", "cases"}
_CHILDREN = "children.yaml"
_CASE_KEYS = {
    "name", "drug", "child", "facts", "expect", "not", "dose", "withheld", "verdict", "says", "reference", "view"
}  # fmt: skip
_OF_THE_CASE = {
    "on", "age", "born", "sex", "egfr", "indication", "jiaCategory", "onRecord", "form", "modifiedRelease", "strength",
    "draft", "running", "orders", "ordersGap", "barJdmTrialOpen",
    "immunizations", "immunizationsGap", "taken", "ending", "finished", "sets", "ends",
}  # fmt: skip
_OF_A_SET = (
    "egfr", "haemoglobin", "whiteCells", "neutrophils", "lymphocytes", "platelets", "alt", "ast", "bilirubin",
    "crp", "esr",
)  # fmt: skip
_TIMES = {"once": Decimal(1), "twice": Decimal(2), "three times": Decimal(3), "four times": Decimal(4)}
_NUMBER = r"-?\d+(?:\.\d+)?"
_RESULT = re.compile(
    rf"^(?P<sign><=|>=|<|>)?\s*(?P<low>{_NUMBER})(?:\s+to\s+(?P<high>{_NUMBER}))?\s*(?P<unit>\S.*)?$"
)
_RANGE = re.compile(rf"^range (?:({_NUMBER}) to ({_NUMBER})|(above|below) ({_NUMBER}))$")
_AGO = re.compile(r"^(\d+) days? ago$")
_DAILY = re.compile(rf"^({_NUMBER}) mg ({'|'.join(_TIMES)}) daily$")
_SPLIT = re.compile(rf"^({_NUMBER}|-)/({_NUMBER}|-)/({_NUMBER}|-)$")
_MISSING_SERIES = {Reason.FAILED, Reason.PARTIAL_PAGE}


class ExampleFault(ValueError):
    """An example that cannot be read; the text names file, example, fault and cure."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one analyte, newest first."""

    readings: tuple[Reading | Unusable, ...]
    gap: Reason | None = None

    def __iter__(self) -> Iterator[Reading | Unusable]:
        return iter(self.readings)


@dataclass(frozen=True, slots=True)
class Expected:
    """What an example asks of one finding; ``None`` asks nothing."""

    outcome: Outcome
    severity: str | None
    missing: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One invented child and order, and what must (and must not) be said of them."""

    name: str
    file: str
    drug: str
    record: Record
    draft: Draft
    policy: Policy
    expect: Mapping[str, Expected]
    absent: tuple[str, ...]
    dose: str | None = None
    withheld: tuple[str, ...] | None = None
    verdict: str | None = None
    says: Mapping[str, str] = field(default_factory=dict)
    reference: tuple[str, ...] | None = None
    view: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The ids of which the example says something."""
        return frozenset((*self.expect, *self.absent))

    def assessed(self, tables: Tables) -> OrderAssessment:
        """What the engine says of this child."""
        ask = watch if self.view else assess
        return ask(self.record, self.draft, tables, self.policy)

    def objections(self, tables: Tables) -> list[str]:
        """Where the engine's answer is not the expected one; none where it is."""
        return list(_objections(self, self.assessed(tables)))


# --- comparing -------------------------------------------------------------------------------------


def _objections(example: Example, said: OrderAssessment) -> Iterator[str]:
    by_id = {finding.id: finding for finding in said.findings}
    for name, expected in example.expect.items():
        yield from _finding_objections(name, expected, by_id.get(name))
    for name in example.absent:
        if name in by_id:
            yield f"{name} must not be there, and is: {_finding_in_words(by_id[name])}"
    for name, words in example.says.items():
        if name not in by_id or words not in by_id[name].say:
            yield f'{name} must say "{words}"'
    if example.dose is not None and (found := _dose_in_words(said.dose)) != example.dose:
        yield f"dose: expected {example.dose}, found {found}"
    if example.withheld is not None and sorted(example.withheld) != sorted(said.withheld_by):
        yield f"withheld: expected {list(example.withheld)}, found {list(said.withheld_by)}"
    verdict = said.dose.verdict.value if said.dose is not None else "none"
    if example.verdict is not None and example.verdict != verdict:
        yield f"verdict: expected {example.verdict}, found {verdict}"
    rows = tuple(dose.row for dose in said.reference_doses)
    if example.reference is not None and example.reference != rows:
        yield f"reference doses: expected {list(example.reference)}, found {list(rows)}"


def _finding_objections(name: str, expected: Expected, found: Finding | None) -> Iterator[str]:
    if found is None:
        yield f"{name} is expected and not there"
        return
    wrong = found.outcome is not expected.outcome
    if wrong or (expected.severity is not None and found.severity.value != expected.severity):
        asked = f"{expected.outcome} {expected.severity or ''}".strip()
        yield f"{name}: expected {asked}, found {_finding_in_words(found)}"
    reasons = {(cause.fact, cause.reason.value) for cause in found.missing}
    for fact, reason in expected.missing:
        if fact == "nothing" and reasons:
            yield f"{name}: nothing should be missing, found {sorted(reasons)}"
        elif fact != "nothing" and (fact, reason) not in reasons:
            yield f"{name}: expected {fact} {reason} as missing, found {sorted(reasons)}"


def _finding_in_words(finding: Finding) -> str:
    return f"{finding.outcome} {finding.severity} ({finding.say})"


def _dose_in_words(dose: DoseAdvice | None) -> str:
    if dose is None:
        return "none"
    words = [regimen_in_words(dose.regimen), dose.form.value]
    words += ["escalated"] if dose.phase == "escalated" else []
    words += ["provisional"] if dose.provisional else []
    words += ["another product"] if dose.other_product else []
    return ", ".join(words)


def regimen_in_words(regimen: Regimen) -> str:
    """``3.2 mg twice daily`` or ``2/-/2``."""
    by_time = {a.when: a.mg for a in regimen.administrations}
    if None in by_time:
        first = regimen.administrations[0]
        times = next((words for words, number in _TIMES.items() if number == first.times_per_day), None)
        return f"{first.mg} mg {times or f'{first.times_per_day} times'} daily"
    return "/".join(str(by_time[when]) if when in by_time else "-" for when in When)


# --- reading the files ---------------------------------------------------------------------------------


@cache
def read_examples(folder: Path) -> tuple[Example, ...]:
    """Every example of a folder, in the order of its files; raises ``ExampleFault``."""
    children = read_yaml(folder / _CHILDREN)
    files = sorted(path for path in folder.glob("*.yaml") if path.name != _CHILDREN)
    return tuple(example for path in files for example in _file(path, children))


def _file(path: Path, children: Mapping[str, Any]) -> Iterator[Example]:
    for group in read_yaml(path) or ():
        _only(group, _GROUP_KEYS, f"{path.name}: {group.get('about')}")
        for case in group["cases"]:
            place = f"{path.name}: {case.get('name')}"
            _only(case, _CASE_KEYS, place)
            try:
                yield _example(group, case, path.name, children)
            except (ValueError, KeyError, ArithmeticError) as fault:
                raise ExampleFault(f"{place}: {fault}") from fault


def _only(entry: Mapping[str, Any], known: set[str], place: str) -> None:
    if unknown := set(entry) - known:
        raise ExampleFault(
            f"{place}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )


def _example(
    group: Mapping[str, Any], case: Mapping[str, Any], file: str, children: Mapping[str, Any]
) -> Example:
    child = case.get("child", group.get("child"))
    if child not in children:
        raise ValueError(f'child "{child}" is not in {_CHILDREN}; describe it there')
    shared, own = {**children[child], **group.get("facts", {})}, case.get("facts", {})
    facts = {**shared, **_sets(shared, own.get("sets", shared.get("sets"))), **own}
    drug = case.get("drug", group["drug"])
    record = _record(facts, drug)
    policy = load_policy()
    if "barJdmTrialOpen" in facts:
        policy = replace(policy, bar_jdm_trial_open=facts["barJdmTrialOpen"] == YES)
    return Example(
        name=case["name"],
        file=file,
        drug=drug,
        record=record,
        draft=_draft(facts, drug),
        policy=policy,
        expect={name: _expected(text) for name, text in case.get("expect", {}).items()},
        absent=tuple(case.get("not", ())),
        dose=case.get("dose"),
        withheld=tuple(case["withheld"]) if "withheld" in case else None,
        verdict=case.get("verdict"),
        says=case.get("says", {}),
        reference=tuple(case["reference"]) if "reference" in case else None,
        view=case.get("view") == YES,
    )


def _sets(shared: Mapping[str, Any], days: list[str] | None) -> Mapping[str, list[str]]:
    """``sets: [30 days ago, 60 days ago]``: the child's bloods, each taken on all of these days."""
    if days is None:
        return {}
    return {name: [f"{shared[name]}, {day}" for day in days] for name in _OF_A_SET if name in shared}


def _expected(text: str) -> Expected:
    first, *causes = (part.strip() for part in text.split(","))
    words = first.split()
    outcome = Outcome(words.pop(0)) if words[0] in list(Outcome) else Outcome.HIT
    pairs = tuple((fact, reason) for fact, _, reason in (cause.partition(" ") for cause in causes))
    return Expected(outcome, words[0] if words else None, pairs)


def _draft(facts: Mapping[str, Any], drug: str) -> Draft:
    return Draft(
        reference="MedicationRequest/draft",
        drug=drug,
        matched_by_name=False,
        form=Form(facts.get("form", "unknown")),
        modified_release=facts.get("modifiedRelease") == YES,
        dose=ordered_dose(facts.get("draft", "none")),
        indication=_choice("indication", facts.get("indication", "absent")),
        jia_category=_choice("jiaCategory", facts.get("jiaCategory", "absent")),
        on_record=tuple(facts.get("onRecord", ())),
        ending=facts.get("ending") == YES,
        finished=facts.get("finished") == YES,
        tablet_mg=_strength(facts.get("strength"), "mg"),
        mg_per_ml=_strength(facts.get("strength"), "mg/mL"),
    )


def _strength(text: str | None, wanted: str) -> Decimal | None:
    """``5 mg`` is the strength of a tablet, ``5 mg/mL`` that of a liquid."""
    number, _, unit = (text or "").partition(" ")
    return Decimal(number) if unit == wanted else None


def ordered_dose(text: str) -> OrderedDose:
    """``3.2 mg twice daily``, ``2/-/2``, ``none`` or ``unreadable``."""
    if text == "none":
        return OrderedDose(DoseState.ABSENT)
    if text == "unreadable":
        return OrderedDose(DoseState.UNREADABLE, why="the dose is written as text only")
    if found := _DAILY.match(text):
        return OrderedDose(
            DoseState.READ, Regimen((Administration(Decimal(found[1]), times_per_day=_TIMES[found[2]]),))
        )
    if found := _SPLIT.match(text):
        parts = zip(When, found.groups(), strict=True)
        return OrderedDose(
            DoseState.READ,
            Regimen(tuple(Administration(Decimal(mg), when) for when, mg in parts if mg != "-")),
        )
    raise ValueError(f'"{text}" is no dose; write for example "4 mg twice daily" or "2/-/2"')


def _choice(name: str, text: str, on: date = TODAY) -> Fact:
    """``yes``, ``yes, ambiguous`` (in doubt), ``yes, of ruxolitinib``, ``yes, 30 days ago``, or a reason."""
    kind = vocabulary()[name]
    value, *parts = text.split(", ")
    if value in list(Reason):
        return Missing.of(kind.named, Reason(value))
    if value not in kind.options:
        raise ValueError(f'{name} "{value}" is none of {", ".join(kind.options)} and no reason')
    evidence: list[Evidence] = []
    doubts: list[Cause] = []
    for part in parts:
        if part.startswith("of "):
            evidence.append(Evidence(kind.named, part.removeprefix("of "), source=f"Entry/{part}"))
        elif _AGO.match(part):
            evidence.append(Evidence(kind.named, value, on=_days_ago(part, on), source=f"Entry/{name}"))
        else:
            doubts.append(Cause(kind.named, Reason(part)))
    if doubts:
        return Doubtful(value, tuple(doubts), tuple(evidence))
    return Known(value, tuple(evidence))


def _record(facts: Mapping[str, Any], drug: str) -> Record:
    on = date.fromisoformat(facts["on"]) if "on" in facts else TODAY
    birth = _birth(facts, on)
    sex = _choice("sex", facts.get("sex", "female"))
    series: dict[str, Series] = {}
    flags: dict[str, Fact] = {**_NOTHING_ON_RECORD}
    answers = {name: Answers((), None) for name in _ANSWERED}
    for name, text in {**_SCREENED, **facts}.items():
        if name in _OF_THE_CASE:
            continue
        kind = vocabulary().get(name)
        if kind is None or set(kind.read_from) & {"derived", "order", "dose", "site"}:
            raise ValueError(f'"{name}" cannot be given; give what it is made from')
        if kind.read_from == ("answers",):
            answers[name] = _answers(text, on)
        elif kind.kind == "choice":
            flags[name] = _choice(name, text, on)
        elif (results := _results(name, text, on)) is not None:
            series[name] = results
    if "egfr" in facts:
        series = {**_egfr(facts["egfr"], birth, on), **series}
    gap = facts.get("ordersGap")
    return Record(
        on=on,
        birth=birth,
        sex=sex,
        series=series,
        flags=flags,
        answers=answers,
        vaccinations=tuple(
            _event(text, on) for text in facts.get("immunizations", ("mmr-vaccine, 1500 days ago",))
        ),
        vaccinations_gap=_gap("immunizations", facts.get("immunizationsGap")),
        operations=(),
        taken=tuple(_event(text, on) for text in facts.get("taken", ())),
        ends=tuple(_event(text, on) for text in facts.get("ends", ())),
        orders=tuple(_orders(facts, drug, on)),
        orders_gap=_gap("medications", gap),
    )


def _gap(name: str, reason: str | None) -> tuple[Cause, ...]:
    return (Cause(name, Reason(reason)),) if reason else ()


def _event(text: str, on: date) -> Event:
    """``mmr-vaccine, 30 days ago``."""
    concept, _, when = text.partition(", ")
    return Event(frozenset({concept}), _days_ago(when, on) if when else None, f"Event/{concept}")


def _days_ago(text: str, on: date) -> date:
    return on - timedelta(days=int(text.removesuffix(" days ago").removesuffix(" day ago")))


def _answers(text: str, on: date) -> Answers:
    """``positive``, ``negative, 400 days ago``, ``none`` or a reason."""
    if text in list(Reason):
        return Answers((), Reason(text))
    meaning, _, when = text.partition(", ")
    if meaning == "none":
        return Answers((), None)
    return Answers((Answer(meaning, _days_ago(when, on) if when else on, "Observation/answer"),), None)


_LISTS = ("conditions", "procedures", "medications", "allergies", "immunizations", "operations", "drafts")
_ANSWERED = tuple(name for name, kind in vocabulary().items() if kind.read_from == ("answers",))
_NOTHING_ON_RECORD: Final[Mapping[str, Fact]] = {
    name: Known("yes" if name == "mmr" else "no")
    for name, kind in vocabulary().items()
    if kind.concepts and kind.kind == "choice" and set(kind.read_from) <= set(_LISTS)
}
"""Every list answered in full and, but for one MMR vaccination, empty; an example names what it holds."""
_SCREENED: Final[Mapping[str, str]] = {"tbTest": "negative", "vzvIgg": "positive", "hsvIgg": "negative"}


def _birth(facts: Mapping[str, Any], on: date) -> Birth | Cause:
    """``age: 9`` is a child of 9 years and a half; ``born`` is a date, a month, a year, or a reason."""
    if "born" not in facts:
        years = int(facts["age"])
        born = _years_before(on, years) - timedelta(days=180)
        assert completed_years(born, on) == years
        return Birth(born, born, "Patient/child", born.isoformat())
    text = facts["born"]
    if text in list(Reason):
        return Cause("birthDate", Reason(text))
    year, month, day = (*(int(part) for part in text.split("-")), 0, 0)[:3]
    if day:
        return Birth(date(year, month, day), date(year, month, day), "Patient/child", text)
    after = date(year + (month in (0, 12)), month % 12 + 1 if month else 1, 1)
    return Birth(date(year, month or 1, 1), after - timedelta(days=1), "Patient/child", text)


def _years_before(on: date, years: int) -> date:
    return on.replace(year=on.year - years, day=min(on.day, 28))


def _results(name: str, text: Any, on: date) -> Results | None:
    texts = text if isinstance(text, list) else [text]
    if texts[0] == Reason.NOT_SUPPLIED:
        return None
    if texts[0] in _MISSING_SERIES:
        return Results((), Reason(texts[0]))
    if texts[0] == Reason.ABSENT:
        return Results(())
    return Results(tuple(_result(name, each, on, index) for index, each in enumerate(texts)))


def _result(name: str, text: str, on: date, index: int) -> Reading | Unusable:
    first, *parts = (part.strip() for part in text.split(","))
    source, taken, low, high, normal = f"Observation/{name}-{index}", on, None, None, None
    for part in parts:
        if found := _AGO.match(part):
            taken = on - timedelta(days=int(found[1]))
        elif found := _RANGE.match(part):
            low = found[1] or (found[4] if found[3] == "above" else None)
            high = found[2] or (found[4] if found[3] == "below" else None)
        elif part in ("normal", "abnormal"):
            normal = part == "normal"
        else:
            raise ValueError(
                f'{name}: "{part}" is not understood; write "91 days ago", "range 11 to 15" or "normal"'
            )
    if first in list(Reason):
        return Unusable(Reason(first), taken, source, "invented")
    value = _value(name, first)
    bounds = [Decimal(bound) if bound is not None else None for bound in (low, high)]
    return Reading(value, taken, source, bounds[0], bounds[1], normal)


def _value(name: str, text: str) -> Interval:
    found = _RESULT.match(text)
    unit = vocabulary()[name].unit
    if found is None or found["unit"] not in (None, unit, unit_words(unit)):
        raise ValueError(f'{name}: "{text}" is no result; write a number and the unit {unit_words(unit)}')
    low = Decimal(found["low"])
    if found["high"]:
        return Interval(low, Decimal(found["high"]))
    match found["sign"]:
        case "<" | "<=":
            return Interval(None, low, high_open=found["sign"] == "<")
        case ">" | ">=":
            return Interval(low, None, low_open=found["sign"] == ">")
    return Interval.exactly(low)


def _egfr(text: Any, birth: Birth | Cause, on: date) -> dict[str, Series]:
    """A height that is usual for the age, and the creatinine that gives exactly this eGFR."""
    texts = text if isinstance(text, list) else [text]
    if texts[0] in list(Reason):
        found = _results("creatinine", texts, on)
        return {"creatinine": found} if found is not None else {}
    heights: list[Reading | Unusable] = []
    creatinines: list[Reading | Unusable] = []
    for index, each in enumerate(texts):
        value, _, ago = each.partition(",")
        days = _AGO.match(ago.strip())
        taken = on - timedelta(days=int(days[1]) if days else 0)
        egfr = Decimal(value)
        usual = _usual_height(birth, taken)
        ratio = (usual / egfr).quantize(Decimal("0.001"))
        heights.append(Reading(Interval.exactly(egfr * ratio), taken, f"Observation/height-{index}"))
        creatinine = Interval.exactly(egfr_constant() * ratio)
        creatinines.append(Reading(creatinine, taken, f"Observation/creatinine-{index}", normal=True))
    return {"height": Results(tuple(heights)), "creatinine": Results(tuple(creatinines))}


def _usual_height(birth: Birth | Cause, taken: date) -> Decimal:
    if isinstance(birth, Cause):
        return Decimal(130)
    span = limits("height", None, completed_months(birth.earliest, taken))
    return (span[0] + span[1]) / 2 if span is not None else Decimal(170)


def _orders(facts: Mapping[str, Any], drug: str, on: date) -> Iterator[RecordedOrder]:
    """``running: 2/-/2, 60 days ago`` is an active order of the drafted drug; ``orders`` are any others."""
    if "running" in facts:
        dose, _, ago = facts["running"].partition(", ")
        yield RecordedOrder(drug, True, _day(ago, on), None, ordered_dose(dose), "MedicationRequest/running")
    for index, order in enumerate(facts.get("orders", ())):
        yield RecordedOrder(
            drug=order.get("drug", drug),
            active=order.get("active") == YES,
            start=_day(order["from"], on),
            end=_day(order["to"], on),
            dose=ordered_dose(order.get("dose", "unreadable")),
            source=f"MedicationRequest/{index}",
        )


def _day(text: str, on: date) -> date | None:
    """``60 days ago``, or ``unknown``."""
    if text == "unknown":
        return None
    found = _AGO.match(text)
    if found is None:
        raise ValueError(f'"{text}" is no day; write "60 days ago" or "unknown"')
    return on - timedelta(days=int(found[1]))
