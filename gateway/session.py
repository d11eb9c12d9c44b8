"""One client connection, top to bottom.

accept → handshake (csrc/front.c, in batches: is the certificate revoked? staple)
→ wait for a list, where the policy says so → broker → relay thread. The front takes
a client that is simply good to the relay by itself; whoever has to wait for anything,
or is refused, gets a task here. What happens after the relay has taken the connection
is csrc/relay.c; why a client was refused is told by `gateway.revocation.policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from gateway import access_log
from gateway.access_log import Over
from gateway.errors import GatewayError, ProxyHeaderError, UpstreamError
from gateway.introduction import begin
from gateway.metrics import Counter, time_index
from gateway.native import OnUnavailable, Step, VerdictKind
from gateway.revocation import policy
from gateway.tls.handshake import examine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.introduction import Network
    from gateway.native import Arrival, Conn, Front, Listener, Relay
    from gateway.upstream import Upstream
    from gateway.upstream.tunnel import Tunnel

# Seconds between two warnings of headers that were refused.
_QUIET = 60.0


# How often an answer is looked for while a client waits for one, in seconds; responders hear less of it.
_ASK_AGAIN = 1.0


@dataclass(eq=False)
class Door:
    """A listener as one worker serves it: what a connection needs from accept to hand-over."""

    name: str
    listener: Listener
    front: Front
    handshake_timeout: float
    list_timeout: float
    answer_timeout: float
    """How long a client waits for what an OCSP responder says of it."""
    upstream: Upstream
    relay: Relay
    count: Callable[[int, int], None]
    log: FilteringBoundLogger
    refused: Callable[[str, dict[str, object]], None]
    """Told of a client that was refused for its certificate: the log's event and its values."""
    uncovered: Callable[[Sequence[bytes]], None]
    """Told of a verified client that no list covers: its certificate and those above it (DER)."""
    clear: Callable[[Conn], None]
    """Shown each client that is simply good, of those few that come here."""
    tables_changed: Callable[[], Awaitable[None]]
    """Waits until other tables are in force."""
    ask: Callable[[Sequence[bytes]], Awaitable[None]]
    """Has responders asked about a verified client, its certificate and those above it, waits for that."""
    preface: Callable[[Conn], bytes]
    """What the broker is told of a client before its first byte."""
    identify: Callable[[Conn], bytes]
    """What a client is known by, where that chooses its broker."""
    over: Callable[[Conn, Over], None] = access_log.ignore
    """Told of each connection that ends before the relay has it, and why."""
    trusted: Sequence[Network] = ()
    """Whose word counts on who the client is, where its handshake has not begun."""
    quiet_until: float = 0.0
    """When headers that were refused are a warning again, on the clock of the loop."""


async def serve(door: Door, arrival: Arrival) -> None:
    """Take a client whose handshake has ended to the relay, or refuse it with a reason."""
    conn, tunnel = arrival.conn, None
    door.count(Counter.HANDSHAKING, 1)
    try:
        if arrival.outcome is Step.NOT_BEGUN:
            begun = await _begin(door, conn)
            if begun is None:
                return
            arrival = begun
        if arrival.outcome is Step.TIMED_OUT:
            door.log.debug("handshake timed out", peer=conn.peer, after=f"{door.handshake_timeout:g}s")
            dismiss(door, conn, "handshake_timed_out")
        elif arrival.clear:
            door.clear(conn)
            tunnel = await reach_broker(door, conn)
        elif await _let_in(door, arrival):
            tunnel = await reach_broker(door, conn)
    finally:
        dismiss(door, conn, "stopped")
        door.count(Counter.HANDSHAKING, -1)
    if tunnel is not None:
        await tunnel.run()


def dismiss(door: Door, conn: Conn, end: str, detail: str = "") -> None:
    """Close a connection, and tell why; nothing where that is done, or the relay has it."""
    if conn.ours:
        door.over(conn, Over(end, detail))
        conn.close()


async def _begin(door: Door, conn: Conn) -> Arrival | None:
    """The front's part for a client that a load balancer introduces; None: it was not, and is refused."""
    started = trio.current_time()
    try:
        arrival = await begin(conn, door.trusted, door.handshake_timeout)
    except ProxyHeaderError as exc:
        door.count(Counter.FAILED, 1)
        # Strangers can cause it at will.
        warns = trio.current_time() >= door.quiet_until
        if warns:
            door.quiet_until = trio.current_time() + _QUIET
        log = door.log.warning if warns else door.log.debug
        log("PROXY header refused", peer=conn.peer, error=str(exc))
        dismiss(door, conn, "proxy_header_refused", str(exc))
        return None
    if arrival.outcome is Step.TIMED_OUT:
        door.count(Counter.TIMED_OUT, 1)
    elif arrival.outcome is Step.DONE:
        taken = int((trio.current_time() - started) * 1000)
        door.count(time_index(taken), 1)
        door.count(Counter.HANDSHAKE_MS, taken)
    return arrival


async def reach_broker(door: Door, conn: Conn) -> Tunnel | None:
    """Hand a client over once a broker is connected; what has to run from then on, if anything."""
    broker = None
    try:
        broker = await door.upstream.connect(door.identify(conn), door.preface(conn))
        door.relay.adopt(conn, broker.socket.fileno(), broker.number, broker.preface)
    except UpstreamError as exc:
        door.count(Counter.UPSTREAM_FAILED, 1)
        # An outage is told once, and how many it has cost when it is over.
        log = door.log.error if door.upstream.lost_one() else door.log.debug
        log("broker unreachable", peer=conn.peer, error=str(exc))
        dismiss(door, conn, "broker_unreachable", str(exc))
        return None
    except GatewayError as exc:
        door.log.error("connection dropped", peer=conn.peer, error=str(exc))  # noqa: TRY400 - the reason says it all
        dismiss(door, conn, "dropped", str(exc))
        if broker is not None:
            broker.close()
        return None
    broker.socket.detach()
    door.upstream.joined(broker.number)
    if (closed := door.upstream.recovered()) is not None:
        door.log.info("broker reachable again", clients_closed=closed)
    return broker.tunnel


async def _let_in(door: Door, arrival: Arrival) -> bool:
    """What becomes of a client that is not simply good: refused, made to wait, or let in unchecked."""
    conn, info = arrival.conn, examine(arrival.conn)
    if arrival.outcome is Step.DONE and info.verdict.open:
        if await _answered_well(door, conn, info.chain):
            return True
        info = examine(conn)
    if info.verdict.kind is VerdictKind.NO_LIST and info.leaf:
        door.uncovered(info.chain)
    if arrival.outcome is Step.DONE and info.verdict.let_in:
        if door.listener.on_unavailable is OnUnavailable.ACCEPT:
            door.log.warning("client let in unchecked", peer=conn.peer, **policy.describe(info))
            return True
        if await _covered_in_time(door, conn):
            return True
    level, event, values = policy.describe_refusal(examine(conn), arrival.error)
    getattr(door.log, level)(event, peer=conn.peer, **values)
    if level == "warning":
        door.refused(event, {"listener": door.name, "peer": conn.peer, **values})
    dismiss(door, conn, event.replace(" ", "_"), arrival.error)
    return False


async def _answered_well(door: Door, conn: Conn, chain: Sequence[bytes]) -> bool:
    """Wait, this one connection, until responders have answered; without that the verdict is what is left."""
    with trio.move_on_after(door.answer_timeout):
        await door.ask(chain)
    conn.judge()
    verdict = conn.verdict()
    if verdict.kind is VerdictKind.GOOD:
        return True
    if not verdict.let_in:
        door.count(policy.REFUSED[verdict.kind], 1)
    elif door.listener.on_unavailable is OnUnavailable.ACCEPT:
        door.count(Counter.ACCEPTED_UNCHECKED, 1)
    return False


async def _covered_in_time(door: Door, conn: Conn) -> bool:
    """Wait, this one connection, until the client is known to be good, no longer than a fetch may take."""
    kind = None
    with trio.move_on_after(door.list_timeout):
        while not conn.judge():
            kind = conn.verdict().kind
            if kind is VerdictKind.REVOKED:
                break
            if kind is VerdictKind.NO_ANSWER:
                await trio.sleep(_ASK_AGAIN)
                await door.ask(examine(conn).chain)
            else:
                await door.tables_changed()
        else:
            return True
    if kind is not None:
        door.count(policy.REFUSED[kind], 1)
    return False
