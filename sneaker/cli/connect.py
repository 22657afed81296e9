"""connect: sync with one peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.peer_options import AddressArgument, HopsOption, say_refusals, sync_line
from sneaker.cli.printing import clean
from sneaker.errors import ExitCode
from sneaker.home.config import load_config

if TYPE_CHECKING:
    from sneaker.net.transfer_counts import TransferCounts

__all__: list[str] = []


@command()
def connect(
    address: AddressArgument,
    live: Annotated[
        bool, typer.Option("--live", help="Stay connected until the peer goes or this is stopped.")
    ] = False,
    hops: HopsOption = None,
    json: JsonOption = False,
) -> int:
    """Sync with one peer until both sides are level, then exit."""
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.net.sync_with_peer import sync_with_peer
    from sneaker.wire.address import parse_address

    target = parse_address(address)
    output = settings.output(json)
    with home() as opened, output.progress(None, "syncing", " messages") as advance:
        report = run_until_stopped(
            sync_with_peer(
                opened,
                target,
                remark=lambda text: output.print_remark(clean(text, 300)),
                hops=load_config(settings.home).peer.hops if hops is None else hops,
                live=live,
                progress=_progress(advance),
            )
        )
    if report is None:
        return 130
    if json:
        from sneaker.cli.json_output.peers import peer_sync_json

        output.print_json(peer_sync_json(report))
    else:
        print(sync_line(report))
    say_refusals(output, report)
    complete = (report.level or live) and not report.counts.refused
    return ExitCode.DONE if complete else ExitCode.PARTIAL


def _progress(advance: Callable[[int], None]) -> Callable[[TransferCounts], None]:
    shown = 0

    def show(counts: TransferCounts) -> None:
        nonlocal shown
        done = counts.received + counts.known + counts.sent
        advance(done - shown)
        shown = done

    return show
