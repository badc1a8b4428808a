"""A gateway that runs on the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import pipeline
from gateway.config import GatewayConfig
from gateway.pipeline import Pipeline
from gateway.segment import Files
from tests.waiting import DEADLINE_S


@asynccontextmanager
async def at_work(config: GatewayConfig, files: Files | None = None) -> AsyncIterator[Pipeline]:
    """Run a gateway until this is left; then it must end in order. What keeps it from starting is raised."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(pipeline.run(config, files=files, on_ready=ready.set_result, stop=stop), name="gateway")
    await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_S)
    try:
        if task.done():
            await task
        assert ready.done(), "it does not become ready"
        yield ready.result()
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)
