"""Journal and spool as a tool opens them, and the numbers of `stat`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

from gateway.config import GatewayConfig
from gateway.journal import Checkpoints, Journal
from gateway.segment import Files, Log, ReadOnlyFiles, first_of
from gateway.spool import Spool
from protocol.errors import FieldgateError, FrameRefused, JournalUnusable
from protocol.messages import LANES

TRIES = 5
"""A running gateway may drop a file, or begin an epoch, while it is looked at."""

T = TypeVar("T")


@contextmanager
def journal_of(config: GatewayConfig, files: Files) -> Iterator[Journal]:
    """Open a gateway's journal; FieldgateError if there is none."""
    directory = _there(config, files, "journal")
    journal = _patiently(lambda: Journal.open(files, directory, config.journal, about=dict), files)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def spool_of(config: GatewayConfig, files: Files) -> Iterator[Spool]:
    """Open a gateway's spool; FieldgateError if there is none."""
    directory = _there(config, files, "spool")
    rng = SystemRandom()
    spool = _patiently(lambda: Spool.open(files, directory, config.spool, new_epoch=lambda: rng.getrandbits(63)), files)
    try:
        yield spool
    finally:
        spool.close()


def checkpoints_of(config: GatewayConfig, files: Files) -> Checkpoints:
    """Give a gateway's checkpoints."""
    return Checkpoints(files, Path(config.data) / "checkpoints")


def _there(config: GatewayConfig, files: Files, name: str) -> Path:
    directory = Path(config.data) / name
    if not files.names(directory):
        raise FieldgateError(f"{directory}: no {name} here: the gateway has not run yet")
    return directory


def _patiently(opened: Callable[[], T], files: Files) -> T:
    """Open; what only reads tries again when something changed meanwhile."""
    for _ in range(TRIES - 1 if isinstance(files, ReadOnlyFiles) else 0):
        try:
            return opened()
        except JournalUnusable:
            pass
    return opened()


def journal_stat(config: GatewayConfig) -> dict[str, Any]:
    """Give the numbers of a journal and its checkpoints; stamps are ns, None where there is none."""
    files = ReadOnlyFiles()
    checkpoints = checkpoints_of(config, files)
    with journal_of(config, files) as journal:
        positions = checkpoints.positions()
        newest = positions[-1] if positions else 0
        return {
            "directory": str(journal.log.directory),
            **_numbers(files, journal.log),
            "oldest_stamp": _stamp(journal, journal.oldest),
            "newest_stamp": _stamp(journal, journal.durable),
            "checkpoints": [
                {"position": position, "bytes": files.size(checkpoints.path(position))} for position in positions
            ],
            "to_replay": max(journal.durable - max(newest, journal.oldest - 1), 0),
            "set_aside": aside(files, journal.log.directory) + aside(files, checkpoints.directory),
        }


def spool_stat(config: GatewayConfig) -> dict[str, Any]:
    """Give the numbers of a spool, lane by lane."""
    files = ReadOnlyFiles()
    with spool_of(config, files) as spool:
        lanes = {lane: _lane(files, spool, lane) for lane in LANES}
        return {
            "directory": str(spool.home),
            "epoch": f"{spool.epoch:016x}",
            "bytes": sum(lane["bytes"] for lane in lanes.values()),
            "queued": sum(lane["queued"] for lane in lanes.values()),
            "lanes": lanes,
            "set_aside": [f"{lane}/{name}" for lane in LANES for name in aside(files, spool.home / lane)],
        }


def _lane(files: Files, spool: Spool, lane: str) -> dict[str, Any]:
    log = spool.log(lane)
    sealed = log.oldest_sealed()
    return {
        **_numbers(files, log),
        "receipted": spool.receipted(lane),
        "queued": spool.frames(lane),
        "cover": [spool.cover(lane).record, spool.cover(lane).ordinal],
        "oldest_stamp": sealed.oldest or None if sealed else None,
    }


def _numbers(files: Files, log: Log) -> dict[str, Any]:
    here = log.durable >= log.oldest
    return {
        "files": sum(first_of(name) is not None for name in files.names(log.directory)),
        "bytes": log.bytes,
        "records": log.durable - log.oldest + 1 if here else 0,
        "oldest": log.oldest if here else None,
        "newest": log.durable if here else None,
    }


def _stamp(journal: Journal, position: int) -> int | None:
    """Give the stamp of the first readable record from a position on."""
    try:
        return next((record.stamp for _, record in journal.records(position)), None)
    except FrameRefused:
        return None


def aside(files: Files, directory: Path) -> list[str]:
    """Name what was kept for a post-mortem."""
    return [name for name in files.names(directory) if name.endswith(".damaged")]
