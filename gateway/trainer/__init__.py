"""Training on this gateway's own journal: `dataset` makes vectors of raw readings, `learn` learns from them.

Both are tasks (`gateway.tasks.contract`): `survey` says what is here, `train` is this gateway's part of a round.
"""

from __future__ import annotations

from gateway.trainer.learn import SurveyTask, TrainTask, survey, train

__all__ = ["SurveyTask", "TrainTask", "survey", "train"]
