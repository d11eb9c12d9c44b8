"""One broker's address: resolve it, connect, from one address of ours or another."""

from __future__ import annotations

import errno
import os
import socket
from itertools import count
from typing import TYPE_CHECKING

import trio

from gateway.native import sockaddr

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.config.model import Address

Target = tuple[int, str | tuple[str, int]]
"""Address family, and what connect() takes."""

# linux/in.h; Python's socket module does not have it.
_IP_BIND_ADDRESS_NO_PORT = 24


class Sources:
    """The addresses of ours to connect from, in turn; each has some 28,000 ports for one broker."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._of: dict[int, list[str]] = {socket.AF_INET: [], socket.AF_INET6: []}
        for address in addresses:
            self._of[socket.AF_INET6 if ":" in address else socket.AF_INET].append(address)
        self._turn = count()

    def order(self, family: int) -> list[str]:
        """Those to try, the next one first; "" leaves the choice to the kernel."""
        addresses = self._of.get(family) or [""]
        first = next(self._turn) % len(addresses)
        return addresses[first:] + addresses[:first]


def numeric(address: Address) -> Target | None:
    """What connect() takes, where no resolver is needed."""
    if address.path:
        return socket.AF_UNIX, address.path
    found = sockaddr.numeric(address)
    if found is None:
        return None
    family, target = found
    return family, (str(target[0]), int(target[1]))


async def connect(address: Address, target: Target | None, sources: Sources) -> socket.socket:
    """A non-blocking socket, connected; the caller owns it.

    Args:
        address: where to.
        target: what `numeric` made of it.
        sources: where from.

    Raises:
        OSError: with the last address's reason, where a name has several.
    """
    error: OSError | None = None
    targets = [target] if target is not None else await _resolve(address)
    for family, where in targets:
        for source in sources.order(family):
            try:
                return await _connect(family, where, source)
            except OSError as exc:
                error = exc
                # Another address of ours may have a port left; the broker's answer it would not change.
                if exc.errno != errno.EADDRNOTAVAIL:
                    break
    raise error or OSError(errno.EADDRNOTAVAIL, "the name has no address")


def reason(error: OSError | trio.TooSlowError, timeout: float) -> str:
    """Why `connect`, which was given `timeout` seconds, came to nothing."""
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {timeout:g} s"
    return error.strerror or str(error)


async def _resolve(address: Address) -> Iterable[Target]:
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [(family, (str(host), int(port))) for family, _, _, _, (host, port, *_rest) in found]


def _new_socket(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def _connect(family: int, target: str | tuple[str, int], source: str) -> socket.socket:
    broker = _new_socket(family)
    try:
        if source:
            # connect() chooses the port, as it knows the broker: one port serves a client at each broker.
            broker.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            broker.bind((source, 0))
        code = broker.connect_ex(target)
        if code == errno.EINPROGRESS:
            code = broker.connect_ex(target)
            if code == errno.EALREADY:
                await trio.lowlevel.wait_writable(broker)
                code = broker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        broker.close()
        raise
    if code not in (0, errno.EISCONN):
        broker.close()
        raise OSError(code, os.strerror(code))
    return broker
