"""What has its time from a clock that was wrong gets its place when it is right; devices' own times are not touched."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.config import Duration as Ns
from gateway.config import PipelineConfig, Rule, Time, Window
from gateway.derive import Derive
from gateway.domains import LONG, MAX_CLOCKS, MAX_LEAPS, Domains
from gateway.records import (
    Alerts,
    ClockRecord,
    Closed,
    Definitions,
    Outputs,
    Readings,
    ReadingsRecord,
    Record,
    Tally,
    TickRecord,
)
from protocol.columns import decode_state, encode_state
from protocol.messages import ClockDefinition

S = 10**9
TODAY = 1_790_000_000
"""In s."""

CONFIG = PipelineConfig(window=(Window(size=Ns(10 * S)),), time=Time(idle=Ns(5 * S)), rule=(Rule(when="value > 90"),))
NAMES = ["ours/t", "theirs/t"]
OURS, THEIRS = 0, 1
NOBODYS = np.empty(0, np.int32)

Told = tuple[str, str, int, int]
"""Domain, name, start (s) and count of a window."""


class Bench:
    """A `derive`, fed by the second; after each record it is replaced by what its snapshot restores."""

    def __init__(self) -> None:
        self.derive = Derive(CONFIG)
        self.feed(ReadingsRecord(0, Readings(NOBODYS, np.empty(0, np.int64), np.empty(0)), NAMES, ours=NOBODYS))

    def feed(self, record: Record) -> Outputs:
        outputs = self.derive.feed(record)
        self.derive = Derive.restore(decode_state(encode_state(self.derive.snapshot())))
        totals = self.derive.totals
        explained = totals.windowed + sum(totals.removed.values()) + totals.late + self.derive.pending
        assert totals.recorded == explained
        return outputs

    def clock(
        self, stamp: int, monotonic: int, *, leap: int = 0, shift: int | None = None, offset: int = 0
    ) -> list[Told]:
        """A clock record; it is believed if it gives a shift."""
        known = None if shift is None else shift * S
        return windows(
            self.feed(ClockRecord(stamp * S, "b", monotonic * S, shift is not None, leap * S, known, offset * S))
        )

    def arrive(self, stamp: int, series: int, *seconds: float, ours: bool = True, value: float = 1.0) -> list[Told]:
        """Readings of a series at these times."""
        columns = Readings(
            np.full(len(seconds), series, np.int32),
            np.array([round(at * S) for at in seconds], np.int64),
            np.full(len(seconds), value),
        )
        noted = np.array([series] if ours else [], np.int32)
        tally = Tally(messages=len(seconds), decoded=len(seconds))
        return windows(self.feed(ReadingsRecord(stamp * S, columns, tally=tally, ours=noted)))

    def tick(self, stamp: int) -> list[Told]:
        return windows(self.feed(TickRecord(stamp * S)))


def windows(outputs: Outputs) -> list[Told]:
    return [
        (item.domain, NAMES[series], start // S, count)
        for item in outputs.items
        if isinstance(item, Closed)
        for series, start, count in zip(
            item.rows.series.tolist(), item.rows.start.tolist(), item.rows.count.tolist(), strict=True
        )
    ]


def known(outputs: Outputs) -> list[ClockDefinition]:
    return [clock for item in outputs.items if isinstance(item, Definitions) for clock in item.clocks]


def test_1970_then_set_states_what_is_open_as_it_is_and_says_what_makes_utc_of_it() -> None:
    bench = Bench()
    assert bench.clock(20, 3) == []
    assert bench.arrive(21, OURS, 21, 29) == []
    assert bench.arrive(31, OURS, 31, 33) == [("b", "ours/t", 20, 2)]
    outputs = bench.feed(ClockRecord((TODAY + 35) * S, "b", 18 * S, True, TODAY * S, TODAY * S))
    assert windows(outputs) == [("b", "ours/t", 30, 2)]
    assert known(outputs) == [ClockDefinition("b", TODAY * S + 1)]
    assert bench.arrive(TODAY + 36, OURS, TODAY + 36, TODAY + 47) == [("", "ours/t", TODAY + 30, 1)]
    assert bench.derive.announced().clocks == [ClockDefinition("b", TODAY * S + 1)]


def test_a_device_with_a_clock_of_its_own_is_in_utc_and_goes_on_over_the_leap() -> None:
    bench = Bench()
    bench.clock(20, 3)
    assert bench.arrive(21, THEIRS, TODAY + 21, TODAY + 24, ours=False) == []
    assert bench.clock(TODAY + 23, 6, leap=TODAY, shift=TODAY) == []
    assert bench.arrive(TODAY + 29, THEIRS, TODAY + 29, ours=False) == []
    assert bench.arrive(TODAY + 31, THEIRS, TODAY + 31, ours=False) == [("", "theirs/t", TODAY + 20, 3)]


def test_in_1970_all_along_silence_closes_the_last_window_of_a_device_that_is_right() -> None:
    bench = Bench()
    bench.clock(20, 3)
    bench.arrive(21, THEIRS, TODAY + 24, ours=False)
    assert bench.derive.due() == 27 * S
    assert bench.tick(26) == []
    assert bench.tick(27) == [("", "theirs/t", TODAY + 20, 1)]


@pytest.mark.parametrize("years", [30, -30])
def test_a_jump_of_years_closes_nothing_early_and_stalls_nothing(years: int) -> None:
    bench, jump = Bench(), years * 365 * 86_400
    bench.clock(TODAY, 3, shift=0)
    bench.arrive(TODAY + 1, THEIRS, TODAY + 1, ours=False)
    ahead = max(jump, 0)  # where the clock went back, `now` runs on, and an offset makes UTC of it
    assert bench.clock(TODAY + 2 + ahead, 5, leap=ahead, shift=jump, offset=min(jump, 0)) == []
    assert bench.tick(TODAY + 5 + ahead) == []
    assert bench.arrive(TODAY + 8 + ahead, THEIRS, TODAY + 8 + jump, ours=False) in ([], [("", "theirs/t", TODAY, 1)])


@pytest.mark.parametrize("believed", [pytest.param(False, id="not believed"), pytest.param(True, id="it was right")])
def test_after_a_step_of_an_hour_back_devices_that_are_right_are_not_of_the_future(*, believed: bool) -> None:
    bench = Bench()
    bench.clock(TODAY, 3, shift=0)
    bench.clock(TODAY + 2, 5, shift=-3600 if believed else None, offset=-3600 * believed)
    bench.arrive(TODAY + 3, THEIRS, TODAY + 3 - 3600 * believed, ours=False)
    assert bench.derive.totals.removed == {}
    bench.arrive(TODAY + 4, THEIRS, TODAY + 4 - 3600 * believed + 301, ours=False)
    assert bench.derive.totals.removed == ({"future": 1} if believed else {})


def test_a_clock_set_back_leaves_stamps_ahead_and_says_at_once_what_makes_utc_of_them() -> None:
    bench = Bench()
    bench.clock(TODAY, 3, shift=0)
    assert bench.arrive(TODAY + 1, OURS, TODAY + 1) == []
    outputs = bench.feed(ClockRecord((TODAY + 2) * S, "b", 5 * S, True, 0, -3600 * S, -3600 * S))
    assert known(outputs) == [ClockDefinition("b", -3600 * S | 1)]
    assert bench.arrive(TODAY + 4, OURS, TODAY + 4) == [("", "ours/t", TODAY, 1)], "what was open before is UTC"
    assert bench.arrive(TODAY + 14, OURS, TODAY + 14) == [("b", "ours/t", TODAY, 1)]


def test_silence_closes_the_last_window_where_stamps_are_ahead_of_utc() -> None:
    bench = Bench()
    bench.clock(TODAY, 3, shift=-3600, offset=-3600)
    bench.arrive(TODAY + 1, OURS, TODAY + 1)
    assert bench.derive.due() == (TODAY + 10) * S
    assert bench.tick(TODAY + 20) == [("b", "ours/t", TODAY, 1)]


def test_a_jump_undone_within_a_window_states_no_window_twice() -> None:
    bench = Bench()
    bench.clock(TODAY, 3, shift=0)
    bench.arrive(TODAY + 1, OURS, TODAY + 1)
    bench.clock(TODAY + 2, 5)
    assert bench.arrive(TODAY + 3, OURS, TODAY + 3) == [("", "ours/t", TODAY, 1)]
    assert bench.clock(TODAY + 4, 7, shift=0) == [("b", "ours/t", TODAY, 1)]
    assert bench.arrive(TODAY + 5, OURS, TODAY + 5, TODAY + 11) == []
    assert bench.tick(TODAY + 30) == [("", "ours/t", TODAY + 10, 1)]
    assert bench.derive.totals.late == 1, "its window was stated already"


def test_a_process_that_goes_on_in_the_same_boot_goes_on_in_its_domain() -> None:
    bench = Bench()
    bench.clock(20, 3)
    bench.arrive(21, OURS, 21)
    assert bench.clock(28, 11, leap=7) == []
    assert bench.arrive(29, OURS, 29) == []
    assert bench.clock(TODAY + 31, 14, leap=TODAY, shift=TODAY) == [("b", "ours/t", 20, 2)]


def test_what_a_boot_left_behind_without_a_clock_stays_in_its_domain() -> None:
    bench = Bench()
    bench.clock(20, 3)
    bench.arrive(21, OURS, 21)
    outputs = bench.feed(ClockRecord(TODAY * S, "c", 3 * S, True, (TODAY - 21) * S, 0))
    assert windows(outputs) == [("b", "ours/t", 20, 1)]
    assert known(outputs) == []


def test_an_alert_is_where_its_windows_are() -> None:
    bench = Bench()
    bench.clock(20, 3)
    bench.arrive(21, OURS, 21, value=99.0)
    bench.arrive(21, THEIRS, TODAY + 21, ours=False, value=99.0)
    outputs = bench.feed(TickRecord(40 * S))
    raised = [
        (item.domain, alert.series) for item in outputs.items if isinstance(item, Alerts) for alert in item.alerts
    ]
    assert raised == [("", [THEIRS]), ("b", [OURS])]


def test_of_a_record_that_does_not_say_whose_times_are_ours_all_are() -> None:
    bench = Bench()
    bench.clock(20, 3)
    columns = Readings(np.array([0, 1], np.int32), np.array([21, 21]) * S, np.ones(2))
    bench.feed(ReadingsRecord(21 * S, columns, tally=Tally(messages=2, decoded=2)))
    assert bench.tick(40) == [("b", "ours/t", 20, 1), ("b", "theirs/t", 20, 1)]


def test_a_condition_lasts_over_the_leap_as_long_as_it_did() -> None:
    lasting = PipelineConfig(window=CONFIG.window, time=CONFIG.time, rule=(Rule(when="value > 90 for 30s"),))
    derive, raised = Derive(lasting), []
    derive.feed(ReadingsRecord(0, Readings(NOBODYS, np.empty(0, np.int64), np.empty(0)), NAMES, ours=NOBODYS))
    derive.feed(ClockRecord(0, "b", 0, synchronised=False, leap=0))
    for second in range(0, 60, 10):
        if second == 20:
            derive.feed(ClockRecord((TODAY + second) * S, "b", second * S, True, TODAY * S, TODAY * S))
        at = second + (TODAY if second >= 20 else 0)
        columns = Readings(np.zeros(1, np.int32), np.array([at * S]), np.full(1, 99.0))
        outputs = derive.feed(ReadingsRecord(at * S, columns, ours=np.zeros(1, np.int32)))
        raised += [second for item in outputs.items if isinstance(item, Alerts)]
    assert raised == [30]


def test_a_name_is_never_used_for_two_times() -> None:
    domains = Domains()
    names = []
    for at in range(0, 40, 10):
        domains.feed(ClockRecord(at, "b", at, synchronised=False))
        names.append(domains.domain)
        domains.feed(ClockRecord(at + 5, "b", at + 5, synchronised=True, shift=at))
        assert domains.domain == ""
    assert names == ["b", "b.10", "b.20", "b.30"]


@pytest.mark.parametrize(("shift", "odd"), [(0, 1), (10, 11), (-3600, -3599), (7, 7)])
def test_what_makes_utc_is_odd(shift: int, odd: int) -> None:
    domains = Domains()
    domains.feed(ClockRecord(0, "b", 0, synchronised=False))
    assert domains.feed(ClockRecord(5, "b", 5, synchronised=True, shift=shift)) == [ClockDefinition("b", odd)]


def test_what_is_remembered_is_bounded() -> None:
    domains = Domains()
    for number in range(MAX_CLOCKS + 9):
        domains.feed(ClockRecord(number, str(number), 0, synchronised=False))
        domains.feed(ClockRecord(number, str(number), 1, synchronised=True, shift=0))
        domains.leap(number, LONG + 1)
        domains.leap(number, LONG)
    assert (next(iter(domains.known)), len(domains.known), len(domains.leaps)) == ("9", MAX_CLOCKS, MAX_LEAPS)
    assert encode_state(Domains.restore("", domains.snapshot()).snapshot()) == encode_state(domains.snapshot())


def test_a_checkpoint_of_an_earlier_version_has_the_domain_alone() -> None:
    assert [Domains.restore(domain, {}).offset for domain in ("", "b")] == [0, None]
