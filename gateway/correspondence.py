"""A worker's talk with control: heard and told for as long as there is one, and with the next one again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec
import trio

from gateway import publish
from gateway.inquiries import Inquiries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

_RECONNECT_PAUSE = 0.2
# Messages that wait to be sent.
_MOST_WAITING = 4096


class Correspondence:
    """That of one worker."""

    def __init__(self, run_directory: Path, log: FilteringBoundLogger) -> None:
        self._run_directory = run_directory
        self._log = log
        self.outgoing, self._unsent = trio.open_memory_channel[publish.ToControl](_MOST_WAITING)
        self.inquiries = Inquiries(self.send)
        self._applied = 0
        """Of the updates of this connection, how many are in force."""

    def send(self, message: publish.ToControl) -> bool:
        """Have control told; False where too much is on the way already."""
        try:
            self.outgoing.send_nowait(message)
        except trio.WouldBlock:
            return False
        return True

    async def follow(self, apply: Callable[[publish.Update], bool], begin: Callable[[], None]) -> NoReturn:
        """Hear each control process, one after the other.

        `begin` is called with each; `apply` puts an update in force, and says whether that is
        so of all that was told until then.
        """
        while True:
            try:
                stream = await publish.connect(self._run_directory)
            except OSError:
                await trio.sleep(_RECONNECT_PAUSE)
                continue
            self._applied = 0
            # What was sent to a control process that died is told to the next one again.
            begin()
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, stream)
                await self._hear(stream, apply)
                nursery.cancel_scope.cancel()
            self._log.info("control process lost", consequence="serving with the lists at hand")
            await trio.sleep(_RECONNECT_PAUSE)

    async def _hear(self, stream: trio.SocketStream, apply: Callable[[publish.Update], bool]) -> None:
        received = 0
        try:
            async for message in publish.receive(stream, publish.FROM_CONTROL):
                if isinstance(message, publish.Answered):
                    self.inquiries.settled(message.numbers)
                    continue
                received += 1
                if apply(message):
                    self._applied = received
                    # Where there is no room, what is waiting there says it, too.
                    self.send(publish.Sighting())
        except trio.BrokenResourceError:
            return

    async def _talk(self, stream: trio.SocketStream) -> None:
        try:
            for question in self.inquiries.questions():
                await publish.send(stream, question)
            async for message in self._unsent.clone():
                await publish.send(stream, msgspec.structs.replace(message, applied=self._applied))
        except trio.BrokenResourceError:
            return
