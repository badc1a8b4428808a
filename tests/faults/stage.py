"""What every scenario plays on: broker, cloud and gateways as processes, devices that know what was acknowledged, and
a checker that says what became of it.

Rules of the checker:

1. Acknowledged is what the broker has acknowledged to a device; recorded is what is in the gateway's journal, all of it
   since its first record, as a replay reads it; stored is what the cloud's API answers.
2. `broker_lost` is acknowledged and not recorded. It is `lost` too, unless the scenario does it to the broker: what the
   broker forgets before the gateway has it, no gateway can keep.
3. `lost` is recorded and in no stored window, unless the gateway removed it with a reason, or dropped the frame that it
   is in and declared that in the ledger; `duplicated` is counted more often in stored windows than recorded;
   `reordered` is recorded after a higher counter of its device.
4. The accounting: stored windows equal a replay's bit for bit, but for the dropped ones; the last checkpoint is the
   replay's state bit for bit; recorded = windowed + removed + late + pending; messages = decoded + dead + redelivered;
   and per lane the ledger has received or declared dropped exactly the frames that the spool has numbered. `wrong`
   lists what of it does not hold.
"""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cli.accounting import NOT_A_LOSS
from cli.broker import EmbeddedBroker
from cli.publisher import Publisher
from gateway.segment import OsFiles
from gateway.spool import Spool
from protocol.columns import encode_state
from protocol.messages import LANES
from tests.faults import dropped
from tests.faults.points import SMALL
from tests.journeys.cloud_process import Cloud, Held, expected
from tests.journeys.kept import Replay, balance, copy_of, last_checkpoint, numbers, replay
from tests.journeys.processes import Child, Start, python
from tests.journeys.site import Gateway, Metrics, Site, finished, repeated
from tests.ports import free_port
from tests.waiting import DEADLINE_S, until

VICTIM = python("-m", "tests.faults.victim")
"""A gateway of its own interpreter, which keeps what retention removes from its journal."""

DRAINED_WITHIN_S = 90.0
READINGS = 2
"""In each message of a device: a value, and its counter."""

QUIET_S = 1.5
"""So long nothing new is recorded when the broker has no more: what it lost never comes."""

BITS = SMALL.partition("[uplink]")[0]


@dataclass
class Found:
    """What a scenario has found so far, over all its gateways."""

    cycles: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    broker_lost: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    times: defaultdict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )  # seconds, by what was timed
    more: dict[str, Any] = field(default_factory=dict)  # counts, by what was counted

    @property
    def good(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.lost or self.duplicated or self.reordered or self.wrong)

    def demand(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)

    def report(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return {
            "cycles": self.cycles,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "reordered": self.reordered,
            "broker_lost": self.broker_lost,
            "accounting": {"closed": not self.wrong, **dict(sorted(self.sums.items())), "wrong": self.wrong[:20]},
            "times": {name: [round(value, 3) for value in values] for name, values in sorted(self.times.items())},
            **self.more,
        }


@dataclass
class Stage:
    """One broker, one cloud, and as many gateways as a scenario makes, one after the other."""

    directory: Path
    broker: str
    cloud: Cloud
    chance: Random
    found: Found = field(default_factory=Found)
    blames_broker: bool = False
    made: int = 0

    def site(self, tag: str, *, more: str = BITS, broker: str = "", cloud_port: int | None = 0) -> Site:
        """Make a gateway of its own; without a `cloud_port` it works alone, with 0 it knows the cloud's own."""
        self.made += 1
        name = f"{tag}-{self.made}"
        uplink = "" if cloud_port is None else self.cloud.enrol(name, cloud_port)
        return Site(self.directory / name, broker or self.broker, free_port(), more + uplink)

    def with_cloud(self, site: Site) -> Site:
        """Give the same gateway a cloud."""
        return replace(site, more=BITS + self.cloud.enrol(site.name))

    @asynccontextmanager
    async def survivor(self, site: Site, start: Start = VICTIM, *options: object) -> AsyncIterator[Gateway]:
        """Run a gateway that nobody kills, and note how soon it is ready."""
        began = time.monotonic()
        async with site.gateway(start, "--archive", site.archive, *options) as gateway:
            await gateway.ready()
            self.found.times["ready_s"].append(time.monotonic() - began)
            yield gateway

    async def finale(self, site: Site, publisher: Publisher, gateway: Gateway) -> Replay:
        """End the devices, let everything arrive, stop the gateway, and add up."""
        await finished(publisher)
        await self._recorded(publisher, gateway)
        began = time.monotonic()
        await self._arrived(site, gateway)
        self.found.times["last_drain_s"].append(time.monotonic() - began)
        await gateway.stop()
        return await self.check(site, publisher)

    async def _recorded(self, publisher: Publisher, gateway: Gateway) -> None:
        """Wait until all is recorded, or nothing more comes because the broker has lost it; and no window is open."""
        seen, since = -1.0, time.monotonic()

        async def over() -> bool:
            nonlocal seen, since
            now: Metrics = await gateway.metrics()
            recorded = now.get("fieldgate_readings_recorded_total", 0.0)
            if recorded != seen:
                seen, since = recorded, time.monotonic()
            whole = recorded - repeated(now) >= READINGS * publisher.sent or time.monotonic() - since > QUIET_S
            return bool(now) and whole and now["fieldgate_readings_pending"] == 0

        await until(over, "everything is recorded and closed", within=DRAINED_WITHIN_S, every=0.05)

    async def _arrived(self, site: Site, gateway: Gateway) -> None:
        """Wait until the cloud has what the journal says; how it differs is for `check` to say."""

        async def over() -> bool:
            now = await gateway.metrics()
            waiting = sum(now.get(f'fieldgate_spool_frames{{lane="{lane}"}}', 1.0) for lane in LANES)
            waiting += sum(
                now.get(name, 1.0) for name in ("fieldgate_readings_pending", "fieldgate_journal_pending_bytes")
            )
            if waiting:
                return False
            try:
                whole = replay(site)
            except AssertionError:  # a record seems to be missing while its file is written: `check` reads it at rest
                return False
            return await self._same(site, whole)

        try:
            await until(over, "the cloud has what the gateway has", within=DRAINED_WITHIN_S, every=0.1)
        except AssertionError as error:
            self.found.wrong.append(f"{site.name}: {error}")

    async def _same(self, site: Site, whole: Replay) -> bool:
        """Whether the cloud has exactly what a replay states, but for what was dropped and declared."""
        stored, _ = dropped.without(site, whole, await self._lanes(site))
        beyond = [await self.cloud.windows(site.name, domain) == expected(whole, domain) for domain in whole.elsewhere]
        return all(beyond) and await self.cloud.windows(site.name) == stored

    async def _lanes(self, site: Site) -> list[dict[str, Any]]:
        answer = await self.cloud.ask(f"/v1/ledger?gateway={site.name}") or {"ledger": []}
        lanes: list[dict[str, Any]] = answer["ledger"]
        return lanes

    async def check(self, site: Site, publisher: Publisher) -> Replay:
        """Add up a gateway that has ended in order; see the rules above."""
        whole = replay(site)
        held = [await self.cloud.windows(site.name, domain) for domain in ("", *whole.elsewhere)]
        acknowledged = dict(zip(publisher.devices.names, map(numbers, publisher.acknowledged), strict=True))
        _, gone = dropped.without(site, whole, await self._lanes(site))
        self._pairs(acknowledged, whole, held, gone)
        self._gateway(site, whole)
        self.found.demand(await self._same(site, whole), f"{site.name}: stored windows differ from a replay's")
        await self._ledger(site)
        return whole

    def _pairs(self, acknowledged: dict[str, set[int]], whole: Replay, held: list[Held], gone: Held) -> None:
        found, totals = self.found, whole.derive.totals
        missing = sum(len(pairs - whole.pairs.get(device, set())) for device, pairs in acknowledged.items())
        recorded = sum(map(len, whole.pairs.values()))
        stored, declared = sum(map(_counters, held)), _counters(gone)
        removed = sum(number for reason, number in totals.removed.items() if reason not in NOT_A_LOSS) + totals.late
        found.broker_lost += missing
        found.lost += max(0, recorded - stored - declared - removed // 2) + (0 if self.blames_broker else missing)
        found.duplicated += max(0, stored - recorded)
        found.reordered += whole.reordered
        published = sum(map(len, acknowledged.values()))
        found.sums.update(acknowledged=published, recorded=recorded, stored=stored, removed=removed // 2)
        found.sums.update(declared=declared)
        found.sums.update(acknowledged_readings=READINGS * published)

    def _gateway(self, site: Site, whole: Replay) -> None:
        found = self.found
        position, kept = last_checkpoint(site)
        same = encode_state(kept.snapshot()) == encode_state(whole.derive.snapshot())
        found.demand(position == whole.position and same, f"{site.name}: its state differs from a replay's")
        readings, explained = balance(kept.totals, kept.pending)
        found.demand(readings == explained, f"{site.name}: {readings} readings, {explained} explained")
        tally = kept.totals.tally
        taken = tally.decoded + sum(tally.dead.values()) + tally.redelivered
        found.demand(tally.messages == taken, f"{site.name}: {tally.messages} messages, {taken} explained")
        found.sums.update(messages=tally.messages, dead=sum(tally.dead.values()), redelivered=tally.redelivered)

    async def _ledger(self, site: Site) -> None:
        with copy_of(site.data / "spool") as directory:
            spool = Spool.open(OsFiles(), directory, site.config.spool, new_epoch=lambda: 1)
            numbered = {lane: head.next - 1 for lane, head in spool.heads().items()}
            epoch = spool.epoch
            spool.close()
        lanes = {lane["lane"]: lane for lane in await self._lanes(site) if int(lane["epoch"], 16) == epoch}
        for lane in LANES:
            self._lane(site, lane, lanes.get(lane), numbered[lane])

    def _lane(self, site: Site, lane: str, ledger: dict[str, Any] | None, numbered: int) -> None:
        found = self.found
        if ledger is None:
            found.demand(numbered == 0, f"{site.name}: {numbered} frames of {lane}, and the ledger knows none")
            return
        given_up = ledger["dropped_frames"]
        taken = ledger["received"] + given_up
        whole = not ledger["holes"] and not ledger["ranges"] and ledger["upto"] == numbered == taken
        found.demand(whole, f"{site.name}: {numbered} frames of {lane}, the ledger says {ledger}")
        found.demand(not ledger["quarantined"], f"{site.name}: {ledger['quarantined']} of {lane} quarantined")
        found.sums.update(frames=numbered, frames_again=ledger["duplicate"], frames_dropped=given_up)


def _counters(held: Held) -> int:
    """Count the counters in windows."""
    rows = [row for (name, *_), (_, row) in held.items() if name.endswith("/n")]
    return sum(int(np.frombuffer(row[:8], np.int64)[0]) for row in rows)


@asynccontextmanager
async def stage(directory: Path, chance: Random, *, broker: str = "", cloud_runs: bool = True) -> AsyncIterator[Stage]:
    """Set a stage: the embedded broker unless another is given, and a cloud, unless the scenario starts it."""
    async with AsyncExitStack() as stack:
        if not broker:
            broker = stack.enter_context(EmbeddedBroker(directory, free_port(), free_port())).url
        set_up = Stage(directory, broker, Cloud(directory / "cloud", free_port()), chance)
        if cloud_runs:
            await stack.enter_async_context(set_up.cloud.running())
        yield set_up


async def passed(gateway: Gateway, name: str, value: float) -> float:
    """Wait until a metric of a gateway has reached a value, and give it."""

    async def reached() -> float:
        seen = (await gateway.metrics()).get(name, 0.0)
        return seen if seen >= value else 0.0

    seen: float = await until(reached, f"{name} reaches {value:g}", within=60, every=0.03)
    return seen


async def killed(child: Child, what: str, within: float = DEADLINE_S) -> None:
    """Wait for a death by -9; where none comes, say where each of its threads stands."""
    try:
        assert await child.ended(what, within) == -9, child.said()
    except AssertionError as error:
        if child.running:
            child.process.send_signal(signal.SIGABRT)
            await child.process.wait()
        raise AssertionError(f"{error}\n{child.said()}") from error
