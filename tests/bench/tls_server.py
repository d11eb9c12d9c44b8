"""A small TLS echo server that misbehaves as it is told: what the load generator is tried on."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.material import Material

TIMEOUT = 10.0


class TlsServer:
    """Mutual TLS on a free loopback port, a thread a connection.

    `answer` makes the reply to the message with that number; messages are
    counted from 0 over all connections. `admit` may close a connection, with
    close_notify, when its handshake is over. `crl` is enforced by OpenSSL.
    """

    def __init__(
        self,
        material: Material,
        *,
        crl: Path | None = None,
        answer: Callable[[int, bytes], bytes] = lambda _number, message: message,
        admit: Callable[[TlsServer, ssl.SSLSocket], bool] = lambda _server, _connection: True,
    ) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(material.server_cert, material.server_key)
        self._context.load_verify_locations(material.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        if crl is not None:
            self._context.load_verify_locations(crl)
            self._context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        self._answer = answer
        self._admit = admit
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._open: set[ssl.SSLSocket] = set()
        self.serials: Counter[int] = Counter()
        self.most_open = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(TIMEOUT)
        self.drop(len(self._open))
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    @property
    def open(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._open)

    def drop(self, count: int) -> None:
        """End so many connections."""
        with self._lock:
            for connection in itertools.islice(self._open, count):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(plain,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with plain, suppress(OSError), self._context.wrap_socket(plain, server_side=True) as connection:
            with self._lock:
                self._open.add(connection)
                self.serials[peer_serial(connection)] += 1
                self.most_open = max(self.most_open, len(self._open))
            try:
                if self._admit(self, connection):
                    self._echo(connection)
                else:
                    connection.unwrap()
            finally:
                with self._lock:
                    self._open.discard(connection)

    def _echo(self, connection: ssl.SSLSocket) -> None:
        while message := connection.recv(1 << 16):
            connection.sendall(self._answer(next(self._numbers), message))


def peer_serial(connection: ssl.SSLSocket) -> int:
    """The serial of the certificate that the client presented, or had when its session began."""
    certificate = connection.getpeercert()
    assert certificate is not None
    return int(str(certificate["serialNumber"]), 16)
