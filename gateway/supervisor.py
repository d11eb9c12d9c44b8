"""The supervisor: makes the contexts, forks, restarts what dies, reloads, drains.

There is no trio and no thread in it, so that it can fork at any time. Its
children inherit sockets and contexts; a worker that is replaced loses neither a
queued client nor the ticket keys. The kernel kills the children when it dies.

A reload makes another generation: the new configuration is read, checked and bound
whole; then control is replaced; then new workers begin to accept from the same
sockets; only then those before stop, and serve the connections that they have.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gateway import bell, children, log, publish
from gateway.children import KILL_AFTER, Child
from gateway.errors import ConfigError, UnsupportedOpenSSLError
from gateway.generations import Generation, Generations
from gateway.log import get_logger
from gateway.metrics import Counter
from gateway.premises import Premises
from gateway.reading import Watch, check_change
from gateway.service import Service
from gateway.sockets import raise_descriptor_limit
from gateway.tls import openssl
from gateway.tls.context import make_contexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.reading import Reading

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, *bell.SIGNALS}


class Supervisor:
    """One gateway. `run` returns when it has been told to stop and everything has ended."""

    def __init__(self, reading: Reading, read: Callable[[], Reading], files: Callable[[], set[Path]]) -> None:
        """Take the lock, bind the sockets and make the contexts; nothing is forked yet.

        `read` reads the configuration anew, for a reload; `files` are those that it then reads,
        good or not.

        Raises:
            ConfigError: an address cannot be bound, another gateway runs in this state_dir, or
                OpenSSL does not take a certificate.
        """
        self._read = read
        self._files = files
        self._log = get_logger(process="supervisor")
        self._stopping = False
        self._resources = ExitStack()
        # First: what a bad certificate stops shall not have made a directory or bound a port.
        servers = make_contexts(reading.config.listeners, reading.materials)
        self._premises = Premises(reading.config, read, self._resources)
        self._service = Service()
        self._ready = False
        self._generations = Generations(self._premises.furnish(reading, servers, None))
        self._premises.give()
        self._control = Child("control", lambda: self._premises.be_control(self._generations.current))
        self._watch = Watch(self._files())

    def _children(self) -> Iterator[Child]:
        """All of them; control first, since what workers need is started by it."""
        yield self._control
        yield from self._generations.workers()

    def run(self) -> int:
        """Fork and watch until SIGTERM or SIGINT; the exit code."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        with self._resources:
            first = self._generations.current
            self._log.info(
                "starting",
                workers=first.workers,
                openssl=openssl.openssl_version(),
                state_dir=first.config.state_dir,
                pid=os.getpid(),
            )
            raise_descriptor_limit(first.config, first.workers, self._log)
            while True:
                self._start_due()
                received = signal.sigtimedwait(_SIGNALS, self._patience())
                rung = self._premises.bell.answer()
                if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                    return self._stop(signal.Signals(received.si_signo))
                if bell.DRAIN in rung:
                    return self._stop(signal.SIGTERM)
                if received is not None and received.si_signo == signal.SIGUSR1:
                    log.reopen()
                self._reap()
                self._generations.end_overdue()
                self._kill_overdue()
                self._take_over()
                self._give_up()
                self._tell_service()
                asked = bell.RELOAD in rung
                asked |= received is not None and received.si_signo == signal.SIGHUP
                if asked or (self._watches and self._watch.changed()):
                    self._reload()

    def _tell_service(self) -> None:
        self._service.live()
        current = self._generations.current
        if not self._ready and current.counters.accepting:
            self._ready = True
            self._service.ready(f"{current.workers} workers accept")

    def _reload(self) -> None:
        """Begin with the next generation, if its configuration is good."""
        before = self._generations.latest
        self._service.reloading()
        # Before they are read: what changes meanwhile is looked at again.
        self._watch = Watch(self._files())
        try:
            reading = self._read()
            check_change(before.config, reading.config)
            servers = make_contexts(
                reading.config.listeners,
                reading.materials,
                like=(before.config.listeners, before.reading.materials, before.servers),
            )
            after = self._premises.furnish(reading, servers, before)
        except (ConfigError, UnsupportedOpenSSLError, OSError) as exc:
            self._refuse_reload(error=str(exc))
            return
        except Exception as exc:  # noqa: BLE001 - whatever it was, those who serve go on
            self._refuse_reload(error=repr(exc), exception=traceback.format_exc())
            return
        log.configure(reading.config.log, self._premises.identity)
        for warning in reading.warnings:
            self._log.warning("configuration", warning=warning)
        self._log.info("reloading", generation=after.number, workers=after.workers)
        raise_descriptor_limit(after.config, after.workers, self._log)
        self._generations.begin(after)
        self._replace_control(after)

    def _refuse_reload(self, **why: str) -> None:
        self._log.error("reload refused", **why, consequence="the configuration in force stays")
        if self._generations.next is None:
            self._service.ready("the last reload was refused, see the log")

    def _replace_control(self, generation: Generation) -> None:
        """Another control process, of `generation`, when the one that runs has ended."""
        self._control.body = lambda: self._premises.be_control(generation)
        if not self._control.pid:
            self._start_next()
        elif not self._control.dismissed:
            self._control.dismissed = True
            self._control.kill_at = time.monotonic() + KILL_AFTER
            children.send([self._control], publish.STOP)

    def _start_next(self) -> None:
        """The control process of the last generation has ended."""
        self._control.dismissed = False
        self._control.due = time.monotonic()
        self._generations.start_next()

    def _take_over(self) -> None:
        if self._generations.take_over() is not None:
            self._premises.keep(self._generations.in_force())
        before = self._generations.handed_over()
        if before is None:
            return
        current = self._generations.current
        self._ready = False
        self._log.info(
            "reloaded",
            generation=current.number,
            connections=current.counters.total(Counter.LIVE),
            draining_for=f"{before.config.reload_drain_timeout:g}s",
        )

    def _give_up(self) -> None:
        undone = self._generations.give_up()
        if undone is None:
            return
        current = self._generations.current
        log.configure(current.config.log, self._premises.identity)
        self._premises.take_back(undone)
        self._premises.keep(self._generations.in_force())
        self._replace_control(current)
        self._log.error(
            "reload undone",
            generation=undone.number,
            error=f"{', '.join(undone.silent())}: did not accept within reload_timeout"
            f" ({undone.config.reload_timeout:g}s)",
            consequence="the configuration of before stays",
        )
        self._service.ready("the last reload was undone, see the log")

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        overdue = [child for child in self._children() if child.pid and child.kill_at <= now]
        if overdue:
            self._log.warning("killing", children=" ".join(child.name for child in overdue))
            children.send(overdue, signal.SIGKILL)
            for child in overdue:
                child.kill_at = children.NEVER

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children():
            if not child.pid and child.due <= now:
                child.fork(self._mask, self._premises.identity)

    @property
    def _watches(self) -> bool:
        return self._generations.latest.config.watch

    def _patience(self) -> float:
        """Seconds until there is something to do, if nobody sends a signal."""
        moments = [child.next_step for child in self._children()]
        moments += [self._service.next_sign, self._generations.next_step()]
        if self._watches:
            moments.append(self._watch.next_look)
        return min(3600.0, max(0.0, min(moments) - time.monotonic()))

    def _reap(self) -> None:
        """Take note of the children that have ended, and when to start them again."""
        for pid, status in children.ended():
            self._generations.forget(pid)
            for child in [each for each in self._children() if each.pid == pid]:
                self._note_end(child, status)

    def _note_end(self, child: Child, status: int) -> None:
        expected = self._stopping or child.dismissed
        (self._log.info if expected else self._log.error)(
            "child ended", child=child.name, pid=child.pid, status=children.describe(status)
        )
        child.note_end(expected=expected)
        if not expected:
            self._generations.current.counters.note_restart(worker=child.worker is not None)
        elif child is self._control and not self._stopping:
            self._start_next()

    def _stop(self, received: signal.Signals) -> int:
        """Drain: workers first, so that revocation goes on as long as there are connections."""
        self._stopping = True
        current = self._generations.current
        current.counters.note_stopping()
        self._service.stopping()
        # Of all: those that drain since a reload take what their own configuration gives them.
        drain = max(generation.config.drain_timeout for generation in self._generations.all())
        self._service.extend(drain + 2 * KILL_AFTER)
        self._log.info("stopping", signal=received.name, drain_timeout=f"{drain:g}s")
        # Else clients would queue for a door that nobody opens any more.
        self._premises.shut()
        workers = list(self._generations.workers())
        children.send(workers, publish.STOP)
        self._wait_for(workers, drain + KILL_AFTER)
        children.send([self._control], publish.STOP)
        self._wait_for([self._control], KILL_AFTER)
        self._log.info("stopped")
        return 0

    def _wait_for(self, ending: Sequence[Child], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(child.pid for child in ending):
            received = signal.sigtimedwait(_SIGNALS, max(0.0, deadline - time.monotonic()))
            if received is None or received.si_signo in (signal.SIGINT, signal.SIGTERM):
                # Out of time, or told twice: what is left is closed now.
                self._log.warning("killing", children=" ".join(child.name for child in ending if child.pid))
                children.send(ending, signal.SIGKILL)
                for child in ending:
                    if child.pid:
                        os.waitpid(child.pid, 0)
                        child.pid = 0
                return
            self._reap()
