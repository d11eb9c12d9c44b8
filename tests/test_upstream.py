"""Brokers are used in turn, a dead one is passed over; when all are dead each is named with its reason."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from gateway.config.model import Address
from gateway.errors import UpstreamError
from gateway.upstream import CONNECT_TIMEOUT, Upstream, pool
from tests.brokers import ListeningBroker, dead_broker, listening_broker

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


async def test_the_socket_is_connected_and_does_not_block() -> None:
    with listening_broker() as one, await Upstream([one.address]).connect() as client:
        assert not client.getblocking()
        assert client.get_inheritable() is False
        assert one.serves(client)


async def test_a_name_is_resolved() -> None:
    with listening_broker() as one:
        address = Address("localhost", one.address.port)
        with await Upstream([address]).connect() as client:
            assert one.serves(client)


async def test_a_broker_may_listen_on_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "broker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        one = ListeningBroker(listening, Address(path=path))
        with await Upstream([one.address]).connect() as client:
            assert one.serves(client)


async def test_brokers_are_used_in_turn() -> None:
    with listening_broker() as one, listening_broker() as two:
        brokers = Upstream([one.address, two.address])
        for expected in (one, two, one, two):
            with await brokers.connect() as client:
                assert expected.serves(client)


async def test_a_dead_broker_is_passed_over() -> None:
    with listening_broker() as one, dead_broker() as dead:
        brokers = Upstream([dead, one.address])
        for _ in range(3):
            with await brokers.connect() as client:
                assert one.serves(client)


async def test_when_all_are_dead_each_is_named_with_its_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody.sock")
    with dead_broker() as dead:
        with pytest.raises(UpstreamError) as caught:
            await Upstream([dead, Address(path=path)]).connect()
        assert (
            str(caught.value) == f"no broker could be reached: {dead}: Connection refused; "
            f"unix:{path}: No such file or directory"
        )


async def test_a_name_that_does_not_resolve_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_arguments: object, **_options: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", nothing)
    with pytest.raises(UpstreamError, match=r"broker\.example:1883: Name or service not known"):
        await Upstream([Address("broker.example", 1883)]).connect()


async def test_of_a_name_with_several_addresses_the_first_that_answers_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening_broker() as one, dead_broker() as dead:

        async def two(*_arguments: object, **_options: object) -> list[object]:
            await trio.lowlevel.checkpoint()
            ports = (dead.port, one.address.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(trio.socket, "getaddrinfo", two)
        with await Upstream([Address("broker.example", 1883)]).connect() as client:
            assert one.serves(client)


async def test_a_broker_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def silence(*_arguments: object) -> socket.socket:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(pool, "_connect", silence)
    brokers = Upstream([Address("192.0.2.1", 1883), Address("192.0.2.2", 1883)])
    with pytest.raises(UpstreamError) as caught:
        await brokers.connect()
    assert trio.current_time() == pytest.approx(2 * CONNECT_TIMEOUT)
    assert str(caught.value) == (
        "no broker could be reached: 192.0.2.1:1883: no answer within 5 s; "
        "192.0.2.2:1883: no answer within 5 s"
    )


async def test_a_client_that_leaves_meanwhile_leaves_no_socket_behind(tmp_path: Path) -> None:
    with ExitStack() as stack:
        one = stack.enter_context(listening_broker())
        client = await Upstream([one.address]).connect()
        client.close()
        accepted, _ = one.listening.accept()
        with accepted:
            accepted.settimeout(10)
            assert accepted.recv(1) == b""


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        (Address("127.0.0.1", 1883), True),
        (Address("::1", 1883), True),
        (Address(path="/run/broker.sock"), True),
        (Address("localhost", 1883), False),
    ],
)
def test_names_alone_have_to_be_resolved(address: Address, *, numeric: bool) -> None:
    assert Upstream([address]).numeric is numeric
    assert Upstream([Address("127.0.0.1", 1883), address]).numeric is numeric
