"""Clients that speak TLS from this very process, and a broker that echoes."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.end_to_end.parts import TIMEOUT, OpensslCa

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo:
    """A broker that says back what it hears, and remembers all of it."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    self.heard += data
                    connection.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(TIMEOUT)


def tls_context(ca: OpensslCa, stem: str = "device") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.cert("ca")))
    context.load_cert_chain(ca.cert(stem), ca.key(stem))
    return context


@contextmanager
def client(port: int, ca: OpensslCa, stem: str = "device") -> Iterator[ssl.SSLSocket]:
    """A connection that has echoed once: its verdict is in, and the relay has it."""
    with _connection(port, tls_context(ca, stem)) as connection:
        assert echoes(connection)
        yield connection


@contextmanager
def _connection(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    """One whose handshake is over. Wrapped before it connects: else a reset in between leaves it open."""
    with context.wrap_socket(socket.socket(), server_hostname="localhost", session=session) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(("127.0.0.1", port))
        yield connection


def echoes(connection: ssl.SSLSocket, message: bytes = b"ping") -> bool:
    connection.sendall(message)
    received = b""
    while len(received) < len(message):
        chunk = connection.recv(len(message))
        if not chunk:
            return False
        received += chunk
    return received == message


def resume(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None, message: bytes = b"ping"
) -> tuple[bool, bool, ssl.SSLSession | None]:
    """Whether it echoed, whether it resumed, and the session to resume next."""
    with _connection(port, context, session) as connection:
        try:
            echoed = echoes(connection, message)
        except OSError:
            echoed = False
        return echoed, bool(connection.session_reused), connection.session
