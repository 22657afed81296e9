"""Inboxes: real files, written slowly, moved in, linked in, left lying, cut short; real network-like mounts are polled."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sneaker.devices import inbox as inbox_module
from sneaker.devices.inbox import Inbox, InboxFailed, InboxSettings, InboxTaken, Taken, is_shared
from sneaker.errors import NotABundle, StoreLocked

QUICK = InboxSettings(after_close_s=0.02, quiet_s=0.1, stuck_s=30, poll_s=0.03, heal_s=30, retry_s=0.05)
# Looks again and again: for what must not happen then.
RESTLESS = replace(QUICK, heal_s=0.03)
# How long files have to rest in earnest, by a clock that the test moves.
BY_CLOCK = InboxSettings(poll_s=0.01, heal_s=0.01)
WHOLE = b"BUNDLE" + b"x" * 1000 + b"END"


@dataclass
class Importer:
    """Files that begin with BUNDLE are for us, and whole if they end with END."""

    taken: list[tuple[str, bytes]] = field(default_factory=list)
    fail: Callable[[Path], None] | None = None

    def wanted(self, start: bytes, name: str) -> bool:
        return start.startswith(b"BUNDLE")

    def take(self, path: Path) -> Taken:
        if self.fail is not None:
            self.fail(path)
        data = path.read_bytes()
        self.taken.append((path.name, data))
        whole = data.endswith(b"END")
        return Taken(1, 1, whole, "1 new message" if whole else "it is cut short")


class News(list[InboxTaken | InboxFailed]):
    def __init__(self) -> None:
        super().__init__()
        self.event = asyncio.Event()

    def __call__(self, event: InboxTaken | InboxFailed) -> None:
        self.append(event)
        self.event.set()

    async def wait(self, count: int = 1) -> None:
        try:
            async with asyncio.timeout(15):
                while len(self) < count:
                    self.event.clear()
                    await self.event.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain; told: {list(self)}") from None


class Watched(Inbox):
    """An inbox that says when it has looked."""

    looks = 0
    #: Nothing that lies there is worth another look.
    settled = False

    async def look(self) -> float | None:
        wait = await super().look()
        self.looks += 1
        self.settled = wait is None
        return wait

    async def look_again(self, times: int = 2) -> None:
        """Wait until it has looked several times; the first of these looks may have begun before."""
        wanted = self.looks + times
        await until(lambda: self.looks >= wanted)

    async def settle(self) -> None:
        """Wait until all that lies there has been dealt with."""
        await until(lambda: self.settled)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(
    folder: Path, importer: Importer, *, poll: bool | None = None, settings: InboxSettings = QUICK
) -> AsyncIterator[tuple[Watched, News]]:
    """Run an inbox while the block does, which begins once it has looked."""
    news = News()
    inbox = Watched(folder, importer.wanted, importer.take, news, poll, settings)
    task = asyncio.create_task(inbox.run())
    try:
        await inbox.look_again(1)
        yield inbox, news
    finally:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass


@asynccontextmanager
async def running(folder: Path, importer: Importer, *, poll: bool | None = None) -> AsyncIterator[News]:
    async with watched(folder, importer, poll=poll) as (_, news):
        yield news


@pytest.fixture(autouse=True)
def _moves_are_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a move out of the folder, as ours are, watchdog keeps all events for half a second: it may learn where to."""
    try:
        name = "inotify_move_event_grouper.InotifyMoveEventGrouper"
        monkeypatch.setattr(f"watchdog.observers.{name}.delay", 0.05)
    except ImportError:  # before watchdog 7
        monkeypatch.setattr("watchdog.observers.inotify_buffer.InotifyBuffer.delay", 0.05)


class Clock:
    """The inbox's clock, which the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(inbox_module, "time", made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    return made


both = pytest.mark.parametrize("poll", [False, True], ids=["inotify", "polling"])


@both
def test_a_file_that_is_written_slowly(folder: Path, poll: bool, clock: Clock) -> None:
    """Nothing is looked at while the file grows, however long that takes."""

    async def scenario() -> Importer:
        importer = Importer()
        async with watched(folder, importer, poll=poll, settings=BY_CLOCK) as (inbox, news):
            with (folder / "a.sneaker").open("wb") as file:
                for at in range(0, len(WHOLE), 100):
                    file.write(WHOLE[at : at + 100])
                    file.flush()
                    await inbox.look_again()
                    clock.now += BY_CLOCK.quiet_s - 1
                    await inbox.look_again()
                assert not importer.taken
            while not news:
                clock.now += BY_CLOCK.quiet_s - 1
                await inbox.look_again()
        assert importer.taken == [("a.sneaker", WHOLE)]
        (event,) = news
        assert isinstance(event, InboxTaken)
        assert event.moved_to == folder / "done" / "a.sneaker"
        return importer

    asyncio.run(scenario())
    assert (folder / "done" / "a.sneaker").read_bytes() == WHOLE
    assert not (folder / "a.sneaker").exists()


@both
def test_moved_in_linked_in_and_lying_there_before(folder: Path, tmp_path: Path, poll: bool) -> None:
    (folder / "before").write_bytes(WHOLE)
    for name in ("moved", "linked", "renamed"):
        (tmp_path / name).write_bytes(WHOLE)

    async def scenario() -> None:
        importer = Importer()
        async with running(folder, importer, poll=poll) as news:
            (tmp_path / "moved").rename(folder / "moved")
            os.link(tmp_path / "linked", folder / "linked")
            shutil.copy(tmp_path / "renamed", folder / ".renamed.part")
            (folder / ".renamed.part").rename(folder / "renamed")
            await news.wait(4)
        assert sorted(name for name, _ in importer.taken) == ["before", "linked", "moved", "renamed"]

    asyncio.run(scenario())
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["before", "linked", "moved", "renamed"]


def test_a_writer_in_another_process_is_waited_for(folder: Path, clock: Clock) -> None:
    """Found at the start, half written, by a program that stalls: the kernel says that it is still open."""
    path = folder / "stalled"
    code = 'exec 3>"$0"; printf BUNDLE >&3; echo; read word; printf END >&3'
    with subprocess.Popen(["sh", "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()

        async def scenario() -> None:
            importer = Importer()
            async with watched(folder, importer, settings=BY_CLOCK) as (inbox, news):
                clock.now += BY_CLOCK.stuck_s - 1
                await inbox.look_again(4)
                assert not importer.taken
                writer.communicate(b"go on\n")
                while not news:
                    clock.now += BY_CLOCK.after_close_s
                    await inbox.look_again()
                assert importer.taken == [("stalled", b"BUNDLEEND")]

        asyncio.run(scenario())


def test_written_bit_by_bit_and_closed_each_time(folder: Path, clock: Clock) -> None:
    async def scenario() -> None:
        importer = Importer()
        async with watched(folder, importer, settings=BY_CLOCK) as (inbox, news):
            for count, part in enumerate((b"BUNDLE", b"xxx", b"yyy", b"END"), 1):
                assert not news
                with (folder / "bits").open("ab") as file:
                    file.write(part)
                while len(importer.taken) < count:
                    clock.now += BY_CLOCK.after_close_s
                    await inbox.look_again()
            await news.wait()
            (event,) = news
            assert isinstance(event, InboxTaken)
            assert event.taken.whole

    asyncio.run(scenario())
    assert (folder / "done" / "bits").read_bytes() == b"BUNDLExxxyyyEND"


@both
def test_what_is_cut_short_goes_to_quarantine(folder: Path, poll: bool) -> None:
    async def scenario() -> None:
        importer = Importer()
        async with running(folder, importer, poll=poll) as news:
            (folder / "cut").write_bytes(WHOLE[:500])
            await news.wait()
            (event,) = news
            assert isinstance(event, InboxTaken)
            assert event.moved_to == folder / "quarantine" / "cut"

    asyncio.run(scenario())
    assert (folder / "quarantine" / "cut").read_bytes() == WHOLE[:500]


@both
def test_other_files_are_left_alone(folder: Path, tmp_path: Path, poll: bool) -> None:
    (tmp_path / "outside").write_bytes(WHOLE)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8" + b"x" * 100)
    (folder / "empty").touch()
    (folder / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "folder" / "inside").write_bytes(WHOLE)
    for name in (".hidden", "x.part", "x.crdownload", "~x", ".syncthing.a.sneaker.tmp", "x~"):
        (folder / name).write_bytes(WHOLE)
    before = sorted(path.name for path in folder.iterdir())

    async def scenario() -> None:
        importer = Importer()
        async with watched(folder, importer, poll=poll, settings=RESTLESS) as (inbox, news):
            await inbox.settle()
            await inbox.look_again(3)
            assert not news
            assert not importer.taken

    asyncio.run(scenario())
    assert sorted(path.name for path in folder.iterdir()) == before


def test_names_are_only_names(folder: Path) -> None:
    """Escapes, newlines, bytes that are no text, and names as long as names can be; taken twice, nothing is lost."""
    names = [b"a\x1b[31m\n.sneaker", b"\xff\xfe", b"-rf", "…".encode() * 85, b"x" * 255]

    async def scenario() -> None:
        async with running(folder, Importer()) as news:
            for count in (1, 2):
                for name in names:
                    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(WHOLE)
                await news.wait(count * len(names))

    asyncio.run(scenario())
    assert len(list((folder / "done").iterdir())) == 2 * len(names)
    assert [path.name for path in folder.iterdir()] == ["done"]


def test_a_link_in_place_of_the_done_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "done").symlink_to(elsewhere)

    async def scenario() -> None:
        async with watched(folder, Importer(), settings=RESTLESS) as (inbox, news):
            (folder / "a").write_bytes(WHOLE)
            await news.wait()
            await inbox.settle()
            await inbox.look_again(3)
            assert [type(event) for event in news] == [InboxFailed]

    asyncio.run(scenario())
    assert not list(elsewhere.iterdir())
    assert (folder / "a").exists()


def test_this_machines_trouble_leaves_the_file_and_is_retried(folder: Path) -> None:
    failures = iter(range(2))

    def fail(path: Path) -> None:
        if next(failures, None) is not None:
            raise StoreLocked("another sneaker is writing")

    async def scenario() -> None:
        async with running(folder, Importer(fail=fail)) as news:
            (folder / "a").write_bytes(WHOLE)
            await news.wait(3)
            assert [type(event) for event in news] == [InboxFailed, InboxFailed, InboxTaken]

    asyncio.run(scenario())


def test_a_file_that_cannot_be_imported_at_all_is_said_once(folder: Path) -> None:
    def fail(path: Path) -> None:
        raise NotABundle("no")

    async def scenario() -> None:
        async with watched(folder, Importer(fail=fail), settings=RESTLESS) as (inbox, news):
            (folder / "a").write_bytes(WHOLE)
            await news.wait()
            await inbox.settle()
            await inbox.look_again(3)
            assert [type(event) for event in news] == [InboxFailed]

    asyncio.run(scenario())


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "run 'sneaker setup' again"), (errno.EACCES, "denied")])
def test_a_file_that_cannot_be_moved_away_is_said_once(
    folder: Path, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the service, whose unit lets it write only in the inboxes that it was made for."""

    def refuse(*names: object, **folders: object) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario() -> None:
        async with watched(folder, Importer(), settings=RESTLESS) as (inbox, news):
            monkeypatch.setattr(os, "rename", refuse)
            (folder / "a").write_bytes(WHOLE)
            await news.wait()
            await inbox.settle()
            await inbox.look_again(3)
            (failed,) = news
            assert isinstance(failed, InboxFailed)
            assert failed.words.startswith("1 new message, but the file cannot be moved away: ")
            assert words in failed.words

    asyncio.run(scenario())


def test_the_folder_goes_and_comes(folder: Path) -> None:
    async def scenario() -> None:
        async with watched(folder, Importer(), settings=RESTLESS) as (inbox, news):
            folder.rename(folder.with_name("away"))
            await news.wait()
            assert isinstance(news[0], InboxFailed)
            folder.mkdir()
            await inbox.look_again()
            (folder / "a").write_bytes(WHOLE)
            await news.wait(2)
            # replaced by another at once
            folder.rename(folder.with_name("away2"))
            folder.mkdir()
            await inbox.look_again()
            (folder / "b").write_bytes(WHOLE)
            await news.wait(3)
        assert [type(event) for event in news] == [InboxFailed, InboxTaken, InboxTaken]

    asyncio.run(scenario())


def test_a_restart_at_any_moment_loses_nothing(folder: Path) -> None:
    """Killed between the import and the move: the next start imports again, which changes nothing, and moves."""

    class Killed(BaseException):
        pass

    async def scenario() -> None:
        importer = Importer()
        inbox = Inbox(folder, importer.wanted, importer.take, News(), False, QUICK)
        (folder / "a").write_bytes(WHOLE)

        def killed(path: Path, whole: bool) -> Path:
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Inbox, "_move", lambda self, path, whole: killed(path, whole))
            with pytest.raises(Killed):
                await inbox.once()
        news = News()
        await Inbox(folder, importer.wanted, importer.take, news, False, QUICK).once()
        assert [type(event) for event in news] == [InboxTaken]
        assert [name for name, _ in importer.taken] == ["a", "a"]

    asyncio.run(scenario())


def test_opening_for_writing_while_we_ask_does_not_end_us(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel breaks our lease with SIGIO, whose default is to end the process."""
    path = folder / "contended"
    path.write_bytes(WHOLE)
    kept_waiting = []

    def ask(descriptor: int, question: int, lease: int) -> int:
        answer = fcntl.fcntl(descriptor, question, lease)
        if lease == fcntl.F_RDLCK:
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            kept_waiting.append(path)
        return answer

    async def scenario() -> None:
        async with running(folder, Importer()) as news:
            await news.wait()

    asking = SimpleNamespace(**{**vars(fcntl), "fcntl": ask})
    monkeypatch.setattr(inbox_module, "fcntl", asking)
    before = signal.signal(signal.SIGIO, signal.SIG_DFL)
    try:
        asyncio.run(scenario())
    finally:
        signal.signal(signal.SIGIO, before)
    assert kept_waiting == [path]


def test_which_folders_are_shared(tmp_path: Path) -> None:
    assert not is_shared(tmp_path)
    assert not is_shared(tmp_path / "missing")


def test_fuse_folders_are_polled() -> None:
    """sshfs and other network folders of desktops are FUSE."""
    from sneaker.devices.mounts import MountTable, parse_mountinfo

    table = MountTable(
        tuple(
            parse_mountinfo(
                b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
                b"2 1 0:50 / /home/anna/remote rw - fuse.sshfs anna@hub: rw\n"
                b"3 1 0:51 / /home/anna/share rw - cifs //hub/share rw\n"
            )
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MountTable, "read", classmethod(lambda cls: table))
        assert is_shared(Path("/home/anna/remote/inbox"))
        assert is_shared(Path("/home/anna/share"))
        assert not is_shared(Path("/home/anna"))


@both
def test_a_bug_that_one_file_shows_keeps_no_other_waiting(folder: Path, poll: bool) -> None:
    def fail(path: Path) -> None:
        if path.name == "a":
            raise RecursionError("deep\x1b[31m")

    async def scenario() -> None:
        importer = Importer(fail=fail)
        (folder / "a").write_bytes(WHOLE)
        (folder / "b").write_bytes(WHOLE)
        async with running(folder, importer, poll=poll) as news:
            await news.wait(2)
            (folder / "c").write_bytes(WHOLE)
            await news.wait(3)
        assert [name for name, _ in importer.taken] == ["b", "c"]
        (failed,) = [event for event in news if isinstance(event, InboxFailed)]
        assert failed.path == folder / "a"
        assert "this is a bug in sneaker, please report it: RecursionError" in failed.words

    asyncio.run(scenario())
    assert (folder / "a").exists()
