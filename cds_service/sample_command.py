"""``jaki-cds sample new``: a sample case from the record of a patient, with what identifies taken out.

Comes in: a FHIR Bundle of one patient (``Patient/$everything``, a collection, a search), or a whole hook request that
was captured. Comes out: ``samples/<case>/`` with the request, the answer and ``case.yaml``. All dates are moved by one
number of days that is drawn by chance and told to nobody; the sample must give the same findings as the original.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cds_service.compare import conclusions
from cds_service.deidentify import EXTENSION, Changes, age_on, birth_date, deidentified, leftovers
from cds_service.json_reader import UnreadableBody, read_json, write_json
from cds_service.replay import HTTP_OK, Ask, in_process
from cds_service.sample_files import NAME, sample_files
from cds_service.services import SERVICES
from fhir_mappings.elements import concepts_in, is_of_patient, status_of
from fhir_mappings.prefetch import Key, keys
from guideline.facts import vocabulary

OK, UNUSABLE = 0, 2
SHIFTS = (366, 2922)
"""Days by which the dates go back: from one to eight years."""
TRIES = 200
DRAFTED = ("MedicationRequest", "MedicationOrder")
_SAME_SEARCH = {
    "MedicationOrder": "MedicationRequest",
    "ProcedureRequest": "ServiceRequest",
}

Json = dict[str, Any]


class UnusableInput(Exception):
    """What no sample can be made of; the text is the one line that the user reads: place, fault, cure."""


def main(args: list[str]) -> int:
    """Makes the case and returns the exit status: 0, or 2 for unusable input."""
    options = _parser().parse_args(args)
    try:
        told = list(new_sample(options))
    except UnusableInput as fault:
        print(f"jaki-cds sample: {fault}", file=sys.stderr)
        return UNUSABLE
    print("\n".join(told))
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jaki-cds sample", description="Makes sample cases.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    new = commands.add_parser(
        "new",
        help="a sample case from a patient's record, dates moved and identifiers replaced",
        description="Makes a sample case from a FHIR Bundle of one patient, or from a captured hook request: dates "
        "moved, identifiers replaced. A person must check the result before anybody else sees it.",
    )
    new.add_argument(
        "record", type=Path, metavar="BUNDLE.json", help="a FHIR Bundle, or a whole hook request"
    )
    new.add_argument("--name", required=True, help="name of the case: its folder")
    new.add_argument("--title", help="one line: what the case shows")
    new.add_argument("--into", type=Path, default=Path("samples"), metavar="FOLDER", help="default: samples")
    new.add_argument(
        "--hook",
        choices=sorted(s.hook for s in SERVICES.values()),
        help="of a Bundle; default: order-sign where an order is drafted, else patient-view",
    )
    new.add_argument("--as-of", type=_day, metavar="DATE", help="the day of the call; default: today")
    new.add_argument("--patient", metavar="ID", help="whose record, where the Bundle has several patients")
    new.add_argument(
        "--whole-record",
        action="store_true",
        help="the Bundle is everything there is: what it lacks is absent, not unknown",
    )
    new.add_argument("--shift-days", type=int, metavar="N", help="instead of a number drawn by chance")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a day like 2026-06-01") from None


def new_sample(options: argparse.Namespace) -> Iterator[str]:
    """Writes the folder and gives the lines that tell what was done. Raises ``UnusableInput``."""
    if not NAME.fullmatch(options.name):
        raise UnusableInput("--name is made of small letters, digits, hyphens and full stops.")
    folder = options.into / options.name
    if folder.exists():
        raise UnusableInput(f"{folder}: is there already; choose another --name.")
    original = _original(options)
    ask = in_process()
    before = _answered(original, ask, options.record)
    made, changes = _moved(original, options)
    if found := leftovers(original, made):
        raise UnusableInput(
            f"{options.record}: what identifies would still stand in the sample ({', '.join(found)}); "
            "take it out of the coded data by hand first."
        )
    after = _answered(made, ask, options.record)
    differences = _differences(before, after)
    try:
        folder.mkdir(parents=True)
        for name, content in sample_files(made, after, options.title).items():
            (folder / name).write_bytes(content)
    except OSError as fault:
        raise UnusableInput(f"{folder}: cannot be written ({fault.strerror}).") from None
    return _told(folder, changes, differences, original, made)


def _told(
    folder: Path, changes: Changes, differences: Sequence[str], original: Json, made: Json
) -> Iterator[str]:
    yield f"{folder}: request.json, response.json, case.yaml"
    yield "What was changed (places, never values; with how often):"
    yield from (f"  {line}" for line in changes.lines())
    yield "  ids and references made anew; hookInstance, user and FHIR server replaced or left out"
    if birth_date(original) is None:
        yield "  no birth date known to the day: check by hand that ages are as they were"
    if differences:
        yield "The sample does not say what the original says, so something that was changed matters:"
        yield from (f"  {line}" for line in differences)
    else:
        yield "The sample gives the same findings and doses as the original."
    lost = _lost_codes(made)
    if lost:
        yield f"{lost} codes of systems that this service does not know were replaced by examples."
    yield "A person must now read request.json and response.json whole, before anybody else sees them:"
    yield "numbers, rare codes and the course itself can still tell who it is."
    yield "Then write title and intent in case.yaml."


def _differences(before: Json, after: Json) -> list[str]:
    """What only one of two answers concludes, a line each."""
    old, new = Counter(conclusions(before)), Counter(conclusions(after))
    return [f"went: {line}" for line in (old - new).elements()] + [
        f"came: {line}" for line in (new - old).elements()
    ]


def _lost_codes(made: object) -> int:
    if isinstance(made, Mapping):
        own = str(made.get("system", "")).startswith("http://example.org/local-codes-")
        return int(own) + sum(map(_lost_codes, made.values()))
    return sum(map(_lost_codes, made)) if isinstance(made, list) else 0


# --- the original ---------------------------------------------------------------------------------


def _original(options: argparse.Namespace) -> Json:
    try:
        value = read_json(options.record.read_bytes())
    except OSError as fault:
        raise UnusableInput(f"{options.record}: cannot be read ({fault.strerror}).") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{options.record}: {fault.reason}") from None
    if isinstance(value, dict) and isinstance(value.get("hook"), str):
        request = value
        as_of = options.as_of
    elif isinstance(value, dict) and value.get("resourceType") == "Bundle":
        request = request_of(value, options)
        as_of = options.as_of or datetime.now(UTC).date()
    else:
        raise UnusableInput(f"{options.record}: is neither a FHIR Bundle nor a hook request.")
    ours = (request.get("extension") or {}).get(EXTENSION) or {}
    on = as_of.isoformat() if as_of else ours.get("asOf") or datetime.now(UTC).date().isoformat()
    return {**request, "extension": {EXTENSION: {"asOf": on}}}


def request_of(bundle: Mapping[str, Any], options: argparse.Namespace) -> Json:
    """The hook request that a client would send of this record. Raises ``UnusableInput``."""
    resources = list(_resources(bundle))
    patients = {str(r.get("id")): r for r in resources if r.get("resourceType") == "Patient"}
    chosen = options.patient or (next(iter(patients)) if len(patients) == 1 else None)
    if chosen is None or chosen not in patients:
        cure = "name one with --patient ID" if patients else "it must hold the Patient too"
        raise UnusableInput(f"{options.record}: whose record this is cannot be told; {cure}.")
    own = [r for r in resources if r.get("resourceType") != "Patient" and is_of_patient(r, chosen)]
    drafts = [r for r in own if r.get("resourceType") in DRAFTED and status_of(r) == "draft"]
    hook = options.hook or ("order-sign" if drafts else "patient-view")
    service = next(s for s in SERVICES.values() if s.hook == hook)
    context: Json = {"userId": "Practitioner/practitioner-1", "patientId": chosen}
    if service.drafts_field is not None:
        if not drafts:
            raise UnusableInput(
                f"{options.record}: no order of status draft is in it, and {hook} needs one; put the draft into "
                "the Bundle, or use --hook patient-view."
            )
        context[service.drafts_field] = _bundle(drafts, "collection")
        if hook == "order-select":
            context["selections"] = [f"{r['resourceType']}/{r.get('id')}" for r in drafts]
    recorded = [r for r in own if not any(r is draft for draft in drafts)]
    prefetch: Json = {"patient": patients[chosen]}
    for key in keys():
        if key.resource_type != "Patient" and (options.whole_record or _answers(recorded, key)):
            prefetch[key.name] = _bundle([r for r in recorded if _belongs(r, key)], "searchset")
    return {"hook": hook, "hookInstance": "original", "context": context, "prefetch": prefetch}


def _resources(bundle: Mapping[str, Any]) -> Iterator[Json]:
    """Every resource, also of Bundles within (an answer of several searches)."""
    for entry in bundle["entry"] if isinstance(bundle.get("entry"), list) else ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, dict):
            if resource.get("resourceType") == "Bundle":
                yield from _resources(resource)
            else:
                yield resource


def _bundle(resources: Sequence[Json], kind: str) -> Json:
    made: Json = {"resourceType": "Bundle", "type": kind, "total": len(resources)}
    if kind != "searchset":
        del made["total"]
    return {**made, "entry": [{"resource": r} for r in resources]} if resources else made


def _answers(resources: Sequence[Json], key: Key) -> bool:
    """Whether a record that holds these tells anything of the key: one that never had the type does not."""
    return any(_type_of(r) == key.resource_type for r in resources)


def _type_of(resource: Json) -> str:
    kind = str(resource.get("resourceType"))
    return _SAME_SEARCH.get(kind, kind)


def _belongs(resource: Json, key: Key) -> bool:
    """Whether the template of the key would find it. Medications go with the orders that may refer to them."""
    if _type_of(resource) == "Medication":
        return key.resource_type == "MedicationRequest"
    if _type_of(resource) == "DiagnosticReport":
        return key.record_list == "answers"
    if _type_of(resource) != key.resource_type:
        return False
    if key.status is not None and status_of(resource) != key.status:
        return False
    if not key.facts:
        return True
    parts = [resource, *(p for p in resource.get("component") or () if isinstance(p, dict))]
    found = {concept for part in parts for concept in concepts_in(part.get("code"))}
    return any(set(vocabulary()[fact].concepts) & found for fact in key.facts)


# --- moving, asking, writing ----------------------------------------------------------------------


def _moved(original: Json, options: argparse.Namespace) -> tuple[Json, Changes]:
    """The request with its dates moved, so that the child is as old as it was, in years and months."""
    if options.shift_days is not None:
        return deidentified(original, options.shift_days)
    on = date.fromisoformat(original["extension"][EXTENSION]["asOf"])
    born = birth_date(original)
    for _ in range(TRIES):
        days = -(SHIFTS[0] + secrets.randbelow(SHIFTS[1] - SHIFTS[0]))
        by = timedelta(days=days)
        if born is None or age_on(born + by, on + by) == age_on(born, on):
            return deidentified(original, days)
    raise UnusableInput("no number of days was found that keeps the age; give one with --shift-days.")


def _answered(request: Json, ask: Ask, path: Path) -> Json:
    service = next((s for s in SERVICES.values() if s.hook == request.get("hook")), None)
    if service is None:
        hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
        raise UnusableInput(f"{path}: hook is none that the service answers; it answers {hooks}.")
    status, raw = ask(service.id, write_json(request))
    answer = read_json(raw)
    assert isinstance(answer, dict)
    if status != HTTP_OK:
        issues = "; ".join(str(issue.get("diagnostics")) for issue in answer.get("issue", ()))
        raise UnusableInput(f"{path}: the service answers {status}: {issues}")
    return answer
