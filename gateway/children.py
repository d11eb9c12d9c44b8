"""The processes that a supervisor forks: begun, signalled, ended, begun again."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gateway import log, native
from gateway.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gateway.privileges import Identity

NEVER = math.inf
KILL_AFTER = 5.0
"""Seconds in which a child that still answers has ended, beside those that it has to drain."""
# A child that dies at once is started again a little later, so that a fault does not burn a core.
_SHORT_LIFE = 1.0
_RESTART_PAUSE = 0.5
# Seconds from one attempt to fork to the next, where the system has no process to give.
_FORK_PAUSE = 1.0


@dataclass(eq=False)
class Child:
    """One of them, over all its lives."""

    name: str
    body: Callable[[], None]
    worker: int | None = None
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    """When to start it (again), on the monotonic clock; meaningful while `pid` is 0."""
    kill_at: float = NEVER
    """When it has had its time to end."""
    dismissed: bool = False
    """It is to end, which is no fault."""

    @property
    def next_step(self) -> float:
        """When there is something to do about it, if nothing happens before."""
        return self.kill_at if self.pid else self.due

    def fork(self, mask: Iterable[int], identity: Identity | None) -> None:
        """Start it, or let it be due again; in the child this never returns.

        `mask` are the signals that it is to hold back.
        """
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.started = time.monotonic()
        try:
            self.pid = os.fork()
        except OSError as exc:
            # Too many processes or too little memory, for now: that must not end those that serve.
            self.due = self.started + _FORK_PAUSE
            get_logger(process="supervisor").error(
                "cannot fork", child=self.name, error=exc.strerror, retry_in=f"{_FORK_PAUSE:g}s"
            )
            return
        if self.pid == 0:
            _be(self, parent, mask, identity)

    def note_end(self, *, expected: bool) -> None:
        """It has ended, and is started again unless that was `expected`."""
        self.pid, self.kill_at = 0, NEVER
        now = time.monotonic()
        pause = _RESTART_PAUSE if now - self.started < _SHORT_LIFE else 0.0
        self.due = NEVER if expected else now + pause


def _be(child: Child, parent: int, mask: Iterable[int], identity: Identity | None) -> NoReturn:
    """The child's whole life; never returns into the supervisor's frames."""
    code = 1
    try:
        # A terminal sends Ctrl-C and its end, a service manager SIGTERM, to the whole family:
        # the children go on until the supervisor tells them in its own words and order.
        # SIGUSR1 is the supervisor's; a log file that is another one by now is noticed without.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        # Not before: a signal that came since the fork would act as it does by default.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # So that ps and top tell who is who.
        Path("/proc/self/comm").write_text(f"gw-{child.name}")
        if identity is not None:
            identity.become()
        native.gain_nothing()
        log.write_in_background(child.name)
        # Not before: to become another takes it back.
        if native.die_with_parent(parent):
            child.body()
            code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, it is told here, and the supervisor starts another
        get_logger(process=child.name).error("crashed", exception=traceback.format_exc())
    finally:
        with suppress(OSError, ValueError):
            if log.close():
                # Else a thread has it locked, and waits.
                sys.stderr.flush()
        os._exit(code)


def send(children: Iterable[Child], number: signal.Signals) -> None:
    """Send those of `children` that run a signal."""
    for child in children:
        if child.pid:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)


def ended() -> Iterator[tuple[int, int]]:
    """Process id and status (waitpid(2)) of each child that has ended and was not told of yet."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def describe(status: int) -> str:
    """How a process ended, for people."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    # Not every signal has a name: most real-time signals are numbers alone.
    names = {number.value: number.name for number in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"
