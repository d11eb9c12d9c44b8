"""The supervisor: binds the sockets, makes the contexts, forks, restarts what dies, reloads, drains.

There is no trio and no thread in it, so that it can fork at any time. Its
children inherit sockets and contexts; a worker that is replaced loses neither a
queued client nor the ticket keys. The kernel kills the children when it dies.

A reload makes another generation: the new configuration is read, checked and bound
whole; then control is replaced; then new workers begin to accept from the same
sockets; only then those before stop, and serve the connections that they have.
"""

from __future__ import annotations

import fcntl
import math
import os
import resource
import signal
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gateway import bell, commands, control, log, native, publish, worker
from gateway.bell import Bell
from gateway.config.material import load_token
from gateway.errors import ConfigError, UnsupportedOpenSSLError
from gateway.log import get_logger
from gateway.metrics import Counter, Counters
from gateway.privileges import identity
from gateway.reading import Watch
from gateway.revocation.policy import asks_responders
from gateway.service import Service, inherited
from gateway.sockets import Sockets, listen_admin
from gateway.store import StateStore
from gateway.tls import openssl
from gateway.tls.context import make_contexts

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from gateway.config.model import Address, Config
    from gateway.reading import Reading
    from gateway.tls.context import ServerContext

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *bell.SIGNALS}
# Longer than any drain of a worker that still answers.
_KILL_AFTER = 5.0
# A child that dies at once is started again a little later, so that a fault does not burn a core.
_SHORT_LIFE = 1.0
_RESTART_PAUSE = 0.5
# A long list is compiled beside handshakes, which must not notice; with all processors
# busy control still gets a tenth of one, and a million entries take some two seconds.
_CONTROL_NICENESS = 10
# Certificates that can be remembered to be good: a quarter of a GiB for a million.
_MOST_ANSWERS = 1_000_000
# What a worker has open besides its connections, with some to spare.
_OTHER_DESCRIPTORS = 64
# Generations that still have connections; whoever reloads more often than these end loses the oldest ones.
_MOST_DRAINING = 4
_NEVER = math.inf


@dataclass(eq=False)
class _Child:
    name: str
    body: Callable[[], None]
    worker: int | None = None
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    """When to start it (again), on the monotonic clock; meaningful while `pid` is 0."""
    kill_at: float = _NEVER
    """When it has had its time to end."""
    dismissed: bool = False
    """It is to end, which is no fault."""


@dataclass(eq=False)
class _Generation:
    """What one configuration makes."""

    number: int
    reading: Reading
    servers: Sequence[ServerContext]
    workers: int
    counters: Counters
    admin: tuple[socket.socket, bytes | None] | None
    children: list[_Child] = field(default_factory=list)
    """Its workers."""
    stop_at: float = _NEVER
    """When its last connections are ended, where others accept by now."""

    @property
    def config(self) -> Config:
        return self.reading.config


class Supervisor:
    """One gateway. `run` returns when it has been told to stop and everything has ended."""

    def __init__(
        self, reading: Reading, read: Callable[[], Reading], files: Callable[[Config], set[Path]]
    ) -> None:
        """Take the lock, bind the sockets and make the contexts; nothing is forked yet.

        `read` reads the configuration anew, for a reload; `files` are those that it then reads.

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
        self._run_directory = reading.config.state_dir / "run"
        self._run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock()
        self._service = Service()
        self._ready = False
        self._sockets = Sockets(inherited())
        self._resources.callback(self._sockets.keep)
        self._admin_sockets: dict[Address, socket.socket] = {}
        self._resources.callback(self._keep_admin)
        self._control_socket = self._resources.enter_context(publish.bind(self._run_directory))
        self._command_socket = self._resources.enter_context(
            publish.bind(self._run_directory, commands.SOCKET_NAME)
        )
        self._answers: native.Answers | None = None
        """Of OCSP responders: made once, so that a reload forgets none."""
        self._bell = Bell()
        self._resources.callback(self._bell.close)
        self._current = self._generation(reading, servers, None)
        if self._identity is not None:
            names = ("lock", publish.SOCKET_NAME, commands.SOCKET_NAME)
            bound = [self._run_directory / name for name in names]
            try:
                self._identity.own(reading.config.state_dir, self._run_directory, *bound)
                for directory in StateStore(reading.config.state_dir).directories:
                    self._identity.inherit(directory)
            except OSError as exc:
                raise ConfigError(
                    f"state_dir: cannot be given to {self._identity.user}: {exc.filename}: {exc.strerror}"
                ) from exc
        self._next: _Generation | None = None
        """Begun, but not all of its workers accept yet."""
        self._draining: list[_Generation] = []
        self._control = _Child("control", lambda: self._be_control(self._current))
        self._watch = Watch(self._files(reading.config)) if reading.config.watch else None

    def _generation(
        self, reading: Reading, servers: Sequence[ServerContext], before: _Generation | None
    ) -> _Generation:
        """Bind what `reading` needs that is not bound yet. Raises ConfigError, and nothing has changed."""
        config = reading.config
        workers = _worker_count(config)
        self._sockets.bind(config, workers)
        try:
            admin = self._bind_admin(config)
        except ConfigError:
            if before is not None:
                self._keep_bound()
            raise
        for listener, address in self._sockets.names(config):
            self._log.info("listening", listener=listener, address=address)
        for address in self._sockets.unused():
            self._log.warning("socket not used", address=address, consequence="its clients wait in vain")
        self._answers = self._answers or _answers(config)
        if before is None:
            counters = Counters(workers, len(config.listeners))
        else:
            numbers = {listener.name: number for number, listener in enumerate(config.listeners)}
            same = {
                old: numbers[listener.name]
                for old, listener in enumerate(before.config.listeners)
                if listener.name in numbers
            }
            counters = before.counters.succeed(workers, len(config.listeners), same)
        made = _Generation(before.number + 1 if before else 1, reading, servers, workers, counters, admin)
        made.children = [
            _Child(f"worker-{index}", lambda index=index: self._be_worker(made, index), worker=index)  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
            for index in range(workers)
        ]
        return made

    def _be_control(self, generation: _Generation) -> None:
        os.nice(_CONTROL_NICENESS)
        self._sockets.close_others([])
        self._keep_admin(generation.config)
        config, materials, _ = generation.reading
        control.run(
            control.Post(
                config, materials, self._control_socket, generation.counters, self._command_socket,
                generation.admin, self._read, self._bell, self._answers,
            )
        )  # fmt: skip

    def _be_worker(self, generation: _Generation, index: int) -> None:
        self._control_socket.close()
        self._command_socket.close()
        self._keep_admin()
        own = self._sockets.of(generation.config, index, generation.workers)
        self._sockets.close_others(own)
        worker.run(
            worker.Post(
                index=index,
                workers=generation.workers,
                config=generation.config,
                run_directory=self._run_directory,
                servers=generation.servers,
                sockets=own,
                counters=generation.counters,
                upstream_tls=[material.upstream_tls for material in generation.reading.materials],
                bell=self._bell,
                answers=self._answers,
            )
        )

    def _children(self) -> Iterator[_Child]:
        """All of them; control first, since what workers need is started by it."""
        yield self._control
        for generation in self._generations():
            yield from generation.children

    def _generations(self) -> list[_Generation]:
        return [*self._draining, *self._in_force()]

    def _in_force(self) -> list[_Generation]:
        return [self._current, *([self._next] if self._next else [])]

    def run(self) -> int:
        """Fork and watch until SIGTERM or SIGINT; the exit code."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        with self._resources:
            self._log.info(
                "starting",
                workers=self._current.workers,
                openssl=openssl.openssl_version(),
                state_dir=self._current.config.state_dir,
                pid=os.getpid(),
            )
            self._raise_descriptor_limit(self._current)
            while True:
                self._start_due()
                received = signal.sigtimedwait(_SIGNALS, self._patience())
                rung = self._bell.answer()
                if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                    return self._stop(signal.Signals(received.si_signo))
                if bell.DRAIN in rung:
                    return self._stop(signal.SIGTERM)
                self._reap()
                self._end_overdue()
                self._take_over()
                self._tell_service()
                asked = bell.RELOAD in rung
                asked |= received is not None and received.si_signo == signal.SIGHUP
                if asked or (self._watch is not None and self._watch.changed()):
                    self._reload()

    def _tell_service(self) -> None:
        self._service.live()
        if not self._ready and self._current.counters.accepting:
            self._ready = True
            self._service.ready(f"{self._current.workers} workers accept")

    def _reload(self) -> None:
        """Begin with the next generation, if its configuration is good."""
        before = self._next or self._current
        self._service.reloading()
        try:
            reading = self._read()
            for key in ("state_dir", "user", "group"):
                if getattr(reading.config, key) != getattr(before.config, key):
                    raise ConfigError(f"{key}: cannot be changed by a reload; restart to do that")  # noqa: TRY301
            servers = make_contexts(
                reading.config.listeners,
                reading.materials,
                like=(before.config.listeners, before.reading.materials, before.servers),
            )
            after = self._generation(reading, servers, before)
        except (ConfigError, UnsupportedOpenSSLError, OSError) as exc:
            self._log.error("reload refused", error=str(exc), consequence="the configuration in force stays")
            self._service.ready("the last reload was refused, see the log")
            return
        log.configure(reading.config.log.level, reading.config.log.format)
        for warning in reading.warnings:
            self._log.warning("configuration", warning=warning)
        self._log.info("reloading", generation=after.number, workers=after.workers)
        self._raise_descriptor_limit(after)
        if self._next is not None:
            self._hand_over(self._next)
        self._next = after
        self._watch = Watch(self._files(reading.config)) if reading.config.watch else None
        # Workers that met the control process before this one would let clients in by its lists.
        for child in after.children:
            child.due = _NEVER
        self._control.body = lambda: self._be_control(after)
        self._control.dismissed = True
        self._control.kill_at = time.monotonic() + _KILL_AFTER
        _signal([self._control], publish.STOP)
        if not self._control.pid:
            self._begin_next()

    def _begin_next(self) -> None:
        """The control process of the last generation has ended."""
        now = time.monotonic()
        self._control.dismissed = False
        for child in (self._control, *(self._next.children if self._next else ())):
            child.due = now

    def _take_over(self) -> None:
        """Where all workers of the next generation accept, those before need not any more."""
        if self._next is not None and self._next.counters.accepting:
            before, self._current, self._next = self._current, self._next, None
            self._ready = False
            self._keep_bound()
            self._hand_over(before)
            self._log.info(
                "reloaded",
                generation=self._current.number,
                connections=self._current.counters.total(Counter.LIVE),
                draining_for=f"{before.config.reload_drain_timeout:g}s",
            )

    def _hand_over(self, generation: _Generation) -> None:
        """Have it accept no more, and serve those that it has."""
        generation.stop_at = time.monotonic() + generation.config.reload_drain_timeout
        for child in generation.children:
            child.dismissed = True
            # One that has just died would come back without a word that others accept.
            child.due = _NEVER
        _signal(generation.children, publish.HAND_OVER)
        self._draining.append(generation)
        for oldest in self._draining[:-_MOST_DRAINING]:
            oldest.stop_at = min(oldest.stop_at, time.monotonic())

    def _end_overdue(self) -> None:
        """End those whose time to drain is up, kill those who do not, forget generations that have ended."""
        now = time.monotonic()
        for generation in list(self._draining):
            if generation.stop_at <= now:
                generation.stop_at = _NEVER
                _signal(generation.children, publish.STOP)
                for child in generation.children:
                    child.kill_at = now + generation.config.drain_timeout + _KILL_AFTER
            if not any(child.pid for child in generation.children):
                generation.counters.retire()
                self._draining.remove(generation)
        overdue = [child for child in self._children() if child.pid and child.kill_at <= now]
        if overdue:
            self._log.warning("killing", children=" ".join(child.name for child in overdue))
            _signal(overdue, signal.SIGKILL)
            for child in overdue:
                child.kill_at = _NEVER

    def _raise_descriptor_limit(self, generation: _Generation) -> None:
        """Use all the descriptors that the process may have, and say so where they are not enough.

        A connection has two, its client's socket and its broker's; where that speaks TLS a pair between them.
        """
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        listeners = generation.config.listeners
        wanted = sum(listener.max_connections for listener in listeners)
        each = 4 if any(listener.upstream_tls.enabled for listener in listeners) else 2
        room = generation.workers * max(0, limit - _OTHER_DESCRIPTORS) // each
        if limit != resource.RLIM_INFINITY and room < wanted:
            self._log.warning(
                "descriptor limit low",
                limit=limit,
                connections=room,
                max_connections=wanted,
                consequence="beyond that clients wait in the kernel's queue; raise LimitNOFILE or ulimit -Hn",
            )

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children():
            if not child.pid and child.due <= now:
                self._fork(child)

    def _patience(self) -> float:
        """Seconds until there is something to do, if nobody sends a signal."""
        moments = [child.kill_at if child.pid else child.due for child in self._children()]
        moments += [self._service.next_sign, *(generation.stop_at for generation in self._draining)]
        if self._watch is not None:
            moments.append(self._watch.next_look)
        return min(3600.0, max(0.0, min(moments) - time.monotonic()))

    def _fork(self, child: _Child) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        child.started = time.monotonic()
        child.pid = os.fork()
        if child.pid == 0:
            self._be(child, parent)

    def _be(self, child: _Child, parent: int) -> NoReturn:
        """The child's whole life; never returns into the supervisor's frames."""
        code = 1
        try:
            # A terminal sends Ctrl-C and its end, a service manager SIGTERM, to the whole family:
            # the children go on until the supervisor tells them in its own words and order.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # Not before: a signal that came since the fork would act as it does by default.
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            # So that ps and top tell who is who.
            Path("/proc/self/comm").write_text(f"gw-{child.name}")
            if self._identity is not None:
                self._identity.become()
            # Not before: to become another takes it back.
            if native.die_with_parent(parent):
                child.body()
                code = 0
        except BaseException:  # noqa: BLE001 - whatever it was, it is told here, and the supervisor starts another
            get_logger(process=child.name).error("crashed", exception=traceback.format_exc())
        finally:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Take note of the children that have ended, and when to start them again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for generation in self._generations():
                for child in generation.children:
                    if child.pid == pid:
                        generation.counters.clear_gauges(child.worker or 0)
            for ended in [each for each in self._children() if each.pid == pid]:
                self._note_end(ended, status)

    def _note_end(self, child: _Child, status: int) -> None:
        pid, child.pid, child.kill_at = child.pid, 0, _NEVER
        lived = time.monotonic() - child.started
        expected = self._stopping or child.dismissed
        (self._log.info if expected else self._log.error)(
            "child ended", child=child.name, pid=pid, status=_status(status)
        )
        child.due = (
            _NEVER if expected else time.monotonic() + (_RESTART_PAUSE if lived < _SHORT_LIFE else 0.0)
        )
        if not expected:
            self._current.counters.note_restart(worker=child.worker is not None)
        elif child is self._control and not self._stopping:
            self._begin_next()

    def _stop(self, received: signal.Signals) -> int:
        """Drain: workers first, so that revocation goes on as long as there are connections."""
        self._stopping = True
        self._current.counters.note_stopping()
        self._service.stopping()
        drain = self._current.config.drain_timeout
        self._service.extend(drain + 2 * _KILL_AFTER)
        self._log.info("stopping", signal=received.name, drain_timeout=f"{drain:g}s")
        # Else clients would queue for a door that nobody opens any more.
        self._sockets.keep()
        workers = [child for child in self._children() if child is not self._control]
        _signal(workers, publish.STOP)
        self._wait_for(workers, drain + _KILL_AFTER)
        _signal([self._control], publish.STOP)
        self._wait_for([self._control], _KILL_AFTER)
        self._log.info("stopped")
        return 0

    def _wait_for(self, children: Sequence[_Child], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(child.pid for child in children):
            received = signal.sigtimedwait(_SIGNALS, max(0.0, deadline - time.monotonic()))
            if received is None or received.si_signo in (signal.SIGINT, signal.SIGTERM):
                # Out of time, or told twice: what is left is closed now.
                self._log.warning("killing", children=" ".join(child.name for child in children if child.pid))
                _signal(children, signal.SIGKILL)
                for child in children:
                    if child.pid:
                        os.waitpid(child.pid, 0)
                        child.pid = 0
                return
            self._reap()

    def _lock(self) -> None:
        path = self._run_directory / "lock"
        try:
            # The directory is the user's that we shall become, who may have put a link there.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise ConfigError(f"state_dir: cannot be locked: {path}: {exc.strerror}") from exc
        self._resources.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(
                f"state_dir: {self._run_directory.parent} is in use by another gateway; give each its own"
            ) from exc

    def _keep_bound(self) -> None:
        """Close what neither the configuration in force nor the next one, if any, names."""
        configs = [generation.config for generation in self._in_force()]
        self._sockets.keep(*configs)
        self._keep_admin(*configs)

    def _keep_admin(self, *configs: Config) -> None:
        for address in self._admin_sockets.keys() - {config.admin.bind for config in configs}:
            self._admin_sockets.pop(address).close()

    def _bind_admin(self, config: Config) -> tuple[socket.socket, bytes | None] | None:
        """The socket of the admin interface and its token; None where there is none."""
        configured = config.admin
        address = configured.bind
        if address is None:
            return None
        token = None if configured.token_file is None else load_token(configured.token_file)
        if address in self._admin_sockets:
            return self._admin_sockets[address], token
        try:
            bound = listen_admin(address)
            if address.path and self._identity is not None:
                self._identity.own(Path(address.path))
        except OSError as exc:
            raise ConfigError(f"admin.bind: cannot listen on {address}: {exc.strerror}") from exc
        self._admin_sockets[address] = bound
        self._log.info("listening", listener="admin", address=address)
        return bound, token


def _answers(config: Config) -> native.Answers | None:
    """Room for what OCSP responders say of all clients, where any are asked; it is there once it is used."""
    asking = [listener for listener in config.listeners if asks_responders(listener)]
    room = sum(listener.max_connections for listener in asking)
    return native.Answers(min(room, _MOST_ANSWERS)) if asking else None


def _worker_count(config: Config) -> int:
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


def _signal(children: Sequence[_Child], number: signal.Signals) -> None:
    for child in children:
        if child.pid:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)


def _status(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
