"""What OpenSSL alone costs: handshakes between two ends in one process's memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from OpenSSL import SSL

from bench.scenarios.base import Quantity, Scenario

if TYPE_CHECKING:
    from bench.material import Material
    from bench.workbench import Settings, Workbench

_HANDSHAKES = 400
_ROUND_SECONDS = 0.8
_FLIGHT = 1 << 16
# What the gateway picks with the generator's client.
_CIPHERSUITE = b"TLS_AES_128_GCM_SHA256"


class Floor(Scenario):
    """The server's half of a handshake without sockets, gateway or broker, by cryptography's OpenSSL."""

    name = "floor"
    title = "OpenSSL alone"
    quantities = (
        Quantity(
            "server's half of a handshake in memory",
            "µs",
            "CPU time that the OpenSSL of the gateway needs for the server's half of a mutual TLS 1.3 "
            "handshake between two ends in memory, from making the connection to freeing it: no server "
            "built on it can be below.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - no server is in it
        """Two kinds of handshake a round."""
        return 2 * settings.few(1, 5) * _ROUND_SECONDS

    def measure(self, bench: Workbench) -> None:
        """Full and resumed handshakes in turns."""
        what = self.quantities[0].what
        server, client = (_context(bench.site.material, who) for who in ("server", "client"))
        server.set_tls13_ciphersuites(_CIPHERSUITE)
        session = _handshakes(server, client, None, 1)[1]
        full = bench.figure(what, "µs", "OpenSSL alone", "full", at=0)
        resumed = bench.figure(what, "µs", "OpenSSL alone", "resumed", at=1)
        for number in range(bench.settings.few(1, 5)):
            bench.watcher.step(f"round {number + 1}: OpenSSL in memory")
            full.rounds.append(_handshakes(server, client, None, _HANDSHAKES)[0])
            resumed.rounds.append(_handshakes(server, client, session, _HANDSHAKES)[0])
        bench.keep(full, resumed)


def _context(material: Material, who: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if who == "server" else SSL.TLS_CLIENT_METHOD)
    certificate, key = (
        (material.server_cert, material.server_key)
        if who == "server"
        else (material.client_cert, material.client_key)
    )
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(key))
    context.load_verify_locations(str(material.ca))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"floor")
    return context


def _handshakes(
    server: SSL.Context, client: SSL.Context, session: SSL.Session | None, count: int
) -> tuple[float, SSL.Session | None]:
    """µs of this thread for the server's half of one of `count` handshakes, and the last one's session."""
    spent = 0
    for _ in range(count):
        theirs = SSL.Connection(client)
        theirs.set_connect_state()
        if session is not None:
            theirs.set_session(session)
        started = time.thread_time_ns()
        ours = SSL.Connection(server)
        ours.set_accept_state()
        spent += time.thread_time_ns() - started
        for _ in range(2):
            _step(theirs)
            _pass(theirs, ours)
            started = time.thread_time_ns()
            _step(ours)
            spent += time.thread_time_ns() - started
            _pass(ours, theirs)
        _read(theirs)
        last = theirs.get_session()
        # Else OpenSSL takes its end for an accident, and the session may not be resumed.
        theirs.set_shutdown(SSL.SENT_SHUTDOWN)
        started = time.thread_time_ns()
        del ours
        spent += time.thread_time_ns() - started
    return spent / count / 1000, last


def _step(end: SSL.Connection) -> None:
    try:
        end.do_handshake()
    except SSL.WantReadError:
        return


def _pass(source: SSL.Connection, sink: SSL.Connection) -> None:
    try:
        sink.bio_write(source.bio_read(_FLIGHT))
    except SSL.WantReadError:
        return


def _read(end: SSL.Connection) -> None:
    """The tickets, which come behind the handshake."""
    try:
        end.recv(1)
    except SSL.WantReadError:
        return
