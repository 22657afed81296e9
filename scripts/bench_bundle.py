"""What scripts/bench bundle runs; see there."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SNEAKER = [sys.executable, "-m", "sneaker"]


def run(*command: str, home: Path | None = None) -> tuple[float, int, str]:
    """Run sneaker; return seconds (program start included), peak resident bytes and what it printed."""
    arguments = [*SNEAKER, *(["--home", str(home)] if home else []), "-q", *command]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(arguments, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        text = out.read().decode()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return seconds, usage.ru_maxrss * 1024, text


def bare_verification(log: Path) -> float:
    """Return messages per second of libsodium alone, on all cores, over messages of the log."""
    from nacl import bindings

    from sneaker.feed.classic.message import signed_bytes
    from sneaker.feed.classic.validate import parse_message

    work = []
    with log.open("rb") as lines:
        for line in lines:
            value = json.dumps(json.loads(line)["value"], ensure_ascii=False).encode()
            message = parse_message(value)
            work.append((message.signature + signed_bytes(message.text), message.author.key))
            if len(work) == 40_000:
                break
    chunks = [work[start : start + 64] for start in range(0, len(work), 64)]

    def check(chunk: list[tuple[bytes, bytes]]) -> None:
        for signed, author in chunk:
            bindings.crypto_sign_open(signed, author)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check, chunks[:8]))
        started = time.perf_counter()
        list(pool.map(check, chunks))
        return len(work) / (time.perf_counter() - started)


def in_child(function: Any, log: Path) -> Any:
    """Call a function in a process of its own: what a parent holds counts as its children's peak memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, log).result()


def zstd_of_contents(log: Path) -> tuple[int, int, int]:
    """Return how many messages there are, and how many bytes ``zstd -19`` makes of the bare contents (private ones as bytes) and of the NDJSON itself."""
    import base64

    import orjson
    import zstandard

    feeds: dict[str, list[bytes]] = {}
    with log.open("rb") as lines:
        for line in lines:
            value = orjson.loads(line)["value"]
            content = value["content"]
            body = base64.b64decode(content.split(".")[0]) if isinstance(content, str) else orjson.dumps(content)
            feeds.setdefault(value["author"], []).append(body)
    count = sum(map(len, feeds.values()))
    compressor = zstandard.ZstdCompressor(level=19, threads=-1)
    contents = len(compressor.compress(b"".join(body for bodies in feeds.values() for body in bodies)))
    whole = len(compressor.compress(log.read_bytes()))
    return count, contents, whole


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sneaker against its targets.")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--authors", type=int, default=0, help="default: a hundredth of the messages")
    parser.add_argument("--log", type=Path, help="an NDJSON log to use instead of making one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sneaker-bench-") as name:
        folder = Path(name)
        log = options.log
        if log is None:
            log = folder / "log.ndjson"
            authors = options.authors or max(1, options.messages // 100)
            make = [str(ROOT / "scripts/fixtures"), "--messages", str(options.messages), "--authors", str(authors)]
            subprocess.run([*make, "--seed", "bench", "--out", str(log)], check=True, stdout=sys.stderr)
        report(measure(log, folder), options.json)


def measure(log: Path, folder: Path) -> dict[str, float]:
    a, b, bundle = folder / "a", folder / "b", folder / "all.sneaker"
    for machine in (a, b):
        run("init", home=machine)
    count, contents, whole = in_child(zstd_of_contents, log)
    bare = in_child(bare_verification, log)
    ndjson_s, ndjson_peak, text = run("import", "--json", str(log), home=a)
    assert json.loads(text)["messages"]["accepted"] == count, text[:300]
    export_s, export_peak, text = run("export", "--json", str(bundle), home=a)
    size = json.loads(text)["bytes"]
    import_s, import_peak, text = run("import", "--json", str(bundle), home=b)
    assert json.loads(text)["messages"]["accepted"] == count, text[:300]
    bare = (bare + in_child(bare_verification, log)) / 2
    again_s, _, _ = run("import", "--json", str(bundle), home=b)
    run("publish", "one more", home=a)
    run("clock", "--card", str(folder / "b.card"), home=b)
    delta_s, _, text = run("export", "--json", str(folder / "delta"), "--for", str(folder / "b.card"), home=a)
    help_s = min(run("--help")[0] for _ in range(5))
    check_s, check_peak, _ = run("check", "--json", home=b)
    return {
        "messages": count,
        "cores": os.cpu_count() or 1,
        "bare_verification_per_s": bare,
        "import_ndjson_per_s": count / ndjson_s,
        "import_bundle_per_s": count / import_s,
        "import_bundle_of_bare": count / import_s / bare,
        "import_ndjson_of_bare": count / ndjson_s / bare,
        "export_per_s": count / export_s,
        "export_of_import": import_s / export_s,
        "check_per_s": count / check_s,
        "bundle_bytes_per_message": size / count,
        "size_target_ratio": size / (64 * count + contents),
        "zstd_19_of_contents_per_message": contents / count,
        "zstd_19_of_ndjson_per_message": whole / count,
        "import_again_s": again_s,
        "export_delta_s": delta_s,
        "help_s": help_s,
        "peak_mb_import_ndjson": ndjson_peak / 1e6,
        "peak_mb_import_bundle": import_peak / 1e6,
        "peak_mb_export": export_peak / 1e6,
        "peak_mb_check": check_peak / 1e6,
    }


TARGETS = {
    "import_bundle_of_bare": (">=", 0.85),
    "export_of_import": (">=", 3.0),
    "size_target_ratio": ("<=", 1.10),
    "help_s": ("<=", 0.2),
    "peak_mb_import_ndjson": ("<=", 150),
    "peak_mb_import_bundle": ("<=", 150),
    "peak_mb_export": ("<=", 150),
}


def report(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        target = ""
        if name in TARGETS:
            sign, bound = TARGETS[name]
            met = value >= bound if sign == ">=" else value <= bound
            target = f"   target {sign} {bound}: {'met' if met else 'NOT met'}"
        print(f"{name:<34} {value:>14,.3f}{target}")


if __name__ == "__main__":
    main()
