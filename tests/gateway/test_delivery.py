from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.delivery import (
    DEFER_NS,
    FLOOR,
    MAX_FRAMES,
    QUIET_NS,
    SILENCE_NS,
    Close,
    Delivery,
    Fork,
    Gone,
    Release,
    Send,
)
from gateway.delivery.lane import Lane
from gateway.delivery.pace import Pace
from gateway.delivery.throughput import ENOUGH, Throughput
from gateway.records import NEVER
from protocol.messages import COPIED, LANES, LaneHead, Mark, Receipt, Welcome

S = 10**9
MB = 1 << 20


def heads(**lanes: tuple[int, int]) -> dict[str, LaneHead]:
    """Per lane oldest and next; nothing where not said."""
    return {lane: LaneHead(*lanes.get(lane, (1, 1)), 0) for lane in LANES}


def opened(max_rate: int | None = None, marks: dict[str, Mark] | None = None, **lanes: tuple[int, int]) -> Delivery:
    delivery = Delivery(MB, max_rate, 0)
    delivery.opened(Welcome(marks or {}), heads(**lanes), 0)
    return delivery


def pump(delivery: Delivery, now: int, size: int = 1000, most: int = 10_000) -> list[str]:
    """Send what may be sent, and tell it as "lane seq"."""
    sent: list[str] = []
    while len(sent) < most and (send := delivery.next(now)):
        delivery.sent(send, size, now)
        delivery.check()
        sent.append(f"{send.lane} {send.seq}")
    return sent


def receipt(delivery: Delivery, now: int, **marks: int | Mark) -> list[object]:
    answer = {lane: Mark(mark) if isinstance(mark, int) else mark for lane, mark in marks.items()}
    instructions = delivery.receipted(Receipt(answer), now)
    delivery.check()
    return list(instructions)


def test_nothing_is_sent_before_the_cloud_has_said_welcome() -> None:
    delivery = Delivery(MB, None, 0)
    delivery.appended("alerts", 1)
    assert (delivery.next(0), delivery.due(0), delivery.tick(0)) == (None, NEVER, [])


def test_definitions_go_first_then_alerts_and_results_and_live_and_backlog_take_turns() -> None:
    delivery = opened(definitions=(1, 3), alerts=(1, 2), results=(1, 2), telemetry=(1, 4))
    delivery.appended("telemetry", 4)
    delivery.appended("telemetry", 5)
    assert pump(delivery, 0) == [
        "definitions 1",
        "definitions 2",
        "alerts 1",
        "results 1",
        "telemetry 4",
        "telemetry 1",
        "telemetry 5",
        "telemetry 2",
        "telemetry 3",
    ]


def test_lanes_that_are_barred_wait_and_the_others_do_not() -> None:
    delivery = opened(alerts=(1, 2), results=(1, 2), telemetry=(1, 2))
    delivery.appended("telemetry", 2)
    delivery.barred = frozenset(("telemetry", "results"))
    assert pump(delivery, 0) == ["alerts 1"]
    delivery.appended("definitions", 1)
    delivery.barred = frozenset(LANES)
    assert (pump(delivery, 0), delivery.next(0)) == ([], None)
    delivery.barred = frozenset()
    assert pump(delivery, 0) == ["definitions 1", "results 1", "telemetry 2", "telemetry 1"]


def test_a_frame_that_is_withheld_is_passed_by_until_the_next_connection() -> None:
    delivery = opened(telemetry=(1, 4))
    send = delivery.next(0)
    assert send is not None
    delivery.withheld(send)
    assert pump(delivery, 0) == ["telemetry 2", "telemetry 3"]
    assert receipt(delivery, 0, telemetry=3) == [Release("telemetry", 3)], "declared, so the cloud counts it as here"
    delivery.closed()
    delivery.opened(Welcome({}), heads(telemetry=(1, 4)), 0)
    assert pump(delivery, 0) == ["telemetry 1", "telemetry 2", "telemetry 3"]


def test_silence_is_odd_after_a_second_or_four_times_the_welcome_while_something_is_owed() -> None:
    delivery = opened(telemetry=(1, 3))
    assert delivery.quiet == NEVER
    pump(delivery, 5, most=1)
    assert delivery.quiet == 5 + QUIET_NS
    delivery.greeted = QUIET_NS
    assert delivery.quiet == 5 + 4 * QUIET_NS
    receipt(delivery, 9, telemetry=1)
    assert delivery.quiet == NEVER


def test_a_definition_that_comes_later_goes_before_what_is_already_waiting() -> None:
    delivery = opened(telemetry=(1, 4))
    assert pump(delivery, 0, most=1) == ["telemetry 1"]
    delivery.appended("definitions", 1)
    assert pump(delivery, 0) == ["definitions 1", "telemetry 2", "telemetry 3"]


def test_a_flood_of_alerts_leaves_a_share_for_everything_else() -> None:
    delivery = opened(alerts=(1, 1000), results=(1, 1000), telemetry=(1, 1000))
    for seq in range(1000, 1100):
        delivery.appended("telemetry", seq)
    queues = []
    for _ in range(120):
        send = delivery.next(0)
        assert send is not None
        queues.append(send.queue)
        delivery.sent(send, 100, 0)
    assert {queue: queues.count(queue) for queue in ("alerts", "results", "live", "backlog")} == {
        "alerts": 80,
        "results": 20,
        "live": 10,
        "backlog": 10,
    }


def test_live_data_does_not_wait_behind_a_backlog_that_has_had_the_way_to_itself() -> None:
    delivery = opened(telemetry=(1, 10_000))
    assert pump(delivery, 0, most=50) == [f"telemetry {seq}" for seq in range(1, 51)]
    delivery.appended("telemetry", 10_000)
    assert pump(delivery, 0, most=2) == ["telemetry 10000", "telemetry 51"]


def test_what_the_cloud_has_is_released_and_not_sent_and_its_holes_are_filled() -> None:
    delivery = Delivery(MB, None, 0)
    marks = {"telemetry": Mark(2, [(4, 5), (7, 7)])}
    assert delivery.opened(Welcome(marks), heads(telemetry=(1, 9)), 0) == [Release("telemetry", 2)]
    assert pump(delivery, 0) == ["telemetry 3", "telemetry 6", "telemetry 8"]
    assert receipt(delivery, 1, telemetry=8) == [Release("telemetry", 8)]


def test_what_was_in_flight_is_sent_again_on_the_next_connection() -> None:
    delivery = opened(telemetry=(1, 4))
    pump(delivery, 0)
    receipt(delivery, 0, telemetry=1)
    delivery.closed()
    assert delivery.next(0) is None
    delivery.opened(Welcome({"telemetry": Mark(1)}), heads(telemetry=(1, 5)), 0)
    assert pump(delivery, 0) == ["telemetry 2", "telemetry 3", "telemetry 4"]


def test_a_repeated_or_older_receipt_changes_nothing() -> None:
    delivery = opened(telemetry=(1, 5))
    pump(delivery, 0)
    assert receipt(delivery, 0, telemetry=3) == [Release("telemetry", 3)]
    assert receipt(delivery, 0, telemetry=3) == []
    assert receipt(delivery, 0, telemetry=2) == []
    assert delivery.pace.frames == 1


def test_bytes_in_flight_end_at_the_window_and_one_frame_and_a_receipt_opens_it_wider() -> None:
    delivery = opened(telemetry=(1, 1000))
    assert len(pump(delivery, 0, size=FLOOR - 1)) == 2
    assert delivery.due(0) == SILENCE_NS
    receipt(delivery, S, telemetry=2)
    assert delivery.pace.window == 3 * FLOOR - 2
    assert len(pump(delivery, S, size=FLOOR)) == 3


def test_the_window_halves_when_receipts_come_late_and_stays_inside_what_both_ends_allow() -> None:
    delivery = Delivery(MB, None, 0)
    delivery.opened(Welcome({}, max_bytes=200_000), heads(telemetry=(1, 1000)), 0)
    windows = []
    for turn, took in enumerate([S // 10, S // 10, S // 10, 3 * S, 3 * S, 3 * S]):
        sent = pump(delivery, turn * 10 * S, size=FLOOR)
        receipt(delivery, turn * 10 * S + took, telemetry=int(sent[-1].split()[1]))
        windows.append(delivery.pace.window)
    assert windows == [2 * FLOOR, 200_000, 200_000, 100_000, FLOOR, FLOOR]


def test_a_link_that_is_always_slow_is_not_taken_for_a_queue() -> None:
    delivery = opened(telemetry=(1, 1000))
    for turn in range(3):
        sent = pump(delivery, turn * 10 * S, size=FLOOR)
        receipt(delivery, turn * 10 * S + 3 * S, telemetry=int(sent[-1].split()[1]))
    assert delivery.pace.window == 8 * FLOOR


def test_many_small_frames_are_bounded_by_number() -> None:
    delivery = opened(telemetry=(1, 5000))
    assert len(pump(delivery, 0, size=1)) == MAX_FRAMES


def test_a_rate_is_kept_over_any_span_but_for_one_second_and_one_frame() -> None:
    delivery, sent = opened(max_rate=10_000, telemetry=(1, 1000)), 0
    for tick in range(0, 10 * S, S // 4):
        frames = pump(delivery, tick, size=3000)
        sent += 3000 * len(frames)
        assert sent <= 10_000 * (tick / S + 1) + 3000
        if frames:
            receipt(delivery, tick, telemetry=int(frames[-1].split()[1]))
    assert sent >= 100_000


def test_when_the_rate_holds_a_frame_back_due_says_when_it_may_go() -> None:
    delivery = opened(max_rate=1000, telemetry=(1, 10))
    assert pump(delivery, 0, size=1500) == ["telemetry 1"]
    due = delivery.due(0)
    assert due == S // 2 + 1
    assert delivery.next(due - 1000) is None
    assert pump(delivery, due, size=1500) == ["telemetry 2"]


def test_a_frame_that_was_passed_over_waits_and_is_sent_again() -> None:
    delivery = opened(telemetry=(1, 4))
    delivery.appended("telemetry", 4)
    assert pump(delivery, 0) == ["telemetry 4", "telemetry 1", "telemetry 2", "telemetry 3"]
    assert receipt(delivery, S, telemetry=2) == [Release("telemetry", 2)]
    assert delivery.due(S) == min(S + DEFER_NS, S + SILENCE_NS)
    assert pump(delivery, S) == []
    assert pump(delivery, S + DEFER_NS) == ["telemetry 4"]


def test_only_what_was_passed_over_is_sent_again_and_what_is_in_flight_is_not() -> None:
    delivery = opened(telemetry=(1, 8))
    pump(delivery, 0)
    receipt(delivery, S, telemetry=Mark(2, [(4, 5)]))
    assert pump(delivery, S + DEFER_NS) == ["telemetry 3"]
    assert delivery.pace.frames == len([3, 6, 7])


def test_dropped_and_damaged_frames_are_passed_by() -> None:
    delivery = opened(telemetry=(1, 10))
    for seq in (1, 4):
        send = Send("backlog", "telemetry", seq)
        assert delivery.next(0) == send
        delivery.absent(send, LaneHead(4, 10, 0))
    assert pump(delivery, 0) == [f"telemetry {seq}" for seq in range(5, 10)]


def test_a_frame_told_of_too_early_is_sent_when_it_is_there() -> None:
    delivery = opened(telemetry=(1, 2))
    delivery.appended("telemetry", 7)
    for send in iter(lambda: delivery.next(0), None):
        if send.seq == 2:
            delivery.absent(send, LaneHead(1, 2, 0))
        else:
            delivery.sent(send, 10, 0)
        delivery.check()
    delivery.appended("telemetry", 2)
    assert pump(delivery, 0) == ["telemetry 2"]


def test_what_the_cloud_misses_and_the_spool_has_dropped_is_gone() -> None:
    delivery = Delivery(MB, None, 0)
    marks = {"telemetry": Mark(2, [(5, 6), (9, 9)])}
    assert delivery.opened(Welcome(marks), heads(telemetry=(8, 12)), 0) == [
        Release("telemetry", 2),
        Gone("telemetry", 3, 4),
        Gone("telemetry", 7, 7),
    ]
    assert pump(delivery, 0) == ["telemetry 8", "telemetry 10", "telemetry 11"]


@pytest.mark.parametrize(
    ("welcome", "reason"),
    [
        (Welcome({}, fork="cloned"), "cloned"),
        (Welcome({"alerts": Mark(5)}), f"alerts: the cloud has frame 5, the next one here is 5: {COPIED}"),
        (Welcome({"alerts": Mark(2, [(7, 9)])}), f"alerts: the cloud has frame 9, the next one here is 5: {COPIED}"),
    ],
    ids=["the cloud says so", "a tail that was lost", "a range that was lost"],
)
def test_a_contradiction_at_the_greeting_begins_a_new_epoch(welcome: Welcome, reason: str) -> None:
    delivery = Delivery(MB, None, 0)
    assert delivery.opened(welcome, heads(alerts=(1, 5)), 0) == [Fork(reason)]
    assert delivery.next(0) is None


@pytest.mark.parametrize(
    ("ours", "forks"), [(11, True), (7, False), (0, False)], ids=["another", "the same", "not here any more"]
)
def test_a_frame_that_is_another_in_the_cloud_begins_a_new_epoch(ours: int, forks: bool) -> None:
    delivery = Delivery(MB, None, 0)
    welcome = Welcome({"alerts": Mark(3, [], 7)})
    instructions = delivery.opened(welcome, heads(alerts=(1, 9)), 0, {"alerts": ours})
    assert (instructions == [Fork(f"alerts: the cloud has another frame 3 than is here: {COPIED}")]) == forks


def test_a_receipt_for_what_does_not_exist_ends_the_connection() -> None:
    delivery = opened(alerts=(1, 5))
    assert receipt(delivery, 0, alerts=5) == [Close("a receipt of alerts 5, which does not exist")]


def test_marks_of_lanes_from_the_future_and_nonsense_ranges_are_left_out() -> None:
    delivery = opened(telemetry=(1, 10))
    pump(delivery, 0)
    assert receipt(delivery, 0, dreams=7, telemetry=Mark(3, [(8, 7), (2, 3), (5, 6), (6, 7)])) == [
        Release("telemetry", 3)
    ]
    assert delivery.pace.frames == len([7, 8, 9])
    assert pump(delivery, DEFER_NS) == ["telemetry 4"]


def test_silence_ends_the_connection_only_while_something_is_in_flight() -> None:
    delivery = opened(telemetry=(1, 2))
    late = 10 * SILENCE_NS
    assert delivery.tick(late) == []
    pump(delivery, late)
    assert (delivery.due(late), delivery.tick(late + SILENCE_NS - 1)) == (late + SILENCE_NS, [])
    assert delivery.tick(late + SILENCE_NS) == [Close("no receipt for 120 s")]


class Cloud:
    """Commits what arrives in order; may defer."""

    def __init__(self) -> None:
        self.has: dict[str, set[int]] = {lane: set() for lane in LANES}
        self.deferring = False

    def take(self, lane: str, seq: int) -> None:
        if not self.deferring or seq % 3:
            self.has[lane].add(seq)

    def mark(self, lane: str) -> Mark:
        ranges = list(_ranges(sorted(self.has[lane])))
        upto = ranges.pop(0)[1] if ranges and ranges[0][0] == 1 else 0
        return Mark(upto, ranges)

    def marks(self) -> dict[str, Mark]:
        return {lane: self.mark(lane) for lane in LANES}


def _ranges(seqs: list[int]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for seq in seqs:
        if last and seq == last + 1:
            last = seq
            continue
        if last:
            yield first, last
        first = last = seq
    if last:
        yield first, last


class Uplinks(RuleBasedStateMachine):
    """Any interleaving of appends, sends, commits, receipts, losses of either, drops, damage and deferrals."""

    @initialize(rate=st.sampled_from([None, 50_000]), limit=st.sampled_from([1, 10_000, 1 << 20]))
    def begin(self, rate: int | None, limit: int) -> None:
        self.now = 0
        self.delivery = Delivery(limit, rate, 0)
        self.limit = limit
        self.cloud = Cloud()
        self.oldest = dict.fromkeys(LANES, 1)
        self.sizes: dict[str, list[int]] = {lane: [] for lane in LANES}
        self.damaged: set[tuple[str, int]] = set()
        self.link: list[tuple[str, int]] = []
        self.down: list[Receipt] = []
        self.open = False
        self.definitions: set[int] = set()  # sent on this connection, receipted or absent

    def heads(self) -> dict[str, LaneHead]:
        return {lane: LaneHead(self.oldest[lane], len(self.sizes[lane]) + 1, 0) for lane in LANES}

    @rule(lane=st.sampled_from(LANES), size=st.sampled_from([33, 500, 40_000]), times=st.integers(1, 6))
    def append(self, lane: str, size: int, times: int) -> None:
        for _ in range(times):
            self.sizes[lane].append(size)
            self.delivery.appended(lane, len(self.sizes[lane]))

    @precondition(lambda self: not self.open)
    @rule()
    def connect(self) -> None:
        marks = self.cloud.marks()
        for instruction in self.delivery.opened(Welcome(marks), self.heads(), self.now):
            if isinstance(instruction, Gone):  # declared lost, and believed
                self.cloud.has[instruction.lane] |= set(range(instruction.first, instruction.last + 1))
            else:
                assert isinstance(instruction, Release)
                assert set(range(1, instruction.upto + 1)) <= self.cloud.has[instruction.lane]
        self.open = True
        self.definitions = set(self.cloud.has["definitions"])

    @precondition(lambda self: self.open)
    @rule(kept=st.integers(0, 5))
    def disconnect(self, kept: int) -> None:
        self.arrive(kept)
        self.link, self.down, self.open = [], [], False
        self.delivery.closed()

    @precondition(lambda self: self.open)
    @rule(most=st.integers(1, 20))
    def send(self, most: int) -> None:
        for _ in range(most):
            if (send := self.delivery.next(self.now)) is not None:
                self.send_one(send)

    def send_one(self, send: Send) -> None:
        if send.lane == "definitions":
            self.definitions.add(send.seq)
        else:
            assert self.definitions >= set(range(1, len(self.sizes["definitions"]) + 1))
        assert send.seq not in self.delivery._lanes[send.lane].flights
        assert 1 <= send.seq <= len(self.sizes[send.lane])
        if send.seq < self.oldest[send.lane] or (send.lane, send.seq) in self.damaged:
            self.delivery.absent(send, self.heads()[send.lane])
            return
        self.delivery.sent(send, self.sizes[send.lane][send.seq - 1], self.now)
        self.link.append((send.lane, send.seq))

    @rule(most=st.integers(1, 20))
    def arrive(self, most: int) -> None:
        for lane, seq in self.link[:most]:
            self.cloud.take(lane, seq)
        if self.link[:most]:
            self.down.append(Receipt(self.cloud.marks()))
        del self.link[:most]

    @rule(again=st.booleans())
    def hear(self, again: bool) -> None:
        if self.down:
            said = self.down[0] if again else self.down.pop(0)
            for instruction in self.delivery.receipted(said, self.now):
                assert isinstance(instruction, Release)
                assert set(range(1, instruction.upto + 1)) <= self.cloud.has[instruction.lane]

    @rule(lane=st.sampled_from(LANES[1:]), count=st.integers(1, 3))
    def drop(self, lane: str, count: int) -> None:
        last = min(self.oldest[lane] + count, len(self.sizes[lane]) + 1)
        self.oldest[lane] = last

    @rule(lane=st.sampled_from(LANES), data=st.data())
    def damage(self, lane: str, data: st.DataObject) -> None:
        if self.sizes[lane]:
            self.damaged.add((lane, data.draw(st.integers(1, len(self.sizes[lane])))))

    @precondition(lambda self: self.open)
    @rule(deferring=st.booleans())
    def exchange(self, deferring: bool) -> None:
        self.cloud.deferring = deferring
        self.send(20)
        self.arrive(20)
        while self.down:
            self.hear(again=False)

    @rule(seconds=st.integers(0, 10))
    def wait(self, seconds: int) -> None:
        self.now += seconds * S

    @invariant()
    def invariants_hold(self) -> None:
        self.delivery.check()
        due = self.delivery.due(self.now)
        assert due >= self.now or self.delivery.tick(self.now)

    def teardown(self) -> None:
        """Without faults from here on, all that the spool holds reaches the cloud, in a bounded number of steps."""
        if not hasattr(self, "cloud"):
            return
        self.cloud.deferring = False
        if not self.open:
            self.connect()
        for _ in range(10 * sum(map(len, self.sizes.values())) + 100):
            self.send(100)
            self.arrive(100)
            while self.down:
                self.hear(again=False)
            self.delivery.check()
            if self.delivery.tick(self.now):  # the last frame was passed over, and nothing came after it
                self.disconnect(0)
                self.connect()
            due = self.delivery.due(self.now)
            if due == NEVER and not self.link:
                break
            self.now = max(self.now, min(due, self.now + 10 * S))
        for lane in LANES:
            held = range(self.oldest[lane], len(self.sizes[lane]) + 1)
            assert {seq for seq in held if (lane, seq) not in self.damaged} <= self.cloud.has[lane]
        assert self.delivery.pace.bytes == 0


TestUplinks = Uplinks.TestCase
TestUplinks.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_lane_skips_over_ranges_and_flights_without_walking_them() -> None:
    lane = Lane()
    lane.open(Mark(10, [(20, 10**12)]), LaneHead(1, 10**12 + 5, 0))
    lane.pass_by(11)
    assert (lane.backlog(), lane.receipted_to(25), lane.receipted_to(15)) == (12, 10**12, 0)
    for seq in range(12, 20):
        lane.pass_by(seq)
    assert lane.backlog() == 10**12 + 1


def test_other_bounds_count_from_the_next_frame_on() -> None:
    pace = Pace(1_000_000, None, 0)
    pace.reset(500_000)
    pace.take(60_000)
    pace.configure(50_000, 1000, S)
    pace.check()
    assert (pace.full, pace.limit, pace.opens(S)) == (True, 50_000, S)
    pace.give([60_000])
    pace.take(2000)
    assert (pace.full, pace.opens(S)) == (False, 2 * S + 1)
    pace.configure(1_000_000, 1000, S)
    assert (pace.limit, pace.opens(S)) == (500_000, 2 * S + 1), "the cloud's bound; the bucket goes on"
    pace.configure(1_000_000, None, S)
    assert pace.opens(S) == S


def test_how_fast_the_link_is_is_measured_while_there_is_enough_to_send() -> None:
    throughput = Throughput()
    throughput.begin(0)
    throughput.add(ENOUGH - 1, S)
    assert throughput.rate is None
    throughput.begin(10 * S)
    throughput.add(ENOUGH // 2, 11 * S)
    throughput.add(ENOUGH // 2, 12 * S)
    assert throughput.rate == ENOUGH / 2
    throughput.add(ENOUGH, 13 * S)
    assert throughput.rate == 0.75 * ENOUGH
