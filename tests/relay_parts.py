"""A client and a broker of our own around the relay, both driven by one thread that never blocks for good."""

from __future__ import annotations

import select
import socket
import ssl
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from gateway.config.certificates import ServerCertificate
from gateway.metrics import Counters, gauge_index
from gateway.names import issuer_id
from gateway.native import (
    ALL_REASONS,
    Answers,
    Arrival,
    Check,
    Conn,
    Cover,
    Due,
    Front,
    Limits,
    Obstacle,
    OnUnavailable,
    Relay,
    Step,
    Subjects,
    Table,
    TableMeta,
    World,
    compile_table,
)
from gateway.revocation.crl import parse_untrusted
from gateway.tls import context, openssl
from tests.authority import DAY, NOW, Authority, Credential, Revoked
from tests.listeners import listener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gateway.native import RelayEvent

TIMEOUT = 30.0
_READ = 1 << 16


def cover_of(table: Table) -> Cover:
    """What a list without any limits says of its issuer's certificates."""
    meta = table.meta
    return Cover(
        issuer_name=meta.issuer_name,
        issuer_key=meta.issuer_key,
        crl_issuer=0,
        point=0,
        reasons=ALL_REASONS,
        subjects=Subjects.ALL,
        this_update=meta.this_update,
        next_update=meta.next_update,
        table=table,
    )


class End(Protocol):
    """One end of a relayed connection."""

    received: bytearray
    over: bool
    """Nothing more will come."""

    def fileno(self) -> int: ...
    def pump(self) -> None:
        """Send and receive as much as goes without waiting."""

    def queue(self, data: bytes) -> None:
        """Send this when there is room."""

    def finish(self) -> None:
        """Nothing more will be sent."""

    @property
    def unsent(self) -> bool:
        """Whether something waits for room."""


class _Socket:
    """What both ends share: a socket that does not block and bytes that wait for room in it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003 - the library's own signature
        self.sock = sock
        self.received = bytearray()
        self.over = False
        self._waiting = memoryview(b"")
        self._finished = False

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def unsent(self) -> bool:
        return bool(self._waiting)

    def _write(self, data: bytes) -> None:
        self._waiting = memoryview(bytes(self._waiting) + data)

    def _flush(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[self.sock.send(self._waiting) :]
        except BlockingIOError:
            pass

    def _take(self) -> bytes | None:
        """What has come; empty at the end, None when there is nothing yet."""
        try:
            return self.sock.recv(_READ)
        except BlockingIOError:
            return None

    def close(self) -> None:
        self.sock.close()


class Broker(_Socket):
    """The plain end."""

    def queue(self, data: bytes) -> None:
        self._write(data)

    def finish(self) -> None:
        self._finished = True

    def pump(self) -> None:
        self._flush()
        if self._finished and not self._waiting:
            self._finished = False
            self.sock.shutdown(socket.SHUT_WR)
        while not self.over and (data := self._take()) is not None:
            self.received += data
            self.over = not data


def listening_socket() -> socket.socket:
    """On loopback, as the supervisor makes them: it does not block."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening


def hear_the_end(end: End) -> None:
    """Read until nothing more will come; for a client that is a close_notify."""
    while not end.over:
        assert select.select([end], [], [], TIMEOUT)[0], "nothing came"
        end.pump()


class Client(_Socket):
    """The TLS end; a close_notify is its end of file, and a FIN without one an error."""

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost", session=session)

    def handshake(self) -> bool:
        """Go as far as the socket lets it; whether it is over."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_records()
                if not self._feed():
                    return False
            else:
                return True
            finally:
                self._send_records()  # an alert, where it failed

    def queue(self, data: bytes) -> None:
        self.tls.write(data)
        self._send_records()

    def finish(self) -> None:
        # What has come must have been read: OpenSSL takes data behind its own close_notify for an error.
        self._read()
        # It would like to hear the other side's, but that comes in its own time.
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._send_records()

    def pump(self) -> None:
        self._flush()
        while not self.over and self._feed():
            self._read()

    def _send_records(self) -> None:
        self._write(self._outgoing.read())
        self._flush()

    def _feed(self) -> bool:
        data = self._take()
        if data:
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        return data is not None

    def _read(self) -> None:
        while not self.over:
            try:
                data = self.tls.read(_READ)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            self.received += data
            self.over = not data


def list_of(ca: Authority, *revoked: int) -> Table:
    """A fresh list of `ca` with these serial numbers on it, ready to be published."""
    der = ca.crl([Revoked(serial, at=NOW - 60, reason=1) for serial in revoked])
    crl = parse_untrusted(der)
    identity = issuer_id(ca.cert)
    meta = TableMeta(identity.name, identity.key, crl.signature, 1, NOW - 60, NOW + DAY)
    with tempfile.TemporaryFile() as file:
        compile_table(der, crl.parts.revoked, meta, file.fileno())
        return Table(file.fileno())


class Gate:
    """A listener, a world of tables and a relay thread, as a worker has them; stop it when done."""

    def __init__(
        self,
        directory: Path,
        on_unavailable: OnUnavailable = OnUnavailable.REJECT,
        *,
        answers: Answers | None = None,
        require_answer: bool = False,
    ) -> None:
        openssl.install()
        self.ca = Authority.root("Relay CA")
        server = self.ca.issue("server")
        self.server = context.make_context(
            listener("relay"),
            certificates=[ServerCertificate((server.cert,), server.key)],
            client_cas=[self.ca.cert],
        )
        self.counters = Counters(1, 1)
        page = self.counters.pages[0]
        self.world = World(page)
        self.listener, self._slots = context.enter_process(
            self.server,
            self.world,
            check=Check.CHAIN,
            on_unavailable=on_unavailable,
            grace=0,
            disconnect_revoked=True,
            counters=page,
            gauge=gauge_index(0),
            answers=answers,
            require_answer=require_answer,
        )
        self.relay = Relay(self.world)
        self._directory = directory
        self._id = 0
        self._events: dict[int, RelayEvent] = {}
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self.ca.pem)
        self.files = self.new_client("device")

    def new_client(self, name: str) -> tuple[Credential, Path, Path]:
        """A client certificate, and where it and its key are."""
        credential = self.ca.issue(name)
        return credential, *credential.write(self._directory, name)

    def publish(self, table: Table) -> None:
        self.world.publish([cover_of(table)])

    def tls(
        self, version: ssl.TLSVersion, files: tuple[Credential, Path, Path] | None = None
    ) -> ssl.SSLContext:
        """A client's context for one version of TLS."""
        _credential, certificate, key = files or self.files
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        tls.load_cert_chain(certificate, key)
        tls.minimum_version = tls.maximum_version = version
        return tls

    def connect(self, tls: ssl.SSLContext, *, buffers: int = 0) -> tuple[int, Client, Broker]:
        """A client and a broker with the relay between them; `buffers` bounds what the kernel holds."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            if buffers:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            client_socket = socket.socket()
            if buffers:
                client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            client_socket.connect(listening.getsockname())
            accepted, _ = listening.accept()
        client = Client(client_socket, tls)
        upstream, broker = socket.socketpair()
        conn = self.wait_for_handshake(accepted, client.handshake)
        return self.adopt(conn, upstream), client, Broker(broker)

    def wait_for_handshake(self, accepted: socket.socket, client: Callable[[], bool] | None = None) -> Conn:
        """The server's half of a handshake; `client` steps the other half, if that is in this process."""
        accepted.setblocking(False)  # noqa: FBT003 - the library's own signature
        fd = accepted.detach()
        conn = Conn.begin(self.listener, self.server.address, fd)
        over = client is None
        step, error = Step.WANT_READ, ""
        while not over or step is not Step.DONE:
            over = over or client is None or client()
            if step is not Step.DONE:
                step, error = conn.handshake()
            assert step in (Step.WANT_READ, Step.DONE), error
            if client is None and step is Step.WANT_READ:
                assert select.select([fd], [], [], TIMEOUT)[0], "the client is silent"
        return conn

    def front(self, timeout: float = TIMEOUT) -> Front:
        """Handshakes for this gate's listener."""
        return Front(self.listener, self.server.address, timeout)

    def arrive(self, tls: ssl.SSLContext, *, session: ssl.SSLSession | None = None) -> tuple[Arrival, Client]:
        """A client whose handshake has ended, well or not, and its own end."""
        client = Client(socket.create_connection(self.open(self.front())), tls, session)
        over = False
        arrivals: list[Arrival | Obstacle | Due] = []
        while not arrivals:
            with suppress(ssl.SSLError):
                over = over or client.handshake()
            select.select([self.relay.fileno(), *([] if over else [client.fileno()])], [], [], TIMEOUT)
            arrivals = list(self.relay.arrivals())
        (arrival,) = arrivals
        assert isinstance(arrival, Arrival)
        # In TLS 1.2 the server is done before its client is, but what that needs has been sent.
        while arrival.outcome is Step.DONE and not over:
            over = client.handshake()
        return arrival, client

    def ticket(self, tls: ssl.SSLContext) -> ssl.SSLSession:
        """The session of a client that has been here and gone, for `arrive`; of TLS 1.2."""
        arrival, client = self.arrive(tls)
        session = client.tls.session
        arrival.conn.close()
        client.close()
        assert session is not None
        return session

    def open(self, front: Front) -> tuple[str, int]:
        """Have the relay serve `front`; where clients connect to it."""
        listening = listening_socket()
        address: tuple[str, int] = listening.getsockname()
        front.listen(listening)
        self.relay.serve(front, Limits(handshakes=100, connections=100), self.counters, gauge_index(0))
        return address

    def adopt(self, conn: Conn, upstream: socket.socket) -> int:
        upstream.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._id += 1
        self.relay.adopt(conn, upstream.fileno(), self._id)
        upstream.detach()
        return self._id

    def ended(self, connection: int) -> RelayEvent:
        """Wait for the end of a connection."""
        while connection not in self._events:
            assert select.select([self.relay.fileno()], [], [], TIMEOUT)[0], "no event"
            self._events |= {event.id: event for event in self.relay.events()}
        return self._events.pop(connection)


class Speaker:
    """Sends its chunks over `end`, in their order, each when the one before has gone, then ends its half.

    `patient`: it keeps its last chunk until the other half has ended, and only then ends its own.
    """

    def __init__(self, end: End, chunks: Sequence[bytes], *, patient: bool) -> None:
        self.end = end
        self._chunks = list(chunks)
        self._patient = patient
        self.finished = False

    @property
    def has_more(self) -> bool:
        """Whether it has something to say now."""
        held_back = self._patient and not self.end.over
        return not self.finished and not self.end.unsent and (len(self._chunks) > 1 or not held_back)

    def go(self) -> None:
        """Say and hear as much as goes without waiting."""
        self.end.pump()
        # What is heard meanwhile may be the end that it has waited for.
        while self.has_more:
            if self._chunks:
                self.end.queue(self._chunks.pop(0))
            else:
                self.finished = True
                self.end.finish()
            self.end.pump()


def converse(*speakers: Speaker) -> None:
    """Until both have said all and heard the end."""
    while True:
        for speaker in speakers:
            speaker.go()
        waiting = [speaker.end for speaker in speakers if not speaker.end.over]
        sending = [speaker.end for speaker in speakers if speaker.end.unsent]
        if not waiting and not sending and all(speaker.finished for speaker in speakers):
            return
        assert any(select.select(waiting, sending, [], TIMEOUT)), "nothing moves"
