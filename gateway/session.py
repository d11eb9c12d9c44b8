"""One client connection, top to bottom.

accept → handshake (in C: is the certificate revoked? staple) → wait for a list,
where the policy says so → broker → relay thread. What happens after the relay
has taken the connection is csrc/relay.c; why a client was refused is told by
`gateway.revocation.policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from gateway import native
from gateway.errors import UpstreamError
from gateway.metrics import Counter
from gateway.native import Conn, OnUnavailable, VerdictKind
from gateway.revocation import policy
from gateway.tls import handshake

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from mmap import mmap

    from structlog.typing import FilteringBoundLogger

    from gateway.native import HandshakeInfo, Listener, Relay
    from gateway.upstream import Upstream


@dataclass
class Door:
    """A listener as one worker serves it: what a connection needs from accept to hand-over."""

    name: str
    listener: Listener
    ssl_ctx: int
    handshake_timeout: float
    list_timeout: float
    upstream: Upstream
    relay: Relay
    counters: mmap
    log: FilteringBoundLogger
    uncovered: Callable[[bytes], None]
    """Told of the certificate (DER) of a verified client that no list covers."""
    tables_changed: Callable[[], Awaitable[None]]
    """Waits until other tables are in force."""


async def serve(door: Door, client: socket.socket, peer: str, connection_id: int) -> None:
    """Take one accepted client to the relay, or refuse it with a reason."""
    fd = client.detach()
    conn = Conn(door.listener, door.ssl_ctx, fd)
    native.count(door.counters, Counter.HANDSHAKING)
    try:
        with trio.move_on_after(door.handshake_timeout) as limit:
            good = await handshake.perform(conn, fd)
        if limit.cancelled_caught:
            native.count(door.counters, Counter.TIMED_OUT)
            door.log.debug("handshake timed out", peer=peer, after=f"{door.handshake_timeout:g}s")
            return
        info = conn.info()
        _tell_uncovered(door, info)
        if not good or not await _let_in(door, conn, info):
            refused = conn.info()
            level, event, values = policy.describe_refusal(refused, conn.error)
            getattr(door.log, level)(event, peer=peer, **values)
            return
        try:
            broker = await door.upstream.connect()
        except UpstreamError as exc:
            native.count(door.counters, Counter.UPSTREAM_FAILED)
            door.log.error("broker unreachable", peer=peer, error=str(exc))  # noqa: TRY400 - the reason says it all
            return
        with broker:
            door.relay.adopt(conn, broker.fileno(), connection_id)
            broker.detach()
    finally:
        conn.close()
        native.count(door.counters, Counter.HANDSHAKING, -1)


async def _let_in(door: Door, conn: Conn, info: HandshakeInfo) -> bool:
    """Whether a finished handshake may go on; under `wait` this one connection waits for its list."""
    verdict = info.verdict
    waits = door.listener.on_unavailable is OnUnavailable.WAIT
    if not waits or verdict.kind not in (VerdictKind.NO_LIST, VerdictKind.STALE):
        return verdict.kind in (VerdictKind.NONE, VerdictKind.GOOD) or verdict.let_in
    with trio.move_on_after(door.list_timeout):
        while not conn.judge():
            if conn.info().verdict.kind is VerdictKind.REVOKED:
                break
            await door.tables_changed()
        else:
            return True
    native.count(door.counters, policy.REFUSED[conn.info().verdict.kind])
    return False


def _tell_uncovered(door: Door, info: HandshakeInfo) -> None:
    if info.verdict.kind is VerdictKind.NO_LIST and info.leaf:
        door.uncovered(info.leaf)
