"""Jobs over the fleet: what is asked of whom, and when it has ended. Pure.

`jobs` has all of them, `sites` says who comes next, `spec` reads what somebody asks for. `timetable` says which runs
of standing jobs are due, `scalars` which of their numbers become series.
"""

from __future__ import annotations

from cloud.jobs.jobs import MAX_PARTS, MAX_RUNNING, Jobs, summary
from cloud.jobs.scalars import scalars
from cloud.jobs.sites import Bounds
from cloud.jobs.spec import MAX_SPEC, Spec, chosen, question, read_spec, terms
from cloud.jobs.state import (
    CLOUD,
    NEVER,
    Ask,
    Ended,
    Instruction,
    Job,
    Keep,
    Makes,
    Merge,
    Part,
    Place,
    Question,
    TakeBack,
    Terms,
)
from cloud.jobs.timetable import Run, Timetable

__all__ = [
    "CLOUD",
    "MAX_PARTS",
    "MAX_RUNNING",
    "MAX_SPEC",
    "NEVER",
    "Ask",
    "Bounds",
    "Ended",
    "Instruction",
    "Job",
    "Jobs",
    "Keep",
    "Makes",
    "Merge",
    "Part",
    "Place",
    "Question",
    "Run",
    "Spec",
    "TakeBack",
    "Terms",
    "Timetable",
    "chosen",
    "question",
    "read_spec",
    "scalars",
    "summary",
    "terms",
]
