"""A machine for tests: a real home with a keypair of its own.  ``tests/sticks.py`` lets it visit sticks, ``tests/net/machines.py``
lets it talk to peers, and ``tests/simulation/world.py`` keeps count of what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sneaker.caps import MAIN_CAPS, Caps
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head
from sneaker.home.config import CONFIG_NAME, Config, format_config
from sneaker.home.home import Home, create_home, open_home
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.own_feed.fork_guard import check_may_publish
from sneaker.refs import FeedRef

__all__ = ["Machine"]


class Machine:
    """The home at ``path``, made if it is not there."""

    def __init__(self, path: Path, keypair: Keypair, caps: Caps = MAIN_CAPS) -> None:
        self.path = path
        self.keypair = keypair
        self.caps = caps
        if not (path / "secret").exists():
            create_home(path, keypair, format_config(Config(caps=caps)), CONFIG_NAME)

    @property
    def me(self) -> FeedRef:
        return self.keypair.public

    @contextmanager
    def opened(self) -> Iterator[Home]:
        """Open the home for the block."""
        opened = open_home(self.path, self.caps)
        try:
            yield opened
        finally:
            opened.store.close()

    def publish_all(self, contents: Iterable[dict[str, Any]], now_ms: Callable[[], int]) -> None:
        """Publish all of it in one transaction: one by one, hundreds would take seconds."""
        with self.opened() as opened, Ingest(opened.store, caps=self.caps, now_ms=now_ms, workers=1) as ingest:
            check_may_publish(opened.store, self.me)
            head = opened.store.head(self.me)
            for number, content in enumerate(contents):
                message = create_message(self.keypair, head, now_ms() + number, content, self.caps.hmac_key)
                ingest.add_message(message)
                head = Head(message.sequence, message.key)
