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
    read_date,
    reference,
    status_of,
    texts,
)
from fhir_mappings.panels import results_of
from fhir_mappings.prefetch import Pool
from guideline.facts import vocabulary
from guideline.record import Answer, Answers

_FINAL = ("final", "amended", "corrected")
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
_CURRENT_SMOKER = "smoking-current"
_NO_SMOKER = frozenset({"smoking-former", "smoking-never"})


def read_answers(pool: Pool, patient_id: str, today: date) -> dict[str, Answers]:
    """Every question of the vocabulary (``from: answers``), newest first."""
    found: dict[str, list[Answer]] = {name: [] for name in _questions()}
    for result in results_of(pool, patient_id):
        asked = _asked(result.concepts)
        if asked:
            _take(result.resource, result.resource, asked, result.source, patient_id, today, found)
        if "component" in result.resource:
            _take_components(result.resource, result.source, patient_id, today, found)
    for report in pool.of("DiagnosticReport"):
        asked = _asked(concepts_in(report.get("code")))
        if asked:
            _take(report, report, asked, reference(report), patient_id, today, found)
        _take_components(report, reference(report), patient_id, today, found)
    return {
        name: Answers(tuple(sorted(answers, key=_newest_first, reverse=True)), pool.gap("answers", name))
        for name, answers in found.items()
    }


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


def _take_components(
    resource: Resource, source: str, patient_id: str, today: date, found: Mapping[str, list[Answer]]
) -> None:
    """A urine strip is often one panel."""
    components = resource.get("component")
    for part in components if isinstance(components, list) else ():
        if isinstance(part, dict):
            _take(resource, part, _asked(concepts_in(part.get("code"))), source, patient_id, today, found)


def _take(
    resource: Resource,
    part: Resource,
    names: tuple[str, ...],
    source: str,
    patient_id: str,
    today: date,
    found: Mapping[str, list[Answer]],
) -> None:
    """Notes what a result (or the ``part`` of it) says to each of the questions that it answers."""
    if not names or not is_of_patient(resource, patient_id) or status_of(resource) not in _FINAL:
        return
    of_other = is_of_other_focus(resource, patient_id)
    answer = _answer(resource, part, source, today, of_other=of_other)
    for name in names:
        found[name].append(answer)


def _answer(resource: Resource, part: Resource, source: str, today: date, *, of_other: bool) -> Answer:
    """One result. Without a usable date it may be the newest: it counts as of today, but never as negative."""
    unusable = of_other or is_modified(resource) or is_modified(part) or bool(part.get("dataAbsentReason"))
    meaning = "unclear" if unusable else meaning_of(part)
    on = _when(resource)
    if on is None or on > today + timedelta(days=1):
        return Answer(meaning if meaning == "positive" else "unclear", today, source)
    return Answer(meaning, min(on, today), source)


def _newest_first(answer: Answer) -> tuple[date, int, str]:
    """Of results of one day the gravest counts, whatever the order in which they came."""
    return answer.on, ("negative", "unclear", "positive").index(answer.meaning), answer.source


def _when(resource: Resource) -> date | None:
    for name in ("effectiveDateTime", "effectiveInstant"):
        if (on := read_date(resource.get(name))) is not None:
            return on
    span = resource.get("effectivePeriod")
    if isinstance(span, dict):
        return read_date(span.get("end")) or read_date(span.get("start"))
    return None


def meaning_of(resource: Resource) -> str:
    """positive, negative or unclear: by code first, then by interpretation, then by plain words."""
    value = resource.get("valueCodeableConcept")
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
