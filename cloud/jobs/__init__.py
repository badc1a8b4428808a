"""Jobs over the fleet: what is asked of whom, and when it has ended. Pure.

`jobs` has all of them, `sites` says who comes next, `spec` reads what somebody asks for.
"""

from __future__ import annotations

from cloud.jobs.jobs import MAX_PARTS, MAX_RUNNING, Jobs, summary
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
    Merge,
    Part,
    Place,
    Question,
    TakeBack,
    Terms,
)

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
    "Merge",
    "Part",
    "Place",
    "Question",
    "Spec",
    "TakeBack",
    "Terms",
    "chosen",
    "question",
    "read_spec",
    "summary",
    "terms",
]
