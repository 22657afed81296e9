from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import AddressError
from sneaker.limits import MAX_ADDRESS_CHARACTERS
from sneaker.refs import FeedRef, encode_base64
from sneaker.wire.address import (
    Address,
    Part,
    format_addresses,
    net_address,
    parse_address,
    parse_addresses,
)
from tests.wire.vectors import load

CASES = load("addresses.json")["cases"]
KEY = FeedRef.classic(bytes(range(32)))
BASE64 = encode_base64(KEY.key)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["input"][:40])
def test_ssb_ref_agrees(case: dict[str, Any]) -> None:
    text = case["input"]
    try:
        addresses = parse_addresses(text)
    except AddressError:
        assert not case["isAddress"]
        return
    stated = case["getKeyFromAddress"] or (case["parseAddress"] and case["parseAddress"]["key"])
    if stated:
        address = parse_address(text)
        assert str(address.key) == stated
        if case["parseAddress"] and case["parseAddress"]["host"]:
            host = case["parseAddress"]["host"].removeprefix("ws://").removeprefix("wss://")
            assert (address.host, address.port) == (host, case["parseAddress"]["port"])
    assert parse_addresses(format_addresses(addresses)) == addresses
    if case["getKeyFromAddress"]:
        assert format_addresses(addresses) == text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("net:192.168.1.2:8008", "192.168.1.2", 8008),
        ("net:example.com", "example.com", 8008),
        ("net:fe80::1%eth0:26831", "fe80::1%eth0", 26831),
        ("net:fe80!:!:1:26831", "fe80::1", 26831),
        ("net:[::1]:8008", "::1", 8008),
        ("ws://example.com:8989", "example.com", 8989),
        ("ws://example.com", "example.com", 8989),
        ("wss://example.com/path", "example.com", 443),
        ("onion:abc.onion:8008", "abc.onion", 8008),
        ("net:example.com:0", None, None),
        ("net:example.com:65536", None, None),
        ('net:a"b:8008', None, None),
        ("net", None, None),
        ("bt:00!:11", None, None),
        ("unix:/a/b", None, None),
    ],
)
def test_hosts_and_ports(text: str, host: str | None, port: int | None) -> None:
    (address,) = parse_addresses(f"{text}~shs:{BASE64}")
    assert (address.host, address.port, address.key) == (host, port, KEY)


def test_the_other_transports() -> None:
    (unix,) = parse_addresses("unix:/home/a!:b/socket~noauth")
    assert (unix.transport, unix.key) == (("unix", ("/home/a:b/socket",)), None)
    assert str(unix) == "unix:/home/a!:b/socket~noauth"
    tunnel = parse_address(f"tunnel:{KEY}:{KEY}~shs:{BASE64}")
    assert tunnel.transport == ("tunnel", (str(KEY), str(KEY)))
    assert (tunnel.host, tunnel.port, tunnel.key) == (None, None, KEY)
    seeded = parse_address(f"net:a.b:1~shs:{BASE64}:{BASE64}")
    assert (seeded.key, str(seeded)) == (KEY, f"net:a.b:1~shs:{BASE64}:{BASE64}")
    assert parse_address(f"net:a.b:1~shs2:{BASE64}").key == KEY


def test_several_and_unknown_ones() -> None:
    text = f"dht:x!;y~shs:{BASE64};net:10.0.0.1:8008~shs:{BASE64}"
    first, second = parse_addresses(text)
    assert first.transport == Part("dht", ("x;y",))
    assert second.host == "10.0.0.1"
    assert format_addresses([first, second]) == text
    assert parse_address(f"net:1.2.3.4:5;net:10.0.0.1:8008~shs:{BASE64}").host == "10.0.0.1"
    # The old form is one of several, too: what is read as such by itself is so among others.
    assert parse_addresses(f"net:1.2.3.4:5;::1:8008:{KEY}")[1] == net_address("::1", 8008, KEY)


def test_old_spellings_and_uris() -> None:
    expected = net_address("::1", 8008, KEY)
    assert parse_addresses(f"::1:8008:{KEY}") == parse_addresses(f"[::1]:8008:{KEY}") == [expected]
    assert str(expected) == f"net:::1:8008~shs:{BASE64}"
    plus = FeedRef.classic(b"\xfb" * 32)
    text = str(net_address("10.0.0.1", 8008, plus))
    assert "+" in text
    for spelled in (text.replace("+", "%2B").replace("/", "%2F").replace(":", "%3A"), text):
        for start in ("ssb:address/multiserver?", "ssb://address/multiserver?", "ssb:address:multiserver?"):
            assert parse_address(f"{start}multiserverAddress={spelled}") == parse_address(text)


@pytest.mark.parametrize(
    "junk",
    [
        "",
        ":",
        "~",
        ";",
        "net:a b:1",
        "net:a\x1b[31m:1",
        "net:a\n:1",
        "net:é:1",
        "n:a:1",
        "net:a:1~",
        "net:a:1;",
        "net:a!b",
        "net:a!",
        "ssb:address/multiserver",
        "ssb:address/multiserver?x=1",
        "ssb:address/multiserver?" + "a&" * 100,
        "ssb:message/classic/x",
        "net:" + "a" * MAX_ADDRESS_CHARACTERS,
        f"net:a:1~shs:{BASE64};ssb:b~shs:{BASE64}",
        f"host:99999:{KEY}",
        f"ho st:8008:{KEY}",
        f"host:8008:@{'A' * 42}B=.ed25519",
    ],
)
def test_what_is_no_address(junk: str) -> None:
    with pytest.raises(AddressError):
        parse_addresses(junk)


def test_an_address_to_dial_needs_a_key() -> None:
    for text in ("net:10.0.0.1:8008", "net:10.0.0.1:8008~shs:AAAA", "net:10.0.0.1:8008~noauth"):
        with pytest.raises(AddressError):
            parse_address(text)
    for host, port in (("a b", 1), ("", 1), ("a;b", 1), ("a", 0), ("a", 65536)):
        with pytest.raises(AddressError):
            net_address(host, port, KEY)


DATA = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8)
PARTS = st.builds(Part, st.from_regex(r"[a-z][a-z0-9-]+", fullmatch=True), st.lists(DATA, max_size=3).map(tuple))


@given(st.lists(st.builds(Address, PARTS, st.lists(PARTS, max_size=2).map(tuple)), min_size=1, max_size=3))
def test_every_address_survives_its_text(addresses: list[Address]) -> None:
    text = format_addresses(addresses)
    if len(text) <= MAX_ADDRESS_CHARACTERS:
        assert parse_addresses(text) == addresses


@given(st.text(max_size=80) | st.text("net:~shs;!.0@ed", max_size=40))
def test_any_text_is_an_address_or_our_error(text: str) -> None:
    try:
        addresses = parse_addresses(text)
    except AddressError:
        return
    for address in addresses:
        assert str(address).isprintable()
        _ = (address.host, address.port, address.key)


def test_addresses_as_people_paste_them() -> None:
    expected = net_address("a.b", 8008, KEY)
    for text in (
        f"  net:a.b:8008~shs:{BASE64}\n",
        f"NET:a.b:8008~shs:{BASE64}",
        f"Net:a.b:8008~SHS:{BASE64}",
        f"  a.b:8008:{KEY} ",
    ):
        assert parse_addresses(text) == [expected]
    (wrapped,) = parse_addresses(f" SSB:address/multiserver?multiserverAddress=net%3Aa.b%3A8008~shs%3A{BASE64}")
    assert (wrapped.host, wrapped.key) == ("a.b", KEY)


def test_alternatives_of_one_peer() -> None:
    other = encode_base64(bytes(32))
    found = parse_address(
        f"ws://a.b:1~shs:{BASE64}; net:a.b:2~shs:{BASE64};net:c.d:3~shs:{BASE64};net:e.f:4~shs:{other};unix:/x~noauth"
    )
    assert (found.transport.name, found.port) == ("net", 2)
    assert [(way.transport.name, way.port) for way in found.others] == [("net", 3), ("ws", 1)]
    assert str(found) == f"net:a.b:2~shs:{BASE64}"
    assert parse_address(f"ws://a.b:1~shs:{BASE64}").others == ()
