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

from gateway.errors import GatewayError, UpstreamError
from gateway.metrics import Counter
from gateway.native import Conn, OnUnavailable, VerdictKind
from gateway.revocation import policy
from gateway.tls import handshake

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from gateway.native import Listener, Relay
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
    count: Callable[[Counter, int], None]
    log: FilteringBoundLogger
    uncovered: Callable[[bytes], None]
    """Told of the certificate (DER) of a verified client that no list covers."""
    tables_changed: Callable[[], Awaitable[None]]
    """Waits until other tables are in force."""


async def serve(door: Door, client: socket.socket, peer: str, connection_id: int) -> None:
    """Take one accepted client to the relay, or refuse it with a reason."""
    try:
        conn = Conn(door.listener, door.ssl_ctx, client.fileno())
        fd = client.detach()
    except GatewayError as exc:
        door.log.error("connection dropped", peer=peer, error=str(exc))  # noqa: TRY400 - the reason says it all
        return
    door.count(Counter.HANDSHAKING, 1)
    try:
        with trio.move_on_after(door.handshake_timeout) as limit:
            good = await handshake.perform(conn, fd)
        if limit.cancelled_caught:
            door.count(Counter.TIMED_OUT, 1)
            door.log.debug("handshake timed out", peer=peer, after=f"{door.handshake_timeout:g}s")
        elif (good and conn.is_clear()) or await _let_in(door, conn, peer, good=good):
            with await door.upstream.connect() as broker:
                door.relay.adopt(conn, broker.fileno(), connection_id)
                broker.detach()
    except UpstreamError as exc:
        door.count(Counter.UPSTREAM_FAILED, 1)
        door.log.error("broker unreachable", peer=peer, error=str(exc))  # noqa: TRY400 - likewise
    except GatewayError as exc:
        door.log.error("connection dropped", peer=peer, error=str(exc))  # noqa: TRY400 - likewise
    finally:
        conn.close()
        door.count(Counter.HANDSHAKING, -1)


async def _let_in(door: Door, conn: Conn, peer: str, *, good: bool) -> bool:
    """What becomes of a client that is not simply good: refused, made to wait, or let in unchecked."""
    info = conn.info()
    if info.verdict.kind is VerdictKind.NO_LIST and info.leaf:
        door.uncovered(info.leaf)
    if good and info.verdict.let_in:
        if door.listener.on_unavailable is OnUnavailable.ACCEPT:
            door.log.warning("client let in unchecked", peer=peer, **policy.describe(info))
            return True
        if await _covered_in_time(door, conn):
            return True
    level, event, values = policy.describe_refusal(conn.info(), conn.error)
    getattr(door.log, level)(event, peer=peer, **values)
    return False


async def _covered_in_time(door: Door, conn: Conn) -> bool:
    """Wait, this one connection, until a list covers the client, and no longer than a fetch may take."""
    kind = None
    with trio.move_on_after(door.list_timeout):
        while not conn.judge():
            kind = conn.info().verdict.kind
            if kind is VerdictKind.REVOKED:
                break
            await door.tables_changed()
        else:
            return True
    if kind is not None:
        door.count(policy.REFUSED[kind], 1)
    return False
