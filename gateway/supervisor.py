"""The supervisor: binds the sockets, makes the contexts, forks, restarts what dies, drains.

There is no trio and no thread in it, so that it can fork at any time. Its
children inherit sockets and contexts; a worker that is replaced loses neither a
queued client nor the ticket keys. The kernel kills the children when it dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gateway import commands, control, native, publish, worker
from gateway.config.material import load_token
from gateway.errors import ConfigError
from gateway.log import get_logger
from gateway.metrics import Counters
from gateway.tls import openssl
from gateway.tls.context import make_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Address, Config
    from gateway.tls.context import ServerContext

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_BACKLOG = 4096
# Longer than any drain of a worker that still answers.
_KILL_AFTER = 5.0
# A child that dies at once is started again a little later, so that a fault does not burn a core.
_SHORT_LIFE = 1.0
_RESTART_PAUSE = 0.5
# A long list is compiled beside handshakes, which must not notice; with all processors
# busy control still gets a tenth of one, and a million entries take some two seconds.
_CONTROL_NICENESS = 10
# What a worker has open besides its connections, with some to spare.
_OTHER_DESCRIPTORS = 64


@dataclass
class _Child:
    name: str
    body: Callable[[], None]
    worker: int | None = None
    pid: int = 0
    started: float = 0.0
    due: float = 0.0
    """When to start it (again), on the monotonic clock; meaningful while `pid` is 0."""


class Supervisor:
    """One gateway. `run` returns when it has been told to stop and everything has ended."""

    def __init__(self, config: Config, materials: Sequence[ListenerMaterial]) -> None:
        """Take the lock, bind the sockets and make the contexts; nothing is forked yet.

        Raises:
            ConfigError: an address cannot be bound, another gateway runs in this state_dir, or
                OpenSSL does not take a certificate.
        """
        self._config = config
        self._log = get_logger(process="supervisor")
        self._stopping = False
        self._resources = ExitStack()
        # First: what a bad certificate stops shall not have made a directory or bound a port.
        servers = make_contexts(config, materials)
        self._workers = _worker_count(config)
        self._run_directory = config.state_dir / "run"
        self._run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock()
        sockets = self._sockets = self._bind()
        counters = Counters(self._workers, len(config.listeners))
        self._counters = counters
        control_socket = self._resources.enter_context(publish.bind(self._run_directory))
        command_socket = self._resources.enter_context(
            publish.bind(self._run_directory, commands.SOCKET_NAME)
        )
        admin = self._bind_admin()

        def be_control() -> None:
            os.nice(_CONTROL_NICENESS)
            _close(sockets)
            control.run(control.Post(config, materials, control_socket, counters, command_socket, admin))

        def be_worker(index: int) -> None:
            control_socket.close()
            command_socket.close()
            if admin is not None:
                admin[0].close()
            _close([own for number, own in enumerate(sockets) if number != index])
            worker.run(
                worker.Post(
                    index=index,
                    workers=self._workers,
                    config=config,
                    run_directory=self._run_directory,
                    servers=servers,
                    sockets=sockets[index],
                    counters=counters,
                )
            )

        self._control = _Child("control", be_control)
        self._children = [
            self._control,
            *(
                _Child(f"worker-{index}", lambda index=index: be_worker(index), worker=index)  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
                for index in range(self._workers)
            ),
        ]

    def run(self) -> int:
        """Fork and watch until SIGTERM or SIGINT; the exit code."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        with self._resources:
            self._log.info(
                "starting",
                workers=self._workers,
                openssl=openssl.openssl_version(),
                state_dir=self._config.state_dir,
                pid=os.getpid(),
            )
            self._raise_descriptor_limit()
            while True:
                self._start_due()
                received = signal.sigtimedwait(_SIGNALS, self._time_until_due())
                if received is None:
                    continue
                if received.si_signo in (signal.SIGTERM, signal.SIGINT):
                    return self._stop(signal.Signals(received.si_signo))
                if received.si_signo == signal.SIGHUP:
                    self._log.warning(
                        "reload refused",
                        error="reload is not supported yet",
                        consequence="the configuration in force stays; restart to change it",
                    )
                self._reap()

    def _raise_descriptor_limit(self) -> None:
        """Use all the descriptors that the process may have, and say so where they are not enough.

        A connection has two: its client's socket and its broker's.
        """
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        wanted = sum(listener.max_connections for listener in self._config.listeners)
        room = self._workers * max(0, limit - _OTHER_DESCRIPTORS) // 2
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
        for child in self._children:
            if not child.pid and child.due <= now:
                self._fork(child)

    def _time_until_due(self) -> float:
        waiting = [child.due for child in self._children if not child.pid]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 3600.0

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
            for child in self._children:
                if child.pid == pid:
                    child.pid = 0
                    lived = time.monotonic() - child.started
                    child.due = time.monotonic() + (_RESTART_PAUSE if lived < _SHORT_LIFE else 0.0)
                    if child.worker is not None:
                        self._counters.clear_gauges(child.worker)
                    if not self._stopping:
                        self._counters.note_restart(worker=child.worker is not None)
                    log = self._log.info if self._stopping else self._log.error
                    log("child ended", child=child.name, pid=pid, status=_status(status))

    def _stop(self, received: signal.Signals) -> int:
        """Drain: workers first, so that revocation goes on as long as there are connections."""
        self._stopping = True
        self._log.info("stopping", signal=received.name, drain_timeout=f"{self._config.drain_timeout:g}s")
        # Else clients would queue for a door that nobody opens any more.
        _close(self._sockets)
        workers = [child for child in self._children if child is not self._control]
        _signal(workers, publish.STOP)
        self._wait_for(workers, self._config.drain_timeout + _KILL_AFTER)
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
        lock = os.open(self._run_directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._resources.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(
                f"state_dir: {self._config.state_dir} is in use by another gateway; give each its own"
            ) from exc

    def _bind(self) -> list[list[list[socket.socket]]]:
        """Listening sockets by worker, listener and address."""
        sockets: list[list[list[socket.socket]]] = [
            [[] for _ in self._config.listeners] for _ in range(self._workers)
        ]
        for number, listener in enumerate(self._config.listeners):
            for position, address in enumerate(listener.bind):
                try:
                    bound = _listen(address, self._workers, int(listener.handshake_timeout))
                except OSError as exc:
                    raise ConfigError(
                        f"listeners[{number}].bind[{position}]: cannot listen on {address}: {exc.strerror}"
                    ) from exc
                for index, listening in enumerate(bound):
                    self._resources.enter_context(listening)
                    sockets[index][number].append(listening)
                self._log.info("listening", listener=listener.name, address=_name(bound[0]))
        return sockets

    def _bind_admin(self) -> tuple[socket.socket, bytes | None] | None:
        """The socket of the admin interface and its token; None where there is none."""
        configured = self._config.admin
        address = configured.bind
        if address is None:
            return None
        token = None if configured.token_file is None else load_token(configured.token_file)
        try:
            bound = _listen_admin(address)
        except OSError as exc:
            raise ConfigError(f"admin.bind: cannot listen on {address}: {exc.strerror}") from exc
        self._resources.enter_context(bound)
        self._log.info("listening", listener="admin", address=address)
        return bound, token


def make_contexts(config: Config, materials: Sequence[ListenerMaterial]) -> list[ServerContext]:
    """A TLS context for each listener, in the configuration's order.

    Raises:
        ConfigError: OpenSSL does not take a certificate, a key, a CA or an option.
        UnsupportedOpenSSLError: it is not one that was tested.
    """
    openssl.install()
    return [
        make_context(
            listener,
            certificates=material.certificates,
            client_cas=material.client_cas,
        )
        for listener, material in zip(config.listeners, materials, strict=True)
    ]


def _listen(address: Address, count: int, defer: int) -> list[socket.socket]:
    """One socket per worker on `address`, which share its clients evenly.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, target = _target(address)
    with _socket(family, address) as probe:
        # SO_REUSEPORT would let a second gateway of this user in without a word.
        probe.bind(target)
    sockets: list[socket.socket] = []
    for _ in range(count):
        listening = _socket(family, address)
        sockets.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit both. The client speaks first in TLS, so one that
        # says nothing does not even wake a worker.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, max(1, defer))
        listening.bind(target)
        target = (target[0], listening.getsockname()[1])
        listening.listen(_BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return sockets


def _listen_admin(address: Address) -> socket.socket:
    """Raises OSError: the address is taken, or not ours."""
    if address.path:
        path = Path(address.path)
        if path.exists() and not path.is_socket():
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
        return publish.bind(path.parent, path.name)
    family, target = _target(address)
    listening = _socket(family, address)
    try:
        listening.bind(target)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening


def _target(address: Address) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not address.host:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        return family, ("::" if family is socket.AF_INET6 else "0.0.0.0", address.port)  # noqa: S104 - asked for
    family, _, _, _, target = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(target[0]), int(target[1]))


def _socket(family: socket.AddressFamily, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        # "[::]:8883" is IPv6 alone, so that it can stand beside "0.0.0.0:8883"; ":8883" is both.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(address.host))
    return sock


def _name(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _worker_count(config: Config) -> int:
    return len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers


def _close(sockets: Sequence[Sequence[Sequence[socket.socket]]]) -> None:
    for of_worker in sockets:
        for of_listener in of_worker:
            for listening in of_listener:
                listening.close()


def _signal(children: Sequence[_Child], number: signal.Signals) -> None:
    for child in children:
        if child.pid:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)


def _status(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
