"""What peer, connect, once and run share: their options, and the words for what came of a peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.printing import Output, clean, counted

if TYPE_CHECKING:
    from sneaker.home.config import PeerSettings
    from sneaker.net.run_peer import PeerOptions
    from sneaker.net.sync_with_peer import SyncReport

__all__ = ["AddressArgument", "DiscoveryOption", "HopsOption", "peer_options", "say_refusals", "sync_line"]

HopsOption = Annotated[
    int | None,
    typer.Option(
        "--hops",
        metavar="N",
        min=0,
        help="Replicate feeds up to this distance in the follow graph. [default: as in the settings]",
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


def sync_line(report: SyncReport) -> str:
    """Return what came of one peer, for people."""
    counts = report.counts
    parts = [f"{counted(counts.received, 'message')} received", f"{counts.sent:,} sent"]
    if counts.refused:
        parts.append(f"{counts.refused:,} refused")
    if counts.blobs_received or counts.blobs_sent:
        parts.append(f"{counted(counts.blobs_received, 'blob')} received, {counts.blobs_sent:,} sent")
    state = "both sides are level" if report.level else f"not level: {clean(report.detail, 200)}"
    return f"{report.peer}: {', '.join(parts)}; {state}"


def say_refusals(output: Output, report: SyncReport) -> None:
    """Name the first messages that were refused."""
    for feed, sequence, reason in report.counts.refusals[:10]:
        output.print_remark(f"refused   message {sequence} of {feed}: {clean(reason, 200)}")
