"""Trainings carried out: tasks go out over the bus, answers come from the store, what is promoted is published.

    commit ──news──▶ store.parts ──▶ federation ──▶ fieldgate/v1/{gateway}/tasks/{job}, retained, signed
                                         └── promoted ──▶ publish

What to do is `federation`'s decision. Rules:

1. What it decided is kept in the store, with the number of the last answer handled, before anybody is asked; so a
   restart goes on where it stood, and asks again. What is promoted is published before that: twice is once.
2. Bus or store away: the cloud runs on, and tries again every RETRY_S or as soon as the bus is there.

| may fill | bound | answer when full |
|---|---|---|
| messages that wait for the bus | one per gateway and job asked | the newer one replaces |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cloud.config.training import Training as Settings
from cloud.federation import Ask, Ended, Federation, Instruction, Promote, Rest, TakeBack, Training
from cloud.federation.state import NEVER, REST
from cloud.store import News, Store
from cloud.store.answers import StageView, TrainingView
from protocol.bus import Bus
from protocol.errors import BrokerUnavailable, ModelRefused, StoreUnavailable, TaskRefused
from protocol.identity import Signer
from protocol.tasks import seal
from protocol.topics import topic

log = logging.getLogger("fieldgate.trainings")

RETRY_S = 5.0
LOOK_S = 60.0
LOOK_RUNNING_S = 2.0
"""While a run goes on it is looked so often who has come."""
MACHINE = "trainings"
DRIFTED = "drifted"
RECENT = 1_000
"""Reports looked through after a start, for drift that was said and not acted upon."""
AT_ONCE = 256
"""Answers taken from the store at once."""


_Wish = Callable[[list[str], int], list[Instruction]]
"""What somebody wants done: given who is there and the time, it says what is left to do."""


class Trainings:
    """See the rules above; `members` says who is there, `promote` publishes, `tell` is told what ended."""

    def __init__(
        self,
        store: Store,
        settings: tuple[Settings, ...],
        *,
        signer: Signer,
        clock: Callable[[], int],
        members: Callable[[], list[str]],
        promote: Callable[[str, bytes, int, list[str]], Awaitable[None]],
        tell: Callable[[StageView], None],
    ) -> None:
        self.federation = Federation(settings)
        self._settings = settings
        self._store, self._signer, self._clock = store, signer, clock
        self._members, self._promote, self._tell = members, promote, tell
        self._handled = 0
        self._waiting: dict[str, bytes] = {}  # by topic, in order
        self._asked_for: list[_Wish] = []
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()
        self._connected = False

    def on_news(self, gateway: str, news: News) -> None:
        """Take note that a commit brought answers."""
        for report in news.reports:
            if report.outcome == DRIFTED:
                log.info("trainings: %s: what %s sees has drifted: %s", report.model, gateway, report.reason)
                self.federation.note_drift(report.model, gateway, report.stored)
                self._changed.set()
        if news.parts:
            self._changed.set()

    def look(self) -> None:
        """Look again who is there."""
        self._changed.set()

    def lacking(self, name: str) -> str:
        """Say why no run of a training can begin now, "" if one can; KeyError if there is no such training."""
        return self.federation.lacking(name, self._members())

    def start(self, name: str) -> None:
        """Begin a run of a training soon."""
        self._wish(lambda members, now: self.federation.start(name, members, now))

    def consider(self, name: str, content: bytes) -> None:
        """Try a candidate soon; ModelRefused at once if it is not made for this training."""
        self.federation.trainings[name].check(content)
        self._wish(lambda members, now: self.federation.consider(name, content, members, now))

    def promote(self, name: str) -> None:
        """Promote soon what the last run made; ModelRefused at once if it made nothing, or one goes on."""
        state = self.federation.trainings[name].state
        if state.stage != REST or not state.candidate:
            raise ModelRefused("candidate", f"run {state.run} {'made none' if state.stage == REST else 'goes on'}")
        self._wish(lambda _members, _now: self.federation.promote(name))

    def put(self, name: str, content: bytes) -> None:
        """Note that another classifier has been put in force, by hand."""

        def put(_members: list[str], _now: int) -> list[Instruction]:
            self.federation.put(name, content)
            return []

        self._wish(put)

    def _wish(self, wish: _Wish) -> None:
        self._asked_for.append(wish)
        self._changed.set()

    async def run(self, bus: Bus) -> None:
        """Train until cancelled."""
        await self._begin()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decide_for_ever(), name="trainings-decide")
            tasks.create_task(self._say_for_ever(bus), name="trainings-say")

    def on_state(self, connected: bool, _why: str) -> None:
        """Ask again when the bus is back: a broker may have forgotten."""
        if connected:
            self._carry_out(self.federation.again())

    async def _begin(self) -> None:
        while True:
            try:
                self._handled, snapshot = await self._store.kept(MACHINE)
                reports = await self._store.reports(None, RECENT)
                break
            except StoreUnavailable as error:
                log.warning("trainings: %s", error)
                await asyncio.sleep(RETRY_S)
        try:
            self.federation = Federation(self._settings, snapshot)
        except TaskRefused as error:
            log.error("trainings: what was kept cannot be read, all begin anew: %s", error)  # noqa: TRY400
        for report in reports:
            if report.outcome == DRIFTED:
                self.federation.note_drift(report.model, report.gateway, report.stored)
        self._carry_out(self.federation.again())

    async def _decide_for_ever(self) -> None:
        while True:
            self._changed.clear()
            try:
                more = await self._decide()
            except StoreUnavailable as error:
                log.warning("trainings: %s", error)
                await self._begin()  # what was decided and not kept is decided again
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until_due()):
                        await self._changed.wait()

    async def _decide(self) -> bool:
        """Handle the next answers and what is due; say whether there may be more."""
        now, members = self._clock(), self._members()
        parts = await self._store.parts(self._handled, AT_ONCE)
        decided: list[Instruction] = []
        for number, gateway, body in parts:
            decided += self.federation.part(gateway, body, members, now)
            self._handled = number
        wishes = list(self._asked_for)
        for wish in wishes:
            decided += wish(members, now)
        decided += self.federation.tick(members, now)
        decided += self.federation.join(members)
        if decided or parts or wishes:
            for one in decided:
                if isinstance(one, Promote):
                    await self._promote(one.training, one.content, one.windows, members)
            await self._store.keep(MACHINE, self._handled, self.federation.snapshot())
            del self._asked_for[: len(wishes)]
            self._carry_out(decided)
        return len(parts) == AT_ONCE

    def _carry_out(self, decided: list[Instruction]) -> None:
        for one in decided:
            match one:
                case Ask(task):
                    self._say(task.gateway, task.job, seal(task, self._signer))
                case TakeBack(gateway, job):
                    self._say(gateway, job, b"")
                case Ended():
                    log.info("trainings: %s run %d: %s %d ended", one.training, one.run, one.stage, one.round)
                    self._tell(_stage(one))
                case Rest():
                    log.info("trainings: %s run %d: %s", one.training, one.run, one.verdict.word)
                case Promote():
                    pass  # it was published before this was kept

    def _say(self, gateway: str, job: str, sealed: bytes) -> None:
        name = f"{topic(gateway, 'tasks')}/{job}"
        self._waiting.pop(name, None)
        self._waiting[name] = sealed
        self._wanted.set()

    async def _say_for_ever(self, bus: Bus) -> None:
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            name = next(iter(self._waiting))
            sealed = self._waiting.pop(name)
            try:
                await bus.publish(name, sealed, retain=True)
            except BrokerUnavailable:
                self._waiting.setdefault(name, sealed)
                self._wanted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_S):
                        await self._wanted.wait()

    def views(self) -> list[TrainingView]:
        """Give all trainings by name."""
        return [self._view(name, training) for name, training in sorted(self.federation.trainings.items())]

    def _view(self, name: str, training: Training) -> TrainingView:
        state, last = training.state, self.federation.last(name)
        verdict = last.verdict if last else None
        return TrainingView(
            name,
            state.run,
            state.stage,
            state.round,
            training.settings.rounds,
            sorted(state.asked),
            verdict.word if verdict else "",
            verdict.candidate if verdict else None,
            verdict.active if verdict else None,
            [_stage(ended) for ended in self.federation.history(name)],
            self.federation.drifted(name),
        )

    def _until_due(self) -> float:
        due, look = self.federation.due(), LOOK_S if self.federation.resting else LOOK_RUNNING_S
        return look if due == NEVER else min(look, max(0.0, (due - self._clock()) / 1e9))


def _stage(ended: Ended) -> StageView:
    who = (list(ended.answered), list(ended.late), ended.refused)
    about = (ended.training, ended.run, ended.round, ended.stage)
    return StageView(*about, *who, ended.score, ended.bytes_up, round(ended.seconds, 3), ended.at)
