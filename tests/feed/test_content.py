from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.feed.classic.message import create_message
from sneaker.feed.content import (
    about_name,
    content_type,
    find_blobs,
    read_facts,
)
from sneaker.feed.private import box
from sneaker.refs import BlobRef, FeedRef
from sneaker.social import EdgeState, contact_edge
from tests.feed.forge import seeded
from tests.feed.test_canonical import JSON
from tests.tries import tries

ME = seeded(1)
BOB = seeded(2).public
BLOB = BlobRef.of(b"a")
OTHER = BlobRef.of(b"b")


def contact(**fields: Any) -> dict[str, Any]:
    return {"type": "contact", "contact": str(BOB), **fields}


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (contact(following=True), EdgeState.FOLLOW),
        (contact(following=False), EdgeState.NEITHER),
        (contact(following=1), EdgeState.NEITHER),
        (contact(following="true"), EdgeState.NEITHER),
        (contact(), EdgeState.NEITHER),
        (contact(blocking=True), EdgeState.BLOCK),
        (contact(blocking=True, following=True), EdgeState.BLOCK),
        (contact(flagged=True), EdgeState.BLOCK),
        (contact(flagged={}), EdgeState.BLOCK),
        (contact(flagged=[]), EdgeState.BLOCK),
        (contact(flagged={"reason": "spam"}), EdgeState.BLOCK),
        (contact(blocking="no"), EdgeState.BLOCK),
        (contact(blocking=0, following=True), EdgeState.FOLLOW),
        (contact(blocking="", following=True), EdgeState.FOLLOW),
        (contact(blocking=None, flagged=False, following=True), EdgeState.FOLLOW),
    ],
)
def test_contact_edges_are_read_as_ssb_friends_reads_them(content: dict[str, Any], state: EdgeState) -> None:
    assert contact_edge(content) == (BOB, state)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "AAAA.box",
        [],
        {"type": "contact"},
        {"type": "contact", "contact": None, "following": True},
        {"type": "contact", "contact": "bob", "following": True},
        {"type": "contact", "contact": BOB.uri, "following": True},
        {"type": "contact", "contact": [str(BOB)], "following": True},
        {"type": "contact", "contact": str(BLOB), "following": True},
        {"type": "contact", "contact": "@" + "A" * 200, "following": True},
        {"type": "Contact", "contact": str(BOB), "following": True},
        {"contact": str(BOB), "following": True},
    ],
)
def test_what_is_no_contact_edge(content: Any) -> None:
    assert contact_edge(content) is None


def test_names() -> None:
    assert about_name({"type": "about", "about": str(BOB), "name": "Bob"}) == (BOB, "Bob")
    for content in (
        {"type": "about", "about": str(BOB)},
        {"type": "about", "about": str(BOB), "name": ""},
        {"type": "about", "about": str(BOB), "name": 5},
        {"type": "about", "about": str(BLOB), "name": "x"},
        {"type": "about", "name": "x"},
        {"type": "post", "about": str(BOB), "name": "x"},
        "AAAA.box",
    ):
        assert about_name(content) is None


def test_blobs_are_found_anywhere() -> None:
    content = {
        "type": "post",
        "text": f"![a]({BLOB}) and {BLOB}?unbox=abc and {OTHER}.",
        "mentions": [{"link": str(OTHER), "name": "x"}],
    }
    assert find_blobs(create_message(ME, None, 1, content).text) == (BLOB, OTHER)
    assert find_blobs(create_message(ME, None, 1, {"type": "about", "image": {"link": str(BLOB)}}).text) == (BLOB,)
    assert find_blobs(create_message(ME, None, 1, {"type": "abc", str(BLOB): 1}).text) == (BLOB,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "&",
        "&amp;",
        str(BLOB)[:-1],
        str(BLOB).replace("&", "%"),
        str(BLOB).replace("=", "A"),
        "&" + "A" * 42 + "B=.sha256",
    ],
)
def test_what_is_no_blob_link(text: str) -> None:
    assert find_blobs(text.encode()) == ()


def test_a_message_holds_a_bounded_number_of_blobs() -> None:
    text = "".join(str(BlobRef.of(bytes([number]))) for number in range(150))
    message = create_message(ME, None, 1, {"type": "post", "text": text})
    assert len(find_blobs(message.text)) == 150


def test_facts() -> None:
    def facts(content: Any) -> Any:
        return read_facts(create_message(ME, None, 1, content))

    assert facts({"type": "post", "text": "hello & goodbye"}) is None
    assert facts(box({"type": "post", "text": "hello"}, [BOB], os.urandom)) is None
    assert facts({"type": "contact"}) is None
    assert facts(contact(following=True)) == ((BOB, EdgeState.FOLLOW), None, ())
    about = {"type": "about", "about": str(BOB), "name": "Bob", "image": str(BLOB)}
    assert facts(about) == (None, (BOB, "Bob"), (BLOB,))


def test_type() -> None:
    assert content_type("AAAA.box") is None
    assert content_type({"type": "post"}) == "post"


@tries(200)
@given(st.dictionaries(st.sampled_from(["type", "contact", "about", "name", "blocking", "following"]), JSON))
def test_any_content_is_read(content: dict[str, Any]) -> None:
    for kind in ("contact", "about"):
        edge = contact_edge({**content, "type": kind, "contact": str(BOB)})
        assert (edge is None) == (kind == "about")
        name = about_name({**content, "type": kind})
        assert name is None or isinstance(name[0], FeedRef)
