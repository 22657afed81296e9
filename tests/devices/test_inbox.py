"""Inboxes: real files, written slowly, moved in, linked in, left lying, cut short; real network-like mounts are polled."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sneaker.devices.inbox import Inbox, InboxFailed, InboxSettings, InboxTaken, Taken, is_shared
from sneaker.errors import NotABundle, StoreLocked

QUICK = InboxSettings(after_close_s=0.05, quiet_s=0.3, stuck_s=2, poll_s=0.1, heal_s=30, retry_s=0.2)
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


@asynccontextmanager
async def running(
    folder: Path, importer: Importer, *, poll: bool | None = None, settings: InboxSettings = QUICK
) -> AsyncIterator[News]:
    news = News()
    inbox = Inbox(folder, importer.wanted, importer.take, news, poll, settings)
    task = asyncio.create_task(inbox.run())
    await asyncio.sleep(0.2)
    try:
        yield news
    finally:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    return made


both = pytest.mark.parametrize("poll", [False, True], ids=["inotify", "polling"])


@both
def test_a_file_that_is_written_slowly(folder: Path, poll: bool) -> None:
    """Nothing is looked at while the file grows, however long that takes."""

    async def scenario() -> Importer:
        importer = Importer()
        async with running(folder, importer, poll=poll) as news:
            with (folder / "a.sneaker").open("wb") as file:
                for at in range(0, len(WHOLE), 100):
                    file.write(WHOLE[at : at + 100])
                    file.flush()
                    await asyncio.sleep(0.08)
                assert not importer.taken
            await news.wait()
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


def test_a_writer_in_another_process_is_waited_for(folder: Path) -> None:
    """Found at the start, half written, by a program that stalls: the kernel says that it is still open."""
    path = folder / "stalled"
    code = "import sys,time; f=open(sys.argv[1],'wb'); f.write(b'BUNDLE'); f.flush(); print(); sys.stdin.read(1); f.write(b'END')"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()

        async def scenario() -> None:
            importer = Importer()
            async with running(folder, importer) as news:
                await asyncio.sleep(1)
                assert not importer.taken
                writer.stdin.write(b"x")  # type: ignore[union-attr]
                writer.stdin.flush()  # type: ignore[union-attr]
                await news.wait()
                assert importer.taken == [("stalled", b"BUNDLEEND")]

        asyncio.run(scenario())


def test_written_bit_by_bit_and_closed_each_time(folder: Path) -> None:
    async def scenario() -> None:
        importer = Importer()
        async with running(folder, importer) as news:
            for part in (b"BUNDLE", b"xxx", b"yyy", b"END"):
                with (folder / "bits").open("ab") as file:
                    file.write(part)
                await asyncio.sleep(0.2)
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
        async with running(folder, importer, poll=poll) as news:
            await asyncio.sleep(0.8)
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
        async with running(folder, Importer()) as news:
            (folder / "a").write_bytes(WHOLE)
            await news.wait()
            await asyncio.sleep(0.5)
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
        async with running(folder, Importer(fail=fail)) as news:
            (folder / "a").write_bytes(WHOLE)
            await asyncio.sleep(1)
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
        async with running(folder, Importer()) as news:
            monkeypatch.setattr(os, "rename", refuse)
            (folder / "a").write_bytes(WHOLE)
            await asyncio.sleep(1)
            (failed,) = news
            assert isinstance(failed, InboxFailed)
            assert failed.words.startswith("1 new message, but the file cannot be moved away: ")
            assert words in failed.words

    asyncio.run(scenario())


def test_the_folder_goes_and_comes(folder: Path) -> None:
    async def scenario() -> None:
        settings = replace(QUICK, heal_s=0.3)
        async with running(folder, Importer(), settings=settings) as news:
            folder.rename(folder.with_name("away"))
            await news.wait()
            assert isinstance(news[0], InboxFailed)
            folder.mkdir()
            await asyncio.sleep(0.5)
            (folder / "a").write_bytes(WHOLE)
            await news.wait(2)
            # replaced by another at once
            folder.rename(folder.with_name("away2"))
            folder.mkdir()
            await asyncio.sleep(0.6)
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


def test_opening_for_writing_while_we_ask_does_not_end_us(folder: Path) -> None:
    """The kernel breaks our lease with SIGIO, whose default is to end the process."""
    path = folder / "contended"
    path.write_bytes(WHOLE)
    stop = threading.Event()

    def open_and_close() -> None:
        while not stop.is_set():
            with path.open("ab"):
                pass

    async def scenario() -> None:
        thread = threading.Thread(target=open_and_close)
        async with running(folder, Importer(), settings=replace(QUICK, after_close_s=0)):
            thread.start()
            await asyncio.sleep(1)
            stop.set()
            thread.join()

    asyncio.run(scenario())


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
