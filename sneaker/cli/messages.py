"""publish, follow, unfollow, block, unblock and log."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer

from sneaker.cli.app import FeedArgument, JsonOption, command, home, now_ms, settings
from sneaker.cli.environment import default_memory
from sneaker.cli.printing import clean, warn_if_forgetful
from sneaker.errors import PublishUnsafe, UsageError
from sneaker.escaping import escaped_json
from sneaker.limits import MAX_JSON_LINE_BYTES, PUBLISH_WAIT_S
from sneaker.refs import FeedRef

if TYPE_CHECKING:
    from sneaker.feed.classic.message import Message
    from sneaker.feed.private import Opener
    from sneaker.home.home import Home
    from sneaker.own_feed.attachments import Attachments

__all__: list[str] = []

WaitOption = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait if another sneaker is writing.")
]


def message_line(message: Message) -> bytes:
    """Return a message as ``createLogStream`` prints it: key, value and timestamp, compact.

    The timestamp is the author's, so that equal stores print equal logs, whenever each machine got its messages.
    """
    from sneaker.feed.classic.canonical import format_json, parse_json

    try:
        value = orjson.loads(message.text)
        compact = orjson.dumps(value)
        if orjson.dumps(value, option=orjson.OPT_INDENT_2) != message.text:
            raise ValueError("printed otherwise")
    except (ValueError, TypeError):
        compact = format_json(parse_json(message.text), indent=0).encode("utf-8")
    timestamp = message.timestamp
    shown = format_json(timestamp, indent=0) if isinstance(timestamp, int | float) else "null"
    line = b'{"key":"%b","value":%b,"timestamp":%b}' % (str(message.key).encode(), compact, shown.encode())
    return escaped_json(line)


def _print_message(message: Message, json: bool) -> None:
    if json:
        print(message_line(message).decode("utf-8"))
    else:
        print(str(message.key))


def _read_content(text: str | None, content: str | None) -> dict[str, Any]:
    from sneaker.own_feed.draft import parse_draft, read_text
    from sneaker.transfer.sources import Source, open_source

    if (text is None) == (content is None):
        raise UsageError("publish takes either a text or --content")
    if content is None:
        return {"type": "post", "text": read_text(_read_stdin()) if text == "-" else text}
    if content == "-":
        return parse_draft(_read_stdin())
    if not content.startswith("@"):
        return parse_draft(content)
    with open_source(Source(content[1:], Path(content[1:])), sys.stdin.buffer) as file:
        return parse_draft(_read_some(file, content[1:]))


def _read_stdin() -> bytes:
    return _read_some(sys.stdin.buffer, "standard input")


def _read_some(file: BinaryIO, name: str) -> bytes:
    """Return all that the file has; raises PublishUnsafe if it is more than fits into a message."""
    from sneaker.transfer.sources import source_errors

    parts = []
    left = MAX_JSON_LINE_BYTES + 1
    try:
        while left > 0 and (data := file.read(left)):
            parts.append(data)
            left -= len(data)
    except OSError as error:
        raise source_errors(name, error) from None
    if left <= 0:
        raise PublishUnsafe(f"{name} has more in it than any message takes", hint="attach it as a file: --attach FILE")
    return b"".join(parts)


@command()
def publish(
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]", help="The text of a post, in quotes; - reads it from standard input.", show_default=False
        ),
    ] = None,
    content: Annotated[
        str | None,
        typer.Option(
            "--content",
            metavar="JSON|@FILE|-",
            help="A whole content object, with a type of its own; recps in it encrypt it.",
        ),
    ] = None,
    private_to: Annotated[
        list[str] | None,
        typer.Option(
            "--private-to", metavar="FEED", help="Encrypt to this feed and to you; may be given up to six times."
        ),
    ] = None,
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            metavar="FILE",
            help="Attach a file as a blob, which anybody can read, and link to it; may be repeated.",
        ),
    ] = None,
    wait: WaitOption = PUBLISH_WAIT_S,
    json: JsonOption = False,
) -> None:
    """Append a message to your own feed.

    TEXT becomes a post. A private message names its readers in 'recps', and all of them see that list. Nothing is published
    if others have seen more of your feed than this machine holds, or if this home was adopted, copied or restored and you
    have not said which message was your last, because that could fork the feed: see 'sneaker doctor'.
    """
    from sneaker.feed.classic.canonical import format_json
    from sneaker.feed.content import find_blobs
    from sneaker.own_feed.attachments import read_attachments

    if text is not None and len(text) > 1:
        raise UsageError(
            "the text has to be one argument", hint=f'put it in quotes: sneaker publish "{" ".join(text)}"'
        )
    given = text[0] if text else "" if attach and content is None else None
    body = _read_content(given, content)
    recipients = [FeedRef.parse(feed) for feed in private_to or ()]
    with home() as opened:
        attachments = read_attachments(opened, attach) if attach else None
        message = _publish(opened, body, json, wait, recipients, attachments)
        for blob in find_blobs(format_json(body).encode()):
            if not opened.blobs.has(blob):
                settings.output(json).say(f"note: {blob} is not on this machine, so nobody can get it from here")
    _print_message(message, json)


def _publish_contact(feed: str, json: bool, wait_s: float, **state: bool) -> None:
    from sneaker.own_feed.publish import contact_content

    contact = FeedRef.parse(feed)
    with home() as opened:
        message = _publish(opened, contact_content(contact, **state), json, wait_s)
    _print_message(message, json)


def _publish(
    opened: Home,
    content: dict[str, Any],
    json: bool,
    wait_s: float,
    private_to: Sequence[FeedRef] = (),
    attachments: Attachments | None = None,
) -> Message:
    from sneaker.own_feed.fork_guard import Standing
    from sneaker.own_feed.publish import publish

    def on_wait() -> None:
        settings.output(json).say(f"another sneaker is writing to the store; waiting up to {wait_s:g} s for it")

    standing = Standing(opened, default_memory())
    message = publish(
        opened.store,
        opened.keypair,
        opened.caps,
        content,
        now_ms=now_ms,
        attachments=attachments,
        private_to=private_to,
        random_bytes=os.urandom,
        standing=standing,
        wait_s=wait_s,
        on_wait=on_wait,
    )
    warn_if_forgetful(standing.forgetful)
    return message


@command()
def follow(feed: FeedArgument, wait: WaitOption = PUBLISH_WAIT_S, json: JsonOption = False) -> None:
    """Follow a feed: publish a contact message that says so."""
    _publish_contact(feed, json, wait, following=True, blocking=False)


@command()
def unfollow(feed: FeedArgument, wait: WaitOption = PUBLISH_WAIT_S, json: JsonOption = False) -> None:
    """Stop following a feed; what is here of it stays."""
    _publish_contact(feed, json, wait, following=False, blocking=False)


@command()
def block(feed: FeedArgument, wait: WaitOption = PUBLISH_WAIT_S, json: JsonOption = False) -> None:
    """Block a feed: nothing more is taken of it or given to it."""
    _publish_contact(feed, json, wait, following=False, blocking=True)


@command()
def unblock(feed: FeedArgument, wait: WaitOption = PUBLISH_WAIT_S, json: JsonOption = False) -> None:
    """Take a block back."""
    _publish_contact(feed, json, wait, blocking=False)


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


def _readable(message: Message, opener: Opener) -> str:
    from sneaker.feed.classic.canonical import format_json

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
    kind = content.get("type")
    kind = clean(kind, 52) if isinstance(kind, str) else "of no type"
    text = content.get("text")
    if not isinstance(text, str):
        text = format_json({key: value for key, value in content.items() if key != "type"}, indent=0)
    return f"{head}  {kind}  {clean(text, 160)}"
