"""How a child wakes the supervisor, which waits for signals alone.

A pipe whose data the kernel tells of with a signal (F_SETSIG in fcntl(2)): a child that has
given up its privileges may not send the supervisor one.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress

ACCEPTING = b"a"
"""A worker has opened all its doors."""
SILENT = b"s"
"""A worker has shut them, since others accept."""
RELOAD = b"r"
"""The configuration is to be read anew."""
DRAIN = b"d"
"""The gateway is to end, as with SIGTERM."""
_SIGNAL = signal.SIGRTMIN
SIGNALS = frozenset({_SIGNAL, signal.SIGIO})
"""What the supervisor waits for: SIGIO comes where too many signals wait already (F_SETSIG in fcntl(2))."""
_MOST = 4096


class Bell:
    """Made by the supervisor before it forks; `ring` is the children's, `answer` its own."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._out, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._out, fcntl.F_SETSIG, _SIGNAL)
        fcntl.fcntl(self._out, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)

    def ring(self, what: bytes) -> None:
        """Wake the supervisor. Of a pipe that is full it has enough to do."""
        with suppress(BlockingIOError):
            os.write(self._in, what)

    def answer(self) -> bytes:
        """All that was rung since the last time."""
        try:
            return os.read(self._out, _MOST)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """For the supervisor, at its end."""
        os.close(self._out)
        os.close(self._in)
