"""The benchmark: the service beside the floor and a peer, in one run, in rotation. ``make bench``

It measures CPU time of the servers' own processes, so its client and other work on the machine count little; compare
the ratios to the floor of the same run rather than times of two runs.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import os
import pstats
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import postgres
from bench_bodies import BODIES, Body
from bench_load import Connection, Load, WrongAnswer, head_of, measure, post_once, token_for
from bench_page import (
    DOCS,
    ENOUGH_FOR_P99,
    MIB,
    SERVICE,
    Run,
    answer_table,
    cost_table,
    figure,
    machine,
    number,
    own_points,
    process_table,
    scaling_text,
    table,
    target_table,
    write_section,
)
from bench_servers import (
    ROOT,
    NotHere,
    Running,
    cpu_seconds,
    floor,
    healthchain,
    service,
    service_with_both,
    tree,
    use_run_environment,
)

from cds_service.runtime import utc_today

PAGE = DOCS / "performance.md"
FIGURE = DOCS / "performance.svg"
SCALING_PAGE = DOCS / "scaling.md"
STARTS = 3
SPAN = "30 Observations"


def path_of(server: Running, body: Body) -> str:
    return f"{server.base}/jaki-{body.hook}"


def busy() -> float:
    """CPU seconds that the whole machine has used."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def check(server: Running, body: Body, raws: list[bytes]) -> None:
    """One answer to each before any is measured: cards where there must be some, and our service a dose."""
    ours = server.name.startswith(SERVICE)
    for raw in raws:
        answer = post_once(server, path_of(server, body), raw)
        quiet = ours and body.name.startswith("no JAK")
        dose = ours and not quiet and body.hook == "order-select"
        if (b'"summary"' in answer) == quiet or (dose and b'"suggestions"' not in answer):
            raise WrongAnswer(f"{server.name} answered {body.name} with {answer[:200].decode()}")


def one_run(seconds: float, rounds: int, starts: int) -> Run:
    """Every server with every body, ``rounds`` times, each round beginning with another server."""
    on = utc_today()
    bodies = [(body, body.variants(on)) for body in BODIES]
    run = Run()
    start, used, own = time.monotonic(), busy(), time.process_time()
    with ExitStack() as stack:
        kinds = {"floor": floor, "service": service, "both": service_with_both, "peer": healthchain}
        servers: list[Running] = []
        for kind in kinds.values():
            times, used_cpu = [], []
            try:
                for _ in range(starts - 1):
                    with kind() as short:
                        times.append(short.ready)
                        used_cpu.append(short.ready_cpu)
                servers.append(stack.enter_context(kind()))
            except NotHere as reason:
                if kind is not healthchain:
                    raise
                run.left_out = str(reason)
                say(f"left out: {reason}")
                continue
            server = servers[-1]
            run.ready[server.name] = sorted([*times, server.ready])[starts // 2]
            run.ready_cpu[server.name] = min([*used_cpu, server.ready_cpu])
        for server in servers:
            for body, raws in bodies:
                check(server, body, raws)
        for turn in range(rounds):
            for body, raws in bodies:
                for place in range(len(servers)):
                    server = servers[(place + turn) % len(servers)]
                    least = ENOUGH_FOR_P99 // rounds + 1 if rounds > 1 and body.observations <= 200 else 8
                    found = measure(server, path_of(server, body), raws, seconds, at_least=least)
                    run.cells.setdefault((server.name, body.name), []).append(found)
            say(f"round {turn + 1} of {rounds}")
        # The table's order, whichever server a round began with.
        run.cells = {
            (server.name, body.name): run.cells[server.name, body.name]
            for server in servers
            for body, _ in bodies
        }
        for server in servers:
            run.peak[server.name] = server.memory("VmHWM")
        mine = sum(server.cpu() for server in servers)
    took = time.monotonic() - start
    run.others = max(0.0, busy() - used - mine - (time.process_time() - own)) / took
    with service(workers=2) as server:
        body, raws = next(each for each in bodies if each[0].name == SPAN)
        run.two_workers = max(
            (measure(server, path_of(server, body), raws, seconds, 4) for _ in range(rounds)),
            key=lambda load: load.rate,
        )
    return run


def report(runs: list[Run], how: str) -> str:
    last = runs[-1]
    others = ", ".join(f"{run.others:.1f}" for run in runs)
    parts = [
        f"{machine()}. {how} Other work on the machine used {others} cores meanwhile.",
        target_table(runs),
        *(["The tables below are of the last run."] if len(runs) > 1 else []),
        cost_table(last),
        answer_table(last),
        process_table(last),
    ]
    if last.left_out:
        parts.append(f"Left out: {last.left_out}")
    return "\n\n".join(parts)


def compare(options: argparse.Namespace) -> None:
    seconds, rounds, starts = (0.3, 1, 1) if options.quick else (1.0, 3, STARTS)
    runs = []
    for number_ in range(options.runs):
        say(f"run {number_ + 1} of {options.runs}")
        runs.append(one_run(seconds, rounds, starts))
    how = f"{len(runs)} run{'s' * (len(runs) > 1)} of {rounds} round{'s' * (rounds > 1)}, {seconds:g} s each."
    text = report(runs, how)
    print(text)
    if not options.quick:
        write_section(PAGE, "measured", text)
        FIGURE.write_text(figure(own_points(runs[-1])), encoding="utf-8")
        say(f"written: {PAGE.name} and {FIGURE.name} in docs/")


# --- where the time goes --------------------------------------------------------------------------

# The profiler's clock runs on while other programs run: of several profiles the shortest counts.
PROFILES = 6
PROFILED_CALLS = 5
LONGEST = 25
PARTS = {
    "cds_service/": "cds_service",
    "fhir_mappings/": "fhir_mappings",
    "guideline/": "guideline",
    "cards/": "cards",
    "fhir/": "fhir.resources, pydantic",
    "fhir_core/": "fhir.resources, pydantic",
    "pydantic": "fhir.resources, pydantic",
    "flask/": "Flask, Werkzeug",
    "werkzeug/": "Flask, Werkzeug",
    "/json/": "standard JSON reader",
    "msgspec": "msgspec",
}


def part_of(file: str, function: str) -> str:
    where = f"{file} {function}"
    return next((part for sign, part in PARTS.items() if sign in where), "Python and other libraries")


def watched(call: Callable[[], None]) -> pstats.Stats:
    watch = cProfile.Profile()
    watch.enable()
    for _ in range(PROFILED_CALLS):
        call()
    watch.disable()
    return pstats.Stats(watch)


def profile(options: argparse.Namespace) -> None:
    """One call again and again in this process: the time of each part and of the functions that take most."""
    from builders import client

    bodies = {str(body.observations): body for body in reversed(BODIES)}
    bodies |= {body.name: body for body in BODIES}
    body = bodies.get(options.profile)
    if body is None:
        sys.exit(f"bench: no body is called {options.profile!r}; there are: {', '.join(bodies)}")
    on = utc_today()
    raws, caller, path = itertools.cycle(body.variants(on)), client(), f"/cds-services/jaki-{body.hook}"

    def call() -> None:
        answer = caller.post(path, data=next(raws), content_type="application/json")
        assert answer.status_code == 200, answer.data[:300]

    for _ in range(5):
        call()
    begun = time.process_time()
    for _ in range(PROFILED_CALLS):
        call()
    plain = (time.process_time() - begun) / PROFILED_CALLS * 1000
    stats = min((watched(call) for _ in range(PROFILES)), key=lambda one: one.total_tt)  # type: ignore[attr-defined]
    own: Counter[str] = Counter()
    calls = 0
    for (file, _, function), (_, count, own_time, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        own[part_of(file, function)] += own_time
        calls += count
    whole = sum(own.values())
    print(
        f"{body.name}: {plain:.2f} ms of CPU per call, {calls / PROFILED_CALLS:.0f} function calls; "
        f"under the profiler {whole / PROFILED_CALLS * 1000:.2f} ms, of which:"
    )
    rows = [
        [part, f"{seconds / PROFILED_CALLS * 1000:.2f}", f"{seconds / whole:.0%}"]
        for part, seconds in own.most_common()
    ]
    print(table(["part", "own ms", "share"], rows))
    for order, title, mine in (
        ("tottime", "by own time", ""),
        ("cumtime", "of ours, with what they call", str(ROOT)),
    ):
        stats.sort_stats(order)
        found = []
        for key in stats.fcn_list:  # type: ignore[attr-defined]
            _, count, own_time, all_time, _ = stats.stats[key]  # type: ignore[attr-defined]
            file, line, function = key
            if not mine or (file.startswith(mine) and not {"tests", "site-packages"} & set(Path(file).parts)):
                place = function if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"
                per_call = [f"{seconds / PROFILED_CALLS * 1000:.3f}" for seconds in (own_time, all_time)]
                found.append([place, f"{count / PROFILED_CALLS:.0f}", *per_call])
        print(f"\n{title}:\n{table(['function', 'calls', 'own ms', 'with callees ms'], found[:LONGEST])}")


# --- many calls -----------------------------------------------------------------------------------

SAMPLES_OF_MEMORY = 20
SETTLED = 0.25
GROWTH_MIB = 5


def soak(options: argparse.Namespace) -> None:
    """The worker's memory over many calls of all kinds: flat after the first quarter?"""
    on = utc_today()
    # The large ones are rare, as they are in life, and come early: the peak must not look like growth.
    small, large = (
        [(body, raw) for raws in zip(*variants, strict=False) for body, raw in raws]
        for variants in (
            [
                [(body, raw) for raw in body.variants(on)]
                for body in BODIES
                if (body.observations > 200) == big
            ]
            for big in (False, True)
        )
    )
    kind = service_with_both if options.both else service
    with kind() as server:
        connection = Connection(server.port)

        def post(body: Body, raw: bytes) -> None:
            path = path_of(server, body)
            connection.post(head_of(path, len(raw), token_for(server, path)), raw)

        for body, raw in large * 2:
            post(body, raw)
        found: list[tuple[int, int]] = []
        begun = time.monotonic()
        for number_ in range(1, options.soak + 1):
            post(*(large[number_ // 500 % len(large)] if number_ % 500 == 0 else small[number_ % len(small)]))
            if number_ % max(1, options.soak // SAMPLES_OF_MEMORY) == 0:
                found.append((number_, server.memory("VmRSS")))
                say(f"{number_} calls: {found[-1][1] / MIB:.1f} MiB")
        took = time.monotonic() - begun
    settled = [size for calls, size in found if calls >= options.soak * SETTLED]
    growth = (max(settled) - settled[0]) / MIB
    verdict = "held" if growth <= GROWTH_MIB else "not held"
    text = (
        f"{machine()}. {options.soak:,} calls of all bodies in turn to one worker{' with both' * options.both}, "
        f"in {took:.0f} s: "
        f"{settled[0] / MIB:.1f} MiB after a quarter of them, {settled[-1] / MIB:.1f} MiB at the end, at most "
        f"{growth:.1f} MiB more in between (limit {GROWTH_MIB}): **{verdict}**."
    )
    print(text)
    write_section(PAGE, "soak", text)


# --- more than one worker -------------------------------------------------------------------------


def database_cpu(url: str) -> float:
    """CPU seconds of a PostgreSQL of ``postgres.cluster`` and its processes; 0 without one."""
    if not url:
        return 0.0
    folder = Path(url.partition("host=")[2])
    first = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    # Of processes that ended the kernel keeps the sum beside their parent's.
    ended = Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[13:15]
    return sum(cpu_seconds(pid) for pid in tree(first)) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")


CONCERNED, UNCONCERNED = "200 Observations", "no JAK inhibitor, 200"
WRITERS = (1, 4, 8)


def scaling(options: argparse.Namespace) -> None:
    """Calls a second and CPU per call by number of workers and kind of record; what the record alone takes."""
    if not postgres.binaries():
        sys.exit(
            "bench: --scaling needs PostgreSQL's initdb and postgres (Debian: apt-get install postgresql)"
        )
    on = utc_today()
    bodies = {body.name: (body, body.variants(on)) for body in BODIES if body.observations <= 200}

    def span(server: Running, name: str, connections: int) -> Load:
        body, raws = bodies[name]
        return measure(server, path_of(server, body), raws, options.seconds, connections)

    rows: list[list[str]] = []
    cost: dict[str, float] = {}
    with ExitStack() as stack:
        stores = {"none": "", "SQLite": "", "PostgreSQL": stack.enter_context(postgres.cluster(durable=True))}
        for store, url in stores.items():
            for workers in (1, 2, 4):
                kind = service(workers) if store == "none" else service_with_both(workers, url or None)
                with kind as server:
                    before = database_cpu(url)
                    found = span(server, SPAN, 2 * workers)
                    used = (database_cpu(url) - before) / found.calls * 1000
                    if url and workers == os.cpu_count():
                        cost = {name: span(server, name, 4).cpu_ms for name in (CONCERNED, UNCONCERNED)}
                p50 = sorted(found.times)[len(found.times) // 2] * 1000
                numbers = [found.rate, found.cpu_ms, 1000 / found.cpu_ms, used if url else None, p50]
                rows.append([store, str(workers), *map(number, numbers)])
                say(" ".join(rows[-1]))
        writing = []
        for writers in WRITERS:
            before = database_cpu(stores["PostgreSQL"])
            written, waited = write_entries(stores["PostgreSQL"], writers, options.seconds)
            used = (database_cpu(stores["PostgreSQL"]) - before) / written * 1000
            rate = written / options.seconds
            writing.append((writers, rate, used, waited))
            say(f"{writers} writers: {rate:.0f} entries/s")
    text = scaling_text(rows, writing, cost, SPAN)
    print(text)
    write_section(SCALING_PAGE, "measured", text)


def write_entries(url: str, writers: int, seconds: float) -> tuple[int, int]:
    """Entries that so many processes wrote into one chain, and how many went to a spool since the turn did not come."""
    command = [sys.executable, str(Path(__file__).with_name("bench_writes.py")), url, str(seconds)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(writers)
    ]
    for process in running:  # each says when it has its connection
        assert process.stdout is not None
        process.stdout.readline()
    results = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate()
        results.append([int(word) for word in out.split()])
    return sum(written for written, _ in results), sum(waited for _, waited in results)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Measures the service beside floor and peer.")
    parser.add_argument("--quick", action="store_true", help="half a minute, writes no page")
    parser.add_argument("--runs", type=int, default=1, help="whole runs (default: %(default)s)")
    parser.add_argument("--profile", metavar="BODY", help="where the time of one call goes; BODY: 200, say")
    parser.add_argument("--soak", type=int, metavar="CALLS", help="memory over so many calls")
    parser.add_argument("--both", action="store_true", help="soak with authentication and audit")
    parser.add_argument("--scaling", action="store_true", help="by number of workers and kind of store")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each span of --scaling")
    options = parser.parse_args()
    if not options.profile:
        if not Path("/proc/self/task").exists():
            sys.exit(
                "bench: the CPU time of other processes is read from /proc, which Linux has; use --profile here"
            )
        try:
            use_run_environment()
        except NotHere as reason:
            say(f"measured in the environment of this command: {reason}")
    chosen = (profile, options.profile), (soak, options.soak), (scaling, options.scaling)
    next((mode for mode, wanted in chosen if wanted), compare)(options)


if __name__ == "__main__":
    main()
