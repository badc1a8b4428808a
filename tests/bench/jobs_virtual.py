"""The scheduler of jobs alone, on a virtual clock: what a decision costs, and how good the schedule is.

Ten jobs, each with a part on every gateway; parts take 0.2 to 60 s (lognormal, the gateways of different speed), and
what a part is thought to take is wrong by a third. A tenth of the gateways may compute at once, each one part.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

import numpy as np

from cloud.jobs import Ask, Bounds, Instruction, Jobs, Merge, Place, Question, Terms
from protocol.messages import Cover, PartBody

S = 10**9
JOBS = 10
SIZES = (100, 1_000, 10_000)
WEIGHTS = (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
WHAT = Question("moments", 1, ("*",), 0, 0, b"\x80")


class Virtual:
    """Gateways that take as long as they take, and answer."""

    def __init__(self, gateways: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.names = [f"g{number:05}" for number in range(gateways)]
        speed = rng.lognormal(0, 0.3, gateways)
        self.seconds = np.clip(rng.lognormal(1.0, 0.8, (JOBS, gateways)) * speed, 0.2, 60)
        self.thought = self.seconds * rng.lognormal(0, 0.33, self.seconds.shape)
        self.most = max(gateways // 10, 1)
        self.jobs = Jobs(Bounds(most=self.most))
        self.now = 0
        self.ends: list[tuple[int, str, str, int]] = []
        self.asked = 0
        self.served = np.zeros(JOBS)
        self.shares: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None  # when the first job has ended
        self.cost = 0.0

    def do(self, given: Iterable[Instruction]) -> None:
        for one in given:
            match one:
                case Ask(job, gateway, _site, attempt):
                    self.asked += 1
                    takes = int(self.seconds[int(job), int(gateway[1:])] * S)
                    heappush(self.ends, (self.now + takes, job, gateway, attempt))
                case Merge(job):
                    if self.shares is None:
                        self.shares = self._served()
                    self.do(self.jobs.merged(job, b"{}", "", self.now))

    def _served(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Seconds that each job has had, those under way included."""
        served = self.served.copy()
        for ends, job, gateway, _attempt in self.ends:
            begun = ends - int(self.seconds[int(job), int(gateway[1:])] * S)
            served[int(job)] += (self.now - begun) / S
        return served

    def run(self) -> None:
        """Submit all, and let every gateway answer."""
        began = time.process_time()
        for number in range(JOBS):
            thought = self.thought[number]
            places = [Place(self.names[at], (self.names[at],), float(thought[at])) for at in np.argsort(-thought)]
            self.do(self.jobs.submit(str(number), WHAT, places, Terms(WEIGHTS[number], 10**6 * S), 0))
        self.do(self.jobs.present(self.names, 0))  # now all of them begin at once: nobody has a head start
        while self.ends:
            self.now, job, gateway, attempt = heappop(self.ends)
            self.served[int(job)] += self.seconds[int(job), int(gateway[1:])]
            self.do(self.jobs.tick(self.now))
            body = PartBody(Cover(), job, attempt, "moments", 1, "done", content=b"+")
            self.do(self.jobs.part(gateway, body, self.now))
        self.cost = time.process_time() - began

    @property
    def bound(self) -> float:
        """No schedule ends sooner: work over capacity, or the gateway with most of it."""
        return float(max(self.seconds.sum() / self.most, self.seconds.sum(axis=0).max()))


def measure() -> Iterator[dict[str, object]]:
    """Measure each size of a fleet."""
    for size in SIZES:
        fleet = Virtual(size)
        fleet.run()
        parts = size * JOBS
        assert fleet.shares is not None
        share = fleet.shares / np.array(WEIGHTS)
        ended = sum(job.state == "done" for job in fleet.jobs.jobs.values())
        yield {
            "gateways": size,
            "parts": parts,
            "jobs_done": ended,
            "asked": fleet.asked,
            "decisions_per_s": round(2 * parts / fleet.cost),
            "us_per_decision": round(1e6 * fleet.cost / (2 * parts), 1),
            "makespan_over_bound": round(fleet.now / S / fleet.bound, 4),
            "worst_share_off": round(float(np.abs(share / share.mean() - 1).max()), 4),
        }
