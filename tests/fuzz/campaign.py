"""Runs fuzz targets with atheris, some at a time, and says what came of it; see ``scripts/fuzz --help``."""

from __future__ import annotations

import argparse
import base64
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.corpus import CORPUS, save
from tests.fuzz.targets import TARGETS

# For one input: far more than any takes. An input that takes longer, or more memory, is a finding.
TIMEOUT_S = 25
MAX_MEMORY_MIB = 1024

# Whoever reads the output of CI has nothing but that; no input that is looked for is longer.
MAX_SHOWN_BYTES = 2048


class Outcome(NamedTuple):
    """What came of fuzzing one target: findings are files with inputs that broke something."""

    name: str
    runs: int
    per_second: int
    corpus: int
    findings: list[Path]
    log: Path


def fuzz(name: str, work: Path, limits: list[str]) -> Outcome:
    """Fuzz one target in a process of its own."""
    grown, found = work / "corpus" / name, work / "findings" / name
    log = work / f"{name}.log"
    for folder in (grown, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(grown)]
    kept = CORPUS / name
    if kept.is_dir():
        command.append(str(kept))
    options = [f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MAX_MEMORY_MIB}", f"-artifact_prefix={found}/"]
    options.append("-print_final_stats=1")
    with log.open("wb") as file:
        done = subprocess.run(
            [*command, *options, *limits],
            stdout=file,
            stderr=file,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    text = log.read_text("utf-8", "replace")
    findings = sorted(set(found.iterdir()) - before)
    numbers = {key: int(value) for key, value in re.findall(r"stat::(\w+):\s+(\d+)", text)}
    if not findings and (done.returncode != 0 or not numbers.get("number_of_executed_units")):
        findings = [log]  # it did not even begin
    return Outcome(
        name,
        numbers.get("number_of_executed_units", 0),
        numbers.get("average_exec_per_sec", 0),
        len(list(grown.iterdir())),
        findings,
        log,
    )


def main() -> int:
    """Return 1 if anything was found."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the readers, led by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="which; all of them if none is named (--list)")
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long for each target (1)")
    parser.add_argument("--runs", type=int, help="how many inputs for each target, however long that takes")
    parser.add_argument(
        "--seed", type=int, default=0, help="where chance begins, so that CI meets nothing new (by chance)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many targets at a time (1)")
    parser.add_argument(
        "--save", action="store_true", help="keep a small selection of what was reached in tests/fuzz/corpus"
    )
    parser.add_argument(
        "--work", type=Path, default=cache / "sneaker-fuzz", help="where the corpus grows (%(default)s)"
    )
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return 0
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"there is no target {min(unknown)}; --list shows them")
    limits = [f"-runs={options.runs}"] if options.runs else [f"-max_total_time={max(1, round(options.minutes * 60))}"]
    # To try fast inputs more often depends on what else the machine does.
    limits.append(f"-seed={options.seed}" if options.seed else "-entropic_scale_per_exec_time=1")
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        work = options.work.absolute()
        for outcome in pool.map(lambda name: fuzz(name, work, limits), options.targets or TARGETS):
            print(
                f"{outcome.name:18} {outcome.runs:>10,} runs {outcome.per_second:>7,}/s {outcome.corpus:>6,} inputs kept",
                flush=True,
            )
            failed += len(outcome.findings)
            for path in outcome.findings:
                print(f"  FOUND: {path}\n  again: .venv/bin/python -m tests.fuzz.again {outcome.name} {path}")
                print(
                    f"  log:   {outcome.log}\n  bytes: {base64.b64encode(path.read_bytes()[:MAX_SHOWN_BYTES]).decode()}"
                )
            if options.save and not outcome.findings:
                print(f"  {save(outcome.name, work / 'corpus' / outcome.name)} inputs added to tests/fuzz/corpus")
    print(f"found: {failed}" if failed else "nothing found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
