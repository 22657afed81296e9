"""sync: visit a stick once."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sneaker.cli.app import JsonOption, StickArgument, command, home, now_ms, settings
from sneaker.cli.import_export import print_import
from sneaker.cli.printing import Output, clean, counted
from sneaker.errors import ExitCode
from sneaker.home.config import StickSettings, load_config
from sneaker.planning.send_order import Order
from sneaker.sizes import format_size, parse_size

if TYPE_CHECKING:
    from sneaker.stick.visit import VisitReport

__all__ = ["stick_options", "visit_stick"]


@command()
def sync(
    path: StickArgument,
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
    return visit_stick(
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


def visit_stick(path: Path, json: bool, **options: Any) -> int:
    """Visit a stick and print what happened; ``options`` are those of ``stick.report.VisitOptions``."""
    from sneaker.stick.visit import VisitOptions, visit

    output = settings.output(json)
    options = {**stick_options(load_config(settings.home).sticks), **options}
    with home() as opened, ExitStack() as stack:
        progress = stack.enter_context(output.progress(None, "reading the stick"))
        report = visit(opened, path, VisitOptions(**options), now_ms=now_ms, random_bytes=os.urandom, progress=progress)
    if json:
        from sneaker.cli.json_output.sticks import visit_json

        output.print_json(visit_json(report))
    else:
        _print_visit(report, output_path=path, dry_run=bool(options.get("dry_run")))
    return ExitCode.DONE if report.complete else ExitCode.PARTIAL


def _print_visit(report: VisitReport, *, output_path: Path, dry_run: bool) -> None:
    """Print what a visit did, for people."""
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
