"""Reach a broker: pick an address, connect, hand the socket over.

A broker with a numeric address is left to the relay thread to wait for; where
that fails, and where a name has to be resolved, trio tries them all, bounded.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import count
from typing import TYPE_CHECKING

import trio

from gateway.errors import UpstreamError
from gateway.native import sockaddr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.config.model import Address

CONNECT_TIMEOUT = 5.0


_Target = tuple[int, str | tuple[str, int]]
"""Address family, and what connect() takes."""


class Upstream:
    """The brokers behind a listener, used in turn; one that cannot be reached is passed over."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        # What needs no resolver is looked at once, not for each connection.
        self._brokers = tuple((address, _numeric(address)) for address in addresses)
        self._turn = count()

    @property
    def numeric(self) -> bool:
        """Whether no broker's name has to be resolved."""
        return all(target is not None for _address, target in self._brokers)

    async def connect(self) -> socket.socket:
        """A non-blocking socket, connected to a broker; the caller owns it.

        Raises:
            UpstreamError: none could be reached; names each with its reason.
        """
        first = next(self._turn)
        reasons = []
        for offset in range(len(self._brokers)):
            address, target = self._brokers[(first + offset) % len(self._brokers)]
            try:
                with trio.fail_after(CONNECT_TIMEOUT):
                    return await _connect(address, target)
            except (OSError, trio.TooSlowError) as exc:
                reasons.append(f"{address}: {_reason(exc)}")
        raise UpstreamError("no broker could be reached: " + "; ".join(reasons))


def _numeric(address: Address) -> _Target | None:
    if address.path:
        return socket.AF_UNIX, address.path
    found = sockaddr.numeric(address)
    if found is None:
        return None
    family, target = found
    return family, (str(target[0]), int(target[1]))


async def _connect(address: Address, target: _Target | None) -> socket.socket:
    if target is not None:
        return await _connect_socket(*target)
    error: OSError | None = None
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, _, _, _, (host, port, *_rest) in found:
        try:
            return await _connect_socket(family, (str(host), int(port)))
        except OSError as exc:
            error = exc
    raise error or OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _new_socket(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def _connect_socket(family: int, target: str | tuple[str, int]) -> socket.socket:
    broker = _new_socket(family)
    try:
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


def _reason(error: OSError | trio.TooSlowError) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {CONNECT_TIMEOUT:.0f} s"
    return error.strerror or str(error)
