"""publish: append to the own feed; what the other commands that publish use, too."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from sneaker.cli.app import JsonOption, command, home, now_ms, settings
from sneaker.cli.environment import default_memory
from sneaker.cli.printing import warn_of_memory_problem
from sneaker.errors import PublishUnsafe, UsageError
from sneaker.limits import MAX_JSON_LINE_BYTES, PUBLISH_WAIT_S
from sneaker.refs import FeedRef

if TYPE_CHECKING:
    from sneaker.feed.message import Message
    from sneaker.home.home import Home
    from sneaker.own_feed.attachments import Attachments

__all__ = ["WaitOption", "print_message", "publish_message"]

WaitOption = Annotated[
    float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait if another sneaker is writing.")
]


def print_message(message: Message, json: bool) -> None:
    """Print a message that was published."""
    from sneaker.cli.json_output.message_line import message_line

    if json:
        print(message_line(message).decode("utf-8"))
    else:
        print(str(message.key))


def _read_content(text: str | None, content: str | None) -> dict[str, Any]:
    from sneaker.files.read_file import open_for_reading
    from sneaker.own_feed.draft import parse_draft, read_text

    if (text is None) == (content is None):
        raise UsageError("publish takes either a text or --content")
    if content is None:
        return {"type": "post", "text": read_text(_read_stdin()) if text == "-" else text}
    if content == "-":
        return parse_draft(_read_stdin())
    if not content.startswith("@"):
        return parse_draft(content)
    with open_for_reading(Path(content[1:]), content[1:]) as file:
        return parse_draft(_read_some(file, content[1:]))


def _read_stdin() -> bytes:
    from sneaker.files.read_file import wait_for_data

    return _read_some(wait_for_data(sys.stdin.buffer), "standard input")


def _read_some(file: BinaryIO, name: str) -> bytes:
    """Return all there is; raises PublishUnsafe if it is more than any message takes."""
    from sneaker.files.read_file import reading_error

    parts = []
    left = MAX_JSON_LINE_BYTES + 1
    try:
        while left > 0 and (data := file.read(left)):
            parts.append(data)
            left -= len(data)
    except OSError as error:
        raise reading_error(name, error) from None
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

    A plain TEXT becomes a post. What is private says in 'recps' who can read it, and all of them see that. Nothing is published if others have seen more of your feed than this machine holds, or if this
    home was adopted, copied or restored and you have not said which message was your last, because that could fork the feed:
    see 'sneaker doctor'.
    """
    from sneaker.feed.classic.javascript_json import format_json
    from sneaker.feed.content import find_blobs
    from sneaker.own_feed.attachments import read_attachments

    if text is not None and len(text) > 1:
        raise UsageError(
            "the text has to be one argument", hint=f'put it in quotes: sneaker publish "{" ".join(text)}"'
        )
    given = text[0] if text else "" if attach and content is None else None
    body = _read_content(given, content)
    recipients = [FeedRef.parse_classic(feed) for feed in private_to or ()]
    with home() as opened:
        attachments = read_attachments(opened, attach) if attach else None
        message = publish_message(opened, body, json, wait, recipients, attachments)
        for blob in find_blobs(format_json(body).encode()):
            if not opened.blobs.has(blob):
                settings.output(json).print_remark(
                    f"note: {blob} is not on this machine, so nobody can get it from here"
                )
    print_message(message, json)


def publish_message(
    opened: Home,
    content: dict[str, Any],
    json: bool,
    wait_s: float,
    private_to: Sequence[FeedRef] = (),
    attachments: Attachments | None = None,
) -> Message:
    """Append to the own feed, and say on stderr what that waits for."""
    from sneaker.own_feed.fork_guard import ForkGuard
    from sneaker.own_feed.publish import publish

    def on_wait() -> None:
        settings.output(json).print_remark(
            f"another sneaker is writing to the store; waiting up to {wait_s:g} s for it"
        )

    guard = ForkGuard(opened, default_memory())
    message = publish(
        opened.store,
        opened.keypair,
        opened.caps,
        content,
        now_ms=now_ms,
        attachments=attachments,
        private_to=private_to,
        random_bytes=os.urandom,
        guard=guard,
        wait_s=wait_s,
        on_wait=on_wait,
    )
    warn_of_memory_problem(guard.memory.problem)
    return message
