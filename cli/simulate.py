"""`fieldgate simulate`: many devices on a broker, replaying real sensor data."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from math import isfinite
from pathlib import Path
from random import SystemRandom
from typing import Any
from urllib.parse import urlsplit

import click

from cli import series
from cli.devices import PUMPS, Devices
from cli.publisher import Publisher
from cli.series import NAB, FileRefused
from cli.speech import SPEAK
from gateway.config import Broker
from protocol.errors import BrokerUnavailable

TOPIC = "sensors/{device}/{measurement}"

REPEAT_S = 60
"""How much SIGUSR1 has the devices publish again."""

FINISH_S = 10.0
"""Seconds to wait, at the end, for what is not acknowledged yet."""


@click.command()
@click.option("--broker", required=True, metavar="URL", help="mqtt://[user@]host:port or mqtts://...")
@click.option("--devices", required=True, type=click.IntRange(1, 100_000), help="How many devices.")
@click.option("--rate", required=True, type=click.FloatRange(0.001, 100_000), help="Messages a second of each device.")
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A .csv or .npz to replay.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End after so long; without it, on Ctrl-C.")
@click.option("--qos", type=click.IntRange(0, 1), default=1, show_default=True)
@click.option(
    "--dialect", type=click.Choice(["json", *SPEAK, PUMPS]), default="json", show_default=True, help="How they speak."
)
@click.option("--topic", help=f"For --dialect json.  [default: {TOPIC}]")
@click.option("--name", default="device", show_default=True, help="What the devices' names begin with.")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@click.option("--first", type=click.IntRange(1), default=1, hidden=True, help="Where the counters begin.")
@click.option("--progress", is_flag=True, hidden=True, help="A JSON line every 0.2 s, with what was acknowledged.")
def simulate(**options: Any) -> None:
    r"""Publish as many devices.

    Every message is {"time": ns, "value": v, "n": counter}; the time is when it was due, the values are those of
    public sensor recordings (or --data), replayed point by point at --rate. Another --dialect has the topics and
    payloads of such devices; that of pumps is made up: how they shake, and in what state. The devices keep what the
    broker has not acknowledged and send it again; on SIGUSR1 they send the last minute again.
    """
    if options["topic"] and options["dialect"] != "json":
        raise click.BadParameter(f"{options['dialect']} has topics of its own", param_hint="--topic")
    asyncio.run(_Run(options).run())


class _Run:
    """One run of the command: its devices, what it prints, and its end."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._begun = time.monotonic()
        self._reported = [0, 0]
        broker, password = broker_of(options["broker"], options["password_file"])
        start, count, rate = time.time_ns(), options["devices"], options["rate"]
        begun, name, rng = time.monotonic_ns(), options["name"], SystemRandom()
        self.devices = Devices(
            count,
            rate,
            tables(options["data"]),
            topic=options["topic"] or TOPIC,
            start=start,
            first=options["first"],
            name=name,
            dialect=options["dialect"],
        )
        self.publisher = Publisher(
            broker,
            self.devices,
            client_id=f"fieldgate-simulate-{name}-{rng.getrandbits(32):08x}",
            clock=lambda: start + time.monotonic_ns() - begun,  # even steps, whatever is done to the wall clock
            rng=rng,
            password=password,
            qos=options["qos"],
            limit=None if options["seconds"] is None else round(count * rate * options["seconds"]),
        )

    async def run(self) -> None:
        """Publish until the end, and report; BrokerUnavailable if the time is over and nothing could be published."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self.publisher.repeat, REPEAT_S * 10**9)
        publishing = asyncio.create_task(self.publisher.run(), name="publisher")
        reporting = asyncio.create_task(self._report_for_ever(), name="report")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        seconds = self._options["seconds"]
        longest = None if seconds is None else seconds + FINISH_S
        await asyncio.wait({publishing, stopping}, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
        self.publisher.stop()
        await asyncio.wait({publishing}, timeout=FINISH_S)
        for task in (publishing, reporting, stopping):
            task.cancel()
        results = await asyncio.gather(publishing, reporting, stopping, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        self._report(last=True)
        if seconds is not None and not self.publisher.sent and self.publisher.trouble:
            raise BrokerUnavailable(f"nothing could be published: {self.publisher.trouble}")

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(0.2 if self._options["progress"] else 1.0)
            self._report(last=False)

    def _report(self, *, last: bool) -> None:
        if self._options["progress"]:
            _print(json.dumps(self.summary() | {"pairs": self._news()}))
        elif not self._options["as_json"]:
            _print(self._line())
        elif last:
            _print(json.dumps(self.summary()))

    def summary(self) -> dict[str, Any]:
        """Give what `--json` prints."""
        publisher = self.publisher
        acknowledged = sum(map(len, publisher.acknowledged))
        return {
            "devices": len(self.devices.names),
            "published": publisher.sent,
            "acknowledged": acknowledged,
            "in_flight": publisher.inflight,
            "repeated": publisher.repeated,
            "refused": publisher.refused,
            "reconnects": publisher.reconnects,
            "bytes_json": publisher.bytes_json,
            "seconds": round(time.monotonic() - self._begun, 3),
        }

    def _news(self) -> dict[str, list[tuple[int, int]]]:
        """Give the ranges acknowledged by device, since the run began: they are few, as they join."""
        named = zip(self.devices.names, self.publisher.acknowledged, strict=True)
        return {device: list(pairs) for device, pairs in named}

    def _line(self) -> str:
        now = self.summary()
        rate = (now["published"] - self._reported[0]) / max(now["seconds"] - self._reported[1], 1e-3)
        self._reported = [now["published"], now["seconds"]]
        trouble = f"; not connected: {self.publisher.trouble}" if self.publisher.trouble else ""
        return (
            f"{now['seconds']:6.0f} s  {now['published']:,} published ({rate:,.0f}/s),"
            f" {now['acknowledged']:,} acknowledged, {now['in_flight']:,} in flight{trouble}"
        )


def _print(line: str) -> None:
    print(line, flush=True)


def tables(path: Path | None) -> dict[str, list[float]]:
    """Give the finite values of each series of a file, or of the selection of NAB; FileRefused if there are none."""
    found = {one.name: [value for value in one.value.tolist() if isfinite(value)] for one in series.read(path or NAB)}
    if not (kept := {name: values for name, values in found.items() if values}):
        raise FileRefused(f"{path}: no readings in it")
    return kept


def broker_of(url: str, password_file: Path | None) -> tuple[Broker, bytes | None]:
    """Turn the options into a broker as configurations have it, and its password; click.BadParameter explains."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("mqtt", "mqtts") and parts.hostname and (parts.port or 1)
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{url!r}: expected mqtt://host:port or mqtts://host:port", param_hint="--broker")
    if parts.password is not None:
        raise click.BadParameter("a password belongs into --password-file", param_hint="--broker")
    password = password_file.read_bytes().strip() if password_file else None
    return Broker(url=url, username=parts.username or ""), password
