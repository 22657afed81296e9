"""Never a fork: a restored copy, or a second machine with the same key, does not publish over what the world has seen."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sneaker.bundle.card import Card, decode_card, encode_card
from sneaker.doctor.own_feed import own_feed
from sneaker.errors import ForkError
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Message
from sneaker.home.home import Home
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.own_feed.claims import contradicting
from sneaker.own_feed.fork_guard import check_may_publish
from sneaker.own_feed.publish import contact_content, publish
from sneaker.stick.enrolment import enrol
from sneaker.stick.layout import BUNDLES, CARDS, FOLDER, base32
from sneaker.stick.visit import VisitOptions, VisitReport, visit
from sneaker.store.check import check
from tests.command_line import Running, start
from tests.homes import home, pack, take
from tests.known_clocks import has, tell
from tests.tries import amount

ADA = Keypair.from_seed(b"a" * 32)
BEN = Keypair.from_seed(b"b" * 32)
EVE = Keypair.from_seed(b"e" * 32)


class Ticking:
    """A clock that goes a second further each time it is looked at."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        self.now_ms += 1000
        return self.now_ms


now = Ticking()


def say(opened: Home, count: int = 1, clock: Callable[[], int] = now) -> list[Message]:
    """Publish some posts that are unlike any others."""
    return [
        publish(
            opened.store,
            opened.keypair,
            opened.caps,
            {"type": "post", "text": os.urandom(16).hex()},
            now_ms=clock,
            random_bytes=os.urandom,
        )
        for _ in range(count)
    ]


def follow(opened: Home, other: Keypair, *, following: bool | None = True, blocking: bool | None = None) -> None:
    content = contact_content(other.public, following=following, blocking=blocking)
    publish(opened.store, opened.keypair, opened.caps, content, now_ms=now, random_bytes=os.urandom)


def sync(opened: Home, stick: Path, **options: object) -> VisitReport:
    stick.mkdir(exist_ok=True)
    enrol(opened, stick, "", now_ms=now(), random_bytes=os.urandom)
    report = visit(opened, stick, VisitOptions(**options), now_ms=now, random_bytes=os.urandom)  # type: ignore[arg-type]
    assert report.safe_to_remove, report.problems
    return report


def held(opened: Home, keypair: Keypair = ADA) -> int:
    return opened.store.clock().get(keypair.public, 0)


def bundles(stick: Path) -> list[Path]:
    return sorted((stick / FOLDER / BUNDLES).iterdir())


def refuses(opened: Home) -> None:
    """Assert that nothing can be published, and that the error says how to get out of it."""
    before = held(opened)
    with pytest.raises(ForkError) as caught:
        say(opened)
    assert caught.value.hint
    assert held(opened) == before


class World:
    """Ada, who follows Ben, published five messages, made a backup, published five more; Ben got all ten; then Ada's disk broke."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ada = path / "ada"
        self.ben = path / "ben"
        self.backup = path / "backup"
        self.stick = path / "stick"
        with home(self.ada, ADA.seed) as ada:
            follow(ada, BEN)
            say(ada, 4)
            sync(ada, self.stick)
        shutil.copytree(self.ada, self.backup)
        with home(self.ada) as ada:
            self.messages = say(ada, 5)
            sync(ada, self.stick)
        with home(self.ben, BEN.seed) as ben:
            say(ben, 2)
            sync(ben, self.stick)
            assert held(ben) == 10

    def restore(self) -> None:
        shutil.rmtree(self.ada)
        shutil.copytree(self.backup, self.ada)

    def drop_bundles(self) -> None:
        for path in bundles(self.stick):
            path.unlink()

    def cards(self) -> dict[str, Path]:
        """Return the cards on the stick by whose they are."""
        names = {ADA.public: "ada", BEN.public: "ben"}
        found = sorted((self.stick / FOLDER / CARDS).glob("*.card"))
        return {names[decode_card(path.read_bytes()).machine]: path for path in found}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ---------------------------------------------------------------------------------------------------- evidence


def only_own_card(world: World) -> None:
    world.drop_bundles()
    world.cards()["ben"].unlink()
    world.restore()
    with home(world.ada) as ada:
        sync(ada, world.stick)


def own_card_after_a_newer_one_elsewhere(world: World) -> None:
    """The restored copy leaves a card on another stick first: the one that knows more is older than that."""
    world.drop_bundles()
    world.cards()["ben"].unlink()
    world.restore()
    with home(world.ada) as ada:
        sync(ada, world.path / "other")
        say(ada)  # nobody has told it anything yet: this cannot be helped
        sync(ada, world.path / "other")
        sync(ada, world.stick)


def card_of_another(world: World) -> None:
    world.drop_bundles()
    world.cards()["ada"].unlink()
    world.restore()
    with home(world.ada) as ada:
        sync(ada, world.stick)


def older_card_of_another(world: World) -> None:
    """Ben lost data as well; his newest card says little, and an older one says what matters."""
    world.drop_bundles()
    world.cards()["ada"].unlink()
    network_id = decode_card(world.cards()["ben"].read_bytes()).network_id
    world.restore()
    newer = world.path / "newer.card"
    newer.write_bytes(encode_card(Card(BEN.public, network_id, 2**60, 1, {ADA.public: 3}), BEN))
    with home(world.ada) as ada:
        sync(ada, world.path / "other")
        other = world.path / "other" / FOLDER / CARDS
        shutil.copy(newer, other / world.cards()["ben"].name.replace(world.cards()["ben"].stem[53:], str(2**60)))
        sync(ada, world.path / "other")
        check_may_publish(ada.store, ADA.public)
        sync(ada, world.stick)


def imported_card(world: World) -> None:
    card = world.cards()["ben"]
    world.restore()
    with home(world.ada) as ada:
        take(ada, card)


def imported_own_card(world: World) -> None:
    card = world.cards()["ada"]
    world.restore()
    with home(world.ada) as ada:
        take(ada, card)


def card_to_export_for(world: World) -> None:
    world.restore()
    with home(world.ada) as ada:
        pack(ada, world.path / "for-ben.sneaker", readers=[str(world.cards()["ben"])])


def clock_to_export_for(world: World) -> None:
    world.restore()
    (world.path / "clock.json").write_text(f'{{"{ADA.public}": 10}}')
    with home(world.ada) as ada:
        pack(ada, world.path / "for-ben.sneaker", readers=[str(world.path / "clock.json")])


def clock_in_a_bundle(world: World) -> None:
    with home(world.ben) as ben:
        pack(ben, world.path / "ben.sneaker", feeds={BEN.public})
    world.restore()
    with home(world.ada) as ada:
        take(ada, world.path / "ben.sneaker")


def waiting_messages(world: World) -> None:
    with home(world.ben) as ben:
        (world.path / "clock.json").write_text(f'{{"{ADA.public}": 7}}')
        pack(ben, world.path / "late.sneaker", readers=[str(world.path / "clock.json")], feeds={ADA.public})
    world.restore()
    with home(world.ada) as ada:
        take(ada, world.path / "late.sneaker")
        assert ada.store.waiting() == {ADA.public: [(8, 10)]}


def damaged_bundle(world: World) -> None:
    """The messages cannot be read any more, but the index says that they were there."""
    with home(world.ben) as ben:
        (world.path / "clock.json").write_text(f'{{"{ADA.public}": 5, "{BEN.public}": 2}}')
        pack(ben, world.path / "late.sneaker", readers=[str(world.path / "clock.json")])
    data = bytearray((world.path / "late.sneaker").read_bytes())
    place = data.find(world.messages[0].signature)
    assert place > 0
    data[place] ^= 1
    (world.path / "late.sneaker").write_bytes(data)
    world.restore()
    with home(world.ada) as ada:
        take(ada, world.path / "late.sneaker")
        assert held(ada) == 5


def peer_on_the_lan(world: World) -> None:
    world.restore()
    with home(world.ada) as ada:
        tell(ada.store, BEN.public, {ADA.public: 10})


def peer_that_says_less_later(world: World) -> None:
    world.restore()
    with home(world.ada) as ada:
        tell(ada.store, BEN.public, {ADA.public: 10})
        tell(ada.store, BEN.public, {}, declined=[ADA.public])


EVIDENCE = [
    only_own_card,
    own_card_after_a_newer_one_elsewhere,
    card_of_another,
    older_card_of_another,
    imported_card,
    imported_own_card,
    card_to_export_for,
    clock_to_export_for,
    clock_in_a_bundle,
    waiting_messages,
    damaged_bundle,
    peer_on_the_lan,
    peer_that_says_less_later,
]


@pytest.mark.parametrize("show", EVIDENCE, ids=lambda show: show.__name__)
def test_a_restored_copy_refuses_once_it_was_shown(world: World, show: Callable[[World], None]) -> None:
    show(world)
    with home(world.ada) as ada:
        refuses(ada)
        with pytest.raises(ForkError):
            publish(
                ada.store,
                ada.keypair,
                ada.caps,
                contact_content(BEN.public, following=True),
                now_ms=now,
                random_bytes=os.urandom,
            )


@pytest.mark.parametrize(
    "show",
    [show for show in EVIDENCE if show is not own_card_after_a_newer_one_elsewhere],
    ids=lambda show: show.__name__,
)
def test_and_goes_on_where_it_was_when_it_has_its_messages_back(world: World, show: Callable[[World], None]) -> None:
    show(world)
    with home(world.ben) as ben:
        pack(ben, world.path / "all.sneaker")
    with home(world.ada) as ada:
        take(ada, world.path / "all.sneaker")
        assert held(ada) == 10
        message = say(ada)[0]
        assert (message.sequence, message.previous) == (11, world.messages[-1].key)
        sync(ada, world.stick)
    with home(world.ben) as ben:
        assert not sync(ben, world.stick).imported.ingested.feeds_forked
        assert held(ben) == 11


def test_a_dry_run_and_export_before_import_change_nothing(world: World) -> None:
    """What a restored copy gives away before it has learnt anything is old, and nothing worse."""
    world.restore()
    with home(world.ada) as ada:
        pack(ada, world.path / "old.sneaker")
        sync(ada, world.path / "other")
        sync(ada, world.stick, dry_run=True)
        assert held(ada) == 5
        sync(ada, world.stick)
        assert held(ada) == 10
        say(ada)
        sync(ada, world.stick)
    with home(world.ben) as ben:
        report = take(ben, world.path / "old.sneaker")
        assert not report.ingested.refused
        sync(ben, world.stick)
        assert (held(ben), ben.store.forked()) == (11, set())


def test_blocking_oneself_hides_nothing(world: World) -> None:
    world.restore()
    with home(world.ada) as ada:
        publish(
            ada.store,
            ada.keypair,
            ada.caps,
            contact_content(EVE.public, blocking=True),
            now_ms=now,
            random_bytes=os.urandom,
        )
    shutil.rmtree(world.ada)
    with home(world.ada, ADA.seed) as ada:
        # We write no such thing, other programs let one.
        content = contact_content(ADA.public, blocking=True)
        with Ingest(ada.store, caps=ada.caps, now_ms=now, workers=1) as ingest:
            ingest.add_message(create_message(ada.keypair, None, now(), content))
        report = sync(ada, world.stick)
        assert report.imported.ingested.feeds_forked == {ADA.public}


# ---------------------------------------------------------------------------------------------------- strangers
# What Eve says, of whom nobody here has heard, or somebody in another's name.


def lie(world: World, machine: Keypair = EVE) -> Path:
    """Return a card that claims our feed up to a million."""
    network_id = decode_card(world.cards()["ben"].read_bytes()).network_id
    path = world.path / "lie.card"
    path.write_bytes(encode_card(Card(machine.public, network_id, 2**40, 1, {ADA.public: 1_000_000}), machine))
    return path


def strangers_card_imported(world: World, ada: Home) -> None:
    take(ada, lie(world))


def strangers_card_to_export_for(world: World, ada: Home) -> None:
    pack(ada, world.path / "for-eve.sneaker", readers=[str(lie(world))])


def strangers_card_on_an_enrolled_stick(world: World, ada: Home) -> None:
    sync(ada, world.path / "other")
    (lie(world)).rename(world.path / "other" / FOLDER / CARDS / f"{base32(EVE.public.key)}-{2**40}.card")
    sync(ada, world.path / "other")


def strangers_index(world: World, ada: Home) -> None:
    """A bundle that lists messages of ours, signed, and does not hold them: the same as ``damaged_bundle``, by a stranger."""
    with home(world.path / "eve", EVE.seed) as eve:
        sync(eve, world.stick)
        (world.path / "clock.json").write_text(f'{{"{ADA.public}": 5, "{BEN.public}": 2}}')
        pack(eve, world.path / "late.sneaker", readers=[str(world.path / "clock.json")])
    data = bytearray((world.path / "late.sneaker").read_bytes())
    for message in world.messages:
        data[data.find(message.signature)] ^= 1
    (world.path / "late.sneaker").write_bytes(data)
    take(ada, world.path / "late.sneaker")


def strangers_clock(world: World, ada: Home) -> None:
    with home(world.path / "eve", EVE.seed) as eve:
        sync(eve, world.stick)
        pack(eve, world.path / "eve.sneaker", feeds={BEN.public})
    take(ada, world.path / "eve.sneaker")


def strangers_note(world: World, ada: Home) -> None:
    tell(ada.store, EVE.public, {ADA.public: 10})


def strangers_clock_to_export_for(world: World, ada: Home) -> None:
    strangers_note(world, ada)
    pack(ada, world.path / "for-eve.sneaker", readers=[str(EVE.public)])


def header_in_our_name(world: World, ada: Home) -> None:
    """The header says that we packed it and the clock that we had ten messages: without the trailer, anybody can write that."""
    with home(world.path / "other", ADA.seed) as other:
        sync(other, world.stick)
        pack(other, world.path / "ours.sneaker", feeds={BEN.public})
    take(ada, data=(world.path / "ours.sneaker").read_bytes()[:-200])


def header_in_the_name_of_a_friend(world: World, ada: Home) -> None:
    with home(world.ben) as ben:
        pack(ben, world.path / "bens.sneaker", feeds={BEN.public})
    take(ada, data=(world.path / "bens.sneaker").read_bytes()[:-200])
    assert has(ada.store, BEN.public) == {}, "a forged clock would keep from Ben what he lacks"


STRANGERS = [
    strangers_card_imported,
    strangers_card_to_export_for,
    strangers_card_on_an_enrolled_stick,
    strangers_index,
    strangers_clock,
    strangers_note,
    strangers_clock_to_export_for,
    header_in_our_name,
    header_in_the_name_of_a_friend,
]


@pytest.mark.parametrize("say_so", STRANGERS, ids=lambda say_so: say_so.__name__)
def test_strangers_stop_nothing_without_proof(world: World, say_so: Callable[[World, Home], None]) -> None:
    world.restore()
    with home(world.ada) as ada:
        say_so(world, ada)
        assert held(ada) == 5
        signed = say_so not in (header_in_our_name, header_in_the_name_of_a_friend)
        assert [claim.source for claim in ada.store.claims.claims_about(ADA.public)] == [EVE.public] * signed
        say(ada)
        assert own_feed(ada).state == "fine"


def test_proof_counts_whoever_brings_it(world: World) -> None:
    world.restore()
    with home(world.path / "eve", EVE.seed) as eve:
        sync(eve, world.stick)
        (world.path / "clock.json").write_text(f'{{"{ADA.public}": 7}}')
        pack(eve, world.path / "late.sneaker", readers=[str(world.path / "clock.json")], feeds={ADA.public})
    with home(world.ada) as ada:
        take(ada, world.path / "late.sneaker")
        assert ada.store.own_sequence_seen(ADA.public).proven == 10
        refuses(ada)


# ---------------------------------------------------------------------------------------------------- recovery


def test_recovery_from_ones_own_bundle_on_the_stick(world: World) -> None:
    world.restore()
    with home(world.ada) as ada:
        report = sync(ada, world.stick)
        assert report.imported.ingested.accepted >= 5
        assert say(ada)[0].sequence == 11


def test_recovery_through_others_when_ones_own_bundles_were_cleaned(world: World) -> None:
    """Nothing of Ada's lies on the stick any more; Ben sees from her card what she lacks, and brings it."""
    with home(world.ada) as ada:
        sync(ada, world.stick)  # everybody has everything: Ada's bundles go
    assert not [path for path in bundles(world.stick) if ADA.public in path.read_bytes()]
    world.restore()
    with home(world.ada) as ada:
        assert sync(ada, world.stick).own_elsewhere == 10
        refuses(ada)
    with home(world.ben) as ben:
        assert sync(ben, world.stick).exported is not None
    with home(world.ada) as ada:
        assert sync(ada, world.stick).own_elsewhere is None
        assert held(ada) == 10
        assert say(ada)[0].sequence == 11
        sync(ada, world.stick)
    with home(world.ben) as ben:
        sync(ben, world.stick)
        assert (held(ben), ben.store.forked()) == (11, set())


def test_recovery_when_the_clock_of_the_restored_machine_is_wrong(world: World) -> None:
    """Without a battery its clock says 1970, so that its new card looks older than the lost one; it still gets through."""
    with home(world.ada) as ada:
        sync(ada, world.stick)
    world.restore()
    wrong = Ticking(0)

    def visit_in_1970(stick: Path) -> None:
        with home(world.ada) as ada:
            stick.mkdir(exist_ok=True)
            enrol(ada, stick, "", now_ms=wrong(), random_bytes=os.urandom)
            visit(ada, stick, VisitOptions(), now_ms=wrong, random_bytes=os.urandom)

    visit_in_1970(world.path / "other")
    visit_in_1970(world.stick)
    with home(world.ben) as ben:
        sync(ben, world.stick)
    visit_in_1970(world.stick)
    with home(world.ada) as ada:
        assert held(ada) == 10
        assert say(ada, clock=wrong)[0].timestamp > world.messages[-1].timestamp


def test_a_copy_of_the_file_of_the_store_alone(world: World) -> None:
    """Somebody copies a home that is in use and forgets the log beside the database: the copy is older than it looks."""
    copy = world.path / "copy"
    with home(world.ada) as ada:
        sync(ada, world.stick)
        ada.store._database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        say(ada, 3)
        copy.mkdir()
        for name in ("secret", "config.toml", "store.sqlite"):
            shutil.copy(world.ada / name, copy / name)
        sync(ada, world.stick)
    with home(copy) as ada:
        assert held(ada) == 10
        sync(ada, world.stick)
        assert say(ada)[0].sequence == 14


def test_messages_that_a_repair_took_out_are_not_published_over(world: World) -> None:
    with home(world.ada) as ada:
        feed_id = ada.store._database.first("SELECT id FROM feed WHERE ref = ?", ADA.public)[0]
        ada.store._database.connection.execute("UPDATE message SET content = x'00' WHERE id = ?", (feed_id << 32 | 10,))
        report = check(ada.store, caps=ada.caps, repair=True)
        assert not report.clean
        assert held(ada) == 9
        refuses(ada)
        take(ada, *bundles(world.stick))
        assert say(ada)[0].sequence == 11


# ---------------------------------------------------------------------------------------------------- two machines


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two machines with Ada's key, level so far, and Ben's."""
    one, two, ben = tmp_path / "one", tmp_path / "two", tmp_path / "ben"
    with home(one, ADA.seed) as ada:
        say(ada, 3)
        pack(ada, tmp_path / "three.sneaker")
    for path, keypair in ((two, ADA), (ben, BEN)):
        with home(path, keypair.seed) as opened:
            take(opened, tmp_path / "three.sneaker")
    return one, two, ben


def test_two_machines_with_one_key_that_take_turns(twins: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, two, ben = twins
    stick = tmp_path / "stick"
    for path in (one, two, one, two):
        with home(path) as ada:
            sync(ada, stick)
            say(ada)
            sync(ada, stick)
    with home(ben) as opened:
        sync(opened, stick)
        assert (held(opened), opened.store.forked()) == (7, set())


def test_two_machines_with_one_key_that_both_write(twins: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Detected by both, each in its own way, and nobody else's feed suffers."""
    one, two, ben = twins
    stick = tmp_path / "stick"
    for path in (one, two):
        with home(path) as ada:
            say(ada, 2)
    for path in (one, two, ben, one, two, ben, one, two):
        with home(path) as opened:
            if path == ben:
                say(opened)
            sync(opened, stick)
    for path in (one, two):
        with home(path) as ada:
            refuses(ada)
            assert held(ada, BEN) == 2
            assert check(ada.store, caps=ada.caps).clean
    with home(two) as ada:  # it found the other message on the stick
        (fork,) = ada.store.forks()
        assert (fork.feed, fork.sequence) == (ADA.public, 4)
        assert fork.ours == ada.store.key_at(ADA.public, 4) != fork.key
    with home(one) as ada:  # it found the card of the other
        (claim,) = contradicting(ada.store, ADA.public)
        assert (claim.source, claim.sequence) == (ADA.public, 5)
        assert claim.key != ada.store.key_at(ADA.public, 5)
    with home(ben) as opened:
        assert opened.store.forked() == {ADA.public}  # it was left proof of it
        assert held(opened) in (4, 5)
        assert say(opened)[0].sequence == 3


def test_a_fork_that_arrives_stops_that_feed_alone(twins: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one, two, ben = twins
    for path in (one, two):
        with home(path) as ada:
            ours = say(ada, 2)
            pack(ada, tmp_path / f"{path.name}.sneaker")
    with home(ben) as opened:
        take(opened, tmp_path / "one.sneaker")
        report = take(opened, tmp_path / "two.sneaker")
        assert report.ingested.feeds_forked == {ADA.public}
        (fork,) = opened.store.forks()
        assert fork.key == ours[0].key
        assert held(opened) == 5
        say(opened)
        assert check(opened.store, caps=opened.caps).clean
        pack(opened, tmp_path / "ben.sneaker")
    with home(one) as ada:
        take(ada, tmp_path / "ben.sneaker")
        assert held(ada, BEN) == 1


def test_as_many_messages_but_others(twins: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Each has four messages, the bundles are gone: only the cards can tell, and they do."""
    one, two, ben = twins
    stick = tmp_path / "stick"
    for path in (one, two):
        with home(path) as ada:
            say(ada)
    for path in (one, two):
        with home(path) as ada:
            sync(ada, stick)
            for bundle in bundles(stick):
                bundle.unlink()
    with home(two) as ada:
        refuses(ada)
    with home(one) as ada:
        sync(ada, stick)
        refuses(ada)
    with home(ben) as opened:
        sync(opened, stick)
        say(opened)


# ---------------------------------------------------------------------------------------------------- races and crashes

_PUBLISHER = """
import os, sys, time
from pathlib import Path
from sneaker.home.config import load_config
from sneaker.home.home import open_home
from sneaker.own_feed.publish import publish
path, count = Path(sys.argv[1]), int(sys.argv[2])
home = open_home(path, load_config(path).caps)
print("ready", flush=True)
for number in range(count):
    message = publish(home.store, home.keypair, home.caps, {"type": "post", "text": f"{os.getpid()} {number}"},
        now_ms=lambda: time.time_ns() // 1_000_000, random_bytes=os.urandom)
    print(message.sequence, message.key, flush=True)
"""


def start_publisher(path: Path, count: int) -> Running:
    return start([str(path), str(count)], program=_PUBLISHER, stdout=subprocess.PIPE)


def test_two_processes_publish_at_once(tmp_path: Path) -> None:
    with home(tmp_path / "ada", ADA.seed):
        pass
    processes = [start_publisher(tmp_path / "ada", 50) for _ in range(2)]
    lines = [line.split() for process in processes for line in process.communicate()[0].splitlines()[1:]]
    assert [process.returncode for process in processes] == [0, 0]
    reported = {int(sequence): key.decode() for sequence, key in lines}
    assert sorted(reported) == list(range(1, 101))
    assert len(lines) == 100
    with home(tmp_path / "ada") as ada:
        assert {message.sequence: str(message.key) for message in ada.store.messages(ADA.public)} == reported
        assert check(ada.store, caps=ada.caps).clean


@pytest.mark.parametrize("seed", range(amount(quick=2, thorough=4)))
def test_killed_while_publishing(tmp_path: Path, seed: int) -> None:
    """What was reported is stored, and what the next run publishes follows it: one message for each sequence, ever."""
    chance = random.Random(seed)
    with home(tmp_path / "ada", ADA.seed):
        pass
    reported: dict[int, str] = {}
    for _ in range(5):
        process = start_publisher(tmp_path / "ada", 10_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        for line in process.communicate()[0].splitlines():
            parts = line.split()
            if len(parts) == 2 and line.endswith(b".sha256"):
                assert int(parts[0]) not in reported
                reported[int(parts[0])] = parts[1].decode()
    with home(tmp_path / "ada") as ada:
        stored = {message.sequence: str(message.key) for message in ada.store.messages(ADA.public)}
        assert reported.items() <= stored.items()
        assert check(ada.store, caps=ada.caps).clean
        assert say(ada)[0].sequence == len(stored) + 1


def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    with home(tmp_path / "ada", ADA.seed) as ada:
        for time_ms in (1_700_000_000_000, 5, 0, 1_600_000_000_000, -(10**15), 1_800_000_000_000):
            publish(
                ada.store,
                ada.keypair,
                ada.caps,
                {"type": "post", "text": "tick"},
                now_ms=lambda time_ms=time_ms: time_ms,  # type: ignore[misc]
                random_bytes=os.urandom,
            )
        stamps = [message.timestamp for message in ada.store.messages(ADA.public)]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == 6
