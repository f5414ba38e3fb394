"""``jaki-cds replay``: sample cases answered and compared with their stored answers (contract sections 1 and 5).

A case is a folder with ``request.json``, ``response.json`` and ``case.yaml``. The answer comes from this process
(demo mode, no server) or, with ``--url``, from a running service. Card and suggestion uuids are not compared.

Files are read as well (``captures.py``): a request, a capture of a request with its answer, NDJSON with either on
each line, or a browser's HAR. A captured answer is compared; a request without one is only answered.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # writes, and reads none  # nosec B405

from cds_service.captures import Capture, read_captures
from cds_service.compare import as_stored, differences, findings_of, with_placeholders
from cds_service.json_reader import UnreadableBody, read_json, write_json
from cds_service.services import SERVICES
from guideline.yaml_text import YamlFault, read_yaml

OK, DIFFERENT, UNUSABLE = 0, 1, 2
HTTP_OK = 200
LONG_RUN = 5
"""Cases from which on a progress bar is worth its line."""
MANY = 400
"""Cases from which on starting further processes pays."""
CHUNK = 32
BAR_WIDTH = 30
TIMEOUT_SECONDS = 30
MEMBERS = ("title", "intent", "hook", "as_of", "shows")
_SAFE_WITH_TOKEN = re.compile(r"https://|http://(?:127\.0\.0\.1|localhost|\[::1\])(?:[:/]|$)", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_STATEMENT_ID = re.compile(r"[A-Z]{2,5}(?:-[A-Z0-9]+)+")

Answer = tuple[int, bytes]
Ask = Callable[[str, bytes], Answer]
"""Service id and request body to status and body."""


class UnusableInput(Exception):
    """Something that cannot be replayed; the text is the one line that the user reads: place, fault, cure."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """``case.yaml``: what the case is about. ``shows`` are statement ids that the answer must hold."""

    title: str
    intent: str
    hook: str
    as_of: str
    shows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One request to replay: of a case folder, or a ``capture`` out of a file (``folder`` is then ``None``).

    ``alone``: the only request of its file, whose cards are shown whole.
    """

    name: str
    request: Path
    folder: Path | None
    capture: Capture | None = None
    alone: bool = False

    @property
    def response(self) -> Path:
        assert self.folder is not None
        return self.folder / "response.json"


@dataclass(frozen=True, slots=True)
class Result:
    """``faults``: why the case differs, a line each; ``shown`` what an answer without a stored one says."""

    case: Case
    faults: tuple[str, ...]
    shown: tuple[str, ...] = ()
    compared: bool = True

    @property
    def state(self) -> str:
        """The word of the JSON report."""
        if self.faults:
            return "different"
        return "same" if self.compared else "answered"


def main(args: list[str]) -> int:
    """Replays and returns the exit status: 0 no difference, 1 any difference, 2 unusable input."""
    options = _parser().parse_args(args)
    try:
        cases = list(find_cases(options.paths))
        if options.update and any(case.folder is None for case in cases):
            raise UnusableInput("--update stores the answers of case folders only; name folders, not files.")
        ask = _asker(options.url, options.token_file)
        results = []
        with_bar = len(cases) >= LONG_RUN and sys.stderr.isatty()
        with contextlib.closing(_answers(cases, ask, options)) as answers:
            for number, case in enumerate(cases, start=1):
                if with_bar:
                    _draw_bar(number, len(cases), case.name)
                results.append(next(answers))
                if with_bar:
                    _clear_bar()
                _report(results[-1])
        if options.junit is not None:
            _write_junit(options.junit, results)
        if options.json is not None:
            _write_json(options.json, results)
    except UnusableInput as fault:
        print(f"jaki-cds replay: {fault}", file=sys.stderr)
        return UNUSABLE
    differing = sum(bool(result.faults) for result in results)
    if len(results) > 1:
        done = "stored" if options.update else "replayed"
        print(f"{len(results)} cases {done}, {differing or 'none'} with differences")
    return DIFFERENT if differing else OK


def _answers(cases: Sequence[Case], ask: Ask, options: argparse.Namespace) -> Generator[Result, None, None]:
    """The results in the order of the cases; a long run without a service uses every processor."""
    if options.url is not None or len(cases) < MANY or (os.cpu_count() or 1) == 1:
        for case in cases:
            yield replay(case, ask, update=options.update)
        return
    # Spawned, not forked: the answering process holds locks and shared counters.
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        try:
            told = pool.map(_replay_there, cases, repeat(options.update), chunksize=CHUNK)
            for case, (faults, shown, compared) in zip(cases, told, strict=True):
                yield Result(case, faults, shown, compared)
        finally:
            pool.shutdown(cancel_futures=True)


_ask_there: list[Ask] = []
"""In a worker process: its one way to ask."""


def _start_worker() -> None:
    logging.getLogger("jaki_cds").setLevel(logging.CRITICAL)
    _ask_there.append(in_process())


def _replay_there(case: Case, update: bool) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    result = replay(case, _ask_there[0], update=update)
    return result.faults, result.shown, result.compared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaki-cds replay", description="Replays sample cases and shows cards or differences."
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="a case folder, a folder of cases, or a file: a request, a capture, NDJSON or HAR",
    )
    parser.add_argument("--url", metavar="BASE", help="ask the service that runs at this address")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a file with the bearer token for --url, read anew for each request",
    )
    parser.add_argument("--update", action="store_true", help="store the answers instead of comparing them")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON too")
    return parser


# --- finding cases --------------------------------------------------------------------------------


def find_cases(paths: Sequence[Path]) -> Iterator[Case]:
    """Every case in ``paths``: folders of cases in the order of their names, files as they are given."""
    for path in paths:
        if path.is_file():
            yield from _cases_in(path)
        elif (path / "request.json").is_file():
            yield Case(path.resolve().name, path / "request.json", path)
        elif path.is_dir():
            requests = sorted(path.rglob("request.json"))
            if not requests:
                raise UnusableInput(f"{path}: no request.json in it or below it; name a folder with cases.")
            for request in requests:
                yield Case(request.parent.relative_to(path).as_posix(), request, request.parent)
        else:
            raise UnusableInput(f"{path}: no such file or folder.")


def _cases_in(path: Path) -> Iterator[Case]:
    """The requests of one file. Raises ``UnusableInput``."""
    try:
        captures = read_captures(path)
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be read ({fault.strerror}).") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{path}: {fault.reason}") from None
    for capture in captures:
        name = f"{path}{capture.place}"
        yield Case(name, path, None, capture, alone=len(captures) == 1)


def read_case_file(folder: Path) -> CaseFile:
    """``case.yaml`` of a case folder; raises ``UnusableInput`` for one that is not as contract section 5 says."""
    path = folder / "case.yaml"
    try:
        found = read_yaml(path)
    except FileNotFoundError:
        raise UnusableInput(f"{path}: is missing; write it with the members {', '.join(MEMBERS)}.") from None
    except YamlFault as fault:
        raise UnusableInput(f"{path}: {fault}") from None
    if not isinstance(found, dict):
        raise UnusableInput(f"{path}: is not a list of members; it needs {', '.join(MEMBERS)}.")
    for name in sorted(set(MEMBERS) ^ set(found)):
        wrong = "is missing" if name in MEMBERS else "is not a member of a case"
        raise UnusableInput(f"{path}: {name} {wrong}; the members are {', '.join(MEMBERS)}.")
    for name in ("title", "intent", "hook", "as_of"):
        if not isinstance(found[name], str) or not found[name].strip():
            raise UnusableInput(f"{path}: {name} is no text; write one line.")
    shows = found["shows"]
    if not isinstance(shows, list) or not all(
        isinstance(s, str) and _STATEMENT_ID.fullmatch(s) for s in shows
    ):
        raise UnusableInput(f"{path}: shows is not a list of statement ids; write it like [TOFA-DOSE-03].")
    return CaseFile(found["title"], found["intent"], found["hook"], found["as_of"], tuple(shows))


# --- asking ---------------------------------------------------------------------------------------


def in_process() -> Ask:
    """Answers from this process, in demo mode so that a request may set its date."""
    from cds_service.app import create_app
    from cds_service.settings import Settings

    client = create_app(Settings(demo=True)).test_client()

    def ask(service_id: str, body: bytes) -> Answer:
        answer = client.post(f"/cds-services/{service_id}", data=body, content_type="application/json")
        return answer.status_code, answer.get_data()

    return ask


def _asker(base: str | None, token_file: Path | None) -> Ask:
    if base is None:
        if token_file is not None:
            raise UnusableInput("--token-file is for a running service; give its address with --url.")
        return in_process()
    if token_file is not None and not _SAFE_WITH_TOKEN.match(base):
        raise UnusableInput(f"{base}: a token is sent over https or to this machine only; use https.")
    return over_http(base, token_file)


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UnusableInput(
            f"{path}: cannot be read; it must hold the bearer token and nothing else."
        ) from None
    if not _TOKEN.fullmatch(token):
        raise UnusableInput(
            f"{path}: is no bearer token; it must hold the token on one line and nothing else."
        )
    return token


def over_http(base: str, token_file: Path | None = None) -> Ask:
    """Answers from the service at ``base``, which must run in demo mode for the stored dates to count.

    The token is read anew for each request, since it may be short-lived; redirects are not followed with it.
    """
    import requests

    session = requests.Session()
    session.trust_env = token_file is None  # a .netrc would replace the token

    def ask(service_id: str, body: bytes) -> Answer:
        url = f"{base.rstrip('/')}/cds-services/{service_id}"
        headers = {"Content-Type": "application/json"}
        if token_file is not None:
            headers["Authorization"] = f"Bearer {_token(token_file)}"
        try:
            answer = session.post(
                url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=token_file is None
            )
        except requests.RequestException as fault:
            raise UnusableInput(
                f"{base}: does not answer ({type(fault).__name__}); start it with jaki-cds serve --demo."
            ) from None
        return answer.status_code, answer.content

    return ask


# --- one case -------------------------------------------------------------------------------------


def replay(case: Case, ask: Ask, *, update: bool = False) -> Result:
    """One case answered and compared; ``update`` stores the answer first. Raises ``UnusableInput``."""
    request, body = _request_of(case)
    hook = request.get("hook")
    service = next((s for s in SERVICES.values() if s.hook == hook), None)
    if service is None:
        hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
        raise UnusableInput(
            f"{case.name if case.capture else case.request}: hook is none that the service answers; it answers {hooks}."
        )
    about = _about(case, request)
    status, raw = ask(service.id, body)
    try:
        answer = read_json(raw)
    except UnreadableBody:
        return Result(case, (f"answered {status} with something that is not JSON",))
    if status != HTTP_OK or not isinstance(answer, dict) or not isinstance(answer.get("cards"), list):
        return Result(case, (f"answered {status}: {_diagnostics(answer)}",))
    answer = with_placeholders(answer)
    if case.capture is not None:
        if case.capture.answer is None:
            shown = _shown(answer) if case.alone else _counted(answer)
            return Result(case, (), tuple(shown), compared=False)
        return Result(case, tuple(differences(with_placeholders(case.capture.answer), answer)))
    lacking = sorted(set(about.shows) - findings_of(answer)) if about is not None else []
    faults = [f"case.yaml shows {name}, which the answer does not hold" for name in lacking]
    if update:
        case.response.write_bytes(as_stored(answer))
        return Result(case, tuple(faults))
    return Result(case, (*faults, *differences(_stored(case), answer)))


def _request_of(case: Case) -> tuple[dict[str, Any], bytes]:
    if case.capture is not None:
        return case.capture.request, case.capture.body
    return _read_request(case.request)


def _read_request(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        body = path.read_bytes()
        request = read_json(body)
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be read ({fault.strerror}).") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{path}: {fault.reason}") from None
    if not isinstance(request, dict):
        raise UnusableInput(f"{path}: is no hook request; it must be one JSON object.")
    return request, body


def _about(case: Case, request: dict[str, Any]) -> CaseFile | None:
    """The case file, agreeing with the request; a folder of one's own may go without."""
    if case.folder is None or not (case.folder / "case.yaml").exists():
        return None
    about = read_case_file(case.folder)
    extension = request.get("extension")
    ours = extension.get("org.jaki-cds") if isinstance(extension, dict) else None
    as_of = ours.get("asOf") if isinstance(ours, dict) else None
    for name, said, meant in (("hook", about.hook, request.get("hook")), ("as_of", about.as_of, as_of)):
        if said != meant:
            raise UnusableInput(
                f"{case.folder / 'case.yaml'}: {name} differs from the request's; make the two agree."
            )
    return about


def _stored(case: Case) -> dict[str, Any]:
    try:
        stored = read_json(case.response.read_bytes())
    except FileNotFoundError:
        raise UnusableInput(f"{case.response}: is missing; write it with --update.") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{case.response}: {fault.reason}") from None
    if not isinstance(stored, dict) or not isinstance(stored.get("cards"), list):
        raise UnusableInput(f"{case.response}: is no answer with cards; write it anew with --update.")
    return with_placeholders(stored)


def _diagnostics(answer: object) -> str:
    issues = answer.get("issue") if isinstance(answer, dict) else None
    found = [str(i.get("diagnostics")) for i in issues or () if isinstance(i, dict)]
    return "; ".join(found) or "no OperationOutcome came with it"


def _shown(answer: dict[str, Any]) -> Iterator[str]:
    if not answer["cards"]:
        yield "no cards"
    for card in answer["cards"]:
        yield f"[{card['indicator']}] {card['summary']}"
        yield from (f"    {line}".rstrip() for line in str(card["detail"]).splitlines())
        for suggestion in card.get("suggestions", ()):
            yield f"    suggestion: {suggestion['label']}"
        yield ""


def _counted(answer: dict[str, Any]) -> Iterator[str]:
    grades = [str(card["indicator"]) for card in answer["cards"]]
    counts = [
        f"{grades.count(grade)} {grade}" for grade in ("critical", "warning", "info") if grade in grades
    ]
    yield ", ".join(counts) or "no cards"


# --- telling --------------------------------------------------------------------------------------


def _report(result: Result) -> None:
    if result.case.alone and not result.compared:
        print(result.case.name)
        print("\n".join(result.shown))
    elif not result.compared:
        print(f"answer  {result.case.name}: {', '.join(result.shown)}")
    elif result.faults:
        print(f"DIFFERS {result.case.name}")
        print("\n".join(f"    {fault}" for fault in result.faults))
    else:
        print(f"ok      {result.case.name}")


def _draw_bar(number: int, total: int, name: str) -> None:
    done = BAR_WIDTH * (number - 1) // total
    bar = "#" * done + "." * (BAR_WIDTH - done)
    print(f"\r\033[K[{bar}] {number}/{total} {name}", end="", file=sys.stderr, flush=True)


def _clear_bar() -> None:
    print("\r\033[K", end="", file=sys.stderr, flush=True)


def _write_junit(path: Path, results: Sequence[Result]) -> None:
    failures = str(sum(bool(r.faults) for r in results))
    suite = ElementTree.Element(
        "testsuite", name="jaki-cds replay", tests=str(len(results)), failures=failures, errors="0"
    )
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname="replay", name=result.case.name)
        if result.faults:
            failure = ElementTree.SubElement(case, "failure", message=result.faults[0])
            failure.text = "\n".join(result.faults)
    try:
        path.write_bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n")
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be written ({fault.strerror}).") from None


def _write_json(path: Path, results: Sequence[Result]) -> None:
    report = {
        "cases": len(results),
        "different": sum(bool(result.faults) for result in results),
        "results": [
            {"name": result.case.name, "state": result.state, "faults": list(result.faults)}
            for result in results
        ],
    }
    try:
        path.write_bytes(write_json(report) + b"\n")
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be written ({fault.strerror}).") from None
