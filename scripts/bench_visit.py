"""What scripts/bench visit runs; see there."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from sneaker.bundle.card import Card, encode_card
from sneaker.caps import MAIN_CAPS
from sneaker.clock import VectorClock
from sneaker.feed.classic.compact import expand
from sneaker.feed.classic.message import signed_text
from sneaker.feed.message import Compact
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import Home, create_home, open_home
from sneaker.keys import Keypair
from sneaker.planning.send_order import Range
from sneaker.refs import FeedRef, MessageRef
from sneaker.stick.layout import base32
from sneaker.store.rows import SEQUENCE_BITS, Batch
from sneaker.transfer.pack import Job, pack

ROOT = Path(__file__).resolve().parent.parent
NOW_MS = 1_700_000_000_000


def keypair(number: int) -> Keypair:
    return Keypair.from_seed(number.to_bytes(32, "little"))


class World:
    """A home with a big store, and other machines that hold the same: machine n and feed n have the same key."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.options = options
        self.me = keypair(1)
        self.random = random.Random(1)

    def build(self) -> None:
        """Make the store; every message is signed as it should be."""
        create_home(self.home, self.me, format_config(Config()), CONFIG_NAME)
        options = self.options
        each = options.messages // options.feeds
        started = time.monotonic()
        with open_home(self.home, MAIN_CAPS).store as store, store.writer() as writer:
            for number in range(1, options.feeds + 1):
                batch = Batch(feeds=[(number, keypair(number).public)], now_ms=NOW_MS)
                previous: MessageRef | None = None
                for sequence in range(1, each + 1):
                    key, item = self.message(number, sequence, previous)
                    batch.rows.append((number << SEQUENCE_BITS | sequence, key, *item))
                    previous = key
                batch.heads[number] = (0, each, bytes(previous or b""))
                writer.commit(batch)
                if number % 100 == 0:
                    print(f"{number * each:,} messages, {time.monotonic() - started:.0f} s", file=sys.stderr)

    def message(self, number: int, sequence: int, previous: MessageRef | None) -> tuple[MessageRef, Compact]:
        pair = keypair(number)
        text = "".join(self.random.choices("abcdefghijklmnopqrst     ", k=120))
        content = orjson.dumps({"type": "post", "text": text})
        blank = Compact(0, NOW_MS + sequence, bytes(64), content)
        unsigned = expand(pair.public, sequence, previous, blank)
        item = blank._replace(signature=pair.sign(signed_text(unsigned.text)))
        return expand(pair.public, sequence, previous, item).key, item

    # -- the stick

    def fill(self, stick: Path) -> None:
        """Put bundles and cards of other machines on the stick; all of it is known here."""
        options = self.options
        run("drive", "init", str(stick), home=self.home)
        with opened(self.home) as home:
            clock = home.store.clock()
            feeds = sorted(clock)
            for number in range(options.bundles):
                chosen = self.random.sample(feeds, min(20, len(feeds)))
                ranges = []
                for feed in chosen:
                    first = self.random.randint(1, max(1, clock[feed] - 50))
                    ranges.append(Range(feed, first, min(clock[feed], first + 49)))
                self.bundle(home, stick, 2 + number % (options.machines - 1), ranges)
            self.cards(stick, clock, counter=NOW_MS)

    def bundle(self, home: Home, stick: Path, machine: int, ranges: list[Range]) -> None:
        @contextlib.contextmanager
        def volume(_: int, bundle_id: bytes) -> Iterator[Any]:
            with (stick / "SNEAKER" / "bundles" / f"{base32(bundle_id)}.sneaker").open("wb") as file:
                yield file.write

        job = Job(keypair(machine), MAIN_CAPS, ranges, NOW_MS, self.random.randbytes)
        pack(home.store, home.blobs, job, volume)

    def cards(self, stick: Path, clock: dict[FeedRef, int], counter: int, machines: int | None = None) -> None:
        for machine in range(2, (machines or self.options.machines) + 1):
            pair = keypair(machine)
            folder = stick / "SNEAKER" / "cards"
            for old in folder.glob(f"{base32(pair.public.key)}-*.card"):
                old.unlink()
            card = Card(pair.public, MAIN_CAPS.network_id, counter, counter, VectorClock(clock))
            (folder / f"{base32(pair.public.key)}-{counter}.card").write_bytes(encode_card(card, pair))

    def bring_new(self, stick: Path, machine: int, count: int) -> dict[FeedRef, int]:
        """Let a machine publish, and leave that and its card on the stick; return its clock."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            other = Path(name) / "other"
            create_home(other, keypair(machine), format_config(Config()), CONFIG_NAME)
            with opened(self.home) as ours, opened(other) as home:
                clock = ours.store.clock()
                feed = keypair(machine).public
                held = clock[feed]
                last = next(iter(ours.store.rows(feed, held, held)))
                # The other store needs no more than the end of that feed to pack what follows.
                batch = Batch(feeds=[(1, feed)], now_ms=NOW_MS)
                batch.rows.append((1 << SEQUENCE_BITS | held, last.key, *last.compact))
                previous = last.key
                for sequence in range(held + 1, held + count + 1):
                    key, item = self.message(machine, sequence, previous)
                    batch.rows.append((1 << SEQUENCE_BITS | sequence, key, *item))
                    previous = key
                batch.heads[1] = (0, held + count, bytes(previous))
                with home.store.writer() as writer:
                    writer.commit(batch)
                self.bundle(home, stick, machine, [Range(feed, held + 1, held + count)])
        return {**clock, feed: held + count}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Home]:
    home = open_home(path, MAIN_CAPS)
    try:
        yield home
    finally:
        home.store.close()


def run(*words: str, home: Path, profile: bool = False) -> dict[str, Any]:
    """Run sneaker; return what it printed, its seconds, and the bytes that it read and wrote."""
    python = [sys.executable, *(["-m", "cProfile", "-s", "tottime"] if profile else []), "-m", "sneaker"]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*python, "--home", str(home), "-q", *words], stdout=out, env=environment)
        # While nobody has collected it, the kernel still tells what it did.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - started
        counts = dict(
            line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text(encoding="ascii").splitlines()
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if profile:
        print(text[:6000])
    if process.returncode not in (0, 3):
        raise SystemExit(f"sneaker {words} ended with {process.returncode}: {text}")
    report = json.loads(text.splitlines()[0]) if "--json" in words and not profile else {}
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "rchar": int(counts["rchar"]),
        "wchar": int(counts["wchar"]),
        "disk_read": int(counts["read_bytes"]),
        "disk_written": int(counts["write_bytes"]),
        "report": report,
    }


@contextlib.contextmanager
def mounted(image: Path, at: Path, size: int) -> Iterator[str | None]:
    """Mount a file system of its own at ``at``, if that can be done; yields its device's name."""
    at.mkdir(exist_ok=True)
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        yield None
        return
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount", "-o", "noatime", device, str(at)], check=True)
        try:
            yield Path(device).name
        finally:
            subprocess.run(["umount", str(at)], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def sectors(device: str | None) -> tuple[int, int]:
    """Return the bytes read from and written to a block device so far."""
    if device is None:
        return 0, 0
    os.sync()
    fields = Path(f"/sys/block/{device}/stat").read_text(encoding="ascii").split()
    return int(fields[2]) * 512, int(fields[6]) * 512


def cool(*folders: Path) -> None:
    """Ask the kernel to forget what it has read of the files in ``folders``."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description="measure small visits to a big stick")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--bundles", type=int, default=200)
    parser.add_argument("--machines", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sneaker-bench-")))
        folder.mkdir(exist_ok=True, parents=True)
        world = World(folder, options)
        if not world.home.exists():
            world.build()
        stick = folder / "stick"
        device = stack.enter_context(mounted(folder / "stick.img", stick, 1 << 30))
        # A fresh stick each time; the store knows no drive yet.
        shutil.rmtree(stick / "SNEAKER", ignore_errors=True)
        print("filling the stick", file=sys.stderr)
        world.fill(stick)
        results = measure(world, stick, device)
    if options.json:
        print(json.dumps(results))
        return
    print(
        f"\n{'visit':34} {'seconds':>8} {'cpu':>6} {'MB':>4} {'stick read':>11} {'written':>9} {'home written':>13} {'in':>4} {'out':>4}"
    )
    for name, item in results.items():
        print(
            f"{name:34} {item['seconds']:8.3f} {item['cpu_seconds']:6.3f} {item['peak_bytes'] >> 20:4} {item['stick_read']:11,} {item['stick_written']:9,}"
            f" {item['disk_written'] - item['stick_written']:13,} {item['in']:4} {item['out']:4}"
        )


def measure(world: World, stick: Path, device: str | None) -> dict[str, dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}

    def visit(name: str) -> None:
        if device is not None:  # as if the stick were put in now: nothing of it is in memory
            subprocess.run(["umount", str(stick)], check=True)
            subprocess.run(["mount", "-o", "noatime", f"/dev/{device}", str(stick)], check=True)
        before = sectors(device)
        found = run("sync", str(stick), "--json", home=world.home)
        after = sectors(device)
        report = found.pop("report")
        results[name] = {
            **found,
            "stick_read": after[0] - before[0],
            "stick_written": after[1] - before[1],
            "in": report["import"]["messages"]["accepted"],
            "out": report["export"]["messages"],
            "problems": report["problems"],
        }

    def publish(count: int) -> None:
        from sneaker.feed.classic.message import create_message
        from sneaker.ingest.ingest import Ingest

        with opened(world.home) as home, Ingest(home.store, caps=MAIN_CAPS, now_ms=lambda: NOW_MS) as ingest:
            head = home.store.head(home.keypair.public)
            for number in range(count):
                message = create_message(
                    home.keypair, head, NOW_MS + 10**6 + number, {"type": "post", "text": "x" * 100}
                )
                ingest.add_message(message)
                head = type(head)(message.sequence, message.key) if head is not None else None

    machines = world.options.machines
    visit("first, 200 unknown bundles")
    visit("nothing new")
    clock = world.bring_new(stick, 2, 100)
    visit("100 messages in")
    publish(100)
    visit("100 messages out")
    world.bring_new(stick, 3, 50)
    publish(50)
    visit("50 in, 50 out")
    with opened(world.home) as home:
        clock = home.store.clock()
    world.cards(stick, clock, NOW_MS + 10**7, machines)
    visit(f"{machines - 1} new cards, all level")
    world.bring_new(stick, 4, 100)
    cool(stick, world.home)
    visit("100 messages in, cold caches")
    if world.options.profile:
        world.bring_new(stick, 5, 50)
        publish(50)
        run("sync", str(stick), home=world.home, profile=True)
    return results


if __name__ == "__main__":
    main()
