"""A worker process: listeners, their sessions, the relay thread, and the tables in force.

It accepts once control has said that the lists are there (or have been tried),
and needs control no longer from then on: when that dies, the worker serves on
with what it has and connects again.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from gateway import native, publish, session
from gateway.errors import TableError
from gateway.log import get_logger
from gateway.metrics import gauge_index
from gateway.native import End, Front, Relay, Table, World
from gateway.revocation import policy
from gateway.tls import context
from gateway.upstream import CONNECT_TIMEOUT, Upstream

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import Config, Listener
    from gateway.metrics import Counters
    from gateway.native import Conn, RelayEvent, StapleSlot
    from gateway.tls.context import ServerContext

_ACCEPT_PAUSE = 0.1
_LOOK = 0.05
# A handshake in progress holds some 50 KiB. Beyond this many, clients wait in the kernel's queue.
_MAX_HANDSHAKES = 4096
_RECONNECT_PAUSE = 0.2

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
    fingerprints: Sequence[str]
    """Of each listener's certificate: the key of its staple."""
    sockets: Sequence[Sequence[socket.socket]]
    """This worker's own listening sockets, per listener."""
    counters: Counters


class Worker:
    """The state of one worker process."""

    def __init__(self, post: Post) -> None:
        page = post.counters.pages[post.index]
        self._post = post
        self._page = page
        self._count = native.counter(page)
        self._log = get_logger(process=f"worker-{post.index}")
        self._world = World(page)
        self._relay = Relay(self._world, connect_timeout=CONNECT_TIMEOUT)
        self._tables: dict[str, Table] = {}
        self._state = publish.Update(whole=True, ready=False)
        self._ready = trio.Event()
        self._changed = trio.Event()
        self._sightings, self._unsent = trio.open_memory_channel[publish.Sighting](64)
        self._seen: set[str] = set()
        self._stopping = False
        self._refused = 0
        """Connections whose broker refused, and that look for another one."""
        self._staples: dict[str, list[StapleSlot]] = {}
        self._waiting = [trio.CancelScope() for _ in post.config.listeners]
        self._doors = [self._open_door(number) for number in range(len(post.config.listeners))]

    def _open_door(self, number: int) -> session.Door:
        post, listener = self._post, self._post.config.listeners[number]
        check, on_unavailable, grace = policy.rules(listener.revocation)
        rules, slot = context.enter_process(
            post.servers[number],
            self._world,
            check=check,
            on_unavailable=on_unavailable,
            grace=grace,
            disconnect_revoked=listener.revocation.disconnect_revoked,
            counters=self._page,
            gauge=gauge_index(number),
        )
        self._staples.setdefault(post.fingerprints[number], []).append(slot)
        return session.Door(
            name=listener.name,
            listener=rules,
            front=Front(rules, post.servers[number].address, listener.handshake_timeout),
            handshake_timeout=listener.handshake_timeout,
            list_timeout=post.config.crl_cache.http_timeout,
            upstream=Upstream(listener.upstreams),
            relay=self._relay,
            count=self._count,
            log=self._log.bind(listener=listener.name),
            uncovered=self._learn if listener.revocation.follow_distribution_points else _ignore,
            tables_changed=self._wait_for_change,
        )

    async def run(self) -> None:
        """Serve until told to stop, then until the last connection has ended or time is up."""
        with trio.open_signal_receiver(publish.STOP) as signals, self._relay:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_control)
                nursery.start_soon(self._follow_relay, nursery)
                async with trio.open_nursery() as sessions:
                    for number in range(len(self._doors)):
                        sessions.start_soon(self._serve, number, sessions)
                    await anext(signals)
                    deadline = trio.current_time() + self._post.config.drain_timeout
                    sessions.cancel_scope.deadline = deadline
                    self._stop_listening()
                await self._drain(deadline)
                nursery.cancel_scope.cancel()

    def _stop_listening(self) -> None:
        self._stopping = True
        for door in self._doors:
            door.front.stop_listening()
        for sockets in self._post.sockets:
            for listening in sockets:
                listening.close()
        self._ready.set()
        for waiting in self._waiting:
            waiting.cancel()

    async def _serve(self, number: int, sessions: trio.Nursery) -> None:
        """Accept and shake hands until told to stop, and then until the last handshake has ended."""
        door, limits = self._doors[number], _Limits(self._post, number, self._log)
        await self._ready.wait()
        for listening in () if self._stopping else self._post.sockets[number]:
            door.front.listen(listening.fileno())
        while not self._stopping or len(door.front):
            # Left when a deadline has come, or the order to stop, and entered again; not for each wait.
            with trio.CancelScope() as self._waiting[number]:
                await self._step_while_ready(door, limits, sessions, self._waiting[number])

    async def _step_while_ready(
        self, door: session.Door, limits: _Limits, sessions: trio.Nursery, waiting: trio.CancelScope
    ) -> None:
        ready = door.front.fileno()
        await trio.lowlevel.checkpoint()
        busy = self._step(door, limits, sessions)
        while not self._stopping or len(door.front):
            if busy:
                await trio.lowlevel.checkpoint()
            else:
                due = trio.current_time() + min(door.front.patience, limits.pause)
                waiting.deadline = min(waiting.deadline, due)
                await trio.lowlevel.wait_readable(ready)
            busy = self._step(door, limits, sessions)

    def _step(self, door: session.Door, limits: _Limits, sessions: trio.Nursery) -> bool:
        """One step of a listener; whether there is probably more to do at once."""
        quota = limits.quota(sum(len(each.front) for each in self._doors))
        progress = door.front.step(quota, turn_away=limits.full)
        limits.came(progress.accepted)
        for arrival in progress.arrivals:
            session.receive(door, arrival, sessions)
        if progress.code in _OUT_OF_RESOURCES:
            limits.out_of_resources(progress.code)
        elif progress.code and not self._stopping:
            raise OSError(progress.code, os.strerror(progress.code))
        return progress.busy

    async def _follow_control(self) -> None:
        while True:
            try:
                stream = await publish.connect(self._post.run_directory)
            except OSError:
                await trio.sleep(_RECONNECT_PAUSE)
                continue
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._send_sightings, stream)
                try:
                    async for update in publish.receive(stream, publish.Update):
                        self._apply(update)
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()
            self._log.warning("control process lost", consequence="serving with the lists at hand")
            await trio.sleep(_RECONNECT_PAUSE)

    def _apply(self, update: publish.Update) -> None:
        before, self._state = self._state, publish.merge(self._state, update)
        tables = dict(self._tables)
        for key, path in self._state.tables.items():
            if path is not None and (key not in tables or before.tables.get(key) != path):
                try:
                    # control has just written and checked it; the header is checked all the same.
                    tables[key] = Table.open(Path(path), deep=False)
                except (OSError, TableError) as exc:
                    self._log.error(
                        "table unusable", path=path, error=str(exc), consequence="the one before stays"
                    )
        tables = {key: table for key, table in tables.items() if key in self._state.tables}
        if tables != self._tables:
            self._world.publish(tables.values())
            self._tables = tables
            self._relay.recheck()
            changed, self._changed = self._changed, trio.Event()
            changed.set()
        for fingerprint, slots in self._staples.items():
            staple = self._state.staples.get(fingerprint)
            for slot in slots:
                if staple is None:
                    slot.set(b"", 0)
                else:
                    slot.set(staple.der, staple.expires)
        if update.ready:
            self._ready.set()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()

    def _learn(self, leaf: bytes) -> None:
        urls = tuple(url for url in policy.distribution_points(leaf) if url not in self._seen)
        if not urls:
            return
        try:
            self._sightings.send_nowait(publish.Sighting(urls))
        except trio.WouldBlock:
            return  # the next such client tells it again
        self._seen.update(urls)

    async def _send_sightings(self, stream: trio.SocketStream) -> None:
        # What was sent to a control process that died is told to the next one again.
        self._seen.clear()
        async for sighting in self._unsent.clone():
            try:
                await publish.send(stream, sighting)
            except trio.BrokenResourceError:
                return

    async def _follow_relay(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._relay.fileno())
            for event in self._relay.events(ordinary=self._log.is_enabled_for(logging.DEBUG)):
                if event.conn is None:
                    _log_end(self._log, event)
                else:
                    nursery.start_soon(self._reach_broker, event.conn)

    async def _reach_broker(self, conn: Conn) -> None:
        door = next(door for door in self._doors if door.listener is conn.listener)
        self._refused += 1
        try:
            await session.reach_broker(door, conn)
        finally:
            conn.close()
            self._refused -= 1

    async def _drain(self, deadline: float) -> None:
        with trio.CancelScope(deadline=deadline):
            while len(self._relay) or self._refused:  # noqa: ASYNC110 - the relay is C and sets no trio.Event
                await trio.sleep(_LOOK)
        if len(self._relay):
            self._log.warning("drain timed out", closing=len(self._relay))
        self._relay.stop()
        for event in self._relay.events():
            _log_end(self._log, event)


class _Limits:
    """How many clients one worker may take in at one listener, and when."""

    def __init__(self, post: Post, number: int, log: FilteringBoundLogger) -> None:
        listener: Listener = post.config.listeners[number]
        self._counters, self._number, self._log = post.counters, number, log
        self._listener = listener
        # SO_REUSEPORT spreads clients evenly: each worker grants its share.
        self._interval = post.workers / listener.max_conn_rate if listener.max_conn_rate else 0.0
        self._next_grant = self._not_before = -math.inf
        self.pause = math.inf
        """After how many seconds to ask again if nothing happens."""
        self.full = False
        """All workers together have max_connections of this listener: who comes is turned away."""

    def quota(self, handshaking: int) -> int:
        """How many may come in now, while `handshaking` are at it; others wait in the kernel's queue."""
        now = trio.current_time()
        if self._interval:
            # A burst of up to a second's worth is let through.
            self._next_grant = max(self._next_grant, now - 1.0)
        self.pause = max(self._next_grant, self._not_before) - now
        if self.pause > 0:
            return 0
        quota = _MAX_HANDSHAKES - handshaking
        # Handshakes of another listener end unseen here.
        self.pause = math.inf if quota > 0 else _LOOK
        if self._interval:
            quota = min(quota, int((now - self._next_grant) / self._interval) + 1)
        places = self._listener.max_connections - self._counters.connections(self._number)
        self._note(full=places <= 0)
        return max(0, quota if self.full else min(quota, places))

    def came(self, count: int) -> None:
        """Tell how many came in, or were turned away."""
        if not self.full:
            self._next_grant += count * self._interval

    def out_of_resources(self, code: int) -> None:
        """Pause: the kernel had no descriptor or memory for another client."""
        self.pause = _ACCEPT_PAUSE
        self._not_before = trio.current_time() + self.pause
        self._log.error(
            "cannot accept",
            listener=self._listener.name,
            error=os.strerror(code),
            retry_in=f"{_ACCEPT_PAUSE:g}s",
        )

    def _note(self, *, full: bool) -> None:
        if full and not self.full:
            self._log.warning(
                "max_connections reached",
                listener=self._listener.name,
                max_connections=self._listener.max_connections,
                consequence="new connections are closed",
            )
        self.full = full


def run(post: Post) -> None:
    """The worker process from fork to exit."""
    worker = Worker(post)
    trio.run(worker.run)


def _ignore(_leaf: bytes) -> None:
    """A listener that follows no distribution points has nothing to learn."""


def _log_end(log: FilteringBoundLogger, event: RelayEvent) -> None:
    values: dict[str, object] = {"peer": event.peer, "end": event.end.name.lower()}
    if event.detail:
        values["detail"] = event.detail
    values |= {"bytes_in": event.bytes_in, "bytes_out": event.bytes_out, "seconds": round(event.duration, 3)}
    if event.end is End.REVOKED:
        values |= {"reason": "certificate_revoked"}
        values |= policy.describe_client(event.leaf) | policy.describe_verdict(event.verdict)
        log.warning("client disconnected", **values)
    else:
        log.debug("connection ended", **values)
