"""One CRL from its URL to being in force, with everything around it faked; time stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from gateway.errors import CrlError, FetchError, StoreError
from gateway.fetch import Fetched, NotModified
from gateway.revocation.refresh import CrlRefresher, CrlSource
from gateway.schedule import Limits
from gateway.store import Restored, StoredCrl
from tests.observer import EPOCH, Recorder

if TYPE_CHECKING:
    from gateway.errors import GatewayError

URL = "http://crl.example/ca.crl"
SOURCE = CrlSource(URL, refresh_interval=900, http_timeout=15, max_bytes=1 << 20, learnt=True)


@dataclass(frozen=True)
class FakeList:
    """A list whose bytes are its number."""

    der: bytes
    number: int | None
    this_update: int = int(EPOCH)
    next_update: int = int(EPOCH) + 10**6


class World:
    """The network, the verifier, the workers and the disk, all in memory."""

    def __init__(self, *answers: Fetched | NotModified | GatewayError) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.installed: list[int | None] = []
        self.verified: list[bytes] = []
        self.stored = Restored()
        self.disk_full = False
        self.next_update: int = int(EPOCH) + 10**6
        self.recorder = Recorder()

    async def fetch(self, url: str, **options: Any) -> Fetched | NotModified:
        await trio.lowlevel.checkpoint()
        self.asked.append({"url": url, **options})
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verify(self, data: bytes) -> FakeList:
        self.verified.append(data)
        if not data.isdigit():
            raise CrlError("not a CRL")
        return FakeList(data, int(data), next_update=self.next_update)

    async def install(self, verified: FakeList) -> int:
        await trio.lowlevel.checkpoint()
        self.installed.append(verified.number)
        return 1000

    def load_crl(self, url: str) -> Restored:
        assert url == URL
        return self.stored

    def save_crl(self, url: str, crl: StoredCrl) -> None:
        if self.disk_full:
            raise StoreError("disk full")
        self.stored = Restored(crl)

    def load_staple(self, fingerprint: str) -> bytes | None:
        raise AssertionError

    def save_staple(self, fingerprint: str, der: bytes) -> None:
        raise AssertionError

    def refresher(self, limits: Limits | None = None) -> CrlRefresher[FakeList]:
        return CrlRefresher(
            SOURCE,
            fetch=self.fetch,
            verify=self.verify,
            install=self.install,
            store=self,
            limits=limits or Limits(),
            observer=self.recorder,
            now=lambda: EPOCH,
        )

    async def run(self, refresher: CrlRefresher[FakeList]) -> None:
        """Until every answer was used."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresher.schedule.run)
            while self.answers:
                await refresher.schedule.refresh()
            nursery.cancel_scope.cancel()


def fetched(body: bytes, etag: str | None = None, last_modified: str | None = None) -> Fetched:
    return Fetched(body, etag, last_modified, None)


async def test_a_new_list_is_verified_put_in_force_and_kept() -> None:
    world = World(fetched(b"7", '"e"', "then"))
    refresher = world.refresher()
    await world.run(refresher)
    assert world.installed == [7]
    assert world.stored == Restored(StoredCrl(b"7", '"e"', "then", EPOCH, learnt=True))
    state = refresher.state
    assert (state.number, state.entries, state.this_update) == (7, 1000, int(EPOCH))
    assert (state.etag, state.last_modified, state.last_success) == ('"e"', "then", EPOCH)
    assert world.recorder.events == ["fetched"]


async def test_the_fetch_has_the_bounds_of_its_source_and_the_validators_of_the_last_good_list() -> None:
    world = World(fetched(b"7", '"e"', "then"), fetched(b"garbage", '"bad"'), NotModified())
    await world.run(world.refresher())
    bounds = {"url": URL, "timeout": 15, "max_bytes": 1 << 20, "learnt": True}
    assert world.asked == [
        {**bounds, "etag": None, "last_modified": None},
        {**bounds, "etag": '"e"', "last_modified": "then"},
        {**bounds, "etag": '"e"', "last_modified": "then"},
    ]
    assert world.recorder.events == ["fetched", ("not a CRL", 1.0), "unchanged"]


async def test_a_bad_list_replaces_nothing() -> None:
    world = World(fetched(b"7"), fetched(b"garbage"), FetchError("no answer"))
    refresher = world.refresher()
    await world.run(refresher)
    assert world.installed == [7]
    assert world.stored.crl is not None
    assert world.stored.crl.der == b"7"
    assert refresher.state.consecutive_failures == 2
    assert refresher.state.number == 7


async def test_the_same_bytes_are_not_verified_again() -> None:
    world = World(fetched(b"7"), fetched(b"7"), fetched(b"garbage"), fetched(b"7"))
    await world.run(world.refresher())
    assert world.verified == [b"7", b"garbage"]
    assert world.recorder.events == ["fetched", "unchanged", ("not a CRL", 1.0), "unchanged"]


async def test_a_full_disk_keeps_no_revocation_from_taking_effect() -> None:
    world = World(fetched(b"7", '"e"'))
    world.disk_full = True
    refresher = world.refresher()
    await world.run(refresher)
    assert world.installed == [7]
    assert world.recorder.events == [("disk full", 1.0)]
    # It is fetched whole and saved as soon as there is room.
    assert refresher.state.etag is None
    world.disk_full = False
    world.answers = [fetched(b"7", '"e"')]
    await world.run(refresher)
    assert world.stored.crl is not None
    assert world.recorder.events[1:] == ["fetched"]


async def test_past_next_update_a_cache_is_not_asked_to_confirm_what_has_ended() -> None:
    world = World(fetched(b"7", '"e"', "then"), fetched(b"8"))
    world.next_update = int(EPOCH)
    await world.run(world.refresher())
    assert world.asked[1]["etag"] is None
    assert world.asked[1]["last_modified"] is None


async def test_a_list_without_next_update_never_ends() -> None:
    world = World(fetched(b"7", '"e"'), NotModified())
    world.next_update = 0
    refresher = world.refresher()
    await world.run(refresher)
    assert world.recorder.events == ["fetched", "unchanged"]
    assert refresher.state.next_update is None


async def test_the_stored_list_is_in_force_before_any_fetch() -> None:
    world = World(NotModified())
    world.stored = Restored(StoredCrl(b"6", '"e"', "then", EPOCH - 500))
    refresher = world.refresher()
    assert await refresher.restore() is None
    assert world.installed == [6]
    assert world.asked == []
    assert not refresher.schedule.first_attempt_done.is_set()
    assert refresher.state.last_success == EPOCH - 500
    await world.run(refresher)
    assert world.asked[0]["etag"] == '"e"'
    assert world.recorder.events == ["unchanged"]
    assert refresher.schedule.first_attempt_done.is_set()


async def test_the_stored_list_is_verified_like_any_other() -> None:
    world = World(fetched(b"7"))
    world.stored = Restored(StoredCrl(b"changed while nobody looked", '"e"', None, EPOCH))
    refresher = world.refresher()
    assert await refresher.restore() == "the stored list is not used: not a CRL"
    assert world.installed == []
    await world.run(refresher)
    assert world.asked[0]["etag"] is None
    assert world.installed == [7]


async def test_what_the_store_has_to_say_is_passed_on() -> None:
    world = World()
    assert await world.refresher().restore() is None
    world.stored = Restored(problem="damaged")
    assert await world.refresher().restore() == "damaged"


async def test_no_more_fetches_at_once_than_the_limit_and_of_learnt_urls_three_quarters_of_it() -> None:
    limits, now, most = Limits(fetches=4), 0, 0

    class Slow(World):
        async def fetch(self, url: str, **options: Any) -> Fetched | NotModified:
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            now -= 1
            return await super().fetch(url, **options)

    worlds = [Slow(NotModified()) for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for world in worlds:
            nursery.start_soon(world.run, world.refresher(limits))
    assert SOURCE.learnt
    assert most == 3
