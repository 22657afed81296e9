"""A writer's methods are called in one order, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sneaker.bundle.message_records import encode_messages
from sneaker.bundle.records import encode_blob
from sneaker.bundle.writer import BundleWriter
from sneaker.refs import BlobRef
from tests.bundle.bundles import EXPORTER, keypair, make_header, posts, run_of

RUN = run_of(posts(keypair("ada"), 2))
BLOB = BlobRef.of(b"x")

STEPS: dict[str, Callable[[BundleWriter], bytes]] = {
    "messages": lambda writer: writer.add_messages([RUN], encode_messages([RUN])),
    "blob": lambda writer: writer.add_blob(BLOB, 1, encode_blob(BLOB, b"x")),
    "finish": lambda writer: writer.finish(),
}


@pytest.mark.parametrize("name", STEPS)
def test_nothing_comes_before_the_start(name: str) -> None:
    with pytest.raises(ValueError, match="no beginning"):
        STEPS[name](BundleWriter(make_header(), EXPORTER))


@pytest.mark.parametrize("name", STEPS)
def test_nothing_comes_after_the_end(name: str) -> None:
    writer = BundleWriter(make_header(), EXPORTER)
    writer.start()
    STEPS["messages"](writer)
    writer.finish()
    with pytest.raises(ValueError, match="finished"):
        STEPS[name](writer)


def test_a_bundle_has_one_beginning() -> None:
    writer = BundleWriter(make_header(), EXPORTER)
    writer.start()
    with pytest.raises(ValueError, match="begun"):
        writer.start()
