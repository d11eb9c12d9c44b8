"""Brokers for tests: one that listens, and an address where nobody does."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway.config.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30.0


def receive(connection: socket.socket, length: int) -> bytes:
    """So many octets, or those before the end; MSG_WAITALL would not wait where there is a timeout."""
    received = b""
    while len(received) < length and (part := connection.recv(length - len(received))):
        received += part
    return received


class ListeningBroker:
    """Listens on loopback, or on a path, and says whom it accepted."""

    def __init__(self, listening: socket.socket, address: Address) -> None:
        self.listening = listening
        self.address = address
        listening.settimeout(TIMEOUT)

    def accept(self) -> socket.socket:
        """The next connection that the gateway made."""
        accepted, _ = self.listening.accept()
        accepted.settimeout(TIMEOUT)
        return accepted

    def serves(self, client: socket.socket) -> bool:
        """Whether `client` is connected here, both ways."""
        with self.accept() as accepted:
            accepted.sendall(b"welcome")
            client.settimeout(TIMEOUT)
            return client.recv(7) == b"welcome"


@contextmanager
def listening_broker(host: str = "127.0.0.1") -> Iterator[ListeningBroker]:
    with socket.create_server((host, 0)) as listening:
        yield ListeningBroker(listening, Address(host, listening.getsockname()[1]))


@contextmanager
def dead_broker() -> Iterator[Address]:
    """An address that refuses, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Address("127.0.0.1", bound.getsockname()[1])
