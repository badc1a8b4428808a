"""The link to the cloud's address: TLS, a try at its port, and whether it was away and is back.

TCP tells late that a link is back: what is in flight is sent again after twice the time of the last try, a connection
that is being made after 1, 2 and 4 s; after 30 s of silence up to another 30 s pass. A try of our own tells at once.

Rules:

1. A try begins each `every_s`, and they may overlap. A link that is there answers them in the order in which they
   began; so one that a later one overtook was lost, like one that failed.
2. The link is back when a try is answered, and `lost` before it were not.
3. A try that is answered in order says that the link is there and the cloud is busy: the next ones are left out, each
   time twice as many, to MOST_REST.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from urllib.parse import urlsplit

from gateway.uplink.failure import Failure
from protocol.errors import CloudRefused, CloudUnavailable, ConfigurationRefused

PORTS = {"http": 80, "https": 443}
MOST_REST = 31


class LinkReturned(CloudUnavailable):
    """The link was away and is back: whatever connection there is hangs, and the next is made at once."""


def tls_context(ca_file: str) -> ssl.SSLContext | bool:
    """Make the TLS settings of the uplink; ConfigurationRefused if the file of authorities cannot be used."""
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is an OSError
        raise ConfigurationRefused("uplink.ca_file", ca_file, f"a readable file of certificates ({error})") from None


async def answers(url: str, within_s: float) -> bool:
    """Tell whether somebody takes connections at the address so soon."""
    address = urlsplit(url)
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(address.hostname, address.port or PORTS[address.scheme])
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True


async def returned(
    one_try: Callable[[], Coroutine[None, None, bool]],
    *,
    lost: int,
    every_s: float,
    over: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until the link is back (rule 2); False as soon as it is `over`, which is asked at each try."""
    tries: list[asyncio.Task[bool]] = []  # that have no answer yet, in the order in which they began
    missed = rest = skip = 0
    try:
        while not over():
            if skip:
                skip -= 1
                await asyncio.sleep(every_s)
                continue
            tries.append(asyncio.create_task(one_try(), name="uplink try"))
            missed, answered = await _within(every_s, tries, missed)
            if answered and missed >= lost:
                return True
            if answered:
                missed, rest = 0, min(2 * rest + 1, MOST_REST)
                skip = rest
            else:
                rest = 0
        return False
    finally:
        await _end(tries)


async def _within(seconds: float, tries: list[asyncio.Task[bool]], missed: int) -> tuple[int, bool]:
    """Give how many tries were lost so far; True as soon as one is answered, False when the time is up."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while tries and (left := end - loop.time()) > 0:
        await asyncio.wait(tries, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        failed = [one for one in tries if one.done() and not one.result()]
        tries[:] = [one for one in tries if one not in failed]
        missed += len(failed)
        if answered := [number for number, one in enumerate(tries) if one.done()]:
            await _end(tries)
            return missed + answered[-1] - (len(answered) - 1), True
    await asyncio.sleep(max(end - loop.time(), 0))
    return missed, False


async def _end(tries: list[asyncio.Task[bool]]) -> None:
    for one in tries:
        one.cancel()
    await asyncio.gather(*tries, return_exceptions=True)
    tries.clear()


async def first_failure(**works: Coroutine[None, None, None]) -> Failure:
    """Let works go on until one of them fails, end the others, and give the failure; another error is raised.

    Not in a task group: until Python 3.13 it loses a cancellation that comes at the moment when a child fails.
    """
    tasks = [asyncio.create_task(work, name=f"uplink {name}") for name, work in works.items()]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    failures = [error for error in errors if isinstance(error, (CloudUnavailable, CloudRefused))]
    for error in errors:
        if error not in failures:
            raise error
    return failures[0]
