"""What delivery asks of its shell."""

from __future__ import annotations

from typing import NamedTuple


class Send(NamedTuple):
    """Read this frame and send it, then say `sent`; or say `absent`."""

    queue: str
    lane: str
    seq: int


class Release(NamedTuple):
    """The cloud has committed the lane's frames 1..upto."""

    lane: str
    upto: int


class Gone(NamedTuple):
    """The cloud misses these frames of the lane, and the spool does not hold them any more."""

    lane: str
    first: int
    last: int


class Fork(NamedTuple):
    """Begin a new epoch and say hello again: the cloud has something else under this one."""

    reason: str


class Close(NamedTuple):
    """End the connection, and try again later."""

    reason: str


Instruction = Release | Gone | Fork | Close
