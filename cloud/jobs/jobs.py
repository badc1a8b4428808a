"""All jobs: who is asked when, which answer counts, and when a job has ended. Pure.

    submit ──▶ running ──all parts done or lost, or the deadline──▶ merging ──merged──▶ done
                  └──▶ cancelled, or failed                             └──▶ failed

Rules:

1. A part is one gateway's; (job, gateway, attempt) names an attempt, and none is given twice. The first answer counts,
   whichever attempt it is of and however late: every later one changes nothing.
2. A lease ends with an answer, or at its time. Where another place can compute the part it is tried there next, else
   again at the same, after RETRY_NS, doubling, or BUSY_NS. What was refused for good is lost at that place, what has
   failed MAX_FAILURES times is lost. A gateway that is away is not asked, and its leases do not end: it answers when
   it is back.
3. Of a part that takes SLOW times what was thought, a copy is tried at another place that is free; the others are
   taken back when one has answered.
4. Every job has a deadline. Then, if `partial`, what there is is merged, and its parts say what is missing: it never
   waits for ever.
5. `sites` decides who comes next. Everything that lasts is in `snapshot`, job by job: `changed` names those that are to
   be kept. After a restart it goes on from there, and asks again what it had asked.

| may fill | bound | answer when full |
|---|---|---|
| jobs that run | MAX_RUNNING | JobRefused("busy") |
| jobs that have ended | MAX_ENDED, MAX_RESULTS bytes of results, the newest in any case | the oldest is forgotten |
| runs of a standing job that have ended | MAX_RUNS | likewise |
| parts of a job | MAX_PARTS | JobRefused("parts") |
| answers kept of a job | MAX_KEPT bytes | the part is lost: `full` |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

import msgspec

from cloud.jobs.sites import Bounds, Ready, Sites
from cloud.jobs.state import (
    CANCELLED,
    DONE,
    FAILED,
    MERGING,
    NEVER,
    RUNNING,
    Ask,
    Ended,
    Instruction,
    Job,
    Keep,
    Lease,
    Makes,
    Merge,
    Part,
    Place,
    Question,
    TakeBack,
    Terms,
)
from protocol.errors import JobRefused
from protocol.messages import PartBody

MAX_RUNNING = 64
MAX_ENDED = 200
MAX_RUNS = 5
MAX_RESULTS = 64 << 20
MAX_PARTS = 10_000
MAX_KEPT = 256 << 20
MAX_FAILURES = 3
SLOW = 3.0
S = 10**9
RETRY_NS = 5 * S
LEAST_LEASE = 60 * S
LEASE = 10.0
"""A lease lasts so many times what the part is thought to take: others run on the gateway too."""
BUSY = frozenset({"busy", "late"})
"""Reasons of a refusal that say nothing of the part: it is tried again, as long as there is time."""
BUSY_NS = 30 * S


class Jobs:
    """See the rules above."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - it is frozen
        self.jobs: dict[str, Job] = {}  # oldest first
        self.changed: set[str] = set()  # to be kept, or forgotten where there is none; whoever does so clears it
        self._sites = Sites(bounds)
        self._times: list[tuple[int, str, str, int]] = []  # a heap: when, job, gateway ("": the job), attempt
        self._open: dict[str, int] = {}  # parts that are not settled, of a job that runs
        self._order: dict[str, dict[str, int]] = {}

    @classmethod
    def restore(cls, snapshots: Iterable[bytes], bounds: Bounds = Bounds()) -> Jobs:  # noqa: B008 - it is frozen
        """Go on from what was kept; msgspec.MsgspecError if something is none of it."""
        jobs = cls(bounds)
        found = [msgspec.msgpack.decode(one, type=Job) for one in snapshots]
        for job in sorted(found, key=lambda job: (job.began, job.id)):
            jobs.jobs[job.id] = job
            if job.state == RUNNING:
                jobs._take_in(job, job.spent)
        return jobs

    def snapshot(self, job: str) -> bytes:
        """Give all that lasts of a job."""
        found = self.jobs[job]
        if found.state == RUNNING:
            found.spent = self._sites.spent(job)
        return msgspec.msgpack.encode(found)

    @property
    def running(self) -> int:
        """How many jobs have not ended."""
        return sum(job.state in (RUNNING, MERGING) for job in self.jobs.values())

    @property
    def leases(self) -> int:
        """How many attempts are under way at places that are there."""
        return self._sites.leases

    def submit(
        self,
        name: str,
        question: Question,
        places: Iterable[Place],
        terms: Terms,
        now: int,
        *,
        predicted: float = 0.0,
        asked: bytes = b"",
        makes: Makes | None = None,
    ) -> list[Instruction]:
        """Take a job; JobRefused says why not."""
        if self.running >= MAX_RUNNING:
            raise JobRefused("busy", f"{MAX_RUNNING} jobs run already")
        parts = {place.gateway: Part(place) for place in places}
        if name in self.jobs or not 1 <= len(parts) <= MAX_PARTS or terms.deadline <= now:
            raise JobRefused("parts", f"{len(parts)} gateways are meant, 1 to {MAX_PARTS} can be")
        job = Job(name, question, terms, now, parts, predicted=predicted, asked=asked, makes=makes)
        self.jobs[name] = job
        self.changed.add(name)
        self._take_in(job, None)
        return self._fill(now)

    def present(self, gateways: Iterable[str], now: int) -> list[Instruction]:
        """Say which gateways are there. Whoever is back has its time again."""
        came, went = self._sites.present(gateways)
        if not came and not went:
            return []
        back = set(came)
        for name in self._open:
            job = self.jobs[name]
            for gateway in back & job.parts.keys():
                self._renew(job, gateway, job.parts[gateway], now)
        return self._fill(now)

    def again(self) -> list[Instruction]:
        """Ask again what was asked, and merge again what was to be merged: after a restart."""
        asked: list[Instruction] = []
        for job in self.jobs.values():
            if job.state == MERGING:
                asked.append(_merge(job))
            for gateway, part in job.parts.items() if job.state == RUNNING else ():
                asked += [Ask(job.id, gateway, lease.site, lease.attempt) for lease in part.leases]
        return asked

    def part(self, gateway: str, body: PartBody, now: int) -> list[Instruction]:
        """Take an answer, from a gateway or, in its name, from here."""
        job = self.jobs.get(body.job)
        part = job.parts.get(gateway) if job else None
        if job is None or part is None or job.state != RUNNING or part.outcome:
            return [TakeBack(body.job, gateway, gateway)] if job is not None else []
        lease = next((one for one in part.leases if one.attempt == body.attempt), None)
        if body.outcome == "done":
            return [*self._count(job, part, lease, body, now), *self._settle(job, now), *self._fill(now)]
        if lease is None or not 1 <= body.attempt <= part.attempt:
            return []  # of an attempt that is over
        self._over(job, part, lease, now)
        lost = body.outcome == "refused" and body.reason not in BUSY
        given: list[Instruction] = [TakeBack(job.id, gateway, lease.site)]
        self._failed(job, part, lease.site, body.reason, now, lost=lost)
        return [*given, *self._settle(job, now), *self._fill(now)]

    def merged(self, job: str, result: bytes, reason: str, now: int, refused: Iterable[str] = ()) -> list[Instruction]:
        """Say what merging came to: a result, or why there is none; and whose answers are nobody's."""
        found = self.jobs.get(job)
        if found is None or found.state != MERGING:
            return []
        found.result = result
        for gateway in refused:
            found.parts[gateway].outcome, found.parts[gateway].reason = "lost", "part"
            found.reason = "lost"
        return self._end(found, FAILED if reason else DONE, reason, now)

    def cancel(self, job: str, now: int) -> list[Instruction]:
        """End a job at once; KeyError if there is none."""
        found = self.jobs[job]
        if found.state not in (RUNNING, MERGING):
            return []
        return [*self._call_off(found, now), *self._end(found, CANCELLED, "", now), *self._fill(now)]

    def due(self) -> int:
        """When (ns) something must be done."""
        while self._times and not self._is_due(*self._times[0]):
            heappop(self._times)
        return self._times[0][0] if self._times else NEVER

    def tick(self, now: int) -> list[Instruction]:
        """Let time pass."""
        given: list[Instruction] = []
        while self.due() <= now and self._times:
            _when, name, gateway, attempt = heappop(self._times)
            job = self.jobs[name]
            if not gateway:
                given += self._close(job, now, "deadline")
            elif attempt:
                given += self._look(job, job.parts[gateway], attempt, now)
            else:
                self._offer(job, job.parts[gateway])
        return [*given, *self._fill(now)]

    # One job.

    def _take_in(self, job: Job, spent: float | None) -> None:
        self._sites.open(job.id, job.terms.priority, spent)
        self._open[job.id] = sum(not part.outcome for part in job.parts.values())
        self._order[job.id] = {gateway: order for order, gateway in enumerate(job.parts)}
        heappush(self._times, (job.terms.deadline, job.id, "", 0))
        for gateway, part in job.parts.items():
            for lease in part.leases:
                self._sites.begin(job.id, lease.site, part.place.seconds)
                self._watch(job, part, lease)
            if part.after:
                heappush(self._times, (part.after, job.id, gateway, 0))
            elif not part.outcome and not part.leases:
                self._offer(job, part)

    def _offer(self, job: Job, part: Part) -> None:
        part.after = 0
        gateway = part.place.gateway
        self._sites.offer(job.id, Ready(self._order[job.id][gateway], gateway, part.place.sites))

    def _fill(self, now: int) -> list[Instruction]:
        """Ask whoever is free."""
        given: list[Instruction] = []
        for name, gateway, site in self._sites.choose():
            job = self.jobs[name]
            part = job.parts[gateway]
            if not part.outcome and not part.leases and not part.after:
                given.append(self._ask(job, part, site, now))
        return given

    def _ask(self, job: Job, part: Part, site: str, now: int) -> Ask:
        part.attempt += 1
        lasts = max(LEAST_LEASE, int(part.place.seconds * LEASE * S)) << min(part.failures, 4)
        lease = Lease(site, part.attempt, now, min(now + lasts, job.terms.deadline))
        part.leases = [*part.leases, lease]
        self._sites.begin(job.id, site, part.place.seconds)
        self._watch(job, part, lease)
        self.changed.add(job.id)
        return Ask(job.id, part.place.gateway, site, part.attempt)

    def _watch(self, job: Job, part: Part, lease: Lease) -> None:
        when = lease.until
        if len(part.place.sites) > 1 and len(part.leases) == 1:
            when = min(when, lease.began + int(SLOW * part.place.seconds * S))
        heappush(self._times, (when, job.id, part.place.gateway, lease.attempt))

    def _is_due(self, _when: int, name: str, gateway: str, attempt: int) -> bool:
        job = self.jobs.get(name)
        if job is None or job.state != RUNNING or not gateway:
            return job is not None and job.state == RUNNING
        part = job.parts[gateway]
        return any(lease.attempt == attempt for lease in part.leases) if attempt else bool(part.after)

    def _look(self, job: Job, part: Part, attempt: int, now: int) -> list[Instruction]:
        """Look at a lease whose time has come: too slow, or over."""
        lease = next(one for one in part.leases if one.attempt == attempt)
        if not self._sites.is_there(lease.site):
            return []  # it has its time again when it is back
        if lease.until > now:
            other = next((one for one in part.place.sites if one != lease.site and self._sites.is_free(one)), None)
            heappush(self._times, (lease.until, job.id, part.place.gateway, attempt))
            return [self._ask(job, part, other, now)] if other is not None and len(part.leases) == 1 else []
        self._over(job, part, lease, now)
        self._failed(job, part, lease.site, "silent", now)
        return [TakeBack(job.id, part.place.gateway, lease.site), *self._settle(job, now)]

    def _renew(self, job: Job, site: str, part: Part, now: int) -> None:
        lasting = [lease for lease in part.leases if lease.site == site]
        for lease in lasting:
            until = min(job.terms.deadline, now + max(LEAST_LEASE, lease.until - lease.began))
            renewed = msgspec.structs.replace(lease, began=now, until=until)
            part.leases = [renewed if one is lease else one for one in part.leases]
            heappush(self._times, (until, job.id, part.place.gateway, lease.attempt))
            self.changed.add(job.id)

    def _over(self, job: Job, part: Part, lease: Lease, now: int) -> None:
        part.leases = [one for one in part.leases if one is not lease]
        self._sites.end(job.id, lease.site, part.place.seconds, (now - lease.began) / S)
        self.changed.add(job.id)

    def _count(self, job: Job, part: Part, lease: Lease | None, body: PartBody, now: int) -> list[Instruction]:
        leases = part.leases
        back: list[Instruction] = [TakeBack(job.id, part.place.gateway, one.site) for one in leases]
        for one in leases:
            self._over(job, part, one, now)
        if not back:
            back = [TakeBack(job.id, part.place.gateway, part.place.gateway)]
        part.ended, part.after = now, 0
        self.changed.add(job.id)
        self._open[job.id] -= 1
        if job.size + len(body.content) > MAX_KEPT:
            part.outcome, part.reason = "lost", "full"
            return back
        job.size += len(body.content)
        part.outcome, part.reason, part.counted = "done", "", body.attempt
        part.site, part.began = (lease.site, lease.began) if lease else (part.place.gateway, 0)
        part.readings, part.size, part.seconds = body.readings, len(body.content), body.seconds
        part.asked, part.held = body.asked, body.held
        return [*back, Keep(job.id, part.place.gateway, body.content)]

    def _failed(self, job: Job, part: Part, site: str, reason: str, now: int, *, lost: bool = False) -> None:
        part.reason = reason
        others = tuple(one for one in part.place.sites if one != site)
        part.place = msgspec.structs.replace(part.place, sites=others if lost else (*others, site))
        part.failures += not lost and reason not in BUSY
        self.changed.add(job.id)
        if part.leases:
            return  # a copy of it goes on
        if not part.place.sites or part.failures >= MAX_FAILURES:
            part.outcome, part.ended = "lost", now
            self._open[job.id] -= 1
        elif others:
            self._offer(job, part)
        else:
            part.after = now + (BUSY_NS if reason in BUSY else RETRY_NS << (part.failures - 1))
            heappush(self._times, (part.after, job.id, part.place.gateway, 0))

    def _settle(self, job: Job, now: int) -> list[Instruction]:
        return self._close(job, now, "lost") if job.state == RUNNING and not self._open[job.id] else []

    def _close(self, job: Job, now: int, why: str) -> list[Instruction]:
        """Ask nobody any more; merge what there is, if that will do."""
        back = self._call_off(job, now)
        done = sum(part.outcome == "done" for part in job.parts.values())
        if not done or (done < len(job.parts) and not job.terms.partial):
            return [*back, *self._end(job, FAILED, why, now)]
        job.state, job.reason = MERGING, "" if done == len(job.parts) else why
        self._leave(job)
        return [*back, _merge(job)]

    def _call_off(self, job: Job, now: int) -> list[Instruction]:
        back: list[Instruction] = []
        for gateway, part in job.parts.items():
            back += [TakeBack(job.id, gateway, lease.site) for lease in part.leases]
            for lease in part.leases:
                self._over(job, part, lease, now)
            part.after = 0
        return back

    def _end(self, job: Job, state: str, reason: str, now: int) -> list[Instruction]:
        job.state, job.ended, job.reason = state, now, reason or job.reason
        self._leave(job)
        kept = tuple(gateway for gateway, part in job.parts.items() if part.counted)
        self._forget()
        return [Ended(job.id, state, kept)]

    def _leave(self, job: Job) -> None:
        self.changed.add(job.id)
        if job.id in self._open:
            job.spent = self._sites.spent(job.id)
            self._sites.close(job.id)
            del self._open[job.id], self._order[job.id]

    def _forget(self) -> None:
        ended = [name for name, job in self.jobs.items() if job.state not in (RUNNING, MERGING)]
        for name in _outrun(self.jobs[name] for name in ended):
            ended.remove(name)
            del self.jobs[name]
            self.changed.add(name)
        size = sum(len(self.jobs[name].result) for name in ended)
        for number, name in enumerate(ended[:-1]):
            if len(ended) - number <= MAX_ENDED and size <= MAX_RESULTS:
                break
            size -= len(self.jobs.pop(name).result)
            self.changed.add(name)


def _merge(job: Job) -> Merge:
    done = sorted(gateway for gateway, part in job.parts.items() if part.outcome == "done")
    return Merge(job.id, tuple(done))


def _outrun(ended: Iterable[Job]) -> list[str]:
    """Name runs of standing jobs, oldest first, that are more than MAX_RUNS of one job."""
    runs: dict[str, list[str]] = {}
    for job in ended:
        if job.makes is not None:
            runs.setdefault(job.makes.name, []).append(job.id)
    return [name for names in runs.values() for name in names[:-MAX_RUNS]]


def summary(parts: Mapping[str, Part]) -> dict[str, int]:
    """Count parts by what became of them: done, lost, asked, open."""
    counts = dict.fromkeys(("done", "lost", "asked", "open"), 0)
    for part in parts.values():
        counts[part.outcome or ("asked" if part.leases else "open")] += 1
    return counts
