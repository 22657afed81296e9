"""export and import: files that carry messages from machine to machine."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, now_ms, settings
from sneaker.cli.printing import Output, clean, counted, print_error
from sneaker.errors import ExitCode
from sneaker.planning.send_order import Order
from sneaker.refs import FeedRef
from sneaker.sizes import format_size, parse_size

if TYPE_CHECKING:
    from sneaker.ingest.reports import ImportReport
    from sneaker.transfer.export_options import ExportReport

__all__ = ["STATUS_WORDS", "print_import"]

STATUS_WORDS = {
    "ok": "whole",
    "known": "nothing new",
    "truncated": "cut short",
    "damaged": "damaged",
    "refused": "refused",
    "forked": "forked",
}


@command("export")
def export_(
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="A file, a folder, or - for standard output.", show_default=False)
    ],
    readers: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="CARD|CLOCK.json|PEER",
            help="Write only what this reader lacks; given several times, what any of them lacks.",
        ),
    ] = None,
    feed: Annotated[
        list[str] | None, typer.Option("--feed", metavar="FEED", help="Only this feed; may be given several times.")
    ] = None,
    hops: Annotated[
        int | None, typer.Option("--hops", min=0, metavar="N", help="Only feeds within N steps of follows from you.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="At most this much, the most important first: 500M, 2G."),
    ] = None,
    order: Annotated[
        Order,
        typer.Option("--order", help="What goes first among equally near feeds: the largest backlog, or one by one."),
    ] = Order.DEPTH,
    no_blobs: Annotated[bool, typer.Option("--no-blobs", help="Messages only.")] = False,
    max_blob_size: Annotated[
        str | None, typer.Option("--max-blob-size", metavar="SIZE", help="Leave out blobs that are larger.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="FEED", help="Encrypt to this feed (or age1... recipient); may be repeated."),
    ] = None,
    pad: Annotated[bool, typer.Option("--pad", help="Pad an encrypted bundle, so that its size tells less.")] = False,
    parity: Annotated[
        int,
        typer.Option(
            "--parity",
            metavar="PERCENT",
            min=0,
            help="Add recovery records: so much of the file may go bad without loss.",
        ),
    ] = 0,
    volume_size: Annotated[
        str | None,
        typer.Option("--volume-size", metavar="SIZE", help="Split into files of this size; 4G for FAT32 if not given."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a bundle of what you hold, or of what a reader lacks.

    The file appears only when it is whole and on the disk. A folder gets a file with a random name. Without --for the bundle
    holds everything; with the card of another machine ('sneaker clock --card FILE' there) it holds what that machine lacks.
    """
    from sneaker.transfer.export import export
    from sneaker.transfer.export_options import DEFAULT_VOLUME_BYTES, ExportOptions

    output = settings.output(json)
    options = ExportOptions(
        readers=readers or (),
        feeds={FeedRef.parse(name) for name in feed} if feed else None,
        hops=hops,
        order=order,
        blobs=not no_blobs,
        max_blob_bytes=parse_size(max_blob_size) if max_blob_size else None,
        max_bytes=parse_size(max_size) if max_size else None,
        volume_bytes=parse_size(volume_size) if volume_size else None if destination == "-" else DEFAULT_VOLUME_BYTES,
        recipients=to or (),
        pad=pad,
        parity=parity,
        dry_run=dry_run,
    )
    with home() as opened, ExitStack() as stack:
        report = export(
            opened,
            destination,
            options,
            stdout=sys.stdout.buffer,
            now_ms=now_ms(),
            random_bytes=os.urandom,
            progress=lambda total: stack.enter_context(output.progress(total, "exporting", " messages")),
        )
    if destination == "-" and not dry_run:
        output.print_remark(f"wrote {_exported_words(report)} to standard output")
        return
    if json:
        from sneaker.cli.json_output.import_export import export_json

        output.print_json(export_json(report.packed, report.files, report.reader_clock))
    else:
        _print_export(report, dry_run)


def _exported_words(report: ExportReport) -> str:
    packed = report.packed
    words = f"{counted(packed.messages, 'message')} of {counted(packed.feeds, 'feed')}"
    if packed.blobs:
        words += f", {counted(packed.blobs, 'blob')}"
    return f"{words}, {format_size(report.bytes)}"


def _print_export(report: ExportReport, dry_run: bool) -> None:
    packed = report.packed
    if dry_run:
        print(f"would write {_exported_words(report)}")
    elif packed.messages == packed.blobs == 0:
        print(f"wrote {report.files[0][0]}: nothing new for the reader in it, {format_size(report.bytes)}")
    elif len(report.files) == 1:
        print(f"wrote {report.files[0][0]}: {_exported_words(report)}")
    else:
        for path, size in report.files:
            print(f"wrote {path}: {format_size(size)}")
        print(f"in {len(report.files)} volumes: {_exported_words(report)}")
    if packed.left:
        messages = sum(item.messages for item in packed.left)
        feeds = len({item.feed for item in packed.left})
        print(f"left behind for want of space: {counted(messages, 'message')} of {counted(feeds, 'feed')}")
    if packed.blobs_left:
        print(f"left behind for want of space: {counted(packed.blobs_left, 'blob')}")


@command("import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SRC...", help="Bundles, logs of messages, folders of them, or - for standard input."),
    ],
    hops: Annotated[
        int | None,
        typer.Option("--hops", min=0, metavar="N", help="Take only feeds within N steps of follows from you."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would come in.")] = False,
    json: JsonOption = False,
) -> int:
    """Take in bundles and logs.

    Every message is checked by its author's signature, so it does not matter who carried it. Importing the same thing
    twice, in another order, or again after a crash gives the same store. Exit code 3 says that something was refused or
    damaged; everything else was taken.
    """
    from sneaker.files.read_file import file_bytes
    from sneaker.transfer.import_files import import_sources

    output = settings.output(json)
    total = sum(file_bytes(Path(path)) or 0 for path in sources)
    with home() as opened, output.progress(total or None, "importing") as progress:
        report = import_sources(
            opened,
            sources,
            stdin=sys.stdin.buffer,
            now_ms=now_ms,
            hops=hops,
            dry_run=dry_run,
            progress=progress,
        )
    if json:
        from sneaker.cli.json_output.import_export import import_json

        output.print_json(import_json(report))
    else:
        print_import(report, output)
    if len(report.sources) == 1 and (error := report.sources[0].error) is not None:
        print_error(error)
        return error.exit_code
    return ExitCode.DONE if report.complete else ExitCode.PARTIAL


def print_import(report: ImportReport, output: Output) -> None:
    """Print what an import did, for people."""
    ingested = report.ingested
    for source in report.sources:
        if source.error is not None and len(report.sources) == 1:
            continue
        detail = f": {clean(source.detail)}" if source.detail else ""
        print(f"{clean(source.path)}: {STATUS_WORDS.get(source.status, source.status)}{detail}")
    verb = "would take" if report.dry_run else "took"
    parts = []
    if ingested.accepted:
        feeds = counted(len(ingested.feeds_advanced), "feed")
        parts.append(f"{verb} {counted(ingested.accepted, 'new message')} of {feeds}")
    others = (
        (ingested.known, "known already"),
        (ingested.waiting, f"wait{'s' * (ingested.waiting == 1)} for earlier messages that are not here yet"),
        (ingested.refused, "refused"),
        (ingested.left_out, "left out, of feeds that are blocked or too far away"),
    )
    for number, words in others:
        if number:
            parts.append(f"{f'{number:,}' if parts else counted(number, 'message')} {words}")
    if parts:
        print("; ".join(parts))
    if report.blobs.waiting:
        wait = (
            "waits for messages that mention it" if report.blobs.waiting == 1 else "wait for messages that mention them"
        )
        print(f"{counted(report.blobs.waiting, 'blob')} {wait}")
    if report.blobs.accepted or report.blobs.refused:
        refused = f"; {report.blobs.refused:,} refused" if report.blobs.refused else ""
        print(f"{verb} {counted(report.blobs.accepted, 'new blob')}{refused}")
    for feed in sorted(ingested.feeds_forked):
        print(f"forked: {feed} has signed two different messages for one place; nothing more is taken of it")
    for refusal in ingested.refusals[:10]:
        where = f"{refusal.feed} {refusal.sequence}: " if refusal.feed is not None else ""
        print(f"refused: {where}{refusal.code}{': ' + clean(refusal.detail) if refusal.detail else ''}")
    if ingested.refused > 10:
        output.print_remark(f"... and {ingested.refused - 10:,} more; --json lists them")
