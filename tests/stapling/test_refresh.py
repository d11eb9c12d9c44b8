"""One OCSP response from its responder to being stapled, with everything around it faked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from gateway.errors import FetchError, StapleError, StoreError
from gateway.fetch import Fetched
from gateway.schedule import Limits
from gateway.stapling.refresh import StapleRefresher, StapleSource
from gateway.stapling.request import NONCE_OCTETS
from tests.observer import EPOCH, Recorder, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from gateway.errors import GatewayError
    from gateway.store import Restored, StoredCrl

SOURCE = StapleSource("ab12", "http://ocsp.example", refresh_interval=300, http_timeout=15)


@dataclass(frozen=True)
class FakeResponse:
    der: bytes
    this_update: int = int(EPOCH)
    expires: int = int(EPOCH) + 10**6


class World:
    """The responder, the verifier, the workers and the disk, all in memory."""

    def __init__(self, *answers: bytes | GatewayError) -> None:
        self.answers = list(answers)
        self.max_age: int | None = None
        self.asked: list[tuple[str, bytes, bool]] = []
        self.installed: list[bytes] = []
        self.stored: bytes | None = None
        self.disk_full = False
        self.recorder = Recorder()

    async def ask(self, url: str, request: bytes, *, past_caches: bool, **bounds: Any) -> Fetched:
        await trio.lowlevel.checkpoint()
        assert bounds == {"timeout": 15}
        self.asked.append((url, request, past_caches))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Fetched(answer, None, None, self.max_age)

    def verify(self, data: bytes, nonce: bytes | None) -> FakeResponse:
        """Good are b"good" and a number, which is thisUpdate, and b"nonced", which repeats the nonce."""
        if data == b"revoked":
            raise StapleError("revoked", revoked=True)
        if data == b"nonced" and self.asked[-1][1] == b"request " + (nonce or b""):
            return FakeResponse(data)
        if not data.startswith(b"good"):
            raise StapleError("tryLater")
        return FakeResponse(data, int(EPOCH) + int(data.removeprefix(b"good ")))

    async def install(self, response: FakeResponse) -> None:
        await trio.lowlevel.checkpoint()
        self.installed.append(response.der)

    def load_crl(self, url: str) -> Restored:
        raise AssertionError

    def save_crl(self, url: str, crl: StoredCrl) -> None:
        raise AssertionError

    def load_staple(self, fingerprint: str) -> bytes | None:
        assert fingerprint == "ab12"
        return self.stored

    def save_staple(self, fingerprint: str, der: bytes) -> None:
        if self.disk_full:
            raise StoreError("disk full")
        self.stored = der

    def refresher(
        self, source: StapleSource = SOURCE, now: Callable[[], float] = lambda: EPOCH
    ) -> StapleRefresher[FakeResponse]:
        return StapleRefresher(
            source,
            ask=self.ask,
            build_request=lambda nonce: b"request " + (nonce or b""),
            verify=self.verify,
            install=self.install,
            store=self,
            limits=Limits(),
            observer=self.recorder,
            now=now,
        )

    async def run(self, refresher: StapleRefresher[FakeResponse]) -> None:
        """Until every answer was used."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresher.schedule.run)
            while self.answers:
                await refresher.schedule.refresh()
            nursery.cancel_scope.cancel()


async def test_a_response_is_asked_for_verified_stapled_and_kept() -> None:
    world = World(b"good 1")
    refresher = world.refresher()
    await world.run(refresher)
    assert world.asked == [("http://ocsp.example", b"request ", False)]
    assert world.installed == [b"good 1"]
    assert world.stored == b"good 1"
    assert refresher.state.this_update == EPOCH + 1
    assert refresher.state.next_update == EPOCH + 10**6
    assert refresher.schedule.first_attempt_done.is_set()


async def test_a_bad_response_replaces_nothing_and_is_asked_for_again_soon() -> None:
    world = World(b"good 1", b"tryLater", FetchError("no answer"), b"good 2")
    await world.run(world.refresher())
    assert world.installed == [b"good 1", b"good 2"]
    assert world.stored == b"good 2"
    first, second = world.recorder.events[1:3]
    assert first == ("tryLater", 1.0)
    assert second[0] == "no answer"


async def test_the_same_response_is_not_put_in_force_again() -> None:
    world = World(b"good 1", b"good 1")
    await world.run(world.refresher())
    assert world.installed == [b"good 1"]
    assert world.recorder.events == ["fetched", "unchanged"]


async def test_a_full_disk_keeps_no_fresh_response_from_clients() -> None:
    world = World(b"good 1")
    world.disk_full = True
    refresher = world.refresher()
    await world.run(refresher)
    assert world.installed == [b"good 1"]
    assert world.recorder.events == [("disk full", 1.0)]
    world.disk_full = False
    world.answers = [b"good 1"]
    await world.run(refresher)
    assert world.stored == b"good 1"


async def test_the_stored_response_is_stapled_before_the_responder_is_asked() -> None:
    world = World()
    assert await world.refresher().restore() is None
    world.stored = b"good 0"
    assert await world.refresher().restore() is None
    assert world.installed == [b"good 0"]
    assert world.asked == []


async def test_the_stored_response_is_verified_like_any_other() -> None:
    world = World()
    world.stored = b"expired"
    assert await world.refresher().restore() == "the stored OCSP response is not used: tryLater"
    assert world.installed == []


async def test_an_older_response_replaces_none_that_is_still_good() -> None:
    world = World(b"good 2", b"good 1", b"good 3")
    refresher = world.refresher()
    await world.run(refresher)
    assert world.installed == [b"good 2", b"good 3"]
    assert world.recorder.events[1] == ("the response is 1 s older than the one in force", 1.0)
    assert refresher.state.this_update == EPOCH + 3


async def test_after_a_failure_no_cache_is_asked() -> None:
    world = World(b"good 1", b"tryLater", FetchError("no answer"), b"good 2", b"good 3")
    await world.run(world.refresher())
    assert [past_caches for *_, past_caches in world.asked] == [False, False, True, True, False]


async def test_a_nonce_is_new_each_time_goes_past_caches_and_is_what_the_answer_is_held_against() -> None:
    world = World(b"nonced", b"nonced")
    await world.run(world.refresher(msgspec.structs.replace(SOURCE, nonce=True)))
    requests = [request for _, request, _ in world.asked]
    assert [len(request) for request in requests] == [len(b"request ") + NONCE_OCTETS] * 2
    assert requests[0] != requests[1]
    assert {past_caches for *_, past_caches in world.asked} == {True}
    assert world.recorder.events == ["fetched", "unchanged"]


async def test_revoked_is_known_until_the_responder_says_good_and_what_is_in_force_stays() -> None:
    world = World(b"good 1", b"revoked", FetchError("no answer"), b"tryLater")
    refresher = world.refresher()
    await world.run(refresher)
    assert refresher.state.revoked
    assert refresher.state.next_update == EPOCH + 10**6
    assert world.installed == [b"good 1"]
    world.answers = [b"good 2"]
    await world.run(refresher)
    assert not refresher.state.revoked


async def test_what_caches_keep_is_not_asked_for_sooner() -> None:
    world = World(b"good 1")
    world.max_age = 1200
    refresher = world.refresher()
    await world.run(refresher)
    assert refresher.state.next_attempt == EPOCH + 1200


LIFE = 3600


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads: while one runs, a clock that jumps would jump over what it does."""

    async def run_sync(call: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return call(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


class Responder(World):
    """Says good for LIFE seconds when it is asked and up; counts the seconds in which nothing is stapled."""

    def __init__(self, up: Callable[[float], bool], max_age: int | None = None) -> None:
        super().__init__()
        self._up = up
        self.max_age = max_age
        self._until = EPOCH + 1
        self.without = 0.0

    async def ask(self, url: str, request: bytes, *, past_caches: bool, **bounds: Any) -> Fetched:
        now = wall_clock()
        self.asked.append((url, request, past_caches))
        await trio.lowlevel.checkpoint()
        if not self._up(now - EPOCH):
            raise FetchError("down")
        return Fetched(b"good %d" % (now - EPOCH), None, None, self.max_age)

    def verify(self, data: bytes, nonce: bytes | None) -> FakeResponse:
        this_update = int(EPOCH) + int(data.removeprefix(b"good "))
        return FakeResponse(data, this_update, this_update + LIFE)

    async def install(self, response: FakeResponse) -> None:
        await trio.lowlevel.checkpoint()
        self.without += max(0.0, wall_clock() - self._until)
        self._until = response.expires

    async def live(self, seconds: float, interval: float) -> int:
        """How often it is asked in that time."""
        refresher = self.refresher(msgspec.structs.replace(SOURCE, refresh_interval=interval), wall_clock)
        with trio.move_on_after(seconds):
            await refresher.schedule.run()
        return len(self.asked)


@pytest.mark.usefixtures("inline")
async def test_a_response_is_renewed_twice_in_its_life_and_never_missing(autojump_clock: MockClock) -> None:
    responder = Responder(lambda _at: True)
    asked = await responder.live(48 * LIFE, interval=24 * 3600)
    assert responder.without == 0
    # Once at half of each life, a little earlier by chance, and the first one at up to half of that.
    assert 96 <= asked <= 110


@pytest.mark.usefixtures("inline")
async def test_the_interval_is_kept_where_it_is_shorter(autojump_clock: MockClock) -> None:
    asked = await Responder(lambda _at: True).live(LIFE, interval=300)
    assert 12 <= asked <= 15


@pytest.mark.usefixtures("inline")
async def test_what_caches_keep_is_asked_for_when_they_have_another(autojump_clock: MockClock) -> None:
    asked = await Responder(lambda _at: True, max_age=1200).live(12 * LIFE, interval=60)
    assert 36 <= asked <= 38


@pytest.mark.usefixtures("inline")
async def test_an_outage_of_less_than_half_of_a_life_is_noticed_by_nobody(autojump_clock: MockClock) -> None:
    responder = Responder(lambda at: at % LIFE < 0.6 * LIFE)
    asked = await responder.live(48 * LIFE, interval=24 * 3600)
    assert responder.without == 0
    # A failure is followed by others, ever later: not by hundreds.
    assert asked < 48 * 14


@pytest.mark.usefixtures("inline")
async def test_after_a_long_outage_it_is_asked_again_within_five_minutes(autojump_clock: MockClock) -> None:
    responder = Responder(lambda at: not LIFE < at < 10 * LIFE)
    await responder.live(12 * LIFE, interval=24 * 3600)
    # From the end of the last response, at most a life after the outage began.
    assert 8 * LIFE <= responder.without <= 8.5 * LIFE + 300
