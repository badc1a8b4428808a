"""What a gateway says it has is what its kernel says, and nothing fails where that says nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import yardstick
from gateway.resources import Machine, have_changed, look
from gateway.tasks.costs import MAX_NAMES, Costs, Effort
from protocol.jobs import Cost, Resources, Status, read_status

PI = {
    "proc/meminfo": "MemTotal:        8000 kB\nMemFree:  100 kB\nMemAvailable:    6000 kB\nHugePages_Total:  0\n",
    "proc/loadavg": "0.52 0.58 0.59 1/123 4567\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/class/thermal/thermal_zone1/temp": "51500\n",
    "dev/nvhost-gpu": "",
}


def machine(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return look(root)


def test_a_machine_says_what_it_has(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert machine(tmp_path, PI) == Machine(cores, 8000 * 1024, 6000 * 1024, 0.52, 51.5, "cuda")


def test_a_container_has_what_it_was_given(tmp_path: Path) -> None:
    limits = {"cpu.max": "50000 100000\n", "memory.max": "4096000\n", "memory.current": "96000\n"}
    found = machine(tmp_path, PI | {f"sys/fs/cgroup/{name}": text for name, text in limits.items()})
    assert (found.cores, found.memory, found.available) == (1, 4_096_000, 4_000_000)


@pytest.mark.parametrize("text", ["", "max\n", "\x00\x01", "a b c"])
def test_what_is_not_said_is_left_out(tmp_path: Path, text: str) -> None:
    said = {"proc/meminfo": text, "sys/fs/cgroup/memory.max": text, "sys/fs/cgroup/cpu.max": text}
    assert machine(tmp_path, said) == Machine(cores=len(os.sched_getaffinity(0)))


HAD = Resources(4, 8 << 30, 4 << 30, 0.5, 50.0, disk=10 << 30, readings=100)
CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "more readings": ({"readings": 10**9, "bytes": 10**9}, False),
    "a little memory": ({"available": 4_000_000_000}, False),
    "half of the memory": ({"available": 2 << 30}, True),
    "a fifth of the disk": ({"disk": 7 << 30}, True),
    "a load of two cores": ({"load": 3.0}, True),
    "some load": ({"load": 1.5}, False),
    "ten degrees": ({"temperature": 60.0}, True),
    "a link": ({"uplink": 1e6}, True),
    "a task that runs": ({"waiting": 1}, True),
    "a cost": ({"costs": {"moments": Cost(0.1, 10**6)}}, True),
}


@pytest.mark.parametrize(("change", "counts"), CHANGES.values(), ids=CHANGES.keys())
def test_only_what_matters_is_said_anew(change: dict[str, Any], *, counts: bool) -> None:
    assert have_changed(HAD, msgspec.structs.replace(HAD, **change)) is counts


def test_what_was_measured_before_counts_half_and_large_tasks_tell() -> None:
    costs = Costs()
    costs.note("moments", Effort(work=0.4, series=10, sent=500), 1_000_000)
    costs.note("moments", Effort(work=0.4, series=20, sent=300), 2_000_000)
    costs.note("spectrum", Effort(work=9.0), 10)
    assert costs.all() == {"moments": Cost((0.2 + 0.4) / 2.5, 3_000_000, 300, 20)}


def test_a_task_that_found_no_blocks_counts_little_beside_one_that_did() -> None:
    costs = Costs()
    costs.note("moments", Effort(work=1.0, unblocked=1_000_000), 1_000_000)
    assert costs.all()["moments"].seconds == pytest.approx(1.0)
    costs.note("moments", Effort(work=0.1), 1_000_000)
    assert costs.all()["moments"].seconds == pytest.approx((0.05 + 0.1) / 1.05)


def test_starting_and_reading_as_recorded_are_told_apart() -> None:
    costs = Costs()
    costs.guess = 0.5
    assert (costs.reading, costs.starting, costs.slowed) == (0.5, 0.0, 0.0)
    costs.note("moments", Effort(0.5, 0.25, 1.25, recorded=5_000_000, took=4.0), 10)
    assert (costs.reading, costs.starting, costs.slowed) == (0.25, 0.25, 2.0)
    costs.note("moments", Effort(0.5, 0.05, 9.0, recorded=10, took=0.0), 10)
    assert (costs.reading, costs.starting, costs.slowed) == (0.25, 0.15, 1.0)


def test_so_many_tasks_are_remembered() -> None:
    costs = Costs()
    for number in range(MAX_NAMES + 1):
        costs.note(f"task-{number}", Effort(1.0), 1_000_000)
    assert len(costs.all()) == MAX_NAMES
    assert "task-0" not in costs.all()


def test_a_machine_says_how_fast_it_reads_before_it_has_read() -> None:
    assert yardstick.seconds() > 0.0


def test_a_status_is_read_and_what_is_none_reads_as_offline() -> None:
    said = {"state": "online", "version": "1", "boot": "b", "models": {}, "resources": HAD}
    assert read_status(msgspec.json.encode(said)) == Status("online", "1", HAD)
    assert [read_status(payload) for payload in (b"", b"[]", b"\xff", b'{"state": 1}')] == [Status()] * 4
