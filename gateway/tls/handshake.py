"""What is known of a handshake that has ended, either way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.tls import openssl

if TYPE_CHECKING:
    from gateway.native import Conn, Verdict


@dataclass(frozen=True, slots=True)
class Handshake:
    """A client, as far as TLS and the lookup know it."""

    verdict: Verdict
    resumed: bool
    version: str
    """As OpenSSL names it: TLSv1.2, TLSv1.3."""
    chain: tuple[bytes, ...]
    """The client's certificate (DER) and those above it; of a resumed session the first alone."""

    @property
    def leaf(self) -> bytes:
        """The client's own certificate (DER), or nothing."""
        return self.chain[0] if self.chain else b""

    @property
    def certificate_error(self) -> str:
        """Why the certificate was refused, in OpenSSL's words."""
        return openssl.certificate_error(self.verdict.error_code)


def examine(conn: Conn) -> Handshake:
    """Look at a connection before the relay has it."""
    client = openssl.client(conn.ssl)
    return Handshake(conn.verdict(), client.resumed, client.version, client.chain)
