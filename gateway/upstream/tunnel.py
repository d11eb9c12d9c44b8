"""A broker that speaks TLS: the relay, which speaks plain TCP, reaches it through a pair of sockets.

    client ═TLS═ relay thread ─socket pair─ Tunnel ═TLS═ broker

One task a connection moves the bytes, with bounded buffers: a side that does not read stops the
other. It costs Python for every message, and two descriptors more for every client.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from gateway.config.model import Address, Listener, UpstreamTls

_CHUNK = 1 << 16
# Seconds that a broker has for its part of an orderly end.
_FAREWELL = 5.0


BrokerStream = trio.SSLStream[trio.SocketStream]


class BrokerTls(NamedTuple):
    """How a listener speaks TLS with its brokers."""

    context: ssl.SSLContext
    settings: UpstreamTls

    async def open(self, broker: socket.socket, address: Address, preface: bytes) -> BrokerStream:
        """TLS on a connected socket, which it takes over, with `preface` before it.

        Raises:
            OSError: there is no TLS, or the broker's certificate is not good.
        """
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(broker))
        name = self.settings.server_name or address.host or None
        # https_compatible: most brokers close the connection without close_notify.
        stream = trio.SSLStream(plain, self.context, server_hostname=name, https_compatible=True)
        try:
            if preface:
                await plain.send_all(preface)
            await stream.do_handshake()
        except trio.BrokenResourceError as exc:
            await trio.aclose_forcefully(plain)
            raise OSError(_reason(exc)) from exc
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise
        return stream


def broker_tls(listener: Listener, context: ssl.SSLContext | None) -> BrokerTls | None:
    """How the brokers of a listener are spoken to; None: in plain TCP."""
    return None if context is None else BrokerTls(context, listener.upstream_tls)


class Tunnel:
    """Bytes between one end of a socket pair and a broker."""

    def __init__(self, broker: BrokerStream) -> None:
        self._broker = broker
        self.relays_end, own = socket.socketpair()
        """The caller's."""
        self.relays_end.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._plain = trio.SocketStream(trio.socket.from_stdlib_socket(own))

    async def run(self) -> None:
        """Move them until either side has ended; then both have."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, self._plain, self._broker, nursery.cancel_scope)
                nursery.start_soon(_pump, self._broker, self._plain, nursery.cancel_scope)
            with trio.move_on_after(_FAREWELL):
                await self._broker.aclose()
        finally:
            self.close()

    def close(self) -> None:
        """End both sides at once."""
        self._plain.socket.close()
        self._broker.transport_stream.socket.close()


async def _pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, over: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(_CHUNK):
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass  # whoever it was, the other side's end says enough
    over.cancel()


def _reason(error: trio.BrokenResourceError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"TLS: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return f"TLS: {cause.reason.replace('_', ' ').lower()}"
    if isinstance(cause, OSError) and cause.strerror:
        return f"TLS: {cause.strerror}"
    return "TLS: the broker closed the connection"
