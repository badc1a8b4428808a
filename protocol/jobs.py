"""What a job asks of a gateway: which computation, over which of its series, over what time.

A job's task (`protocol.tasks`) has as `name` the name of the work, and as `params` a Question. Its answer, a PartBody,
has the work's part as `content`.
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
