"""When each generation begins, takes over, is given up, and ends: by a clock that only a test moves."""

from __future__ import annotations

import os
import signal
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gateway import generations, native, publish
from gateway.children import KILL_AFTER, NEVER, Child
from gateway.config.model import Config, Duration
from gateway.generations import Generation, Generations, counters_after
from gateway.metrics import Counter, gauge_index
from gateway.reading import Reading
from tests.listeners import listener

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = 86400.0


class House:
    """A supervisor's generations, whose processes only seem to run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.sent: list[tuple[int, int]] = []
        self._pids = count(1000)
        monkeypatch.setattr(generations, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(os, "kill", lambda pid, number: self.sent.append((pid, number)))
        self._last: Generation | None = None
        self.generations = Generations(self.made(workers=1))
        self.run(self.generations.current)

    def made(self, workers: int = 1, **keys: Any) -> Generation:
        config = Config(listeners=(listener(),), **keys)
        before, number = self._last, self._last.number + 1 if self._last else 1
        counters = counters_after(before, config, workers)
        self._last = Generation(number, Reading(config, [], []), (), workers, counters, None)
        self._last.children = [
            Child(f"worker-{index}", lambda: None, worker=index) for index in range(workers)
        ]
        return self._last

    def run(self, generation: Generation, *, accept: bool = True) -> None:
        for child in generation.children:
            child.pid = next(self._pids)
            if accept:
                generation.counters.note_accepting(child.worker or 0)

    def serve(self, generation: Generation, connections: int = 1) -> None:
        """Each of its workers has so many connections."""
        for page in generation.counters.pages:
            native.counter(page)(Counter.LIVE, connections)
            native.counter(page)(gauge_index(0), connections)

    def reload(self, **keys: Any) -> Generation:
        """To the next one, all of whose workers accept."""
        after = self.made(**keys)
        self.generations.begin(after)
        self.generations.start_next()
        self.run(after)
        before = self.generations.take_over()
        assert before is not None
        self.fall_silent(before)
        assert self.generations.handed_over() is before
        return after

    def fall_silent(self, generation: Generation) -> None:
        for child in generation.children:
            generation.counters.note_silent(child.worker or 0)

    def at(self, now: float) -> None:
        self.now = now
        self.generations.end_overdue()

    def told(self, generation: Generation) -> list[int]:
        pids = {child.pid for child in generation.children}
        return [number for pid, number in self.sent if pid in pids]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def kill_times(generation: Generation) -> Sequence[float]:
    return [child.kill_at for child in generation.children]


def test_workers_of_the_next_one_are_not_due_before_control_is_there(house: House) -> None:
    after = house.made()
    house.generations.begin(after)
    assert after.children[0].due == NEVER
    house.now = 7.0
    house.generations.start_next()
    assert after.children[0].due == 7.0


def test_those_before_are_told_to_hand_over_when_all_of_the_next_accept_and_not_earlier(house: House) -> None:
    first, after = house.generations.current, house.made(workers=2)
    house.generations.begin(after)
    house.run(after, accept=False)
    after.counters.note_accepting(0)
    assert house.generations.take_over() is None
    assert house.told(first) == []
    after.counters.note_accepting(1)
    assert house.generations.take_over() is first
    assert house.generations.current is after
    assert house.told(first) == [publish.HAND_OVER]


def test_a_reload_is_over_when_none_of_those_before_accepts_any_more(house: House) -> None:
    house.reload(workers=2)
    before, after = house.generations.current, house.made()
    house.generations.begin(after)
    house.run(after)
    assert house.generations.take_over() is before
    before.counters.note_silent(1)
    assert house.generations.handed_over() is None
    before.counters.note_silent(0)
    assert house.generations.handed_over() is before
    assert house.generations.handed_over() is None


def test_one_that_hangs_is_not_waited_for_and_neither_is_the_next_reload_given_up_for_it(
    house: House,
) -> None:
    first = house.generations.current
    house.serve(first)
    for _ in range(2):
        after = house.made(reload_timeout=Duration(1))
        house.generations.begin(after)
        house.run(after)
        house.generations.take_over()
    # The second one has to wait for the first.
    assert house.generations.next is after
    house.now = 2.0
    assert house.generations.give_up() is None
    house.at(KILL_AFTER)
    assert house.generations.handed_over() is first
    house.generations.take_over()
    assert house.generations.current is after


def test_a_generation_that_does_not_accept_in_time_is_given_up_and_the_one_before_goes_on(
    house: House,
) -> None:
    first, after = house.generations.current, house.made(reload_timeout=Duration(60))
    house.generations.begin(after)
    house.run(after, accept=False)
    assert house.generations.next_step() == 60.0
    house.now = 59.9
    assert house.generations.give_up() is None
    house.now = 60.0
    assert house.generations.give_up() is after
    assert (house.generations.current, house.generations.next) == (first, None)
    assert house.told(first) == []
    assert house.told(after) == [publish.HAND_OVER]
    assert after.silent() == ["worker-0"]
    # It is over: once.
    assert house.generations.give_up() is None


def test_one_that_took_over_in_time_is_never_given_up(house: House) -> None:
    after = house.reload(reload_timeout=Duration(60))
    house.at(1000.0)
    assert house.generations.give_up() is None
    assert house.generations.current is after


def test_what_a_generation_that_was_given_up_counts_is_told_of_as_before(house: House) -> None:
    first, superseded = house.generations.current, house.made()
    house.generations.begin(superseded)
    house.run(superseded)
    house.serve(superseded, 2)
    after = house.made(workers=2)
    house.generations.begin(after)
    house.run(after, accept=False)
    house.serve(after, 5)
    house.serve(first)
    house.now = 60.0
    house.generations.give_up()
    assert first.counters.total(Counter.LIVE) == 1 + 2 + 5 * 2
    assert first.counters.connections(0) == 1 + 2 + 5 * 2


def test_the_sockets_of_a_generation_whose_place_is_taken_are_given_up_with_the_one_that_took_it(
    house: House,
) -> None:
    sockets: list[Any] = ["second's", "third's"]
    second, third = house.made(), house.made()
    second.bound, third.bound = sockets[:1], sockets[1:]
    house.generations.begin(second)
    house.generations.begin(third)
    assert third.bound == sockets


def test_each_generation_drains_as_long_as_its_own_configuration_says(house: House) -> None:
    second = house.reload(reload_drain_timeout=Duration(10), drain_timeout=Duration(3))
    first = house.generations.all()[0]
    house.serve(first)
    house.serve(second)
    house.at(1.0)
    third = house.reload(reload_drain_timeout=Duration(100))
    house.serve(third)
    house.at(2.0)
    house.reload()
    house.at(11.0)
    assert house.told(second) == [publish.HAND_OVER, publish.STOP]
    assert kill_times(second) == [11.0 + 3 + KILL_AFTER]
    house.at(102.0)
    assert house.told(third) == [publish.HAND_OVER, publish.STOP]
    assert house.told(first) == [publish.HAND_OVER]
    house.at(DAY)
    assert house.told(first) == [publish.HAND_OVER, publish.STOP]


def test_later_reloads_postpone_the_end_of_none(house: House) -> None:
    oldest = house.generations.current
    for number in range(12):
        house.serve(house.generations.current)
        house.at(float(number))
        house.reload()
        house.at(float(number))
    # At the fifth reload it was one too many: told so once, and killed by the time that it has from then on.
    assert house.told(oldest) == [publish.HAND_OVER, publish.STOP]
    assert kill_times(oldest) == [4.0 + 30 + KILL_AFTER]


def test_a_storm_of_reloads_takes_no_place_from_those_that_serve_somebody(house: House) -> None:
    serving = []
    for _ in range(3):
        serving.append(house.generations.current)
        house.serve(serving[-1])
        house.reload()
    for number in range(100):
        after = house.made()
        house.generations.begin(after)
        if number % 2:
            # Begun, but it serves nobody yet.
            house.run(after, accept=False)
    house.at(1.0)
    assert all(house.told(each) == [publish.HAND_OVER] for each in serving)


def test_generations_that_never_began_are_forgotten(house: House) -> None:
    for _ in range(10):
        house.generations.begin(house.made())
    house.at(0.0)
    assert len(house.generations.all()) == 2


def test_a_worker_that_serves_nobody_and_does_not_end_is_killed_and_one_that_serves_is_not(
    house: House,
) -> None:
    idle = house.generations.current
    busy = house.reload()
    house.serve(busy)
    house.reload()
    house.at(KILL_AFTER)
    assert kill_times(idle) == [KILL_AFTER]
    assert kill_times(busy) == [NEVER]
    assert signal.SIGKILL not in house.told(busy)


def test_connections_of_a_worker_that_died_are_forgotten(house: House) -> None:
    current = house.generations.current
    house.serve(current)
    house.generations.forget(current.children[0].pid)
    assert (current.serves(), current.silent()) == (False, ["worker-0"])


def test_a_dead_generation_leaves_what_it_counted(house: House) -> None:
    first = house.generations.current
    native.counter(first.counters.pages[0])(Counter.HANDSHAKES, 9)
    after = house.reload()
    first.children[0].pid = 0
    house.at(0.0)
    assert house.generations.all() == [after]
    assert after.counters.total(Counter.HANDSHAKES) == 9
    assert house.generations.next_step() == NEVER
