"""Findings -> cards: who stands on which card, in what order, in what words. No clinical decision is taken here.

Per order: each critical finding its own card (more than three are merged), the dose, the warnings in one, what
could not be checked in one, the notes in one. Most severe first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from cards import text
from cards.model import Action, Card, JsonObject, Suggestion
from guideline.doses import Administration, DoseState, Regimen
from guideline.findings import (
    DoseAdvice,
    Finding,
    Kind,
    OrderAssessment,
    Origin,
    Outcome,
    ReferenceDose,
    Severity,
    Verdict,
)
from guideline.sources import the_source
from guideline.values import Cause, Evidence
from guideline.words import unit_words

MOST_CRITICAL_CARDS = 3
EXTENSION = "org.jaki-cds"
TOPICS = "urn:jaki-cds:topic"
OVERRIDE_REASONS = "urn:jaki-cds:override-reason"

# A member looked up in its enumeration costs ten times what a name of the module does; these are asked at each finding.
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_HIT, _CANNOT_ASSESS = Outcome.HIT, Outcome.CANNOT_ASSESS
_ALERT, _NOTE = Kind.ALERT, Kind.NOTE

NewUuid = Callable[[], str]
NewRequest = Callable[[str, date | None], tuple[str, dict[str, Any]]]
"""A test by its name and due day -> its words and the ServiceRequest that orders it."""
Dosage = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Occasion:
    """What every card of an answer shares."""

    as_of: date
    new_uuid: NewUuid
    notes: bool = True


@dataclass(frozen=True, slots=True)
class OrderToCard:
    """One assessed order with what a suggestion needs: the draft itself and the dosage to put in its place.

    ``one_of_several``: other drafts of the same drug stand beside it, so that none of them tells the day's dose.
    """

    assessment: OrderAssessment
    draft: Mapping[str, Any]
    dosage: Dosage | None
    new_request: NewRequest | None = None
    running: bool = False
    one_of_several: bool = False


def cards_for(order: OrderToCard, occasion: Occasion) -> list[Card]:
    """The cards of one order, most severe first."""
    a = order.assessment
    on_dose_card, rest = _split_dose(a)
    critical, warnings, gaps, notes = [], [], [], []
    for finding in rest:
        if finding.outcome is _CANNOT_ASSESS:
            gaps.append(finding)
        elif finding.severity is _CRITICAL:
            critical.append(finding)
        elif finding.severity is _WARNING:
            warnings.append(finding)
        elif occasion.notes or finding.kind is not _NOTE:
            notes.append(finding)
    warnings.sort(key=lambda f: (f.id not in a.withheld_by, f.kind is not _ALERT))
    notes.sort(key=lambda f: (f.id not in a.withheld_by, _NOTES_ORDER.index(f.kind)))
    groups: list[tuple[str, list[Finding]]] = [("critical", found) for found in _by_trigger(critical)]
    if len(groups) > MOST_CRITICAL_CARDS:
        groups = [("critical", critical)]
    groups += [
        (name, found) for name, found in (("warnings", warnings), ("gaps", gaps), ("notes", notes)) if found
    ]
    cards = []
    if a.dose is not None:
        cards.append(_dose_card(order, on_dose_card, occasion))
    # What explains the missing dose stands on the first card below.
    told = not order.running
    offered: set[str] = set()
    for index, (name, found) in enumerate(groups):
        leads = index == 0 and a.dose is None and not order.running
        # The row that a running dose should follow stands beside the first finding about the dose.
        refers = not told and any(f.about_dose and f.outcome is _HIT for f in found)
        told = told or refers
        suggested = _orders(found, offered, order, occasion)
        cards.append(_card(name, found, suggested, order, occasion, leads=leads, refers=refers))
    cards.sort(key=lambda card: RANKS[card.indicator])
    return _with_notes(cards, a)


def _with_notes(cards: list[Card], a: OrderAssessment) -> list[Card]:
    """What was noticed on the way of reading, said once: on the first card, before its last paragraph."""
    notes = (
        *(("The drug was recognised by its name, not by a code.",) if a.matched_by_name else ()),
        *a.notes,
    )
    if not cards or not notes:
        return cards
    body, _, end = cards[0].detail.rpartition("\n\n")
    return [msgspec.structs.replace(cards[0], detail="\n\n".join((body, " ".join(notes), end))), *cards[1:]]


RANKS: Mapping[str, int] = {severity: severity.rank for severity in Severity}
_NOTES_ORDER = (Kind.ALERT, Kind.DOSE, Kind.ORDER, Kind.PLAN, Kind.NOTE)
"""What to do stands before what to know."""


def _by_trigger(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings of one trigger share a card (ruling 9): those that rest on the same data, or on a part of them."""
    groups: list[tuple[frozenset[tuple[str, str | None]], list[Finding]]] = []
    for finding in findings:
        key = frozenset((e.fact, e.source) for e in finding.evidence) or frozenset({(finding.id, None)})
        near = [group for group in groups if group[0] <= key or key <= group[0]]
        joined = (key.union(*(data for data, _ in near)), [f for _, found in near for f in found] + [finding])
        at = groups.index(near[0]) if near else len(groups)
        groups = [group for group in groups if group not in near]
        groups.insert(at, joined)
    return [found for _, found in groups]


def _split_dose(a: OrderAssessment) -> tuple[list[Finding], list[Finding]]:
    if a.dose is None:
        return [], list(a.findings)
    beside = [
        f
        for f in a.findings
        if f.id == a.dose.row or (f.about_dose and f.outcome is _HIT and f.severity is not _CRITICAL)
    ]
    return beside, [f for f in a.findings if f not in beside]


_NOT_CHECKED = {
    "another-patient": "The drafted order names another patient, so it was not checked.",
    "order-modified": "The drafted order carries a modifier extension that this service does not know; not checked.",
    "drug-unresolved": "The drafted order names its drug only by a reference that could not be resolved; not checked.",
    "drug-contradictory": "The drafted order names two different JAK inhibitors; not checked.",
    "drug-not-covered": "The drafted JAK inhibitor is none that the guideline covers (tofacitinib, baricitinib, "
    "ruxolitinib); not checked.",
    "failure": "The check of this order failed inside the service; nothing was checked. Treat it as unchecked.",
    "treatment-unknown": "Whether the child is on a JAK inhibitor could not be checked: the medicines are not known.",
}


_NOTED = {
    "topical": "The draft is for a topical JAK inhibitor; the guideline covers JAK inhibitors by mouth only, "
    "so nothing was checked.",
    "not-to-be-given": "The draft says that this drug is not to be given, and none is running on record; "
    "nothing was checked.",
    "ending": "The draft ends this drug; the guideline has nothing to say of that here.",
}


def noted_card(why: str, order: str, drug: str, occasion: Occasion) -> Card:
    """The card of a draft that the guideline has no rule for. ``why`` is a key of the sentences above."""
    finding = _of_scope(_NOTED[why], Outcome.OUTSIDE_GUIDELINE, Severity.INFO, Kind.NOTE, order, drug)
    return _scope_card(finding, f"{text.capital(drug)}: {finding.say}", "jakinotes", "", occasion)


def not_checked_card(why: str, order: str | None, causes: tuple[Cause, ...], occasion: Occasion) -> Card:
    """The card where nothing could be assessed at all. ``why`` is a key of the sentences above."""
    what = _NOT_CHECKED[why]
    finding = msgspec.structs.replace(
        _of_scope(what, Outcome.CANNOT_ASSESS, Severity.WARNING, Kind.ALERT, order, "unknown"), missing=causes
    )
    gaps = "; ".join(text.gap(cause) for cause in causes)
    more = f"\n- {text.capital(gaps)}." if gaps else ""
    return _scope_card(finding, f"Could not check: {what}", "jakigaps", more, occasion)


@dataclass(frozen=True, slots=True)
class NotRepeated:
    """A card that is left out because it was overridden: what it says, and how it was overridden.

    ``summary`` and ``statements`` are the card's; ``reason`` is the code that was given, ``on`` the day.
    """

    summary: str
    statements: tuple[str, ...]
    order: str
    drug: str
    reason: str
    on: date


def not_repeated_card(cards: Sequence[NotRepeated], days: int, occasion: Occasion) -> Card:
    """The card in place of those that a site does not want repeated for ``days``: nothing is left out in silence."""
    warnings = "1 warning is" if len(cards) == 1 else f"{len(cards)} warnings are"
    since = "day" if days == 1 else f"{days} days"
    first = cards[0]
    finding = msgspec.structs.replace(
        _of_scope(
            f"{warnings} not repeated, since overridden with a reason in the last {since}.",
            Outcome.HIT,
            Severity.INFO,
            Kind.NOTE,
            first.order,
            first.drug,
        ),
        id="META-02",
        section="Note",
        cite="Note on the use of the guideline: departures",
        title="Departures from the guideline",
    )
    told = [
        f"- {text.escaped(card.summary)} [{', '.join(card.statements)}]: overridden on {text.day(card.on)} "
        f"({text.override_reason(card.reason)})."
        for card in cards
    ]
    return _scope_card(
        finding, finding.say, "jakinotrepeated", "\n".join(["", *told, "", _WHEN_REPEATED]), occasion
    )


_WHEN_REPEATED = (
    "Patient, order and data are the same as then. After any change of them they are shown again; critical warnings, "
    "and what could not be checked, always are. Record a significant departure and its reason in the case notes."
)


def _of_scope(
    say: str, outcome: Outcome, severity: Severity, kind: Kind, order: str | None, drug: str
) -> Finding:
    return Finding(
        id="META-05",
        outcome=outcome,
        severity=severity,
        kind=kind,
        origin=Origin.DEFAULT,
        section="2",
        drug=drug,
        order=order,
        say=say,
        rule="always",
        cite="Section 2, Scope",
        title="Scope of the guideline",
    )


def _scope_card(finding: Finding, summary: str, topic: str, more: str, occasion: Occasion) -> Card:
    words = text.wording()
    end = f"{words['not_reviewed']} {words['decision']} Evaluated as of {text.day(occasion.as_of)}."
    return _finished(
        occasion,
        topic=topic,
        summary=summary,
        detail=f"- **{finding.say}** [{finding.id}]{more}\n\n{end}",
        findings=[finding],
    )


def treatment_cards(
    assessed: OrderAssessment, new_request: NewRequest | None, occasion: Occasion
) -> list[Card]:
    """The cards of a running treatment. Nothing to say: no card."""
    return cards_for(OrderToCard(assessed, {}, None, new_request, running=True), occasion)


# --- the dose card --------------------------------------------------------------------------------


def _dose_card(order: OrderToCard, findings: list[Finding], occasion: Occasion) -> Card:
    a = order.assessment
    dose = a.dose
    assert dose is not None
    findings = sorted(findings, key=lambda f: (f.severity.rank, f.id != dose.row))
    lines = _dose_lines(a, dose, findings)
    suggestions = () if order.dosage is None else (_suggestion(order, dose, order.dosage, occasion),)
    return _finished(
        occasion,
        topic="jakidose",
        summary=_dose_summary(order, dose, warned=findings[0].severity is not Severity.INFO),
        detail=_detail(a, findings, occasion, lines),
        findings=findings,
        dose=_dose_json(dose, a.drafted.regimen),
        suggestions=suggestions,
    )


_INDICATIONS = {"jia": "JIA", "jdm": "JDM", "interferonopathy": "interferonopathy"}


def _dose_summary(order: OrderToCard, dose: DoseAdvice, *, warned: bool) -> str:
    """One line on the dose; ``warned``: the card holds a warning, which a matching dose must not hide."""
    a = order.assessment
    phase = "escalated dose " if dose.phase == "escalated" else ""
    provisional = "provisionally " if dose.provisional else ""
    given = f"{provisional}{phase}{text.regimen(dose.regimen)}"
    head = f"{text.capital(a.drug)} in {_INDICATIONS[dose.indication]}: {given}"
    if order.one_of_several:
        return f"{head}; several drafts of this drug, add up what they give in a day"
    if dose.verdict is Verdict.MATCH and dose.other_product:
        return f"{head}; the dose matches, the product does not"
    if dose.verdict is Verdict.MATCH and warned:
        return f"{head}; the draft matches, but there is a warning"
    return head + _VERDICTS[dose.verdict].format(text.drafted(a.drafted))


_VERDICTS: Mapping[str, str] = {
    Verdict.MATCH: "; the draft matches",
    Verdict.OVER: "; drafted {} is above it",
    Verdict.UNDER: "; drafted {} is below it",
    Verdict.SCHEDULE: "; drafted {} is split differently",
    Verdict.ABSENT: "; no dose drafted yet",
    Verdict.UNREADABLE: "; the drafted dose could not be read",
}
"""What the drafted dose is against that of the row."""


def _dose_lines(a: OrderAssessment, dose: DoseAdvice, findings: Sequence[Finding]) -> list[str]:
    words = text.wording()
    lines = []
    if dose.provisional:
        lines.append(
            "**Provisional.** Something that could bar this dose is not known; see what could not be checked, "
            "and settle it first."
        )
    lines += _sentences(findings)
    drafted = text.regimen(a.drafted.regimen) if a.drafted.regimen is not None else "no dose"
    if a.drafted.regimen is not None:
        drafted += f" ({text.plain(a.drafted.regimen.mg_per_day)} mg per day)"
    elif a.drafted.state is DoseState.UNREADABLE:
        drafted = f"not readable ({a.drafted.why})" if a.drafted.why else "not readable"
    lines.append("")
    lines.append("| | dose |")
    lines.append("|---|---|")
    lines.append(f"| guideline ({dose.row}) | {text.regimen_in_full(dose.regimen, dose.form)} |")
    lines.append(f"| drafted | {drafted} |")
    lines.append("")
    lines.append(words["verdicts"][dose.verdict.value])
    if dose.lowered:
        lines.append(words["lowered"])
        lines += ["", *(_reference_line(reference) for reference in a.reference_doses), ""]
    if dose.mg_per_kg_day is not None:
        lines.append(f"For information: {text.rounded(dose.mg_per_kg_day, 2)} mg per kg per day.")
    return lines


def _suggestion(order: OrderToCard, dose: DoseAdvice, dosage: Dosage, occasion: Occasion) -> Suggestion:
    more = [" (provisional)"] if dose.provisional else []
    # The product of the draft is left as it is (contract 4), so that this dose alone may not be what to sign.
    more += ["; the product must be changed too"] if dose.other_product else []
    label = text.summary(f"Set the dose to {text.regimen(dose.regimen)}{''.join(more)}")
    updated = {**order.draft, "dosageInstruction": dosage}
    action = Action("update", f"{label} in the drafted {dose.drug} order", updated)
    recommended = not (dose.provisional or dose.other_product or dose.lowered)
    return Suggestion(label, occasion.new_uuid(), recommended, (action,))


def _dose_json(dose: DoseAdvice, drafted: Regimen | None) -> JsonObject:
    found: JsonObject = {
        "id": dose.row,
        "drug": dose.drug,
        "indication": dose.indication,
        "phase": dose.phase,
        "administrations": [_administration_json(a) for a in dose.regimen.administrations],
        "mgPerDay": _number(dose.regimen.mg_per_day),
        "form": dose.form.value,
    }
    if dose.provisional:
        found["provisional"] = True
    found["order"] = {"verdict": dose.verdict.value}
    if drafted is not None:
        found["order"] = {"mgPerDay": _number(drafted.mg_per_day), **found["order"]}
    return found


def _administration_json(a: Administration) -> JsonObject:
    if a.when is not None:
        return {"when": a.when.value, "mg": _number(a.mg)}
    assert a.times_per_day is not None
    return {"timesPerDay": _number(a.times_per_day), "mg": _number(a.mg)}


# --- the other cards ------------------------------------------------------------------------------


def _card(
    name: str,
    findings: list[Finding],
    suggestions: tuple[Suggestion, ...],
    order: OrderToCard,
    occasion: Occasion,
    *,
    leads: bool,
    refers: bool,
) -> Card:
    a = order.assessment
    drafted = text.drafted(a.drafted)
    who = text.capital(a.drug) + (f" {drafted}" if drafted else "")
    if name == "gaps":
        lines = _gap_lines(findings)
        names = list(dict.fromkeys(text.name_of(c.fact) for f in findings for c in _told(f.missing)))
        headline = f"{who}: could not check - {text.joined(names)} missing or unusable"
    else:
        lines = _sentences(findings)
        headline = _headline(name, who, findings)
    if order.new_request is not None and _is_barred(a) and any(f.due is not None for f in findings):
        lines += ["", text.wording()["plan_not_offered"]]
    if leads:
        lines += _no_dose_lines(a)
    if refers:
        lines += ["", *(_reference_line(reference) for reference in a.reference_doses)]
    topic = f"jaki{name}"
    if name == "critical" and len(findings) == 1:
        topic += findings[0].id.replace("-", "")
    return _finished(
        occasion,
        topic=topic,
        summary=headline,
        detail=_detail(a, findings, occasion, lines),
        findings=findings,
        suggestions=suggestions,
    )


def _orders(
    findings: Sequence[Finding], offered: set[str], order: OrderToCard, occasion: Occasion
) -> tuple[Suggestion, ...]:
    """Ready-made orders: the tests that are missing or due now, and those of the plan with their dates.

    A test to be had now that a card before has ``offered`` is not offered once more: taken over twice, it would be
    ordered twice.
    """
    if order.new_request is None:
        return ()
    names = dict.fromkeys(name for f in findings if f.due is None for name in f.orders)
    now = [(name, None) for name in names if name not in offered]
    offered.update(names)
    planned = dict.fromkeys((name, f.due) for f in findings if f.due is not None for name in f.orders)
    if _is_barred(order.assessment):
        planned = {}  # tests of a treatment that is not to be given would have to be cancelled one by one
    found = []
    for label, wanted in (
        ("Order the tests that are missing or due", now),
        ("Order the monitoring plan", planned),
    ):
        when = {due: "" if due is None else f", {text.day(due)}" for due in {due for _, due in wanted}}
        actions = [_order_action(order.new_request, name, due, when[due]) for name, due in wanted]
        if actions:
            found.append(Suggestion(label, occasion.new_uuid(), False, tuple(actions)))
    return tuple(found)


def _is_barred(a: OrderAssessment) -> bool:
    return any(f.severity is Severity.CRITICAL and f.outcome is Outcome.HIT for f in a.findings)


def _order_action(new_request: NewRequest, name: str, due: date | None, when: str) -> Action:
    words, resource = new_request(name, due)
    return Action("create", f"Order: {words}{when}", resource)


def _headline(name: str, who: str, findings: Sequence[Finding]) -> str:
    first = findings[0]
    say, _, rest = first.say.partition(". ")
    if len(say) < _SHORT and rest:  # "Serious infection." says what is wrong, not what to do
        say = f"{say}: {rest.split('. ')[0]}"
    say = say.rstrip(".")
    data = f" ({text.amount(first.evidence[0].value, first.evidence[0].unit)})" if _has_number(first) else ""
    label = f"{text.name_of(first.evidence[0].fact)}{data}: " if data else ""
    lines = len({(f.say, f.due) for f in findings})  # statements that say the same share a line
    more = f" (+{lines - 1} more)" if lines > 1 else ""
    if first.outcome is Outcome.OUTSIDE_GUIDELINE:
        return f"{who}: no dose suggested - outside the ages and weights that the guideline covers{more}"
    if name == "notes":
        label = "plan and notes - "
    # How many more there are is not cut off with a long sentence.
    return text.summary(f"{who}: {label}{say}", beside=more) + more


_SHORT = 60
"""Characters of a first sentence that leave room for the second in a summary."""


def _has_number(finding: Finding) -> bool:
    return bool(finding.evidence) and isinstance(finding.evidence[0].value, Decimal)


_ORIGINS: Mapping[str, str] = {
    Origin.PRINTED: "",
    Origin.DERIVED: " (derived from the guideline)",
    Origin.DEFAULT: " (service default)",
}


def _sentences(findings: Sequence[Finding]) -> list[str]:
    """One line per sentence, after the results behind it; statements that say the same share it."""
    by_sentence: dict[tuple[str, str, str], list[Finding]] = {}
    for f in findings:
        bold = "**" if f.severity is not _INFO else ""
        due = f" Due {text.day(f.due)}." if f.due is not None else ""
        by_sentence.setdefault((bold, f"{f.say}{due}", _ORIGINS[f.origin]), []).append(f)
    return [
        # What stands in bold may be an alert, and an alert names its results.
        f"- {bold}{_results(said) if bold else ''}{sentence}{bold}{origin} [{', '.join([f.id for f in said])}]"
        for (bold, sentence, origin), said in by_sentence.items()
    ]


def _results(findings: Sequence[Finding]) -> str:
    """The results that alerts rest on, so that a list of them says which is which: ``ALT 250 U/L: ``."""
    alerts = [f for f in findings if f.kind is _ALERT and f.severity is not _INFO and not f.about_dose]
    shown: dict[str, str] = {}
    for finding in alerts:
        named = {e.fact: e for e in reversed(finding.evidence) if isinstance(e.value, Decimal)}
        if "egfr" in named:
            named = {"egfr": named["egfr"]}  # the calculation has a line of its own
        if len(named) > _MOST_RESULTS:
            continue
        for fact, e in reversed(named.items()):
            # An earlier result that it is compared with: "(12.5 g/dL before treatment)".
            earlier = (
                o for o in finding.evidence if o.fact == fact and o.note and o.on and e.on and o.on < e.on
            )
            compared = next(earlier, None)
            beside = f" ({text.amount(compared.value, compared.unit)} {compared.note})" if compared else ""
            shown.setdefault(fact, f"{text.name_of(fact)} {text.amount(e.value, e.unit)}{beside}")
    return f"{text.capital('; '.join(shown.values()))}: " if shown else ""


_MOST_RESULTS = 3
"""A statement that rests on more results than these names none; they stand among the data."""


def _told(causes: Iterable[Cause]) -> list[Cause]:
    """The causes worth telling: an eGFR that lacks its creatinine is told by the creatinine."""
    found = list(causes)
    if not found:
        return found
    named = {cause.fact for cause in found}
    if named & {"creatinine", "height"}:
        found = [cause for cause in found if cause.fact != "egfr"]
    return found


def _gap_lines(findings: Sequence[Finding]) -> list[str]:
    by_gap: dict[str, list[Finding]] = {}
    for finding in findings:
        for cause in _told(finding.missing):
            by_gap.setdefault(text.gap(cause), []).append(finding)
    lines = ["Could not be checked for this child:", ""]
    for gap, concerned in by_gap.items():
        titles = list(dict.fromkeys(f.title for f in concerned))
        ids = ", ".join(dict.fromkeys(f.id for f in concerned))
        lines.append(f"- **{text.capital(gap)}** - needed for: {'; '.join(titles)} [{ids}]")
    return lines


def _no_dose_lines(a: OrderAssessment) -> list[str]:
    lines = [
        "",
        "**No dose is suggested.**"
        + (f" Withheld by {text.joined(a.withheld_by)}." if a.withheld_by else ""),
    ]
    if a.reference_doses:
        lines += ["", "For reference only, not a suggestion:", ""]
    lines += [_reference_line(reference) for reference in a.reference_doses]
    return lines


def _reference_line(reference: ReferenceDose) -> str:
    each = (
        f", {text.rounded(reference.mg_per_kg_day, 2)} mg per kg per day"
        if reference.mg_per_kg_day is not None
        else ""
    )
    total = text.plain(reference.regimen.mg_per_day)
    return f"- {reference.heading}: {text.regimen(reference.regimen)} ({total} mg per day{each}) [{reference.row}]"


# --- what every card has --------------------------------------------------------------------------


def _detail(a: OrderAssessment, findings: Sequence[Finding], occasion: Occasion, lines: list[str]) -> str:
    parts = ["\n".join(lines).strip()]
    evidence = list(dict.fromkeys(e for f in findings for e in f.evidence if e.fact != "doseDrafted"))
    if evidence:
        parts.append("Data used: " + "; ".join(dict.fromkeys(text.datum(e) for e in evidence)) + ".")
    if a.egfr is not None and any(e.fact in ("egfr", "creatinine") for e in evidence):
        parts.append(_egfr_line(a))
    parts.append("Guideline: " + "; ".join(dict.fromkeys(_citation(f) for f in findings)) + ".")
    unsure = list(dict.fromkeys(text.gap(c) for f in findings for c in _told(f.missing)))
    if unsure and not all(f.outcome is _CANNOT_ASSESS for f in findings):
        parts.append("Not certain: " + "; ".join(unsure) + ".")
    parts.append(f"{_closing(all(f.reviewed for f in findings))} evaluated as of {text.day(occasion.as_of)}.")
    return "\n\n".join(parts)


@cache
def _closing(reviewed: bool) -> str:
    """What every card says in the end, but for the day."""
    source, words = the_source(), text.wording()
    warned = "" if reviewed else f"{words['not_reviewed']} "
    return (
        f"{words['disclaimer']} {warned}{words['decision']} {source.short}, "
        f"accepted {text.day(source.accepted)};"
    )


def _egfr_line(a: OrderAssessment) -> str:
    assert a.egfr is not None
    e = a.egfr
    return (
        f"Calculation: eGFR = {text.plain(e.constant)} × height {text.plain(e.height_cm)} cm / creatinine "
        f"{text.rounded(e.creatinine_umol_l, 2)} µmol/L = {text.rounded(e.egfr)} {unit_words('mL/min/{1.73_m2}')}."
    )


def _citation(finding: Finding) -> str:
    rule = f", row: {finding.rule}" if finding.rule != "always" else ""
    return f"{finding.id}: {finding.cite}{rule}"


def _finished(
    occasion: Occasion,
    *,
    topic: str,
    summary: str,
    detail: str,
    findings: Sequence[Finding],
    dose: JsonObject | None = None,
    suggestions: tuple[Suggestion, ...] = (),
) -> Card:
    source = the_source()
    indicator = min((f.severity for f in findings), key=RANKS.__getitem__)
    extension: JsonObject = {
        "edition": source.id,
        "knowledgeVersion": source.knowledge_version,
        "asOf": occasion.as_of.isoformat(),
        "findings": [finding_json(f) for f in findings],
    }
    if dose is not None:
        extension["dose"] = dose
    return Card(
        uuid=occasion.new_uuid(),
        summary=text.summary(summary),
        detail=detail,
        indicator=str(indicator),
        source={
            "label": f"{source.short} ({source.id})",
            "url": source.url,
            "topic": {"system": TOPICS, "code": topic},
        },
        extension={EXTENSION: extension},
        suggestions=suggestions,
        override_reasons=_override_reasons() if indicator is not _INFO else (),
    )


@cache
def _override_reasons() -> tuple[JsonObject, ...]:
    return tuple({"system": OVERRIDE_REASONS, **reason} for reason in text.wording()["override_reasons"])


def finding_json(finding: Finding) -> JsonObject:
    """The machine-readable finding of the contract."""
    found: JsonObject = {
        "id": finding.id,
        # As text: the value of an enumeration's member costs ten times that.
        "outcome": str(finding.outcome),
        "severity": str(finding.severity),
        "kind": str(finding.kind),
        "origin": str(finding.origin),
        "section": finding.section,
        "drug": finding.drug,
        "evidence": [_evidence_json(e) for e in finding.evidence] if finding.evidence else [],
        "missing": _missing_json(finding.missing) if finding.missing else [],
    }
    if finding.order is not None:
        found["order"] = finding.order
    return found


def _missing_json(causes: Iterable[Cause]) -> list[JsonObject]:
    return [
        {"fact": fact, "reason": reason}
        for fact, reason in dict.fromkeys((c.fact, str(c.reason)) for c in causes)
    ]


def _evidence_json(e: Evidence) -> JsonObject:
    found: JsonObject = {
        "fact": e.fact,
        "value": _number(e.value) if isinstance(e.value, Decimal) else e.value,
    }
    if e.unit is not None:
        found["unit"] = e.unit
    if e.on is not None:
        found["date"] = e.on.isoformat()
    if e.source is not None:
        found["source"] = e.source
    return found


def _number(value: Decimal) -> Decimal | int:
    """A JSON number: whole ones as integers, calculated ones to four places."""
    if value == value.to_integral_value():
        return int(value)
    short = value.quantize(Decimal(1).scaleb(-_PLACES))
    return value if short == value else short


_PLACES = 4
