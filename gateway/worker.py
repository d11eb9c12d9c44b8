"""A worker process: listeners, their sessions, and the relay thread.

Its relay thread accepts, shakes hands and relays; what is here looks at those clients
that are not simply good. It accepts once control has said that the lists are there (or have been tried),
and needs control no longer from then on: when that dies, the worker serves on
with what it has and connects again.
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING

import trio

from gateway import access_log, bell, log, native, publish, session, sockets
from gateway.access_log import Over
from gateway.correspondence import Correspondence
from gateway.in_force import InForce
from gateway.log import get_logger
from gateway.metrics import Counter, gauge_index
from gateway.native import Due, End, Front, Limits, Obstacle, Relay, World
from gateway.refusals import Refusals
from gateway.revocation import policy
from gateway.sightings import Sightings
from gateway.tls import context, openssl
from gateway.tls.handshake import examine
from gateway.upstream import Upstream
from gateway.upstream.client import known_by, known_by_nothing, preface
from gateway.upstream.tunnel import broker_tls

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from gateway.bell import Bell
    from gateway.config.model import Config, Listener
    from gateway.metrics import Counters
    from gateway.native import Answers, Conn, RelayEvent
    from gateway.tls.context import ServerContext

# As in csrc/admission.c.
_ACCEPT_PAUSE = 0.1
_LOOK = 0.05
# A service manager waits for it, and the relay does it at once.
_LOOK_FOR_SILENCE = 0.005
# A handshake in progress holds some 50 KiB. Beyond this many, clients wait in the kernel's queue.
_MAX_HANDSHAKES = 4096
# Ends that are looked at before others get their turn: a broker that restarts ends all of its clients.
_AT_ONCE = 64
# Seconds in which ends gather for the access log: to wake up for each would cost more than its line.
_COLLECT = 0.01
# How often the answers about clients that are connected are looked at, and how long it may take to renew one.
_LOOK_AGAIN = 30.0
_RENEWAL = 60.0

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True)
class Post:
    """All that a worker inherits from the supervisor."""

    index: int
    workers: int
    config: Config
    run_directory: Path
    servers: Sequence[ServerContext]
    """One per listener, in the configuration's order."""
    sockets: Sequence[Sequence[socket.socket]]
    """This worker's own listening sockets, per listener."""
    counters: Counters
    upstream_tls: Sequence[ssl.SSLContext | None]
    """What the brokers of each listener are spoken to with; None: plain TCP."""
    bell: Bell | None = None
    """Rung where the supervisor is to know that this worker accepts."""
    answers: Answers | None = None
    """What OCSP responders say of clients; None where no listener wants to know."""
    generation: int = 0
    """The number of the configuration."""


class Worker:
    """The state of one worker process."""

    def __init__(self, post: Post) -> None:
        page = post.counters.pages[post.index]
        self._post = post
        self._page = page
        self._count = native.counter(page)
        self._numbers = memoryview(page).cast("Q")
        self._log = get_logger(process=f"worker-{post.index}")
        world = World(page)
        self._writes_access = post.config.log.access and self._log.is_enabled_for(logging.INFO)
        # Of ordinary ends few want to hear: nobody else needs to be woken for them.
        heard = self._writes_access or self._log.is_enabled_for(logging.DEBUG)
        quiet = not heard and not any(map(_counts, post.config.listeners))
        self._relay = Relay(world, connect_timeout=post.config.connect_timeout, quiet=quiet)
        self._in_force = InForce(world, self._relay.recheck, self._log, post.generation)
        self._open_doors: set[int] = set()
        self._control = Correspondence(post.run_directory, self._log)
        self._renewals = 0
        """Questions about clients that are connected."""
        self._sightings = Sightings(self._control.send, self._in_force.own_cas)
        self._refusals = Refusals()
        self._stopping = False
        self._doors = [self._open_door(number, world) for number in range(len(post.config.listeners))]

    def _open_door(self, number: int, world: World) -> session.Door:
        post, listener = self._post, self._post.config.listeners[number]
        check, on_unavailable, grace = policy.rules(listener.revocation)
        asks = policy.asks_responders(listener)
        rules, slots = context.enter_process(
            post.servers[number],
            world,
            check=check,
            on_unavailable=on_unavailable,
            grace=grace,
            disconnect_revoked=listener.revocation.disconnect_revoked,
            counters=self._page,
            gauge=gauge_index(number),
            answers=post.answers if asks else None,
            require_answer=listener.revocation.ocsp == "require",
        )
        self._in_force.add(rules, post.servers[number], slots)
        upstream = Upstream(
            listener.upstreams,
            balance=listener.balance,
            connect_timeout=post.config.connect_timeout,
            sources=listener.source_addresses,
            slow_start=listener.health_check.slow_start,
            tls=broker_tls(listener, post.upstream_tls[number]),
        )
        front = Front(rules, post.servers[number].address, listener.handshake_timeout)
        trusted = tuple(map(ip_network, listener.accept_proxy_protocol))
        if trusted:
            front.only_accept()
        elif upstream.numeric and _simple(listener):
            front.hand_over_to(self._relay, listener.upstreams)
            upstream.weigh = front.weigh
        return session.Door(
            name=listener.name,
            listener=rules,
            front=front,
            handshake_timeout=listener.handshake_timeout,
            list_timeout=post.config.crl_cache.http_timeout,
            answer_timeout=listener.revocation.ocsp_timeout,
            upstream=upstream,
            relay=self._relay,
            count=self._count,
            log=self._log.bind(listener=listener.name),
            refused=self._refusals.add,
            uncovered=self._sightings.learn if policy.follows(listener.revocation) else _ignore,
            clear=self._sightings.glance,
            tables_changed=self._in_force.wait_for_change,
            ask=partial(self._control.inquiries.ask, listener.name),
            over=partial(access_log.write, self._log.bind(listener=listener.name))
            if self._writes_access
            else access_log.ignore,
            trusted=trusted,
            identify=known_by if listener.balance == "client" else known_by_nothing,
            preface=partial(
                preface, version=listener.proxy_protocol, certificate=listener.proxy_protocol_certificate
            ),
        )

    async def run(self) -> None:
        """Serve until told to stop, then until the last connection has ended or time is up."""
        with trio.open_signal_receiver(publish.STOP, publish.HAND_OVER) as signals, self._relay:
            # The outer one: whom the relay tells of may come until it has been stopped.
            async with trio.open_nursery() as sessions:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._control.follow, self._apply, self._sightings.forget)
                    nursery.start_soon(self._follow_relay, sessions)
                    nursery.start_soon(self._refusals.tell, self._control.outgoing)
                    nursery.start_soon(self._sightings.look_around, self._doors_that_learn())
                    nursery.start_soon(self._look_again)
                    for door in self._doors:
                        nursery.start_soon(door.upstream.tend)
                    told = await anext(signals)
                    self._stopping = True
                    self._relay.stop_listening()
                    if told == publish.HAND_OVER:
                        await self._serve_on(signals, sessions)
                    await self._drain(sessions)
                    nursery.cancel_scope.cancel()
                sessions.cancel_scope.cancel()

    def _open(self) -> None:
        """Let clients come in, once the lists are there or have been tried, where nothing holds it back."""
        held = self._in_force.state.held
        for number, listener in enumerate(self._post.config.listeners):
            if number in self._open_doors or listener.name in held or self._stopping:
                continue
            self._open_doors.add(number)
            front = self._doors[number].front
            for listening in self._post.sockets[number]:
                sockets.begin(listening)
                front.listen(listening)
            limits = _limits(listener, self._post.workers)
            self._relay.serve(front, limits, self._post.counters, gauge_index(number))
        if len(self._open_doors) == len(self._doors):
            self._post.counters.note_accepting(self._post.index)
            if self._post.bell is not None:
                self._post.bell.ring(bell.ACCEPTING)

    def _apply(self, update: publish.Update) -> bool:
        """Put it in force; whether that is so of all that control has told until now."""
        brokers = self._in_force.state.brokers
        whole = self._in_force.apply(update)
        if self._in_force.state.brokers != brokers:
            self._apply_brokers()
        if update.ready:
            self._open()
        return whole

    def _apply_brokers(self) -> None:
        for door, listener in zip(self._doors, self._post.config.listeners, strict=True):
            up = {
                str(address): self._in_force.state.brokers.get(
                    publish.broker_key(listener.name, str(address))
                )
                for address in listener.upstreams
            }
            door.upstream.checked({address: found for address, found in up.items() if found is not None})

    def _doors_that_learn(self) -> list[tuple[native.Listener, Front]]:
        pairs = zip(self._doors, self._post.config.listeners, strict=True)
        return [
            (door.listener, door.front) for door, listener in pairs if policy.follows(listener.revocation)
        ]

    async def _renew(self, listener: native.Listener, leaf: bytes) -> None:
        """Have responders asked again about a client that is connected; whom they revoke, the relay ends."""
        self._renewals += 1
        with trio.move_on_after(_RENEWAL):
            await self._door_of(listener).ask([leaf])
        self._renewals -= 1
        if not self._renewals:
            # The relay tells of some at a time: maybe there are more.
            self._relay.recheck()

    async def _look_again(self) -> None:
        """Ask about those who stay connected while what is known of them grows old."""
        while any(map(policy.asks_responders, self._post.config.listeners)):
            await trio.sleep(_LOOK_AGAIN)
            self._relay.recheck()

    async def _follow_relay(self, sessions: trio.Nursery) -> None:
        """Look at those whom the relay does not serve to the end by itself."""
        while True:
            await trio.lowlevel.wait_readable(self._relay.fileno())
            alone = True
            for arrival in self._relay.arrivals():
                alone = False
                if isinstance(arrival, Obstacle):
                    self._explain(arrival)
                elif isinstance(arrival, Due):
                    leaf = openssl.released_certificate(arrival.x509)
                    sessions.start_soon(self._renew, arrival.listener, leaf)
                else:
                    sessions.start_soon(session.serve, self._door_of(arrival.conn.listener), arrival)
            for number, event in enumerate(self._relay.events(), start=1):
                door = self._door_of(event.listener)
                if event.end is End.BROKER_REFUSED:
                    door.upstream.refused(event.id)
                    sessions.start_soon(self._reach_broker, event.conn)
                else:
                    door.upstream.left(event.id)
                    _log_end(door, event)
                # Not before: an event that was taken is looked at, even if the next are not.
                if number % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            if alone and self._writes_access:
                await trio.sleep(_COLLECT)

    def _door_of(self, listener: native.Listener) -> session.Door:
        return next(door for door in self._doors if door.listener is listener)

    def _explain(self, obstacle: Obstacle) -> None:
        log = self._door_of(obstacle.listener).log
        if not obstacle.code:
            log.warning("max_connections reached", consequence="new connections are closed")
        elif obstacle.code in _OUT_OF_RESOURCES:
            log.error("cannot accept", error=os.strerror(obstacle.code), retry_in=f"{_ACCEPT_PAUSE:g}s")
        else:
            raise OSError(obstacle.code, os.strerror(obstacle.code))

    async def _reach_broker(self, conn: Conn) -> None:
        try:
            await session.reach_broker(self._door_of(conn.listener), conn)
        finally:
            session.dismiss(self._door_of(conn.listener), conn, "stopped")

    async def _serve_on(self, signals: AsyncIterator[int], sessions: trio.Nursery) -> None:
        """Others accept: until the last connection has ended, or told to stop."""
        async with trio.open_nursery() as nursery:

            async def end_when_empty() -> None:
                await self._shut()
                await self._empty(sessions)
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_when_empty)
            await anext(signals)
            nursery.cancel_scope.cancel()

    async def _shut(self) -> None:
        """Have the supervisor told when nobody comes in any more."""
        # The relay is C and sets no trio.Event.
        while not self._relay.silent:  # noqa: ASYNC110
            await trio.sleep(_LOOK_FOR_SILENCE)
        self._post.counters.note_silent(self._post.index)
        if self._post.bell is not None:
            self._post.bell.ring(bell.SILENT)

    async def _empty(self, sessions: trio.Nursery) -> None:
        """Until nobody comes in any more, and nobody is left."""
        # The relay is C and sets no trio.Event.
        while (  # noqa: ASYNC110
            not self._relay.silent
            or self._numbers[Counter.HANDSHAKING]
            or len(self._relay)
            or sessions.child_tasks
        ):
            await trio.sleep(_LOOK)

    async def _drain(self, sessions: trio.Nursery) -> None:
        with trio.move_on_after(self._post.config.drain_timeout):
            await self._empty(sessions)
        if len(self._relay):
            self._log.warning("drain timed out", closing=len(self._relay))
        self._relay.stop()
        for event in self._relay.events():
            _log_end(self._door_of(event.listener), event)


def _simple(listener: Listener) -> bool:
    """Whether clients go to any broker, from any address, unannounced: the relay's thread sees to that."""
    return (
        listener.balance == "round-robin"
        and listener.proxy_protocol == "off"
        and not listener.source_addresses
        and not listener.upstream_tls.enabled
    )


def _counts(listener: Listener) -> bool:
    """Whether every end of a connection has to be heard of."""
    return listener.balance == "least-connections"


def _limits(listener: Listener, workers: int) -> Limits:
    """SO_REUSEPORT spreads clients evenly: each worker grants its share of the rate."""
    interval = workers / listener.max_conn_rate if listener.max_conn_rate else 0.0
    return Limits(_MAX_HANDSHAKES, listener.max_connections, interval)


def run(post: Post) -> None:
    """The worker process from fork to exit."""
    worker = Worker(post)
    log.count_losses(partial(native.counter(post.counters.pages[post.index]), Counter.UNLOGGED))
    trio.run(worker.run)


def _ignore(_chain: Sequence[bytes]) -> None:
    """A listener that follows no distribution points has nothing to learn."""


def _log_end(door: session.Door, event: RelayEvent) -> None:
    end, broker = event.end.name.lower(), door.upstream.name(event.id)
    over = Over(end, event.detail, broker, event.duration, event.bytes_in, event.bytes_out)
    door.over(event.conn, over)
    if event.end is not End.REVOKED and not door.log.is_enabled_for(logging.DEBUG):
        return
    values: dict[str, object] = {"peer": event.conn.peer, "broker": broker, "end": end}
    if event.detail:
        values["detail"] = event.detail
    values |= {"bytes_in": event.bytes_in, "bytes_out": event.bytes_out, "seconds": round(event.duration, 3)}
    if event.end is End.REVOKED:
        values |= policy.describe(examine(event.conn))
        door.log.warning("client disconnected", **values)
        door.refused("client disconnected", {"listener": door.name, **values})
    else:
        door.log.debug("connection ended", **values)
