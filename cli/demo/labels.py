"""Whether an alert of a demonstration is about an anomaly that somebody labelled. Pure but for reading the data.

A device's counter says which of its readings a window holds, and so where in the recorded series that was: the series
is played round and round, beginning elsewhere for each further device that replays it (`cli.devices`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cli.devices import begins
from cli.series import NAB, labelled


class Labels:
    """The labelled places of each recorded series."""

    def __init__(self, places: Mapping[str, NDArray[np.bool_]]) -> None:
        self._places = places

    @classmethod
    def read(cls, path: Path = NAB) -> Labels:
        """Read them beside the series."""
        return cls(labelled(path))

    def holds(self, device: str, turns: range) -> bool:
        """Tell whether any of a device's readings, by how many it had sent before, is labelled."""
        kind, _, number = device.rpartition("-")
        places = self._places.get(kind)
        if places is None or not number.isdigit():
            return False
        begin = begins(int(number) - 1, len(places))
        return any(bool(places[(begin + turn) % len(places)]) for turn in turns)


def turns(counters: Sequence[Mapping[str, int | float]], start: int, firsts: Sequence[int]) -> range:
    """Give which of a device's readings lie in the window of its counter that holds `start` (ns).

    `firsts` are the counters with which its lives began, ascending.
    """
    for window in counters:
        if window["start"] <= start < window["start"] + window["size"] and window["count"]:
            first = max((one for one in firsts if one <= window["minimum"]), default=1)
            return range(int(window["minimum"]) - first, int(window["maximum"]) - first + 1)
    return range(0)
