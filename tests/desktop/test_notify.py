"""Notifications over a real session bus with a notification service of the test's own, notify-send, and hooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sneaker.desktop.hook import Hook
from sneaker.desktop.notification import Happening, Notification
from sneaker.desktop.notify import Notifier
from tests.desktop.bus import BusError, Service, message_bus

DONE = Notification(
    Happening.DONE,
    "12 new messages from 5 people, 3 carried on",
    "safe to remove",
    topic="drive",
    messages_in=12,
    people=5,
    messages_out=3,
)


@pytest.fixture
def session_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with message_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield address


class Desktop:
    """A notification service, as a desktop has one."""

    def __init__(self, address: str, refuse: bool = False) -> None:
        self.shown: list[tuple[Any, ...]] = []
        self.refuse = refuse
        self.service = Service(address, "org.freedesktop.Notifications", self.answer)

    def answer(self, path: str, interface: str, method: str, body: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        assert (path, method) == ("/org/freedesktop/Notifications", "Notify")
        self.shown.append(body)
        if self.refuse:
            raise BusError("org.freedesktop.Notifications.Error.No")
        return "u", (len(self.shown) + 40,)


@pytest.mark.dbus
def test_over_dbus_and_the_second_replaces_the_first(session_bus: str, request: pytest.FixtureRequest) -> None:
    desktop = Desktop(session_bus)
    request.addfinalizer(desktop.service.close)
    notifier = Notifier()
    assert notifier.show(Notification(Happening.SYNCING, "syncing", "do not pull it out", topic="drive")) == "dbus"
    assert notifier.show(DONE) == "dbus"
    assert notifier.show(Notification(Happening.UNKNOWN, "other", topic="other", urgent=True)) == "dbus"
    assert [(body[0], body[1], body[3], body[4], body[6]["urgency"]) for body in desktop.shown] == [
        ("sneaker", 0, "syncing", "do not pull it out", ("y", 1)),
        ("sneaker", 41, DONE.summary, "safe to remove", ("y", 1)),
        ("sneaker", 0, "other", "", ("y", 2)),
    ]


def fake_program(folder: Path, name: str, code: int = 0) -> Path:
    """Make a program that writes its arguments, one per line, to the file NAME.said."""
    program = folder / name
    program.write_text(f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done > "{program}.said"\nexit {code}\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("bus", ["none", pytest.param("refuses", marks=pytest.mark.dbus)])
def test_notify_send_is_next(
    bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if bus == "none":
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nothing")
    else:
        desktop = Desktop(request.getfixturevalue("session_bus"), refuse=True)
        request.addfinalizer(desktop.service.close)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    program = fake_program(tmp_path, "notify-send")
    assert Notifier().show(DONE) == "notify-send"
    said = Path(f"{program}.said").read_text().splitlines()
    assert said[-3:] == ["--", DONE.summary, DONE.body]


def test_then_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Notifier().show(DONE) == "log"
    fake_program(tmp_path, "notify-send", code=1)
    assert Notifier().show(DONE) == "log"


def test_a_hook_gets_words_and_numbers_and_no_shell(tmp_path: Path) -> None:
    program = fake_program(tmp_path, "hook")
    assert Hook([str(program), "$HOME; touch x", "two words"]).run_hook(DONE)
    said = Path(f"{program}.said").read_text().splitlines()
    assert said == ["$HOME; touch x", "two words", "done", "12", "5", "3"]
    assert not Hook([str(fake_program(tmp_path, "failing", code=7))]).run_hook(DONE)
    assert not Hook([str(tmp_path / "absent")]).run_hook(DONE)
    assert not Hook(["bad\0name"]).run_hook(DONE)
