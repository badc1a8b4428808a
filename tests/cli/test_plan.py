"""Where everything of a demonstration is."""

from __future__ import annotations

import socket
from pathlib import Path
from random import Random

import click
import pytest

from cli.demo import plan
from cli.main import fieldgate
from gateway import config

CLOUD = "http://127.0.0.1:8480"
KEY = "ab" * 32


def test_every_process_has_a_port_of_its_own_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    made = plan.make(tmp_path, 3, Random(1))
    ports = [made.broker_port, made.broker_v4_port, *(gateway.port for gateway in made.gateways)]
    assert len(set(ports)) == 5
    assert all(plan.PORTS[0] <= port < plan.PORTS[1] for port in ports)
    assert [gateway.name for gateway in made.gateways] == ["gateway-1", "gateway-2", "gateway-3"]


def test_a_port_that_is_taken_is_not_given() -> None:
    taken = next(plan.free_ports(Random(2)))
    with socket.create_server(("127.0.0.1", taken)):
        assert next(plan.free_ports(Random(2))) != taken


def test_a_gateways_configuration_can_be_used_and_takes_what_its_devices_send(tmp_path: Path) -> None:
    made = plan.make(tmp_path / 'a "b"', 2, Random(1))
    gateway = made.gateways[1]
    settings = config.parse(made.gateway_toml(gateway, CLOUD, KEY))
    assert settings.name == "gateway-2"
    assert settings.source[0].filter == "demo/gateway-2/+"
    assert settings.uplink.url == CLOUD
    options = made.devices_command(gateway, first=7)
    assert options[options.index("--topic") + 1] == settings.source[0].topic
    assert options[options.index("--first") + 1] == "7"


@pytest.mark.parametrize("kind", ["cloud", "gateway", "devices"])
def test_its_command_lines_are_commands(tmp_path: Path, kind: str) -> None:
    made = plan.make(tmp_path, 1, Random(1))
    gateway = made.gateways[0]
    made.gateway_file(gateway).write_text(made.gateway_toml(gateway, CLOUD, KEY))
    made.cloud_file.write_text(made.cloud_toml())
    command = {
        "cloud": made.cloud_command(0),
        "gateway": made.gateway_command(gateway),
        "devices": made.devices_command(gateway, 1),
    }[kind]
    context = fieldgate.make_context("fieldgate", command)
    while isinstance(group := context.command, click.Group):
        name, found, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        context = found.make_context(name, rest, parent=context)
