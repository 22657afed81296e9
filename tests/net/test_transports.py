"""Where one can listen, and the interfaces of the machine."""

from __future__ import annotations

import pytest

from sneaker.errors import NetworkError
from sneaker.net.interfaces import find_interfaces
from sneaker.net.transports.tcp import parse_listen


def test_what_can_be_typed_to_listen_on() -> None:
    assert parse_listen("127.0.0.1:9000") == ("127.0.0.1", 9000)
    assert parse_listen(":9000") == ("", 9000)
    assert parse_listen("10.0.0.1") == ("10.0.0.1", 8008)
    assert parse_listen("[::1]:7") == ("::1", 7)
    assert parse_listen("[::1]") == ("::1", 8008)
    for text in ("x:y", "x:70000", "x:-1"):
        with pytest.raises(NetworkError):
            parse_listen(text)


def test_interfaces_have_addresses() -> None:
    for interface in find_interfaces():
        assert interface.name != "lo"
        assert interface.address.count(".") == interface.broadcast.count(".") == 3
