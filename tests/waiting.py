"""The one way in which tests wait: for a condition, until a deadline. Nothing sleeps for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

DEADLINE_S = 30.0
"""Long enough for a machine under load: a test that passes never waits for it."""

LOOK_EVERY_S = 0.01


async def until(
    condition: Callable[[], Any], what: str, *, within: float = DEADLINE_S, every: float = LOOK_EVERY_S
) -> Any:
    """Wait until `condition()` (or what it awaits) is true, and give that; AssertionError says what never came."""
    last: Any = None
    try:
        async with asyncio.timeout(within):
            while True:
                answer = condition()
                last = await answer if inspect.isawaitable(answer) else answer
                if last:
                    return last
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {within:g} s; last seen {last!r}") from None
