"""publish, follow, unfollow, block, unblock and log."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from sneaker.cli.app import FeedArgument, JsonOption, command, home, now_ms
from sneaker.cli.show import clean
from sneaker.config import default_memory
from sneaker.errors import InvalidMessage, SourceError, UsageError
from sneaker.limits import MAX_MESSAGE_BYTES
from sneaker.refs import FeedRef

if TYPE_CHECKING:
    from sneaker.feed.message import Message
    from sneaker.private import Opener

__all__: list[str] = []


def message_line(message: Message) -> bytes:
    """Return a message as ``createLogStream`` prints it: key, value and timestamp, compact.

    The timestamp is the author's, so that equal stores print equal logs, whenever each machine got its messages.
    """
    from sneaker.feed.canonical import format_json, parse_json

    try:
        value = orjson.loads(message.text)
        compact = orjson.dumps(value)
        if orjson.dumps(value, option=orjson.OPT_INDENT_2) != message.text:
            raise ValueError("printed otherwise")
    except (ValueError, TypeError):
        compact = format_json(parse_json(message.text), indent=0).encode("utf-8")
    timestamp = message.timestamp
    shown = format_json(timestamp, indent=0) if isinstance(timestamp, int | float) else "null"
    return b'{"key":"%b","value":%b,"timestamp":%b}' % (str(message.key).encode(), compact, shown.encode())


def _print_message(message: Message, json: bool) -> None:
    if json:
        print(message_line(message).decode("utf-8"))
    else:
        print(str(message.key))


def _read_content(text: str | None, content: str | None) -> dict[str, Any]:
    from sneaker.feed.canonical import parse_json

    if (text is None) == (content is None):
        raise UsageError("publish takes either a text or --content")
    if content is None:
        return {"type": "post", "text": text}
    raw: str | bytes = content
    if content == "-":
        raw = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    elif content.startswith("@"):
        try:
            with Path(content[1:]).open("rb") as file:
                raw = file.read(MAX_MESSAGE_BYTES + 1)
        except OSError as error:
            raise SourceError(f"cannot read {content[1:]}: {error.strerror}") from None
    try:
        parsed = parse_json(raw)
    except InvalidMessage:
        raise UsageError("the content is not JSON") from None
    if not isinstance(parsed, dict):
        raise UsageError("the content is not a JSON object")
    return parsed


@command()
def publish(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="The text of a post.", show_default=False)
    ] = None,
    content: Annotated[
        str | None,
        typer.Option("--content", metavar="JSON|@FILE|-", help="A whole content object, with a type of its own."),
    ] = None,
    private_to: Annotated[
        list[str] | None,
        typer.Option("--private-to", metavar="FEED", help="Encrypt to this feed; may be given up to six times."),
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option("--attach", metavar="FILE", help="Attach a file as a blob, and link to it; may be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Append a message to your own feed.

    A plain TEXT becomes a post. Nothing is published if others have seen more of your feed than this machine holds, or if this
    home was adopted, copied or restored and you have not said which message was your last, because that could fork the feed:
    see 'sneaker doctor'.
    """
    from sneaker.exchange.attachments import attach_files
    from sneaker.exchange.publish import publish as publish_content
    from sneaker.exchange.standing import Standing

    body = _read_content(text if text is not None or not attach or content is not None else "", content)
    recipients = [FeedRef.parse(feed) for feed in private_to or ()]
    with home() as opened:
        if attach:
            body = attach_files(opened.blobs, attach, body)
        message = publish_content(
            opened.store,
            opened.keypair,
            opened.caps,
            body,
            now_ms=now_ms,
            private_to=recipients,
            random_bytes=os.urandom,
            standing=Standing(opened, default_memory()),
        )
    _print_message(message, json)


def _publish_contact(feed: str, json: bool, **state: bool) -> None:
    from sneaker.exchange.publish import contact_content, publish
    from sneaker.exchange.standing import Standing

    contact = FeedRef.parse(feed)
    with home() as opened:
        message = publish(
            opened.store,
            opened.keypair,
            opened.caps,
            contact_content(contact, **state),
            now_ms=now_ms,
            random_bytes=os.urandom,
            standing=Standing(opened, default_memory()),
        )
    _print_message(message, json)


@command()
def follow(feed: FeedArgument, json: JsonOption = False) -> None:
    """Follow a feed: publish a contact message that says so."""
    _publish_contact(feed, json, following=True, blocking=False)


@command()
def unfollow(feed: FeedArgument, json: JsonOption = False) -> None:
    """Stop following a feed; what is here of it stays."""
    _publish_contact(feed, json, following=False, blocking=False)


@command()
def block(feed: FeedArgument, json: JsonOption = False) -> None:
    """Block a feed: nothing more is taken of it or given to it."""
    _publish_contact(feed, json, following=False, blocking=True)


@command()
def unblock(feed: FeedArgument, json: JsonOption = False) -> None:
    """Take a block back."""
    _publish_contact(feed, json, blocking=False)


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
    from sneaker.private import Opener

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


def _readable(message: Message, opener: Opener) -> str:
    from sneaker.feed.canonical import format_json

    try:
        when = datetime.fromtimestamp(message.timestamp / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        when = "at no known time"
    head = f"{when}  {str(message.author)[:9]}  {message.sequence}"
    content = message.content
    if isinstance(content, str):
        content = opener.open(content)
        if not isinstance(content, dict):
            return f"{head}  (private)"
        head += "  (private)"
    kind = clean(str(content.get("type")), 52)
    text = content.get("text")
    if not isinstance(text, str):
        text = format_json({key: value for key, value in content.items() if key != "type"}, indent=0)
    return f"{head}  {kind}  {clean(text, 160)}"
