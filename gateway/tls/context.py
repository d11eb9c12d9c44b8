"""TLS contexts: pyOpenSSL builds and owns them, the extension's callbacks decide in them.

They are made before the fork, so that all workers share the ticket keys and a
session resumes on any of them; what is of one process (the tables in force, the
rules bound to them, the staple) is attached after the fork, by `enter_process`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509

from gateway import native
from gateway.config.rules import RuleError
from gateway.errors import ConfigError, GatewayError
from gateway.signature import certificate_fault
from gateway.tls import openssl, options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

    from cryptography import x509

    from gateway.config.certificates import ServerCertificate
    from gateway.config.model import Listener


@dataclass(frozen=True)
class TrustedCa:
    """A client CA as the context's store holds it."""

    certificate: x509.Certificate
    stored: X509


@dataclass(frozen=True)
class ServerContext:
    """One listener's SSL_CTX and the client CAs in its store."""

    context: SSL.Context
    client_cas: tuple[TrustedCa, ...]

    @property
    def address(self) -> int:
        """The SSL_CTX, as the extension takes it."""
        return openssl.context_address(self.context)


def make_context(
    listener: Listener,
    *,
    certificates: Sequence[ServerCertificate],
    client_cas: Sequence[x509.Certificate],
) -> ServerContext:
    """Build the context of `listener`, which presents the first of `certificates`.

    Raises:
        ConfigError: OpenSSL does not take the certificate, the key, a CA or an option.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        options.apply(context, listener)
    except RuleError as exc:
        raise ConfigError(f"listener {listener.name}: {exc}") from exc
    # An idle connection then holds no record buffers; partial writes and moving
    # buffers, which the relay relies on, are pyOpenSSL's own defaults.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    try:
        context.use_certificate(certificates[0].leaf)
        for issuer in certificates[0].chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(certificates[0].private_key)
        context.check_privatekey()
        cas = _trust(context, client_cas)
    except SSL.Error as exc:
        raise ConfigError(
            f"listener {listener.name}: OpenSSL does not accept its certificates: {exc}"
        ) from exc

    # Sessions live in tickets alone: any worker can open one, none keeps a cache.
    # The id context ties a ticket to this listener and these CAs: a session must
    # not carry a client past another listener's trust (CVE-2015-0209 and others).
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_session_id_context(listener, client_cas))

    mode = {
        "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
        "optional": SSL.VERIFY_PEER,
        "none": SSL.VERIFY_NONE,
    }[listener.verify]
    native.arm_verification(openssl.context_address(context), mode)
    return ServerContext(context, cas)


def enter_process(
    server: ServerContext,
    world: native.World,
    *,
    check: native.Check,
    on_unavailable: native.OnUnavailable,
    grace: float,
    disconnect_revoked: bool,
    counters: mmap,
    gauge: int,
) -> tuple[native.Listener, native.StapleSlot]:
    """Bind a context to this process's tables and staples; after the fork, before the first connection."""
    listener = native.Listener(
        world,
        check,
        on_unavailable,
        grace=grace,
        disconnect_revoked=disconnect_revoked,
        gauge=(counters, gauge),
    )
    for ca in server.client_cas:
        listener.add_ca(
            openssl.certificate_address(ca.stored), parent=_issuer_index(ca.certificate, server.client_cas)
        )
    slot = native.StapleSlot(counters)
    slot.attach(server.address)
    return listener, slot


def learn_ca(listener: native.Listener, known: list[TrustedCa], certificate: x509.Certificate) -> bool:
    """Add a CA that a client brought along to those that resumed sessions are looked up below.

    It must hang below one of `known`, which it joins. False where it does not, or there
    is no room; it is trusted no more than before: chains are built without it.
    """
    parent = _issuer_index(certificate, known)
    if parent is None or any(ca.certificate == certificate for ca in known):
        return False
    learnt = TrustedCa(certificate, X509.from_cryptography(certificate))
    try:
        listener.add_ca(openssl.certificate_address(learnt.stored), parent=parent)
    except GatewayError:
        return False
    known.append(learnt)
    return True


def _trust(context: SSL.Context, cas: Sequence[x509.Certificate]) -> tuple[TrustedCa, ...]:
    store = context.get_cert_store()
    if store is None:
        raise ConfigError("OpenSSL gave a context without a certificate store")
    trusted = []
    # A CA that stands twice in the file is stored once, and only the stored
    # object is ever met in a chain.
    for certificate in dict.fromkeys(cas):
        stored = X509.from_cryptography(certificate)
        store.add_cert(stored)
        context.add_client_ca(certificate)
        trusted.append(TrustedCa(certificate, stored))
    return tuple(trusted)


def _session_id_context(listener: Listener, cas: Sequence[x509.Certificate]) -> bytes:
    digest = hashlib.sha256(f"{listener.name}\0{listener.verify}\0".encode())
    for certificate in cas:
        digest.update(certificate.public_bytes(Encoding.DER))
    return digest.digest()


def _issuer_index(certificate: x509.Certificate, cas: Sequence[TrustedCa]) -> int | None:
    """Which of `cas` issued this one; None where it issued itself or its issuer is not among them."""
    if _issued(certificate, certificate):
        # Checked first: a root may stand beside a cross-certificate of its own name and key.
        return None
    return next((index for index, ca in enumerate(cas) if _issued(certificate, ca.certificate)), None)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return certificate.issuer == issuer.subject and certificate_fault(certificate, issuer) is None
