"""What goes in comes out, both ways, however it is cut and whoever ends first; and Python is not needed."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.metrics import Counter
from gateway.native import End, VerdictKind
from gateway.tls.handshake import examine
from tests.authority import NOW
from tests.relay_parts import TIMEOUT, Gate, Speaker, converse, hear_the_end, list_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13])

# In one stream of bytes that says where each byte belongs: what is lost, doubled or swapped shows.
_PATTERN = b"".join(number.to_bytes(4) for number in range((1 << 20) + 16))

_SIZES = st.lists(
    st.sampled_from([0, 1, 2, 16383, 16384, 16385]) | st.integers(0, 300) | st.integers(0, 40_000),
    max_size=12,
)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("relay"))
    gate.publish(list_of(gate.ca))
    yield gate
    gate.relay.stop()


@pytest.fixture(scope="module")
def contexts(gate: Gate) -> dict[ssl.TLSVersion, ssl.SSLContext]:
    return {version: gate.tls(version) for version in (V12, V13)}


def cut(sizes: Sequence[int], start: int) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(_PATTERN[start : start + size])
        start += size
    return chunks


def exchange(
    gate: Gate, tls: ssl.SSLContext, up: Sequence[int], down: Sequence[int], *, client_first: bool
) -> None:
    """Send chunks of these sizes both ways at once, and check everything that can be seen of it."""
    connection, client, broker = gate.connect(tls)
    try:
        sent, answered = cut(up, 0), cut(down, 7)
        converse(
            Speaker(client, sent, patient=not client_first), Speaker(broker, answered, patient=client_first)
        )
        assert bytes(broker.received) == b"".join(sent)
        assert bytes(client.received) == b"".join(answered)
        event = gate.ended(connection)
        assert (event.bytes_in, event.bytes_out) == (sum(up), sum(down))
        assert event.end is (End.CLIENT_CLOSED if client_first else End.BROKER_CLOSED)
        assert event.detail == ""
        assert event.conn.peer == "{}:{}".format(*client.sock.getsockname())
    finally:
        client.close()
        broker.close()


@settings(max_examples=60)
@given(version=st.sampled_from([V12, V13]), up=_SIZES, down=_SIZES, client_first=st.booleans())
@example(version=V12, up=[], down=[], client_first=True)
@example(version=V13, up=[], down=[], client_first=False)
@example(version=V12, up=[1 << 22], down=[1 << 22], client_first=True)
@example(version=V13, up=[1 << 22], down=[1 << 22], client_first=False)
@example(version=V13, up=[1 << 20] * 3 + [1], down=[3] * 2000, client_first=True)
@example(version=V12, up=[5] * 2000, down=[1 << 20, 70_000, 1], client_first=False)
def test_both_streams_arrive_as_they_were_sent_however_cut_and_whoever_ends_first(
    gate: Gate,
    contexts: dict[ssl.TLSVersion, ssl.SSLContext],
    *,
    version: ssl.TLSVersion,
    up: list[int],
    down: list[int],
    client_first: bool,
) -> None:
    exchange(gate, contexts[version], up, down, client_first=client_first)


@VERSIONS
def test_a_broker_that_does_not_read_stops_its_client_and_nothing_is_lost(
    gate: Gate, contexts: dict[ssl.TLSVersion, ssl.SSLContext], version: ssl.TLSVersion
) -> None:
    connection, client, broker = gate.connect(contexts[version], buffers=1 << 16)
    piece, queued = _PATTERN[: 1 << 16], 0
    # Until there is no room any more on the whole way. A gateway that went on reading would never get there.
    while select.select([], [client], [], 0.5)[1]:
        client.pump()
        if not client.unsent:
            client.queue(piece)
            queued += 1
        assert queued < 1024, "64 MiB went to a broker that does not read"
    assert broker.received == b""
    converse(Speaker(client, [], patient=False), Speaker(broker, [], patient=True))
    assert bytes(broker.received) == piece * queued
    event = gate.ended(connection)
    assert (event.end, event.bytes_in, event.bytes_out) == (End.CLIENT_CLOSED, len(piece) * queued, 0)
    client.close()
    broker.close()


@VERSIONS
def test_a_client_that_does_not_read_stops_its_broker_and_nothing_is_lost(
    gate: Gate, contexts: dict[ssl.TLSVersion, ssl.SSLContext], version: ssl.TLSVersion
) -> None:
    connection, client, broker = gate.connect(contexts[version])
    piece, queued = _PATTERN[: 1 << 16], 0
    while select.select([], [broker], [], 0.5)[1]:
        broker.pump()
        if not broker.unsent:
            broker.queue(piece)
            queued += 1
        assert queued < 1024, "64 MiB went to a client that does not read"
    converse(Speaker(client, [], patient=True), Speaker(broker, [], patient=False))
    assert bytes(client.received) == piece * queued
    event = gate.ended(connection)
    assert (event.end, event.bytes_in, event.bytes_out) == (End.BROKER_CLOSED, 0, len(piece) * queued)
    client.close()
    broker.close()


@VERSIONS
def test_a_client_that_leaves_without_a_word_has_delivered_what_it_had_sent(
    gate: Gate, contexts: dict[ssl.TLSVersion, ssl.SSLContext], version: ssl.TLSVersion
) -> None:
    """A FIN without close_notify, as devices send it."""
    connection, client, broker = gate.connect(contexts[version])
    client.queue(b"last words")
    client.sock.shutdown(socket.SHUT_WR)
    converse(Speaker(broker, [], patient=True))
    assert broker.received == b"last words"
    event = gate.ended(connection)
    assert (event.end, event.detail, event.bytes_in) == (End.CLIENT_CLOSED, "no close_notify", 10)
    client.close()
    broker.close()


@VERSIONS
def test_a_broker_that_is_lost_is_told_in_the_event_and_the_client_hears_a_close_notify(
    gate: Gate, contexts: dict[ssl.TLSVersion, ssl.SSLContext], version: ssl.TLSVersion
) -> None:
    connection, client, broker = gate.connect(contexts[version])
    client.queue(b"never read")
    select.select([broker], [], [], TIMEOUT)
    broker.close()  # with something unread: the gateway's side is reset
    hear_the_end(client)
    assert gate.ended(connection).end is End.BROKER_LOST
    client.close()


@VERSIONS
def test_a_live_connection_whose_certificate_is_revoked_ends_and_its_event_says_why(
    gate: Gate, contexts: dict[ssl.TLSVersion, ssl.SSLContext], version: ssl.TLSVersion
) -> None:
    files = gate.new_client("doomed")
    doomed, client, broker = gate.connect(gate.tls(version, files))
    other, other_client, other_broker = gate.connect(contexts[version])
    disconnected = gate.counters.total(Counter.DISCONNECTED)
    try:
        gate.publish(list_of(gate.ca, files[0].serial))
        gate.relay.recheck()
        hear_the_end(client)  # by close_notify: a FIN alone would have raised
        assert select.select([broker], [], [], TIMEOUT)[0]
        broker.pump()
        assert broker.over
        event = gate.ended(doomed)
        assert event.end is End.REVOKED
        # Its socket is closed; who it was is known all the same.
        info = examine(event.conn)
        assert (event.conn.fileno(), info.leaf, info.verdict.kind) == (-1, files[0].der, VerdictKind.REVOKED)
        assert (info.verdict.entry.revocation_date, info.verdict.entry.reason) == (NOW - 60, 1)
        assert gate.counters.total(Counter.DISCONNECTED) == disconnected + 1
        # Nobody else has noticed.
        converse(
            Speaker(other_client, [b"still", b"here"], patient=False), Speaker(other_broker, [], patient=True)
        )
        assert other_broker.received == b"stillhere"
        assert gate.ended(other).end is End.CLIENT_CLOSED
    finally:
        gate.publish(list_of(gate.ca))
        for end in (client, broker, other_client, other_broker):
            end.close()


def test_stopping_ends_every_connection_with_close_notify(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.publish(list_of(gate.ca))
    connections = [gate.connect(gate.tls(version)) for version in (V12, V13)]
    assert len(gate.relay) == 2
    gate.relay.stop()
    for connection, client, broker in connections:
        hear_the_end(client)
        assert gate.ended(connection).end is End.STOPPED
        client.close()
        broker.close()
    assert len(gate.relay) == 0
    assert gate.counters.connections(0) == 0


# A client and its broker in a process of their own: echoes until all round trips are made.
_ELSEWHERE = """
import os, socket, ssl, sys
port, broker_fd, go, done, trips = map(int, sys.argv[1:6])
tls = ssl.create_default_context(cafile=sys.argv[6])
tls.load_cert_chain(sys.argv[7], sys.argv[8])
broker = socket.socket(fileno=broker_fd)
client = tls.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
os.read(go, 1)
for trip in range(trips):
    client.sendall(b"%08d" % trip)
    broker.sendall(broker.recv(8, socket.MSG_WAITALL)[::-1])
    assert client.recv(8) == (b"%08d" % trip)[::-1]
os.write(done, b"!")
"""


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


def test_traffic_flows_while_python_stands_still(gate: Gate) -> None:
    """From the first echo to the last this process is in a C call that does not release the GIL."""
    _credential, certificate, key = gate.files
    upstream, broker = socket.socketpair()
    go, done = os.pipe(), os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening, broker:
        arguments = (listening.getsockname()[1], broker.fileno(), go[0], done[1], 200)
        process = subprocess.Popen(
            [sys.executable, "-c", _ELSEWHERE, *map(str, (*arguments, gate.ca_file, certificate, key))],
            pass_fds=(broker.fileno(), go[0], done[1]),
        )
        accepted, _ = listening.accept()
    with process:
        connection = gate.adopt(gate.wait_for_handshake(accepted), upstream)
        frozen = ctypes.PyDLL(None)
        waiting = _PollFd(done[0], select.POLLIN, 0)
        frozen.write(go[1], b"!", 1)
        echoed = frozen.poll(ctypes.byref(waiting), 1, int(TIMEOUT * 1000))
        process.kill()
    for fd in (*go, *done):
        os.close(fd)
    assert echoed == 1
    event = gate.ended(connection)
    assert (event.bytes_in, event.bytes_out) == (1600, 1600)


def test_signals_are_for_python_and_faults_for_whoever_looks_into_the_process(gate: Gate) -> None:
    threads = Path("/proc/self/task").iterdir()
    relays = [thread for thread in threads if (thread / "comm").read_text() == "gw-relay\n"]
    assert relays
    for relay in relays:
        (masked,) = re.findall("^SigBlk:\t(.*)$", (relay / "status").read_text(), re.MULTILINE)
        blocked = int(masked, 16)
        assert all(blocked >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE))
        assert not any(blocked >> number - 1 & 1 for number in (signal.SIGSEGV, signal.SIGABRT))
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
