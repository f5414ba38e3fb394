"""``make fuzz``: runs each target of ``fuzz_targets.py`` for a time under atheris, which follows the code's branches.

``python tests/fuzz.py --seconds 60 json url`` runs some of them. An input at which one fails is kept in ``build/fuzz``;
``python tests/fuzz.py --again FILE json`` runs it once more without atheris.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMES = ("json", "token", "url", "dose")
SLOWEST_INPUT_S = 10
MEMORY_MB = 2048
LONGEST_INPUT = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="|".join(NAMES))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--again", type=Path, metavar="FILE", help="judge this one input only")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or list(NAMES)
    if options.child:
        _fuzz(names[0], options.child)
    if options.again:
        from fuzz_targets import TARGETS

        TARGETS[names[0]].one(options.again.read_bytes())
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print(
            "atheris is not installed: it has wheels for Linux on x86_64 only; fuzz there.", file=sys.stderr
        )
        return 2
    return max([_run(name, options.seconds, options.seed) for name in names])


def _run(name: str, seconds: int, seed: int) -> int:
    """One target in a process of its own, since atheris never comes back."""
    from fuzz_targets import TARGETS

    findings = ROOT / "build" / "fuzz"
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, raw in enumerate(TARGETS[name].seeds):
            (corpus / f"seed-{number}").write_bytes(raw)
        words = Path(folder, "words")
        quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in TARGETS[name].words)
        words.write_text("".join(f'"{word}"\n' for word in quoted), "utf-8")
        done = subprocess.run(
            [
                *(sys.executable, __file__, name, "--child", str(corpus), f"-max_total_time={seconds}"),
                *(f"-seed={seed}", f"-dict={words}", f"-max_len={LONGEST_INPUT}", "-print_final_stats=1"),
                *(f"-timeout={SLOWEST_INPUT_S}", f"-rss_limit_mb={MEMORY_MB}"),
                f"-artifact_prefix={findings / name}-",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
        )
        said = done.stdout + done.stderr
        if done.returncode:
            told = re.sub(r"^(INFO|WARNING|#\d+|stat)\b.*\n", "", said, flags=re.M)
            print(f"{name}: failed\n{told}")
            return 1
        runs = next(
            (line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line), "?"
        )
        grown = len(list(corpus.iterdir())) - len(TARGETS[name].seeds)
        print(f"{name}: {runs} inputs in {seconds} s, {grown} of them led to new branches, no finding")
    return 0


def _fuzz(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["cds_service", "fhir_mappings", "guideline", "jwt"]):
        from fuzz_targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name].one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
