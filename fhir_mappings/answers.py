"""Observations that answer in words - serology, screening tests, statuses - as positive, negative or unclear.

The newest result decides; its date and source travel with it. A result that cannot be understood is "unclear",
never negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache, lru_cache

from fhir_mappings.elements import (
    Resource,
    codings,
    concepts_in,
    is_modified,
    is_negation,
    is_of_other_focus,
    is_of_patient,
    read_span,
    reference,
    status_of,
    texts,
)
from fhir_mappings.panels import WITHDRAWN, results_of
from fhir_mappings.prefetch import Pool
from guideline.facts import vocabulary
from guideline.record import Answer, Answers

_FINAL = ("final", "amended", "corrected", "appended")  # the last of a DiagnosticReport
_POSITIVE = frozenset(
    {"result-positive", "result-detected", "pregnancy", "pregnancy-test-positive", "lactation"}
)
_NEGATIVE = frozenset({"result-negative", "result-not-detected", "pregnancy-test-negative"})
_POSITIVE_FLAGS = frozenset({"POS", "DET", "R", "WR"})
_NEGATIVE_FLAGS = frozenset({"NEG", "ND", "NR"})
_NEGATIVE_WORDS = re.compile(
    r"\b(not detected|undetected|negative|non[- ]?reactive|not pregnant|no growth|absent|neg)\b"
)
_POSITIVE_WORDS = re.compile(r"\b(positive|detected|reactive|present|pregnant|pos)\b")
_UNCLEAR_WORDS = re.compile(r"\b(equivocal|indeterminate|borderline|unknown|invalid|inconclusive)\b")
_POSITIVE_SIGN = re.compile(r"[1-4] ?\+|\+{1,4}")
_NEGATIVE_SIGN = re.compile(r"nil|nad")
"""How a urine strip is read aloud: plus signs, or nothing (abnormal) detected."""
_CURRENT_SMOKER = "smoking-current"
_NO_SMOKER = frozenset({"smoking-former", "smoking-never"})


def read_answers(pool: Pool, patient_id: str, today: date) -> tuple[dict[str, Answers], tuple[str, ...]]:
    """Every question of the vocabulary (``from: answers``), newest first, and those with a result not yet final."""
    found: dict[str, list[Answer]] = {name: [] for name in _questions()}
    not_final: list[str] = []

    def take(resource: Resource, part: Resource, names: tuple[str, ...], source: str) -> None:
        """Notes what a result (or the ``part`` of it) says to each of the questions that it answers."""
        if not names or not is_of_patient(resource, patient_id):
            return
        status = status_of(resource)
        if status not in _FINAL:
            not_final.extend(() if status in WITHDRAWN else names)
            return
        of_other = is_of_other_focus(resource, patient_id)
        answer = _answer(resource, part, source, today, of_other=of_other)
        for name in names:
            found[name].append(answer)

    for result in results_of(pool, patient_id):
        if asked := _asked(result.concepts):
            take(result.resource, result.resource, asked, result.source)
        if "component" in result.resource:
            for part, names in _components(result.resource):
                take(result.resource, part, names, result.source)
    for report in pool.of("DiagnosticReport"):
        take(report, report, _asked(concepts_in(report.get("code"))), reference(report))
        for part, names in _components(report):
            take(report, part, names, reference(report))
    read = {
        name: Answers(tuple(sorted(answers, key=_newest_first, reverse=True)), pool.gap("answers", name))
        for name, answers in found.items()
    }
    return read, tuple(not_final)


@cache
def _questions() -> Mapping[str, tuple[str, ...]]:
    """Every question with the concepts that it goes by."""
    return {name: kind.concepts for name, kind in vocabulary().items() if kind.read_from == ("answers",)}


@lru_cache(maxsize=512)
def _asked(concepts: frozenset[str]) -> tuple[str, ...]:
    """The questions that a result of these concepts answers."""
    if not concepts:
        return ()
    return tuple(name for name, own in _questions().items() if not concepts.isdisjoint(own))


def _components(resource: Resource) -> Iterator[tuple[Resource, tuple[str, ...]]]:
    """The parts of a panel (a urine strip is often one) with the questions that each answers."""
    components = resource.get("component")
    for part in components if isinstance(components, list) else ():
        if isinstance(part, dict):
            yield part, _asked(concepts_in(part.get("code")))


def _answer(resource: Resource, part: Resource, source: str, today: date, *, of_other: bool) -> Answer:
    """One result. Without a usable date it may be the newest: it counts as of today, but never as negative."""
    unusable = of_other or is_modified(resource) or is_modified(part) or bool(part.get("dataAbsentReason"))
    meaning = "unclear" if unusable else meaning_of(part)
    span = _when(resource)
    if span is None or span[0] > today + timedelta(days=1):
        return Answer(meaning if meaning == "positive" else "unclear", today, source)
    # Of "May 2026" a negative counts from its first day, anything graver up to its last.
    return Answer(meaning, min(span[0] if meaning == "negative" else span[1], today), source)


def _newest_first(answer: Answer) -> tuple[date, int, str]:
    """Of results of one day the gravest counts, whatever the order in which they came."""
    return answer.on, ("negative", "unclear", "positive").index(answer.meaning), answer.source


def _when(resource: Resource) -> tuple[date, date] | None:
    """First and last day that the clinical time allows."""
    for name in ("effectiveDateTime", "effectiveInstant"):
        if (on := read_span(resource.get(name))) is not None:
            return on
    span = resource.get("effectivePeriod")
    if isinstance(span, dict):
        return read_span(span.get("end")) or read_span(span.get("start"))
    return None


def meaning_of(resource: Resource) -> str:
    """positive, negative or unclear: by code first, then by interpretation, then by plain words."""
    value = resource.get("valueCodeableConcept") or resource.get("conclusionCode")  # of a DiagnosticReport
    concepts = concepts_in(value)
    if concepts & _POSITIVE or _CURRENT_SMOKER in concepts:
        return "unclear" if _negated(value) else "positive"
    flags = {code.upper() for _, code in codings(resource.get("interpretation"))}
    if concepts & (_NEGATIVE | _NO_SMOKER) or is_negation(value):
        return "unclear" if flags & _POSITIVE_FLAGS else "negative"
    if flags & _POSITIVE_FLAGS:
        return "positive"
    if flags & _NEGATIVE_FLAGS:
        return "negative"
    boolean = resource.get("valueBoolean")
    if isinstance(boolean, bool):
        return "positive" if boolean else "negative"
    return _in_words(resource, value)


def _negated(value: object) -> bool:
    """A display that contradicts its code ("Pregnant" coded, "Not pregnant" written) is taken as unclear."""
    return any(re.search(r"\bnot\b", word.lower()) for word in texts(value))


def _in_words(resource: Resource, value: object) -> str:
    for word in _words(resource, value):
        lowered = word.lower()
        sign = lowered.strip()
        if _POSITIVE_SIGN.fullmatch(sign) or _NEGATIVE_SIGN.fullmatch(sign):
            return "negative" if _NEGATIVE_SIGN.fullmatch(sign) else "positive"
        if _UNCLEAR_WORDS.search(lowered):
            return "unclear"
        rest = _NEGATIVE_WORDS.sub(" ", lowered)
        negative, positive = rest != lowered, _POSITIVE_WORDS.search(rest) is not None
        if negative and positive:  # "positive; negative control valid"
            return "unclear"
        if negative or positive:
            return "negative" if negative else "positive"
    return "unclear"


def _words(resource: Resource, value: object) -> Iterator[str]:
    spoken = resource.get("valueString")
    if isinstance(spoken, str):
        yield spoken
    yield from texts(value)
    for name in ("interpretation", "conclusion"):
        told = resource.get(name)
        if isinstance(told, str):
            yield told
        else:
            yield from texts(told)
