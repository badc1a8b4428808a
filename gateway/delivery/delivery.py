"""The order of frames on one connection. Pure; instructions come back as values.

Rules:

1. A frame that the cloud has not receipted is sent on every connection, once: TCP repeats what the network loses. It is
   sent again on the same connection only if one that was sent after it has been receipted: then the cloud deferred it,
   and it waits DEFER_NS.
2. All definitions go first: whatever refers to a series follows its definition on the same connection.
3. After them four queues share the way by start-time fair queuing (Goyal, Vin, Cheng 1996) with WEIGHTS: alerts,
   results, live telemetry (appended since the connection opened) and backlog (older). So none of them starves, and
   live data does not wait behind a backlog of days.
4. Bytes in flight and bytes a second are bounded (`pace`).
5. The cloud's marks are believed if the spool can have sent it all: more than that is a Fork when it greets us, and
   the end of the connection later. What it misses and the spool does not hold is Gone, and must be declared lost.
6. SILENCE_NS without a receipt that says something new, while frames are in flight, end the connection; after QUIET_NS,
   or four times what the welcome took, its shell finds out whether the link was away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.delivery.instructions import Close, Fork, Gone, Instruction, Release, Send
from gateway.delivery.lane import Flight, Lane, newest
from gateway.delivery.pace import DEFER_NS, QUIET_NS, SECOND_NS, SILENCE_NS, Pace
from gateway.delivery.throughput import Throughput
from gateway.records import NEVER
from protocol.messages import COPIED, LANES, LaneHead, Mark, Receipt, Welcome

WEIGHTS = {"alerts": 8, "results": 2, "live": 1, "backlog": 1}
"""Shares of the way while all queues have something to send, in the order that breaks ties."""


class Delivery:
    """One gateway's way up. `now` is any clock that does not go back, in ns."""

    def __init__(self, max_in_flight: int, max_rate: int | None, now: int) -> None:
        self.pace, self.throughput = Pace(max_in_flight, max_rate, now), Throughput()
        self._lanes = {lane: Lane() for lane in LANES}
        self.barred: frozenset[str] = frozenset()  # lanes that wait, whatever they hold
        self.receipted_frames = 0  # over all connections
        self._open = False
        self._order = 0
        self.heard = now  # a receipt, or the first frame that one is owed for
        self.greeted = 0  # ns from our hello to the welcome, on this connection
        self._virtual = 0.0
        self._finish = dict.fromkeys(WEIGHTS, 0.0)

    # The connection.

    def opened(
        self, welcome: Welcome, heads: Mapping[str, LaneHead], now: int, chains: Mapping[str, int] | None = None
    ) -> list[Instruction]:
        """Begin a connection from the cloud's marks and what the spool holds; a Fork comes alone.

        `chains` are those of our frames where the marks stand, 0 where there is none.
        """
        reason = welcome.fork or _contradiction(welcome.marks, heads, chains or {})
        if reason:
            return [Fork(reason)]
        for name, lane in self._lanes.items():
            lane.open(welcome.marks.get(name, Mark()), heads[name])
        self._open, self.heard = True, now
        self.pace.reset(welcome.max_bytes)
        gone = [Gone(name, *missed) for name, lane in self._lanes.items() for missed in lane.gone()]
        return [*self._releases(dict.fromkeys(LANES, 0)), *gone]

    def closed(self) -> None:
        """Note that the connection is gone; what was in flight is sent on the next one."""
        self._open = False
        self.pace.reset(self.pace.limit)
        for lane in self._lanes.values():
            lane.flights.clear()

    def receipted(self, receipt: Receipt, now: int) -> list[Instruction]:
        """Take a receipt: frames leave the flight, and what was passed over is sent again later."""
        if not self._open:
            return []
        marks = {name: mark for name, mark in receipt.marks.items() if name in self._lanes}
        for name, mark in marks.items():
            if newest(mark) >= self._lanes[name].next:
                return [Close(f"a receipt of {name} {newest(mark)}, which does not exist")]
        before = {name: lane.mark.upto for name, lane in self._lanes.items()}
        done = [flight for name, mark in marks.items() for flight in self._lanes[name].receipt(mark)]
        if done:
            self._settle(done, now)
        return self._releases(before)

    def _releases(self, before: Mapping[str, int]) -> list[Instruction]:
        upto = {name: lane.mark.upto for name, lane in self._lanes.items()}
        return [Release(name, upto[name]) for name in LANES if upto[name] > before[name]]

    def _settle(self, done: list[Flight], now: int) -> None:
        last = max(done, key=lambda flight: flight.order)
        self.heard = now
        self.receipted_frames += len(done)
        size = sum(flight.size for flight in done)
        self.pace.adapt(size, now - last.at)
        self.throughput.add(size, now)
        deferred = [flight for lane in self._lanes.values() for flight in lane.defer(last.order, now + DEFER_NS)]
        self.pace.give([flight.size for flight in done + deferred])

    # The frames.

    def appended(self, lane: str, seq: int) -> None:
        """Note that the spool holds one more frame, durably."""
        if self._open:
            self._lanes[lane].next = max(self._lanes[lane].next, seq + 1)

    def next(self, now: int) -> Send | None:
        """Give the frame to send now, if there is one and it may go."""
        if not self._open or self.pace.full or self.pace.opens(now) > now:
            return None
        return min(self._ready(now), key=lambda send: self._start(send.queue), default=None)

    def _ready(self, now: int) -> Iterator[Send]:
        """Give what each queue would send; only definitions while there are any (rule 2)."""
        lanes = self._lanes
        definitions = lanes["definitions"]
        if definitions.backlog() or definitions.fresh():
            if "definitions" not in self.barred and (seq := definitions.ready(now)):
                yield Send("definitions", "definitions", seq)
            return
        for name in ("alerts", "results"):
            if name not in self.barred and (seq := lanes[name].ready(now)):
                yield Send(name, name, seq)
        if "telemetry" in self.barred:
            return
        if seq := lanes["telemetry"].fresh():
            yield Send("live", "telemetry", seq)
        if (seq := lanes["telemetry"].backlog()) and lanes["telemetry"].held_until <= now:
            yield Send("backlog", "telemetry", seq)

    def _start(self, queue: str) -> float:
        return max(self._virtual, self._finish.get(queue, 0.0))

    def sent(self, send: Send, size: int, now: int) -> None:
        """Note that the frame asked for was handed to the connection."""
        if not self.pace.frames:
            self.heard = now
            self.throughput.begin(now)
        self._order += 1
        self._lanes[send.lane].pass_by(send.seq)
        self._lanes[send.lane].flights[send.seq] = Flight(size, self._order, now)
        self.pace.take(size)
        if send.queue in WEIGHTS:
            self._virtual = self._start(send.queue)
            self._finish[send.queue] = self._virtual + size / WEIGHTS[send.queue]

    def withheld(self, send: Send) -> None:
        """Note that the frame asked for is not sent on this connection, though the spool has it."""
        self._lanes[send.lane].pass_by(send.seq)

    def absent(self, send: Send, head: LaneHead) -> None:
        """Note that the spool does not have the frame asked for, and what it has of the lane."""
        self._lanes[send.lane].absent(send.seq, head)

    # Time.

    def due(self, now: int) -> int:
        """When (ns) to ask `next` and `tick` again if nothing else happens; NEVER if only an event can help."""
        if not self._open:
            return NEVER
        silence = self.heard + SILENCE_NS if self.pace.frames else NEVER
        if self.pace.full:
            return silence
        if any(True for _ in self._ready(now)):
            return min(silence, self.pace.opens(now))
        held = [lane.held_until for lane in self._lanes.values() if lane.held_until > now and lane.backlog()]
        return min([silence, *held])

    @property
    def quiet(self) -> int:
        """When (ns) the cloud will have been oddly silent about what it owes; NEVER while it owes nothing."""
        return self.heard + max(QUIET_NS, 4 * self.greeted) if self.pace.frames else NEVER

    def tick(self, now: int) -> list[Instruction]:
        """Let time pass."""
        if self._open and self.pace.frames and now >= self.heard + SILENCE_NS:
            return [Close(f"no receipt for {SILENCE_NS // SECOND_NS} s")]
        return []

    def check(self) -> None:
        """Assert what must hold between any two calls."""
        flights = [flight for lane in self._lanes.values() for flight in lane.flights.values()]
        assert self.pace.bytes == sum(flight.size for flight in flights)
        assert self.pace.frames == len(flights)
        self.pace.check()
        for lane in self._lanes.values():
            lane.check()


def _contradiction(marks: Mapping[str, Mark], heads: Mapping[str, LaneHead], chains: Mapping[str, int]) -> str:
    for name, mark in marks.items():
        if name in heads and newest(mark) >= heads[name].next:
            return f"{name}: the cloud has frame {newest(mark)}, the next one here is {heads[name].next}: {COPIED}"
        if mark.chain and chains.get(name, 0) not in (0, mark.chain):
            return f"{name}: the cloud has another frame {mark.upto} than is here: {COPIED}"
    return ""
