"""Questions and answers of a cascade: what goes in comes out, and whatever else comes is refused by reason."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.cascade import (
    CONTEXT,
    FAR,
    MAX_QUESTIONS,
    Answer,
    Answers,
    check_questions,
    narrow,
    pack_features,
    read_features,
    read_questions,
    seal,
    unseal,
)
from protocol.errors import FrameRefused, TaskRefused
from protocol.identity import Signer
from protocol.messages import Cover, QuestionsBody

SIGNER = Signer.from_seed(b"s" * 32)
ANSWERS = [Answer("pump", 5, 9, 2, 0.75, 100, 4), Answer("Öl", 6, 6, 0, 1.0, 101, 4)]
SEALED = seal(Answers("barn", "state", ANSWERS), SIGNER)


def questions(**changes: Any) -> QuestionsBody:
    body = QuestionsBody(Cover(), "state", 4, b"d" * 32, ["pump", "Öl"], [5, 6], [4, 0], bytes(12), 7)
    return msgspec.structs.replace(body, **changes)


def test_sealed_answers_are_read_by_whom_they_are_for() -> None:
    assert unseal(SEALED, SIGNER.public, gateway="barn", model="state") == ANSWERS


def sealed(*answers: Answer) -> bytes:
    return seal(Answers("barn", "state", list(answers)), SIGNER)


def signed(body: bytes) -> bytes:
    return SIGNER.sign(CONTEXT + body) + body


ONE = ANSWERS[0]
REFUSED = {
    "another's signature": (seal(Answers("barn", "state", ANSWERS), Signer.from_seed(b"o" * 32)), "signature"),
    "a changed byte": (SEALED[:-1] + b"\x00", "signature"),
    "no body": (SEALED[:64], "signature"),
    "signed for something else": (SIGNER.sign(SEALED[64:]) + SEALED[64:], "signature"),
    "signed nonsense": (signed(b"\xc1"), "answers"),
    "for another gateway": (seal(Answers("mill", "state", ANSWERS), SIGNER), "gateway"),
    "under another model": (seal(Answers("barn", "other", ANSWERS), SIGNER), "gateway"),
    "two of one time": (sealed(ONE, ONE), "answers"),
    "a class below 0": (sealed(msgspec.structs.replace(ONE, chosen=-1)), "answers"),
    "a window that ends before it begins": (sealed(msgspec.structs.replace(ONE, end=4)), "answers"),
    "a probability that is none": (sealed(msgspec.structs.replace(ONE, probability=float("nan"))), "answers"),
}


@pytest.mark.parametrize(("payload", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_answer_for_us_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(TaskRefused) as refused:
        unseal(payload, SIGNER.public, gateway="barn", model="state")
    assert refused.value.reason == reason


@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=3, max_size=12).map(lambda row: row[: len(row) // 3 * 3]))
def test_features_in_deviations_travel_to_one_part_in_two_thousand(values: list[float]) -> None:
    seen = np.array(values, np.float32).reshape(-1, 3)
    body = questions(start=[0] * len(seen), seen=pack_features(narrow(seen)))
    read = read_features(body, 3, in_deviations=True)
    assert np.allclose(read, np.clip(seen, -FAR, FAR), rtol=2**-11, atol=2**-24)


def test_features_of_a_version_without_deviations_travel_as_they_are() -> None:
    seen = np.array([[1e30, -1.5], [0.1, 7.0]], np.float32)
    assert read_features(questions(seen=pack_features(seen)), 2, in_deviations=False).tolist() == seen.tolist()


WRONG = {
    "another width": lambda: read_features(questions(), 4, in_deviations=True),
    "not finite": lambda: read_features(questions(seen=b"\x00\x7c" * 6), 3, in_deviations=True),
    "no windows": lambda: check_questions(questions(devices=[], start=[], span=[], seen=b"")),
    "too many": lambda: check_questions(
        questions(**dict.fromkeys(("start", "span"), [0] * 257), devices=["a"] * 257, seen=bytes(514))
    ),
    "a device less": lambda: check_questions(questions(devices=["pump"])),
    "half a feature": lambda: check_questions(questions(seen=bytes(13))),
    "a short digest": lambda: check_questions(questions(digest=b"d" * 31)),
    "a model's name that is none": lambda: check_questions(questions(model="a/b")),
    "a device's name of a page": lambda: check_questions(questions(devices=["pump", "x" * 257])),
    "a window that ends before it begins": lambda: check_questions(questions(span=[4, -1])),
    "nonsense": lambda: read_questions(b"\xc1"),
}


@pytest.mark.parametrize("read", WRONG.values(), ids=WRONG.keys())
def test_questions_that_cannot_be_are_refused(read: Any) -> None:
    with pytest.raises(FrameRefused, match="questions"):
        read()


def test_questions_are_kept_as_they_came() -> None:
    assert MAX_QUESTIONS < 257  # what "too many" above is
    assert read_questions(msgspec.msgpack.encode(questions())) == questions()
