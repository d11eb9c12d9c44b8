"""How the lines of one process get to where they go, without making anybody wait for a disk.

A process that serves clients writes with a thread of its own (`in_background`): a disk
that hangs stops the log, and nothing else. The supervisor, which must be able to fork at any
time, has no threads and few lines, and writes them itself.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from gateway.log.files import LogFile

INTERVAL = 1.0
"""Seconds between two looks at the file, and between two accounts of what was left out."""
# Between two lots of lines, in seconds: to wake up for each line would cost as much as the line.
_PAUSE = 0.02
MOST_WAITING = 10_000
"""Lines that may wait to be written: some 5 MB."""
# Milliseconds that the supervisor waits for whoever reads standard error, with each line.
_READERS_PATIENCE = 100
# Of a pipe, what is written at once without being mixed with what others write (pipe(7)).
_AT_ONCE = select.PIPE_BUF
# Octets of one character, where it has to be escaped.
_WIDEST = 10


class Sink:
    """What structlog takes for a logger; `report` is called now and then, and may log.

    Rejected: structlog's own WriteLogger. It holds a lock while it writes, and a report is
    made while the supervisor writes.
    """

    def __init__(self, file: LogFile | None, stderr: TextIO, report: Callable[[Sink], None]) -> None:
        self.file = file
        self.process = "supervisor"
        """Who writes, where it tells of its own."""
        self.on_loss: Callable[[int], None] = _ignore
        """Told how many lines were lost, when it is reported."""
        self._stderr = stderr
        self._report = report
        self._reported = time.monotonic()
        self._lost = 0
        self._counting = threading.Lock()
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Write a line, or let it wait for that; never raises, never blocks for long."""
        if self._writer is None:
            self._put(line)
            if (self.file is not None or self._lost) and time.monotonic() - self._reported >= INTERVAL:
                self.report()
        elif self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(line)
        else:
            self._lose(1)

    def line(self, text: str) -> None:
        """Write `text` with the end of its line."""
        self.write(f"{text}\n")

    # By level: what the level is stands in the text.
    debug = info = warning = error = critical = line

    def lost(self) -> int:
        """How many lines came to no place at all since the last call."""
        with self._counting:
            lost, self._lost = self._lost, 0
        return lost

    def report(self) -> None:
        """Look where the file is, and tell of what was left out."""
        self._reported = time.monotonic()
        if self.file is not None:
            self.file.look()
        self._report(self)

    def in_background(self) -> None:
        """Write with a thread from now on; after the last fork."""
        self._writer = threading.Thread(target=self._work, name="gw-log", daemon=True)
        self._writer.start()

    def close(self, patience: float) -> bool:
        """Write what waits, for so many seconds at most; whether that is done."""
        if self._writer is None:
            self.report()
            return True
        self._waiting.put(None)
        self._writer.join(patience)
        return not self._writer.is_alive()

    def _work(self) -> None:
        ended = False
        while not ended:
            lines, ended = self._next()
            if lines:
                self._put(lines)
            if not ended and self._waiting.empty():
                time.sleep(_PAUSE)
            if ended or time.monotonic() - self._reported >= INTERVAL:
                self.report()
        # What the report had to say.
        while lines := self._next(wait=False)[0]:
            self._put(lines)

    def _next(self, *, wait: bool = True) -> tuple[str, bool]:
        """Whole lines, as many as go at once, none if none has come; whether they are the last."""
        lines = ""
        try:
            line = self._waiting.get(timeout=INTERVAL) if wait else self._waiting.get_nowait()
            while line is not None:
                lines += line
                if len(lines) >= _AT_ONCE // 2:
                    return lines, False
                line = self._waiting.get_nowait()
        except queue.Empty:
            return lines, False
        return lines, True

    def _put(self, lines: str) -> None:
        if self.file is not None and self.file.write(lines.encode(errors="backslashreplace")):
            return
        try:
            for piece in [lines] if self._writer is not None else _pieces(lines):
                if self._writer is None and not self._has_room():
                    raise BlockingIOError
                self._stderr.write(piece)
                self._stderr.flush()
        except (OSError, ValueError):
            # Nobody is left who could be told; the count is, if anybody comes back.
            self._lose(lines.count("\n"))

    def _has_room(self) -> bool:
        """Whether a line can be written without a wait for whoever reads standard error."""
        try:
            number = self._stderr.fileno()
        except (OSError, ValueError):
            return True  # it is no file at all
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        return bool(poll.poll(_READERS_PATIENCE))

    def _lose(self, lines: int) -> None:
        with self._counting:
            self._lost += lines


def _pieces(lines: str) -> list[str]:
    """What a pipe with any room takes without a wait, one after the other."""
    if len(lines.encode(errors="backslashreplace")) <= _AT_ONCE:
        return [lines]
    most = _AT_ONCE // _WIDEST
    return [lines[at : at + most] for at in range(0, len(lines), most)]


def _ignore(_lines: int) -> None:
    """Where nobody counts them."""
