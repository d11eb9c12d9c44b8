"""One connection from its handshake to the relay thread, and how it ended (csrc/conn.h, relay.h)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

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


_CLEAR = (lib.GW_VERDICT_NONE, lib.GW_VERDICT_GOOD)
_STEPS = tuple(Step(number) for number in range(len(Step)))


class Conn:
    """One client connection until the relay takes it; it owns the socket's descriptor."""

    __slots__ = ("_error", "_info", "listener", "pointer")

    def __init__(self, listener: Listener, ssl_ctx: int, fd: int) -> None:
        """Begin the server's side of TLS on `fd` (connected, non-blocking).

        Raises:
            GatewayError: OpenSSL could not; `fd` stays the caller's.
        """
        self._error = new_error()
        self._info = ffi.new("gw_conn_info *")
        self.listener = listener
        self.pointer = lib.gw_conn_new(
            listener.pointer,
            ffi.cast("void *", ssl_ctx),
            fd,
            self._error,
        )
        if self.pointer == ffi.NULL:
            raise GatewayError(f"a TLS connection cannot be made: {error_text(self._error)}")

    def handshake(self) -> Step:
        """Go as far as the socket lets it."""
        return _STEPS[int(lib.gw_conn_handshake(self.pointer, self._error))]

    @property
    def error(self) -> str:
        """Why the last step failed, in OpenSSL's words."""
        return error_text(self._error)

    def is_clear(self) -> bool:
        """Whether nothing speaks against the client: looked up and good, or not asked for."""
        lib.gw_conn_get_info(self.pointer, self._info)
        return self._info.verdict.verdict in _CLEAR

    def judge(self) -> bool:
        """Look the client up again in the tables in force; True when it may pass."""
        return bool(lib.gw_conn_judge(self.pointer))

    def info(self) -> HandshakeInfo:
        """Verdict, resumption, version and, where it was refused, the client's certificate (DER)."""
        info = self._info
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
        with suppress(AttributeError):  # __init__ may have failed before there was anything to free
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


class Relay:
    """The C thread that moves bytes; from `adopt` on it owns the connection and the broker's socket."""

    def __init__(self, world: World, *, linger: float = 30.0) -> None:
        self._world = world
        options, error = ffi.new("gw_relay_options *", {"linger_ms": int(linger * 1000)}), new_error()
        pointer = lib.gw_relay_new(world.pointer, options, error)
        if pointer == ffi.NULL:
            raise GatewayError(f"the relay thread cannot be started: {error_text(error)}")
        self.pointer = ffi.gc(pointer, lib.gw_relay_free)
        self.listeners: set[Listener] = set()

    def adopt(self, conn: Conn, upstream: int, connection_id: int, preface: bytes = b"") -> None:
        """Hand over an established connection and the broker's socket (connected or connecting).

        Raises:
            GatewayError: the relay could not take them; both stay the caller's.
        """
        error = new_error()
        self.listeners.add(conn.listener)  # C borrows the listener for as long as it lives
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

    def events(self) -> Iterator[RelayEvent]:
        """Take the events that wait."""
        event = ffi.new("gw_relay_event *")
        while lib.gw_relay_next_event(self.pointer, event):
            leaf = b""
            if event.leaf_der != ffi.NULL:
                leaf = to_bytes(event.leaf_der, event.leaf_der_length)
                lib.gw_free(event.leaf_der)
            yield RelayEvent(
                id=event.id,
                end=End(event.end),
                bytes_in=event.bytes_in,
                bytes_out=event.bytes_out,
                duration=event.duration_ms / 1000,
                verdict=verdict_of(event.verdict),
                peer=to_text(event.peer),
                detail=to_text(event.detail),
                leaf=leaf,
            )

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
