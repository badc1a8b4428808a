"""What is damaged costs itself: files cut, flipped, zeroed, swapped and lost, under journal, spool and whole gateway.

Everything is done to copies of a disk in memory. A journal and a spool lane are logs of the same format; what a spool
adds is the cloud, which has heard of its sequences: a lost tail must lead to a new epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from typing import NamedTuple

from cloud import ledger
from gateway import config, recovery
from gateway.delivery import Delivery, Fork
from gateway.journal import Journal
from gateway.segment import Log, layout
from gateway.spool import Spool
from protocol import frame
from protocol.messages import JOURNAL_LANE, LANES, Cover, Kind, Mark, Welcome, WindowsBody
from protocol.settings import Size
from tests.faults.power import Disk
from tests.faults.whole import CONFIG, GatewayWitness

TAIL = 64 << 10
LANE = "telemetry"
DIRECTORY = Path("/data/store")
JOURNAL = config.Journal(segment_bytes=Size(110_000))
SPOOL = config.Spool(segment_bytes=Size(110_000))
RECORDS = 500
"""Three files, the last one longer than TAIL."""


@dataclass
class Found:
    """What a run came to."""

    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Give it as JSON has it."""
        return {
            "damaged": sum(self.done.values()),
            "lost": len(self.failures),
            "by": dict(sorted(self.done.items())),
            "failures": self.failures[:20],
        }

    def hold(self, what: str, where: str, check: Callable[[], None]) -> None:
        """Make one check and note how it ends."""
        self.done[what] += 1
        try:
            check()
        except AssertionError as error:
            self.failures.append(f"{what}, {where}: {error}")


class Place(NamedTuple):
    """Where a record stands."""

    path: Path
    begin: int
    end: int


class Store:
    """A log on a disk, and what must be in it."""

    lane = JOURNAL_LANE

    def __init__(self, records: int, seed: int) -> None:
        self.disk = Disk(Random(seed))
        self.bodies: dict[int, bytes] = {}
        self.fill(records, Random(seed))
        self.files = [path for path in self.disk.walk() if layout.first_of(path.name) is not None]
        self.places: dict[int, Place] = {}
        for path in self.files:
            data = self.disk.content(path)
            for at, header in layout.walk(data, self.lane, layout.first_of(path.name) or 0):
                self.places[header.seq] = Place(path, at, at + header.size)
        self.last = self.files[-1]
        assert list(self.places) == list(self.bodies)
        assert len(self.files) > 2
        assert len(self.disk.content(self.last)) >= TAIL

    def fill(self, records: int, chance: Random) -> None:
        """Append so many records."""
        journal = self.opened(self.disk)
        for _ in range(records):
            held = chance.randbytes(chance.randint(200, 900))
            self.bodies[journal.log.append(Kind.READINGS, held, stamp=1)] = held
            journal.commit()
        journal.close()

    def opened(self, disk: Disk) -> Journal:
        """Open what is on a disk."""
        return Journal.open(disk, DIRECTORY, JOURNAL, about=dict)

    def check(self, disk: Disk, gone: set[int], *, counted: bool) -> None:
        """Open a damaged copy: all but `gone` is there, and the log goes on and is whole the next time."""
        journal = self.opened(disk)
        self.check_log(journal.log, gone, counted=counted)
        journal.close()

    def check_log(self, log: Log, gone: set[int], *, counted: bool) -> None:
        """Hold a log against what must be there, and let it go on."""
        held = {one.seq: one.body for one in log.frames(log.oldest)}
        expected = {seq: body for seq, body in self.bodies.items() if seq not in gone}
        assert held == expected, (
            f"{sorted(set(expected) ^ set(held))[:5]} are gone or made up, not only {sorted(gone)[:5]}"
        )
        assert log.damaged == len(gone) or not counted, f"{log.damaged} are counted, {len(gone)} are gone"
        assert log.next > max(expected, default=0)
        seq = log.append(Kind.READINGS, b"more")
        log.commit()
        assert log.read(seq) is not None


class LaneStore(Store):
    """The telemetry of a spool, all of which the cloud has."""

    lane = LANES.index(LANE)

    def fill(self, records: int, chance: Random) -> None:
        """Append so many frames, and tell the cloud."""
        spool = self.opened(self.disk)
        known = ledger.Lane()
        for number in range(1, records + 1):
            held = frame.dump(WindowsBody(Cover(number, 0), 1, chance.randbytes(chance.randint(200, 900))))
            seq = spool.append(LANE, Kind.WINDOWS, held, Cover(number, 0), 1)
            self.bodies[seq] = held
            spool.commit()
            data = spool.read(LANE, seq) or b""
            head = frame.header(data)
            known.feed(seq, head.chain, frame.content_of(data, head))
        self.mark = known.mark
        spool.close()

    def opened(self, disk: Disk) -> Spool:  # type: ignore[override]  # the store of the other kind
        """Open what is on a disk."""
        return Spool.open(disk, DIRECTORY, SPOOL, new_epoch=lambda: 7)

    def check(self, disk: Disk, gone: set[int], *, counted: bool) -> None:
        """The same, and a lost tail is seen at the next greeting."""
        spool = self.opened(disk)
        lost = spool.heads()[LANE].next <= self.mark.upto
        self.check_log(spool.log(LANE), gone, counted=counted)
        for _ in range(Random(len(gone)).randrange(3)):
            spool.append(LANE, Kind.WINDOWS, b"others", Cover(9999, 0), 1)
        spool.commit()
        marks = {LANE: Mark(self.mark.upto, [], self.mark.chain)}
        instructions = Delivery(1 << 20, None, 0).opened(Welcome(marks), spool.heads(), 0, spool.chains(marks))
        forks = bool(instructions) and isinstance(instructions[0], Fork)
        assert forks or not lost, "the cloud has frames that are others here, and nobody notices"
        assert not forks or lost, "a new epoch begins for nothing"
        spool.close()


def run(flips: int, seed: int, cuts: int = TAIL) -> Found:
    """Do everything, to a journal and to a spool; so many bit flips in all, and truncations of each."""
    found = Found()
    for store in (Store(RECORDS, seed), LaneStore(RECORDS, seed)):
        chance = Random(seed)
        truncations(store, cuts, chance, found)
        zeros(store, min(cuts, 2000), chance, found)
        bits(store, flips // 2, chance, found)
        swaps(store, found)
        losses(store, found)
    gateways(flips // 20, seed, found)
    return found


def truncations(store: Store, cuts: int, chance: Random, found: Found) -> None:
    """Cut the last file at bytes of its last 64 KiB: at all of them, or at so many."""
    data = store.disk.content(store.last)
    ends = list(range(max(len(data) - TAIL, 0), len(data)))
    for end in chance.sample(ends, min(cuts, len(ends))):
        disk = store.disk.copy()
        disk.damage(store.last, data[:end])
        gone = {seq for seq, place in store.places.items() if place.path == store.last and place.end > end}
        found.hold("truncation", f"at {end} of {len(data)}", partial(store.check, disk, gone, counted=False))


def zeros(store: Store, times: int, chance: Random, found: Found) -> None:
    """Fill the last file's end with zeros, from a byte or a block on."""
    data = store.disk.content(store.last)
    for _ in range(times):
        begin = chance.choice([chance.randrange(len(data)), chance.randrange(len(data) // 512) * 512])
        disk = store.disk.copy()
        disk.damage(store.last, data[:begin] + bytes(len(data) - begin))
        last = {seq: place for seq, place in store.places.items() if place.path == store.last}
        gone = {seq for seq, place in last.items() if any(data[max(place.begin, begin) : place.end])}
        found.hold("zeros", f"from {begin} of {len(data)}", partial(store.check, disk, gone, counted=False))


def bits(store: Store, flips: int, chance: Random, found: Found) -> None:
    """Flip one bit anywhere: only the record that holds it is gone, and counted, unless it was the very last."""
    newest = max(store.places)
    for _ in range(flips):
        path = chance.choice(store.files)
        data = bytearray(store.disk.content(path))
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        disk = store.disk.copy()
        disk.damage(path, bytes(data))
        gone = {seq for seq, place in store.places.items() if place.path == path and place.begin <= at < place.end}
        counted = gone != {newest}
        found.hold("bit", f"{path.name} {at}", partial(store.check, disk, gone, counted=counted))


def swaps(store: Store, found: Found) -> None:
    """Swap the names of any two files: nothing is damaged, so nothing is gone."""
    for one, other in combinations(store.files, 2):
        disk = store.disk.copy()
        disk.damage(one, store.disk.content(other))
        disk.damage(other, store.disk.content(one))
        found.hold("swap", f"{one.name} and {other.name}", partial(store.check, disk, set(), counted=True))


def losses(store: Store, found: Found) -> None:
    """Lose one file."""
    for path in store.files:
        disk = store.disk.copy()
        disk.lose(path)
        gone = {seq for seq, place in store.places.items() if place.path == path}
        first = path == store.files[0]  # that looks like retention
        counted = not first and path != store.last
        found.hold("file lost", path.name, partial(store.check, disk, gone, counted=counted))


def gateways(times: int, seed: int, found: Found) -> None:
    """Damage any file of a whole gateway: it starts, its books close, it goes on and starts again."""
    witness = filled(seed)
    disk = witness.disk
    files = [path for path in disk.walk() if path.name != "lock"]
    chance = Random(seed)
    for number in range(times):
        copy, path = disk.copy(), files[number % len(files)]
        what = chance.choice(["lost", "cut", "bit", "zeros", "emptied"])
        data = bytearray(disk.content(path))
        at = chance.randrange(len(data))
        if what == "bit":
            data[at] ^= 1 << chance.randrange(8)
        damaged = {"cut": data[:at], "bit": data, "zeros": data[:at] + bytes(len(data) - at)}.get(what, bytearray())
        copy.damage(path, bytes(damaged))
        if what == "lost":
            copy.lose(path)
        found.hold(f"gateway {what}", f"{path} {at}", partial(starts, copy))
    checkpoints = [path for path in files if path.parent.name == "checkpoints"]
    for lost in (checkpoints[:1], checkpoints[1:], checkpoints):
        copy = disk.copy()
        for path in lost:
            copy.lose(path)
        found.hold("checkpoints lost", f"{[path.name for path in lost]}", partial(starts, copy))


def filled(seed: int) -> GatewayWitness:
    """Let a gateway live for a while, and stop it in order."""
    witness = GatewayWitness(Random(seed))
    steps = [
        "arrive",
        "arrive",
        "commit",
        "arrive",
        "tick",
        "pack",
        "spool",
        "arrive",
        "configure",
        "commit",
        "checkpoint",
        "arrive",
        "pack",
        "arrive",
        "spool",
    ]
    for number, step in enumerate(steps * 4):
        getattr(witness, step)(number * 41 + seed)
    for store in (witness.opened.journal, witness.opened.spool):
        store.close()
    assert len(list(witness.disk.walk(Path("/data/checkpoints")))) == 2
    return witness


def starts(disk: Disk) -> None:
    """Start, go on, and start again: no position is given twice, and names keep their integers."""
    names: list[str] = []
    for turn in range(2):
        opened = recovery.recover(CONFIG, disk, 10**12, lambda: 8)
        journal, spool, at = opened.journal, opened.spool, opened.at
        assert journal.next > max(spool.cover(lane).record for lane in LANES), "outputs would pass for spooled ones"
        assert journal.next > at.position
        assert recovery.names_in(spool) == dict(enumerate(at.derive.names)), "a series is not defined"
        assert at.derive.names[: len(names)] == names, "a series has another name"
        names = list(at.derive.names)
        _go_on(opened, turn)
        assert disk.held == 0


def _go_on(opened: recovery.Opened, turn: int) -> None:
    witness = GatewayWitness.__new__(GatewayWitness)
    witness.opened, witness.waiting, witness.now = opened, [], (10 + turn) * 10**12
    for number, step in enumerate(["arrive", "arrive", "tick"]):
        getattr(witness, step)(number + 4)
    opened.journal.commit()
    for seq, _, outputs in witness.waiting:
        recovery.put(opened.spool, opened.pack.feed(seq, outputs, witness.now), witness.now)
    recovery.put(opened.spool, opened.pack.flush(), witness.now)
    opened.spool.commit()
    opened.journal.close()
    opened.spool.close()
