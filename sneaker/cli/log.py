"""log: read messages."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import command, home
from sneaker.cli.printing import clean
from sneaker.refs import FeedRef

if TYPE_CHECKING:
    from sneaker.feed.message import Message
    from sneaker.feed.private import Opener

__all__: list[str] = []


@command()
def log(
    feed: Annotated[
        list[str] | None, typer.Option("--feed", metavar="FEED", help="Only this feed; may be given several times.")
    ] = None,
    start: Annotated[int, typer.Option("--from", min=1, metavar="SEQUENCE", help="Begin each feed here.")] = 1,
    limit: Annotated[int | None, typer.Option("--limit", min=0, metavar="N", help="Print at most N messages.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The newest first.")] = False,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only messages of this type: post, vote, ...")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on each line, as createLogStream prints.")
    ] = False,
) -> None:
    """Read messages.

    All feeds are merged by the time their authors give. Private messages to you are decrypted, but not with --json: equal stores print equal logs, and 'sneaker log --json' can be imported by 'sneaker import -'.
    """
    from sneaker.cli.json_output.message_line import message_line
    from sneaker.feed.private import Opener

    feeds = [FeedRef.parse(name) for name in feed] if feed else None
    with home() as opened:
        messages = opened.store.log(feeds=feeds, first=start, kind=kind, limit=limit, reverse=reverse)
        if json:
            out = sys.stdout.buffer
            for message in messages:
                out.write(message_line(message) + b"\n")
            out.flush()
            return
        opener = Opener(opened.keypair)
        for message in messages:
            print(_readable(message, opener))


def _short(feed: FeedRef) -> str:
    """Return the beginning of a feed's key, with what says that it is no classic one."""
    text = str(feed)
    return text[:9] if feed.is_classic else "~" + text.rpartition("/")[2][:8]


def _readable(message: Message, opener: Opener) -> str:
    from sneaker.feed.classic.javascript_json import format_json

    try:
        when = datetime.fromtimestamp(message.timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        when = "at no known time"
    head = f"{when}  {_short(message.author)}  {message.sequence}"
    content = message.content
    if isinstance(content, str):
        content = opener.open(content)
        if not isinstance(content, dict):
            return f"{head}  (private)"
        head += "  (private)"
    kind = content.get("type")
    kind = clean(kind, 52) if isinstance(kind, str) else "of no type"
    text = content.get("text")
    if not isinstance(text, str):
        text = format_json({key: value for key, value in content.items() if key != "type"}, indent=0)
    return f"{head}  {kind}  {clean(text, 160)}"
