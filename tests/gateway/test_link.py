"""Whether the link to the cloud was away and is back, told by tries at its port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from gateway.uplink.link import answers, returned

NEVER = "no answer"
EVERY_S = 0.002


class Port:
    """A port that answers the n-th try as it is told: True, False, or not at all. Then it is over."""

    def __init__(self, *script: bool | str) -> None:
        self.script = list(script)
        self.begun = self.held = 0

    async def one_try(self) -> bool:
        answer = self.script[self.begun]
        self.begun += 1
        self.held += 1
        try:
            if answer == NEVER:
                await asyncio.Event().wait()
            return answer is True
        finally:
            self.held -= 1

    def over(self) -> bool:
        return self.begun == len(self.script)


@pytest.mark.parametrize(
    ("script", "lost", "back", "tries"),
    [
        pytest.param([True], 0, True, 1, id="nobody answered before, somebody does"),
        pytest.param([False, False, True], 0, True, 3, id="refused for a while"),
        pytest.param([NEVER, NEVER, NEVER, True], 3, True, 4, id="a black hole, then an answer"),
        pytest.param([False, NEVER, False, True], 3, True, 4, id="refused and lost count alike"),
        pytest.param([True, True, True, True], 3, False, 4, id="the link is there: the cloud is slow"),
        pytest.param([NEVER, True, NEVER, True, NEVER, True], 3, False, 6, id="a poor link loses one by chance"),
        pytest.param([NEVER, NEVER, True, NEVER, NEVER], 3, False, 5, id="what was lost before an answer is forgotten"),
        pytest.param([NEVER, NEVER, NEVER], 3, False, 3, id="away, and the connection has noticed"),
    ],
)
async def test_the_link_is_back(script: list[bool | str], lost: int, tries: int, *, back: bool) -> None:
    port = Port(*script)
    assert await returned(port.one_try, lost=lost, every_s=EVERY_S, over=port.over) is back
    assert (port.begun, port.held) == (tries, 0), "no try outlives the question"


async def test_answers_in_the_order_of_the_tries_are_those_of_a_slow_link() -> None:
    asked: list[asyncio.Future[bool]] = []

    def one_try() -> Awaitable[bool]:
        asked.append(asyncio.get_running_loop().create_future())
        if len(asked) > 3 and not asked[-4].cancelled():
            asked[-4].set_result(True)  # answered when three more have begun
        return asked[-1]

    assert not await returned(_coroutine(one_try), lost=3, every_s=EVERY_S, over=lambda: len(asked) > 12)


def _coroutine(begin: Callable[[], Awaitable[bool]]) -> Callable[[], Coroutine[None, None, bool]]:
    async def one_try() -> bool:
        return await begin()

    return one_try


async def test_a_port_answers_or_refuses(unused_tcp_port: int) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port)
    url = f"http://127.0.0.1:{unused_tcp_port}/v1/uplink"
    assert await answers(url, 5.0)
    server.close()
    await server.wait_closed()
    assert not await answers(url, 5.0)
