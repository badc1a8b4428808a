"""Trainings carried out: tasks go out over the bus, answers come from the store, what is promoted is published.

    leases ──answers──▶ federation ──asked, taken back──▶ leases
                            └── promoted ──▶ publish

What to do is `federation`'s decision; how gateways hear of it, and what is kept when, is `leases`'. What is promoted is
published before its decision is kept: twice is once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from numpy.random import default_rng

from cloud.config.training import Training as Settings
from cloud.federation import Ask, Ended, Federation, Instruction, Promote, Rest, TakeBack, Training, private
from cloud.federation.private import Spent
from cloud.federation.state import NEVER, REST
from cloud.leases import Kept, Leases
from cloud.store import News, Part, Store
from cloud.store.answers import PrivacyView, StageView, TrainingView
from protocol.bus import Bus
from protocol.errors import ModelRefused, StoreUnavailable, TaskRefused
from protocol.identity import Signer

log = logging.getLogger("fieldgate.trainings")

LOOK_S = 60.0
LOOK_RUNNING_S = 2.0
"""While a run goes on it is looked so often who has come."""
MACHINE = "trainings"
DRIFTED = "drifted"
RECENT = 1_000
"""Reports looked through after a start, for drift that was said and not acted upon."""

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
        self._rng = default_rng()  # of the noise that protects gateways: seeded by the operating system
        self.federation = Federation(settings, rng=self._rng)
        self._settings = settings
        self._store, self._clock = store, clock
        self._members, self._promote, self._tell = members, promote, tell
        self._asked_for: list[_Wish] = []
        self._granted = 0  # of them, in what was decided
        self._decided: list[Instruction] = []
        self._reads = False  # what was kept is not here yet
        self._forgotten = False  # by a broker, perhaps
        self._leases = Leases(MACHINE, store, signer, self)

    def on_news(self, gateway: str, news: News) -> None:
        """Take note that a commit brought answers."""
        for report in news.reports:
            if report.outcome == DRIFTED:
                log.info("trainings: %s: what %s sees has drifted: %s", report.model, gateway, report.reason)
                self.federation.note_drift(report.model, gateway, report.stored)
                self._leases.look()
        if news.parts:
            self._leases.look()

    def look(self) -> None:
        """Look again who is there."""
        self._leases.look()

    def lacking(self, name: str) -> str:
        """Say why no run of a training can begin now, "" if one can; KeyError if there is no such training.

        StoreUnavailable, as of `views`, while trainings are being read.
        """
        self._check()
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
        self._leases.look()

    async def run(self, bus: Bus) -> None:
        """Train until cancelled."""
        self._reads = True
        await self._leases.run(bus)

    def on_state(self, connected: bool, _why: str) -> None:
        """Ask again when the bus is back: a broker may have forgotten."""
        if connected:
            self._forgotten = True
            self._leases.look()

    async def begin(self, state: bytes) -> None:
        """Go on from what was kept, and ask again."""
        reports = await self._store.reports(None, RECENT)
        try:
            self.federation = Federation(self._settings, state, self._rng)
        except TaskRefused as error:
            log.error("trainings: what was kept cannot be read, all begin anew: %s", error)  # noqa: TRY400
        for one in self._settings:
            if why := private.warning(one):
                log.warning("trainings: %s: %s", one.name, why)
        for report in reports:
            if report.outcome == DRIFTED:
                self.federation.note_drift(report.model, report.gateway, report.stored)
        self._reads = False
        self._carry_out(self.federation.again())

    async def decide(self, parts: list[Part]) -> Kept | None:
        """Handle answers, wishes and what is due."""
        self._ask_again()
        now, members = self._clock(), self._members()
        decided: list[Instruction] = []
        for _number, gateway, body in parts:
            decided += self.federation.part(gateway, body, members, now)
        wishes = list(self._asked_for)
        for wish in wishes:
            decided += wish(members, now)
        decided += self.federation.tick(members, now)
        decided += self.federation.join(members)
        if not decided and not parts and not wishes:
            return None
        for one in decided:
            if isinstance(one, Promote):
                await self._promote(one.training, one.content, one.windows, members)
        self._decided, self._granted = decided, len(wishes)
        return Kept(self.federation.snapshot())

    def _ask_again(self) -> None:
        """Say once more what was asked, if a broker may have forgotten: all that was decided so far is kept."""
        if self._forgotten:
            self._forgotten = False
            self._carry_out(self.federation.again())

    def carry_out(self) -> None:
        """Do what was decided."""
        del self._asked_for[: self._granted]
        decided, self._decided, self._granted = self._decided, [], 0
        self._carry_out(decided)

    def _carry_out(self, decided: list[Instruction]) -> None:
        for one in decided:
            match one:
                case Ask(task):
                    self._leases.ask(task)
                case TakeBack(gateway, job):
                    self._leases.take_back(gateway, job)
                case Ended():
                    log.info("trainings: %s run %d: %s %d ended", one.training, one.run, one.stage, one.round)
                    self._tell(_stage(one))
                case Rest():
                    how = f"{one.ended}, {one.verdict.word}" if one.ended else one.verdict.word
                    log.info("trainings: %s run %d: %s", one.training, one.run, how)
                case Promote():
                    pass  # it was published before this was kept

    def views(self) -> list[TrainingView]:
        """Give all trainings by name; StoreUnavailable while they are being read."""
        self._check()
        return [self._view(name, training) for name, training in sorted(self.federation.trainings.items())]

    def _check(self) -> None:
        if self._reads:
            raise StoreUnavailable("trainings are being read")

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
            last.ended if last else "",
            _privacy(self.federation.spent(name)),
        )

    def until_due(self) -> float:
        """Seconds until something is due, or it is time to look who is there."""
        due, look = self.federation.due(), LOOK_S if self.federation.resting else LOOK_RUNNING_S
        return look if due == NEVER else min(look, max(0.0, (due - self._clock()) / 1e9))


def _privacy(spent: Spent | None) -> PrivacyView | None:
    return None if spent is None else PrivacyView(*spent)


def _stage(ended: Ended) -> StageView:
    who = (list(ended.answered), list(ended.late), ended.refused)
    about = (ended.training, ended.run, ended.round, ended.stage)
    return StageView(*about, *who, ended.score, ended.bytes_up, round(ended.seconds, 3), ended.at)
