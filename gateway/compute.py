"""The gateway's computing for the cloud: tasks come over the bus, run in a child, and what they answer goes up.

What runs next is `tasks.queue`'s decision; here it is carried out. Intake and alerts never wait for it.

What a computation keeps from one task to the next is the file `tasks/{state}.fg` of the data directory: what it was
before the last task, and after it. It is written before the answer goes up, so a task that runs twice begins as it did
the first time.

| may fill | bound | answer when full |
|---|---|---|
| what one state keeps | MAX_KEPT | the task failed, `kept` |
| states | MAX_STATES | the task failed, `kept` |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from gateway import blocks, yardstick
from gateway.alarm import Alarm
from gateway.child import Child
from gateway.clock import Clock
from gateway.config import Tasks
from gateway.segment import Files, make_directory, write_atomically
from gateway.tasks import Cancel, Instruction, Queue, Run, Say
from gateway.tasks.costs import Costs
from gateway.worker import Order, Reply
from protocol import topics
from protocol.bus import Bus, Subscription
from protocol.messages import AnswerBody, Cover, PartBody
from protocol.tasks import Task

log = logging.getLogger("fieldgate.tasks")

MAX_KEPT = 8 << 20
MAX_STATES = 64
SUFFIX = ".fg"


class Kept(msgspec.Struct, frozen=True):
    """What a state keeps: what the last task was given, and what the next one is."""

    job: str
    attempt: int
    before: bytes
    after: bytes


class Compute:
    """See the rules above; `answer` takes what goes up, `floor` says how many bytes of disk must stay free."""

    def __init__(
        self,
        bus: Bus,
        queue: Queue,
        settings: Tasks,
        clock: Clock,
        *,
        data: Path,
        files: Files,
        answer: Callable[[PartBody | AnswerBody], None],
        floor: Callable[[], int] = lambda: 0,
    ) -> None:
        self.queue = queue
        self.costs = Costs()
        self.on_change: Callable[[], None] = lambda: None  # told when there is less to do, or more
        self.on_kept: Callable[[str], None] = lambda _state: None  # told which state keeps something else now
        self._bus, self._settings, self._data, self._files = bus, settings, data, files
        self._clock, self._answer, self._floor = clock, answer, floor
        self._alarm = Alarm(clock)
        self._child = Child()
        self._running: asyncio.Task[None] | None = None

    def blocked(self) -> int:
        """Give the bytes of the journal that tasks find in blocks."""
        return blocks.covers(self._files, self._data / "blocks", self._data / "journal")

    async def run(self) -> None:
        """Hear and compute until cancelled."""
        topic = topics.topic(self.queue.terms.gateway, "tasks")
        self.costs.guess = self.costs.guess or await asyncio.to_thread(yardstick.seconds)
        self.on_change()
        try:
            async with self._bus.subscribe(f"{topic}/+") as heard, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(heard, tasks), name="tasks hear")
                tasks.create_task(self._watch(tasks), name="tasks watch")
        finally:
            await self._child.end()

    async def _hear(self, heard: Subscription, tasks: asyncio.TaskGroup) -> None:
        async for message in heard:
            job = message.topic.rpartition("/")[2]
            self._do(self.queue.feed(job, message.payload, self._clock.now()), tasks)

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        while await self._alarm.wait(self.queue.due):
            self._do(self.queue.tick(self._clock.now()), tasks)

    def _do(self, instructions: Iterable[Instruction], tasks: asyncio.TaskGroup) -> None:
        for instruction in instructions:
            match instruction:
                case Run(task):
                    self._running = tasks.create_task(self._compute(task, tasks), name=f"task {task.job}")
                case Cancel():
                    assert self._running is not None
                    self._running.cancel()
                case Say(task, outcome, reason):
                    log.warning("tasks: %s: %s: %s", task.job, outcome, reason)
                    self._say(task, Reply(outcome, reason))
        self._alarm.ring()
        self.on_change()

    async def _compute(self, task: Task, tasks: asyncio.TaskGroup) -> None:
        log.info("tasks: %s begins: %s, attempt %d", task.job, task.name, task.attempt)
        reply = Reply("failed", "stopped")
        try:
            reply = await self._in_a_child(task)
        except asyncio.CancelledError:
            if not self.queue.stopping:
                raise  # the gateway ends
        if reply.outcome == "done":
            log.info("tasks: %s is done: %d readings, %.1f s of CPU", task.job, reply.readings, reply.seconds)
            self.costs.note(task.name, reply.effort, reply.readings)
            self._say(task, reply)
        if reply.detail:
            log.warning("tasks: %s: %s", task.job, reply.detail)
        self._running = None
        self._do(self.queue.ended(task, reply.outcome, reply.reason, self._clock.now()), tasks)

    def _say(self, task: Task, reply: Reply) -> None:
        named = (Cover(), task.job, task.attempt, task.name, task.version)
        ended = (reply.outcome, reply.reason, reply.content, self._clock.now())
        part = PartBody(*named, *ended, reply.seconds, reply.readings, reply.asked, reply.held)
        self._answer(AnswerBody.of(part) if task.lean else part)

    async def _in_a_child(self, task: Task) -> Reply:
        kept = await asyncio.to_thread(self._read, task)
        settings = self._settings
        limits = (settings.cpu // 10**9, int(settings.memory), settings.share, int(settings.blocks), self._floor())
        order = Order(str(self._data), task, kept, *limits)
        reply = await self._child.compute(order, settings.wall / 1e9)
        if reply.outcome == "done" and task.state:
            saved = Kept(task.job, task.attempt, kept, reply.keep)
            if refused := await asyncio.to_thread(self._write, task, saved):
                return Reply("failed", "kept", refused)
            self.on_kept(task.state)
        return reply

    def _path(self, task: Task) -> Path:
        return _path(self._data, task.state)

    def _read(self, task: Task) -> bytes:
        kept = _read(self._files, self._path(task)) if task.state else None
        if kept is None:
            return b""
        return kept.before if (kept.job, kept.attempt) == (task.job, task.attempt) else kept.after

    def _write(self, task: Task, saved: Kept) -> str:
        """Keep it durably; say why not."""
        path = self._path(task)
        try:
            make_directory(self._files, path.parent)
            names = self._files.names(path.parent)
            if path.name not in names and len(names) >= MAX_STATES:
                return f"{path.parent} holds {MAX_STATES} states"
            if len(saved.after) > MAX_KEPT:
                return f"{len(saved.after)} bytes to keep, {MAX_KEPT} at most"
            write_atomically(self._files, path, msgspec.msgpack.encode(saved))
        except OSError as error:
            return f"{path}: {error.strerror}"
        return ""


def _path(data: Path, state: str) -> Path:
    return data / "tasks" / f"{state}{SUFFIX}"


def _read(files: Files, path: Path) -> Kept | None:
    try:
        return msgspec.msgpack.decode(files.read(path), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("tasks: what %s has kept cannot be read, it begins anew: %s", path.stem, error)
        return None


def read_kept(files: Files, data: Path, state: str) -> bytes:
    """Give what the newest task of a state keeps; b"" if there is nothing, or it cannot be read."""
    kept = _read(files, _path(data, state))
    return b"" if kept is None else kept.after
