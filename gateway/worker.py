"""A worker process: listeners, their sessions, the relay thread, and the tables in force.

It accepts once control has said that the lists are there (or have been tried),
and needs control no longer from then on: when that dies, the worker serves on
with what it has and connects again.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from gateway import native, publish, session
from gateway.errors import TableError
from gateway.log import get_logger
from gateway.metrics import Counter, gauge_index
from gateway.native import End, Relay, Table, World
from gateway.revocation import policy
from gateway.tls import context
from gateway.upstream import Upstream

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import Config, Listener
    from gateway.metrics import Counters
    from gateway.native import RelayEvent, StapleSlot
    from gateway.tls.context import ServerContext

# Accepted in one go: enough to amortise a wake-up, few enough to be fair to handshakes under way.
_ACCEPT_BATCH = 32
_ACCEPT_PAUSE = 0.1
_DRAIN_LOOK = 0.05
# A handshake in progress holds some 50 KiB. Beyond this many, clients wait in the kernel's queue.
_MAX_HANDSHAKES = 4096
_RECONNECT_PAUSE = 0.2

# What accept() reports of the one connection that it failed to give us (accept(2), "Error handling").
_ONE_CONNECTION = {
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
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
        self._relay = Relay(self._world)
        self._tables: dict[str, Table] = {}
        self._state = publish.Update(whole=True, ready=False)
        self._ready = trio.Event()
        self._changed = trio.Event()
        self._sightings, self._unsent = trio.open_memory_channel[publish.Sighting](64)
        self._seen: set[str] = set()
        self._next_id = 0
        self._accepting = trio.CancelScope()
        self._handshaking = 0
        self._handshake_ended = trio.Event()
        self._staples: dict[str, list[StapleSlot]] = {}
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
            ssl_ctx=post.servers[number].address,
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
                nursery.start_soon(self._log_ends)
                async with trio.open_nursery() as sessions:
                    sessions.start_soon(self._serve, sessions)
                    await anext(signals)
                    deadline = trio.current_time() + self._post.config.drain_timeout
                    self._accepting.cancel()
                    sessions.cancel_scope.deadline = deadline
                await self._drain(deadline)
                nursery.cancel_scope.cancel()

    async def _serve(self, sessions: trio.Nursery) -> None:
        with self._accepting:
            await self._ready.wait()
            async with trio.open_nursery() as acceptors:
                for number, door in enumerate(self._doors):
                    limits = _Limits(self._post, number, self._log)
                    for listening in self._post.sockets[number]:
                        acceptors.start_soon(self._accept, door, listening, limits, sessions)
        for sockets in self._post.sockets:
            for listening in sockets:
                listening.close()

    async def _accept(
        self, door: session.Door, listening: socket.socket, limits: _Limits, sessions: trio.Nursery
    ) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(_ACCEPT_BATCH):
                while self._handshaking >= _MAX_HANDSHAKES:
                    await self._handshake_ended.wait()
                try:
                    client, address = listening.accept()
                except OSError as exc:
                    if exc.errno in _ONE_CONNECTION:
                        continue
                    if exc.errno in _OUT_OF_RESOURCES:
                        await self._pause_accepting(door, exc)
                    elif exc.errno != errno.EAGAIN:
                        raise
                    break
                self._count(Counter.ACCEPTED, 1)
                if limits.full():
                    self._count(Counter.THROTTLED, 1)
                    client.close()
                    continue
                self._handshaking += 1
                self._next_id += 1
                sessions.start_soon(self._session, door, client, _peer(address), self._next_id)
                await limits.pause()

    async def _pause_accepting(self, door: session.Door, error: OSError) -> None:
        self._log.error(
            "cannot accept", listener=door.name, error=error.strerror, retry_in=f"{_ACCEPT_PAUSE:g}s"
        )
        await trio.sleep(_ACCEPT_PAUSE)

    async def _session(
        self, door: session.Door, client: socket.socket, peer: str, connection_id: int
    ) -> None:
        try:
            client.setblocking(False)  # noqa: FBT003 - the library's own signature
            await session.serve(door, client, peer, connection_id)
        finally:
            client.close()
            self._handshaking -= 1
            ended, self._handshake_ended = self._handshake_ended, trio.Event()
            ended.set()

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

    async def _log_ends(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._relay.fileno())
            self._report_ends()

    def _report_ends(self) -> None:
        for event in self._relay.events():
            _log_end(self._log, event)

    async def _drain(self, deadline: float) -> None:
        with trio.CancelScope(deadline=deadline):
            while len(self._relay):  # noqa: ASYNC110 - the relay is a thread of C and sets no trio.Event
                await trio.sleep(_DRAIN_LOOK)
        if len(self._relay):
            self._log.warning("drain timed out", closing=len(self._relay))
        self._relay.stop()
        self._report_ends()


class _Limits:
    """max_connections and max_conn_rate of one listener, as far as one worker can keep them."""

    def __init__(self, post: Post, number: int, log: FilteringBoundLogger) -> None:
        listener: Listener = post.config.listeners[number]
        self._counters, self._number, self._log = post.counters, number, log
        self._listener = listener
        # SO_REUSEPORT spreads clients evenly: each worker grants its share.
        self._interval = post.workers / listener.max_conn_rate if listener.max_conn_rate else 0.0
        self._next_grant = 0.0
        self._was_full = False

    async def pause(self) -> None:
        """Wait until max_conn_rate lets the next connection in; it stays in the kernel's queue meanwhile."""
        if not self._interval:
            return
        now = trio.current_time()
        # A burst of up to a second's worth is let through.
        self._next_grant = max(self._next_grant, now - 1.0) + self._interval
        if self._next_grant > now:
            await trio.sleep(self._next_grant - now)

    def full(self) -> bool:
        """Whether all workers together have max_connections of this listener; said once per occasion."""
        full = self._counters.connections(self._number) >= self._listener.max_connections
        if full and not self._was_full:
            self._log.warning(
                "max_connections reached",
                listener=self._listener.name,
                max_connections=self._listener.max_connections,
                consequence="new connections are closed",
            )
        self._was_full = full
        return full


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
    elif event.end is End.BROKER_REFUSED:
        log.error("broker unreachable", **values)
    else:
        log.debug("connection ended", **values)


def _peer(address: tuple[str, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
