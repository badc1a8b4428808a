"""What a job asks of a gateway: which computation, over which of its series, over what time; and what a gateway can do.

A job's task (`protocol.tasks`) has as `name` the name of the work, and as `params` a Question. Its answer, a PartBody,
has the work's part as `content`. What a gateway has and what tasks cost there is in its status on the bus.
"""

from __future__ import annotations

import msgspec


class Question(msgspec.Struct, frozen=True):
    """Parameters of a job's task: event times in [start, end), ns; 0 is without bound."""

    series: tuple[str, ...]  # patterns of names
    start: int = 0
    end: int = 0
    params: bytes = b"\x80"  # msgpack of the work's own
    limit: int = 0  # readings at most, for work that sends raw ones; 0 is none of them


class Cost(msgspec.Struct, frozen=True):
    """What a task has cost on a gateway, over those that were done since it started."""

    seconds: float  # of CPU, per million readings that went into it; without starting, and reading as recorded
    readings: int  # that this was measured over
    bytes: int = 0  # of the newest answer, as it goes up
    series: int = 0  # that went into that answer; 0: not known


class Resources(msgspec.Struct, frozen=True):
    """What a gateway has; None, or 0 where there is no other word, is what its machine does not say."""

    cores: int = 0
    memory: int = 0  # bytes
    available: int = 0  # bytes of memory that nobody needs
    load: float | None = None  # processes that want a core, mean of a minute
    temperature: float | None = None  # degrees Celsius, of the warmest part
    accelerator: str = ""  # its kind: "cuda", "drm"
    disk: int = 0  # bytes free
    uplink: float | None = None  # bytes/s that went up when there was enough to send; None: not seen yet
    waiting: int = 0  # tasks that wait or run
    allow: tuple[str, ...] = ()  # tasks it runs: patterns
    oldest: int = 0  # stamp (ns) of the oldest history kept; 0: there is none
    readings: int = 0  # recorded so far
    bytes: int = 0  # of its journal, on the disk
    costs: dict[str, Cost] = {}  # by task
    blocked: int = 0  # bytes of the journal that tasks find in blocks; the others are read as they were recorded
    reading: float = 0.0  # seconds of CPU that reading 10^6 bytes as recorded costs; 0: not known
    starting: float = 0.0  # seconds of CPU before a task begins with its readings; 0: not measured
    slowed: float = 0.0  # how many times its CPU time a task takes there; 0: not measured


class Status(msgspec.Struct, frozen=True):
    """What a job's owner reads in a gateway's status (`protocol.topics`), JSON; other fields are for others."""

    state: str = "offline"  # or "online"
    version: str = ""
    resources: Resources | None = None


_STATUS = msgspec.json.Decoder(Status)


def read_status(payload: bytes) -> Status:
    """Read a status; whatever is none reads as offline."""
    try:
        return _STATUS.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Status()
