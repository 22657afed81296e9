"""inspect and verify: what is in a file, with nothing of it taken in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.import_export import STATUS_WORDS
from sneaker.cli.printing import clean, counted
from sneaker.clock import VectorClock
from sneaker.errors import ExitCode, HomeMissing
from sneaker.refs import FeedRef
from sneaker.sizes import format_size

if TYPE_CHECKING:
    from sneaker.home.home import Home
    from sneaker.transfer.inspect import InspectReport
    from sneaker.transfer.verify import VerifyReport

__all__: list[str] = []


def _open(path: str) -> BinaryIO:
    from sneaker.transfer.sources import Source, open_source

    return open_source(Source(path, None if path == "-" else Path(path)), sys.stdin.buffer)


@command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle, a log or a card; - for standard input.")],
    json: JsonOption = False,
) -> int:
    """Show what a bundle holds, without importing it.

    With a home, it also says how many of the messages are new for you, and by what names you know the authors.
    """
    from sneaker.files.read_file import reading_errors
    from sneaker.home.config import load_config
    from sneaker.transfer.inspect import inspect as look

    output = settings.output(json)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(home())
        except HomeMissing:
            opened = None
        clock = opened.store.clock() if opened is not None else VectorClock()
        opened_file = stack.enter_context(_open(file))
        with output.progress(None, "reading") as progress, reading_errors(file):
            report = look(
                opened_file,
                file,
                opened.caps if opened is not None else load_config(settings.home).caps,
                clock,
                keypair=opened.keypair if opened is not None else None,
                progress=progress,
                seekable=file != "-",
            )
        names = _names(opened, report) if opened is not None else {}
    if json:
        from sneaker.cli.json_output.import_export import inspect_json

        output.print_json(inspect_json(report, names))
    else:
        _print_inspect(report, file, names)
    return ExitCode.DONE if report.status == "ok" else ExitCode.PARTIAL


def _names(opened: Home, report: InspectReport) -> dict[FeedRef, str]:
    """Return the names by which the authors, and who packed it, are known here; made safe to print."""
    feeds = [*report.feeds, *([report.header.exporter] if report.header else [])]
    return {feed: clean(known[0].name, 40) for feed in feeds if (known := opened.store.names(feed))}


def _print_inspect(report: InspectReport, name: str, names: Mapping[FeedRef, str]) -> None:
    is_closed = report.encrypted and report.header is None
    state = "closed" if is_closed and report.status == "ok" else STATUS_WORDS[report.status]
    kind = "encrypted bundle" if report.encrypted else str(report.kind)
    print(
        f"{clean(name)}: {kind}, {format_size(report.bytes)}, {state}{': ' + clean(report.detail) if report.detail else ''}"
    )
    if report.card is not None:
        print(f"the card of {report.card.machine} from {_when(report.card.time_ms)}, {len(report.card.clock):,} feeds")
        return
    if report.header is not None:
        who = names.get(report.header.exporter)
        signed = "signed" if report.signed else "NOT signed"
        print(
            f"packed by {report.header.exporter}{f' ({who})' if who else ''} on {_when(report.header.created_ms)}, {signed}"
        )
        if report.header.volume > 1 or report.volumes != 1:
            print(f"volume {report.header.volume} of {report.volumes or 'several'}")
    if not report.feeds and report.encrypted:
        return
    print(f"{counted(report.messages, 'message')} of {counted(len(report.feeds), 'feed')}, {report.new:,} new for you")
    if report.blobs:
        size = f", {format_size(report.blob_bytes)}" if report.blob_bytes is not None else ""
        print(f"{counted(report.blobs, 'blob')}{size}")
    ranked = sorted(report.feeds.items(), key=lambda item: (-item[1].new, -item[1].messages, item[0]))
    for feed, contents in ranked[:20]:
        print(f"  {feed}  {contents.first}-{contents.last}  {contents.new} new  {names.get(feed, '')}".rstrip())
    if len(ranked) > 20:
        print(f"  ... and {counted(len(ranked) - 20, 'more feed')}; --json lists them")


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "an impossible day"


@command()
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle or a log; - for standard input.")],
    network_key: Annotated[
        str | None, typer.Option("--hmac-key", metavar="BASE64", help="HMAC key of a test network that has one.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Check all signatures, hashes and chains of a bundle or log.

    Needs no home and stores nothing.
    """
    from sneaker.caps import MAIN_NETWORK_KEY, Caps, parse_cap
    from sneaker.files.read_file import file_bytes, reading_errors
    from sneaker.home.config import load_config
    from sneaker.transfer.verify import verify as check

    caps = load_config(settings.home).caps
    if network_key is not None:
        caps = Caps(MAIN_NETWORK_KEY, parse_cap(network_key))
    output = settings.output(json)
    size = file_bytes(Path(file))
    with _open(file) as opened_file, output.progress(size, "verifying") as progress, reading_errors(file):
        report = check(opened_file, file, caps, progress=progress)
    if json:
        from sneaker.cli.json_output.import_export import verify_json

        output.print_json(verify_json(report))
    else:
        _print_verify(report, file)
    return ExitCode.DONE if report.status == "ok" and not report.invalid else ExitCode.PARTIAL


def _print_verify(report: VerifyReport, name: str) -> None:
    valid = counted(report.valid, "message is", "messages are")
    invalid = f"{report.invalid:,} {'is' if report.invalid == 1 else 'are'} not"
    repeated = counted(report.repeated, "more is a repetition", "more are repetitions")
    print(
        f"{clean(name)}: {STATUS_WORDS[report.status]}; {valid} valid, {invalid}"
        f"{'; ' + repeated if report.repeated else ''}"
    )
    if report.exporter is not None:
        print(f"packed by {report.exporter}; {'its signature is right' if report.signature else 'NOT signed by it'}")
    if report.detail:
        print(clean(report.detail))
    for problem in report.problems:
        print(f"  {clean(problem)}")
