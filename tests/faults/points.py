"""Durable steps of a gateway at which it is killed, and a configuration with which each comes within a second."""

from __future__ import annotations

from tests.journeys.site import WINDOWS

SMALL = f"""
{WINDOWS}
[journal]
segment_bytes = "8KiB"
max_bytes = "24KiB"
commit_interval = "20ms"
checkpoint_interval = "250ms"
[spool]
segment_bytes = "1KiB"
[uplink]
pack_interval = "50ms"
"""
"""Small files, so that every kind of step is passed within a second."""

Kill = tuple[str, int, str]

KILLS: dict[str, list[Kill]] = {
    "the journal": [
        ("data.mkdir", 1, "before"),
        ("data.sync_directory", 1, "before"),
        ("journal.mkdir", 1, "before"),
        ("journal.create", 1, "after"),
        ("journal.write", 1, "half"),
        ("journal.sync", 1, "before"),
        ("journal.write", 5, "half"),
        ("journal.truncate", 1, "before"),
        ("journal.sync", 9, "after"),
        ("journal.create", 2, "before"),
        ("journal.sync_directory", 2, "before"),
        ("journal.unlink", 1, "after"),
    ],
    "a checkpoint": [
        ("checkpoints.mkdir", 1, "after"),
        ("checkpoints.create", 1, "after"),
        ("checkpoints.unlink", 1, "before"),
        ("checkpoints.write", 2, "half"),
        ("checkpoints.sync", 2, "before"),
        ("checkpoints.rename", 1, "before"),
        ("checkpoints.rename", 2, "after"),
        ("checkpoints.sync_directory", 1, "before"),
    ],
    "the spool": [
        ("spool.mkdir", 1, "after"),
        ("spool.sync_directory", 1, "before"),
        ("spool.definitions.mkdir", 1, "after"),
        ("spool.telemetry.mkdir", 1, "before"),
        ("spool.definitions.create", 1, "after"),
        ("spool.definitions.unlink", 1, "before"),
        ("spool.definitions.write", 1, "half"),
        ("spool.definitions.truncate", 1, "after"),
        ("spool.definitions.sync", 1, "before"),
        ("spool.telemetry.write", 1, "half"),
        ("spool.telemetry.write", 4, "half"),
        ("spool.telemetry.truncate", 1, "before"),
        ("spool.telemetry.sync", 5, "after"),
        ("spool.telemetry.create", 1, "before"),
        ("spool.telemetry.sync_directory", 1, "after"),
    ],
}

WITH_A_CLOUD: list[Kill] = [
    ("spool.telemetry.unlink", 1, "before"),
    ("spool.create", 1, "after"),
    ("spool.unlink", 1, "before"),
    ("spool.write", 1, "half"),
    ("spool.sync", 1, "before"),
    ("spool.rename", 1, "before"),
    ("spool.rename", 2, "after"),
    ("spool.telemetry.unlink", 2, "after"),
]
"""What receipts bring about: files of the spool go, and its marks are written."""

UNINTERESTING = {
    *("spool.alerts.mkdir", "spool.results.mkdir"),
    *("spool.alerts.sync_directory", "spool.results.sync_directory", "spool.definitions.sync_directory"),
}
"""Steps that the same code takes as for the lanes above."""


AFTER_A_KILL = {
    "journal.truncate",
    "spool.telemetry.truncate",
    "spool.definitions.truncate",
    "spool.definitions.unlink",
}
"""Steps of a start that finds something torn."""
