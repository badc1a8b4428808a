"""The one way in which tests wait: for a condition, until a deadline. Nothing sleeps for a guessed time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE_S = 30.0
"""Long enough for a machine under load: a test that passes never waits for it."""

LOOK_EVERY_S = 0.01

T = TypeVar("T")


async def until(
    condition: Callable[[], T | Awaitable[T]], what: str, *, within: float = DEADLINE_S, every: float = LOOK_EVERY_S
) -> T:
    """Wait until `condition()` is true, and give what it returned; AssertionError says what never came."""
    last: object = None
    try:
        async with asyncio.timeout(within):
            while True:
                answer = condition()
                last = await answer if inspect.isawaitable(answer) else answer
                if last:
                    return last  # type: ignore[return-value]  # T or Awaitable[T]: it has been awaited
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {within:g} s; last seen {last!r}") from None
