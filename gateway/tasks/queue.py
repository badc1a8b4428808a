"""Which task runs next, and which is refused, and why. Pure: it returns what is left to do.

Rules:

1. A task counts only if the pinned key signed it for this gateway; the sender of any other gets no answer.
2. One task runs at a time; others wait, first come, first run. A later attempt of a job replaces one that waits.
3. An attempt that was answered is not run again, as long as it is remembered: the cloud retains a task until it has the
   answer, and a broker says it again at each connection. After a restart it may run again; the cloud counts it once.
4. What was not begun by its deadline is refused; what runs beyond it is stopped.
5. A task that is taken back (an empty message) no longer waits, and is stopped if it runs; nobody wants its answer.

| reason | why |
|---|---|
| forbidden | `tasks.allow` does not name it |
| late | its deadline had passed before it could begin |
| busy | MAX_WAITING jobs wait |
| deadline | it ran beyond its deadline, and was stopped |

and those with which the child ends: `unknown`, `memory`, `cpu`, `time`, `crash`, and what the computation refuses.

| may fill | bound | answer when full |
|---|---|---|
| tasks that wait | MAX_WAITING | the newest is refused as `busy` |
| attempts remembered | MAX_ANSWERED | the oldest is forgotten, and would run again |
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from gateway.records import NEVER
from protocol.errors import TaskRefused
from protocol.tasks import Task, unseal

MAX_WAITING = 16
MAX_ANSWERED = 256
TAKEN_BACK = "taken back"


class Terms(NamedTuple):
    """What a gateway runs: its name, the key it pins, and the computations that it allows."""

    gateway: str
    public_key: bytes  # b"": none is pinned, nothing runs
    allow: tuple[str, ...]  # patterns


class Run(NamedTuple):
    """Instruction: compute this, and say `ended` of it."""

    task: Task


class Cancel(NamedTuple):
    """Instruction: stop what runs, and say `ended` of it."""

    task: Task


class Say(NamedTuple):
    """Instruction: send this answer up."""

    task: Task
    outcome: str  # "refused" or "failed"
    reason: str


Instruction = Run | Cancel | Say


class Queue:
    """See the rules above."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.running: Task | None = None
        self.refused: dict[str, int] = {}  # by reason
        self.answered = 0
        self._waiting: OrderedDict[str, Task] = OrderedDict()  # by job
        self._remembered: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._stopped: str = ""  # why what runs was told to stop; "": it was not

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._waiting)

    @property
    def stopping(self) -> bool:
        """Whether what runs was told to stop."""
        return bool(self._stopped)

    def feed(self, job: str, sealed: bytes, now: int) -> list[Instruction]:
        """Take a message of a job's topic: a sealed task, or nothing, which takes it back."""
        if not sealed:
            return self._take_back(job)
        try:
            task = unseal(sealed, self.terms.public_key, gateway=self.terms.gateway)
        except TaskRefused as refused:
            self._count(refused.reason)
            return []
        if task.job != job or (job, task.attempt) in self._remembered or self._is_old(task):
            return []
        if not any(fnmatchcase(task.name, pattern) for pattern in self.terms.allow):
            return [self._say(task, "refused", "forbidden")]
        if len(self._waiting) >= MAX_WAITING and job not in self._waiting:
            return [self._say(task, "refused", "busy")]
        self._waiting[job] = task
        return self._next(now)

    def ended(self, task: Task, outcome: str, reason: str, now: int) -> list[Instruction]:
        """Note how a task ended: "done" and its answer went up, else "refused" or "failed", and why."""
        stopped, self._stopped, self.running = self._stopped, "", None
        if stopped == TAKEN_BACK:
            return self._next(now)
        if stopped:
            outcome, reason = "failed", stopped
        if outcome == "done":
            self._remember(task)
            return self._next(now)
        return [self._say(task, outcome, reason), *self._next(now)]

    def due(self) -> int:
        """When (ns) what runs must be stopped; NEVER if it may go on."""
        if self.running is None or self._stopped or not self.running.deadline:
            return NEVER
        return self.running.deadline

    def tick(self, now: int) -> list[Instruction]:
        """Let time pass."""
        if self.running is None or self.due() > now:
            return []
        self._stopped = "deadline"
        return [Cancel(self.running)]

    def _next(self, now: int) -> list[Instruction]:
        given: list[Instruction] = []
        while self.running is None and self._waiting:
            _job, task = self._waiting.popitem(last=False)
            if task.deadline and task.deadline <= now:
                given.append(self._say(task, "refused", "late"))
                continue
            self.running = task
            given.append(Run(task))
        return given

    def _take_back(self, job: str) -> list[Instruction]:
        self._waiting.pop(job, None)
        if self.running is None or self.running.job != job or self._stopped:
            return []
        self._stopped = TAKEN_BACK
        return [Cancel(self.running)]

    def _is_old(self, task: Task) -> bool:
        others: Mapping[str, Task] = {self.running.job: self.running} if self.running else {}
        known = [one.attempt for one in (self._waiting.get(task.job), others.get(task.job)) if one]
        return task.attempt <= max(known, default=0)

    def _say(self, task: Task, outcome: str, reason: str) -> Say:
        self._count(reason)
        self._remember(task)
        return Say(task, outcome, reason)

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def _remember(self, task: Task) -> None:
        self.answered += 1
        self._remembered[task.job, task.attempt] = None
        while len(self._remembered) > MAX_ANSWERED:
            self._remembered.popitem(last=False)
