"""Two thousand lists of two hundred hosts under one set of limits; all time is the test's own."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from gateway.errors import FetchError, TooLargeError
from gateway.fetch import Fetched, NotModified
from gateway.revocation.refresh import CrlRefresher, CrlSource
from gateway.schedule import LONGEST_BACK_OFF, Limits
from gateway.store import Restored, StoredCrl
from tests.observer import EPOCH, Recorder, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio.testing import MockClock

HOSTS, PATHS = 200, 10
URLS = [f"http://ca{host}.example/{path}.crl" for path in range(PATHS) for host in range(HOSTS)]
INTERVAL, TIMEOUT = 900.0, 15.0
HOUR = 3600.0
# Of an even stream of 2,000 requests in 14 minutes, 2.3 begin in each second.
BURST = 20


class Net:
    """Answers "not modified" after 50 ms, from `silent` hosts nothing; sees how many are asked at once.

    From `down` until `up` nobody is there.
    """

    def __init__(self, *silent: str, down: float = 0.0, up: float = 0.0) -> None:
        self.silent = silent
        self.down, self.up = down, up
        self.starts: dict[str, list[float]] = defaultdict(list)
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def fetch(self, url: str, **_options: Any) -> Fetched | NotModified:
        host = url.split("/")[2]
        self.starts[url].append(trio.current_time())
        for counted in (host, "all"):
            self.now[counted] += 1
            self.most[counted] = max(self.most[counted], self.now[counted])
        try:
            if host in self.silent:
                await trio.sleep(TIMEOUT)
                raise FetchError("no complete answer")
            if self.down <= trio.current_time() < self.up:
                await trio.sleep(0.001)
                raise FetchError("connection refused")
            await trio.sleep(0.05)
            return self.answer(url)
        finally:
            for counted in (host, "all"):
                self.now[counted] -= 1

    def answer(self, _url: str) -> Fetched | NotModified:
        return NotModified()

    def in_each_second(self, since: float = 0.0, until: float = math.inf) -> Counter[int]:
        times = [time for times in self.starts.values() for time in times]
        return Counter(int(time) for time in times if since <= time < until)


def refresher(
    url: str,
    net: Net,
    limits: Limits,
    chance: Callable[[], float],
    age: float | None,
    *,
    learnt: bool = False,
) -> CrlRefresher[Any]:
    def unused(*_arguments: Any) -> Any:
        raise AssertionError("nothing new ever comes")

    unusable: Any = None
    made: CrlRefresher[Any] = CrlRefresher(
        CrlSource(url, INTERVAL, TIMEOUT, 1 << 20, learnt=learnt),
        fetch=net.fetch,
        verify=unused,
        install=unused,
        store=unusable,
        limits=limits,
        observer=Recorder(),
        now=wall_clock,
        chance=chance,
    )
    if age is not None:
        # As `restore` leaves it.
        made.state.last_success, made.state.next_update = EPOCH - age, int(EPOCH + 24 * HOUR)
    return made


def never(_url: str) -> float | None:
    """Nothing was ever stored."""
    return None


async def run(
    seconds: float, net: Net, age: Callable[[str], float | None] = never, urls: Sequence[str] = URLS
) -> None:
    limits, chance = Limits(), random.Random(1).random
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(refresher(url, net, limits, chance, age(url)).schedule.run)


async def test_with_nothing_in_the_store_all_are_fetched_at_once_within_the_bounds(
    autojump_clock: MockClock,
) -> None:
    net = Net()
    await run(5, net)
    assert net.starts.keys() == set(URLS)
    # 2,000 times 50 ms, 32 at a time.
    assert max(times[0] for times in net.starts.values()) < 3.2
    assert net.most["all"] == 32
    assert max(count for host, count in net.most.items() if host != "all") <= 4


async def test_from_then_on_there_are_no_bursts(autojump_clock: MockClock) -> None:
    net = Net()
    await run(2 * HOUR, net)
    assert max(net.in_each_second(since=100).values()) <= BURST
    assert min(len(times) for times in net.starts.values()) >= 2 * HOUR / INTERVAL
    assert max(len(times) for times in net.starts.values()) <= 2 * HOUR / (0.9 * INTERVAL) + 2


@pytest.mark.parametrize("age", [10.0, 600.0, 24 * HOUR])
async def test_a_restart_with_good_lists_is_no_burst_and_neither_is_what_follows(
    autojump_clock: MockClock, age: float
) -> None:
    """Stored in one moment, as the worst case is."""
    net = Net()
    await run(HOUR, net, lambda _url: age)
    # A tenth of the interval is the least that they are spread over.
    assert max(net.in_each_second().values()) <= 2 * len(URLS) / (INTERVAL / 10)
    assert max(net.in_each_second(since=INTERVAL).values()) <= BURST
    assert max(times[0] for times in net.starts.values()) <= INTERVAL


async def test_what_is_missing_does_not_wait_for_what_is_there(autojump_clock: MockClock) -> None:
    net, missing = Net(), URLS[::100]
    await run(1, net, lambda url: None if url in missing else 600.0)
    assert net.starts.keys() == set(missing)


async def test_a_host_that_hangs_delays_no_list_of_others(autojump_clock: MockClock) -> None:
    """Not even with a list for each device."""
    net = Net("ca7.example")
    await run(1000, net, urls=[*(f"http://ca7.example/device/{n}.crl" for n in range(1000)), *URLS])
    assert net.most["ca7.example"] == 4
    others = [net.starts[url] for url in URLS if "//ca7." not in url]
    # 28 slots are left for them, instead of 32.
    assert max(times[0] for times in others) < 4
    assert max(later - sooner for times in others for sooner, later in pairwise(times)) < INTERVAL + 1


async def test_hosts_without_number_that_certificates_name_and_that_hang_delay_no_configured_list(
    autojump_clock: MockClock,
) -> None:
    hanging = [f"stranger{number}.example" for number in range(1000)]
    net, limits, chance = Net(*hanging), Limits(), random.Random(1).random
    configured = URLS[::10]
    with trio.move_on_after(2 * INTERVAL):
        async with trio.open_nursery() as nursery:
            for host in hanging:
                stranger = refresher(f"http://{host}/a.crl", net, limits, chance, None, learnt=True)
                nursery.start_soon(stranger.schedule.run)
            await wait_all_tasks_blocked()
            for url in configured:
                nursery.start_soon(refresher(url, net, limits, chance, None).schedule.run)
    times = [net.starts[url] for url in configured]
    # 200 times 50 ms, 8 at a time.
    assert max(each[0] for each in times) < 2
    assert max(later - sooner for each in times for sooner, later in pairwise(each)) < INTERVAL + 2
    assert net.most["all"] <= 32


async def test_an_outage_of_everything_is_no_burst_and_neither_is_its_end(autojump_clock: MockClock) -> None:
    """Each failure comes at once: nothing but the back-off slows them down."""
    down, up = INTERVAL, INTERVAL + HOUR / 2
    net = Net(down=down, up=up)
    await run(up + 2 * INTERVAL, net)
    # 2,000 that each wait for 150 to 300 s, once they have failed for ten minutes.
    most = 2 * len(URLS) / (LONGEST_BACK_OFF / 2)
    assert max(net.in_each_second(since=down + INTERVAL + 500, until=up).values()) <= most
    assert max(net.in_each_second(since=up).values()) <= BURST
    back = [min(time for time in times if time >= up) for times in net.starts.values()]
    assert max(back) <= up + LONGEST_BACK_OFF + 1
    assert net.most["all"] <= 32


LIFE = HOUR


class Press(Net):
    """Of CAs whose lists all end at the same moments, LIFE apart; the next come `overlap` seconds before."""

    def __init__(self, overlap: float) -> None:
        super().__init__()
        self.overlap = overlap
        self.in_force_from: dict[str, list[float]] = defaultdict(list)

    def answer(self, url: str) -> Fetched | NotModified:
        generation = int((trio.current_time() + self.overlap) // LIFE)
        return Fetched(f"{url} {generation}".encode(), None, None, None)

    def verify(self, data: bytes) -> Issue:
        return Issue(data)

    async def install(self, issue: Issue) -> int:
        await trio.lowlevel.checkpoint()
        self.in_force_from[issue.url].append(trio.current_time())
        return 0


class Issue:
    this_update = number = 1

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.url, _, generation = der.decode().partition(" ")
        self.next_update = int(EPOCH + (int(generation) + 1) * LIFE)


async def print_all(press: Press, seconds: float) -> None:
    limits, chance, shelf = Limits(), random.Random(1).random, Shelf({})
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for url in URLS:
                made = CrlRefresher(
                    CrlSource(url, INTERVAL, TIMEOUT, 1 << 20),
                    fetch=press.fetch,
                    verify=press.verify,
                    install=press.install,
                    store=shelf,
                    limits=limits,
                    observer=Recorder(),
                    now=wall_clock,
                    chance=chance,
                )
                nursery.start_soon(made.schedule.run)


async def test_lists_that_all_end_at_once_are_replaced_before_and_in_no_burst(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(work: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    # The clock would jump while a thread is at work.
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    press = Press(overlap=1200)
    await print_all(press, 2 * LIFE - 1)
    assert max(press.in_each_second(since=100).values()) <= BURST
    assert [len(times) for times in press.in_force_from.values()] == [3] * len(URLS)
    assert max(times[1] for times in press.in_force_from.values()) < LIFE - 60


class Heavy:
    """Hosts with bodies of these sizes; counts the bytes that may be in memory at any moment."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.asked: list[tuple[str, int]] = []
        self.installed: list[str] = []
        self.held = self.most = 0

    async def fetch(self, url: str, *, max_bytes: int, **_options: Any) -> Fetched | NotModified:
        self.asked.append((url, max_bytes))
        self.held += max_bytes
        self.most = max(self.most, self.held)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        if self.sizes[url] > max_bytes:
            self.held -= max_bytes
            raise TooLargeError(f"larger than {max_bytes} bytes")
        return Fetched(url.encode().ljust(self.sizes[url]), None, None, None)

    async def install(self, body: Body) -> int:
        await trio.lowlevel.checkpoint()
        self.installed.append(body.url)
        self.held -= LARGEST if len(body.der) > SMALL else SMALL
        return 0


class Body:
    this_update, next_update, number = 1, 0, None

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.url = der.decode().rstrip()


class Shelf:
    """A store without a disk."""

    def __init__(self, stored: dict[str, StoredCrl]) -> None:
        self.stored = stored

    def load_crl(self, url: str) -> Restored:
        return Restored(self.stored.get(url))

    def save_crl(self, url: str, crl: StoredCrl) -> None:
        self.stored[url] = crl

    def load_staple(self, fingerprint: str) -> bytes | None:
        raise AssertionError

    def save_staple(self, fingerprint: str, der: bytes) -> None:
        raise AssertionError


SMALL, LARGEST = 1000, 50_000
SIZES = {f"http://ca{n % 20}.example/{n}": 40_000 if n % 3 == 0 else 500 for n in range(100)}


def heavy_refreshers(heavy: Heavy, shelf: Shelf, largest: int = LARGEST) -> list[CrlRefresher[Body]]:
    limits = Limits(fetches=8, per_host=2, large=2, small=SMALL)
    return [
        CrlRefresher(
            CrlSource(url, INTERVAL, TIMEOUT, largest),
            fetch=heavy.fetch,
            verify=Body,
            install=heavy.install,
            store=shelf,
            limits=limits,
            observer=Recorder(),
            now=lambda: EPOCH,
        )
        for url in heavy.sizes
    ]


async def attempt_all(refreshers: list[CrlRefresher[Body]]) -> None:
    async with trio.open_nursery() as nursery:
        for each in refreshers:
            nursery.start_soon(each.schedule.run)
        for each in refreshers:
            await each.schedule.first_attempt_done.wait()
        nursery.cancel_scope.cancel()


async def test_the_bodies_of_many_lists_stay_within_the_bound_until_they_are_in_force() -> None:
    heavy = Heavy(SIZES)
    await attempt_all(heavy_refreshers(heavy, Shelf({})))
    assert sorted(heavy.installed) == sorted(SIZES)
    assert 2 * LARGEST < heavy.most <= 8 * SMALL + 2 * LARGEST
    # Only what turned out to be large is asked for a second time.
    assert Counter(bound for _url, bound in heavy.asked) == {SMALL: 100, LARGEST: 34}


async def test_what_was_large_is_known_to_be_large_after_a_restart_too() -> None:
    url = "http://ca.example/0"
    heavy, shelf = Heavy({url: 40_000}), Shelf({})
    await attempt_all(heavy_refreshers(heavy, shelf))
    [again] = heavy_refreshers(heavy, shelf)
    heavy.held = LARGEST  # of what comes from the store
    assert await again.restore() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.schedule.run)
        await again.schedule.refresh()
        heavy.sizes[url] = 500
        await again.schedule.refresh()
        await again.schedule.refresh()
        nursery.cancel_scope.cancel()
    bounds = [bound for _url, bound in heavy.asked]
    assert bounds == [SMALL, LARGEST, LARGEST, LARGEST, SMALL]


@pytest.mark.parametrize(("size", "largest", "bounds"), [(2000, 1500, [SMALL, 1500]), (600, 500, [500])])
async def test_a_list_above_the_bound_of_its_source_is_refused_however_small_that_is(
    size: int, largest: int, bounds: list[int]
) -> None:
    heavy = Heavy({"http://ca.example/": size})
    [made] = heavy_refreshers(heavy, Shelf({}), largest)
    await attempt_all([made])
    assert [bound for _url, bound in heavy.asked] == bounds
    assert made.state.last_error == f"larger than {largest} bytes"
    assert heavy.installed == []


async def test_a_large_list_that_hangs_delays_neither_small_ones_nor_large_ones_of_other_hosts() -> None:
    limits = Limits(fetches=2, per_host=2, large=2)
    async with trio.open_nursery() as nursery:

        async def hold(url: str) -> None:
            async with limits.fetching(url, large=True):
                await trio.sleep_forever()

        for path in range(5):
            nursery.start_soon(hold, f"http://hangs.example/{path}")
        await wait_all_tasks_blocked()
        async with limits.fetching("http://other.example/", large=True):
            pass
        async with limits.fetching("http://hangs.example/small"):
            pass
        nursery.cancel_scope.cancel()
