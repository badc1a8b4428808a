"""A loop that waits: for a moment, for news of another one, or for the end."""

from __future__ import annotations

import asyncio

from gateway.alarm import Alarm
from gateway.clock import Clock
from gateway.records import NEVER
from tests.waiting import until


async def test_what_is_due_is_not_waited_for() -> None:
    clock = Clock()
    alarm = Alarm(clock)
    assert await alarm.wait(lambda: 0)
    assert await alarm.wait(lambda: clock.now() - 1)


async def test_a_moment_is_waited_for() -> None:
    clock = Clock()
    moment = clock.now() + 10**6
    assert await Alarm(clock).wait(lambda: moment)
    assert clock.now() >= moment


async def test_who_waits_for_ever_is_woken_when_something_becomes_due() -> None:
    alarm, due = Alarm(Clock()), [NEVER]
    waiting = asyncio.create_task(alarm.wait(lambda: due[0]))
    await asyncio.sleep(0)
    alarm.ring()  # and yet there is nothing
    await asyncio.sleep(0)
    assert not waiting.done()
    due[0] = 0
    alarm.ring()
    await until(waiting.done, "it is woken")
    assert waiting.result()


async def test_the_end_is_told_from_a_moment_that_has_come() -> None:
    alarm = Alarm(Clock())
    waiting = asyncio.create_task(alarm.wait(lambda: NEVER))
    await asyncio.sleep(0)
    alarm.stop()
    await until(waiting.done, "it ends")
    assert not waiting.result()
    assert not await alarm.wait(lambda: 0), "and stays ended"
