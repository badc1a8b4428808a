"""What simulated devices publish: message k of a run is a function of k, so nothing has to be remembered. Pure.

The messages of N devices take turns: message k is the reading `k // N` of device `k % N`, due k / (N x rate) seconds
after `start`, and its event time is exactly that moment, however late it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cli import pumps
from cli.speech import SPEAK, Spoken

PUMPS = "pumps"
"""A dialect of its own: what is said is made up, see `cli.pumps`."""

MILLION = 10**6
"""Rates are kept as whole messages per 10**6 seconds, so that when a message is due is exact."""


class Devices:
    """N devices replaying tables of values, each reading with its event time and the device's own counter.

    `tables` are by what they measure; devices take them in turn. In `topic`, {device} and {measurement} are filled in.
    Without a `name` a device is called after what it measures. A `dialect` of SPEAK has topics and payloads of its own.
    """

    def __init__(
        self,
        count: int,
        rate: float,
        tables: Mapping[str, Sequence[float]],
        *,
        topic: str,
        start: int,
        first: int = 1,
        name: str = "device",
        dialect: str = "json",
    ) -> None:
        width, kinds = len(str(count)), list(tables)
        measured = [kinds[at % len(kinds)] for at in range(count)]
        self.names = [f"{name}-{at:0{width}}" for at in range(1, count + 1)]
        if not name:
            self.names = [f"{kind}-{at // len(kinds) + 1}" for at, kind in enumerate(measured)]
        self.first = first
        self._measured = measured
        self._speak = pumps.speak if dialect == PUMPS else SPEAK.get(dialect)
        self._topics = [
            topic.replace("{device}", device).replace("{measurement}", kind)
            for device, kind in zip(self.names, measured, strict=True)
        ]
        self._tables = [_texts(tables[kind], at // len(kinds)) for at, kind in enumerate(measured)]
        self._per_million = round(count * rate * MILLION)
        self._start = start

    def due(self, k: int) -> int:
        """When (ns) message k is due, which is its event time."""
        return self._start + k * 10**9 * MILLION // self._per_million

    def until(self, now: int) -> int:
        """How many messages are due by now (ns)."""
        return max(0, -(-(now - self._start + 1) * self._per_million // (10**9 * MILLION)))

    def pair(self, k: int) -> tuple[int, int]:
        """Which device message k is of, and its counter."""
        turn, device = divmod(k, len(self.names))
        return device, self.first + turn

    def message(self, k: int) -> tuple[str, bytes]:
        """Give topic and payload of message k."""
        turn, device = divmod(k, len(self.names))
        table = self._tables[device]
        value = table[turn % len(table)]
        if self._speak is not None:
            name, kind = self.names[device], self._measured[device]
            return self._speak(Spoken(name, device, kind, value, self.due(k), self.first + turn))
        return self._topics[device], f'{{"time":{self.due(k)},"value":{value},"n":{self.first + turn}}}'.encode()


def begins(lap: int, length: int) -> int:
    """Give where in a table the device begins that is the `lap`-th, from 0, to replay it."""
    return lap * 997 % length


def _texts(table: Sequence[float], lap: int) -> list[str]:
    """Write a table out as JSON numbers, beginning elsewhere for every further device that replays it."""
    begin = begins(lap, len(table))
    return [repr(float(value)) for value in [*table[begin:], *table[:begin]]]
