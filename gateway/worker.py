"""The child process in which tasks run, one after another: Orders on standard input, Replies on standard output.

Each is 4 bytes of length, big end first, then msgpack. It ends when its input does; starting takes most of a second on
a Pi, so it lives on for a while between the rounds of a training, and a computation may remember what it has read.

Rules:

1. It takes the lowest priority, and limits on CPU time and memory, before it imports what computes. When the gateway
   ends, it is killed.
2. Whatever happens it says a Reply, unless it is killed. What a computation prints goes to standard error.
3. A computation is found by its name: BUILT_IN, then the entry points of the group `fieldgate.tasks`, then work over a
   fleet (`learning.work`), whose name no other may take. Nothing that a
   message says is imported or evaluated.

| reason | why |
|---|---|
| unknown | no such computation, or another version of it |
| memory, cpu | it went beyond its limit |
| crash | it raised; the gateway's log has where |
| others | the computation's own, see there |
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from ctypes import CDLL
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from types import FrameType
from typing import Any

import msgspec

from gateway.segment import OsFiles
from gateway.tasks.contract import Computation
from gateway.tasks.costs import Effort
from protocol import frame
from protocol.errors import FrameRefused, JournalUnusable, TaskRefused
from protocol.messages import Kind
from protocol.tasks import Task

BUILT_IN = {
    "survey": "gateway.trainer:survey",
    "train": "gateway.trainer:train",
}
"""Where a computation is, by its name: "module:name"."""

GROUP = "fieldgate.tasks"
PR_SET_PDEATHSIG = 1  # prctl(2)


class Order(msgspec.Struct, frozen=True):
    """What to run, on which data, and within which limits."""

    data: str  # the gateway's data directory
    task: Task
    kept: bytes
    cpu: int  # seconds
    memory: int  # bytes
    share: tuple[str, ...] = ()  # patterns of series whose raw readings may leave
    blocks: int = 0  # bytes of `gateway.blocks` at most; 0: none are made or read
    floor: int = 0  # bytes of the disk that they leave free


class Reply(msgspec.Struct, frozen=True):
    """How it ended."""

    outcome: str  # "done", "refused" or "failed"
    reason: str = ""
    detail: str = ""
    content: bytes = b""
    readings: int = 0
    asked: tuple[int, int] = (0, 0)
    held: tuple[int, int] = (0, 0)
    keep: bytes = b""
    effort: Effort = Effort()
    seconds: float = 0.0  # of CPU, all of it


class _OverTimeError(BaseException):
    """CPU time is used up; no Exception, or whoever answers for a stranger's code would take it for theirs."""


def find(name: str, version: int) -> Computation:
    """Give the computation of a name; TaskRefused("unknown")."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: Any = getattr(import_module(module), attribute)
    else:
        found = _installed(name)
    if found.version != version:
        raise TaskRefused("unknown", f"{name!r} is version {found.version} here, not {version}")
    computation: Computation = found
    return computation


def _installed(name: str) -> Any:
    """Give what an entry point has, or work over a fleet."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - 2 MB that training does without

    from gateway.tasks.work import OfWork  # noqa: PLC0415 - numpy comes after the limits
    from learning.work import registry  # noqa: PLC0415 - the same

    if name not in registry.BUILT_IN and (points := entry_points(group=GROUP, name=name)):
        return next(iter(points)).load()
    return OfWork(registry.find(name))


def run(order: Order, pasts: dict[str, Any] | None = None) -> Reply:
    """Compute; whatever happens becomes a Reply. `pasts` has what was read before, by data directory."""
    began, since = process_time(), perf_counter()
    try:
        reply = _compute(order, {} if pasts is None else pasts, began)
    except TaskRefused as refused:
        reply = Reply("refused", refused.reason, refused.detail)
    except MemoryError:
        reply = Reply("failed", "memory", f"more than {order.memory} bytes")
    except _OverTimeError:
        reply = Reply("failed", "cpu", f"more than {order.cpu} s")
    except JournalUnusable as error:
        reply = Reply("failed", "journal", str(error))
    except Exception as error:  # noqa: BLE001 - a stranger's code: it is told, and costs only itself
        reply = Reply("failed", "crash", "".join(traceback.format_exception(error))[-4096:])
    sys.stdout.flush()  # what it printed is said before its reply, or a kill would take it along
    effort = reply.effort._replace(took=perf_counter() - since, sent=_sent(reply.content))
    return msgspec.structs.replace(reply, seconds=process_time() - began, effort=effort)


def _sent(content: bytes) -> int:
    """Give the bytes that an answer takes on the wire."""
    try:
        return len(frame.encode(Kind.PART, content, lane=0, seq=0)) if content else 0
    except FrameRefused:
        return len(content)


def _compute(order: Order, pasts: dict[str, Any], began: float) -> Reply:
    from gateway.blocks import Blocks  # noqa: PLC0415 - numpy comes after the limits
    from gateway.past import JournalPast  # noqa: PLC0415 - the same

    computation = find(order.task.name, order.task.version)
    data = Path(order.data)
    blocks = Blocks(OsFiles(), data / "blocks", order.blocks, order.floor) if order.blocks else None
    past = pasts[order.data] = JournalPast(data, pasts.get(order.data), shared=order.share, blocks=blocks)
    ready = process_time()
    try:
        answer = computation(order.task, past, order.kept)
        work = process_time() - ready - past.reading_s
        effort = Effort(work, ready - began, past.reading_s, past.recorded, past.unblocked, past.series)
        return Reply("done", "", answer.note, *answer[:-1], effort=effort)
    finally:
        past.close()


def settle() -> None:
    """Take the lowest priority, leave no core behind, and die with the parent."""
    CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, _over_time)


def limit(order: Order) -> None:
    """Take an order's limits: a second beyond its CPU time is the last, if it does not stop by itself."""
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory, resource.RLIM_INFINITY))
    until = int(sum(os.times()[:2])) + 1 + order.cpu
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _over_time(_number: int, _frame: FrameType | None) -> None:
    raise _OverTimeError


def main() -> None:
    """Run orders until there are no more."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settle()
    pasts: dict[str, Any] = {}
    while head := sys.stdin.buffer.read(4):
        order = msgspec.msgpack.decode(sys.stdin.buffer.read(int.from_bytes(head, "big")), type=Order)
        limit(order)
        reply = msgspec.msgpack.encode(run(order, pasts))
        out.write(len(reply).to_bytes(4, "big") + reply)
        out.flush()


if __name__ == "__main__":
    main()
