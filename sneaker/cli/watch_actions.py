"""What 'watch' joins together: devices and inboxes on one side, visits and imports on the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sneaker.cli.app import now_ms
from sneaker.cli.printing import clean, counted
from sneaker.devices.device import MountedDevice
from sneaker.devices.events import Enrolment, VisitSummary
from sneaker.devices.inbox import Taken
from sneaker.home.config import Config

__all__ = ["HomeInbox", "HomeVisitor", "what_came"]


@dataclass(frozen=True, slots=True)
class HomeVisitor:
    """Visits devices with the home at ``home``, which is opened for each visit: between them, nothing is held."""

    home: Path
    config: Config

    def is_enrolled(self, device: MountedDevice) -> Enrolment:
        """See ``devices.events.Visitor``."""
        from sneaker.home.home import open_home
        from sneaker.stick.enrolment import is_enrolled

        with open_home(self.home, self.config.caps) as opened:
            found = is_enrolled(opened, device.mount_point)
        return {True: Enrolment.ENROLLED, False: Enrolment.UNKNOWN, None: Enrolment.NONE}[found]

    def visit(self, device: MountedDevice) -> VisitSummary:
        """See ``devices.events.Visitor``."""
        from sneaker.cli.sync import stick_options
        from sneaker.home.home import open_home
        from sneaker.stick.visit import VisitOptions, visit

        with open_home(self.home, self.config.caps) as opened:
            # A write-protected stick is only read: a failed write would look like a broken stick.
            options = VisitOptions(export=not device.read_only, **stick_options(self.config.sticks))
            report = visit(opened, device.mount_point, options, now_ms=now_ms, random_bytes=os.urandom)
        taken = report.imported.ingested
        # For a device that is only read, the report says what would have been left there.
        packed = None if device.read_only else report.exported
        words = what_came(taken.accepted, len(taken.feeds_advanced), packed.messages if packed else 0)
        if device.read_only:
            words += "; the stick is write-protected, so nothing was left on it"
        if packed is not None and packed.left:
            words += f"; {counted(sum(item.messages for item in packed.left), 'message')} did not fit"
        if taken.refused or not report.imported.complete:
            words += "; something on it was refused or damaged, 'sneaker sync' says what"
        damaged = not device.read_only and _is_read_only(device)
        if damaged:
            words += f"; its file system is damaged and has become read-only: unmount it, and repair it {_how(device)}"
        # These sentences quote names of files on the stick; names are checked before anything else.
        words = "; ".join([words, *(clean(problem, 200) for problem in report.problems[:3])])
        return VisitSummary(
            messages_in=taken.accepted,
            people=len(taken.feeds_advanced),
            messages_out=packed.messages if packed else 0,
            safe_to_remove=report.safe_to_remove,
            complete=report.complete,
            words=words,
            damaged=damaged,
        )


def _is_read_only(device: MountedDevice) -> bool:
    try:
        return bool(os.statvfs(device.mount_point).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _how(device: MountedDevice) -> str:
    """Return how a file system is repaired; its type is the kernel's word."""
    program = {"vfat": "fsck.vfat -a", "exfat": "fsck.exfat -p"}.get(device.fs_type, "fsck")
    return f"with '{program} {clean(device.node, 40)}'"


def what_came(messages_in: int, people: int, messages_out: int) -> str:
    """Return what came and went, as people say it."""
    if not messages_in and not messages_out:
        return "nothing new"
    came = "nothing new"
    if messages_in:
        came = f"{counted(messages_in, 'new message')} from {counted(people, 'person', 'people')}"
    return f"{came}, {messages_out:,} carried on" if messages_out else came


@dataclass(frozen=True, slots=True)
class HomeInbox:
    """Imports files from inboxes into the home at ``home``."""

    home: Path
    config: Config

    @staticmethod
    def wanted(start: bytes, name: str) -> bool:
        """Whether a file is taken: a bundle or card under any name, other kinds only with a suffix of their own."""
        from sneaker.errors import NotABundle
        from sneaker.transfer.source_kinds import identify_source

        try:
            kind = identify_source(start, name)
        except NotABundle:
            return False
        return not kind.inbox_suffixes or name.lower().endswith(kind.inbox_suffixes)

    def take(self, path: Path) -> Taken:
        """Import one file; raises StoreError for what is wrong on this machine."""
        import io

        from sneaker.home.home import open_home
        from sneaker.transfer.import_files import import_sources

        with open_home(self.home, self.config.caps) as opened:
            report = import_sources(opened, [str(path)], stdin=io.BytesIO(), now_ms=now_ms)
        taken = report.ingested
        words = what_came(taken.accepted, len(taken.feeds_advanced), 0)
        whole = all(source.whole for source in report.sources)
        if not whole:
            words += "; it is damaged, cut short or not for this network"
        elif taken.refused:
            words += f"; {counted(taken.refused, 'message')} refused"
        elif report.blobs.refused:
            whole = False
            words += f"; {counted(report.blobs.refused, 'blob')} refused, import it again"
        return Taken(taken.accepted, len(taken.feeds_advanced), whole, words)
