"""One connection: its handshake, the relay thread, and how it ended (csrc/conn.h, front.h, relay.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gateway.errors import GatewayError
from gateway.native.binding import End, Step, error_text, ffi, lib, new_error, to_bytes, to_text
from gateway.native.verify import Verdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.native.verify import Listener, World


@dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """What is known of a handshake that has ended, either way."""

    verdict: Verdict
    resumed: bool
    version: str
    certificate_error: str
    leaf: bytes


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
        """The client's address: "192.0.2.1:40000", "[2001:db8::1]:40000"."""
        peer = ffi.new("gw_peer *")
        lib.gw_conn_peer(self.pointer, peer)
        return to_text(peer.text)

    def judge(self) -> bool:
        """Look the client up again in the tables in force; True when it may pass."""
        return bool(lib.gw_conn_judge(self.pointer))

    def info(self) -> HandshakeInfo:
        """Verdict, resumption, version and, where it was refused, the client's certificate (DER)."""
        info = ffi.new("gw_conn_info *")
        lib.gw_conn_get_info(self.pointer, info)
        return HandshakeInfo(
            verdict=verdict_of(info.verdict),
            resumed=bool(info.resumed),
            version=to_text(info.version),
            certificate_error=to_text(info.error_string),
            leaf=to_bytes(info.leaf_der, info.leaf_der_length),
        )

    def leaf(self) -> bytes:
        """The client's certificate (DER) of an established connection; empty where there is none."""
        length = ffi.new("size_t *")
        pointer = lib.gw_conn_leaf(self.pointer, length)
        if pointer == ffi.NULL:
            return b""
        try:
            return to_bytes(pointer, length[0])
        finally:
            lib.gw_free(pointer)

    def close(self) -> None:
        """Send close_notify where it makes sense, close the socket, free everything. Idempotent."""
        pointer, self.pointer = self.pointer, ffi.NULL
        lib.gw_conn_free(pointer)

    def __del__(self) -> None:
        self.close()


class Arrival(NamedTuple):
    """A client whose handshake has ended."""

    conn: Conn
    outcome: Step
    """DONE, FAILED or TIMED_OUT."""
    clear: bool
    """Done, and nothing speaks against the client: looked up and good, or not asked for."""
    error: str
    """Why it failed, in OpenSSL's words."""


class Progress(NamedTuple):
    """What came of one step of a Front."""

    arrivals: list[Arrival]
    accepted: int
    """Clients that came, turned away or not."""
    code: int
    """An errno of accept(2) that says that no more can come for now, or 0."""
    busy: bool
    """There is probably more to do at once, or the quota is used up."""


# Whose handshake may end in one step.
_ARRIVALS = 16


class Front:
    """The handshakes of one listener, many at a time."""

    def __init__(self, listener: Listener, ssl_ctx: int, timeout: float) -> None:
        error = new_error()
        self._pointer = ffi.NULL
        pointer = lib.gw_front_new(listener.pointer, ffi.cast("void *", ssl_ctx), int(timeout * 1000), error)
        if pointer == ffi.NULL:
            raise GatewayError(f"handshakes cannot be served: {error_text(error)}")
        self._pointer = pointer
        self._listener = listener
        self._arrivals = ffi.new("gw_arrival[]", _ARRIVALS)
        self._intake = ffi.new("gw_intake *")

    def listen(self, listening: int) -> None:
        """Take clients of this listening socket (non-blocking) in, until `stop_listening`.

        Raises:
            GatewayError: the kernel has no resources for it.
        """
        error = new_error()
        if not lib.gw_front_listen(self._pointer, listening, error):
            raise GatewayError(f"cannot listen: {error_text(error)}")

    def stop_listening(self) -> None:
        """Take no more clients in; to be called before the listening sockets are closed."""
        lib.gw_front_stop_listening(self._pointer)

    def __len__(self) -> int:
        """How many handshakes are in progress."""
        return int(lib.gw_front_count(self._pointer))

    def fileno(self) -> int:
        """A descriptor that is readable while `step` has something to do."""
        return int(lib.gw_front_fd(self._pointer))

    @property
    def patience(self) -> float:
        """After how many seconds `step` has to be called if nothing happens."""
        return int(lib.gw_front_patience(self._pointer)) / 1000

    def step(self, quota: int, *, turn_away: bool = False) -> Progress:
        """Take at most `quota` clients in, advance handshakes, give up those that take too long.

        Without a quota clients wait in the kernel's queue; with `turn_away` they are closed.
        """
        intake = self._intake
        intake.quota, intake.turn_away = quota, turn_away
        ended = self._take(lib.gw_front_step(self._pointer, intake, self._arrivals, _ARRIVALS))
        return Progress(ended, intake.accepted, intake.code, bool(intake.busy))

    def _take(self, count: int) -> list[Arrival]:
        taken = []
        for number in range(count):
            arrival = self._arrivals[number]
            outcome = _STEPS[arrival.result]
            error = error_text(arrival.error) if outcome is Step.FAILED else ""
            conn = Conn(self._listener, arrival.conn)
            taken.append(Arrival(conn, outcome, bool(arrival.clear), error))
        return taken

    def close(self) -> None:
        """Close the connections that are still at it. Idempotent."""
        pointer, self._pointer = self._pointer, ffi.NULL
        lib.gw_front_free(pointer)

    def __del__(self) -> None:
        # Not ffi.gc: C needs the listener for this, and nothing else says which of the two goes first.
        self.close()


@dataclass(frozen=True, slots=True)
class RelayEvent:
    """One relayed connection has ended."""

    id: int
    end: End
    bytes_in: int
    bytes_out: int
    duration: float
    verdict: Verdict
    peer: str
    detail: str
    leaf: bytes
    """REVOKED: the client's certificate (DER)."""
    conn: Conn | None
    """BROKER_REFUSED: the connection, with nothing read from it, to be adopted anew or closed."""


# All others are for one side or the network to explain, not for the gateway.
_NOT_ORDINARY = (End.REVOKED, End.BROKER_REFUSED)


class Relay:
    """The C thread that moves bytes; from `adopt` on it owns the connection and the broker's socket."""

    def __init__(self, world: World, *, linger: float = 30.0, connect_timeout: float = 5.0) -> None:
        self._world = world
        waits = {"linger_ms": int(linger * 1000), "connect_ms": int(connect_timeout * 1000)}
        options, error = ffi.new("gw_relay_options *", waits), new_error()
        pointer = lib.gw_relay_new(world.pointer, options, error)
        if pointer == ffi.NULL:
            raise GatewayError(f"the relay thread cannot be started: {error_text(error)}")
        self.pointer = ffi.gc(pointer, lib.gw_relay_free)
        # C borrows the listeners for as long as it lives.
        self._listeners: dict[Any, Listener] = {}

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
        """A descriptor that is readable while events wait."""
        return int(lib.gw_relay_event_fd(self.pointer))

    def events(self, *, ordinary: bool = True) -> Iterator[RelayEvent]:
        """Take the events that wait; without `ordinary`, those that are drop out unseen."""
        event = ffi.new("gw_relay_event *")
        while lib.gw_relay_next_event(self.pointer, event):
            leaf = to_bytes(event.leaf_der, event.leaf_der_length)
            lib.gw_free(event.leaf_der)
            if ordinary or event.end in _NOT_ORDINARY:
                yield RelayEvent(
                    id=event.id,
                    end=End(event.end),
                    bytes_in=event.bytes_in,
                    bytes_out=event.bytes_out,
                    duration=event.duration_ms / 1000,
                    verdict=verdict_of(event.verdict),
                    peer=to_text(event.peer.text),
                    detail=to_text(event.detail),
                    leaf=leaf,
                    conn=self._handed_back(event),
                )

    def _handed_back(self, event: Any) -> Conn | None:
        if event.conn == ffi.NULL:
            return None
        return Conn(self._listeners[event.listener], event.conn)

    def stop(self) -> None:
        """End all connections with close_notify and wait for the thread."""
        lib.gw_relay_stop(self.pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent dies; False if that has happened already."""
    return bool(lib.gw_die_with_parent(parent))
