"""Tasks that are ended and begun again by name."""

from __future__ import annotations

import asyncio

import pytest

from gateway.sides import Sides
from tests.waiting import until


class Side:
    """Says when it runs, and takes its time to leave."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def run(self) -> None:
        self.said.append("runs")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.said.append("has left")


async def test_one_that_is_ended_has_left_when_it_begins_again() -> None:
    side = Side()
    async with asyncio.TaskGroup() as group:
        sides = Sides(group)
        sides.begin("line", side.run)
        await until(lambda: side.said, "it runs")
        await sides.end("line")
        sides.begin("line", side.run)
        await until(lambda: len(side.said) > 2, "it runs again")
        await sides.end("nobody")
        sides.cancel()
    assert side.said == ["runs", "has left", "runs", "has left"]


async def test_one_that_fails_ends_the_group() -> None:
    async def fail() -> None:
        raise LookupError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            sides = Sides(group)
            sides.begin("line", Side().run)
            sides.begin("broken", fail)

    with pytest.raises(ExceptionGroup) as failed:
        await both()
    assert [type(error) for error in failed.value.exceptions] == [LookupError]
