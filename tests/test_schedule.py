"""When a source is asked again; all time is the test's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CrlError, FetchError, GatewayError
from gateway.schedule import FLOOR, LONGEST_MAX_AGE, Schedule, Source, SourceState
from tests.observer import EPOCH, Recorder, wall_clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

URL = "http://user:secret@crl.example/ca.crl"
HOUR = 3600.0
NEW, SAME = True, False


@pytest.mark.parametrize(
    ("interval", "time_left", "expected"),
    [
        (900, None, 900),
        (900, 7 * 24 * HOUR, 900),
        (900, 1000, 900),
        (900, 999, 899.1),
        (900, 600, 540),
        (900, 60, 54),
        (900, 6, 5.4),
        (900, 1, 1),
        (900, 0.1, 1),
        (0.5, None, 1),
        (0.5, HOUR, 1),
        (86400, 2 * HOUR, 1.8 * HOUR),
    ],
)
def test_the_next_fetch_is_after_the_interval_or_before_next_update(
    interval: float, time_left: float | None, expected: float
) -> None:
    assert Schedule(interval).after_success(time_left, chance=0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("time_left", "chance", "first", "expected"),
    [
        (None, 0.5, False, 855),
        (None, 0.999, False, 810.09),
        (100, 0.5, False, 85.5),
        (1, 0.5, False, 1),
        (None, 0.5, True, 675),
        (None, 0.999, True, 450.45),
        (100, 0.5, True, 67.5),
    ],
)
def test_chance_takes_a_tenth_off_and_a_half_off_the_first_delay(
    time_left: float | None, chance: float, first: bool, expected: float
) -> None:
    assert Schedule(900).after_success(time_left, chance, first=first) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("time_left", "max_age", "expected"),
    [
        (36_000, 0, 900),
        (18_600, 0, 600),
        (18_000, 0, 900),
        (1_000, 0, 500),
        (1, 0, FLOOR),
        (36_000, 60, 900),
        (36_000, 1_800, 1_800),
        (36_000, 86_400, LONGEST_MAX_AGE),
        (18_600, 86_400, 600),
        (1_000, 86_400, 500),
    ],
    ids=[
        "the interval",
        "half of its life is over before that",
        "half of its life is over",
        "near its end",
        "at its end",
        "a cache that keeps it for less",
        "a cache that keeps it for longer",
        "a cache that keeps it for ever",
        "a cache that keeps it beyond half of its life",
        "a cache that keeps it to the end",
    ],
)
def test_a_response_is_renewed_at_half_of_its_life_or_when_caches_have_another(
    time_left: float, max_age: float, expected: float
) -> None:
    schedule = Schedule(900, half_life=True)
    delay = schedule.after_success(time_left, chance=0, lifetime=36_000, max_age=max_age)
    assert delay == pytest.approx(expected)


def test_a_response_for_ever_is_renewed_by_the_interval() -> None:
    assert Schedule(900, half_life=True).after_success(None, chance=0) == 900


@pytest.mark.parametrize(
    ("age", "time_left", "chance", "expected"),
    [
        # Nothing there, or it has ended.
        (None, None, 0.5, 0),
        (None, HOUR, 0.5, 0),
        (100, 0, 0.5, 0),
        (100, -5, 0.5, 0),
        # When it would have been due.
        (100, None, 0, 800),
        (100, HOUR, 0, 800),
        (100, HOUR, 0.5, 755),
        (100, 500, 0, 440),
        # Overdue.
        (900, HOUR, 0, 0),
        (900, HOUR, 0.5, 45),
        (7 * 24 * HOUR, None, 0.5, 45),
        (7 * 24 * HOUR, 100, 0.5, 5),
        # From a clock that was ahead.
        (-7 * 24 * HOUR, HOUR, 0, 900),
    ],
)
def test_a_stored_copy_puts_the_first_attempt_off_until_it_is_due(
    age: float | None, time_left: float | None, chance: float, expected: float
) -> None:
    assert Schedule(900).at_start(age, time_left, chance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("interval", "failures", "chance", "expected"),
    [
        (900, 1, 0, 1),
        (900, 1, 0.99, 1),
        (900, 2, 0, 2),
        (900, 2, 0.5, 1.5),
        (900, 5, 0, 16),
        (900, 9, 0, 256),
        (900, 10, 0, 300),
        (900, 10, 0.5, 225),
        (900, 10_000, 0, 300),
        (60, 10, 0, 60),
        (0.5, 10, 0, 1),
    ],
)
def test_back_off_doubles_up_to_five_minutes_or_the_interval(
    interval: float, failures: int, chance: float, expected: float
) -> None:
    assert Schedule(interval).after_failure(failures, chance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("failures", "chance", "retry_after", "patience", "expected"),
    [
        (1, 0.0, 120, HOUR, 120),
        (1, 0.5, 120, HOUR, 126),
        (1, 0.0, 86400, HOUR, HOUR),
        (1, 0.0, 86400, 300, 300),
        # Never sooner than without.
        (10, 0.0, 5, HOUR, 300),
        (1, 0.0, 0, HOUR, 1),
    ],
)
def test_a_server_that_wants_to_be_left_alone_is_within_bounds(
    failures: int, chance: float, retry_after: float, patience: float, expected: float
) -> None:
    delay = Schedule(900).after_failure(failures, chance, retry_after=retry_after, patience=patience)
    assert delay == pytest.approx(expected)


@given(
    interval=st.floats(0.001, 1e7),
    time_left=st.none() | st.floats(-1e9, 1e9),
    failures=st.integers(1, 10**9),
    chance=st.floats(0, 1, exclude_max=True),
    first=st.booleans(),
)
def test_no_delay_is_below_the_floor_or_above_the_interval(
    interval: float, time_left: float | None, failures: int, chance: float, first: bool
) -> None:
    schedule = Schedule(interval)
    longest = max(1.0, interval)
    delay = schedule.after_success(time_left, chance, first=first)
    assert 1 <= delay <= longest
    assert time_left is None or delay <= max(1.0, time_left)
    assert 1 <= schedule.after_failure(failures, chance) <= min(longest, 300)


@given(
    interval=st.floats(0.001, 1e7),
    age=st.none() | st.floats(-1e9, 1e9),
    time_left=st.none() | st.floats(-1e9, 1e9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_stored_copy_is_waited_with_for_longer_than_the_interval_or_past_its_end(
    interval: float, age: float | None, time_left: float | None, chance: float
) -> None:
    delay = Schedule(interval).at_start(age, time_left, chance)
    assert 0 <= delay <= max(1.0, interval)
    assert time_left is None or delay <= max(1.0, time_left)


@given(
    interval=st.floats(0.001, 1e7),
    lifetime=st.floats(0, 1e9),
    share_left=st.floats(0, 1),
    max_age=st.floats(0, 1e9),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_response_is_waited_with_beyond_half_of_its_life_nor_then_to_its_end(
    interval: float, lifetime: float, share_left: float, max_age: float, chance: float
) -> None:
    time_left = lifetime * share_left
    schedule = Schedule(interval, half_life=True)
    delay = schedule.after_success(time_left, chance, lifetime=lifetime, max_age=max_age)
    assert FLOOR <= delay <= max(FLOOR, interval, LONGEST_MAX_AGE)
    half = time_left - lifetime / 2
    assert delay <= max(FLOOR, half if half > 0 else time_left / 2)


def test_until_next_update_there_is_a_handful_of_requests() -> None:
    time_left, requests = 600.0, 0
    while time_left > 0:
        time_left -= Schedule(900).after_success(time_left, chance=0)
        requests += 1
    assert requests < 6


class Script:
    """Attempts with the outcomes of a list, the last one ever after; remembers when each was made."""

    def __init__(self, *outcomes: bool | GatewayError | Callable[[], Awaitable[bool]]) -> None:
        self.outcomes = list(outcomes)
        self.times: list[float] = []

    async def __call__(self) -> bool:
        outcome = self.outcomes[min(len(self.times), len(self.outcomes) - 1)]
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, GatewayError):
            raise outcome
        return outcome if isinstance(outcome, bool) else await outcome()


def source(script: Script, recorder: Recorder, *, chance: float = 0.0) -> Source:
    return Source(SourceState(URL), script, Schedule(900), recorder, now=wall_clock, chance=lambda: chance)


async def run_for(seconds: float, *sources: Source) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for each in sources:
                nursery.start_soon(each.run)


async def test_a_source_is_asked_at_once_and_then_every_interval(
    autojump_clock: MockClock,
) -> None:
    script, recorder = Script(NEW, SAME), Recorder()
    asked = source(script, recorder)
    assert not asked.first_attempt_done.is_set()
    await run_for(2000, asked)
    assert script.times == pytest.approx([0, 900, 1800])
    assert recorder.events == ["fetched", "unchanged", "unchanged"]
    assert asked.first_attempt_done.is_set()
    assert asked.state.last_success == pytest.approx(EPOCH + 1800)
    assert asked.state.next_attempt == pytest.approx(EPOCH + 2700)


async def test_a_failure_is_counted_and_tried_again_until_it_works(
    autojump_clock: MockClock,
) -> None:
    error = CrlError("wrong signature")
    script, recorder = Script(error, error, error, NEW, SAME), Recorder()
    asked = source(script, recorder)
    await run_for(6, asked)
    assert script.times == pytest.approx([0, 1, 3])
    assert recorder.events == [("wrong signature", 1.0), ("wrong signature", 2.0), ("wrong signature", 4.0)]
    assert asked.state.consecutive_failures == 3
    assert asked.state.last_error == "wrong signature"
    assert asked.state.last_success is None
    assert asked.first_attempt_done.is_set()
    await run_for(1, asked)
    assert asked.state.consecutive_failures == 0
    assert asked.state.last_error is None


async def test_next_update_brings_the_next_fetch_forward(autojump_clock: MockClock) -> None:
    script, recorder = Script(NEW), Recorder()
    asked = source(script, recorder)
    asked.state.next_update = int(EPOCH) + 100
    await run_for(99.5, asked)
    assert script.times == pytest.approx([0, 90, 99])


async def test_a_source_that_offers_nothing_newer_than_what_ended_backs_off(
    autojump_clock: MockClock,
) -> None:
    script, recorder = Script(SAME), Recorder()
    asked = source(script, recorder)
    asked.state.next_update = int(EPOCH) - 5
    await run_for(6, asked)
    assert script.times == pytest.approx([0, 1, 3])
    assert recorder.events[0] == ("http://crl.example/ca.crl: still offers what ended 5 s ago", 1.0)


async def test_a_source_with_a_stored_copy_is_asked_when_that_is_due(autojump_clock: MockClock) -> None:
    script = Script(SAME)
    asked = source(script, Recorder())
    asked.state.last_success = EPOCH - 600
    await run_for(200, asked)
    assert script.times == []
    assert not asked.first_attempt_done.is_set()
    assert asked.state.next_attempt == pytest.approx(EPOCH + 300)
    await run_for(200, asked)
    assert script.times == pytest.approx([300])


async def test_a_source_that_is_not_due_yet_can_be_woken(autojump_clock: MockClock) -> None:
    script = Script(SAME)
    asked = source(script, Recorder())
    asked.state.last_success = EPOCH
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        await trio.sleep(100)
        await asked.refresh()
        nursery.cancel_scope.cancel()
    assert script.times == pytest.approx([100])
    assert asked.first_attempt_done.is_set()


async def test_a_stored_copy_that_has_ended_is_replaced_at_once(autojump_clock: MockClock) -> None:
    script = Script(SAME)
    asked = source(script, Recorder())
    asked.state.last_success, asked.state.next_update = EPOCH - 10, int(EPOCH) - 1
    await run_for(0.5, asked)
    assert script.times == pytest.approx([0])


async def test_sources_that_were_started_together_part_at_once(autojump_clock: MockClock) -> None:
    scripts = [Script(SAME) for _ in range(10)]
    sources = [source(script, Recorder(), chance=number / 10) for number, script in enumerate(scripts)]
    await run_for(1600, *sources)
    assert [script.times[0] for script in scripts] == pytest.approx([0] * 10)
    assert [script.times[1] for script in scripts] == pytest.approx([900 - 45 * n for n in range(10)])
    assert scripts[5].times[2] - scripts[5].times[1] == pytest.approx(855)


async def test_waking_a_source_asks_at_once(autojump_clock: MockClock) -> None:
    script = Script(NEW)
    asked = source(script, Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        await trio.sleep(100)
        asked.wake()
        asked.wake()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert script.times == pytest.approx([0, 100])


async def test_all_who_ask_for_a_refresh_share_one_attempt(autojump_clock: MockClock) -> None:
    script = Script(NEW)
    asked = source(script, Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        await trio.sleep(100)
        async with trio.open_nursery() as askers:
            for _ in range(50):
                askers.start_soon(asked.refresh)
        assert script.times == pytest.approx([0, 100])
        nursery.cancel_scope.cancel()


async def test_a_refresh_waits_for_an_attempt_that_began_after_it(
    autojump_clock: MockClock,
) -> None:
    async def slow() -> bool:
        await trio.sleep(10)
        return True

    script = Script(slow)
    asked = source(script, Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        await trio.sleep(5)
        await asked.refresh()
        assert trio.current_time() == pytest.approx(20)
        nursery.cancel_scope.cancel()
    assert script.times == pytest.approx([0, 10])


async def test_a_refresh_returns_when_the_attempt_failed(autojump_clock: MockClock) -> None:
    asked = source(Script(NEW, CrlError("garbage")), Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        await asked.first_attempt_done.wait()
        await asked.refresh()
        nursery.cancel_scope.cancel()
    assert asked.state.last_error == "garbage"


@pytest.mark.parametrize(
    ("this_update", "next_update", "delay"),
    [
        # Nothing is in force: clients are refused meanwhile.
        (None, None, 300),
        (EPOCH, None, HOUR),
        (EPOCH, EPOCH + 24 * HOUR, HOUR),
        # It would end before: there is one more attempt.
        (EPOCH, EPOCH + 1000, 900),
        (EPOCH, EPOCH + 10, 300),
    ],
)
async def test_a_server_is_left_alone_no_longer_than_what_it_gave_is_good(
    autojump_clock: MockClock, this_update: int | None, next_update: int | None, delay: float
) -> None:
    recorder = Recorder()
    asked = source(Script(FetchError("busy", retry_after=24 * HOUR)), recorder)
    asked.state.this_update, asked.state.next_update = this_update, next_update
    await run_for(1, asked)
    [event] = recorder.events
    assert event == ("busy", delay)


async def test_a_source_that_hangs_delays_no_other(autojump_clock: MockClock) -> None:
    async def hang() -> bool:
        await trio.sleep(math.inf)
        return False

    dead, alive = Script(hang), Script(NEW)
    await run_for(2000, source(dead, Recorder()), source(alive, Recorder()))
    assert dead.times == pytest.approx([0])
    assert alive.times == pytest.approx([0, 900, 1800])


async def test_a_defect_is_not_swallowed(autojump_clock: MockClock) -> None:
    async def defect() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await source(Script(defect), Recorder()).run()
