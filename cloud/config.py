"""The cloud's configuration: one frozen value, made once from one TOML text. Secrets are in `data`, never in the file.

A whole file:

    listen = "127.0.0.1:8480"
    data = "/var/lib/fieldgate-cloud"
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from protocol.errors import ConfigurationRefused
from protocol.settings import Duration, Section, Size, convert, parse_toml

SMALLEST_PENDING = 16 << 20
"""Twice the largest frame: less could never take one while another is being written."""


class Store(Section, frozen=True):
    """Where results are kept, and for how long."""

    url: str = "sqlite:"  # "sqlite:" is fieldgate.db in `data`; "sqlite:/path/to/file" another place
    retention: Duration | None = None  # windows and alerts older than this are deleted; None keeps them
    max_pending: Size = Size(64 << 20)  # arrived and not yet committed; when full, gateways wait


class Limits(Section, frozen=True):
    """What the cloud does at most at once. What is beyond is answered 503 with a time to try again."""

    gateways: int = 1000  # connections of gateways
    viewers: int = 100  # pages that watch live


class CloudConfig(Section, frozen=True):
    """The whole file."""

    data: str
    listen: str = "127.0.0.1:8480"  # port 0 takes a free one
    public_url: str = ""  # how gateways reach this cloud, when not by `listen`: behind a proxy that speaks TLS
    store: Store = Store()
    limits: Limits = Limits()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_address(self.listen)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect: then reading needs no token."""
        return is_loopback(self.address[0])


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


def parse(text: str, file: str = "") -> CloudConfig:
    """Read a cloud configuration; ConfigurationRefused explains the first thing that is wrong."""
    config = convert(parse_toml(text, file), CloudConfig, file)
    for key, value, expectation in _contradictions(config):
        raise ConfigurationRefused(key, value, expectation, file=file)
    return config


def _contradictions(config: CloudConfig) -> Iterator[tuple[str, object, str]]:
    if not config.data:
        yield "data", config.data, "the directory for keys, tokens and the database"
    try:
        split_address(config.listen)
    except ValueError:
        yield "listen", config.listen, 'host:port, such as "127.0.0.1:8480"'
    if config.public_url and urlsplit(config.public_url).scheme not in ("http", "https"):
        yield "public_url", config.public_url, "http://host:port or https://host"
    if urlsplit(config.store.url).scheme != "sqlite":
        yield "store.url", config.store.url, '"sqlite:" or "sqlite:/path/to/file"'
    if config.store.retention is not None and config.store.retention <= 0:
        yield "store.retention", "0", "more than 0, or no such key to keep everything"
    if config.store.max_pending < SMALLEST_PENDING:
        yield "store.max_pending", int(config.store.max_pending), f"at least {SMALLEST_PENDING >> 20}MiB"
    for key, value in (("gateways", config.limits.gateways), ("viewers", config.limits.viewers)):
        if value < 1:
            yield f"limits.{key}", value, "at least 1"
