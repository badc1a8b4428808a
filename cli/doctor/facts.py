"""What the doctor's probes measure, as values: what `judge` decides on. Times are in seconds unless a name says ns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing was measured, and why not."""

    why: str


Cause = Literal["name", "address", "silent", "tls", "speech", "user", "client", "answer", "secret"]
"""Why a broker does not take us: its name is not known, nobody listens there, nobody answers, its certificate, it does
not speak MQTT 5, it does not take this user, or client id, it answers something else, or a file or variable of ours
cannot be read."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A connection to a broker that did not come about."""

    cause: Cause
    why: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a broker's CONNACK grants."""

    receive_maximum: int  # QoS 1 messages that it takes unacknowledged
    max_packet: int | None  # bytes; None: no bound
    max_qos: int
    retain: bool
    wildcards: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """The broker's answer to one subscription: the level it grants, or a refusal from 128 on."""

    topic: str
    asked: int
    code: int
    said: str


@dataclass(frozen=True, slots=True)
class Session:
    """What a session had kept when its client came back; `expiry` of None is what was asked for."""

    asked: int
    expiry: int | None
    present: bool
    published: int  # while the client was away, and acknowledged by the broker
    refused: int  # not taken by the broker, which said so
    kept: int  # delivered afterwards
    window: int  # delivered before the first was acknowledged


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a broker says of itself under $SYS; "" and None where it does not."""

    version: str = ""
    dropped: int | None = None  # messages of all clients, since it started


@dataclass(frozen=True, slots=True)
class Broker:
    """The devices' broker, once it has let us in."""

    greeting: Greeting
    grants: list[Grant] | Unknown
    spoken: Spoken | Unknown
    session: Session | Unknown


@dataclass(frozen=True, slots=True)
class Disk:
    """Where the gateway's data are, or will be: `place` is the directory that exists."""

    place: str
    exists: bool  # the data directory itself, else the nearest one above it
    trouble: str  # why it cannot be written; "" if it can
    free: int | Unknown  # bytes
    used: int  # bytes of journal and spool
    kind: str  # of file system; "" if unknown
    syncs: tuple[float, ...]  # of appends of 4 KiB
    running: bool | Unknown  # whether a gateway has locked it


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that the doctor runs on."""

    user: str
    version: str
    python: tuple[int, int, int]
    wall: int  # ns
    synchronised: bool | None  # what the kernel says; None: it does not


@dataclass(frozen=True, slots=True)
class Cloud:
    """What a knock at the cloud brought; see `gateway.uplink.knock`."""

    cause: Literal["", "away", "tls", "silent", "secret"]
    why: str = ""
    status: int = 0
    gateway: str = ""
    version: str = ""
    ahead: float | None = None  # how far our clock is ahead of the cloud's
    precision: float = 0.0
    upgrade: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was measured. None: it is not configured, so nothing was."""

    host: Host
    disk: Disk | Unknown
    devices: Broker | Refused | Unknown
    bus: list[Grant] | Refused | Unknown | None
    cloud: Cloud | Unknown | None
