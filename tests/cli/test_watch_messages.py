"""What 'watch' tells people: in the log, on the desktop, by the bell and to the hook; and that no stick speaks through it."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sneaker.cli import watch_messages as telling
from sneaker.cli.printing import Output
from sneaker.cli.watch_messages import Reporter
from sneaker.desktop.notification import Notification
from sneaker.desktop.sdnotify import ServiceManager
from sneaker.devices.events import (
    StickRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
    VisitSummary,
    WatchEvent,
)
from sneaker.devices.inbox import InboxFailed, InboxTaken, Taken
from sneaker.errors import StickError
from sneaker.home.config import NotifySettings
from tests.devices.fakes import make_mounted_device

# A label becomes the last part of the mount point; this one would like to be more.
EVIL = "\x1b]0;EVIL\x07<b>EVIL</b>\u202egnp.EVIL"
DRIVE = replace(make_mounted_device(Path("/media/anna") / EVIL), label=EVIL, fs_uuid=EVIL)
SUMMARY = VisitSummary(
    12, 5, 3, True, True, f"12 new messages from 5 people, 3 carried on; {EVIL}".replace("\x1b", "?")
)

EVENTS: dict[str, WatchEvent | InboxTaken | InboxFailed] = {
    "started": VisitStarted(DRIVE, 1),
    "again": VisitStarted(DRIVE, 3),
    "done": VisitDone(DRIVE, replace(SUMMARY, words="12 new messages from 5 people, 3 carried on"), 1.25),
    "released": VisitDone(DRIVE, SUMMARY, 1.25, released=True),
    "incomplete": VisitDone(DRIVE, replace(SUMMARY, complete=False), 1.25),
    "failing": VisitFailed(DRIVE, OSError(5, "Input/output error"), 2),
    "failed": VisitFailed(DRIVE, StickError(EVIL), None),
    "bug": VisitFailed(DRIVE, ZeroDivisionError(EVIL), None),
    "removed": StickRemoved(DRIVE, during_visit=False),
    "early": StickRemoved(DRIVE, during_visit=True, summary=SUMMARY),
    "unknown": UnknownStick(DRIVE),
    "trouble": Trouble("/dev/sda", "udisks2 is not installed or does not run"),
    "inbox": InboxTaken(Path("/in") / EVIL, Taken(2, 1, True, "2 new messages from 1 person"), Path("/in/done/x")),
    "inbox-cut": InboxTaken(Path("/in") / EVIL, Taken(0, 0, False, "cut short"), Path("/in/quarantine/x")),
    "inbox-failed": InboxFailed(Path("/in") / EVIL, EVIL),
}


class Shown(list[Notification]):
    """Stands for the desktop."""

    def show(self, notification: Notification) -> str:
        self.append(notification)
        return "dbus"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    made = Shown()
    monkeypatch.setattr(telling, "Notifier", lambda: made)
    return made


def tell(
    event: WatchEvent | InboxTaken | InboxFailed, settings: NotifySettings | None = None, **output: bool
) -> Reporter:
    reporter = Reporter(Output(**output), settings or NotifySettings(), ServiceManager(None))
    reporter(event)
    reporter.close()
    return reporter


@pytest.mark.parametrize("name", EVENTS)
def test_a_stick_speaks_to_no_terminal_desktop_or_hook(
    name: str, shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tmp_path / "said"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{said}"\n')
    hook.chmod(0o755)
    tell(EVENTS[name], NotifySettings(hook=(str(hook),)))
    line = capsys.readouterr().out
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert not set(line[:-1]) & {"\x1b", "\x07", "\u202e"}
    for notification in shown:
        assert "EVIL" not in f"{notification.summary}{notification.body}{notification.topic}"
    assert said.exists() == bool(shown)
    if shown:
        word, *numbers = said.read_text().split("\n")[:-1]
        assert word == str(shown[0].happening)
        assert len(numbers) == 3
        assert all(number.isdecimal() for number in numbers)
    tell(EVENTS[name], json=True)
    value = json.loads(capsys.readouterr().out)
    assert value["event"]


@pytest.mark.parametrize(
    ("name", "words", "summary", "body"),
    [
        ("started", "syncing, do not pull it out", "Syncing the stick", "Do not pull it out."),
        (
            "done",
            "12 new messages from 5 people, 3 carried on; safe to remove (1.2 s)",
            "12 new messages from 5 people, 3 carried on",
            "Safe to remove.",
        ),
        ("released", "unmounted, pull it out", "12 new messages from 5 people, 3 carried on", "Safe to remove."),
        (
            "early",
            "pulled out too early",
            "The stick was pulled out too early",
            "Nothing is lost. Insert it again to finish.",
        ),
        ("unknown", "left alone; run 'sneaker drive trust'", "A stick that is not known here", "It was left alone"),
        ("failing", "the stick failed: Input/output error; trying again in 2 s", None, None),
        ("removed", "removed", None, None),
    ],
)
def test_the_words(
    name: str, words: str, summary: str | None, body: str | None, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(EVENTS[name])
    assert words in capsys.readouterr().out
    assert [notification.summary for notification in shown] == ([summary] if summary else [])
    assert body is None or body in shown[0].body


@pytest.mark.parametrize(("name", "rings"), [("started", False), ("done", True), ("early", True), ("removed", False)])
def test_the_bell_rings_on_a_terminal_when_something_is_over(
    name: str, rings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for terminal, bell in ((Terminal(), True), (Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stderr", terminal)
        tell(EVENTS[name], NotifySettings(desktop=False, bell=bell))
        assert terminal.getvalue() == ("\a" if rings and bell and terminal.isatty() else "")


def test_what_was_not_in_order_is_for_the_exit_code() -> None:
    bad = {name for name, event in EVENTS.items() if tell(event, NotifySettings(desktop=False)).incomplete}
    assert bad == {"incomplete", "failing", "failed", "bug", "trouble", "inbox-cut", "inbox-failed"}


def test_a_danger_to_the_identity_is_told_everywhere(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(Output(), NotifySettings(), ServiceManager(None))
    reporter.warn("ANOTHER MACHINE HAS YOUR SECRET: \x1b[2J")
    reporter.close()
    assert capsys.readouterr().out.startswith("ANOTHER MACHINE HAS YOUR SECRET: ")
    (notification,) = shown
    assert notification.urgent
    assert "sneaker doctor" in notification.body
