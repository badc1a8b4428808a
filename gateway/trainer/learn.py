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
| features, model, runtime | what the model is made from, or runs by, is not installed here |
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
from learning import scorer, spread, updates
from learning.classifier import Classifier
from learning.models import Batch
from learning.parameters import Flat
from learning.scorer import Scorer
from protocol.columns import encode_state
from protocol.errors import ModelRefused, TaskRefused
from protocol.tasks import Task
from protocol.training import (
    VERSION,
    Dataset,
    Given,
    Survey,
    Surveyed,
    Train,
    Trained,
    check_dataset,
    pack_trained,
    read,
)

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

    def _examples(self, dataset: Dataset, past: Past, model: str) -> tuple[list[Examples], Gathered]:
        gathered = self._memory.of(dataset)
        examples = list(gathered.take(past, model).values())
        there = sum(len(each.x) for each in (*examples, *gathered.lent.values()))
        if there < FEWEST:
            raise TaskRefused("few", f"{there} windows with a label, {FEWEST} at least")
        return examples, gathered


class SurveyTask(_Trainer):
    """What is here to learn from."""

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:  # noqa: ARG002 - it keeps nothing
        """Say how many windows of each class are here, and how their features spread."""
        dataset = read(task.params, Survey).dataset
        check_dataset(dataset)
        try:
            examples, gathered = self._examples(dataset, past, task.state)
        except ModelRefused as refused:
            raise TaskRefused(refused.reason, refused.detail) from refused
        there = (*examples, *gathered.lent.values())
        x, y = np.concatenate([each.x for each in there]), np.concatenate([each.y for each in there])
        windows = tuple(np.bincount(y, minlength=dataset.classes).tolist())
        answer = Surveyed(windows, encode_state(spread.of(x)._asdict()))
        return Answer(msgspec.msgpack.encode(answer), gathered.readings, held=gathered.held)


class TrainTask(_Trainer):
    """A round's part."""

    def __call__(self, task: Task, past: Past, kept: bytes) -> Answer:
        """Learn from what is here, and say what changed."""
        params, given = read(task.params, Train), read(task.content, Given)
        note = f"the last update was refused: {params.refused}" if params.refused else ""
        if not 0 < params.holdout <= MOST_HELD_OUT:
            raise TaskRefused("params", f"holdout: {params.holdout}, expected more than 0, at most {MOST_HELD_OUT}")
        try:
            base = scorer.decode(given.base)
            active = scorer.decode(given.active) if given.active else None
            examples, gathered = self._examples(base.dataset, past, task.state)
            apart = base.dataset.samples // base.dataset.hop
            parts = split(examples, params.holdout, apart, list(gathered.lent.values()))
            rng = default_rng([params.seed, params.round, zlib.crc32(task.gateway.encode())])
            before = _before(kept)
            change, trained = _learn(base, parts, rng) if params.learn else _try(base, parts)
            heads = _own(given.base, base, parts, rng)
            if heads:
                trained.scores["personal"] = heads[0].after
            if active is not None:
                trained.scores["active"] = active.accuracy(parts.held_out.x, parts.held_out.y)
                heads += _own(given.active, active, parts, rng)
            before = msgspec.structs.replace(before, heads=newest(heads, before.heads))
            if not params.learn:
                keep = msgspec.msgpack.encode(before)
                content = pack_trained(trained, lean=task.lean)
                return Answer(content, gathered.readings, held=gathered.held, keep=keep, note=note)
            owed = _owed(before, params.counted, len(change))
            encoded = updates.encode(params.codec, change, rng, owed)
        except ModelRefused as refused:
            raise TaskRefused(refused.reason, refused.detail) from refused

        owes = Owed(heads=before.heads)
        if encoded.residual is not None:
            owes = Owed(task.job, encoded.payload, encoded.residual.tobytes(), before.heads)
        content = pack_trained(msgspec.structs.replace(trained, payload=encoded.payload), lean=task.lean)
        keep = msgspec.msgpack.encode(owes)
        return Answer(content, gathered.readings, held=gathered.held, keep=keep, note=note)


def _learn(base: Scorer, parts: Split, rng: Generator) -> tuple[Flat, Trained]:
    """Give how learning here changes the base, and what it and others are worth; the payload is still to come."""
    if not isinstance(base, Classifier):
        raise ModelRefused("content", "an ONNX model does not learn here")
    learnt, held = parts
    batch = Batch(base.standardise(learnt.x), learnt.y)
    local = base.fitted(batch, rng)
    candidates = {"base": base, "local": local}
    scores = {name: one.accuracy(held.x, held.y) for name, one in candidates.items()}
    change = local.vector - base.vector
    return change, Trained(b"", len(learnt.x), len(held.x), scores, local.net.loss(batch))


def _try(base: Scorer, parts: Split) -> tuple[Flat, Trained]:
    held = parts.held_out
    return np.zeros(0, np.float32), Trained(b"", 0, len(held.x), {"base": base.accuracy(held.x, held.y)})


def _own(content: bytes, model: Scorer, parts: Split, rng: Generator) -> list[Head]:
    """Give a model a head of this gateway's own; none where it does not learn."""
    if not isinstance(model, Classifier):
        return []
    learnt = parts.learnt
    own = model.fitted(Batch(model.standardise(learnt.x), learnt.y), rng, head=True)
    return [head_of(content, model, own, parts)]


def _before(kept: bytes) -> Owed:
    """Give what the task before this one kept; nothing if that cannot be read, or no round would ever be answered."""
    try:
        return read(kept, Owed)
    except TaskRefused:
        return Owed()


def _owed(owed: Owed, counted: str, size: int) -> Flat | None:
    """Give what the update before this one left out, or all of it if it was not counted."""
    residual = np.frombuffer(owed.residual, np.float32)
    if len(residual) != size:  # of another model, or none
        return None
    return residual if owed.job == counted else updates.put_back(owed.payload, residual, size)


_memory = Memory()
survey = SurveyTask(_memory)
train = TrainTask(_memory)
