"""check: is the store as it should be, and its repair."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, now_ms, settings
from sneaker.cli.printing import clean, counted
from sneaker.errors import ExitCode, StoreDamaged

if TYPE_CHECKING:
    from sneaker.store.check import CheckReport

__all__: list[str] = []

_BEYOND_REPAIR_HINT = "restore a backup of the home, or move its store.sqlite away and import everything again"


@contextlib.contextmanager
def _beyond_repair() -> Iterator[None]:
    """Say what else to do if the repair cannot read the store; not the command that has just failed."""
    try:
        yield
    except StoreDamaged as error:
        raise StoreDamaged(error.message, hint=_BEYOND_REPAIR_HINT) from None


@command()
def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; what must go is kept aside and named.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Check the store, message by message and blob by blob.

    The file, every message's chain, key and signature, all that is derived from messages, and every blob's hash.
    """
    from sneaker.ingest.rebuild_store import rebuild
    from sneaker.store.check import check as check_store
    from sneaker.store.check_blobs import check_blobs

    output = settings.output(json)
    with _beyond_repair() if repair else contextlib.nullcontext(), home() as opened:
        total = None
        with contextlib.suppress(StoreDamaged):  # only the progress bar needs this number; the check reports damage
            total = opened.store.counts().messages
        with output.progress(total, "checking", " messages") as progress:
            report = check_store(opened.store, caps=opened.caps, repair=repair, progress=progress)
        if repair and report.file_damaged:
            with output.progress(total, "rebuilding", " messages") as progress:
                rebuilt = rebuild(opened.store, caps=opened.caps, now_ms=now_ms, progress=progress)
            report.repaired = True
            report.removed = max(0, rebuilt.before - rebuilt.messages)
            output.print_remark(f"the damaged file is kept at {rebuilt.kept}")
        report.blobs = sum(1 for _ in opened.blobs)
        with output.progress(report.blobs, "checking", " blobs") as progress:
            for problem in check_blobs(opened.blobs, repair=repair, now_ms=now_ms(), progress=progress):
                report.note_problem(problem)
                report.repaired = repair
    if json:
        from sneaker.cli.json_output.home import check_json

        output.print_json(check_json(report))
    else:
        _print_check(report)
    return ExitCode.DONE if report.clean or report.repaired else ExitCode.PARTIAL


def _print_check(report: CheckReport) -> None:
    if not report.clean:
        print("\n".join([*(clean(str(problem)) for problem in report.problems[:50]), report.summary]))
        return
    blobs = f"; {counted(report.blobs, 'blob')}, each the one that its name says" if report.blobs else ""
    messages = f"{counted(report.messages, 'message')} of {counted(report.feeds, 'feed')}"
    print(f"clean: {messages} are as their authors signed them{blobs}")
