"""The chain of a client, built by OpenSSL outside of a handshake and held against a listener's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from gateway.config.values import one_line, parse_usage
from gateway.names import describe
from gateway.revocation.known import find_extension

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.config.model import Listener

_ENDS = 2
"""The client's own certificate and the anchor, which verify_depth does not count."""


def build_chain(
    listener: Listener,
    trusted: Sequence[x509.Certificate],
    leaf: x509.Certificate,
    sent: Sequence[x509.Certificate],
) -> list[x509.Certificate] | str:
    """The chain that OpenSSL builds, from the leaf to an anchor; or what is wrong with it."""
    store = crypto.X509Store()
    if listener.trust == "intermediate":
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for ca in dict.fromkeys(trusted):
        store.add_cert(crypto.X509.from_cryptography(ca))
    extra = [crypto.X509.from_cryptography(ca) for ca in sent]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), extra)
    try:
        chain = [each.to_cryptography() for each in context.get_verified_chain()]
    except crypto.X509StoreContextError as exc:
        return f"{one_line(str(exc))}: {describe(exc.certificate.to_cryptography())}"
    if len(chain) > listener.verify_depth + _ENDS:
        return f"{len(chain) - _ENDS} CAs below the trusted one, and verify_depth is {listener.verify_depth}"
    usage = find_extension(leaf.extensions, x509.ExtendedKeyUsage)
    # As OpenSSL has it: anyExtendedKeyUsage does not stand for clientAuth.
    if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in set(usage):
        return f"not for TLS clients (extendedKeyUsage): {describe(leaf)}"
    for name in listener.client_extended_key_usage:
        if parse_usage(name) not in set(usage or ()):
            return f"without {name} in extendedKeyUsage: {describe(leaf)}"
    return chain
