"""drive and sync."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sneaker.cli.app import JsonOption, app, command, home, now_ms, settings
from sneaker.cli.import_export import export_json_of, import_json, print_import
from sneaker.cli.printing import clean, counted
from sneaker.errors import ExitCode, StickError
from sneaker.home.config import StickSettings, load_config
from sneaker.planning.send_order import Order
from sneaker.sizes import format_size, parse_size

if TYPE_CHECKING:
    from sneaker.stick.visit import VisitReport
    from sneaker.store.sticks import StickRecord

__all__: list[str] = []

drive = typer.Typer(name="drive", help="Enrol sticks and look after them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(drive, name="drive")

PathArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="Where the stick is mounted, or any folder.", show_default=False)
]
LabelOption = Annotated[str, typer.Option("--label", metavar="TEXT", help="What you call this stick.")]


def _stick_json(item: StickRecord) -> dict[str, Any]:
    from sneaker.stick.layout import base32

    return {
        "id": base32(item.id),
        "label": item.label,
        "enrolled": item.enrolled_at_ms,
        "last_visit": item.visited_at_ms or None,
    }


def _stick_words(item: StickRecord) -> str:
    from sneaker.stick.layout import base32

    name = f"{clean(item.label, 60)} " if item.label else ""
    when = (
        datetime.fromtimestamp(item.visited_at_ms / 1000, UTC).strftime("last visit %Y-%m-%d %H:%M UTC")
        if item.visited_at_ms
        else "not visited yet"
    )
    return f"{name}({base32(item.id)}), {when}"


@drive.command("init")
def init(path: PathArgument, label: LabelOption = "", json: JsonOption = False) -> None:
    """Make a folder a stick, and enrol it here.

    Writes a SNEAKER folder with a marker and a note for the finder; everything else there stays as it is.
    """
    from sneaker.stick.enrolment import enrol

    with home() as opened:
        made, new = enrol(opened, path, label, now_ms=now_ms(), random_bytes=os.urandom)
    verb = "made and enrolled" if new else "was a stick already; enrolled"
    settings.output(json).data(_stick_json(made), f"{clean(str(path))} {verb}: {_stick_words(made)}")
    _say_what_now(path)


@drive.command("trust")
def trust(path: PathArgument, label: LabelOption = "", json: JsonOption = False) -> None:
    """Enrol a stick that another machine made."""
    from sneaker.stick.enrolment import trust as trust_stick

    with home() as opened:
        trusted = trust_stick(opened, path, label, now_ms=now_ms())
    settings.output(json).data(_stick_json(trusted), f"trusted: {_stick_words(trusted)}")
    _say_what_now(path)


def _say_what_now(path: Path) -> None:
    """A watcher that runs has seen the stick already, and looks at it again only when it comes anew."""
    settings.output().say(
        f"'sneaker sync {clean(str(path))}' syncs it now, 'sneaker watch' when it is plugged in again"
    )


@drive.command("list")
def list_(json: JsonOption = False) -> None:
    """List the sticks that are enrolled here."""
    with home() as opened:
        sticks = opened.store.sticks.sticks()
    text = "\n".join(_stick_words(item) for item in sticks) or "no stick is enrolled here; see 'sneaker drive init'"
    settings.output(json).data({"drives": [_stick_json(item) for item in sticks]}, text)


@drive.command("info")
def info(path: PathArgument, json: JsonOption = False) -> None:
    """Show what is on a stick, without taking anything from it."""
    from sneaker.stick.info import describe

    with home() as opened:
        found = describe(opened, path)
        me = str(opened.keypair.public)
    lines = [
        f"stick     {found['drive']}, {'enrolled here' if found['enrolled'] else 'NOT enrolled here'}",
        f"bundles   {counted(len(found['bundles']), 'file')}, {format_size(sum(item['bytes'] for item in found['bundles']))}",
        f"free      {format_size(found['free_bytes'])}",
    ]
    for item in found["cards"]:
        behind = (
            f"lacks {counted(item['behind'], 'message')} of what is here" if item["behind"] else "has all that is here"
        )
        lines.append(f"machine   {item['machine']}, {'this one' if item['machine'] == me else behind}")
    if found["foreign"]:
        lines.append(f"other     {counted(found['foreign'], 'thing')} that sneaker leaves alone")
    settings.output(json).data(found, "\n".join(lines))


@drive.command("forget")
def forget(
    name: Annotated[str, typer.Argument(metavar="PATH|ID", help="Where the stick is, or its id from 'drive list'.")],
    json: JsonOption = False,
) -> None:
    """Stop using a stick here; what is on it stays."""
    from sneaker.stick.enrolment import forget as forget_stick
    from sneaker.stick.layout import from_base32
    from sneaker.stick.stick import Stick

    stick_id = from_base32(name, 16)
    if stick_id is None:
        with Stick(Path(name)) as stick:
            marker = stick.marker()
        if marker is None:
            raise StickError(f"{name} is neither a stick nor the id of one")
        stick_id = marker.stick_id
    with home() as opened:
        gone = forget_stick(opened, stick_id)
    settings.output(json).data(_stick_json(gone), f"forgotten: {_stick_words(gone)}")


@drive.command("gc")
def gc(path: PathArgument, json: JsonOption = False) -> int:
    """Visit a stick, read own bundles again, and replace them by what is needed."""
    return _visit(path, json, collect=True)


@command()
def sync(
    path: PathArgument,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="Write at most this much: 500M, 2G.")
    ] = None,
    no_export: Annotated[bool, typer.Option("--no-export", help="Only take in; write nothing to the stick.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing anywhere.")] = False,
    order: Annotated[
        Order, typer.Option("--order", help="What goes first when not all fits: the largest backlog, or one by one.")
    ] = Order.DEPTH,
    json: JsonOption = False,
) -> int:
    """Visit a stick: take in, leave what others lack, clean up.

    The stick has to be enrolled ('sneaker drive init' or 'trust'). It may be pulled out when this says so.
    """
    return _visit(
        path,
        json,
        export=not no_export,
        dry_run=dry_run,
        order=order,
        **({"max_bytes": parse_size(max_size)} if max_size else {}),
    )


def stick_options(sticks: StickSettings) -> dict[str, Any]:
    """Return the options of a visit that stand in the settings."""
    return {
        "stale_days": sticks.stale_days,
        "min_free_bytes": sticks.min_free_bytes,
        "max_bytes": sticks.max_bytes,
    }


def _visit(path: Path, json: bool, **options: Any) -> int:
    from sneaker.stick.visit import VisitOptions, visit

    output = settings.output(json)
    options = {**stick_options(load_config(settings.home).sticks), **options}
    with home() as opened, ExitStack() as stack:
        progress = stack.enter_context(output.progress(None, "reading the stick"))
        report = visit(opened, path, VisitOptions(**options), now_ms=now_ms, random_bytes=os.urandom, progress=progress)
    output.data(visit_json(report), None)
    if not json:
        print_visit(report, output_path=path, dry_run=bool(options.get("dry_run")))
    return ExitCode.DONE if report.complete else ExitCode.PARTIAL


def visit_json(report: VisitReport) -> dict[str, Any]:
    """Return the object of ``sync --json``."""
    return {
        "import": import_json(report.imported),
        "export": export_json_of(report.exported, report.files, report.reader_clock),
        "removed": report.removed,
        "drive": {
            **_stick_json(report.stick),
            "machines": report.machines,
            "foreign": report.foreign,
            "damaged": report.damaged,
            "free_bytes": report.free_bytes,
        },
        "own_elsewhere": report.own_elsewhere,
        "problems": report.problems,
        "safe_to_remove": report.safe_to_remove,
    }


def print_visit(report: VisitReport, *, output_path: Path, dry_run: bool) -> None:
    """Print what a visit did, for people."""
    from sneaker.cli.printing import Output

    print_import(report.imported, Output(quiet=True))
    taken = report.imported.ingested
    if not (taken.accepted or taken.known or taken.waiting or taken.refused):
        print("the stick brought nothing new")
    packed = report.exported
    verb = "would leave" if dry_run else "left"
    if packed is not None and (packed.messages or packed.blobs):
        size = sum(size for _, size in report.files) or packed.bytes
        blobs = f" and {counted(packed.blobs, 'blob')}" if packed.blobs else ""
        print(
            f"{verb} {counted(packed.messages, 'message')} of {counted(packed.feeds, 'feed')}{blobs} for others, {format_size(size)}"
        )
    elif packed is None or not (packed.left or packed.blobs_left):
        print("the others lack nothing that is not on the stick already")
    if packed is not None and packed.left:
        print(f"did not fit: {counted(sum(item.messages for item in packed.left), 'message')}")
    if report.fork_proofs:
        print(f"left {counted(report.fork_proofs, 'message')} as proof that a feed is forked, so that others find out")
    if report.removed:
        print(f"removed {counted(len(report.removed), 'bundle')} of ours that nobody needs any more")
    if report.damaged:
        print(f"{counted(report.damaged, 'bundle')} on the stick cannot be read to the end; what is intact was taken")
    if report.own_elsewhere:
        print(
            f"your own feed is known up to message {report.own_elsewhere:,}, which is not here: do not publish before it is"
            " ('sneaker doctor')"
        )
    for problem in report.problems:
        print(f"problem: {clean(problem, 300)}")
    print("safe to remove" if report.safe_to_remove else f"NOT safe to remove: look at {clean(str(output_path))}")
