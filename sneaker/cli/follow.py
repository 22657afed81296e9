"""follow, unfollow, block and unblock: messages that say so."""

from __future__ import annotations

from sneaker.cli.app import FeedArgument, JsonOption, command, home
from sneaker.cli.publish import WaitOption, print_message, publish_message
from sneaker.limits import PUBLISH_WAIT_S
from sneaker.refs import FeedRef

__all__: list[str] = []


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


def _publish_contact(feed: str, json: bool, wait_s: float, **state: bool) -> None:
    from sneaker.own_feed.publish import contact_content

    contact = FeedRef.parse_classic(feed)
    with home() as opened:
        message = publish_message(opened, contact_content(contact, **state), json, wait_s)
    print_message(message, json)
