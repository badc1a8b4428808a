"""What this gateway has: the machine, as its kernel says it, and what the gateway knows of itself.

What a kernel does not say is left out; nothing here fails. Limits of a container count, since that is all there is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from gateway.compute import Compute
from gateway.config import GatewayConfig
from gateway.disk import Disk
from gateway.journal import Journal
from gateway.outward import Outward
from protocol.jobs import Resources

ACCELERATORS = {
    "cuda": ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvgpu"),  # the last two on a Jetson
    "edgetpu": ("dev/apex_0",),
    "hailo": ("dev/hailo0",),
    "drm": ("dev/dri/renderD128",),
}


class Machine(NamedTuple):
    """What the kernel says; None, or 0 where there is no other word, is what it does not say."""

    cores: int = 0
    memory: int = 0  # bytes
    available: int = 0
    load: float | None = None
    temperature: float | None = None  # degrees Celsius
    accelerator: str = ""


def look(root: Path = Path("/")) -> Machine:
    """Look at the machine, whose file system begins at `root`."""
    memory = _memory(_text(root / "proc/meminfo"))
    limit = _limit(_text(root / "sys/fs/cgroup/memory.max"))
    used = _limit(_text(root / "sys/fs/cgroup/memory.current")) or 0
    total = min(memory.get("MemTotal", 0), limit or memory.get("MemTotal", 0))
    available = min(memory.get("MemAvailable", 0), max(limit - used, 0) if limit else memory.get("MemAvailable", 0))
    load = _text(root / "proc/loadavg").split()
    return Machine(
        _cores(_text(root / "sys/fs/cgroup/cpu.max")),
        total,
        available,
        float(load[0]) if load else None,
        _temperature(root / "sys/class/thermal"),
        next((kind for kind, paths in ACCELERATORS.items() if any((root / path).exists() for path in paths)), ""),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _memory(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1 and row[1].isdigit()}


def _limit(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _cores(quota: str) -> int:
    """Give the cores that we may use, at least one: of a container's quota the part of a core counts as one."""
    cores = len(os.sched_getaffinity(0))
    match quota.split():
        case [most, period] if most.isdigit() and period.isdigit() and int(period):
            return max(min(cores, -(-int(most) // int(period))), 1)
    return cores


def _temperature(zones: Path) -> float | None:
    warmest: float | None = None
    with suppress(OSError):
        for zone in sorted(zones.glob("thermal_zone*")):
            said = _text(zone / "temp").strip()
            if said.lstrip("-").isdigit():
                warmest = max(int(said) / 1000, warmest if warmest is not None else -273.0)
    return warmest


class AtWork(Protocol):
    """What is looked at: a `Pipeline`, by its parts."""

    config: GatewayConfig
    journal: Journal
    disk: Disk
    out: Outward
    compute: Compute | None


def resources_of(gateway: AtWork) -> Resources:
    """Say what a gateway has."""
    uplink, compute, journal = gateway.out.uplink, gateway.compute, gateway.journal
    queue = compute.queue if compute is not None else None
    return Resources(
        *look(),
        disk=gateway.disk.free()[0],
        uplink=uplink.delivery.throughput.rate if uplink is not None else None,
        waiting=queue.waiting + (queue.running is not None) if queue is not None else 0,
        allow=gateway.config.tasks.allow,
        oldest=journal.oldest_stamp,
        readings=gateway.out.at.derive.totals.recorded,
        bytes=journal.bytes,
        **(_measured(compute) if compute is not None else {}),
    )


def _measured(compute: Compute) -> dict[str, Any]:
    costs = compute.costs
    told = {"costs": costs.all(), "reading": costs.reading, "starting": costs.starting, "slowed": costs.slowed}
    return told | {"blocked": compute.blocked()}


def have_changed(before: Resources, after: Resources) -> bool:
    """Whether it is worth saying anew: what a task meets there would be another place."""
    told = (before.cores, before.waiting > 0, before.allow, before.costs)
    if told != (after.cores, after.waiting > 0, after.allow, after.costs):
        return True
    pairs = ((before.available, after.available), (before.disk, after.disk), (before.uplink or 0, after.uplink or 0))
    if any(abs(one - other) * 5 > max(one, other) for one, other in pairs):
        return True
    warmer = abs((before.temperature or 0.0) - (after.temperature or 0.0))
    return abs((before.load or 0.0) - (after.load or 0.0)) * 2 > after.cores or warmer >= 10
