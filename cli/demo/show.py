"""One demonstration, from the first process to the last.

Order of the beginning: broker, cloud, gateways, and devices when every gateway has subscribed. Order of the end:
devices publish nothing new and wait for their acknowledgements; what is under way arrives; gateways, cloud and broker
end.

A broker that is killed takes its queue with it, and what it had acknowledged: once the gateways have subscribed again,
the devices send their last minute again, as devices with a memory do. Gateways know repeats by series and event time.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cli import series
from cli.accounting import Account
from cli.demo import counts, scrape
from cli.demo.children import Child
from cli.demo.known import Known
from cli.demo.plan import PAGE_PORT, RATE, Gateway, Plan, is_free
from cloud.firstrun import describe_page
from cloud.tokens import Tokens
from protocol.errors import FieldgateError

START_S = 60.0
"""Seconds for a process to become ready: a Raspberry Pi with a slow card takes ten."""

DRAIN_S = 10.0
"""Seconds until what is neither under way nor in the cloud counts as lost."""

QUEUED_S = 90.0
"""Seconds for what gateways still hold: after many failures they wait up to a minute before they try again."""

ASK_S = 0.2


class Show:
    """The processes, and what is said about them; `known` is what they say of themselves."""

    def __init__(self, plan: Plan, say: Callable[[str], None], seconds: float | None) -> None:
        self.plan, self.say, self.seconds = plan, say, seconds
        self.start = 0.0
        self.known = Known(plan.gateways, learning=plan.learning)
        self._usual = PAGE_PORT if is_free(PAGE_PORT) else 0
        self._logs = plan.directory / "logs"
        self._logs.mkdir(exist_ok=True)
        self.broker = self._child("broker", plan.broker_command, on_restart=self._broker_restarted)
        self.cloud = self._child("cloud", self._cloud_command, on_line=self._cloud_said)
        self.gateways = [self._gateway(gateway) for gateway in plan.gateways]
        self.devices = [self._devices(gateway) for gateway in plan.gateways]
        self.pumps = [self._pumps(gateway) for gateway in plan.gateways if plan.learning]
        self.children = [self.broker, self.cloud, *self.gateways, *self.devices, *self.pumps]
        self.to_send_again = False

    def _child(self, name: str, command: Callable[[], list[str]], **hooks: Any) -> Child:
        return Child(name, command, self._logs / f"{name}.log", self.say, **hooks)

    def _cloud_command(self) -> list[str]:
        """Ask for the usual port the first time; when somebody was quicker, for any; and for its own ever after."""
        if self.known.cloud_url:
            return self.plan.cloud_command(int(self.known.cloud_url.rpartition(":")[2]))
        first, self._usual = self._usual, 0
        return self.plan.cloud_command(first)

    def _cloud_said(self, line: bytes) -> None:
        if found := re.match(r"Page: (http://\S+?)/?\s", line.decode()):
            self.known.cloud_url = found[1]

    def _gateway(self, gateway: Gateway) -> Child:
        return self._child(gateway.name, lambda: self.plan.gateway_command(gateway))

    def _devices(self, gateway: Gateway) -> Child:
        reports = self.known.reports[gateway.name]
        name = gateway.name.replace("gateway", "devices")
        return self._child(
            name, lambda: self.plan.devices_command(gateway, reports.begin_again()), on_line=reports.feed
        )

    def _pumps(self, gateway: Gateway) -> Child:
        name = gateway.name.replace("gateway", "pumps")
        return self._child(name, lambda: self.plan.pumps_command(gateway))

    async def run(self) -> dict[str, Any]:
        """Show everything until the time is over, or somebody says so; give the result."""
        stop = _stop_signal()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._begin(tasks)
                await self._lines(stop)
                return await self._end()
        except ExceptionGroup as group:
            raise _first(group) from None
        except asyncio.CancelledError:
            for child in self.children:
                child.signal(signal.SIGKILL)
            raise
        finally:
            await self._leave_none()

    async def _begin(self, tasks: asyncio.TaskGroup) -> None:
        tokens = Tokens.open(self.plan.directory / "cloud")
        self.plan.cloud_file.write_text(self.plan.cloud_toml())
        await self._up(tasks, [self.broker], self._broker_listens)
        await self._up(tasks, [self.cloud], self._cloud_listens)
        self.say(describe_page(f"{self.known.cloud_url}/", os.environ, guarded=False, token_file=""))
        public_key = tokens.signer().public.hex()
        for gateway in self.plan.gateways:
            tokens.issue(gateway.name)
            text = self.plan.gateway_toml(gateway, self.known.cloud_url, public_key)
            self.plan.gateway_file(gateway).write_text(text)
        await self._up(tasks, self.gateways, self._gateways_ready)
        self.known.since = time.time_ns() - 10**9
        self.start = asyncio.get_running_loop().time()
        await self._up(tasks, [*self.devices, *self.pumps], None)
        self.say("")
        self.say(replayed())
        self.say("Kill what you like: " + ", ".join(f"{child.name} is {child.pid}" for child in self.children))
        self.say("")

    async def _up(self, tasks: asyncio.TaskGroup, children: list[Child], ready: Callable[[], Any] | None) -> None:
        for child in children:
            await child.start()
            tasks.create_task(child.keep(), name=child.name)
        if ready is not None and not await self._become(ready, START_S):
            raise FieldgateError(f"{children[0].name} does not become ready; see {self._logs}")

    async def _become(self, holds: Callable[[], Any], seconds: float) -> bool:
        """Ask again and again until it holds; False when the time is over."""
        end = asyncio.get_running_loop().time() + seconds
        while not await holds():
            if asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(ASK_S)
        return True

    async def _broker_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.plan.broker_port)
        except OSError:
            return False
        writer.close()
        return True

    async def _cloud_listens(self) -> bool:
        return bool(self.known.cloud_url)

    async def _gateways_ready(self) -> bool:
        ready = [scrape.ready(f"http://127.0.0.1:{gateway.port}") for gateway in self.plan.gateways]
        return all(await asyncio.gather(*ready))

    def _broker_restarted(self) -> None:
        self.to_send_again = True

    async def _send_again(self) -> bool:
        """After the broker was killed, once the gateways have subscribed: have devices repeat what died with it."""
        if self.to_send_again and await self._gateways_ready():
            self.to_send_again = False
            self.say("the broker's queue died with it: devices send their last minute again, gateways know repeats")
            for child in self.devices:
                child.signal(signal.SIGUSR1)
        return not self.to_send_again

    async def _lines(self, stop: asyncio.Event) -> None:
        """Say a line a second until the end."""
        clock = asyncio.get_running_loop().time
        end = None if self.seconds is None else self.start + self.seconds
        while not stop.is_set() and (end is None or clock() < end):
            wait = 1.0 - (clock() - self.start) % 1.0
            try:
                async with asyncio.timeout(wait):
                    await stop.wait()
            except TimeoutError:
                before = self.known.last
                await self._look()
                self.say(counts.line(before, self.known.last))
                for line in self.known.rounds.news():
                    self.say(line)
                await self._send_again()

    async def _look(self) -> None:
        await self.known.look(asyncio.get_running_loop().time() - self.start)

    async def _end(self) -> dict[str, Any]:
        stopped = time.time_ns()
        seconds = asyncio.get_running_loop().time() - self.start
        self.say("")
        self.say("Ending: devices first, then what is under way.")
        if not await self._send_again():
            self.say("Waiting for the gateways to find the broker again, so that devices can repeat what died with it.")
            await self._become(self._send_again, QUEUED_S)
        await _stop([*self.devices, *self.pumps])
        balance, latencies = await self._drain(stopped)
        await _stop(self.gateways)
        await _stop([self.cloud])
        await _stop([self.broker])
        if self.known.cloud_away:
            raise FieldgateError(f"the cloud does not answer, so nobody knows what it has; see {self._logs}")
        restarts = {child.name: child.restarts for child in self.children}
        result = self.known.result(balance, latencies, restarts, seconds)
        for line in counts.summary(balance, result):
            self.say(line)
        return result

    async def _drain(self, stopped: int) -> tuple[Account, list[float]]:
        """Wait until everything acknowledged is accounted for, or nothing more is under way; give the balance."""
        clock = asyncio.get_running_loop().time
        quiet_since, end = clock(), clock() + QUEUED_S
        while True:
            before = self.known.last.recorded
            await self._look()
            if self.known.last.recorded != before or not all(edge.idle for edge in self.known.edges.values()):
                quiet_since = clock()
            late = clock() > min(quiet_since + DRAIN_S, end)
            if late or quiet_since + ASK_S < clock():
                balance, latencies = await self.known.balance(stopped)
                if balance.closed or late:
                    return balance, latencies
            await asyncio.sleep(ASK_S)

    async def _leave_none(self) -> None:
        for child in self.children:
            child.stop()
        await asyncio.gather(*(child.ended() for child in self.children))


async def _stop(children: list[Child]) -> None:
    for child in children:
        child.stop()
    await asyncio.gather(*(child.ended() for child in children))


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _stop_signal() -> asyncio.Event:
    """Give an event that Ctrl-C or SIGTERM sets; a second one ends everything without waiting."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def told() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    return stop


def replayed(path: Path = series.NAB) -> str:
    """Say what the devices replay, and how much faster than it was recorded."""
    found = series.read(path)
    steps = sorted(float(np.median(np.diff(one.time))) / 1e9 for one in found)
    return (
        f"Devices replay {len(found)} recorded series (Numenta Anomaly Benchmark) with today's times, {RATE} readings"
        f" a second:\n{steps[0] * RATE:,.0f} to {steps[-1] * RATE:,.0f} times as fast as they were recorded."
    )
