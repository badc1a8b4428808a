"""What a gateway has dropped and declared lost: it is in no store, and known from the files that its victim kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.segment import layout
from protocol import frame
from protocol.columns import decode_windows
from protocol.messages import LANES, Kind, WindowRows
from tests.faults.victim import TELEMETRY
from tests.journeys.cloud_process import Held, expected
from tests.journeys.kept import Replay, Statements
from tests.journeys.site import Site


def without(site: Site, whole: Replay, lanes: list[dict[str, Any]]) -> tuple[Held, Held]:
    """Part the windows in UTC that a replay states: those to be stored, and those in frames of declared ranges."""
    ranges = [(one["first"], one["last"]) for lane in lanes if lane["lane"] == "telemetry" for one in lane["dropped"]]
    everything = expected(whole)
    if not ranges:
        return everything, {}
    lost = Statements()
    for seq, rows in _frames(site):
        if any(first <= seq <= last for first, last in ranges):
            lost.add(rows, whole.derive.names)
    dropped = expected(Replay(whole.derive, lost, {}))
    gone = {key: row for key, row in everything.items() if dropped.get(key) == row}
    return {key: row for key, row in everything.items() if key not in gone}, gone


def _frames(site: Site) -> Iterator[tuple[int, WindowRows]]:
    for path in sorted(site.archive.glob(f"{TELEMETRY}*")):
        data = path.read_bytes()
        for at, header in layout.walk(data, LANES.index("telemetry"), _first(path)):
            held = frame.decode(data, at)
            if held.kind == Kind.WINDOWS:
                yield header.seq, decode_windows(frame.load(held.kind, held.body).columns)


def _first(path: Path) -> int:
    return layout.first_of(path.name.removeprefix(TELEMETRY)) or 1
