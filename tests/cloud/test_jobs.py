"""Jobs on a clock that is set: who is asked when, what counts, and that every job ends. Timetables, and chance."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.jobs import (
    CLOUD,
    NEVER,
    Ask,
    Bounds,
    Ended,
    Instruction,
    Jobs,
    Keep,
    Merge,
    Place,
    Question,
    TakeBack,
    Terms,
    summary,
)
from cloud.jobs.jobs import BUSY_NS, LEAST_LEASE, MAX_ENDED, MAX_KEPT, MAX_RESULTS, MAX_RUNNING, RETRY_NS, S
from cloud.jobs.view import view
from protocol.errors import JobRefused
from protocol.messages import Cover, PartBody

WHAT = Question("moments", 1, ("*",), 0, 0, b"\x80")
BARN, MILL, PIER = "barn", "mill", "pier"
HOUR = 3600 * S


def places(*gateways: str, seconds: float = 1.0) -> list[Place]:
    return [Place(name, (name,), seconds) for name in gateways]


class World:
    """Gateways that do what the test says, and a cloud that may be restarted between any two events."""

    def __init__(self, *gateways: str, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - it is frozen
        self.bounds, self.jobs, self.now = bounds, Jobs(bounds), 0
        self.there = list(gateways)
        self.asked: dict[tuple[str, str, str], int] = {}  # attempt, by job, gateway and site
        self.kept: dict[tuple[str, str], bytes] = {}
        self.done: list[Ended] = []
        self.come(*gateways)

    def do(self, given: Iterable[Instruction]) -> list[Instruction]:
        told = list(given)
        for one in told:
            match one:
                case Ask(job, gateway, site, attempt):
                    self.asked[job, gateway, site] = attempt
                case TakeBack(job, gateway, site):
                    self.asked.pop((job, gateway, site), None)
                case Keep(job, gateway, content):
                    assert (job, gateway) not in self.kept, "a part counts once"
                    self.kept[job, gateway] = content
                case Merge(job, gateways):
                    assert list(gateways) == sorted(name for one, name in self.kept if one == job)
                case Ended():
                    self.done.append(one)
        return told

    def submit(
        self, job: str, *of: Place, priority: int = 1, deadline: int = HOUR, partial: bool = True
    ) -> list[Instruction]:
        terms = Terms(priority, self.now + deadline, partial)
        return self.do(self.jobs.submit(job, WHAT, of, terms, self.now))

    def come(self, *gateways: str) -> list[Instruction]:
        self.there = list(gateways)
        return self.do(self.jobs.present(gateways, self.now))

    def say(
        self,
        job: str,
        gateway: str,
        outcome: str = "done",
        reason: str = "",
        *,
        attempt: int = 1,
        content: bytes = b"+",
    ) -> list[Instruction]:
        body = PartBody(Cover(), job, attempt, "moments", 1, outcome, reason, content, readings=10)
        return self.do(self.jobs.part(gateway, body, self.now))

    def at(self, now: int) -> list[Instruction]:
        self.now = now
        return self.do(self.jobs.tick(now))

    def merged(self, job: str, result: bytes = b"{}", reason: str = "") -> list[Instruction]:
        return self.do(self.jobs.merged(job, result, reason, self.now))

    def restart(self) -> None:
        self.jobs = Jobs.restore([self.jobs.snapshot(name) for name in self.jobs.jobs], self.bounds)
        self.do(self.jobs.again())
        self.come(*self.there)

    def state(self, job: str) -> tuple[str, str]:
        found = self.jobs.jobs[job]
        return found.state, found.reason


def test_all_are_asked_and_what_they_answer_is_merged() -> None:
    world = World(BARN, MILL)
    assert world.submit("j", *places(BARN, MILL)) == [Ask("j", BARN, BARN, 1), Ask("j", MILL, MILL, 1)]
    assert world.say("j", MILL, content=b"2") == [TakeBack("j", MILL, MILL), Keep("j", MILL, b"2")]
    assert world.say("j", BARN, content=b"1") == [
        *[TakeBack("j", BARN, BARN), Keep("j", BARN, b"1"), Merge("j", (BARN, MILL))]
    ]
    assert world.merged("j", b'{"n": 2}') == [Ended("j", "done", (BARN, MILL))]
    assert (world.state("j"), world.jobs.jobs["j"].result, world.jobs.due()) == (("done", ""), b'{"n": 2}', NEVER)


def test_an_answer_counts_once_whichever_attempt_it_is_of() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL))
    world.at(LEAST_LEASE)
    world.at(LEAST_LEASE + RETRY_NS)
    assert world.asked["j", BARN, BARN] == 2
    assert Keep("j", BARN, b"old") in world.say("j", BARN, attempt=1, content=b"old")
    assert world.say("j", BARN, attempt=2) == [TakeBack("j", BARN, BARN)]
    assert world.jobs.jobs["j"].parts[BARN].counted == 1


def test_what_fails_is_tried_again_later_and_thrice_at_most() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL))
    world.say("j", MILL)
    times = []
    for attempt in (1, 2, 3):
        world.say("j", BARN, "failed", "memory", attempt=attempt)
        times.append(world.jobs.due())
        world.at(world.jobs.due())
    assert times[:2] == [RETRY_NS, RETRY_NS + 2 * RETRY_NS]
    assert world.state("j") == ("merging", "lost")
    assert (world.jobs.jobs["j"].parts[BARN].outcome, world.jobs.jobs["j"].parts[BARN].reason) == ("lost", "memory")


@pytest.mark.parametrize("reason", ["forbidden", "unknown", "params"])
def test_what_is_refused_for_good_is_not_tried_again(reason: str) -> None:
    world = World(BARN)
    world.submit("j", *places(BARN))
    assert world.say("j", BARN, "refused", reason) == [TakeBack("j", BARN, BARN), Ended("j", "failed", ())]
    assert (world.state("j"), world.jobs.jobs["j"].parts[BARN].reason) == (("failed", "lost"), reason)


def test_a_busy_gateway_is_asked_again_for_as_long_as_there_is_time() -> None:
    world = World(BARN)
    world.submit("j", *places(BARN))
    for attempt in range(1, 8):
        world.say("j", BARN, "refused", "busy", attempt=attempt)
        assert world.at(world.now + BUSY_NS) == [Ask("j", BARN, BARN, attempt + 1)]


def test_at_the_deadline_what_there_is_is_merged() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL, PIER), deadline=90 * S)
    world.say("j", BARN)
    world.at(80 * S)
    assert world.at(90 * S)[-1] == Merge("j", (BARN,))
    assert (world.state("j"), summary(world.jobs.jobs["j"].parts)) == (
        *[("merging", "deadline"), {"done": 1, "lost": 0, "asked": 0, "open": 2}],
    )
    assert world.asked == {}


@pytest.mark.parametrize(
    ("answers", "partial"), [((), True), ((BARN,), False)], ids=["nobody answered", "all or nothing"]
)
def test_at_the_deadline_a_job_with_too_little_has_failed(answers: tuple[str, ...], partial: bool) -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL), deadline=S, partial=partial)
    for gateway in answers:
        world.say("j", gateway)
    world.at(S)
    assert world.state("j") == ("failed", "deadline")


def test_a_gateway_that_is_away_is_asked_when_it_is_back_and_its_lease_does_not_end() -> None:
    world = World(BARN)
    assert world.submit("j", *places(BARN, MILL)) == [Ask("j", BARN, BARN, 1)]
    assert world.come(BARN, MILL) == [Ask("j", MILL, MILL, 1)]
    world.come(BARN)
    world.say("j", BARN)
    assert world.at(10 * LEAST_LEASE) == []
    assert world.come(BARN, MILL) == []
    assert world.say("j", MILL)[-1] == Merge("j", (BARN, MILL))


def test_whoever_is_back_has_its_time_again() -> None:
    world = World(BARN)
    world.submit("j", *places(BARN))
    world.come()
    world.at(10 * LEAST_LEASE)
    world.come(BARN)
    assert world.at(11 * LEAST_LEASE - 1) == []
    assert world.at(11 * LEAST_LEASE) == [TakeBack("j", BARN, BARN)]


def test_a_part_that_takes_long_is_tried_elsewhere_too() -> None:
    world = World(BARN)
    world.submit("j", Place(BARN, (BARN, CLOUD), 2.0))
    assert world.at(6 * S) == [Ask("j", BARN, CLOUD, 2)]
    assert world.say("j", BARN, attempt=2) == [
        *[TakeBack("j", BARN, BARN), TakeBack("j", BARN, CLOUD), Keep("j", BARN, b"+"), Merge("j", (BARN,))]
    ]
    assert world.jobs.jobs["j"].parts[BARN].site == CLOUD


def test_a_part_that_waits_for_two_places_is_asked_once() -> None:
    world = World(BARN, MILL, bounds=Bounds(here=1))
    world.submit("a", Place(MILL, (CLOUD,), 100.0))
    world.submit("b", *places(BARN))
    assert world.submit("c", Place(BARN, (BARN, CLOUD), 100.0)) == []
    assert world.say("b", BARN)[-1] == Ask("c", BARN, BARN, 1)
    world.say("a", MILL)
    assert [lease.site for lease in world.jobs.jobs["c"].parts[BARN].leases] == [BARN]


def test_a_restart_does_not_shorten_a_wait() -> None:
    world = World(BARN)
    world.submit("j", *places(BARN))
    world.say("j", BARN, "failed", "memory")
    world.restart()
    assert world.asked == {}
    assert world.at(RETRY_NS) == [Ask("j", BARN, BARN, 2)]


def test_what_fails_is_tried_elsewhere_at_once() -> None:
    world = World(BARN)
    world.submit("j", Place(BARN, (CLOUD, BARN), 2.0))
    assert world.say("j", BARN, "refused", "windows") == [TakeBack("j", BARN, CLOUD), Ask("j", BARN, BARN, 2)]


def test_a_job_shows_how_complete_it_is() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL), deadline=90 * S)
    world.say("j", BARN, content=b"123")
    world.now = 10 * S
    shown = view(world.jobs.jobs["j"], world.now, whole=True)
    counts = (shown.parts, shown.done, shown.lost, shown.waiting, shown.complete)
    assert (counts, shown.readings, shown.bytes, shown.seconds) == ((2, 1, 0, 1, 0.5), 10, 3, 10.0)
    assert [(part.gateway, part.state) for part in shown.each] == [(BARN, "done"), (MILL, "asked")]
    assert view(world.jobs.jobs["j"], world.now).each == []


def test_answers_that_are_nobodys_are_lost_and_the_job_says_so() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL))
    world.say("j", BARN)
    world.say("j", MILL)
    ended = world.do(world.jobs.merged("j", b"{}", "", 0, [MILL]))
    assert ended == [Ended("j", "done", (BARN, MILL))]
    assert (world.state("j"), world.jobs.jobs["j"].parts[MILL].reason) == (("done", "lost"), "part")


def test_a_cancelled_job_is_taken_back() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL))
    world.say("j", MILL)
    assert world.do(world.jobs.cancel("j", 0)) == [TakeBack("j", BARN, BARN), Ended("j", "cancelled", (MILL,))]
    assert world.do(world.jobs.cancel("j", 0)) == []
    assert world.say("j", BARN) == [TakeBack("j", BARN, BARN)]


def test_one_at_a_time_at_a_gateway_and_no_more_than_so_many_in_all() -> None:
    world = World(BARN, MILL, PIER, bounds=Bounds(most=2, each=1))
    assert world.submit("a", *places(BARN, MILL, PIER)) == [Ask("a", BARN, BARN, 1), Ask("a", MILL, MILL, 1)]
    assert world.submit("b", *places(BARN)) == []
    assert world.say("a", BARN)[2:] == [Ask("b", BARN, BARN, 1)]  # it has spent nothing yet
    assert world.say("b", BARN)[-1] == Ask("a", PIER, PIER, 1)


def test_priority_is_a_share() -> None:
    names = [f"g{number:03}" for number in range(90)]
    world = World(*names, bounds=Bounds(most=3))
    world.submit("a", *places(*names))
    world.submit("b", *places(*names), priority=2)
    for _ in range(60):
        job, gateway, _site = next(iter(world.asked))
        world.now += S // 3
        world.say(job, gateway)
    counts = [summary(world.jobs.jobs[name].parts)["done"] for name in "ab"]
    assert sum(counts) == 60
    assert abs(counts[1] - 40) <= 4


def test_too_much_is_refused_and_the_oldest_that_has_ended_is_forgotten() -> None:
    world = World()
    for number in range(MAX_RUNNING):
        world.submit(f"j{number}", *places(BARN))
    with pytest.raises(JobRefused, match="busy"):
        world.submit("more", *places(BARN))
    for number in range(MAX_RUNNING):
        world.do(world.jobs.cancel(f"j{number}", 0))
    for number in range(MAX_ENDED):
        world.submit(f"k{number}", *places(BARN))
        world.do(world.jobs.cancel(f"k{number}", 0))
    assert list(world.jobs.jobs) == [f"k{number}" for number in range(MAX_ENDED)]
    assert "j0" in world.jobs.changed
    with pytest.raises(JobRefused, match="parts"):
        world.submit("none")


def test_results_are_bounded_in_bytes() -> None:
    world = World(BARN)
    for number in range(4):
        world.submit(f"j{number}", *places(BARN))
        world.say(f"j{number}", BARN)
        world.merged(f"j{number}", b" " * (MAX_RESULTS // 2))
    assert list(world.jobs.jobs) == ["j2", "j3"]


def test_answers_beyond_the_bound_are_lost() -> None:
    world = World(BARN, MILL)
    world.submit("j", *places(BARN, MILL))
    world.say("j", BARN)
    world.jobs.jobs["j"].size = MAX_KEPT
    world.say("j", MILL)
    assert (world.jobs.jobs["j"].parts[MILL].reason, world.state("j")) == ("full", ("merging", "lost"))


# At random.

FLEET = (BARN, MILL, PIER)
JOBS = ("a", "b")
EVENT = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(JOBS), st.sampled_from(FLEET), st.integers(0, 2)),
    st.tuples(st.just("fail"), st.sampled_from(JOBS), st.sampled_from(FLEET), st.sampled_from(["memory", "busy"])),
    st.tuples(st.just("come"), st.sets(st.sampled_from(FLEET))),
    st.tuples(st.just("wait"), st.integers(1, 400)),
    st.tuples(st.just("cancel"), st.just("b")),
    st.tuples(st.just("restart")),
)


def happen(world: World, event: tuple[object, ...]) -> None:
    match event:
        case ("say", str(job), str(gateway), int(back)):
            attempt = max(1, world.jobs.jobs[job].parts[gateway].attempt - back)
            world.say(job, gateway, attempt=attempt, content=gateway.encode())
        case ("fail", str(job), str(gateway), str(reason)):
            outcome = "refused" if reason == "busy" else "failed"
            world.say(job, gateway, outcome, reason, attempt=world.jobs.jobs[job].parts[gateway].attempt)
        case ("come", set() as gateways):
            world.come(*sorted(gateways))
        case ("wait", int(seconds)):
            world.at(world.now + seconds * S)
        case ("cancel", str(job)):
            world.do(world.jobs.cancel(job, world.now))
        case ("restart",):
            world.restart()


def begun() -> World:
    world = World(*FLEET, bounds=Bounds(most=2))
    world.submit("a", *(Place(name, (name, CLOUD), 5.0) for name in FLEET), priority=2)
    world.submit("b", *places(*FLEET), deadline=1000 * S)
    return world


@given(st.lists(EVENT, max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_every_job_ends_and_no_part_counts_twice(events: list[tuple[object, ...]]) -> None:
    world = begun()
    for event in events:
        happen(world, event)
        under_way = [one for job in world.jobs.jobs.values() for part in job.parts.values() for one in part.leases]
        there = {*world.there, CLOUD}
        assert world.jobs.leases == sum(one.site in there for one in under_way)
        assert len({(one.site, one.attempt, one.began) for one in under_way if one.site != CLOUD}) <= len(FLEET)
    world.at(world.now + HOUR)
    for job in JOBS:
        world.merged(job)
    assert sorted(one.job for one in world.done) == list(JOBS)
    assert (world.jobs.leases, world.jobs.due(), world.asked) == (0, NEVER, {})
    for job in JOBS:
        found = world.jobs.jobs[job]
        done = sorted(name for name, part in found.parts.items() if part.outcome == "done")
        assert done == sorted(name for one, name in world.kept if one == job)


QUICK = EVENT.filter(lambda event: event[0] not in ("wait", "restart", "cancel"))


@given(st.lists(QUICK, max_size=25), st.lists(st.integers(0, 25), max_size=6))
@settings(max_examples=100, deadline=None)
def test_restarts_between_any_two_events_end_with_the_same_result(
    events: list[tuple[object, ...]], restarts: list[int]
) -> None:
    straight, restarted = begun(), begun()
    for number, event in enumerate(events):
        for world in (straight, restarted):
            happen(world, event)
        if number in restarts:
            restarted.restart()
    for world in (straight, restarted):
        world.come(*FLEET)
        for _ in range(100):
            world.at(min(world.jobs.due(), world.now + S))
            for job, gateway, site in list(world.asked):
                world.say(job, gateway, attempt=world.asked.get((job, gateway, site), 1), content=gateway.encode())
        for job in JOBS:
            world.merged(job)
    assert straight.kept == restarted.kept
    assert [straight.state(job) for job in JOBS] == [restarted.state(job) for job in JOBS]
