"""Where others are: addresses to listen on and brokers to connect to, as the settings of both sides name them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from protocol.settings import Contradiction, Section


class Broker(Section, frozen=True):
    """An MQTT broker: `mqtt://host:1883` or `mqtts://host:8883`."""

    url: str
    client_id: str
    username: str = ""
    password_file: str = ""
    password_env: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    @property
    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether TLS is spoken; ValueError if the port is none."""
        parts = urlsplit(self.url)
        tls = parts.scheme == "mqtts"
        return parts.hostname or "127.0.0.1", parts.port or (8883 if tls else 1883), tls


def broker_contradictions(key: str, broker: Broker) -> Iterator[Contradiction]:
    """Say what is wrong with a section that names a broker."""
    try:
        good = urlsplit(broker.url).scheme in ("mqtt", "mqtts") and bool(broker.address)
    except ValueError:
        good = False
    if not good:
        yield f"{key}.url", broker.url, "mqtt://host:port or mqtts://host:port"
    if broker.password_file and broker.password_env:
        yield f"{key}.password_env", broker.password_env, "only one of password_file and password_env"


def split_address(listen: str) -> tuple[str, int]:
    """Part "host:port"; ValueError if it is neither."""
    parts = urlsplit(f"//{listen}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(listen)
    return parts.hostname, parts.port


def is_loopback(host: str) -> bool:
    """Say whether an address belongs to this machine alone; a name other than localhost does not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
