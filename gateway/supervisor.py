"""The supervisor: binds the sockets, makes the contexts, forks, restarts what dies, reloads, drains.

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
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gateway import bell, children, control, log, native, publish, worker
from gateway.bell import Bell
from gateway.children import KILL_AFTER, Child
from gateway.errors import ConfigError, UnsupportedOpenSSLError
from gateway.generations import Generation, Generations, counters_after
from gateway.log import get_logger
from gateway.metrics import Counter
from gateway.privileges import identity
from gateway.reading import Watch, check_change
from gateway.revocation.policy import asks_responders
from gateway.run_directory import RunDirectory
from gateway.service import Service, inherited
from gateway.sockets import AdminSockets, Sockets, raise_descriptor_limit
from gateway.tls import openssl
from gateway.tls.context import make_contexts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gateway.config.model import Config
    from gateway.reading import Reading
    from gateway.tls.context import ServerContext

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, *bell.SIGNALS}
# A long list is compiled beside handshakes, which must not notice; with all processors
# busy control still gets a tenth of one, and a million entries take some two seconds.
_CONTROL_NICENESS = 10
# Certificates that can be remembered to be good: a quarter of a GiB for a million.
_MOST_ANSWERS = 1_000_000


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
        self._identity = identity(reading.config.user, reading.config.group)
        self._run_directory = RunDirectory(reading.config.state_dir, self._resources)
        self._service = Service()
        self._ready = False
        self._sockets = Sockets(inherited())
        self._resources.callback(self._sockets.keep)
        self._admin = AdminSockets(self._identity)
        self._resources.callback(self._admin.keep)
        self._control_socket, self._command_socket = self._run_directory.bind()
        self._answers: native.Answers | None = None
        """Of OCSP responders: made once, so that a reload forgets none."""
        self._bell = Bell()
        self._resources.callback(self._bell.close)
        self._made = 0
        self._generations = Generations(self._generation(reading, servers, None))
        if self._identity is not None:
            self._run_directory.give(self._identity)
        self._control = Child("control", lambda: self._be_control(self._generations.current))
        self._watch = Watch(self._files())

    def _generation(
        self, reading: Reading, servers: Sequence[ServerContext], before: Generation | None
    ) -> Generation:
        """Bind what `reading` needs that is not bound yet. Raises ConfigError, and nothing has changed."""
        config = reading.config
        workers = _worker_count(config)
        bound = self._sockets.bind(config, workers, listen=before is None)
        try:
            admin = self._admin.bind(config)
        except ConfigError:
            self._sockets.drop(bound)
            raise
        for listener, address in self._sockets.names(config):
            self._log.info("listening", listener=listener, address=address)
        for address in self._sockets.unused():
            self._log.warning("socket not used", address=address, consequence="its clients wait in vain")
        self._answers = self._answers or _answers(config)
        counters = counters_after(before, config, workers)
        self._made += 1
        made = Generation(self._made, reading, servers, workers, counters, admin, bound=bound)
        made.children = [
            Child(f"worker-{index}", lambda index=index: self._be_worker(made, index), worker=index)  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
            for index in range(workers)
        ]
        return made

    def _be_control(self, generation: Generation) -> None:
        os.nice(_CONTROL_NICENESS)
        self._sockets.close_others([])
        self._admin.keep(generation.config)
        config, materials, _ = generation.reading
        control.run(
            control.Post(
                config, materials, self._control_socket, generation.counters, self._command_socket,
                generation.admin, self._read, self._bell, self._answers, generation.number,
            )
        )  # fmt: skip

    def _be_worker(self, generation: Generation, index: int) -> None:
        self._control_socket.close()
        self._command_socket.close()
        self._admin.keep()
        own = self._sockets.of(generation.config, index, generation.workers)
        self._sockets.close_others(own)
        worker.run(
            worker.Post(
                index=index,
                workers=generation.workers,
                config=generation.config,
                run_directory=self._run_directory.path,
                servers=generation.servers,
                sockets=own,
                counters=generation.counters,
                upstream_tls=[material.upstream_tls for material in generation.reading.materials],
                bell=self._bell,
                answers=self._answers,
                generation=generation.number,
            )
        )

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
                rung = self._bell.answer()
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
            after = self._generation(reading, servers, before)
        except (ConfigError, UnsupportedOpenSSLError, OSError) as exc:
            self._log.error("reload refused", error=str(exc), consequence="the configuration in force stays")
            if self._generations.next is None:
                self._service.ready("the last reload was refused, see the log")
            return
        log.configure(reading.config.log, self._identity)
        for warning in reading.warnings:
            self._log.warning("configuration", warning=warning)
        self._log.info("reloading", generation=after.number, workers=after.workers)
        raise_descriptor_limit(after.config, after.workers, self._log)
        self._generations.begin(after)
        self._replace_control(after)

    def _replace_control(self, generation: Generation) -> None:
        """Another control process, of `generation`, when the one that runs has ended."""
        self._control.body = lambda: self._be_control(generation)
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
            self._keep_bound()
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
        log.configure(current.config.log, self._identity)
        self._sockets.drop(undone.bound)
        self._keep_bound()
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
                child.fork(self._mask, self._identity)

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
        self._sockets.keep()
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

    def _keep_bound(self) -> None:
        """Close what neither the configuration in force nor the next one, if any, names."""
        configs = [generation.config for generation in self._generations.in_force()]
        self._sockets.keep(*configs)
        self._admin.keep(*configs)


def _answers(config: Config) -> native.Answers | None:
    """Room for what OCSP responders say of all clients, where any are asked; it is there once it is used."""
    asking = [listener for listener in config.listeners if asks_responders(listener)]
    room = sum(listener.max_connections for listener in asking)
    return native.Answers(min(room, _MOST_ANSWERS)) if asking else None


def _worker_count(config: Config) -> int:
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers
