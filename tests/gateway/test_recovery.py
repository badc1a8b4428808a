"""From what is on the disk to where the gateway stood: same state, same windows, whatever was interrupted."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gateway import recovery
from gateway.config import Duration, GatewayConfig, PipelineConfig, Size, Source, Window, pipeline_text
from gateway.derive import Derive
from gateway.journal import Checkpoints, Journal
from gateway.records import (
    Closed,
    ConfigurationRecord,
    ModelRecord,
    Readings,
    ReadingsRecord,
    Recent,
    Record,
    Swapped,
    Tally,
    TickRecord,
    complete,
    no_readings,
    no_recent,
)
from gateway.segment import OsFiles, layout
from gateway.spool import Spool
from protocol import frame
from protocol.columns import decode_windows, encode_state
from protocol.identity import Signer
from protocol.manifest import Manifest, digest_of, read_sealed, seal
from protocol.messages import JOURNAL_LANE

S = 10**9
PIPELINE = PipelineConfig(window=(Window(size=Duration(S)),))


def readings(stamp: int, *rows: tuple[int, float], names: tuple[str, ...] = ()) -> ReadingsRecord:
    """Rows are (series, value); the event time is the stamp."""
    series, values = [row[0] for row in rows], [row[1] for row in rows]
    columns = Readings(np.array(series, np.int32), np.full(len(rows), stamp * S), np.array(values, np.float64))
    return ReadingsRecord(stamp * S, columns, list(names), Tally(messages=len(rows), decoded=len(rows)))


RECORDS: list[Record] = [
    ConfigurationRecord(0, pipeline_text(PIPELINE)),
    readings(1, (0, 1.0), names=("pump/t",)),
    readings(2, (0, 2.0), (1, 20.0), names=("fan/t",)),
    readings(3, (0, 3.0), (1, 30.0)),
    readings(4, (2, 40.0), (0, 4.0), names=("saw/t",)),
    readings(5, (0, 5.0), (1, 50.0), (2, 60.0)),
    TickRecord(60 * S),
]


def configuration(directory: Path) -> GatewayConfig:
    return GatewayConfig(
        "edge", str(directory), (Source("sensors/{device}/{measurement}"),), window=(Window(size=Duration(S)),)
    )


def open_journal(config: GatewayConfig, names: tuple[str, ...] = ()) -> Journal:
    directory = Path(config.data) / "journal"
    return Journal.open(OsFiles(), directory, config.journal, about=lambda: {"names": list(names)})


def record(config: GatewayConfig, records: list[Record]) -> None:
    journal = open_journal(config)
    for one in records:
        journal.append(one)
    journal.commit()
    journal.close()


def recovered(config: GatewayConfig) -> tuple[Derive, int, dict[tuple[str, int, int], float]]:
    """Recover, close, and give the state, the epoch, and the spooled windows: (series, second, revision) to mean."""
    opened = recovery.recover(config, OsFiles(), 100 * S, count(7).__next__)
    names = recovery.names_in(opened.spool)
    windows = spooled(opened.spool, names)
    opened.journal.close()
    opened.spool.close()
    return opened.at.derive, opened.spool.epoch, windows


def spooled(spool: Spool, names: dict[int, str]) -> dict[tuple[str, int, int], float]:
    found = {}
    for held in spool.each("telemetry"):
        rows = decode_windows(frame.load(held.kind, held.body).columns)
        for series, start, revision, mean in zip(rows.series, rows.start, rows.revision, rows.mean, strict=True):
            key = names[int(series)], int(start) // S, int(revision)
            assert key not in found, "a window was spooled twice"
            found[key] = float(mean)
    return found


WHOLE = {
    ("pump/t", 1, 0): 1.0,
    ("pump/t", 2, 0): 2.0,
    ("fan/t", 2, 0): 20.0,
    ("pump/t", 3, 0): 3.0,
    ("fan/t", 3, 0): 30.0,
    ("pump/t", 4, 0): 4.0,
    ("saw/t", 4, 0): 40.0,
    ("pump/t", 5, 0): 5.0,
    ("fan/t", 5, 0): 50.0,
    ("saw/t", 5, 0): 60.0,
}


def uninterrupted(records: list[Record]) -> Derive:
    derive = Derive(PipelineConfig())
    for one in records:
        derive.feed(one)
    return derive


def same(one: Derive, other: Derive) -> bool:
    return encode_state(one.snapshot()) == encode_state(other.snapshot())


def test_an_empty_directory_is_a_new_gateway(tmp_path: Path) -> None:
    derive, epoch, windows = recovered(configuration(tmp_path))
    assert (derive.names, epoch, windows) == ([], 7, {})


@pytest.mark.parametrize("cut", range(1, len(RECORDS)))
def test_recovery_after_any_record_and_again_at_the_end_leaves_no_trace(cut: int, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS[:cut])
    recovered(config)
    record(config, RECORDS[cut:])
    derive, _, windows = recovered(config)
    assert windows == WHOLE
    assert same(derive, uninterrupted(RECORDS))


@pytest.mark.parametrize("cut", range(1, len(RECORDS)))
def test_a_checkpoint_at_any_record_and_the_tail_give_the_same_state(cut: int, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS[:cut])
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    opened.checkpoints.save(opened.at.position, recovery.checkpoint_state(opened.at))
    opened.journal.close()
    opened.spool.close()
    record(config, RECORDS[cut:])
    derive, _, windows = recovered(config)
    assert windows == WHOLE
    assert same(derive, uninterrupted(RECORDS))


@pytest.mark.parametrize("cut", [0, 3, len(RECORDS)])
def test_what_a_replay_costs_counts_from_the_newest_checkpoint(cut: int, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS)
    journal, checkpoints = open_journal(config), Checkpoints(OsFiles(), tmp_path / "checkpoints")
    at = recovery.begin(journal, checkpoints)
    for seq, one in enumerate(RECORDS[:cut], 1):
        recovery.apply(at, seq, one, 0)
    if cut:
        checkpoints.save(cut, recovery.checkpoint_state(at))
    again = recovery.begin(journal, checkpoints)
    assert again.behind == 0
    assert len(list(recovery.replay(journal, again))) == len(RECORDS) - cut
    rows = sum(one.readings.rows for one in RECORDS[cut:] if isinstance(one, ReadingsRecord))
    assert again.readings == rows
    assert again.behind == (len(RECORDS) - cut) * recovery.RECORD_COST
    again.readings = 10**6
    assert again.behind == 10**6
    journal.close()


def test_a_journal_without_its_beginning_is_replayed_by_what_its_oldest_file_says(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    journal = open_journal(config, ("pump/t", "fan/t"))
    journal.resume_after(3)
    for one in RECORDS[3:]:
        journal.append(one)
    journal.commit()
    at = recovery.begin(journal, Checkpoints(OsFiles(), tmp_path / "checkpoints"))
    assert (at.position, at.derive.names) == (3, ["pump/t", "fan/t"])
    assert [seq for seq, _, _ in recovery.replay(journal, at)] == [4, 5, 6, 7]
    assert at.derive.names == ["pump/t", "fan/t", "saw/t"]
    journal.close()


def test_a_gateway_that_lost_its_journal_goes_on_behind_what_it_had_spooled(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS)
    recovered(config)
    shutil.rmtree(tmp_path / "journal")
    opened = recovery.recover(config, OsFiles(), 0, lambda: 8)
    assert opened.at.derive.names == ["pump/t", "fan/t", "saw/t"]
    assert list(opened.at.derive.definitions.values()) == [0]
    seq = opened.journal.append(RECORDS[0])
    assert seq > opened.spool.cover("telemetry").record, "or its outputs would pass for spooled ones"
    opened.journal.append(readings(90, (2, 1.0), (3, 2.0), names=("axe/t",)))
    opened.journal.append(TickRecord(200 * S))
    opened.journal.commit()
    opened.journal.close()
    opened.spool.close()
    derive, epoch, windows = recovered(config)
    assert (derive.names, epoch) == (["pump/t", "fan/t", "saw/t", "axe/t"], 7)
    assert windows == WHOLE | {("saw/t", 90, 0): 1.0, ("axe/t", 90, 0): 2.0}


def damage(config: GatewayConfig, number: int) -> None:
    (path,) = (Path(config.data) / "journal").glob("*.seg")
    data = bytearray(path.read_bytes())
    places = {header.seq: (at, header.size) for at, header in layout.walk(bytes(data), JOURNAL_LANE, 1)}
    at, size = places[number]
    data[at : at + size] = bytes(size)
    path.write_bytes(data)


def test_series_that_a_damaged_record_named_keep_their_names_when_they_were_announced(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS[:5])
    recovered(config)  # their definitions are in the spool
    damage(config, 3)
    record(config, RECORDS[5:])
    derive, _, windows = recovered(config)
    assert derive.names == ["pump/t", "fan/t", "saw/t"]
    assert windows == WHOLE, "they had been spooled before the damage"


def test_series_that_nobody_announced_are_unknown_and_the_others_keep_theirs(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS)
    damage(config, 3)
    derive, _, windows = recovered(config)
    assert derive.names == ["pump/t", "unknown/1", "saw/t"]
    without = {key: mean for key, mean in WHOLE.items() if key[1] != 2}
    assert windows == {(name.replace("fan/t", "unknown/1"), *rest): mean for (name, *rest), mean in without.items()}


COMPLETE = [
    ("nothing is missing", 2, readings(1, (0, 1.0), (1, 1.0)), []),
    ("its own names follow on", 1, readings(1, (0, 1.0), (1, 1.0), names=("b/t",)), ["b/t"]),
    ("a series was named by a lost record", 1, readings(1, (1, 1.0)), ["unknown/1"]),
    ("two were", 0, readings(1, (1, 1.0)), ["unknown/0", "unknown/1"]),
    ("its own names come behind those", 1, readings(1, (2, 1.0), names=("c/t",)), ["unknown/1", "c/t"]),
    ("no readings say nothing", 0, ReadingsRecord(1, no_readings()), []),
]


@pytest.mark.parametrize(("known", "stored", "names"), [row[1:] for row in COMPLETE], ids=[row[0] for row in COMPLETE])
def test_a_record_names_what_is_missing_before_it(known: int, stored: ReadingsRecord, names: list[str]) -> None:
    completed = complete(stored, known)
    assert isinstance(completed, ReadingsRecord)
    assert completed.names == names
    assert completed.readings is stored.readings


def model(version: int, name: str = "pumps") -> ModelRecord:
    content = bytes([version])
    said = Manifest(name, version, len(content), digest_of(content), "baseline/1", 0)
    return ModelRecord(version * S, seal(said, Signer.from_seed(bytes(32))), content)


def known(at: recovery.Replayed) -> dict[str, int]:
    return {name: read_sealed(sealed).version for name, sealed in at.manifests.items()}


def live(config: GatewayConfig, records: list[Record], *, checkpoint: bool = False) -> None:
    """Let a gateway record and apply these, with a file of the journal to each; `checkpoint` before it ends."""
    config = msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, segment_bytes=Size(1)))
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    for one in records:
        recovery.apply(opened.at, opened.journal.append(one), one, 0)
    opened.journal.commit()
    if checkpoint:
        opened.checkpoints.save(opened.at.position, recovery.checkpoint_state(opened.at))
    opened.journal.close()
    opened.spool.close()


def start(config: GatewayConfig) -> recovery.Replayed:
    opened = recovery.recover(config, OsFiles(), 0, lambda: 7)
    opened.journal.close()
    opened.spool.close()
    return opened.at


@pytest.mark.parametrize("checkpoint", [False, True], ids=["from the journal", "from a checkpoint"])
def test_the_model_that_scored_scores_again(checkpoint: bool, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    live(config, [model(1), model(2), model(7, "fans")], checkpoint=checkpoint)
    at = start(config)
    assert at.derive.models == {"pumps": model(2), "fans": model(7, "fans")}
    assert known(at) == {"pumps": 2, "fans": 7}


def test_the_highest_version_outlives_the_record_that_brought_it_and_all_checkpoints(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    live(config, [model(4), TickRecord(5 * S), TickRecord(6 * S)])
    files = sorted((tmp_path / "journal").glob("*.seg"))
    files[0].unlink()
    at = start(config)
    assert (at.derive.models, known(at)) == ({}, {"pumps": 4})
    live(config, [TickRecord(7 * S)], checkpoint=True)
    shutil.rmtree(tmp_path / "journal")
    assert known(start(config)) == {"pumps": 4}, "the checkpoint says so too"


def test_a_version_whose_record_is_damaged_is_known_from_what_came_later(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    live(config, [model(1)], checkpoint=True)
    live(config, [model(2), TickRecord(5 * S)])
    damaged = sorted((tmp_path / "journal").glob("*.seg"))[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    at = start(config)
    assert at.derive.models == {"pumps": model(1)}
    assert known(at) == {"pumps": 2}


def memory(*packet_ids: int) -> Recent:
    return Recent(np.array(packet_ids, np.uint16), np.array(packet_ids, np.uint32) * 7)


@pytest.mark.parametrize(
    ("bound", "expected"),
    [(0, []), (2, [3, 4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])],
)
def test_only_the_newest_messages_are_remembered(bound: int, expected: list[int]) -> None:
    at = recovery.Replayed(Derive(PipelineConfig()))
    at.remember(memory(1, 2), bound)
    at.remember(memory(3, 4), bound)
    assert at.recent.packet_ids.tolist() == expected
    assert at.recent.hashes.tolist() == [number * 7 for number in expected]


def test_messages_of_many_records_are_remembered_and_those_without_any_change_nothing() -> None:
    at = recovery.Replayed(Derive(PipelineConfig()))
    for number in range(3 * recovery.JOINED):
        at.remember(memory(number), 100)
        at.remember(no_recent(), 100)
    assert at.recent.packet_ids.tolist() == [*range(3 * recovery.JOINED)][-100:]


def test_rerun_applies_another_configuration_to_everything(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS)
    journal = open_journal(config)
    longer = PipelineConfig(window=(Window(series="pump/*", size=Duration(10 * S)),))
    closed = [
        (int(row.count[0]), float(row.mean[0]))
        for _, _, [outputs] in recovery.rerun(journal, longer)
        for row in (item.rows for item in outputs.items if isinstance(item, Closed))
    ]
    journal.close()
    assert closed == [(5, 3.0)]


def test_rerun_runs_two_configurations_side_by_side_each_on_its_own(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, RECORDS)
    journal = open_journal(config)
    longer = PipelineConfig(window=(Window(size=Duration(10 * S)),))
    alone = [[outputs for _, _, [outputs] in recovery.rerun(journal, one)] for one in (PIPELINE, longer)]
    beside = [outputs for _, _, outputs in recovery.rerun(journal, PIPELINE, longer)]
    journal.close()
    assert [[str(pair[side]) for pair in beside] for side in (0, 1)] == [[str(one) for one in side] for side in alone]


def test_rerun_ticks_where_the_other_configuration_would_have_ticked(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, [RECORDS[1], readings(2, (0, 2.0)), readings(90, (0, 9.0))])
    journal = open_journal(config)
    longer = PipelineConfig(window=(Window(size=Duration(10 * S)),))
    found = [(seq, one.stamp // S) for seq, one, _ in recovery.rerun(journal, longer)]
    journal.close()
    assert found == [(1, 1), (2, 2), (0, 10), (3, 90)]


@pytest.mark.parametrize("before", [0, 1, 2], ids=["at once", "within a second", "at a second"])
def test_nothing_is_missed_between_records_that_follow_closely(before: int) -> None:
    derive = Derive(PIPELINE)
    derive.feed(RECORDS[1])
    assert list(recovery.missed([derive], S, S + before * recovery.OVERDUE // 2)) == []


def test_rerun_tells_every_configuration_of_a_model(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    record(config, [RECORDS[1], model(1)])
    journal = open_journal(config)
    *_, (_, _, outputs) = recovery.rerun(journal, PIPELINE, PIPELINE)
    journal.close()
    swapped = Swapped("pumps", 1, digest_of(bytes([1])), S)
    assert [one.items for one in outputs] == [[swapped], [swapped]]
