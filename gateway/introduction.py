"""A client that comes through a load balancer: who it is, by the PROXY protocol's header, and its handshake.

The front hands such connections over before their handshake: what a stranger sends is read by
Python, octet for octet and not one too many, and believed from trusted addresses alone. Then
the handshake goes on here as it would in the front.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

import trio

from gateway.errors import ProxyHeaderError
from gateway.native import Arrival, Step
from gateway.proxy_protocol import parse_untrusted, wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.native import Conn
    from gateway.proxy_protocol import Endpoint

Network = IPv4Network | IPv6Network


async def begin(conn: Conn, trusted: Sequence[Network], patience: float) -> Arrival:
    """Read the header, then make the handshake, both within `patience` seconds.

    Raises:
        ProxyHeaderError: as `introduce`.
    """
    with trio.move_on_after(patience):
        await introduce(conn, trusted)
        return await shake_hands(conn)
    return Arrival(conn, Step.TIMED_OUT, clear=False, error="")


async def introduce(conn: Conn, trusted: Sequence[Network]) -> None:
    """Read the header and take its client for the connection's; LOCAL and UNKNOWN change nothing.

    Raises:
        ProxyHeaderError: the peer is not trusted, went away, or sent something else.
    """
    peer, _gateway = conn.endpoints()
    if peer is None or not trusts(trusted, peer):
        raise ProxyHeaderError("its address is not in accept_proxy_protocol")
    read = b""
    with socket.socket(fileno=conn.fileno()) as borrowed:
        try:
            while (missing := wanted(read)) > 0:
                read += await _receive(borrowed, missing)
        finally:
            borrowed.detach()
    client = parse_untrusted(read).client
    if client is not None:
        conn.introduce(client)


async def shake_hands(conn: Conn) -> Arrival:
    """Make the handshake, as long as it takes."""
    while True:
        step, error = conn.handshake()
        if step is Step.WANT_READ:
            await trio.lowlevel.wait_readable(conn.fileno())
        elif step is Step.WANT_WRITE:
            await trio.lowlevel.wait_writable(conn.fileno())
        else:
            return Arrival(conn, step, conn.clear, error)


def trusts(networks: Sequence[Network], peer: Endpoint) -> bool:
    """Whether an address is in one of the networks; IPv4 may come mapped into IPv6."""
    address = ip_address(peer.address)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


async def _receive(borrowed: socket.socket, most: int) -> bytes:
    while True:
        try:
            octets = borrowed.recv(most)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(borrowed.fileno())
        except OSError as exc:
            raise ProxyHeaderError(exc.strerror or str(exc)) from exc
        else:
            if not octets:
                raise ProxyHeaderError("the peer closed the connection")
            return octets
