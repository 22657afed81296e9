"""watch and run: what works in the background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sneaker.cli.app import JsonOption, command, settings
from sneaker.cli.peer import run_peer_service
from sneaker.errors import ExitCode
from sneaker.home.config import Config, load_config

if TYPE_CHECKING:
    from sneaker.cli.event_loop import Service
    from sneaker.cli.json_output.events import Event
    from sneaker.cli.watch_messages import Reporter
    from sneaker.desktop.sdnotify import ServiceManager
    from sneaker.devices.inbox import Inbox
    from sneaker.devices.watch import Watcher

__all__ = ["DoneOnce", "sync_sticks_once"]

InboxOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--inbox", metavar="DIR", help="Take in bundles that arrive in this folder; may be given several times."
    ),
]


@dataclass(slots=True)
class _Watching:
    """The watcher and the inboxes of one run, and their reporter."""

    reporter: Reporter
    manager: ServiceManager
    watcher: Watcher
    inboxes: list[Inbox]

    def services(self) -> list[Service]:
        """Return what runs until it is stopped; the service is ready once the watcher is."""
        return [self.watcher.run, *(inbox.run for inbox in self.inboxes)]


def _prepare(inboxes: list[Path], json: bool) -> _Watching:
    """Make the watcher and the inboxes; raises HomeMissing, ConfigError and the like before anything starts."""
    from sneaker.cli.watch_actions import HomeInbox, HomeVisitor
    from sneaker.cli.watch_messages import Reporter
    from sneaker.desktop.hook import hook_problem
    from sneaker.desktop.sdnotify import ServiceManager
    from sneaker.devices.device import SystemDevices
    from sneaker.devices.inbox import Inbox
    from sneaker.devices.mounts import DEFAULT_FILESYSTEMS
    from sneaker.devices.udisks import UdisksMounter
    from sneaker.devices.watch import Watcher
    from sneaker.home.home import open_home

    config = load_config(settings.home)
    open_home(settings.home, config.caps).close()
    manager = ServiceManager(os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC"))
    output, notify = settings.output(json), config.notify
    if notify.hook and (problem := hook_problem(settings.home, notify.hook)) is not None:
        output.print_remark("; ".join(problem))
        notify = replace(notify, hook=())
    reporter = Reporter(output, notify, manager)
    importer = HomeInbox(settings.home, config)
    folders = dict.fromkeys(path.expanduser().absolute() for path in [*config.inbox.folders, *inboxes])
    return _Watching(
        reporter,
        manager,
        Watcher(
            HomeVisitor(settings.home, config),
            SystemDevices(config.drives.filesystems or DEFAULT_FILESYSTEMS, never=(settings.home,)),
            reporter,
            UdisksMounter(config.drives.unmount, config.drives.power_off) if config.drives.mount else None,
        ),
        [Inbox(folder, importer.wanted, importer.take, reporter) for folder in folders],
    )


def _serve(watching: _Watching, more: Sequence[Service] = ()) -> None:
    from sneaker.cli.event_loop import run_services

    config = load_config(settings.home)
    watching.watcher.ready = lambda: _tell_ready(watching, config)

    try:
        run_services(
            [*watching.services(), *more],
            watching.manager,
            watching.watcher.look_anew,
            watching.reporter.output.print_remark,
        )
    finally:
        watching.reporter.close()


def _tell_ready(watching: _Watching, config: Config) -> None:
    words = "waiting for enrolled sticks"
    if watching.inboxes:
        words += f" and for files in {len(watching.inboxes)} inbox{'' if len(watching.inboxes) == 1 else 'es'}"
    if config.drives.mount:
        words += "; mounting them by udisks2"
    watching.reporter.output.print_remark(words)
    watching.manager.status(words)
    watching.manager.ready()


@command()
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Attend to what is plugged in and in the inboxes now, then exit.")
    ] = False,
    inbox: InboxOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and event.")] = False,
) -> int:
    """Sync enrolled sticks when they are plugged in.

    Sticks that are not enrolled here are left alone. Folders given with --inbox, or in the settings, are watched for bundles
    too: what was taken in is moved to the folder 'done' in it, what is damaged to 'quarantine'.
    """
    watching = _prepare(inbox or [], json)
    if not once:
        _serve(watching)
        return ExitCode.DONE
    reporter = watching.reporter
    if not _attend_once(watching):
        return 130
    if not reporter.events:
        reporter.output.print_remark("no enrolled stick is plugged in, and the inboxes hold nothing for us")
    return ExitCode.PARTIAL if reporter.incomplete else ExitCode.DONE


def _attend_once(watching: _Watching) -> bool:
    """Attend to what is there now; return False if that was stopped."""
    from sneaker.cli.event_loop import run_until_stopped

    async def main() -> bool:
        await watching.watcher.once()
        for box in watching.inboxes:
            await box.once()
        return True

    try:
        return run_until_stopped(main()) is not None
    finally:
        watching.reporter.close()


@dataclass(frozen=True, slots=True)
class DoneOnce:
    """What came of one thing that 'once' does: for ``--json``, for people, and whether all of it worked."""

    value: list[Any]
    lines: list[str]
    complete: bool


def sync_sticks_once() -> DoneOnce | None:
    """Sync the sticks that are plugged in and take in the inboxes, for 'once'; None if that was stopped."""
    watching = _prepare([], json=False)
    lines: list[str] = []
    values: list[Event] = []

    def collect(line: str, value: Event) -> None:
        lines.append(line)
        values.append(value)

    watching.reporter.collect = collect
    if not _attend_once(watching):
        return None
    return DoneOnce(values, lines or ["no enrolled stick is plugged in"], not watching.reporter.incomplete)


@command()
def run(inbox: InboxOption = None, json: JsonOption = False) -> None:
    """Run 'watch' and 'peer' together, as the user service does."""
    watching = _prepare(inbox or [], json)
    _serve(watching, [lambda: run_peer_service(watching.reporter.output.print_remark, watching.reporter.warn)])
