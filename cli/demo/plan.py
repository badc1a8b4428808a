"""What a demonstration consists of: names, ports, files and command lines. Pure but for asking for free ports."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cli import pumps

PAGE_PORT = 8480
"""Taken for the page when it is free, as `cloud run` would."""

PORTS = (20_000, 32_000)
"""Where ports are looked for: below those that Linux gives to outgoing connections. One of those could be taken while a
killed process is away, even by a connection to itself."""

DEVICES = 16
"""Devices a gateway: two for each recorded series."""

RATE = 20
"""Messages a second of each device, so that a window of 250 ms holds five readings."""

PUMPS = 4
"""A gateway, with --learning."""

TRAINING = "pumps"
"""The training of a demonstration, and its model."""

MODEL = "devices"
"""The model that the gateways of a demonstration share."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway of the demonstration."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything is."""

    directory: Path
    broker_port: int
    broker_v4_port: int
    gateways: tuple[Gateway, ...]
    learning: bool = False

    @property
    def broker_url(self) -> str:
        """Where devices and gateways meet."""
        return f"mqtt://127.0.0.1:{self.broker_port}"

    def gateway_file(self, gateway: Gateway) -> Path:
        """Where a gateway's configuration is."""
        return self.directory / f"{gateway.name}.toml"

    @property
    def cloud_file(self) -> Path:
        """Where the cloud's configuration is."""
        return self.directory / "cloud.toml"

    def cloud_toml(self) -> str:
        """Give the cloud's configuration: models are made as soon as there is something to make them of."""
        return f"""\
data = {_text(self.directory / "cloud")}

[bus]
url = "{self.broker_url}"

[models]
min_interval = "10s"
""" + (self.training_toml() if self.learning else "")

    def training_toml(self) -> str:
        """Give the training of pumps: a run of a few rounds, over and over, as they shake on."""
        return f"""
[[training]]
name = "{TRAINING}"
channels = ["x", "y"]
label = "state"
classes = {len(pumps.STATES)}
samples = {pumps.RATE}  # of a window: a second
features = "motion/1"
model = "perceptron"
hidden = 32
rounds = 5
fewest = {len(self.gateways)}
deadline = "5s"
every = "10s"
"""

    def gateway_toml(self, gateway: Gateway, cloud_url: str, public_key: str) -> str:
        """Give a gateway's configuration. Each payload holds a reading and its counter, which become two series."""
        return f"""\
name = "{gateway.name}"
data = {_text(self.directory / gateway.name)}

[devices]
url = "{self.broker_url}"

[[source]]
topic = "demo/{gateway.name}/{{device}}"
values = {{ value = "value", n = "n" }}

{self.pumps_toml(gateway) if self.learning else ""}
[[window]]
series = "*/value"
size = "250ms"
revise_for = "3m"  # what devices send again after the broker was killed is recognised for so long

[[window]]
series = "*/n"
size = "1s"
revise_for = "3m"

[[score]]
name = "{MODEL}"
series = "*/value"
warmup = 60
share = "2s"

[models]
public_key = "{public_key}"

[time]
idle = "2s"

[uplink]
url = "{cloud_url}"
token_file = {_text(self.directory / "cloud" / f"{gateway.name}.token")}

[http]
listen = "127.0.0.1:{gateway.port}"
"""

    def pumps_toml(self, gateway: Gateway) -> str:
        """Give the source of a gateway's pumps, and their windows: what is learnt from are the readings, here."""
        return f"""\
[[source]]
topic = "pumps/{gateway.name}/{{device}}"
values = {{ x = "x", y = "y", state = "state" }}

[[window]]
series = "pump-*"
size = "1s"
"""

    def broker_command(self) -> list[str]:
        """Give the broker's command line."""
        return ["broker", str(self.directory), str(self.broker_port), str(self.broker_v4_port)]

    def cloud_command(self, port: int) -> list[str]:
        """Give the cloud's command line; it takes a free port instead of 0."""
        return ["cloud", "run", str(self.cloud_file), "--listen", f"127.0.0.1:{port}"]

    def gateway_command(self, gateway: Gateway) -> list[str]:
        """Give a gateway's command line."""
        return ["gateway", "run", str(self.gateway_file(gateway))]

    def devices_command(self, gateway: Gateway, first: int) -> list[str]:
        """Give the command line of a gateway's devices, their counters beginning at `first`."""
        options = {"--broker": self.broker_url, "--topic": f"demo/{gateway.name}/{{device}}", "--name": ""}
        numbers = {"--devices": DEVICES, "--rate": RATE, "--first": first}
        return ["simulate", "--progress", *(str(part) for pair in (options | numbers).items() for part in pair)]

    def pumps_command(self, gateway: Gateway) -> list[str]:
        """Give the command line of a gateway's pumps."""
        options = {"--broker": self.broker_url, "--dialect": "pumps", "--name": f"{gateway.name}.pump"}
        numbers = {"--devices": PUMPS, "--rate": pumps.RATE}
        return ["simulate", "--progress", *(str(part) for pair in (options | numbers).items() for part in pair)]


def make(directory: Path, gateways: int, rng: Random, *, learning: bool = False) -> Plan:
    """Plan a demonstration on free ports of the loopback."""
    free = free_ports(rng)
    return Plan(
        directory=directory,
        broker_port=next(free),
        broker_v4_port=next(free),
        gateways=tuple(Gateway(f"gateway-{number}", next(free)) for number in range(1, gateways + 1)),
        learning=learning,
    )


def free_ports(rng: Random) -> Iterator[int]:
    """Give ports that are free now, no two the same; OSError if there are hardly any."""
    ports = list(range(*PORTS))
    rng.shuffle(ports)
    yield from filter(is_free, ports)
    raise OSError(f"no free port among {PORTS[0]} to {PORTS[1]}")


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of the loopback."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _text(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
