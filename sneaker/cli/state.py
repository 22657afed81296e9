"""status, clock and check."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sneaker.cli.app import JsonOption, command, home, now_ms, settings
from sneaker.cli.printing import clean, counted
from sneaker.errors import ExitCode, StoreDamaged
from sneaker.sizes import format_size

__all__: list[str] = []

_BEYOND_REPAIR_HINT = "restore a backup of the home, or move its store.sqlite away and import everything again"


@command()
def status(
    missing: Annotated[bool, typer.Option("--missing", help="Name the blobs that are mentioned and not here.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what is here, and what others are known to have."""
    from sneaker.stick.layout import base32
    from sneaker.stick.own_card import missing_blobs

    with home() as opened:
        counts = opened.store.counts()
        clock = opened.store.clock()
        peers = opened.store.peers.known_peers()
        forked = opened.store.forked()
        me = opened.keypair.public
        blobs = opened.blobs.counts()
        links = missing_blobs(opened)
        early = len(opened.blobs.early())
        sticks = opened.store.sticks.sticks()
        value = {
            "home": str(opened.path),
            "id": str(me),
            "sequence": clock.get(me, 0),
            "feeds": counts.feeds,
            "messages": counts.messages,
            "waiting": counts.waiting,
            "forked": sorted(map(str, forked)),
            "bytes": counts.bytes,
            "blobs": {"count": blobs.count, "bytes": blobs.bytes, "missing": len(links), "waiting": early},
            "peers": [{"id": str(peer.ref), "kind": str(peer.kind), "last": peer.met_at_ms or None} for peer in peers],
            "drives": [
                {"id": base32(item.id), "label": item.label, "last": item.visited_at_ms or None} for item in sticks
            ],
        }
    if missing:
        value["missing"] = [
            {"blob": str(link.blob), "feed": str(link.feed), "sequence": link.sequence} for link in links.values()
        ]
    output = settings.output(json)
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
    for peer in peers[:20]:
        when = _when(peer.met_at_ms)
        lines.append(f"peer      {peer.ref}  {when}, by {peer.kind}")
    for item in sticks[:20]:
        lines.append(f"stick     {clean(item.label, 40) or base32(item.id)}  {_when(item.visited_at_ms)}")
    if missing:
        lines += [f"missing   {link.blob}, mentioned by {link.feed} {link.sequence}" for link in links.values()]
    output.data(value, "\n".join(lines))


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if time_ms else "never met"


@command()
def clock(
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="Write a signed card: give it to who exports for you."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help='Print {"feed": sequence, ...}.')] = False,
) -> None:
    """Print the own clock: of each feed the last message held.

    Another machine needs it to write only what you lack: 'sneaker export DEST --for FILE'.
    """
    from sneaker.stick.own_card import write_card

    output = settings.output(json)
    with home() as opened:
        held = opened.store.clock()
        if card is not None:
            write_card(card, opened, now_ms=now_ms())
            output.say(f"wrote {card}: {counted(len(held), 'feed')}")
    if json or card is None:
        ordered = held.as_json()
        output.data(ordered, "\n".join(f"{feed}  {sequence}" for feed, sequence in ordered.items()) or None)


@contextlib.contextmanager
def _beyond_repair() -> Iterator[None]:
    """Say what is left to do where a repair itself cannot read the store: not the command that was just run."""
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
        with contextlib.suppress(StoreDamaged):  # it is only for the bar: what is damaged is told by the check
            total = opened.store.counts().messages
        with output.progress(total, "checking", " messages") as progress:
            report = check_store(opened.store, caps=opened.caps, repair=repair, progress=progress)
        if repair and report.file_damaged:
            with output.progress(total, "rebuilding", " messages") as progress:
                rebuilt = rebuild(opened.store, caps=opened.caps, now_ms=now_ms, progress=progress)
            report.repaired = True
            report.removed = max(0, rebuilt.before - rebuilt.messages)
            output.say(f"the damaged file is kept at {rebuilt.kept}")
        report.blobs = sum(1 for _ in opened.blobs)
        with output.progress(report.blobs, "checking", " blobs") as progress:
            for problem in check_blobs(opened.blobs, repair=repair, now_ms=now_ms(), progress=progress):
                report.add(problem)
                report.repaired = repair
    value = report.as_json()
    if report.clean:
        text = f"clean: {counted(report.messages, 'message')} of {counted(report.feeds, 'feed')} are as their authors signed them"
        if report.blobs:
            text += f"; {counted(report.blobs, 'blob')}, each the one that its name says"
    else:
        text = "\n".join([*(clean(str(problem)) for problem in report.problems[:50]), report.summary])
    output.data(value, text)
    return ExitCode.DONE if report.clean or report.repaired else ExitCode.PARTIAL
