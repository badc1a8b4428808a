"""Whoever brings more than fits waits until others have gone."""

from __future__ import annotations

import asyncio

from cloud.room import Room
from tests.waiting import until


async def test_what_fits_is_let_in_and_the_rest_waits_its_turn() -> None:
    room = Room(10)
    order: list[str] = []

    async def enter(name: str, size: int) -> None:
        await room.take(size)
        order.append(name)

    await enter("a", 6)
    waiting = [asyncio.create_task(enter("b", 6)), asyncio.create_task(enter("c", 4))]
    await until(lambda: order == ["a", "c"], "what fits is let in")
    room.give(6)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert (order, room.used) == (["a", "c", "b"], 10)


async def test_one_item_larger_than_the_room_is_let_in_alone() -> None:
    room = Room(10)
    await asyncio.wait_for(room.take(50), 5)
    assert room.used == 50
