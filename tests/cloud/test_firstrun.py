"""The operator is told where the page is, and gets a configuration that works as pasted."""

from __future__ import annotations

import textwrap

import pytest

from cloud.firstrun import describe_first_run, describe_page
from gateway.config import parse

URL = "http://127.0.0.1:8480/"


@pytest.mark.parametrize(
    ("environment", "guarded", "told", "untold"),
    [
        pytest.param({"DISPLAY": ":0"}, False, URL, "ssh", id="a screen"),
        pytest.param({"WAYLAND_DISPLAY": "w"}, False, URL, "ssh", id="a screen, Wayland"),
        pytest.param(
            {"USER": "eva", "HOSTNAME": "box"}, False, "ssh -N -L 8480:127.0.0.1:8480 eva@box", "login", id="none"
        ),
        pytest.param({}, True, f"{URL}login?token=", "ssh", id="reachable from elsewhere"),
    ],
)
def test_the_page_is_told_as_it_can_be_reached(
    environment: dict[str, str], guarded: bool, told: str, untold: str
) -> None:
    text = describe_page(URL, environment, guarded=guarded, token_file="/d/admin.token")
    assert told in text
    assert untold not in text


@pytest.mark.parametrize("bus", ["", "mqtts://broker.example"])
def test_the_printed_configuration_is_a_gateways(bus: str) -> None:
    text = describe_first_run(URL, "gateway-1", "/d/gateway-1.token", "ab" * 32, bus)
    block = "\n".join(line for line in text.splitlines() if line.startswith("    ") or not line)
    config = parse(textwrap.dedent(block), "pasted")
    assert (config.name, config.uplink.url) == ("gateway-1", "http://127.0.0.1:8480")
    assert config.uplink.token_file == "/d/gateway-1.token"
    assert config.models.public_key == "ab" * 32
    assert [score.series for score in config.score] == ["*"]
    assert (config.bus.url if config.bus else "") == bus
