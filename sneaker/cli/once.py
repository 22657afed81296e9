"""once: sync with everybody in reach, and exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.peer_options import DiscoveryOption, HopsOption, peer_options, say_refusals, sync_line
from sneaker.cli.printing import Output, clean
from sneaker.cli.watch_run import DoneOnce, sync_sticks_once
from sneaker.errors import ExitCode
from sneaker.home.config import load_config

if TYPE_CHECKING:
    from sneaker.cli.json_output.peers import OnceJson
    from sneaker.net.run_peer import PeerOptions

__all__: list[str] = []


@command()
def once(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Give up what is not done by then.")
    ] = 60.0,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Where peers may dial us meanwhile.", show_default=False),
    ] = None,
    discovery: DiscoveryOption = None,
    connect_to: Annotated[
        list[str] | None,
        typer.Option(
            "--connect", metavar="ADDRESS", help="Sync with this peer too; may be repeated.", show_default=False
        ),
    ] = None,
    hops: HopsOption = None,
    json: JsonOption = False,
) -> int:
    """Sync with everybody in reach, fetch wanted blobs, and exit."""
    options = peer_options(
        load_config(settings.home).peer,
        listen=listen,
        discovery=discovery,
        hops=hops,
        connect_to=connect_to or (),
    )
    output = settings.output(json)
    sticks = sync_sticks_once()
    peers = _sync_peers(options, timeout, output) if sticks is not None else None
    if sticks is None or peers is None:
        return 130
    if json:
        value: OnceJson = {"drives": sticks.value, "peers": peers.value}
        output.print_json(value)
    else:
        print("\n".join([*sticks.lines, *peers.lines]))
    return ExitCode.DONE if sticks.complete and peers.complete else ExitCode.PARTIAL


def _sync_peers(options: PeerOptions, timeout_s: float, output: Output) -> DoneOnce | None:
    """Sync with the peers in reach; None if that was stopped."""
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.cli.json_output.peers import peer_sync_json
    from sneaker.net.sync_with_all import sync_with_all

    with home() as opened:
        reports = run_until_stopped(
            sync_with_all(
                opened, options, remark=lambda text: output.print_remark(clean(text, 300)), timeout_s=timeout_s
            )
        )
    if reports is None:
        return None
    for report in reports:
        say_refusals(output, report)
    return DoneOnce(
        [peer_sync_json(report) for report in reports],
        [sync_line(report) for report in reports] or ["no peer is in reach"],
        all(report.level and not report.counts.refused for report in reports),
    )
