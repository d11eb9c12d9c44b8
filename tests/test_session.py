"""A client whose handshake has ended: handed over, made to wait, or refused with a reason to be read."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from proxyprotocol.result import ProxyResultIPv4
from proxyprotocol.v2 import ProxyProtocolV2
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from gateway import native, session
from gateway.config.model import Address
from gateway.errors import GatewayError
from gateway.log import get_logger
from gateway.metrics import Counter
from gateway.names import issuer_id
from gateway.native import FOREVER, Answer, Answers, AnswerStatus, Arrival, Due, End, OnUnavailable, Step
from gateway.proxy_protocol import Endpoint
from gateway.tls import openssl
from gateway.upstream import Upstream
from gateway.upstream import client as upstream_client
from gateway.upstream.client import Version, known_by, known_by_nothing, preface
from tests.authority import NOW
from tests.brokers import TIMEOUT, ListeningBroker, dead_broker, listening_broker, receive
from tests.relay_parts import Client, Gate, hear_the_end, list_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from gateway.revocation.policy import Level

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LIST_TIMEOUT = 15.0
ANSWER_TIMEOUT = 2.0


class House:
    """A door with everything behind it: a gate, one broker that serves, and all that is noticed."""

    def __init__(
        self, directory: Path, on_unavailable: OnUnavailable, broker: ListeningBroker, ocsp: str = "off"
    ) -> None:
        self.answers = Answers(10)
        self.gate = Gate(
            directory,
            on_unavailable,
            answers=None if ocsp == "off" else self.answers,
            require_answer=ocsp == "require",
        )
        self.asked: list[Sequence[bytes]] = []
        self.ask: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """How responders are: it returns when they are done."""
        self.broker = broker
        self.uncovered: list[bytes] = []
        self.refused: list[tuple[str, dict[str, object]]] = []
        self.shown: list[native.Conn] = []
        self.changed = trio.Event()
        self.door = session.Door(
            name="external",
            listener=self.gate.listener,
            front=self.gate.front(),
            handshake_timeout=15.0,
            list_timeout=LIST_TIMEOUT,
            answer_timeout=ANSWER_TIMEOUT,
            upstream=Upstream([broker.address]),
            relay=self.gate.relay,
            count=native.counter(self.gate.counters.pages[0]),
            log=get_logger(listener="external"),
            refused=lambda event, values: self.refused.append((event, values)),
            uncovered=lambda chain: self.uncovered.append(chain[0]),
            clear=self.shown.append,
            tables_changed=self._wait_for_change,
            ask=self._ask,
            identify=known_by_nothing,
            preface=partial(preface, version="off", certificate=False),
        )

    async def _ask(self, chain: Sequence[bytes]) -> None:
        self.asked.append(chain)
        await self.ask()

    def answer(self, status: AnswerStatus, *, ends: int = FOREVER, due: int = FOREVER) -> None:
        """What responders say of the one client, from now on."""
        serial = self.gate.files[0].serial
        answer = Answer(status, ends, due, revocation_date=NOW - 60, reason=1)
        self.answers.put(issuer_id(self.gate.ca.cert), serial, answer)

    async def _wait_for_change(self) -> None:
        await self.changed.wait()

    def close(self) -> None:
        """Stop the relay, and leave no cycle: a collector frees what is in one in any order."""
        self.gate.relay.stop()
        del self.door

    def publish(self, *revoked: int) -> None:
        """Put a list in force, as a worker does."""
        self.gate.publish(list_of(self.gate.ca, *revoked))
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def arrive(self, version: ssl.TLSVersion = V13) -> tuple[Arrival, Client]:
        return self.gate.arrive(self.gate.tls(version))

    def counted(self, which: Counter) -> int:
        return self.gate.counters.total(which)

    @property
    def connections(self) -> int:
        return self.gate.counters.connections(0)

    def relays(self, client: Client) -> bool:
        """Whether what the client says comes to the broker, and back."""
        with self.broker.accept() as accepted:
            client.queue(b"ping")
            said = receive(accepted, 4)
            accepted.sendall(b"pong")
            client.received.clear()
            while len(client.received) < 4:
                assert select.select([client], [], [], TIMEOUT)[0], "no answer"
                client.pump()
            return said == b"ping" and client.received == b"pong"


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., House]]:
    """Houses, by their policy for clients that no list covers."""
    with ExitStack() as stack:

        def build(on_unavailable: OnUnavailable = OnUnavailable.REJECT, ocsp: str = "off") -> House:
            house = House(tmp_path, on_unavailable, stack.enter_context(listening_broker()), ocsp)
            stack.callback(house.close)
            return house

        yield build


@pytest.fixture
def house(build: Callable[..., House]) -> House:
    """One that rejects whom no list covers, with a list in force."""
    house = build()
    house.publish()
    return house


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


def said(events: list[Any]) -> list[tuple[Level, str]]:
    return [(event["log_level"], event["event"]) for event in events]


@pytest.mark.parametrize("version", [V12, V13])
def test_a_clear_client_is_handed_over_before_anybody_here_hears_of_it(
    house: House, events: list[Any], version: ssl.TLSVersion
) -> None:
    front = house.gate.front()
    front.hand_over_to(house.gate.relay, [house.broker.address])
    with closing(Client(socket.create_connection(house.gate.open(front)), house.gate.tls(version))) as client:
        while not client.handshake():
            assert select.select([client], [], [], TIMEOUT)[0], "no answer"
        assert house.relays(client)
    assert (events, list(house.gate.relay.arrivals())) == ([], [])
    assert (house.counted(Counter.RELAYED), house.counted(Counter.HANDSHAKING)) == (1, 0)


def test_a_name_is_nothing_to_hand_over_to(house: House) -> None:
    with pytest.raises(GatewayError, match="cannot connect to localhost:1883 by itself"):
        house.gate.front().hand_over_to(house.gate.relay, [Address("localhost", 1883)])


async def test_an_end_names_the_broker_that_it_was_of(house: House) -> None:
    with dead_broker() as dead:
        house.door.upstream = Upstream([dead, house.broker.address])
        arrival, client = house.arrive()
        await session.serve(house.door, arrival)
    client.close()
    house.broker.accept().close()
    event = house.gate.ended(1)
    assert event.listener is house.gate.listener


async def test_a_broker_that_has_to_be_resolved_is_waited_for_in_a_task(house: House) -> None:
    house.door.upstream = Upstream([Address("localhost", house.broker.address.port)])
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
    assert house.counted(Counter.HANDSHAKING) == 0


async def test_a_revoked_client_is_refused_and_the_log_says_who_and_why(
    house: House, events: list[Any]
) -> None:
    house.publish(house.gate.files[0].serial)
    arrival, client = house.arrive()
    with closing(client):
        peer = "{}:{}".format(*client.sock.getsockname())
        assert arrival.outcome is Step.FAILED
        await session.serve(house.door, arrival)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.revoked"):
            hear_the_end(client)
    assert said(events) == [("warning", "client refused")]
    assert events[0]["reason"] == "certificate_revoked"
    assert (events[0]["peer"], events[0]["subject"]) == (peer, "CN=device")
    [(event, values)] = house.refused
    assert (event, values["listener"], values["serial"]) == (
        "client refused",
        "external",
        events[0]["serial"],
    )
    assert (house.connections, house.counted(Counter.HANDSHAKING)) == (0, 0)


async def test_a_resumed_client_that_is_revoked_since_is_refused_with_close_notify(
    house: House, events: list[Any]
) -> None:
    tls = house.gate.tls(V12)
    ticket = house.gate.ticket(tls)
    house.publish(house.gate.files[0].serial)
    arrival, client = house.gate.arrive(tls, session=ticket)
    with closing(client):
        assert (arrival.outcome, arrival.clear) == (Step.DONE, False)
        await session.serve(house.door, arrival)
        hear_the_end(client)
    assert said(events) == [("warning", "client refused")]
    assert (events[0]["reason"], events[0]["resumed"]) == ("certificate_revoked", True)


async def test_garbage_is_no_more_than_a_debug_message(house: House, events: list[Any]) -> None:
    tls = ssl.create_default_context()  # which does not trust the server
    arrival, client = house.gate.arrive(tls)
    with closing(client):
        await session.serve(house.door, arrival)
    assert said(events) == [("debug", "handshake failed")]
    assert events[0]["error"] == "tlsv1 alert unknown ca"
    assert house.connections == 0
    assert house.refused == []


async def test_a_handshake_that_took_too_long_is_told_with_its_limit(house: House, events: list[Any]) -> None:
    with socket.create_connection(house.gate.open(house.gate.front(timeout=0.0))) as client:
        assert select.select([house.gate.relay], [], [], TIMEOUT)[0], "nothing was told"
        (arrival,) = house.gate.relay.arrivals()
        assert isinstance(arrival, Arrival)
        await session.serve(house.door, arrival)
        client.settimeout(TIMEOUT)
        assert client.recv(1) == b""
        peer = "{}:{}".format(*client.getsockname())
    assert events == [
        {
            "log_level": "debug",
            "event": "handshake timed out",
            "listener": "external",
            "peer": peer,
            "after": "15s",
        }
    ]
    assert (house.connections, house.counted(Counter.HANDSHAKING)) == (0, 0)


# Which broker it is.


async def test_a_client_is_known_by_its_subject(house: House) -> None:
    arrival, client = house.arrive()
    with closing(client):
        assert known_by(arrival.conn) == house.gate.files[0].cert.subject.public_bytes()
        arrival.conn.close()


def test_a_client_without_a_certificate_is_known_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_client, "examine", lambda _conn: SimpleNamespace(leaf=b""))
    conn: Any = SimpleNamespace(endpoints=lambda: (Endpoint(bytes([192, 0, 2, 1]), 7), None))
    assert known_by(conn) == bytes([192, 0, 2, 1])


# What the broker is told.


def header_of(accepted: socket.socket) -> bytes:
    """Version 2's header, and not an octet more."""
    head = receive(accepted, 16)
    return head + receive(accepted, int.from_bytes(head[14:16]))


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("certificate", [False, True])
async def test_the_broker_is_told_of_the_client_before_its_first_byte(
    house: House, version: ssl.TLSVersion, *, certificate: bool
) -> None:
    house.door.preface = partial(preface, version="v2", certificate=certificate)
    arrival, client = house.arrive(version)
    with closing(client):
        await session.serve(house.door, arrival)
        client.queue(b"first words")
        with house.broker.accept() as accepted:
            told = ProxyProtocolV2().unpack(header_of(accepted))
            assert receive(accepted, 11) == b"first words"
        assert isinstance(told, ProxyResultIPv4)
        assert (str(told.source[0]), told.source[1]) == client.sock.getsockname()
        assert (str(told.dest[0]), told.dest[1]) == client.sock.getpeername()
        cipher = client.tls.cipher()
        assert cipher is not None
        assert (told.tlv.ssl.cipher, told.tlv.ssl.version) == (cipher[0], client.tls.version())
    assert told.tlv.authority == "localhost"
    assert (told.tlv.ssl.cn, told.tlv.ssl.verified) == ("device", True)
    assert (told.tlv.ssl.has_cert_conn, told.tlv.ssl.has_cert_sess) == (True, True)
    assert (told.tlv.ssl.sig_alg, told.tlv.ssl.key_alg) == ("ecdsa-with-SHA256", "EC256")
    assert told.tlv.ssl.get(0x28) == (house.gate.files[0].der if certificate else None)


@pytest.mark.parametrize("name", [b"g\xffw", b"admin\x07", "gerät".encode()])
async def test_a_server_name_that_is_no_hosts_is_not_told(
    house: House, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    established = openssl.established
    monkeypatch.setattr(openssl, "established", lambda ssl: established(ssl)._replace(server_name=name))
    arrival, client = house.arrive()
    with closing(client):
        header = preface(arrival.conn, "v2", certificate=False)
        arrival.conn.close()
    assert ProxyProtocolV2().unpack(header).tlv.authority is None


async def test_a_resumed_client_showed_its_certificate_in_its_session(house: House) -> None:
    house.door.preface = partial(preface, version="v2", certificate=False)
    tls = house.gate.tls(V12)
    ticket = house.gate.ticket(tls)
    arrival, client = house.gate.arrive(tls, session=ticket)
    with closing(client):
        await session.serve(house.door, arrival)
        with house.broker.accept() as accepted:
            told = ProxyProtocolV2().unpack(header_of(accepted)).tlv.ssl
    assert (told.has_cert_conn, told.has_cert_sess, told.verified, told.cn) == (False, True, True, "device")


async def test_a_client_that_is_let_in_unchecked_is_not_told_to_be_verified(
    build: Callable[..., House],
) -> None:
    house = build(OnUnavailable.ACCEPT)
    house.door.preface = partial(preface, version="v2", certificate=False)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        with house.broker.accept() as accepted:
            told = ProxyProtocolV2().unpack(header_of(accepted)).tlv.ssl
    assert (told.has_cert_conn, told.verified, told.verify) == (True, False, 3)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_client_that_has_gone_already_is_told_of_without_an_address(
    house: House, version: Version
) -> None:
    arrival, client = house.arrive()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert preface(arrival.conn, version, certificate=False).startswith((b"PROXY ", b"\r\n\r\n"))
    arrival.conn.close()


# Clients that no list covers.


async def test_whom_no_list_covers_is_refused_and_where_its_lists_are_is_learnt(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(OnUnavailable.REJECT)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
    assert said(events) == [("warning", "client refused")]
    assert events[0]["reason"] == "no_list"
    assert house.uncovered == [house.gate.files[0].der]


async def test_the_policy_accept_lets_it_in_and_says_so(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(OnUnavailable.ACCEPT)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
    assert said(events) == [("warning", "client let in unchecked")]
    assert (events[0]["reason"], events[0]["subject"]) == ("no_list", "CN=device")
    assert house.uncovered == [house.gate.files[0].der]


async def test_the_policy_wait_lets_it_in_when_its_list_has_come(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(OnUnavailable.WAIT)
    arrival, client = house.arrive()
    with closing(client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve, house.door, arrival)
            await wait_all_tasks_blocked()
            assert (house.counted(Counter.HANDSHAKING), house.counted(Counter.RELAYED)) == (1, 0)
            # Other lists are none of its business.
            house.changed.set()
            house.changed = trio.Event()
            await wait_all_tasks_blocked()
            assert house.counted(Counter.RELAYED) == 0
            house.publish()
        assert house.relays(client)
    assert (events, house.counted(Counter.HANDSHAKING)) == ([], 0)


async def test_the_policy_wait_refuses_it_when_the_list_that_came_revokes_it(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(OnUnavailable.WAIT)
    arrival, client = house.arrive()
    with closing(client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve, house.door, arrival)
            await wait_all_tasks_blocked()
            house.publish(house.gate.files[0].serial)
        hear_the_end(client)
    assert said(events) == [("warning", "client refused")]
    assert events[0]["reason"] == "certificate_revoked"
    assert house.counted(Counter.REFUSED_REVOKED) == 1


async def test_the_policy_wait_refuses_it_when_no_list_comes_in_time(
    build: Callable[..., House], events: list[Any], autojump_clock: MockClock
) -> None:
    house = build(OnUnavailable.WAIT)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        hear_the_end(client)
    assert trio.current_time() == LIST_TIMEOUT
    assert said(events) == [("warning", "client refused")]
    assert events[0]["reason"] == "no_list"
    assert (house.counted(Counter.REFUSED_NO_LIST), house.connections) == (1, 0)


async def test_one_that_waits_is_closed_when_its_worker_stops(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(OnUnavailable.WAIT)
    arrival, client = house.arrive()
    with closing(client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve, house.door, arrival)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        hear_the_end(client)
    assert (house.connections, house.counted(Counter.HANDSHAKING)) == (0, 0)
    assert events == []


# Clients that responders are asked about.


async def said_good(house: House) -> None:
    await trio.sleep(1)
    house.answer(AnswerStatus.GOOD)


@pytest.mark.parametrize("ocsp", ["prefer", "require"])
async def test_whom_a_responder_calls_good_is_let_in_without_a_list_and_comes_back_unasked(
    build: Callable[..., House], events: list[Any], autojump_clock: MockClock, ocsp: str
) -> None:
    house = build(ocsp=ocsp)
    house.ask = partial(said_good, house)
    arrival, client = house.arrive()
    with closing(client):
        assert (arrival.outcome, arrival.clear) == (Step.DONE, False)
        await session.serve(house.door, arrival)
        assert house.relays(client)
    assert trio.current_time() == 1
    assert house.asked == [(house.gate.files[0].der, house.gate.ca.der)]
    arrival, client = house.arrive()
    client.close()
    assert arrival.clear
    arrival.conn.close()
    assert events == []
    assert house.counted(Counter.REFUSED_NO_LIST) + house.counted(Counter.ACCEPTED_UNCHECKED) == 0


async def test_whom_a_responder_revokes_hears_close_notify_and_the_next_time_why(
    build: Callable[..., House], events: list[Any]
) -> None:
    house = build(ocsp="prefer")
    house.publish()

    async def said_revoked() -> None:
        await trio.lowlevel.checkpoint()
        house.answer(AnswerStatus.REVOKED)

    house.ask = said_revoked
    for times in range(2):
        arrival, client = house.arrive()
        with closing(client):
            assert (arrival.outcome is Step.FAILED) == bool(times)
            await session.serve(house.door, arrival)
            with pytest.raises(ssl.SSLError, match=r"(?i)certificate.revoked") if times else nullcontext():
                hear_the_end(client)
    assert said(events) == [("warning", "client refused")] * 2
    assert {(event["reason"], event["revocation_reason"]) for event in events} == {
        ("certificate_revoked", "keyCompromise")
    }
    assert (len(house.asked), house.counted(Counter.REFUSED_REVOKED)) == (1, 2)


async def test_a_list_revokes_whom_a_responder_calls_good(build: Callable[..., House]) -> None:
    house = build(ocsp="require")
    house.answer(AnswerStatus.GOOD)
    house.publish(house.gate.files[0].serial)
    arrival, client = house.arrive()
    with closing(client):
        assert arrival.outcome is Step.FAILED
        await session.serve(house.door, arrival)
    assert (house.asked, house.counted(Counter.REFUSED_REVOKED)) == ([], 1)


@pytest.mark.parametrize("listed", [True, False])
async def test_where_an_answer_is_preferred_and_none_comes_in_time_the_list_decides(
    build: Callable[..., House], events: list[Any], autojump_clock: MockClock, *, listed: bool
) -> None:
    house = build(ocsp="prefer")
    house.ask = trio.sleep_forever
    if listed:
        house.publish()
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        if listed:
            assert house.relays(client)
        else:
            hear_the_end(client)
    assert trio.current_time() == ANSWER_TIMEOUT
    assert [event["reason"] for event in events] == ([] if listed else ["no_list"])
    assert house.counted(Counter.REFUSED_NO_LIST) == (not listed)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(AnswerStatus.NONE, "no_ocsp_answer"), (AnswerStatus.UNKNOWN, "unknown_to_ocsp")],
)
async def test_where_an_answer_is_required_a_list_is_no_substitute(
    build: Callable[..., House], events: list[Any], status: AnswerStatus, reason: str
) -> None:
    house = build(ocsp="require")
    house.publish()
    house.answer(status)
    arrival, client = house.arrive()
    with closing(client):
        assert arrival.outcome is Step.FAILED
        await session.serve(house.door, arrival)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.unknown"):
            hear_the_end(client)
    assert [event["reason"] for event in events] == [reason]
    assert (house.asked, house.counted(Counter.REFUSED_NO_ANSWER)) == ([], 1)


async def test_the_policy_accept_holds_for_answers_too(
    build: Callable[..., House], events: list[Any], autojump_clock: MockClock
) -> None:
    house = build(OnUnavailable.ACCEPT, ocsp="require")
    house.ask = trio.sleep_forever
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
    assert said(events) == [("warning", "client let in unchecked")]
    assert events[0]["reason"] == "no_ocsp_answer"
    assert house.counted(Counter.ACCEPTED_UNCHECKED) == 1


@pytest.mark.parametrize("comes", [True, False])
async def test_the_policy_wait_waits_for_an_answer_as_for_a_list(
    build: Callable[..., House], events: list[Any], autojump_clock: MockClock, *, comes: bool
) -> None:
    house = build(OnUnavailable.WAIT, ocsp="require")

    async def said_good_at_last() -> None:
        await trio.lowlevel.checkpoint()
        if comes and len(house.asked) == 4:
            house.answer(AnswerStatus.GOOD)

    house.ask = said_good_at_last
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        if comes:
            assert house.relays(client)
        else:
            hear_the_end(client)
    assert trio.current_time() == (3 if comes else LIST_TIMEOUT)
    assert house.counted(Counter.REFUSED_NO_ANSWER) == (not comes)


async def test_a_resumed_session_waits_for_an_answer_as_well(build: Callable[..., House]) -> None:
    house = build(ocsp="require")
    tls = house.gate.tls(V12)
    house.answer(AnswerStatus.GOOD)
    ticket = house.gate.ticket(tls)
    house.answer(AnswerStatus.GOOD, ends=NOW - 1)
    house.ask = partial(said_good, house)
    arrival, client = house.gate.arrive(tls, session=ticket)
    with closing(client):
        assert (arrival.outcome, arrival.clear) == (Step.DONE, False)
        await session.serve(house.door, arrival)
        assert house.relays(client)
    assert house.asked == [(house.gate.files[0].der,)]


async def test_live_connections_are_told_of_when_an_answer_is_due_and_ended_when_it_revokes(
    build: Callable[..., House],
) -> None:
    house = build(ocsp="require")
    house.answer(AnswerStatus.GOOD)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
        house.gate.relay.recheck()
        house.answer(AnswerStatus.GOOD, due=NOW)
        house.gate.relay.recheck()
        assert select.select([house.gate.relay], [], [], TIMEOUT)[0], "nothing was told"
        (due,) = house.gate.relay.arrivals()
        assert isinstance(due, Due)
        assert due.listener is house.gate.listener
        assert openssl.released_certificate(due.x509) == house.gate.files[0].der
        house.answer(AnswerStatus.REVOKED)
        house.gate.relay.recheck()
        hear_the_end(client)


# Brokers that are not there.


def enter(house: House, broker: Address) -> Client:
    """A client that is handed over to a broker that is not there."""
    front = house.gate.front()
    front.hand_over_to(house.gate.relay, [broker])
    client = Client(socket.create_connection(house.gate.open(front)), house.gate.tls(V13))
    while not client.handshake():
        assert select.select([client], [], [], TIMEOUT)[0], "no answer"
    return client


async def test_where_a_broker_refuses_the_client_comes_to_another_one(
    house: House, events: list[Any]
) -> None:
    with dead_broker() as dead:
        house.door.upstream = Upstream([dead, house.broker.address])
        with closing(enter(house, dead)) as client:
            client.queue(b"first words ")
            event = house.gate.ended(0)
            assert (event.end, event.detail) == (End.BROKER_REFUSED, "Connection refused")
            assert event.conn.listener is house.gate.listener
            assert event.conn.peer == "{}:{}".format(*client.sock.getsockname())
            await session.reach_broker(house.door, event.conn)
            with house.broker.accept() as accepted:
                assert receive(accepted, 12) == b"first words "
    assert (events, house.counted(Counter.UPSTREAM_FAILED)) == ([], 0)


async def test_where_no_broker_can_be_reached_the_client_is_closed_and_each_is_named(
    house: House, events: list[Any]
) -> None:
    with dead_broker() as dead:
        house.door.upstream = Upstream([dead])
        with closing(enter(house, dead)) as client:
            peer = "{}:{}".format(*client.sock.getsockname())
            event = house.gate.ended(0)
            await session.reach_broker(house.door, event.conn)
            hear_the_end(client)
    assert events == [
        {
            "log_level": "error",
            "event": "broker unreachable",
            "listener": "external",
            "peer": peer,
            "error": f"no broker could be reached: {dead}: Connection refused",
        }
    ]
    assert (house.counted(Counter.UPSTREAM_FAILED), house.connections) == (1, 0)


# Relays that take no more.


async def test_a_client_that_the_relay_does_not_take_is_dropped_with_its_brokers_socket(
    house: House, events: list[Any]
) -> None:
    arrival, client = house.arrive()
    house.gate.relay.stop()
    with closing(client):
        await session.reach_broker(house.door, arrival.conn)
        hear_the_end(client)
    with house.broker.accept() as accepted:
        assert accepted.recv(1) == b""
    assert said(events) == [("error", "connection dropped")]
    assert "the relay has been stopped" in events[0]["error"]
    assert house.connections == 0
