"""Connections: handshakes, the thread that serves them, how they ended (csrc/conn.h, front.h, relay.h)."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gateway.errors import GatewayError
from gateway.native import sockaddr
from gateway.native.binding import End, Step, error_text, ffi, lib, new_error, to_text
from gateway.native.verify import Verdict, verdict_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from gateway.config.model import Address
    from gateway.metrics import Counters
    from gateway.native.verify import Listener, World
    from gateway.proxy_protocol import Endpoint


# Ends of connections that wait for their reader; each keeps some 20 KiB of TLS until then.
_MOST_EVENTS = 65536
_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
_STEPS = tuple(Step(number) for number in range(len(Step)))


class Conn:
    """One client connection until the relay takes it; it owns the socket's descriptor."""

    __slots__ = ("listener", "pointer")

    def __init__(self, listener: Listener, pointer: Any) -> None:
        """Own the gw_conn at `pointer`."""
        self.listener = listener
        self.pointer = pointer

    @classmethod
    def begin(cls, listener: Listener, ssl_ctx: int, fd: int) -> Conn:
        """Begin the server's side of TLS on `fd` (connected, non-blocking).

        Raises:
            GatewayError: OpenSSL could not; `fd` stays the caller's.
        """
        error = new_error()
        pointer = lib.gw_conn_new(listener.pointer, ffi.cast("void *", ssl_ctx), fd, error)
        if pointer == ffi.NULL:
            raise GatewayError(f"a TLS connection cannot be made: {error_text(error)}")
        return cls(listener, pointer)

    def handshake(self) -> tuple[Step, str]:
        """Go as far as the socket lets it; where it failed, with the reason in OpenSSL's words."""
        error = new_error()
        step = _STEPS[int(lib.gw_conn_handshake(self.pointer, error))]
        return step, error_text(error) if step is Step.FAILED else ""

    @property
    def peer(self) -> str:
        """The client's address: "192.0.2.1:40000", "[2001:db8::1]:40000"; "" where it is not known."""
        return sockaddr.spelled(self._peer())

    def endpoints(self) -> tuple[Endpoint | None, Endpoint | None]:
        """The client's address and the one that it connected to; None where it is not known."""
        return sockaddr.endpoint(self._peer()), sockaddr.own_end(self.fileno())

    def introduce(self, client: Endpoint) -> None:
        """Take this for the client's address: who connected is another's proxy."""
        octets = sockaddr.from_endpoint(client)
        ffi.memmove(ffi.addressof(self.pointer, "peer"), octets, len(octets))

    def _peer(self) -> bytes:
        return bytes(ffi.buffer(ffi.addressof(self.pointer, "peer")))

    def fileno(self) -> int:
        """The client's socket, which stays its own; -1 once closed."""
        return int(self.pointer.fd)

    @property
    def ssl(self) -> int:
        """The address of its SSL object, for `gateway.tls.openssl` to ask it; not kept beyond this Conn."""
        return int(ffi.cast("uintptr_t", self.pointer.ssl))

    @property
    def clear(self) -> bool:
        """Whether its handshake is done, and nothing speaks against the client (csrc/conn.h)."""
        return bool(lib.gw_conn_is_clear(self.pointer))

    def judge(self) -> bool:
        """Look the client up again in the tables in force; True when it may pass."""
        return bool(lib.gw_conn_judge(self.pointer))

    def verdict(self) -> Verdict:
        """What the last lookup said of the client."""
        return verdict_of(self.pointer.verification.verdict)

    @property
    def ours(self) -> bool:
        """Whether it is there, neither closed nor the relay's."""
        return bool(self.pointer != ffi.NULL)

    def close(self) -> None:
        """Send close_notify where it makes sense, close the socket, free everything. Idempotent."""
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.gw_conn_free(pointer)

    def __del__(self) -> None:
        self.close()


class Arrival(NamedTuple):
    """A client whose handshake has ended and that somebody has to look at."""

    conn: Conn
    outcome: Step
    """DONE, FAILED, TIMED_OUT or NOT_BEGUN."""
    clear: bool
    """Done, and nothing speaks against the client: looked up and good, or not asked for."""
    error: str
    """Why it failed, in OpenSSL's words."""


class Obstacle(NamedTuple):
    """Why clients do not come in at a listener."""

    listener: Listener
    code: int
    """The errno of accept(2); 0: it has all the connections that it may have, and turns clients away."""


class Due(NamedTuple):
    """Responders are to be asked about a client that is connected."""

    listener: Listener
    x509: int
    """The address of its certificate's X509, for `gateway.tls.openssl` to read and release."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many clients come in at one listener of one worker."""

    handshakes: int
    """In progress in this worker, in all listeners; others wait in the kernel's queue."""
    connections: int
    """Of this listener in all workers; whoever comes then is turned away."""
    interval: float = 0.0
    """Seconds from one client to the next, where a second's worth may come at once; 0: no such limit."""


class Front:
    """The door of one listener: its sockets, and the handshakes of those who come in, many at a time."""

    def __init__(self, listener: Listener, ssl_ctx: int, timeout: float) -> None:
        error = new_error()
        self.pointer = ffi.NULL
        pointer = lib.gw_front_new(listener.pointer, ffi.cast("void *", ssl_ctx), int(timeout * 1000), error)
        if pointer == ffi.NULL:
            raise GatewayError(f"handshakes cannot be served: {error_text(error)}")
        self.pointer = pointer
        self.listener = listener
        self._relay: Relay | None = None
        self._brokers: Any = None

    def listen(self, listening: socket.socket) -> None:
        """Take clients of this listening socket (non-blocking) in, and the socket over.

        Raises:
            GatewayError: the kernel has no resources for it.
        """
        error = new_error()
        if not lib.gw_front_listen(self.pointer, listening.fileno(), error):
            raise GatewayError(f"cannot listen: {error_text(error)}")
        listening.detach()

    def hand_over_to(self, relay: Relay, brokers: Sequence[Address]) -> None:
        """Take clear clients to `relay` with a connection to one of `brokers`, each in turn.

        They are no arrivals then, unless that connection cannot be begun at once. Their
        id is the number of their broker.

        Raises:
            GatewayError: a broker's name has to be resolved.
        """
        targets = ffi.new("gw_broker[]", len(brokers))
        for target, broker in zip(targets, brokers, strict=True):
            octets = sockaddr.packed(broker)
            if octets is None:
                raise GatewayError(f"the relay cannot connect to {broker} by itself")
            ffi.memmove(ffi.addressof(target, "address"), octets, len(octets))
            target.length = len(octets)
            target.share = lib.GW_FULL_SHARE
        self.pointer.relay, self.pointer.brokers = relay.pointer, targets
        self.pointer.broker_count = len(brokers)
        self._brokers = targets  # C borrows them
        self.lend_to(relay)

    def only_accept(self) -> None:
        """Have every client come out as an arrival as soon as it has connected, its handshake not begun."""
        self.pointer.only_accepts = 1

    def show_one(self) -> None:
        """Have the next clear client come out as an arrival, although the relay could take it at once."""
        self.pointer.shows = 1

    def weigh(self, broker: int, share: float) -> None:
        """Let one of the brokers of `hand_over_to` have this share of its turns, from 0 to 1, from now on."""
        self._brokers[broker].share = max(1, round(share * lib.GW_FULL_SHARE)) if share > 0 else 0

    def lend_to(self, relay: Relay) -> None:
        """Let `relay` use it: it has to end before this does."""
        self._relay = relay

    def close(self) -> None:
        """Close the sockets and connections that it still has; stops its relay. Idempotent."""
        if self._relay is not None:
            self._relay.stop()
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.gw_front_free(pointer)

    def __del__(self) -> None:
        # Not ffi.gc: C needs the listener for this, and nothing else says which of the two goes first.
        self.close()


@dataclass(frozen=True, slots=True)
class RelayEvent:
    """One relayed connection has ended."""

    id: int
    """As adopted, or the number of the broker that a front has handed it over to."""
    listener: Listener
    end: End
    bytes_in: int
    bytes_out: int
    duration: float
    detail: str
    conn: Conn
    """Closed, and to be asked who the client was; after BROKER_REFUSED it can be adopted anew, unread."""


class Relay:
    """The C thread that serves clients; it owns the connections, and the brokers' sockets, that it has."""

    def __init__(
        self, world: World, *, linger: float = 30.0, connect_timeout: float = 5.0, quiet: bool = False
    ) -> None:
        """Start the thread.

        Args:
            world: the tables that live connections are looked up in.
            linger: seconds for which a connection may be half-closed and silent.
            connect_timeout: seconds that a broker's socket may take to connect.
            quiet: tell of those ends only that are for the gateway to explain: revoked, broker refused.
        """
        self._world = world
        values = {
            "linger_ms": int(linger * 1000),
            "connect_ms": int(connect_timeout * 1000),
            "events_max": _MOST_EVENTS,
            "quiet": quiet,
        }
        options, error = ffi.new("gw_relay_options *", values), new_error()
        self.pointer = ffi.NULL
        # Signals are for the main thread; those of a fault stay, for debuggers and sanitizers to see.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        pointer = lib.gw_relay_new(world.pointer, options, error)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pointer == ffi.NULL:
            raise GatewayError(f"the relay thread cannot be started: {error_text(error)}")
        self.pointer = pointer
        # C borrows these for as long as it lives.
        self._listeners: dict[Any, Listener] = {}
        self._fronts: list[Front] = []
        self._pages: list[Any] = []

    def serve(self, front: Front, limits: Limits, counters: Counters, gauge: int) -> None:
        """Take clients in at `front`; arrivals are those that are not simply handed over.

        Args:
            front: whose handshakes the thread makes from now on.
            limits: how many, and how fast.
            counters: the pages in which the connections of all workers are counted.
            gauge: where in each page those of this listener are.

        Raises:
            GatewayError: the relay has no memory for it.
        """
        error = new_error()
        pages = [ffi.from_buffer(page) for page in counters.pages]
        array = ffi.new("uint64_t *[]", [ffi.cast("uint64_t *", page) for page in pages])
        values = {
            "handshakes": limits.handshakes,
            "connections": limits.connections,
            "interval_us": round(limits.interval * 1e6),
            "pages": array,
            "workers": len(pages),
            "gauge": gauge,
        }
        front.lend_to(self)
        self._fronts.append(front)
        self._listeners[front.listener.pointer] = front.listener
        self._pages += [*pages, array]
        if not lib.gw_relay_serve(self.pointer, front.pointer, ffi.new("gw_limits *", values), error):
            raise GatewayError(f"the relay cannot serve {front.listener}: {error_text(error)}")

    def stop_listening(self) -> None:
        """Close all listening sockets of the fronts; returns at once, handshakes in progress go on."""
        lib.gw_relay_stop_listening(self.pointer)

    @property
    def silent(self) -> bool:
        """Whether that has been done, and nobody comes in any more."""
        return bool(lib.gw_relay_silent(self.pointer))

    def arrivals(self) -> Iterator[Arrival | Obstacle | Due]:
        """Take the clients that wait to be looked at, what keeps others out, and whom to ask about."""
        arrival = ffi.new("gw_arrival *")
        while lib.gw_relay_next_arrival(self.pointer, arrival):
            listener = self._listeners[arrival.listener]
            if arrival.result == lib.GW_DOOR_ASK:
                yield Due(listener, int(ffi.cast("uintptr_t", arrival.leaf)))
            elif arrival.conn == ffi.NULL:
                yield Obstacle(listener, arrival.code)
            else:
                outcome = _STEPS[arrival.result]
                error = error_text(arrival.error) if outcome is Step.FAILED else ""
                yield Arrival(Conn(listener, arrival.conn), outcome, bool(arrival.clear), error)

    def adopt(self, conn: Conn, upstream: int, connection_id: int, preface: bytes = b"") -> None:
        """Hand over an established connection and the broker's socket (connected or connecting).

        Raises:
            GatewayError: the relay could not take them; both stay the caller's.
        """
        error = new_error()
        self._listeners[conn.listener.pointer] = conn.listener
        taken = lib.gw_relay_adopt(
            self.pointer,
            conn.pointer,
            upstream,
            connection_id,
            ffi.from_buffer(preface),
            len(preface),
            error,
        )
        if not taken:
            raise GatewayError(f"the relay cannot take the connection: {error_text(error)}")
        conn.pointer = ffi.NULL  # the relay thread may have freed it already

    def recheck(self) -> None:
        """Have every live connection looked up again in the tables in force; returns at once."""
        lib.gw_relay_recheck(self.pointer)

    def __len__(self) -> int:
        return int(lib.gw_relay_live(self.pointer))

    def fileno(self) -> int:
        """A descriptor that is readable while arrivals or events wait: take both."""
        return int(lib.gw_relay_event_fd(self.pointer))

    def events(self) -> Iterator[RelayEvent]:
        """Take the events that wait."""
        event = ffi.new("gw_relay_event *")
        while lib.gw_relay_next_event(self.pointer, event):
            listener = self._listeners[event.listener]
            yield RelayEvent(
                id=event.id,
                listener=listener,
                end=End(event.end),
                bytes_in=event.bytes_in,
                bytes_out=event.bytes_out,
                duration=event.duration_ms / 1000,
                detail=to_text(event.detail),
                conn=Conn(listener, event.conn),
            )

    def stop(self) -> None:
        """End all connections with close_notify and wait for the thread."""
        if self.pointer != ffi.NULL:
            lib.gw_relay_stop(self.pointer)

    def __del__(self) -> None:
        # Not ffi.gc: it and its fronts refer to each other, so either may be collected first.
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.gw_relay_free(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent dies; False if that has happened already."""
    if lib.prctl(lib.PR_SET_PDEATHSIG, ffi.cast("unsigned long", signal.SIGKILL)) != 0:
        return False
    # The parent may have died before prctl took effect: nobody would tell us.
    return os.getppid() == parent


def gain_nothing() -> None:
    """Have no program that this process may ever be made to run give it rights, as `sudo` would.

    Raises:
        OSError: the kernel cannot (it is older than 3.5).
    """
    one, none = ffi.cast("unsigned long", 1), ffi.cast("unsigned long", 0)
    if lib.prctl(lib.PR_SET_NO_NEW_PRIVS, one, none, none, none) != 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
