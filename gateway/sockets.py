"""Listening sockets, which outlive the processes and the configurations that use them.

Each address of a listener has one SO_REUSEPORT socket per worker, bound once: the
kernel spreads clients over them, and who waits in the queue of one is not lost when
the worker that accepts from it is replaced by another.
"""

from __future__ import annotations

import errno
import resource
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway import publish
from gateway.config.material import load_token
from gateway.errors import ConfigError
from gateway.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import Address, Config
    from gateway.privileges import Identity

_BACKLOG = 4096
# What a worker has open besides its connections, with some to spare.
_OTHER_DESCRIPTORS = 64


class _Place(NamedTuple):
    """An address, and which of those of this port it is: of port 0 there may be several, of others one."""

    address: Address
    nth: int


class Sockets:
    """All that are bound, by address."""

    def __init__(self, inherited: Sequence[socket.socket] = ()) -> None:
        """`inherited` are sockets that listen already: one is taken where its address is asked for."""
        self._bound: dict[_Place, list[socket.socket]] = {}
        self._inherited = {opened.getsockname()[:2]: opened for opened in inherited}
        self._shared: set[Address] = set()

    def bind(self, config: Config, workers: int, *, listen: bool) -> list[socket.socket]:
        """Bind what `config` names and is not bound yet: all of it, or nothing; those that are new.

        They `listen` at once, or when a worker has them do so: where those that accept meanwhile
        have sockets of the same address, clients would wait in vain at these.

        Raises:
            ConfigError: an address is taken or not ours.
        """
        new: list[socket.socket] = []
        before = {place: list(bound) for place, bound in self._bound.items()}
        try:
            for _, key, place, defer in _places(config):
                bound = self._bound.setdefault(place, [])
                try:
                    if self._take_inherited(place.address, bound, defer):
                        continue
                    for opened in _bind(place.address, bound, workers, defer):
                        new.append(opened)
                        if listen:
                            opened.listen(_BACKLOG)
                        bound.append(opened)
                except OSError as exc:
                    raise ConfigError(f"{key}: cannot listen on {place.address}: {exc.strerror}") from exc
        except ConfigError:
            for opened in new:
                opened.close()
            self._bound = before
            raise
        return new

    def drop(self, new: Sequence[socket.socket]) -> None:
        """Close those that `bind` has bound for a configuration that is not taken."""
        for place, bound in list(self._bound.items()):
            for opened in bound:
                if opened in new:
                    opened.close()
            self._bound[place] = [opened for opened in bound if opened not in new]
            if not self._bound[place]:
                del self._bound[place]

    def _take_inherited(self, address: Address, bound: list[socket.socket], defer: int) -> bool:
        """Whether the address is served by a socket that all workers share, which was handed to us."""
        if not bound and self._inherited:
            _, target = _target(address)
            if (handed := self._inherited.pop(target, None)) is not None:
                _prepare(handed, defer)
                bound.append(handed)
                self._shared.add(address)
        return address in self._shared

    def of(self, config: Config, worker: int, workers: int) -> list[list[socket.socket]]:
        """Those of one worker, per listener: of more sockets than workers each has several.

        One that was handed to us is everybody's.
        """
        found: list[list[socket.socket]] = [[] for _ in config.listeners]
        for listener, _, place, _ in _places(config):
            found[listener] += [
                opened
                for number, opened in enumerate(self._bound[place])
                if number % workers == worker or place.address in self._shared
            ]
        return found

    def names(self, config: Config) -> Iterator[tuple[str, str]]:
        """Listener and address, as it really is: a port may have been the kernel's to choose."""
        for listener, _, place, _ in _places(config):
            host, port = self._bound[place][0].getsockname()[:2]
            yield config.listeners[listener].name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def unused(self) -> list[str]:
        """The addresses of those that were handed to us and nobody has asked for."""
        return [":".join(map(str, name)) for name in self._inherited]

    def keep(self, *configs: Config) -> None:
        """Close those that none of `configs` names."""
        named = {place for config in configs for _, _, place, _ in _places(config)}
        for place in self._bound.keys() - named:
            self._shared.discard(place.address)
            for opened in self._bound.pop(place):
                opened.close()

    def close_others(self, own: list[list[socket.socket]]) -> None:
        """In a child: close all but its `own`."""
        kept = {opened.fileno() for of_listener in own for opened in of_listener}
        for bound in (*self._bound.values(), self._inherited.values()):
            for opened in bound:
                if opened.fileno() not in kept:
                    opened.close()


def begin(listening: socket.socket) -> None:
    """Have it listen, if it does not yet."""
    if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listening.listen(_BACKLOG)


class AdminSockets:
    """Those of the admin interface, of which no process needs one of its own."""

    def __init__(self, identity: Identity | None) -> None:
        """`identity` is given what stands in the file system."""
        self._identity = identity
        self._bound: dict[Address, socket.socket] = {}

    def bind(self, config: Config) -> tuple[socket.socket, bytes | None] | None:
        """The one that `config` names, and its token; None where there is none.

        Raises:
            ConfigError: the address is taken, or not ours.
        """
        address, file = config.admin.bind, config.admin.token_file
        if address is None:
            return None
        token = None if file is None else load_token(file)
        if address in self._bound:
            return self._bound[address], token
        try:
            bound = _listen_admin(address)
            if address.path and self._identity is not None:
                self._identity.own(Path(address.path))
        except OSError as exc:
            raise ConfigError(f"admin.bind: cannot listen on {address}: {exc.strerror}") from exc
        self._bound[address] = bound
        get_logger(process="supervisor").info("listening", listener="admin", address=address)
        return bound, token

    def keep(self, *configs: Config) -> None:
        """Close those that none of `configs` names."""
        for address in self._bound.keys() - {config.admin.bind for config in configs}:
            self._bound.pop(address).close()


def raise_descriptor_limit(config: Config, workers: int, log: FilteringBoundLogger) -> None:
    """Use all the descriptors that this process may have, and say so where they are not enough.

    A connection has two, its client's socket and its broker's; where that speaks TLS a pair between them.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    wanted = sum(listener.max_connections for listener in config.listeners)
    each = 4 if any(listener.upstream_tls.enabled for listener in config.listeners) else 2
    room = workers * max(0, limit - _OTHER_DESCRIPTORS) // each
    if limit != resource.RLIM_INFINITY and room < wanted:
        log.warning(
            "descriptor limit low",
            limit=limit,
            connections=room,
            max_connections=wanted,
            consequence="beyond that clients wait in the kernel's queue; raise LimitNOFILE or ulimit -Hn",
        )


def _listen_admin(address: Address) -> socket.socket:
    """The socket of the admin interface.

    Raises:
        OSError: the address is taken, or not ours.
    """
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


def _places(config: Config) -> Iterator[tuple[int, str, _Place, int]]:
    """Number of the listener, key in the file, place, and seconds that a client has to say something."""
    seen: Counter[Address] = Counter()
    for number, listener in enumerate(config.listeners):
        for position, address in enumerate(listener.bind):
            key = f"listeners[{number}].bind[{position}]"
            if seen[address] and address.port:
                raise ConfigError(f"{key}: cannot listen on {address}: another listener does")
            yield number, key, _Place(address, seen[address]), max(1, int(listener.handshake_timeout))
            seen[address] += 1


def _bind(address: Address, bound: list[socket.socket], count: int, defer: int) -> Iterator[socket.socket]:
    """Those that `bound` lacks to be `count`, which share the clients of `address` evenly.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, target = _target(address)
    if bound:
        target = (target[0], bound[0].getsockname()[1])
    else:
        with _socket(family, address) as probe:
            # SO_REUSEPORT would let a second gateway of this user in without a word.
            probe.bind(target)
    for _ in range(count - len(bound)):
        listening = _socket(family, address)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _prepare(listening, defer)
            listening.bind(target)
            target = (target[0], listening.getsockname()[1])
            listening.setblocking(False)  # noqa: FBT003 - the library's own signature
        except OSError:
            listening.close()
            raise
        yield listening


def _prepare(listening: socket.socket, defer: int) -> None:
    # Accepted sockets inherit both. The client speaks first in TLS, so one that
    # says nothing does not even wake a worker.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, defer)


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
