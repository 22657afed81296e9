"""The Python API, as its page shows it and as other programs meet it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sneaker
from sneaker import api
from sneaker.errors import HomeMissing, OutputError, SourceError
from tests.command_line import sneaker as command
from tests.homes import fixture_log_file, make_home

PAGE = Path(__file__).parent.parent / "sneaker" / "guide" / "python-api.md"


@pytest.fixture(scope="module")
def island(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bob's home, from which tests only read, his card and a bundle."""
    folder = tmp_path_factory.mktemp("island")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        command("init", at=folder / "bob")
        command("import", fixture_log_file(folder), at=folder / "bob")
        command("publish", "hello", at=folder / "bob")
        command("clock", "--card", folder / "bob.card", at=folder / "bob")
        command("export", folder / "from-the-island.sneaker", at=folder / "bob")
    return folder


@pytest.fixture
def world(tmp_path: Path, island: Path) -> Path:
    """Ada's home, which is empty, and what came from the island: Bob's card and a bundle."""
    make_home(tmp_path / "ada")
    (tmp_path / "bob").symlink_to(island / "bob")
    for name in ("bob.card", "from-the-island.sneaker"):
        shutil.copy(island / name, tmp_path)
    return tmp_path


def test_the_examples_of_the_page_run(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 5
    monkeypatch.chdir(world)
    program = "\n".join(examples).replace("/home/ada/.local/share/sneaker", str(world / "ada"))
    exec(compile(program, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^ok \d+ valid 0 invalid$", printed, re.MULTILINE)
    assert re.search(r"^[1-9]\d* new messages$", printed, re.MULTILINE)
    assert re.search(r"^for-bob.sneaker \d+$", printed, re.MULTILINE)
    assert re.search(r"^0 messages 0 blobs$", printed, re.MULTILINE), "Bob has all of it"


def test_every_name_is_explained_and_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert set(sneaker.__all__) == {*api.__all__, "__version__"}
    for name in sneaker.__all__:
        assert getattr(sneaker, name) is not None
        if name[0].islower():
            assert f"sneaker.{name}(" in page, f"{name} is not on the page"
    with pytest.raises(AttributeError, match="no_such_name"):
        sneaker.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_nothing_is_loaded_before_it_is_used() -> None:
    program = "import sys, sneaker; assert 'sneaker.api' not in sys.modules; sneaker.verify; assert 'sneaker.api' in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_bundle_gives_the_log(world: Path) -> None:
    with sneaker.open_home(world / "bob") as home:
        held = {str(message.key): message.text for message in home.store.log()}
    read = list(sneaker.read_bundle(world / "from-the-island.sneaker"))
    assert {message.key: message.text for message in read} == held
    assert len(read) == len(held)


def test_only_what_authors_signed_is_read(world: Path) -> None:
    """A damaged record costs its messages; the rest is read, and nothing else."""
    whole = (world / "from-the-island.sneaker").read_bytes()
    good = {message.key for message in sneaker.read_bundle(world / "from-the-island.sneaker")}
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 1
    (world / "damaged.sneaker").write_bytes(damaged)
    assert {message.key for message in sneaker.read_bundle(world / "damaged.sneaker")} < good
    assert sneaker.verify(world / "damaged.sneaker").status == "damaged"


def test_an_encrypted_bundle_needs_its_reader(world: Path) -> None:
    with sneaker.open_home(world / "ada") as ada, sneaker.open_home(world / "bob") as bob:
        sneaker.export(bob, world / "secret.age", recipients=[str(ada.keypair.public)])
        with pytest.raises(sneaker.SneakerError, match="encrypted"):
            next(sneaker.read_bundle(world / "secret.age"))
        with pytest.raises(sneaker.SneakerError) as raised:
            next(sneaker.read_bundle(world / "secret.age", home=bob))
        assert raised.value.code == "decryption-failed"
        assert len(list(sneaker.read_bundle(world / "secret.age", home=ada))) > 0


def test_export_narrows_and_tries(world: Path) -> None:
    with sneaker.open_home(world / "bob") as bob:
        me = str(bob.keypair.public)
        tried = sneaker.export(bob, world / "none.sneaker", feeds=[me], dry_run=True)
        assert (tried.packed.messages, (world / "none.sneaker").exists()) == (1, False)
        folder = world / "folder"
        folder.mkdir()
        written = sneaker.export(bob, folder, feeds=[me], blobs=False)
        assert [Path(path).parent for path, _ in written.files] == [folder]
    assert [message.author for message in sneaker.read_bundle(written.files[0][0])] == [me]


def test_import_leaves_out_what_is_far(world: Path) -> None:
    with sneaker.open_home(world / "ada") as ada:
        tried = sneaker.import_files(ada, [world / "from-the-island.sneaker"], dry_run=True)
        assert tried.ingested.accepted > 0
        assert ada.store.clock() == {}
        near = sneaker.import_files(ada, [world / "from-the-island.sneaker"], hops=1)
        assert (near.ingested.accepted, near.ingested.left_out) == (0, tried.ingested.read)


def test_what_is_no_bundle_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for work in (sneaker.verify, lambda path: next(sneaker.read_bundle(path))):
        with pytest.raises(sneaker.SneakerError, match="text"):
            work(tmp_path / "text")
        with pytest.raises(sneaker.SneakerError, match="no such file"):
            work(tmp_path / "nothing")


def test_a_file_may_have_any_name(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line ``-`` stands for standard input and output, here for a file."""
    monkeypatch.chdir(world)
    with sneaker.open_home("bob") as bob, sneaker.open_home("ada") as ada:
        assert sneaker.export(bob, "-").files[0][1] == Path("-").stat().st_size
        assert sneaker.import_files(ada, ["-"]).ingested.accepted > 0


def test_errors_name_what_a_program_gave(world: Path) -> None:
    with sneaker.open_home(world / "ada") as home:
        with pytest.raises(sneaker.SneakerError, match="at most 10 bytes is too small: the least is 64 KiB"):
            sneaker.export(home, world / "x.sneaker", max_bytes=10)
        with pytest.raises(sneaker.SneakerError, match="the reader nosuch is no file"):
            sneaker.export(home, world / "x.sneaker", readers=["nosuch"])
        for name in ("readers", "feeds", "recipients"):
            with pytest.raises(TypeError, match=f"{name} takes a list"):
                sneaker.export(home, world / "x.sneaker", **{name: "bob.card"})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="paths takes a list"):
            sneaker.import_files(home, "x.sneaker")


def test_fewer_than_no_hops_are_refused(world: Path) -> None:
    with sneaker.open_home(world / "ada") as home:
        with pytest.raises(sneaker.SneakerError, match="hops"):
            sneaker.import_files(home, [], hops=-1)
        with pytest.raises(sneaker.SneakerError, match="hops"):
            sneaker.export(home, world / "no.sneaker", hops=-1)
    assert not (world / "no.sneaker").exists()


def test_what_cannot_be_read_is_a_source_error() -> None:
    """A file that opens, and whose first bytes are not to be had."""
    with pytest.raises(SourceError, match="cannot read /proc/self/mem"):
        list(sneaker.read_bundle("/proc/self/mem"))
    with pytest.raises(SourceError, match="cannot read /proc/self/mem"):
        sneaker.verify("/proc/self/mem")


def test_names_that_no_file_has(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    with pytest.raises(SourceError):
        sneaker.verify("a\0b")
    with pytest.raises(SourceError):
        list(sneaker.read_bundle("a\0b"))
    with pytest.raises(HomeMissing):
        sneaker.open_home("a\0b")
    with sneaker.open_home(world / "ada") as home:
        report = sneaker.import_files(home, ["a\0b", "", "from-the-island.sneaker"])
        assert [source.status for source in report.sources] == ["refused", "refused", "ok"]
        for name in ("a\0b", ""):
            with pytest.raises(OutputError):
                sneaker.export(home, name)
