"""What a job keeps from one event to the next, and what it asks to be carried out."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

NEVER = (1 << 63) - 1
CLOUD = ""
"""The site that is this cloud; every other is a gateway's name."""

RUNNING, MERGING, DONE, FAILED, CANCELLED = "running", "merging", "done", "failed", "cancelled"


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of each gateway: see `protocol.jobs.Question`."""

    work: str
    version: int
    series: tuple[str, ...]
    start: int
    end: int
    params: bytes
    limit: int = 0


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """How a job is to be treated."""

    priority: int = 1  # its share beside others
    deadline: int = NEVER  # ns; then it ends with what there is
    partial: bool = True  # False: what is not whole has failed


class Place(msgspec.Struct, frozen=True, array_like=True):
    """One part to be computed: whose readings, where it can be, best first, and what one attempt is thought to take."""

    gateway: str
    sites: tuple[str, ...]
    seconds: float = 1.0


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """One attempt under way: since when, and how long (ns) it is waited for."""

    site: str
    attempt: int
    began: int
    until: int


class Part(msgspec.Struct, array_like=True):
    """What became of one gateway's part. `outcome`: "" (open), "done", or "lost": nobody tries again."""

    place: Place
    outcome: str = ""
    reason: str = ""  # of the last failure
    attempt: int = 0  # the last one given
    failures: int = 0
    after: int = 0  # ns: not tried again before
    leases: list[Lease] = []
    counted: int = 0  # the attempt whose answer counts
    site: str = ""  # that answered
    readings: int = 0
    size: int = 0  # bytes of the answer
    seconds: float = 0.0  # of CPU there
    asked: tuple[int, int] = (0, 0)
    held: tuple[int, int] = (0, 0)
    ended: int = 0  # ns
    began: int = 0  # ns: of the lease whose answer counts; 0: that was over


class Makes(msgspec.Struct, frozen=True, array_like=True):
    """What a standing job makes: series `{name}/...` of the numbers that `keep` names, a row every `hop`."""

    name: str
    hop: int  # ns
    keep: tuple[str, ...]


class Job(msgspec.Struct, array_like=True):
    """All that lasts of a job."""

    id: str
    question: Question
    terms: Terms
    began: int
    parts: dict[str, Part]  # by gateway
    state: str = RUNNING
    reason: str = ""
    ended: int = 0
    spent: float = 0.0  # seconds of leases, by priority: who spent least comes next
    size: int = 0  # bytes of answers kept
    result: bytes = b""  # JSON
    predicted: float = 0.0  # seconds, by its plan
    asked: bytes = b""  # JSON: what somebody asked for, for whoever reads it
    makes: Makes | None = None  # of a standing job


class Ask(NamedTuple):
    """Instruction: give this attempt to its gateway, or compute it here if `site` is CLOUD."""

    job: str
    gateway: str
    site: str
    attempt: int


class TakeBack(NamedTuple):
    """Instruction: nobody waits for this answer any more."""

    job: str
    gateway: str
    site: str


class Keep(NamedTuple):
    """Instruction: keep this answer until the job has ended."""

    job: str
    gateway: str
    content: bytes


class Merge(NamedTuple):
    """Instruction: merge the answers kept, of these gateways, and say `merged`."""

    job: str
    gateways: tuple[str, ...]


class Ended(NamedTuple):
    """Instruction: forget the answers kept, of these gateways, and tell who watches."""

    job: str
    state: str
    gateways: tuple[str, ...]


Instruction = Ask | TakeBack | Keep | Merge | Ended
