"""Encrypted bundles: to feeds and to age recipients, both ways with the ordinary age tool, and damaged ones."""

from __future__ import annotations

import io
import os
import random
import subprocess
from pathlib import Path

import pyrage
import pytest

from sneaker.errors import DecryptionError, UsageError
from sneaker.keys import Keypair
from sneaker.refs import FeedRef
from sneaker.transfer.age_encryption import (
    decrypting,
    encrypting,
    format_identity,
    format_recipient,
    parse_recipient,
)
from sneaker.transfer.encrypted_size import padded_size
from tests.command_line import sneaker
from tests.homes import fixture_log, home, log_lines, pack, take


def test_only_the_recipient_reads_it(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b") as b, home(tmp_path / "c") as c:
        path = tmp_path / "x.sneaker.age"
        pack(a, path, recipients=[str(b.keypair.public)])
        data = path.read_bytes()
        for secret in (str(a.keypair.public), str(b.keypair.public), "sneaker", "ed25519", "post"):
            assert secret.encode() not in data
        assert a.keypair.public not in data
        assert b.keypair.public not in data
        report = take(b, path)
        assert report.ingested.accepted == 1129
        assert report.sources[0].kind == "encrypted"
        assert report.sources[0].exporter == str(a.keypair.public)
        assert log_lines(b) == log_lines(a)
        report = take(c, path)
        assert report.sources[0].status == "refused"
        assert isinstance(report.sources[0].error, DecryptionError)
        assert take(b, path).sources[0].status == "known"


def test_several_recipients(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b") as b, home(tmp_path / "c") as c:
        recipients = [str(b.keypair.public), format_recipient(c.keypair.public)]
        pack(a, tmp_path / "x", recipients=recipients)
        for reader in (b, c):
            assert take(reader, tmp_path / "x").ingested.accepted == 1129


def test_a_file_that_is_cut_at_once_says_so(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a:
        pack(a, tmp_path / "x", recipients=[str(a.keypair.public)])
        whole = (tmp_path / "x").read_bytes()
        (tmp_path / "x").write_bytes(whole[:-1])
        assert take(a, tmp_path / "x").sources[0].detail.endswith("nothing of it could be read")


def test_names_in_a_folder_say_nothing(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    with home(filled) as a, home(tmp_path / "b") as b:
        pack(a, tmp_path / "stick", recipients=[str(b.keypair.public)])
        (path,) = (tmp_path / "stick").iterdir()
        assert path.name.endswith(".sneaker.age")
        assert take(b, tmp_path / "stick").ingested.accepted == 1129


@pytest.mark.parametrize("text", ["age1nonsense", "@x", "", "%" + "A" * 43 + "=.sha256", "age1" + "q" * 58])
def test_bad_recipients(text: str) -> None:
    with pytest.raises(UsageError):
        parse_recipient(text)


def test_a_key_that_is_no_point_on_the_curve() -> None:
    bad = [FeedRef.classic(os.urandom(32)) for _ in range(20)]
    refused = 0
    for feed in bad:
        try:
            parse_recipient(str(feed))
        except UsageError:
            refused += 1
    assert refused > 0


def test_cut_and_damaged_files_yield_what_is_before(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b", b"\x05" * 32) as b:
        pack(a, tmp_path / "x", recipients=[str(b.keypair.public)])
    data = (tmp_path / "x").read_bytes()
    generator = random.Random(1)
    taken = []
    for number in range(6):
        damaged = bytearray(data)
        at = generator.randrange(1000, len(data))
        if number % 2:
            del damaged[at:]
        else:
            damaged[at] ^= 1
        with home(tmp_path / f"b{number}", b"\x05" * 32) as b:
            report = take(b, "-", data=bytes(damaged))
            assert report.sources[0].status in ("damaged", "truncated"), report.sources[0]
            assert report.sources[0].detail
            taken.append(report.ingested.accepted)
    for at in (0, 10, 100, 250):
        with home(tmp_path / f"head{at}", b"\x05" * 32) as b:
            damaged = bytearray(data)
            damaged[at] ^= 1
            report = take(b, "-", data=bytes(damaged))
            # How long the head is differs from file to file: behind it the first sealed part is what is damaged.
            assert report.sources[0].status in ("refused", "damaged")
            assert report.ingested.accepted == 0


def test_size_classes() -> None:
    sizes = [padded_size(size) for size in range(1, 100_000, 37)]
    assert all(size <= padded for size, padded in zip(range(1, 100_000, 37), sizes, strict=True))
    assert max(padded_size(size) / size for size in range(1000, 10_000_000, 9973)) < 1.13
    assert len({padded_size(size) for size in range(1_000_000, 2_000_000, 100)}) < 40


def test_padding_hides_the_size(tmp_path: Path) -> None:
    with home(tmp_path / "a") as a, home(tmp_path / "b") as b:
        take(a, "-", data=b"\n".join(fixture_log().splitlines()[:500]))
        plain = pack(a, tmp_path / "plain").packed.bytes
        report = pack(a, tmp_path / "x", recipients=[str(b.keypair.public)], pad=True)
        assert report.packed.bytes == padded_size(report.packed.bytes) >= plain
        assert take(b, tmp_path / "x").complete


@pytest.mark.age
def test_the_age_tool_opens_ours(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b") as b:
        pack(a, tmp_path / "x.age", recipients=[str(b.keypair.public)])
        (tmp_path / "key").write_text(format_identity(b.keypair) + "\n")
        subprocess.run(
            ["age", "--decrypt", "-i", tmp_path / "key", "-o", tmp_path / "x", tmp_path / "x.age"],
            check=True,
            timeout=60,
        )
        report = take(b, tmp_path / "x")
        assert report.sources[0].kind == "bundle"
        assert report.ingested.accepted == 1129


@pytest.mark.age
def test_we_open_what_the_age_tool_wrote(filled: Path, tmp_path: Path) -> None:
    with home(filled) as a, home(tmp_path / "b") as b:
        pack(a, tmp_path / "x")
        for option in ([], ["--armor"]):
            command = [
                "age",
                *option,
                "-r",
                format_recipient(b.keypair.public),
                "-o",
                tmp_path / "y.age",
                tmp_path / "x",
            ]
            subprocess.run(command, check=True, timeout=60)
            report = take(b, tmp_path / "y.age")
            assert report.sources[0].error is None, report.sources[0]
        assert log_lines(b) == log_lines(a)


@pytest.mark.age
def age_file(keypair: Keypair, recipients: int, *, armored: bool) -> bytes:
    recipient = parse_recipient(str(keypair.public))
    return bytes(pyrage.encrypt(b"a few words", [recipient] * recipients, armored=armored))


@pytest.mark.parametrize("armored", [False, True])
def test_a_head_is_read_up_to_a_limit(armored: bool) -> None:
    """pyrage's time grows with the square of the head: one of a megabyte, in an inbox, takes most of a minute."""
    keypair = Keypair.from_seed(bytes(32))
    for recipients in (1, 256):
        with decrypting(io.BytesIO(age_file(keypair, recipients, armored=armored)), keypair) as plain:
            assert plain.file.read() == b"a few words"
    with (
        pytest.raises(DecryptionError, match="the head"),
        decrypting(io.BytesIO(age_file(keypair, 400, armored=armored)), keypair) as plain,
    ):
        plain.file.read()


def test_nothing_is_encrypted_that_could_not_be_read() -> None:
    recipient = str(Keypair.from_seed(bytes(32)).public)
    target = io.BytesIO()
    with pytest.raises(UsageError, match="more than 256"), encrypting(target, [recipient] * 257):
        pass
    assert not target.getvalue()


def test_age_identities_of_other_people(tmp_path: Path) -> None:
    subprocess.run(["age-keygen", "-o", tmp_path / "key"], check=True, capture_output=True)
    recipient = subprocess.run(
        ["age-keygen", "-y", tmp_path / "key"], check=True, capture_output=True, text=True
    ).stdout.strip()
    sneaker("init", at=tmp_path / "a")
    sneaker("publish", "hello", at=tmp_path / "a")
    sneaker("export", tmp_path / "x.age", "--to", recipient, at=tmp_path / "a")
    subprocess.run(["age", "-d", "-i", tmp_path / "key", "-o", tmp_path / "x", tmp_path / "x.age"], check=True)
    assert sneaker("verify", tmp_path / "x", "--json").json["messages"] == {"valid": 1, "invalid": 0}


def test_writing_fails_cleanly(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

    keypair = Keypair.from_seed(bytes(32))

    def write_much() -> None:
        with encrypting(Full(), [str(keypair.public)]) as plain:  # type: ignore[arg-type]
            for _ in range(1000):
                plain.write(bytes(100_000))

    with pytest.raises(OSError, match="space"):
        write_much()


def test_what_cannot_be_opened_is_neither_whole_nor_damaged(tmp_path: Path) -> None:
    """Nobody without the key can tell; no command pretends to."""
    path = tmp_path / "x.age"
    sneaker("init", at=tmp_path / "home")
    for data in (
        age_file(Keypair.from_seed(bytes(32)), 1, armored=False),
        age_file(Keypair.from_seed(bytes(32)), 400, armored=False),
    ):
        path.write_bytes(data)
        assert "encrypted bundle" in (shown := sneaker("inspect", path, at=tmp_path / "home").out)
        assert "closed: the " in shown
        assert sneaker("import", path, at=tmp_path / "home", ok=False).code == 35
        done = sneaker("verify", path, ok=False)
        assert done.code == 31
        assert "encrypted" in done.err
    sneaker("clock", "--card", tmp_path / "card", at=tmp_path / "home")
    assert "is a card" in sneaker("verify", tmp_path / "card", ok=False).err
