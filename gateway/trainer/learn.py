"""A gateway's part of a training: what is here (`survey`), and what learning from it changes (`train`). Pure.

Rules:

1. Learning begins from the base that the round sends. The update is what it changed, never the parameters.
2. Scores are of what was held out: of the base, of the promoted model, of what the base became by learning here, and of
   the base with a head of its own. That head is kept, as one for whatever content was promoted: `heads` says of which.
3. What a codec left out is owed, and kept from round to round; an update that was not counted is owed in full.
4. The same task on the same readings gives the same answer.

| reason | why |
|---|---|
| params, content | not what it should be |
| features, classes | the model is made from something this version has not |
| few | fewer than FEWEST windows with a label are here |
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

import msgspec
import numpy as np
from numpy.random import Generator, default_rng

from gateway.tasks.contract import Answer, Past
from gateway.trainer.dataset import Examples, Gathered, Split, split
from gateway.trainer.heads import Head, head_of, newest
from learning import classifier, spread, updates
from learning.classifier import Classifier
from learning.models import Batch
from learning.parameters import Flat
from protocol.columns import encode_state
from protocol.errors import ModelRefused, TaskRefused
from protocol.tasks import Task
from protocol.training import VERSION, Dataset, Given, Survey, Surveyed, Train, Trained, check_dataset, read

FEWEST = 20
"""Windows with a label: fewer teach nothing that the others do not know."""

MOST_HELD_OUT = 0.9
MOST_KNOWN = 2
"""Datasets whose readings stay in memory between rounds."""


class Owed(msgspec.Struct, frozen=True):
    """What is kept from one round to the next: the update of a job, and the residual after it (float32)."""

    job: str = ""
    payload: bytes = b""
    residual: bytes = b""
    heads: tuple[Head, ...] = ()  # newest first


class Memory:
    """What was read for the datasets that were asked for last: a round reads on where the one before it ended."""

    def __init__(self) -> None:
        self._known: OrderedDict[Dataset, Gathered] = OrderedDict()

    def of(self, dataset: Dataset) -> Gathered:
        """Give what is known for a dataset; beyond MOST_KNOWN the one last asked for the longest ago is forgotten."""
        gathered = self._known.pop(dataset, None) or Gathered(dataset)
        self._known[dataset] = gathered
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return gathered


class _Trainer:
    """What both tasks share."""

    version = VERSION

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()

    def _examples(self, dataset: Dataset, past: Past) -> tuple[list[Examples], Gathered]:
        gathered = self._memory.of(dataset)
        examples = list(gathered.take(past).values())
        if sum(len(each.x) for each in examples) < FEWEST:
            raise TaskRefused("few", f"{sum(len(each.x) for each in examples)} windows with a label, {FEWEST} at least")
        return examples, gathered


class SurveyTask(_Trainer):
    """What is here to learn from."""

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:  # noqa: ARG002 - it keeps nothing
        """Say how many windows of each class are here, and how their features spread."""
        dataset = read(task.params, Survey).dataset
        check_dataset(dataset)
        try:
            examples, gathered = self._examples(dataset, past)
        except ModelRefused as refused:
            raise TaskRefused(refused.reason, refused.detail) from refused
        x, y = np.concatenate([each.x for each in examples]), np.concatenate([each.y for each in examples])
        windows = tuple(np.bincount(y, minlength=dataset.classes).tolist())
        answer = Surveyed(windows, encode_state(spread.of(x)._asdict()))
        return Answer(msgspec.msgpack.encode(answer), gathered.readings, held=gathered.held)


class TrainTask(_Trainer):
    """A round's part."""

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:
        """Learn from what is here, and say what changed."""
        params, given = read(task.params, Train), read(task.content, Given)
        if not 0 < params.holdout <= MOST_HELD_OUT:
            raise TaskRefused("params", f"holdout: {params.holdout}, expected more than 0, at most {MOST_HELD_OUT}")
        try:
            base = classifier.decode(given.base)
            active = classifier.decode(given.active) if given.active else None
            examples, gathered = self._examples(base.dataset, past)
            parts = split(examples, params.holdout, base.dataset.samples // base.dataset.hop)
            rng = default_rng([params.seed, params.round, zlib.crc32(task.gateway.encode())])
            before = read(kept, Owed) if kept else Owed()
            local, trained = _learn(base, parts, rng) if params.learn else _try(base, parts)
            heads = [_own(given.base, base, parts, rng)]
            trained.scores["personal"] = heads[0].after
            if active is not None:
                trained.scores["active"] = active.accuracy(parts.held_out.x, parts.held_out.y)
                heads.append(_own(given.active, active, parts, rng))
            before = msgspec.structs.replace(before, heads=newest(heads, before.heads))
            if not params.learn:
                keep = msgspec.msgpack.encode(before)
                return Answer(msgspec.msgpack.encode(trained), gathered.readings, held=gathered.held, keep=keep)
            owed = _owed(before, params.counted, len(base.vector))
            encoded = updates.encode(params.codec, local.vector - base.vector, rng, owed)
        except ModelRefused as refused:
            raise TaskRefused(refused.reason, refused.detail) from refused

        owes = Owed(heads=before.heads)
        if encoded.residual is not None:
            owes = Owed(task.job, encoded.payload, encoded.residual.tobytes(), before.heads)
        answer = msgspec.structs.replace(trained, payload=encoded.payload)
        return Answer(
            msgspec.msgpack.encode(answer), gathered.readings, held=gathered.held, keep=msgspec.msgpack.encode(owes)
        )


def _learn(base: Classifier, parts: Split, rng: Generator) -> tuple[Classifier, Trained]:
    """Give what the base becomes here, and what it and others are worth; the payload is still to come."""
    learnt, held = parts
    batch = Batch(base.standardise(learnt.x), learnt.y)
    local = base.fitted(batch, rng)
    candidates = {"base": base, "local": local}
    scores = {name: one.accuracy(held.x, held.y) for name, one in candidates.items()}
    return local, Trained(b"", len(learnt.x), len(held.x), scores, local.net.loss(batch))


def _try(base: Classifier, parts: Split) -> tuple[Classifier, Trained]:
    held = parts.held_out
    return base, Trained(b"", 0, len(held.x), {"base": base.accuracy(held.x, held.y)})


def _own(content: bytes, model: Classifier, parts: Split, rng: Generator) -> Head:
    """Give a model a head of this gateway's own."""
    learnt = parts.learnt
    return head_of(content, model, model.fitted(Batch(model.standardise(learnt.x), learnt.y), rng, head=True), parts)


def _owed(owed: Owed, counted: str, size: int) -> Flat | None:
    """Give what the update before this one left out, or all of it if it was not counted."""
    residual = np.frombuffer(owed.residual, np.float32)
    if len(residual) != size:  # of another model, or none
        return None
    return residual if owed.job == counted else updates.put_back(owed.payload, residual, size)


_memory = Memory()
survey = SurveyTask(_memory)
train = TrainTask(_memory)
