"""Handshakes in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from OpenSSL import SSL

if TYPE_CHECKING:
    from gateway.tls.context import ServerContext


def shake_hands(server: ServerContext, client: SSL.Context) -> tuple[SSL.Connection, SSL.Connection]:
    """A handshake in memory; returns both ends."""
    ends = SSL.Connection(server.context, None), SSL.Connection(client, None)
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    ends[1].set_tlsext_host_name(b"localhost")
    for _ in range(10):
        for this, other in (ends, ends[::-1]):
            with suppress(SSL.WantReadError):
                this.do_handshake()
            while True:
                try:
                    other.bio_write(this.bio_read(1 << 14))
                except SSL.WantReadError:
                    break
    return ends


def client_context(version: int) -> SSL.Context:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_min_proto_version(version)
    client.set_max_proto_version(version)
    return client
