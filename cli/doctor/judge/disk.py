"""Judges the disk: can the gateway write, how much, where, and how fast is it durable."""

from __future__ import annotations

from collections.abc import Iterator

from cli.doctor.facts import Disk, Unknown
from cli.doctor.judge.finding import Finding, fail, ok, size, skip, span, warn
from gateway.config import GatewayConfig

CHECKS = ("data", "room", "file system", "fsync", "lock")

LEAST_FREE = 64 << 20
"""Bytes: with less than this there is hardly room for what a recovery needs."""

SLOW_S = 0.05
"""A commit is due 100 ms after the oldest reading; a disk that takes half of that for one fsync holds it up."""

FLEETING = {"tmpfs": "memory", "ramfs": "memory", "overlay": "a container's own layer"}
"""File systems whose content is gone when the machine, or the container, is."""

UNSAFE = {
    **dict.fromkeys(
        ("nfs", "nfs4", "cifs", "smb3", "9p"), "a network: locks and fsync are what the server makes of them"
    ),
    **dict.fromkeys(
        ("vfat", "msdos", "exfat"), "a file system without a journal of its own: a power cut may damage it"
    ),
}


def judge(disk: Disk | Unknown, settings: GatewayConfig) -> Iterator[Finding]:
    """Judge what was measured in the data directory."""
    if isinstance(disk, Unknown):
        yield fail("data", disk.why, f"look at the disk that holds {settings.data}: it does not answer")
        yield from (skip(check, "the disk does not answer") for check in CHECKS[1:])
        return
    yield _data(disk, settings)
    yield _room(disk, settings)
    yield _kind(disk)
    yield _syncs(disk)
    yield _lock(disk)


def _data(disk: Disk, settings: GatewayConfig) -> Finding:
    if disk.trouble:
        return fail("data", f"{disk.place}: {disk.trouble}", f"make {settings.data} writable for the gateway's user")
    if not disk.exists:
        return ok("data", f"{settings.data} is not there yet, and can be made in {disk.place}")
    return ok("data", f"{settings.data} can be written")


def bound(settings: GatewayConfig) -> int:
    """Give the bytes that journal and spool may grow to."""
    spool = settings.spool
    return settings.journal.max_bytes + spool.telemetry_bytes + spool.results_bytes + spool.alerts_bytes


def _room(disk: Disk, settings: GatewayConfig) -> Finding:
    if isinstance(disk.free, Unknown):
        return skip("room", disk.free.why)
    more = max(bound(settings) - disk.used, 0)
    found = f"{size(disk.free)} free; journal and spool have {size(disk.used)} and may take {size(more)} more"
    do = "lower journal.max_bytes and spool.telemetry_bytes, or free some: below min_free the oldest goes"
    if disk.free < LEAST_FREE:
        return fail("room", found, do)
    return warn("room", found, do) if disk.free < more else ok("room", found)


def _kind(disk: Disk) -> Finding:
    if not disk.kind:
        return skip("file system", "this machine does not say which it is")
    if place := FLEETING.get(disk.kind):
        do = "put `data` on a disk (a volume, for a container): nothing here outlives a restart"
        return warn("file system", f"{disk.kind}: {place}", do)
    if why := UNSAFE.get(disk.kind):
        return warn("file system", f"{disk.kind}: {why}", "put `data` on a local ext4, xfs, btrfs or f2fs")
    return ok("file system", disk.kind)


def percentile(values: tuple[float, ...], share: float) -> float:
    """Give the least of the values that so large a share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _syncs(disk: Disk) -> Finding:
    if not disk.syncs:
        return skip("fsync", "nothing could be written")
    half, most = percentile(disk.syncs, 0.5), percentile(disk.syncs, 0.99)
    found = f"median {span(half)}, p99 {span(most)} of {len(disk.syncs)} appends of 4 KiB"
    if most > SLOW_S:
        do = "use a faster disk or card, or a longer journal.commit_interval: acknowledgements wait for it"
        return warn("fsync", found, do)
    return ok("fsync", found)


def _lock(disk: Disk) -> Finding:
    if isinstance(disk.running, Unknown):
        return skip("lock", disk.running.why)
    return ok("lock", "a gateway runs on this data directory" if disk.running else "no gateway runs on this directory")
