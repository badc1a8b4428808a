"""What gateways ask a larger model about windows that theirs is unsure of, and what they are told. Pure.

Rules:

1. A question is a window, by device and event times, and its features: raw samples stay home. Questions go up as
   `messages.QuestionsBody`, in the lane `results`.
2. Features travel as float16, in the deviations of the version that the gateway has, which the cloud keeps too: there
   11 bits are more than a model can use, whatever a sensor's unit. Of a version that knows none, as float32.
3. An answer names its window, so whoever asked need not remember it, and hearing it again is harmless.
4. Sealed answers are 64 bytes of Ed25519 signature, then a msgpack map. What is signed is CONTEXT and that map. The
   signature is checked, with the key that the gateway pins, before anything is parsed.
5. They are retained on the bus, a message a model, with every answer that the gateway has not said it has heard; `at`
   tells new ones from those: it only grows.

| reason | why |
|---|---|
| signature | not signed by the pinned key, or changed since |
| answers | signed, and yet no answers that we understand |
| gateway | made for another gateway |
| questions | features that are none, or of another width |
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from protocol.errors import FrameRefused, TaskRefused
from protocol.identity import SIGNATURE_SIZE, Signer, verify
from protocol.messages import QuestionsBody
from protocol.settings import NAME
from protocol.training import MAX_CLASSES

ASK = "ask"
"""What questions are called where the cloud keeps them among answers to tasks."""

MAX_QUESTIONS = 256
"""In one body."""
MAX_ANSWERS = 256
"""That wait to be heard by one gateway, of one model."""
MAX_SEALED = 256 << 10
MAX_DEVICE = 256
CONTEXT = b"fieldgate/v1/answers\0"
Seen = NDArray[Any]
"""Features of windows, (n, d): float16 in deviations, or float32 as they are."""
FAR = float(np.finfo(np.float16).max)

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What a window is, in the larger model's word. Times are event times (ns) of its first sample and its last."""

    device: str
    start: int
    end: int
    chosen: int  # the class
    probability: float
    at: int  # ns, when it was given; of one gateway and model no two are the same
    version: int = 0  # of the model that was unsure


class Answers(msgspec.Struct, frozen=True):
    """What one gateway is told of one model's windows, in the order of `at`."""

    gateway: str
    model: str
    answers: list[Answer]


def narrow(standardised: NDArray[np.float32]) -> NDArray[np.float16]:
    """Give features in deviations as they travel."""
    return np.clip(standardised, -FAR, FAR).astype(np.float16)


def pack_features(seen: Seen) -> bytes:
    """Give features, shape (n, d), row by row, little end first."""
    return seen.astype(seen.dtype.newbyteorder("<")).tobytes()


def read_features(body: QuestionsBody, width: int, *, in_deviations: bool) -> NDArray[np.float64]:
    """Give the features of questions, shape (n, width), finite; FrameRefused("questions")."""
    kind = np.dtype("<f2" if in_deviations else "<f4")
    rows = len(body.start)
    if len(body.seen) != kind.itemsize * rows * width:
        raise FrameRefused("questions", f"{len(body.seen)} bytes of features for {rows} windows of {width}")
    seen = np.frombuffer(body.seen, kind).reshape(rows, width).astype(np.float64)
    if not np.isfinite(seen).all():
        raise FrameRefused("questions", "features that are not finite")
    return seen


def read_questions(content: bytes) -> QuestionsBody:
    """Read questions as `cloud.unpack` has kept them; FrameRefused("questions")."""
    try:
        body = msgspec.msgpack.decode(content, type=QuestionsBody)
    except _UNREADABLE as error:
        raise FrameRefused("questions", str(error)) from error
    check_questions(body)
    return body


def check_questions(body: QuestionsBody) -> None:
    """FrameRefused("questions") for columns that do not fit each other, or times that cannot be."""
    rows = len(body.start)
    if not len(body.devices) == len(body.span) == rows or not 0 < rows <= MAX_QUESTIONS or len(body.seen) % (2 * rows):
        raise FrameRefused("questions", f"{rows} windows, {len(body.devices)} devices, {len(body.seen)} bytes")
    if len(body.digest) != 32 or not NAME.fullmatch(body.model) or max(map(len, body.devices)) > MAX_DEVICE:
        raise FrameRefused("questions", f"of {body.model[:64]!r}, a digest of {len(body.digest)} bytes")
    if min(body.span) < 0:
        raise FrameRefused("questions", f"a window that lasts {min(body.span)} ns")


def seal(answers: Answers, signer: Signer) -> bytes:
    """Sign answers."""
    body = msgspec.msgpack.encode(answers)
    return signer.sign(CONTEXT + body) + body


def unseal(sealed: bytes, public: bytes, *, gateway: str, model: str) -> list[Answer]:
    """Verify, then read; `gateway` is who hears them, under the topic of `model`. TaskRefused says why not."""
    if not SIGNATURE_SIZE < len(sealed) <= MAX_SEALED:
        raise TaskRefused("signature", f"{len(sealed)} bytes")
    signature, body = sealed[:SIGNATURE_SIZE], sealed[SIGNATURE_SIZE:]
    if not verify(public, CONTEXT + body, signature):
        raise TaskRefused("signature", "not signed by the pinned key")
    try:
        found = msgspec.msgpack.decode(body, type=Answers)
    except _UNREADABLE as error:
        raise TaskRefused("answers", str(error)) from error
    if (found.gateway, found.model) != (gateway, model):
        raise TaskRefused("gateway", f"{found.model[:64]} of {found.gateway[:64]}")
    if not all(map(_can_be, found.answers)) or any(one.at >= other.at for one, other in pairwise(found.answers)):
        raise TaskRefused("answers", "classes, times or an order that cannot be")
    return found.answers


def _can_be(answer: Answer) -> bool:
    sound = 0 <= answer.chosen < MAX_CLASSES and 0 <= answer.probability <= 1 and answer.start <= answer.end
    return sound and len(answer.device) <= MAX_DEVICE
