"""status: what is here, and what others are known to have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.printing import clean, counted
from sneaker.clock import VectorClock
from sneaker.sizes import format_size

if TYPE_CHECKING:
    from sneaker.cli.json_output.home import MissingBlob, StatusJson

__all__: list[str] = []

_MOST_PEERS = 20


@command()
def status(
    missing: Annotated[bool, typer.Option("--missing", help="Name the blobs that are mentioned and not here.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what is here, and what others are known to have."""
    from sneaker.planning.what_others_have import counted_on
    from sneaker.stick.layout import base32
    from sneaker.store.blob_ledger import BlobLedger

    with home() as opened:
        counts = opened.store.counts()
        clock = opened.store.clock()
        peers = opened.store.known_clocks.known_peers()
        if not json:
            peers = peers[:_MOST_PEERS]
        known = {peer.ref: counted_on(opened.store.known_clocks.known(peer.ref)) for peer in peers}
        forked = opened.store.forked()
        me = opened.keypair.public
        blobs = opened.blobs.counts()
        links = sorted(BlobLedger(opened.store, opened.blobs).missing_links())
        early = len(opened.blobs.early())
        sticks = opened.store.sticks.sticks()
    if json:
        value: StatusJson = {
            "home": str(opened.path),
            "id": str(me),
            "sequence": clock.get(me, 0),
            "feeds": counts.feeds,
            "messages": counts.messages,
            "waiting": counts.waiting,
            "forked": sorted(map(str, forked)),
            "bytes": counts.bytes,
            "blobs": {"count": blobs.count, "bytes": blobs.bytes, "missing": len(links), "waiting": early},
            "peers": [
                {
                    "id": str(peer.ref),
                    "kind": str(peer.source),
                    "last": peer.met_at_ms or None,
                    "has": _shared(clock, known[peer.ref]),
                }
                for peer in peers
            ],
            "drives": [
                {"id": base32(item.id), "label": item.label, "last": item.visited_at_ms or None} for item in sticks
            ],
        }
        named: list[MissingBlob] = [
            {"blob": str(link.blob), "feed": str(link.feed), "sequence": link.sequence} for link in links
        ]
        settings.output(json).print_json({**value, "missing": named} if missing else value)
        return
    lines = [
        f"home      {opened.path}",
        f"identity  {me}, {counted(clock.get(me, 0), 'message')}",
        f"holds     {counted(counts.messages, 'message')} of {counted(counts.feeds, 'feed')}, {format_size(counts.bytes)}",
    ]
    if blobs.count or links:
        lines.append(
            f"blobs     {counted(blobs.count, 'blob')}, {format_size(blobs.bytes)}; {len(links):,} more are mentioned"
        )
    if early:
        lines.append(f"waiting   {counted(early, 'blob')} that came before the messages that mention them")
    if counts.waiting:
        lines.append(f"waiting   {counted(counts.waiting, 'message')} that came before the ones they follow")
    lines += [f"forked    {feed}" for feed in sorted(forked)]
    for peer in peers:
        has = f"has {_shared(clock, known[peer.ref]):,} of {counted(counts.messages, 'message')}"
        lines.append(f"peer      {peer.ref}  {_when(peer.met_at_ms)}, by {peer.source}; {has}")
    for item in sticks[:20]:
        lines.append(f"stick     {clean(item.label, 40) or base32(item.id)}  {_when(item.visited_at_ms)}")
    if missing:
        lines += [f"missing   {link.blob}, mentioned by {link.feed} {link.sequence}" for link in links]
    print("\n".join(lines))


def _shared(ours: VectorClock, theirs: VectorClock) -> int:
    """Return how many of the messages that we hold another machine has."""
    return sum(min(last, ours.get(feed, 0)) for feed, last in theirs.items())


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if time_ms else "never met"
