"""An answer of a training comes back the same in both of its forms, and nothing else is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import TaskRefused
from protocol.training import SCORES, Trained, pack_trained, read_trained


@given(
    held_out=st.integers(0, 5_000),
    right=st.dictionaries(st.sampled_from(SCORES), st.integers(0, 5_000)),
    lean=st.booleans(),
)
def test_scores_come_back_to_the_last_bit(held_out: int, right: dict[str, int], lean: bool) -> None:
    scores = {name: min(one, held_out) / max(held_out, 1) for name, one in right.items()}
    trained = Trained(b"\xff\x00", 400, held_out, scores, 0.1)
    assert read_trained(pack_trained(trained, lean=lean)) == trained


def test_without_names_it_is_as_long_as_its_numbers() -> None:
    scores = {"base": 0.5, "active": 0.25, "local": 0.75, "personal": 1.0}
    trained = Trained(bytes(100), 160, 40, scores, 0.5)
    sizes = [len(pack_trained(trained, lean=lean)) for lean in (False, True)]
    assert sizes == [100 + 116, 100 + 20]


MISFITS = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "a number": b"\x07",
    "too few": msgspec.msgpack.encode([b"", 1]),
    "a payload that is text": msgspec.msgpack.encode(["", 1, 1, []]),
    "half an answer": msgspec.msgpack.encode([1.5, 1, 1, [0.5]]),
    "nested without end": b"\x91" * 10_000,
    "a map without scores": msgspec.msgpack.encode({"payload": b"", "windows": 1, "held_out": 1}),
}


@pytest.mark.parametrize("content", MISFITS.values(), ids=MISFITS.keys())
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(TaskRefused) as refused:
        read_trained(content)
    assert refused.value.reason == "params"


def test_a_later_version_may_say_more() -> None:
    assert read_trained(msgspec.msgpack.encode([b"", 3, 4, [2, None, 3, 4, 1], 0.5, "new"])) == Trained(
        b"", 3, 4, {"base": 0.5, "local": 0.75, "personal": 1.0}, 0.5
    )
