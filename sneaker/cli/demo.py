"""demo: the main job end to end in a temporary folder, by the very commands a person types."""

from __future__ import annotations

import json as json_module
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, settings
from sneaker.cli.printing import Output, counted
from sneaker.errors import SneakerError

if TYPE_CHECKING:
    from sneaker.cli.json_output.home import DemoJson

__all__: list[str] = []


@command()
def demo(
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="A log (NDJSON) that the first machine begins with."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show it all in a temporary folder: two machines, one stick.

    Machine A writes, a stick (here: a folder) goes to machine B and back, and both end with the same messages. Every command
    it runs is shown.
    """
    output = settings.output(json)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sneaker-demo-") as folder:
        value = _Demo(Path(folder), output).run(log)
    value["seconds"] = round(time.monotonic() - started, 3)
    if json:
        output.print_json(value)
    else:
        messages, feeds = counted(value["messages"], "message"), counted(value["feeds"], "feed")
        print(f"both machines hold the same {messages} of {feeds}")


class _Demo:
    def __init__(self, folder: Path, output: Output) -> None:
        self.folder = folder
        self.output = output
        (folder / "stick").mkdir()

    def sneaker(self, machine: str, *arguments: str, show: bool = True) -> str:
        """Run a command on machine A or B and return what it prints."""
        if show:
            self.output.print_remark(f"{machine}$ sneaker {shlex.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "sneaker", "--home", str(self.folder / machine), "-q", *arguments],
            cwd=self.folder,
            env={**os.environ, "XDG_STATE_HOME": str(self.folder / "state")},  # it leaves nothing behind
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode != 0:
            raise SneakerError(f"the demo failed at 'sneaker {shlex.join(arguments)}': {done.stderr.strip()}")
        if show and done.stdout.strip():
            for line in done.stdout.strip().splitlines()[:8]:
                self.output.print_remark(f"   {line}")
        return done.stdout

    def run(self, log: Path | None) -> DemoJson:
        self.output.print_remark("# two machines, each with an identity of its own")
        alice = self.sneaker("A", "init").strip()
        bob = self.sneaker("B", "init").strip()
        if log is not None:
            self.output.print_remark("# machine A takes in the log of an app it used before")
            self.sneaker("A", "import", str(log.resolve()))
        self.sneaker("A", "publish", "Hello from the island \N{SAILBOAT}")
        self.sneaker("A", "follow", bob)
        self.output.print_remark("# A packs everything; the stick travels; B takes it in")
        self.sneaker("A", "export", "stick/from-a.sneaker")
        self.sneaker("B", "import", "stick/from-a.sneaker")
        self.output.print_remark("# B answers, and asks for no more than it lacks")
        self.sneaker("B", "follow", alice)
        self.sneaker("B", "publish", "Hello back from the mainland")
        self.sneaker("A", "clock", "--card", "stick/a.card")
        self.sneaker("B", "export", "stick/from-b.sneaker", "--for", "stick/a.card")
        self.sneaker("A", "import", "stick/from-b.sneaker")
        self.output.print_remark("# a second time brings nothing, and loses nothing")
        self.sneaker("A", "import", "stick")
        self.output.print_remark("# are they the same?")
        logs = [self.sneaker(machine, "log", "--json", show=False) for machine in ("A", "B")]
        if logs[0] != logs[1]:
            raise SneakerError("the demo ended with two different logs; this is a bug")
        for machine in ("A", "B"):
            self.sneaker(machine, "check")
        lines = logs[0].split("\n")[:-1]
        authors = {json_module.loads(line)["value"]["author"] for line in lines}
        return {"identical": True, "messages": len(lines), "feeds": len(authors), "seconds": 0}
