"""What a training keeps from one event to the next, and what it asks to be carried out."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloud.federation.gate import Score, Verdict
from learning.privacy import Ledger
from protocol.tasks import Task

NEVER = (1 << 63) - 1
MAX_ASKED = 10_000
REST, SURVEY, ROUND, TRIAL = "rest", "survey", "round", "trial"


class Ask(NamedTuple):
    """Instruction: give this task to its gateway."""

    task: Task


class TakeBack(NamedTuple):
    """Instruction: nobody waits for this answer any more."""

    gateway: str
    job: str


class Ended(NamedTuple):
    """Instruction: tell who watches what became of a stage."""

    training: str
    run: int
    round: int
    stage: str
    answered: tuple[str, ...]
    late: tuple[str, ...]
    refused: dict[str, str]  # by gateway
    score: float | None  # of the stage's base, weighted
    bytes_up: int
    seconds: float
    at: int  # ns


class Promote(NamedTuple):
    """Instruction: publish this classifier under the training's name."""

    training: str
    content: bytes
    verdict: Verdict
    windows: int  # that gateways learnt from, by the survey


class Rest(NamedTuple):
    """Instruction: tell who watches that a run has ended, and how."""

    training: str
    run: int
    verdict: Verdict
    ended: str = ""  # "budget": before its rounds, since another one would have cost more than there was


Instruction = Ask | TakeBack | Ended | Promote | Rest


class State(msgspec.Struct):
    """All that lasts. Models are classifiers' bytes; vectors little endian float32."""

    run: int = 0
    stage: str = REST
    round: int = 0
    began: int = 0  # ns, of the stage
    deadline: int = NEVER
    asked: dict[str, str] = {}  # job that a gateway works on, by gateway
    answered: dict[str, str] = {}  # in this stage: "" or why it was refused, by gateway
    seen: dict[str, str] = {}  # job that was last answered, by gateway
    counted: dict[str, str] = {}  # job of the update that was last counted, by gateway
    refused: dict[str, str] = {}  # why the last answer was, by gateway: it is told with its next task
    offers: list[tuple[str, int, bytes, int]] = []
    spreads: list[bytes] = []
    windows: list[int] = []  # of each class, by the survey
    scores: dict[str, Score] = {}  # of the stage's base, by gateway
    bytes_up: int = 0
    late: list[str] = []
    silent: list[str] = []  # had not answered when a stage ended without them: asked, and not waited for
    base: bytes = b""
    memory: tuple[bytes, bytes] = (b"", b"")
    active: bytes = b""  # what was promoted last
    candidate: bytes = b""  # what `verdict` is on
    best: bytes = b""  # the candidate with the best score so far that the gate would let through
    verdict: Verdict | None = None  # on it, or on the last one
    ledger: Ledger = Ledger()  # what all runs have spent of a privacy budget: never put back
    ended: str = ""  # of the run that goes on: see Rest
