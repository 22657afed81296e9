"""peer, connect, call and once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sneaker.bugs import what_went_wrong
from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.printing import Output, clean, counted
from sneaker.errors import ExitCode, UsageError
from sneaker.home.config import load_config

if TYPE_CHECKING:
    from sneaker.home.config import PeerSettings
    from sneaker.net.run_peer import PeerOptions
    from sneaker.net.sync_with_peer import SyncReport
    from sneaker.net.transfer_counts import TransferCounts

__all__ = ["TO_DO_ONCE", "Done", "Once", "peer_options", "run_peer_service"]

HopsOption = Annotated[
    int | None,
    typer.Option(
        "--hops",
        metavar="N",
        min=0,
        help="Replicate feeds up to this distance in the follow graph. [default: 2, or as in the settings]",
        show_default=False,
    ),
]
DiscoveryOption = Annotated[
    bool | None,
    typer.Option("--discovery/--no-discovery", help="Find peers on the LAN, and be found.", show_default=False),
]
AddressArgument = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="net:HOST:PORT~shs:KEY, or HOST:PORT:@KEY.ed25519.")
]


def peer_options(
    config: PeerSettings,
    *,
    listen: str | None = None,
    discovery: bool | None = None,
    hops: int | None = None,
    connect_to: Sequence[str] = (),
) -> PeerOptions:
    """Return the options of a peer from the settings and what was typed; raises AddressError, NetworkError."""
    from sneaker.net.run_peer import PeerOptions
    from sneaker.net.transports.tcp import parse_listen
    from sneaker.wire.address import parse_address

    where = listen if listen is not None else config.listen
    host, port = parse_listen(where) if where is not None else ("", None)
    return PeerOptions(
        host,
        port,
        config.discovery if discovery is None else discovery,
        config.hops if hops is None else hops,
        [parse_address(text) for text in (*config.connect, *connect_to)],
    )


async def run_peer_service(say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Run the peer of this home as its settings say, until this is cancelled: for 'run'.

    A network that is not there, or a port, must not keep sticks from being synced: ``say`` is told, and ``warn`` what a
    person has to know.
    """
    from sneaker.cli.event_loop import AGAIN_S
    from sneaker.net.run_peer import run_peer

    try:
        options = peer_options(load_config(settings.home).peer)
        with home() as opened:
            await run_peer(opened, options, remark=lambda text: say(clean(text, 300)), warn=warn)
    except Exception as error:
        say(f"the peer does not run: {clean(what_went_wrong(error), 300)}; trying again in {AGAIN_S} s")


@command()
def peer(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where to listen. [default: all interfaces, port 8008]",
            show_default=False,
        ),
    ] = None,
    discovery: DiscoveryOption = None,
    connect_to: Annotated[
        list[str] | None,
        typer.Option(
            "--connect", metavar="ADDRESS", help="Stay connected to this peer; may be repeated.", show_default=False
        ),
    ] = None,
    hops: HopsOption = None,
) -> None:
    """Run the LAN peer: a normal SSB peer for other programs.

    It runs until it is stopped. Prints its addresses, one to a line, when it is ready.
    """
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.net.run_peer import run_peer

    options = peer_options(
        load_config(settings.home).peer,
        listen=listen,
        discovery=discovery,
        hops=hops,
        connect_to=connect_to or (),
    )
    output = settings.output()

    def ready(addresses: Any) -> None:
        for address in addresses:
            print(address, flush=True)

    with home() as opened:
        run_until_stopped(run_peer(opened, options, remark=lambda text: output.say(clean(text, 300)), ready=ready))


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
                remark=lambda text: output.say(clean(text, 300)),
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
        print(_sync_line(report))
    _say_refusals(output, report)
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


def _sync_line(report: SyncReport) -> str:
    counts = report.counts
    parts = [f"{counted(counts.received, 'message')} received", f"{counts.sent:,} sent"]
    if counts.refused:
        parts.append(f"{counts.refused:,} refused")
    if counts.blobs_received or counts.blobs_sent:
        parts.append(f"{counted(counts.blobs_received, 'blob')} received, {counts.blobs_sent:,} sent")
    state = "both sides are level" if report.level else f"not level: {clean(report.detail, 200)}"
    return f"{report.peer}: {', '.join(parts)}; {state}"


def _say_refusals(output: Output, report: SyncReport) -> None:
    for feed, sequence, reason in report.counts.refusals[:10]:
        output.say(f"refused   message {sequence} of {feed}: {clean(reason, 200)}")


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
    value: dict[str, Any] = {}
    lines: list[str] = []
    complete = True
    for name, thing in TO_DO_ONCE:
        done = thing(Once(options, timeout, output))
        if done is None:
            return 130
        value[name] = done.value
        lines += done.lines
        complete = complete and done.complete
    if json:
        output.print_json(value)
    elif lines:
        print("\n".join(lines))
    return ExitCode.DONE if complete else ExitCode.PARTIAL


@dataclass(frozen=True, slots=True)
class Once:
    """What 'once' was asked for."""

    peers: PeerOptions
    timeout_s: float
    output: Output


@dataclass(frozen=True, slots=True)
class Done:
    """What came of one thing that 'once' does: for ``--json``, for people, and whether all of it worked."""

    value: Any
    lines: list[str]
    complete: bool


def _sync_peers(asked: Once) -> Done | None:
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.cli.json_output.peers import peer_sync_json
    from sneaker.net.sync_with_all import sync_with_all

    output = asked.output
    with home() as opened:
        reports = run_until_stopped(
            sync_with_all(
                opened, asked.peers, remark=lambda text: output.say(clean(text, 300)), timeout_s=asked.timeout_s
            )
        )
    if reports is None:
        return None
    for report in reports:
        _say_refusals(output, report)
    return Done(
        [peer_sync_json(report) for report in reports],
        [_sync_line(report) for report in reports] or ["no peer is in reach"],
        all(report.level and not report.counts.refused for report in reports),
    )


#: What 'once' does, in this order: the name in ``--json``, and a function that returns None if it was stopped.
TO_DO_ONCE: list[tuple[str, Callable[[Once], Done | None]]] = [("peers", _sync_peers)]


@command()
def call(
    address: AddressArgument,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The name, for example blobs.has.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]", help="Each as JSON, or as it is if it is not JSON.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="async|source", help="Default: what the peer's manifest says.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Stop a source after N items.")
    ] = None,
) -> int:
    """Call a method of a peer and print what it answers.

    That is JSON: one line, or a line for each item of a source.
    """
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.net.call_peer import call_peer
    from sneaker.wire.address import parse_address
    from sneaker.wire.muxrpc.calls import CallKind

    if kind is not None and kind not in (CallKind.ASYNC, CallKind.SOURCE):
        raise UsageError(f"a call of type {clean(kind, 20)!r} cannot be made from here", hint="use async or source")
    target = parse_address(address)
    out = sys.stdout.buffer

    def write(data: bytes) -> None:
        if sys.stdout.isatty():  # what is binary may be anything
            sys.stdout.write(data.decode("utf-8", "replace"))
        else:
            out.write(data)
        sys.stdout.flush()

    with home() as opened:
        done = run_until_stopped(
            call_peer(
                opened,
                target,
                method,
                arguments or [],
                write,
                kind=CallKind(kind) if kind is not None else None,
                limit=limit,
            )
        )
    return ExitCode.DONE if done else 130
