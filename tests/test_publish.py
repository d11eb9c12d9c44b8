"""What control and workers say to each other arrives, however the kernel cuts it; nonsense ends the talk."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway import publish
from gateway.publish import (
    Answered,
    Audience,
    Cover,
    Question,
    Sighting,
    Staple,
    ToControl,
    ToWorker,
    Update,
    beside,
    difference,
    merge,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

_KEYS = st.sampled_from("abcde")
_STAPLES = st.builds(Staple, der=st.binary(max_size=8), expires=st.integers(0, 2**40))
_COVERS = st.builds(
    Cover,
    table=st.text("xy/", max_size=3),
    delta=st.none() | st.text("xy/", max_size=3),
    issuers=st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3)), max_size=2).map(tuple),
    crl_issuer=st.integers(0, 2**64 - 1),
    points=st.lists(st.integers(0, 2**64 - 1), max_size=2).map(tuple),
    reasons=st.integers(0, 2**9 - 1),
    subjects=st.integers(0, 2),
    this_update=st.integers(0, 2**40),
    next_update=st.integers(0, 2**40),
)
COVER = Cover("/table", None, ((b"name", b"key"),), 0, (), 0x1FE, 0, 1, 2)
_STATES = st.builds(
    Update,
    whole=st.just(value=True),
    ready=st.booleans(),
    covers=st.dictionaries(_KEYS, _COVERS),
    cas=st.dictionaries(_KEYS, st.binary(max_size=3)),
    staples=st.dictionaries(_KEYS, _STAPLES),
    held=st.dictionaries(_KEYS, st.just(value=True)),
    brokers=st.dictionaries(_KEYS, st.booleans()),
)
_CHANGES = st.builds(
    Update,
    whole=st.just(value=False),
    ready=st.booleans(),
    covers=st.dictionaries(_KEYS, st.none() | _COVERS),
    cas=st.dictionaries(_KEYS, st.none() | st.binary(max_size=3)),
    staples=st.dictionaries(_KEYS, st.none() | _STAPLES),
    held=st.dictionaries(_KEYS, st.none() | st.just(value=True)),
    brokers=st.dictionaries(_KEYS, st.none() | st.booleans()),
)


class Pieces(trio.abc.ReceiveStream):
    """A stream whose bytes come in these pieces, then ends."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.rest = data
        self.sizes = list(sizes)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = min(self.sizes.pop(0) if self.sizes else len(self.rest), max_bytes or 1)
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Sent(trio.abc.SendStream):
    """A stream that keeps what is sent."""

    def __init__(self) -> None:
        self.data = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def frames(*messages: ToWorker | ToControl) -> bytes:
    stream = Sent()
    for message in messages:
        await publish.send(stream, message)
    return stream.data


async def heard(data: bytes, sizes: list[int] | None = None) -> list[ToWorker]:
    return [update async for update in publish.receive(Pieces(data, sizes or []), publish.FROM_CONTROL)]


@given(st.lists(_STATES | _CHANGES, max_size=4), st.lists(st.integers(1, 40)))
async def test_messages_arrive_as_they_were_sent_however_they_are_cut(
    messages: list[Update], sizes: list[int]
) -> None:
    assert await heard(await frames(*messages), sizes) == messages


async def test_what_a_worker_tells_arrives_as_it_was_sent() -> None:
    told: list[ToControl] = [
        Sighting(("http://crl.example/a", "http://crl.example/b")),
        Question(7, "external", (b"leaf", b"issuer")),
    ]
    stream = Pieces(await frames(*told), [1, 2, 3])
    assert [message async for message in publish.receive(stream, publish.FROM_WORKER)] == told


async def test_answers_to_questions_arrive_between_updates() -> None:
    told: list[ToWorker] = [
        Update(whole=True, ready=True),
        Answered((7, 8)),
        Update(whole=False, ready=True, looks=3),
    ]
    assert await heard(await frames(*told)) == told


def test_looks_only_grow_until_a_whole_state_is_ready() -> None:
    seen = merge(Update(whole=True, ready=True, looks=5), Update(whole=False, ready=True, looks=3))
    assert seen.looks == 5
    assert merge(seen, Update(whole=True, ready=False)).looks == 5


@given(_STATES, _STATES)
def test_a_difference_makes_of_one_state_the_other(told: Update, current: Update) -> None:
    assert merge(told, difference(told, current)) == current


@given(_STATES, _CHANGES)
def test_a_worker_that_missed_nothing_has_what_a_new_one_is_told(state: Update, change: Update) -> None:
    after = merge(state, change)
    assert merge(state, difference(state, after)) == after
    assert merge(Update(whole=True, ready=False), after) == after


def test_of_what_a_control_process_of_another_configuration_does_not_know_stays_what_was_told_last() -> None:
    ours, theirs, older = (
        Cover(f"/{name}", None, ((issuer, b"key"),), 0, (), 0x1FE, 0, 1, 2)
        for name, issuer in (("ours", b"ours"), ("theirs", b"both"), ("older", b"both"))
    )
    own = Update(
        whole=True,
        ready=True,
        covers={"a": ours, "b": older},
        staples={"server": Staple(b"kept", 9), "both": Staple(b"old", 9)},
        cas={"x": b"ca"},
        brokers={"gone": False},
        looks=7,
    )
    told = Update(
        whole=True, ready=True, generation=2, covers={"c": theirs}, staples={"both": Staple(b"new", 9)}
    )
    assert beside(told, own) == Update(
        whole=True,
        ready=True,
        generation=2,
        covers={"a": ours, "c": theirs},
        staples={"server": Staple(b"kept", 9), "both": Staple(b"new", 9)},
        cas={"x": b"ca"},
        looks=7,
    )


@given(_STATES)
def test_where_nothing_changed_nothing_is_told(state: Update) -> None:
    assert difference(state, state) == Update(whole=False, ready=state.ready)


@given(_STATES, _CHANGES)
def test_what_is_taken_away_leaves_no_trace(state: Update, change: Update) -> None:
    after = merge(state, change)
    assert None not in after.covers.values()
    assert None not in after.staples.values()


@given(_STATES, st.binary(min_size=1, max_size=40))
async def test_a_frame_that_is_no_message_ends_the_talk(state: Update, garbage: bytes) -> None:
    payload = b"\xc1" + garbage  # a byte that msgpack never uses
    frame = len(payload).to_bytes(4) + payload
    good = await frames(state)
    assert await heard(good + frame + good) == [state]


@given(st.binary(max_size=60))
async def test_garbage_raises_nothing(garbage: bytes) -> None:
    assert all(isinstance(update, Update) for update in await heard(garbage))


async def test_a_message_of_another_kind_ends_the_talk() -> None:
    assert await heard(await frames(Sighting(("http://crl.example/a",)))) == []


async def test_a_frame_beyond_all_reason_ends_the_talk_before_its_bytes_are_awaited() -> None:
    stream = Pieces((16 * 2**20).to_bytes(4) + bytes(100), [4, 50])
    assert [update async for update in publish.receive(stream, publish.FROM_CONTROL)] == []
    assert len(stream.rest) == 100


async def test_a_frame_that_is_cut_off_is_not_heard() -> None:
    frame = await frames(Update(whole=True, ready=True))
    for length in range(len(frame)):
        assert await heard(frame[:length]) == []


async def test_a_message_may_be_longer_than_what_is_read_at_once() -> None:
    update = Update(whole=True, ready=True, staples={"a": Staple(bytes(300_000), 1)})
    assert await heard(await frames(update)) == [update]


async def _greet(directory: Path) -> None:
    update = Update(whole=True, ready=True, covers={"issuer": COVER})
    with publish.bind(directory) as bound:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        client = await publish.connect(directory)
        server = await listener.accept()
        await publish.send(server, update)
        await server.aclose()
        assert [message async for message in publish.receive(client, publish.FROM_CONTROL)] == [update]
        await client.aclose()


async def test_only_its_owner_can_open_the_socket(tmp_path: Path) -> None:
    publish.bind(tmp_path).close()
    mode = (tmp_path / publish.SOCKET_NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o077 == 0


async def test_a_worker_that_connects_is_heard(tmp_path: Path) -> None:
    await _greet(tmp_path)


async def test_a_directory_may_have_a_name_longer_than_a_socket_address(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30) / ("longer" * 30)
    directory.mkdir(parents=True)
    await _greet(directory)


async def test_a_socket_that_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    publish.bind(tmp_path).close()
    await _greet(tmp_path)


async def test_nobody_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await publish.connect(tmp_path)
    publish.bind(tmp_path).close()
    with pytest.raises(ConnectionRefusedError):
        await publish.connect(tmp_path)
    with pytest.raises(FileNotFoundError):
        await publish.connect(tmp_path / "gone")


@given(st.lists(st.integers(0, 3), max_size=20))
def test_what_is_in_force_at_a_worker_is_what_it_has_put_in_force_of_what_was_sent(steps: list[int]) -> None:
    """A step is an update that is sent, or some that are put in force."""
    sent = applied = 0
    with Audience(1).link() as link:
        for step in steps:
            if step == 0:
                sent += 1
                link.send(10 * sent)
            else:
                applied = min(applied + step, sent)
                link.hear(applied)
            assert link.in_force == 10 * applied


async def test_a_version_is_waited_for_until_all_workers_have_it(autojump_clock: MockClock) -> None:
    audience = Audience(2)
    with audience.link() as one:
        one.send(3)
        one.hear(1)
        # The other one is not even connected.
        assert await audience.late(3, 1.0) == 1
        assert trio.current_time() == pytest.approx(1.0, abs=0.1)

        async def connect() -> None:
            await trio.sleep(0.5)
            with audience.link() as other:
                other.send(4)
                await trio.sleep(0.1)
                other.hear(1)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            start = trio.current_time()
            assert await audience.late(3, 10.0) == 0
            assert trio.current_time() - start == pytest.approx(0.6)
            assert await audience.late(4, 1.0) == 1
            nursery.cancel_scope.cancel()


async def test_a_worker_of_before_a_reload_is_waited_for_like_those_after_it(
    autojump_clock: MockClock,
) -> None:
    audience = Audience(1)
    with audience.link() as one, audience.link() as draining:
        for link in (one, draining):
            link.send(3)
        draining.hear(1)
        assert await audience.late(3, 1.0) == 1
        one.hear(1)
        assert await audience.late(3, 1.0) == 0
