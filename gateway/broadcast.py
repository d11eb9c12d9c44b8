"""The state that control publishes, and the workers that it is told to, in the frames of `publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from gateway import publish
from gateway.publish import Update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from socket import socket as listening

# Seconds that whoever revokes waits for the workers: one that is stopped must not keep the answer back.
_LONGEST_PUBLISHING = 2.0


class Broadcast:
    """What is in force, told to every worker that connects, and each change to all of them.

    `heard` is told what a worker has seen, `settle` finds out what one asks.
    """

    def __init__(
        self,
        socket: listening,
        workers: int,
        heard: Callable[[publish.Sighting], Awaitable[None]],
        settle: Callable[[publish.Question], Awaitable[None]],
        *,
        generation: int = 0,
    ) -> None:
        self.state = Update(whole=True, ready=False, generation=generation)
        self._socket = socket
        self._heard = heard
        self._settle = settle
        self._changed = trio.Event()
        self._version = 1
        self._audience = publish.Audience(workers)

    def change(self, change: Update) -> None:
        """Tell it, at once; what was ready stays so."""
        ready = change.ready or self.state.ready
        self.state = publish.merge(
            self.state, msgspec.structs.replace(change, ready=ready, generation=self.state.generation)
        )
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def late(self) -> int:
        """How many workers have not put in force, after a while, what is published now."""
        return await self._audience.late(self._version, _LONGEST_PUBLISHING)

    async def serve(self) -> None:
        """Tell the workers that connect, until cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        await trio.serve_listeners(self.serve_worker, [listener])

    async def serve_worker(self, stream: trio.SocketStream) -> None:
        """Tell one worker, and hear it."""
        with self._audience.link() as link:
            async with stream, trio.open_nursery() as nursery:
                turns = trio.Lock()
                nursery.start_soon(self._hear_worker, stream, link, turns, nursery)
                await self._tell_worker(stream, link, turns)
                nursery.cancel_scope.cancel()

    async def _tell_worker(self, stream: trio.SocketStream, link: publish.Link, turns: trio.Lock) -> None:
        told: Update | None = None
        try:
            while True:
                changed, current = self._changed, self.state
                update = current if told is None else publish.difference(told, current)
                link.send(self._version)
                async with turns:
                    await publish.send(stream, update)
                told = current
                await changed.wait()
        except trio.BrokenResourceError:
            pass

    async def _hear_worker(
        self, stream: trio.SocketStream, link: publish.Link, turns: trio.Lock, worker: trio.Nursery
    ) -> None:
        try:
            async for message in publish.receive(stream, publish.FROM_WORKER):
                link.hear(message.applied)
                if isinstance(message, publish.Question):
                    worker.start_soon(self._answer, stream, turns, message)
                    continue
                await self._heard(message)
        except trio.BrokenResourceError:
            pass
        worker.cancel_scope.cancel()

    async def _answer(self, stream: trio.SocketStream, turns: trio.Lock, question: publish.Question) -> None:
        await self._settle(question)
        try:
            async with turns:
                await publish.send(stream, publish.Answered((question.number,)))
        except trio.BrokenResourceError:
            # The worker is gone, which whoever hears it notices.
            return
