"""`now` never decreases, whatever the wall clock does; what has become of the clock is told, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock as clocks
from gateway.clock import CATCH_UP, PATIENCE, PLAUSIBLE, Clock, adrift, boot_id, told
from gateway.records import ClockRecord

S = 10**9
HOUR, YEAR = 3600 * S, 365 * 86_400 * S
TODAY = PLAUSIBLE + YEAR


class World:
    """Elapsed time and how the wall clock stands against it, in ns; what kernel and services say of it."""

    def __init__(self, stands: int = TODAY, *, vouched: bool | None = None, last: int = 0) -> None:
        self.elapsed, self.stands, self.vouched = 0, stands, vouched
        self.clock = Clock(
            last, wall=lambda: self.stands + self.elapsed, monotonic=lambda: self.elapsed, vouched=lambda: self.vouched
        )

    def at(self, elapsed: int, stands: int | None = None) -> int:
        """Give `now` when so much time has passed; perhaps the wall clock was set."""
        self.elapsed, self.stands = elapsed, self.stands if stands is None else stands
        return self.clock.now()

    def told(self, elapsed: int, stands: int | None = None) -> ClockRecord | None:
        """Give the clock record that is due then."""
        now = self.at(elapsed, stands)
        return self.clock.record(now, "boot") if self.clock.changed else None


@pytest.mark.parametrize(
    ("walls", "expected"),
    [
        pytest.param([100, 110, 120], [100, 110, 120], id="an honest clock is believed"),
        pytest.param([100, 5000, 5010], [100, 5000, 5010], id="a clock that is slewed ahead is followed"),
        pytest.param([100, 40, 50, 60], [100, 105, 110, 115], id="one behind runs on at half speed"),
        pytest.param([100, 96, 106, 116], [100, 105, 106, 116], id="until wall time has caught up"),
    ],
)
def test_now_follows_the_wall_clock_but_never_back(walls: list[int], expected: list[int]) -> None:
    wall, monotonic = iter(PLAUSIBLE + wall for wall in walls), iter(range(0, 1000, 10))
    clock = Clock(wall=lambda: next(wall), monotonic=lambda: next(monotonic))
    assert [clock.now() - PLAUSIBLE for _ in walls] == expected


def test_without_a_clock_that_can_be_believed_time_runs_on_at_full_speed() -> None:
    monotonic = iter(range(0, 1000, 10))
    clock = Clock(last=500, wall=lambda: 7, monotonic=lambda: next(monotonic))
    assert [clock.now() for _ in range(3)] == [510, 520, 530]


def test_now_is_not_before_the_journals_last_stamp() -> None:
    clock = Clock(last=1000, wall=lambda: 10, monotonic=lambda: 0)
    assert clock.now() == 1000


def test_1970_until_it_is_set_is_told_with_what_makes_utc_of_the_time_before() -> None:
    world = World(stands=5 * S)
    assert world.told(0) == ClockRecord(5 * S, "boot", 0, synchronised=False, leap=0)
    assert world.told(7 * S) is None
    assert world.at(9 * S) == 14 * S
    ahead = TODAY - 5 * S
    assert world.told(10 * S, TODAY) == ClockRecord(TODAY + 10 * S, "boot", 10 * S, True, leap=ahead, shift=ahead)
    assert world.told(11 * S) is None


def test_an_old_date_from_the_disk_is_not_believed_while_a_time_service_has_not_set_it() -> None:
    world = World(TODAY, vouched=False, last=TODAY - S)
    assert world.told(0) == ClockRecord(TODAY - S, "boot", 0, synchronised=False, leap=0)
    assert world.told(HOUR) is None
    world.vouched = True
    late = 23 * 24 * HOUR
    assert world.told(2 * HOUR, TODAY + late) == ClockRecord(
        TODAY + late + 2 * HOUR, "boot", 2 * HOUR, True, leap=late + S, shift=late + S
    )


@pytest.mark.parametrize("step", [pytest.param(30 * YEAR, id="30 years ahead"), pytest.param(-HOUR, id="an hour back")])
def test_a_jump_that_nobody_vouches_for_moves_nothing_and_is_forgotten_when_it_is_undone(step: int) -> None:
    world = World()
    world.told(0)
    assert world.told(S, TODAY + step) == ClockRecord(TODAY + S, "boot", S, synchronised=False, leap=0)
    assert world.at(60 * S) == TODAY + 60 * S
    assert world.told(61 * S, TODAY) == ClockRecord(TODAY + 61 * S, "boot", 61 * S, True, leap=0, shift=0)


def test_a_jump_ahead_that_stands_long_enough_was_meant() -> None:
    world = World()
    world.told(0)
    assert world.told(S, TODAY + HOUR) is not None
    assert world.told(PATIENCE) is None
    assert world.told(PATIENCE + 2 * S) == ClockRecord(
        TODAY + HOUR + PATIENCE + 2 * S, "boot", PATIENCE + 2 * S, True, leap=HOUR, shift=HOUR
    )


def test_a_time_service_that_sets_the_clock_back_an_hour_leaves_an_offset_and_now_runs_on() -> None:
    world = World(vouched=True)
    world.told(0)
    assert world.told(S, TODAY - HOUR) == ClockRecord(TODAY + S, "boot", S, True, leap=0, shift=-HOUR, offset=-HOUR)
    assert (world.at(60 * S), world.clock.utc()) == (TODAY + 60 * S, TODAY - HOUR + 60 * S)


def test_a_minute_back_is_caught_up_at_half_speed() -> None:
    world = World(vouched=True)
    world.told(0)
    assert world.told(S, TODAY - CATCH_UP) is None
    before = world.at(2 * S)
    assert world.at(4 * S) == before + S


@pytest.mark.parametrize(
    ("cloud", "believed"),
    [pytest.param(TODAY + S, True, id="it agrees"), pytest.param(TODAY + HOUR, False, id="it does not")],
)
def test_a_clock_that_no_service_has_set_is_believed_where_the_clouds_agrees(cloud: int, *, believed: bool) -> None:
    world = World(TODAY, vouched=False)
    assert (world.at(0), world.clock.synchronised) == (PLAUSIBLE, False)
    world.clock.agree(cloud)
    world.at(1)
    assert world.clock.synchronised == believed


def test_a_good_clock_stays_good_when_its_service_is_away() -> None:
    world = World(vouched=True)
    world.told(0)
    world.vouched = False
    assert world.told(12 * HOUR) is None
    assert world.clock.synchronised


def test_a_process_that_begins_in_the_same_boot_goes_on_by_elapsed_time() -> None:
    before = ClockRecord(5 * S, boot_id(), 3 * S, synchronised=False)
    clock = Clock(7 * S, wall=lambda: 9, monotonic=lambda: 60 * S, since=adrift(before))
    assert clock.now() == 62 * S
    assert clock.record(62 * S, "b", after=7 * S) == ClockRecord(62 * S, "b", 60 * S, synchronised=False, leap=55 * S)


def test_only_this_boots_time_without_utc_is_gone_on_with() -> None:
    assert adrift(None) is None
    assert adrift(ClockRecord(5, "another", 3, synchronised=False)) is None
    assert adrift(ClockRecord(5, boot_id(), 3, synchronised=True)) is None


@given(
    st.lists(st.tuples(st.integers(0, HOUR), st.integers(-40 * YEAR, 40 * YEAR), st.sampled_from([None, True, False])))
)
def test_now_never_decreases_and_elapsed_time_is_never_lost(steps: list[tuple[int, int, bool | None]]) -> None:
    world = World()
    world.told(0)
    now = base = world.at(0)
    for elapsed, stands, vouched in steps:
        world.vouched = vouched
        before, now = now, world.at(world.elapsed + elapsed, TODAY + stands)
        record = world.clock.record(now, "boot") if world.clock.changed else None
        assert now >= before
        if record is not None and record.leap:
            base += record.leap
        assert now - before - (record.leap or 0 if record else 0) <= elapsed + 2 * S
    assert base >= TODAY


@pytest.mark.parametrize(
    ("kernel", "files", "said"),
    [
        pytest.param(True, [], True, id="the kernel knows of somebody"),
        pytest.param(False, [], None, id="nobody keeps it right"),
        pytest.param(None, [], None, id="the kernel may not be asked"),
        pytest.param(False, ["timesync"], False, id="a service has not set it yet"),
        pytest.param(False, ["timesync", "timesync/synchronized"], None, id="a service has set it, once"),
    ],
)
def test_who_vouches_for_the_wall_clock(
    kernel: bool | None,
    files: list[str],
    said: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in files:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(clocks, "kernel_vouches", lambda: kernel)
    monkeypatch.setattr(clocks, "SERVICES", (tmp_path / "timesync",))
    monkeypatch.setattr(clocks, "SET", tmp_path / "timesync/synchronized")
    assert clocks.vouched() is said


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            ClockRecord(0, "", 0, False),
            "not believed: what has its time from it gets its place when the clock is right",
        ),
        (ClockRecord(0, "", 0, True, 0, -HOUR, -HOUR), "was set back by 3600 s"),
        (ClockRecord(0, "", 0, True, HOUR, HOUR), "is believed; it went ahead by 3600 s"),
    ],
)
def test_what_the_log_says(record: ClockRecord, said: str) -> None:
    assert said in told(record)
