"""Counters add up over all workers, and a worker that dies takes only its own connections with it."""

from __future__ import annotations

import gc
import os
import threading
import weakref

from gateway import native
from gateway.metrics import HANDSHAKE_TIMES, Counter, Counters, gauge_index
from gateway.native.binding import lib


def test_a_counter_is_the_sum_of_all_workers() -> None:
    counters = Counters(3, 1)
    for number, page in enumerate(counters.pages):
        native.counter(page)(Counter.ACCEPTED, number + 1)
    assert counters.total(Counter.ACCEPTED) == 6


def test_counters_do_not_run_into_each_other() -> None:
    counters = Counters(1, 2)
    count = native.counter(counters.pages[0])
    for counter in Counter:
        count(counter, counter + 1)
    assert [counters.total(counter) for counter in Counter] == [counter + 1 for counter in Counter]
    assert [counters.connections(listener) for listener in (0, 1)] == [0, 0]


def test_a_count_can_go_down_again() -> None:
    counters = Counters(1, 0)
    count = native.counter(counters.pages[0])
    count(Counter.HANDSHAKING, 2)
    count(Counter.HANDSHAKING, -1)
    assert counters.total(Counter.HANDSHAKING) == 1


def test_a_listener_has_a_gauge_of_its_own_behind_all_counters() -> None:
    # A page ends with the last bucket, and with whether the worker accepts.
    first = len(Counter) + len(HANDSHAKE_TIMES) + 2
    assert [gauge_index(0), gauge_index(1)] == [first, first + 1]


def test_a_page_has_as_many_counters_as_c_counts() -> None:
    assert gauge_index(0) == lib.GW_COUNT_TOTAL + 1


def test_handshakes_are_counted_up_to_each_time_and_all_together() -> None:
    counters = Counters(2, 0)
    for page in counters.pages:
        numbers = memoryview(page).cast("Q")
        numbers[len(Counter)] = numbers[len(Counter) + 3] = numbers[lib.GW_COUNT_TOTAL - 1] = 1
    times = counters.handshake_times()
    assert times[:3] == [2, 2, 2]
    assert times[3:14] == [4] * 11
    assert times[14] == 6
    assert HANDSHAKE_TIMES[3] == 0.008


def test_what_the_supervisor_started_again_is_told_apart_by_what_it_was() -> None:
    counters = Counters(1, 0)
    counters.note_restart(worker=True)
    counters.note_restart(worker=True)
    counters.note_restart(worker=False)
    assert (counters.workers, counters.worker_restarts, counters.control_restarts) == (1, 2, 1)


def test_any_number_of_listeners_fits() -> None:
    counters = Counters(1, 5000)
    assert counters.connections(4999) == 0


def test_what_a_forked_worker_counts_is_seen_here() -> None:
    counters = Counters(2, 1)
    pid = os.fork()
    if pid == 0:
        native.counter(counters.pages[1])(Counter.HANDSHAKES, 7)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert counters.total(Counter.HANDSHAKES) == 7


def test_no_count_is_lost_among_threads() -> None:
    counters = Counters(1, 0)
    count = native.counter(counters.pages[0])

    def add() -> None:
        for _ in range(5000):
            count(Counter.LOOKUPS, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.total(Counter.LOOKUPS) == 20_000


def test_a_worker_that_died_has_no_connections_but_keeps_its_history() -> None:
    counters = Counters(2, 1)
    for page in counters.pages:
        count = native.counter(page)
        for counter in (Counter.ACCEPTED, Counter.LIVE, Counter.HANDSHAKING):
            count(counter, 5)
        memoryview(page).cast("Q")[gauge_index(0)] = 5
    counters.clear_gauges(1)
    assert counters.total(Counter.ACCEPTED) == 10
    assert counters.total(Counter.LIVE) == 5
    assert counters.total(Counter.HANDSHAKING) == 5
    assert counters.connections(0) == 5


def test_those_after_a_reload_go_on_from_those_before() -> None:
    first = Counters(2, 2)
    first_numbers = [memoryview(page).cast("Q") for page in first.pages]
    for numbers in first_numbers:
        numbers[Counter.HANDSHAKES], numbers[Counter.LIVE] = 10, 3
        numbers[gauge_index(0)], numbers[gauge_index(1)] = 1, 2
    first.note_restart(worker=True)
    # Listener 1 has become 0; 0 is gone.
    second = first.succeed(1, 1, {1: 0})
    memoryview(second.pages[0]).cast("Q")[gauge_index(0)] = 5
    assert (second.total(Counter.HANDSHAKES), second.total(Counter.LIVE)) == (20, 6)
    assert (second.connections(0), second.worker_restarts) == (9, 1)
    # And once more, to two listeners, of which the second is the one from before.
    third = second.succeed(1, 2, {0: 1})
    assert (third.connections(0), third.connections(1), third.total(Counter.HANDSHAKES)) == (0, 9, 20)
    for worker in (0, 1):
        first.clear_gauges(worker)
    first.retire()
    assert (third.connections(1), third.total(Counter.HANDSHAKES), third.total(Counter.LIVE)) == (5, 20, 0)
    fourth = third.succeed(1, 2, {0: 0, 1: 1})
    assert (fourth.total(Counter.HANDSHAKES), fourth.connections(1)) == (20, 5)


def test_all_workers_have_to_accept_and_one_that_dies_does_not() -> None:
    counters = Counters(2, 1)
    told = []
    for step in (counters.note_accepting, counters.clear_gauges):
        for worker in (1, 0):
            step(worker)
            told.append(counters.accepting)
    assert told == [False, True, False, False]


def test_the_pages_of_configurations_that_have_ended_are_given_back() -> None:
    counters, ended = Counters(1, 1), []
    for _ in range(3):
        before, counters = counters, counters.succeed(1, 1, {0: 0})
        before.retire()
        ended.append(weakref.ref(before))
        del before
    gc.collect()
    # The last one is looked at by its successor until the next reload.
    assert [reference() is None for reference in ended] == [True, True, False]


def test_the_pages_of_undone_reloads_are_given_back() -> None:
    counters, ended = Counters(1, 1), []
    for _ in range(3):
        undone = counters.succeed(1, 1, {0: 0})
        counters.take_back(undone, {0: 0})
        undone.retire()
        ended.append(weakref.ref(undone))
        del undone
    gc.collect()
    assert [reference() is None for reference in ended] == [True, True, False]
