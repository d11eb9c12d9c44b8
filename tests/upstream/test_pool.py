"""A client comes to a broker that is there; when all are dead each is named with its reason."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from gateway.config.model import Address
from gateway.errors import UpstreamError
from gateway.upstream import CONNECT_TIMEOUT, SHUNNED, Upstream, pool
from tests.brokers import ListeningBroker, dead_broker, listening_broker

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


async def chosen(brokers: Upstream) -> int:
    """The number of the broker that is connected next."""
    found = await brokers.connect()
    found.socket.close()
    return found.number


async def test_the_socket_is_connected_and_does_not_block() -> None:
    with listening_broker() as one, (await Upstream([one.address]).connect()).socket as client:
        assert not client.getblocking()
        assert client.get_inheritable() is False
        assert one.serves(client)


async def test_a_name_is_resolved() -> None:
    with listening_broker() as one:
        address = Address("localhost", one.address.port)
        with (await Upstream([address]).connect()).socket as client:
            assert one.serves(client)


async def test_a_broker_may_listen_on_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "broker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        one = ListeningBroker(listening, Address(path=path))
        with (await Upstream([one.address]).connect()).socket as client:
            assert one.serves(client)


async def test_brokers_are_used_in_turn() -> None:
    with listening_broker() as one, listening_broker() as two:
        brokers = Upstream([one.address, two.address])
        for expected in (one, two, one, two):
            with (await brokers.connect()).socket as client:
                assert expected.serves(client)


async def test_a_dead_broker_is_passed_over() -> None:
    with listening_broker() as one, dead_broker() as dead:
        brokers = Upstream([dead, one.address])
        for _ in range(3):
            with (await brokers.connect()).socket as client:
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
        with (await Upstream([Address("broker.example", 1883)]).connect()).socket as client:
            assert one.serves(client)


async def test_a_broker_that_does_not_answer_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def silence(*_arguments: object) -> socket.socket:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(pool, "connect", silence)
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
        client = (await Upstream([one.address]).connect()).socket
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


async def test_one_that_refused_comes_after_the_others_for_a_while(autojump_clock: MockClock) -> None:
    with listening_broker() as one, dead_broker() as dead:
        brokers = Upstream([dead, one.address])
        order = [await chosen(brokers) for _ in range(2)]
        assert order == [1, 1]
        assert brokers._order(b"") == [1, 0]
        await trio.sleep(SHUNNED)
        assert brokers._order(b"") == [0, 1]


async def test_those_that_have_all_refused_are_tried_all_the_same() -> None:
    with dead_broker() as dead:
        brokers = Upstream([dead, dead])
        for _ in range(2):
            with pytest.raises(
                UpstreamError, match=f"{dead}: Connection refused; {dead}: Connection refused"
            ):
                await brokers.connect()


async def test_a_broker_that_the_health_checks_say_is_down_is_not_tried() -> None:
    with listening_broker() as one, listening_broker() as two:
        brokers = Upstream([one.address, two.address])
        brokers.checked({str(one.address): False})
        for _ in range(3):
            with (await brokers.connect()).socket as client:
                assert two.serves(client)
        brokers.checked({str(one.address): False, str(two.address): False})
        with pytest.raises(UpstreamError, match="the health checks say that all are down"):
            await brokers.connect()
        brokers.checked({str(one.address): True, str(two.address): False})
        assert await chosen(brokers) == 0


async def test_a_broker_that_comes_back_starts_slowly(autojump_clock: MockClock) -> None:
    brokers = Upstream([Address("192.0.2.1", 1), Address("192.0.2.2", 1)], slow_start=20.0)
    told: dict[int, list[float]] = {0: [], 1: []}
    brokers.weigh = lambda number, share: told[number].append(share)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(brokers.tend)
        await trio.sleep(1)
        brokers.checked({"192.0.2.1:1": False})
        await trio.sleep(1)
        assert told[0][-1] == 0.0
        brokers.checked({})
        assert told[0][-1] == 0.05
        await trio.sleep(10.5)
        assert told[0][-1] == pytest.approx(0.5, abs=0.06)
        assert [brokers._order(b"")[0] for _ in range(9)].count(0) in (3, 4)
        await trio.sleep(10)
        assert told[0][-1] == 1.0
        nursery.cancel_scope.cancel()
    assert set(told[1]) == {1.0}
    assert told[0] == sorted(told[0][:2], reverse=True) + sorted(told[0][2:])


async def test_in_an_outage_nobody_chooses_without_asking_until_a_broker_was_reached() -> None:
    brokers = Upstream([Address("192.0.2.1", 1)])
    told: list[float] = []
    brokers.weigh = lambda _number, share: told.append(share)
    assert [brokers.lost_one() for _ in range(3)] == [True, False, False]
    brokers.checked({"192.0.2.1:1": True})
    assert set(told) == {0.0}
    assert brokers.recovered() == 3
    assert told[-1] == 1.0
    assert brokers.recovered() is None


async def test_the_one_with_the_fewest_connections_is_next() -> None:
    brokers = Upstream([Address("192.0.2.1", 1), Address("192.0.2.2", 1)], balance="least-connections")
    for _ in range(4):
        brokers.joined(0)
    brokers.joined(1)
    assert [brokers._order(b"") for _ in range(2)] == [[1, 0], [1, 0]]
    for _ in range(4):
        brokers.left(0)
    assert brokers._order(b"") == [0, 1]


async def test_a_client_keeps_its_broker_and_has_one_to_go_to_when_that_is_down() -> None:
    addresses = [Address(f"192.0.2.{number}", 1) for number in range(1, 5)]
    brokers = Upstream(addresses, balance="client")
    first, second, *_ = brokers._order(b"device")
    assert [brokers._order(b"device")[0] for _ in range(5)] == [first] * 5
    brokers.checked({str(addresses[first]): False})
    assert brokers._order(b"device")[0] == second
    brokers.checked({})
    assert brokers._order(b"device")[0] == first


async def test_connections_are_made_from_the_addresses_that_are_given_in_turn() -> None:
    with listening_broker() as one:
        brokers = Upstream([one.address], sources=["127.0.0.2", "::1", "127.0.0.3"])
        hosts = []
        for _ in range(4):
            with (await brokers.connect()).socket, one.accept() as accepted:
                hosts.append(accepted.getpeername()[0])
    assert hosts == ["127.0.0.2", "127.0.0.3"] * 2


async def test_an_address_that_has_no_port_left_or_is_not_ours_is_passed_over() -> None:
    with listening_broker() as one:
        brokers = Upstream([one.address], sources=["192.0.2.99", "127.0.0.2"])
        for _ in range(2):
            with (await brokers.connect()).socket, one.accept() as accepted:
                assert accepted.getpeername()[0] == "127.0.0.2"
        with pytest.raises(UpstreamError, match="Cannot assign requested address"):
            await Upstream([one.address], sources=["192.0.2.99"]).connect()


async def test_two_brokers_may_be_reached_from_the_same_port() -> None:
    """IP_BIND_ADDRESS_NO_PORT: without it a port is taken from all brokers at once."""
    with (
        listening_broker() as one,
        (await Upstream([one.address], sources=["127.0.0.2"]).connect()).socket as client,
    ):
        assert client.getsockopt(socket.IPPROTO_IP, 24) == 1
