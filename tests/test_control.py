"""Control is ready in bounded time, and follows what certificates say within bounds."""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from gateway import control as control_module
from gateway import publish
from gateway.config.material import ListenerMaterial
from gateway.config.model import Address, Certificate, Config, Listener, Revocation
from gateway.config.validity import ValidityWatch
from gateway.control import Control, Post
from gateway.errors import FetchError
from gateway.metrics import Counters
from gateway.publish import Cover, Sighting, Staple, Update
from gateway.schedule import Schedule, Source, SourceState
from gateway.store import StateStore, StoredCrl
from tests.authority import DAY, NOW, Authority
from tests.observer import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from cryptography import x509
    from trio.testing import MockClock

A, B, C, D = (f"http://crl{number}.example/ca.crl" for number in range(4))

COVER = Cover("/a", None, ((b"name", b"key"),), 0, (), 0x1FE, 0, 1, 2)


class FakeRefresher:
    """A source whose attempts are the test's; nothing is stored."""

    def __init__(self, url: str, attempt: Callable[[], Awaitable[bool]], problem: str | None) -> None:
        self.state = SourceState(url)
        self.schedule = Source(self.state, attempt, Schedule(900), Recorder())
        self._problem = problem

    async def restore(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return self._problem


async def answer() -> bool:
    await trio.sleep(1)
    return True


async def answer_at_once() -> bool:
    await trio.lowlevel.checkpoint()
    return True


async def refuse() -> bool:
    await trio.sleep(2)
    raise FetchError("nobody there")


async def hang() -> bool:
    await trio.sleep_forever()
    raise AssertionError


class Office:
    """A control process whose sources are fakes, on a directory of its own."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sources: dict[str, Callable[[], Awaitable[bool]]] = {}
        self.added: list[tuple[str, bool]] = []
        self.problem: str | None = None
        self.store = StateStore(directory)
        self.store.prepare()
        self.socket = publish.bind(directory)
        self._directory = directory
        self._patch = monkeypatch
        self.control = self.configure({})

    def configure(
        self, sources: dict[str, Callable[[], Awaitable[bool]]], *client_cas: x509.Certificate
    ) -> Control:
        """Have these URLs configured; distribution points are followed where there are CAs to name them."""
        listener = Listener(
            name="external",
            bind=(Address("", 8883),),
            upstreams=(Address("127.0.0.1", 1883),),
            certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
            revocation=Revocation(crl_urls=tuple(sources), follow_distribution_points=bool(client_cas)),
        )
        material = ListenerMaterial((), client_cas, crl_signers=(), revoked_serials=None, warnings=())
        config = Config(listeners=(listener,), state_dir=self._directory)
        self.sources = sources
        self.control = Control(Post(config, [material], self.socket, Counters(1, 1)))
        self._patch.setattr(self.control, "_add_crl", self._add_crl)
        return self.control

    def _add_crl(self, url: str, *, learnt: bool) -> FakeRefresher:
        self.added.append((url, learnt))
        refresher: Any = FakeRefresher(url, self.sources.get(url, hang), self.problem)
        self.control._crls[url] = refresher
        return refresher  # type: ignore[no-any-return]  # as much of one as control needs

    async def ready_after(self) -> float:
        """Begin; how many seconds it takes until the workers may accept."""
        async with trio.open_nursery() as nursery:
            self.control._nursery = nursery
            await self.control._begin()
            assert self.control._broadcast.state.ready
            nursery.cancel_scope.cancel()
        return trio.current_time()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    office = Office(tmp_path, monkeypatch)
    with office.socket:
        yield office


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


async def test_ready_as_soon_as_every_source_has_been_tried(
    office: Office, autojump_clock: MockClock
) -> None:
    office.configure({A: answer, B: refuse})
    assert await office.ready_after() == pytest.approx(2.0)


async def test_one_source_that_hangs_does_not_keep_the_door_shut(
    office: Office, autojump_clock: MockClock
) -> None:
    office.configure({A: hang, B: answer})
    assert await office.ready_after() == pytest.approx(control_module._FIRST_ROUND)
    assert office.control._crls[B].schedule.first_attempt_done.is_set()


async def test_names_that_nobody_resolves_hold_up_nothing_else_that_takes_a_thread(office: Office) -> None:
    resolved = threading.Event()
    await office.ready_after()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(partial(trio.to_thread.run_sync, resolved.wait, abandon_on_cancel=True))
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            assert await trio.to_thread.run_sync(office.store.learnt_urls) == []
        nursery.cancel_scope.cancel()
    resolved.set()


async def test_without_sources_it_is_ready_at_once(office: Office, autojump_clock: MockClock) -> None:
    assert await office.ready_after() == 0.0


async def test_what_was_restored_is_not_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    office.configure({A: hang})
    monkeypatch.setattr(FakeRefresher, "restore", _restored)
    assert await office.ready_after() == 0.0


async def _restored(refresher: FakeRefresher) -> None:
    await trio.lowlevel.checkpoint()
    refresher.state.this_update = 1


async def test_a_stored_copy_that_is_not_used_is_told(
    office: Office, autojump_clock: MockClock, events: list[Any]
) -> None:
    office.configure({A: answer})
    office.problem = "damaged"
    await office.ready_after()
    assert [(event["url"], event["problem"]) for event in events if "problem" in event] == [(A, "damaged")]


async def _sightings(office: Office, *sightings: tuple[str, ...]) -> None:
    async with trio.open_nursery() as nursery:
        office.control._nursery = nursery
        for urls in sightings:
            office.control._learn(urls)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_distribution_point_is_followed_once_however_many_tell_of_it(office: Office) -> None:
    await _sightings(office, (A,), (A, B), (B, A), (A,))
    assert office.added == [(A, True), (B, True)]


async def test_a_distribution_point_that_is_configured_is_not_learnt(office: Office) -> None:
    office.control._add_crl(A, learnt=False)
    await _sightings(office, (A, B))
    assert office.added == [(A, False), (B, True)]


async def test_no_more_distribution_points_are_followed_than_the_bound(
    office: Office, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(control_module, "_MAX_LEARNT", 2)
    await _sightings(office, (A, B, C), (D,), (A,))
    assert [url for url, _learnt in office.added] == [A, B]
    refused = [event for event in events if event["event"] == "distribution point not followed"]
    assert [event["url"] for event in refused] == [C, D]
    assert refused[0]["error"] == "2 are already followed"


async def test_the_points_of_a_trusted_ca_are_followed_from_the_start(office: Office) -> None:
    root = Authority.root()
    office.configure({A: answer_at_once}, root.cert, root.intermediate(crl_urls=[A, B]).cert)
    await office.ready_after()
    assert office.added == [(A, False), (B, True)]


async def test_the_points_of_a_ca_that_was_learnt_before_a_restart_are_followed_though_no_list_was_kept(
    office: Office,
) -> None:
    root = Authority.root()
    office.store.save_ca(root.intermediate(crl_urls=[A, B]).cert.public_bytes(Encoding.DER))
    office.store.save_crl(A, StoredCrl(b"list", None, None, 0.0, learnt=True))
    office.configure({}, root.cert)
    await office.ready_after()
    assert office.added == [(A, True), (B, True)]


async def test_what_was_learnt_before_a_restart_is_followed_within_the_same_bound(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "_MAX_LEARNT", 2)
    for url in (B, C, D):
        office.store.save_crl(url, StoredCrl(b"list", None, None, 0.0, learnt=True))
    office.configure({A: answer_at_once}, Authority.root().cert)
    office.sources = dict.fromkeys((A, B, C, D), answer_at_once)
    await office.ready_after()
    assert office.added[0] == (A, False)
    assert len(office.added) == 3
    assert {learnt for _url, learnt in office.added[1:]} == {True}


def test_a_certificate_that_comes_to_its_end_is_told_of_once(office: Office, events: list[Any]) -> None:
    soon = Authority.root("Soon", not_before=NOW - 100 * DAY, not_after=NOW + DAY).cert
    over = Authority.root("Over", not_before=NOW - 100 * DAY, not_after=NOW - DAY).cert
    office.control._journal._validity = ValidityWatch(
        [soon, over], dt.datetime.now(dt.UTC) - dt.timedelta(days=50)
    )
    office.control._journal.watch_certificates()
    office.control._journal.watch_certificates()
    assert [(each["log_level"], each["event"], each["certificate"].split()[0]) for each in events] == [
        ("warning", "certificate about to expire", "CN=Soon"),
        ("error", "certificate has expired", "CN=Over"),
    ]


async def test_a_worker_is_late_until_it_has_said_that_what_is_published_is_in_force(
    office: Office, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    stream: Any = ours
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.control._broadcast.serve_worker, stream)
        await wait_all_tasks_blocked()
        office.control._broadcast.change(Update(whole=False, ready=True))
        await wait_all_tasks_blocked()
        await publish.send(theirs, Sighting(applied=1))
        assert await office.control._broadcast.late() == 1
        await publish.send(theirs, Sighting(applied=2))
        assert await office.control._broadcast.late() == 0
        await theirs.aclose()
        await wait_all_tasks_blocked()
        assert await office.control._broadcast.late() == 1
        nursery.cancel_scope.cancel()


async def test_a_question_is_answered_once_it_is_settled_while_updates_go_on(office: Office) -> None:
    ours, theirs = memory_stream_pair()
    settled = trio.Event()

    async def settle(question: publish.Question) -> None:
        if question.number == 1:
            await settled.wait()
        await trio.lowlevel.checkpoint()

    settler: Any = SimpleNamespace(settle=settle, responders=list, ask_anew=lambda _url: ["asked"])
    office.control._settler = settler
    stream: Any = ours
    async with trio.open_nursery() as nursery:
        office.control._nursery = nursery
        nursery.start_soon(office.control._broadcast.serve_worker, stream)
        nursery.start_soon(office.control._tell_to_look)
        async with aclosing(publish.receive(theirs, publish.FROM_CONTROL)) as told:
            assert isinstance(await anext(told), Update)
            for number in (1, 2):
                await publish.send(theirs, publish.Question(number, "external", (b"leaf",)))
            assert await anext(told) == publish.Answered((2,))
            assert office.control._ask_anew(None) == ["asked"]
            update = await anext(told)
            assert isinstance(update, Update)
            assert update.looks > 0
            settled.set()
            assert await anext(told) == publish.Answered((1,))
        nursery.cancel_scope.cancel()


async def test_revocations_in_one_moment_have_connections_looked_up_twice_at_most(
    office: Office, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.control._tell_to_look)
        told: list[Update] = []
        monkeypatch.setattr(office.control._broadcast, "change", told.append)
        for times in (2, 4):
            for _ in range(10):
                office.control._have_clients_looked_up()
                await wait_all_tasks_blocked()
            await trio.sleep(1)
            assert len(told) == times
        nursery.cancel_scope.cancel()


async def test_a_worker_is_told_the_whole_state_and_then_each_change(office: Office) -> None:
    ours, theirs = memory_stream_pair()
    office.control._broadcast.state = Update(whole=True, ready=False, covers={"a": COVER})
    heard: list[Update] = []

    async def hear() -> None:
        async for update in publish.receive(theirs, publish.FROM_CONTROL):
            assert isinstance(update, Update)
            heard.append(update)

    async with trio.open_nursery() as nursery:
        office.control._nursery = nursery
        stream: Any = ours
        nursery.start_soon(office.control._broadcast.serve_worker, stream)
        nursery.start_soon(hear)
        await wait_all_tasks_blocked()
        office.control._broadcast.change(Update(whole=False, ready=True, staples={"f": Staple(b"der", 9)}))
        await publish.send(theirs, Sighting((C,)))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert heard == [
        Update(whole=True, ready=False, covers={"a": COVER}),
        Update(whole=False, ready=True, staples={"f": Staple(b"der", 9)}),
    ]
    assert office.added == [(C, True)]
