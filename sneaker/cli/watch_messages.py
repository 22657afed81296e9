"""What people are told of what 'watch' does: a line for the terminal or journal, an object for scripts, the desktop, the hook."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sneaker.bugs import bug_words, what_went_wrong
from sneaker.cli.printing import Output, clean
from sneaker.cli.watch_actions import what_came
from sneaker.desktop.hook import Hook
from sneaker.desktop.notification import Happening, Notification
from sneaker.desktop.notify import Notifier
from sneaker.desktop.sdnotify import ServiceManager
from sneaker.devices.device import MountedDevice
from sneaker.devices.events import (
    StickRemoved,
    Trouble,
    UnknownStick,
    VisitDone,
    VisitFailed,
    VisitStarted,
    WatchEvent,
)
from sneaker.devices.inbox import InboxFailed, InboxTaken
from sneaker.errors import SneakerError
from sneaker.home.config import NotifySettings

if TYPE_CHECKING:
    from sneaker.cli.json_output.events import Event, RemovedEvent, VisitFailedEvent, WhichDevice

__all__ = ["Reporter"]


@dataclass(slots=True)
class Reporter:
    """Tells people: one line per event on stdout (a terminal, or the journal), the desktop, the hook, systemd.

    Call it from the event loop.  What may be slow happens in a thread, in order; ``close`` waits for that.
    """

    output: Output
    settings: NotifySettings
    manager: ServiceManager
    #: Takes lines and objects in place of stdout.
    collect: Callable[[str, Event], None] | None = None
    #: Whether something went wrong that an exit code should say.
    incomplete: bool = False
    events: int = 0
    _queue: queue.SimpleQueue[Notification | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def __call__(self, event: WatchEvent | InboxTaken | InboxFailed) -> None:
        """Tell about one event."""
        self.events += 1
        line, value, notification = _describe(event)
        if isinstance(event, VisitFailed | Trouble | InboxFailed):
            self.incomplete = True
        elif isinstance(event, VisitDone):
            self.incomplete = self.incomplete or not event.summary.complete
        elif isinstance(event, InboxTaken):
            self.incomplete = self.incomplete or not event.taken.whole
        if self.collect is not None:
            self.collect(line, value)
        else:
            with suppress(OSError):  # nobody may read it any more; a service goes on
                self._print(line, value)
        self.manager.status(line)
        if notification is not None:
            self._notify(notification)

    def warn(self, words: str) -> None:
        """Tell the person that the identity is in danger; ``words`` say how."""
        line = clean(words, 300)
        self._print(line, {"event": "identity", "detail": words})
        self.manager.status(line)
        self._notify(
            Notification(
                Happening.PROBLEM, "Your identity is in danger", "Run: sneaker doctor", topic="identity", urgent=True
            )
        )

    def _print(self, line: str, value: Event) -> None:
        if self.output.json:
            self.output.print_json(value)
        else:
            print(line)
        sys.stdout.flush()

    def _notify(self, notification: Notification) -> None:
        if self.settings.bell and notification.happening is not Happening.SYNCING and sys.stderr.isatty():
            print("\a", end="", file=getattr(sys.stderr, "stream", sys.stderr), flush=True)
        if not (self.settings.desktop or self.settings.hook):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="sneaker-notify", daemon=True)
            self._thread.start()
        self._queue.put(notification)

    def _work(self) -> None:
        notifier = Notifier() if self.settings.desktop else None
        hook = Hook(self.settings.hook) if self.settings.hook else None
        while (notification := self._queue.get()) is not None:
            try:
                if notifier is not None:
                    notifier.show(notification)
                if hook is not None:
                    hook.run_hook(notification)
            except Exception as error:
                self.output.print_remark(clean(what_went_wrong(error), 300))

    def close(self, timeout_s: float = 10) -> None:
        """Wait until everything was told, within reason."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)


_Description = tuple[str, "Event", Notification | None]


def _describe(event: WatchEvent | InboxTaken | InboxFailed) -> _Description:
    """Return a line for people, an object for scripts, and what the desktop shows."""
    describe: Callable[[Any], _Description] = _DESCRIPTIONS[type(event)]
    return describe(event)


def _which(device: MountedDevice) -> WhichDevice:
    return {"mount_point": str(device.mount_point), "device": device.node, "label": device.label}


def _place(device: MountedDevice) -> str:
    """Return where a device is, safe to print: the last part of a mount point is often the stick's own label."""
    return clean(str(device.mount_point), 120)


def _topic(device: MountedDevice) -> str:
    return f"device-{device.number}"


def _started(event: VisitStarted) -> _Description:
    again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    return (
        f"{_place(event.device)}: syncing, do not pull it out{again}",
        {"event": "syncing", "attempt": event.attempt, **_which(event.device)},
        Notification(Happening.SYNCING, "Syncing the stick", "Do not pull it out.", _topic(event.device)),
    )


def _done(event: VisitDone) -> _Description:
    summary = event.summary
    end = "unmounted, pull it out" if event.released else "safe to remove"
    return (
        f"{_place(event.device)}: {clean(summary.words, 900)}; {end} ({event.seconds:.1f} s)",
        {
            "event": "visited",
            "messages_in": summary.messages_in,
            "people": summary.people,
            "messages_out": summary.messages_out,
            "complete": summary.complete,
            "safe_to_remove": summary.safe_to_remove,
            "unmounted": event.released,
            "seconds": round(event.seconds, 3),
            "words": summary.words,
            **_which(event.device),
        },
        Notification(
            Happening.DONE if summary.complete else Happening.PROBLEM,
            # Not summary.words, which may quote the stick.
            what_came(summary.messages_in, summary.people, summary.messages_out).capitalize(),
            "Safe to remove." if summary.complete else "Safe to remove. Not everything was in order: see the log.",
            _topic(event.device),
            messages_in=summary.messages_in,
            people=summary.people,
            messages_out=summary.messages_out,
        ),
    )


def _failed(event: VisitFailed) -> _Description:
    error = event.error
    if isinstance(error, SneakerError):
        why = error.message
    elif isinstance(error, OSError):
        why = f"the stick failed: {error.strerror or 'it does not answer'}"
    else:
        why = bug_words(error)
    if event.retry_in_s is not None:
        line = f"{_place(event.device)}: {clean(why, 300)}; trying again in {event.retry_in_s:.0f} s"
        notification = None
    else:
        line = (
            f"{_place(event.device)}: {clean(why, 300)}; what came until then is kept, pull it out and insert it again"
        )
        notification = Notification(
            Happening.PROBLEM,
            "The stick could not be synced",
            "What came until then is kept. Pull it out and insert it again; the log says why.",
            _topic(event.device),
            urgent=True,
        )
    value: VisitFailedEvent = {
        "event": "failed",
        "detail": why,
        "retry_in": event.retry_in_s,
        **_which(event.device),
    }
    return line, value, notification


def _removed(event: StickRemoved) -> _Description:
    done = event.summary if event.during_visit else None
    messages, people = (done.messages_in, done.people) if done is not None else (0, 0)
    value: RemovedEvent = {
        "event": "removed",
        "during_visit": event.during_visit,
        "messages_in": messages,
        **_which(event.device),
    }
    if not event.during_visit:
        return f"{_place(event.device)}: removed", value, None
    kept = f"{what_came(messages, people, 0)} until then; " if messages else ""
    return (
        f"{_place(event.device)}: pulled out too early; {kept}nothing is lost, insert it again to finish",
        value,
        Notification(
            Happening.REMOVED_EARLY,
            "The stick was pulled out too early",
            "Nothing is lost. Insert it again to finish.",
            _topic(event.device),
            urgent=True,
            messages_in=messages,
            people=people,
        ),
    )


def _unknown(event: UnknownStick) -> _Description:
    return (
        f"{_place(event.device)}: a sneaker stick that is not known here, left alone; run 'sneaker drive trust' to use it",
        {"event": "unknown", **_which(event.device)},
        Notification(
            Happening.UNKNOWN,
            "A stick that is not known here",
            "It was left alone. If you know whose it is, run: sneaker drive trust PATH",
            _topic(event.device),
        ),
    )


def _trouble(event: Trouble) -> _Description:
    where = f"{clean(event.node)}: " if event.node else ""
    return (
        f"{where}{clean(event.words, 300)}",
        {"event": "trouble", "device": event.node, "detail": event.words},
        None,
    )


def _inbox_taken(event: InboxTaken) -> _Description:
    taken = event.taken
    return (
        f"{clean(str(event.path), 200)}: {taken.words}; moved to {event.moved_to.parent.name}",
        {
            "event": "inbox",
            "path": str(event.path),
            "messages_in": taken.messages,
            "people": taken.people,
            "complete": taken.whole,
            "moved_to": str(event.moved_to),
        },
        Notification(
            Happening.INBOX if taken.whole else Happening.PROBLEM,
            f"{what_came(taken.messages, taken.people, 0).capitalize()} by the inbox",
            "" if taken.whole else "The file is damaged or cut short; it is in the folder quarantine.",
            messages_in=taken.messages,
            people=taken.people,
        ),
    )


def _inbox_failed(event: InboxFailed) -> _Description:
    return (
        f"{clean(str(event.path), 200)}: {clean(event.words, 300)}",
        {"event": "inbox-failed", "path": str(event.path), "detail": event.words},
        None,
    )


_DESCRIPTIONS: dict[type, Callable[[Any], _Description]] = {
    VisitStarted: _started,
    VisitDone: _done,
    VisitFailed: _failed,
    StickRemoved: _removed,
    UnknownStick: _unknown,
    Trouble: _trouble,
    InboxTaken: _inbox_taken,
    InboxFailed: _inbox_failed,
}
