"""A valley in a folder: machines, sticks that go round between them, and everything that happens to both.

The machines are real homes and the visits are real visits; what is made up is chance, which comes from one seed, and
time.  After every step the promises are checked (``Violation``); ``settle`` lets the sticks circulate undisturbed and
demands that everybody ends up with everything.
"""

from __future__ import annotations

import os
import random
import shutil
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from sneaker.caps import MAIN_CAPS
from sneaker.errors import ForkError
from sneaker.feed.classic.message import create_message
from sneaker.feed.message import Head, Message
from sneaker.home.home import Home
from sneaker.ingest.ingest import Ingest
from sneaker.keys import Keypair
from sneaker.own_feed.fork_guard import check_may_publish
from sneaker.own_feed.publish import publish
from sneaker.planning.send_order import Order
from sneaker.refs import FeedRef, MessageRef
from sneaker.stick.enrolment import enrol
from sneaker.stick.layout import BUNDLES, CARDS, base32
from sneaker.stick.visit import VisitOptions, VisitReport, visit
from sneaker.store.check import check
from tests.machines import Machine as BaseMachine
from tests.simulation.crash import crashing
from tests.simulation.sticks import SimulatedStick, Violation

__all__ = ["Delivery", "Machine", "Violation", "World"]

_HOUR_MS = 60 * 60 * 1000
# What a message takes in a bundle beside its content, which does not compress: the signature.
_SIGNATURE_BYTES = 64


class Machine(BaseMachine):
    """One machine.  ``reported`` is what its program said to have; ``best`` the most it ever had of each feed."""

    def __init__(self, path: Path, keypair: Keypair) -> None:
        super().__init__(path, keypair)
        self.reported: dict[FeedRef, int] = {}
        self.best: dict[FeedRef, int] = {}
        self.backup: dict[FeedRef, int] | None = None
        #: A restored copy that has not got its own messages back; what it was shown of them since.  It may wait for ever:
        #: messages that nobody took before they were forgotten are lost.
        self.restored = False
        self.shown = 0


@dataclass
class Delivery:
    """What the visits achieved.

    ``delays`` are visits by anybody from publishing to having, by author, one for each message and machine.
    ``ideal_bytes`` are those of carrying each message once to each machine; ``written_bytes`` went to sticks, and
    ``read_bytes`` are those of the bundles that machines took something from.
    """

    delays: dict[FeedRef, list[int]] = field(default_factory=dict)
    ideal_bytes: int = 0
    written_bytes: int = 0
    read_bytes: int = 0


class World:
    """``machines`` machines and ``sticks`` sticks below ``root``, which must be an empty folder."""

    def __init__(
        self,
        root: Path,
        seed: int,
        machines: int = 4,
        sticks: int = 2,
        *,
        order: Order = Order.DEPTH,
        max_bytes: int | None = None,
        message_bytes: int = 90,
    ) -> None:
        self.chance = random.Random(seed)
        self.root = root
        self.order = order
        self.max_bytes = max_bytes
        self.message_bytes = message_bytes
        self.now = 1_700_000_000_000
        self.visits = 0
        #: Time hardly passes while things settle, or cards would be written again because they are a week old.
        self.settling = False
        self.log: list[str] = []
        self.delivery = Delivery()
        #: Each feed as the world knows it: ids, bytes, and when each message was published.
        self.feeds: dict[FeedRef, list[tuple[MessageRef, int, int]]] = {}
        self.machines: list[Machine] = []
        for number in range(machines):
            keypair = Keypair.from_seed(self.chance.randbytes(32))
            path = root / f"machine-{number}"
            self.machines.append(Machine(path, keypair))
            self.feeds[keypair.public] = []
        network_id = MAIN_CAPS.network_id
        self.sticks = [SimulatedStick(root / f"stick-{number}", network_id) for number in range(sticks)]
        self._clones = 0

    def now_ms(self) -> int:
        self.now += 1
        return self.now

    def _say(self, text: str) -> None:
        self.log.append(text)
        self.now += self.chance.randrange(_HOUR_MS) if not self.settling else 1000

    # ------------------------------------------------------------------------------------------------ machines

    def publish(self, number: int, count: int = 1) -> None:
        """Let a machine publish; a restored one must refuse if it was shown that it lacks messages of its own."""
        machine = self.machines[number]
        feed = self.feeds[machine.me]
        with machine.opened() as home:
            held = home.store.clock().get(machine.me, 0)
            if machine.restored and held == len(feed):
                machine.restored = False
            if machine.restored:
                if machine.shown > held:
                    self._must_refuse(home, machine)
                # Else nobody has told it yet: to publish now would fork, and nothing could prevent that.
                return
            self._say(f"publish {number} {count}")
            try:
                if count == 1:
                    message = publish(
                        home.store,
                        home.keypair,
                        home.caps,
                        self._content(),
                        now_ms=self.now_ms,
                        random_bytes=self.chance.randbytes,
                    )
                    messages = [message]
                else:
                    messages = self._publish_many(home, count)
            except ForkError:
                raise Violation(f"machine {number} refuses to publish without reason") from None
            for message in messages:
                if message.sequence != len(feed) + 1 or message.previous != (feed[-1][0] if feed else None):
                    raise Violation(f"machine {number} forked its feed at {message.sequence}")
                # Random text in base64 shrinks back to its bytes.
                size = _SIGNATURE_BYTES + len(message.content["text"]) * 3 // 4
                feed.append((message.key, size, self.visits))
            self._check_store(home, machine)

    def _content(self) -> dict[str, str]:
        size = self.message_bytes if self.message_bytes < 200 else self.chance.randrange(100, 2 * self.message_bytes)
        return {"type": "post", "text": b64encode(self.chance.randbytes(size)).decode()}

    def _publish_many(self, home: Home, count: int) -> list[Message]:
        """Publish in one transaction what would take long one by one."""
        messages = []
        with Ingest(home.store, caps=home.caps, now_ms=self.now_ms, workers=1) as ingest:
            check_may_publish(home.store, home.keypair.public)
            head = home.store.head(home.keypair.public)
            for _ in range(count):
                message = create_message(home.keypair, head, self.now_ms(), self._content())
                ingest.add_message(message)
                head = Head(message.sequence, message.key)
                messages.append(message)
        return messages

    def _must_refuse(self, home: Home, machine: Machine) -> None:
        try:
            check_may_publish(home.store, machine.me)
        except ForkError:
            return
        raise Violation(f"{machine.path.name} would fork: it was shown {machine.shown} of its own messages")

    def back_up(self, number: int) -> None:
        """Copy a machine's home aside."""
        machine = self.machines[number]
        self._say(f"back_up {number}")
        target = machine.path.with_name(machine.path.name + "-backup")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(machine.path, target)
        machine.backup = dict(machine.reported)

    def restore(self, number: int) -> None:
        """Put the copy in the place of the home: the machine forgets what came since."""
        machine = self.machines[number]
        if machine.backup is None:
            return
        self._say(f"restore {number}")
        shutil.rmtree(machine.path)
        shutil.copytree(machine.path.with_name(machine.path.name + "-backup"), machine.path)
        machine.reported = dict(machine.backup)
        machine.restored, machine.shown = True, 0

    # ------------------------------------------------------------------------------------------------ visits

    def visit(self, number: int, stick: int, *, export: bool = True, dry_run: bool = False) -> VisitReport | None:
        """Let a machine visit a stick, and check everything that may have changed."""
        machine, place = self.machines[number], self.sticks[stick]
        self._say(f"visit {number} {stick}{'' if export else ' no-export'}{' dry-run' if dry_run else ''}")
        with machine.opened() as home:
            before = home.store.clock()
            self._enrol(home, place)
            options = VisitOptions(max_bytes=self.max_bytes, export=export, dry_run=dry_run, order=self.order)
            report = visit(home, place.path, options, now_ms=self.now_ms, random_bytes=self.chance.randbytes)
            if report.problems or not report.safe_to_remove:
                raise Violation(f"the visit failed: {report.problems}")
            if home.store.forked():
                raise Violation("a feed is forked, and nobody forked one")
            if not dry_run:
                machine.shown = max(machine.shown, place.shown(machine.me))
            self.visits += 1
            self._check_store(home, machine)
            self._count(machine, before, home.store.clock())
            if machine.restored and machine.shown > home.store.clock().get(machine.me, 0):
                self._must_refuse(home, machine)
        taken = {source.path for source in report.imported.sources if source.status == "ok"}
        self.delivery.read_bytes += sum(file.size for name, file in place.files.items() if name[8:] in taken)
        previous = place.files
        self.delivery.written_bytes += place.check(machine.me, self._best)
        if (dry_run or not export) and place.files != previous:
            raise Violation("a visit that must not write changed the stick")
        return report

    def crash(self, number: int, stick: int, after: int) -> None:
        """Let a machine die in a visit, before its system call number ``after``."""
        machine, place = self.machines[number], self.sticks[stick]
        self._say(f"crash {number} {stick} {after}")
        with machine.opened() as home:
            self._enrol(home, place)
            options = VisitOptions(max_bytes=self.max_bytes, order=self.order)
            with crashing(after):
                visit(home, place.path, options, now_ms=self.now_ms, random_bytes=self.chance.randbytes)
        with machine.opened() as home:
            self._check_store(home, machine)
            found = check(home.store, caps=home.caps)
            if not found.clean:
                raise Violation(f"the store of machine {number} is damaged: {found.problems[:3]}")
        place.check(machine.me, self._best)

    def _enrol(self, home: Home, stick: SimulatedStick) -> None:
        enrol(home, stick.path, "", now_ms=self.now_ms(), random_bytes=self.chance.randbytes)
        stick.check(None)

    def _check_store(self, home: Home, machine: Machine) -> None:
        """Nothing that was reported is gone, nothing has a gap, and every message is the one that was published."""
        clock = home.store.clock()
        for feed, sequence in machine.reported.items():
            if clock.get(feed, 0) < sequence:
                raise Violation(f"{machine.path.name} lost messages of {feed}: {clock.get(feed, 0)} of {sequence} left")
        for feed, sequence in clock.items():
            if sequence == machine.reported.get(feed):
                continue
            published = self.feeds[feed]
            first = machine.reported.get(feed, 0) + 1
            rows = list(home.store.rows(feed, first))
            if [row.sequence for row in rows] != list(range(first, sequence + 1)):
                raise Violation(f"{machine.path.name} has gaps in {feed}")
            if [row.key for row in rows] != [key for key, _, _ in published[first - 1 : sequence]]:
                raise Violation(f"{machine.path.name} has other messages of {feed} than were published")
        machine.reported = clock

    def _best(self, machine: FeedRef, feed: FeedRef) -> int:
        found = next((one for one in self.machines if one.me == machine), None)
        return max(found.best.get(feed, 0), found.reported.get(feed, 0)) if found is not None else 0

    def _count(self, machine: Machine, before: dict[FeedRef, int], after: dict[FeedRef, int]) -> None:
        for feed, sequence in after.items():
            best = max(machine.best.get(feed, 0), before.get(feed, 0))
            if feed != machine.me and sequence > best:
                for _, size, published in self.feeds[feed][best:sequence]:
                    self.delivery.delays.setdefault(feed, []).append(self.visits - published)
                    self.delivery.ideal_bytes += size
            machine.best[feed] = max(best, sequence)

    # ------------------------------------------------------------------------------------------------ accidents

    def lose_file(self, stick: int) -> None:
        """A bundle or a card rots away."""
        place = self.sticks[stick]
        files = [*place.bundles(), *place.cards()]
        if files:
            victim = self.chance.choice(files)
            self._say(f"lose {stick} {victim.name}")
            victim.unlink()
            place.accept()

    def rot(self, stick: int) -> None:
        """A bit of a bundle changes where it lies."""
        place = self.sticks[stick]
        files = [path for path in place.bundles() if path.suffix == ".sneaker" and path.stat().st_size]
        if files:
            victim = self.chance.choice(files)
            self._say(f"rot {stick} {victim.name}")
            data = bytearray(victim.read_bytes())
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
            status = victim.stat()
            victim.write_bytes(data)
            if self.chance.random() < 0.7:  # what rots does not get a new date
                os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
            place.litter.add(victim.name)
            name = str(victim.relative_to(place.path))
            place.rotten.setdefault(name, place.files[name].exporter)
            place.accept()

    def lose_all_but_a_card(self, stick: int) -> None:
        """Little comes through: a single card, and none of the bundles."""
        place = self.sticks[stick]
        cards = [path for path in place.cards() if path.suffix == ".card"]
        if cards:
            left = self.chance.choice(cards)
            self._say(f"lose_all_but {stick} {left.name}")
            for path in [*place.bundles(), *place.cards()]:
                if path != left:
                    path.unlink()
            place.accept()

    def lose_stick(self, stick: int) -> None:
        """A stick is lost, and a new one comes in its place."""
        self._say(f"lose_stick {stick}")
        self.sticks[stick].wipe()

    def replicate(self, source: int, target: int) -> None:
        """Copy what one stick has and another lacks: what a replicator or a helpful person does."""
        self._say(f"replicate {source} {target}")
        for name in (BUNDLES, CARDS):
            for path in sorted(self.sticks[source].folder(name).iterdir()):
                copy = self.sticks[target].folder(name) / path.name
                if not copy.exists():
                    shutil.copyfile(path, copy)
        self.sticks[target].accept()

    def set_aside(self, stick: int) -> None:
        """Make an image of a stick."""
        self._say(f"set_aside {stick}")
        path = self.sticks[stick].path
        shutil.rmtree(path.with_name(path.name + "-image"), ignore_errors=True)
        shutil.copytree(path, path.with_name(path.name + "-image"))

    def put_back(self, stick: int) -> None:
        """Write the image back: outdated cards, bundles that everybody has, and the newest ones gone."""
        place = self.sticks[stick]
        image = place.path.with_name(place.path.name + "-image")
        if image.exists():
            self._say(f"put_back {stick}")
            shutil.rmtree(place.path)
            shutil.copytree(image, place.path)
            place.accept()

    def litter(self, stick: int) -> None:
        """Put something there that is nobody's, or not what it seems."""
        place = self.sticks[stick]
        kind = self.chance.choice(["foreign", "cut", "flipped", "card", "part", "empty"])
        self._say(f"litter {stick} {kind}")
        name = base32(self.chance.randbytes(16)) + ".sneaker"
        whole = [path for path in place.bundles() if path.suffix == ".sneaker" and path.stat().st_size > 200]
        if kind == "foreign" or (kind in ("cut", "flipped") and not whole):
            (place.folder(BUNDLES) / f"holiday {self.chance.randrange(99)}.jpg").write_bytes(self.chance.randbytes(99))
        elif kind == "cut":
            data = self.chance.choice(whole).read_bytes()
            (place.folder(BUNDLES) / name).write_bytes(data[: self.chance.randrange(len(data))])
            place.litter.add(name)
        elif kind == "flipped":
            flipped = bytearray(self.chance.choice(whole).read_bytes())
            flipped[self.chance.randrange(len(flipped))] ^= 1 << self.chance.randrange(8)
            (place.folder(BUNDLES) / name).write_bytes(flipped)
            place.litter.add(name)
        elif kind == "card":
            machine = self.chance.choice(self.machines)
            name = f"{base32(machine.me)}-{self.chance.randrange(1, 2**62)}.card"
            (place.folder(CARDS) / name).write_bytes(self.chance.randbytes(300))
        elif kind == "part":
            (place.folder(BUNDLES) / f".{self.chance.randbytes(8).hex()}.part").write_bytes(b"half")
        else:
            (place.folder(BUNDLES) / name).write_bytes(b"")
        place.accept()

    # ------------------------------------------------------------------------------------------------ chance

    def step(self, *, accidents: bool = True) -> None:
        """Do something at random."""
        chance = self.chance
        number, stick = chance.randrange(len(self.machines)), chance.randrange(len(self.sticks))
        roll = chance.random()
        if not accidents:
            if roll < 0.3:
                self.publish(number, chance.choice((1, 1, 2, 3)))
            else:
                self.visit(number, stick)
        elif roll < 0.22:
            self.publish(number, chance.choice((1, 1, 1, 2, 3, 30)))
        elif roll < 0.66:
            self.visit(number, stick, export=chance.random() > 0.05, dry_run=chance.random() < 0.03)
        elif roll < 0.78:
            self.crash(number, stick, chance.randrange(60))
        else:
            actions = [
                (3, lambda: self.lose_file(stick)),
                (2, lambda: self.rot(stick)),
                (1, lambda: self.lose_stick(stick)),
                (1, lambda: self.lose_all_but_a_card(stick)),
                (3, lambda: self.replicate(stick, chance.randrange(len(self.sticks)))),
                (2, lambda: self.set_aside(stick)),
                (2, lambda: self.put_back(stick)),
                (4, lambda: self.litter(stick)),
                (3, lambda: self.back_up(number)),
                (2, lambda: self.restore(number)),
            ]
            weights, doings = zip(*actions, strict=True)
            chance.choices(doings, weights)[0]()

    def settle(self, rounds: int = 12) -> int:
        """Let sticks circulate undisturbed; return after how many rounds everybody had everything.

        Then the sticks must come to rest: no bundle and no card is written any more.  Raises Violation.
        """
        budget, self.max_bytes, self.settling = self.max_bytes, None, True
        needed = 0
        for number in range(rounds):
            if self._is_level():
                break
            needed = number + 1
            self._circulate()
        else:
            raise Violation(f"after {rounds} rounds some still lack messages: {self._lacking()}")
        for _ in range(rounds):
            before = [dict(stick.files) for stick in self.sticks]
            self._circulate()
            changed = [
                name
                for stick, files in zip(self.sticks, before, strict=True)
                for name in sorted(stick.files.keys() ^ files.keys())
            ]
            if not changed:
                break
        else:
            raise Violation(f"the sticks do not come to rest: {changed}")
        left = [
            name
            for stick in self.sticks
            for name, file in stick.files.items()
            if file.exporter in self.feeds and Path(name).name not in stick.litter
        ]
        if left:
            raise Violation(f"bundles that everybody has taken in are still there: {left}")
        for machine in self.machines:
            with machine.opened() as home:
                found = check(home.store, caps=home.caps)
                if not found.clean:
                    raise Violation(f"a store is damaged: {found.problems[:3]}")
        self.max_bytes, self.settling = budget, False
        return needed

    def _circulate(self) -> None:
        for stick in range(len(self.sticks)):
            for number in range(len(self.machines)):
                self.visit(number, stick)

    def _expected(self, feed: FeedRef) -> int:
        """Return how much of a feed everybody has to have in the end: all of it, or what could be saved of it."""
        author = next(machine for machine in self.machines if machine.me == feed)
        if not author.restored:
            return len(self.feeds[feed])
        return max(machine.reported.get(feed, 0) for machine in self.machines)

    def _lacking(self) -> dict[str, dict[str, tuple[int, int]]]:
        return {
            machine.path.name: {
                str(feed)[:6]: (machine.reported.get(feed, 0), self._expected(feed))
                for feed in self.feeds
                if machine.reported.get(feed, 0) < self._expected(feed)
            }
            for machine in self.machines
        }

    def undelivered(self) -> int:
        """Return how many messages machines still lack, all together."""
        return sum(expected - held for lacking in self._lacking().values() for held, expected in lacking.values())

    def _is_level(self) -> bool:
        return not any(self._lacking().values())
