"""``jaki-cds replay``: sample cases answered and compared with their stored answers (contract sections 1 and 5).

A case is a folder with ``request.json``, ``response.json`` and ``case.yaml``. The answer comes from this process
(demo mode, no server) or, with ``--url``, from a running service. Card and suggestion uuids are not compared.

Files are read as well (``captures.py``): a request, a capture of a request with its answer, NDJSON with either on
each line, or a browser's HAR. A captured answer is compared; a request without one is only answered. NDJSON is
read line by line and long runs use every processor, so that a file of any length takes little memory.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import re
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO, cast
from xml.etree import ElementTree  # writes, and reads none  # nosec B405

from cds_service.captures import Capture, has_lines, lines_of, read_captures, read_line
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
PARTS_AHEAD = 8
"""Parts of CHUNK cases that are under way at once."""
MOST_WORKERS = 8
CALLS_AT_ONCE = 8
"""Calls of a running service at a time, in a long run."""
COLLECT_EVERY = 50_000
"""New objects between two collections in a worker: calls leave few cycles behind."""
QUIET_FROM = 200
"""Cases from which on only those that differ are told."""
BAR_WIDTH = 30
BAR_EVERY = 0.1
"""Seconds between two drawings of the bar."""
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
    """One request to replay: of a case folder, or out of a file (``folder`` is then ``None``).

    Out of NDJSON it is the number and the bytes of its ``line``, read where it is answered; out of other files the
    ``capture``. ``alone``: the only request of its file, whose cards are shown whole.
    """

    name: str
    request: Path
    folder: Path | None
    capture: Capture | None = None
    line: tuple[int, bytes] | None = None
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
    tally = Tally()
    bar = Bar(sys.stderr)
    try:
        total = count_cases(options.paths)
        if options.update and any(path.is_file() for path in options.paths):
            raise UnusableInput("--update stores the answers of case folders only; name folders, not files.")
        ask = _asker(options.url, options.token_file)
        with_bar = total >= LONG_RUN and sys.stderr.isatty()
        with contextlib.closing(_answers(find_cases(options.paths), total, ask, options)) as answers:
            while True:
                if with_bar and tally.cases < total:
                    bar.draw(tally.cases + 1, total)
                result = next(answers, None)
                if result is None:
                    break
                tally.add(result, keep=bool(options.junit or options.json))
                if total < QUIET_FROM or result.faults:
                    bar.clear()
                    _report(result)
        bar.clear()
        if options.junit is not None:
            _write_junit(options.junit, tally)
        if options.json is not None:
            _write_json(options.json, tally)
    except UnusableInput as fault:
        bar.clear()
        print(f"jaki-cds replay: {fault}", file=sys.stderr)
        return UNUSABLE
    if tally.cases > 1:
        done = "stored" if options.update else "replayed"
        answered = (
            f", {tally.answered} had no stored answer" if total >= QUIET_FROM and tally.answered else ""
        )
        print(f"{tally.cases} cases {done}, {tally.different or 'none'} with differences{answered}")
    return DIFFERENT if tally.different else OK


@dataclass(slots=True)
class Tally:
    """How a run went so far. ``kept``: name, state and faults of each case, only where a report will name them."""

    cases: int = 0
    different: int = 0
    answered: int = 0
    kept: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def add(self, result: Result, *, keep: bool) -> None:
        self.cases += 1
        self.different += result.state == "different"
        self.answered += result.state == "answered"
        if keep:
            self.kept.append((result.case.name, result.state, result.faults))


def _answers(
    cases: Iterator[Case], total: int, ask: Ask, options: argparse.Namespace
) -> Generator[Result, None, None]:
    """The results in the order of the cases; a long run uses every processor, or several calls at once of a URL."""
    if total < MANY or (options.url is None and (os.cpu_count() or 1) == 1):
        for case in cases:
            yield replay(case, ask, update=options.update)
    elif options.url is not None:
        with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
            yield from _in_order(threads, lambda part, _: [replay(each, ask) for each in part], cases, False)
    else:
        # Spawned, not forked: the answering process holds locks and shared counters.
        workers = min(os.cpu_count() or 1, MOST_WORKERS)
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as processes:
            yield from _in_order(processes, _replay_there, cases, options.update)


def _in_order(
    pool: Executor, work: Callable[[list[Case], bool], list[Result]], cases: Iterator[Case], update: bool
) -> Iterator[Result]:
    """The results of parts of the cases in their order; only a few parts are under way, so memory stays flat."""
    waiting: deque[Future[list[Result]]] = deque()
    try:
        while True:
            while len(waiting) < PARTS_AHEAD and (part := list(islice(cases, CHUNK))):
                waiting.append(pool.submit(work, part, update))
            if not waiting:
                return
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_ask_there: list[Ask] = []
"""In a worker process: its one way to ask."""


def _start_worker() -> None:
    logging.getLogger("jaki_cds").setLevel(logging.CRITICAL)
    _ask_there.append(in_process())
    gc.freeze()  # the tables stay; looking through them again and again would only cost time
    gc.set_threshold(COLLECT_EVERY)


def _replay_there(cases: list[Case], update: bool) -> list[Result]:
    # What was read of a case stays there: the parent has it already.
    found = [replay(case, _ask_there[0], update=update) for case in cases]
    return [replace(each, case=replace(each.case, capture=None, line=None)) for each in found]


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


def count_cases(paths: Sequence[Path]) -> int:
    """How many cases ``find_cases`` gives. Raises ``UnusableInput`` where a path has none."""
    return sum(1 for _ in find_cases(paths))


def _cases_in(path: Path) -> Iterator[Case]:
    """The requests of one file. Raises ``UnusableInput``."""
    try:
        if has_lines(path):
            yield from _cases_of_lines(path)
            return
        captures = read_captures(path)
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be read ({fault.strerror}).") from None
    except UnreadableBody as fault:
        raise UnusableInput(f"{path}: {fault.reason}") from None
    for capture in captures:
        name = f"{path}{capture.place}"
        yield Case(name, path, None, capture, alone=len(captures) == 1)


def _cases_of_lines(path: Path) -> Iterator[Case]:
    """A case for each line; two lines are looked at before the first is given, to know whether it is alone."""
    lines = lines_of(path)
    first = list(islice(lines, 2))
    if not first:
        raise UnusableInput(f"{path}: holds no request; write one on each line.")
    for line in chain(first, lines):
        yield Case(f"{path}:{line[0]}", path, None, line=line, alone=len(first) == 1)


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
    from werkzeug.test import create_environ, run_wsgi_app

    from cds_service.app import create_app
    from cds_service.settings import Settings

    app = create_app(Settings(demo=True))
    # One environment for all calls: making it anew each time would cost as much as a tenth of an answer.
    base = create_environ(method="POST", content_type="application/json")

    def ask(service_id: str, body: bytes) -> Answer:
        called = {
            **base,
            "PATH_INFO": f"/cds-services/{service_id}",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        parts, status, _ = run_wsgi_app(app, called, buffered=True)
        return int(status.split()[0]), b"".join(parts)

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

    sessions = threading.local()  # requests does not promise that threads may share one

    def session() -> requests.Session:
        if not hasattr(sessions, "own"):
            sessions.own = requests.Session()
            sessions.own.trust_env = token_file is None  # a .netrc would replace the token
        return cast("requests.Session", sessions.own)

    def ask(service_id: str, body: bytes) -> Answer:
        url = f"{base.rstrip('/')}/cds-services/{service_id}"
        headers = {"Content-Type": "application/json"}
        if token_file is not None:
            headers["Authorization"] = f"Bearer {_token(token_file)}"
        try:
            answer = session().post(
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
    capture = _capture_of(case)
    request, body = (capture.request, capture.body) if capture else _read_request(case.request)
    hook = request.get("hook")
    service = next((s for s in SERVICES.values() if s.hook == hook), None)
    if service is None:
        hooks = ", ".join(sorted(s.hook for s in SERVICES.values()))
        raise UnusableInput(
            f"{case.name if capture else case.request}: hook is none that the service answers; it answers {hooks}."
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
    if capture is not None:
        if capture.answer is None:
            shown = _shown(answer) if case.alone else _counted(answer)
            return Result(case, (), tuple(shown), compared=False)
        return Result(case, tuple(differences(with_placeholders(capture.answer), answer)))
    lacking = sorted(set(about.shows) - findings_of(answer)) if about is not None else []
    faults = [f"case.yaml shows {name}, which the answer does not hold" for name in lacking]
    if update:
        case.response.write_bytes(as_stored(answer))
        return Result(case, tuple(faults))
    return Result(case, (*faults, *differences(_stored(case), answer)))


def _capture_of(case: Case) -> Capture | None:
    if case.line is None:
        return case.capture
    try:
        return read_line(*case.line)
    except UnreadableBody as fault:
        raise UnusableInput(f"{case.request}: {fault.reason}") from None


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


class Bar:
    """A progress bar on a terminal: how far, how fast, how long still. It never breaks into a second line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._started = self._drawn = -BAR_EVERY
        self._shown = False

    def draw(self, number: int, total: int) -> None:
        """Case ``number`` of ``total`` is next. The first and the last are always drawn, others now and then."""
        now = time.monotonic()
        if number == 1:
            self._started = now
        elif now - self._drawn < BAR_EVERY and number < total:
            return
        done = number - 1
        rate = done / (now - self._started) if done and now > self._started else 0.0
        hashes = BAR_WIDTH * done // total
        text = f"[{'#' * hashes}{'.' * (BAR_WIDTH - hashes)}] {number}/{total}"
        if rate:
            text += f" {rate:.0f}/s, {_clock((total - done) / rate)} left"
        print(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}", end="", file=self._out, flush=True)
        self._drawn, self._shown = now, True

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=self._out, flush=True)
            self._shown = False


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _write_junit(path: Path, tally: Tally) -> None:
    suite = ElementTree.Element(
        "testsuite",
        name="jaki-cds replay",
        tests=str(tally.cases),
        failures=str(tally.different),
        errors="0",
    )
    for name, _, faults in tally.kept:
        case = ElementTree.SubElement(suite, "testcase", classname="replay", name=name)
        if faults:
            failure = ElementTree.SubElement(case, "failure", message=faults[0])
            failure.text = "\n".join(faults)
    _write(path, ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))


def _write_json(path: Path, tally: Tally) -> None:
    results = [{"name": name, "state": state, "faults": list(faults)} for name, state, faults in tally.kept]
    report = {"cases": tally.cases, "different": tally.different, "results": results}
    _write(path, write_json(report))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content + b"\n")
    except OSError as fault:
        raise UnusableInput(f"{path}: cannot be written ({fault.strerror}).") from None
