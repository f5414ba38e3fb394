"""`jaki-cds replay`: what it finds, compares, stores and refuses."""

from __future__ import annotations

import io
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
import responses
from generated_requests import generated

from cds_service.cli import main as jaki_cds
from cds_service.compare import differences, with_placeholders
from cds_service.json_reader import write_json
from cds_service.replay import (
    BAR_WIDTH,
    CHUNK,
    PARTS_AHEAD,
    Bar,
    Case,
    Result,
    _in_order,
    find_cases,
    in_process,
    main,
)
from cds_service.services import SERVICES

SAMPLES = Path(__file__).parent.parent / "samples"
OVER = SAMPLES / "tofa-dose-03-adult-dose"
EMPTY = SAMPLES / "sign-no-jak-inhibitor"
BLOCKED = SAMPLES / "tofa-init-neutrophils-1.1"

Json = dict[str, Any]


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of one sample that a test may change."""
    return Path(shutil.copytree(OVER, tmp_path / "cases" / OVER.name))


def stored(case: Path) -> Json:
    found: Json = json.loads((case / "response.json").read_bytes())
    return found


def change(case: Path, alter: Callable[[Json], object]) -> None:
    """Changes the stored answer, as if the service had answered otherwise when it was stored."""
    answer = stored(case)
    alter(answer)
    (case / "response.json").write_text(json.dumps(answer), "utf-8")


def ours(answer: Json, card: int = 0) -> Json:
    found: Json = answer["cards"][card]["extension"]["org.jaki-cds"]
    return found


def finding(answer: Json, id_: str = "TOFA-DOSE-03") -> Json:
    """One finding of the first card, wherever it stands."""
    found: Json = next(each for each in ours(answer)["findings"] if each["id"] == id_)
    return found


# --- the same, and different ----------------------------------------------------------------------


def test_a_case_that_answers_as_stored(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(case)]) == 0
    assert capsys.readouterr().out == f"ok      {OVER.name}\n"


def test_the_command_line_reaches_it(case: Path) -> None:
    assert jaki_cds(["replay", str(case)]) == 0


def test_uuids_are_not_compared(case: Path) -> None:
    def new_uuids(answer: Json) -> None:
        answer["cards"][0]["uuid"] = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
        answer["cards"][0]["suggestions"][0]["uuid"] = "d1577c69-dfbe-44ad-ba6d-3e05e953b2eb"

    change(case, new_uuids)
    assert main([str(case)]) == 0


def drop_finding(answer: Json) -> None:
    ours(answer)["findings"] = [f for f in ours(answer)["findings"] if f["id"] != "TOFA-DOSE-08"]


def add_finding(answer: Json) -> None:
    ours(answer)["findings"].append({**finding(answer), "id": "TOFA-DOSE-09"})


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (drop_finding, "came:    TOFA-DOSE-08 MedicationRequest/draft-1 (hit, warning)"),
        (add_finding, "went:    TOFA-DOSE-09 MedicationRequest/draft-1 (hit, info)"),
        (
            lambda a: finding(a).update(severity="warning"),
            "changed: TOFA-DOSE-03 MedicationRequest/draft-1: severity warning -> info",
        ),
        (
            lambda a: finding(a)["evidence"][0].update(value=17.5),
            "changed: TOFA-DOSE-03 MedicationRequest/draft-1: evidence[0].value 17.5 -> 17.4",
        ),
        (lambda a: ours(a)["dose"].update(mgPerDay=7), "dose changed: MedicationRequest/draft-1: mgPerDay 7 -> 6.4"),
        (lambda a: ours(a).pop("dose"), "dose came: MedicationRequest/draft-1 TOFA-DOSE-03, 6.4 mg per day,"),
        (lambda a: a["cards"][0].update(summary="Otherwise"), "card jakidose: summary Otherwise -> Tofacitinib"),
        (lambda a: a["cards"][0].update(detail="Otherwise"), "card jakidose: its text changed"),
        (lambda a: a["cards"].pop(0), "card jakidose came: Tofacitinib in JIA"),
        (lambda a: a["cards"].reverse(), "the cards stand in another order"),
        (lambda a: a.update(systemActions=[{}]), "the answers differ outside their cards"),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_finding(
    case: Path, capsys: pytest.CaptureFixture[str], alter: Callable[[Json], object], told: str
) -> None:
    change(case, alter)
    assert main([str(case)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"DIFFERS {OVER.name}\n")
    assert told in out


def test_of_a_changed_text_the_changed_words_are_told(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def reword(answer: Json) -> None:
        card = answer["cards"][0]
        card["detail"] = card["detail"].replace("Data used: weight 17.4 kg,", "Data used: weight 17.5 kg,")

    change(case, reword)
    assert main([str(case)]) == 1
    assert "    ~Data used: weight [-17.5-] [+17.4+] kg, 25 May 2026.\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_is_no_fault() -> None:
    code = "import sys; from cds_service.cli import main; sys.exit(main(['replay', sys.argv[1]]))"
    run = f"'{sys.executable}' -c \"{code}\" '{SAMPLES}' | head -n 1"
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True, cwd=SAMPLES.parent)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_what_went_is_the_mirror_of_what_came() -> None:
    before, after = stored(OVER), stored(EMPTY)
    came = [line for line in differences(after, before) if line.startswith("came")]
    went = [line for line in differences(before, after) if line.startswith("went")]
    assert [line.split()[1] for line in came] == [line.split()[1] for line in went] != []


def test_shows_that_the_answer_does_not_hold(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (case / "case.yaml").read_text("utf-8").replace("TOFA-DOSE-08", "TOFA-DOSE-99")
    (case / "case.yaml").write_text(text, "utf-8")
    assert main([str(case)]) == 1
    assert "case.yaml shows TOFA-DOSE-99, which the answer does not hold" in capsys.readouterr().out


def test_a_refusal_is_a_difference_and_says_why(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = json.loads((case / "request.json").read_bytes())
    del request["context"]["draftOrders"]
    (case / "request.json").write_text(json.dumps(request), "utf-8")
    assert main([str(case)]) == 1
    assert "answered 400: context.draftOrders is missing." in capsys.readouterr().out


# --- storing --------------------------------------------------------------------------------------


def test_update_stores_the_same_bytes_every_time(case: Path) -> None:
    assert main([str(case), "--update"]) == 0
    assert (case / "response.json").read_bytes() == (OVER / "response.json").read_bytes()


def test_update_writes_what_is_missing(case: Path) -> None:
    (case / "response.json").unlink()
    assert main([str(case), "--update"]) == 0
    assert main([str(case)]) == 0


def test_placeholders_count_up_over_cards_and_suggestions() -> None:
    answer = with_placeholders({"cards": [{"suggestions": [{}, {}]}, {}]})
    numbers = [answer["cards"][0]["uuid"], *(s["uuid"] for s in answer["cards"][0]["suggestions"])]
    assert [*numbers, answer["cards"][1]["uuid"]] == [
        f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3, 4)
    ]


# --- files, folders, reports ----------------------------------------------------------------------


def test_a_folder_is_searched(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(EMPTY, case.parent / "deeper" / EMPTY.name)
    assert main([str(case.parent)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok      deeper/{EMPTY.name}",
        f"ok      {OVER.name}",
        "2 cases replayed, none with differences",
    ]


def test_a_file_is_answered_and_its_cards_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(BLOCKED / "request.json")]) == 0
    out = capsys.readouterr().out
    assert "[critical] Tofacitinib 3.2 mg twice daily: neutrophils (1.1" in out
    assert "[TOFA-INIT-02]" in out


def test_a_file_without_cards_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(EMPTY / "request.json")]) == 0
    assert "no cards" in capsys.readouterr().out


def test_a_case_of_ones_own_may_go_without_case_file(case: Path) -> None:
    (case / "case.yaml").unlink()
    assert main([str(case)]) == 0


def test_junit_holds_each_case_and_the_faults(case: Path, tmp_path: Path) -> None:
    shutil.copytree(EMPTY, case.parent / EMPTY.name)
    change(case, drop_finding)
    assert main([str(case.parent), "--junit", str(tmp_path / "junit.xml")]) == 1
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failed = {str(item.get("name")): item.findtext("failure") for item in suite.iter("testcase")}
    assert failed[EMPTY.name] is None
    assert "came:    TOFA-DOSE-08" in str(failed[OVER.name])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def five_cases(case: Path) -> Path:
    for number in range(4):
        shutil.copytree(EMPTY, case.parent / f"more-{number}")
    return case.parent


def test_a_long_run_has_a_progress_bar_on_a_terminal(
    five_cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert main([str(five_cases)]) == 0
    assert "5/5" in terminal.getvalue()
    assert f"[{'.' * BAR_WIDTH}] 1/5" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")


def test_there_is_no_bar_elsewhere(five_cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(five_cases)]) == 0
    assert capsys.readouterr().err == ""


# --- a running service ----------------------------------------------------------------------------


@responses.activate
def test_a_running_service_is_asked_by_its_address(case: Path) -> None:
    ask = in_process()

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        assert isinstance(request.body, bytes)
        return (200, {}, ask("jaki-order-select", request.body)[1])

    url = "http://127.0.0.1:8000/cds-services/jaki-order-select"
    responses.add_callback(responses.POST, url, answer, content_type="application/json")
    assert main([str(case), "--url", "http://127.0.0.1:8000/"]) == 0
    change(case, drop_finding)
    assert main([str(case), "--url", "http://127.0.0.1:8000"]) == 1


@responses.activate
def test_a_service_that_does_not_answer(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(case), "--url", "http://127.0.0.1:8000"]) == 2
    assert "http://127.0.0.1:8000: does not answer (ConnectionError)" in capsys.readouterr().err


# --- captures and NDJSON --------------------------------------------------------------------------


def capture(folder: Path, *, as_text: bool = False) -> Json:
    """What a tester's proxy wrote of one call: the request's and the answer's bodies."""
    request, answer = ((folder / f"{name}.json").read_text("utf-8") for name in ("request", "response"))
    if as_text:
        return {"request": {"method": "POST", "body": request}, "response": {"status": 200, "body": answer}}
    return {"request": json.loads(request), "response": json.loads(answer)}


def one_line(folder: Path) -> str:
    return json.dumps(capture(folder)["request"])


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def test_each_line_of_ndjson_is_a_request_or_a_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = json.loads((BLOCKED / "request.json").read_bytes())
    path = lines(tmp_path / "calls.ndjson", bare, capture(OVER), capture(EMPTY, as_text=True))
    assert main([str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"answer  {path}:1: 1 critical")
    assert said[1:] == [f"ok      {path}:2", f"ok      {path}:3", "3 cases replayed, none with differences"]


def test_a_captured_answer_that_differs_is_told_by_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = capture(OVER)
    drop_finding(seen["response"])
    assert main([str(lines(tmp_path / "calls.jsonl", capture(EMPTY), seen))]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS" in said
    assert "came:    TOFA-DOSE-08 MedicationRequest/draft-1 (hit, warning)" in said


@pytest.mark.slow
def test_a_long_run_keeps_the_order_over_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_service.replay.MANY", 3)
    monkeypatch.setattr("cds_service.replay.CHUNK", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    seen = capture(OVER)
    drop_finding(seen["response"])
    path = lines(tmp_path / "calls.ndjson", capture(EMPTY), seen, capture(EMPTY)["request"])
    assert main([str(path)]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert said[:3] == [f"ok      {path}:1", f"DIFFERS {path}:2", f"answer  {path}:3: no cards"]


def test_only_a_few_parts_are_read_ahead(tmp_path: Path) -> None:
    """However long the file: cases are read when there is room, and their answers come in order."""
    read: list[str] = []
    path = lines(tmp_path / "calls.ndjson", *[{}] * 40 * CHUNK)

    def cases() -> Iterator[Case]:
        for case in find_cases([path]):
            read.append(case.name)
            yield case

    def work(part: list[Case], update: bool) -> list[Result]:
        return [Result(case, ()) for case in part]

    with ThreadPoolExecutor(1) as pool:
        for number, result in enumerate(_in_order(pool, work, cases(), False), start=1):
            assert result.case.name == f"{path}:{number}"
            assert len(read) <= number + (PARTS_AHEAD + 1) * CHUNK
    assert number == 40 * CHUNK


def test_a_long_run_tells_only_what_differs_and_how_long_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cds_service.replay.QUIET_FROM", 3)
    monkeypatch.setattr("cds_service.replay.BAR_EVERY", 0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    seen = capture(OVER)
    drop_finding(seen["response"])
    one = capture(EMPTY)["request"]
    path = lines(tmp_path / "calls.ndjson", capture(EMPTY), seen, one, one, one)
    assert main([str(path)]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert said == [
        f"DIFFERS {path}:2",
        "5 cases replayed, 1 with differences, 3 had no stored answer",
    ]
    assert re.search(r"5/5 \d+/s, 0:\d\d left", terminal.getvalue())


def test_the_bar_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    bar = Bar(terminal := Terminal())
    bar.draw(1, 10**6)
    bar.clear()
    assert all(len(drawn) < 20 for drawn in re.split(r"\r\x1b\[K", terminal.getvalue()))


# --- requests made by chance ----------------------------------------------------------------------


def test_the_same_seed_makes_the_same_requests_and_each_is_answered() -> None:
    made = list(generated(25, seed=3))
    assert made == list(generated(25, seed=3))
    assert made != list(generated(25, seed=4))
    ask = in_process()
    for request in made:
        service = next(s.id for s in SERVICES.values() if s.hook == request["hook"])
        assert ask(service, write_json(request))[0] == 200


def cpu_seconds(*arguments: str) -> tuple[float, int]:
    """Processor time of a run with all its processes, and the most memory that one of them took, in MiB."""
    code = f"import sys; from cds_service.cli import main; sys.exit(main({['replay', *arguments]!r}))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=SAMPLES.parent, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss // 1024


@pytest.mark.slow
def test_all_samples_take_less_than_five_seconds() -> None:
    """Of processor time, which a busy machine does not stretch as it does the time on the clock."""
    assert cpu_seconds(str(SAMPLES))[0] < 5


@pytest.mark.exhaustive
def test_ten_thousand_requests_take_less_than_a_minute_on_two_cores(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson"
    with path.open("wb") as file:
        file.writelines(write_json(request) + b"\n" for request in generated(10_000))
    seconds, memory = cpu_seconds(str(path))
    assert seconds < 2 * 60
    assert memory < 250  # MiB; the file has some 280


def test_of_a_har_the_hook_requests_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request, answer = ((OVER / f"{name}.json").read_text("utf-8") for name in ("request", "response"))
    entries = [
        {"request": {"method": "OPTIONS"}, "response": {"content": {}}},
        {"request": {"postData": {"text": '{"feedback": []}'}}, "response": {"content": {"text": "{}"}}},
        {"request": {"postData": {"text": request}}, "response": {"content": {"text": answer}}},
    ]
    path = tmp_path / "calls.har"
    path.write_text(json.dumps({"log": {"entries": entries}}), "utf-8")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"ok      {path}#2\n"


def test_the_json_report_tells_the_state_of_each(case: Path, tmp_path: Path) -> None:
    change(case, drop_finding)
    calls = lines(tmp_path / "calls.ndjson", capture(EMPTY), capture(EMPTY)["request"])
    report = tmp_path / "report.json"
    assert main([str(case), str(calls), "--json", str(report)]) == 1
    found = json.loads(report.read_bytes())
    assert (found["cases"], found["different"]) == (3, 1)
    assert [result["state"] for result in found["results"]] == ["different", "same", "answered"]
    assert found["results"][0]["faults"][0].startswith("came:    TOFA-DOSE-08")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.ndjson", "\n", "holds no request; write one on each line."),
        ("a.ndjson", f"{one_line(EMPTY)}\nno\n", "line 2: The body is not valid JSON"),
        ("a.ndjson", "[]\n", "line 1: is no hook request"),
        ("a.json", '{"request": {"body": 1}}', "request holds no hook request; put it there"),
        ("a.json", '{"request": {"hook": "x"}, "response": {"body": "{}"}}', "response holds no answer with cards"),
        ("a.har", '{"log": {"entries": [1, {"request": 1}]}}', "is a HAR without a hook request"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_replayed_says_where_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert main([str(tmp_path / name)]) == 2
    assert told in capsys.readouterr().err


def test_update_is_for_folders_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(lines(tmp_path / "a.ndjson", capture(EMPTY))), "--update"]) == 2
    assert "name folders, not files" in capsys.readouterr().err


# --- a token --------------------------------------------------------------------------------------


@responses.activate
def test_the_bearer_token_is_sent_and_read_anew_each_time(case: Path, tmp_path: Path) -> None:
    shutil.copytree(OVER, case.parent / "second")
    token, ask, seen = tmp_path / "token", in_process(), []
    token.write_text("first.token\n", "utf-8")

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        assert isinstance(request.body, bytes)
        seen.append(request.headers["Authorization"])
        token.write_text("second.token\n", "utf-8")
        return (200, {}, ask("jaki-order-select", request.body)[1])

    url = "https://cds.example.org/cds-services/jaki-order-select"
    responses.add_callback(responses.POST, url, answer, content_type="application/json")
    arguments = [str(case.parent), "--url", "https://cds.example.org", "--token-file", str(token)]
    assert main(arguments) == 0
    assert seen == ["Bearer first.token", "Bearer second.token"]


@pytest.mark.parametrize(
    ("content", "url", "told"),
    [
        ("good", None, "give its address with --url"),
        ("good", "http://cds.example.org", "a token is sent over https or to this machine only"),
        ("good", "http://127.0.0.1.example.org", "a token is sent over https or to this machine only"),
        ("two words", "https://cds.example.org", "is no bearer token"),
        (None, "https://cds.example.org", "cannot be read; it must hold the bearer token"),
    ],
)
def test_a_token_that_must_not_or_cannot_be_sent(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, url: str, told: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, "utf-8")
    assert main([str(case), "--token-file", str(token), *(["--url", url] if url else [])]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "two words" not in said


# --- unusable input -------------------------------------------------------------------------------


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda case: (case / name).write_text(text, "utf-8")


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda case: (case / name).write_text((case / name).read_text("utf-8").replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (write("request.json", "no"), "request.json: The body is not valid JSON"),
        (write("request.json", "[]"), "request.json: is no hook request; it must be one JSON object."),
        (edit("request.json", '"order-select"', '"order-dispatch"'), "request.json: hook is none that the service"),
        (write("response.json", "no"), "response.json: The body is not valid JSON"),
        (write("response.json", "{}"), "response.json: is no answer with cards; write it anew with --update."),
        (lambda case: (case / "response.json").unlink(), "response.json: is missing; write it with --update."),
        (write("case.yaml", "a: 1\na: 2\n"), 'case.yaml: case.yaml, line 2: "a" stands twice'),
        (write("case.yaml", "[]"), "case.yaml: is not a list of members"),
        (edit("case.yaml", "title:", "titel:"), "case.yaml: titel is not a member of a case; the members are"),
        (edit("case.yaml", "hook: order-select\n", ""), "case.yaml: hook is missing; the members are title"),
        (edit("case.yaml", "hook: order-select", "hook: order-sign"), "case.yaml: hook differs from the request's"),
        (edit("case.yaml", "2026-06-01", "2026-06-02"), "case.yaml: as_of differs from the request's"),
        (edit("case.yaml", "[TOFA-DOSE-03", "[dose 3"), "case.yaml: shows is not a list of statement ids"),
        (edit("case.yaml", "hook: order-select", "hook: []"), "case.yaml: hook is no text; write one line."),
        (lambda case: shutil.rmtree(case) or case.mkdir(), "no request.json in it or below it"),
        (lambda case: shutil.rmtree(case), "no such file or folder."),
    ],
)  # fmt: skip
def test_unusable_input_gives_one_clear_line_and_2(
    case: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], line: str
) -> None:
    spoil(case)
    assert main([str(case)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaki-cds replay: ")
    assert line in said
    assert said.count("\n") == 1


def test_a_report_that_cannot_be_written(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(case), "--junit", str(tmp_path / "no" / "junit.xml")]) == 2
    assert "junit.xml: cannot be written (No such file or directory)." in capsys.readouterr().err
