"""Trainings over the fleet. Pure.

`federation` has all of them, `training` goes from round to round, `gate` says which candidate is promoted.
"""

from __future__ import annotations

from cloud.federation.federation import Federation
from cloud.federation.gate import Score, Terms, Verdict, judge
from cloud.federation.state import Ask, Ended, Instruction, Promote, Rest, State, TakeBack
from cloud.federation.training import Training

__all__ = [
    "Ask",
    "Ended",
    "Federation",
    "Instruction",
    "Promote",
    "Rest",
    "Score",
    "State",
    "TakeBack",
    "Terms",
    "Training",
    "Verdict",
    "judge",
]
