"""Publish: append to the own feed, and never fork it.

A fork happens when a machine writes message n although the world has seen another n: after a restored backup, or with
the same key on two machines.  So nothing is published while anybody has shown or claimed more of the own feed than we
hold (``Store.own_sequence_seen``), or while the home itself does not look like the one that published last (``fork_guard``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from sneaker.caps import Caps
from sneaker.errors import PublishUnsafe, SneakerError
from sneaker.feed.classic.message import check_publish_safe, create_message
from sneaker.feed.message import Content, Message
from sneaker.feed.private import box
from sneaker.home.secret_guard import check_content
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.limits import PUBLISH_WAIT_S
from sneaker.own_feed.attachments import Attachments
from sneaker.own_feed.draft import check_meaning
from sneaker.own_feed.fork_guard import ForkGuard, check_may_publish
from sneaker.own_feed.recipients import find_recipients
from sneaker.refs import FeedRef
from sneaker.store.store import Store

__all__ = ["contact_content", "publish"]


def publish(
    store: Store,
    keypair: Keypair,
    caps: Caps,
    content: dict[str, Any],
    *,
    now_ms: Callable[[], int],
    attachments: Attachments | None = None,
    private_to: Sequence[FeedRef] = (),
    random_bytes: Callable[[int], bytes],
    guard: ForkGuard | None = None,
    wait_s: float = PUBLISH_WAIT_S,
    on_wait: Callable[[], None] | None = None,
) -> Message:
    """Append ``content`` to the own feed and return the message once it is on the disk.

    With ``private_to``, or ``recps`` in the content, it is encrypted to these feeds and to ourselves (private-box), and
    ``recps`` in it names them all, so that programs can show who reads along and answer everybody.  ``attachments`` are
    linked to, and stored once nothing forbids the message.  Raises PublishUnsafe for what other programs would refuse or
    read otherwise and for what would give away more than one means, ForkError if the own feed has been seen further on or,
    with ``guard``, may go on elsewhere, and StoreError: StoreLocked if others write for more than ``wait_s`` seconds.
    ``on_wait`` is called once if it has to wait for long.
    """
    readers = find_recipients(content, private_to, keypair.public)
    if attachments is not None:
        if readers:
            raise PublishUnsafe(
                "attached files are not encrypted: anybody could read them, though the message is private",
                hint="leave --attach out, and give them the file in another way",
            )
        content = attachments.linked_from(content)
    if readers:
        content = {**content, "recps": [str(reader) for reader in readers]}
    check_meaning(content, keypair.public)
    check_publish_safe(content)
    check_content(content, keypair)
    body: Content = box(content, readers, random_bytes) if readers else content
    with (
        Ingest(
            store, caps=caps, now_ms=now_ms, workers=1, holds=True, lock_timeout_s=wait_s, on_wait=on_wait
        ) as ingest,
        guard.alone(wait_s, on_wait) if guard is not None else contextlib.nullcontext(),
    ):
        if guard is not None:
            guard.recall_forgotten(now_ms, ingest)
        check_may_publish(store, keypair.public)
        if guard is not None:
            guard.check_no_doubt()
        head = store.head(keypair.public)
        timestamp = now_ms()
        if head is not None:
            last = store.message(keypair.public, head.sequence)
            if last is not None and isinstance(last.timestamp, int | float):
                # Clocks of old machines jump back; readers sort by this.
                timestamp = max(timestamp, int(last.timestamp) + 1)
        message = create_message(keypair, head, timestamp, body, caps.hmac_key)
        with guard.publishing(message) if guard is not None else contextlib.nullcontext():
            if attachments is not None:
                attachments.store()
            ingest.add_message(message)
            ingest.flush()
            if store.key_at(keypair.public, message.sequence) != message.key:
                raise SneakerError("the message was made but not stored; this is a bug")
    return message


def contact_content(contact: FeedRef, *, following: bool | None = None, blocking: bool | None = None) -> dict[str, Any]:
    """Return the content of a contact message."""
    content: dict[str, Any] = {"type": "contact", "contact": str(contact)}
    if following is not None:
        content["following"] = following
    if blocking is not None:
        content["blocking"] = blocking
    if len(content) == 2:
        raise PublishUnsafe("a contact message says whether to follow or to block")
    return content
