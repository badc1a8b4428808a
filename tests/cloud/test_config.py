"""A cloud's file is read into one frozen value, or refused with key, value and expectation."""

from __future__ import annotations

import pytest

from cloud.config import parse
from protocol.errors import ConfigurationRefused


def test_the_shortest_file_listens_on_this_machine_only() -> None:
    config = parse('data = "d"', "cloud.toml")
    assert (config.address, config.loopback) == (("127.0.0.1", 8480), True)
    assert config.store.retention is None


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        pytest.param("0.0.0.0:80", ("0.0.0.0", 80), False, id="everywhere"),
        pytest.param("[::1]:0", ("::1", 0), True, id="IPv6 loopback"),
        pytest.param("localhost:8480", ("localhost", 8480), True, id="localhost"),
        pytest.param("cloud.example:8480", ("cloud.example", 8480), False, id="a name"),
        pytest.param("127.0.0.2:1", ("127.0.0.2", 1), True, id="all of 127/8"),
    ],
)
def test_an_address_is_host_and_port(listen: str, address: tuple[str, int], loopback: bool) -> None:
    config = parse(f'data = "d"\nlisten = "{listen}"')
    assert (config.address, config.loopback) == (address, loopback)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "c.toml: data = None: expected a value: this key is required", id="no data"),
        pytest.param('data = ""', "c.toml: data = '': expected the directory for keys, tokens", id="empty data"),
        pytest.param(
            'data = "d"\nlisen = "x"', "c.toml: lisen = 'x': expected one of bus, data, limits, listen", id="near"
        ),
        pytest.param('data = "d"\nlisten = "8480"', "c.toml: listen = '8480': expected host:port", id="no port"),
        pytest.param('data = "d"\nlisten = "a:x"', "c.toml: listen = 'a:x': expected host:port", id="port no number"),
        pytest.param('data = "d"\npublic_url = "ftp://x"', "c.toml: public_url = 'ftp://x': expected http", id="url"),
        pytest.param('data = "d"\n[store]\nurl = "mysql:"', "c.toml: store.url = 'mysql:': expected", id="store"),
        pytest.param('data = "d"\n[store]\nretention = "0s"', "c.toml: store.retention = '0'", id="retention"),
        pytest.param('data = "d"\n[store]\nmax_pending = "1kB"', "c.toml: store.max_pending = 1000", id="pending"),
        pytest.param('data = "d"\n[limits]\nviewers = 0', "c.toml: limits.viewers = 0: expected at least 1", id="none"),
    ],
)
def test_what_is_wrong_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationRefused) as refused:
        parse(text, "c.toml")
    assert str(refused.value).startswith(message)
