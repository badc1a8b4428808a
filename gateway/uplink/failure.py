"""Why there is no connection, and how long to wait before the next one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from protocol.errors import CloudRefused, CloudUnavailable

FIRST_S = 0.5
LONGEST_S = 60.0
MOST_RETRY_AFTER_S = 3600.0
CLOSE_WITHIN_S = 2.0

BUSY = frozenset((408, 425, 429))
REMEDIES = {
    401: ": the token is wrong",
    403: ": the token is another gateway's",
    404: ": is this the cloud's address?",
}

Failure = CloudUnavailable | CloudRefused


class OutOfReach(CloudUnavailable):
    """Nobody has answered at the cloud's address."""


def back_off(failure: Failure, failures: int, rng: Random) -> tuple[float, bool]:
    """Give the seconds to wait after so many failures in a row, and whether `wake` may not cut them short."""
    if isinstance(failure, CloudRefused):
        return rng.uniform(LONGEST_S / 2, LONGEST_S), False
    if failure.retry_after_s is not None:
        return min(max(failure.retry_after_s, 0.0), MOST_RETRY_AFTER_S) + rng.uniform(0.0, FIRST_S), True
    longest = min(FIRST_S * 2.0 ** min(failures - 1, 16), LONGEST_S)
    return rng.uniform(0.0, longest), False


def answered(status: int, headers: Mapping[str, str]) -> Failure:
    """Tell what an HTTP status in place of a WebSocket means."""
    if status in BUSY or status >= 500:
        after = headers.get("Retry-After", "")
        return CloudUnavailable(f"the cloud answers {status}", float(after) if after.isdecimal() else None)
    return CloudRefused(status, f"the cloud answers {status}{REMEDIES.get(status, '')}")
