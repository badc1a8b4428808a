"""A gateway whose training is not as it should be: `python -m tests.bench.learning_fleet.odd CONFIG`, and an option.

In trainings whose name ends in `-paced` each round takes it `--pace` seconds, as if its machine were slow; in those
that end in `-poisoned` it sends, with `--poison`, its update turned round and scaled by -5.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import msgspec
import numpy as np

from cli.terminal import log_to_stderr
from gateway import compute, pipeline
from gateway.child import Child
from gateway.config import parse
from gateway.worker import Order, Reply
from learning import classifier, updates
from protocol.tasks import Task
from protocol.training import Given, pack_trained, read_trained

SCALE = -5.0


class Odd(Child):
    """A child that is slow, or lies."""

    pace = 0.0
    poison = False

    async def compute(self, order: Order, wall_s: float) -> Reply:
        """Run an order, and spoil it."""
        began = asyncio.get_running_loop().time()
        reply = await super().compute(order, wall_s)
        trains = order.task.name == "train" and reply.outcome == "done"
        if trains and order.task.state.endswith("-paced"):
            await asyncio.sleep(max(0.0, self.pace - (asyncio.get_running_loop().time() - began)))
        if trains and self.poison and order.task.state.endswith("-poisoned"):
            return msgspec.structs.replace(reply, content=poisoned(order.task, reply.content))
        return reply


def poisoned(task: Task, content: bytes) -> bytes:
    """Turn an update round, and scale it."""
    trained = read_trained(content)
    if not trained.payload:
        return content
    base = classifier.decode(msgspec.msgpack.decode(task.content, type=Given).base)
    wrong = np.float32(SCALE) * updates.decode(trained.payload, len(base.vector))
    payload = updates.encode("i8", wrong, np.random.default_rng(7)).payload
    return pack_trained(msgspec.structs.replace(trained, payload=payload), lean=task.lean)


def main() -> None:
    """Run a gateway until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learning_fleet.odd")
    parser.add_argument("config", type=Path)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--poison", action="store_true")
    asked = parser.parse_args()
    Odd.pace, Odd.poison = asked.pace, asked.poison
    log_to_stderr()
    setattr(compute, "Child", Odd)  # noqa: B010 - this process has no other
    asyncio.run(pipeline.run(parse(asked.config.read_text())))


if __name__ == "__main__":
    main()
