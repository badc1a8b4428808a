"""What is on a gateway's disk, and what an uninterrupted gateway would have made of it.

Everything is read from a copy: a process may still hold the locks.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cli.accounting import Account, Ranges, Stated, account
from cli.publisher import Publisher
from gateway import config
from gateway.derive import Derive, Totals
from gateway.journal import Checkpoints, Journal
from gateway.records import Closed, Definitions, ReadingsRecord
from gateway.segment import OsFiles
from gateway.spool import Spool
from protocol import frame
from protocol.columns import decode_windows, encode_state
from protocol.messages import WindowRows
from tests.journeys.site import Site

Key = tuple[str, int, int, int]
"""Series, definition, start, revision."""


@dataclass
class Statements:
    """Windows as they were stated: the rest of a row, bit for bit, by its key."""

    rows: dict[Key, bytes] = field(default_factory=dict)
    stated: list[tuple[str, Stated]] = field(default_factory=list)  # with series' names

    def add(self, windows: WindowRows, names: Sequence[str]) -> None:
        """Take rows; none may be stated twice."""
        for row in zip(*windows, strict=True):
            key = (names[row[0]], int(row[1]), int(row[2]), int(row[3]))
            assert key not in self.rows, f"{key} was stated twice"
            self.rows[key] = b"".join(value.tobytes() for value in row[4:])
            minimum, maximum = float(row[7]), float(row[8])
            self.stated.append((key[0], Stated(key[2], key[3], int(row[4]), round(minimum), round(maximum))))

    def take(self, other: Statements, shift: int) -> None:
        """Take what others stated, with all starts so much later; none may be here."""
        for (name, definition, start, revision), row in other.rows.items():
            key = (name, definition, start + shift, revision)
            assert key not in self.rows, f"{key} was stated twice"
            self.rows[key] = row
        self.stated += [(name, replace(stated, start=stated.start + shift)) for name, stated in other.stated]

    def __len__(self) -> int:
        """How many statements these are."""
        return len(self.rows)

    @property
    def newest(self) -> dict[tuple[str, int, int], bytes]:
        """Only the highest revision of each window."""
        return {key[:3]: self.rows[key] for key in sorted(self.rows)}

    def account(self, acknowledged: dict[str, Ranges]) -> Account:
        """Balance acknowledged pairs with the windows of the counters, named {device}/n."""
        windows: dict[str, list[Stated]] = {device: [] for device in acknowledged}
        for name, stated in self.stated:
            device, _, measurement = name.rpartition("/")
            if measurement == "n":
                windows[device].append(stated)
        return account(acknowledged, windows)


@dataclass
class Replay:
    """The journal from its first record, applied without interruption."""

    derive: Derive
    statements: Statements
    pairs: dict[str, set[int]]  # counters recorded, by device
    position: int = 0
    reordered: int = 0  # counters recorded for the first time after a higher one of their device
    newest: dict[str, int] = field(default_factory=dict)  # the highest counter, by device
    elsewhere: dict[str, Statements] = field(default_factory=dict)  # windows that are not in UTC, by clock domain
    shifts: dict[str, int] = field(default_factory=dict)  # what makes UTC of clock domains, where it was stated

    def stated(self, domain: str) -> Statements:
        """Give the windows of a clock domain; "" is UTC."""
        return self.elsewhere.setdefault(domain, Statements()) if domain else self.statements

    def place(self) -> None:
        """Bring to UTC what can be: nothing is left of it in its domain."""
        for domain, shift in self.shifts.items():
            self.statements.take(self.stated(domain), shift)
            self.elsewhere[domain] = Statements()


@contextmanager
def copy_of(*directories: Path) -> Iterator[Path]:
    """Give a directory that holds what these hold; of the same name, the last counts."""
    target = directories[-1].with_name(directories[-1].name + ".copy")
    try:
        for directory in directories:
            shutil.copytree(directory, target, dirs_exist_ok=True)
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def replay(site: Site) -> Replay:
    """Apply all that was ever recorded to a fresh `derive`."""
    derive = Derive(config.PipelineConfig())
    found = Replay(derive, Statements(), {})
    with copy_of(site.archive, site.data / "journal") as directory:
        journal = Journal.open(OsFiles(), directory, site.config.journal, about=dict)
        expected = 1
        for seq, record in journal.records(1):
            assert seq == expected, "a record is missing"
            outputs = derive.feed(record)
            for item in outputs.items:
                if isinstance(item, Closed):
                    found.stated(item.domain).add(item.rows, derive.names)
                elif isinstance(item, Definitions):
                    found.shifts |= {clock.domain: clock.shift for clock in item.clocks}
            if isinstance(record, ReadingsRecord):
                _remember(found, derive.names, record)
            found.position = seq
            expected += 1
        journal.close()
    found.place()
    return found


def _remember(found: Replay, names: list[str], record: ReadingsRecord) -> None:
    for series, value in zip(record.readings.series.tolist(), record.readings.value.tolist(), strict=True):
        device, _, measurement = names[series].rpartition("/")
        if measurement == "n":
            pairs, number = found.pairs.setdefault(device, set()), round(value)
            newest = found.newest.get(device, 0)
            found.reordered += number < newest and number not in pairs
            found.newest[device] = max(number, newest)
            pairs.add(number)


def spooled(site: Site, names: Sequence[str]) -> Statements:
    """Give all windows in the spool's telemetry lane."""
    found = Statements()
    with copy_of(site.data / "spool") as directory:
        spool = Spool.open(OsFiles(), directory, site.config.spool, new_epoch=lambda: 1)
        for held in spool.each("telemetry"):
            body = frame.load(held.kind, held.body)
            found.add(decode_windows(body.columns), names)
        spool.close()
    return found


def balance(totals: Totals, pending: int) -> tuple[int, int]:
    """Give both sides of: recorded = windowed + removed + late + pending."""
    return totals.recorded, totals.windowed + sum(totals.removed.values()) + totals.late + pending


def last_checkpoint(site: Site) -> tuple[int, Derive]:
    """Give the position and state that the newest checkpoint holds."""
    with copy_of(site.data / "checkpoints") as directory:
        found = Checkpoints(OsFiles(), directory).load()
    assert found is not None
    position, state = found
    return position, Derive.restore(state["derive"])


def check_whole(site: Site, publisher: Publisher, *, spool: bool = True) -> None:
    """A gateway that has ended in order, with all windows closed, holds what an uninterrupted one would.

    Without `spool` what it stated has gone to the cloud.
    """
    uninterrupted = replay(site)
    derive, stated = uninterrupted.derive, uninterrupted.statements
    if spool:
        stated = spooled(site, derive.names)
        assert stated.newest == uninterrupted.statements.newest
        assert stated.rows == uninterrupted.statements.rows
    check_totals(site, uninterrupted)

    acknowledged = dict(zip(publisher.devices.names, publisher.acknowledged, strict=True))
    everything = {device: numbers(pairs) for device, pairs in acknowledged.items()}
    assert uninterrupted.pairs == everything
    assert stated.account(acknowledged).missing == 0
    assert counted(stated) == sum(map(len, everything.values()))


def check_totals(site: Site, uninterrupted: Replay) -> None:
    """The last checkpoint is the uninterrupted state, bit for bit, and its accounting closes."""
    position, kept = last_checkpoint(site)
    assert position == uninterrupted.position
    assert encode_state(kept.snapshot()) == encode_state(uninterrupted.derive.snapshot())
    recorded, explained = balance(kept.totals, kept.pending)
    assert recorded == explained
    tally = kept.totals.tally
    assert tally.messages == tally.decoded + sum(tally.dead.values()) + tally.redelivered


def numbers(pairs: Ranges) -> set[int]:
    """Give a set of counters number by number."""
    return {number for first, last in pairs for number in range(first, last + 1)}


def counted(stated: Statements) -> int:
    """How many counters the newest revisions count, over all devices."""
    newest = {(name, window.start): window for name, window in sorted(stated.stated, key=lambda one: one[1].revision)}
    return sum(window.count for (name, _), window in newest.items() if name.endswith("/n"))
