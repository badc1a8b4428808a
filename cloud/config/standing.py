"""`[[job]]`: a job that is run again and again; what may be said of it, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal

import msgspec

from protocol.settings import NAME, Contradiction, Duration, Section, written

MAX_STANDING = 32
"""Half of the jobs that may run at once: others find room."""
MAX_NAME = 48
"""With a run's time it is still a name."""
LEAST_EVERY = 10 * 10**9
LONGEST = 366 * 86400 * 10**9
DEADLINE = 600 * 10**9


class Standing(Section, frozen=True):
    """A standing job. When its runs are due is said in `cloud/jobs/timetable.py`."""

    name: str  # of the job, and of the series it makes: `cloud`'s `{name}/...`
    work: str
    series: tuple[str, ...] = ("*",)
    gateways: tuple[str, ...] = ("*",)
    params: dict[str, Any] = msgspec.field(default_factory=dict)  # the work's own
    every: Duration = Duration(3600 * 10**9)
    over: Duration = Duration(0)  # event time, up to the interval's end; "0s": `every`
    wait: Duration = Duration(10 * 10**9)  # after the interval's end, for what comes late
    deadline: Duration = Duration(0)  # "0s": 10 minutes, or `every` if that is shorter
    catch_up: int = 1  # intervals that are run when they ended while the cloud was away: the newest
    keep: tuple[str, ...] = ("*",)  # patterns of the numbers that become series, such as "*.mean"
    priority: int = 1
    windows: Literal["never", "when away"] = "never"

    @property
    def span(self) -> int:
        """Give the event time (ns) that a run is about."""
        return self.over or self.every

    @property
    def lasts(self) -> int:
        """Give how long (ns) a run is waited for."""
        return self.deadline or min(self.every, DEADLINE)


def standing_contradictions(
    jobs: tuple[Standing, ...], labels: Container[str], *, bus: bool
) -> Iterator[Contradiction]:
    """Say what is wrong with standing jobs; `bus`: whether there is one."""
    if jobs and not bus:
        yield "bus.url", None, "the broker over which [[job]] reaches its gateways"
    if len(jobs) > MAX_STANDING:
        yield "job", len(jobs), f"at most {MAX_STANDING}"
    names: set[str] = set()
    for number, job in enumerate(jobs):
        yield from _contradictions(f"job[{number}]", job, names, labels)
        names.add(job.name)


def _contradictions(key: str, job: Standing, others: Iterable[str], labels: Container[str]) -> Iterator[Contradiction]:
    if not NAME.fullmatch(job.name) or len(job.name) > MAX_NAME or job.name in others:
        yield f"{key}.name", job.name, f"1 to {MAX_NAME} of letters, digits, '.', '_', '-', and no other job's name"
    for name in ("series", "gateways", "keep"):
        if not 1 <= len(getattr(job, name)) <= 100:
            yield f"{key}.{name}", len(getattr(job, name)), "1 to 100 patterns"
    for one in job.gateways:
        if one.startswith("@") and one[1:] not in labels:
            yield f"{key}.gateways", one, "a label that [labels] has"
    bounds = (
        ("every", job.every, LEAST_EVERY, LONGEST, "10s to 366d"),
        ("over", job.span, 1, LONGEST, "at most 366d"),
        ("wait", job.wait, 0, job.every, "at most `every`"),
        ("deadline", job.lasts, 10**9, min(job.every, 7 * 86400 * 10**9), "1s to `every`, and at most 7d"),
        ("catch_up", job.catch_up, 1, 100, "1 to 100"),
        ("priority", job.priority, 1, 100, "1 to 100"),
    )
    for name, value, least, most, expectation in bounds:
        if not least <= value <= most:
            shown = int(value) if name in ("catch_up", "priority") else written(value)
            yield f"{key}.{name}", shown, expectation
