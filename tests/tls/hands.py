"""Handshakes in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from OpenSSL import SSL

from gateway.tls import openssl

if TYPE_CHECKING:
    from gateway.tls.context import ServerContext


def shake_hands(
    server: ServerContext, client: SSL.Context, session: SSL.Session | None = None, *, status: bool = False
) -> tuple[SSL.Connection, SSL.Connection]:
    """A handshake in memory; the client offers `session` and may ask for a `status`; returns both ends."""
    ends = SSL.Connection(server.context, None), SSL.Connection(client, None)
    ends[0].set_accept_state()
    ends[1].set_connect_state()
    if session is not None:
        ends[1].set_session(session)
    ends[1].set_tlsext_host_name(b"localhost")
    if status:
        ends[1].request_ocsp()
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


def resumes(server: ServerContext, client: SSL.Context) -> bool:
    """Whether a second handshake resumes the session that the client was given in the first."""
    _, first = shake_hands(server, client)
    with suppress(SSL.WantReadError):  # TLS 1.3: the ticket comes after the handshake
        first.recv(1)
    session = first.get_session()
    assert session is not None
    _, second = shake_hands(server, client, session)
    return bool(openssl._binding.lib.SSL_session_reused(second._ssl))


def client_context(version: int) -> SSL.Context:
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    client.set_min_proto_version(version)
    client.set_max_proto_version(version)
    return client
