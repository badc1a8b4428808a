"""Frames are taken once, holes stay open until they are filled or declared dropped, forks are seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ledger import Lane, Verdict
from protocol.frame import chain_after
from protocol.messages import MAX_RANGES, LaneHead, Mark

CHAINS = [0]
for _number in range(1, 400):
    CHAINS.append(chain_after(_number, CHAINS[-1]))

ACCEPT, DUPLICATE, DEFER, FORK = Verdict.ACCEPT, Verdict.DUPLICATE, Verdict.DEFER, Verdict.FORK


def feed(lane: Lane, *sequence: int) -> list[Verdict]:
    """Feed frames of the one true history."""
    return [lane.feed(seq, CHAINS[seq], seq) for seq in sequence]


@pytest.mark.parametrize(
    ("sequence", "verdicts", "upto", "ranges"),
    [
        pytest.param([1, 2, 3], [ACCEPT] * 3, 3, [], id="in order"),
        pytest.param([1, 1, 2, 1], [ACCEPT, DUPLICATE, ACCEPT, DUPLICATE], 2, [], id="repeats"),
        pytest.param([3, 4], [ACCEPT] * 2, 0, [(3, 4)], id="a hole at the beginning"),
        pytest.param([1, 5, 7, 6], [ACCEPT] * 4, 1, [(5, 7)], id="ranges join"),
        pytest.param([5, 1, 4, 2, 3], [ACCEPT] * 5, 5, [], id="the last one closes everything"),
        pytest.param([5, 4, 5, 4], [ACCEPT, ACCEPT, DUPLICATE, DUPLICATE], 0, [(4, 5)], id="repeats above a hole"),
        pytest.param([9, 3, 6, 2], [ACCEPT] * 4, 0, [(2, 3), (6, 6), (9, 9)], id="ranges stay in order"),
    ],
)
def test_frames_are_taken_once_in_any_order(
    sequence: list[int], verdicts: list[Verdict], upto: int, ranges: list[tuple[int, int]]
) -> None:
    lane = Lane()
    assert feed(lane, *sequence) == verdicts
    assert lane.mark == Mark(upto, ranges, CHAINS[upto])


@given(st.permutations(list(range(1, 41))), st.sets(st.integers(1, 40), max_size=10))
@settings(max_examples=100, deadline=None)
def test_any_order_with_any_losses_ends_the_same(order: list[int], lost: set[int]) -> None:
    lane = Lane()
    for at, seq in enumerate(order):
        if seq in lost:
            assert lane.drop(seq, seq) == [(seq, seq)]
        else:
            assert feed(lane, seq) == [ACCEPT]
        seen = sorted(order[: at + 1])
        assert _expand(lane) == seen
    assert (lane.upto, lane.ranges) == (40, [])
    assert lane.holes == []


def _expand(lane: Lane) -> list[int]:
    spans = [(1, lane.upto), *lane.mark.ranges]
    return [seq for first, last in spans for seq in range(first, last + 1)]


@pytest.mark.parametrize(
    ("before", "drop", "closed", "upto", "ranges"),
    [
        pytest.param([1, 2, 6], (3, 5), [(3, 5)], 6, [], id="exactly the hole"),
        pytest.param([1, 2, 6], (1, 9), [(3, 5), (7, 9)], 9, [], id="what is here is not lost"),
        pytest.param([1, 2, 6], (4, 4), [(4, 4)], 2, [(4, 4), (6, 6)], id="the middle of a hole"),
        pytest.param([1, 2, 6], (1, 2), [], 2, [(6, 6)], id="nothing missing"),
        pytest.param([], (1, 100), [(1, 100)], 100, [], id="all there ever was"),
    ],
)
def test_a_declared_loss_closes_holes_only(
    before: list[int],
    drop: tuple[int, int],
    closed: list[tuple[int, int]],
    upto: int,
    ranges: list[tuple[int, int]],
) -> None:
    lane = Lane()
    feed(lane, *before)
    assert lane.drop(*drop) == closed
    assert (lane.upto, lane.mark.ranges) == (upto, ranges)


def test_after_a_loss_the_chain_is_unknown_and_the_next_frame_is_believed() -> None:
    lane = Lane()
    feed(lane, 1)
    lane.drop(2, 3)
    assert lane.mark == Mark(3, [], 0)
    assert feed(lane, 4) == [ACCEPT]
    assert lane.mark == Mark(4, [], CHAINS[4])


@pytest.mark.parametrize(
    ("here", "seq"),
    [
        pytest.param([1, 2], 3, id="next does not follow"),
        pytest.param([1, 2], 2, id="the newest is another"),
        pytest.param([5, 6], 7, id="next above a hole does not follow"),
        pytest.param([5, 6], 4, id="the one after does not follow"),
        pytest.param([1, 3], 2, id="fills the hole, fits neither side"),
        pytest.param([5, 6], 6, id="the end of a range is another"),
        pytest.param([5, 6], 5, id="the beginning of a range is another"),
        pytest.param([], 1, id="the first frame has a history"),
    ],
)
def test_a_frame_of_another_history_is_a_fork_and_is_not_taken(here: list[int], seq: int) -> None:
    lane = Lane()
    feed(lane, *here)
    mark = lane.mark
    assert lane.feed(seq, CHAINS[300], 300) is FORK
    assert lane.mark == mark


def test_one_range_too_many_is_deferred_and_taken_once_there_is_room() -> None:
    lane = Lane()
    last = 2 * MAX_RANGES + 2
    assert feed(lane, *range(2, last, 2)) == [ACCEPT] * MAX_RANGES
    assert feed(lane, last) == [DEFER]
    assert feed(lane, last - 1, last) == [ACCEPT, ACCEPT]
    assert feed(lane, 1) == [ACCEPT]
    assert lane.upto == 2


def test_a_loss_that_would_open_one_range_too_many_changes_nothing() -> None:
    lane = Lane()
    feed(lane, *range(2, 2 * MAX_RANGES + 2, 2))
    mark = lane.mark
    assert lane.drop(300, 310) is None
    assert lane.mark == mark


@pytest.mark.parametrize(
    ("here", "head", "contradicts"),
    [
        pytest.param([1, 2], LaneHead(1, 5, CHAINS[4]), False, id="the gateway has more"),
        pytest.param([1, 2], LaneHead(3, 3, CHAINS[2]), False, id="all is receipted"),
        pytest.param([1, 2], LaneHead(1, 3, 99), True, id="the same length, another history"),
        pytest.param([1, 2, 3], LaneHead(1, 3, CHAINS[2]), True, id="the gateway lost its tail"),
        pytest.param([1, 4], LaneHead(1, 4, CHAINS[3]), True, id="a range above what the gateway knows"),
        pytest.param([], LaneHead(1, 1, 0), False, id="both begin"),
    ],
)
def test_a_gateways_head_is_compared_with_what_is_here(here: list[int], head: LaneHead, contradicts: bool) -> None:
    lane = Lane()
    feed(lane, *here)
    assert bool(lane.contradicts(head)) is contradicts
