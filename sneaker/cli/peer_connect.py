"""peer, connect, call and once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.printing import Output, clean, counted
from sneaker.errors import ExitCode, UsageError
from sneaker.home.config import load_config

if TYPE_CHECKING:
    from sneaker.home.config import PeerSettings
    from sneaker.net.meeting import Tally
    from sneaker.net.service import PeerOptions, SyncReport

__all__ = ["TO_DO_ONCE", "Done", "Once", "peer_options", "peer_service"]

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
    from sneaker.net.server import parse_listen
    from sneaker.net.service import PeerOptions
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


async def peer_service(say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Run the peer of this home as its settings say, until this is cancelled: for 'run'.

    ``warn`` is told what a person has to know, ``say`` the rest.
    """
    from sneaker.net.service import serve

    options = peer_options(load_config(settings.home).peer)
    with home() as opened:
        await serve(opened, options, say=lambda text: say(clean(text, 300)), warn=warn)


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
    from sneaker.net.service import serve

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
        run_until_stopped(serve(opened, options, say=lambda text: output.say(clean(text, 300)), ready=ready))


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
    from sneaker.net.service import connect as connect_to
    from sneaker.wire.address import parse_address

    target = parse_address(address)
    output = settings.output(json)
    with home() as opened, output.progress(None, "syncing", " messages") as advance:
        report = run_until_stopped(
            connect_to(
                opened,
                target,
                say=lambda text: output.say(clean(text, 300)),
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
    complete = (report.level or live) and not report.tally.refused
    return ExitCode.DONE if complete else ExitCode.PARTIAL


def _progress(advance: Callable[[int], None]) -> Callable[[Tally], None]:
    shown = 0

    def show(tally: Tally) -> None:
        nonlocal shown
        done = tally.received + tally.known + tally.sent
        advance(done - shown)
        shown = done

    return show


def _sync_line(report: SyncReport) -> str:
    tally = report.tally
    parts = [f"{counted(tally.received, 'message')} received", f"{tally.sent:,} sent"]
    if tally.refused:
        parts.append(f"{tally.refused:,} refused")
    if tally.blobs_received or tally.blobs_sent:
        parts.append(f"{counted(tally.blobs_received, 'blob')} received, {tally.blobs_sent:,} sent")
    state = "both sides are level" if report.level else f"not level: {clean(report.detail, 200)}"
    return f"{report.peer}: {', '.join(parts)}; {state}"


def _say_refusals(output: Output, report: SyncReport) -> None:
    for feed, sequence, reason in report.tally.refusals[:10]:
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


def _meet_peers(asked: Once) -> Done | None:
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.cli.json_output.peers import peer_sync_json
    from sneaker.net.service import meet_all

    output = asked.output
    with home() as opened:
        reports = run_until_stopped(
            meet_all(opened, asked.peers, say=lambda text: output.say(clean(text, 300)), timeout_s=asked.timeout_s)
        )
    if reports is None:
        return None
    for report in reports:
        _say_refusals(output, report)
    return Done(
        [peer_sync_json(report) for report in reports],
        [_sync_line(report) for report in reports] or ["no peer is in reach"],
        all(report.level and not report.tally.refused for report in reports),
    )


#: What 'once' does, in this order: the name in ``--json``, and a function that returns None if it was stopped.
TO_DO_ONCE: list[tuple[str, Callable[[Once], Done | None]]] = [("peers", _meet_peers)]


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
    from sneaker.net.calling import call_peer
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
