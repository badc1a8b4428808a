"""From what is on the disk to a gateway that goes on where it stood: checkpoint, then the journal's tail.

Rules:

1. The tail replays under the checkpoint's configuration; a changed configuration becomes a record after it.
2. Outputs that the spool covers already are dropped by `pack`; the others are spooled as if nothing had happened.
3. Without a checkpoint, the oldest segment's header says which names and which configuration it begins with.
4. Where the journal's end, or all of it, was lost and the spool was not, records go on behind the last one the spool
   covers, and the series and definitions it has named keep their integers: none is ever given twice.
5. The manifest of the highest version of each model is kept in checkpoints and in the header of every journal segment:
   it outlives the record that brought the model, and with it the answer to an older one.
6. Records are read that come after a damaged one. The series which that one named are known from the spool's
   definitions, else they are called unknown/{number}: a record costs itself, not those behind it.
7. Definitions that the spool has lost are said again: everything in it refers to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config import GatewayConfig, PipelineConfig, parse_pipeline, pipeline_text
from gateway.derive import Derive
from gateway.journal import Checkpoints, Journal
from gateway.pack import Pack, Packed
from gateway.records import (
    Announced,
    ConfigurationRecord,
    ModelRecord,
    Outputs,
    ReadingsRecord,
    Recent,
    Record,
    State,
    TickRecord,
    complete,
    join_recent,
    no_recent,
)
from gateway.segment import Files
from gateway.spool import Spool
from protocol.errors import JournalUnusable
from protocol.frame import dump, load
from protocol.manifest import Manifest, read_sealed
from protocol.messages import LANES, DefinitionsBody, Kind

SAID = 4096
"""Series in one frame that says definitions again."""

RECORD_COST = 250
"""In readings: what is in a record of up to so many costs a replay less than that it is a record (0.3 ms)."""

JOINED = 64
"""Records whose messages are joined at once: a record has few, and the memory is long."""

OVERDUE = 10**9
"""In ns: a live gateway ticks within milliseconds of what is due, and journals it."""


@dataclass(slots=True)
class Replayed:
    """Where the journal ends: the state behind its last record."""

    derive: Derive
    position: int = 0  # the last record applied
    stamp: int = 0  # its stamp
    since: int = 0  # position of the newest checkpoint
    readings: int = 0  # applied since then
    manifests: dict[str, bytes] = field(default_factory=dict)  # by model: sealed, of the highest version known
    _recent: list[Recent] = field(default_factory=list)
    _memory: int = 0

    @property
    def recent(self) -> Recent:
        """The newest QoS 1 messages, as many as are to be remembered."""
        if not self._memory:
            return no_recent()
        joined = join_recent(self._recent)
        return Recent(joined.packet_ids[-self._memory :], joined.hashes[-self._memory :])

    def remember(self, new: Recent, memory: int) -> None:
        """Take QoS 1 messages; of all the newest `memory` are remembered."""
        self._recent.append(new)
        self._memory = memory
        if len(self._recent) >= JOINED:
            self._recent = [self.recent]

    @property
    def behind(self) -> int:
        """What a replay from the newest checkpoint costs, in readings; where records are small, their number tells."""
        return max(self.readings, RECORD_COST * (self.position - self.since))


def begin(journal: Journal, checkpoints: Checkpoints) -> Replayed:
    """Give the state to replay from: the newest good checkpoint, else what the oldest segment says of itself."""
    if found := checkpoints.load():
        position, state = found
        recent = Recent(state["recent_ids"], state["recent_hashes"])
        at = Replayed(Derive.restore(state["derive"]), position, state["stamp"], since=position)
        at.remember(recent, len(recent.packet_ids))
        note_manifests(at, [*state.get("manifests", []), *journal.about_newest().get("manifests", [])])
        return at
    about = journal.about_oldest()
    derive = Derive(parse_pipeline(about["config"]) if about.get("config") else PipelineConfig())
    if about.get("names"):
        derive.define(about["names"])
    derive.definitions.update(about.get("definitions") or {})
    before = max(journal.oldest - 1, 0)
    at = Replayed(derive, before, since=before)
    note_manifests(at, [*about.get("manifests", []), *journal.about_newest().get("manifests", [])])
    return at


def note_manifests(at: Replayed, sealed: list[bytes]) -> None:
    """Remember the manifest of a model if no version as high is known."""
    for one in sealed:
        manifest = read_sealed(one)
        known = at.manifests.get(manifest.name)
        if known is None or read_sealed(known).version < manifest.version:
            at.manifests[manifest.name] = one


def scoring(at: Replayed) -> list[Manifest]:
    """Give the manifests of the models that score."""
    return [read_sealed(model.manifest) for model in at.derive.models.values()]


def versions(at: Replayed) -> dict[str, int]:
    """Give the version of each model that scores."""
    return {said.name: said.version for said in scoring(at)}


def replay(
    journal: Journal, at: Replayed, memory: int = 0, announced: Announced = dict
) -> Iterator[tuple[int, Record, Outputs]]:
    """Apply every record after `at.position`, yielding (record's sequence, record, outputs); `at` moves along."""
    for seq, stored in journal.records(at.position + 1):
        record = complete(stored, len(at.derive.names), announced)
        yield seq, record, apply(at, seq, record, memory)


def apply(at: Replayed, seq: int, record: Record, memory: int) -> Outputs:
    """Apply one record, live or replayed."""
    outputs = at.derive.feed(record)
    at.position, at.stamp = seq, record.stamp
    if isinstance(record, ReadingsRecord):
        at.readings += record.readings.rows
        at.remember(record.recent, memory)
    elif isinstance(record, ModelRecord):
        note_manifests(at, [record.manifest])
    return outputs


def checkpoint_state(at: Replayed) -> State:
    """Give what a checkpoint holds."""
    recent = at.recent
    return {
        "derive": at.derive.snapshot(),
        "stamp": at.stamp,
        "recent_ids": recent.packet_ids,
        "recent_hashes": recent.hashes,
        "manifests": list(at.manifests.values()),
    }


def rerun(journal: Journal, *configs: PipelineConfig) -> Iterator[tuple[int, Record, list[Outputs]]]:
    """Apply each of `configs` to all recorded data, as if it had been there from the beginning; nothing is written.

    Yields (record's sequence, record, each one's outputs). What the journal says of configurations is passed over; a
    tick that one of these would have had and the recorded one had not is made up, as sequence 0.
    """
    derives = [Derive(config) for config in configs]
    names = journal.about_oldest().get("names") or []
    for derive in derives:
        derive.define(names)
    stamp = 0
    for seq, stored in journal.records(journal.oldest):
        if not isinstance(stored, ConfigurationRecord):
            record = complete(stored, len(derives[0].names))
            for tick in missed(derives, stamp, record.stamp):
                yield 0, tick, [derive.feed(tick) for derive in derives]
            yield seq, record, [derive.feed(record) for derive in derives]
            stamp = record.stamp


def missed(derives: Sequence[Derive], after: int, before: int) -> Iterator[TickRecord]:
    """Give the ticks between two records that are OVERDUE at the second; each is to be applied when it is given."""
    while after < before - OVERDUE:  # or nothing can be: all that was due `after` has been done
        due = min(derive.due() for derive in derives)
        if not after < due < before - OVERDUE:
            return
        after = due
        yield TickRecord(due)


@dataclass(slots=True)
class Opened:
    """Everything a gateway keeps on its disk, opened and caught up."""

    journal: Journal
    checkpoints: Checkpoints
    spool: Spool
    pack: Pack
    at: Replayed


def recover(config: GatewayConfig, files: Files, now: int, new_epoch: Callable[[], int]) -> Opened:
    """Open journal, checkpoints and spool, replay the tail, and spool what the replay brought that was not there."""
    data = Path(config.data)
    here: list[Replayed] = []
    journal = Journal.open(files, data / "journal", config.journal, about=lambda: describe(here))
    checkpoints = Checkpoints(files, data / "checkpoints")
    spool = Spool.open(files, data / "spool", config.spool, new_epoch=new_epoch)
    at = begin(journal, checkpoints)
    here.append(at)
    journal.resume_after(at.position)
    pack = Pack(config.uplink.pack_interval, {lane: spool.cover(lane) for lane in LANES})
    pack.apart = config.uplink.max_per_day is not None
    for seq, record, outputs in replay(journal, at, config.devices.receive_maximum, lambda: names_in(spool)):
        put(spool, pack.feed(seq, outputs, record.stamp), now)
    put(spool, pack.flush(), now)
    outlive(journal, at, spool)
    with suppress(JournalUnusable):  # a full disk: what is at work wins room, and commits it then
        spool.commit()
        put(spool, say_again(at.derive, spool), now)
        spool.commit()
    return Opened(journal, checkpoints, spool, pack, at)


def describe(here: list[Replayed]) -> State:
    """Say in a journal segment's header what its records stand on, so that the segment can be read alone."""
    if not here:
        return {}
    derive = here[0].derive
    return {
        "names": list(derive.names),
        "definitions": dict(derive.definitions),
        "config": pipeline_text(derive.config),
        "manifests": list(here[0].manifests.values()),
    }


def outlive(journal: Journal, at: Replayed, spool: Spool) -> None:
    """Go on behind a spool that has more than a damaged journal still explains (rule 4)."""
    spooled = max(spool.cover(lane).record for lane in LANES)
    if spooled < journal.next:
        return
    names = names_in(spool)
    lost = range(len(at.derive.names), max(names, default=-1) + 1)
    at.derive.define([names.get(number, f"unknown/{number}") for number in lost])
    at.derive.definitions.update(definitions_in(spool))
    journal.resume_after(spooled)


def say_again(derive: Derive, spool: Spool) -> list[Packed]:
    """Give the definitions that are in force and not, durably, in the spool."""
    names, windows, all_ = names_in(spool), set(definitions_in(spool).values()), derive.announced()
    series = [one for one in all_.series if names.get(one.id) != one.name]
    missing = [one for one in all_.windows if one.id not in windows]
    cover = spool.cover("definitions")
    bodies = [DefinitionsBody(cover, series[at : at + SAID], []) for at in range(0, len(series), SAID)]
    bodies += [DefinitionsBody(cover, [], missing)] if missing else []
    if clocks := [one for one in all_.clocks if one.domain not in clocks_in(spool)]:
        bodies.append(DefinitionsBody(cover, clocks=clocks))
    return [Packed("definitions", Kind.DEFINITIONS, dump(body), cover) for body in bodies]


def names_in(spool: Spool) -> dict[int, str]:
    """Give the series that the spool's definitions announce, by number."""
    bodies = (load(held.kind, held.body) for held in spool.each("definitions"))
    return {series.id: series.name for body in bodies for series in body.series}


def clocks_in(spool: Spool) -> set[str]:
    """Give the clock domains that the spool says how to bring to UTC."""
    bodies = (load(held.kind, held.body) for held in spool.each("definitions"))
    return {clock.domain for body in bodies for clock in body.clocks}


def sizes_in(spool: Spool) -> dict[int, int]:
    """Give the size (ns) of every window definition that the spool announces, by number."""
    bodies = (load(held.kind, held.body) for held in spool.each("definitions"))
    return {window.id: window.size for body in bodies for window in body.windows}


def definitions_in(spool: Spool) -> dict[str, int]:
    """Give the number of every window definition that the spool announces, by digest."""
    bodies = (load(held.kind, held.body) for held in spool.each("definitions"))
    return {window.digest: window.id for body in bodies for window in body.windows}


def put(spool: Spool, packed: list[Packed], now: int) -> list[tuple[str, int, int]]:
    """Append bodies to their lanes; return (lane, sequence, bytes) of each."""
    return [
        (item.lane, spool.append(item.lane, item.kind, item.body, item.cover, now), len(item.body)) for item in packed
    ]
