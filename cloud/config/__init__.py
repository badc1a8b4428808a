"""The cloud's configuration: one frozen value, made once from one TOML text. Secrets are in `data`, never in the file.

A whole file:

    listen = "127.0.0.1:8480"
    data = "/var/lib/fieldgate-cloud"
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from cloud.config.cascade import Cascade, cascade_contradictions
from cloud.config.standing import Standing, standing_contradictions
from cloud.config.training import Training, training_contradictions
from protocol.endpoints import Broker, broker_contradictions, is_loopback, split_address
from protocol.errors import ConfigurationRefused
from protocol.settings import Contradiction, Duration, Section, Size, convert, parse_toml, written

SMALLEST_PENDING = 16 << 20
"""Twice the largest frame: less could never take one while another is being written."""


SMALLEST_CHUNK = 1 << 10
"""Less would be all overhead."""


class Store(Section, frozen=True):
    """Where results are kept, and for how long."""

    url: str = "sqlite:"  # "sqlite:" is fieldgate.db in `data`; "sqlite:/path/to/file" another place
    retention: Duration | None = None  # windows and alerts older than this are deleted; None keeps them
    max_pending: Size = Size(64 << 20)  # arrived and not yet committed; when full, gateways wait


class Limits(Section, frozen=True):
    """What the cloud does at most at once. What is beyond is answered 503 with a time to try again."""

    gateways: int = 1000  # connections of gateways
    viewers: int = 100  # pages that watch live


class Bus(Broker, frozen=True):
    """The MQTT broker over which models go out."""

    client_id: str = "fieldgate-cloud"


class Models(Section, frozen=True):
    """When models are made of what gateways have learnt, and how they go out. The rules are in `cloud/registry.py`."""

    min_interval: Duration = Duration(600 * 10**9)  # between two versions of a model
    growth: float = 2.0  # so many times the windows of the newest version make the next one
    refresh: Duration = Duration(86400 * 10**9)  # newer statistics wait so long, if they have not grown so much
    expires_after: Duration = Duration(90 * 86400 * 10**9)  # "0s" is never
    max_bytes: Size = Size(16 << 20)  # of one model; gateways have a bound of their own
    chunk: Size = Size(256 << 10)  # bytes sent at once, if a gateway asks for so many


class Compute(Section, frozen=True):
    """What jobs over the fleet take at once, and where their parts are merged."""

    at_once: int = 256  # gateways that compute
    per_gateway: int = 1  # parts
    workers: int = 2  # processes that merge; as many parts are made of windows at once
    scheduler: str = ""  # of a Dask cluster: "tls://host:8786"; "": processes of this machine
    ca_file: str = ""  # the cluster's authority
    cert_file: str = ""
    key_file: str = ""


class CloudConfig(Section, frozen=True):
    """The whole file."""

    data: str
    listen: str = "127.0.0.1:8480"  # port 0 takes a free one
    public_url: str = ""  # how gateways reach this cloud, when not by `listen`: behind a proxy that speaks TLS
    store: Store = Store()
    limits: Limits = Limits()
    bus: Bus | None = None  # None: statistics are kept, and no models are made
    models: Models = Models()
    training: tuple[Training, ...] = ()
    cascade: tuple[Cascade, ...] = ()
    compute: Compute = Compute()
    job: tuple[Standing, ...] = ()
    labels: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)  # patterns of gateways' names, by label

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        return split_address(self.listen)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect: then reading needs no token."""
        return is_loopback(self.address[0])


def parse(text: str, file: str = "") -> CloudConfig:
    """Read a cloud configuration; ConfigurationRefused explains the first thing that is wrong."""
    config = convert(parse_toml(text, file), CloudConfig, file)
    for key, value, expectation in _contradictions(config):
        raise ConfigurationRefused(key, value, expectation, file=file)
    return config


def _contradictions(config: CloudConfig) -> Iterator[Contradiction]:
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
    if config.bus is not None:
        yield from _bus_contradictions(config.bus)
    yield from _models_contradictions(config.models)
    yield from _compute_contradictions(config.compute)
    yield from cascade_contradictions(config.cascade, bus=config.bus is not None)
    yield from training_contradictions(config.training, bus=config.bus is not None)
    yield from standing_contradictions(config.job, config.labels, bus=config.bus is not None)


def _compute_contradictions(compute: Compute) -> Iterator[Contradiction]:
    for key, most in (("at_once", 10_000), ("per_gateway", 16), ("workers", 64)):
        if not 1 <= (value := getattr(compute, key)) <= most:
            yield f"compute.{key}", value, f"1 to {most}"
    files = (compute.ca_file, compute.cert_file, compute.key_file)
    if compute.scheduler:
        scheme, _, address = compute.scheduler.partition("://")
        try:
            split_address(address if scheme == "tls" else "")
        except ValueError:
            yield "compute.scheduler", compute.scheduler, 'a Dask scheduler over TLS: "tls://host:8786"'
        for key in ("ca_file", "cert_file"):
            if not getattr(compute, key):
                yield f"compute.{key}", "", "a file: a Dask cluster is asked over TLS only, which takes certificates"
    elif any(files):
        yield "compute.scheduler", "", "the scheduler that these certificates are for"


def _bus_contradictions(bus: Bus) -> Iterator[Contradiction]:
    yield from broker_contradictions("bus", bus)
    if not bus.client_id:
        yield "bus.client_id", bus.client_id, "a name that no other client of the broker has"


def _models_contradictions(models: Models) -> Iterator[Contradiction]:
    if not models.growth > 1.0:
        yield "models.growth", models.growth, "more than 1"
    if models.min_interval <= 0:
        yield "models.min_interval", "0", "more than 0"
    if models.refresh < models.min_interval:
        yield "models.refresh", written(models.refresh), f"at least min_interval ({written(models.min_interval)})"
    if models.expires_after and models.expires_after < 2 * models.min_interval:
        yield "models.expires_after", written(models.expires_after), '"0s", or at least twice min_interval'
    for key, value in (("max_bytes", models.max_bytes), ("chunk", models.chunk)):
        if value < SMALLEST_CHUNK:
            yield f"models.{key}", int(value), f"at least {SMALLEST_CHUNK >> 10}KiB"
