"""The server steps as the papers say, remembers between rounds, and leaves no bounds."""

from __future__ import annotations

import numpy as np
import pytest

from learning import server
from learning.parameters import Flat
from learning.server import BETA_1, BETA_2, TAU, Memory, Step
from protocol.columns import decode_state, encode_state
from protocol.errors import ModelRefused

START = np.array([1, 2, 3], np.float32)
MOVE = np.array([1, -2, 0], np.float32)


def walk(how: Step, rounds: int) -> tuple[Flat, Memory]:
    vector, memory = START, server.nothing(3)
    for _ in range(rounds):
        vector, memory = server.step(how, vector, MOVE, memory)
    return vector, memory


@pytest.mark.parametrize(
    ("how", "reached"),
    [
        (Step(), START + 3 * MOVE),  # FedAvg
        (Step(rate=0.5), START + 1.5 * MOVE),
        (Step(momentum=0.5), START + (1 + 1.5 + 1.75) * MOVE),
    ],
    ids=["plain", "slower", "with momentum"],
)
def test_sgd_is_a_sum_of_directions(how: Step, reached: Flat) -> None:
    np.testing.assert_allclose(walk(how, 3)[0], reached)


@pytest.mark.parametrize(
    ("rows", "weights", "times"),
    [
        pytest.param([[3, 0], [3, 0]], [1, 1], 1, id="of one mind"),
        pytest.param([[1, 1], [1, -1]], [1, 1], 1, id="at right angles"),
        pytest.param([[1, 2], [1, -2]], [1, 1], 5 / 2, id="apart"),
        pytest.param([[1, 3], [1, -3]], [3, 1], 10 / (2 * 3.25), id="one weighs more"),
        pytest.param([[1, 9], [1, -9]], [1, 1], 4, id="far apart"),
        pytest.param([[1, 9], [-1, -9]], [1, 1], 1, id="nothing is left"),
    ],
)
def test_what_updates_that_pull_apart_come_to_is_stretched(
    rows: list[list[float]], weights: list[float], times: float
) -> None:
    vectors, shares = np.array(rows, np.float32), np.array(weights)
    combined = np.average(vectors, axis=0, weights=shares).astype(np.float32)
    got = server.stretched(combined, np.linalg.norm(vectors, axis=1), shares, 4.0)
    np.testing.assert_allclose(got, times * combined, rtol=1e-6)
    assert got.dtype == np.float32


def test_adam_is_the_recursion() -> None:
    first, second, expected = np.zeros(3), np.zeros(3), START.astype(float)
    for _ in range(3):
        first = BETA_1 * first + (1 - BETA_1) * MOVE
        second = BETA_2 * second + (1 - BETA_2) * MOVE**2
        expected += 0.1 * first / (np.sqrt(second) + TAU)
    vector, memory = walk(Step("adam", 0.1), 3)
    np.testing.assert_allclose(vector, expected, rtol=1e-5)
    np.testing.assert_allclose(memory.direction, first, rtol=1e-5)


@pytest.mark.parametrize("how", [Step(momentum=0.9), Step("adam", 0.1)], ids=["sgd", "adam"])
def test_a_server_that_was_restarted_goes_on_as_if_it_had_not(how: Step) -> None:
    vector, memory = walk(how, 2)
    again = server.unpack(decode_state(encode_state(memory._asdict())), 3)
    assert server.step(how, vector, MOVE, again)[0].tobytes() == walk(how, 3)[0].tobytes()


def test_inputs_are_untouched() -> None:
    memory = server.nothing(3)
    server.step(Step("adam"), START, MOVE, memory)
    assert (START.tolist(), MOVE.tolist()) == ([1, 2, 3], [1, -2, 0])
    assert not np.concatenate(memory).any()


def test_a_step_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ModelRefused, match="beyond"):
        server.step(Step(rate=1e16), START, MOVE, server.nothing(3))


REFUSED = {
    "another size": {"direction": np.zeros(2, np.float32)},
    "another dtype": {"square": np.zeros(3)},
    "not finite": {"direction": np.array([0, np.nan, 0], np.float32)},
    "a negative square": {"square": np.array([0, -1, 0], np.float32)},
}


@pytest.mark.parametrize("other", REFUSED.values(), ids=REFUSED.keys())
def test_a_memory_that_is_none_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(ModelRefused) as refused:
        server.unpack(server.nothing(3)._asdict() | other, 3)
    assert refused.value.reason == "memory"
